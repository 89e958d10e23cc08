//! Divergent tails: what stands for a front that was not kept, the operation of an entry, and what became of each entry.
//!
//! Owns these words. Does not own the tail's file (`store`), nor the rule by which an entry is applied (`resilience`).

use crate::codec;
use crate::entry::{Body, ChainHash, Effect, Entry, OpId};
use crate::ids::Position;
use crate::record::{Class, Key, Record};
use crate::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What became of an entry of a stored tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Nothing yet.
    #[default]
    Open,
    /// Its effects were applied again, at this position if it is known.
    Applied(Option<Position>),
    /// There was nothing to apply: its operation had been applied, at this position if it is known.
    Skipped(Option<Position>),
    /// A record has changed since, or whether it was applied cannot be told: left to a person.
    Conflict,
    /// Not to be applied by its nature.
    Discarded,
    /// A conflict that a person has given up.
    GivenUp,
}

impl Resolution {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Resolution::Open => "open",
            Resolution::Applied(_) => "applied",
            Resolution::Skipped(_) => "skipped",
            Resolution::Conflict => "conflict",
            Resolution::Discarded => "discarded",
            Resolution::GivenUp => "given-up",
        }
    }

    /// Whether nobody has to do anything more about it.
    pub fn is_settled(self) -> bool {
        !matches!(self, Resolution::Open | Resolution::Conflict)
    }

    /// Where the entry lives on, if that is known.
    pub fn at(self) -> Option<Position> {
        match self {
            Resolution::Applied(at) | Resolution::Skipped(at) => at,
            Resolution::Open | Resolution::Conflict | Resolution::Discarded | Resolution::GivenUp => None,
        }
    }
}

/// The operation of an entry; one without gets an id from its content, so that applying a tail twice changes nothing.
pub fn tail_operation(entry: &Entry) -> OpId {
    entry.op.unwrap_or_else(|| {
        let hash = blake3::hash(&codec::encode_entry(entry));
        let mut session = [0_u8; 16];
        session.copy_from_slice(&hash.as_bytes()[..16]);
        OpId { session: u128::from_le_bytes(session), counter: 1 }
    })
}

/// Stands in the place of the previous chain hash in entries that were made from a copy's state.
const MADE: ChainHash = ChainHash([0xFF; 32]);

/// Whether an entry was made from the copy's state because the entries themselves were no longer kept. It holds what its
/// records were at the end; what they were based on, and what was deleted, is not known.
pub fn is_made(entry: &Entry) -> bool {
    entry.prev == MADE
}

/// Entries for a front that was not kept, from the sequence `fork` up to `kept` (not included): the durable records that
/// still stand as they were written there, by the position that wrote them.
pub(crate) fn made(state: &State, fork: u64, kept: u64) -> Vec<Arc<Entry>> {
    let lost = |record: &Record| record.class == Class::Durable && (fork..kept).contains(&record.version.seq);
    let mut written: BTreeMap<Position, Vec<(&Key, &Record)>> = BTreeMap::new();
    for (key, record) in state.iter().filter(|(_, record)| lost(record)) {
        written.entry(record.version).or_default().push((key, record));
    }
    let put = |(key, record): (&Key, &Record)| Effect::Put {
        key: key.clone(),
        based_on: None,
        class: Class::Durable,
        value: record.value.clone(),
    };
    let entry = |(position, records): (Position, Vec<(&Key, &Record)>)| Entry {
        position,
        prev: MADE,
        time: state.time,
        op: None,
        step: None,
        body: Body::Effects(records.into_iter().map(put).collect()),
    };
    written.into_iter().map(|at| Arc::new(entry(at))).collect()
}
