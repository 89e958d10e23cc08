//! Generated and mutated streams and messages through our reader and through [`reference`](crate::reference): where two
//! readers of one stream differ, a request can be hidden from one of them.

use crate::compare;
use crate::mutation::{Random, mutate};
use crate::reference;
use crate::torture_data::all;

const LIMIT: usize = 64 * 1024;

/// Well-formed requests and responses with what the torture messages lack.
fn generated(random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random, from: &[&str]| from[random.below(from.len())].to_owned();
    let method = pick(random, &["OPTIONS", "MESSAGE", "INVITE", "REGISTER", "X-New.1"]);
    let body = "b\r\n\r\n".repeat(random.below(4));
    let via = pick(random, &["Via", "v", "VIA ", "via\t"]);
    let length = pick(random, &["Content-Length", "l", "CONTENT-LENGTH  ", "L"]);
    let start = match random.below(4) {
        0 => pick(random, &["SIP/2.0 200 OK", "SIP/2.0 180", "sip/2.0 603 No, thanks"]),
        _ => format!(
            "{method} {} SIP/2.0",
            pick(random, &["sip:b@h", "sips:[::1]:5061", "tel:+1;x", "sip:h:5060;lr?a=b"])
        ),
    };
    let mut text = format!("{start}\r\n");
    let hop = |n: usize| format!("SIP/2.0/TCP h{n}:506{n};branch=z9hG4bK{n};rport");
    text += &format!("{via}: {}{}{}\r\n", hop(1), pick(random, &[",", " ,\r\n ", ", "]), hop(2));
    text += &format!("{}: \"A, \\\"b\" <sip:a@h>;tag={}\r\n", pick(random, &["From", "f"]), random.below(99));
    text += &format!(
        "To: {}\r\n",
        pick(random, &["sip:b@h", "<sip:b@h>;tag=x", "B <sip:b@h;lr>;a=\"q;,\"", "sip:b@h ;tag=y"])
    );
    text += &format!("i: {}\r\nCSeq: {}\r\n {method}\r\n", random.below(9999), random.below(9999));
    for _ in 0..random.below(6) {
        text += &pick(
            random,
            &[
                "Route: <sip:p;lr>, <sip:q;lr>\r\n",
                "Contact: *\r\n",
                "m: <sip:a,b@h>;q=0.5,sip:c@h;expires=3\r\n",
                "Subject: folded\r\n\tmore\r\n  and more \r\n",
                "X-Odd: \\\0 ,<\"\r\n",
                "Max-Forwards: 070\r\n",
                "Record-Route:\r\n <sip:r;lr;x=\"y\">\r\n",
            ],
        );
    }
    text += &format!("{length}: {}\r\n\r\n{body}", body.len());
    text.into_bytes()
}

fn stream_of(random: &mut Random) -> Vec<u8> {
    let samples = all();
    let mut stream = Vec::new();
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => stream.extend_from_slice(b"\r\n"),
            1 => stream.extend_from_slice(b"\r\n\r\n"),
            2 => stream.extend_from_slice(&samples[random.below(samples.len())].bytes()),
            _ => stream.extend_from_slice(&generated(random)),
        }
    }
    stream
}

#[test]
fn the_torture_messages_read_alike() {
    let accepted = all().into_iter().filter(|sample| compare::message(&sample.bytes())).count();
    assert!((20..49).contains(&accepted), "{accepted} of 49 accepted");
    for sample in all() {
        compare::stream(&sample.bytes(), &[7], LIMIT);
    }
}

#[test]
fn generated_streams_read_alike_however_they_are_cut() {
    let mut random = Random(0xd1ff);
    let (mut messages, mut accepted, mut broken) = (0, 0, 0);
    for round in 0..30_000 {
        let mut stream = stream_of(&mut random);
        if round % 3 != 0 {
            stream = mutate(&stream, &mut random);
        }
        let lengths: Vec<usize> = (0..random.below(6)).map(|_| 1 + random.below(400)).collect();
        for message in compare::stream(&stream, &lengths, LIMIT) {
            messages += 1;
            accepted += usize::from(compare::message(&message));
        }
        broken += usize::from(reference::cut(&stream, LIMIT).broken);
    }
    assert!(
        accepted > 8_000 && messages > accepted + 1_000,
        "{accepted} of {messages} messages accepted: too weak a test"
    );
    assert!(broken > 1_000, "only {broken} streams broken: too weak a test");
}

#[test]
fn mutated_datagrams_read_alike() {
    let mut random = Random(0xda7a);
    let samples = all();
    let mut accepted = 0;
    for round in 0..40_000 {
        let bytes = if round % 2 == 0 { generated(&mut random) } else { samples[random.below(samples.len())].bytes() };
        accepted += usize::from(compare::message(&mutate(&bytes, &mut random)));
    }
    assert!((3_000..36_000).contains(&accepted), "{accepted} of 40000 accepted: too weak a test");
}

/// Limits are where two readers most easily differ by one.
#[test]
fn limits_read_alike() {
    let base = |extra: &str| {
        format!(
            "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
             Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n{extra}Content-Length: 0\r\n\r\n"
        )
    };
    let bare = base("").len();
    let mut verdicts = Vec::new();
    for size in 16 * 1024 - 6..=16 * 1024 + 6 {
        let message = base(&format!("X: {}\r\n", "a".repeat(size - bare - 5)));
        assert_eq!(message.len(), size);
        verdicts.push(compare::message(message.as_bytes()));
        compare::stream(message.as_bytes(), &[1000], LIMIT);
    }
    assert!(verdicts.contains(&true) && verdicts.contains(&false), "the limit is among the sizes");
    for count in [249, 250, 251, 252] {
        compare::message(base(&"X: a\r\n".repeat(count)).as_bytes());
    }
    for length in [1023, 1024, 1025] {
        let long = "t".repeat(length);
        compare::message(base("").replace("tag=1", &format!("tag={long}")).as_bytes());
        compare::message(base("").replace("Call-ID: 1", &format!("Call-ID: {long}")).as_bytes());
        compare::message(base("").replace("z9hG4bK1", &long).as_bytes());
    }
    for length in [127, 128, 129] {
        compare::message(base("").replace("OPTIONS", &"M".repeat(length)).as_bytes());
    }
    let with_body = |limit: usize| base("").replace("Length: 0", &format!("Length: {}", limit - bare - 2));
    for limit in [400, 401] {
        compare::stream(with_body(400).as_bytes(), &[], limit);
    }
}
