//! Regressions for known classes of vulnerability that bytes alone can have, each named after the lesson it teaches. Those of
//! registrar and proxy are in the services' tests (`attacks`), those of sockets in the server's.
//!
//! No test here, since the thing is elsewhere or not there:
//! - CVE-2020-15260 and OpenSIPS #3064 (a TLS connection reused for another name): connections and names are the server's.
//! - AST-2016-005 (idle connections keep others out): limits and idle timers of connections are the server's (`transports`).
//! - CVE-2023-22741 and CVE-2021-37706 (STUN): with the STUN reader.
//! - CVE-2023-49786 (DTLS): there is none; what it teaches is tested for transactions.

use bytes::Bytes;
use pairline_sip::auth::{AuthError, Credentials};
use pairline_sip::target::{Answers, Kind, Locator, MAX_QUESTIONS, MAX_TARGETS, Naptr, Srv, Step};
use pairline_sip::{
    Edit, Flow, Frame, FramingError, Layer, Message, Name, ParseErrorKind, Received, Reply, StreamFramer, Timers,
    Transport, Uri,
};

use crate::bytes_of::{parse, refused, request, wire};
use crate::layer_server::{drain, tcp, udp};

fn raw(bytes: &[u8]) -> Result<Message, ParseErrorKind> {
    Message::parse(Bytes::copy_from_slice(bytes)).map_err(|error| error.kind)
}

/// A huge CSeq method and no branch overflowed the key of an old-style transaction.
#[test]
fn cve_2017_9372_huge_cseq_method_without_branch() {
    let method = "M".repeat(600);
    let text = request("INVITE", "")
        .replace(";branch=z9hG4bK776asdhds", "")
        .replace("314159 INVITE", &format!("314159 {method}"));
    assert_eq!(refused(&text), ParseErrorKind::MethodMismatch);
    let both = text.replace("INVITE sip", &format!("{method} sip"));
    assert_eq!(refused(&both), ParseErrorKind::StartLine);
    let long_via =
        request("INVITE", "").replace(";branch=z9hG4bK776asdhds", &format!(";branch=old;x={}", "y".repeat(8000)));
    let mut layer = Layer::new(Timers::default(), 10);
    assert!(matches!(layer.receive(0, udp("192.0.2.1:1"), parse(&long_via)), Received::Request { .. }));
    assert!(matches!(layer.receive(0, udp("192.0.2.1:1"), parse(&long_via)), Received::Absorbed));
}

/// Fifty Accept headers smashed a stack.
#[test]
fn cve_2018_7284_many_accept_headers() {
    let message = parse(&request("SUBSCRIBE", &"Accept: a/b\n".repeat(50)));
    assert_eq!(message.elements(Name::Accept).count(), 50);
    let text = request("SUBSCRIBE", &"Accept: a/b\n".repeat(300));
    assert_eq!(refused(&text), ParseErrorKind::TooManyHeaders);
}

/// INVITEs on a connection that closes at any point, or in a flood.
#[test]
fn cve_2018_7286_cve_2020_28327_connection_closes_at_every_point() {
    for close_at in 0..4 {
        let mut layer = Layer::new(Timers::default(), 10);
        let flow = tcp("192.0.2.1:9", 3);
        let close = |layer: &mut Layer, step: u32| {
            if step == close_at {
                layer.transport_failed(1, flow);
            }
        };
        let Received::Request { tx, message } = layer.receive(0, flow, parse(&request("INVITE", ""))) else {
            panic!("new");
        };
        close(&mut layer, 0);
        let _ = layer.respond(1, tx, 180, Reply::to(&message, 180).build());
        close(&mut layer, 1);
        let _ = layer.receive(1, flow, parse(&request("CANCEL", "")));
        close(&mut layer, 2);
        let _ = layer.respond(2, tx, 487, Reply::to(&message, 487).build());
        close(&mut layer, 3);
        layer.on_time(100_000);
        drain(&mut layer);
        assert!(layer.is_empty(), "closed at step {close_at}");
    }
}

