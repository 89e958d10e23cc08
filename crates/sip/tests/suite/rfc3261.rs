//! The registration and call of RFC 3261 §24, as far as messages go.

use pairline_sip::{Edit, Message, Method, Name, Reply};

use crate::bytes_of::{parse, text};

/// §24.1 F1.
#[test]
fn registration() {
    let register = parse(
        "REGISTER sip:registrar.biloxi.com SIP/2.0\n\
         Via: SIP/2.0/UDP bobspc.biloxi.com:5060;branch=z9hG4bKnashds7\n\
         Max-Forwards: 70\n\
         To: Bob <sip:bob@biloxi.com>\n\
         From: Bob <sip:bob@biloxi.com>;tag=456248\n\
         Call-ID: 843817637684230@998sdasdh09\n\
         CSeq: 1826 REGISTER\n\
         Contact: <sip:bob@192.0.2.4>\n\
         Expires: 7200\n\
         Content-Length: 0\n\n",
    );
    assert_eq!(*register.method(), Method::Register);
    let reply = Reply::to(&register, 200)
        .to_tag("2493k59kd")
        .header("Contact", "<sip:bob@192.0.2.4>")
        .header("Expires", "7200")
        .build();
    assert_eq!(
        text(&reply),
        "SIP/2.0 200 OK\n\
         Via: SIP/2.0/UDP bobspc.biloxi.com:5060;branch=z9hG4bKnashds7\n\
         From: Bob <sip:bob@biloxi.com>;tag=456248\n\
         To: Bob <sip:bob@biloxi.com>;tag=2493k59kd\n\
         Call-ID: 843817637684230@998sdasdh09\n\
         CSeq: 1826 REGISTER\n\
         Contact: <sip:bob@192.0.2.4>\n\
         Expires: 7200\n\
         Content-Length: 0\n\n"
    );
}

const F1: &str = "INVITE sip:bob@biloxi.com SIP/2.0\n\
    Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8\n\
    Max-Forwards: 70\n\
    To: Bob <sip:bob@biloxi.com>\n\
    From: Alice <sip:alice@atlanta.com>;tag=1928301774\n\
    Call-ID: a84b4c76e66710\n\
    CSeq: 314159 INVITE\n\
    Contact: <sip:alice@pc33.atlanta.com>\n\
    Content-Type: application/sdp\n\
    Content-Length: 0\n\n";

/// §24.2 F1, F2, F4: a proxy's hop there, and back with the 180.
#[test]
fn a_call_through_a_proxy() {
    let invite = parse(F1);
    let sent = Edit::new(&invite)
        .fix_top_via("192.0.2.1".parse().ok(), None)
        .push_via(b"SIP/2.0/UDP bigbox3.site3.atlanta.com;branch=z9hG4bK77ef4c2312983.1")
        .set_max_forwards(69)
        .finish();
    assert_eq!(
        text(&sent),
        F1.replace(
            "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8\nMax-Forwards: 70",
            "Via: SIP/2.0/UDP bigbox3.site3.atlanta.com;branch=z9hG4bK77ef4c2312983.1\n\
             Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8;received=192.0.2.1\n\
             Max-Forwards: 69"
        )
    );
    let at_bob = Message::parse(sent).unwrap();
    let ringing = Message::parse(Reply::to(&at_bob, 180).to_tag("a6c85cf").build()).unwrap();
    assert_eq!(ringing.vias().count(), 2);
    let back = Message::parse(Edit::new(&ringing).pop_via().finish()).unwrap();
    assert_eq!(back.via().raw(), b"SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8;received=192.0.2.1");
    assert_eq!(back.to().tag(), Some(&b"a6c85cf"[..]));
}

/// §7.3.1: the orders and forms that mean the same.
#[test]
fn equal_route_headers() {
    let one = F1.replace(
        "Contact:",
        "Route: <sip:alice@atlanta.com>\nSubject: Lunch\nRoute: <sip:bob@biloxi.com>\nRoute: <sip:carol@chicago.com>\nContact:",
    );
    let two = F1.replace(
        "Contact:",
        "Route: <sip:alice@atlanta.com>, <sip:bob@biloxi.com>\nRoute: <sip:carol@chicago.com>\nSubject: Lunch\nContact:",
    );
    let three = F1.replace(
        "Contact:",
        "Subject: Lunch\nRoute: <sip:alice@atlanta.com>, <sip:bob@biloxi.com>,\n        <sip:carol@chicago.com>\nContact:",
    );
    let uris = |text: &str| -> Vec<Vec<u8>> { parse(text).routes().map(|route| route.uri.to_vec()).collect() };
    assert_eq!(uris(&one).len(), 3);
    assert_eq!(uris(&one), uris(&two));
    assert_eq!(uris(&two), uris(&three));
}

/// §7.3.1: line folding in Subject, names in any case.
#[test]
fn folding_and_case() {
    let message = parse(&F1.replace(
        "Contact:",
        "sUBJECT: I know you're there,\n         pick up the phone\n         and talk to me!\nCONTACT:",
    ));
    let subject = message.header(Name::Subject).unwrap();
    assert!(subject.starts_with(b"I know") && subject.ends_with(b"talk to me!"));
    assert_eq!(message.contacts().count(), 1);
}
