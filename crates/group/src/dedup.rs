//! The de-duplication table: which operations a group has applied.
//!
//! Owns sessions, their windows and their expiry in group time. Part of the replicated state, of checkpoints and of seeds,
//! so everything in it depends on entries only.

use crate::entry::OpId;
use crate::ids::{Millis, Position};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known about an operation id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not applied.
    New,
    /// Applied at this position.
    At(Position),
    /// Older than the window: may or may not have been applied.
    TooOld,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// Counters at or below it have left the window.
    floor: Option<u64>,
    /// Applied counters, rising.
    window: Vec<(u64, Position)>,
    /// Group time of the last operation.
    last: Millis,
}

/// Applied operations by session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    sessions: BTreeMap<u128, Session>,
    by_age: BTreeSet<(Millis, u128)>,
}

impl Dedup {
    pub(crate) fn look(&self, op: OpId) -> Seen {
        let Some(session) = self.sessions.get(&op.session) else {
            return Seen::New;
        };
        if let Some((_, at)) = session.window.iter().find(|(counter, _)| *counter == op.counter) {
            return Seen::At(*at);
        }
        if session.floor.is_some_and(|floor| op.counter <= floor) { Seen::TooOld } else { Seen::New }
    }

    /// Notes an applied operation and forgets what is too old or too many. `window` and `limit` are at least 1 in effect.
    pub(crate) fn note(&mut self, op: OpId, at: Position, time: Millis, bounds: &Bounds) {
        let session = self.sessions.entry(op.session).or_default();
        self.by_age.remove(&(session.last, op.session));
        session.last = time;
        let place = session.window.partition_point(|(counter, _)| *counter < op.counter);
        session.window.insert(place, (op.counter, at));
        if session.window.len() > bounds.window.max(1) {
            let (gone, _) = session.window.remove(0);
            session.floor = session.floor.max(Some(gone));
        }
        self.by_age.insert((time, op.session));
        self.trim(time, bounds);
    }

    fn trim(&mut self, time: Millis, bounds: &Bounds) {
        while let Some(&(last, session)) = self.by_age.first() {
            let expired = last.saturating_add(bounds.expiry) < time;
            if !expired && self.by_age.len() <= bounds.sessions.max(1) {
                return;
            }
            self.by_age.remove(&(last, session));
            self.sessions.remove(&session);
        }
    }

    /// Number of sessions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}

/// Bounds of the table. They are a property of the build and the deployment's policy, equal on all copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) sessions: usize,
    pub(crate) window: usize,
    pub(crate) expiry: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(session: u128, counter: u64) -> OpId {
        OpId { session, counter }
    }

    #[test]
    fn window_refuses_what_it_forgot_and_forgets_by_age() {
        let bounds = Bounds { sessions: 2, window: 2, expiry: 100 };
        let at = Position::default();
        let mut table = Dedup::default();
        for counter in 1..=3 {
            table.note(op(1, counter), at, counter, &bounds);
        }
        assert_eq!(table.look(op(1, 1)), Seen::TooOld);
        assert_eq!(table.look(op(1, 2)), Seen::At(at));
        assert_eq!(table.look(op(1, 4)), Seen::New);
        table.note(op(2, 1), at, 4, &bounds);
        table.note(op(3, 1), at, 5, &bounds);
        assert_eq!(table.len(), 2, "the oldest session goes when there are too many");
        assert_eq!(table.look(op(1, 2)), Seen::New);
        table.note(op(4, 1), at, 500, &bounds);
        assert_eq!(table.len(), 1, "sessions older than the expiry go");
    }
}
