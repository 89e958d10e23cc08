//! The cases of [`anomaly_cases`](crate::anomaly_cases) through parser and framer: no panic, both readers of one mind, a verdict
//! in time, bounded memory, and answers hardly larger than what they answer.

use bytes::Bytes;
use pairline_sip::{Edit, Message, Name, ParseErrorKind, Reply};

use crate::anomaly_cases::{BASES, each};
use crate::bytes_of::{request, wire};
use crate::compare;

/// Cases of one class of transports.
const CASES: usize = 20_000;
/// A refusal is at most so much longer than what it refuses: a status line with its reason, `received`, a tag.
const REPLY_MORE: usize = 200;
/// Memory that a message may take while it is read, answered and forwarded: so much, and so much for each byte of it.
const MEMORY: (usize, usize) = (32 * 1024, 8);
/// Milliseconds for one case.
const SLOWEST: u128 = 5;
/// How often a slow case is tried again: a test shares its processor.
const AGAIN: usize = 20;

const REMOTE: &str = "192.0.2.9:5060";

/// What a server does with a datagram up to its answer; gives whether it was accepted.
fn take(bytes: &Bytes) -> bool {
    let message = match Message::parse(bytes.clone()) {
        Ok(message) => message,
        Err(error) => {
            if let Some(reply) = error.reply_to(REMOTE.parse().unwrap()) {
                assert!(reply.starts_with(b"SIP/2.0 ") && reply.ends_with(b"\r\n\r\n"));
                assert!(reply.len() <= bytes.len() + REPLY_MORE, "{} for {}", reply.len(), bytes.len());
            }
            return false;
        }
    };
    let forwarded = Edit::new(&message).push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp").set_max_forwards(5).finish();
    // One line more than are allowed may have been accepted, or a few bytes less.
    if bytes.len() < 15_000 && message.headers_raw().count() < 250 {
        Message::parse(forwarded).expect("a forwarded message parses");
    }
    if message.is_request() {
        let reply = Reply::to(&message, 400).build();
        assert!(reply.len() <= bytes.len() + REPLY_MORE);
        Message::parse(reply).expect("a reply parses");
    }
    for name in [Name::Contact, Name::Route, Name::RecordRoute, Name::Path] {
        let elements = message.elements(name).filter(|element| *element != b"*").count();
        assert!(!message.is_request() || message.addresses(name).count() == elements, "every element is an address");
    }
    true
}

#[allow(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn milliseconds(work: impl Fn()) -> u128 {
    let once = || {
        let began = std::time::Instant::now();
        work();
        began.elapsed().as_millis()
    };
    let mut least = once();
    for _ in 0..AGAIN {
        if least < SLOWEST {
            break;
        }
        least = least.min(once());
    }
    least
}

#[test]
fn datagrams_with_one_anomaly() {
    let (mut accepted, mut cases) = (0, 0);
    for base in &BASES {
        cases += each(base, |label, bytes| {
            let bytes = Bytes::copy_from_slice(bytes);
            accepted += usize::from(compare::message(&bytes));
            let time = milliseconds(|| _ = take(&bytes));
            assert!(time < SLOWEST, "{label}: {time} ms");
            let memory = allocation_counter::measure(|| _ = take(&bytes));
            let most = usize::try_from(memory.bytes_max).unwrap();
            assert!(most <= MEMORY.0 + MEMORY.1 * bytes.len(), "{label}: {most} bytes of memory for {}", bytes.len());
            assert_eq!(memory.bytes_current, 0, "{label}: something is kept");
        });
    }
    assert!(cases > CASES, "{cases} cases");
    assert!(accepted > 8_000 && cases - accepted > 8_000, "{accepted} of {cases} accepted: too weak a test");
}

/// Between two good messages, in pieces of a length that changes from case to case: whatever the one in the middle is, the
/// first comes out, and both readers agree where it ends, and whether the last can still be found.
#[test]
fn streams_with_one_anomaly() {
    let good = wire(&request("OPTIONS", ""));
    let (mut cases, mut through, mut broken) = (0, 0, 0);
    for base in &BASES {
        cases += each(base, |label, bytes| {
            let stream = [&good, bytes, &good].concat();
            let lengths = [7 + bytes.len() % 1201, 1 + bytes.len() % 97];
            let mut messages = Vec::new();
            let memory = allocation_counter::measure(|| messages = compare::stream(&stream, &lengths, 64 * 1024));
            assert_eq!(messages.first().map(Vec::as_slice), Some(good.as_ref()), "{label}");
            for message in &messages[1..] {
                compare::message(message);
            }
            // The copies of the second reader, and of the comparison, included.
            let most = usize::try_from(memory.bytes_max).unwrap();
            assert!(most <= 64 * 1024 + 32 * stream.len(), "{label}: {most} bytes of memory for {}", stream.len());
            let last = messages.len() > 1 && messages.last().is_some_and(|last| *last == good);
            through += usize::from(last);
            broken += usize::from(!last);
        });
    }
    assert!(cases > CASES, "{cases} cases");
    assert!(through > 8_000 && broken > 2_000, "{through} of {cases} streams go on, {broken} end: too weak a test");
}

#[test]
fn a_mandatory_header_left_out_is_named() {
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let text = request("OPTIONS", "");
        let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with(&format!("{name}:"))).collect();
        let kind = Message::parse(wire(&text)).map_err(|error| error.kind).map(|_| ());
        assert_eq!(kind, Err(ParseErrorKind::Missing(Name::from_bytes(name.as_bytes()))), "{name} left out");
    }
}

#[test]
fn statuses_from_100_to_699() {
    for (status, good) in
        [("099", false), ("100", true), ("699", true), ("700", false), ("+20", false), ("2000", false)]
    {
        let text =
            request("OPTIONS", "").replace("OPTIONS sip:bob@example.com SIP/2.0", &format!("SIP/2.0 {status} x"));
        assert_eq!(Message::parse(wire(&text)).is_ok(), good, "{status}");
    }
}
