//! Replicas of a group come and go: disks that were replaced, servers that are added and taken away.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Alarm, HostInput, Proposal};
use pairline_group::placement::FrontEnd;
use pairline_group::{GroupId, HostConfig, PoolId, ServerId, placement};
use pool::{GROUP, Pool, put};
use std::collections::BTreeSet;

fn grown(seed: u64) -> Pool {
    let mut pool = Pool::new(3, seed);
    pool.live(3_000);
    let leader = pool.leader().unwrap();
    pool.committed(leader, "a", "1");
    pool
}

/// The places of the servers that a group should be on.
fn placed(pool: &Pool, group: GroupId) -> BTreeSet<usize> {
    let cfg: &HostConfig = &pool.members[pool.leader().unwrap()].cfg;
    let on = placement::of(group, &cfg.servers);
    (0..pool.members.len()).filter(|at| on.contains(&pool.members[*at].cfg.server)).collect()
}

fn removed(pool: &Pool, at: usize) -> bool {
    pool.members[at].alarms.iter().any(|alarm| matches!(alarm, Alarm::ReplicaRemoved { .. }))
}

#[test]
fn a_server_with_an_empty_disk_comes_back_under_a_new_number_and_votes_again() {
    for seed in 0..10 {
        let mut pool = grown(seed);
        for round in 0..3_usize {
            let dies = if round == 0 { pool.leader().unwrap() } else { round };
            pool.crash(dies, 0);
            pool.wipe(dies);
            pool.live(3_000);
            let leader = pool.leader().expect("two are enough");
            pool.committed(leader, &format!("k{round}"), "x");
            pool.restart(dies);
            pool.live(6_000);
            assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}, round {round}");
            pool.assert_equal();
            assert_eq!(pool.with_copy().len(), 3);
            // The new replica counts: with one of the others it is a majority.
            let other = (0..3).find(|at| *at != dies && Some(*at) != pool.leader()).unwrap_or((dies + 1) % 3);
            pool.crash(other, 0);
            pool.live(3_000);
            let leader = pool.leader().expect("the new one votes");
            pool.committed(leader, &format!("m{round}"), "y");
            pool.restart(other);
            pool.live(3_000);
            pool.assert_equal();
        }
    }
}

#[test]
fn copies_move_until_no_upgrade_domain_has_two_and_all_servers_of_one_may_stop() {
    for seed in 0..6 {
        let mut pool = Pool::new(5, seed);
        pool.live(3_000);
        let leader = pool.leader().unwrap();
        pool.committed(leader, "a", "1");
        // Two of those that have a copy are in one domain: one of them has to go.
        let before: Vec<usize> = placed(&pool, GROUP).into_iter().collect();
        let mut domains = [3, 4, 5, 6, 7];
        (domains[before[0]], domains[before[1]]) = (1, 1);
        let in_domain =
            |(at, domain): (usize, u16)| FrontEnd { server: pool.members[at].cfg.server, domain: Some(domain) };
        let servers: Vec<FrontEnd> = domains.into_iter().enumerate().map(in_domain).collect();
        for at in 0..5 {
            pool.members[at].cfg.servers.clone_from(&servers);
            pool.input(at, HostInput::Servers { servers: servers.clone(), witness: None });
        }
        pool.live(8_000);
        let after = placed(&pool, GROUP);
        assert!(after.len() == 3 && !(after.contains(&before[0]) && after.contains(&before[1])));
        assert_eq!(pool.replicas(), (after, BTreeSet::new()), "seed {seed}");
        pool.crash(before[0], 0);
        pool.crash(before[1], 0);
        pool.live(3_000);
        let leader = pool.leader().expect("each group has two copies elsewhere");
        pool.committed(leader, "b", "2");
        pool.assert_equal();
    }
}

/// Whether all three replicas are shown as voters that are heard: what a pool is called healthy for, where none is far behind.
fn looks_whole(pool: &Pool) -> bool {
    let Some(leader) = pool.leader() else { return false };
    let all = pool.host(leader).replicas(GROUP);
    all.iter().filter(|one| one.voter && one.heard && one.behind < 10).count() == 3
}

