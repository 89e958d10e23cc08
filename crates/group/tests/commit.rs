//! Proposals on one server: commit, refusal, conflict, de-duplication, expiry, limits.

use super::common;

use common::{EAST, GROUP, World, committed, config, key, op, put, refusal, soft};
use pairline_group::Body;
use pairline_group::io::{Done, Proposal, Refusal, Write};
use pairline_group::{Epoch, GroupId, HostInput, HostOutput, PoolId};

fn alone() -> World {
    World::apart(config(1), config(2))
}

#[test]
fn a_commit_is_answered_after_the_sync_and_not_before() {
    let mut world = alone();
    world.servers[EAST].auto_sync = false;
    let ticket = world.propose(EAST, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    world.settle();
    assert_eq!(world.servers[EAST].done.get(&ticket), None);
    assert_eq!(world.value(EAST, "a"), None);
    world.sync(EAST);
    world.settle();
    let done = world.servers[EAST].done.get(&ticket).expect("answered");
    assert_eq!(committed(done).seq, 2);
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"));
}

#[test]
fn many_proposals_make_one_batch() {
    let mut world = alone();
    let before = world.servers[EAST].batches;
    let tickets: Vec<_> = (0..100)
        .map(|n| world.propose(EAST, Proposal { writes: vec![put(&format!("u{n}"), "x")], ..Proposal::default() }))
        .collect();
    world.settle();
    assert_eq!(world.servers[EAST].batches, before + 1);
    assert!(tickets.iter().all(|ticket| matches!(world.servers[EAST].done.get(ticket), Some(Done::Committed(_)))));
}

#[test]
fn proposals_see_what_is_in_flight() {
    let mut world = alone();
    let first = committed(&world.commit(EAST, vec![put("a", "1")]));
    world.servers[EAST].auto_sync = false;
    let reads = vec![(key("a"), Some(first))];
    let one =
        world.propose(EAST, Proposal { reads: reads.clone(), writes: vec![put("a", "2")], ..Proposal::default() });
    let two = world.propose(EAST, Proposal { reads, writes: vec![put("a", "3")], ..Proposal::default() });
    world.sync(EAST);
    world.settle();
    world.sync(EAST);
    world.settle();
    committed(&world.servers[EAST].done[&one].clone());
    assert_eq!(refusal(&world.servers[EAST].done[&two]), &Refusal::Conflict(key("a")));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("2"));
}

#[test]
fn an_operation_is_applied_once_and_an_old_one_is_unknown() {
    let mut world = alone();
    let with = |counter: u64, value: &str| Proposal {
        op: Some(op(9, counter)),
        writes: vec![put("a", value)],
        ..Proposal::default()
    };
    let at = committed(&world.answer(EAST, with(1, "1")));
    assert_eq!(world.answer(EAST, with(1, "1")), Done::Duplicate(at));
    world.servers[EAST].auto_sync = false;
    let one = world.propose(EAST, with(2, "2"));
    let again = world.propose(EAST, with(2, "2"));
    world.settle();
    world.sync(EAST);
    world.settle();
    let at = committed(&world.servers[EAST].done[&one].clone());
    assert_eq!(world.servers[EAST].done[&again], Done::Duplicate(at));
    world.servers[EAST].auto_sync = true;
    for counter in 3..=40 {
        committed(&world.answer(EAST, with(counter, "n")));
    }
    assert_eq!(refusal(&world.answer(EAST, with(1, "1"))), &Refusal::OutcomeUnknown);
}

#[test]
fn deletes_of_what_is_absent_write_nothing() {
    let mut world = alone();
    let before = world.status(EAST).position;
    assert_eq!(world.commit(EAST, vec![Write::Delete { key: key("nobody") }]), Done::NoChange(before));
    committed(&world.commit(EAST, vec![put("a", "1")]));
    committed(&world.commit(EAST, vec![Write::Delete { key: key("a") }]));
    assert_eq!(world.value(EAST, "a"), None);
    assert_eq!(world.status(EAST).digest, [0; 32], "nothing is there, so nothing is in the digest");
}

#[test]
fn soft_records_are_absent_at_their_time_and_removed_by_an_entry() {
    let mut world = alone();
    committed(&world.commit(EAST, vec![soft("a", "1", 1000), soft("b", "2", 60_000)]));
    world.run(900);
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"));
    world.run(200);
    assert_eq!(world.value(EAST, "a"), None);
    assert_eq!(world.status(EAST).records, 1);
    let expired = world.servers[EAST].applied.iter().any(|(_, entry)| entry.body == Body::Expire(vec![key("a")]));
    assert!(expired, "an entry removed it");
    committed(&world.commit(EAST, vec![soft("b", "3", 120_000)]));
    world.run(61_000);
    assert_eq!(world.value(EAST, "b").as_deref(), Some("3"), "a refresh moves the expiry");
}

