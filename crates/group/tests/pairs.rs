//! Paired pools of several servers: each group is shipped from the server that leads it to the one that leads its backup, whoever that is.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::HostInput;
use pairline_group::frame::Frame;
use pairline_group::io::{Alarm, Done, ExportState, Lag, Refusal, Role};
use pool::{GROUP, Pool};

/// The servers that have a copy and run.
fn running(pool: &Pool) -> Vec<usize> {
    (0..pool.members.len()).filter(|at| pool.members[*at].host.is_some()).collect()
}

fn all_have(pool: &Pool, name: &str) {
    for at in running(pool) {
        assert!(pool.value(at, name).is_some(), "server {at} does not have {name}");
    }
    pool.assert_equal();
}

#[test]
fn every_shape_of_pair_ships_and_goes_on_with_whoever_leads() {
    for (seed, shape) in [[1, 3], [3, 1], [3, 3], [2, 3], [1, 1]].into_iter().enumerate() {
        let mut pool = Pool::paired(shape, seed as u64, |_| {});
        pool.run(4_000);
        for round in 0..6_u16 {
            let active = pool.leads(1).unwrap();
            let name = format!("k{round}");
            pool.committed(active, &name, "x");
            pool.run(300);
            all_have(&pool, &name);
            // It may have been passed on meanwhile.
            let status = pool.host(pool.leads(1).unwrap()).group(GROUP).unwrap();
            assert_eq!((status.export, status.lag), (ExportState::Steady, Lag::Exactly(0)), "{shape:?}");
            let backup = pool.leads(2).unwrap();
            assert!(matches!(pool.host(backup).group(GROUP).unwrap().lag, Lag::AtMost(lag) if lag < 400));
            pool.input(backup, HostInput::Verify { group: GROUP });
            pool.settle();
            assert_eq!(pool.members[backup].verified.pop(), Some(true), "{shape:?}, round {round}");
            // One or the other side has another leader.
            let side = 1 + round % 2;
            if shape[usize::from(side) - 1] < 3 {
                continue;
            }
            let dies = pool.leads(side).unwrap();
            pool.crash(dies, 0);
            pool.run(900);
            assert!(pool.leads(side).is_some_and(|at| at != dies));
            pool.committed(pool.leads(1).unwrap(), &format!("m{round}"), "x");
            pool.run(200);
            all_have(&pool, &format!("m{round}"));
            pool.restart(dies);
            pool.run(2_000);
        }
        assert!(pool.members.iter().all(|member| member.alarms.is_empty()), "{shape:?}");
    }
}

#[test]
fn a_handover_there_and_back_with_other_leaders() {
    let mut pool = Pool::paired([3, 3], 5, |_| {});
    pool.run(4_000);
    for round in 0..4_u16 {
        let (from, to) = (1 + round % 2, 2 - round % 2);
        let active = pool.leads(from).unwrap();
        pool.committed(active, &format!("k{round}"), "x");
        assert!(matches!(pool.change(active, false, u128::from(round) + 1), Some(Done::Committed(_))), "round {round}");
        pool.run(300);
        let served = pool.leads(to).unwrap();
        assert!(pool.host(served).can_commit(GROUP), "round {round}");
        pool.committed(served, &format!("m{round}"), "x");
        pool.run(300);
        all_have(&pool, &format!("m{round}"));
        for pool_number in [1, 2] {
            let dies = pool.leads(pool_number).unwrap();
            pool.crash(dies, 0);
            pool.run(1_000);
            pool.restart(dies);
            pool.run(1_500);
        }
        assert!(pool.host(pool.leads(to).unwrap()).can_commit(GROUP), "who leads next need not ask");
    }
    assert!(pool.members.iter().all(|member| member.alarms.is_empty()));
}

#[test]
fn who_heard_of_a_newer_epoch_does_not_serve_in_the_older_one_when_it_leads() {
    let mut refused = 0;
    for seed in 0..12 {
        let mut pool = Pool::paired([3, 3], seed, |_| {});
        pool.run(4_000);
        pool.part(true);
        let backup = pool.leads(2).unwrap();
        assert!(matches!(pool.change(backup, true, 1), Some(Done::Committed(_))));
        pool.committed(backup, "new", "x");
        // The leader that would have written it down is gone, and one server alone hears of the other pool.
        let active = pool.leads(1).unwrap();
        let (hears, other) = ((active + 1) % 3, (active + 2) % 3);
        pool.crash(active, 0);
        pool.isolate(other);
        pool.part(false);
        pool.run(600);
        pool.part(true);
        pool.rejoin(other);
        pool.run(2_000);
        let leader = pool.leads(1).unwrap();
        if leader == hears {
            refused += 1;
            assert!(!pool.host(leader).can_commit(GROUP), "seed {seed}");
            let asked = pool.commit(leader, vec![pool::put("late", "x")]);
            assert!(
                matches!(asked, Done::Refused(Refusal::NotActive(..))),
                "it has stood down: seed {seed}: {asked:?}"
            );
            pool.input(leader, HostInput::AssertActive);
            assert!(!pool.host(leader).can_commit(GROUP), "nor by an administrator's word: seed {seed}");
            if seed % 2 == 1 {
                // The other pool is lost for good: this one is promoted, in an epoch beyond the one that it was told of.
                let other = pool.host(backup).group(GROUP).unwrap().epoch;
                assert!(matches!(pool.change(leader, true, 2), Some(Done::Committed(_))), "seed {seed}");
                assert!(pool.host(leader).can_commit(GROUP) && pool.host(leader).group(GROUP).unwrap().epoch > other);
                continue;
            }
        }
        pool.part(false);
        pool.restart(active);
        pool.run(4_000);
        assert!(pool.host(pool.leads(2).unwrap()).can_commit(GROUP), "seed {seed}");
        all_have(&pool, "new");
    }
    assert!(refused > 2, "{refused} of 12");
}

