//! Inside dialogs, and what is changed in a message on its way: byte by byte.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::sip::{client, device, last, statuses};
use common::{Fake, Task, flow, peer_flow, udp};
use pairline_services::cx::TaskEvent;
use pairline_services::dispatch;
use pairline_services::settings::PoolNames;
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;
use pairline_sip::message::Message;

const BOB: &str = "sip:bob@pairline.test";

/// A call from alice to bob that is up; the route set that the devices learnt, caller's order.
fn call() -> (Fake, Vec<String>) {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = client("alice").invite(&fake, "bob");
    let routes =
        fake.0.borrow().sent[0].2.record_routes().map(|r| String::from_utf8(r.raw().to_vec()).unwrap()).collect();
    task.respond(0, 200, &[]);
    assert!(!task.is_running());
    fake.0.borrow_mut().responses.clear();
    fake.0.borrow_mut().sent.clear();
    (fake, routes)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8(bytes.to_vec()).unwrap().split("\r\n").map(str::to_owned).collect()
}

/// Lines only in the first, and lines only in the second.
fn difference(a: &[u8], b: &[u8]) -> (Vec<String>, Vec<String>) {
    let (a, b) = (lines(a), lines(b));
    let only = |x: &[String], y: &[String]| x.iter().filter(|l| !y.contains(l)).cloned().collect::<Vec<_>>();
    (only(&a, &b), only(&b, &a))
}

#[test]
fn bye_inside_the_dialog_passes_without_a_password_and_byte_exact() {
    let (fake, routes) = call();
    let phone = client("alice");
    let route = format!("Route: {}", routes[0]);
    let odd = ["x-Weird-HDR  :  a  b;;,,", "Subject: folded\r\n  line", &route];
    let request = phone.message("BYE", "sip:bob@127.0.0.1:7101", "<sip:bob@pairline.test>;tag=device0", &odd, "");
    let mut task = Task::start(&fake, request.clone(), phone.flow);
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop, udp("127.0.0.1:7101"));
    let (gone, new) = difference(request.as_bytes(), sent.as_bytes());
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone[0].starts_with("Via: ") && gone[1] == "Max-Forwards: 70" && gone[2].starts_with("Route: "));
    assert_eq!(new.len(), 3, "{new:?}");
    assert!(new[0].starts_with("Via: SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bKpld"));
    assert!(new[1].contains(";rport=7001") && new[1].contains(";received=127.0.0.1"));
    assert_eq!(new[2], "Max-Forwards: 69");
    task.respond(0, 200, &[]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![200], false));
}

#[test]
fn without_the_dialogs_mark_a_route_opens_nothing() {
    let (fake, routes) = call();
    let phone = client("mallory");
    let forged = routes[0].replace(";pl=", ";pl=0");
    for route in [&forged, "<sip:127.0.1.1;lr>", "<sip:pairline.test;lr>"] {
        let line = format!("Route: {route}");
        let request = phone.message("INVITE", "sip:victim@10.0.0.1", "<sip:victim@10.0.0.1>;tag=x", &[&line], "");
        assert!(!Task::start(&fake, request, phone.flow).is_running());
        assert_eq!(last(&fake).0, 407);
    }
    // The mark of one dialog is no key to another.
    let mut other = client("mallory");
    other.call_id = "another".into();
    let line = format!("Route: {}", routes[0]);
    let request = other.message("INVITE", "sip:victim@10.0.0.1", "<sip:victim@10.0.0.1>;tag=x", &[&line], "");
    assert!(!Task::start(&fake, request, other.flow).is_running());
    assert_eq!(last(&fake).0, 407);
    assert!(fake.0.borrow().sent.is_empty());
}

