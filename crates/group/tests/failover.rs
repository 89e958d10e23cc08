//! Changes of serving pool: handover there and back, promotion, return with a tail, reverse catch-up, broken chains.

use super::common;

use common::{Disk, EAST, GROUP, WEST, World, committed, config, key, op, put, refusal, soft};
use pairline_group::io::{Alarm, Done, ExportState, Proposal, Refusal, Role};
use pairline_group::tail::{is_made, tail_operation};
use pairline_group::{Body, Effect, Epoch, HostInput, PoolId};

#[test]
fn handover_there_and_back_is_identity() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1"), soft("b", "2", 600_000)]));
    let before = world.status(EAST).digest;
    let at = committed(&world.handover(EAST, 1));
    world.settle();
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Backup, Role::Active));
    assert!(world.host(WEST).can_commit(GROUP) && !world.host(EAST).can_commit(GROUP));
    assert_eq!(world.host(WEST).serving(GROUP), Some((PoolId(2), Epoch { number: 2, granted_by: PoolId(1) })));
    assert_eq!(world.status(EAST).export, ExportState::Final);
    assert!(matches!(refusal(&world.commit(EAST, vec![put("a", "9")])), Refusal::NotActive(..)));
    assert_eq!(world.handover(EAST, 1), Done::Committed(at), "the same step again");
    committed(&world.handover(WEST, 2));
    world.settle();
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Active, Role::Backup));
    assert_eq!(world.status(EAST).digest, before);
    world.assert_equal();
    committed(&world.commit(EAST, vec![put("a", "3")]));
    world.settle();
    world.assert_equal();
    assert!(world.servers.iter().all(|server| server.alarms.is_empty()));
}

#[test]
fn a_handover_waits_for_what_is_in_flight_and_parks_the_rest() {
    let mut world = World::paired();
    world.servers[EAST].auto_sync = false;
    let before = world.propose(EAST, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    world.settle();
    let ticket = world.ticket();
    let step = common::step(4, 1);
    world.input(EAST, HostInput::Handover { ticket, group: GROUP, to: PoolId(2), step });
    let after = world.propose(EAST, Proposal { writes: vec![put("a", "2")], ..Proposal::default() });
    world.settle();
    assert_eq!(refusal(&world.servers[EAST].done[&after]), &Refusal::HandingOver(PoolId(2)));
    world.servers[EAST].auto_sync = true;
    world.sync(EAST);
    world.run(200);
    committed(&world.servers[EAST].done[&before].clone());
    committed(&world.servers[EAST].done[&ticket].clone());
    assert_eq!(world.value(WEST, "a").as_deref(), Some("1"));
    assert!(world.host(WEST).can_commit(GROUP));
    world.assert_equal();
}

#[test]
fn a_handover_needs_a_partner_that_receives() {
    let mut world = World::paired();
    world.cut();
    assert!(matches!(refusal(&world.handover(EAST, 1)), Refusal::NotNow(_)));
    assert!(matches!(refusal(&world.handover(WEST, 2)), Refusal::NotActive(..)));
    assert!(world.host(EAST).can_commit(GROUP));
}

#[test]
fn a_handover_cut_off_is_delivered_when_the_link_heals() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.delay = true;
    committed(&world.handover(EAST, 1));
    world.cut();
    world.delay = false;
    world.run(1000);
    assert!(!world.host(EAST).can_commit(GROUP) && !world.host(WEST).can_commit(GROUP));
    world.connect();
    world.run(500);
    assert!(world.host(WEST).can_commit(GROUP));
    world.assert_equal();
}

/// East commits 10 entries that West has and 3 that it has not, dies, and West is promoted.
fn disaster() -> World {
    let mut world = World::paired();
    for n in 0..10 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "shipped")]));
    }
    committed(&world.commit(EAST, vec![soft("phone", "here", 600_000)]));
    world.settle();
    world.cut();
    for n in 0..3 {
        let write = put(&format!("u{n}"), "lost");
        let proposal = Proposal { op: Some(op(70 + n, 1)), writes: vec![write], ..Proposal::default() };
        committed(&world.answer(EAST, proposal));
    }
    world.crash(EAST, 0);
    world.run(60_000);
    committed(&world.promote(WEST, 9));
    world
}

