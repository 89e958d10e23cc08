//! Who leads: for how long a leader may count on it, how soon another takes over, and that none does without need.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Done, Proposal, Refusal};
use pairline_group::{HostConfig, HostInput, Millis, ReplicaBody, ServerId};
use pool::{GROUP, Pool, put};

fn server(pool: &Pool, at: usize) -> ServerId {
    pool.members[at].cfg.server
}

#[test]
fn all_know_who_leads_and_the_leader_knows_how_the_others_stand() {
    let mut pool = Pool::new(3, 1);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    for at in 0..3 {
        assert_eq!(pool.host(at).leader(GROUP), Some(server(&pool, leader)));
        assert_eq!(pool.host(at).group(GROUP).unwrap().leader, Some(server(&pool, leader)));
        assert_eq!(pool.host(at).leads(GROUP), at == leader);
        let known = if at == leader { 3 } else { 0 };
        assert_eq!(pool.host(at).replicas(GROUP).len(), known);
    }
    let dead = (leader + 1) % 3;
    pool.crash(dead, 0);
    for n in 0..5 {
        pool.committed(leader, &format!("k{n}"), "x");
    }
    pool.run(1_000);
    for status in pool.host(leader).replicas(GROUP) {
        let here = status.server == server(&pool, leader);
        assert_eq!(status.leads, here);
        assert_eq!(status.heard, status.server != server(&pool, dead));
        assert_eq!(status.behind, if status.heard { 0 } else { 5 }, "{status:?}");
    }
    let alone = Pool::new(1, 1);
    assert_eq!(alone.host(0).leader(GROUP), Some(server(&alone, 0)));
    assert!(alone.host(0).leads(GROUP) && alone.host(0).replicas(GROUP)[0].leads);
}

#[test]
fn a_leader_that_stood_still_does_not_answer_from_what_it_knew() {
    for stood in [450, 1_000, 10_000] {
        let mut pool = Pool::new(3, 2);
        pool.run(3_000);
        let old = pool.leader().unwrap();
        pool.committed(old, "a", "old");
        pool.freeze(old);
        pool.run(stood);
        let new = pool.leader();
        if let Some(new) = new {
            pool.committed(new, "a", "new");
        }
        let changes = pool.members[old].changes;
        pool.thaw(old);
        assert!(!pool.host(old).can_commit(GROUP) && !pool.host(old).leads(GROUP), "after {stood} ms");
        assert_eq!(pool.host(old).leader(GROUP), None, "it cannot tell");
        let refused = pool.answer(old, Proposal { writes: vec![put("a", "late")], ..Proposal::default() });
        assert_eq!(refused, Done::Refused(Refusal::NotLeader(None)));
        assert!(pool.members[old].changes > changes, "its shell is told");
        pool.catch_up(old);
        pool.run(1_000);
        let leader = pool.leader().unwrap();
        assert_eq!(new.unwrap_or(old), leader, "and who leads does not change by its return");
        for at in 0..3 {
            assert_eq!(pool.host(at).leader(GROUP), Some(server(&pool, leader)));
        }
    }
}

#[test]
fn a_leader_that_nobody_hears_knows_it_soon_and_says_so() {
    let mut pool = Pool::new(3, 3);
    pool.run(3_000);
    let old = pool.leader().unwrap();
    pool.isolate(old);
    let changes = pool.members[old].changes;
    assert!(pool.host(old).leads(GROUP), "a moment ago it was heard");
    pool.run(450);
    assert!(!pool.host(old).leads(GROUP) && !pool.host(old).can_commit(GROUP));
    assert!(pool.members[old].changes > changes);
    assert_eq!(pool.host(old).leader(GROUP), None);
    // Nothing else happens to those that wait: what was proposed may still come about.
    pool.rejoin(old);
    pool.run(1_000);
    assert!(pool.leader().is_some());
}

