//! From server to server of a name (RFC 3263 §4.3), what rests (RFC 3261 §21.5.4), and the transport that a contact asks for.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device, last, statuses};
use common::{Fake, Task, WEST, flow, udp};
use pairline_group::ServerId;
use pairline_services::binding::{Binding, FlowRef};
use pairline_services::cx::TaskEvent;
use pairline_services::settings::Listener;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::target::Rest;

const ROUTE: &str = "sip:edge.example;lr";
const SERVERS: [&str; 3] = ["10.0.0.1:5060", "10.0.0.2:5060", "10.0.0.3:5060"];

/// Bob behind a proxy whose name leads to so many servers.
fn behind(servers: usize) -> Fake {
    let fake = Fake::new();
    let mut phone = client("bob");
    phone.flow = flow(Transport::Tcp, "10.0.0.9:5060", 42);
    let path = format!("Path: <{ROUTE}>");
    assert_eq!(phone.register(&fake, &[&path, "Contact: <sip:bob@192.168.0.9>"]).0, 200);
    let mut world = fake.0.borrow_mut();
    world.stranded.insert(42);
    world.names.insert(ROUTE.as_bytes().to_vec(), SERVERS[..servers].iter().map(|at| udp(at)).collect());
    world.responses.clear();
    drop(world);
    fake
}

fn message(fake: &Fake, call_id: &str) -> Task {
    let mut alice = client("alice");
    alice.call_id = call_id.to_owned();
    let body = ["Content-Type: text/plain"];
    alice.request(fake, "MESSAGE", "sip:bob@pairline.test", "<sip:bob@pairline.test>", &body, "hi")
}

fn invite(fake: &Fake, call_id: &str) -> Task {
    let mut alice = client("alice");
    alice.call_id = call_id.to_owned();
    alice.invite(fake, "bob")
}

/// Where was sent to, in order.
fn hops(fake: &Fake) -> Vec<String> {
    fake.0.borrow().sent.iter().map(|(_, flow, _)| flow.remote.to_string()).collect()
}

#[test]
fn the_next_server_is_tried_after_a_failure_a_503_and_silence_with_a_fresh_branch() {
    let fake = behind(3);
    let mut task = invite(&fake, "c1");
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    task.respond(1, 503, &[]);
    assert_eq!(hops(&fake), SERVERS);
    let branches: std::collections::BTreeSet<Vec<u8>> =
        fake.0.borrow().sent.iter().map(|(_, _, sent)| sent.via().branch().unwrap().to_vec()).collect();
    assert_eq!(branches.len(), 3, "each is a transaction of its own");
    for (_, _, sent) in &fake.0.borrow().sent {
        assert_eq!(
            (sent.request_uri(), sent.routes().next().unwrap().uri),
            (&b"sip:bob@192.168.0.9"[..], ROUTE.as_bytes())
        );
    }
    task.respond(2, 200, &[]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![200], false));
}

#[test]
fn a_silent_server_has_seconds_and_the_last_one_the_whole_time() {
    for (is_invite, patience) in [(true, 4_000), (false, 8_000)] {
        let fake = behind(2);
        let mut task = if is_invite { invite(&fake, "c1") } else { message(&fake, "c1") };
        task.advance(patience - 1);
        assert_eq!(hops(&fake).len(), 1);
        task.advance(1);
        assert_eq!(hops(&fake), SERVERS[..2]);
        let cancelled = fake.0.borrow().cancelled.clone();
        assert_eq!(cancelled == [task.branch(0)], is_invite, "it must not ring late: {cancelled:?}");
        let left = fake.0.borrow().deadline.map(|at| at - fake.0.borrow().mono);
        let timer_c = fake.0.borrow().view.proxy.timer_c_ms;
        assert_eq!(left, is_invite.then_some(timer_c), "nobody is waiting behind the last one");
        // The first one answers after all: its answer counts as any.
        task.respond(0, 200, &[]);
        assert_eq!(statuses(&fake), [200]);
    }
}

#[test]
fn a_100_gives_a_server_its_whole_time() {
    let fake = behind(2);
    let mut task = invite(&fake, "c1");
    task.respond(0, 100, &[]);
    task.advance(60_000);
    assert_eq!(hops(&fake).len(), 1);
    let fake = behind(2);
    let mut task = message(&fake, "c1");
    task.respond(0, 100, &[]);
    assert_eq!(fake.0.borrow().deadline, None);
    let branch = task.branch(0);
    task.deliver(TaskEvent::Timeout(branch));
    assert_eq!(fake.0.borrow().resting.len(), 0, "it was not silent");
}

#[test]
fn a_server_that_rang_is_not_left_for_another() {
    let fake = behind(2);
    let mut task = invite(&fake, "c1");
    task.respond(0, 180, &[]);
    task.respond(0, 503, &[]);
    assert_eq!((hops(&fake).len(), statuses(&fake)), (1, vec![180, 500]));
}

