//! Restarts: from the log, from checkpoint and log, with unsynced batches lost, with corrupt checkpoints.

use super::common;

use bytes::Bytes;
use common::{EAST, GROUP, WEST, World, committed, config, op, put, soft};
use pairline_group::io::{Done, GroupCheckpoint, Now, Proposal, RecoveredGroup, Role};
use pairline_group::{GroupId, Host, HostInput, RecoverError};

#[test]
fn a_log_alone_brings_everything_back() {
    let mut world = World::apart(config(1), config(2));
    for n in 0..20 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x"), soft("s", &n.to_string(), 60_000)]));
    }
    let before = world.status(EAST);
    world.crash(EAST, 0);
    world.servers[EAST].applied.clear();
    world.restart(EAST);
    let after = world.status(EAST);
    assert_eq!((after.position, after.digest, after.records), (before.position, before.digest, before.records));
    assert!(world.servers[EAST].applied.is_empty(), "what was applied before is not told again");
    assert_eq!(world.role(EAST), Role::Active);
}

#[test]
fn a_checkpoint_and_the_log_after_it_bring_everything_back() {
    let mut world = World::apart(config(1), config(2));
    let proposal = Proposal { op: Some(op(1, 1)), writes: vec![put("a", "1")], ..Proposal::default() };
    let at = committed(&world.answer(EAST, proposal.clone()));
    world.input(EAST, HostInput::Pair { partner: None, with_cms: false });
    for round in 0..5 {
        for n in 0..300 {
            committed(&world.commit(EAST, vec![put(&format!("u{n}"), &round.to_string())]));
        }
        committed(&world.commit(EAST, vec![pairline_group::io::Write::Delete { key: common::key("u7") }]));
        world.run(100);
        world.checkpoint(EAST, round);
    }
    assert!(world.servers[EAST].purges > 0, "the log before a checkpoint goes");
    committed(&world.commit(EAST, vec![put("after", "1")]));
    let before = world.status(EAST);
    world.crash(EAST, 0);
    world.restart(EAST);
    let after = world.status(EAST);
    assert_eq!((after.position, after.digest, after.bytes), (before.position, before.digest, before.bytes));
    world.input(EAST, HostInput::Pair { partner: None, with_cms: false });
    world.settle();
    assert_eq!(world.answer(EAST, proposal), Done::Duplicate(at));
}

#[test]
fn what_was_not_synced_was_not_answered_and_may_be_gone() {
    for keep in 0..4 {
        let mut world = World::apart(config(1), config(2));
        world.servers[EAST].auto_sync = false;
        let mut tickets = Vec::new();
        for n in 0..4 {
            tickets.push(
                world.propose(EAST, Proposal { writes: vec![put(&format!("u{n}"), "x")], ..Proposal::default() }),
            );
            world.settle();
        }
        world.sync_one(EAST);
        world.settle();
        world.crash(EAST, keep);
        let answered: Vec<bool> = tickets.iter().map(|t| world.servers[EAST].done.contains_key(t)).collect();
        world.servers[EAST].auto_sync = true;
        world.restart(EAST);
        for (n, answered) in answered.into_iter().enumerate() {
            let present = world.value(EAST, &format!("u{n}")).is_some();
            assert!(present || !answered, "u{n} was answered");
            assert_eq!(present, n < keep + 1, "u{n} with {keep} kept");
        }
    }
}

#[test]
fn a_backup_resumes_from_its_applied_position() {
    let mut world = World::paired();
    for n in 0..50 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.settle();
    world.checkpoint(WEST, 1);
    world.servers[WEST].auto_sync = false;
    for n in 0..5 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "y")]));
    }
    world.crash(WEST, 1);
    world.servers[WEST].auto_sync = true;
    world.restart(WEST);
    world.connect();
    world.run(500);
    world.assert_equal();
    assert_eq!(world.servers[WEST].swapped, 0);
}

#[test]
fn entries_not_yet_shipped_survive_a_restart_behind_a_checkpoint() {
    let mut world = World::paired();
    world.cut();
    for n in 0..1000 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.checkpoint(EAST, 1);
    world.checkpoint(EAST, 2);
    world.crash(EAST, 0);
    world.restart(EAST);
    world.connect();
    world.run(1000);
    world.assert_equal();
    assert_eq!(world.servers[WEST].swapped, 0, "by entries");
}

#[test]
fn corrupt_or_foreign_checkpoints_are_refused() {
    let now = Now { mono: 0, wall: 1 };
    let recover = |checkpoint: GroupCheckpoint| {
        let group = RecoveredGroup { group: GROUP, checkpoint: Some(checkpoint), log: Vec::new() };
        Host::recover(config(1), now, vec![group])
    };
    for meta in [Bytes::new(), Bytes::from_static(&[9, 1, 2]), Bytes::from_static(&[1, 255, 255, 255])] {
        let result = recover(GroupCheckpoint { meta, records: Vec::new() });
        assert!(matches!(result, Err(RecoverError::Group { .. })));
    }
    assert!(matches!(Host::recover(config(1), now, Vec::new()), Err(RecoverError::Nothing)));
}