#[test]
fn a_promotion_stands_at_the_recovery_point_and_extends_soft_records() {
    let mut world = disaster();
    assert!(world.host(WEST).can_commit(GROUP));
    let entry = world.servers[WEST].applied.last().expect("applied").1.clone();
    let Body::Promote(promote) = &entry.body else { panic!("{entry:?}") };
    assert_eq!(promote.epoch, Epoch { number: 2, granted_by: PoolId(2) });
    assert_eq!(promote.recovery_point.seq + 1, entry.position.seq);
    assert!((59_000..=61_000).contains(&promote.soft_extension), "{}", promote.soft_extension);
    assert_eq!(world.value(WEST, "u0").as_deref(), Some("shipped"));
    assert_eq!(world.value(WEST, "u9").as_deref(), Some("shipped"));
    world.run(590_000);
    assert_eq!(world.value(WEST, "phone").as_deref(), Some("here"));
    let again = world.promote(WEST, 9);
    assert_eq!(again, Done::Committed(entry.position));
    // A step of another procedure finds that it is done.
    assert!(matches!(refusal(&world.promote(WEST, 10)), Refusal::Moved(_, PoolId(2))));
}

#[test]
fn a_returned_pool_is_fenced_keeps_its_tail_and_follows() {
    let mut world = disaster();
    committed(&world.commit(WEST, vec![put("u1", "newer")]));
    world.servers[EAST].store_tails = false;
    world.restart(EAST);
    assert_eq!(world.role(EAST), Role::Active);
    assert_eq!(refusal(&world.commit(EAST, vec![put("u5", "no")])), &Refusal::Unconfirmed);
    world.connect();
    world.run(3000);
    assert_eq!(world.role(EAST), Role::Fenced);
    let (_, fork, entries) = world.servers[EAST].tails.last().cloned().expect("a tail");
    assert_eq!(entries.len(), 3);
    assert_eq!(fork.seq, entries[0].position.seq);
    assert_eq!(world.value(EAST, "u0").as_deref(), Some("lost"), "nothing is re-based before the tail is stored");
    world.input(EAST, HostInput::AssertActive);
    assert!(!world.host(EAST).can_commit(GROUP), "an assertion does not undo a fence");
    world.input(EAST, HostInput::TailStored { group: GROUP });
    world.run(3000);
    assert_eq!(world.role(EAST), Role::Backup);
    world.assert_equal();
    assert_eq!(world.status(EAST).tail, 3);
    world.input(EAST, HostInput::TailOpen { group: GROUP, entries: 2 });
    assert_eq!(world.status(EAST).tail, 2, "the tail's file says what is open");
    // The first entry of the tail again, as it stands, at the pool that serves now.
    let first = entries[0].clone();
    let again = || Proposal { op: first.op, writes: vec![put("u0", "lost")], ..Proposal::default() };
    let at = committed(&world.answer(WEST, again()));
    assert_eq!(world.answer(WEST, again()), Done::Duplicate(at));
    assert_eq!(world.host(WEST).operation(GROUP, &tail_operation(&first)), Some(Some(at)));
    committed(&world.handover(WEST, 20));
    world.settle();
    assert!(world.host(EAST).can_commit(GROUP));
    assert_eq!(world.value(EAST, "u0").as_deref(), Some("lost"));
    world.assert_equal();
}

#[test]
fn a_fence_outlives_a_crash() {
    let mut world = disaster();
    world.servers[EAST].store_tails = false;
    world.restart(EAST);
    world.connect();
    world.run(1000);
    assert_eq!(world.role(EAST), Role::Fenced);
    world.crash(EAST, 0);
    world.restart(EAST);
    assert_eq!(world.role(EAST), Role::Fenced);
    world.input(EAST, HostInput::AssertActive);
    assert!(!world.host(EAST).can_commit(GROUP));
    world.servers[EAST].store_tails = true;
    world.connect();
    world.run(3000);
    assert_eq!(world.role(EAST), Role::Backup);
    world.assert_equal();
}

