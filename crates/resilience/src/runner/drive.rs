//! The runner's progress: what each answer means and what is asked next.
//!
//! Owns retries, the limit of groups in flight, waiting for the link, and abort. The frame around it (journal, stages,
//! end) is in `runner`.

use super::{Action, At, Copy, JournalRefusal, LockCheck, Runner, StopReason};
use crate::journal::{FenceOutcome, ProcedureState, Stage, StageTime, StepOutcome, StepResult};
use crate::mode::OperatorEvent;
use crate::plan::StepKind;
use crate::work::{Answer, Phase, StepWork, pause, read};
use bytes::Bytes;
use pairline_group::io::{Done, GroupStatus, Lag, Role};
use pairline_group::{Body, Entry, GroupId, Millis, PoolId, Ticket};

/// Milliseconds between two looks at the lag.
const LOOK: Millis = 100;
/// Milliseconds that each path to the source has to answer.
const FENCE: Millis = 3_000;

impl Runner {
    pub(super) fn journal_written(&mut self, ticket: Ticket, result: Result<(), JournalRefusal>) {
        let answer = self.procedure.plan.bounds.answer;
        let now = self.now.mono;
        let Some(work) = self.journal.as_mut().filter(|j| j.open.contains(&ticket)) else {
            return;
        };
        work.open.retain(|open| *open != ticket);
        match result {
            Ok(()) => {
                self.journal = None;
                self.lock = LockCheck::Held(self.procedure.plan.id);
                self.unclaimed = false;
                match self.at {
                    At::Intent => {
                        self.at = At::Working;
                        self.begin_stage();
                    }
                    At::Closing(_) => self.finish(),
                    At::Working | At::Over => {}
                }
            }
            Err(JournalRefusal::Locked) => self.lost_lock(),
            Err(refusal) => {
                work.unsure |= refusal == JournalRefusal::Later;
                if work.ticket == ticket {
                    work.until = now.saturating_add(pause(work.tries).min(answer));
                }
            }
        }
    }

    pub(super) fn fence_tried(&mut self, ticket: Ticket, outcome: FenceOutcome) {
        let Some(at) = self.fences.iter().position(|(t, _)| *t == ticket) else {
            return;
        };
        let (_, path) = self.fences.remove(at);
        self.procedure.fences.push((path, outcome));
    }

    pub(super) fn answered(&mut self, ticket: Ticket, done: &Done) {
        let target = self.procedure.plan.target;
        let until = self.now.mono.saturating_add(self.procedure.plan.bounds.answer);
        let now = self.now.mono;
        let Some(work) = self.asked(ticket) else {
            return;
        };
        let group = work.step.group().unwrap_or(GroupId::CMS);
        match read(done, target) {
            Answer::Written => {
                work.phase = Phase::Awaiting { until };
                self.out.push_back(Action::AwaitActive { group, at: target });
            }
            Answer::Later => {
                let until = now.saturating_add(pause(work.asked));
                work.phase = Phase::Pause { until, open: false };
            }
            Answer::Never(reason) => self.stop(StopReason::Refused { group, reason }),
        }
    }

    pub(super) fn unreachable(&mut self, ticket: Ticket) {
        let now = self.now.mono;
        if let Some(work) = self.asked(ticket) {
            let until = now.saturating_add(pause(work.asked));
            work.phase = Phase::Pause { until, open: true };
        } else if self.journal.as_ref().is_some_and(|j| j.open.contains(&ticket)) {
            self.journal_written(ticket, Err(JournalRefusal::Later));
        } else {
            self.fence_tried(ticket, FenceOutcome::NoAnswer);
        }
    }

    fn asked(&mut self, wanted: Ticket) -> Option<&mut StepWork> {
        self.work.iter_mut().find(|w| matches!(w.phase, Phase::Asked { ticket, .. } if ticket == wanted))
    }

    pub(super) fn applied(&mut self, group: GroupId, entry: &Entry) {
        let Some(step) = entry.step.filter(|s| s.procedure == self.procedure.plan.id) else {
            return;
        };
        let Body::Promote(promote) = &entry.body else {
            return;
        };
        self.promoted.insert(group, promote.recovery_point);
        // The status may have come first; the report names the position in any case.
        if let Some(result) = self.procedure.results.iter_mut().find(|r| r.step == step.step) {
            result.recovery_point = Some(promote.recovery_point);
            result.epoch = Some(promote.epoch);
        }
    }

    pub(super) fn learn(&mut self, at: PoolId, status: &GroupStatus) {
        let copy = Copy { active: status.role == Role::Active, serving: status.serving, epoch: status.epoch };
        self.copies.insert((at, status.group), copy);
        if at == self.procedure.plan.source && copy.active {
            self.lags.insert(status.group, status.lag);
        }
        let moving = self.work.iter().any(|w| w.step.group() == Some(status.group) && w.in_flight());
        if let Some(why) = status.stopped.as_deref().filter(|_| moving && at == self.procedure.plan.target) {
            self.stop(StopReason::Refused { group: status.group, reason: why.to_owned() });
        }
    }

