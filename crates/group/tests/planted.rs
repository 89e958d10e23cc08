//! Planted faults change what can be seen from outside, each in its own way: so a checker can catch each.
#![cfg(feature = "planted")]

use super::common;

use common::{EAST, GROUP, WEST, World, committed, config, op, put, refusal, soft};
use pairline_group::io::{Alarm, Done, Lag, Proposal, Refusal, Role};
use pairline_group::planted::Planted;
use pairline_group::{Epoch, HostInput, PoolId};

fn with(planted: Planted) -> World {
    let mut east = config(1);
    let mut west = config(2);
    for cfg in [&mut east, &mut west] {
        cfg.planted = Some(planted);
        cfg.limits.history_entries = 4;
    }
    World::apart(east, west)
}

fn paired(planted: Planted) -> World {
    let mut world = with(planted);
    world.pair();
    world.connect();
    world.run(1000);
    world
}

#[test]
fn ack_before_sync() {
    let mut world = with(Planted::AckBeforeSync);
    world.servers[EAST].auto_sync = false;
    let ticket = world.propose(EAST, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    world.settle();
    committed(&world.servers[EAST].done[&ticket].clone());
    world.crash(EAST, 0);
    world.servers[EAST].auto_sync = true;
    world.restart(EAST);
    assert_eq!(world.value(EAST, "a"), None, "acknowledged and lost");
}

#[test]
fn no_epoch_check() {
    let mut world = with(Planted::NoEpochCheck);
    let other = Epoch { number: 9, granted_by: PoolId(2) };
    let guarded = Proposal { epoch: Some(other), writes: vec![put("a", "1")], ..Proposal::default() };
    committed(&world.answer(EAST, guarded));
}

#[test]
fn cursor_before_durable() {
    let mut world = paired(Planted::CursorBeforeDurable);
    world.servers[WEST].auto_sync = false;
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.run(500);
    assert_eq!(world.status(EAST).behind_entries, 0, "acknowledged, not durable");
}

#[test]
fn dedup_not_in_seed() {
    let mut world = with(Planted::DedupNotInSeed);
    let proposal = Proposal { op: Some(op(5, 1)), writes: vec![put("a", "1")], ..Proposal::default() };
    committed(&world.answer(EAST, proposal.clone()));
    for n in 0..10 {
        committed(&world.commit(EAST, vec![put("b", &n.to_string())]));
    }
    world.run(100);
    world.pair();
    world.connect();
    world.run(2000);
    committed(&world.handover(EAST, 1));
    assert!(matches!(world.answer(WEST, proposal), Done::Committed(_)), "applied twice");
}

#[test]
fn promote_same_epoch() {
    let mut world = paired(Planted::PromoteSameEpoch);
    let before = world.status(WEST).epoch;
    world.cut();
    committed(&world.promote(WEST, 1));
    assert_eq!(world.status(WEST).epoch.number, before.number);
}

#[test]
fn old_disk_accepted() {
    let mut world = paired(Planted::OldDiskAccepted);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    let old = world.servers[EAST].disk.clone();
    committed(&world.commit(EAST, vec![put("a", "2")]));
    world.settle();
    world.restart_from(EAST, old);
    world.run(1000);
    assert!(world.host(EAST).can_commit(GROUP));
    assert_eq!(world.value(EAST, "a").as_deref(), Some("1"), "serves what is older than acknowledged");
}

#[test]
fn underway_ignored() {
    let mut world = paired(Planted::UnderwayIgnored);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    let old = world.servers[EAST].disk.clone();
    world.servers[WEST].auto_sync = false;
    committed(&world.commit(EAST, vec![put("a", "2")]));
    world.run(100);
    world.restart_from(EAST, old);
    world.run(1000);
    committed(&world.commit(EAST, vec![put("a", "other")]));
    world.servers[WEST].auto_sync = true;
    world.sync(WEST);
    world.run(3000);
    let broken = |alarm: &Alarm| matches!(alarm, Alarm::ChainBroken { .. });
    assert!(world.servers[WEST].alarms.iter().any(broken), "two entries at one position");
}

#[test]
fn rebase_without_tail() {
    let mut world = paired(Planted::RebaseWithoutTail);
    world.cut();
    committed(&world.commit(EAST, vec![put("a", "lost")]));
    committed(&world.promote(WEST, 1));
    world.connect();
    world.run(3000);
    assert_eq!(world.role(EAST), Role::Backup);
    assert_eq!(world.value(EAST, "a"), None);
    assert!(world.servers[EAST].tails.is_empty(), "acknowledged, and in no tail");
}

#[test]
fn expire_by_local_clock() {
    let mut world = paired(Planted::ExpireByLocalClock);
    committed(&world.commit(EAST, vec![soft("a", "1", 5000)]));
    world.settle();
    world.skew(WEST, 60_000);
    world.run(300);
    assert_ne!(world.status(EAST).digest, world.status(WEST).digest, "copies at one position differ");
    committed(&world.handover(EAST, 1));
    world.settle();
    assert!(world.status(WEST).stopped.is_some(), "without the other fault the target refuses");
}

#[test]
fn handover_without_digest() {
    let mut world = paired(Planted::HandoverWithoutDigest);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.forge_handover(WEST);
    assert_eq!(world.role(WEST), Role::Active, "activated on a state that was not compared");
}

#[test]
fn swap_backwards() {
    let mut world = paired(Planted::SwapBackwards);
    committed(&world.commit(EAST, vec![put("a", "1")]));
    world.settle();
    world.forge_old_seed(WEST);
    assert_eq!(world.status(WEST).position.seq, 1, "the backup moved backwards");
}

#[test]
fn lag_from_wall_clock() {
    let mut world = paired(Planted::LagFromWallClock);
    world.cut();
    world.run(60_000);
    assert!(matches!(world.status(WEST).lag, Lag::AtMost(lag) if lag < 60_000), "below the silence");
}

#[test]
fn unconfirmed_serves() {
    let mut world = paired(Planted::UnconfirmedServes);
    world.crash(EAST, 0);
    world.restart(EAST);
    committed(&world.commit(EAST, vec![put("a", "1")]));
}

#[test]
fn soft_extension_forgotten() {
    let mut world = paired(Planted::SoftExtensionForgotten);
    committed(&world.commit(EAST, vec![soft("phone", "here", 30_000)]));
    world.settle();
    world.crash(EAST, 0);
    world.run(40_000);
    committed(&world.promote(WEST, 1));
    assert_eq!(world.value(WEST, "phone"), None, "expired during the outage");
}

#[test]
fn without_a_fault_the_feature_changes_nothing() {
    let mut world = World::paired();
    world.crash(EAST, 0);
    world.restart(EAST);
    assert_eq!(refusal(&world.commit(EAST, vec![put("a", "1")])), &Refusal::Unconfirmed);
    world.input(EAST, HostInput::AssertActive);
    world.settle();
    committed(&world.commit(EAST, vec![put("a", "1")]));
}
