//! Emergency calls: the table of URNs and numbers, who may call, and what goes along untouched (RFC 5031, 6442).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device, last};
use common::{Fake, Task, WEST, aor, flow, group_of, udp};
use pairline_services::cx::Place;
use pairline_services::emergency;
use pairline_services::metrics::Counter;
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;
use pairline_topology::policy_proxy::EmergencyRoute;

fn routes(fake: &Fake, rows: &[(&str, &str)]) {
    let row = |(pattern, to): &(&str, &str)| EmergencyRoute { pattern: (*pattern).into(), to: (*to).into() };
    fake.edit_view(|view| view.proxy.emergency.route = rows.iter().map(row).collect());
}

/// A call without credentials.
fn call(fake: &Fake, from: &'static str, uri: &str, lines: &[&str]) -> Task {
    let mut phone = client(from);
    phone.cseq = 77;
    let mut all = vec!["Contact: <sip:x@127.0.0.1:7001>"];
    all.extend(lines);
    Task::start(fake, phone.message("INVITE", uri, "<urn:service:sos>", &all, ""), phone.flow)
}

#[test]
fn emergency_calls_need_no_mode_and_no_password() {
    let fake = Fake::new();
    routes(&fake, &[("urn:service:sos", "sip:bob@pairline.test")]);
    device(&fake, "bob", "127.0.0.1:7101", "");
    for place in [
        Place::Unavailable { group: Some(group_of(WEST, &aor("sip:carol@pairline.test"))), pool: WEST },
        Place::Resiliency { group: group_of(WEST, &aor("sip:carol@pairline.test")) },
        Place::NoSuchUser,
    ] {
        fake.set_place(&aor("sip:carol@pairline.test"), place);
        assert!(call(&fake, "carol", "urn:service:sos.fire", &[]).is_running());
    }
    assert_eq!((fake.0.borrow().sent.len(), fake.count_of(Counter::Emergency)), (3, 3));
    assert!(!fake.0.borrow().sent[0].2.has(Name::PAssertedIdentity), "nobody vouches for the caller");
}

#[test]
fn the_first_row_that_matches_decides() {
    let rows = [
        ("urn:service:sos.fire", "sip:fire@192.0.2.1:5070"),
        ("urn:service:sos", "sip:desk@192.0.2.2:5070"),
        ("112", "sip:desk@192.0.2.3:5070"),
        ("*9", "sip:bob@pairline.test"),
    ];
    let table = [
        ("urn:service:sos.fire", "192.0.2.1:5070"),
        ("URN:SERVICE:SOS.fire.forest", "192.0.2.1:5070"),
        ("urn:service:sos.police", "192.0.2.2:5070"),
        ("urn:service:sos", "192.0.2.2:5070"),
        ("sip:112@pairline.test", "192.0.2.3:5070"),
        ("sip:112;phone-context=x@pairline.test", "192.0.2.3:5070"),
        ("sip:112@127.0.1.1:5060", "192.0.2.3:5070"),
        ("tel:1-1-2", "192.0.2.3:5070"),
        ("sip:*9@pairline.test", "127.0.0.1:7101"),
    ];
    for (uri, target) in table {
        let fake = Fake::new();
        routes(&fake, &rows);
        device(&fake, "bob", "127.0.0.1:7101", "");
        assert!(call(&fake, "alice", uri, &[]).is_running(), "{uri}");
        assert_eq!(fake.0.borrow().sent[0].1.remote, target.parse().unwrap(), "{uri}");
        assert!(emergency::is_call(&fake.0.borrow().view, uri.as_bytes()), "{uri}");
    }
    // A number is one only as a whole, and at another domain it is that domain's.
    for uri in ["sip:1123@pairline.test", "sip:11@pairline.test", "sip:112@elsewhere.example", "tel:+112"] {
        let fake = Fake::new();
        routes(&fake, &rows);
        assert!(!call(&fake, "alice", uri, &[]).is_running());
        assert_eq!((last(&fake).0, fake.count_of(Counter::Emergency)), (407, 0), "{uri}");
        assert!(!emergency::is_call(&fake.0.borrow().view, uri.as_bytes()), "{uri}");
    }
}