#[test]
fn a_lost_pool_comes_back_as_the_backup_and_its_tail_is_kept() {
    let mut pool = Pool::paired([3, 3], 6, |_| {});
    pool.run(4_000);
    let active = pool.leads(1).unwrap();
    pool.committed(active, "shipped", "x");
    pool.run(300);
    pool.part(true);
    pool.committed(active, "tail", "x");
    for at in 0..3 {
        pool.crash(at, 0);
    }
    let backup = pool.leads(2).unwrap();
    assert!(matches!(pool.change(backup, true, 1), Some(Done::Committed(_))));
    pool.committed(backup, "new", "x");
    // Another leads there before the lost pool returns.
    pool.crash(backup, 0);
    pool.run(1_000);
    let served = pool.leads(2).unwrap();
    assert!(pool.host(served).can_commit(GROUP));
    for at in 0..3 {
        pool.restart(at);
    }
    pool.restart(backup);
    pool.run(2_000);
    assert!((0..3).all(|at| !pool.host(at).can_commit(GROUP)), "not before it knows who serves");
    pool.part(false);
    pool.run(3_000);
    all_have(&pool, "new");
    assert!((0..3).all(|at| pool.host(at).role(GROUP) == Some(Role::Backup) && pool.value(at, "tail").is_none()));
    assert!(pool.members.iter().any(|member| !member.tails.is_empty()));
}

#[test]
fn what_the_partner_confirmed_is_known_to_all_replicas() {
    let mut pool = Pool::paired([3, 3], 7, |_| {});
    pool.run(4_000);
    // Each was restarted while the others went on.
    for at in 0..3 {
        pool.crash(at, 0);
        pool.run(1_000);
        pool.restart(at);
        pool.run(2_000);
    }
    pool.part(true);
    let dies = pool.leads(1).unwrap();
    pool.crash(dies, 0);
    pool.run(1_500);
    let next = pool.leads(1).unwrap();
    pool.committed(next, "alone", "x");
    // All at once is another matter: the partner may have taken over meanwhile.
    for at in 0..3 {
        if at != dies {
            pool.crash(at, 0);
        }
    }
    (0..3).for_each(|at| pool.restart(at));
    pool.run(2_000);
    let leads = pool.leads(1).unwrap();
    assert!(!pool.host(leads).can_commit(GROUP));
    pool.part(false);
    pool.run(500);
    assert!(pool.host(leads).can_commit(GROUP));
}

#[test]
fn a_seed_begins_anew_with_whoever_leads() {
    for seed in 0..8 {
        let mut pool = Pool::paired([3, 3], seed, |cfg| {
            (cfg.limits.seed_chunk, cfg.limits.history_entries, cfg.limits.retain_entries) = (200, 4, 16);
        });
        pool.run(4_000);
        pool.part(true);
        let active = pool.leads(1).unwrap();
        for n in 0..200 {
            pool.committed(active, &format!("k{n}"), "x");
        }
        pool.run(200);
        pool.delay = true;
        pool.part(false);
        pool.run(100);
        for _ in 0..40 + seed * 25 {
            pool.deliver(0);
            pool.settle();
        }
        let side = 1 + u16::try_from(seed % 2).unwrap();
        let dies = pool.leads(side).unwrap();
        pool.crash(dies, 0);
        pool.delay = false;
        pool.run(2_000);
        pool.restart(dies);
        pool.run(3_000);
        let active = pool.leads(1).unwrap();
        pool.committed(active, "after", "x");
        pool.run(1_000);
        all_have(&pool, "after");
        all_have(&pool, "k199");
    }
}