#[test]
fn who_asked_to_be_left_alone_is_not_tried_before() {
    let fake = behind(2);
    let mut task = message(&fake, "c1");
    task.respond(0, 503, &[("Retry-After", "20 (busy)")]);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    message(&fake, "c2").respond(2, 200, &[]);
    assert_eq!(hops(&fake)[2], SERVERS[1], "straight to the second");
    // It asks, too: nobody is left, and nothing is sent.
    message(&fake, "c3").respond(3, 503, &[("Retry-After", "10")]);
    assert_eq!(last(&fake).0, 500);
    assert!(!message(&fake, "c4").is_running());
    assert_eq!((last(&fake).0, hops(&fake).len()), (500, 4));
    fake.0.borrow_mut().mono += 10_000;
    assert!(message(&fake, "c5").is_running());
    assert_eq!(hops(&fake)[4], SERVERS[1]);
    fake.0.borrow_mut().mono += 10_000;
    assert!(message(&fake, "c6").is_running());
    assert_eq!(hops(&fake)[5], SERVERS[0], "its time is over");
    let without = behind(2);
    message(&without, "c1").respond(0, 503, &[]);
    assert_eq!(without.0.borrow().resting.len(), 0, "a 503 without Retry-After asks for nothing");
}

#[test]
fn a_device_that_says_503_is_no_server_that_rests() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = invite(&fake, "c1");
    task.respond(0, 503, &[("Retry-After", "20")]);
    assert_eq!((last(&fake).0, fake.0.borrow().resting.len()), (500, 0));
}

#[test]
fn who_was_silent_comes_last_for_a_while() {
    let fake = behind(3);
    let mut task = message(&fake, "c1");
    task.advance(8_000);
    let branch = task.branch(1);
    task.deliver(TaskEvent::TransportError(branch));
    task.respond(2, 200, &[]);
    let mut task = message(&fake, "c2");
    assert_eq!(hops(&fake)[3], SERVERS[2]);
    let branch = task.branch(3);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(hops(&fake)[4], SERVERS[0], "last, but not never");
    fake.0.borrow_mut().mono += 40_000;
    assert!(message(&fake, "c3").is_running());
    assert_eq!(hops(&fake)[5], SERVERS[0]);
}

/// A redirection (by policy) leads from server to server as every other way does; where all of them rest, the caller gets it.
#[test]
fn a_redirection_to_servers_that_rest_goes_to_the_caller() {
    for (resting, expected) in [(0, &SERVERS[..1]), (1, &SERVERS[1..2]), (2, &[])] {
        let fake = behind(2);
        fake.edit_view(|view| view.proxy.follow_redirects = true);
        device(&fake, "dave", "127.0.0.1:7301", "");
        for server in &SERVERS[..resting] {
            pairline_services::cx::Cx::rest(&fake, udp(server), Rest::Asked, 60_000);
        }
        let mut task = client("alice").invite(&fake, "dave");
        task.respond(0, 302, &[("Contact", "<sip:bob@pairline.test>")]);
        assert_eq!(hops(&fake)[1..], *expected);
        assert_eq!(statuses(&fake), if expected.is_empty() { vec![302] } else { vec![] });
        assert_eq!(task.is_running(), !expected.is_empty());
    }
}

/// With a history and one branch at a time, the next server gets the breadth of the one that failed and is told about it.
#[test]
fn the_next_server_is_told_of_the_one_that_failed() {
    let fake = behind(2);
    let mut alice = client("alice");
    let lines = ["Contact: <sip:alice@127.0.0.1:7001>", "Supported: histinfo", "Max-Breadth: 1"];
    let bob = "sip:bob@pairline.test";
    let mut task = alice.request(&fake, "INVITE", bob, "<sip:bob@pairline.test>", &lines, "");
    task.advance(4_000);
    assert_eq!(hops(&fake), SERVERS[..2]);
    assert_eq!(fake.0.borrow().reasons, [None], "nobody has given a reason");
    let sent = fake.0.borrow().sent[1].2.clone();
    let text = |name: Name| String::from_utf8_lossy(sent.header(name).unwrap()).into_owned();
    assert_eq!(text(Name::MaxBreadth), "1");
    let failed = "<sip:bob@192.168.0.9?Reason=SIP%3Bcause%3D408>;index=1.1;rc=1";
    let expected = format!("<{bob}>;index=1, {failed}, <sip:bob@192.168.0.9>;index=1.2;rc=1");
    assert_eq!(text(Name::HistoryInfo), expected);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
}

/// A BYE must reach the one server that knows the call, whatever that has asked for.
#[test]
fn inside_a_dialog_nobody_is_passed_over() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = invite(&fake, "c1");
    let route = {
        let world = fake.0.borrow();
        let route = world.sent[0].2.record_routes().next().unwrap();
        format!("Route: {}", String::from_utf8_lossy(route.raw()))
    };
    task.respond(0, 200, &[]);
    let target: Flow = udp("10.0.0.7:5060");
    pairline_services::cx::Cx::rest(&fake, target, Rest::Asked, 60_000);
    let mut alice = client("alice");
    alice.call_id = "c1".to_owned();
    let bye = alice.message("BYE", "sip:bob@10.0.0.7", "<sip:bob@pairline.test>;tag=device0", &[&route], "");
    assert!(Task::start(&fake, bye, alice.flow).is_running());
    assert_eq!(hops(&fake).last().unwrap(), "10.0.0.7:5060");
}

