//! Forking, answers, CANCEL, holds and hops between pools (RFC 3261 §16, DESIGN §8).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device, last, statuses};
use common::{EAST, Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_group::{Class, ServerId};
use pairline_services::binding::{Binding, FlowRef};
use pairline_services::cx::{Peer, Place, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_services::records::{Settings, settings_key};
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;

const BOB: &str = "sip:bob@pairline.test";

/// Two devices of bob, and alice calling; both legs are out.
fn two_devices() -> (Fake, Task) {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    device(&fake, "bob", "127.0.0.1:7102", "");
    let task = client("alice").invite(&fake, "bob");
    assert_eq!(fake.0.borrow().sent.len(), 2);
    (fake, task)
}

#[test]
fn an_invite_is_forked_to_all_devices_and_the_first_2xx_wins() {
    let (fake, mut task) = two_devices();
    let targets: Vec<String> = {
        let world = fake.0.borrow();
        world
            .sent
            .iter()
            .map(|(_, f, m)| format!("{} {}", f.remote, String::from_utf8_lossy(m.request_uri())))
            .collect()
    };
    assert!(targets.contains(&"127.0.0.1:7101 sip:bob@127.0.0.1:7101".to_owned()));
    assert!(targets.contains(&"127.0.0.1:7102 sip:bob@127.0.0.1:7102".to_owned()));
    task.respond(0, 180, &[]);
    task.respond(1, 180, &[]);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [180, 180, 200]);
    assert_eq!(fake.0.borrow().cancelled, [task.branch(0)]);
    assert!(task.is_running(), "the other leg is still open");
    task.respond(0, 487, &[]);
    assert!(!task.is_running());
    assert_eq!(statuses(&fake), [180, 180, 200]);
}

#[test]
fn a_late_2xx_goes_back_too() {
    let (fake, mut task) = two_devices();
    task.respond(0, 200, &[]);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200, 200]);
    assert!(!task.is_running());
    let tags: Vec<Vec<u8>> =
        fake.0.borrow().responses.iter().filter(|r| r.0 == 200).map(|r| r.1.to().tag().unwrap().to_vec()).collect();
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn the_best_of_several_refusals_goes_back() {
    // (answers of the two devices, what the caller gets); 0 = timeout, 1 = broken flow
    let table = [
        (486, 404, 486),
        (404, 486, 404),
        (486, 302, 302),
        (500, 486, 486),
        (503, 486, 486),
        (503, 503, 500),
        (482, 486, 486),
        (482, 500, 500),
        (482, 482, 482),
        (486, 603, 603),
        (603, 486, 603),
        (404, 407, 407),
        (480, 0, 480),
        (0, 0, 408),
        (486, 1, 486),
        (482, 0, 408),
    ];
    for (first, second, expected) in table {
        let (fake, mut task) = two_devices();
        for (index, status) in [(0, first), (1, second)] {
            let branch = task.branch(index);
            match status {
                0 => task.deliver(TaskEvent::Timeout(branch)),
                1 => task.deliver(TaskEvent::TransportError(branch)),
                _ => task.respond(index, status, &[]),
            }
        }
        assert_eq!(statuses(&fake), [expected], "{first} and {second}");
        assert!(!task.is_running());
    }
}

#[test]
fn a_482_from_a_second_copy_never_ends_a_ringing_call() {
    let (fake, mut task) = two_devices();
    task.respond(0, 180, &[]);
    task.respond(1, 482, &[]);
    assert_eq!(statuses(&fake), [180]);
    assert!(fake.0.borrow().cancelled.is_empty());
    task.respond(0, 200, &[]);
    assert_eq!(statuses(&fake), [180, 200]);
}

#[test]
fn a_6xx_cancels_the_rest_and_is_returned_once_they_end() {
    let (fake, mut task) = two_devices();
    task.respond(0, 603, &[]);
    assert_eq!(statuses(&fake), [0_u16; 0]);
    assert_eq!(fake.0.borrow().cancelled, [task.branch(1)]);
    task.respond(1, 487, &[]);
    assert_eq!(statuses(&fake), [603]);
}

