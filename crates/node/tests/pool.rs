//! A pool of three servers, through whole nodes: users are served by whichever server is asked, and go on when one dies, stands still
//! or is cut off.
#![allow(clippy::unwrap_used)]

use super::common;

use common::phone::{Phone, call, drain, follower, in_call, leader, led, message, pool_with};
use common::pool::Pool;
use pairline_node::command::{Command, Reply};
use pairline_sip::method::Method;

#[test]
fn whichever_server_is_asked_a_user_is_served_by_the_one_that_leads() {
    let mut pool = pool_with(&["alice", "bob", "carol"]);
    for user in ["alice", "bob", "carol"] {
        for at in 0..3 {
            let mut phone = Phone::udp(user, u8::try_from(at).unwrap() + 10);
            assert_eq!(phone.register(&mut pool, at), Some(200), "{user} at {at}");
        }
        let Reply::Where(found) = pool.must(follower(&pool, user), Command::UserWhere { user: user.into() }) else {
            panic!("no place");
        };
        assert_eq!((found.bindings.len(), found.place.as_str()), (3, "here"), "{user}");
    }
}

#[test]
fn a_message_finds_its_way_from_any_server_to_a_connection_of_another() {
    let mut pool = pool_with(&["alice", "bob"]);
    for bobs in 0..3 {
        let mut bob = Phone::tcp("bob", u8::try_from(bobs).unwrap() + 50);
        assert_eq!(bob.register(&mut pool, bobs), Some(200));
        for at in 0..3 {
            let mut alice = Phone::udp("alice", u8::try_from(at * 3 + bobs).unwrap() + 60);
            message(&mut pool, &mut alice, at, &bob, bobs);
        }
        bob.ask(&mut pool, bobs, &Method::Register, "bob", &[("Expires", "0")]);
    }
}

#[test]
fn when_the_leading_server_dies_its_users_are_served_on() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (dead, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let mut bob = Phone::tcp("bob", 7);
    assert_eq!(bob.register(&mut pool, at), Some(200));
    pool.kill(dead);
    let begun = pool.now;
    let mut alice = Phone::udp("alice", 8);
    message(&mut pool, &mut alice, 3 - dead - at, &bob, at);
    assert!(pool.now - begun < 3_000, "after {} ms", pool.now - begun);
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, at), Some(200));
    pool.start(dead);
    pool.run(2_000);
    message(&mut pool, &mut alice, dead, &bob, at);
}

#[test]
fn a_leading_server_that_stands_still_is_passed_by_and_does_not_answer_from_its_old_state() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (still, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    pool.freeze(still);
    let begun = pool.now;
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, at), Some(200));
    assert!(pool.now - begun < 3_000, "after {} ms", pool.now - begun);
    pool.run(6_000);
    pool.thaw(still);
    assert!(pool.leaders(pool.group_of("bob")).len() <= 1);
    let Reply::Where(found) = pool.must(still, Command::UserWhere { user: "bob".into() }) else { panic!("no place") };
    assert_eq!(found.bindings.len(), 1, "it asks who leads now");
}

#[test]
fn without_a_majority_users_are_served_in_limits_from_what_is_known() {
    let mut pool = pool_with(&["alice", "bob"]);
    let last = 0;
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, last), Some(200));
    pool.kill(1);
    pool.kill(2);
    pool.run(6_000);
    let mut bob = Phone::udp("bob", 9);
    let guest = bob.ask(&mut pool, last, &Method::Register, "bob", &[("Expires", "600")]);
    assert_eq!(guest.status(), Some(200));
    assert!(
        pool.ask(
            last,
            Command::SettingsPut { user: "bob".into(), display_name: Some("Bob".into()), forward_to: None, note: None }
        )
        .is_err()
    );
    pool.start(1);
    pool.run(3_000);
    assert!(leader(&pool, "bob") < 2);
    assert_eq!(Phone::udp("bob", 10).register(&mut pool, 1), Some(200));
}

#[test]
fn a_call_goes_on_whichever_other_server_dies() {
    // Bob keeps a connection to his server; alice is on datagrams, so that any server reaches her.
    for dead in 0..3 {
        let mut pool = pool_with(&["alice", "bob"]);
        let bobs = (dead + 1) % 3;
        let third = (dead + 2) % 3;
        let (mut alice, mut bob) = (Phone::udp("alice", 8), Phone::tcp("bob", 7));
        assert_eq!((alice.register(&mut pool, dead), bob.register(&mut pool, bobs)), (Some(200), Some(200)));
        let mut call = call(&mut pool, (&mut alice, dead), (&bob, bobs));
        pool.kill(dead);
        in_call(&mut pool, &Method::Update, &mut call.caller, (&alice, third), (&bob, bobs));
        in_call(&mut pool, &Method::Update, &mut call.callee, (&bob, bobs), (&alice, bobs));
        in_call(&mut pool, &Method::Bye, &mut call.caller, (&alice, third), (&bob, bobs));
    }
}