#[test]
fn a_fenced_copy_is_promoted_when_the_pool_that_fenced_it_is_lost() {
    for stored in [true, false] {
        let mut world = disaster();
        committed(&world.commit(WEST, vec![put("u1", "newer")]));
        world.servers[EAST].store_tails = false;
        world.restart(EAST);
        world.connect();
        while world.role(EAST) != Role::Fenced {
            world.step_frames(1);
        }
        world.cut();
        world.crash(WEST, 0);
        if stored {
            world.input(EAST, HostInput::TailStored { group: GROUP });
        }
        world.run(3000);
        assert_eq!(world.role(EAST), Role::Fenced);
        let before = world.status(EAST);
        committed(&world.promote(EAST, 30));
        assert!(world.host(EAST).can_commit(GROUP), "tail stored: {stored}");
        assert!(world.status(EAST).epoch > before.epoch, "{:?}", world.status(EAST).epoch);
        assert_eq!(world.value(EAST, "u0").as_deref(), Some("lost"), "what it committed last is there again");
        committed(&world.commit(EAST, vec![put("u5", "after")]));
        world.crash(EAST, 0);
        world.restart(EAST);
        assert_eq!(world.role(EAST), Role::Active, "the fence is not there again after a restart");
        world.restart(WEST);
        world.connect();
        world.run(5000);
        assert_eq!((world.role(EAST), world.role(WEST)), (Role::Active, Role::Backup));
        assert!(world.host(EAST).can_commit(GROUP));
        world.assert_equal();
        let (_, _, entries) = world.servers[WEST].tails.last().cloned().expect("west keeps what it committed alone");
        let now = world.host(EAST).get(GROUP, &key("u1")).map(|record| record.version);
        let stands_against = entries.iter().any(|entry| match &entry.body {
            Body::Effects(effects) => effects.iter().any(|effect| match effect {
                Effect::Put { key: of, based_on, .. } | Effect::Delete { key: of, based_on } => {
                    *of == key("u1") && *based_on != now
                }
            }),
            _ => false,
        });
        assert!(stands_against, "what west wrote alone was based on a version that is not there any more: {entries:?}");
    }
}

#[test]
fn an_order_to_stand_down_fences_durably_and_only_in_the_epoch_that_it_names() {
    let order = |world: &mut World, epoch: Epoch, by: u16| {
        let ticket = world.ticket();
        world.input(EAST, HostInput::Fence { ticket, group: GROUP, epoch, by: PoolId(by) });
        world.settle();
        world.servers[EAST].done[&ticket].clone()
    };
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    committed(&world.handover(EAST, 1));
    world.settle();
    let first = Epoch { number: 1, granted_by: PoolId(1) };
    assert!(matches!(order(&mut world, first, 2), Done::NoChange(_)), "it does not serve");
    committed(&world.handover(WEST, 2));
    world.settle();
    assert!(matches!(refusal(&order(&mut world, first, 2)), Refusal::NotActive(..)), "an order of an older epoch");
    let now = world.status(EAST).epoch;
    assert!(matches!(refusal(&order(&mut world, now, 3)), Refusal::NotNow(_)), "an order of a stranger");
    assert!(world.host(EAST).can_commit(GROUP));
    world.cut();
    committed(&world.commit(EAST, vec![put("a", "not shipped")]));
    world.servers[EAST].auto_sync = false;
    let ticket = world.ticket();
    world.input(EAST, HostInput::Fence { ticket, group: GROUP, epoch: now, by: PoolId(2) });
    world.settle();
    assert!(!world.host(EAST).can_commit(GROUP), "it stops at once");
    assert!(!world.servers[EAST].done.contains_key(&ticket), "and says so when that is on disk");
    world.servers[EAST].auto_sync = true;
    world.sync(EAST);
    world.settle();
    committed(&world.servers[EAST].done[&ticket].clone());
    assert!(matches!(refusal(&world.commit(EAST, vec![put("a", "no")])), Refusal::NotActive(..)));
    world.crash(EAST, 0);
    world.restart(EAST);
    world.input(EAST, HostInput::AssertActive);
    assert_eq!(world.role(EAST), Role::Fenced);
    let before: Disk = world.servers[EAST].disk.clone();
    // The procedure goes on: the true grant takes the order's place, with the entries that part.
    committed(&world.promote(WEST, 3));
    committed(&world.commit(WEST, vec![put("b", "west")]));
    world.connect();
    world.run(3000);
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Backup, Role::Active));
    assert_eq!(world.servers[EAST].tails.last().map(|(_, _, entries)| entries.len()), Some(1));
    world.assert_equal();
    // Or it was given up: the home pool takes the group back.
    let mut given_up = World::paired();
    given_up.crash(EAST, 0);
    given_up.servers[EAST].disk = before;
    given_up.restart(EAST);
    assert_eq!(given_up.role(EAST), Role::Fenced);
    committed(&given_up.promote(EAST, 4));
    assert!(given_up.host(EAST).can_commit(GROUP));
}

