//! Methods and names: what passes after authentication, and by which names users are found.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device, last, statuses};
use common::{Fake, Task, udp};
use pairline_services::settings::Listener;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;

const BOB: &str = "sip:bob@pairline.test";

#[test]
fn every_method_that_a_device_may_answer_passes_after_authentication() {
    for method in ["OPTIONS", "REFER", "INFO", "UPDATE", "PRACK", "MESSAGE"] {
        let fake = Fake::new();
        device(&fake, "bob", "127.0.0.1:7101", "");
        let mut phone = client("alice");
        let extra = ["Contact: <sip:alice@127.0.0.1:7001>", "Refer-To: <sip:dave@pairline.test>"];
        let mut task = phone.request(&fake, method, BOB, "<sip:bob@pairline.test>", &extra, "");
        assert!(task.is_running(), "{method}");
        let (_, hop, sent) = fake.0.borrow().sent[0].clone();
        assert_eq!((hop, sent.method().as_str()), (udp("127.0.0.1:7101"), method));
        assert_eq!(sent.header(Name::PAssertedIdentity).unwrap(), b"<sip:alice@pairline.test>");
        task.respond(0, 202, &[]);
        assert_eq!((statuses(&fake), task.is_running()), (vec![202], false), "{method}");
    }
}

#[test]
fn the_notify_of_a_refer_comes_back_inside_its_dialog() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    let extra = ["Contact: <sip:alice@127.0.0.1:7001>", "Refer-To: <sip:dave@pairline.test>"];
    let mut task = phone.request(&fake, "REFER", BOB, "<sip:bob@pairline.test>", &extra, "");
    let refer = fake.0.borrow().sent[0].2.clone();
    task.respond(0, 202, &[]);
    let route = format!("Route: {}", String::from_utf8(refer.record_routes().next().unwrap().raw().to_vec()).unwrap());
    let mut bob = client("bob");
    bob.flow = udp("127.0.0.1:7101");
    bob.call_id = "call-alice".into();
    let lines = [route.as_str(), "Event: refer", "Subscription-State: active"];
    let request = bob.message("NOTIFY", "sip:alice@127.0.0.1:7001", "<sip:alice@pairline.test>;tag=ft", &lines, "");
    assert!(Task::start(&fake, request, bob.flow).is_running());
    assert_eq!(fake.0.borrow().sent[1].1, udp("127.0.0.1:7001"));
    // Without the dialog's Route there is no such event package here.
    let request = bob.message("NOTIFY", BOB, "<sip:alice@pairline.test>;tag=ft", &lines[1..], "");
    assert!(!Task::start(&fake, request, bob.flow).is_running());
    assert_eq!(last(&fake).0, 489);
}

#[test]
fn a_user_is_found_by_every_name_of_ours_and_of_the_partner() {
    for host in [
        "pairline.test",
        "EAST.pairline.test",
        "fe1.east.pairline.test",
        "127.0.1.1",
        "127.0.1.1:5060",
        "west.pairline.test",
        "127.0.2.1",
    ] {
        let fake = Fake::new();
        let mut bob = client("bob");
        bob.flow = udp("127.0.0.1:7101");
        let to = format!("<sip:bob@{host}>");
        let contact = ["Contact: <sip:bob@127.0.0.1:7101>"];
        let task = bob.request(&fake, "REGISTER", &format!("sip:{host}"), &to, &contact, "");
        assert!(!task.is_running());
        assert_eq!((last(&fake).0, fake.bindings(BOB).len()), (200, 1), "REGISTER by {host}");
        let uri = format!("sip:bob@{host}");
        let task = client("alice").request(&fake, "MESSAGE", &uri, &to, &["Content-Type: text/plain"], "hi");
        assert!(task.is_running(), "MESSAGE by {host}");
        assert_eq!(fake.0.borrow().sent[0].2.request_uri(), b"sip:bob@127.0.0.1:7101");
    }
    // The same address at another port is some other program.
    let fake = Fake::new();
    let task = client("alice").request(&fake, "MESSAGE", "sip:bob@127.0.1.1:5070", "<sip:bob@x>", &[], "");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 403);
}

#[test]
fn record_route_is_doubled_where_address_family_or_listener_changes() {
    let other = |id, addr: &str| Listener {
        id,
        transport: Transport::Udp,
        addr: addr.parse().unwrap(),
        via: addr.into(),
        record_route: addr.into(),
    };
    for (id, listener, phone) in [(3, "[::1]:5060", "[::1]:7101"), (4, "10.0.0.1:5060", "127.0.0.1:7101")] {
        let fake = Fake::new();
        fake.edit_view(|view| view.listeners.push(other(id, listener)));
        let mut bob = client("bob");
        bob.flow = Flow { listener: id, ..udp(phone) };
        assert_eq!(bob.register(&fake, &[&format!("Contact: <sip:bob@{phone}>")]).0, 200);
        fake.0.borrow_mut().responses.clear();
        assert!(client("alice").invite(&fake, "bob").is_running());
        let (_, hop, sent) = fake.0.borrow().sent[0].clone();
        assert_eq!(hop, bob.flow);
        let routes: Vec<String> = sent.record_routes().map(|r| String::from_utf8(r.uri.to_vec()).unwrap()).collect();
        assert_eq!(routes.len(), 2, "{listener}");
        assert!(routes[0].starts_with(&format!("sip:{listener};lr;pl=")), "the callee's side on top: {}", routes[0]);
        assert!(routes[1].starts_with("sip:127.0.1.1:5060;lr;pl="));
    }
}
