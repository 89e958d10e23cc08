//! How often memory is asked for on the way of the requests that there are most of. The bounds are what was counted when they were set: they
//! may be lowered, and whoever raises one says why.

use super::common::phone::{PASSWORD, Phone};
use super::common::pool::Pool;
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply as Answer;

/// How often each is done: the least is what it takes, since tables grow now and then.
const ROUNDS: u32 = 24;

/// A pool of one server with two registered users, and their phones.
fn two_phones() -> (Pool, Phone, Phone) {
    let mut pool = Pool::of(1);
    for user in ["alice", "bob"] {
        let (user, password) = (user.to_owned(), PASSWORD.to_owned());
        pool.must(0, Command::UserAdd { user, password, display_name: None, pool: Some("east".into()) });
    }
    let (mut alice, mut bob) = (Phone::udp("alice", 1), Phone::udp("bob", 2));
    assert_eq!([alice.register(&mut pool, 0), bob.register(&mut pool, 0)], [Some(200), Some(200)]);
    (pool, alice, bob)
}

/// A request of a phone is challenged.
fn challenged(pool: &mut Pool, phone: &mut Phone, method: &Method, to: &str) -> Message {
    let request = phone.request(method, to, &[]);
    phone.answer(pool, 0, request)
}

/// The same request with credentials whose nonce was used so often.
fn proven(phone: &mut Phone, challenged: &Message, (method, to): (&Method, &str), times: u32) -> Input {
    let (header, line, uri) = match *method {
        Method::Register => (Name::WwwAuthenticate, "Authorization", "sip:pairline.test".to_owned()),
        _ => (Name::ProxyAuthenticate, "Proxy-Authorization", format!("sip:{to}@pairline.test")),
    };
    let met = Challenge::parse(challenged.header(header).unwrap()).unwrap();
    let value = answer(&met, phone.user, PASSWORD, method.as_str(), &uri, "cn", times);
    Input::Sip { flow: phone.flow, message: phone.request(method, to, &[(line, &value), ("Expires", "600")]) }
}

#[test]
fn reading_a_message_asks_for_no_memory() {
    let mut phone = Phone::udp("alice", 1);
    for method in [Method::Register, Method::Message, Method::Invite] {
        let bytes = phone.request(&method, "bob", &[]);
        let counted = allocation_counter::measure(|| drop(Message::parse(bytes.clone()).unwrap()));
        assert_eq!(counted.count_total, 0, "{method}");
    }
}

#[test]
fn a_refresh_asks_for_memory_only_for_what_it_writes_and_says() {
    let (mut pool, mut alice, _) = two_phones();
    let met = challenged(&mut pool, &mut alice, &Method::Register, "alice");
    let counts = (1..=ROUNDS).map(|times| {
        let input = proven(&mut alice, &met, (&Method::Register, "alice"), times);
        let counted = pool.give_counted(0, input);
        let last = pool.fronts[0].sip.last().unwrap();
        assert_eq!(Message::parse(last.1.clone()).unwrap().status(), Some(200));
        counted
    });
    let least = counts.min().unwrap();
    assert!(least <= 41, "{least}");
}

/// How often memory is asked for when a request of alice's goes to bob, and when his 200 comes back.
fn relayed(method: &Method) -> (u64, u64) {
    let (mut pool, mut alice, bob) = two_phones();
    let met = challenged(&mut pool, &mut alice, method, "bob");
    let counts = (1..=ROUNDS).map(|times| {
        let input = proven(&mut alice, &met, (method, "bob"), times);
        let there = pool.give_counted(0, input);
        let (flow, came) = pool.fronts[0].sip.last().unwrap();
        assert_eq!(flow.remote, bob.flow.remote);
        let answer = Answer::to(&Message::parse(came.clone()).unwrap(), 200).build();
        let back = pool.give_counted(0, Input::Sip { flow: bob.flow, message: answer });
        assert_eq!(pool.fronts[0].sip.last().unwrap().0.remote, alice.flow.remote);
        (there, back)
    });
    counts.reduce(|least, one| (least.0.min(one.0), least.1.min(one.1))).unwrap()
}

#[test]
fn a_relayed_message_asks_for_memory_so_often_on_its_way_and_on_its_answers() {
    let (there, back) = relayed(&Method::Message);
    assert!(there <= 46 && back <= 7, "{there}, {back}");
}

#[test]
fn a_call_asks_for_memory_so_often_on_its_way_and_on_its_answers() {
    let (there, back) = relayed(&Method::Invite);
    assert!(there <= 62 && back <= 7, "{there}, {back}");
}
