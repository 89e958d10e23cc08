//! The runner of procedures: carries a plan out, journalling before each effect, resumable after any crash.
//!
//! Owns the order in time. Sans-I/O: events and the time come in through [`Runner::handle`], actions go out through
//! [`Runner::poll`]. It runs at the plan's target. What an action means on the wire is the shell's.

use crate::journal::{
    FenceOutcome, Procedure, ProcedureState, Stage, StageTime, StepOutcome, StepResult, encode_lock, key, lock_key,
};
use crate::mode::OperatorEvent;
use crate::plan::{FencePath, Plan, StepKind};
use crate::report::Report;
use crate::stages::{StageRun, journal_from, stages};
use crate::work::{Phase, StepWork};
use bytes::Bytes;
use pairline_group::io::{Done, GroupStatus, Lag, Now};
use pairline_group::{Entry, Epoch, GroupId, Key, Millis, OpId, PoolId, Position, StepRef, Ticket};
use pairline_topology::directory::{OwnershipHint, ownership_key};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

mod drive;

/// What the shell is to do. Tickets are the runner's own and rise; those of two runs never meet, so that a late answer to
/// one is nobody's in the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Commit these writes (`None` deletes) as one proposal in `cms`, wherever it is active; answer
    /// [`Event::JournalWritten`]. A repeated `op` was committed before: answer `Ok`.
    WriteJournal {
        /// Echoed in the answer.
        ticket: Ticket,
        /// De-duplication key, for every try of this write the same.
        op: OpId,
        /// What to write.
        writes: Vec<(Key, Option<Bytes>)>,
        /// What the lock must be when this is written, else [`JournalRefusal::Locked`].
        lock: LockCheck,
    },
    /// Try to make the pool fence itself by this path; answer [`Event::FenceTried`].
    TryFence {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which pool.
        pool: PoolId,
        /// By which path.
        path: FencePath,
    },
    /// Tell the lag of these groups at `from`, each with [`Event::LagObserved`].
    ObserveLag {
        /// Who knows it.
        from: PoolId,
        /// Which groups.
        groups: Vec<GroupId>,
    },
    /// Have `at` append `Handover`; answer [`Event::Answered`] or [`Event::Unreachable`].
    RequestHandover {
        /// Echoed in the answer.
        ticket: Ticket,
        /// The pool that serves the group.
        at: PoolId,
        /// Which group.
        group: GroupId,
        /// Who serves next.
        to: PoolId,
        /// The step, for the entry.
        step: StepRef,
    },
    /// Append `Promote` here; answer [`Event::Answered`].
    Promote {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// The step, for the entry.
        step: StepRef,
        /// Who ordered it, for the entry.
        operator: Box<str>,
        /// The journal's first record (only for `cms`), else empty.
        plan: Bytes,
    },
    /// Tell the status of this group at this pool at once and at each change, with [`Event::GroupStatus`].
    AwaitActive {
        /// Which group.
        group: GroupId,
        /// Where.
        at: PoolId,
    },
    /// Give this event to the mode machines of the pool, here and (best effort) at the partner.
    SetMode {
        /// Whose mode.
        pool: PoolId,
        /// What.
        event: OperatorEvent,
    },
    /// Begin to move clients, paced. Not answered.
    MoveClients {
        /// Where they are.
        from: PoolId,
        /// Where they go.
        to: PoolId,
    },
    /// The procedure is over (done or aborted). The runner does nothing more.
    Finish(Box<Report>),
    /// The procedure cannot go on by itself. It is journalled, if it could be, and can be resumed or aborted.
    Stop {
        /// Why.
        reason: StopReason,
        /// How far it came.
        report: Box<Report>,
    },
}

/// What the lock of procedures must be for a write of the journal to count. Every write says it, so a runner that was
/// replaced while it was cut off cannot write over what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockCheck {
    /// Nobody holds it.
    Free,
    /// This procedure holds it.
    Held(u128),
}

/// Why a procedure stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Another procedure holds the lock.
    #[error("another procedure has not ended")]
    Locked,
    /// Another procedure took the lock while this one was cut off; what it has written stays as it is.
    #[error("another procedure has taken the place of this one")]
    Replaced,
    /// The journal could not be written.
    #[error("the journal cannot be written: the management store does not answer")]
    Journal,
    /// The lag did not fall below the bound in time.
    #[error("the lag of {0} did not fall below the bound in time")]
    Lag(GroupId),
    /// A group's move was refused for good.
    #[error("{group}: {reason}")]
    Refused {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// No answer after the bounded number of askings.
    #[error("{0}: no success after the bounded number of tries")]
    NoAnswer(GroupId),
    /// The link was down longer than bounded.
    #[error("the link to the source was down for too long")]
    Link,
}