#[test]
fn a_call_goes_on_although_its_route_names_a_server_that_has_been_removed() {
    let (fake, routes) = call();
    let phone = client("alice");
    let bye = |route: &str, call_id: &str| {
        let line = format!("Route: {route}");
        let mut phone = client("alice");
        phone.call_id = call_id.into();
        phone.message("BYE", "sip:bob@127.0.0.1:7101", "<sip:bob@pairline.test>;tag=device0", &[&line], "")
    };
    let removed = routes[0].replace("127.0.1.1:5060", "127.0.1.9:5060");
    let mut task = Task::start(&fake, bye(&removed, &phone.call_id), phone.flow);
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.has(Name::Route)), (udp("127.0.0.1:7101"), false));
    task.respond(0, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    // A mark of another dialog opens nothing.
    assert!(!Task::start(&fake, bye(&removed, "another"), phone.flow).is_running());
    assert_eq!(last(&fake).0, 407);
    // The servers of a third pool are asked themselves.
    let address = "127.0.1.9:5060".parse().unwrap();
    fake.edit_view(|view| view.others = vec![PoolNames { addresses: vec![address], ..PoolNames::default() }]);
    fake.0.borrow_mut().sent.clear();
    let both = format!("{}, {removed}", routes[0]);
    let _task = Task::start(&fake, bye(&both, &phone.call_id), phone.flow);
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.has(Name::Route)), (udp("127.0.1.9:5060"), true));
}

#[test]
fn a_preloaded_route_of_an_authenticated_caller_is_refused() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &["Route: <sip:10.0.0.1;lr>"], "");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 403);
    assert!(fake.0.borrow().sent.is_empty());
}

#[test]
fn the_ack_of_a_2xx_follows_the_route_without_a_transaction() {
    let (fake, routes) = call();
    let phone = client("alice");
    let route = format!("Route: {}", routes[0]);
    let ack = phone.message("ACK", "sip:bob@127.0.0.1:7101", "<sip:bob@pairline.test>;tag=device0", &[&route], "");
    dispatch::stateless(fake.clone(), ack, phone.flow);
    let (hop, bytes) = fake.0.borrow().stateless[0].clone();
    assert_eq!(hop, udp("127.0.0.1:7101"));
    let sent = Message::parse(bytes).unwrap();
    assert_eq!((sent.vias().count(), sent.has(Name::Route)), (2, false));
    // Without the mark it is dropped.
    let ack = phone.message("ACK", "sip:x@10.0.0.1", "<sip:bob@pairline.test>;tag=device0", &[], "");
    dispatch::stateless(fake.clone(), ack, phone.flow);
    assert_eq!(fake.0.borrow().stateless.len(), 1);
}

/// A response to a request as a device sends it.
fn response_to(sent: &Message, status: u16) -> Message {
    Message::parse(pairline_sip::reply::Reply::to(sent, status).to_tag("device").build()).unwrap()
}

#[test]
fn a_repeated_2xx_without_task_goes_to_the_next_via_and_nothing_else_does() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let task = client("alice").invite(&fake, "bob");
    let invite = fake.0.borrow().sent[0].2.clone();
    drop(task);
    let edited = |from: &str, to: &str| {
        let text = String::from_utf8(response_to(&invite, 200).as_bytes().to_vec()).unwrap();
        assert!(text.contains(from), "{text}");
        Message::parse(Bytes::from(text.replace(from, to))).unwrap()
    };
    for stray in [
        response_to(&invite, 180),
        response_to(&invite, 486),
        edited("CSeq: 3 INVITE", "CSeq: 3 BYE"),
        // Whoever saw our branch cannot aim our answers anywhere else.
        edited("rport=7001", "rport=7002"),
        edited("received=127.0.0.1", "received=127.0.0.9"),
        edited("branch=z9hG4bKclient", "branch=z9hG4bKother"),
        edited("SIP/2.0/UDP 127.0.0.1:7001", "SIP/2.0/TCP 127.0.0.1:7001"),
        edited("branch=z9hG4bKpld", "branch=z9hG4bKpld.."),
    ] {
        dispatch::stateless(fake.clone(), stray, udp("127.0.0.1:7101"));
    }
    assert!(fake.0.borrow().stateless.is_empty());
    dispatch::stateless(fake.clone(), response_to(&invite, 200), udp("127.0.0.1:7101"));
    let (hop, bytes) = fake.0.borrow().stateless[0].clone();
    assert_eq!(hop, udp("127.0.0.1:7001"));
    assert_eq!(Message::parse(bytes).unwrap().vias().count(), 1);
}

