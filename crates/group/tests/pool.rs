//! Several servers of one pool: what is acknowledged survives the loss of any of them, one leads at a time, the others take over.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Alarm, Done, Proposal, Refusal};
use pairline_group::{HostConfig, HostInput, OpId};
use pool::{GROUP, Pool, put};

#[test]
fn one_server_leads_and_all_have_what_it_commits() {
    let mut pool = Pool::new(3, 1);
    pool.run(3_000);
    let leader = pool.leader().expect("a leader");
    let position = pool.committed(leader, "a", "1");
    pool.run(500);
    for at in 0..3 {
        assert_eq!(pool.value(at, "a").as_deref(), Some("1"));
        assert_eq!(pool.host(at).position(GROUP), Some(position));
        assert_eq!(pool.host(at).can_commit(GROUP), at == leader);
    }
    let elsewhere = pool.commit((leader + 1) % 3, vec![put("a", "2")]);
    let server = pool.members[leader].cfg.server;
    assert_eq!(elsewhere, Done::Refused(Refusal::NotLeader(Some(server))), "whoever does not lead says who does");
    pool.assert_equal();
}

#[test]
fn a_change_is_answered_when_a_majority_has_it_on_disk() {
    let mut pool = Pool::new(3, 2);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for at in 0..3 {
        pool.members[at].auto_sync = false;
    }
    let ticket = pool.propose(leader, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    pool.settle();
    assert_eq!(pool.answer_to(leader, ticket), None, "nobody has it");
    pool.sync(leader);
    pool.settle();
    assert_eq!(pool.answer_to(leader, ticket), None, "one of three");
    pool.sync(others[0]);
    pool.settle();
    assert!(matches!(pool.answer_to(leader, ticket), Some(Done::Committed(_))), "two of three");
    assert_eq!(pool.value(others[1], "a"), None, "the third is behind");
}

#[test]
fn a_majority_does_without_its_leaders_own_disk() {
    let mut pool = Pool::new(3, 3);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    pool.members[leader].auto_sync = false;
    let ticket = pool.propose(leader, Proposal { writes: vec![put("a", "1")], ..Proposal::default() });
    pool.run(300);
    // It is committed, and the leader's state has it once its own disk does.
    assert_eq!(pool.answer_to(leader, ticket), None);
    pool.sync(leader);
    pool.settle();
    assert!(matches!(pool.answer_to(leader, ticket), Some(Done::Committed(_))));
}

#[test]
fn the_death_of_any_server_loses_nothing_that_was_answered() {
    for seed in 0..20 {
        let mut pool = Pool::new(3, seed);
        pool.run(3_000);
        for round in 0..6_usize {
            let leader = pool.leader().expect("a leader");
            let name = format!("k{round}");
            pool.committed(leader, &name, "x");
            let dies = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
            pool.crash(dies, round % 3);
            let began = pool.now;
            while pool.leader().is_none() {
                pool.run(50);
                assert!(pool.now - began < 5_000, "seed {seed}: nobody leads");
            }
            let leader = pool.leader().unwrap();
            for before in 0..=round {
                assert_eq!(
                    pool.value(leader, &format!("k{before}")).as_deref(),
                    Some("x"),
                    "seed {seed}, round {round}"
                );
            }
            pool.committed(leader, &format!("m{round}"), "y");
            pool.restart(dies);
            pool.run(3_000);
            pool.assert_equal();
        }
    }
}

#[test]
fn two_of_three_are_gone_and_nothing_is_acknowledged() {
    let mut pool = Pool::new(3, 5);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    pool.committed(leader, "a", "1");
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        pool.crash(other, 0);
    }
    let op = Some(OpId { session: 9, counter: 1 });
    let proposal = Proposal { op, writes: vec![put("b", "1")], ..Proposal::default() };
    let ticket = pool.propose(leader, proposal.clone());
    pool.run(500);
    assert_eq!(pool.answer_to(leader, ticket), None);
    pool.run(4_000);
    assert_eq!(pool.answer_to(leader, ticket), Some(Done::Refused(Refusal::OutcomeUnknown)), "it no longer leads");
    assert!(pool.leader().is_none());
    assert_eq!(pool.value(leader, "a").as_deref(), Some("1"), "and can still be read");
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        pool.restart(other);
    }
    pool.run(5_000);
    let leader = pool.leader().expect("all are back");
    let again = pool.answer(leader, proposal);
    assert!(matches!(again, Done::Committed(_) | Done::Duplicate(_)), "the same operation is applied once: {again:?}");
    pool.run(500);
    pool.assert_equal();
}

