//! Parsing: getters, limits, mandatory and single headers, lists, and the identity of a message.

use bytes::Bytes;
use pairline_sip::message::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES};
use pairline_sip::{Edit, Message, Method, Name, ParseErrorKind};
use proptest::prelude::*;

use crate::bytes_of::{parse, refused, request, wire};

#[test]
fn getters_of_a_request() {
    let message = parse(
        "REGISTER sip:registrar.biloxi.com SIP/2.0\n\
         v: SIP/2.0/TCP [2001:db8::9:1]:5070;rport;branch=z9hG4bKnashds7;received=2001:db8::9:255, SIP/2.0/UDP b\n\
         Via: SIP/2.0/UDP c:5062;branch=x;maddr=1.2.3.4;ttl=3\n\
         Max-Forwards: 070\n\
         t: Bob <sip:bob@biloxi.com>\n\
         f: \"B, ob\" <sip:bob@biloxi.com>;tag=456248\n\
         i: 843817637684230@998sdasdh09\n\
         CSeq: 1826 REGISTER\n\
         m: <sip:bob@192.0.2.4>;q=0.7;expires=60, \"x, y\" <sip:bob@[::1]:5>\n\
         Contact: sip:other@a;ob\n\
         k: path, outbound\n\
         Supported: gruu\n\
         Expires: 7200\n\
         Route: <sip:a;lr>,<sip:b;lr>\n\
         Route: <sip:c;lr>\n\
         X-Foo: bar\n baz\n\
         l: 4\n\nbody",
    );
    assert!(message.is_request());
    assert_eq!(*message.method(), Method::Register);
    assert_eq!(message.status(), None);
    assert_eq!(message.request_uri(), b"sip:registrar.biloxi.com");
    let via = message.via();
    assert_eq!((via.transport, via.port), (&b"TCP"[..], Some(5070)));
    assert_eq!(via.branch(), Some(&b"z9hG4bKnashds7"[..]));
    assert!(via.has_magic_cookie() && via.wants_rport() && via.rport().is_none());
    assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
    let hosts: Vec<_> = message.vias().map(|via| via.host).collect();
    assert_eq!(hosts, [&b"[2001:db8::9:1]"[..], b"b", b"c"]);
    let last = message.vias().last().unwrap();
    assert_eq!((last.maddr(), last.ttl()), (Some(&b"1.2.3.4"[..]), Some(3)));
    assert_eq!(message.from().display, b"\"B, ob\"");
    assert_eq!(message.from().tag(), Some(&b"456248"[..]));
    assert_eq!(message.to().tag(), None);
    assert_eq!(message.cseq(), (1826, &Method::Register));
    assert_eq!(message.call_id(), b"843817637684230@998sdasdh09");
    assert_eq!(message.max_forwards(), Some(70));
    assert_eq!(message.expires(), Some(7200));
    let contacts: Vec<_> = message.contacts().collect();
    assert_eq!(contacts.len(), 3);
    assert_eq!((contacts[0].q(), contacts[0].expires()), (Some(700), Some(60)));
    assert_eq!(contacts[1].uri, b"sip:bob@[::1]:5");
    assert!(contacts[2].has_param("ob"));
    assert!(!message.contacts().star);
    assert!(message.supported("Outbound") && message.supported("gruu"));
    assert!(!message.supported("100rel"));
    let routes: Vec<_> = message.routes().map(|route| route.uri).collect();
    assert_eq!(routes, [&b"sip:a;lr"[..], b"sip:b;lr", b"sip:c;lr"]);
    assert_eq!(message.header_named("x-fOO"), Some(&b"bar\r\n baz"[..]));
    assert_eq!(message.header_named("call-id"), message.header(Name::CallId));
    assert_eq!(message.headers(Name::Route).count(), 2);
    assert_eq!(message.body(), b"body");
}

#[test]
fn getters_of_a_response() {
    let message = parse(
        "SIP/2.0 486 Busy Here\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\nFrom: <sip:a@a>;tag=1\n\
         To: <sip:b@b>;tag=2\nCall-ID: x\nCSeq: 7 INVITE\n\n",
    );
    assert_eq!(message.status(), Some(486));
    assert_eq!(message.reason(), b"Busy Here");
    assert_eq!(message.cseq(), (7, &Method::Invite));
    assert_eq!(message.request_uri(), b"");
    assert!(!message.is_request());
}