#[test]
fn a_call_between_two_connections_goes_on_when_the_server_between_dies() {
    let mut pool = pool_with(&["alice", "bob"]);
    let dead = leader(&pool, "bob");
    let (a, b) = ((dead + 1) % 3, (dead + 2) % 3);
    let (mut alice, mut bob) = (Phone::tcp("alice", 8), Phone::tcp("bob", 7));
    assert_eq!((alice.register(&mut pool, a), bob.register(&mut pool, b)), (Some(200), Some(200)));
    let mut call = call(&mut pool, (&mut alice, a), (&bob, b));
    pool.kill(dead);
    in_call(&mut pool, &Method::Update, &mut call.caller, (&alice, a), (&bob, b));
    in_call(&mut pool, &Method::Bye, &mut call.callee, (&bob, b), (&alice, a));
}

#[test]
fn a_drained_server_leads_nothing_and_serves_on_until_it_is_stopped() {
    let mut pool = pool_with(&["alice", "bob"]);
    pool.until("it leads something", |pool| led(pool, 0) > 0);
    pool.must(2, drain(0));
    assert_eq!(led(&pool, 0), 0);
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, 0), Some(200), "by way of who leads");
    pool.run(10_000);
    assert_eq!(led(&pool, 0), 0, "it takes none back by itself");
    let restart = pool.ask(1, Command::ServerRestart { server: "fe2.east.pairline.test".into() }).unwrap_err();
    assert_eq!(restart.kind, "not-drained");
    pool.must(0, Command::ServerUndrain { server: "fe1.east.pairline.test".into() });
    pool.until("it leads again", |pool| led(pool, 0) > 0);
}

#[test]
fn a_server_that_the_pool_cannot_do_without_is_not_drained() {
    let mut pool = pool_with(&["alice"]);
    pool.kill(2);
    pool.run(3_000);
    let before = led(&pool, 0);
    let problem = pool.ask(1, drain(0)).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (409, "cannot-drain"));
    assert!(problem.detail.contains("fe3.east.pairline.test does not answer"), "{}", problem.detail);
    assert_eq!(led(&pool, 0), before, "nothing has changed");
    let unknown = pool.ask(0, Command::ServerDrain { server: "fe9".into(), seconds: 5 }).unwrap_err();
    assert_eq!(unknown.kind, "no-such-server");
}

#[test]
fn a_call_that_waited_while_a_server_stood_still_does_not_ring_when_it_goes_on() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (still, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let other = 3 - still - at;
    let mut bob = Phone::tcp("bob", 7);
    assert_eq!(bob.register(&mut pool, at), Some(200));
    // The server that leads bob's group stands still; the call goes there first, and then by who leads next.
    let mut alice = Phone::udp("alice", 8);
    assert_eq!(alice.register(&mut pool, other), Some(200));
    pool.freeze(still);
    let before = pool.fronts[at].sip.len();
    call(&mut pool, (&mut alice, other), (&bob, at));
    pool.run(8_000);
    pool.thaw(still);
    pool.run(3_000);
    let invites = bob.got(&pool, at, before);
    let invites = invites.iter().filter(|m| m.is_request() && *m.method() == Method::Invite).count();
    assert_eq!(invites, 1, "bob is called once");
    message(&mut pool, &mut alice, still, &bob, at);
}

#[test]
fn a_server_that_finds_the_others_again_waits_for_who_leads_instead_of_taking_guests() {
    let mut pool = pool_with(&["bob"]);
    let alone = follower(&pool, "bob");
    let others = [(alone + 1) % 3, (alone + 2) % 3];
    others.iter().for_each(|other| pool.cut(alone, *other));
    pool.run(8_000);
    let register = |pool: &mut Pool, host| {
        let mut phone = Phone::udp("bob", host);
        let granted = phone.ask(pool, alone, &Method::Register, "bob", &[("Expires", "600")]);
        assert_eq!(granted.status(), Some(200));
    };
    let guests = |pool: &mut Pool| match pool.must(alone, Command::UserWhere { user: "bob".into() }) {
        Reply::Where(found) => found.bindings.iter().filter(|binding| binding.guest).count(),
        other => panic!("{other:?}"),
    };
    register(&mut pool, 9);
    assert_eq!(guests(&mut pool), 1, "alone it serves in limits");
    others.iter().for_each(|other| pool.connect(alone, *other));
    register(&mut pool, 10);
    let Reply::Where(found) = pool.must(others[0], Command::UserWhere { user: "bob".into() }) else {
        panic!("no place")
    };
    assert!(found.bindings.iter().any(|b| !b.guest && b.flow.contains("192.0.2.10")), "{found:?}");
}