#[test]
fn challenges_of_all_legs_go_back_together() {
    let (fake, mut task) = two_devices();
    task.respond(0, 407, &[("Proxy-Authenticate", "Digest realm=\"a\", nonce=\"1\"")]);
    task.respond(1, 401, &[("WWW-Authenticate", "Digest realm=\"b\", nonce=\"2\"")]);
    let (status, reply) = last(&fake);
    assert_eq!(status, 407);
    assert!(reply.has(Name::ProxyAuthenticate) && reply.has(Name::WwwAuthenticate));
}

#[test]
fn cancel_reaches_every_leg_and_the_caller_gets_487() {
    let (fake, mut task) = two_devices();
    task.respond(0, 180, &[]);
    task.deliver(TaskEvent::Cancelled(None));
    assert_eq!(fake.0.borrow().cancelled.len(), 2);
    task.respond(0, 487, &[]);
    task.respond(1, 486, &[]);
    assert_eq!(statuses(&fake), [180, 487]);
    assert!(!task.is_running());
    // A device that never answers a CANCEL does not keep the caller for ever.
    let (fake, mut task) = two_devices();
    task.deliver(TaskEvent::Cancelled(None));
    task.advance(32_000);
    assert_eq!(statuses(&fake), [487]);
    assert!(!task.is_running());
}

#[test]
fn timer_c_cancels_a_leg_that_only_rings() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = client("alice").invite(&fake, "bob");
    task.respond(0, 180, &[]);
    task.advance(100_000);
    task.respond(0, 180, &[]);
    task.advance(184_999);
    assert!(fake.0.borrow().cancelled.is_empty(), "a provisional response starts Timer C anew");
    task.advance(1);
    assert_eq!(fake.0.borrow().cancelled.len(), 1);
    task.respond(0, 487, &[]);
    assert_eq!(statuses(&fake), [180, 180, 487]);
}

#[test]
fn lower_q_is_tried_after_higher_q_failed() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", ";q=0.9");
    device(&fake, "bob", "127.0.0.1:7102", ";q=0.1");
    let mut task = client("alice").invite(&fake, "bob");
    assert_eq!(fake.0.borrow().sent.len(), 1);
    assert_eq!(fake.0.borrow().sent[0].1.remote, udp("127.0.0.1:7101").remote);
    task.respond(0, 480, &[]);
    assert_eq!(fake.0.borrow().sent.len(), 2);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
}

#[test]
fn two_registrations_of_one_instance_ring_once_and_back_each_other() {
    let fake = Fake::new();
    let instance = ";reg-id=REG;+sip.instance=\"<urn:uuid:9>\"";
    device(&fake, "bob", "127.0.0.1:7101", &instance.replace("REG", "1"));
    fake.0.borrow_mut().mono += 1_000;
    device(&fake, "bob", "127.0.0.1:7102", &instance.replace("REG", "2"));
    let mut task = client("alice").invite(&fake, "bob");
    assert_eq!(fake.0.borrow().sent.len(), 1);
    assert_eq!(fake.0.borrow().sent[0].1.remote.port(), 7102, "the freshest first");
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(fake.0.borrow().sent[1].1.remote.port(), 7101);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
}

#[test]
fn who_is_not_there_is_told_apart() {
    let fake = Fake::new();
    let (caller, cases) = ("alice", [("bob", 480), ("nobody", 404)]);
    for (callee, expected) in cases {
        assert!(!client(caller).invite(&fake, callee).is_running());
        assert_eq!(last(&fake).0, expected, "{callee}");
    }
    let mut phone = client("alice");
    let task = phone.request(&fake, "INVITE", "sip:x@elsewhere.example", "<sip:x@elsewhere.example>", &[], "");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 403);
}

#[test]
fn messages_are_accepted_only_by_devices() {
    let fake = Fake::new();
    let send = |fake: &Fake| {
        client("alice").request(fake, "MESSAGE", BOB, "<sip:bob@pairline.test>", &["Content-Type: text/plain"], "hello")
    };
    assert!(!send(&fake).is_running());
    assert_eq!(last(&fake).0, 480);
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = send(&fake);
    assert!(task.is_running());
    assert!(statuses(&fake).is_empty(), "no answer before the device's");
    task.respond(0, 202, &[]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![202], false));
    assert_eq!(fake.count_of(Counter::MessageRelayed), 1);
    let mut phone = client("alice");
    let big = "x".repeat(33 * 1024);
    let task = phone.request(&fake, "MESSAGE", BOB, "<sip:bob@pairline.test>", &["Content-Type: text/plain"], &big);
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 413);
}

