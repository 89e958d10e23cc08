//! Leaders are spread over the servers of a pool, and go from one that is drained; nobody who waits for an answer notices.
#![allow(clippy::unwrap_used)]

use super::pool_rig as pool;

use pairline_group::io::{Done, Proposal, Refusal};
use pairline_group::{GroupId, HostInput, PoolId, ServerId, Ticket, placement};
use pool::{Pool, put};
use std::collections::BTreeMap;

const GROUPS: u16 = 12;

fn groups() -> Vec<GroupId> {
    (0..GROUPS).map(|index| GroupId { pool: PoolId(1), index }).collect()
}

fn start(seed: u64) -> Pool {
    Pool::with(3, seed, |cfg| cfg.groups = GROUPS)
}

/// Which server leads each group.
fn led(pool: &Pool) -> BTreeMap<GroupId, ServerId> {
    let up = |at: &usize| pool.members[*at].host.is_some();
    let leads = |group: GroupId| (0..3).filter(up).find(|at| pool.host(*at).leads(group));
    groups().into_iter().filter_map(|group| Some((group, pool.members[leads(group)?].cfg.server))).collect()
}

fn wanted() -> BTreeMap<GroupId, ServerId> {
    placement::leaders(&groups(), &[ServerId(1), ServerId(2), ServerId(3)])
}

fn drain(pool: &mut Pool, at: usize, on: bool) {
    pool.input(at, HostInput::Drain { on });
    pool.settle();
}

#[test]
fn after_a_while_each_server_leads_its_share() {
    for seed in 0..6 {
        let mut pool = start(seed);
        pool.run_unevenly(25_000);
        assert_eq!(led(&pool), wanted(), "seed {seed}");
        let dies = usize::try_from(seed % 3).unwrap();
        pool.crash(dies, 0);
        pool.run_unevenly(2_000);
        assert!(led(&pool).len() == 12 && led(&pool).values().all(|leads| *leads != pool.members[dies].cfg.server));
        pool.restart(dies);
        pool.run_unevenly(15_000);
        assert_eq!(led(&pool), wanted(), "seed {seed}");
        let changes: usize = pool.members.iter().map(|member| member.changes).sum();
        pool.run_unevenly(10_000);
        assert_eq!(changes, pool.members.iter().map(|member| member.changes).sum::<usize>(), "and then it is quiet");
    }
}

#[test]
fn nobody_who_waits_notices_that_another_leads() {
    let mut pool = start(3);
    pool.run(2_000);
    let (mut asked, mut refused): (Vec<(usize, Ticket, String)>, usize) = (Vec::new(), 0);
    for round in 0..400_u64 {
        // Disks that sync only now and then: something is always in flight.
        let at = usize::try_from(round % 3).unwrap();
        pool.members.iter_mut().for_each(|member| member.auto_sync = false);
        for group in groups() {
            let Some(leader) = (0..3).find(|at| pool.host(*at).leads(group)) else { continue };
            let name = format!("{group} {round}");
            let proposal = Proposal { writes: vec![put(&name, "x")], ..Proposal::default() };
            let ticket = Ticket(round * 100 + u64::from(group.index));
            pool.input(leader, HostInput::Propose { ticket, group, proposal });
            asked.push((leader, ticket, name));
        }
        pool.settle();
        pool.sync_one(at);
        pool.run(50);
        (0..3).for_each(|at| pool.sync(at));
        pool.settle();
        if round == 200 {
            drain(&mut pool, 1, true);
        }
    }
    pool.run(1_000);
    for (at, ticket, name) in asked {
        match pool.answer_to(at, ticket).unwrap() {
            Done::Committed(_) => {}
            Done::Refused(Refusal::Busy | Refusal::NotLeader(_)) => refused += 1,
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(pool.host(1).drained(), (true, 0));
    assert!(refused < 100, "of 4,800: {refused}");
}

#[test]
fn a_drained_server_leads_nothing_until_it_may_again() {
    let mut pool = start(4);
    pool.run_unevenly(25_000);
    drain(&mut pool, 0, true);
    pool.run_unevenly(1_000);
    assert_eq!(pool.host(0).drained(), (true, 0));
    assert_eq!(led(&pool).len(), 12);
    pool.run_unevenly(10_000);
    assert_eq!(pool.host(0).drained(), (true, 0), "nobody gives anything back");
    // Another dies: the third leads everything.
    pool.crash(1, 0);
    pool.run_unevenly(2_500);
    assert!(led(&pool).len() == 12 && led(&pool).values().all(|leads| *leads == ServerId(3)), "{:?}", led(&pool));
    // The third dies too, and the second is back: whoever can lead does.
    pool.restart(1);
    pool.run_unevenly(2_000);
    drain(&mut pool, 1, true);
    pool.crash(2, 0);
    pool.run_unevenly(4_000);
    assert_eq!(led(&pool).len(), 12, "better one that is drained than none");
    pool.restart(2);
    pool.run_unevenly(3_000);
    assert!(led(&pool).values().all(|leads| *leads == ServerId(3)));
    (0..2).for_each(|at| drain(&mut pool, at, false));
    pool.run_unevenly(20_000);
    assert_eq!(led(&pool), wanted());
}
