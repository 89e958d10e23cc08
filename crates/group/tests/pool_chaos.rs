//! Random changes, crashes, cuts, slow disks and checkpoints on a pool of three, then healing: what was acknowledged is there, on all
//! copies, and they are equal. With faults planted, something of it does not hold.

use super::chaos_rig as chaos;

use chaos::{Chaos, Met};
use pairline_group::HostConfig;

fn run(seed: u64, change: impl Fn(&mut HostConfig)) -> Result<Met, String> {
    chaos::run(Chaos::new(seed, |cfg| {
        chaos::tight(seed, cfg);
        change(cfg);
    }))
}

#[test]
fn what_is_acknowledged_survives_whatever_happens_to_one_server_after_another() {
    let (mut acknowledged, mut copies) = (0, 0);
    let seeds: u64 = option_env!("CHAOS_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(300);
    let first: u64 = option_env!("CHAOS_FIRST").and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let met = run(seed, |_| {}).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        acknowledged += met.acknowledged;
        copies += met.copies;
    }
    assert!(acknowledged > 900, "something was acknowledged: {acknowledged}");
    assert!(copies > 10, "copies were taken over: {copies}");
}

#[cfg(feature = "planted")]
#[test]
fn planted_faults_are_caught() {
    use pairline_group::planted::Planted;
    for planted in [
        Planted::FollowerSpeaksEarly,
        Planted::CopyNotDurable,
        Planted::LeadsBeforeApplied,
        Planted::FlightsOutliveLeader,
        Planted::LeaseIgnored,
        Planted::PromiseForgotten,
    ] {
        let caught = (0..2_000).find_map(|seed| {
            let fails = |seed| run(seed, |cfg| cfg.planted = Some(planted)).err();
            std::panic::catch_unwind(|| fails(seed)).unwrap_or(Some("a panic".to_owned())).map(|why| (seed, why))
        });
        println!("{planted:?}: {caught:?}");
        assert!(caught.is_some(), "{planted:?} is not caught");
    }
}