#[test]
fn star_contact() {
    let message = parse(&request("REGISTER", "Contact: *\nExpires: 0\n"));
    assert!(message.contacts().star);
    assert_eq!(message.contacts().count(), 0);
    assert_eq!(message.expires(), Some(0));
}

#[test]
fn mandatory_headers_are_mandatory() {
    let full = request("OPTIONS", "");
    for (header, name) in
        [("Via", Name::Via), ("From", Name::From), ("To", Name::To), ("Call-ID", Name::CallId), ("CSeq", Name::CSeq)]
    {
        let without: String =
            full.lines().filter(|line| !line.starts_with(header)).map(|line| format!("{line}\n")).collect();
        assert_eq!(refused(&without), ParseErrorKind::Missing(name));
    }
}

#[test]
fn single_headers_are_single_also_in_compact_form() {
    for (line, name) in [
        ("f: <sip:x@x>;tag=1\n", Name::From),
        ("t: <sip:x@x>\n", Name::To),
        ("i: other\n", Name::CallId),
        ("CSeq: 314159 OPTIONS\n", Name::CSeq),
        ("Max-Forwards: 70\n", Name::MaxForwards),
        ("l: 0\n", Name::ContentLength),
        ("Content-Type: a/b\nc: a/b\n", Name::ContentType),
        ("Expires: 1\nExpires: 1\n", Name::Expires),
        ("Event: a\no: a\n", Name::Event),
    ] {
        assert_eq!(refused(&request("OPTIONS", line)), ParseErrorKind::Duplicate(name), "{line}");
    }
}

#[test]
fn bodies_of_datagrams() {
    let no_length = request("MESSAGE", "").replace("Content-Length: 0\n\n", "\nto the end");
    assert_eq!(parse(&no_length).body(), b"to the end");
    let trailing = request("MESSAGE", "") + "INVITE sip:x SIP/2.0";
    let message = parse(&trailing);
    assert_eq!(message.body(), b"");
    assert!(message.as_bytes().ends_with(b"\r\n\r\n"), "the rest is cut off");
    let short = request("MESSAGE", "").replace("Length: 0", "Length: 1");
    assert_eq!(refused(&short), ParseErrorKind::Truncated);
}

#[test]
fn leading_line_ends_are_skipped() {
    let text = format!("\n\n{}", request("OPTIONS", ""));
    let message = parse(&text);
    assert!(message.as_bytes().starts_with(b"OPTIONS"));
    assert_eq!(message.call_id(), b"a84b4c76e66710@example.net");
    assert_eq!(refused("\n\n"), ParseErrorKind::Empty);
    assert_eq!(refused(""), ParseErrorKind::Empty);
}

#[test]
fn header_count_is_bounded_and_spills() {
    let have = 7;
    let most = request("OPTIONS", &"X-A: b\n".repeat(MAX_HEADERS - have));
    let message = parse(&most);
    assert_eq!(message.headers_raw().count(), MAX_HEADERS);
    assert_eq!(message.headers(Name::Other).count(), MAX_HEADERS - have);
    assert_eq!(message.clone().headers_raw().count(), MAX_HEADERS);
    let more = request("OPTIONS", &"X-A: b\n".repeat(MAX_HEADERS - have + 1));
    assert_eq!(refused(&more), ParseErrorKind::TooManyHeaders);
}

#[test]
fn sizes_are_bounded() {
    let long = request("OPTIONS", &format!("X: {}\n", "a".repeat(MAX_HEADER_BYTES)));
    assert_eq!(refused(&long), ParseErrorKind::HeaderTooLong);
    let long_line = format!("OPTIONS sip:{} SIP/2.0\n\n", "a".repeat(MAX_HEADER_BYTES));
    assert_eq!(refused(&long_line), ParseErrorKind::HeaderTooLong);
    let huge = Bytes::from(vec![b'a'; MAX_MESSAGE_BYTES + 1]);
    assert_eq!(Message::parse(huge).map(|_| ()).unwrap_err().kind, ParseErrorKind::MessageTooLong);
    let tag = request("OPTIONS", "").replace("1928301774", &"t".repeat(1025));
    assert_eq!(refused(&tag), ParseErrorKind::Malformed(Name::From));
}

