//! Two paired pools of three servers under chaos: kills, cuts within and between them, standstills, handovers and promotions while changes
//! are shipped; then healing.
//!
//! What is held against them: one history, that of whoever serves; a backup that never moves backwards; one leader a pool at a time, one pool an
//! epoch; and what was acknowledged is there at the end, or in a stored tail.

use super::pool_rig as pool;

use pairline_group::io::{Done, Proposal, Role};
use pairline_group::{Body, ChainHash, Effect, Epoch, HostConfig, HostInput, OpId, Position, Ticket};
use pool::{GROUP, Pool, Rng, key, put};
use std::collections::{BTreeMap, BTreeSet};

struct Chaos {
    pool: Pool,
    rng: Rng,
    counter: u64,
    asked: BTreeMap<(usize, Ticket), u64>,
    acknowledged: BTreeSet<u64>,
    /// Which pool served in an epoch.
    served: BTreeMap<Epoch, BTreeSet<u16>>,
    /// Where the leader of each pool's copy stood, while it was a backup.
    backups: [Option<Position>; 2],
    /// The entry at each position, by what it follows.
    history: BTreeMap<Position, ChainHash>,
    /// Entries applied that were looked at, by server.
    looked: [usize; 6],
    broken: Option<String>,
}

#[derive(Debug, Default)]
struct Met {
    acknowledged: usize,
    moves: usize,
    tails: usize,
    swaps: usize,
}