#[test]
fn a_leader_that_is_cut_off_steps_down_and_what_it_proposed_does_not_return() {
    let mut pool = Pool::new(3, 6);
    pool.run(3_000);
    let old = pool.leader().unwrap();
    pool.isolate(old);
    let ticket = pool.propose(old, Proposal { writes: vec![put("a", "old")], ..Proposal::default() });
    pool.run(5_000);
    assert_eq!(pool.answer_to(old, ticket), Some(Done::Refused(Refusal::OutcomeUnknown)));
    assert!(!pool.host(old).can_commit(GROUP));
    let new = pool.leader().expect("the others have a leader");
    assert_ne!(new, old);
    pool.committed(new, "a", "new");
    pool.rejoin(old);
    pool.run(2_500);
    assert_eq!(pool.value(old, "a").as_deref(), Some("new"));
    pool.assert_equal();
    assert_eq!(pool.leader(), Some(new), "who comes back does not disturb who leads");
}

#[test]
fn five_servers_have_three_copies_of_each_group() {
    let mut pool = Pool::new(5, 7);
    pool.run(3_000);
    let holders: Vec<usize> = (0..5).filter(|at| pool.host(*at).position(GROUP).is_some()).collect();
    assert_eq!(holders.len(), 3);
    let leader = pool.leader().unwrap();
    pool.committed(leader, "a", "1");
    pool.run(300);
    for at in &holders {
        assert_eq!(pool.value(*at, "a").as_deref(), Some("1"));
    }
    let stranger = (0..5).find(|at| !holders.contains(at)).unwrap();
    assert_eq!(pool.commit(stranger, vec![put("a", "2")]), Done::Refused(Refusal::NoSuchGroup));
}

#[test]
fn a_replica_whose_disk_lost_what_it_had_said_to_have_gives_its_copy_up_before_it_can_vote() {
    let mut pool = Pool::new(3, 8);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    let other = (leader + 1) % 3;
    let disk = pool.members[other].disk.clone();
    for n in 0..5 {
        pool.committed(leader, &format!("k{n}"), "x");
    }
    pool.run(500);
    pool.crash(other, 0);
    pool.members[other].disk = disk;
    pool.restart(other);
    // Nobody votes in the first 450 ms.
    let warned = |pool: &Pool| pool.members[other].alarms.iter().any(|alarm| matches!(alarm, Alarm::OldDisk { .. }));
    for _ in 0..20 {
        pool.run(20);
        if warned(&pool) {
            break;
        }
    }
    assert!(warned(&pool), "it is found out");
    assert!(pool.host(other).group(GROUP).is_none_or(|copy| copy.position.seq == 0), "nothing of it is left");
    pool.run(2_000);
    pool.committed(leader, "still", "served");
}

#[test]
fn whatever_is_said_by_the_wrong_server_is_not_heard() {
    let mut pool = Pool::new(3, 9);
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    let (victim, liar) = ((leader + 1) % 3, (leader + 2) % 3);
    let term = 99;
    let from = pool.replica(leader);
    let message = pairline_group::ReplicaMessage {
        from,
        to: pool.replica(victim),
        term,
        body: pairline_group::ReplicaBody::AskVote {
            pre: false,
            transfer: true,
            index: 1_000,
            log_term: 99,
            commit: 0,
            commit_term: 0,
        },
    };
    let frame = pairline_group::frame::Frame::Replica { group: GROUP, message: Box::new(message) };
    let link = pool.link(victim, liar);
    pool.input(victim, HostInput::Frame { link, frame });
    pool.run(500);
    assert_eq!(pool.leader(), Some(leader), "a server speaks only for its own replicas");
    pool.committed(leader, "a", "1");
}

/// A replica that is so far behind that only a copy of the state helps.
fn left_behind(pool: &mut Pool, seed: u64) -> (usize, usize) {
    pool.run(3_000);
    let leader = pool.leader().unwrap();
    let behind = (leader + 1 + usize::try_from(seed % 2).unwrap()) % 3;
    pool.committed(leader, "before", "x");
    pool.crash(behind, 0);
    for n in 0..5_000 {
        pool.committed(leader, &format!("k{}", n % 300), &n.to_string());
    }
    pool.checkpoint(leader);
    pool.restart(behind);
    (leader, behind)
}