#[test]
fn from_the_moment_at_which_it_looks_whole_any_server_may_die() {
    for seed in 0..12 {
        for dies in 0..3 {
            let mut pool = grown(seed);
            let back = (pool.leader().unwrap() + 1) % 3;
            pool.crash(back, 0);
            pool.wipe(back);
            pool.live(3_000);
            assert!(!looks_whole(&pool));
            pool.restart(back);
            let whole = (0..10_000).any(|ms| {
                pool.run(1);
                // As its shell does.
                if ms % 200 == 0 {
                    pool.checkpoint(back);
                }
                looks_whole(&pool)
            });
            assert!(whole, "seed {seed}: it is not let in");
            pool.crash(dies, 0);
            pool.live(3_000);
            let leader = pool.leader().unwrap_or_else(|| panic!("seed {seed}: without {dies} nobody leads"));
            pool.committed(leader, "after", "x");
        }
    }
}

#[test]
fn an_older_disk_is_void_and_its_server_comes_back_with_nothing_of_it() {
    let mut pool = grown(3);
    let old = pool.members[2].disk.clone();
    pool.crash(2, 0);
    pool.wipe(2);
    pool.restart(2);
    pool.live(6_000);
    assert_eq!(pool.with_copy().len(), 3);
    pool.crash(2, 0);
    pool.members[2].disk = old;
    pool.members[2].cfg.incarnation = 1;
    pool.restart(2);
    let leader = pool.leader().unwrap();
    pool.committed(leader, "b", "2");
    pool.live(9_000);
    assert!(removed(&pool, 2), "it is told");
    let warned = |alarm: &Alarm| matches!(alarm, Alarm::OldDisk { incarnation: 2, .. });
    assert!(pool.members[2].alarms.iter().any(warned), "{:?}", pool.members[2].alarms);
    assert_eq!(pool.replicas().0.len(), 3);
    pool.assert_equal();
}

#[test]
fn a_disk_that_was_put_back_as_it_was_before_is_found_out_and_its_server_comes_in_anew() {
    let mut found_out = 0;
    for seed in 0..10 {
        let mut pool = grown(seed);
        let leader = pool.leader().unwrap();
        let (back, third) = ((leader + 1) % 3, (leader + 2) % 3);
        let old = pool.members[back].disk.clone();
        pool.committed(leader, "b", "2");
        pool.live(1_000);
        pool.crash(back, 0);
        pool.members[back].disk = old;
        pool.run(500);
        pool.restart(back);
        pool.run(400);
        assert!(pool.members[back].host.as_ref().unwrap().group(GROUP).is_none_or(|copy| copy.stopped.is_none()));
        pool.live(6_000);
        let warned = |alarm: &Alarm| matches!(alarm, Alarm::OldDisk { incarnation: 1, .. });
        // A leader that was chosen after the disk was lost has what is acknowledged, and asks each what it has.
        found_out += usize::from(pool.members[back].alarms.iter().any(warned));
        assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}");
        pool.assert_equal();
        // It counts again, and so with one of the others it is a majority.
        pool.crash(third, 0);
        pool.live(2_000);
        let leader = pool.leader().expect("the new one votes");
        pool.committed(leader, "c", "3");
        assert_eq!(pool.value(back, "b").as_deref(), Some("2"));
    }
    assert!(found_out > 5, "{found_out} of 10");
}