#[test]
fn both_alive_and_cut_the_older_epoch_yields() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.cut();
    committed(&world.promote(WEST, 3));
    committed(&world.commit(EAST, vec![put("a", "east")]));
    committed(&world.commit(WEST, vec![put("a", "west")]));
    world.connect();
    world.run(3000);
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Backup, Role::Active));
    world.assert_equal();
    assert_eq!(world.value(EAST, "a").as_deref(), Some("west"));
    assert_eq!(world.servers[EAST].tails.len(), 1);
}

#[test]
fn a_promotion_wins_over_a_handover_that_never_arrived() {
    let mut world = World::paired();
    committed(&world.handover(EAST, 1));
    world.run(200);
    committed(&world.commit(WEST, vec![put("a", "1")]));
    world.settle();
    // West hands back, but the entry does not arrive; East is promoted and goes on.
    world.delay = true;
    committed(&world.handover(WEST, 2));
    world.cut();
    world.delay = false;
    committed(&world.promote(EAST, 3));
    committed(&world.commit(EAST, vec![put("a", "after")]));
    world.connect();
    world.run(3000);
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Active, Role::Backup));
    assert_eq!(world.value(WEST, "a").as_deref(), Some("after"));
    world.assert_equal();
}

#[test]
fn a_promotion_ends_a_seed_and_keeps_the_old_copy() {
    let mut cfg = config(1);
    cfg.limits.retain_entries = 20;
    cfg.limits.seed_chunk = 256;
    let mut world = World::apart(cfg, config(2));
    world.pair();
    world.connect();
    world.run(500);
    committed(&world.commit(EAST, vec![put("kept", "1")]));
    world.settle();
    let old = world.status(WEST);
    world.cut();
    for n in 0..200 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.run(100);
    world.connect();
    world.step_frames(12);
    assert!(world.status(WEST).seed.is_some(), "a seed is under way");
    world.crash(EAST, 0);
    assert_eq!(world.status(WEST).position, old.position);
    committed(&world.promote(WEST, 5));
    assert_eq!(world.value(WEST, "kept").as_deref(), Some("1"));
    assert_eq!(world.value(WEST, "u0"), None);
    world.restart(EAST);
    world.connect();
    world.run(5000);
    world.assert_equal();
}

#[test]
fn a_tail_whose_front_was_let_go_is_made_whole_from_the_state() {
    let mut cfg = config(1);
    cfg.limits.retain_entries = 20;
    let mut world = World::apart(cfg, config(2));
    world.pair();
    world.connect();
    world.run(500);
    committed(&world.commit(EAST, vec![put("shared", "1")]));
    world.settle();
    world.cut();
    committed(&world.commit(EAST, vec![put("both-a", "1"), put("both-b", "1"), soft("phone", "x", 600_000)]));
    for n in 0..100 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "lost")]));
    }
    committed(&world.commit(EAST, vec![put("both-b", "2"), put("u0", "again")]));
    world.run(100);
    // A checkpoint lets the log go up to what is still kept.
    world.input(EAST, HostInput::Checkpoint { id: 1 });
    world.settle();
    assert!(world.servers[EAST].purges > 0);
    world.crash(EAST, 0);
    committed(&world.promote(WEST, 5));
    world.restart(EAST);
    world.connect();
    world.run(5000);
    assert_eq!(world.role(EAST), Role::Backup);
    world.assert_equal();
    let (_, fork, entries) = world.servers[EAST].tails.last().cloned().expect("a tail");
    assert!(entries.windows(2).all(|pair| pair[0].position < pair[1].position), "each position once, in order");
    let made: Vec<_> = entries.iter().filter(|entry| is_made(entry)).collect();
    // Entries kept: 20. Before them: two that stand only in part, and those of which nothing is left.
    assert_eq!((entries.len() - made.len(), made.len()), (20, 81));
    assert_eq!(made[0].position.seq, fork.seq);
    assert!(
        matches!(&made[0].body, Body::Effects(effects)
        if matches!(&effects[..], [Effect::Put { key: one, .. }] if *one == key("both-a"))),
        "what still stands of it"
    );
    let mut names: Vec<&str> = Vec::new();
    for entry in &entries {
        let Body::Effects(effects) = &entry.body else { panic!("{entry:?}") };
        names.extend(effects.iter().map(|effect| &*effect.key().owner));
    }
    let all = (0..100).map(|n| format!("u{n}")).chain(["both-a".to_owned(), "both-b".to_owned()]);
    assert!(all.clone().all(|name| names.contains(&name.as_str())), "every changed record is in the tail");
    assert_eq!(world.status(EAST).tail, 101);
    let told = world.servers[EAST]
        .alarms
        .iter()
        .any(|alarm| matches!(alarm, Alarm::TailFrontLost { entries: 82, made: 81, .. }));
    assert!(told, "{:?}", world.servers[EAST].alarms);
    assert_ne!(
        tail_operation(made[0]),
        tail_operation(made[1]),
        "an entry without an operation has one by its content"
    );
}