/// Doubled To, empty tags, doubled fields with long tags.
#[test]
fn cve_2018_8828_cve_2018_14767_cve_2020_27507_doubled_to_and_tags() {
    let double = request("INVITE", "To: <sip:x@y>;tag=\n");
    assert_eq!(refused(&double), ParseErrorKind::Duplicate(Name::To));
    let empty = request("INVITE", "").replace("bob@example.com>\n", "bob@example.com>;tag=\n");
    assert_eq!(refused(&empty), ParseErrorKind::Malformed(Name::To));
    let valueless = request("INVITE", "").replace("bob@example.com>\n", "bob@example.com>;tag\n");
    assert_eq!(refused(&valueless), ParseErrorKind::Malformed(Name::To));
    let two = request("INVITE", "").replace("tag=1928301774", "tag=1;tag=2");
    assert_eq!(refused(&two), ParseErrorKind::Malformed(Name::From));
    for length in [255, 256, 257, 1024] {
        let text = request("INVITE", "").replace("1928301774", &"t".repeat(length));
        assert_eq!(parse(&text).from().tag().map(<[u8]>::len), Some(length));
    }
}

/// A header escaped removal by white space before its colon.
#[test]
fn cve_2020_28361_removal_by_the_parsed_name() {
    let message = parse(&request("INVITE", "X-Bypass-me : yes\nx-bypass-ME\t: again\n"));
    let out = Edit::new(&message).remove_named("X-Bypass-Me").finish();
    let out = Message::parse(out).unwrap();
    assert_eq!(out.header_named("X-Bypass-Me"), None);
    let text = request("INVITE", "P-Asserted-Identity : <sip:boss@x>\n");
    let message = parse(&text);
    let out = Edit::new(&message).remove(Name::PAssertedIdentity).finish();
    assert!(!Message::parse(out).unwrap().has(Name::PAssertedIdentity));
}

/// A control byte before the colon: one reader saw a header, the other did not.
#[test]
fn cve_2016_9938_control_bytes_in_header_names() {
    for byte in (0u8..=32).chain([127, 128, 255, b'(', b'@', b'/', b'"']) {
        let mut bytes = wire(&request("INVITE", "X-A: b\n")).to_vec();
        let at = bytes.windows(3).position(|w| w == b"X-A").unwrap();
        bytes.insert(at + 1, byte);
        let result = raw(&bytes);
        assert!(result.is_err(), "byte {byte:#x} inside a name");
        bytes.remove(at + 1);
        bytes.insert(at + 3, byte);
        let result = raw(&bytes);
        let blank = matches!(byte, b' ' | b'\t');
        assert_eq!(result.is_ok(), blank, "byte {byte:#x} before the colon");
    }
}

/// A Content-Length cut to 32 bits let a second message hide in the first.
#[test]
fn cve_2026_23457_content_length_is_never_truncated() {
    for length in ["4294967296", "4294967300", "18446744073709551616", "99999999999999999999"] {
        let text = request("MESSAGE", "").replace("Length: 0", &format!("Length: {length}"));
        assert!(raw(&wire(&text)).is_err());
        let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
        framer.push(&wire(&text));
        assert_eq!(framer.next(), Some(Err(FramingError::MessageTooLong)), "{length}");
    }
    let two = request("MESSAGE", "l: 9\n");
    let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    framer.push(&wire(&two));
    assert_eq!(framer.next(), Some(Err(FramingError::DuplicateContentLength)));
}

/// Bodies whose last line has no line end.
#[test]
fn cve_2023_27600_bodies_without_final_line_end() {
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nb=";
    for end in 0..=sdp.len() {
        let body = &sdp[..end];
        let text = request("INVITE", "Content-Type: application/sdp\n").replace("Length: 0", &format!("Length: {end}"));
        let bytes = [wire(&text).as_ref(), body.as_bytes()].concat();
        assert_eq!(raw(&bytes).unwrap().body(), body.as_bytes());
    }
}

/// Malformed credentials are read before anybody is known.
#[test]
fn cve_2023_28098_cve_2022_24754_cve_2026_40892_malformed_authorization() {
    for value in [
        "Digest username=\"a\",,realm=\"b\"",
        "Digest =",
        "Digest \"",
        "Digest username=\"\\",
        "Digest username=\"a\" ,realm",
    ] {
        assert_eq!(Credentials::parse(value.as_bytes()), Err(AuthError::Syntax), "{value}");
    }
    let whole = "Digest username=\"a\", realm=\"b\", nonce=\"c\", uri=\"d\", response=\"e\", nc=00000001";
    for end in 0..whole.len() {
        let _ = Credentials::parse(&whole.as_bytes()[..end]);
    }
    let long = whole.replace("\"e\"", &format!("\"{}\"", "e".repeat(1000)));
    let credentials = Credentials::parse(long.as_bytes()).unwrap();
    assert!(!pairline_sip::auth::verify(&credentials, &[b'0'; 32], b"INVITE"));
}

