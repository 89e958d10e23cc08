//! Random changes, crashes, cuts, slow disks and checkpoints on the servers of a pool, then healing; and what has to hold of it.
#![allow(dead_code)]

use crate::pool_rig::{GROUP, Pool, Rng, put};
use pairline_group::io::{Alarm, Done, Proposal};
use pairline_group::{HostConfig, HostInput, Position, Ticket};
use std::collections::BTreeMap;

/// A pool, and what it has acknowledged.
pub struct Chaos {
    pub pool: Pool,
    pub rng: Rng,
    /// So many of its servers hold data, the first ones; another one is a witness.
    data: usize,
    counter: u64,
    /// Ticks since everything that waited was delivered.
    ticks: usize,
    asked: BTreeMap<(usize, Ticket), u64>,
    /// What was acknowledged, and where.
    pub acknowledged: BTreeMap<u64, Position>,
    /// The last of it.
    last: Position,
    /// The first time that a server would have answered from a state that was not the present one, or that two would have answered.
    stale: Option<String>,
}

/// What one run met.
#[derive(Debug, Default)]
pub struct Met {
    pub acknowledged: usize,
    pub copies: usize,
    stopped: Vec<String>,
}

impl Chaos {
    /// On a pool of three.
    pub fn new(seed: u64, change: impl Fn(&mut HostConfig)) -> Chaos {
        Chaos::on(Pool::with(3, seed, change), seed)
    }

    /// On a pool of two and a witness.
    pub fn witnessed(seed: u64, change: impl Fn(&mut HostConfig)) -> Chaos {
        Chaos::on(Pool::witnessed(seed, change), seed)
    }