/// Bob's phone at 127.0.0.1:7101, registered by datagram with that contact; where a call to it goes, in the order of trying.
fn ways(contact: &str, listeners: &[Transport]) -> Vec<(Transport, String)> {
    let fake = Fake::new();
    fake.edit_view(|view| {
        view.listeners.retain(|listener| listeners.contains(&listener.transport));
        if listeners.contains(&Transport::Tls) {
            let tls = Listener { id: 5, transport: Transport::Tls, ..view.listeners[0].clone() };
            view.listeners.push(tls);
        }
    });
    let mut phone = client("bob");
    phone.flow = udp("127.0.0.1:7101");
    let line = format!("Contact: {contact}");
    assert_eq!(phone.register(&fake, &[&line]).0, 200);
    let mut task = invite(&fake, "c1");
    let mut at = 0;
    while fake.0.borrow().sent.len() > at {
        let branch = task.branch(at);
        task.deliver(TaskEvent::TransportError(branch));
        at += 1;
    }
    let world = fake.0.borrow();
    assert!(world.sent.iter().all(|(_, flow, _)| world.view.listener(flow.listener, flow.transport).is_some()));
    world.sent.iter().map(|(_, flow, _)| (flow.transport, flow.remote.to_string())).collect()
}

#[test]
fn a_contact_is_reached_by_the_transport_that_it_names() {
    use Transport::{Tcp, Tls, Udp};
    let at = |transport, remote: &str| (transport, remote.to_owned());
    let all = [Udp, Tcp, Tls];
    for (contact, listeners, expected) in [
        ("<sip:bob@127.0.0.1:7105>", &all[..], vec![at(Udp, "127.0.0.1:7105")]),
        ("<sip:bob@127.0.0.1:7105;transport=udp>", &all, vec![at(Udp, "127.0.0.1:7105")]),
        // Its own port by the stream; if nobody listens there, the datagram that has always worked.
        ("<sip:bob@127.0.0.1:7105;transport=TCP>", &all, vec![at(Tcp, "127.0.0.1:7105"), at(Udp, "127.0.0.1:7105")]),
        ("<sip:bob@127.0.0.1;transport=tcp>", &all, vec![at(Tcp, "127.0.0.1:5060"), at(Udp, "127.0.0.1:5060")]),
        // Secrecy is not given up for reaching it.
        ("<sip:bob@127.0.0.1:7105;transport=tls>", &all, vec![at(Tls, "127.0.0.1:7105")]),
        // A client that keeps its flow is reached on it, and behind a NAT nobody connects.
        ("<sip:bob@127.0.0.1:7105;transport=tcp;ob>", &all, vec![at(Udp, "127.0.0.1:7101")]),
        ("<sip:bob@192.168.1.5:7105;transport=tcp>", &all, vec![at(Udp, "127.0.0.1:7101")]),
        ("<sip:bob@127.0.0.1:7105;transport=tcp>", &[Udp], vec![at(Udp, "127.0.0.1:7105")]),
    ] {
        assert_eq!(ways(contact, listeners), expected, "{contact}");
    }
}

/// The owner of the datagram's flow in the other pool connects, as this server would.
#[test]
fn a_stream_to_a_contact_is_also_opened_by_the_other_pool() {
    let fake = Fake::new();
    let mut guest: Binding = {
        device(&fake, "bob", "127.0.0.1:7101", "");
        fake.bindings("sip:bob@pairline.test").remove(0)
    };
    guest.contact = (*b"sip:carol@127.0.0.1:7105;transport=tcp").into();
    guest.flow = FlowRef { pool: WEST, server: ServerId(21), boot: 1, flow: udp("127.0.0.1:7101") };
    let dave = "sip:dave@pairline.test";
    fake.0.borrow_mut().guests.insert(dave.into(), vec![guest]);
    assert!(client("alice").invite(&fake, "dave").is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    let west = Fake::new();
    west.edit_view(|view| {
        view.own.addresses = vec!["127.0.2.1:5060".parse().unwrap()];
        view.partner = None;
        for listener in &mut view.listeners {
            listener.id += 10;
        }
    });
    west.0.borrow_mut().own_pool = WEST;
    assert!(Task::start(&west, sent, common::peer_flow()).is_running());
    let flow = west.0.borrow().sent[0].1;
    assert_eq!((flow.transport, flow.remote.to_string().as_str()), (Transport::Tcp, "127.0.0.1:7105"));
    assert_eq!((flow.listener, flow.connection), (12, 0), "by a listener of its own");
}
