//! The procedure that runs at this node: the runner of `resilience`, fed with what happens and obeyed in what it wants.
//!
//! Owns the runner and the translation of its actions into requests to replication, peers and the shell. The order of a
//! procedure, its journal and its report are `resilience`'s.

use crate::command::{Actor, Command};
use crate::core::{Core, TicketOwner};
use crate::cx::TaskCx;
use crate::event::Level;
use crate::io::Output;
use crate::modes;
use crate::orders::Order;
use crate::peer::PeerFrame;
use bytes::Bytes;
use pairline_group::io::{Done, GroupStatus, Proposal, Refusal, Write, WriteClass};
use pairline_group::{Body, Effect, Entry, GroupId, Key, Millis, OpId, PoolId, Position, StepRef, Ticket};
use pairline_resilience::journal::{self, FenceOutcome, Procedure, ProcedureState};
use pairline_resilience::mode::OperatorEvent;
use pairline_resilience::plan::FencePath;
use pairline_resilience::report::Report;
use pairline_resilience::runner::{Action, Event, JournalRefusal, LockCheck, Runner, StopReason};
use pairline_services::cx::{Cx, Peer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// How often copies at the other pool are looked at while the runner waits for one.
const LOOK_MS: Millis = 200;

/// How long the source may take to stand down by order over the link; within the runner's own bound.
const FENCE_MS: Millis = 2_500;

/// How often it is looked whether a procedure of this pool still runs somewhere, in milliseconds.
const WATCH_MS: Millis = 1_000;

/// How long after the last record of its journal a procedure is taken over, in milliseconds.
const RECENT_MS: Millis = 60_000;

/// Work of the runner that has to wait for something; it runs as a task.
pub enum Background {
    /// Commit a journal record wherever the management store is active.
    Journal {
        /// The runner's ticket.
        ticket: Ticket,
        /// What to commit.
        proposal: Proposal,
        /// The procedure whose record it is.
        procedure: u128,
    },
    /// Order a pool to stand down.
    Fence {
        /// The runner's ticket.
        ticket: Ticket,
        /// Whom.
        pool: PoolId,
        /// By which way.
        path: FencePath,
        /// The procedure.
        procedure: u128,
        /// What is to stand down.
        groups: Vec<GroupId>,
    },
    /// Have whoever leads a group in this pool do something.
    Order {
        /// The runner's ticket.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// What.
        order: Order,
    },
    /// Go on with a procedure of this pool, if no server of it does.
    TakeOver {
        /// Which.
        procedure: u128,
    },
    /// Ask a pool for the statuses of its copies: the other one, or the servers of this one.
    Look {
        /// Whom.
        pool: PoolId,
        /// Groups whose lag is wanted.
        lags: Vec<GroupId>,
    },
}

/// State of procedures at this node.
#[derive(Default)]
pub struct Procedures {
    /// The running one.
    pub runner: Option<Runner>,
    /// Why those stopped that ran here; not those that another server goes on with.
    pub stopped: BTreeMap<u128, String>,
    /// The topology of the files was proposed to the management store.
    pub topology_proposed: bool,
    /// Work that waits for a task.
    pub background: VecDeque<Background>,
    /// Tells the journal writes of the run here from those of another server that goes on from the same record at the same time: with the same
    /// numbers each would take the other's writes, and so the lock, for its own.
    run: u128,
    /// The procedure that holds the lock by a write of this process, and the lock's version.
    lock: Option<(u128, Position)>,
    /// Users signing in again after the last procedure that ran here.
    pub sign_ins: crate::sign_in::SignIns,
    /// What procedures left in the groups.
    pub traces: crate::traces::Traces,
    /// Orders to stand down that servers were given by their admin APIs.
    pub fences: crate::fence_tries::FenceTries,
    /// The procedure of this pool of which the journal was last seen to be written here, and when (monotonic).
    seen: Option<(u128, Millis)>,
    /// When it is next looked whether it still runs somewhere.
    next_watch: Millis,
    awaited: BTreeSet<(PoolId, GroupId)>,
    next_look: Option<Millis>,
}

impl Procedures {
    /// When the runner wants to be called.
    pub fn next_timeout(&self) -> Option<Millis> {
        let runner = self.runner.as_ref().and_then(Runner::next_timeout);
        let watch = self.seen.map(|_| self.next_watch);
        [runner, self.next_look, watch].into_iter().flatten().min()
    }

    /// Whether the journal of a procedure of this pool was written within the last minute, as far as this server has seen.
    pub fn is_recent(&self, procedure: u128) -> bool {
        self.seen.is_some_and(|(id, _)| id == procedure)
    }

    /// Whether a procedure runs here.
    pub fn busy(&self) -> bool {
        self.runner.as_ref().is_some_and(|runner| !runner.is_over())
    }
}

/// Starts a runner; there must be none that is not over.
pub fn begin(core: &mut Core, runner: Runner) {
    core.procedures.awaited.clear();
    core.procedures.run = core.rng.next_u128();
    let procedure = runner.procedure();
    // An earlier run of the same procedure here may have been overtaken by one at another server.
    let id = procedure.plan.id;
    core.procedures.lock = core.procedures.lock.filter(|(holder, _)| *holder != id);
    core.procedures.sign_ins = crate::sign_in::SignIns::of(&procedure.plan, procedure.started);
    core.procedures.runner = Some(runner);
}

/// Gives the runner an event.
pub fn tell(core: &mut Core, event: Event) {
    let now = core.now;
    if let Some(runner) = core.procedures.runner.as_mut() {
        runner.handle(now, event);
    }
}

/// Time passes.
pub fn tick(core: &mut Core) {
    if !core.procedures.busy() {
        return watch(core);
    }
    look_at_lock(core);
    tell(core, Event::Tick);
    let now = core.now.mono;
    if core.procedures.next_look.is_some_and(|at| at <= now) {
        // How a copy here stands is told when it changes.
        let told = |(pool, group): &&(PoolId, GroupId)| *pool == core.pool && core.host.role(*group).is_some();
        let pools: BTreeSet<PoolId> =
            core.procedures.awaited.iter().filter(|awaited| !told(awaited)).map(|(pool, _)| *pool).collect();
        core.procedures.next_look = (!pools.is_empty()).then(|| now + LOOK_MS);
        for pool in pools {
            core.procedures.background.push_back(Background::Look { pool, lags: Vec::new() });
        }
    }
}

/// In a pool of several servers one that runs a procedure may be lost, and the procedure is not: whoever leads the management store's
/// copies then goes on with it. Only with one whose journal was written a moment ago; one that was interrupted long ago may have
/// been overtaken by what happened since, and is an administrator's to judge.
fn watch(core: &mut Core) {
    let now = core.now.mono;
    let Some((procedure, at)) = core.procedures.seen.filter(|_| now >= core.procedures.next_watch) else { return };
    core.procedures.next_watch = now + WATCH_MS;
    if now.saturating_sub(at) > RECENT_MS {
        core.procedures.seen = None;
    } else if core.is_led_here(GroupId::CMS) && crate::neighbours::has_several(core) {
        core.procedures.background.push_back(Background::TakeOver { procedure });
    }
}

/// The journal's record of a procedure, if it is one of this pool that is not over and has not stopped.
fn running_record(core: &Core, procedure: u128) -> Option<Procedure> {
    let record = core.host.get(GroupId::CMS, &journal::key(procedure))?;
    let record = Procedure::decode(&record.value).ok()?;
    (record.plan.target == core.pool && record.state == ProcedureState::Running).then_some(record)
}

/// Goes on with a procedure whose server is lost.
fn take_over(core: &mut Core, id: u128) {
    if core.procedures.busy() {
        return;
    }
    let Some(record) = running_record(core, id) else {
        core.procedures.seen = None;
        return;
    };
    let what = record.plan.command.name();
    match Runner::resume(record, lock_holder(core), core.now) {
        Ok(runner) => {
            let text = format!("{what}: the server that ran it does not answer; this one goes on with it");
            core.event(Level::Warn, "procedure-taken-over", text);
            begin(core, runner);
        }
        Err(error) => {
            core.procedures.seen = None;
            core.event(Level::Error, "procedure-not-taken-over", format!("{what}: {error}"));
        }
    }
}

/// Does what the runner wants; true if there was anything.
pub fn pump(core: &mut Core) -> bool {
    let mut any = false;
    while let Some(action) = core.procedures.runner.as_mut().and_then(Runner::poll) {
        any = true;
        act(core, action);
    }
    any
}

fn act(core: &mut Core, action: Action) {
    match action {
        Action::WriteJournal { ticket, op, writes, lock } => write_journal(core, ticket, op, writes, lock),
        Action::TryFence { ticket, pool, path } => try_fence(core, ticket, pool, path),
        Action::ObserveLag { from, groups } => observe_lag(core, from, groups),
        Action::RequestHandover { ticket, at, group, to, step } => {
            if at == core.pool {
                order(core, ticket, group, Order::Handover { to, step });
            } else if !core.send_peer(at, &PeerFrame::Handover { call: ticket.0, group, step }) {
                tell(core, Event::Unreachable { ticket });
            }
        }
        Action::Promote { ticket, group, step, operator, plan } => {
            order(core, ticket, group, Order::Promote { step, operator, plan });
        }
        Action::AwaitActive { group, at } => {
            core.procedures.awaited.insert((at, group));
            if at == core.pool && core.host.role(group).is_some() {
                tell_status(core, group);
            } else {
                core.procedures.next_look = Some(core.now.mono);
            }
        }
        Action::SetMode { pool, event } => {
            modes::operator(core, pool, event);
            for to in [Some(core.pool), core.partner()].into_iter().flatten() {
                core.tell_pool(to, &PeerFrame::Mode { pool, event: code(event) });
            }
        }
        Action::MoveClients { from, to } => {
            let text = format!(
                "clients of pool {} now belong to pool {}; those that stay connected are served through the pool they use",
                core.topology.pool_name(from),
                core.topology.pool_name(to)
            );
            core.event(Level::Info, "clients-move", text);
        }
        Action::Finish(report) => finish(core, &report, None),
        Action::Stop { reason, report } => finish(core, &report, Some(&reason)),
    }
}

fn write_journal(core: &mut Core, ticket: Ticket, op: OpId, writes: Vec<(Key, Option<Bytes>)>, lock: LockCheck) {
    let reads = vec![(journal::lock_key(), lock_version(core, lock))];
    let writes = writes
        .into_iter()
        .map(|(key, value)| match value {
            Some(value) => Write::Put { key, class: WriteClass::Durable, value },
            None => Write::Delete { key },
        })
        .collect();
    let own = OpId { session: op.session ^ core.procedures.run, ..op };
    let proposal = Proposal { op: Some(own), reads, writes, ..Proposal::default() };
    core.procedures.background.push_back(Background::Journal { ticket, proposal, procedure: op.session });
}

/// The lock's version for which a write is meant. A lock that is not the wanted one has a version that no record has, so
/// the write is refused wherever the management store is active.
fn lock_version(core: &Core, lock: LockCheck) -> Option<Position> {
    let LockCheck::Held(id) = lock else { return None };
    let own = core.procedures.lock.filter(|(holder, _)| *holder == id).map(|(_, version)| version);
    let stored = || {
        let record = core.host.get(GroupId::CMS, &journal::lock_key())?;
        journal::decode_lock(&record.value).is_ok_and(|holder| holder == id).then_some(record.version)
    };
    Some(own.or_else(stored).unwrap_or_default())
}

/// Who holds the lock of procedures, by the copy of the journal here.
pub fn lock_holder(core: &Core) -> Option<u128> {
    let record = core.host.get(GroupId::CMS, &journal::lock_key())?;
    journal::decode_lock(&record.value).ok()
}

/// Whether a handover that the partner's procedure asks for may be made: only for the procedure that holds the lock, as
/// far as the journal is known here. A procedure that was replaced while it was cut off has no more effect.
pub fn may_hand_over(core: &Core, step: &StepRef) -> Result<(), Refusal> {
    if core.host.role(GroupId::CMS).is_none() || lock_holder(core) == Some(step.procedure) {
        return Ok(());
    }
    Err(Refusal::NotNow("the procedure that asks does not hold the lock, as far as is known here".into()))
}

/// A runner whose procedure was replaced learns it from the journal as soon as that is known here.
fn look_at_lock(core: &mut Core) {
    let running = core.procedures.runner.as_ref().filter(|runner| runner.is_journalled());
    if running.is_some_and(|runner| is_lock_lost(core, runner)) {
        tell(core, Event::LockLost);
    }
}

/// Whether the copy of the journal here says that a run is not the one that goes on. The copy may be behind what the run wrote: whoever
/// held the lock before it says nothing.
fn is_lock_lost(core: &Core, runner: &Runner) -> bool {
    let id = runner.procedure().plan.id;
    let taken = core.procedures.lock.filter(|(holder, _)| *holder == id).map(|(_, version)| version);
    match (core.host.get(GroupId::CMS, &journal::lock_key()), taken) {
        // Another procedure, or this one at another server of this pool while this one stood still.
        (Some(lock), Some(taken)) => lock.version > taken,
        (Some(_), None) => ![Some(id), runner.replaces()].contains(&lock_holder(core)),
        (None, taken) => match core.host.get(GroupId::CMS, &journal::key(id)) {
            Some(record) => Procedure::decode(&record.value).is_ok_and(|other| {
                matches!(other.state, ProcedureState::Superseded { .. }) || other.resumed > runner.procedure().resumed
            }),
            // The copy has come past where the lock was taken, and has neither: the partner was promoted without them.
            None => taken.is_some_and(|taken| core.host.position(GroupId::CMS).is_some_and(|here| here >= taken)),
        },
    }
}

/// Has whoever leads a group in this pool do something for the runner.
fn order(core: &mut Core, ticket: Ticket, group: GroupId, order: Order) {
    if core.is_led_here(group) || !crate::neighbours::has_several(core) {
        crate::orders::here(core, TicketOwner::Runner(ticket), group, order);
    } else {
        core.procedures.background.push_back(Background::Order { ticket, group, order });
    }
}

fn finish(core: &mut Core, report: &Report, stopped: Option<&StopReason>) {
    let id = core.procedures.runner.as_ref().map(|runner| runner.procedure().plan.id).unwrap_or_default();
    core.procedures.awaited.clear();
    core.procedures.next_look = None;
    let what = &report.what;
    core.procedures.stopped.remove(&id);
    match stopped {
        None => core.event(Level::Info, "procedure-ended", format!("{what}: {}", report.state)),
        Some(StopReason::Replaced) => {
            let text =
                "it goes on at another server, or another procedure has taken its place; see `pairline procedure list`";
            core.event(Level::Warn, "procedure-replaced", format!("{what}: {text}"));
        }
        Some(why) => {
            let text = format!("{what}: {why}; resume it with `pairline procedure resume`");
            core.event(Level::Error, "procedure-stopped", text);
            core.procedures.stopped.insert(id, why.to_string());
        }
    }
}

fn try_fence(core: &mut Core, ticket: Ticket, pool: PoolId, path: FencePath) {
    let Some(plan) = core.procedures.runner.as_ref().map(|runner| &runner.procedure().plan) else { return };
    let (procedure, groups) = (plan.id, plan.groups());
    if path == FencePath::Link && core.link_to(pool).is_none() {
        return tell(core, Event::FenceTried { ticket, outcome: FenceOutcome::NoAnswer });
    }
    core.procedures.background.push_back(Background::Fence { ticket, pool, path, procedure, groups });
}

/// What a server's admin API answered.
pub fn fence_answer(core: &mut Core, id: u64, alive: bool, fenced: bool) {
    let outcome = match (alive, fenced) {
        (true, true) => FenceOutcome::Fenced,
        (true, false) => FenceOutcome::Refused,
        (false, _) => FenceOutcome::NoAnswer,
    };
    if let Some((ticket, outcome)) = core.procedures.fences.answered(id, outcome) {
        tell(core, Event::FenceTried { ticket, outcome });
    }
}

fn observe_lag(core: &mut Core, from: PoolId, groups: Vec<GroupId>) {
    core.procedures.background.push_back(Background::Look { pool: from, lags: groups });
}

/// A request of the runner to the own host ended.
pub fn answered(core: &mut Core, ticket: Ticket, done: Done) {
    tell(core, Event::Answered { ticket, done });
}

/// The source answered a request for a handover.
pub fn handed_over(core: &mut Core, call: u64, done: Done) {
    tell(core, Event::Answered { ticket: Ticket(call), done });
}

/// A group's role changed here.
pub fn role_changed(core: &mut Core, group: GroupId) {
    if core.procedures.awaited.contains(&(core.pool, group)) {
        tell_status(core, group);
    }
}

fn tell_status(core: &mut Core, group: GroupId) {
    if let Some(status) = core.host.group(group) {
        let at = core.pool;
        tell(core, Event::GroupStatus { at, status: Box::new(status) });
    }
}

/// An entry was applied here.
pub fn applied(core: &mut Core, group: GroupId, entry: &Arc<Entry>) {
    if group.is_cms() {
        note_journal(core, entry);
    }
    core.procedures.traces.note(group, entry);
    crate::sign_in::applied(core, group, entry);
    if entry.step.is_some() && core.procedures.busy() {
        tell(core, Event::Applied { group, entry: Arc::clone(entry) });
    }
}

/// A record of the journal was written.
fn note_journal(core: &mut Core, entry: &Entry) {
    let Body::Effects(effects) = &entry.body else { return };
    for effect in effects {
        let Effect::Put { key, value, .. } = effect else { continue };
        let ours = || Procedure::decode(value).ok().filter(|procedure| procedure.plan.target == core.pool);
        if key.kind == journal::KIND_PROCEDURE
            && let Some(procedure) = ours()
        {
            core.procedures.seen = Some((procedure.plan.id, core.now.mono));
        }
    }
}

/// This copy refused to be activated by a handover.
pub fn handover_refused(core: &mut Core, group: GroupId, reason: &str) {
    tell(core, Event::HandoverRefused { group, reason: reason.to_owned() });
}

/// The link to the partner came up or went down.
pub fn link_changed(core: &mut Core, up: bool) {
    tell(core, if up { Event::LinkUp } else { Event::LinkDown });
}

/// The partner's procedure changed a pool's mode.
pub fn mode_from_peer(core: &mut Core, pool: PoolId, event: u8) {
    if let Some(event) = event_of(event) {
        modes::operator(core, pool, event);
    }
}

fn code(event: OperatorEvent) -> u8 {
    match event {
        OperatorEvent::FailoverStarted => 1,
        OperatorEvent::FailbackStarted => 2,
        OperatorEvent::ProcedureEnded => 3,
        OperatorEvent::AssertedActive => 4,
    }
}

fn event_of(code: u8) -> Option<OperatorEvent> {
    match code {
        1 => Some(OperatorEvent::FailoverStarted),
        2 => Some(OperatorEvent::FailbackStarted),
        3 => Some(OperatorEvent::ProcedureEnded),
        _ => None,
    }
}

/// Carries out work that waits.
pub async fn background(cx: TaskCx, work: Background) {
    match work {
        Background::Journal { ticket, proposal, procedure } => {
            let takes = proposal
                .writes
                .iter()
                .any(|write| matches!(write, Write::Put { key, .. } if *key == journal::lock_key()));
            let done = cx.commit(GroupId::CMS, proposal).await;
            cx.with(|core| {
                let result = match done {
                    Done::Committed(at) | Done::Duplicate(at) => {
                        if takes {
                            core.procedures.lock = Some((procedure, at));
                        }
                        Ok(())
                    }
                    Done::NoChange(_) => Ok(()),
                    Done::Refused(Refusal::Conflict(_)) => Err(JournalRefusal::Locked),
                    Done::Refused(refusal) if is_unwritten(&refusal) => Err(JournalRefusal::NotWritten),
                    Done::Refused(_) => Err(JournalRefusal::Later),
                };
                tell(core, Event::JournalWritten { ticket, result });
            });
        }
        Background::Fence { ticket, pool, path, procedure, groups } => {
            let known = crate::copies::of_pool(&cx).await.statuses();
            let order = cx.with(|core| crate::admin::fence_order(core, procedure, &groups, &known));
            match path {
                FencePath::Link => fence_by_link(&cx, ticket, pool, order).await,
                FencePath::Admin => cx.with(|core| fence_by_admin(core, ticket, pool, &order)),
            }
        }
        Background::TakeOver { procedure } => {
            let unasked = cx.with(|core| crate::config::planted!(core.config, TakenOverUnasked));
            let together = crate::copies::of_pool(&cx).await;
            if unasked || (together.runs.is_none() && !together.doubtful) {
                cx.with(|core| take_over(core, procedure));
            }
        }
        Background::Order { ticket, group, order } => {
            let done = crate::orders::at_leader(&cx, group, order).await;
            cx.with(|core| answered(core, ticket, done));
        }
        Background::Look { pool, lags } => {
            let Some(statuses) = look_at(&cx, pool).await else { return };
            cx.with(|core| {
                for status in statuses {
                    let group = status.group;
                    if lags.contains(&group) {
                        tell(core, Event::LagObserved { group, lag: status.lag });
                    }
                    if core.procedures.awaited.contains(&(pool, group)) {
                        tell(core, Event::GroupStatus { at: pool, status: Box::new(status) });
                    }
                }
            });
        }
    }
}

/// Whether a refusal says that the proposal is in nobody's log. A leader that lost its office, or whose disk is full, cannot say so.
fn is_unwritten(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Moved(..)
            | Refusal::NotActive(..)
            | Refusal::Unconfirmed
            | Refusal::HandingOver(_)
            | Refusal::NoSuchGroup
            | Refusal::NotNow(_)
            | Refusal::NotLeader(_)
    )
}

