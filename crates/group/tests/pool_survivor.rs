//! A group goes on with the one copy that is left of it: nothing that this copy had is lost, and none of those of before ever counts again.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Alarm, Done, Proposal, Refusal, Role, Survive};
use pairline_group::{Body, GroupId, HostConfig, HostInput, LineageItem, PoolId, Position, StepRef, Ticket};
use pool::{GROUP, Pool, put};
use std::collections::BTreeSet;

fn grown(seed: u64) -> Pool {
    let mut pool = Pool::new(3, seed);
    pool.live(3_000);
    let leader = pool.leader().unwrap();
    pool.committed(leader, "a", "1");
    pool.run(300);
    pool
}

/// The others of the first three.
fn others(of: usize) -> Vec<usize> {
    (0..3).filter(|at| *at != of).collect()
}

/// All but one of the first three are lost, for good or not.
fn lose(pool: &mut Pool, left: usize) {
    for at in others(left) {
        pool.crash(at, 0);
    }
    pool.run(3_000);
}

fn refused(pool: &Pool, at: usize, ticket: Ticket) -> String {
    match pool.answer_to(at, ticket) {
        Some(Done::Refused(refusal)) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn lineage(pool: &Pool, at: usize) -> Vec<LineageItem> {
    pool.host(at).lineage(GROUP).to_vec()
}

#[test]
fn one_of_three_goes_on_and_the_wiped_ones_come_back_under_new_numbers() {
    for seed in 0..12 {
        let mut pool = grown(seed);
        let left = usize::try_from(seed % 3).unwrap();
        lose(&mut pool, left);
        assert_eq!(pool.leader(), None, "one of three is no majority");
        let standing = pool.host(left).standing(GROUP).unwrap();
        assert!(standing.quiet >= 2_000 && standing.voters.len() == 3 && standing.survived == 0, "{standing:?}");
        let before = pool.host(left).position(GROUP).unwrap();
        let at = pool.survived(left, 7);
        assert!(at.epoch > before.epoch && at.seq > before.seq, "{before} {at}");
        assert_eq!(pool.leader(), Some(left));
        pool.committed(left, "b", "2");
        // The order has had its effect: it has none again.
        let again = pool.survive(left, 7, None);
        assert_eq!(pool.answer_to(left, again), Some(Done::Committed(at)));
        for at in others(left) {
            pool.empty(at);
            pool.restart(at);
        }
        pool.live(9_000);
        assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}");
        pool.assert_equal();
        // They count: without the one that went on alone the group goes on.
        pool.crash(left, 0);
        pool.live(3_000);
        let leader = pool.leader().expect("two of three");
        pool.committed(leader, "c", "3");
        for name in ["a", "b", "c"] {
            assert!(pool.value(leader, name).is_some(), "seed {seed}: {name}");
        }
        assert_eq!(pool.host(leader).standing(GROUP).unwrap().survived, 1);
        pool.restart(left);
        pool.live(3_000);
        pool.assert_equal();
        // Once more, with another one.
        let left = (left + 1) % 3;
        lose(&mut pool, left);
        pool.survived(left, 8);
        assert_eq!(pool.host(left).standing(GROUP).unwrap().survived, 2);
        assert!(["a", "b", "c"].iter().all(|name| pool.value(left, name).is_some()));
    }
}

#[test]
fn the_log_says_who_ordered_it_and_why() {
    let mut pool = grown(2);
    lose(&mut pool, 1);
    pool.survived(1, 7);
    let promoted = pool.members[1].applied.iter().rev().find_map(|(_, entry)| match &entry.body {
        Body::Promote(promote) => Some((promote.clone(), entry.step)),
        _ => None,
    });
    let (promote, step) = promoted.expect("an entry");
    assert_eq!((&*promote.operator, &promote.plan[..]), ("anna", &b"two disks burnt"[..]));
    assert_eq!((promote.epoch.number, promote.epoch.granted_by, step.unwrap().procedure), (2, PoolId(1), 7));
}

#[test]
fn what_is_not_known_to_have_been_committed_counts() {
    let mut pool = grown(3);
    let leader = pool.leader().unwrap();
    let left = others(leader)[0];
    // It is on both disks, and acknowledged; who follows never hears that.
    pool.delay = true;
    let ticket = pool.propose(leader, Proposal { writes: vec![put("b", "2")], ..Proposal::default() });
    pool.settle();
    while pool.answer_to(leader, ticket).is_none() {
        assert!(pool.deliver(0));
        pool.settle();
    }
    assert!(matches!(pool.answer_to(leader, ticket), Some(Done::Committed(_))));
    let known = pool.host(left).position(GROUP).unwrap();
    pool.delay = false;
    // What the leader still had to say is lost with it.
    lose(&mut pool, left);
    let standing = pool.host(left).standing(GROUP).unwrap();
    assert!(standing.doubtful > 0 && standing.position == known, "{standing:?}");
    pool.survived(left, 7);
    assert_eq!(pool.value(left, "b").as_deref(), Some("2"));
    let last = lineage(&pool, left).pop().unwrap();
    assert_eq!(last.first, known.seq + 1, "from there on there may be another history");
}

#[test]
fn it_is_refused_where_somebody_leads_or_did_a_moment_ago_and_where_nothing_is() {
    let mut pool = grown(4);
    let leader = pool.leader().unwrap();
    let ticket = pool.survive(leader, 1, None);
    assert!(refused(&pool, leader, ticket).contains("leads the group"));
    let follower = others(leader)[0];
    let ticket = pool.survive(follower, 1, None);
    assert!(refused(&pool, follower, ticket).contains("a leader was heard"));
    let other = others(leader)[1];
    pool.crash(leader, 0);
    pool.crash(other, 0);
    pool.run(1_000);
    let ticket = pool.survive(follower, 1, None);
    assert!(refused(&pool, follower, ticket).contains("ms ago"), "not yet");
    assert_eq!(pool.host(follower).standing(GROUP).unwrap().survived, 0);
    // One that has just come has nothing to go on with.
    pool.empty(other);
    pool.restart(other);
    pool.run(3_000);
    let ticket = pool.survive(other, 1, None);
    assert_eq!(pool.answer_to(other, ticket), Some(Done::Refused(Refusal::NoSuchGroup)));
    assert!(pool.host(other).standing(GROUP).is_none());
}

#[test]
fn a_crash_before_it_is_on_disk_leaves_all_as_it_was() {
    let mut pool = grown(5);
    lose(&mut pool, 0);
    let last = |pool: &Pool| pool.host(0).standing(GROUP).unwrap().last;
    let before = (last(&pool), lineage(&pool, 0));
    let ticket = pool.survive(0, 7, None);
    pool.run(2_000);
    assert!(pool.answer_to(0, ticket).is_none() && pool.leader().is_none(), "nothing is on disk yet");
    pool.crash(0, 0);
    pool.restart(0);
    pool.run(2_500);
    assert_eq!((last(&pool), lineage(&pool, 0)), before);
    // Those that were thought lost come back instead: all goes on as if nothing had been ordered.
    for at in others(0) {
        pool.restart(at);
    }
    pool.live(3_000);
    let leader = pool.leader().expect("all three");
    pool.committed(leader, "b", "2");
    assert_eq!(pool.host(leader).standing(GROUP).unwrap().survived, 0);
    // And when it is ordered again, it is done.
    lose(&mut pool, 0);
    pool.survived(0, 7);
    pool.crash(0, 0);
    pool.restart(0);
    pool.run(500);
    assert_eq!((pool.leader(), pool.value(0, "b").as_deref()), (Some(0), Some("2")));
}

#[test]
fn two_old_disks_are_a_majority_by_their_own_account_and_never_count_once_they_are_told() {
    for seed in 0..12 {
        let mut pool = grown(seed);
        let left = usize::try_from(seed % 3).unwrap();
        lose(&mut pool, left);
        pool.survived(left, 7);
        pool.committed(left, "new", "1");
        let apart = seed % 2 == 0;
        if apart {
            pool.isolate(left);
        }
        for at in others(left) {
            pool.restart(at);
        }
        pool.run(3_000);
        let old = others(left).into_iter().find(|at| pool.host(*at).leads(GROUP));
        assert_eq!(old.is_some(), apart, "seed {seed}: only while nobody can tell them");
        if let Some(old) = old {
            pool.committed(old, "vain", "1");
            pool.rejoin(left);
        }
        pool.settle();
        assert!(others(left).iter().all(|at| !pool.host(*at).leads(GROUP)), "seed {seed}: at once");
        pool.live(9_000);
        assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}");
        pool.assert_equal();
        assert!(pool.value(left, "new").is_some() && pool.value(left, "vain").is_none());
        let outlived =
            |at: &usize| pool.members[*at].alarms.iter().any(|alarm| matches!(alarm, Alarm::Outlived { .. }));
        assert!(others(left).iter().all(outlived), "seed {seed}: each is told");
        // What they acknowledged between themselves is kept.
        let kept = pool.members.iter().flat_map(|member| &member.tails);
        let vain =
            kept.filter(|entry| matches!(&entry.body, Body::Effects(effects) if &*effects[0].key().owner == "vain"));
        assert_eq!(vain.count() > 0, apart, "seed {seed}");
    }
}