#[test]
fn every_known_name_is_found_in_any_case() {
    for name in [
        "Via",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Contact",
        "Max-Forwards",
        "Record-Route",
        "Proxy-Authorization",
        "P-Asserted-Identity",
        "Session-Expires",
        "SIP-If-Match",
        "Subscription-State",
        "Content-Length",
        "MIME-Version",
        "RSeq",
        "Min-SE",
    ] {
        let id = Name::from_bytes(name.to_ascii_lowercase().as_bytes());
        assert_eq!(id.as_str(), name);
        assert_eq!(Name::from_bytes(name.to_ascii_uppercase().as_bytes()), id);
    }
    for (compact, long) in [
        ("a", Name::AcceptContact),
        ("B", Name::ReferredBy),
        ("c", Name::ContentType),
        ("e", Name::ContentEncoding),
        ("k", Name::Supported),
        ("l", Name::ContentLength),
        ("M", Name::Contact),
        ("o", Name::Event),
        ("r", Name::ReferTo),
        ("s", Name::Subject),
        ("u", Name::AllowEvents),
        ("x", Name::SessionExpires),
        ("y", Name::Identity),
    ] {
        assert_eq!(Name::from_bytes(compact.as_bytes()), long);
    }
    assert_eq!(Name::from_bytes(b"q"), Name::Other);
    assert_eq!(Name::from_bytes(b""), Name::Other);
}

#[test]
fn malformed_routing_headers_of_requests_are_refused() {
    for (line, name) in [
        ("Route: <sip:a;lr>,\n", Name::Route),
        ("Route: <sip:a;lr\n", Name::Route),
        ("Record-Route: sip\n", Name::RecordRoute),
        ("Path: <>\n", Name::Path),
        ("Contact: \"x <sip:a@b>\n", Name::Contact),
        ("Contact: <sip:a@b>,,<sip:c@d>\n", Name::Contact),
    ] {
        assert_eq!(refused(&request("INVITE", line)), ParseErrorKind::Malformed(name), "{line}");
    }
    for value in ["256", "-1", "x", ""] {
        let text = request("INVITE", "").replace("Forwards: 70", &format!("Forwards: {value}"));
        assert_eq!(refused(&text), ParseErrorKind::Malformed(Name::MaxForwards));
    }
}

prop_compose! {
    fn header_line()(
        name in prop_oneof![
            Just("Subject".to_owned()), Just("Route".to_owned()), Just("X-Weird-HDR".to_owned()),
            Just("m".to_owned()), "[a-zA-Z!%*_+`'~.-]{1,12}",
        ],
        gap in "[ \t]{0,2}",
        value in "[ -~\u{80}-\u{2ff}]{0,40}",
        fold in any::<bool>(),
    ) -> String {
        let value = if name == "Route" || name == "m" { "<sip:x@y;lr>".to_owned() } else { value };
        let fold = if fold { "\n  folded" } else { "" };
        let fold = if name == "Route" || name == "m" { "" } else { fold };
        format!("{name}{gap}:{value}{fold}\n")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is accepted comes out byte for byte, also through an edit without changes and through
    /// an edit that is undone.
    #[test]
    fn parse_then_emit_is_the_identity(
        lines in prop::collection::vec(header_line(), 0..12),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let head = request("MESSAGE", &lines.concat())
            .replace("Content-Length: 0", &format!("Content-Length: {}", body.len()));
        let bytes = Bytes::from([wire(&head).as_ref(), &body].concat());
        if let Ok(message) = Message::parse(bytes.clone()) {
            prop_assert_eq!(message.as_bytes(), &bytes);
            prop_assert_eq!(Edit::new(&message).finish(), bytes.clone());
            prop_assert_eq!(message.body(), &body[..]);
            let pushed = Edit::new(&message).push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp").finish();
            let forwarded = Message::parse(pushed).expect("a pushed Via keeps it valid");
            prop_assert_eq!(Edit::new(&forwarded).pop_via().finish(), bytes);
        }
    }
}
