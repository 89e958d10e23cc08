//! Shipping between two pools: push, resume, lossy links, seeds, verification, lag, retention.

use super::common;

use common::{EAST, GROUP, WEST, World, committed, config, op, put, refusal, soft};
use pairline_group::HostInput;
use pairline_group::io::{Alarm, Done, ExportState, Lag, Proposal, Refusal, Role};

#[test]
fn entries_reach_the_backup_as_they_are_committed() {
    let mut world = World::paired();
    assert_eq!(world.role(EAST), Role::Active);
    assert_eq!(world.role(WEST), Role::Backup);
    committed(&world.commit(EAST, vec![put("a", "1"), soft("b", "2", 60_000)]));
    world.settle();
    world.assert_equal();
    assert_eq!(world.value(WEST, "a").as_deref(), Some("1"));
    assert_eq!(world.value(WEST, "b").as_deref(), Some("2"));
    assert!(matches!(refusal(&world.commit(WEST, vec![put("a", "9")])), Refusal::NotActive(..)));
    let status = world.status(EAST);
    assert_eq!((status.export, status.lag, status.behind_entries), (ExportState::Steady, Lag::Exactly(0), 0));
}

#[test]
fn nothing_is_acknowledged_before_the_receivers_disk_has_it() {
    let mut world = World::paired();
    world.servers[WEST].auto_sync = false;
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.run(500);
    assert_eq!(world.status(EAST).behind_entries, 1);
    assert!(matches!(world.status(EAST).lag, Lag::Exactly(lag) if lag >= 450));
    world.sync(WEST);
    world.settle();
    assert_eq!(world.status(EAST).behind_entries, 0);
}

#[test]
fn shipping_resumes_where_the_backup_stands() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.cut();
    for n in 0..300 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.run(3000);
    assert_eq!(world.status(EAST).behind_entries, 300);
    assert_eq!(world.status(EAST).export, ExportState::Error);
    world.connect();
    world.run(500);
    world.assert_equal();
    assert_eq!(world.servers[WEST].swapped, 0, "by entries, not by a seed");
}

#[test]
fn duplicates_reordering_and_loss_change_nothing() {
    let mut world = World::paired();
    (world.duplicate, world.reorder, world.lose) = (3, 5, 7);
    for n in 0..400 {
        committed(&world.commit(EAST, vec![put(&format!("u{}", n % 50), &n.to_string())]));
        if n % 20 == 0 {
            world.run(50);
        }
    }
    (world.duplicate, world.reorder, world.lose) = (0, 0, 0);
    world.run(10_000);
    world.assert_equal();
    assert!(world.servers.iter().all(|server| server.alarms.is_empty()));
}

fn late_pair(records: usize) -> World {
    let mut cfg = config(1);
    cfg.limits.history_entries = 4;
    cfg.limits.seed_chunk = 4096;
    let mut world = World::apart(cfg, config(2));
    for n in 0..records / 100 {
        let writes = (0..100).map(|m| put(&format!("user{n}-{m}"), "value")).collect();
        committed(&world.commit(EAST, writes));
    }
    world.run(100);
    world
}

#[test]
fn a_new_backup_is_seeded_while_the_source_goes_on() {
    let mut world = late_pair(10_000);
    world.pair();
    world.connect();
    world.delay = true;
    for n in 0..200 {
        committed(&world.commit(EAST, vec![put(&format!("user{}-{}", n / 2, 3 + 40 * (n % 2)), "changed")]));
        committed(&world.commit(
            EAST,
            vec![pairline_group::io::Write::Delete {
                key: common::key(&format!("user{}-{}", n / 2, 5 + 40 * (n % 2))),
            }],
        ));
        world.delay = n % 3 != 0;
        world.settle();
        world.delay = true;
    }
    world.delay = false;
    world.run(3000);
    world.assert_equal();
    assert!(world.servers[WEST].swapped >= 1);
    assert_eq!(world.status(EAST).export, ExportState::Steady);
    assert_eq!(world.status(WEST).records, world.status(EAST).records);
}