#[test]
fn whoever_is_wrongly_thought_to_lead_is_not_for_long() {
    let mut pool = Pool::paired([3, 3], 8, |_| {});
    pool.run(4_000);
    for side in [1, 2] {
        let (here, there) = (pool.leads(side).unwrap(), pool.leads(3 - side).unwrap());
        let follower = (0..6).find(|at| pool.pool_of(*at) == 3 - side && *at != there).unwrap();
        let frame = Frame::Leads { groups: vec![GROUP] };
        let link = pool.link(here, follower);
        pool.input(here, HostInput::Frame { link, frame });
        let active = pool.leads(1).unwrap();
        pool.committed(active, &format!("k{side}"), "x");
        pool.run(200);
        all_have(&pool, &format!("k{side}"));
    }
}

#[test]
fn how_far_behind_the_partner_a_copy_is_every_replica_knows_so_that_it_is_known_after_the_leader_too() {
    let mut pool = Pool::paired([3, 3], 5, |_| {});
    pool.run(4_000);
    let lag = |pool: &Pool, at: usize| pool.host(at).group(GROUP).unwrap().lag;
    let active = pool.leads(1).unwrap();
    pool.committed(active, "k", "x");
    pool.run(1_000);
    let backups: Vec<usize> = running(&pool).into_iter().filter(|at| pool.pool_of(*at) == 2).collect();
    for at in &backups {
        assert!(matches!(lag(&pool, *at), Lag::AtMost(ms) if ms < 1_000), "{at}: {:?}", lag(&pool, *at));
    }
    // The whole of the other pool is lost, and with it whoever led the copies here.
    let lost: Vec<usize> = running(&pool).into_iter().filter(|at| pool.pool_of(*at) == 1).collect();
    lost.into_iter().for_each(|at| pool.crash(at, 0));
    let dead = pool.leads(2).unwrap();
    pool.crash(dead, 0);
    pool.run(5_000);
    let leads = pool.leads(2).unwrap();
    assert_ne!(leads, dead);
    let Lag::AtMost(ms) = lag(&pool, leads) else { panic!("not known: {:?}", lag(&pool, leads)) };
    assert!((5_000..6_500).contains(&ms), "{ms} ms: since the loss, and what was not heard before it");
    // The clock of one that begins anew does not reach back so far: it says that it does not know, and nothing better than the leader does.
    let other = backups.into_iter().find(|at| *at != dead && *at != leads).unwrap();
    pool.crash(other, 0);
    pool.restart(other);
    pool.run(2_000);
    assert_eq!(lag(&pool, other), Lag::Unknown);
}

#[test]
fn a_copy_that_does_not_hear_who_leads_says_no_less_than_may_be_missing() {
    let mut pool = Pool::paired([3, 3], 4, |_| {});
    pool.run(4_000);
    let leader = pool.leads(1).unwrap();
    pool.committed(leader, "a", "x");
    pool.run(500);
    let lag = |pool: &Pool, at: usize| pool.host(at).group(GROUP).unwrap().lag;
    assert_eq!(lag(&pool, leader), Lag::Exactly(0));
    let other = (leader + 1) % 3;
    pool.isolate(other);
    // The partner is away, so that this one is behind, and the copy that is cut off does not hear of it.
    pool.apart = true;
    pool.part(true);
    pool.committed(leader, "b", "x");
    pool.run(1_000);
    let Lag::Exactly(ms) = lag(&pool, leader) else { panic!("{:?}", lag(&pool, leader)) };
    assert!(ms >= 900);
    assert!(matches!(lag(&pool, other), Lag::AtMost(told) if told >= ms), "{:?}", lag(&pool, other));
}

#[test]
fn what_waits_for_the_partner_is_as_old_to_who_comes_back_and_to_who_leads_next() {
    let mut pool = Pool::paired([3, 3], 6, |_| {});
    pool.run(4_000);
    let leader = pool.leads(1).unwrap();
    pool.committed(leader, "a", "x");
    pool.run(500);
    pool.apart = true;
    pool.part(true);
    pool.committed(leader, "b", "x");
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    pool.run(3_000);
    pool.crash(others[0], 0);
    pool.restart(others[0]);
    pool.run(2_000);
    let told = |pool: &Pool, at: usize| match pool.host(at).group(GROUP).unwrap().lag {
        Lag::Exactly(ms) | Lag::AtMost(ms) => ms,
        Lag::Unknown => u64::MAX,
    };
    assert_eq!(told(&pool, others[0]), u64::MAX, "it got the entry anew, and cannot know since when it waits");
    assert!((4_900..6_000).contains(&told(&pool, others[1])), "{}", told(&pool, others[1]));
    pool.crash(leader, 0);
    pool.run(3_000);
    let next = pool.leads(1).unwrap();
    assert!(others.contains(&next) && told(&pool, next) >= 7_900, "{}", told(&pool, next));
}

