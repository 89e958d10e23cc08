//! What the threads of one run share: the phase, and who is ready.
//!
//! Owns these counters. The phases' meaning is the engine's.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// Phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Users are registered, as far as the traffic needs them.
    Prepare,
    /// Traffic that is not counted.
    Warm,
    /// Traffic that is counted.
    Measure,
    /// No new operations; those under way may end.
    Drain,
}

impl Phase {
    /// Its name in the lines of a run.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Warm => "warm",
            Phase::Measure => "measure",
            Phase::Drain => "drain",
        }
    }
}

/// Shared state of one run.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    reached: [AtomicUsize; 4],
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Control {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Prepare,
            1 => Phase::Warm,
            2 => Phase::Measure,
            _ => Phase::Drain,
        }
    }

    /// Begins `phase`.
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A thread says that it has done all that it does in `phase`; once a thread and phase.
    pub fn done(&self, phase: Phase) {
        self.reached[phase as usize].fetch_add(1, Ordering::AcqRel);
    }

    /// How many threads have done all that they do in `phase`.
    pub fn count(&self, phase: Phase) -> usize {
        self.reached[phase as usize].load(Ordering::Acquire)
    }

    /// An operation succeeded, in whatever phase.
    pub fn count_success(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// An operation failed, in whatever phase.
    pub fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Operations that succeeded and failed since the start.
    pub fn progress(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
