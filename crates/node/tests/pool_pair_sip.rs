//! Two paired pools of three servers each, through whole nodes, as clients meet them: whichever of the six servers is asked, and whoever
//! leads, stands still or is dead.
#![allow(clippy::unwrap_used)]

use super::common;

use common::phone::{Phone, accept, call, in_call, message};
use common::pool::{POOL, Pool, WEST};
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::method::Method;

/// Alice and bob at home in east, carol in west.
fn with_users() -> Pool {
    of_so_many(3)
}

/// The same with so many servers in each pool.
fn of_so_many(servers: usize) -> Pool {
    let mut pair = Pool::paired(servers);
    for (user, pool) in [("alice", "east"), ("bob", "east"), ("carol", "west")] {
        let password = "a long password".to_owned();
        let add = Command::UserAdd { user: user.into(), password, display_name: None, pool: Some(pool.into()) };
        pair.must(1, add);
    }
    pair.run(1_000);
    pair
}

/// A host number that no other phone of a test has.
fn host(at: usize, more: usize) -> u8 {
    u8::try_from(10 + at * 6 + more).unwrap()
}

fn move_groups(pair: &mut Pool, at: usize, back: bool) {
    let pool = "east".to_owned();
    let (dry_run, force, disaster) = (false, false, false);
    let (confirm, reason) = (None, None);
    pair.must(
        at,
        match back {
            false => Command::PoolFailover { pool, disaster, dry_run, force, confirm, reason },
            true => Command::PoolFailback { pool, disaster, dry_run, force, confirm, reason },
        },
    );
    let to = if back { POOL } else { WEST };
    let east: Vec<_> = pair.all_groups().into_iter().filter(|group| group.pool == POOL).collect();
    pair.until("the groups have moved", |pair| pair.serves(to, &east));
}

#[test]
fn a_message_goes_from_any_server_of_either_pool_to_a_connection_of_any() {
    let mut pair = with_users();
    let mut alices: Vec<Phone> = (0..6).map(|at| Phone::udp("alice", host(at, 1))).collect();
    let mut carols: Vec<Phone> = (0..6).map(|at| Phone::udp("carol", host(at, 2))).collect();
    for bobs in [0, 2, 3, 5] {
        let mut bob = Phone::tcp("bob", host(bobs, 0));
        assert_eq!(bob.register(&mut pair, bobs), Some(200), "at {bobs}");
        for at in 0..6 {
            message(&mut pair, &mut alices[at], at, &bob, bobs);
            message(&mut pair, &mut carols[at], at, &bob, bobs);
        }
        bob.ask(&mut pair, bobs, &Method::Register, "bob", &[("Expires", "0")]);
    }
}

#[test]
fn a_leading_server_of_the_other_pool_that_stands_still_or_dies_is_passed_by() {
    for freezes in [false, true] {
        let mut pair = with_users();
        let group = pair.group_at(WEST, "carol");
        let leader = pair.led(group).into_iter().map(|(at, _)| at).find(|at| *at > 2).unwrap();
        let carols = 3 + (leader - 3 + 1) % 3;
        let mut carol = Phone::tcp("carol", host(carols, 0));
        assert_eq!(carol.register(&mut pair, carols), Some(200));
        match freezes {
            true => pair.freeze(leader),
            false => pair.kill(leader),
        }
        let begun = pair.now;
        message(&mut pair, &mut Phone::udp("alice", host(1, 1)), 1, &carol, carols);
        assert!(pair.now - begun < 3_500, "after {} ms (stands still: {freezes})", pair.now - begun);
    }
}

#[test]
fn calls_go_on_while_their_groups_move_and_come_back() {
    let mut pair = with_users();
    let (mut alice, mut bob) = (Phone::tcp("alice", host(0, 0)), Phone::tcp("bob", host(2, 0)));
    assert_eq!((alice.register(&mut pair, 0), bob.register(&mut pair, 2)), (Some(200), Some(200)));
    let mut first = call(&mut pair, (&mut alice, 0), (&bob, 2));
    move_groups(&mut pair, 4, false);
    in_call(&mut pair, &Method::Update, &mut first.caller, (&alice, 0), (&bob, 2));
    assert_eq!(bob.register(&mut pair, 2), Some(200), "by way of west");
    let mut carol = Phone::tcp("carol", host(3, 0));
    assert_eq!(carol.register(&mut pair, 3), Some(200));
    let mut second = call(&mut pair, (&mut carol, 3), (&bob, 2));
    pair.kill(5);
    // Until others lead what it led nobody knows how far the partner is, and the groups are not moved.
    pair.run(2_000);
    move_groups(&mut pair, 1, true);
    in_call(&mut pair, &Method::Bye, &mut first.callee, (&bob, 2), (&alice, 0));
    in_call(&mut pair, &Method::Bye, &mut second.caller, (&carol, 3), (&bob, 2));
    message(&mut pair, &mut alice, 0, &bob, 2);
}

