//! Facts and a small world for tests: two pools, some groups, a journal.
#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use pairline_group::io::{Done, ExportState, GroupStatus, ImportState, Lag, Now, Refusal, Role};
use pairline_group::{Body, ChainHash, Entry, Epoch, GroupId, Handover, Key, OpId, PoolId, Position, Promote, StepRef};
use pairline_resilience::journal::{self, FenceOutcome};
use pairline_resilience::runner::JournalRefusal;
use pairline_resilience::{
    Action, Command, Event, GroupSight, LockCheck, Mode, Observed, Plan, PoolSight, Procedure, Report, Runner, plan,
};
use pairline_topology::policy::ProcedurePolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const EAST: PoolId = PoolId(1);
pub const WEST: PoolId = PoolId(2);
pub const GROUPS: u16 = 4;

pub fn group(home: PoolId, index: u16) -> GroupId {
    GroupId { pool: home, index }
}

pub fn epoch(number: u64, by: PoolId) -> Epoch {
    Epoch { number, granted_by: by }
}

pub fn now(ms: u64) -> Now {
    Now { mono: ms, wall: 1_700_000_000_000 + ms }
}

pub fn all_groups() -> Vec<GroupId> {
    let of = |home| (0..GROUPS).map(move |i| group(home, i));
    std::iter::once(GroupId::CMS).chain(of(EAST)).chain(of(WEST)).collect()
}

pub fn status(group: GroupId, at: PoolId, serving: PoolId, epoch: Epoch) -> GroupStatus {
    let active = at == serving;
    GroupStatus {
        group,
        role: if active { Role::Active } else { Role::Backup },
        confirmed: active,
        serving,
        epoch,
        position: Position { epoch, seq: 10 },
        digest: [7; 32],
        records: 5,
        bytes: 500,
        export: if active { ExportState::Steady } else { ExportState::NotInitialised },
        import: ImportState::Normal,
        lag: Lag::Exactly(20),
        behind_entries: 0,
        behind_bytes: 0,
        seed: None,
        verified: None,
        tail: 0,
        stopped: None,
        leader: None,
    }
}

pub fn pool(pool: PoolId, name: &str, partner: PoolId) -> PoolSight {
    PoolSight {
        pool,
        name: name.to_owned(),
        partner: Some(partner),
        reachable: true,
        mode: Mode::Normal,
        version: Some("0.1.0".to_owned()),
        certificate_days: Some(300),
        free_disk_percent: Some(60),
        users: Some(1000),
        capacity_users: Some(5000),
        next_hops: Vec::new(),
    }
}

/// Everything in order, each pool serves its own, `cms` at east.
pub fn observed(here: PoolId) -> Observed {
    let serving = |g: GroupId| if g.is_cms() { EAST } else { g.pool };
    observed_with(here, serving)
}

pub fn observed_with(here: PoolId, serving: impl Fn(GroupId) -> PoolId) -> Observed {
    let sight = |g: GroupId, at| GroupSight { at, status: status(g, at, serving(g), epoch(1, serving(g))) };
    Observed {
        here,
        link_up: true,
        silent_for: Some(100),
        pools: vec![pool(EAST, "east", WEST), pool(WEST, "west", EAST)],
        groups: all_groups().into_iter().flat_map(|g| [sight(g, EAST), sight(g, WEST)]).collect(),
        clock_offset_ms: Some(3),
        running: None,
        unequal: Vec::new(),
        bounds: ProcedurePolicy { parallel_groups: 2, ..ProcedurePolicy::default() },
        not_replicated: Vec::new(),
    }
}

/// The facts at the survivor after `lost` is gone.
pub fn observed_after_loss(lost: PoolId, serving: impl Fn(GroupId) -> PoolId) -> Observed {
    let here = if lost == EAST { WEST } else { EAST };
    let mut seen = observed_with(here, serving);
    seen.link_up = false;
    seen.silent_for = Some(5_000);
    seen.groups.retain(|g| g.at == here);
    for p in seen.pools.iter_mut().filter(|p| p.pool == lost) {
        p.reachable = false;
        p.mode = Mode::Resiliency;
    }
    seen
}

pub fn failover(pool: PoolId) -> Command {
    let reason = "maintenance".to_owned();
    Command::Failover { pool, disaster: false, dry_run: false, force: false, confirm_source_off: false, reason }
}