/// Time passes, and what a pool says inside arrives at once; of what the pools say to each other, some frames.
fn with_slow_partner(pool: &mut Pool, frames: usize) {
    pool.run(50);
    for _ in 0..20 {
        for (a, b) in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)] {
            pool.deliver_between(a, b);
            pool.settle();
        }
    }
    for _ in 0..frames {
        pool.deliver(0);
        pool.settle();
    }
}

/// A replica that is too far behind for the log comes back in the middle of a seed from the partner; whether it got its copy before the end of that.
/// So many items of the log are kept in memory, and the state before the seed has so many records.
fn comes_back_in_a_seed(seed: u64, kept: u64, records: usize) -> bool {
    let mut pool = Pool::paired([3, 3], seed, |cfg| {
        (cfg.limits.seed_chunk, cfg.limits.seed_window) = (200, 2);
        (cfg.limits.history_entries, cfg.limits.retain_entries, cfg.limits.replica_items) = (4, 16, kept);
    });
    pool.run(4_000);
    let leads = pool.leads(2).unwrap();
    let behind = (3..6).find(|at| *at != leads).unwrap();
    pool.crash(behind, 0);
    let active = pool.leads(1).unwrap();
    // More than the log in memory has arrived before, and more than is kept for a partner while it is away.
    for n in 0..150 {
        pool.committed(active, &format!("k{}", n % records), "x");
        pool.run(50);
    }
    pool.part(true);
    for n in 150..400 {
        pool.committed(active, &format!("k{n}"), "x");
    }
    pool.run(200);
    pool.delay = true;
    pool.part(false);
    let mut given = false;
    let seeding = |pool: &Pool| pool.host(leads).group(GROUP).unwrap().seed;
    for _ in 0..150 {
        with_slow_partner(&mut pool, 26);
        if pool.members[behind].host.is_none() && seeding(&pool).is_some_and(|(done, _)| done > 90 + 8 * seed) {
            pool.restart(behind);
        }
        if seeding(&pool).is_some() && pool.members[behind].swapped == 1 && !given {
            given = true;
            pool.checkpoint(behind);
        }
    }
    pool.delay = false;
    pool.run(3_000);
    pool.checkpoint(behind);
    pool.run(2_000);
    pool.committed(pool.leads(1).unwrap(), "after", "x");
    pool.run(1_000);
    all_have(&pool, "after");
    all_have(&pool, "k399");
    let stopped = |alarm: &Alarm| matches!(alarm, Alarm::GroupStopped { .. });
    assert!(!pool.members.iter().any(|member| member.alarms.iter().any(stopped)), "seed {seed}");
    given
}

#[test]
fn a_copy_that_is_given_while_a_seed_is_under_way_is_of_use() {
    assert!((0..8).all(|seed| comes_back_in_a_seed(seed, 64, 150)), "a copy came while a seed was under way");
}

#[test]
fn no_copy_is_given_where_the_beginning_of_the_seed_is_not_known_any_more() {
    // So few records that a copy would be there at once.
    assert!(!(0..8).any(|seed| comes_back_in_a_seed(seed, 8, 1)));
}

#[test]
fn a_group_whose_opening_was_lost_is_opened_by_whoever_leads_next() {
    for seed in 0..4 {
        let mut pool = Pool::paired([3, 3], seed, |_| {});
        pool.part(true);
        pool.run(4_000);
        let first = pool.leads(1).unwrap();
        let others = [(first + 1) % 3, (first + 2) % 3];
        // It hears that nobody has the group, and writes that it is open; the others do not have that on their disks.
        others.iter().for_each(|at| pool.members[*at].auto_sync = false);
        assert_eq!(pool.host(first).role(GROUP), Some(Role::Active), "still to be opened: seed {seed}");
        pool.part(false);
        pool.settle();
        assert_eq!(pool.host(first).role(GROUP), Some(Role::Backup), "it is written, and not committed: seed {seed}");
        pool.part(true);
        pool.isolate(first);
        for at in others {
            pool.crash(at, 0);
            pool.members[at].auto_sync = true;
            pool.restart(at);
        }
        pool.run(3_000);
        assert!(pool.leads(1).is_some_and(|at| at != first), "seed {seed}");
        pool.rejoin(first);
        pool.run(2_000);
        assert_eq!(pool.host(first).position(GROUP).unwrap_or_default().seq, 0, "it is lost: seed {seed}");
        others.iter().for_each(|at| pool.input(*at, HostInput::Drain { on: true }));
        pool.run(3_000);
        assert_eq!(pool.leads(1), Some(first), "seed {seed}");
        assert!(!pool.host(first).can_commit(GROUP), "the other pool was not heard since: seed {seed}");
        pool.part(false);
        pool.run(1_000);
        assert!(pool.host(first).can_commit(GROUP), "seed {seed}");
        pool.committed(first, "k", "x");
        pool.run(300);
        all_have(&pool, "k");
    }
}