    fn on(pool: Pool, seed: u64) -> Chaos {
        let data = pool.members.iter().filter(|member| member.cfg.witness != Some(member.cfg.server)).count();
        Chaos {
            pool,
            data,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234),
            counter: 0,
            ticks: 0,
            asked: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            last: Position::default(),
            stale: None,
        }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.pool.members.len()
    }

    fn up(&self, at: usize) -> bool {
        self.pool.members[at].host.is_some()
    }

    /// Takes the answers.
    pub fn note(&mut self) {
        for at in self.all() {
            for (ticket, done) in std::mem::take(&mut self.pool.members[at].done) {
                if let (Some(number), Done::Committed(position)) = (self.asked.remove(&(at, ticket)), done) {
                    self.acknowledged.insert(number, position);
                    self.last = self.last.max(position);
                }
            }
        }
    }

    /// Whoever says that it leads has everything that was acknowledged, and is alone with it.
    fn look(&mut self) {
        let leads = |at: &usize| self.up(*at) && !self.pool.is_frozen(*at) && self.pool.host(*at).leads(GROUP);
        let leaders: Vec<usize> = self.all().filter(leads).collect();
        let behind = leaders.iter().find(|at| self.pool.host(**at).position(GROUP) < Some(self.last));
        if self.stale.is_none() && (leaders.len() > 1 || behind.is_some()) {
            self.stale = Some(format!("at {}: {leaders:?} lead, {behind:?} without {}", self.pool.now, self.last));
        }
    }

    fn propose(&mut self, at: usize) {
        self.counter += 1;
        // Two records: one of its own, and one that many write.
        let writes = vec![put(&format!("n{}", self.counter), "x"), put("shared", &self.counter.to_string())];
        let ticket = self.pool.propose(at, Proposal { writes, ..Proposal::default() });
        self.asked.insert((at, ticket), self.counter);
    }

    /// Every server that is up is asked for a change.
    pub fn propose_everywhere(&mut self) {
        let up: Vec<usize> = self.all().filter(|at| self.up(*at)).collect();
        up.into_iter().for_each(|at| self.propose(at));
    }

    /// One thing happens.
    pub fn step(&mut self) {
        let at = self.rng.below(3);
        match self.rng.below(100) {
            0..30 => self.propose_everywhere(),
            30..60 => {
                for _ in 0..self.rng.below(12) {
                    let waiting = self.pool.waiting().max(1);
                    let place = self.rng.below(waiting);
                    self.pool.deliver(place);
                    self.pool.settle();
                }
            }
            60..75 => {
                for _ in 0..self.rng.below(4) {
                    let at = self.rng.below(3);
                    self.pool.sync_one(at);
                    self.pool.settle();
                }
            }
            75..90 => {
                let ms = u64::try_from(50 + self.rng.below(500)).unwrap_or(50);
                self.pool.run(ms);
            }
            90..92 if self.up(at) => {
                let keep = self.rng.below(3);
                self.pool.crash(at, keep);
                self.asked.retain(|(of, _), _| *of != at);
            }
            92..95 if !self.up(at) => self.pool.restart(at),
            95 if self.up(at) => self.pool.isolate(at),
            96 => self.pool.rejoin(at),
            97 if self.pool.is_frozen(at) => {
                self.pool.thaw(at);
                // Before anything else it is asked: it must not answer from what it last knew.
                self.look();
                self.pool.catch_up(at);
            }
            97 if self.up(at) => self.pool.freeze(at),
            98 if self.up(at) => self.pool.part_of_checkpoint(at),
            99 if self.up(at) => {
                let on = self.rng.below(2) == 0;
                self.pool.input(at, HostInput::Drain { on });
            }
            _ => {}
        }
        self.pool.settle();
        self.note();
        self.look();
    }

    /// Nothing is wrong, but links and disks take their time: less than it takes to call a server away.
    pub fn jostle(&mut self) {
        self.propose_everywhere();
        for _ in 0..self.rng.below(40) {
            if self.rng.below(4) == 0 {
                let at = self.rng.below(self.pool.members.len());
                self.pool.sync_one(at);
            } else {
                let place = self.rng.below(self.pool.waiting().max(1));
                self.pool.deliver(place);
            }
            self.pool.settle();
            self.note();
        }
        if self.rng.below(3) == 0 {
            self.pool.run(50);
            self.ticks += 1;
        }
        // No frame is older than 150 ms, and no batch than a few turns.
        if self.ticks >= 3 || self.pool.waiting() > 60 {
            self.ticks = 0;
            for _ in 0..self.pool.waiting() {
                self.pool.deliver(0);
                self.pool.settle();
            }
        }
        if self.rng.below(4) == 0 {
            self.all().for_each(|at| self.pool.sync(at));
            self.pool.settle();
        }
        self.note();
    }

    /// Everything works again.
    pub fn heal(&mut self) {
        self.pool.delay = false;
        for at in self.all() {
            self.pool.thaw(at);
            self.look();
            self.pool.catch_up(at);
            self.pool.members[at].auto_sync = true;
            self.pool.sync(at);
            if !self.up(at) {
                self.pool.restart(at);
            }
            self.pool.rejoin(at);
        }
        for _ in 0..4 {
            self.pool.run(3_000);
            self.all().for_each(|at| self.pool.checkpoint(at));
        }
        self.note();
    }

    /// What does not hold.
    pub fn check(&self) -> Result<Met, String> {
        if let Some(stale) = &self.stale {
            return Err(stale.clone());
        }
        let mut met = Met { acknowledged: self.acknowledged.len(), ..Met::default() };
        let mut standing = Vec::new();
        for at in self.all() {
            let status = self.pool.host(at).group(GROUP).ok_or("no copy")?;
            met.stopped.extend(status.stopped.map(String::from));
            if at >= self.data {
                if (status.position, status.records) != (Position::default(), 0) {
                    return Err(format!("the witness has something: {:?}, {}", status.position, status.records));
                }
                continue;
            }
            standing.push((status.position, status.digest));
            for (number, position) in &self.acknowledged {
                if self.pool.value(at, &format!("n{number}")).is_none() {
                    return Err(format!("server {at} does not have {number}, acknowledged at {position}"));
                }
            }
        }
        met.copies = self.pool.members.iter().map(|member| member.swapped).sum();
        if standing.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("the copies differ: {standing:?}"));
        }
        if !met.stopped.is_empty() {
            return Err(format!("stopped: {:?}", met.stopped));
        }
        // No disk is put back here as it was before.
        let old = |alarm: &Alarm| matches!(alarm, Alarm::OldDisk { .. });
        if let Some(at) = self.pool.members.iter().position(|member| member.alarms.iter().any(old)) {
            return Err(format!("server {at} is said to have lost what it had acknowledged"));
        }
        if self.pool.leader().is_none() {
            return Err("nobody leads".to_owned());
        }
        Ok(met)
    }
}

/// Whatever happens to one server after another.
pub fn run(mut chaos: Chaos) -> Result<Met, String> {
    chaos.pool.run(3_000);
    let slow = chaos.rng.below(2) == 0;
    chaos.pool.delay = true;
    for member in &mut chaos.pool.members {
        member.auto_sync = !slow;
    }
    for _ in 0..400 {
        chaos.step();
    }
    chaos.heal();
    chaos.check()
}

/// A configuration in which, for every other seed, replicas that are behind need a copy.
pub fn tight(seed: u64, cfg: &mut HostConfig) {
    (cfg.limits.replica_items, cfg.limits.seed_chunk) = (if seed.is_multiple_of(2) { 8 } else { 4096 }, 200);
}
