//! The state of one step that moves a group: queued, asked, waited for, done.
//!
//! Owns the reading of answers and the pauses between askings. Order and limits over all steps are `runner`'s.

use crate::plan::Step;
use pairline_group::io::{Done, Refusal};
use pairline_group::{Millis, PoolId, Ticket};

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not asked for yet.
    Queued,
    /// Asked; asked again at `until` if no answer comes.
    Asked { ticket: Ticket, until: Millis },
    /// Asked again at `until`. `open`: the last asking may have had its effect.
    Pause { until: Millis, open: bool },
    /// The entry is written; the target is to become active. Asked again at `until`.
    Awaiting { until: Millis },
    /// Ended.
    Done,
}

/// One step with its state.
#[derive(Clone, Debug)]
pub(crate) struct StepWork {
    pub(crate) step: Step,
    pub(crate) phase: Phase,
    /// Askings so far.
    pub(crate) asked: u32,
    /// Monotonic time of the first asking.
    pub(crate) began: Option<Millis>,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The entry is there; await the target.
    Written,
    /// Not now; ask again.
    Later,
    /// It will never work; why.
    Never(String),
}

impl StepWork {
    /// A step that has not been asked for.
    pub(crate) fn new(step: Step) -> StepWork {
        StepWork { step, phase: Phase::Queued, asked: 0, began: None }
    }

    /// Whether it takes one of the places in flight.
    pub(crate) fn in_flight(&self) -> bool {
        !matches!(self.phase, Phase::Queued | Phase::Done)
    }

    /// Whether its effect may be on its way.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Asked { .. } | Phase::Awaiting { .. } | Phase::Pause { open: true, .. })
    }

    /// When it wants attention.
    pub(crate) fn due(&self) -> Option<Millis> {
        match self.phase {
            Phase::Asked { until, .. } | Phase::Pause { until, .. } | Phase::Awaiting { until } => Some(until),
            Phase::Queued | Phase::Done => None,
        }
    }
}

/// Reads the answer to a handover or promotion whose target is `to`.
pub(crate) fn read(done: &Done, to: PoolId) -> Answer {
    match done {
        Done::Committed(_) | Done::Duplicate(_) | Done::NoChange(_) => Answer::Written,
        Done::Refused(refusal) => match refusal {
            // Somebody (a former run of this very step) has done it.
            Refusal::NotActive(_, pool) | Refusal::Moved(_, pool) if *pool == to => Answer::Written,
            Refusal::HandingOver(pool) if *pool == to => Answer::Written,
            // Whoever leads next answers the same question: a step has its effect once.
            Refusal::OutcomeUnknown | Refusal::NotLeader(_) => Answer::Later,
            Refusal::Busy | Refusal::NotNow(_) | Refusal::Unconfirmed | Refusal::Conflict(_) | Refusal::DiskFull => {
                Answer::Later
            }
            never @ (Refusal::NotActive(..)
            | Refusal::Moved(..)
            | Refusal::HandingOver(_)
            | Refusal::TooLarge(_)
            | Refusal::NoSuchGroup
            | Refusal::Stopped(_)) => Answer::Never(never.to_string()),
        },
    }
}

/// Pause before asking again, doubling from 50 ms to 2 s.
pub(crate) fn pause(asked: u32) -> Millis {
    (50 << asked.min(6)).min(2_000)
}
