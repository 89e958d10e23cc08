//! Small soft changes of one turn share an entry: what that must not change for anybody.

use super::common;

use common::{EAST, GROUP, WEST, World, committed, config, key, op, put, refusal, soft};
use pairline_group::io::{Done, Proposal, Refusal, Write};
use pairline_group::{Body, HostInput, Ticket};

fn change(writes: Vec<Write>) -> Proposal {
    Proposal { writes, ..Proposal::default() }
}

fn done(world: &World, ticket: Ticket) -> &Done {
    world.servers[EAST].done.get(&ticket).expect("answered")
}

/// How many effects each entry of the group has that east applied.
fn effects(world: &World) -> Vec<usize> {
    let entries = world.servers[EAST].applied.iter().filter(|(group, _)| *group == GROUP);
    let sizes = entries.map(|(_, entry)| if let Body::Effects(effects) = &entry.body { effects.len() } else { 0 });
    sizes.filter(|size| *size > 0).collect()
}

#[test]
fn changes_of_one_turn_share_an_entry_and_both_copies_are_equal() {
    let mut world = World::paired();
    let tickets: Vec<Ticket> =
        (0..10).map(|n| world.propose(EAST, change(vec![soft(&format!("u{n}"), "x", 60_000)]))).collect();
    world.settle();
    let at = committed(done(&world, tickets[0]));
    assert!(tickets.iter().all(|ticket| committed(done(&world, *ticket)) == at), "one entry");
    assert_eq!(effects(&world), [10]);
    world.run(500);
    world.assert_equal();
}

#[test]
fn nobody_is_answered_before_the_sync() {
    let mut world = World::apart(config(1), config(2));
    world.servers[EAST].auto_sync = false;
    let tickets = ["a", "b"].map(|name| world.propose(EAST, change(vec![soft(name, "1", 60_000)])));
    world.settle();
    assert!(tickets.iter().all(|ticket| !world.servers[EAST].done.contains_key(ticket)));
    assert_eq!(world.value(EAST, "a"), None);
    world.sync(EAST);
    world.settle();
    assert!(tickets.iter().all(|ticket| matches!(done(&world, *ticket), Done::Committed(_))));
}

#[test]
fn two_versions_of_a_record_never_share_a_position() {
    let mut world = World::apart(config(1), config(2));
    let first = world.propose(EAST, change(vec![soft("a", "1", 60_000)]));
    let second = world.propose(EAST, change(vec![soft("a", "2", 60_000)]));
    let other = world.propose(EAST, change(vec![soft("b", "1", 60_000)]));
    world.settle();
    let (first, second) = (committed(done(&world, first)), committed(done(&world, second)));
    assert!(first < second);
    assert_eq!(committed(done(&world, other)), second);
    assert_eq!(world.value(EAST, "a").as_deref(), Some("2"));
    assert_eq!(effects(&world), [1, 2]);
}

#[test]
fn what_was_read_is_checked_against_what_is_gathered() {
    let mut world = World::apart(config(1), config(2));
    let new = |value: &str| Proposal { reads: vec![(key("a"), None)], ..change(vec![soft("a", value, 60_000)]) };
    let first = world.propose(EAST, new("1"));
    let second = world.propose(EAST, new("2"));
    world.settle();
    committed(done(&world, first));
    assert_eq!(refusal(done(&world, second)), &Refusal::Conflict(key("a")));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"));
}

#[test]
fn what_has_an_id_or_is_durable_has_an_entry_of_its_own_in_its_place() {
    let mut world = World::apart(config(1), config(2));
    let a = world.propose(EAST, change(vec![soft("a", "1", 60_000)]));
    let b = world.propose(EAST, change(vec![put("b", "1")]));
    let c = world.propose(EAST, Proposal { op: Some(op(1, 1)), ..change(vec![soft("c", "1", 60_000)]) });
    let d = world.propose(EAST, change(vec![soft("d", "1", 60_000)]));
    world.settle();
    let at = [a, b, c, d].map(|ticket| committed(done(&world, ticket)).seq);
    assert_eq!([at[1] - at[0], at[2] - at[1], at[3] - at[2]], [1, 1, 1]);
}

#[test]
fn a_change_that_changes_nothing_waits_for_what_was_gathered_before() {
    let mut world = World::apart(config(1), config(2));
    let a = world.propose(EAST, change(vec![soft("a", "1", 60_000)]));
    let nothing = world.propose(EAST, change(vec![Write::Delete { key: key("nobody") }]));
    world.settle();
    let at = committed(done(&world, a));
    assert_eq!(done(&world, nothing), &Done::NoChange(at));
}

#[test]
fn an_entry_takes_only_so_much() {
    let mut world = World::apart(config(1), config(2));
    let tickets: Vec<Ticket> =
        (0..300).map(|n| world.propose(EAST, change(vec![soft(&format!("u{n}"), "x", 60_000)]))).collect();
    let large = "x".repeat(40 << 10);
    let more: Vec<Ticket> =
        (0..4).map(|n| world.propose(EAST, change(vec![soft(&format!("l{n}"), &large, 60_000)]))).collect();
    world.settle();
    assert!(tickets.iter().chain(&more).all(|ticket| matches!(done(&world, *ticket), Done::Committed(_))));
    assert!(effects(&world).iter().all(|size| *size <= 128), "{:?}", effects(&world));
    assert!(effects(&world).len() >= 4);
}

#[test]
fn a_handover_of_the_same_turn_takes_it_along() {
    let mut world = World::paired();
    let ticket = world.propose(EAST, change(vec![soft("a", "1", 60_000)]));
    let handover = world.ticket();
    let to = world.servers[WEST].cfg.pool;
    let step = common::step(7, 1);
    world.input(EAST, HostInput::Handover { ticket: handover, group: GROUP, to, step });
    world.run(1_000);
    committed(done(&world, ticket));
    assert_eq!(world.value(WEST, "a").as_deref(), Some("1"));
    world.assert_equal();
}
