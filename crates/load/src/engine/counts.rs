//! What one thread counted.
//!
//! Owns the figures while they are collected, and their sum over threads.

use super::course::Curve;
use super::slot::Kind;
use crate::hist::Histogram;
use std::collections::BTreeMap;

/// Figures of the measured time.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Operations that succeeded.
    pub operations: u64,
    /// The same by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Operations that ended otherwise, time-outs among them.
    pub failed: u64,
    /// Operations that got no final answer in time.
    pub timeouts: u64,
    /// Operations that failed because a connection was lost or could not be made.
    pub disconnected: u64,
    /// Requests sent again.
    pub retransmissions: u64,
    /// Final responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls, messages and byes that the other side received.
    pub received: u64,
    /// Acknowledged operations that could not be written to the journal.
    pub unwritten: u64,
    /// Latency of the operations that succeeded, in nanoseconds.
    pub latency: Histogram,
    /// Users whose first registration failed, with the last status (0: no answer).
    pub unregistered: BTreeMap<u16, u64>,
    /// Figures by step and slice of time, where the load has a course.
    pub curve: Curve,
}

impl Counts {
    /// Adds an operation that succeeded.
    pub fn succeeded(&mut self, kind: Kind, nanos: u64) {
        self.operations += 1;
        *self.kinds.entry(kind.name()).or_default() += 1;
        self.latency.record(nanos);
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.timeouts += other.timeouts;
        self.disconnected += other.disconnected;
        self.retransmissions += other.retransmissions;
        self.received += other.received;
        self.unwritten += other.unwritten;
        self.latency.merge(&other.latency);
        self.curve.merge(&other.curve);
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (status, count) in &other.unregistered {
            *self.unregistered.entry(*status).or_default() += count;
        }
    }
}
