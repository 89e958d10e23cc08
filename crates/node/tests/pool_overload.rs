//! A server of a pool to which more comes than it can do, and what clients of the others are told.
#![allow(clippy::unwrap_used)]

use super::common;

use common::phone::{Phone, leader, with_users};
use common::pool::Pool;
use pairline_node::io::Input;
use pairline_services::admission::Waited;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// More comes to a server than it can do, and what it may do now is used up.
fn overload(pool: &mut Pool, at: usize) {
    for _ in 0..40 {
        pool.give(at, Input::Waited(Waited { most: 90, ..Waited::default() }));
        pool.run(20);
    }
    let mut busy = Phone::udp("nobody", 200);
    loop {
        let message = busy.request(&Method::Register, "nobody", &[("Authorization", "Digest username=\"nobody\"")]);
        let before = pool.fronts[at].sip.len();
        pool.give(at, Input::Sip { flow: busy.flow, message });
        if busy.got(pool, at, before).iter().any(|answer| answer.status() == Some(503)) {
            return;
        }
    }
}

#[test]
fn what_the_leader_of_a_group_cannot_do_now_is_refused_as_such_by_whoever_was_asked() {
    let change = |topology: &mut pairline_topology::Topology| topology.policies.overload.min_rate = 10;
    let mut pool = with_users(Pool::with(3, change), &USERS);
    let leads = |pool: &Pool, user: &str| leader(pool, user);
    let (alice, bob) = USERS
        .iter()
        .flat_map(|a| USERS.iter().map(move |b| (*a, *b)))
        .find(|(a, b)| leads(&pool, a) != leads(&pool, b))
        .unwrap();
    let (at, lead) = (leads(&pool, alice), leads(&pool, bob));
    let (mut alice, bob_phone) = (Phone::udp(alice, 8), Phone::udp(bob, 9));
    let first = alice.request(&Method::Message, bob, &[]);
    let challenged = alice.answer(&mut pool, at, first);
    let message = alice.answer_to(&challenged, &Method::Message, bob);
    let mut other = Phone::udp(bob, 10);
    let first = other.request(&Method::Register, bob, &[]);
    let challenged = other.answer(&mut pool, at, first);
    let register = other.answer_to(&challenged, &Method::Register, bob);
    let refused = |answer: &Message| {
        // Not 503: any other server would ask the same one.
        assert_eq!((answer.status(), answer.reason()), (Some(500), &b"Server Busy"[..]));
        assert!(answer.has(Name::RetryAfter), "and it is said when to come again");
    };
    overload(&mut pool, lead);
    refused(&alice.answer(&mut pool, at, message));
    refused(&other.answer(&mut pool, at, register));
    assert!(bob_phone.got(&pool, lead, 0).is_empty());
}