pub fn disaster(pool: PoolId) -> Command {
    let reason = "the site burns".to_owned();
    Command::Failover { pool, disaster: true, dry_run: false, force: false, confirm_source_off: true, reason }
}

pub fn failback(pool: PoolId) -> Command {
    Command::Failback { pool, dry_run: false, force: false, reason: "repaired".to_owned() }
}

pub fn make(command: &Command, seen: &Observed) -> Plan {
    plan(command, seen, "alice", 0xabc, now(0).wall).unwrap()
}

/// Two pools whose groups really change hands, a committed journal, and what is checked at each effect.
#[derive(Clone, Debug)]
pub struct World {
    pub serving: BTreeMap<GroupId, (Epoch, PoolId)>,
    pub journal: BTreeMap<Key, Bytes>,
    pub ops: BTreeSet<OpId>,
    pub entries: Vec<(GroupId, Entry)>,
    pub lost: Option<PoolId>,
    pub time: u64,
    pub effects: Vec<(GroupId, PoolId)>,
    pub in_flight_most: usize,
    /// Refuse this many handovers with "busy" first.
    pub busy: u32,
}

impl World {
    pub fn new(serving: impl Fn(GroupId) -> PoolId, lost: Option<PoolId>) -> World {
        World {
            serving: all_groups().into_iter().map(|g| (g, (epoch(1, serving(g)), serving(g)))).collect(),
            journal: BTreeMap::new(),
            ops: BTreeSet::new(),
            entries: Vec::new(),
            lost,
            time: 0,
            effects: Vec::new(),
            in_flight_most: 0,
            busy: 0,
        }
    }

    pub fn record(&self, id: u128) -> Option<Procedure> {
        self.journal.get(&journal::key(id)).map(|v| Procedure::decode(v).unwrap())
    }

    /// Who holds the lock.
    pub fn holder(&self) -> Option<u128> {
        self.journal.get(&journal::lock_key()).map(|v| journal::decode_lock(v).unwrap())
    }

    fn status_event(&self, group: GroupId, at: PoolId) -> Event {
        let (epoch, serving) = self.serving[&group];
        Event::GroupStatus { at, status: Box::new(status(group, at, serving, epoch)) }
    }

    /// The effect of a step: intent first in the journal, then who serves changes, once.
    fn change(&mut self, group: GroupId, to: PoolId, step: StepRef, plan: &Bytes, handover: bool) -> Done {
        let (epoch, serving) = self.serving[&group];
        if serving == to {
            return Done::Refused(Refusal::NotActive(epoch, to));
        }
        if group.is_cms() && !handover {
            assert_eq!(Procedure::decode(plan).unwrap().plan.id, step.procedure);
        } else {
            let record = self.record(step.procedure).expect("journalled before the effect");
            assert!(record.next_step <= step.step, "intent of step {} is journalled", step.step);
        }
        let next = Epoch { number: epoch.number + 1, granted_by: to };
        self.serving.insert(group, (next, to));
        self.effects.push((group, to));
        let position = Position { epoch: next, seq: 11 };
        let recovery_point = Position { epoch, seq: 10 };
        let body = if handover {
            Body::Handover(Handover { to, epoch: next, digest: [7; 32] })
        } else {
            let operator = "alice".into();
            Body::Promote(Promote { epoch: next, recovery_point, soft_extension: 0, operator, plan: plan.clone() })
        };
        let (prev, time) = (ChainHash::default(), now(self.time).wall);
        self.entries.push((group, Entry { position, prev, time, op: None, step: Some(step), body }));
        Done::Committed(position)
    }