#[test]
fn an_expired_record_counts_as_absent_for_readers() {
    let mut world = alone();
    let first = committed(&world.commit(EAST, vec![soft("a", "1", 1000)]));
    world.now += 2000;
    let stale = Proposal { reads: vec![(key("a"), Some(first))], writes: vec![put("a", "2")], ..Proposal::default() };
    assert_eq!(refusal(&world.answer(EAST, stale)), &Refusal::Conflict(key("a")));
    let fresh = Proposal { reads: vec![(key("a"), None)], writes: vec![put("a", "2")], ..Proposal::default() };
    committed(&world.answer(EAST, fresh));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("2"));
}

#[test]
fn refusals_name_their_reason() {
    let mut world = alone();
    let epoch = world.host(EAST).serving(GROUP).expect("served").1;
    let other = Epoch { number: 9, granted_by: PoolId(2) };
    let guarded = Proposal { epoch: Some(other), writes: vec![put("a", "1")], ..Proposal::default() };
    assert_eq!(refusal(&world.answer(EAST, guarded)), &Refusal::Moved(epoch, PoolId(1)));
    let twice = world.commit(EAST, vec![put("a", "1"), put("a", "2")]);
    assert!(matches!(refusal(&twice), Refusal::TooLarge(_)));
    let long = "x".repeat(600);
    assert!(matches!(refusal(&world.commit(EAST, vec![put(&long, "1")])), Refusal::TooLarge(_)));
    let ticket = world.ticket();
    let nowhere = GroupId { pool: PoolId(7), index: 3 };
    world.input(EAST, HostInput::Propose { ticket, group: nowhere, proposal: Proposal::default() });
    world.settle();
    assert_eq!(refusal(&world.servers[EAST].done[&ticket]), &Refusal::NoSuchGroup);
}

#[test]
fn too_much_in_flight_is_refused() {
    let mut cfg = config(1);
    cfg.limits.inflight_entries = 4;
    let mut world = World::apart(cfg, config(2));
    world.servers[EAST].auto_sync = false;
    let tickets: Vec<_> = (0..6)
        .map(|n| world.propose(EAST, Proposal { writes: vec![put(&format!("u{n}"), "x")], ..Proposal::default() }))
        .collect();
    world.settle();
    let busy =
        tickets.iter().filter(|t| world.servers[EAST].done.get(*t) == Some(&Done::Refused(Refusal::Busy))).count();
    assert_eq!(busy, 2);
    world.sync(EAST);
    world.settle();
    committed(&world.servers[EAST].done[&tickets[3]].clone());
}

#[test]
fn scans_return_present_records_in_order() {
    let mut world = alone();
    committed(&world.commit(EAST, vec![put("b", "2"), put("a", "1"), soft("c", "3", 100)]));
    world.now += 200;
    world.input(EAST, HostInput::Tick);
    let host = world.host(EAST);
    let all: Vec<&str> = host.scan_all(GROUP).map(|(key, _)| &*key.owner).collect();
    assert_eq!(all, ["a", "b"]);
    assert_eq!(host.scan(GROUP, "a", None).count(), 1);
    assert_eq!(host.scan(GROUP, "a", Some(pairline_group::Kind(8))).count(), 0);
    assert_eq!(host.scan(GROUP, "c", None).count(), 0);
}

#[test]
fn time_never_goes_back_with_the_clock() {
    let mut world = alone();
    world.skew(EAST, 10_000);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    let ahead = world.host(EAST).group_time(GROUP);
    world.skew(EAST, 0);
    committed(&world.commit(EAST, vec![put("a", "2")]));
    assert!(world.host(EAST).group_time(GROUP) >= ahead);
}

#[test]
fn outputs_carry_no_alarm_in_ordinary_use() {
    let mut world = World::paired();
    for n in 0..50 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.run(2000);
    assert!(world.servers.iter().all(|server| server.alarms.is_empty()));
    let host = world.servers[EAST].host.as_mut().expect("up");
    assert!(host.poll().is_none_or(|output| !matches!(output, HostOutput::Alarm(_))));
}