/// Bob at a stream that is closed.
fn stranded_bob() -> Fake {
    let fake = Fake::new();
    let mut phone = client("bob");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7201", 42);
    assert_eq!(phone.register(&fake, &["Contact: <sip:bob@127.0.0.1:7201;transport=tcp>"]).0, 200);
    fake.0.borrow_mut().stranded.insert(42);
    fake.0.borrow_mut().responses.clear();
    fake
}

#[test]
fn an_invite_to_a_stranded_user_is_held_and_delivered_when_a_binding_appears() {
    let fake = stranded_bob();
    let mut task = client("alice").invite(&fake, "bob");
    assert!(task.is_running());
    assert!(fake.0.borrow().watched.contains(BOB));
    assert_eq!(last(&fake).0, 100);
    task.advance(3_000);
    let mut phone = client("bob");
    phone.call_id = "again".into();
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7202", 43);
    assert_eq!(phone.register(&fake, &["Contact: <sip:bob@127.0.0.1:7202;transport=tcp>"]).0, 200);
    fake.0.borrow_mut().responses.clear();
    task.deliver(TaskEvent::BindingsChanged);
    assert_eq!(fake.0.borrow().sent[0].1.connection, 43);
    task.deliver(TaskEvent::BindingsChanged);
    assert_eq!(fake.0.borrow().sent.len(), 1, "a binding is tried once");
    task.advance(6_000);
    task.respond(0, 200, &[]);
    assert_eq!((statuses(&fake), task.is_running()), (vec![200], false));
    assert_eq!(fake.count_of(Counter::ProxyHeld), 1);
}

#[test]
fn a_hold_ends_with_480_and_retry_after_or_with_the_callers_cancel() {
    let fake = stranded_bob();
    let mut task = client("alice").invite(&fake, "bob");
    task.advance(7_999);
    assert!(task.is_running());
    task.advance(1);
    let (status, reply) = last(&fake);
    assert_eq!((status, task.is_running()), (480, false));
    assert!(reply.has(Name::RetryAfter));

    let fake = stranded_bob();
    let mut task = client("alice").invite(&fake, "bob");
    task.deliver(TaskEvent::Cancelled(None));
    assert_eq!((last(&fake).0, task.is_running()), (487, false));

    // Anything but INVITE is not held.
    let fake = stranded_bob();
    let task =
        client("alice").request(&fake, "MESSAGE", BOB, "<sip:bob@pairline.test>", &["Content-Type: text/plain"], "x");
    assert_eq!((last(&fake).0, task.is_running()), (480, false));
}

#[test]
fn a_flow_that_breaks_while_sending_is_a_stranded_binding() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = client("alice").invite(&fake, "bob");
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert!(task.is_running(), "held");
    device(&fake, "bob", "127.0.0.1:7102", "");
    task.deliver(TaskEvent::BindingsChanged);
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    assert_eq!(fake.count_of(Counter::ProxyHeldDelivered), 1);
}

#[test]
fn a_binding_that_came_before_the_old_flow_broke_is_found_when_the_hold_begins() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut task = client("alice").invite(&fake, "bob");
    // The phone registers anew first; only then its old connection's error arrives.
    device(&fake, "bob", "127.0.0.1:7102", "");
    task.deliver(TaskEvent::BindingsChanged);
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(fake.0.borrow().sent[1].1, udp("127.0.0.1:7102"));
    task.respond(1, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
}