    pub(super) fn handover_refused(&mut self, group: GroupId, reason: String) {
        if self.work.iter().any(|w| w.step.group() == Some(group) && w.in_flight()) {
            self.stop(StopReason::Refused { group, reason });
        }
    }

    /// Sets a stage going whose intent is journalled.
    pub(super) fn begin_stage(&mut self) {
        if self.abort.is_some() {
            // Nothing of this stage has begun; `drive` ends the run.
            return;
        }
        let Some(run) = self.stages.get(self.current).cloned() else {
            return;
        };
        for step in run.steps {
            match step.kind.clone() {
                StepKind::Announce { pool, back } => {
                    let event = if back { OperatorEvent::FailbackStarted } else { OperatorEvent::FailoverStarted };
                    self.out.push_back(Action::SetMode { pool, event });
                }
                StepKind::Fence { pool, paths } => {
                    // A resumed run does not wait a second time for paths that were silent.
                    let known: Vec<_> = self.procedure.fences.iter().map(|(p, _)| *p).collect();
                    for path in paths.into_iter().filter(|p| !known.contains(p)) {
                        let ticket = self.ticket();
                        self.fences.push((ticket, path));
                        self.out.push_back(Action::TryFence { ticket, pool, path });
                    }
                    self.deadline = Some(self.now.mono.saturating_add(FENCE));
                }
                StepKind::CatchUp { limit, .. } => {
                    self.deadline = Some(self.now.mono.saturating_add(limit));
                    self.next_look = Some(self.now.mono);
                    self.lags.clear();
                }
                StepKind::MoveClients { from, to } => self.out.push_back(Action::MoveClients { from, to }),
                StepKind::Handover { .. } | StepKind::Promote { .. } => {
                    if self.procedure.result(step.number).is_none() {
                        self.work.push(StepWork::new(step));
                    }
                }
                StepKind::Close => {}
            }
        }
    }

    /// Does whatever is due now. Called after each event.
    pub(super) fn drive(&mut self) {
        match (self.is_unwritten(), &self.abort) {
            (Some(true), Some(_)) => return self.end_aborted(),
            // A try that is under way may soon say that it was not written; a new one would have to be awaited as well.
            (Some(false), Some((_, until))) if self.now.mono < *until => {}
            _ => self.retry_journal(),
        }
        // Each round either ends a stage or changes nothing more.
        for _ in 0..=self.stages.len() {
            if self.at != At::Working {
                return;
            }
            if self.abort.is_some() && self.settled() {
                self.end_aborted();
                return;
            }
            if !self.stage_done() {
                return;
            }
            self.leave_stage();
        }
    }

    /// Whether nothing is written of the first record for which the run waits, where that can be said: `Some(false)` while tries are under
    /// way, `None` where one may have been written, or where it is not the first. A run of which nothing is written has had no effect, and
    /// an abort need not wait until somebody serves the journal; else it has to: whoever takes over might find the record.
    pub(super) fn is_unwritten(&self) -> Option<bool> {
        let work = self.journal.as_ref().filter(|_| self.at == At::Intent && self.has_left_nothing())?;
        (!work.unsure).then_some(work.open.is_empty())
    }