#[test]
fn who_is_too_far_behind_for_the_log_gets_a_copy_of_the_state() {
    let mut pool = Pool::new(3, 11);
    let (leader, behind) = left_behind(&mut pool, 0);
    pool.run(1_000);
    assert_eq!(pool.value(behind, "k299").as_deref(), Some("4799"), "it is here");
    pool.committed(leader, "after", "1");
    pool.run(500);
    assert_eq!(pool.value(behind, "after"), None, "and takes part only once it is on disk");
    pool.checkpoint(behind);
    pool.run(1_000);
    assert_eq!(pool.value(behind, "after").as_deref(), Some("1"));
    pool.assert_equal();
    // What it says to have now, it has: the others may go.
    let other = 3 - leader - behind;
    pool.crash(other, 0);
    pool.committed(leader, "two of three", "1");
    pool.crash(leader, 0);
    pool.restart(other);
    pool.run(5_000);
    let leader = pool.leader().expect("two are a majority");
    assert_eq!(pool.value(leader, "two of three").as_deref(), Some("1"));
    assert_eq!(leader, behind, "only it has everything");
}

#[test]
fn a_crash_at_any_step_of_a_copy_leaves_a_replica_that_catches_up() {
    for seed in 0..12 {
        let mut pool = Pool::new(3, seed);
        let (leader, behind) = left_behind(&mut pool, seed);
        match seed % 6 {
            // While it arrives, before its checkpoint, after it and before the mark is synced, after that, and with an older disk.
            0 => pool.run(50),
            1 => pool.run(1_000),
            2 => {
                pool.run(1_000);
                pool.members[behind].auto_sync = false;
                pool.checkpoint(behind);
            }
            3 => {
                pool.run(1_000);
                pool.checkpoint(behind);
                pool.run(300);
            }
            4 => {
                pool.run(1_000);
                pool.checkpoint(behind);
                pool.committed(leader, "x", "1");
                pool.checkpoint(behind);
            }
            _ => pool.crash(leader, 0),
        }
        pool.crash(behind, usize::try_from(seed % 2).unwrap());
        pool.members[behind].auto_sync = true;
        if seed % 6 == 5 {
            pool.restart(leader);
        }
        pool.restart(behind);
        for _ in 0..4 {
            pool.run(2_500);
            pool.checkpoint(behind);
        }
        let leader = pool.leader().expect("a leader");
        pool.committed(leader, "after", "1");
        pool.run(1_000);
        assert_eq!(pool.value(behind, "after").as_deref(), Some("1"), "seed {seed}");
        pool.assert_equal();
        assert!(pool.members.iter().all(|member| member.alarms.is_empty()), "seed {seed}");
    }
}

/// A leader that was cut off with much that only its own disk has gets a copy, and dies when it has it and the mark is not on disk.
fn stale_log_behind_a_copy(planted: impl Fn(&mut HostConfig)) -> Pool {
    let mut pool = Pool::with(3, 21, |cfg| {
        cfg.limits.replica_items = 8;
        planted(cfg);
    });
    pool.run(3_000);
    let old = pool.leader().unwrap();
    pool.isolate(old);
    for n in 0..100 {
        pool.propose(old, Proposal { writes: vec![put(&format!("old{n}"), "x")], ..Proposal::default() });
    }
    pool.run(5_000);
    let new = pool.leader().unwrap();
    for n in 0..40 {
        pool.committed(new, &format!("new{n}"), "x");
    }
    pool.rejoin(old);
    pool.run(2_000);
    assert_eq!(pool.value(old, "new39").as_deref(), Some("x"), "the copy is here");
    pool.members[old].auto_sync = false;
    pool.checkpoint(old);
    pool.crash(old, 0);
    pool.members[old].auto_sync = true;
    // It comes back while one of the others is gone.
    pool.crash(new, 0);
    pool.restart(old);
    pool.run(5_000);
    pool.restart(new);
    pool.run(3_000);
    pool
}