#[test]
fn a_way_that_opens_unnoticed_is_found_by_the_last_look_of_a_hold() {
    let fake = stranded_bob();
    let mut task = client("alice").invite(&fake, "bob");
    fake.0.borrow_mut().stranded.clear();
    task.advance(8_000);
    assert_eq!(fake.0.borrow().sent[0].1.connection, 42);
    task.respond(0, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
}

/// A call for Bob that was held and has gone to the other pool, on connection 77.
fn held_then_served_elsewhere() -> (Fake, Task) {
    let fake = stranded_bob();
    let bob = aor(BOB);
    let mut task = client("alice").invite(&fake, "bob");
    fake.set_place(&bob, Place::Elsewhere { group: Some(group_of(EAST, &bob)), at: Peer::Pool(WEST) });
    task.deliver(TaskEvent::BindingsChanged);
    (fake, task)
}

#[test]
fn a_held_call_that_has_rung_goes_to_no_other_server_that_was_found_before() {
    let (fake, mut task) = held_then_served_elsewhere();
    assert_eq!(fake.0.borrow().sent[0].1.connection, 77);
    fake.0.borrow_mut().peer_connection = 78;
    task.deliver(TaskEvent::BindingsChanged);
    task.respond(0, 180, &[]);
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    task.advance(8_000);
    assert_eq!((fake.0.borrow().sent.len(), task.is_running()), (1, false), "the same devices would ring once more");
}

#[test]
fn nor_does_it_as_the_next_way_to_a_device_that_cannot_be_reached() {
    let (fake, mut task) = held_then_served_elsewhere();
    let bob = aor(BOB);
    fake.set_place(&bob, Place::Resiliency { group: group_of(EAST, &bob) });
    fake.0.borrow_mut().stranded.clear();
    fake.0.borrow_mut().peer_connection = 78;
    task.deliver(TaskEvent::BindingsChanged);
    task.respond(0, 180, &[]);
    for n in 0..2 {
        let branch = task.branch(n);
        task.deliver(TaskEvent::TransportError(branch));
    }
    task.advance(8_000);
    let connections: Vec<u64> = fake.0.borrow().sent.iter().map(|sent| sent.1.connection).collect();
    assert!(connections.len() == 2 && connections[0] == 77 && connections[1] != 78, "{connections:?}");
    assert!(!task.is_running());
}

#[test]
fn when_the_other_pool_is_lost_in_mid_call_its_user_is_tried_directly() {
    let fake = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    let mut task = client("alice").invite(&fake, "carol");
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow());
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    let mut direct = carol_at_west();
    direct.flow.pool = EAST;
    fake.0.borrow_mut().guests.insert(carol.as_str().into(), vec![direct]);
    let branch = task.branch(0);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(fake.0.borrow().sent[1].1.remote.port(), 7401);
}

#[test]
fn only_credentials_of_our_realm_are_consumed() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    let theirs =
        "Proxy-Authorization: Digest username=\"a\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:x\", response=\"0\"";
    let task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[theirs], "");
    assert!(task.is_running());
    let sent = fake.0.borrow().sent[0].2.clone();
    let left: Vec<&[u8]> = sent.headers(Name::ProxyAuthorization).collect();
    assert_eq!(left, [&theirs.as_bytes()["Proxy-Authorization: ".len()..]]);
}

#[test]
fn a_100_of_the_next_hop_is_no_ringing_device() {
    let fake = Fake::new();
    let instance = ";reg-id=REG;+sip.instance=\"<urn:uuid:9>\"";
    device(&fake, "bob", "127.0.0.1:7101", &instance.replace("REG", "1"));
    fake.0.borrow_mut().mono += 1_000;
    device(&fake, "bob", "127.0.0.1:7102", &instance.replace("REG", "2"));
    for (provisional, legs) in [(100, 2), (180, 1)] {
        let mut task = client("alice").invite(&fake, "bob");
        task.respond(0, provisional, &[]);
        let branch = task.branch(0);
        task.deliver(TaskEvent::TransportError(branch));
        assert_eq!(fake.0.borrow().sent.len(), legs, "after {provisional}");
        fake.0.borrow_mut().sent.clear();
    }
}

#[test]
fn what_fits_no_datagram_is_answered_513_and_fails_nothing_else() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7001", 5);
    let body = "x".repeat(65_200);
    let mut task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[], &body);
    assert_eq!((last(&fake).0, task.poll(), fake.0.borrow().sent.len()), (513, false, 0));
    // Another device, on a stream, still rings.
    let mut second = client("bob");
    second.call_id = "second".into();
    second.flow = flow(Transport::Tcp, "127.0.0.1:7201", 42);
    assert_eq!(second.register(&fake, &["Contact: <sip:bob@127.0.0.1:7201;transport=tcp>"]).0, 200);
    task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[], &body);
    task.respond(0, 200, &[]);
    assert_eq!((last(&fake).0, fake.0.borrow().sent[0].1.connection), (200, 42));
}