#[test]
fn an_old_disk_catches_up_from_its_backup_before_it_serves() {
    let mut world = World::paired();
    for n in 0..5 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "old")]));
    }
    let old: Disk = world.servers[EAST].disk.clone();
    for n in 0..5 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "new")]));
    }
    world.settle();
    world.restart_from(EAST, old);
    world.run(1000);
    assert!(world.host(EAST).can_commit(GROUP));
    assert_eq!(world.value(EAST, "u0").as_deref(), Some("new"));
    world.assert_equal();
    let lost = world.servers[EAST].alarms.iter().any(|alarm| matches!(alarm, Alarm::DiskLostData { .. }));
    assert!(lost);
    committed(&world.commit(EAST, vec![put("u0", "newer")]));
    world.settle();
    world.assert_equal();
}

/// What the backup has taken and not applied, because its disk is full or slow, will be applied: an active that lost it with its disk
/// must not write others in its place.
#[test]
fn an_old_disk_waits_for_what_its_backup_has_not_applied_yet() {
    for back_from in [0, 3, 5] {
        let mut world = World::paired();
        let mut old: Option<Disk> = None;
        for n in 0..5 {
            if n == back_from {
                old = Some(world.servers[EAST].disk.clone());
            }
            committed(&world.commit(EAST, vec![put(&format!("u{n}"), "new")]));
        }
        world.settle();
        let old = old.unwrap_or_else(|| world.servers[EAST].disk.clone());
        world.servers[WEST].auto_sync = false;
        for n in 0..5 {
            committed(&world.commit(EAST, vec![put(&format!("u{n}"), "newest")]));
        }
        world.run(100);
        world.restart_from(EAST, old);
        world.run(5000);
        assert!(!world.host(EAST).can_commit(GROUP), "five entries are on their way to west's disk");
        world.servers[WEST].auto_sync = true;
        world.sync(WEST);
        world.run(5000);
        assert!(world.host(EAST).can_commit(GROUP));
        assert_eq!(world.value(EAST, "u4").as_deref(), Some("newest"), "from entry {back_from}");
        committed(&world.commit(EAST, vec![put("u0", "after")]));
        world.settle();
        world.assert_equal();
        let broken =
            |at: usize| world.servers[at].alarms.iter().any(|alarm| matches!(alarm, Alarm::ChainBroken { .. }));
        assert!(!broken(EAST) && !broken(WEST));
    }
}

/// A disk that lost nothing does not wait for its backup's.
#[test]
fn an_active_that_has_everything_does_not_wait_for_its_backup() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("u", "old")]));
    world.settle();
    world.servers[WEST].auto_sync = false;
    committed(&world.commit(EAST, vec![put("u", "new")]));
    world.run(100);
    world.crash(EAST, 0);
    world.restart(EAST);
    world.connect();
    world.run(1000);
    assert!(world.host(EAST).can_commit(GROUP));
    assert_eq!(world.value(EAST, "u").as_deref(), Some("new"));
}

#[test]
fn an_old_disk_far_behind_is_seeded_back() {
    let mut east = config(1);
    east.limits.history_entries = 2;
    let mut west = config(2);
    west.limits.history_entries = 2;
    let mut world = World::apart(east, west);
    world.pair();
    world.connect();
    world.run(300);
    committed(&world.commit(EAST, vec![put("u", "old")]));
    world.run(300);
    let old = world.servers[EAST].disk.clone();
    for n in 0..50 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "new")]));
    }
    world.run(300);
    world.restart_from(EAST, old);
    world.run(3000);
    assert!(world.host(EAST).can_commit(GROUP));
    assert_eq!(world.value(EAST, "u49").as_deref(), Some("new"));
    world.assert_equal();
}