/// Why the journal was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalRefusal {
    /// The lock is not what the write says.
    Locked,
    /// This try was not written and will not be (nobody serves the journal, handing over): the runner tries again.
    NotWritten,
    /// No answer, or one that leaves it open whether it was written: the runner tries again.
    Later,
}

/// What the shell tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// Answer to [`Action::WriteJournal`]: `Ok` only once it is committed.
    JournalWritten {
        /// The action's.
        ticket: Ticket,
        /// How it ended.
        result: Result<(), JournalRefusal>,
    },
    /// Answer to [`Action::TryFence`].
    FenceTried {
        /// The action's.
        ticket: Ticket,
        /// What the path answered.
        outcome: FenceOutcome,
    },
    /// The lag of a group at its source.
    LagObserved {
        /// Which group.
        group: GroupId,
        /// How much.
        lag: Lag,
    },
    /// Answer of the host to a handover or promotion.
    Answered {
        /// The action's.
        ticket: Ticket,
        /// How it ended.
        done: Done,
    },
    /// The request could not be delivered, or its answer got lost.
    Unreachable {
        /// The action's.
        ticket: Ticket,
    },
    /// An entry with a step was applied here.
    Applied {
        /// Which group.
        group: GroupId,
        /// What.
        entry: Arc<Entry>,
    },
    /// A copy's status.
    GroupStatus {
        /// Whose copy.
        at: PoolId,
        /// What.
        status: Box<GroupStatus>,
    },
    /// The target refuses a handover (digest or position differ).
    HandoverRefused {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// The journal, as it is known here, says that another procedure holds the lock.
    LockLost,
    /// The link to the source is up.
    LinkUp,
    /// The link to the source is down.
    LinkDown,
    /// An operator wants to end it. Free before the first group moves; after it, what has moved stays moved.
    AbortRequested {
        /// Who.
        operator: String,
    },
    /// Time passes.
    Tick,
}

/// Why a runner cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A dry run's plan is never carried out.
    #[error("the plan is a dry run")]
    DryRun,
    /// The procedure is over.
    #[error("the procedure is over")]
    Over,
    /// The plan replaces a procedure, whose record was not given, or was for another one.
    #[error("the record of the procedure to be replaced is missing")]
    NotReplaced,
    /// It does not hold the lock, so it had no effect yet, or another one has taken its place.
    #[error("procedure {0:032x} holds the lock")]
    NotHeld(u128),
}

/// A write of the journal that is on its way.
#[derive(Clone, Debug)]
struct JournalWork {
    /// The last try.
    ticket: Ticket,
    /// Tries without an answer yet. What any of them says counts: they are one write.
    open: Vec<Ticket>,
    op: OpId,
    writes: Vec<(Key, Option<Bytes>)>,
    lock: LockCheck,
    tries: u32,
    until: Millis,
    /// The answer to some try left it open whether it was written.
    unsure: bool,
}

/// Tickets for each millisecond of a process; more than a run can use up before the next can begin.
const TICKETS: u64 = 1 << 20;

/// What the runner is at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// Writing down that a stage begins.
    Intent,
    /// In a stage.
    Working,
    /// Writing down the end.
    Closing(Option<StopReason>),
    /// Nothing more.
    Over,
}

/// What is known of one copy.
#[derive(Clone, Copy, Debug)]
struct Copy {
    active: bool,
    serving: PoolId,
    epoch: Epoch,
}

/// Carries out one procedure.
#[derive(Debug)]
pub struct Runner {
    procedure: Procedure,
    stages: Vec<StageRun>,
    journal_from: usize,
    current: usize,
    at: At,
    now: Now,
    stage_began: Millis,
    out: VecDeque<Action>,
    last_ticket: u64,
    journal: Option<JournalWork>,
    journal_counter: u64,
    /// Written together with the first record: the procedure that this one replaces.
    replaced: Option<Procedure>,
    /// What the next write demands of the lock.
    lock: LockCheck,
    /// Nothing of this run is written yet. Its first record takes the lock, also where the procedure holds it: what a run of it wrote
    /// before is then refused from there on.
    unclaimed: bool,
    work: Vec<StepWork>,
    fences: Vec<(Ticket, FencePath)>,
    deadline: Option<Millis>,
    next_look: Option<Millis>,
    copies: BTreeMap<(PoolId, GroupId), Copy>,
    lags: BTreeMap<GroupId, Lag>,
    promoted: BTreeMap<GroupId, Position>,
    link_down_since: Option<Millis>,
    abort: Option<(String, Millis)>,
}

