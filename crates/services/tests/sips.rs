//! The SIPS scheme, by sections of RFC 5630: what is asked for by it travels encrypted on every hop, or not at all.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, contacts, last, statuses};
use common::{EAST, Fake, Task, aor, flow, group_of, peer_flow};
use pairline_services::dispatch;
use pairline_services::routes;
use pairline_services::settings::Listener;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;

fn tls(remote: &str, connection: u64) -> Flow {
    Flow { listener: 3, ..flow(Transport::Tls, remote, connection) }
}

/// A world with a TLS listener.
fn world() -> Fake {
    let fake = Fake::new();
    fake.edit_view(|view| {
        view.listeners.push(Listener {
            id: 3,
            transport: Transport::Tls,
            addr: "127.0.1.1:5061".parse().unwrap(),
            via: "127.0.1.1:5061".into(),
            record_route: "127.0.1.1:5061;transport=tls".into(),
        });
    });
    fake
}

fn phone(user: &'static str, flow: Flow) -> Client {
    Client { flow, call_id: format!("{user}-{}", flow.remote), ..client(user) }
}

/// Registers with that scheme in the Request-URI, To and Contact; the status.
fn register(fake: &Fake, phone: &mut Client, schemes: [&str; 3], lines: &[&str]) -> u16 {
    let [uri, to, contact] = schemes;
    let (user, at) = (phone.user, phone.flow.remote);
    let contact = format!("Contact: <{contact}:{user}@{at}>");
    let lines = [&[&*contact], lines].concat();
    phone.request(
        fake,
        "REGISTER",
        &format!("{uri}:pairline.test"),
        &format!("<{to}:{user}@pairline.test>"),
        &lines,
        "",
    );
    last(fake).0
}

/// Alice calls bob by a scheme, from a flow.
fn call(fake: &Fake, from: Flow, scheme: &str) -> Task {
    fake.0.borrow_mut().responses.clear();
    let mut alice = phone("alice", from);
    let uri = format!("{scheme}:bob@pairline.test");
    let contact = format!("Contact: <{scheme}:alice@{}>", from.remote);
    alice.request(fake, "INVITE", &uri, &format!("<{uri}>"), &[&contact], "v=0\r\n")
}

fn sent(fake: &Fake) -> Vec<(Flow, Message)> {
    fake.0.borrow().sent.iter().map(|(_, flow, message)| (*flow, message.clone())).collect()
}

const OPEN: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Ws];

/// §5.1.1 and RFC 3261 §26.4.4: nothing that is asked for by SIPS has come openly.
#[test]
fn section_5_1_a_sips_request_over_an_open_flow_is_refused() {
    for transport in OPEN {
        let open = flow(transport, "127.0.0.1:7001", 5);
        for schemes in [["sips", "sips", "sips"], ["sips", "sip", "sip"], ["sip", "sips", "sip"]] {
            let fake = world();
            assert_eq!(register(&fake, &mut phone("alice", open), schemes, &[]), 403, "{transport:?} {schemes:?}");
            assert!(fake.bindings("sip:alice@pairline.test").is_empty());
            assert_eq!(statuses(&fake), [403], "before anybody is asked for a password");
        }
        for method in ["INVITE", "MESSAGE", "OPTIONS", "BYE", "SUBSCRIBE"] {
            let fake = world();
            let uri = "sips:bob@pairline.test";
            Task::start(&fake, phone("alice", open).message(method, uri, "<sips:bob@pairline.test>", &[], ""), open);
            assert_eq!(statuses(&fake), [403], "{method} {transport:?}");
        }
    }
}