#[test]
fn a_disk_of_before_an_item_was_replaced_does_not_take_its_own_for_committed() {
    let mut found_out = 0;
    for seed in 0..10 {
        let mut pool = grown(seed);
        let back = pool.leader().unwrap();
        pool.isolate(back);
        // It writes what nobody else has; the first item of whoever leads next has the same index.
        pool.propose(back, Proposal { writes: vec![put("lost", "x")], ..Proposal::default() });
        pool.settle();
        let old = pool.members[back].disk.clone();
        pool.live(2_000);
        pool.rejoin(back);
        pool.live(1_000);
        pool.crash(back, 0);
        pool.members[back].disk = old;
        pool.run(500);
        pool.restart(back);
        pool.run(1_000);
        assert_eq!(pool.value(back, "lost"), None, "seed {seed}");
        // It may have been passed on meanwhile: a new leader asks each what it has, and what does not fit goes.
        let leader = pool.leader().unwrap();
        pool.committed(leader, "b", "2");
        pool.live(6_000);
        let warned = |alarm: &Alarm| matches!(alarm, Alarm::OldDisk { incarnation: 1, .. });
        found_out += usize::from(pool.members[back].alarms.iter().any(warned));
        assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}");
        assert_eq!(pool.value(back, "b").as_deref(), Some("2"), "seed {seed}");
        pool.assert_equal();
    }
    assert!(found_out > 5, "{found_out} of 10");
}

#[test]
fn of_two_servers_one_with_an_older_disk_takes_from_the_other_what_it_lacks() {
    for seed in 0..10 {
        let mut pool = Pool::new(2, seed);
        pool.live(4_000);
        let leader = pool.leader().unwrap();
        let back = 1 - leader;
        pool.committed(leader, "a", "1");
        let old = pool.members[back].disk.clone();
        pool.committed(leader, "b", "2");
        pool.run(300);
        pool.crash(back, 0);
        pool.members[back].disk = old;
        pool.restart(back);
        pool.live(6_000);
        let leader = pool.leader().unwrap_or_else(|| panic!("seed {seed}: nobody leads"));
        pool.committed(leader, "c", "3");
        assert_eq!(pool.value(back, "b").as_deref(), Some("2"), "seed {seed}");
        pool.run(500);
        pool.assert_equal();
    }
}

#[test]
fn a_server_that_does_not_know_that_its_disk_was_emptied_is_told() {
    for seed in 0..10 {
        let mut pool = grown(seed);
        for round in 0..3 {
            let dies = pool.leader().filter(|_| round == 1).unwrap_or(2);
            pool.crash(dies, 0);
            pool.empty(dies);
            if round == 2 {
                pool.live(3_000);
            }
            pool.restart(dies);
            pool.live(9_000);
            assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()), "seed {seed}, round {round}");
            let leader = pool.leader().unwrap();
            pool.committed(leader, &format!("k{round}"), "x");
            pool.run(500);
            assert_eq!(pool.value(dies, "a").as_deref(), Some("1"));
            pool.assert_equal();
        }
    }
}

#[test]
fn a_disk_that_its_server_does_not_trust_any_more_is_read_no_more() {
    let mut pool = grown(4);
    pool.crash(1, 0);
    pool.members[1].cfg.incarnation = 2;
    pool.restart(1);
    assert_eq!(pool.with_copy(), [0, 2]);
    pool.live(6_000);
    assert_eq!(pool.replicas(), ([0, 1, 2].into(), BTreeSet::new()));
    pool.assert_equal();
}

fn asking(cfg: &mut HostConfig) {
    (cfg.joins, cfg.cms_home, cfg.groups) = (true, true, 4);
}

#[test]
fn a_pool_begins_once_all_its_servers_have_said_that_they_have_nothing() {
    let mut pool = Pool::with(3, 5, asking);
    for seed in 0..3 {
        pool = Pool::with(3, seed, asking);
        pool.live(3_000);
        let leader = pool.leader().expect("all said so");
        pool.committed(leader, "a", "1");
        let all = pool.host(leader).groups();
        assert!(all.len() == 5 && (0..3).all(|at| pool.host(at).groups() == all));
        assert!(pool.members.iter().all(|member| member.alarms.is_empty()), "nobody had to be told of its disk");
    }
    // One of them is missing: it might have everything.
    pool.isolate(2);
    for at in 0..2 {
        pool.crash(at, 0);
        pool.empty(at);
        pool.restart(at);
    }
    pool.live(5_000);
    assert_eq!(pool.with_copy(), [2]);
    assert_eq!((pool.host(0).awaited(), pool.host(2).awaited()), (5, 0));
}

