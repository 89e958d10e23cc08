//! Every contact change of the drill: asked, acknowledged, refused, or unknown.
//!
//! Owns the record against which the proofs are made. Changes are never repeated under another operation id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Operation id as the API takes it.
pub type Op = (String, u64);

/// How a change stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, no answer (yet): it may or may not have happened.
    Unknown,
    /// Acknowledged, at this time of the drill in milliseconds.
    Acknowledged(u64),
    /// Refused: it did not happen.
    Refused,
}

/// One change: a new contact in a user's list.
#[derive(Clone, Debug)]
pub struct Change {
    /// Operation id.
    pub op: Op,
    /// Number of the user in the swarm.
    pub user: usize,
    /// The contact's address.
    pub contact: String,
    /// How it stands.
    pub state: State,
}

/// The ledger.
#[derive(Default)]
pub struct Ledger(Mutex<BTreeMap<Op, Change>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Op, Change>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change before it is sent.
    pub fn asked(&self, op: Op, user: usize, contact: String) {
        self.lock().insert(op.clone(), Change { op, user, contact, state: State::Unknown });
    }

    /// Notes an answer.
    pub fn answered(&self, op: &Op, state: State) {
        if let Some(change) = self.lock().get_mut(op) {
            change.state = state;
        }
    }

    /// Changes without an answer.
    pub fn unknown(&self) -> Vec<Change> {
        self.lock().values().filter(|change| change.state == State::Unknown).cloned().collect()
    }

    /// Acknowledged changes of some users.
    pub fn acknowledged(&self, users: &BTreeSet<usize>) -> Vec<Change> {
        self.lock()
            .values()
            .filter(|change| matches!(change.state, State::Acknowledged(_)) && users.contains(&change.user))
            .cloned()
            .collect()
    }

    /// Every acknowledged change, whoever's.
    pub fn all_acknowledged(&self) -> Vec<Change> {
        self.lock().values().filter(|change| matches!(change.state, State::Acknowledged(_))).cloned().collect()
    }

    /// Everything that was asked, whatever became of it.
    pub fn all(&self) -> Vec<Change> {
        self.lock().values().cloned().collect()
    }

    /// How many stand acknowledged.
    pub fn count(&self) -> usize {
        self.lock().values().filter(|change| matches!(change.state, State::Acknowledged(_))).count()
    }
}

/// Of some changes, those whose contact is not in the lists that were read.
pub fn missing(changes: &[Change], lists: &BTreeMap<usize, BTreeSet<String>>) -> Vec<Change> {
    let there = |change: &&Change| lists.get(&change.user).is_some_and(|list| list.contains(&change.contact));
    changes.iter().filter(|change| !there(change)).cloned().collect()
}