/// §5.2: SIP and SIPS of an address of record are the same user; a SIPS contact is bound by SIPS throughout.
#[test]
fn section_5_2_a_sips_contact_needs_sips_all_the_way() {
    let secure = tls("127.0.0.1:7001", 5);
    let foreign = ["Path: <sip:edge.example;lr>"];
    let table: [([&str; 3], &[&str], u16); 7] = [
        (["sips", "sips", "sips"], &[], 200),
        (["sips", "sip", "sips"], &[], 200),
        (["sips", "sips", "sip"], &[], 200),
        (["sip", "sip", "sip"], &[], 200),
        (["sip", "sip", "sips"], &[], 400),
        (["sips", "sips", "sips"], &foreign, 400),
        (["sips", "sips", "sips"], &["Path: <sips:edge.example;lr>"], 200),
    ];
    for (schemes, lines, status) in table {
        let fake = world();
        assert_eq!(register(&fake, &mut phone("alice", secure), schemes, lines), status, "{schemes:?} {lines:?}");
        assert_eq!(fake.bindings("sip:alice@pairline.test").len(), usize::from(status == 200));
    }
    let fake = world();
    let mut open = phone("alice", flow(Transport::Tcp, "127.0.0.1:7001", 5));
    assert_eq!(register(&fake, &mut open, ["sip", "sip", "sips"], &[]), 400, "over an open flow");
}

/// §5.2: signing a contact off makes nothing reachable.
#[test]
fn section_5_2_a_sips_contact_may_always_be_signed_off() {
    let fake = world();
    let mut alice = phone("alice", tls("127.0.0.1:7001", 5));
    assert_eq!(register(&fake, &mut alice, ["sips", "sips", "sips"], &[]), 200);
    assert_eq!(contacts(&last(&fake).1).len(), 1);
    assert_eq!(register(&fake, &mut alice, ["sip", "sip", "sips"], &["Expires: 0"]), 200);
    assert!(fake.bindings("sip:alice@pairline.test").is_empty());
}

/// §5.3: no exception for the last hop. A SIP contact is not called by SIPS, even if its flow is encrypted.
#[test]
fn section_5_3_a_sips_request_goes_to_sips_contacts_only() {
    let secure = tls("127.0.0.1:7001", 5);
    for (flow, schemes) in [
        (flow(Transport::Udp, "127.0.0.1:7101", 0), ["sip", "sip", "sip"]),
        (tls("127.0.0.1:7101", 6), ["sip", "sip", "sip"]),
    ] {
        let fake = world();
        assert_eq!(register(&fake, &mut phone("bob", flow), schemes, &[]), 200);
        let task = call(&fake, secure, "sips");
        assert!(!task.is_running() && sent(&fake).is_empty(), "{flow:?}");
        let (status, reply) = last(&fake);
        assert_eq!(status, 480);
        let warning = String::from_utf8_lossy(reply.header_named("Warning").unwrap()).into_owned();
        assert!(warning.starts_with("380 ") && warning.ends_with("\"SIPS Not Allowed\""), "{warning}");
    }
    let fake = world();
    let (plain, safe) = (flow(Transport::Udp, "127.0.0.1:7101", 0), tls("127.0.0.1:7102", 6));
    assert_eq!(register(&fake, &mut phone("bob", plain), ["sip", "sip", "sip"], &[]), 200);
    assert_eq!(register(&fake, &mut phone("bob", safe), ["sips", "sips", "sips"], &[]), 200);
    let _task = call(&fake, secure, "sips");
    let [(hop, request)] = &sent(&fake)[..] else { panic!("one device is called") };
    assert_eq!((hop.transport, request.request_uri()), (Transport::Tls, &b"sips:bob@127.0.0.1:7102"[..]));
    let routes: Vec<String> =
        request.headers(Name::RecordRoute).map(|v| String::from_utf8_lossy(v).into_owned()).collect();
    assert!(!routes.is_empty() && routes.iter().all(|route| route.starts_with("<sips:")), "{routes:?}");
    assert!(routes.iter().all(|route| !route.contains("transport=tls")), "{routes:?}");
}

