//! Replies, ACK and CANCEL made from other messages, and replies to what did not parse.

use pairline_sip::{Message, Method, Name, Reply, RequestBuilder};

use crate::bytes_of::{parse, request, text, wire};

#[test]
fn a_reply_copies_what_it_must() {
    let invite = parse(&request(
        "INVITE",
        "Via: SIP/2.0/TCP second;branch=z9hG4bK2\nRecord-Route: <sip:p1;lr>\nrecord-route: <sip:p2;lr>\nTimestamp: 54\n",
    ));
    let bytes = Reply::to(&invite, 180).to_tag("x1").header("Contact", "<sip:bob@192.0.2.4>").build();
    assert_eq!(
        text(&bytes),
        "SIP/2.0 180 Ringing\n\
         Via: SIP/2.0/UDP client.example.net:5070;branch=z9hG4bK776asdhds\n\
         Via: SIP/2.0/TCP second;branch=z9hG4bK2\n\
         Record-Route: <sip:p1;lr>\n\
         Record-Route: <sip:p2;lr>\n\
         From: Alice <sip:alice@example.net>;tag=1928301774\n\
         To: Bob <sip:bob@example.com>;tag=x1\n\
         Call-ID: a84b4c76e66710@example.net\n\
         CSeq: 314159 INVITE\n\
         Contact: <sip:bob@192.0.2.4>\n\
         Content-Length: 0\n\n"
    );
    let trying = Message::parse(Reply::to(&invite, 100).build()).unwrap();
    assert_eq!(trying.to().tag(), None);
    assert_eq!(trying.header(Name::Timestamp), Some(&b"54"[..]));
    assert_eq!(trying.record_routes().count(), 0);
    let busy = Message::parse(Reply::to(&invite, 486).reason("Not now").build()).unwrap();
    assert_eq!(busy.reason(), b"Not now");
    assert_eq!(busy.record_routes().count(), 0);
}

#[test]
fn derived_tags_agree_within_a_transaction() {
    let invite = parse(&request("INVITE", ""));
    let cancel = Message::parse(Reply::cancel_for(&invite)).unwrap();
    let to_invite = Message::parse(Reply::to(&invite, 487).build()).unwrap();
    let to_cancel = Message::parse(Reply::to(&cancel, 200).build()).unwrap();
    assert!(to_invite.to().tag().is_some());
    assert_eq!(to_invite.to().tag(), to_cancel.to().tag());
    let other = parse(&request("INVITE", "").replace("776asdhds", "other"));
    let other = Message::parse(Reply::to(&other, 487).build()).unwrap();
    assert_ne!(other.to().tag(), to_invite.to().tag());
}

#[test]
fn an_existing_to_tag_stays() {
    let bye = parse(&request("BYE", "").replace("bob@example.com>\n", "bob@example.com>;tag=z\n"));
    let reply = Message::parse(Reply::to(&bye, 481).to_tag("new").build()).unwrap();
    assert_eq!(reply.to().tag(), Some(&b"z"[..]));
}

#[test]
fn a_reply_carries_received_and_rport() {
    let mut options = parse(&request("OPTIONS", "").replace(";branch", ";rport;branch"));
    options.set_source("198.51.100.1:40000".parse().unwrap());
    let reply = Message::parse(Reply::to(&options, 200).build()).unwrap();
    assert_eq!(reply.via().rport(), Some(40000));
    assert_eq!(reply.via().received(), "198.51.100.1".parse().ok());
}

#[test]
fn bodies_and_header_injection() {
    let options = parse(&request("OPTIONS", ""));
    let bytes = Reply::to(&options, 200).header("X-A", "1\r\nX-B: 2").body("text/plain", b"hi").build();
    let reply = Message::parse(bytes).unwrap();
    assert_eq!(reply.header_named("X-B"), None);
    assert_eq!(reply.header_named("X-A"), Some(&b"1  X-B: 2"[..]));
    assert_eq!(reply.body(), b"hi");
}