#[test]
fn a_crash_at_the_beginning_is_made_up_for() {
    for cut in 0..40 {
        let mut pool = Pool::with(3, 9, asking);
        pool.run(cut * 50);
        for at in 0..3 {
            pool.crash(at, usize::try_from(cut).unwrap() % 3);
        }
        for at in 0..3 {
            pool.restart(at);
        }
        pool.live(9_000);
        let leader = pool.leader().unwrap_or_else(|| panic!("nobody leads after a crash at {cut}"));
        pool.committed(leader, "a", "1");
        pool.run(200);
        assert_eq!(pool.with_copy(), [0, 1, 2]);
        pool.assert_equal();
    }
}

#[test]
fn a_server_without_a_copy_knows_who_leads() {
    let mut pool = Pool::with(5, 7, |cfg| (cfg.joins, cfg.groups) = (true, 4));
    pool.live(5_000);
    for _ in 0..2 {
        let leader = pool.leader().unwrap();
        let server = pool.members[leader].cfg.server;
        for at in 0..5 {
            assert_eq!(pool.host(at).leader(GROUP), Some(server), "at {at}");
        }
        let bare = (0..5).find(|at| pool.host(*at).group(GROUP).is_none()).unwrap();
        let changes = pool.members[bare].changes;
        pool.crash(leader, 0);
        pool.run(2_000);
        assert!(pool.host(bare).leader(GROUP).is_some_and(|now| now != server) && pool.members[bare].changes > changes);
        pool.restart(leader);
        pool.live(6_000);
    }
}

#[test]
fn a_pool_grows_from_one_server_to_five_and_back() {
    for seed in 0..6 {
        let mut pool = Pool::new(1, seed);
        pool.live(1_000);
        pool.committed(0, "a", "1");
        for count in 2..=5 {
            pool.add();
            pool.servers(&(0..count).collect::<Vec<_>>());
            pool.live(15_000);
            let leader = pool.leader().expect("a leader");
            pool.committed(leader, &format!("s{count}"), "x");
            pool.run(500);
            assert_eq!(pool.replicas(), (placed(&pool, GROUP), BTreeSet::new()), "seed {seed}, {count} servers");
            assert_eq!(pool.with_copy().into_iter().collect::<BTreeSet<_>>(), placed(&pool, GROUP));
            assert_eq!(pool.host(leader).moves(), 0);
            pool.assert_equal();
        }
        for count in (1..5).rev() {
            pool.servers(&(0..count).collect::<Vec<_>>());
            pool.live(20_000);
            let leader = pool.leader().expect("a leader");
            assert_eq!(pool.replicas(), (placed(&pool, GROUP), BTreeSet::new()), "seed {seed}, back to {count}");
            assert_eq!(pool.with_copy().into_iter().collect::<BTreeSet<_>>(), placed(&pool, GROUP));
            assert_eq!(pool.value(leader, "s5").as_deref(), Some("x"));
            pool.assert_equal();
        }
    }
}

#[test]
fn a_leader_that_is_to_go_passes_on_to_another_where_the_one_that_should_lead_is_drained() {
    for seed in 0..6 {
        let mut pool = grown(seed);
        let leader = pool.leader().unwrap();
        let new = pool.add();
        let stay: Vec<usize> = (0..=new).filter(|at| *at != leader).collect();
        let ids: Vec<ServerId> = stay.iter().map(|at| pool.members[*at].cfg.server).collect();
        let meant = placement::leaders(&[GROUP], &ids)[&GROUP];
        let meant = stay.iter().copied().find(|at| pool.members[*at].cfg.server == meant).unwrap();
        pool.input(meant, HostInput::Drain { on: true });
        pool.servers(&stay);
        pool.live(15_000);
        assert_eq!(pool.replicas(), (stay.into_iter().collect(), BTreeSet::new()), "seed {seed}: {leader} is to go");
        assert!(removed(&pool, leader));
        assert_ne!(pool.leader(), Some(meant), "it is drained");
    }
}