/// §5.3: whoever has registered by SIPS is called by SIP requests, too, and encrypted.
#[test]
fn section_5_3_a_sip_request_reaches_a_sips_contact_encrypted() {
    let fake = world();
    let safe = tls("127.0.0.1:7102", 6);
    assert_eq!(register(&fake, &mut phone("bob", safe), ["sips", "sips", "sips"], &[]), 200);
    let _task = call(&fake, flow(Transport::Udp, "127.0.0.1:7001", 0), "sip");
    let [(hop, _)] = &sent(&fake)[..] else { panic!("the device is called") };
    assert_eq!(hop.transport, Transport::Tls);
    let bob = aor("sip:bob@pairline.test");
    assert_eq!(fake.bindings(bob.as_str()).len(), 1, "one user, whatever the scheme");
    assert_eq!(group_of(EAST, &bob).pool, EAST);
}

/// §5.3: the link between the pools is encrypted, and the Request-URI stays as it is on it.
#[test]
fn section_5_3_the_other_pool_is_reached_by_sips() {
    let fake = world();
    let secure = tls("127.0.0.1:7001", 5);
    fake.0.borrow_mut().responses.clear();
    let mut alice = phone("alice", secure);
    let uri = "sips:carol@pairline.test";
    let _task = alice.request(&fake, "INVITE", uri, &format!("<{uri}>"), &["Contact: <sips:alice@127.0.0.1:7001>"], "");
    let [(hop, request)] = &sent(&fake)[..] else { panic!("the other pool is asked") };
    assert_eq!((*hop, request.request_uri()), (peer_flow(), uri.as_bytes()));
}

/// §5.3: a SIPS contact that was bound by a datagram before that was refused is connected to, and called no other way.
#[test]
fn section_5_3_a_sips_contact_of_before_is_called_encrypted_or_not_at_all() {
    let fake = world();
    common::sip::device(&fake, "bob", "127.0.0.1:7101", "");
    let mut old = fake.bindings("sip:bob@pairline.test").remove(0);
    old.contact = (*b"sips:dave@127.0.0.1").into();
    fake.0.borrow_mut().guests.insert("sip:dave@pairline.test".into(), vec![old]);
    let dave = |fake: &Fake| client("alice").invite(fake, "dave");
    let mut task = dave(&fake);
    let [(hop, _)] = &sent(&fake)[..] else { panic!("the device is called") };
    assert_eq!((hop.transport, hop.remote.to_string().as_str()), (Transport::Tls, "127.0.0.1:5061"));
    let branch = task.branch(0);
    task.deliver(pairline_services::cx::TaskEvent::TransportError(branch));
    assert_eq!(sent(&fake).len(), 1, "and no other way");
    // Without a TLS listener there is none.
    fake.edit_view(|view| view.listeners.retain(|listener| listener.transport != Transport::Tls));
    fake.0.borrow_mut().sent.clear();
    assert!(!dave(&fake).is_running() && sent(&fake).is_empty());
    assert_eq!(last(&fake).0, 480);
}

/// §5.3: the ACK of a 2xx has no transaction that could fail, and still does not go openly to a SIPS target.
#[test]
fn section_5_3_an_ack_goes_encrypted_too() {
    for (scheme, sent) in [("sips", 0), ("sip", 1)] {
        let fake = world();
        let alice = phone("alice", tls("127.0.0.1:7001", 5));
        let view = fake.0.borrow().view.clone();
        let listener = view.listeners.iter().find(|listener| listener.id == 2).unwrap();
        let route = routes::record_route(&view.sealing_key, listener, alice.call_id.as_bytes(), None);
        // The fake finds a datagram's way to every address.
        let uri = format!("{scheme}:bob@192.0.2.7:5070");
        let to = format!("<{scheme}:bob@pairline.test>;tag=1");
        let ack = alice.message("ACK", &uri, &to, &[&format!("Route: {route}")], "");
        common::now(dispatch::ack(fake.clone(), ack, alice.flow));
        assert_eq!(fake.0.borrow().stateless.len(), sent, "{scheme}");
    }
}