async fn look_at(cx: &TaskCx, pool: PoolId) -> Option<Vec<GroupStatus>> {
    match cx.with(|core| core.pool == pool) {
        true => Some(crate::copies::of_pool(cx).await.statuses()),
        false => crate::admin::look_at(cx, Peer::Pool(pool)).await,
    }
}

async fn fence_by_link(cx: &TaskCx, ticket: Ticket, pool: PoolId, order: Command) {
    let answer = crate::admin::pass_on_within(cx, Peer::Pool(pool), Actor::Server, order, FENCE_MS).await;
    let outcome = match answer {
        Ok(_) => FenceOutcome::Fenced,
        Err(problem) if matches!(problem.status, 503 | 504) => FenceOutcome::NoAnswer,
        Err(_) => FenceOutcome::Refused,
    };
    cx.with(|core| tell(core, Event::FenceTried { ticket, outcome }));
}

/// Every server of the pool is asked: any that answers passes the order on to those that lead.
fn fence_by_admin(core: &mut Core, ticket: Ticket, pool: PoolId, order: &Command) {
    let servers: Vec<std::net::SocketAddr> = core.topology.servers_of(pool).iter().map(|server| server.admin).collect();
    if servers.is_empty() {
        return tell(core, Event::FenceTried { ticket, outcome: FenceOutcome::NoAnswer });
    }
    for admin in servers {
        let id = core.fresh();
        core.procedures.fences.asked(id, ticket);
        core.out.push_back(Output::TryFence { id, admin, order: order.clone() });
    }
}