/// An answer for another party: Via parameters must not aim our replies at a third host.
#[test]
fn via_parameters_are_no_reflector() {
    let mut layer = Layer::new(Timers::default(), 10);
    let text = request("OPTIONS", "").replace(";branch", ";maddr=203.0.113.5;received=203.0.113.6;branch");
    let Received::Request { tx, .. } = layer.receive(0, udp("192.0.2.1:9"), parse(&text)) else {
        panic!("new");
    };
    let flow = layer.server_flow(tx).unwrap();
    assert_eq!(flow.remote.ip(), "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
}

/// A flood of requests meets the limit, not the memory.
#[test]
fn cve_2021_41145_a_flood_is_bounded() {
    let mut layer = Layer::new(Timers::default(), 100);
    let mut refusals = 0;
    for n in 0..1000u64 {
        let text = request("REGISTER", "").replace("776asdhds", &format!("f{n}"));
        if matches!(layer.receive(n, udp("192.0.2.1:9"), parse(&text)), Received::Refused) {
            refusals += 1;
        }
    }
    assert_eq!((layer.len(), refusals), (100, 900));
}

/// Nested comments, brackets and quotes cost no recursion.
#[test]
fn cve_2026_77322_deep_nesting_is_flat() {
    let deep = "(<[\"".repeat(1500);
    let text = request("INVITE", &format!("X-Deep: {deep}\nSubject: {deep}\n"));
    assert_eq!(parse(&text).header(Name::Subject).map(<[u8]>::len), Some(deep.len()));
    let addr = request("INVITE", &format!("Contact: {}\n", "<".repeat(9000)));
    assert_eq!(refused(&addr), ParseErrorKind::Malformed(Name::Contact));
}

/// Two readers of one stream must see the same messages: LF-only lines, hidden requests.
#[test]
fn line_feeds_alone_end_nothing() {
    let lf = request("INVITE", "");
    assert_eq!(raw(lf.as_bytes()).map(|_| ()), Err(ParseErrorKind::ControlByte));
    let hidden = wire(&request("INVITE", "X: a\n")).to_vec();
    let at = hidden.windows(4).position(|w| w == b"X: a").unwrap() + 4;
    for inject in [&b"\n\nBYE sip:x SIP/2.0"[..], b"\r\r", b"\n Y: b", b"\0"] {
        let mut bytes = hidden.clone();
        drop(bytes.splice(at..at, inject.iter().copied()));
        assert_eq!(raw(&bytes).map(|_| ()), Err(ParseErrorKind::ControlByte));
    }
}

/// Whatever the parser accepts on a stream has the length that the framer found.
#[test]
fn framer_and_parser_agree_on_content_length() {
    for line in ["Content-Length: 3", "content-length\t :  3", "L:3", "l :\n\t03"] {
        let text = request("MESSAGE", "").replace("Content-Length: 0", line) + "abcdef";
        let bytes = wire(&text);
        let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
        framer.push(&bytes);
        let Some(Ok(Frame::Message(frame))) = framer.next() else {
            panic!("{line}");
        };
        let message = Message::parse(frame.clone()).unwrap();
        assert_eq!(message.as_bytes(), &frame);
        assert_eq!(message.body(), b"abc");
        assert_eq!(framer.buffered(), 3);
    }
}

/// A peer link counts as a reliable transport and is announced as TLS.
#[test]
fn peer_flows_are_reliable() {
    let flow = Flow { transport: Transport::Peer, ..udp("192.0.2.1:9") };
    assert!(flow.transport.reliable() && flow.transport.secure());
    assert_eq!(flow.transport.via_token(), "TLS");
    let mut layer = Layer::new(Timers::default(), 10);
    let Received::Request { tx, .. } = layer.receive(0, flow, parse(&request("OPTIONS", ""))) else {
        panic!("new");
    };
    assert_eq!(layer.server_flow(tx), Some(flow));
}

/// A `b=` line without its colon was accepted when read and fatal when used; a boundary longer than the body was looked for
/// behind its end. Here nobody reads bodies: they pass as they are, whatever they are.
#[test]
fn cve_2026_46334_cve_2022_21723_cve_2026_110658_bodies_are_not_read() {
    let bodies: [(&str, &[u8]); 5] = [
        ("application/sdp", b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nb=AS\r\nb=\r\nb\r\n"),
        ("multipart/mixed;boundary=\"a boundary that is longer than the whole body\"", b"--a"),
        ("multipart/mixed;boundary=", b"----\r\n\r\n----"),
        ("multipart/mixed", b"--\r\n--"),
        ("message/sip", b"\0\xff\r\n\r\nINVITE sip:x SIP/2.0"),
    ];
    for (kind, body) in bodies {
        let text = request("INVITE", &format!("Content-Type: {kind}\n"))
            .replace("Length: 0", &format!("Length: {}", body.len()));
        let bytes = [wire(&text).as_ref(), body].concat();
        let message = Message::parse(Bytes::from(bytes)).unwrap();
        let out = Edit::new(&message).push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp").set_max_forwards(3).finish();
        let out = Message::parse(out).unwrap();
        assert_eq!((out.body(), out.header(Name::ContentType)), (body, Some(kind.as_bytes())));
    }
}

/// Answers of the DNS overflowed a parser: whoever runs a domain may answer anything, for ever.
#[test]
fn cve_2022_24793_cve_2026_32945_answers_of_the_dns_are_hostile() {
    let srv = |n: u16| Srv { priority: n, weight: n, port: n, target: format!("h{n}.evil.example") };
    let naptr = |n: u16| Naptr {
        order: n,
        preference: n,
        flags: "s".into(),
        service: "SIP+D2U".into(),
        replacement: format!("{n}.{}", "x.".repeat(100)),
    };
    let answer = |kind: Kind, round: u16| match (kind, round % 3) {
        (Kind::Naptr, 0) => Answers::Naptr((0..5_000).map(naptr).collect()),
        (Kind::Srv, _) => Answers::Srv((0..5_000).map(srv).collect()),
        (_, 1) => Answers::Addresses((0..5_000u32).map(|n| std::net::Ipv4Addr::from(n).into()).collect()),
        _ => Answers::Srv(vec![Srv { priority: 0, weight: 0, port: 0, target: String::new() }]),
    };
    for uri in
        [&b"sip:evil.example"[..], b"sips:evil.example", b"sip:evil.example;transport=tcp", b"sip:u@evil.example:5060"]
    {
        for first in 0..3 {
            let (mut locator, mut step) = Locator::start(&Uri::parse(uri).unwrap());
            let mut asked = 0;
            while let Step::Ask(question) = step {
                asked += 1;
                assert!(asked <= MAX_QUESTIONS, "it ends");
                step = locator.answer(answer(question.kind, first + u16::try_from(asked).unwrap()), 7);
            }
            if let Step::Done(targets) = step {
                assert!((1..=MAX_TARGETS).contains(&targets.len()));
                assert!(targets.iter().all(|target| target.addr.port() != 0), "nobody is sent to port 0");
            }
        }
    }
}

/// A packet that only looks like part of a session ended it: here a bad answer, or one to another branch, ends nothing.
#[test]
fn cve_2023_49786_a_bad_packet_ends_no_transaction() {
    let mut layer = Layer::new(Timers::default(), 10);
    let invite = parse(&request("INVITE", ""));
    let branch = invite.via().branch().unwrap().to_vec();
    let flow = udp("192.0.2.1:9");
    layer.request(0, flow, invite);
    drain(&mut layer);
    let answer = wire(&request("INVITE", "")).to_vec();
    let answer = [b"SIP/2.0 603 Decline\r\n", &answer[answer.iter().position(|&b| b == b'\n').unwrap() + 1..]].concat();
    let good = Message::parse(Bytes::from(answer.clone())).unwrap();
    assert_eq!(good.via().branch(), Some(branch.as_slice()));
    for (from, to) in
        [("z9hG4bK776", "z9hG4bK777"), ("314159 INVITE", "314159 OPTIONS"), ("CSeq: 3", "CSeq: x"), ("603", "6034")]
    {
        let text = String::from_utf8(answer.clone()).unwrap().replacen(from, to, 1);
        if let Ok(bad) = Message::parse(Bytes::from(text)) {
            assert!(matches!(layer.receive(5, flow, bad), Received::StrayResponse { .. }), "{to}");
        }
        assert_eq!(layer.client_len(), 1, "{to}");
    }
    assert!(matches!(layer.receive(9, flow, good), Received::Response { .. }), "the right answer still counts");
}