#[test]
fn a_user_of_the_other_pool_is_reached_through_it() {
    let fake = Fake::new();
    let mut task = client("alice").invite(&fake, "carol");
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.request_uri()), (peer_flow(), &b"sip:carol@pairline.test"[..]));
    assert_eq!(sent.header(Name::PAssertedIdentity).unwrap(), b"<sip:alice@pairline.test>");
    assert!(!sent.has(Name::ProxyAuthorization), "consumed here");
    task.respond(0, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    // Vouched for by the partner: no challenge, and the assertion stays.
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("carol");
    phone.flow = peer_flow();
    let assertion = "P-Asserted-Identity: <sip:carol@pairline.test>";
    let request = phone.message("INVITE", BOB, "<sip:bob@pairline.test>", &[assertion], "");
    assert!(Task::start(&fake, request, phone.flow).is_running());
    let sent = fake.0.borrow().sent.last().unwrap().2.clone();
    assert_eq!(sent.header(Name::PAssertedIdentity).unwrap(), b"<sip:carol@pairline.test>");
}

#[test]
fn in_resiliency_mode_the_other_pool_is_tried_last_and_once() {
    let carol = aor("sip:carol@pairline.test");
    let fake = Fake::new();
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    // Nothing is known here: the link may still lead to who knows.
    assert!(client("alice").invite(&fake, "carol").is_running());
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow());
    // A device that cannot be reached here, then the other pool.
    let mut guest = carol_at_west();
    guest.flow.pool = EAST;
    fake.0.borrow_mut().guests.insert(carol.as_str().into(), vec![guest]);
    let mut task = client("alice").invite(&fake, "carol");
    assert_eq!(fake.0.borrow().sent[1].1.connection, 8);
    let branch = task.branch(1);
    task.deliver(TaskEvent::TransportError(branch));
    assert_eq!(fake.0.borrow().sent[2].1, peer_flow());
    // A device that answers is an answer.
    let mut task = client("alice").invite(&fake, "carol");
    task.respond(3, 486, &[]);
    assert_eq!((last(&fake).0, fake.0.borrow().sent.len()), (486, 4));
    // What came from there does not go back.
    fake.0.borrow_mut().guests.clear();
    let mut phone = client("dave");
    phone.flow = peer_flow();
    let crossed = ["P-Asserted-Identity: <sip:dave@pairline.test>", "Via: SIP/2.0/TLS a;branch=z9hG4bKplp00.1"];
    let request = phone.message("INVITE", "sip:carol@pairline.test", "<sip:carol@pairline.test>", &crossed, "");
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    assert_eq!(last(&fake).0, 480);
}

#[test]
fn a_binding_whose_flow_is_gone_is_tried_by_its_path() {
    let fake = Fake::new();
    let mut phone = client("bob");
    phone.flow = flow(Transport::Tcp, "10.0.0.5:5060", 42);
    let lines = ["Path: <sip:edge.example;lr>", "Contact: <sip:bob@192.168.0.9;transport=tcp>"];
    assert_eq!(phone.register(&fake, &lines).0, 200);
    fake.0.borrow_mut().stranded.insert(42);
    fake.0.borrow_mut().names.insert(b"sip:edge.example;lr".to_vec(), vec![udp("10.0.0.5:5060")]);
    assert!(client("alice").invite(&fake, "bob").is_running());
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.routes().next().unwrap().uri), (udp("10.0.0.5:5060"), &b"sip:edge.example;lr"[..]));
}