/// East's server that is asked does not know yet that the group is home again; west's that asks cannot reach any other.
#[test]
fn a_server_that_has_not_heard_of_a_move_waits_for_it_and_sends_nothing_back() {
    let mut pair = with_users();
    let group = pair.group_of("bob");
    move_groups(&mut pair, 4, false);
    let late = 0;
    let mut bob = Phone::tcp("bob", host(1, 0));
    assert_eq!(bob.register(&mut pair, 1), Some(200));
    for east in 1..3 {
        pair.cut(late, east);
    }
    pair.run(2_000);
    move_groups(&mut pair, 5, true);
    let leader = pair.led(group).into_iter().map(|(at, _)| at).find(|at| *at < 3).unwrap();
    assert_ne!(leader, late);
    let across: Vec<(usize, usize)> = (1..3).flat_map(|east| (3..6).map(move |west| (east, west))).collect();
    across.iter().for_each(|(east, west)| pair.cut(*east, *west));
    let mut carol = Phone::udp("carol", host(3, 0));
    let first = carol.request(&Method::Message, "bob", &[]);
    let challenged = carol.answer(&mut pair, 3, first);
    let again = carol.answer_to(&challenged, &Method::Message, "bob");
    let (asked, rang) = (pair.fronts[3].sip.len(), pair.fronts[1].sip.len());
    pair.give(3, Input::Sip { flow: carol.flow, message: again });
    pair.run(500);
    let answers = carol.got(&pair, 3, asked);
    assert!(answers.iter().all(|answer| answer.status() < Some(200)), "not refused: {answers:?}");
    for east in 1..3 {
        pair.connect(late, east);
    }
    accept(&mut pair, &bob, 1, rang);
}

#[test]
fn users_of_a_dead_pool_are_guests_at_any_server_of_the_other_and_found_by_all_of_them() {
    let mut pair = with_users();
    (0..3).for_each(|at| pair.kill(at));
    pair.run(35_000);
    let mut bob = Phone::tcp("bob", host(4, 0));
    assert_eq!(bob.register(&mut pair, 4), Some(200));
    for at in 3..6 {
        message(&mut pair, &mut Phone::udp("alice", host(at, 1)), at, &bob, 4);
    }
}

#[test]
fn in_pools_of_five_most_servers_have_no_copy_and_all_serve_everybody() {
    let mut pair = of_so_many(5);
    let mut alices: Vec<Phone> = (0..10).map(|at| Phone::udp("alice", host(at, 1))).collect();
    let mut carols: Vec<Phone> = (0..10).map(|at| Phone::udp("carol", host(at, 2))).collect();
    let mut bob = Phone::tcp("bob", host(3, 0));
    assert_eq!(bob.register(&mut pair, 3), Some(200));
    let round = |pair: &mut Pool, alices: &mut [Phone], carols: &mut [Phone], bob: &Phone| {
        for at in (0..10).filter(|at| *at != 2) {
            message(pair, &mut alices[at], at, bob, 3);
            message(pair, &mut carols[at], at, bob, 3);
        }
    };
    round(&mut pair, &mut alices, &mut carols, &bob);
    move_groups(&mut pair, 8, false);
    pair.kill(2);
    pair.run(3_000);
    round(&mut pair, &mut alices, &mut carols, &bob);
    assert_eq!(bob.register(&mut pair, 3), Some(200));
    move_groups(&mut pair, 4, true);
    round(&mut pair, &mut alices, &mut carols, &bob);
}

#[test]
fn a_guest_taken_while_its_groups_leader_is_chosen_is_known_to_all() {
    let mut pair = with_users();
    (0..3).for_each(|at| pair.kill(at));
    pair.run(35_000);
    let group = pair.group_at(WEST, "bob");
    let leader = pair.led(group).into_iter().map(|(at, _)| at).find(|at| *at > 2).unwrap();
    let [bobs, other] = [3 + (leader - 2) % 3, 3 + (leader - 1) % 3];
    pair.kill(leader);
    let mut bob = Phone::tcp("bob", host(bobs, 0));
    assert_eq!(bob.register(&mut pair, bobs), Some(200));
    message(&mut pair, &mut Phone::udp("alice", host(other, 1)), other, &bob, bobs);
}