    /// Performs an action; what the runner would hear of it.
    pub fn perform(&mut self, action: &Action) -> Vec<Event> {
        match action.clone() {
            Action::WriteJournal { ticket, op, writes, lock } => {
                let result = self.write(op, writes, lock);
                vec![Event::JournalWritten { ticket, result }]
            }
            Action::TryFence { ticket, pool, .. } => {
                let outcome = if self.lost == Some(pool) { FenceOutcome::NoAnswer } else { FenceOutcome::Fenced };
                vec![Event::FenceTried { ticket, outcome }]
            }
            Action::ObserveLag { groups, .. } => {
                groups.into_iter().map(|group| Event::LagObserved { group, lag: Lag::Exactly(5) }).collect()
            }
            Action::RequestHandover { ticket, at, group, to, step } => {
                if self.busy > 0 {
                    self.busy -= 1;
                    return vec![Event::Answered { ticket, done: Done::Refused(Refusal::Busy) }];
                }
                if self.lost == Some(at) {
                    return vec![Event::Unreachable { ticket }];
                }
                if self.holder() != Some(step.procedure) {
                    // The source knows who holds the lock, and hands over for nobody else.
                    let done = Done::Refused(Refusal::NotNow("not the procedure of the lock".into()));
                    return vec![Event::Answered { ticket, done }];
                }
                let done = self.change(group, to, step, &Bytes::new(), true);
                vec![Event::Answered { ticket, done }]
            }
            Action::Promote { ticket, group, step, plan, .. } => {
                let to = if self.lost == Some(EAST) { WEST } else { EAST };
                let done = self.change(group, to, step, &plan, false);
                let mut events = vec![Event::Answered { ticket, done }];
                let applied = self.entries.iter().filter(|(g, e)| *g == group && e.step == Some(step));
                events.extend(applied.map(|(g, e)| Event::Applied { group: *g, entry: Arc::new(e.clone()) }));
                events
            }
            Action::AwaitActive { group, at } => vec![self.status_event(group, at)],
            Action::SetMode { .. } | Action::MoveClients { .. } | Action::Finish(_) | Action::Stop { .. } => Vec::new(),
        }
    }

    fn write(&mut self, op: OpId, writes: Vec<(Key, Option<Bytes>)>, lock: LockCheck) -> Result<(), JournalRefusal> {
        if self.lost.is_some_and(|lost| self.serving[&GroupId::CMS].1 == lost) {
            return Err(JournalRefusal::Later);
        }
        if !self.ops.insert(op) {
            return Ok(());
        }
        let wanted = match lock {
            LockCheck::Free => None,
            LockCheck::Held(id) => Some(id),
        };
        if self.holder() != wanted {
            self.ops.remove(&op);
            return Err(JournalRefusal::Locked);
        }
        for (key, value) in writes {
            match value {
                Some(value) => self.journal.insert(key, value),
                None => self.journal.remove(&key),
            };
        }
        Ok(())
    }

    /// Goes on from whatever the crash left, as an operator's `resume` (or a repeated command) would.
    pub fn recover(&self, plan: &Plan) -> Runner {
        let entries = || self.entries.iter().map(|(g, e)| (*g, e));
        let promoted = entries().filter(|(g, _)| g.is_cms()).find_map(|(_, e)| journal::from_promotion(e));
        match self.record(plan.id).or(promoted) {
            Some(procedure) => {
                Runner::resume(journal::rebuild(procedure, entries()), self.holder(), now(self.time)).unwrap()
            }
            None => Runner::start(plan.clone(), now(self.time)).unwrap(),
        }
    }
}

/// How a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The action was not performed.
    Before,
    /// It was performed, nobody heard of it.
    After,
}

/// How a run ended.
#[derive(Debug)]
pub enum End {
    Finished(Box<Report>),
    Stopped(Box<Report>, pairline_resilience::runner::StopReason),
    Crashed,
    Stuck,
}

/// Runs until the end or the crash at action number `crash.0`. Events given with an action's number come before it.
pub fn run(runner: &mut Runner, world: &mut World, crash: Option<(usize, Crash)>, extra: &[(usize, Event)]) -> End {
    let mut number = 0;
    for _ in 0..20_000 {
        while let Some(action) = runner.poll() {
            for (_, event) in extra.iter().filter(|(at, _)| *at == number) {
                runner.handle(now(world.time), event.clone());
            }
            if crash == Some((number, Crash::Before)) {
                return End::Crashed;
            }
            let events = world.perform(&action);
            if crash == Some((number, Crash::After)) {
                return End::Crashed;
            }
            number += 1;
            world.time += 1;
            match action {
                Action::Finish(report) => return End::Finished(report),
                Action::Stop { reason, report } => return End::Stopped(report, reason),
                _ => {}
            }
            events.into_iter().for_each(|e| runner.handle(now(world.time), e));
        }
        let Some(next) = runner.next_timeout() else { return End::Stuck };
        world.time = world.time.max(next) + 1;
        runner.handle(now(world.time), Event::Tick);
    }
    End::Stuck
}
