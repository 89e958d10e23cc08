//! Random commits, cuts, crashes, checkpoints, handovers and promotions, then healing: everything acknowledged is present or in
//! a stored tail, both copies are equal, and nothing was ever active twice in one epoch.

use super::common;

use common::{EAST, GROUP, WEST, World, config, key, op, put, soft};
use pairline_group::io::{Alarm, Done, Proposal, Role};
use pairline_group::{Body, Effect, Epoch, HostInput, Key, PoolId, Ticket};
use std::collections::{BTreeMap, BTreeSet};

fn brief(status: &pairline_group::io::GroupStatus) -> String {
    format!(
        "{:?} confirmed {} {} served by {:?}, records {} digest {:02x?} export {:?} import {:?} tail {} stopped {:?}",
        status.role,
        status.confirmed,
        status.position,
        status.serving,
        status.records,
        &status.digest[..4],
        status.export,
        status.import,
        status.tail,
        status.stopped
    )
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

struct Chaos {
    world: World,
    rng: Rng,
    counter: u64,
    /// Proposals of unique keys, by server and ticket.
    asked: BTreeMap<(usize, Ticket), Key>,
    active: BTreeMap<Epoch, BTreeSet<PoolId>>,
    positions: [pairline_group::Position; 2],
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555);
        rng.below(2);
        let mut east = config(1);
        let mut west = config(2);
        for cfg in [&mut east, &mut west] {
            cfg.limits.seed_chunk = 200;
            cfg.limits.history_entries = usize::try_from(rng.below(30)).expect("small");
        }
        let mut world = World::apart(east, west);
        world.pair();
        world.connect();
        world.run(500);
        Chaos { world, rng, counter: 0, asked: BTreeMap::new(), active: BTreeMap::new(), positions: Default::default() }
    }

    fn up(&self, at: usize) -> bool {
        self.world.servers[at].host.is_some()
    }

    fn note(&mut self) {
        for at in [EAST, WEST] {
            if !self.up(at) {
                continue;
            }
            let status = self.world.status(at);
            if self.world.host(at).can_commit(GROUP) {
                self.active.entry(status.epoch).or_default().insert(self.world.servers[at].cfg.pool);
            }
            if status.role == Role::Backup {
                assert!(status.position >= self.positions[at], "a backup moved backwards");
            }
            self.positions[at] = if status.role == Role::Backup { status.position } else { Default::default() };
        }
    }

    fn step(&mut self) {
        let at = usize::from(self.rng.below(2) == 1);
        match self.rng.below(24) {
            0..=9 => self.propose(at),
            10 => self.world.settle(),
            11 | 12 => {
                let millis = 50 * self.rng.below(40);
                self.world.run(millis);
            }
            13 => self.world.connect(),
            14 => self.world.cut(),
            15 => {
                let most = usize::try_from(self.rng.below(6)).expect("small");
                self.world.step_frames(most);
            }
            16 if self.up(at) => {
                let keep = usize::try_from(self.rng.below(4)).expect("small");
                self.world.crash(at, keep);
                self.positions[at] = Default::default();
            }
            17 | 18 if !self.up(at) => self.world.restart(at),
            19 if self.up(at) => {
                self.counter += 1;
                self.world.checkpoint(at, self.counter);
            }
            20 => {
                self.counter += 1;
                let ticket = self.world.ticket();
                let to = self.world.servers[1 - at].cfg.pool;
                let step = common::step(u128::from(self.counter), 1);
                self.world.input(at, HostInput::Handover { ticket, group: GROUP, to, step });
            }
            21 if self.rng.below(3) == 0 => {
                self.counter += 1;
                let ticket = self.world.ticket();
                let step = common::step(u128::from(self.counter), 1);
                let (operator, plan) = ("anna".into(), bytes::Bytes::new());
                self.world.input(at, HostInput::Promote { ticket, group: GROUP, step, operator, plan });
            }
            22 => self.world.servers[at].auto_sync = self.rng.below(3) != 0,
            23 => self.world.delay = self.rng.below(4) == 0,
            _ => self.world.sync(at),
        }
        self.note();
    }

    fn propose(&mut self, at: usize) {
        self.counter += 1;
        let name = format!("k{}", self.counter);
        let mut writes = vec![put(&name, "x"), put("shared", &name)];
        if self.rng.below(3) == 0 {
            writes.push(soft(&format!("s{}", self.counter % 5), &name, 2000));
        }
        let proposal =
            Proposal { op: Some(op(u128::from(self.counter % 7), self.counter)), writes, ..Proposal::default() };
        if self.up(at) {
            let ticket = self.world.propose(at, proposal);
            self.asked.insert((at, ticket), key(&name));
        }
    }

    fn heal(&mut self) {
        self.world.delay = false;
        for at in [EAST, WEST] {
            self.world.servers[at].auto_sync = true;
            if !self.up(at) {
                self.world.restart(at);
            }
            self.world.sync(at);
        }
        self.world.settle();
        self.world.connect();
        self.world.run(30_000);
        self.note();
    }

    fn check(&self, seed: u64) {
        let actives = [EAST, WEST].iter().filter(|at| self.world.host(**at).can_commit(GROUP)).count();
        let show = || format!("seed {seed}\n{}\n{}", brief(&self.world.status(EAST)), brief(&self.world.status(WEST)));
        assert_eq!(actives, 1, "one serves: {}", show());
        assert_eq!(self.world.status(EAST).position, self.world.status(WEST).position, "{}", show());
        assert_eq!(self.world.status(EAST).digest, self.world.status(WEST).digest, "{}", show());
        for (epoch, pools) in &self.active {
            assert_eq!(pools.len(), 1, "two active in {epoch}: {}", show());
        }
        for server in &self.world.servers {
            for alarm in &server.alarms {
                let fine = matches!(alarm, Alarm::DivergentTail { .. });
                assert!(fine, "{alarm:?}: {}", show());
            }
        }
        let mut in_tail = BTreeSet::new();
        for (group, _, entries) in self.world.servers.iter().flat_map(|server| &server.tails) {
            for entry in entries.iter().filter(|_| *group == GROUP) {
                if let Body::Effects(effects) = &entry.body {
                    in_tail.extend(effects.iter().map(Effect::key).cloned());
                }
            }
        }
        for ((at, ticket), key) in &self.asked {
            let acknowledged = matches!(self.world.servers[*at].done.get(ticket), Some(Done::Committed(_)));
            let present = self.world.host(EAST).get(GROUP, key).is_some();
            assert!(!acknowledged || present || in_tail.contains(key), "{key:?} is gone: {}", show());
        }
    }
}

fn run(seed: u64) -> (bool, bool, bool) {
    let mut chaos = Chaos::new(seed);
    for _ in 0..120 {
        chaos.step();
    }
    chaos.heal();
    chaos.check(seed);
    let tails = chaos.world.servers.iter().any(|server| !server.tails.is_empty());
    let swaps = chaos.world.servers.iter().any(|server| server.swapped > 0);
    (tails, swaps, chaos.active.len() > 2)
}

#[test]
fn whatever_happens_it_heals_and_nothing_acknowledged_is_lost() {
    let seeds: u64 = option_env!("CHAOS_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(150);
    let first: u64 = option_env!("CHAOS_FIRST").and_then(|n| n.parse().ok()).unwrap_or(0);
    let (mut tails, mut swaps, mut moves) = (0, 0, 0);
    for seed in first..first + seeds {
        let (tail, swap, moved) = run(seed);
        tails += u64::from(tail);
        swaps += u64::from(swap);
        moves += u64::from(moved);
    }
    if seeds >= 100 {
        assert!(tails > 5 && swaps > 5 && moves > 5, "not sharp: tails {tails}, swaps {swaps}, moves {moves}");
    }
}