#[test]
fn what_stood_in_the_log_before_a_copy_is_void() {
    let mut pool = stale_log_behind_a_copy(|_| {});
    let leader = pool.leader().unwrap();
    pool.committed(leader, "after", "1");
    pool.run(500);
    pool.assert_equal();
    assert_eq!(pool.value(0, "old99"), None);
    // Again from its disk, with the mark and items behind it.
    for at in 0..3 {
        pool.crash(at, 0);
        pool.restart(at);
        pool.run(3_000);
        assert_eq!(pool.value(at, "after").as_deref(), Some("1"));
    }
    pool.assert_equal();
}

/// The same, with a change of voters among what only its own disk has; and it dies before the copy is on disk. Its log is then what it was, and no
/// more of that is committed than was known before.
#[test]
fn what_a_copy_says_to_be_committed_dies_with_it() {
    for seed in 0..8 {
        let mut pool = Pool::with(3, seed, |cfg| cfg.limits.replica_items = 8);
        pool.run(3_000);
        let old = pool.leader().unwrap();
        let others: Vec<usize> = (0..3).filter(|at| *at != old).collect();
        // Only who comes hears it, and asks to be let in.
        let new = pool.add();
        others.iter().for_each(|other| pool.cut(old, *other));
        pool.servers(&[old, others[0], new]);
        for n in 0..30 {
            pool.propose(old, Proposal { writes: vec![put(&format!("old{n}"), "x")], ..Proposal::default() });
        }
        pool.run(600);
        pool.crash(old, 0);
        pool.servers(&[0, 1, 2]);
        pool.run(5_000);
        let leader = pool.leader().unwrap();
        for n in 0..60 {
            pool.committed(leader, &format!("new{n}"), "x");
        }
        pool.checkpoint(leader);
        pool.restart(old);
        pool.rejoin(old);
        pool.run(1_000);
        assert_eq!(pool.value(old, "new59").as_deref(), Some("x"), "seed {seed}: the copy is here");
        pool.crash(old, 0);
        pool.isolate(old);
        pool.restart(old);
        pool.run(300);
        assert_eq!(pool.value(old, "old0"), None, "seed {seed}: nobody else ever had that");
        pool.rejoin(old);
        for _ in 0..4 {
            pool.run(2_500);
            pool.checkpoint(old);
        }
        assert_eq!(pool.value(old, "new59").as_deref(), Some("x"));
    }
}

#[cfg(feature = "planted")]
#[test]
fn a_log_that_is_believed_beyond_a_copy_is_seen() {
    let planted = pairline_group::planted::Planted::CopyKeepsOldLog;
    // What is believed does not follow what the copy ends with: the server does not start from it.
    let start = std::panic::catch_unwind(|| stale_log_behind_a_copy(|cfg| cfg.planted = Some(planted)));
    assert!(start.is_err());
}

/// Two candidates of one term ask one replica, which is killed and comes back in between; how many votes it gives.
fn votes_in_one_term(change: impl Fn(&mut HostConfig)) -> usize {
    let mut pool = Pool::with(3, 31, change);
    pool.run(3_000);
    let voter = (pool.leader().unwrap() + 1) % 3;
    let mut votes = 0;
    pool.delay = true;
    for candidate in [(voter + 1) % 3, (voter + 2) % 3] {
        let body = pairline_group::ReplicaBody::AskVote {
            pre: false,
            transfer: true,
            index: 1_000,
            log_term: 9,
            commit: 0,
            commit_term: 0,
        };
        let (from, to) = (pool.replica(candidate), pool.replica(voter));
        let message = Box::new(pairline_group::ReplicaMessage { from, to, term: 9, body });
        let frame = pairline_group::frame::Frame::Replica { group: GROUP, message };
        let link = pool.link(voter, candidate);
        pool.input(voter, HostInput::Frame { link, frame });
        pool.settle();
        let given = |said: &pairline_group::ReplicaMessage| {
            let granted = matches!(said.body, pairline_group::ReplicaBody::Vote { pre: false, granted: true, .. });
            (said.from, said.to, granted) == (to, from, true)
        };
        votes += pool.said().iter().filter(|said| given(said)).count();
        pool.crash(voter, 9);
        pool.restart(voter);
    }
    votes
}

#[test]
fn a_replica_votes_once_in_a_term_also_across_a_restart() {
    assert_eq!(votes_in_one_term(|_| {}), 1);
}

#[cfg(feature = "planted")]
#[test]
fn a_vote_that_is_not_written_down_is_given_twice() {
    assert_eq!(votes_in_one_term(|cfg| cfg.planted = Some(pairline_group::planted::Planted::VoteNotStored)), 2);
}