/// Two pools of three, of which the first has `more` changes that only the partner and those that are lost have heard of.
fn ahead(seed: u64) -> (Pool, usize, Position) {
    let mut pool = Pool::paired([3, 3], seed, |_| {});
    pool.run(4_000);
    let leader = pool.leads(1).unwrap();
    pool.committed(leader, "a", "1");
    pool.run(300);
    let left = others(leader)[0];
    let known = pool.host(left).position(GROUP).unwrap();
    (pool, left, known)
}

#[test]
fn the_partner_is_shipped_to_as_before_if_it_has_no_more() {
    for told in [false, true] {
        let (mut pool, left, _) = ahead(6);
        lose(&mut pool, left);
        let there = pool.host(pool.leads(2).unwrap()).group(GROUP).unwrap();
        let ticket = pool.survive(left, 7, told.then_some((there.position, there.digest)));
        pool.checkpoint(left);
        pool.run(500);
        assert!(matches!(pool.answer_to(left, ticket), Some(Done::Committed(_))));
        pool.committed(left, "b", "2");
        pool.run(500);
        for at in 3..6 {
            assert_eq!(pool.value(at, "b").as_deref(), Some("2"));
        }
        assert!(pool.members.iter().all(|member| member.swapped == 0 && member.tails.is_empty()), "no seed, no tail");
        assert!(pool.members.iter().all(|member| member.alarms.is_empty()));
    }
}