#[test]
fn what_is_not_configured_is_answered_clearly_and_told() {
    let fake = Fake::new();
    assert!(!call(&fake, "alice", "urn:service:sos", &[]).is_running());
    let (status, reply) = last(&fake);
    assert_eq!((status, reply.reason()), (404, &b"No Emergency Service Configured"[..]));
    routes(&fake, &[("urn:service:sos.fire", "sip:bob@pairline.test")]);
    assert!(!call(&fake, "alice", "urn:service:sos.police", &[]).is_running());
    assert_eq!((last(&fake).0, fake.count_of(Counter::EmergencyUnrouted)), (404, 2));
    // A desk without a device.
    assert!(!call(&fake, "alice", "urn:service:sos.fire", &[]).is_running());
    assert_eq!(last(&fake).0, 480);
    // Other services are no emergency.
    assert!(!call(&fake, "alice", "urn:service:counseling", &[]).is_running());
    assert_eq!(last(&fake).0, 416);
}

#[test]
fn nobody_registers_at_an_emergency_number() {
    let fake = Fake::new();
    routes(&fake, &[("112", "sip:192.0.2.2:5070")]);
    for (uri, expected) in [("sip:112@pairline.test", 403), ("urn:service:sos", 403), ("sip:113@pairline.test", 200)] {
        let mut phone = client("alice");
        let contact = ["Contact: <sip:alice@127.0.0.1:7001>"];
        let task = phone.request(&fake, "REGISTER", uri, "<sip:alice@pairline.test>", &contact, "");
        assert!(!task.is_running());
        assert_eq!(last(&fake).0, expected, "{uri}");
    }
}

#[test]
fn policy_may_ask_who_calls() {
    let fake = Fake::new();
    routes(&fake, &[("urn:service:sos", "sip:192.0.2.2:5070")]);
    fake.edit_view(|view| view.proxy.emergency.unauthenticated = false);
    assert!(!call(&fake, "alice", "urn:service:sos", &[]).is_running());
    assert_eq!(last(&fake).0, 407);
    let mut phone = client("alice");
    let task = phone.request(&fake, "INVITE", "urn:service:sos", "<urn:service:sos>", &["Privacy: id"], "");
    assert!(task.is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    let asserted = sent.header(Name::PAssertedIdentity);
    assert_eq!(asserted, Some(&b"<sip:alice@pairline.test>"[..]), "the place that policy names is trusted");
    assert!(sent.has(Name::Privacy));
}

#[test]
fn location_goes_along_untouched() {
    let fake = Fake::new();
    routes(&fake, &[("112", "sip:192.0.2.2:5070")]);
    let lines = [
        "Geolocation: <cid:target123@x.example>,<https://lis.example/1>;inserted-by=\"a\"",
        "Geolocation-Routing: yes",
        "Content-Type: multipart/mixed;boundary=b",
    ];
    assert!(call(&fake, "alice", "sip:112@pairline.test", &lines).is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(sent.header_named(name), Some(value.as_bytes()));
    }
}

#[test]
fn a_preloaded_route_does_not_turn_an_emergency_call_away() {
    let fake = Fake::new();
    routes(&fake, &[("urn:service:sos", "sip:192.0.2.2:5070")]);
    let task = call(&fake, "alice", "urn:service:sos", &["Route: <sip:proxy.example;lr>"]);
    assert!(task.is_running());
    assert_eq!(fake.0.borrow().sent[0].1, udp("192.0.2.2:5070"));
    assert!(!fake.0.borrow().sent[0].2.has(Name::Route), "it would lead elsewhere");
    let mut phone = client("alice");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7001", 5);
    let request = phone.message("INVITE", "urn:service:sos", "<urn:service:sos>", &["Privacy: header;critical"], "");
    assert!(Task::start(&fake, request, phone.flow).is_running(), "help comes before privacy");
}
