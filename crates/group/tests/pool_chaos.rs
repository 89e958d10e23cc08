//! Random changes, crashes, cuts, slow disks and checkpoints on a pool of three, then healing: what was acknowledged is there, on all
//! copies, and they are equal. With faults planted, something of it does not hold.

#[path = "common/pool.rs"]
mod pool;

use pairline_group::io::{Alarm, Done, Proposal};
use pairline_group::{HostConfig, HostInput, Position, Ticket};
use pool::{GROUP, Pool, Rng, put};
use std::collections::BTreeMap;

struct Chaos {
    pool: Pool,
    rng: Rng,
    counter: u64,
    asked: BTreeMap<(usize, Ticket), u64>,
    /// What was acknowledged, and where.
    acknowledged: BTreeMap<u64, Position>,
    /// The last of it.
    last: Position,
    /// The first time that a server would have answered from a state that was not the present one, or that two would have answered.
    stale: Option<String>,
}

/// What one run met.
#[derive(Debug, Default)]
struct Met {
    acknowledged: usize,
    copies: usize,
    stopped: Vec<String>,
}

impl Chaos {
    fn new(seed: u64, change: impl Fn(&mut HostConfig)) -> Chaos {
        let pool = Pool::with(3, seed, change);
        Chaos {
            pool,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234),
            counter: 0,
            asked: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            last: Position::default(),
            stale: None,
        }
    }

    fn up(&self, at: usize) -> bool {
        self.pool.members[at].host.is_some()
    }

    /// Takes the answers.
    fn note(&mut self) {
        for at in 0..3 {
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
        let leaders: Vec<usize> = (0..3).filter(leads).collect();
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

    fn step(&mut self) {
        let at = self.rng.below(3);
        match self.rng.below(100) {
            0..30 => (0..3).filter(|at| self.up(*at)).collect::<Vec<_>>().into_iter().for_each(|at| self.propose(at)),
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
            98 if self.up(at) => self.pool.checkpoint(at),
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

    /// Everything works again.
    fn heal(&mut self) {
        self.pool.delay = false;
        for at in 0..3 {
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
            (0..3).for_each(|at| self.pool.checkpoint(at));
        }
        self.note();
    }

    /// What does not hold.
    fn check(&self) -> Result<Met, String> {
        if let Some(stale) = &self.stale {
            return Err(stale.clone());
        }
        let mut met = Met { acknowledged: self.acknowledged.len(), ..Met::default() };
        let mut standing = Vec::new();
        for at in 0..3 {
            let status = self.pool.host(at).group(GROUP).ok_or("no copy")?;
            met.stopped.extend(status.stopped.map(String::from));
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
        // No disk is lost here.
        let lost =
            |at: &usize| self.pool.members[*at].alarms.iter().any(|alarm| matches!(alarm, Alarm::OldDisk { .. }));
        if let Some(at) = (0..3).find(lost) {
            return Err(format!("server {at} is said to have lost what it had acknowledged"));
        }
        if self.pool.leader().is_none() {
            return Err("nobody leads".to_owned());
        }
        Ok(met)
    }
}

fn run(seed: u64, change: impl Fn(&mut HostConfig)) -> Result<Met, String> {
    let mut chaos = Chaos::new(seed, |cfg| {
        (cfg.limits.replica_items, cfg.limits.seed_chunk) = (if seed.is_multiple_of(2) { 8 } else { 4096 }, 200);
        change(cfg);
    });
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

#[test]
fn what_is_acknowledged_survives_whatever_happens_to_one_server_after_another() {
    let (mut acknowledged, mut copies) = (0, 0);
    let seeds: u64 = option_env!("CHAOS_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(300);
    let first: u64 = option_env!("CHAOS_FIRST").and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let met = run(seed, |_| {}).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        acknowledged += met.acknowledged;
        copies += met.copies;
    }
    assert!(acknowledged > 900, "something was acknowledged: {acknowledged}");
    assert!(copies > 10, "copies were taken over: {copies}");
}

#[cfg(feature = "planted")]
#[test]
fn planted_faults_are_caught() {
    use pairline_group::planted::Planted;
    for planted in [
        Planted::FollowerSpeaksEarly,
        Planted::CopyNotDurable,
        Planted::LeadsBeforeApplied,
        Planted::FlightsOutliveLeader,
        Planted::LeaseIgnored,
        Planted::PromiseForgotten,
    ] {
        let caught = (0..2_000).find_map(|seed| {
            let fails = |seed| run(seed, |cfg| cfg.planted = Some(planted)).err();
            std::panic::catch_unwind(|| fails(seed)).unwrap_or(Some("a panic".to_owned())).map(|why| (seed, why))
        });
        println!("{planted:?}: {caught:?}");
        assert!(caught.is_some(), "{planted:?} is not caught");
    }
}