#[test]
fn what_the_partner_has_beyond_is_kept_there_as_a_tail() {
    for seed in 0..6 {
        let (mut pool, left, _) = ahead(seed);
        pool.isolate(left);
        pool.run(1_500);
        let leader = (0..3).find(|at| *at != left && pool.host(*at).leads(GROUP)).unwrap();
        pool.committed(leader, "beyond", "x");
        pool.run(500);
        lose(&mut pool, left);
        if seed % 2 == 0 {
            // The partner is heard again before or after.
            pool.rejoin(left);
            pool.run(500);
        }
        let before = pool.host(left).position(GROUP).unwrap();
        pool.survived(left, 7);
        pool.committed(left, "b", "2");
        pool.rejoin(left);
        pool.live(4_000);
        for at in 3..6 {
            assert_eq!(pool.value(at, "b").as_deref(), Some("2"), "seed {seed}");
            assert_eq!(pool.value(at, "beyond"), None);
            assert_eq!(pool.host(at).role(GROUP), Some(Role::Backup));
        }
        let tails: Vec<_> = pool.members[3..].iter().flat_map(|member| &member.tails).collect();
        assert!(
            tails.iter().any(|entry| matches!(&entry.body, Body::Effects(_)) && entry.position > before),
            "{tails:?}"
        );
        for at in others(left) {
            pool.empty(at);
            pool.restart(at);
        }
        pool.live(9_000);
        pool.assert_equal();
    }
}

/// Who was left had led, and written something that nobody else has; the others went on without it, and then they burnt. What the partner has at the
/// end of that, of what was written by each and of what came after.
fn two_histories(seed: u64, change: impl Fn(&mut HostConfig)) -> (Pool, Vec<[bool; 3]>) {
    let mut pool = Pool::paired([3, 3], seed, change);
    pool.run(4_000);
    let left = pool.leads(1).unwrap();
    pool.committed(left, "a", "1");
    pool.run(300);
    pool.isolate(left);
    pool.propose(left, Proposal { writes: vec![put("mine", "x")], ..Proposal::default() });
    pool.run(1_500);
    let leader = (0..3).find(|at| *at != left && pool.host(*at).leads(GROUP)).unwrap();
    pool.committed(leader, "theirs", "x");
    pool.run(500);
    lose(&mut pool, left);
    pool.rejoin(left);
    pool.run(500);
    pool.survived(left, 7);
    pool.live(4_000);
    pool.commit(left, vec![put("b", "2")]);
    pool.run(1_000);
    let has = |at| ["mine", "b", "theirs"].map(|name| pool.value(at, name).is_some());
    let has = (3..6).map(has).collect();
    (pool, has)
}

#[test]
fn two_histories_of_one_epoch_are_no_dead_end() {
    for seed in 0..6 {
        let (pool, has) = two_histories(seed, |_| {});
        assert_eq!(has, [[true, true, false]; 3], "seed {seed}");
        let kept = pool.members[3..].iter().flat_map(|member| &member.tails);
        assert!(kept.count() > 0, "seed {seed}: what the partner had is kept");
        assert!(!pool.members.iter().any(|m| m.alarms.iter().any(|alarm| matches!(alarm, Alarm::ChainBroken { .. }))));
    }
}