#[test]
fn the_link_between_pools_is_crossed_at_most_twice() {
    let fake = Fake::new();
    let mut phone = client("dave");
    phone.flow = peer_flow();
    let crossed = [
        "P-Asserted-Identity: <sip:dave@pairline.test>",
        "Via: SIP/2.0/TLS a;branch=z9hG4bKplp00.1",
        "Via: SIP/2.0/TLS b;branch=z9hG4bKplp11.2",
    ];
    let request = phone.message("INVITE", "sip:carol@pairline.test", "<sip:carol@pairline.test>", &crossed, "");
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    assert_eq!(last(&fake).0, 480);
    let once = &crossed[..2];
    let request = phone.message("INVITE", "sip:carol@pairline.test", "<sip:carol@pairline.test>", once, "");
    assert!(Task::start(&fake, request, phone.flow).is_running());
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("carol");
    phone.flow = peer_flow();
    let assertion = "P-Asserted-Identity: <sip:carol@pairline.test>";
    let request = phone.message("INVITE", BOB, "<sip:bob@pairline.test>", &[assertion], "");
    assert!(Task::start(&fake, request.clone(), phone.flow).is_running());
    let via = String::from_utf8(fake.0.borrow().sent[0].2.via().raw().to_vec()).unwrap();
    let again = phone.message("INVITE", BOB, "<sip:bob@pairline.test>", &[assertion, &format!("Via: {via}")], "");
    assert!(!Task::start(&fake, again, phone.flow).is_running());
    assert_eq!(last(&fake).0, 482);
    // A spiral, with another Request-URI, is none.
    let spiral = phone.message(
        "INVITE",
        "sip:dave@pairline.test",
        "<sip:bob@pairline.test>",
        &[assertion, &format!("Via: {via}")],
        "",
    );
    assert!(!Task::start(&fake, spiral, phone.flow).is_running());
    assert_eq!(last(&fake).0, 480);
}

#[test]
fn sanity_checks_come_first() {
    let fake = Fake::new();
    let phone = client("alice");
    let request = |lines: &[&str], expected: u16| {
        let text =
            String::from_utf8(phone.bytes("INVITE", BOB, "<sip:bob@pairline.test>", lines, "").to_vec()).unwrap();
        let text = if lines.is_empty() { text.replace("Max-Forwards: 70", "Max-Forwards: 0") } else { text };
        let message = pairline_sip::message::Message::parse(text.into()).unwrap();
        assert!(!Task::start(&fake, message, phone.flow).is_running());
        assert_eq!(last(&fake).0, expected);
        last(&fake).1
    };
    request(&[], 483);
    let reply = request(&["Proxy-Require: magic, more"], 420);
    assert_eq!(reply.header(Name::Unsupported).unwrap(), b"magic, more");
    let routes = vec!["<sip:a.example;lr>"; 17].join(",");
    request(&[&format!("Route: {routes}")], 400);
}

#[test]
fn call_forwarding_is_followed_and_never_in_circles() {
    let fake = Fake::new();
    let forward = |user: &str, to: &str| {
        let settings = Settings { forward_to: Some(to.into()), ..Settings::default() };
        fake.put(group_of(EAST, &aor(user)), settings_key(user), Class::Durable, settings.encode());
    };
    device(&fake, "dave", "127.0.0.1:7301", "");
    device(&fake, "bob", "127.0.0.1:7101", "");
    forward(BOB, "sip:dave@pairline.test");
    let mut task = client("alice").invite(&fake, "bob");
    assert_eq!(fake.0.borrow().sent.len(), 1);
    assert_eq!(fake.0.borrow().sent[0].1.remote.port(), 7301);
    task.respond(0, 200, &[]);
    // Messages stay with the user.
    let task =
        client("alice").request(&fake, "MESSAGE", BOB, "<sip:bob@pairline.test>", &["Content-Type: text/plain"], "x");
    assert!(task.is_running());
    assert_eq!(fake.0.borrow().sent[1].1.remote.port(), 7101);
    // To a user of the other pool, with that user in the Request-URI.
    forward(BOB, "sip:carol@pairline.test");
    let task = client("alice").invite(&fake, "bob");
    assert!(task.is_running());
    assert_eq!(fake.0.borrow().sent[2].2.request_uri(), b"sip:carol@pairline.test");
    forward(BOB, "sip:dave@pairline.test");
    forward("sip:dave@pairline.test", BOB);
    assert!(!client("alice").invite(&fake, "bob").is_running());
    assert_eq!(last(&fake).0, 480);
}

/// A binding of carol whose flow a server of the other pool owns.
fn carol_at_west() -> Binding {
    let fake = Fake::new();
    device(&fake, "alice", "127.0.0.1:7401", "");
    let mut binding = fake.bindings("sip:alice@pairline.test")[0].clone();
    binding.flow =
        FlowRef { pool: WEST, server: ServerId(21), boot: 1, flow: flow(Transport::Tcp, "127.0.0.1:7401", 8) };
    binding
}

