//! A server of a pool that is drained, and one that is about to end: what is new goes to others, what is under way is brought to its
//! end, and what is going on goes on.
#![allow(clippy::unwrap_used)]

use super::common;

use common::phone::{Phone, accept, call, drain, in_call, message, pool_with};
use common::pool::Pool;
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

fn under_way(pool: &Pool, at: usize) -> usize {
    pool.fronts[at].node.as_ref().unwrap().under_way()
}

#[test]
fn a_drained_server_sends_new_calls_to_others_and_those_that_are_going_on_go_on() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (mut alice, mut bob) = (Phone::tcp("alice", 8), Phone::tcp("bob", 7));
    assert_eq!((alice.register(&mut pool, 0), bob.register(&mut pool, 0)), (Some(200), Some(200)));
    let mut before = call(&mut pool, (&mut alice, 0), (&bob, 0));
    pool.must(1, drain(0));
    let invite = alice.request(&Method::Invite, "bob", &[]);
    let refused = alice.answer(&mut pool, 0, invite);
    assert_eq!(refused.status(), Some(503), "the next server takes it");
    assert!(refused.has(Name::RetryAfter));
    in_call(&mut pool, &Method::Update, &mut before.caller, (&alice, 0), (&bob, 0));
    in_call(&mut pool, &Method::Bye, &mut before.callee, (&bob, 0), (&alice, 0));
    // What begins no dialog is served until the end, and so is who is called at a connection of this server.
    message(&mut pool, &mut alice, 0, &bob, 0);
    let mut carol = Phone::udp("alice", 9);
    call(&mut pool, (&mut carol, 1), (&bob, 0));
    pool.must(0, Command::ServerUndrain { server: "fe1.east.pairline.test".into() });
    call(&mut pool, (&mut alice, 0), (&bob, 0));
}

#[test]
fn a_server_that_ends_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (mut alice, mut bob) = (Phone::tcp("alice", 8), Phone::tcp("bob", 7));
    assert_eq!((alice.register(&mut pool, 0), bob.register(&mut pool, 0)), (Some(200), Some(200)));
    let mut before = call(&mut pool, (&mut alice, 0), (&bob, 0));
    pool.must(1, drain(0));
    // A message is on its way to bob when the end is near.
    let (sent, cseq) = (pool.fronts[0].sip.len(), {
        let first = alice.request(&Method::Message, "bob", &[]);
        let challenged = alice.answer(&mut pool, 0, first);
        let again = alice.answer_to(&challenged, &Method::Message, "bob");
        pool.give(0, Input::Sip { flow: alice.flow, message: again });
        alice.cseq
    });
    assert!(under_way(&pool, 0) > 0);
    pool.give(0, Input::Ending);
    for method in [Method::Register, Method::Message, Method::Invite, Method::Options] {
        let request = Phone::udp("bob", 11).request(&method, "bob", &[]);
        let refused = Phone::udp("bob", 11).answer(&mut pool, 0, request);
        assert_eq!(refused.status(), Some(503), "{method}");
    }
    accept(&mut pool, &bob, 0, sent);
    let done = |m: &Message| m.status() == Some(200) && m.cseq().0 == cseq;
    pool.until("its answer", |pool| alice.got(pool, 0, sent).iter().any(done));
    assert_eq!(under_way(&pool, 0), 0);
    in_call(&mut pool, &Method::Bye, &mut before.caller, (&alice, 0), (&bob, 0));
    // Whoever registers elsewhere is served at once.
    pool.kill(0);
    assert_eq!(Phone::tcp("bob", 12).register(&mut pool, 1), Some(200));
}