#[test]
fn a_round_of_checkpoints_has_parts_and_leaves_no_group_out() {
    let mut east = config(1);
    east.groups = 4;
    east.cms_home = false;
    east.limits.checkpoint_records = 2;
    let mut world = World::apart(east, config(2));
    world.checkpoint(EAST, 1);
    world.servers[EAST].checkpoints.clear();
    let group = |index| GroupId { index, ..GROUP };
    let change = |world: &mut World, index, records: u32| {
        let writes = (0..records).map(|n| put(&format!("u{n}"), "x")).collect();
        let ticket = world.ticket();
        let proposal = Proposal { writes, ..Proposal::default() };
        world.input(EAST, HostInput::Propose { ticket, group: group(index), proposal });
        world.settle();
        committed(&world.servers[EAST].done[&ticket]);
    };
    for (index, records) in [(0, 1), (1, 5), (3, 1)] {
        change(&mut world, index, records);
    }
    world.checkpoint(EAST, 2);
    // Behind what is done of the round: it has its turn in this one, what is before it in the next.
    change(&mut world, 2, 1);
    change(&mut world, 0, 1);
    for id in 3..=4 {
        world.checkpoint(EAST, id);
    }
    let parts = &world.servers[EAST].checkpoints;
    let expected = [(vec![group(0), group(1)], false), (vec![group(2), group(3)], true), (vec![group(0)], true)];
    assert_eq!(*parts, expected);
    world.crash(EAST, 0);
    world.restart(EAST);
    assert_eq!(world.value(EAST, "u0").as_deref(), Some("x"));
}

/// A backup that was just seeded, whose checkpoints of everything are in small pieces.
fn seeded_in_pieces() -> World {
    let (mut east, mut west) = (config(1), config(2));
    (east.limits.history_entries, east.limits.retain_entries) = (4, 20);
    (east.limits.seed_chunk, west.limits.seed_chunk) = (100, 60);
    let mut world = World::apart(east, west);
    for n in 0..60 {
        committed(&world.commit(EAST, vec![put(&format!("u{n:02}"), "x")]));
    }
    world.run(100);
    world.pair();
    world.connect();
    world.run(2_000);
    assert_eq!(world.servers[WEST].swapped, 1);
    world.servers[WEST].checkpoints.clear();
    world
}

#[test]
fn a_checkpoint_of_everything_is_taken_in_pieces_and_is_the_state_of_its_beginning() {
    let mut whole = 0;
    for dies_after in 0..40 {
        let mut world = seeded_in_pieces();
        let has = |world: &World| world.servers[WEST].checkpoints.iter().any(|(groups, _)| groups.contains(&GROUP));
        for taken in 1..=dies_after {
            world.checkpoint(WEST, taken);
            // Some of what changes has been taken, some has not.
            let delete = pairline_group::io::Write::Delete { key: common::key(&format!("u{:02}", (taken * 7) % 60)) };
            let new = format!("v{taken:02}");
            committed(
                &world.commit(EAST, vec![put(&format!("u{:02}", (taken * 11) % 60), "y"), put(&new, "z"), delete]),
            );
            world.run(50);
            if has(&world) {
                whole += 1;
                assert!(taken >= 10, "in few pieces: {taken}");
                break;
            }
            assert!(
                world.servers[WEST].checkpoints.iter().all(|(_, round)| !round),
                "a round ended before the last piece"
            );
        }
        let before = world.status(WEST);
        world.crash(WEST, 0);
        world.restart(WEST);
        let after = world.status(WEST);
        assert_eq!((after.position, after.digest, after.records), (before.position, before.digest, before.records));
        world.connect();
        committed(&world.commit(EAST, vec![put("later", "1")]));
        world.run(1_000);
        world.assert_equal();
    }
    assert!(whole > 5, "the last piece was never taken: {whole}");
}

#[test]
fn a_copy_that_is_replaced_while_its_checkpoint_is_taken_is_written_as_it_is_then() {
    let mut world = seeded_in_pieces();
    (1..=3).for_each(|id| world.checkpoint(WEST, id));
    world.cut();
    for n in 0..59 {
        let write = pairline_group::io::Write::Delete { key: common::key(&format!("u{n:02}")) };
        committed(&world.commit(EAST, vec![write]));
    }
    world.run(2_000);
    world.connect();
    world.run(2_000);
    assert_eq!(world.servers[WEST].swapped, 2);
    world.assert_equal();
    // So little is left that it is one piece.
    for id in 4..10 {
        world.checkpoint(WEST, id);
        committed(&world.commit(EAST, vec![put("after", &id.to_string())]));
        world.run(50);
    }
    let before = world.status(WEST);
    world.crash(WEST, 0);
    world.restart(WEST);
    let after = world.status(WEST);
    assert_eq!((after.position, after.digest, after.records), (before.position, before.digest, before.records));
}
