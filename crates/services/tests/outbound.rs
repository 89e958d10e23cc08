//! Flows at the registrar (RFC 5626) and Path (RFC 3327).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, contacts, last};
use common::{Fake, flow, udp};
use pairline_services::cx::TaskEvent;
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;

const BOB: &str = "sip:bob@pairline.test";
const ONE: &str = "+sip.instance=\"<urn:uuid:1>\"";

/// One flow of bob's phone on a connection of its own.
fn phone(connection: u64) -> Client {
    let mut phone = client("bob");
    phone.call_id = format!("flow-{connection}");
    phone.flow = flow(Transport::Tcp, &format!("127.0.0.1:{}", 7200 + connection), connection);
    phone
}

fn contact(reg_id: u32) -> String {
    format!("Contact: <sip:bob@10.0.0.7;transport=tcp;ob>;reg-id={reg_id};{ONE}")
}

#[test]
fn who_knows_flows_is_told_that_they_are_kept() {
    let fake = Fake::new();
    let (status, reply) = phone(1).register(&fake, &[&contact(1), "Supported: path, outbound"]);
    assert_eq!((status, reply.header(Name::Require)), (200, Some(&b"outbound"[..])));
    assert_eq!(reply.header(Name::FlowTimer), Some(&b"120"[..]));
    assert!(reply.supported("outbound"));
    let mut datagrams = phone(2);
    datagrams.flow = udp("127.0.0.1:7202");
    let (_, reply) = datagrams.register(&fake, &[&contact(2), "Supported: outbound"]);
    assert_eq!((reply.header(Name::Require), reply.header(Name::FlowTimer)), (Some(&b"outbound"[..]), None));
    // Who does not say so gets a flow all the same, and no answer that it might not know.
    let (_, reply) = phone(3).register(&fake, &[&contact(3)]);
    assert_eq!(
        (reply.has(Name::Require), reply.has(Name::FlowTimer), reply.has(Name::Supported)),
        (false, false, false)
    );
    assert_eq!(fake.bindings(BOB).len(), 3);
    assert_eq!(phone(4).register(&fake, &["Require: outbound", "Contact: <sip:bob@10.0.0.8>;expires=0"]).0, 200);
}

#[test]
fn a_flow_is_replaced_by_its_number_and_never_by_its_address() {
    let fake = Fake::new();
    phone(1).register(&fake, &[&contact(1)]);
    // The same number over a new connection, from a phone that has started anew.
    phone(5).register(&fake, &[&contact(1)]);
    let bindings = fake.bindings(BOB);
    assert_eq!((bindings.len(), bindings[0].flow.flow.connection), (1, 5));
    // Another phone behind another NAT has the same private address.
    let other = contact(1).replace("uuid:1", "uuid:2");
    phone(6).register(&fake, &[&other]);
    assert_eq!(fake.bindings(BOB).len(), 2);
    // A number without an instance means nothing.
    phone(7).register(&fake, &["Contact: <sip:bob@10.0.0.9>;reg-id=1"]);
    assert!(fake.bindings(BOB).iter().any(|b| b.instance.is_none() && b.reg_id.is_none()));
}

#[test]
fn one_flow_in_one_register() {
    let fake = Fake::new();
    let two = format!("{}, <sip:bob@10.0.0.9>", contact(1));
    assert_eq!(phone(1).register(&fake, &[&two]).0, 400);
    let mut phone = phone(1);
    phone.register(&fake, &["Contact: <sip:bob@10.0.0.9>"]);
    let moved = format!("{}, <sip:bob@10.0.0.9>;expires=0", contact(1));
    assert_eq!(phone.register(&fake, &[&moved]).0, 200, "signing another off beside it is fine");
    assert_eq!(fake.bindings(BOB).len(), 1);
}

#[test]
fn the_first_hop_must_keep_the_flow() {
    let edge = "Via: SIP/2.0/TCP edge.example;branch=z9hG4bKedge";
    for (path, supported, status) in [
        ("Path: <sip:edge.example;lr>", "Supported: outbound", 439),
        ("Path: <sip:inner.example;lr;ob>, <sip:edge.example;lr>", "Supported: outbound", 439),
        ("Path: <sip:inner.example;lr>, <sip:edge.example;lr;ob>", "Supported: outbound", 200),
        ("Path: <sip:edge.example;lr>", "Supported: path", 200),
        ("Subject: no path at all", "Supported: outbound", 439),
    ] {
        let fake = Fake::new();
        let (got, _) = phone(1).register(&fake, &[edge, path, supported, &contact(1)]);
        assert_eq!(got, status, "{path}, {supported}");
        assert_eq!(fake.bindings(BOB).len(), usize::from(status == 200));
    }
}

#[test]
fn one_flow_of_a_device_rings_and_the_next_one_if_it_is_dead() {
    let fake = Fake::new();
    for connection in [1, 2, 3] {
        let reg_id = u32::try_from(connection).unwrap();
        phone(connection).register(&fake, &[&contact(reg_id)]);
        fake.0.borrow_mut().mono += 1;
    }
    fake.0.borrow_mut().responses.clear();
    let mut task = client("alice").invite(&fake, "bob");
    let connections = |fake: &Fake| -> Vec<u64> { fake.0.borrow().sent.iter().map(|(_, f, _)| f.connection).collect() };
    assert_eq!(connections(&fake), [3], "the freshest alone");
    task.respond(0, 430, &[]);
    assert_eq!(connections(&fake), [3, 2], "430 Flow Failed: the next one");
    let branch = task.branch(1);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(connections(&fake), [3, 2, 1]);
    task.respond(2, 486, &[]);
    assert_eq!(last(&fake).0, 486, "a device that answers is not tried again");
    assert!(!task.is_running());
    // What is known to be dead is not tried at all.
    let fake = Fake::new();
    for connection in [1, 2] {
        let reg_id = u32::try_from(connection).unwrap();
        phone(connection).register(&fake, &[&contact(reg_id)]);
        fake.0.borrow_mut().mono += 1;
    }
    fake.0.borrow_mut().stranded.insert(2);
    let _task = client("alice").invite(&fake, "bob");
    assert_eq!(connections(&fake), [1]);
}

#[test]
fn path_leads_back_in_its_order() {
    let fake = Fake::new();
    let mut edge = client("bob");
    edge.flow = udp("127.0.0.1:7300");
    // The phone's address is the edge's: only its port could tell them apart.
    let lines = ["Path: <sip:inner.example;lr>, <sip:edge.example;lr>", "Contact: <sip:bob@127.0.0.1:7301>"];
    let (status, reply) = edge.register(&fake, &lines);
    assert_eq!((status, contacts(&reply).len()), (200, 1));
    assert!(reply.supported("path"), "accepted without the client's Supported: path (RFC 3327 §5.3)");
    let _task = client("alice").invite(&fake, "bob");
    let (_, to, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(to, edge.flow, "to the proxy that it came through, not past it");
    let routes: Vec<&[u8]> = sent.routes().map(|route| route.uri).collect();
    assert_eq!(routes, [&b"sip:inner.example;lr"[..], b"sip:edge.example;lr"]);
    assert_eq!(sent.request_uri(), b"sip:bob@127.0.0.1:7301");
    let long =
        "Path: <sip:a;lr>, <sip:b;lr>, <sip:c;lr>, <sip:d;lr>, <sip:e;lr>, <sip:f;lr>, <sip:g;lr>, <sip:h;lr>, <sip:i>";
    assert_eq!(edge.register(&fake, &[long, "Contact: <sip:bob@127.0.0.1:7301>"]).0, 400);
}