#[test]
fn who_comes_back_waits_before_it_votes() {
    // A follower dies and is there again at once, the other is cut off with its leader alive: nobody leads beside the old one.
    let mut pool = Pool::new(3, 4);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    let (restarts, other) = ((leader + 1) % 3, (leader + 2) % 3);
    pool.run(100);
    pool.freeze(leader);
    pool.crash(restarts, 0);
    pool.restart(restarts);
    pool.run(300);
    pool.thaw(leader);
    let led = |at: usize, pool: &Pool| pool.host(at).leads(GROUP);
    assert!(led(leader, &pool) as u8 + led(restarts, &pool) as u8 + led(other, &pool) as u8 <= 1);
}

/// A leader stands still when it has told another to lead, which then does; whether it still says that it leads when it wakes.
fn leads_beside_its_successor(change: impl Fn(&mut HostConfig)) -> bool {
    let mut pool = Pool::with(3, 9, change);
    pool.run(8_000);
    let old = pool.leader().unwrap();
    pool.delay = true;
    pool.input(old, HostInput::Drain { on: true });
    while !pool.said().iter().any(|said| said.body == ReplicaBody::TimeoutNow) {
        pool.run(50);
        for _ in 0..pool.waiting() {
            pool.deliver(0);
        }
        pool.settle();
        assert!(pool.now < 12_000, "nobody is told");
    }
    pool.freeze(old);
    pool.delay = false;
    pool.run(50);
    let new = pool.leader().unwrap();
    pool.committed(new, "a", "new");
    pool.thaw(old);
    pool.host(old).leads(GROUP)
}

#[test]
fn whoever_told_another_to_lead_does_not_lead_any_more() {
    assert!(!leads_beside_its_successor(|_| {}));
}

#[cfg(feature = "planted")]
#[test]
fn one_that_goes_on_after_it_told_another_is_seen() {
    assert!(leads_beside_its_successor(|cfg| cfg.planted = Some(pairline_group::planted::Planted::PassedOnAndKept)));
}

/// How long nobody leads after something happened to the leader.
fn gap(seed: u64, happens: impl Fn(&mut Pool, usize)) -> Millis {
    let mut pool = Pool::new(3, seed);
    pool.run_unevenly(2_000 + seed * 10 % 200);
    let old = pool.leader().unwrap();
    happens(&mut pool, old);
    let began = pool.now;
    loop {
        pool.run_unevenly(10);
        let next = pool.leader();
        if next.is_some_and(|at| at != old) {
            return pool.now - began;
        }
        assert!(pool.now - began < 5_000, "seed {seed}: nobody leads");
    }
}

fn percentiles(happens: impl Fn(&mut Pool, usize)) -> (Millis, Millis, Millis) {
    let mut gaps: Vec<Millis> = (0..100).map(|seed| gap(seed, &happens)).collect();
    gaps.sort_unstable();
    (gaps[50], gaps[95], gaps[99])
}

#[test]
fn another_leads_soon() {
    let killed = percentiles(|pool, leader| pool.crash(leader, 0));
    let frozen = percentiles(Pool::freeze);
    println!("killed {killed:?}, frozen {frozen:?} (median, 95th, 99th percentile, in ms)");
    assert!(killed.1 <= 600, "{killed:?}");
    assert!(frozen.1 <= 1_100, "{frozen:?}");
}

#[test]
fn a_machine_that_stands_still_for_a_moment_keeps_what_it_leads() {
    for seed in 0..30 {
        let mut pool = Pool::new(3, seed);
        // Until whoever should lead does.
        pool.run_unevenly(8_000);
        let leader = pool.leader().unwrap();
        for at in [leader, (leader + 1) % 3, (leader + 2) % 3] {
            pool.run_unevenly(200 + seed * 10);
            pool.freeze(at);
            pool.run_unevenly(300);
            pool.thaw(at);
            pool.catch_up(at);
            pool.run_unevenly(1_000);
            assert_eq!(pool.leader(), Some(leader), "seed {seed}");
        }
    }
}
