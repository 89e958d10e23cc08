//! A divergent tail, entry by entry: skipped, to be applied, a conflict, or discarded.
//!
//! Owns the decision, which is a pure function of the tail and the present state. Does not own the tail's file, and applies
//! nothing: each entry to be applied is an ordinary proposal.

use crate::codec;
use crate::dedup::Seen;
use crate::entry::{Body, Effect, Entry, OpId};
use crate::ids::Position;
use crate::io::{Proposal, Write, WriteClass};
use crate::record::{Class, Key, Record};
use std::collections::BTreeMap;

/// What is to happen to one entry of a tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailVerdict {
    /// Its operation was applied, at this position (for one that left the window: the present position).
    Applied(Position),
    /// Every record still has the version that the entry was based on: propose this.
    Apply(Box<Proposal>),
    /// These records have changed: a person decides.
    Conflict(Vec<Key>),
    /// Nothing durable in it.
    Discard,
}

/// What the decision reads of the present state.
pub trait TailView {
    /// The record that is there now.
    fn record(&self, key: &Key) -> Option<&Record>;
    /// Where an operation was applied; `Some(None)` if that can no longer be told.
    fn operation(&self, op: OpId) -> Option<Option<Position>>;
}

/// Decides about each entry of a tail, oldest first. Later entries that build on earlier ones of the same tail are judged as
/// if those had been applied; propose them in this order, and stop at the first that is refused.
pub fn apply_tail<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    present: &impl TailView,
) -> Vec<(Position, TailVerdict)> {
    let mut written: BTreeMap<&Key, Position> = BTreeMap::new();
    let mut verdicts = Vec::new();
    for entry in entries {
        let verdict = judge(entry, present, &written);
        if let (TailVerdict::Apply(_) | TailVerdict::Applied(_), Body::Effects(effects)) = (&verdict, &entry.body) {
            for effect in effects {
                written.insert(effect.key(), entry.position);
            }
        }
        verdicts.push((entry.position, verdict));
    }
    verdicts
}

/// The operation id of an entry; one without gets an id from its content, so that applying a tail twice changes nothing.
pub fn tail_operation(entry: &Entry) -> OpId {
    entry.op.unwrap_or_else(|| {
        let hash = blake3::hash(&codec::encode_entry(entry));
        let mut session = [0_u8; 16];
        session.copy_from_slice(&hash.as_bytes()[..16]);
        OpId { session: u128::from_le_bytes(session), counter: 1 }
    })
}

fn judge(entry: &Entry, present: &impl TailView, written: &BTreeMap<&Key, Position>) -> TailVerdict {
    let Body::Effects(effects) = &entry.body else {
        return TailVerdict::Discard;
    };
    let op = tail_operation(entry);
    match present.operation(op) {
        Some(Some(at)) => return TailVerdict::Applied(at),
        Some(None) => return TailVerdict::Applied(Position::default()),
        None => {}
    }
    let mut proposal = Proposal { op: Some(op), step: entry.step, ..Proposal::default() };
    let mut conflicts = Vec::new();
    for effect in effects {
        let (key, based_on, write) = match effect {
            Effect::Put { class: Class::Soft { .. }, .. } => continue,
            Effect::Put { key, based_on, value, .. } => {
                (key, based_on, Write::Put { key: key.clone(), class: WriteClass::Durable, value: value.clone() })
            }
            Effect::Delete { key, based_on } => match present.record(key) {
                Some(record) if record.class != Class::Durable => continue,
                None if !written.contains_key(key) => continue,
                _ => (key, based_on, Write::Delete { key: key.clone() }),
            },
        };
        let in_tail = written.get(key).is_some_and(|at| Some(*at) == *based_on);
        let version = present.record(key).map(|record| record.version);
        if in_tail {
            proposal.writes.push(write);
        } else if version == *based_on && !written.contains_key(key) {
            proposal.reads.push((key.clone(), version));
            proposal.writes.push(write);
        } else {
            conflicts.push(key.clone());
        }
    }
    if !conflicts.is_empty() {
        TailVerdict::Conflict(conflicts)
    } else if proposal.writes.is_empty() {
        TailVerdict::Discard
    } else {
        TailVerdict::Apply(Box::new(proposal))
    }
}

impl TailView for crate::state::State {
    fn record(&self, key: &Key) -> Option<&Record> {
        self.raw(key).filter(|record| record.class.present_at(self.time))
    }

    fn operation(&self, op: OpId) -> Option<Option<Position>> {
        match self.dedup.look(op) {
            Seen::New => None,
            Seen::At(at) => Some(Some(at)),
            Seen::TooOld => Some(None),
        }
    }
}