/// RFC 3261 §17.1.1.3.
#[test]
fn ack_to_a_failure() {
    let invite =
        parse(&request("INVITE", "Via: SIP/2.0/TCP second;branch=z9hG4bK2\nRoute: <sip:p1;lr>, <sip:p2;lr>\n"));
    let response = Message::parse(Reply::to(&invite, 404).to_tag("99sa0xk").build()).unwrap();
    assert_eq!(
        text(&Reply::ack_for(&invite, &response)),
        "ACK sip:bob@example.com SIP/2.0\n\
         Via: SIP/2.0/UDP client.example.net:5070;branch=z9hG4bK776asdhds\n\
         Max-Forwards: 70\n\
         Route: <sip:p1;lr>, <sip:p2;lr>\n\
         From: Alice <sip:alice@example.net>;tag=1928301774\n\
         To: Bob <sip:bob@example.com>;tag=99sa0xk\n\
         Call-ID: a84b4c76e66710@example.net\n\
         CSeq: 314159 ACK\n\
         Content-Length: 0\n\n"
    );
}

/// RFC 3261 §9.1.
#[test]
fn cancel_of_an_invite() {
    let invite = parse(&request("INVITE", "Require: 100rel\nRoute: <sip:p1;lr>\n"));
    let bytes = Reply::cancel_with_reason(&invite, Some("SIP;cause=200;text=\"elsewhere\""));
    let cancel = Message::parse(bytes).unwrap();
    assert_eq!(cancel.cseq(), (314_159, &Method::Cancel));
    assert_eq!(cancel.via().raw(), invite.via().raw());
    assert_eq!(cancel.vias().count(), 1);
    assert_eq!(cancel.to().raw(), invite.to().raw());
    assert!(!cancel.has(Name::Require), "CANCEL must not carry Require");
    assert_eq!(cancel.routes().count(), 1);
    assert!(cancel.has(Name::Reason));
}

#[test]
fn a_request_is_built_as_given() {
    let bytes = RequestBuilder::new(Method::Message, "sip:b@b")
        .header("Via", "SIP/2.0/UDP a;branch=z9hG4bK1")
        .header("From", "<sip:a@a>;tag=1")
        .header("To", "<sip:b@b>")
        .header("Call-ID", "1")
        .header("CSeq", "1 MESSAGE")
        .body("text/plain", "hi")
        .build();
    let message = Message::parse(bytes).unwrap();
    assert_eq!(*message.method(), Method::Message);
    assert_eq!(message.body(), b"hi");
}

#[test]
fn unparsable_requests_get_a_reply_where_one_is_owed() {
    let broken = request("INVITE", "Call-ID: again\nVia: SIP/2.0/TCP second\n");
    let error = Message::parse(wire(&broken)).map(|_| ()).unwrap_err();
    let source = "203.0.113.7:9".parse().unwrap();
    let reply = Message::parse(error.reply_to(source).expect("a reply is owed")).unwrap();
    assert_eq!(reply.status(), Some(400));
    assert_eq!(reply.reason(), b"Bad Request (more than one Call-ID)");
    assert_eq!(reply.vias().count(), 2);
    assert_eq!(reply.via().received(), "203.0.113.7".parse().ok());
    assert_eq!(reply.call_id(), b"a84b4c76e66710@example.net");
    assert!(reply.to().tag().is_some());
    assert!(error.reply().is_some());

    let version = request("INVITE", "").replace("SIP/2.0\nVia", "SIP/7.0\nVia");
    let error = Message::parse(wire(&version)).map(|_| ()).unwrap_err();
    let reply = Message::parse(error.reply().unwrap()).unwrap();
    assert_eq!(reply.status(), Some(505));
}

#[test]
fn no_reply_to_ack_responses_or_without_the_fields() {
    for text in [
        request("ACK", "Call-ID: again\n"),
        request("INVITE", "Call-ID: again\n").replace("INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK"),
        request("INVITE", "Call-ID: again\n").replace("CSeq:", "X-CSeq:"),
        request("INVITE", "Call-ID: again\n").replace("SIP/2.0/UDP", "SIP/2.0/UDP;"),
        "INVITE".to_owned(),
        String::new(),
    ] {
        let error = Message::parse(wire(&text)).map(|_| ()).unwrap_err();
        assert_eq!(error.reply(), None, "{text}");
    }
}