#[test]
fn guests_count_as_bindings_and_flows_of_the_partner_go_through_it() {
    let fake = Fake::new();
    fake.0.borrow_mut().guests.insert(BOB.into(), vec![carol_at_west()]);
    let task = client("alice").invite(&fake, "bob");
    assert!(task.is_running());
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop, peer_flow());
    let route = sent.routes().next().unwrap();
    // The partner delivers it over exactly that flow.
    let west = Fake::new();
    west.edit_view(|view| {
        view.own.pool = WEST;
        view.own.addresses = vec!["127.0.2.1:5060".parse().unwrap()];
        view.partner.as_mut().unwrap().addresses = vec!["127.0.1.1:5060".parse().unwrap()];
    });
    assert!(route.raw().ends_with(b"@127.0.2.1:5060;lr>"));
    let task = Task::start(&west, sent.clone(), peer_flow());
    // The fake takes flows of pool EAST as its own, so for WEST the flow counts as the partner's: 430 tells the sender.
    assert!(!task.is_running());
    assert_eq!(last(&west).0, 430);
    // A token is no way in for anybody else.
    let task = Task::start(&west, sent, udp("127.0.0.1:6666"));
    assert!(!task.is_running());
    assert_eq!(last(&west).0, 403);
}

#[test]
fn the_owner_of_a_flow_is_reached_however_often_the_link_was_crossed() {
    // carol (home west) is connected here and calls bob (home here), who is connected to west: here, west, here, west.
    let fake = Fake::new();
    fake.0.borrow_mut().guests.insert(BOB.into(), vec![carol_at_west()]);
    let mut phone = client("carol");
    phone.flow = peer_flow();
    let crossed = [
        "P-Asserted-Identity: <sip:carol@pairline.test>",
        "Via: SIP/2.0/TLS a;branch=z9hG4bKplp00.1",
        "Via: SIP/2.0/TLS b;branch=z9hG4bKplp11.2",
    ];
    let request = phone.message("MESSAGE", BOB, "<sip:bob@pairline.test>", &crossed, "");
    assert!(Task::start(&fake, request, phone.flow).is_running());
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow());
    assert!(fake.0.borrow().sent[0].2.has(Name::Route));
}

#[test]
fn the_owner_of_a_datagram_flow_sends_to_the_contacts_port_unless_the_client_keeps_the_flow() {
    for (reg_id, port) in [(None, 17_001), (Some(1), 17_000)] {
        let fake = Fake::new();
        let mut guest = carol_at_west();
        guest.contact = (*b"sip:bob@127.0.0.1:17001").into();
        guest.reg_id = reg_id;
        guest.flow.flow = udp("127.0.0.1:17000");
        fake.0.borrow_mut().guests.insert(BOB.into(), vec![guest]);
        assert!(client("alice").invite(&fake, "bob").is_running());
        let sent = fake.0.borrow().sent[0].2.clone();
        // The owner, who finds the flow among its own.
        let west = Fake::new();
        west.edit_view(|view| {
            view.own.addresses = vec!["127.0.2.1:5060".parse().unwrap()];
            view.partner = None;
        });
        west.0.borrow_mut().own_pool = WEST;
        assert!(Task::start(&west, sent, peer_flow()).is_running());
        assert_eq!(west.0.borrow().sent[0].1, udp(&format!("127.0.0.1:{port}")));
    }
}

#[test]
fn a_token_for_an_own_flow_is_delivered_on_it() {
    let fake = Fake::new();
    let own = FlowRef { pool: EAST, server: ServerId(11), boot: 1, flow: flow(Transport::Tcp, "127.0.0.1:7501", 99) };
    let path = pairline_services::routes::path_value(&fake.0.borrow().view, &own).unwrap();
    let mut phone = client("dave");
    phone.flow = peer_flow();
    let lines = [format!("Route: {path}"), "P-Asserted-Identity: <sip:dave@pairline.test>".to_owned()];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let request = phone.message("INVITE", "sip:x@10.9.9.9", "<sip:bob@pairline.test>", &lines, "");
    let mut task = Task::start(&fake, request.clone(), phone.flow);
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.request_uri()), (own.flow, &b"sip:x@10.9.9.9"[..]));
    assert!(!sent.has(Name::Route));
    assert!(sent.has(Name::RecordRoute));
    task.respond(0, 200, &[]);
    assert_eq!(last(&fake).0, 200);
    fake.0.borrow_mut().stranded.insert(99);
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    assert_eq!(last(&fake).0, 430);
}