impl Runner {
    /// Starts a plan. Nothing has an effect before its journal record is committed.
    ///
    /// # Errors
    /// The plan is a dry run, or replaces a procedure (see [`Runner::start_replacing`]).
    pub fn start(plan: Plan, now: Now) -> Result<Runner, StartError> {
        if plan.supersedes.is_some() {
            return Err(StartError::NotReplaced);
        }
        Runner::begin(plan, None, now)
    }

    /// Starts a plan that replaces a procedure whose other half is lost. `lock` is who holds the lock: that procedure, or
    /// nobody where it crashed before its first record.
    ///
    /// # Errors
    /// The plan is a dry run, or names another procedure, or a third one holds the lock.
    pub fn start_replacing(
        plan: Plan,
        replaced: Procedure,
        lock: Option<u128>,
        now: Now,
    ) -> Result<Runner, StartError> {
        if plan.supersedes != Some(replaced.plan.id) {
            return Err(StartError::NotReplaced);
        }
        if let Some(other) = lock.filter(|holder| *holder != replaced.plan.id) {
            return Err(StartError::NotHeld(other));
        }
        Runner::begin(plan, Some((replaced, lock)), now)
    }

    fn begin(plan: Plan, replaced: Option<(Procedure, Option<u128>)>, now: Now) -> Result<Runner, StartError> {
        if plan.command.is_dry_run() {
            return Err(StartError::DryRun);
        }
        let id = plan.id;
        let made_at = plan.made_at;
        let mut runner = Runner::with(Procedure::new(plan, now.wall), now);
        let took = now.wall.saturating_sub(made_at);
        runner.procedure.stages.push(StageTime { stage: Stage::Decide, took });
        runner.lock = replaced.as_ref().and_then(|(_, lock)| *lock).map_or(LockCheck::Free, LockCheck::Held);
        runner.replaced = replaced.map(|(mut old, _)| {
            old.state = ProcedureState::Superseded { by: id };
            old.ended = Some(now.wall);
            old
        });
        runner.enter(0);
        runner.drive();
        Ok(runner)
    }

    /// Goes on with a procedure from its journal (see [`crate::journal::rebuild`] where that was lost). `lock` is who
    /// holds the lock by the same journal: nobody where the procedure crashed before its first record.
    ///
    /// # Errors
    /// It is over, or another procedure holds the lock.
    pub fn resume(mut procedure: Procedure, lock: Option<u128>, now: Now) -> Result<Runner, StartError> {
        if procedure.state.is_over() {
            return Err(StartError::Over);
        }
        if let Some(other) = lock.filter(|holder| *holder != procedure.plan.id) {
            return Err(StartError::NotHeld(other));
        }
        procedure.state = ProcedureState::Running;
        procedure.resumed = procedure.resumed.saturating_add(1);
        let mut runner = Runner::with(procedure, now);
        runner.lock = lock.map_or(LockCheck::Free, LockCheck::Held);
        runner.enter(0);
        runner.drive();
        Ok(runner)
    }