    fn retry_journal(&mut self) {
        let (now, answer) = (self.now.mono, self.procedure.plan.bounds.answer);
        let attempts = self.procedure.plan.bounds.attempts;
        let Some(work) = self.journal.as_mut().filter(|j| j.until <= now) else {
            return;
        };
        work.tries += 1;
        work.until = now.saturating_add(answer);
        if work.tries > attempts {
            self.journal = None;
            // An end that cannot be written down is still an end for the operator: the record says "running", resume works.
            self.stop(StopReason::Journal);
            return;
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if let Some(work) = self.journal.as_mut() {
            work.ticket = ticket;
            work.open.push(ticket);
        }
        self.send_journal();
    }

    /// Whether nothing that was asked may still have its effect, or waiting for it is over.
    fn settled(&self) -> bool {
        let late = self.abort.as_ref().is_some_and(|(_, until)| *until <= self.now.mono);
        let cut = self.link_down_since.is_some() && !self.procedure.plan.command.is_disaster();
        late || cut || !self.work.iter().any(StepWork::is_open)
    }

    fn end_aborted(&mut self) {
        let by = self.abort.as_ref().map(|(by, _)| by.clone()).unwrap_or_default();
        let at = self.now.wall;
        let arrived: Vec<usize> = (0..self.work.len()).filter(|n| self.has_arrived(*n)).collect();
        arrived.into_iter().for_each(|n| self.step_done(n));
        self.end(ProcedureState::Aborted { by, at }, None, Vec::new());
    }

    /// Drives the current stage; whether it is done.
    fn stage_done(&mut self) -> bool {
        let Some(stage) = self.stages.get(self.current).map(|s| s.stage) else {
            return false;
        };
        match stage {
            Stage::Fence => self.fence_done(),
            Stage::CatchUp => self.caught_up(),
            Stage::ManagementStore | Stage::Move => self.moved(),
            Stage::Decide | Stage::Announce | Stage::Clients | Stage::Close => true,
        }
    }

    fn fence_done(&mut self) -> bool {
        if self.deadline.is_some_and(|d| d <= self.now.mono) {
            let silent: Vec<_> = self.fences.drain(..).map(|(_, path)| (path, FenceOutcome::NoAnswer)).collect();
            self.procedure.fences.extend(silent);
        }
        self.fences.is_empty()
    }

    fn caught_up(&mut self) -> bool {
        let Some(run) = self.stages.get(self.current) else {
            return false;
        };
        let Some(StepKind::CatchUp { bound, .. }) = run.steps.first().map(|s| s.kind.clone()) else {
            return true;
        };
        let moved = self.procedure.moved();
        let groups: Vec<GroupId> = self.procedure.plan.groups().into_iter().filter(|g| !moved.contains(g)).collect();
        let behind = |g: &GroupId| match self.lags.get(g) {
            Some(Lag::Exactly(ms) | Lag::AtMost(ms)) => *ms > bound,
            Some(Lag::Unknown) | None => !self.is_at_target(*g),
        };
        let late: Vec<GroupId> = groups.into_iter().filter(behind).collect();
        let Some(first) = late.first().copied() else {
            return true;
        };
        if self.deadline.is_some_and(|d| d <= self.now.mono) {
            self.stop(StopReason::Lag(first));
            return false;
        }
        if self.next_look.is_some_and(|at| at <= self.now.mono) {
            self.next_look = Some(self.now.mono.saturating_add(LOOK));
            let from = self.procedure.plan.source;
            self.out.push_back(Action::ObserveLag { from, groups: late });
        }
        false
    }

    fn is_at_target(&self, group: GroupId) -> bool {
        let target = self.procedure.plan.target;
        self.copies.get(&(target, group)).is_some_and(|c| c.active && c.serving == target)
    }

    fn has_arrived(&self, index: usize) -> bool {
        self.work
            .get(index)
            .is_some_and(|w| w.phase != Phase::Done && w.step.group().is_some_and(|g| self.is_at_target(g)))
    }

    /// Drives the moves of the current stage; whether all are done.
    fn moved(&mut self) -> bool {
        let now = self.now.mono;
        let bounds = self.procedure.plan.bounds;
        for index in 0..self.work.len() {
            if self.has_arrived(index) {
                self.step_done(index);
            }
        }
        if let Some(since) = self.waits_for_link() {
            // A handover needs the link in both directions: wait for it, bounded, rather than count tries.
            if now.saturating_sub(since) >= bounds.link {
                self.stop(StopReason::Link);
            }
            return false;
        }
        for index in 0..self.work.len() {
            let in_flight = self.work.iter().filter(|w| w.in_flight()).count();
            let Some(work) = self.work.get(index) else {
                continue;
            };
            let wanted = match work.phase {
                Phase::Queued => in_flight < usize::from(bounds.parallel),
                Phase::Done => false,
                Phase::Asked { until, .. } | Phase::Pause { until, .. } | Phase::Awaiting { until } => until <= now,
            };
            if !wanted || self.abort.is_some() {
                continue;
            }
            if work.asked >= bounds.attempts {
                let group = work.step.group().unwrap_or(GroupId::CMS);
                self.stop(StopReason::NoAnswer(group));
                return false;
            }
            self.ask(index);
        }
        self.work.iter().all(|w| w.phase == Phase::Done)
    }

    fn ask(&mut self, index: usize) {
        let until = self.now.mono.saturating_add(self.procedure.plan.bounds.answer);
        let ticket = self.ticket();
        let Some(work) = self.work.get_mut(index) else {
            return;
        };
        work.phase = Phase::Asked { ticket, until };
        work.asked += 1;
        work.began.get_or_insert(self.now.mono);
        let step = self.procedure.plan.step_ref(work.step.number);
        match work.step.kind {
            StepKind::Handover { group, from, to } => {
                self.out.push_back(Action::RequestHandover { ticket, at: from, group, to, step });
            }
            StepKind::Promote { group, .. } => {
                let plan = if group.is_cms() { self.procedure.encode() } else { Bytes::new() };
                let operator = self.procedure.plan.operator.as_str().into();
                self.out.push_back(Action::Promote { ticket, group, step, operator, plan });
            }
            _ => {}
        }
    }

    /// Records the stage that is done and enters the next.
    fn leave_stage(&mut self) {
        let Some(run) = self.stages.get(self.current) else {
            return;
        };
        let took = self.now.mono.saturating_sub(self.stage_began);
        let stage = run.stage;
        let numbers: Vec<u32> = run.steps.iter().filter(|s| s.group().is_none()).map(|s| s.number).collect();
        for step in numbers {
            let (outcome, at) = (StepOutcome::Done, self.now.wall);
            let none = (None, None);
            let (epoch, recovery_point) = none;
            self.procedure.record(StepResult { step, outcome, at, took, retries: 0, epoch, recovery_point });
        }
        self.procedure.stages.retain(|s| s.stage != stage);
        self.procedure.stages.push(StageTime { stage, took });
        self.enter(self.current + 1);
    }
}
