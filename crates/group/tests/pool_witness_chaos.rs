//! Random changes, crashes, cuts, slow disks and checkpoints on a pool of two servers and a witness, then healing: what was acknowledged is
//! there, on both copies, they are equal, and the witness holds nothing. And while all three are there, either disk may be lost. With faults
//! planted, something of it does not hold.

use super::chaos_rig as chaos;

use chaos::{Chaos, Met};
use pairline_group::HostConfig;

const WITNESS: usize = 2;

fn run(seed: u64, change: impl Fn(&mut HostConfig)) -> Result<Met, String> {
    chaos::run(Chaos::witnessed(seed, |cfg| {
        chaos::tight(seed, cfg);
        change(cfg);
    }))
}

/// All three are there, with links that deliver in any order and disks that take a moment; then the leader is gone for ever, disk and all.
/// The other leads soon, with everything that was acknowledged.
fn lose_one(seed: u64, change: impl Fn(&mut HostConfig)) -> Result<usize, String> {
    let mut chaos = Chaos::witnessed(seed, change);
    chaos.pool.run(8_000);
    chaos.pool.delay = true;
    chaos.pool.members.iter_mut().for_each(|member| member.auto_sync = false);
    for _ in 0..20 + chaos.rng.below(60) {
        chaos.jostle();
    }
    let leader = chaos.pool.leader().ok_or("nobody leads")?;
    chaos.note();
    let acknowledged = chaos.acknowledged.len();
    chaos.pool.crash(leader, 0);
    chaos.pool.delay = false;
    for at in [1 - leader, WITNESS] {
        chaos.pool.members[at].auto_sync = true;
        chaos.pool.sync(at);
    }
    chaos.pool.run(2_500);
    if chaos.pool.leader() != Some(1 - leader) {
        return Err("the other does not lead".to_owned());
    }
    let lost = |number: &&u64| chaos.pool.value(1 - leader, &format!("n{number}")).is_none();
    match chaos.acknowledged.keys().find(lost) {
        Some(number) => Err(format!("{number} was acknowledged, and is lost")),
        None => Ok(acknowledged),
    }
}

fn seeds(most: u64) -> std::ops::Range<u64> {
    let seeds: u64 = option_env!("CHAOS_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(most);
    let first: u64 = option_env!("CHAOS_FIRST").and_then(|n| n.parse().ok()).unwrap_or(0);
    first..first + seeds
}

#[test]
fn what_is_acknowledged_survives_whatever_happens_to_one_server_after_another() {
    let (mut acknowledged, mut copies) = (0, 0);
    for seed in seeds(300) {
        let met = run(seed, |_| {}).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        acknowledged += met.acknowledged;
        copies += met.copies;
    }
    assert!(acknowledged > 900, "something was acknowledged: {acknowledged}");
    assert!(copies > 10, "copies were taken over: {copies}");
}

#[test]
fn while_both_are_there_either_disk_may_be_lost() {
    let mut acknowledged = 0;
    for seed in seeds(300) {
        acknowledged += lose_one(seed, |_| {}).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(acknowledged > 900, "something was acknowledged: {acknowledged}");
}

#[cfg(feature = "planted")]
#[test]
fn planted_faults_are_caught() {
    use pairline_group::planted::Planted;
    let caught = |name: &str, fails: &dyn Fn(u64) -> Option<String>| {
        let caught = (0..2_000).find_map(|seed| {
            let why = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fails(seed)));
            why.unwrap_or(Some("a panic".to_owned())).map(|why| (seed, why))
        });
        println!("{name}: {caught:?}");
        assert!(caught.is_some(), "{name} is not caught");
    };
    for planted in [Planted::WitnessLeads, Planted::WitnessVotesForAll] {
        caught(&format!("{planted:?}"), &|seed| run(seed, |cfg| cfg.planted = Some(planted)).err());
    }
    let counted = |seed| lose_one(seed, |cfg| cfg.planted = Some(Planted::WitnessCounted)).err();
    caught("WitnessCounted", &counted);
}
