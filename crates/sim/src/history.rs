//! What happened, seen from outside: every entry that any server applied, and every change that a client was answered.
//!
//! Owns the oracle's memory. Checkers read it; servers never see it.

use pairline_group::LineageItem;
use pairline_group::{Body, Effect, Entry, Epoch, GroupId, Key, OpId, PoolId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A finding of a checker: an invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant in DESIGN §9.
    pub invariant: u8,
    /// What was seen.
    pub what: String,
}

/// One entry as first seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The pool that applied it first.
    pub first_at: PoolId,
    /// Virtual time of that.
    pub at: u64,
}

/// How a client's change ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No answer yet, or "outcome unknown".
    Unknown,
    /// Acknowledged.
    Acknowledged,
    /// Refused: nothing was written.
    Refused,
}

/// One change of a client.
#[derive(Clone, Debug)]
pub struct Change {
    /// User that it belongs to.
    pub user: String,
    /// Contact that it adds.
    pub contact: String,
    /// Its operation id as sent.
    pub op: (String, u64),
    /// How it ended.
    pub answer: Answer,
}

/// The oracle's memory.
#[derive(Default)]
pub struct History {
    /// Entries by group and position.
    pub entries: BTreeMap<GroupId, BTreeMap<(Epoch, u64), Seen>>,
    /// Clients' changes.
    pub changes: Vec<Change>,
    /// What does not hold, oldest first.
    pub violations: Vec<Violation>,
}

impl History {
    /// Remembers that an invariant does not hold.
    pub fn violate(&mut self, invariant: u8, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { invariant, what });
        }
    }

    /// A server applied an entry.
    pub fn applied(&mut self, at: PoolId, group: GroupId, entry: &Arc<Entry>, now: u64) {
        let key = (entry.position.epoch, entry.position.seq);
        let known = self.entries.entry(group).or_default().get(&key);
        if let Some(seen) = known {
            // An empty disk opens its groups provisionally; whoever has them replaces that opening.
            let opened = matches!((&seen.entry.body, &entry.body), (Body::Open { .. }, Body::Open { .. }));
            if !opened && *seen.entry != **entry {
                let what = format!("group {group}: two different entries at {}", entry.position);
                self.violate(3, what);
            }
            return;
        }
        let seen = Seen { entry: Arc::clone(entry), first_at: at, at: now };
        self.entries.entry(group).or_default().insert(key, seen);
    }

    /// The chain of entries that a copy with this lineage stands on, up to a sequence, oldest first; `None` if an entry of it
    /// was never seen applied.
    pub fn chain(&self, group: GroupId, lineage: &[LineageItem], seq: u64) -> Option<Vec<Arc<Entry>>> {
        let entries = self.entries.get(&group)?;
        let mut chain = Vec::new();
        for (at, item) in lineage.iter().enumerate() {
            let end = lineage.get(at + 1).map_or(seq + 1, |next| next.first.min(seq + 1));
            for number in item.first.max(1)..end {
                chain.push(Arc::clone(&entries.get(&(item.epoch, number))?.entry));
            }
        }
        Some(chain)
    }

    /// Virtual time at which the entry after `seq` on this lineage was first applied anywhere, if there is one.
    pub fn next_after(&self, group: GroupId, lineage: &[LineageItem], seq: u64) -> Option<u64> {
        let item = lineage.iter().rev().find(|item| item.first <= seq + 1)?;
        self.entries.get(&group)?.get(&(item.epoch, seq + 1)).map(|seen| seen.at)
    }
}

/// The keys and values that a chain of entries leaves behind.
pub fn replay(chain: &[Arc<Entry>]) -> BTreeMap<Key, bytes::Bytes> {
    let mut state = BTreeMap::new();
    for entry in chain {
        match &entry.body {
            Body::Effects(effects) => {
                for effect in effects {
                    match effect {
                        Effect::Put { key, value, .. } => {
                            state.insert(key.clone(), value.clone());
                        }
                        Effect::Delete { key, .. } => {
                            state.remove(key);
                        }
                    }
                }
            }
            Body::Expire(keys) => {
                for key in keys {
                    state.remove(key);
                }
            }
            Body::Open { .. } | Body::Handover(_) | Body::Promote(_) => {}
        }
    }
    state
}

/// Operation ids that stand more than once in a chain.
pub fn repeated_ops(chain: &[Arc<Entry>]) -> Vec<OpId> {
    let mut seen: BTreeMap<OpId, u32> = BTreeMap::new();
    for op in chain.iter().filter_map(|entry| entry.op) {
        *seen.entry(op).or_insert(0) += 1;
    }
    seen.into_iter().filter(|(_, times)| *times > 1).map(|(op, _)| op).collect()
}
