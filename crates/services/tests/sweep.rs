//! Dropping a task at any await is safe: nothing is half done, and the same request again ends as if nothing had happened.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, contacts, device, last};
use common::{Fake, Task, aor};
use pairline_services::contacts as list;
use pairline_services::cx::TaskEvent;
use pairline_services::dispatch;
use pairline_services::records::Contact;
use pairline_services::users;
use pairline_sip::message::Message;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

type Running = Pin<Box<dyn Future<Output = ()>>>;

/// Polls `steps` times; true if the future ended.
fn run(future: &mut Running, steps: usize) -> bool {
    (0..steps).any(|_| future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready())
}

/// Runs `make` cut off after 0, 1, 2 … polls until it ends by itself, then calls `check` on what each cut left behind.
fn sweep(make: impl Fn() -> (Fake, Running), check: impl Fn(Fake)) -> usize {
    for steps in 0..200 {
        let (fake, mut future) = make();
        fake.0.borrow_mut().slow = true;
        let ended = run(&mut future, steps);
        drop(future);
        fake.0.borrow_mut().slow = false;
        fake.0.borrow_mut().events.clear();
        check(fake);
        if ended {
            return steps;
        }
    }
    panic!("the task never ended");
}

/// A REGISTER with right credentials for a fresh fake.
fn register(fake: &Fake) -> Message {
    let mut phone = client("alice");
    let to = "<sip:alice@pairline.test>";
    let challenge = Task::start(fake, phone.message("REGISTER", "sip:pairline.test", to, &[], ""), phone.flow);
    assert!(!challenge.is_running());
    let value = last(fake).1.header_named("WWW-Authenticate").unwrap().to_vec();
    phone.cseq = 7;
    let line = phone.authorization(&value, "Authorization", "REGISTER", "sip:pairline.test", 1);
    phone.message("REGISTER", "sip:pairline.test", to, &["Contact: <sip:alice@127.0.0.1:7001>", &line], "")
}

#[test]
fn register_cut_anywhere_and_repeated_gives_one_binding() {
    let make = || {
        let fake = Fake::new();
        let request = register(&fake);
        let future: Running = Box::pin(dispatch::handle(fake.clone(), request, client("alice").flow));
        (fake, future)
    };
    let awaits = sweep(make, |fake| {
        let bindings = fake.bindings("sip:alice@pairline.test");
        assert!(bindings.len() <= 1);
        fake.0.borrow_mut().nonces.clear();
        let mut phone = client("alice");
        phone.cseq = 5;
        let (status, reply) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>"]);
        assert_eq!((status, contacts(&reply).len()), (200, 1));
        assert_eq!(fake.bindings("sip:alice@pairline.test").len(), 1);
    });
    assert!(awaits >= 4, "read credential, read bindings, commit twice: {awaits}");
}

#[test]
fn invite_cut_anywhere_leaves_no_trace_in_the_records() {
    let make = || {
        let fake = Fake::new();
        device(&fake, "bob", "127.0.0.1:7101", "");
        let mut phone = client("alice");
        let uri = "sip:bob@pairline.test";
        let to = "<sip:bob@pairline.test>";
        let first = Task::start(&fake, phone.message("INVITE", uri, to, &[], ""), phone.flow);
        assert!(!first.is_running());
        let value = last(&fake).1.header_named("Proxy-Authenticate").unwrap().to_vec();
        phone.cseq = 2;
        let line = phone.authorization(&value, "Proxy-Authorization", "INVITE", uri, 1);
        let request = phone.message("INVITE", uri, to, &[&line], "");
        fake.0.borrow_mut().responses.clear();
        fake.0.borrow_mut().events.push_back(TaskEvent::BindingsChanged);
        let branch = pairline_services::cx::Branch(1);
        fake.0.borrow_mut().events.push_back(TaskEvent::Timeout(branch));
        let future: Running = Box::pin(dispatch::handle(fake.clone(), request, phone.flow));
        (fake, future)
    };
    sweep(make, |fake| {
        assert_eq!(fake.bindings("sip:bob@pairline.test").len(), 1);
        assert_eq!(fake.0.borrow().commits.len(), 1, "only the device's own REGISTER");
        assert!(fake.0.borrow().responses.iter().filter(|(s, _)| *s >= 200).count() <= 1);
    });
}

#[test]
fn commands_cut_anywhere_can_be_repeated() {
    let user = aor("sip:erin@pairline.test");
    let new = users::NewUser {
        user: user.clone(),
        password: "p".into(),
        display_name: None,
        home: common::EAST,
        contacts: vec![],
        op: None,
    };
    let make = || {
        let (fake, new) = (Fake::new(), new.clone());
        let cx = fake.clone();
        let future: Running = Box::pin(async move { drop(users::add(&cx, &new).await) });
        (fake, future)
    };
    sweep(make, |fake| {
        let again = common::now(users::add(&fake, &new));
        assert!(again.is_ok() || again.unwrap_err().kind() == "user-exists");
        assert!(common::now(users::show(&fake, &user)).unwrap().complete);
    });
    let alice = aor("sip:alice@pairline.test");
    let op = list::op_id(&alice, "phone", 1);
    let put = |fake: &Fake| {
        let (cx, alice) = (fake.clone(), alice.clone());
        async move { drop(list::put(&cx, &alice, "bob", &Contact::default(), Some(op)).await) }
    };
    let make = || {
        let fake = Fake::new();
        let future: Running = Box::pin(put(&fake));
        (fake, future)
    };
    sweep(make, |fake| {
        common::now(put(&fake));
        assert_eq!(common::now(list::list(&fake, &alice)).unwrap().contacts.len(), 1);
    });
}