#[test]
fn a_wiped_disk_gets_its_groups_back() {
    let mut world = World::paired();
    for n in 0..20 {
        committed(&world.commit(EAST, vec![put(&format!("u{n}"), "x")]));
    }
    world.settle();
    world.crash(EAST, 0);
    world.servers[EAST].disk = Disk::default();
    world.run(5000);
    world.restart(EAST);
    world.connect();
    world.run(3000);
    assert_eq!(world.value(EAST, "u19").as_deref(), Some("x"));
    assert!(world.host(EAST).can_commit(GROUP));
    world.assert_equal();
}

#[test]
fn an_asserted_old_disk_breaks_the_chain_and_both_branches_stay() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    let old = world.servers[EAST].disk.clone();
    committed(&world.commit(EAST, vec![put("a", "2")]));
    world.settle();
    world.crash(EAST, 0);
    world.servers[EAST].disk = old;
    world.restart(EAST);
    world.input(EAST, HostInput::AssertActive);
    world.settle();
    committed(&world.commit(EAST, vec![put("a", "other")]));
    world.connect();
    world.run(3000);
    for at in [EAST, WEST] {
        let broken = world.servers[at].alarms.iter().filter(|a| matches!(a, Alarm::ChainBroken { .. })).count();
        assert_eq!(broken, 1, "server {at}");
    }
    assert_eq!(world.status(EAST).export, ExportState::Error);
    assert_eq!(world.value(WEST, "a").as_deref(), Some("2"));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("other"));
}

#[test]
fn a_restarted_pool_alone_waits_for_an_assertion() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.crash(EAST, 0);
    world.restart(EAST);
    world.run(5000);
    assert_eq!(refusal(&world.commit(EAST, vec![put("a", "2")])), &Refusal::Unconfirmed);
    world.input(EAST, HostInput::AssertActive);
    world.settle();
    committed(&world.commit(EAST, vec![put("a", "2")]));
    world.connect();
    world.run(1000);
    world.assert_equal();
}

#[test]
fn a_target_whose_digest_differs_refuses_and_stops() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.forge_handover(WEST);
    assert!(!world.host(WEST).can_commit(GROUP));
    assert!(world.status(WEST).stopped.is_some());
    let refused = world.servers[WEST].alarms.iter().any(|alarm| matches!(alarm, Alarm::HandoverRefused { .. }));
    assert!(refused);
    world.crash(WEST, 0);
    world.restart(WEST);
    assert!(world.status(WEST).stopped.is_some(), "also after a restart");
    assert_eq!(world.value(WEST, "a").as_deref(), Some("1"));
}

#[test]
fn a_swap_to_an_older_position_is_refused() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    let before = world.status(WEST).position;
    world.forge_old_seed(WEST);
    assert_eq!(world.status(WEST).position, before);
    assert_eq!(world.value(WEST, "a").as_deref(), Some("1"));
}

#[test]
fn an_overtaken_handover_does_not_activate_its_target() {
    let mut world = World::paired();
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.delay = true;
    committed(&world.handover(EAST, 1));
    world.cut();
    world.delay = false;
    // The administrator reclaims the group for East, knowing that West has not activated.
    committed(&world.promote(EAST, 2));
    committed(&world.commit(EAST, vec![put("a", "2")]));
    world.servers[WEST].auto_sync = false;
    world.connect();
    for _ in 0..40 {
        world.run(100);
        world.sync_one(WEST);
        assert!(!world.host(WEST).can_commit(GROUP), "West was never asked to serve in the end");
    }
    world.servers[WEST].auto_sync = true;
    world.sync(WEST);
    world.run(3000);
    world.assert_equal();
    assert_eq!((world.role(EAST), world.role(WEST)), (Role::Active, Role::Backup));
}

#[test]
fn the_management_store_is_handed_over_and_promoted_like_any_group() {
    let mut world = World::paired();
    let cms = pairline_group::GroupId::CMS;
    assert_eq!(world.host(WEST).role(cms), Some(Role::Backup));
    let ticket = world.ticket();
    let plan = bytes::Bytes::from_static(b"plan");
    let step = common::step(6, 0);
    world.input(WEST, HostInput::Promote { ticket, group: cms, step, operator: "anna".into(), plan: plan.clone() });
    world.run(2000);
    assert_eq!((world.host(EAST).role(cms), world.host(WEST).role(cms)), (Some(Role::Backup), Some(Role::Active)));
    let journal = world.servers[EAST].applied.iter().rev().find_map(|(group, entry)| match &entry.body {
        Body::Promote(promote) if *group == cms => Some(promote.plan.clone()),
        _ => None,
    });
    assert_eq!(journal, Some(plan), "the plan reaches the other side with the entry");
}