#[test]
fn a_seed_survives_cuts_and_crashes_of_the_receiver() {
    let mut world = late_pair(3000);
    world.pair();
    for round in 0..6 {
        world.connect();
        world.delay = true;
        for _ in 0..(round * 3 + 2) {
            world.delay = false;
            // A few frames at a time, so that the cut falls into the middle of the seed.
            world.step_frames(2);
            world.delay = true;
        }
        world.delay = false;
        if round % 2 == 0 {
            world.crash(WEST, 0);
            world.restart(WEST);
        } else {
            world.cut();
        }
        committed(&world.commit(EAST, vec![put("between", &round.to_string())]));
    }
    world.connect();
    world.run(9000);
    world.assert_equal();
    assert_eq!(world.value(WEST, "between").as_deref(), Some("5"));
}

#[test]
fn a_seed_brings_the_operations_that_were_applied() {
    let mut world = late_pair(100);
    let proposal = Proposal { op: Some(op(5, 1)), writes: vec![put("a", "1")], ..Proposal::default() };
    let at = committed(&world.answer(EAST, proposal.clone()));
    for n in 0..10 {
        committed(&world.commit(EAST, vec![put("b", &n.to_string())]));
    }
    world.run(100);
    world.pair();
    world.connect();
    world.run(2000);
    world.assert_equal();
    assert!(world.servers[WEST].swapped >= 1);
    committed(&world.handover(EAST, 1));
    assert_eq!(world.answer(WEST, proposal), Done::Duplicate(at));
}

#[test]
fn both_sides_can_prove_equality() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    for at in [EAST, WEST] {
        world.input(at, HostInput::Verify { group: GROUP });
        world.settle();
        let (group, position, equal, ranges) = world.servers[at].verified.last().cloned().expect("an answer");
        assert_eq!((group, position, equal, ranges.len()), (GROUP, world.status(at).position, true, 0));
    }
    assert!(world.status(WEST).verified.is_some());
}

#[test]
fn the_backups_lag_is_a_bound_that_grows_with_silence() {
    let mut world = World::paired();
    world.run(2000);
    let Lag::AtMost(fresh) = world.status(WEST).lag else { panic!("known") };
    assert!(fresh <= 300, "{fresh}");
    world.cut();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.run(5000);
    let Lag::AtMost(bound) = world.status(WEST).lag else { panic!("known") };
    assert!(bound >= 5000, "{bound}");
}

#[test]
fn without_a_canary_the_lag_is_unknown() {
    let mut world = World::apart(config(1), config(2));
    world.pair();
    assert_eq!(world.status(WEST).lag, Lag::Unknown);
    assert_eq!(world.status(EAST).lag, Lag::Unknown);
    assert_eq!(world.status(EAST).export, ExportState::NotInitialised);
}

#[test]
fn past_the_cap_the_backup_is_seeded_anew() {
    let mut cfg = config(1);
    cfg.limits.retain_entries = 50;
    let mut world = World::apart(cfg, config(2));
    world.pair();
    world.connect();
    world.run(500);
    world.cut();
    for n in 0..100 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.run(200);
    assert_eq!(world.servers[EAST].alarms, [Alarm::ReseedNeeded { group: GROUP }]);
    assert_eq!(world.status(EAST).export, ExportState::NotInitialised);
    world.connect();
    world.run(2000);
    world.assert_equal();
    assert_eq!(world.status(EAST).export, ExportState::Steady);
    assert_eq!(world.servers[WEST].swapped, 1);
}

#[test]
fn a_clock_that_is_ahead_is_alarmed_once() {
    let mut world = World::apart(config(1), config(2));
    world.skew(WEST, 8000);
    world.pair();
    world.connect();
    world.run(3000);
    let alarms: Vec<_> = world.servers[WEST].alarms.iter().collect();
    assert!(matches!(alarms.as_slice(), [Alarm::ClockAhead { by, .. }] if *by >= 7500), "{alarms:?}");
    assert!(world.servers[EAST].alarms.is_empty());
}
