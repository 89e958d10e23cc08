//! Addresses of single devices (RFC 5627): who is told them, where they lead, when temporary ones die.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, contacts, device, last, statuses};
use common::{Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_services::cx::{Peer, Place, TaskEvent};
use pairline_services::gruu::{self, Target};
use pairline_services::ident::{Whose, classify};
use pairline_services::settings::Secret;
use pairline_sip::flow::Transport;
use pairline_sip::message::Message;
use pairline_sip::uri::Uri;

const BOB: &str = "sip:bob@pairline.test";
const URN: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

fn phone(port: u16) -> Client {
    let mut phone = client("bob");
    phone.call_id = format!("call-{port}");
    phone.flow = udp(&format!("127.0.0.1:{port}"));
    phone
}

fn contact(port: u16, urn: &str) -> String {
    format!("Contact: <sip:bob@127.0.0.1:{port}>;+sip.instance=\"<{urn}>\"")
}

fn param(contact: &str, name: &str) -> String {
    let from = contact.find(&format!(";{name}=\"")).unwrap_or_else(|| panic!("{name} in {contact}")) + name.len() + 3;
    contact[from..].split('"').next().unwrap().to_owned()
}

/// Registers and gives back the public and the temporary GRUU of the first contact.
fn register(fake: &Fake, phone: &mut Client, line: &str) -> (String, String) {
    let (status, reply) = phone.register(fake, &[line, "Supported: gruu"]);
    assert_eq!(status, 200);
    fake.0.borrow_mut().responses.clear();
    let contact = contacts(&reply).into_iter().next().unwrap();
    (param(&contact, "pub-gruu"), param(&contact, "temp-gruu"))
}

/// Calls a URI as alice; the ports that it rings, or the status of the refusal.
fn call(fake: &Fake, uri: &str) -> Result<Vec<u16>, u16> {
    fake.0.borrow_mut().sent.clear();
    fake.0.borrow_mut().responses.clear();
    let lines = ["Contact: <sip:alice@127.0.0.1:7001>"];
    let task = client("alice").request(fake, "INVITE", uri, &format!("<{uri}>"), &lines, "");
    if !task.is_running() {
        return Err(last(fake).0);
    }
    Ok(fake.0.borrow().sent.iter().map(|(_, flow, _)| flow.remote.port()).collect())
}

#[test]
fn told_only_to_who_asks_and_has_an_instance() {
    let fake = Fake::new();
    let (_, reply) = phone(7101).register(&fake, &[&contact(7101, URN)]);
    assert!(!contacts(&reply)[0].contains("gruu"));
    let (public, temporary) = register(&fake, &mut phone(7101), &contact(7101, URN));
    assert_eq!(public, format!("sip:bob@pairline.test;gr={URN}"));
    assert!(temporary.starts_with("sip:tgruu.") && temporary.ends_with("@pairline.test;gr"));
    assert!(!temporary.contains("bob"));
    let (_, reply) = phone(7102).register(&fake, &["Contact: <sip:bob@127.0.0.1:7102>", "Supported: gruu"]);
    let (with, without): (Vec<_>, Vec<_>) = contacts(&reply).into_iter().partition(|c| c.contains("pub-gruu"));
    assert_eq!((with.len(), without.len()), (1, 1));
    // What the client says of GRUUs is not kept and not said twice.
    let echo = format!("{};pub-gruu=\"sip:x@y;gr=z\";temp-gruu=\"sip:t@y;gr\"", contact(7101, URN));
    let (_, reply) = phone(7101).register(&fake, &[&echo]);
    assert!(!contacts(&reply).iter().any(|c| c.contains("gruu")));
}

#[test]
fn a_gruu_rings_its_device_alone() {
    let fake = Fake::new();
    let (public, temporary) = register(&fake, &mut phone(7101), &contact(7101, URN));
    phone(7102).register(&fake, &[&contact(7102, "urn:uuid:2")]);
    let mut rings = call(&fake, BOB).unwrap();
    rings.sort_unstable();
    assert_eq!(rings, [7101, 7102]);
    assert_eq!(call(&fake, &public), Ok(vec![7101]));
    assert_eq!(call(&fake, &public.replace("f81d4fae", "F81D4FAE")), Ok(vec![7101]), "a UUID has no case");
    assert_eq!(call(&fake, &temporary), Ok(vec![7101]));
    assert_eq!(fake.0.borrow().sent[0].2.request_uri(), b"sip:bob@127.0.0.1:7101");
    assert_eq!(call(&fake, "sip:bob@pairline.test;gr=urn:uuid:3"), Err(480));
    assert_eq!(call(&fake, "sip:nobody@pairline.test;gr=urn:uuid:3"), Err(404));
    // Call forwarding is the user's, not the device's.
    let settings = pairline_services::records::Settings {
        forward_to: Some("sip:dave@pairline.test".into()),
        ..pairline_services::records::Settings::default()
    };
    let user = aor(BOB);
    let key = pairline_services::records::settings_key(BOB);
    fake.put(group_of(common::EAST, &user), key, pairline_group::Class::Durable, settings.encode());
    assert_eq!(call(&fake, &public), Ok(vec![7101]));
}

/// Bob's device on a connection, called by its GRUU; with that and the call's Route.
fn in_call() -> (Fake, Client, String, String) {
    let fake = Fake::new();
    let mut bob = phone(7101);
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7101", 5);
    let (public, _) = register(&fake, &mut bob, &contact(7101, URN));
    assert_eq!(call(&fake, &public), Ok(vec![7101]));
    let route = fake.0.borrow().sent[0].2.record_routes().next().map(|r| format!("Route: {}", text(r.raw()))).unwrap();
    (fake, bob, public, route)
}

/// Its server in the dialog was restarted, or the connection was lost: what the call's Route names is no flow any more.
#[test]
fn a_device_that_came_back_elsewhere_is_reached_inside_its_dialogs() {
    let (fake, mut bob, public, route) = in_call();
    // From here on it is the owner's neighbour that speaks, and it is there that the device registers anew.
    fake.edit_view(|view| view.own.pool = WEST);
    fake.0.borrow_mut().own_pool = WEST;
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7102", 6);
    register(&fake, &mut bob, &contact(7102, URN));
    fake.0.borrow_mut().sent.clear();
    let bye = client("alice").message("BYE", &public, "<sip:bob@pairline.test>;tag=d", &[&route], "");
    let mut task = Task::start(&fake, bye, udp("127.0.0.1:7001"));
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow(), "the owner is asked first");
    task.respond(0, 430, &[]);
    let (_, hop, sent) = fake.0.borrow().sent[1].clone();
    assert_eq!((hop, sent.request_uri()), (bob.flow, &b"sip:bob@127.0.0.1:7102"[..]));
    task.respond(1, 200, &[]);
    assert_eq!(last(&fake).0, 200);
}

