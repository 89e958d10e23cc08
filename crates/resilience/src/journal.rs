//! The journal of procedures: records of the `cms` group, kinds 100 to 119.
//!
//! Owns the record's form, its key, the lock that makes one procedure run at a time, and the rebuilding of a record from
//! the entries that the procedure left in the groups. Writing it before each effect is `runner`'s.

use crate::codec::{self, CodecError};
use crate::plan::{FencePath, Plan};
use bytes::Bytes;
use pairline_group::{Body, Entry, Epoch, GroupId, Key, Kind, Millis, Position};
use serde::{Deserialize, Serialize};

/// A procedure's record.
pub const KIND_PROCEDURE: Kind = Kind(100);
/// The lock: its value is the id of the procedure that has not ended.
pub const KIND_LOCK: Kind = Kind(101);
/// Owner of both.
pub const OWNER: &str = "procedure";

/// How far a procedure has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcedureState {
    /// It has not ended.
    Running,
    /// Every step is done.
    Done,
    /// Ended by an operator before every group had moved; groups that had moved stay where they are.
    Aborted {
        /// By whom.
        by: String,
        /// Wall clock.
        at: Millis,
    },
    /// It cannot go on by itself; it can be resumed or aborted.
    Stopped {
        /// Why, in words.
        reason: String,
    },
    /// Another procedure took its place.
    Superseded {
        /// Which.
        by: u128,
    },
}

impl ProcedureState {
    /// Whether another procedure may begin.
    pub fn is_over(&self) -> bool {
        matches!(self, ProcedureState::Done | ProcedureState::Aborted { .. } | ProcedureState::Superseded { .. })
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOutcome {
    /// Done by this procedure.
    Done,
    /// Its effect was there already.
    WasDone,
}

/// The result of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its number.
    pub step: u32,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Wall clock of its end.
    pub at: Millis,
    /// Milliseconds from the first asking to the end.
    pub took: Millis,
    /// How often it was asked for beyond the first time.
    pub retries: u32,
    /// The epoch that its entry granted, where it is known.
    pub epoch: Option<Epoch>,
    /// The last position before the promotion, where it is known.
    pub recovery_point: Option<Position>,
}

/// What a way to the source answered when it was to be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceOutcome {
    /// The source stopped serving.
    Fenced,
    /// It answered and refused.
    Refused,
    /// No answer.
    NoAnswer,
}

/// Part of a procedure, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// From the command to the first step.
    Decide,
    /// Announcing.
    Announce,
    /// Fencing.
    Fence,
    /// Waiting for the lag.
    CatchUp,
    /// Moving the management store.
    ManagementStore,
    /// Moving the groups.
    Move,
    /// Beginning to move clients.
    Clients,
    /// The end.
    Close,
}

/// How long a part took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// Milliseconds; after a resume only the last run's.
    pub took: Millis,
}

/// A procedure's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Procedure {
    /// What is carried out.
    pub plan: Plan,
    /// How far it is.
    pub state: ProcedureState,
    /// The first step whose effect may not have begun.
    pub next_step: u32,
    /// Results, in the order in which the steps ended.
    pub results: Vec<StepResult>,
    /// What operators confirmed, in words, with the time.
    pub confirmations: Vec<(Millis, String)>,
    /// Answers of the paths by which the source was to be fenced.
    pub fences: Vec<(FencePath, FenceOutcome)>,
    /// Times.
    pub stages: Vec<StageTime>,
    /// Wall clock of the start.
    pub started: Millis,
    /// Wall clock of the end.
    pub ended: Option<Millis>,
    /// How often it was resumed.
    pub resumed: u32,
}

impl Procedure {
    /// The record of a procedure that is about to start at wall clock `now`.
    pub fn new(plan: Plan, now: Millis) -> Procedure {
        let mut confirmations = Vec::new();
        if plan.command.says_source_off() {
            confirmations
                .push((plan.made_at, format!("{} states that {} is off", plan.operator, plan.name_of(plan.source))));
        }
        if plan.command.is_forced() {
            confirmations.push((plan.made_at, format!("{} accepts the warnings with force", plan.operator)));
        }
        Procedure {
            plan,
            state: ProcedureState::Running,
            next_step: 1,
            results: Vec::new(),
            confirmations,
            fences: Vec::new(),
            stages: Vec::new(),
            started: now,
            ended: None,
            resumed: 0,
        }
    }

    /// The stored value.
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(value: &[u8]) -> Result<Procedure, CodecError> {
        codec::decode(value, codec::MAX_VALUE)
    }

    /// The result of a step, if it ended.
    pub fn result(&self, step: u32) -> Option<&StepResult> {
        self.results.iter().find(|r| r.step == step)
    }

    /// Groups whose step ended.
    pub fn moved(&self) -> Vec<GroupId> {
        let done = self.plan.steps.iter().filter(|s| self.result(s.number).is_some());
        done.filter_map(|s| s.group()).collect()
    }

    /// Takes a result; the first one of a step stays.
    pub fn record(&mut self, result: StepResult) {
        if self.result(result.step).is_none() {
            self.results.push(result);
        }
    }
}

/// Key of a procedure's record.
pub fn key(id: u128) -> Key {
    Key::new(OWNER, KIND_PROCEDURE, &id.to_be_bytes())
}

/// The id in a record's key.
pub fn id_of(key: &Key) -> Option<u128> {
    let item: [u8; 16] = key.item.as_ref().try_into().ok()?;
    (key.kind == KIND_PROCEDURE).then(|| u128::from_be_bytes(item))
}

/// Key of the lock.
pub fn lock_key() -> Key {
    Key::new(OWNER, KIND_LOCK, b"")
}

/// Value of the lock.
pub fn encode_lock(id: u128) -> Bytes {
    codec::encode(&id)
}

/// Reads the lock.
///
/// # Errors
/// See [`CodecError`].
pub fn decode_lock(value: &[u8]) -> Result<u128, CodecError> {
    codec::decode(value, 64)
}

/// The first record of a procedure whose journal began with the management store's own promotion.
pub fn from_promotion(entry: &Entry) -> Option<Procedure> {
    let Body::Promote(promote) = &entry.body else {
        return None;
    };
    let step = entry.step?;
    let found = Procedure::decode(&promote.plan).ok()?;
    (found.plan.id == step.procedure).then_some(found)
}

/// Completes a record from the entries that its steps left in the groups, in any order; others are passed over.
///
/// Needed when the journal itself was lost or is older than the groups: every effect's entry names procedure and step.
pub fn rebuild<'e>(mut known: Procedure, entries: impl IntoIterator<Item = (GroupId, &'e Entry)>) -> Procedure {
    for (group, entry) in entries {
        let Some(step) = entry.step.filter(|s| s.procedure == known.plan.id) else {
            continue;
        };
        let planned = known.plan.steps.iter().find(|s| s.number == step.step);
        if planned.is_none_or(|s| s.group() != Some(group)) {
            continue;
        }
        let (epoch, recovery_point) = match &entry.body {
            Body::Handover(handover) => (handover.epoch, None),
            Body::Promote(promote) => (promote.epoch, Some(promote.recovery_point)),
            _ => continue,
        };
        let outcome = StepOutcome::WasDone;
        let epoch = Some(epoch);
        known.record(StepResult {
            step: step.step,
            outcome,
            at: entry.time,
            took: 0,
            retries: 0,
            epoch,
            recovery_point,
        });
    }
    let undone = known.plan.steps.iter().find(|s| known.result(s.number).is_none() && s.group().is_some());
    if let Some(step) = undone {
        known.next_step = known.next_step.max(1).min(step.number);
    }
    known
}
