//! RFC 5118: IPv6 in SIP, case by case.

use std::net::IpAddr;

use pairline_sip::{Host, Message, ParseErrorKind, Reply};

use crate::bytes_of::parse;
use crate::bytes_of::refused;

fn register(uri: &str, via: &str, contact: &str) -> String {
    format!(
        "REGISTER {uri} SIP/2.0\n\
         To: sip:user@example.com\n\
         From: sip:user@example.com;tag=81x2\n\
         Via: {via}\n\
         Call-ID: SSG9559905523997077@hlau_4100\n\
         Max-Forwards: 70\n\
         Contact: {contact}\n\
         CSeq: 98176 REGISTER\n\
         Content-Length: 0\n\n"
    )
}

const VIA: &str = "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "\"Caller\" <sip:caller@[2001:db8::1]>";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// §4.1.
#[test]
fn valid_message_with_an_ipv6_reference() {
    let message = parse(&register("sip:[2001:db8::10]", VIA, CONTACT));
    assert_eq!(message.parse_request_uri().unwrap().host, Host::Ip(ip("2001:db8::10")));
    assert_eq!(message.via().sent_by(), Host::Ip(ip("2001:db8::9:1")));
    let contact = message.contacts().next().unwrap();
    assert_eq!(contact.parse_uri().unwrap().host, Host::Ip(ip("2001:db8::1")));
}

/// §4.2: without brackets the Request-URI is malformed.
#[test]
fn missing_brackets_are_an_error() {
    let text = register("sip:2001:db8::10", VIA, CONTACT);
    assert_eq!(refused(&text), ParseErrorKind::RequestUri);
}

/// §4.3: what looks like a port belongs to the address.
#[test]
fn port_inside_the_brackets_is_address() {
    let uri = parse(&register("sip:[2001:db8::10:5070]", VIA, CONTACT));
    let uri = uri.parse_request_uri().unwrap();
    assert_eq!((uri.host, uri.port), (Host::Ip(ip("2001:db8::10:5070")), None));
}

/// §4.4.
#[test]
fn port_outside_the_brackets_is_port() {
    let uri = parse(&register("sip:[2001:db8::10]:5070", VIA, CONTACT));
    let uri = uri.parse_request_uri().unwrap();
    assert_eq!((uri.host, uri.port), (Host::Ip(ip("2001:db8::10")), Some(5070)));
}

/// §4.5: `received` with and without brackets is understood; we write it without.
#[test]
fn received_with_and_without_brackets() {
    for value in ["2001:db8::9:255", "[2001:db8::9:255]"] {
        let via = format!("SIP/2.0/UDP [2001:db8::9:1];received={value};branch=z9hG4bKas3-111");
        let message = parse(&register("sip:example.com", &via, CONTACT));
        assert_eq!(message.via().received(), Some(ip("2001:db8::9:255")));
    }
    let mut message = parse(&register("sip:example.com", VIA, CONTACT));
    message.set_source("[2001:db8::9:255]:5060".parse().unwrap());
    let reply = Message::parse(Reply::to(&message, 200).build()).unwrap();
    assert_eq!(reply.via().param("received"), Some(&b"2001:db8::9:255"[..]));
}

/// §4.6 to §4.8 concern session descriptions, which pass as they are.
#[test]
fn bodies_with_addresses_of_both_families_pass() {
    let sdp = "v=0\no=a 1 1 IN IP6 2001:db8::20\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 6000 RTP/AVP 0\nc=IN IP6 2001:db8::20\n";
    let length = sdp.replace('\n', "\r\n").len();
    let text =
        register("sip:example.com", VIA, CONTACT).replace("Length: 0\n\n", &format!("Length: {length}\n\n{sdp}"));
    assert_eq!(parse(&text).body().len(), length);
}

/// §4.9: addresses that hold an IPv4 address.
#[test]
fn mapped_addresses() {
    let via = "SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19";
    let contact = "\"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>";
    let message = parse(&register("sip:user@example.com", via, contact));
    assert_eq!(message.via().sent_by(), Host::Ip(ip("::ffff:192.0.2.10")));
    assert_eq!(message.via().port, Some(19823));
}

/// §4.10: the third colon that the grammar of RFC 3261 wants is tolerated, and nothing wider than that.
#[test]
fn three_colons_before_an_ipv4_address_are_two() {
    for text in ["2001:db8:::192.0.2.1", "2001:db8::192.0.2.1"] {
        let message = parse(&register(&format!("sip:user@[{text}]"), VIA, CONTACT));
        assert_eq!(message.parse_request_uri().unwrap().host, Host::Ip(ip("2001:db8::192.0.2.1")));
    }
    for text in ["2001:db8:::1", "2001:db8::::192.0.2.1", "2001:::db8:::192.0.2.1", ":::", "2001:db8:::192.0.2.256"] {
        assert_eq!(
            refused(&register(&format!("sip:user@[{text}]"), VIA, CONTACT)),
            ParseErrorKind::RequestUri,
            "{text}"
        );
    }
}