#[test]
fn the_only_voter_with_a_change_in_its_log_goes_on_behind_all_of_it_after_a_restart() {
    let mut pool = Pool::new(1, 4);
    pool.run(1_000);
    pool.committed(0, "a", "1");
    pool.add();
    pool.servers(&[0, 1]);
    for _ in 0..40 {
        pool.run(50);
        if pool.host(0).replicas(GROUP).len() == 2 {
            break;
        }
    }
    // It has let the other in, which does not vote yet, and writes on; then it dies without a checkpoint.
    pool.isolate(1);
    assert_eq!(pool.replicas().0, [0].into());
    let written = pool.committed(0, "b", "2");
    pool.crash(0, 0);
    pool.restart(0);
    pool.run(2_000);
    assert!(pool.committed(0, "c", "3") > written);
    assert_eq!(pool.value(0, "b").as_deref(), Some("2"));
    pool.rejoin(1);
    pool.live(6_000);
    assert_eq!(pool.replicas().0, [0, 1].into());
    pool.assert_equal();
}

#[test]
fn every_server_follows_the_management_store_and_three_of_them_vote() {
    let mut pool = Pool::with(5, 7, |cfg| (cfg.cms_home, cfg.groups) = (true, 4));
    pool.live(15_000);
    let leads = (0..5).find(|at| pool.host(*at).leads(GroupId::CMS)).unwrap();
    let all = pool.host(leads).replicas(GroupId::CMS);
    assert_eq!((all.len(), all.iter().filter(|status| status.voter).count()), (5, 3), "{all:?}");
    for at in 0..5 {
        assert_eq!(pool.host(at).position(GroupId::CMS), pool.host(leads).position(GroupId::CMS));
        assert_eq!(pool.host(at).leader(GroupId::CMS), Some(pool.members[leads].cfg.server));
    }
    let servers: BTreeSet<ServerId> = all.iter().map(|status| status.server).collect();
    assert_eq!(servers, (1..=5).map(ServerId).collect());
    assert_eq!(pool.host(0).groups().into_iter().filter(|group| group.pool == PoolId(0)).count(), 1);
}

/// Whether two servers lead the management store at once, when its leader is cut from the others that vote and not from those that follow.
fn two_lead(change: impl Fn(&mut HostConfig)) -> bool {
    let mut pool = Pool::with(5, 8, |cfg| {
        (cfg.cms_home, cfg.groups) = (true, 1);
        change(cfg);
    });
    pool.live(15_000);
    let leads = |pool: &Pool, at: usize| pool.host(at).leads(GroupId::CMS);
    let leader = (0..5).find(|at| leads(&pool, *at)).unwrap();
    let all = pool.host(leader).replicas(GroupId::CMS);
    let voters: Vec<ServerId> = all.iter().filter(|one| one.voter && !one.leads).map(|one| one.server).collect();
    assert_eq!(voters.len(), 2);
    for at in 0..5 {
        if voters.contains(&pool.members[at].cfg.server) {
            pool.cut(leader, at);
        }
    }
    (0..60).any(|_| {
        pool.run(50);
        (0..5).filter(|at| leads(&pool, *at)).count() > 1
    })
}

#[test]
fn those_that_only_follow_do_not_count() {
    assert!(!two_lead(|_| {}));
}

#[cfg(feature = "planted")]
#[test]
fn planted_faults_are_seen() {
    use pairline_group::planted::Planted;
    assert!(two_lead(|cfg| cfg.planted = Some(Planted::LearnerCounted)));

    let mut pool = Pool::with(3, 3, |cfg| cfg.planted = Some(Planted::OldNumberAccepted));
    pool.live(3_000);
    let old = pool.members[2].disk.clone();
    pool.crash(2, 0);
    pool.wipe(2);
    pool.restart(2);
    pool.live(6_000);
    pool.crash(2, 0);
    pool.members[2].disk = old;
    pool.members[2].cfg.incarnation = 1;
    pool.restart(2);
    pool.live(6_000);
    let warned = pool.members[2].alarms.iter().any(|alarm| matches!(alarm, Alarm::OldDisk { .. }));
    assert!(!warned, "an older disk is let in");
}