    fn with(procedure: Procedure, now: Now) -> Runner {
        let stages = stages(&procedure.plan);
        Runner {
            journal_from: journal_from(&procedure.plan, &stages),
            // The number of resumptions is in every record, so no write of this run repeats an older one's key.
            journal_counter: u64::from(procedure.resumed) << 32,
            procedure,
            stages,
            current: 0,
            at: At::Intent,
            now,
            stage_began: now.mono,
            out: VecDeque::new(),
            last_ticket: now.mono.saturating_mul(TICKETS),
            journal: None,
            replaced: None,
            lock: LockCheck::Free,
            unclaimed: true,
            work: Vec::new(),
            fences: Vec::new(),
            deadline: None,
            next_look: None,
            copies: BTreeMap::new(),
            lags: BTreeMap::new(),
            promoted: BTreeMap::new(),
            link_down_since: None,
            abort: None,
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    /// The journal's record as it stands.
    pub fn procedure(&self) -> &Procedure {
        &self.procedure
    }

    /// Whether its record is in the journal, and its lock with it. A run without is nothing that could be resumed.
    pub fn is_journalled(&self) -> bool {
        self.lock == LockCheck::Held(self.procedure.plan.id)
    }

    /// The procedure that it replaces, until that is written down.
    pub fn replaces(&self) -> Option<u128> {
        self.replaced.as_ref().map(|old| old.plan.id).or(self.procedure.plan.supersedes)
    }

    /// Who ordered its end, and what that waits for; `None` unless it waits.
    pub fn ending(&self) -> Option<String> {
        let (by, _) = self.abort.as_ref().filter(|_| !self.is_over())?;
        let what = match (&self.at, self.journal.is_some()) {
            (At::Intent, _) => {
                "whether its record was written is not known yet: whoever serves the management store has to say so"
            }
            (_, true) => "its end is being written to the management store",
            (_, false) => "what was asked before has to be answered first",
        };
        Some(format!("{by} ordered its end; {what}"))
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// When [`Event::Tick`] is wanted at the latest (monotonic milliseconds).
    pub fn next_timeout(&self) -> Option<Millis> {
        if self.at == At::Over {
            return None;
        }
        if self.at != At::Working {
            let held = self.abort.as_ref().filter(|_| self.is_unwritten() == Some(false)).map(|(_, until)| *until);
            return self.journal.as_ref().map(|j| j.until.max(held.unwrap_or_default()));
        }
        let link = self.waits_for_link().map(|since| since.saturating_add(self.procedure.plan.bounds.link));
        let abort = self.abort.as_ref().map(|(_, until)| *until);
        // What is due anyway is not asked again while the link is down or an abort waits.
        let asking = link.is_none() && abort.is_none();
        let work = self.work.iter().filter_map(StepWork::due).min().filter(|_| asking);
        [link, abort, work, self.deadline, self.next_look].into_iter().flatten().min()
    }

    /// Since when moves wait for the link, if they do.
    fn waits_for_link(&self) -> Option<Millis> {
        let moving = self.work.iter().any(|w| w.phase != Phase::Done);
        self.link_down_since.filter(|_| moving && !self.procedure.plan.command.is_disaster())
    }

    /// Handles one event.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        if self.at == At::Over {
            return;
        }
        match event {
            Event::JournalWritten { ticket, result } => self.journal_written(ticket, result),
            Event::FenceTried { ticket, outcome } => self.fence_tried(ticket, outcome),
            Event::LagObserved { group, lag } => {
                self.lags.insert(group, lag);
            }
            Event::Answered { ticket, done } => self.answered(ticket, &done),
            Event::Unreachable { ticket } => self.unreachable(ticket),
            Event::Applied { group, entry } => self.applied(group, &entry),
            Event::GroupStatus { at, status } => self.learn(at, &status),
            Event::HandoverRefused { group, reason } => self.handover_refused(group, reason),
            Event::LockLost if self.is_journalled() => self.lost_lock(),
            Event::LockLost => {}
            Event::LinkUp => self.link_down_since = None,
            Event::LinkDown => {
                self.link_down_since.get_or_insert(now.mono);
            }
            Event::AbortRequested { operator } => {
                let until = now.mono.saturating_add(self.procedure.plan.bounds.answer.saturating_mul(2));
                self.abort.get_or_insert((operator, until));
            }
            Event::Tick => {}
        }
        self.drive();
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Begins a stage: its intent is journalled first, where the journal can be written.
    fn enter(&mut self, stage: usize) {
        self.current = stage;
        self.stage_began = self.now.mono;
        self.deadline = None;
        self.next_look = None;
        self.work.clear();
        let first = self.stages.get(stage).and_then(|s| s.steps.first()).map_or(1, |s| s.number);
        self.procedure.next_step = first;
        if self.stages.get(stage).is_some_and(|s| s.stage == Stage::Close) {
            self.close();
        } else if stage >= self.journal_from {
            self.at = At::Intent;
            self.write_journal(Vec::new());
        } else {
            self.at = At::Working;
            self.begin_stage();
        }
    }

    /// Everything is done: who serves is written down together with the end.
    fn close(&mut self) {
        let target = self.procedure.plan.target;
        let number = self.procedure.next_step;
        let at = self.now.wall;
        let outcome = StepOutcome::Done;
        let result = StepResult { step: number, outcome, at, took: 0, retries: 0, epoch: None, recovery_point: None };
        self.procedure.record(result);
        let hint = |group: GroupId| {
            let epoch = self.copies.get(&(target, group)).map(|c| c.epoch);
            let known = self.procedure.results.iter().find(|r| {
                let steps = &self.procedure.plan.steps;
                steps.iter().any(|s| s.number == r.step && s.group() == Some(group))
            });
            let epoch = epoch.or(known.and_then(|r| r.epoch))?;
            Some((ownership_key(group), Some(OwnershipHint { serving: target, epoch }.encode())))
        };
        let hints = self.procedure.plan.groups().into_iter().filter_map(hint).collect();
        self.end(ProcedureState::Done, None, hints);
    }

    /// Ends the run: journal first, then the last action.
    fn end(&mut self, state: ProcedureState, stop: Option<StopReason>, extra: Vec<(Key, Option<Bytes>)>) {
        self.procedure.state = state;
        self.procedure.ended = Some(self.now.wall);
        self.work.clear();
        self.fences.clear();
        self.deadline = None;
        self.next_look = None;
        self.at = At::Closing(stop.clone());
        let never_journalled = self.has_left_nothing();
        let unwritable = matches!(stop, Some(StopReason::Journal | StopReason::Locked | StopReason::Replaced));
        let done = self.procedure.state == ProcedureState::Done;
        if unwritable || (never_journalled && !done) {
            self.journal = None;
            self.finish();
        } else {
            self.write_journal(extra);
        }
    }

    /// Whether nothing is to be written down of a run that ends now: before the first record only a promotion of the management store is.
    fn has_left_nothing(&self) -> bool {
        let promoted = self.procedure.plan.promotes_cms() && self.procedure.moved().contains(&GroupId::CMS);
        !self.is_journalled() && !promoted
    }

    fn finish(&mut self) {
        let At::Closing(stop) = std::mem::replace(&mut self.at, At::Over) else {
            return;
        };
        let mut report = Report::of(&self.procedure);
        if !self.is_journalled() && matches!(stop, Some(StopReason::Locked | StopReason::Replaced)) {
            report.advice = vec!["see which procedure has not ended: pairline procedure list".to_owned()];
        }
        let report = Box::new(report);
        if self.procedure.plan.steps.iter().any(|s| matches!(s.kind, StepKind::Announce { .. })) {
            let pool = self.procedure.plan.subject;
            self.out.push_back(Action::SetMode { pool, event: OperatorEvent::ProcedureEnded });
        }
        self.out.push_back(match stop {
            None => Action::Finish(report),
            Some(reason) => Action::Stop { reason, report },
        });
    }

    /// Another procedure has the lock: nothing more may have an effect, nor be written.
    fn lost_lock(&mut self) {
        let had = self.is_journalled();
        self.journal = None;
        self.lock = LockCheck::Free;
        self.stop(if had { StopReason::Replaced } else { StopReason::Locked });
    }

    fn stop(&mut self, reason: StopReason) {
        self.end(ProcedureState::Stopped { reason: reason.to_string() }, Some(reason), Vec::new());
    }

    fn write_journal(&mut self, extra: Vec<(Key, Option<Bytes>)>) {
        let id = self.procedure.plan.id;
        let mut writes = vec![(key(id), Some(self.procedure.encode()))];
        if self.procedure.state.is_over() {
            writes.push((lock_key(), None));
        } else if self.unclaimed {
            // Written once by each run: its version then says to every later write that nobody else had it meanwhile.
            writes.push((lock_key(), Some(encode_lock(id))));
        }
        let replaced = self.replaced.take();
        writes.extend(replaced.map(|old| (key(old.plan.id), Some(old.encode()))));
        writes.extend(extra);
        let op = OpId { session: id, counter: self.journal_counter };
        self.journal_counter += 1;
        let until = self.now.mono.saturating_add(self.procedure.plan.bounds.answer);
        let ticket = self.ticket();
        let (open, unsure) = (vec![ticket], false);
        self.journal = Some(JournalWork { ticket, open, op, writes, lock: self.lock, tries: 0, until, unsure });
        self.send_journal();
    }

    fn send_journal(&mut self) {
        let Some(work) = &self.journal else { return };
        self.out.push_back(Action::WriteJournal {
            ticket: work.ticket,
            op: work.op,
            writes: work.writes.clone(),
            lock: work.lock,
        });
    }

    /// Records a step's end.
    fn step_done(&mut self, index: usize) {
        let Some(work) = self.work.get_mut(index) else {
            return;
        };
        work.phase = Phase::Done;
        let group = work.step.group().unwrap_or(GroupId::CMS);
        let outcome = if work.asked == 0 { StepOutcome::WasDone } else { StepOutcome::Done };
        let result = StepResult {
            step: work.step.number,
            outcome,
            at: self.now.wall,
            took: work.began.map_or(0, |began| self.now.mono.saturating_sub(began)),
            retries: work.asked.saturating_sub(1),
            epoch: self.copies.get(&(self.procedure.plan.target, group)).map(|c| c.epoch),
            recovery_point: self.promoted.get(&group).copied(),
        };
        self.procedure.record(result);
    }
}