#[test]
fn a_repeated_2xx_to_a_stream_takes_the_connection_of_its_request_and_no_new_one() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7001", 66);
    let task = phone.invite(&fake, "bob");
    let invite = fake.0.borrow().sent[0].2.clone();
    drop(task);
    dispatch::stateless(fake.clone(), response_to(&invite, 200), udp("127.0.0.1:7101"));
    assert_eq!(fake.0.borrow().stateless[0].0, phone.flow);
    let text = String::from_utf8(response_to(&invite, 200).as_bytes().to_vec()).unwrap();
    assert!(text.contains(".42."), "{text}");
    for connection in [".0.", ".43."] {
        let forged = Message::parse(Bytes::from(text.replace(".42.", connection))).unwrap();
        dispatch::stateless(fake.clone(), forged, udp("127.0.0.1:7101"));
    }
    // After a restart the number may be another client's.
    fake.edit_view(|view| view.own.boot = 2);
    dispatch::stateless(fake.clone(), response_to(&invite, 200), udp("127.0.0.1:7101"));
    assert_eq!(fake.0.borrow().stateless.len(), 1);
}

#[test]
fn record_route_is_doubled_where_the_transport_changes() {
    let fake = Fake::new();
    let mut phone = client("bob");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7201", 5);
    phone.register(&fake, &["Contact: <sip:bob@127.0.0.1:7201;transport=tcp>"]);
    fake.0.borrow_mut().responses.clear();
    let task = client("alice").invite(&fake, "bob");
    assert!(task.is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    let routes: Vec<String> = sent.record_routes().map(|r| String::from_utf8(r.uri.to_vec()).unwrap()).collect();
    assert_eq!(routes.len(), 2);
    assert!(routes[0].contains("@127.0.1.1:5060;transport=tcp;lr;pl="), "the callee's side on top");
    assert!(routes[1].starts_with("sip:127.0.1.1:5060;lr;pl="));
    // Coming back inside the dialog both go.
    let lines: Vec<String> = routes.iter().map(|r| format!("Route: <{r}>")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut bye = client("alice");
    bye.flow = phone.flow;
    let request = bye.message("BYE", "sip:alice@127.0.0.1:7001", "<sip:alice@pairline.test>;tag=ft", &lines, "");
    let task = Task::start(&fake, request, phone.flow);
    assert!(task.is_running());
    let (_, hop, sent) = fake.0.borrow().sent[1].clone();
    assert_eq!(hop, udp("127.0.0.1:7001"));
    assert!(!sent.has(Name::Route) && !sent.has(Name::RecordRoute));
}

/// A call between two phones; for each direction where an in-dialog request with what that phone learnt goes.
fn directions(
    caller: pairline_sip::Flow,
    caller_contact: &str,
    callee: pairline_sip::Flow,
    contact: &str,
) -> [String; 2] {
    let fake = Fake::new();
    let mut bob = client("bob");
    bob.flow = callee;
    assert_eq!(bob.register(&fake, &[&format!("Contact: {contact}")]).0, 200);
    fake.0.borrow_mut().responses.clear();
    let mut alice = client("alice");
    alice.flow = caller;
    let extra = format!("Contact: {caller_contact}");
    let mut task = alice.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[&extra], "");
    let invite = fake.0.borrow().sent[0].2.clone();
    task.respond(0, 200, &[]);
    let mut set: Vec<String> = invite.record_routes().map(|r| String::from_utf8(r.raw().to_vec()).unwrap()).collect();
    let target = |contact: &str| contact.split(['<', '>']).nth(1).unwrap().to_owned();
    let way = |from: &common::sip::Client, uri: &str, set: &[String]| {
        let lines: Vec<String> = set.iter().map(|route| format!("Route: {route}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let before = fake.0.borrow().sent.len();
        let mut from = from.clone();
        from.call_id = "call-alice".into();
        let request = from.message("BYE", uri, "<sip:x@pairline.test>;tag=device0", &lines, "");
        assert!(Task::start(&fake, request, from.flow).is_running());
        let ack = from.message("ACK", uri, "<sip:x@pairline.test>;tag=device0", &lines, "");
        dispatch::stateless(fake.clone(), ack, from.flow);
        let hop = fake.0.borrow().sent[before].1;
        assert_eq!(fake.0.borrow().stateless.last().unwrap().0, hop, "the ACK goes the same way");
        // In another dialog the same Route opens nothing.
        from.call_id = "stolen".into();
        let request = from.message("BYE", uri, "<sip:x@pairline.test>;tag=device0", &lines, "");
        assert!(!Task::start(&fake, request, from.flow).is_running());
        format!("{}#{}", hop.remote, hop.connection)
    };
    let to_caller = way(&bob, &target(caller_contact), &set);
    set.reverse();
    [way(&alice, &target(contact), &set), to_caller]
}

#[test]
fn inside_a_dialog_a_flow_is_used_where_the_contact_is_not_sure_to_listen() {
    let tcp = |remote, connection| flow(Transport::Tcp, remote, connection);
    // Both directly reachable, the port of the contact being another than the source's.
    let ways =
        directions(udp("127.0.0.1:7001"), "<sip:a@127.0.0.1:7009>", udp("127.0.0.1:7101"), "<sip:b@127.0.0.1:7108>");
    assert_eq!(ways, ["127.0.0.1:7108#0", "127.0.0.1:7009#0"]);
    // Both behind NATs.
    let ways = directions(udp("127.0.0.1:7001"), "<sip:a@10.0.0.1>", udp("127.0.0.1:7101"), "<sip:b@10.0.0.2>");
    assert_eq!(ways, ["127.0.0.1:7101#0", "127.0.0.1:7001#0"]);
    // Streams, and a mixture in each direction.
    let stream = "<sip:b@127.0.0.1:7101;transport=tcp>";
    let ways =
        directions(tcp("127.0.0.1:7001", 5), "<sip:a@127.0.0.1:9;transport=tcp>", tcp("127.0.0.1:7101", 6), stream);
    assert_eq!(ways, ["127.0.0.1:7101#6", "127.0.0.1:7001#5"]);
    let ways = directions(udp("127.0.0.1:7001"), "<sip:a@127.0.0.1:7001>", tcp("127.0.0.1:7101", 6), stream);
    assert_eq!(ways, ["127.0.0.1:7101#6", "127.0.0.1:7001#0"]);
    let ways = directions(udp("127.0.0.1:7001"), "<sip:a@10.0.0.1>", udp("127.0.0.1:7101"), "<sip:b@127.0.0.1:7101>");
    assert_eq!(ways, ["127.0.0.1:7101#0", "127.0.0.1:7001#0"]);
    // Two users of one connection call each other: it is the only way to both.
    let one = flow(Transport::Tls, "127.0.0.1:7001", 5);
    let ways = directions(one, "<sip:a@127.0.0.1:7001;transport=tls>", one, "<sip:b@127.0.0.1:7001;transport=tls>");
    assert_eq!(ways, ["127.0.0.1:7001#5", "127.0.0.1:7001#5"]);
    // A client that keeps its flow is called back on it, whatever port its contact names.
    let kept = "<sip:b@127.0.0.1:7199;ob>;reg-id=1;+sip.instance=\"<urn:uuid:1>\"";
    let ways = directions(udp("127.0.0.1:7001"), "<sip:a@127.0.0.1:7009;ob>", udp("127.0.0.1:7101"), kept);
    assert_eq!(ways, ["127.0.0.1:7101#0", "127.0.0.1:7001#0"]);
}

#[test]
fn inside_a_dialog_a_flow_that_is_gone_gives_way_to_the_contact() {
    let fake = Fake::new();
    let mut bob = client("bob");
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7201", 5);
    bob.register(&fake, &["Contact: <sip:bob@127.0.0.1:7299;transport=tcp>"]);
    let mut alice = client("alice");
    let mut task = alice.invite(&fake, "bob");
    task.respond(0, 200, &[]);
    let mut lines: Vec<String> = fake.0.borrow().sent[0]
        .2
        .record_routes()
        .map(|r| format!("Route: {}", String::from_utf8(r.raw().to_vec()).unwrap()))
        .collect();
    lines.reverse();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    fake.0.borrow_mut().stranded.insert(5);
    let uri = "sip:bob@127.0.0.1:7299;transport=tcp";
    let request = alice.message("BYE", uri, "<sip:bob@pairline.test>;tag=device0", &lines, "");
    assert!(Task::start(&fake, request, alice.flow).is_running());
    assert_eq!(fake.0.borrow().sent[1].1, flow(Transport::Tcp, "127.0.0.1:7299", 0));
}

#[test]
fn a_route_of_the_partner_leads_over_the_link_and_counts_as_ours_without_it() {
    let (fake, routes) = call();
    let phone = client("alice");
    let theirs = routes[0].replace("127.0.1.1", "127.0.2.1");
    let lines = [format!("Route: {}", routes[0]), format!("Route: {theirs}")];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let request = phone.message("BYE", "sip:bob@127.0.0.1:7101", "<sip:bob@pairline.test>;tag=device0", &lines, "");
    assert!(Task::start(&fake, request.clone(), phone.flow).is_running());
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop, peer_flow());
    assert_eq!(sent.routes().count(), 1);
    fake.0.borrow_mut().peer_up = false;
    assert!(Task::start(&fake, request, phone.flow).is_running());
    let (_, hop, sent) = fake.0.borrow().sent[1].clone();
    assert_eq!(hop, udp("127.0.0.1:7101"));
    assert!(!sent.has(Name::Route));
}

#[test]
fn a_next_hop_by_name_is_located_and_its_addresses_tried_in_turn() {
    let (fake, routes) = call();
    let phone = client("alice");
    let targets = vec![udp("10.0.0.1:5060"), udp("10.0.0.2:5060")];
    fake.0.borrow_mut().names.insert(b"sip:bob@phone.example".to_vec(), targets);
    let route = format!("Route: {}", routes[0]);
    let request = |uri: &str| phone.message("INFO", uri, "<sip:bob@pairline.test>;tag=device0", &[&route], "");
    let mut task = Task::start(&fake, request("sip:bob@phone.example"), phone.flow);
    assert_eq!(fake.0.borrow().sent[0].1.remote, udp("10.0.0.1:5060").remote);
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(fake.0.borrow().sent[1].1.remote, udp("10.0.0.2:5060").remote);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    assert!(!Task::start(&fake, request("sip:bob@unknown.example"), phone.flow).is_running());
    assert_eq!(last(&fake).0, 480);
}

#[test]
fn an_invite_changes_only_what_a_proxy_may_change() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    let odd = [
        "Contact: <sip:alice@127.0.0.1:7001;foo=%41>;q=0.50",
        "k: timer,  replaces",
        "X-Caf\u{e9}: \u{e9}",
        "P-Asserted-Identity: <sip:boss@pairline.test>",
        "P-Preferred-Identity: <sip:alice@pairline.test>",
    ];
    let body = "v=0\r\nno newline at the end";
    let task = phone.request(&fake, "INVITE", "sip:b%6fb@pairline.test", "<sip:b%6fb@pairline.test>", &odd[..2], body);
    assert!(task.is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    assert_eq!(sent.request_uri(), b"sip:bob@127.0.0.1:7101");
    assert_eq!(sent.body(), body.as_bytes());
    let text = String::from_utf8(sent.as_bytes().to_vec()).unwrap();
    assert!(text.contains("\r\nk: timer,  replaces\r\n"));
    assert!(text.contains("\r\nTo: <sip:b%6fb@pairline.test>\r\n"));
    assert!(text.contains("<sip:alice@127.0.0.1:7001;foo=%41>;q=0.50"));
    drop(task);
    let task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[odd[0], odd[3], odd[4]], body);
    assert!(task.is_running());
    let sent = fake.0.borrow().sent[1].2.clone();
    let asserted: Vec<&[u8]> = sent.headers(Name::PAssertedIdentity).collect();
    assert_eq!(asserted, [b"<sip:alice@pairline.test>"], "what the caller claims is replaced by what it proved");
    assert!(!sent.has(Name::PPreferredIdentity));
}
