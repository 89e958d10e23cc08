//! One-field anomalies: each header of a request in turn with overlong, empty, repeated, binary
//! and numeric oddities. Nothing may panic; what is accepted must survive being forwarded, and
//! the framer must see the same message as the parser.

use bytes::Bytes;
use pairline_sip::{Edit, Frame, Message, Name, ParseErrorKind, Reply, StreamFramer};

use crate::bytes_of::{request, wire};

const ODDITIES: &[&[u8]] = &[
    b"",
    b" ",
    b"\t",
    b",",
    b",,,",
    b";",
    b";;;",
    b"=",
    b"<>",
    b"<",
    b">",
    b"\"",
    b"\"\"",
    b"\\",
    b"*",
    b"%",
    b"%s%n",
    b"%00",
    b"%zz",
    b"\0",
    b"\\\0",
    b"\xff\xfe",
    b"\xc0\xaf",
    b"-1",
    b"+5",
    b"0",
    b"00",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"0x10",
    b"1e3",
    b"[",
    b"]",
    b"[::]",
    b"[:::]",
    b"sip:",
    b"sip:@",
    b"sip:a@b@c",
    b"<sip:a@b>;",
    b"<sip:a@b>;tag",
    b"<sip:a@b>;tag=",
    b"<sip:a@b>,<sip:c@d>",
    b"SIP/2.0/UDP",
    b"SIP/2.0/UDP ",
    b"SIP/2.0/UDP a:",
    b"SIP/2.0/UDP a:0",
    b"SIP/3.0/UDP a",
    b"\r\n ",
    b"a\r\n b",
    b"a\rb",
    b"a\nb",
    b"a\n b",
    b"\x01",
    b"\x7f",
    b"1 INVITE",
    b"1INVITE",
    b"1 OPTIONS",
    b"4294967296 OPTIONS",
    b"Digest ",
    b"Digest a=",
];

fn anomalies() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = ODDITIES.iter().map(|bytes| bytes.to_vec()).collect();
    for power in 0..15 {
        for filler in [b'a', b'<', b'"', b'%', b';', b',', b'9', b'\\', b'('] {
            all.push(vec![filler; 1 << power]);
        }
    }
    all
}

/// The request with the value of one header replaced; `times` 0 removes it, 2 doubles it.
fn variant(header: &str, value: &[u8], times: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let base = wire(&request(
        "OPTIONS",
        "Contact: <sip:a@b>\nRoute: <sip:r;lr>\nRecord-Route: <sip:r;lr>\nPath: <sip:p;lr>\nExpires: 3\nAuthorization: Digest a=b\nSupported: path\nSubject: x\n",
    ));
    let text = String::from_utf8(base.to_vec()).unwrap();
    for line in text.split_inclusive("\r\n") {
        if line.starts_with(&format!("{header}:")) {
            for _ in 0..times {
                out.extend_from_slice(header.as_bytes());
                out.extend_from_slice(b": ");
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
        } else {
            out.extend_from_slice(line.as_bytes());
        }
    }
    out
}

fn check(bytes: Vec<u8>) -> Result<(), ParseErrorKind> {
    let bytes = Bytes::from(bytes);
    let parsed = Message::parse(bytes.clone());
    let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    framer.push(&bytes);
    let framed = framer.next();
    let message = match parsed {
        Ok(message) => message,
        Err(error) => {
            let _ = error.reply();
            return Err(error.kind);
        }
    };
    if message.has(Name::ContentLength) {
        assert_eq!(framed, Some(Ok(Frame::Message(message.as_bytes().clone()))));
    }
    let pushed = Edit::new(&message).push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp").set_max_forwards(5).finish();
    Message::parse(pushed).expect("a forwarded message parses");
    Message::parse(Reply::to(&message, 400).build()).expect("a reply parses");
    for name in [Name::Contact, Name::Route, Name::RecordRoute, Name::Path] {
        assert_eq!(
            message.addresses(name).count(),
            message.elements(name).filter(|element| *element != b"*").count(),
            "every element of a checked header is an address"
        );
    }
    Ok(())
}

#[test]
fn one_field_anomalies() {
    const HEADERS: [&str; 15] = [
        "Via",
        "Max-Forwards",
        "To",
        "From",
        "Call-ID",
        "CSeq",
        "Content-Length",
        "Contact",
        "Route",
        "Record-Route",
        "Path",
        "Expires",
        "Authorization",
        "Supported",
        "Subject",
    ];
    let (mut accepted, mut refused) = (0, 0);
    for header in HEADERS {
        for value in anomalies() {
            for times in [1, 2] {
                match check(variant(header, &value, times)) {
                    Ok(()) => accepted += 1,
                    Err(_) => refused += 1,
                }
            }
        }
        let missing = check(variant(header, b"", 0));
        let mandatory = matches!(header, "Via" | "To" | "From" | "Call-ID" | "CSeq");
        assert_eq!(missing.is_err(), mandatory, "{header} left out");
    }
    assert!(accepted > 1000 && refused > 2000, "{accepted} accepted, {refused} refused");
}

#[test]
fn start_line_anomalies() {
    let rest = request("OPTIONS", "");
    let rest = rest.split_once('\n').unwrap().1;
    for value in anomalies() {
        for line in [
            [b"OPTIONS ", value.as_slice(), b" SIP/2.0"].concat(),
            [value.as_slice(), b" sip:a@b SIP/2.0"].concat(),
            [b"OPTIONS sip:a@b ", value.as_slice()].concat(),
            [b"SIP/2.0 ", value.as_slice(), b" OK"].concat(),
            [b"OPTIONS sip:a@", value.as_slice(), b" SIP/2.0"].concat(),
        ] {
            let bytes = [line.as_slice(), b"\r\n", &wire(rest)].concat();
            let _ = check(bytes);
        }
    }
    assert_eq!(check(wire(&format!("SIP/2.0 099 x\n{rest}")).to_vec()), Err(ParseErrorKind::Status));
    assert_eq!(check(wire(&format!("SIP/2.0 700 x\n{rest}")).to_vec()), Err(ParseErrorKind::Status));
}
