//! Two servers with data and a witness: any one of the three may fail, and what is acknowledged while all are there is on both disks.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Alarm, Done, Proposal, Refusal};
use pairline_group::{HostConfig, Millis, Position, ReplicaBody};
use pool::{GROUP, Pool, put};

/// The last member.
const WITNESS: usize = 2;

fn witnessed(seed: u64) -> Pool {
    let mut pool = Pool::witnessed(seed, |_| {});
    pool.run(3_000);
    pool
}

/// The one that leads, and the other with data.
fn both(pool: &Pool) -> (usize, usize) {
    let leader = pool.leader().expect("a leader");
    assert_ne!(leader, WITNESS);
    (leader, 1 - leader)
}

/// The witness has a replica, and nothing in it.
fn assert_empty(pool: &Pool) {
    let status = pool.host(WITNESS).group(GROUP).unwrap();
    assert_eq!((status.position, status.records, status.bytes), (Position::default(), 0, 0));
    assert_eq!(status.stopped, None);
    assert!(!pool.host(WITNESS).leads(GROUP));
}

/// Both copies are equal.
fn assert_equal(pool: &Pool) {
    let standing = |at| pool.host(at).group(GROUP).map(|status| (status.position, status.digest, status.records));
    assert_eq!(standing(0), standing(1));
}

#[test]
fn changes_go_on_without_either_server_or_the_witness() {
    for seed in 0..10 {
        let mut pool = witnessed(seed);
        let (leader, other) = both(&pool);
        pool.committed(leader, "a", "all");
        for gone in [other, WITNESS, leader] {
            pool.crash(gone, 0);
            pool.run(1_500);
            let (now, _) = both(&pool);
            for n in 0..20 {
                pool.committed(now, &format!("k{n}"), &gone.to_string());
            }
            pool.restart(gone);
            pool.run(3_000);
            let (now, _) = both(&pool);
            pool.committed(now, "a", &format!("with {gone}"));
            pool.run(200);
            assert_eq!(pool.value(0, "k7"), Some(gone.to_string()));
            assert_equal(&pool);
            assert_empty(&pool);
        }
    }
}

#[test]
fn without_the_witness_and_one_server_nothing_is_changed() {
    let mut pool = witnessed(1);
    let (leader, other) = both(&pool);
    pool.committed(leader, "a", "1");
    pool.crash(WITNESS, 0);
    pool.crash(other, 0);
    pool.run(1_000);
    let refused = pool.commit(leader, vec![put("a", "2")]);
    assert_eq!(refused, Done::Refused(Refusal::NotLeader(None)));
    assert!(pool.leader().is_none());
    pool.restart(WITNESS);
    pool.run(2_000);
    pool.committed(leader, "a", "3");
}