/// The same of one that has no GRUU: its contact, which the dialog knows, is bound to another flow.
#[test]
fn a_device_without_gruu_that_came_back_elsewhere_is_reached_inside_its_dialogs() {
    let fake = Fake::new();
    let mut bob = phone(7101);
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7101", 5);
    let lines = ["Contact: <sip:bob@127.0.0.1:7101;transport=tcp>"];
    assert_eq!(bob.register(&fake, &lines).0, 200);
    let invite = client("alice").invite(&fake, "bob");
    drop(invite);
    let route = fake.0.borrow().sent[0].2.record_routes().next().map(|r| format!("Route: {}", text(r.raw()))).unwrap();
    fake.edit_view(|view| view.own.pool = WEST);
    fake.0.borrow_mut().own_pool = WEST;
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7101", 6);
    assert_eq!(bob.register(&fake, &lines).0, 200);
    fake.0.borrow_mut().sent.clear();
    let target = "sip:bob@127.0.0.1:7101;transport=tcp";
    let bye = client("alice").message("BYE", target, "<sip:bob@pairline.test>;tag=d", &[&route], "");
    let mut task = Task::start(&fake, bye, udp("127.0.0.1:7001"));
    assert_eq!(fake.0.borrow().sent[0].1, peer_flow(), "the owner is asked first");
    task.respond(0, 430, &[]);
    assert_eq!(fake.0.borrow().sent[1].1, bob.flow);
    // Once: what is said there is the answer.
    task.respond(1, 430, &[]);
    assert_eq!((fake.0.borrow().sent.len(), task.is_running()), (2, false));
}