impl Chaos {
    fn new(seed: u64, change: impl Fn(&mut HostConfig)) -> Chaos {
        let pool = Pool::paired([3, 3], seed, |cfg| {
            cfg.limits.seed_chunk = 200;
            (cfg.limits.history_entries, cfg.limits.replica_items) =
                if seed.is_multiple_of(2) { (4, 8) } else { (512, 4096) };
            change(cfg);
        });
        Chaos {
            pool,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x77),
            counter: 0,
            asked: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            served: BTreeMap::new(),
            backups: [None; 2],
            history: BTreeMap::new(),
            looked: [0; 6],
            broken: None,
        }
    }

    fn up(&self, at: usize) -> bool {
        self.pool.members[at].host.is_some()
    }

    fn fails(&mut self, why: String) {
        let now = self.pool.now;
        self.broken.get_or_insert(format!("at {now}: {why}"));
    }

    /// Takes answers, and holds what can be seen against what must be.
    fn note(&mut self) {
        for at in 0..6 {
            for (ticket, done) in std::mem::take(&mut self.pool.members[at].done) {
                if let (Some(number), Done::Committed(_)) = (self.asked.remove(&(at, ticket)), done) {
                    self.acknowledged.insert(number);
                }
            }
            let applied: Vec<_> = self.pool.members[at].applied[self.looked[at]..].to_vec();
            self.looked[at] += applied.len();
            for (group, entry) in applied.into_iter().filter(|(group, _)| *group == GROUP) {
                let known = *self.history.entry(entry.position).or_insert(entry.prev);
                if known != entry.prev {
                    self.fails(format!("two histories of {group} at {}", entry.position));
                }
            }
        }
        for pool in [1, 2] {
            let members =
                (0..6).filter(|at| self.pool.pool_of(*at) == pool && self.up(*at) && !self.pool.is_frozen(*at));
            let leaders: Vec<usize> = members.filter(|at| self.pool.host(*at).leads(GROUP)).collect();
            if leaders.len() > 1 {
                self.fails(format!("{leaders:?} lead"));
            }
            let Some(leader) = leaders.first().copied() else { continue };
            let Some(status) = self.pool.host(leader).group(GROUP) else { continue };
            if self.pool.host(leader).can_commit(GROUP) {
                self.served.entry(status.epoch).or_default().insert(pool);
            }
            let place = usize::from(pool) - 1;
            if self.backups[place].is_some_and(|before| status.role == Role::Backup && status.position < before) {
                self.fails(format!("the backup of pool {pool} moved backwards to {}", status.position));
            }
            self.backups[place] = Some(status.position).filter(|_| status.role == Role::Backup);
        }
    }

    fn propose(&mut self, at: usize) {
        self.counter += 1;
        let writes = vec![put(&format!("n{}", self.counter), "x"), put("shared", &self.counter.to_string())];
        let op = Some(OpId { session: u128::from(self.counter % 5), counter: self.counter });
        let ticket = self.pool.propose(at, Proposal { op, writes, ..Proposal::default() });
        self.asked.insert((at, ticket), self.counter);
    }

    fn step(&mut self) {
        let at = self.rng.below(6);
        match self.rng.below(100) {
            0..30 => (0..6).filter(|at| self.up(*at)).collect::<Vec<_>>().into_iter().for_each(|at| self.propose(at)),
            30..55 => {
                for _ in 0..self.rng.below(40) {
                    let place = self.rng.below(self.pool.waiting().max(1));
                    self.pool.deliver(place);
                    self.pool.settle();
                }
            }
            55..72 => {
                let ms = u64::try_from(50 + self.rng.below(700)).unwrap_or(50);
                self.pool.run(ms);
            }
            72..76 if self.up(at) => {
                let keep = self.rng.below(3);
                self.pool.crash(at, keep);
                self.asked.retain(|(of, _), _| *of != at);
            }
            76..82 if !self.up(at) => self.pool.restart(at),
            82 if self.up(at) => self.pool.isolate(at),
            83..85 => self.pool.rejoin(at),
            85 => self.pool.part(true),
            86..88 => self.pool.part(false),
            88..90 if self.pool.is_frozen(at) => {
                self.pool.thaw(at);
                self.note();
                self.pool.catch_up(at);
            }
            88 if self.up(at) => self.pool.freeze(at),
            90..92 => (0..6).for_each(|at| self.pool.part_of_checkpoint(at)),
            92..96 => {
                self.counter += 1;
                let pool = 1 + u16::try_from(self.rng.below(2)).unwrap_or(0);
                // A promotion is for a pool that is cut off, mostly.
                let promote = self.rng.below(if self.pool.apart { 2 } else { 8 }) == 0;
                if let Some(leader) = self.pool.leads(pool) {
                    self.pool.change(leader, promote, u128::from(self.counter));
                }
            }
            97 if self.up(at) => {
                let on = self.rng.below(2) == 0;
                self.pool.input(at, HostInput::Drain { on });
            }
            96 => self.pool.delay = self.rng.below(2) == 0,
            _ => {}
        }
        self.pool.settle();
        self.note();
    }

    /// Everything works again.
    fn heal(&mut self) {
        self.pool.delay = false;
        self.pool.part(false);
        for at in 0..6 {
            self.pool.thaw(at);
            self.note();
            self.pool.catch_up(at);
            if !self.up(at) {
                self.pool.restart(at);
            }
            self.pool.rejoin(at);
        }
        for _ in 0..5 {
            self.pool.run(3_000);
            (0..6).for_each(|at| self.pool.checkpoint(at));
            self.note();
        }
    }

    fn check(&self) -> Result<Met, String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if let Some((epoch, pools)) = self.served.iter().find(|(_, pools)| pools.len() > 1) {
            return Err(format!("{pools:?} served in {epoch}"));
        }
        let standing = |at: usize| self.pool.host(at).group(GROUP).map(|status| (status.position, status.digest));
        let show = || {
            let brief = |at| {
                let status = self.pool.host(at).group(GROUP);
                status.map(|s| {
                    format!(
                        "{at}: {:?} {} {} {:?} {:?} {:?} {:?}",
                        s.role, s.confirmed, s.position, s.leader, s.export, s.import, s.stopped
                    )
                })
            };
            (0..6).filter_map(brief).collect::<Vec<_>>().join("\n")
        };
        if (1..6).any(|at| standing(at) != standing(0)) {
            return Err(format!("the copies differ:\n{}", show()));
        }
        let serve = (0..6).filter(|at| self.pool.host(*at).can_commit(GROUP)).count();
        if serve != 1 {
            return Err(format!("{serve} serve:\n{}", show()));
        }
        let mut tail = BTreeSet::new();
        for entry in self.pool.members.iter().flat_map(|member| &member.tails) {
            if let Body::Effects(effects) = &entry.body {
                tail.extend(effects.iter().map(Effect::key).cloned());
            }
        }
        for number in &self.acknowledged {
            let key = key(&format!("n{number}"));
            if self.pool.host(0).get(GROUP, &key).is_none() && !tail.contains(&key) {
                return Err(format!("{number} is gone"));
            }
        }
        Ok(Met {
            acknowledged: self.acknowledged.len(),
            moves: self.served.len(),
            tails: usize::from(!tail.is_empty()),
            swaps: self.pool.members.iter().map(|member| member.swapped).sum(),
        })
    }
}

fn run(seed: u64, change: impl Fn(&mut HostConfig)) -> Result<Met, String> {
    let mut chaos = Chaos::new(seed, change);
    chaos.pool.run(4_000);
    for _ in 0..200 {
        chaos.step();
    }
    chaos.heal();
    chaos.check()
}

#[test]
fn pairs_go_on_with_one_history_whatever_happens_to_their_servers() {
    let seeds: u64 = option_env!("CHAOS_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(60);
    let first: u64 = option_env!("CHAOS_FIRST").and_then(|n| n.parse().ok()).unwrap_or(0);
    let (mut all, mut wrong) = (Met::default(), Vec::new());
    for seed in first..first + seeds {
        match run(seed, |_| {}) {
            Ok(met) => {
                all.acknowledged += met.acknowledged;
                all.moves += met.moves;
                all.tails += met.tails;
                all.swaps += met.swaps;
            }
            Err(why) => wrong.push(format!("seed {seed}: {why}")),
        }
    }
    println!("{all:?}");
    assert!(wrong.is_empty(), "{} of {seeds}:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(all.acknowledged > 500 && all.moves > 80 && all.tails > 2 && all.swaps > 20, "not sharp: {all:?}");
}