#[cfg(feature = "planted")]
#[test]
fn an_epoch_that_says_nothing_of_what_was_not_known_is_caught() {
    use pairline_group::planted::Planted;
    let caught = (0..6).find(|seed| {
        let (_, has) = two_histories(*seed, |cfg| cfg.planted = Some(Planted::SurvivorSharesAll));
        has != [[true, true, false]; 3]
    });
    assert!(caught.is_some());
}

#[test]
fn a_failover_ordered_at_the_same_time_wins() {
    let (mut pool, left, _) = ahead(7);
    pool.part(true);
    lose(&mut pool, left);
    pool.survived(left, 7);
    pool.committed(left, "b", "2");
    let backup = pool.leads(2).unwrap();
    assert!(matches!(pool.change(backup, true, 8), Some(Done::Committed(_))));
    pool.committed(backup, "served", "1");
    pool.part(false);
    pool.live(4_000);
    assert_eq!(pool.host(left).role(GROUP), Some(Role::Backup));
    assert!(pool.value(left, "served").is_some() && pool.value(left, "b").is_none());
    let kept = pool.members[left].tails.iter();
    assert!(kept.filter(|entry| matches!(entry.body, Body::Effects(_))).count() > 0);
}

#[test]
fn a_backup_copy_that_goes_on_alone_is_shipped_what_it_lacks() {
    let mut pool = Pool::paired([3, 3], 8, |_| {});
    pool.run(4_000);
    let (active, backup) = (pool.leads(1).unwrap(), pool.leads(2).unwrap());
    pool.committed(active, "a", "1");
    pool.run(300);
    let left = (3..6).find(|at| *at != backup).unwrap();
    for at in (3..6).filter(|at| *at != left) {
        pool.crash(at, 0);
    }
    pool.committed(active, "b", "2");
    pool.run(3_000);
    let before = pool.host(active).lineage(GROUP).to_vec();
    pool.survived(left, 7);
    pool.live(3_000);
    assert_eq!(pool.value(left, "b").as_deref(), Some("2"));
    assert_eq!((lineage(&pool, left), pool.host(active).lineage(GROUP).to_vec()), (before.clone(), before));
    for at in (3..6).filter(|at| *at != left) {
        pool.empty(at);
        pool.restart(at);
    }
    pool.live(9_000);
    assert_eq!(pool.with_copy().len(), 6);
    pool.assert_equal();
    pool.input(left, HostInput::Verify { group: GROUP });
    pool.run(500);
    assert!(pool.members.iter().all(|member| member.verified.iter().all(|equal| *equal)));
}

#[test]
fn one_that_only_followed_the_management_store_can_go_on() {
    let mut pool = Pool::with(5, 7, |cfg| (cfg.cms_home, cfg.groups) = (true, 1));
    pool.live(15_000);
    let leads = (0..5).find(|at| pool.host(*at).leads(GroupId::CMS)).unwrap();
    let all = pool.host(leads).replicas(GroupId::CMS);
    let voter = |at: &usize| all.iter().any(|one| one.voter && one.server == pool.members[*at].cfg.server);
    let (voters, learners): (Vec<usize>, Vec<usize>) = (0..5).partition(voter);
    for at in &voters {
        pool.crash(*at, 0);
    }
    pool.run(3_000);
    let left = learners[0];
    let standing = pool.host(left).standing(GroupId::CMS).unwrap();
    assert_eq!((standing.voters.len(), standing.learners.len()), (3, 2));
    let before = pool.host(left).position(GroupId::CMS);
    let order = Survive {
        step: StepRef { procedure: 1, step: 1 },
        operator: "anna".into(),
        plan: bytes::Bytes::new(),
        partner: None,
    };
    let ticket = Ticket(90_000);
    pool.input(left, HostInput::Survive { ticket, group: GroupId::CMS, order });
    pool.live(6_000);
    assert!(matches!(pool.answer_to(left, ticket), Some(Done::Committed(at)) if Some(at) > before));
    assert!(pool.host(left).can_commit(GroupId::CMS));
    let follows = pool.host(learners[1]).standing(GroupId::CMS).unwrap();
    assert_eq!(
        (follows.survived, pool.host(learners[1]).leader(GroupId::CMS)),
        (1, Some(pool.members[left].cfg.server))
    );
    for at in voters {
        pool.empty(at);
        pool.restart(at);
    }
    pool.live(15_000);
    let leads = (0..5).find(|at| pool.host(*at).leads(GroupId::CMS)).unwrap();
    let all = pool.host(leads).replicas(GroupId::CMS);
    assert_eq!((all.len(), all.iter().filter(|one| one.voter).count()), (5, 3), "{all:?}");
    for at in 0..5 {
        assert_eq!(pool.host(at).position(GroupId::CMS), pool.host(leads).position(GroupId::CMS));
    }
}
