//! A failover and failback in which either server dies at each of its log batches in turn: the outcome is always the same.

use super::common;

use common::{EAST, GROUP, WEST, World, committed, op, put};
use pairline_group::io::{Done, Proposal, Role};
use pairline_group::{HostInput, Ticket};

/// Runs until `victim` has written its n-th batch since the start, then kills it with `keep` of its unsynced batches.
/// Returns whether the batch was reached.
struct Sweep {
    world: World,
    victim: usize,
    at_batch: u64,
    keep: usize,
    hit: bool,
}

impl Sweep {
    fn new(victim: usize, nth: u64, keep: usize) -> Sweep {
        let world = World::paired();
        let at_batch = world.servers[victim].batches + nth;
        Sweep { world, victim, at_batch, keep, hit: false }
    }

    /// Lets the world come to rest, with the crash where it falls due, and the restart after it.
    fn settle(&mut self) {
        if !self.hit {
            self.world.servers[self.victim].auto_sync = false;
        }
        for _ in 0..200 {
            self.world.settle();
            if self.hit {
                return;
            }
            if self.world.servers[self.victim].batches >= self.at_batch {
                self.hit = true;
                self.world.crash(self.victim, self.keep);
                self.world.servers[self.victim].auto_sync = true;
                self.world.run(500);
                self.world.restart(self.victim);
                self.world.connect();
                self.world.run(3000);
                return;
            }
            if self.world.servers[self.victim].disk.unsynced.is_empty() {
                return;
            }
            self.world.sync_one(self.victim);
        }
        panic!("never at rest");
    }

    /// Repeats a step until it is done; each repetition names the same step.
    fn insist(&mut self, at: usize, mut input: impl FnMut(Ticket) -> HostInput) {
        for _ in 0..20 {
            let ticket = self.world.ticket();
            self.world.input(at, input(ticket));
            self.settle();
            if matches!(self.world.servers[at].done.get(&ticket), Some(Done::Committed(_) | Done::Duplicate(_))) {
                return;
            }
            self.world.run(500);
        }
        panic!("the step never succeeds");
    }

    fn commit(&mut self, at: usize, name: &str, counter: u64) {
        let proposal = Proposal { op: Some(op(3, counter)), writes: vec![put(name, name)], ..Proposal::default() };
        self.insist(at, |ticket| HostInput::Propose { ticket, group: GROUP, proposal: proposal.clone() });
    }

    fn handover(&mut self, from: usize, procedure: u128) {
        let to = self.world.servers[1 - from].cfg.pool;
        let step = common::step(procedure, 1);
        self.insist(from, |ticket| HostInput::Handover { ticket, group: GROUP, to, step });
        self.settle();
        self.world.run(3000);
    }
}

#[test]
fn planned_failover_and_failback_end_alike_wherever_a_server_dies() {
    let mut reached = 0;
    for victim in [EAST, WEST] {
        for nth in 1..12 {
            for keep in [0, 1] {
                let mut sweep = Sweep::new(victim, nth, keep);
                sweep.commit(EAST, "a", 1);
                sweep.handover(EAST, 1);
                assert_eq!(sweep.world.role(WEST), Role::Active, "victim {victim} batch {nth}");
                sweep.commit(WEST, "b", 2);
                sweep.settle();
                sweep.handover(WEST, 2);
                sweep.commit(EAST, "c", 3);
                sweep.settle();
                reached += u32::from(sweep.hit);
                let mut world = sweep.world;
                for at in [EAST, WEST] {
                    world.servers[at].auto_sync = true;
                    world.sync(at);
                }
                world.run(3000);
                world.assert_equal();
                assert_eq!((world.role(EAST), world.role(WEST)), (Role::Active, Role::Backup));
                assert_eq!(world.host(EAST).lineage(GROUP).len(), 3, "two changes, each once");
                for name in ["a", "b", "c"] {
                    assert_eq!(
                        world.value(WEST, name).as_deref(),
                        Some(name),
                        "victim {victim} batch {nth} keep {keep}"
                    );
                }
                assert_eq!(world.status(EAST).records, 3);
            }
        }
    }
    assert!(reached >= 16, "the sweep hits its batches: {reached}");
}

#[test]
fn a_returning_pool_may_die_at_each_batch_of_its_return() {
    let mut reached = 0;
    for nth in 1..9 {
        for keep in [0, 1, 2] {
            let mut world = World::paired();
            committed(&world.commit(EAST, vec![put("a", "1")]));
            world.settle();
            world.cut();
            committed(&world.commit(EAST, vec![put("a", "lost"), put("tail", "1")]));
            world.crash(EAST, 0);
            committed(&world.promote(WEST, 9));
            committed(&world.commit(WEST, vec![put("a", "2")]));
            world.restart(EAST);
            world.connect();
            let at_batch = world.servers[EAST].batches + nth;
            let mut sweep = Sweep { world, victim: EAST, at_batch, keep, hit: false };
            for _ in 0..6 {
                sweep.settle();
                sweep.world.run(200);
            }
            reached += u32::from(sweep.hit);
            let mut world = sweep.world;
            world.servers[EAST].auto_sync = true;
            world.sync(EAST);
            world.run(8000);
            assert_eq!((world.role(EAST), world.role(WEST)), (Role::Backup, Role::Active), "batch {nth} keep {keep}");
            world.assert_equal();
            assert_eq!(world.value(EAST, "a").as_deref(), Some("2"));
            assert_eq!(world.status(EAST).tail, 1);
            assert!(world.servers[EAST].tails.iter().all(|(_, _, entries)| entries.len() == 1));
        }
    }
    assert!(reached >= 9, "the sweep hits its batches: {reached}");
}