/// Whether a change is acknowledged of which the other server has not heard, though it is there.
fn acknowledged_without_the_other(change: impl Fn(&mut HostConfig)) -> bool {
    let mut pool = Pool::witnessed(2, change);
    pool.run(8_000);
    let (leader, other) = both(&pool);
    pool.delay = true;
    let ticket = pool.propose(leader, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    pool.settle();
    // What goes to the witness, and comes from it, is there at once; what goes to the other is on its way.
    for _ in 0..20 {
        pool.deliver_between(leader, WITNESS);
        pool.settle();
    }
    let early = pool.answer_to(leader, ticket).is_some();
    let said = pool.said();
    let told = |replica| {
        let items = |body: &ReplicaBody| matches!(body, ReplicaBody::Append { items, .. } if !items.is_empty());
        said.iter().any(|message| message.to == replica && items(&message.body))
    };
    assert!(told(pool.replica(other)), "the other is told");
    pool.delay = false;
    pool.settle();
    assert!(matches!(pool.answer_to(leader, ticket), Some(Done::Committed(_))));
    early
}

#[test]
fn while_the_other_is_there_nothing_is_acknowledged_without_it() {
    assert!(!acknowledged_without_the_other(|_| {}));
}

#[cfg(feature = "planted")]
#[test]
fn a_witness_that_counts_at_once_is_seen() {
    use pairline_group::planted::Planted;
    assert!(acknowledged_without_the_other(|cfg| cfg.planted = Some(Planted::WitnessCounted)));
}

#[test]
fn the_witness_helps_nobody_to_lead_that_lacks_what_was_acknowledged() {
    for seed in 0..10 {
        let mut pool = witnessed(seed);
        let (leader, other) = both(&pool);
        pool.crash(other, 0);
        pool.run(1_000);
        pool.committed(leader, "a", "on one disk");
        pool.crash(leader, 0);
        pool.restart(other);
        pool.run(20_000);
        assert!(pool.leader().is_none(), "seed {seed}: the group waits for the disk that has it");
        pool.restart(leader);
        pool.run(3_000);
        let (now, _) = both(&pool);
        assert_eq!(pool.value(now, "a").as_deref(), Some("on one disk"));
        pool.committed(now, "a", "on both");
        assert_equal(&pool);
    }
}

#[test]
fn a_disk_that_stands_still_is_not_waited_for_for_long() {
    let mut pool = witnessed(3);
    let (leader, other) = both(&pool);
    pool.members[other].auto_sync = false;
    let ticket = pool.propose(leader, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    pool.run(500);
    assert_eq!(pool.answer_to(leader, ticket), None, "it is there, and its disk may be a little slow");
    pool.run(1_000);
    assert!(matches!(pool.answer_to(leader, ticket), Some(Done::Committed(_))));
    // From then on nobody waits for it.
    pool.committed(leader, "b", "1");
    pool.members[other].auto_sync = true;
    pool.sync(other);
    pool.run(1_000);
    pool.members[other].auto_sync = false;
    let ticket = pool.propose(leader, Proposal { writes: vec![put("c", "1")], ..Proposal::default() });
    pool.run(300);
    assert_eq!(pool.answer_to(leader, ticket), None, "it counts again, as it has caught up");
}

#[test]
fn a_server_that_returns_is_waited_for_only_once_it_has_caught_up() {
    let mut pool = Pool::witnessed(4, |cfg| (cfg.limits.replica_items, cfg.limits.seed_chunk) = (8, 200));
    pool.run(3_000);
    let (leader, other) = both(&pool);
    pool.crash(other, 0);
    pool.run(600);
    for n in 0..300 {
        pool.committed(leader, &format!("k{n}"), "x");
    }
    (0..3).filter(|at| *at != other).for_each(|at| pool.checkpoint(at));
    pool.members[other].auto_sync = false;
    pool.restart(other);
    for n in 0..20 {
        pool.run(100);
        pool.committed(leader, &format!("m{n}"), "x");
    }
    pool.members[other].auto_sync = true;
    pool.sync(other);
    pool.run(500);
    pool.checkpoint(other);
    pool.run(2_000);
    pool.committed(leader, "last", "x");
    assert_eq!(pool.value(other, "last").as_deref(), Some("x"));
    assert_equal(&pool);
}

#[test]
fn an_emptied_disk_comes_in_anew() {
    for emptied in [0, 1, WITNESS] {
        let mut pool = witnessed(5);
        let (leader, _) = both(&pool);
        for n in 0..50 {
            pool.committed(leader, &format!("k{n}"), "x");
        }
        pool.run(200);
        pool.crash(emptied, 0);
        pool.empty(emptied);
        pool.restart(emptied);
        pool.live(20_000);
        assert!(pool.members[emptied].alarms.iter().any(|alarm| matches!(alarm, Alarm::OldDisk { .. })));
        let (voters, learners) = pool.replicas();
        assert_eq!((voters, learners), ([0, 1, WITNESS].into(), [].into()), "{emptied}");
        // Each of the others may go now.
        for gone in (0..3).filter(|at| *at != emptied) {
            pool.crash(gone, 0);
            pool.run(1_500);
            let (leader, _) = both(&pool);
            pool.committed(leader, "a", "x");
            pool.restart(gone);
            pool.run(3_000);
        }
        assert_equal(&pool);
        assert_empty(&pool);
    }
}

#[test]
fn a_pool_of_two_gets_a_witness_and_grows_beyond_it() {
    let mut pool = Pool::new(2, 6);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    for n in 0..50 {
        pool.committed(leader, &format!("k{n}"), "x");
    }
    let witness = pool.add_as(true);
    pool.servers_with(&[0, 1], Some(witness));
    pool.live(10_000);
    assert_eq!(pool.replicas(), ([0, 1, witness].into(), [].into()));
    assert_empty(&pool);
    let (leader, other) = both(&pool);
    pool.crash(other, 0);
    pool.run(1_000);
    pool.committed(leader, "a", "1");
    pool.restart(other);
    pool.run(3_000);

    let third = pool.add();
    pool.servers(&[0, 1, third]);
    pool.live(30_000);
    assert_eq!(pool.replicas(), ([0, 1, third].into(), [].into()));
    assert_eq!(pool.with_copy(), [0, 1, third], "the witness has let go");
    let leader = pool.leader().unwrap();
    pool.committed(leader, "a", "2");
    pool.run(200);
    assert_eq!(pool.value(third, "k7").as_deref(), Some("x"));
    // And back: one goes, and a witness comes.
    let again = pool.add_as(true);
    pool.servers_with(&[0, 1], Some(again));
    pool.live(30_000);
    assert_eq!(pool.replicas(), ([0, 1, again].into(), [].into()));
}

#[test]
fn a_drained_server_passes_on_to_the_other_and_never_to_the_witness() {
    let mut pool = witnessed(7);
    let (leader, other) = both(&pool);
    pool.input(leader, pairline_group::HostInput::Drain { on: true });
    pool.run(2_000);
    assert_eq!(pool.leader(), Some(other));
    pool.crash(leader, 0);
    pool.input(other, pairline_group::HostInput::Drain { on: true });
    pool.run(5_000);
    assert_eq!(pool.leader(), Some(other), "there is nobody else");
    assert_empty(&pool);
}

#[test]
fn the_other_leads_soon() {
    let gap = |seed: u64, happens: &dyn Fn(&mut Pool, usize)| -> Millis {
        let mut pool = Pool::witnessed(seed, |_| {});
        pool.run_unevenly(2_000 + seed * 10 % 200);
        let (old, other) = both(&pool);
        happens(&mut pool, old);
        let began = pool.now;
        while pool.leader() != Some(other) {
            pool.run_unevenly(10);
            assert!(pool.now - began < 5_000, "seed {seed}: nobody leads");
        }
        pool.committed(other, "a", "x");
        pool.now - began
    };
    let median = |happens: &dyn Fn(&mut Pool, usize)| {
        let mut gaps: Vec<Millis> = (0..50).map(|seed| gap(seed, happens)).collect();
        gaps.sort_unstable();
        (gaps[25], gaps[47])
    };
    let (killed, frozen) = (median(&|pool, at| pool.crash(at, 0)), median(&Pool::freeze));
    println!("killed {killed:?}, frozen {frozen:?} (median, 95th percentile, in ms)");
    assert!(killed.1 <= 600, "{killed:?}");
    assert!(frozen.1 <= 1_300, "{frozen:?}");
}

#[test]
fn where_the_witness_waits_for_a_disk_that_is_gone_the_other_server_goes_on_by_command() {
    for seed in 0..6 {
        let mut pool = witnessed(seed);
        let (leader, other) = both(&pool);
        pool.committed(leader, "a", "all");
        pool.crash(other, 0);
        pool.run(1_500);
        pool.committed(leader, "alone", "x");
        pool.crash(leader, 0);
        pool.restart(other);
        pool.run(5_000);
        assert_eq!(pool.leader(), None, "seed {seed}: it lacks what was acknowledged, and the witness knows");
        let at = pool.survived(other, 7);
        assert!(at.epoch.number > 1);
        pool.committed(other, "b", "2");
        pool.live(6_000);
        assert_eq!(pool.leader(), Some(other), "seed {seed}");
        pool.committed(other, "c", "3");
        // The disk turns up after all: what only it has is kept apart, and it comes in anew.
        pool.restart(leader);
        pool.live(10_000);
        let outlived = |at: usize| {
            let alarms = pool.members[at].alarms.iter();
            alarms.filter(|alarm| matches!(alarm, Alarm::Outlived { tail, .. } if *tail > 0)).count()
        };
        assert_eq!(outlived(leader), 1, "seed {seed}");
        assert_equal(&pool);
        assert_empty(&pool);
        assert_eq!((pool.value(other, "alone"), pool.value(leader, "c")), (None, Some("3".into())), "seed {seed}");
        // Any one may fail again.
        for gone in [other, WITNESS, leader] {
            pool.crash(gone, 0);
            pool.run(2_000);
            let (now, _) = both(&pool);
            pool.committed(now, "d", &gone.to_string());
            pool.restart(gone);
            pool.live(4_000);
        }
        assert_equal(&pool);
    }
}
