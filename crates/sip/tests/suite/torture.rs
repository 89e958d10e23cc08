//! RFC 4475: the verdict on each of the 49 messages, and what the RFC says about some of them.

use bytes::Bytes;
use pairline_sip::{Edit, Host, Message, Method, Name, Reply, Scheme};

use crate::torture_data::{Verdict, all};

fn accepted(name: &str) -> Message {
    let sample = all().into_iter().find(|sample| sample.name == name).unwrap();
    Message::parse(Bytes::from(sample.bytes())).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_message_has_its_verdict() {
    let samples = all();
    assert_eq!(samples.len(), 49);
    for sample in samples {
        let name = sample.name;
        let result = Message::parse(Bytes::from(sample.bytes()));
        match (sample.verdict, result) {
            (Verdict::Accept, Ok(_)) => {}
            (Verdict::Refuse(kind, replies), Err(error)) => {
                assert_eq!(error.kind, kind, "{name} ({})", sample.section);
                let reply = error.reply();
                assert_eq!(reply.is_some(), replies, "{name}: reply");
                if let Some(reply) = reply {
                    // From and To are given back as they came, malformed or not.
                    let status = format!("SIP/2.0 {} ", kind.status());
                    assert!(reply.starts_with(status.as_bytes()), "{name}");
                    assert!(reply.ends_with(b"Content-Length: 0\r\n\r\n"), "{name}");
                }
            }
            (verdict, result) => panic!(
                "{name} ({}): expected {verdict:?}, got {:?}",
                sample.section,
                result.map(|_| "accepted").map_err(|error| error.kind)
            ),
        }
    }
}

#[test]
fn accepted_messages_come_out_as_they_went_in() {
    for sample in all() {
        let bytes = Bytes::from(sample.bytes());
        let Ok(message) = Message::parse(bytes.clone()) else {
            continue;
        };
        assert!(bytes.starts_with(message.as_bytes()), "{}", sample.name);
        let whole = message.as_bytes().len() == bytes.len();
        assert_eq!(whole, sample.name != "dblreq", "{}", sample.name);
        let pushed = Edit::new(&message).push_via(b"SIP/2.0/TCP p;branch=z9hG4bKp").finish();
        let back = Message::parse(pushed).unwrap();
        assert_eq!(Edit::new(&back).pop_via().finish(), message.as_bytes());
        if message.is_request() {
            Message::parse(Reply::to(&message, 200).build()).expect("answered");
        }
    }
}

#[test]
fn wsinv_a_short_tortuous_invite() {
    let message = accepted("wsinv");
    assert_eq!(message.to().uri, b"sip:vivekg@chair-dnrc.example.com");
    assert_eq!(message.to().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(message.from().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.max_forwards(), Some(68));
    assert_eq!(message.cseq(), (9, &Method::Invite));
    assert_eq!(message.header(Name::Subject), Some(&b""[..]));
    let vias: Vec<_> = message.vias().map(|via| via.branch().unwrap().to_vec()).collect();
    assert_eq!(vias, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
    assert!(!message.via().has_magic_cookie());
    let contact = message.contacts().next().unwrap();
    assert_eq!((contact.q(), contact.param("newparam")), (Some(330), Some(&b"newvalue"[..])));
    assert_eq!(message.routes().count(), 1);
    assert!(message.body().starts_with(b"v=0"));
}

#[test]
fn intmeth_wide_range_of_characters() {
    let message = accepted("intmeth");
    assert_eq!(message.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    let uri = message.parse_request_uri().unwrap();
    assert_eq!(uri.user, Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..]));
    assert_eq!(uri.host, Host::Name(b"example.com"));
    assert_eq!(message.from().tag(), Some(&b"_token~1'+`*%!-."[..]));
    assert!(message.to().display.contains(&0));
}

#[test]
fn escapes_are_kept_and_understood() {
    let esc01 = accepted("esc01");
    assert_eq!(esc01.to().parse_uri().unwrap().aor().unwrap().as_str(), "sip:user@example.com");
    let uri = esc01.parse_request_uri().unwrap();
    assert_eq!((uri.scheme, uri.user), (Scheme::Sip, Some(&b"sips%3Auser%40example.com"[..])));
    let null = accepted("escnull");
    assert_eq!(null.contacts().count(), 2);
    assert_eq!(null.to().parse_uri().unwrap().aor().unwrap().as_str(), "sip:null-%00-null@example.com");
    let esc02 = accepted("esc02");
    assert_eq!(*esc02.method(), Method::Extension("RE%47IST%45R".into()));
    assert_eq!(esc02.contacts().count(), 2, "C%6Fntact is another header");
}

#[test]
fn the_rest_of_what_is_valid() {
    assert_eq!(accepted("lwsdisp").from().display, b"caller");
    let long = accepted("longreq");
    assert_eq!(long.vias().count(), 34);
    assert!(long.call_id().len() > 100);
    let double = accepted("dblreq");
    assert_eq!((double.method(), double.body()), (&Method::Register, &b""[..]));
    let semi = accepted("semiuri");
    let uri = semi.parse_request_uri().unwrap();
    assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
    let transports: Vec<_> = accepted("transports").vias().map(|via| via.transport.to_vec()).collect();
    assert_eq!(transports, [&b"UDP"[..], b"SCTP", b"TLS", b"UNKNOWN", b"TCP"]);
    assert!(accepted("mpart01").body().contains(&0));
    assert!(accepted("unreason").reason().starts_with(b"= 2**3"));
    assert_eq!(accepted("noreason").reason(), b"");
    assert!(!accepted("badbranch").via().has_magic_cookie());
    let contact = accepted("cparam01");
    assert!(contact.contacts().next().unwrap().has_param("unknownparam"));
    let inside = accepted("cparam02");
    let contact = inside.contacts().next().unwrap();
    assert!(!contact.has_param("unknownparam"));
    assert!(contact.parse_uri().unwrap().has_param("unknownparam"));
    let escaped = accepted("regescrt");
    assert!(escaped.contacts().next().unwrap().parse_uri().unwrap().headers.is_some());
    assert_eq!(accepted("zeromf").max_forwards(), Some(0));
    assert_eq!(accepted("unkscm").parse_request_uri().unwrap().host, Host::None);
    assert_eq!(accepted("bext01").option_tags(Name::ProxyRequire).count(), 2);
    assert_eq!(accepted("inv2543").max_forwards(), None);
    assert!(accepted("baddn").from().display.contains(&b','));
}
