//! Sleeping clients (RFC 8599): what a REGISTER is told, whom a request wakes, and how it waits.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, contacts, last};
use common::{Fake, Task, flow, udp};
use pairline_services::cx::TaskEvent;
use pairline_services::metrics::Counter;
use pairline_services::push::{PushPolicy, Wake};
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;

const PNS: &str = "pn-provider=apns;pn-param=TEAM.app;pn-prid=00fc13adff78512";

fn with_gateway() -> Fake {
    let fake = Fake::new();
    fake.edit_view(|view| {
        view.push = PushPolicy { providers: vec!["apns".into(), "fcm".into()], wait_ms: 10_000 };
    });
    fake
}

fn phone(connection: u64) -> Client {
    let mut phone = client("bob");
    phone.call_id = format!("mobile-{connection}");
    phone.flow = flow(Transport::Tcp, "127.0.0.1:7601", connection);
    phone
}

fn contact(params: &str) -> String {
    format!("Contact: <sip:bob@127.0.0.1:7601;transport=tcp;{params}>;+sip.instance=\"<urn:uuid:7>\"")
}

/// Bob's phone is registered over a connection that is gone, and long silent.
fn asleep(fake: &Fake) {
    assert_eq!(phone(5).register(fake, &[&contact(PNS)]).0, 200);
    let mut world = fake.0.borrow_mut();
    world.stranded.insert(5);
    world.mono += 60_000;
    world.responses.clear();
}

fn woken(fake: &Fake) -> Vec<Wake> {
    fake.0.borrow().woken.clone()
}

fn wakes(task: &mut Task, connection: u64) {
    assert_eq!(phone(connection).register(&task.fake, &[&contact(PNS)]).0, 200);
    task.fake.0.borrow_mut().responses.pop();
    task.deliver(TaskEvent::BindingsChanged);
}

#[test]
fn a_register_is_told_which_push_services_there_are() {
    let fake = with_gateway();
    let caps = |line: &str| {
        let (status, reply) = phone(5).register(&fake, &[line]);
        let caps = reply.header(Name::FeatureCaps).map(|v| String::from_utf8(v.to_vec()).unwrap());
        fake.0.borrow_mut().records.retain(|(_, key), _| key.kind != pairline_services::records::BINDING);
        (status, caps)
    };
    assert_eq!(caps(&contact(PNS)), (200, Some("*;+sip.pns=\"apns\"".into())));
    assert_eq!(caps(&contact("pn-provider")), (200, Some("*;+sip.pns=\"apns,fcm\"".into())), "only asked");
    assert_eq!(caps(&contact("x=y")), (200, None));
    assert_eq!(caps(&contact("pn-provider=webpush;pn-prid=1")), (555, None));
    assert_eq!(caps(&format!("{};expires=0", contact("pn-provider=webpush;pn-prid=1"))).0, 200, "signing off");
    // The parameters stay with the binding: they are in its contact.
    let (_, reply) = phone(6).register(&fake, &[&contact(PNS)]);
    assert!(contacts(&reply)[0].contains(PNS));
    // Without a gateway nothing is promised and nobody refused.
    let fake = Fake::new();
    let (status, reply) = phone(5).register(&fake, &[&contact("pn-provider=webpush;pn-prid=1")]);
    assert_eq!((status, reply.has(Name::FeatureCaps)), (200, false));
    fake.0.borrow_mut().stranded.insert(5);
    fake.0.borrow_mut().mono += 60_000;
    assert!(client("alice").invite(&fake, "bob").is_running() && woken(&fake).is_empty());
}

#[test]
fn a_call_wakes_the_phone_and_waits_for_it() {
    let fake = with_gateway();
    asleep(&fake);
    let mut task = client("alice").invite(&fake, "bob");
    let wake = Wake {
        provider: "apns".into(),
        param: "TEAM.app".into(),
        prid: "00fc13adff78512".into(),
        method: "INVITE".into(),
    };
    assert_eq!(woken(&fake), [wake]);
    assert!(task.is_running() && fake.0.borrow().sent.is_empty());
    wakes(&mut task, 6);
    assert_eq!(fake.0.borrow().sent[0].1.connection, 6);
    task.respond(0, 200, &[]);
    assert_eq!((last(&fake).0, task.is_running()), (200, false));
    assert_eq!(woken(&fake).len(), 1, "once");
    assert_eq!(fake.count_of(Counter::ProxyWaking), 1);
    // It does not wake: the caller is told after the wait.
    let fake = with_gateway();
    asleep(&fake);
    let mut task = client("alice").invite(&fake, "bob");
    task.advance(9_000);
    assert!(task.is_running());
    task.advance(1_000);
    assert_eq!((last(&fake).0, task.is_running()), (480, false));
    // The caller gives up.
    let fake = with_gateway();
    asleep(&fake);
    let mut task = client("alice").invite(&fake, "bob");
    task.deliver(TaskEvent::Cancelled(None));
    assert_eq!((last(&fake).0, task.is_running()), (487, false));
}

#[test]
fn a_message_waits_too_and_other_methods_do_not() {
    let fake = with_gateway();
    asleep(&fake);
    let lines = ["Content-Type: text/plain"];
    let uri = "sip:bob@pairline.test";
    let mut task = client("alice").request(&fake, "MESSAGE", uri, &format!("<{uri}>"), &lines, "hello");
    assert_eq!(woken(&fake)[0].method, "MESSAGE");
    wakes(&mut task, 6);
    task.respond(0, 200, &[]);
    assert_eq!((last(&fake).0, task.is_running()), (200, false));
    fake.0.borrow_mut().woken.clear();
    fake.0.borrow_mut().stranded.insert(6);
    fake.0.borrow_mut().mono += 60_000;
    let mut task = client("alice").request(&fake, "MESSAGE", uri, &format!("<{uri}>"), &lines, "hello");
    task.advance(10_000);
    assert_eq!((last(&fake).0, task.is_running()), (480, false));
    fake.0.borrow_mut().woken.clear();
    let task = client("alice").request(&fake, "OPTIONS", uri, &format!("<{uri}>"), &[], "");
    assert_eq!((last(&fake).0, task.is_running(), woken(&fake).len()), (480, false, 0));
}