/// The end of a call waits for a device whose connection has just gone: nobody can tell it later.
#[test]
fn a_bye_waits_for_a_device_that_is_about_to_come_back() {
    let (fake, mut bob, public, route) = in_call();
    fake.0.borrow_mut().stranded.insert(5);
    fake.0.borrow_mut().sent.clear();
    let bye = client("alice").message("BYE", &public, "<sip:bob@pairline.test>;tag=d", &[&route], "");
    let mut task = Task::start(&fake, bye, udp("127.0.0.1:7001"));
    assert!(task.is_running() && fake.0.borrow().sent.is_empty());
    bob.flow = flow(Transport::Tcp, "127.0.0.1:7102", 6);
    register(&fake, &mut bob, &contact(7102, URN));
    task.deliver(TaskEvent::BindingsChanged);
    assert_eq!(fake.0.borrow().sent[0].1, bob.flow);
    task.respond(0, 200, &[]);
    assert_eq!(last(&fake).0, 200);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn temporary_ones_die_with_the_call_id_and_with_the_registration() {
    let fake = Fake::new();
    let mut first = phone(7101);
    let (public, one) = register(&fake, &mut first, &contact(7101, URN));
    fake.0.borrow_mut().mono += 1_000;
    let (_, two) = register(&fake, &mut first, &contact(7101, URN));
    assert_ne!(one, two);
    assert_eq!((call(&fake, &one), call(&fake, &two)), (Ok(vec![7101]), Ok(vec![7101])), "a refresh keeps the older");
    // A second flow under the same Call-ID goes on where the first one was.
    let mut second = phone(7103);
    second.call_id = first.call_id.clone();
    second.cseq = 50;
    second.register(&fake, &[&format!("{};reg-id=2", contact(7103, URN))]);
    first.cseq = 60;
    assert_eq!(first.register(&fake, &[&format!("{};expires=0", contact(7101, URN))]).0, 200);
    assert_eq!(call(&fake, &one), Ok(vec![7103]));
    // The device is gone: a temporary one was never there, a public one is away.
    second.register(&fake, &["Contact: *", "Expires: 0"]);
    assert_eq!((call(&fake, &two), call(&fake, &public)), (Err(404), Err(480)));
    fake.0.borrow_mut().mono += 1_000;
    let (_, three) = register(&fake, &mut first, &contact(7101, URN));
    assert_eq!((call(&fake, &two), call(&fake, &three)), (Err(404), Ok(vec![7101])), "also under the same Call-ID");
    // A phone that has started anew.
    let mut anew = phone(7101);
    anew.call_id = "another".into();
    anew.register(&fake, &[&contact(7101, URN)]);
    assert_eq!((call(&fake, &three), call(&fake, &public)), (Err(404), Ok(vec![7101])));
}

#[test]
fn a_temporary_one_is_good_on_every_server_and_cannot_be_forged() {
    let fake = Fake::new();
    let (_, temporary) = register(&fake, &mut phone(7101), &contact(7101, URN));
    let key = common::view().sealing_key;
    assert!(Target::of(&key, temporary.as_bytes()).unwrap().is_temporary());
    assert_eq!(Target::of(&Secret([1; 32]), temporary.as_bytes()), None);
    assert_eq!(classify(&common::view(), temporary.as_bytes()), Whose::User(aor(BOB)));
    let uri = |text: &str| gruu::owner(&key, &Uri::parse(text.as_bytes()).unwrap());
    let end = temporary.find('@').unwrap();
    for at in 10..end {
        let mut forged = temporary.clone();
        let other = if &forged[at..=at] == "0" { "1" } else { "0" };
        forged.replace_range(at..=at, other);
        assert_eq!(uri(&forged), None, "changed at {at}");
    }
    for cut in 11..end {
        assert_eq!(uri(&format!("{}@pairline.test;gr", &temporary[..cut])), None);
    }
    assert_eq!(uri(&temporary.replace("pairline.test", "other.test")), None, "bound to its domain");
    // The pool that serves the user opens it, whoever gave it out.
    let west = Fake::new();
    west.set_place(&aor(BOB), Place::Elsewhere { group: Some(group_of(WEST, &aor(BOB))), at: Peer::Pool(WEST) });
    let lines = ["Contact: <sip:alice@127.0.0.1:7001>"];
    let task = client("alice").request(&west, "INVITE", &temporary, &format!("<{temporary}>"), &lines, "");
    assert!(task.is_running());
    let (_, hop, sent) = west.0.borrow().sent[0].clone();
    assert_eq!((hop, sent.request_uri()), (peer_flow(), temporary.as_bytes()));
    assert_eq!(statuses(&west), Vec::<u16>::new());
}

#[test]
fn a_gruu_is_no_contact_of_its_own_user() {
    let fake = Fake::new();
    let (public, temporary) = register(&fake, &mut phone(7101), &contact(7101, URN));
    for uri in [public, temporary] {
        assert_eq!(phone(7105).register(&fake, &[&format!("Contact: <{uri}>")]).0, 403);
    }
    assert_eq!(fake.bindings(BOB).len(), 1);
}

#[test]
fn the_ack_to_a_remote_target_that_is_a_gruu_reaches_its_device() {
    let fake = Fake::new();
    let (public, _) = register(&fake, &mut phone(7101), &contact(7101, URN));
    device(&fake, "bob", "127.0.0.1:7102", "");
    let mut caller = client("alice");
    let key = common::view().sealing_key;
    let mark = pairline_services::routes::dialog_mark(&key, caller.call_id.as_bytes(), b"");
    let route = format!("Route: <sip:127.0.1.1:5060;lr;pl={mark}>");
    caller.cseq = 3;
    let text = caller.bytes("ACK", &public, &format!("<{BOB}>;tag=b"), &[&route], "");
    common::now(pairline_services::dispatch::ack(fake.clone(), Message::parse(text).unwrap(), caller.flow));
    let (to, bytes) = fake.0.borrow().stateless[0].clone();
    let sent = Message::parse(bytes).unwrap();
    assert_eq!((to.remote.port(), sent.request_uri()), (7101, &b"sip:bob@127.0.0.1:7101"[..]));
}

#[test]
fn frozen_form() {
    let key = Secret([3; 32]);
    let frozen = include_str!("golden/temporary_gruu_v1.txt").trim();
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", ";+sip.instance=\"<urn:uuid:1>\"");
    let mut binding = fake.bindings(BOB)[0].clone();
    binding.since = 1_700_000_000_000;
    let made = gruu::temporary(&key, &aor(BOB), &binding, 1_700_000_001_000).unwrap();
    assert_eq!(made, frozen);
    assert!(Target::of(&key, frozen.as_bytes()).unwrap().admits(&binding));
    binding.since += 2_000;
    assert!(!Target::of(&key, frozen.as_bytes()).unwrap().admits(&binding));
}
