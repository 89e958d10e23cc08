//! Two builds in one pool: it is brought to the newer one server by server while its users go on, and back, until the newer feature level
//! is in force.
#![allow(clippy::unwrap_used)]

use super::people;
use super::processes;
use super::support;

use pairline_topology::Topology;
use pairline_topology::policy_features::FeaturePolicy;
use people::{all_served, change, with_phones};
use processes::Pool;
use std::path::{Path, PathBuf};
use support::wait_for;

/// The program of a build that knows one feature level more (`--features next`); `./test` builds it.
fn next() -> Option<PathBuf> {
    let program = std::env::var_os("PAIRLINE_NEXT_BIN").map(PathBuf::from);
    if program.is_none() {
        assert!(std::env::var_os("CI").is_none(), "PAIRLINE_NEXT_BIN names no program");
        println!("skipped: PAIRLINE_NEXT_BIN names no program of the next feature level; `./test process` builds it");
    }
    program
}

fn at_level(pool: &Pool, level: u16) -> Topology {
    let mut topology = pool.topology.clone();
    topology.policies.features = FeaturePolicy { level };
    topology
}

/// What is said of a topology with that level, which is refused.
fn refused(pool: &Pool, level: u16) -> String {
    let output = pool.try_publish(&at_level(pool, level));
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn replace(pool: &mut Pool, n: usize, program: Option<&Path>) {
    pool.kill(n);
    pool.install(n, program);
    pool.launch(n);
    pool.settled(n);
}

#[test]
fn a_pool_is_brought_to_a_newer_build_and_back_until_the_newer_level_is_in_force() {
    let Some(next) = next() else { return };
    let (mut pool, mut phones) = with_phones();
    replace(&mut pool, 0, Some(&next));
    change(&pool, &[0, 1, 2], 1);
    all_served(&pool, &mut phones, &[0, 1, 2], 2);
    let told = refused(&pool, 2);
    assert!(told.contains("knows up to 1") && told.contains("fe2.") && told.contains("fe3."), "{told}");
    // It was not what was hoped for: back, with what the newer build has written.
    replace(&mut pool, 0, None);
    change(&pool, &[0, 1, 2], 2);
    for n in 0..3 {
        replace(&mut pool, n, Some(&next));
        change(&pool, &[2, 0, 1], 3 + n as u64);
    }
    all_served(&pool, &mut phones, &[0, 1, 2], 6);
    let said = |pool: &Pool, words: &str| (0..3).filter(|n| pool.said(*n).contains(words)).count();
    assert_eq!(
        (said(&pool, "peer-frame-refused"), said(&pool, "at-level")),
        (0, 0),
        "nobody hears what it may not know"
    );
    // Now all know it, but one is away.
    pool.kill(1);
    let told = refused(&pool, 2);
    assert!(told.contains("fe2.") && told.contains("does not answer"), "{told}");
    pool.launch(1);
    pool.settled(1);
    let raised = at_level(&pool, 2);
    pool.publish(raised);
    wait_for("all three at the newer level", || (said(&pool, "at-level") == 3).then_some(()));
    change(&pool, &[0, 1, 2], 6);
    assert!(refused(&pool, 1).contains("never lowered"));
    // The older build does not touch what it may not understand.
    pool.kill(2);
    pool.install(2, None);
    pool.launch(2);
    assert!(!pool.ended(2), "{}", pool.logs());
    assert!(pool.said(2).contains("put the newer program in its place"), "{}", pool.logs());
    change(&pool, &[0, 1], 7);
    pool.install(2, Some(&next));
    pool.launch(2);
    pool.settled(2);
    all_served(&pool, &mut phones, &[0, 1, 2], 8);
}