#[test]
fn what_rings_meanwhile_neither_waits_nor_ends_the_wait() {
    let fake = with_gateway();
    asleep(&fake);
    let mut desk = client("bob");
    desk.call_id = "desk".into();
    desk.flow = udp("127.0.0.1:7602");
    assert_eq!(desk.register(&fake, &["Contact: <sip:bob@127.0.0.1:7602>"]).0, 200);
    let mut task = client("alice").invite(&fake, "bob");
    assert_eq!((fake.0.borrow().sent.len(), woken(&fake).len()), (1, 1), "the desk phone rings at once");
    task.respond(0, 486, &[]);
    assert!(task.is_running(), "the mobile may still answer");
    wakes(&mut task, 6);
    assert_eq!(fake.0.borrow().sent[1].1.connection, 6);
    task.respond(1, 180, &[]);
    task.respond(1, 200, &[]);
    assert_eq!(last(&fake).0, 200);
    // While the desk phone rings the mobile does, too: some breadth was kept for it (RFC 5393).
    let fake = with_gateway();
    asleep(&fake);
    desk.cseq = 50;
    assert_eq!(desk.register(&fake, &["Contact: <sip:bob@127.0.0.1:7602>"]).0, 200);
    let mut task = client("alice").invite(&fake, "bob");
    task.respond(0, 180, &[]);
    wakes(&mut task, 6);
    let breadth: Vec<Vec<u8>> =
        fake.0.borrow().sent.iter().map(|(_, _, sent)| sent.header(Name::MaxBreadth).unwrap().to_vec()).collect();
    assert_eq!(breadth, [b"30", b"15"]);
    // One device has declined for all: nobody is tried any more, even where another has not ended yet.
    let fake = with_gateway();
    asleep(&fake);
    let mut hall = Client { flow: udp("127.0.0.1:7603"), call_id: "hall".into(), ..client("bob") };
    desk.cseq = 70;
    assert_eq!(desk.register(&fake, &["Contact: <sip:bob@127.0.0.1:7602>"]).0, 200);
    assert_eq!(hall.register(&fake, &["Contact: <sip:bob@127.0.0.1:7603>"]).0, 200);
    let mut task = client("alice").invite(&fake, "bob");
    task.respond(0, 603, &[]);
    wakes(&mut task, 6);
    assert_eq!(fake.0.borrow().sent.len(), 2);
    task.respond(1, 487, &[]);
    assert_eq!((last(&fake).0, task.is_running()), (603, false));
    // The desk phone answers first: the mobile that wakes afterwards stays silent.
    let fake = with_gateway();
    asleep(&fake);
    assert_eq!(desk.register(&fake, &["Contact: <sip:bob@127.0.0.1:7602>"]).0, 200);
    let mut task = client("alice").invite(&fake, "bob");
    task.respond(0, 200, &[]);
    assert!(!task.is_running());
    // It declines for all.
    let fake = with_gateway();
    asleep(&fake);
    desk.cseq = 90;
    assert_eq!(desk.register(&fake, &["Contact: <sip:bob@127.0.0.1:7602>"]).0, 200);
    let mut task = client("alice").invite(&fake, "bob");
    task.respond(0, 603, &[]);
    assert_eq!((last(&fake).0, task.is_running()), (603, false));
}

#[test]
fn a_forwarded_call_wakes_whom_it_is_forwarded_to() {
    let fake = with_gateway();
    asleep(&fake);
    let dave = common::aor("sip:dave@pairline.test");
    let settings = pairline_services::records::Settings {
        forward_to: Some("sip:bob@pairline.test".into()),
        ..pairline_services::records::Settings::default()
    };
    let key = pairline_services::records::settings_key(dave.as_str());
    fake.put(common::group_of(common::EAST, &dave), key, pairline_group::Class::Durable, settings.encode());
    let mut task = client("alice").invite(&fake, "dave");
    assert_eq!((woken(&fake).len(), fake.0.borrow().sent.len()), (1, 0));
    wakes(&mut task, 6);
    assert_eq!(fake.0.borrow().sent[0].1.connection, 6);
}

#[test]
fn who_is_awake_is_not_woken() {
    let fake = with_gateway();
    phone(5).register(&fake, &[&contact(PNS)]);
    fake.0.borrow_mut().mono += 60_000;
    let _task = client("alice").invite(&fake, "bob");
    assert_eq!((fake.0.borrow().sent.len(), woken(&fake).len()), (1, 0), "its connection stands");
    // Datagrams go out whether somebody listens or not, so a silent client is woken beside.
    let fake = with_gateway();
    let mut phone = phone(0);
    phone.flow = udp("127.0.0.1:7601");
    phone.register(&fake, &[&contact(PNS).replace(";transport=tcp", "")]);
    let _task = client("alice").invite(&fake, "bob");
    assert_eq!(woken(&fake).len(), 0, "heard a moment ago");
    fake.0.borrow_mut().mono += 60_000;
    fake.0.borrow_mut().sent.clear();
    let mut caller = client("alice");
    caller.call_id = "second".into();
    let _task = caller.invite(&fake, "bob");
    assert_eq!((fake.0.borrow().sent.len(), woken(&fake).len()), (1, 1));
}
