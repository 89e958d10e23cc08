//! The shadow copy that a seed builds beside the current one.
//!
//! Owns how chunks read at different positions and the entries after the seed's start become one exact state: a record of a
//! chunk may be newer than the entry that is replayed over it, so effects older than the record are left out. From the
//! position at which the last chunk was read on, the shadow equals the source. Does not own when it becomes current.

use crate::codec::{SeedChunk, SeedOffer, Stored};
use crate::digest::{self, RANGES};
use crate::entry::{Body, Effect};
use crate::record::{Key, Record};
use crate::state::{ApplyError, Rules, State};
use std::collections::BTreeSet;

/// A copy being built.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) seed: u64,
    pub(crate) state: State,
    /// Ranges that the source must send.
    pub(crate) wanted: Vec<u16>,
    /// Chunks applied.
    pub(crate) chunks: u64,
    /// Records received.
    pub(crate) received: u64,
    /// Records at the source when it began.
    pub(crate) of: u64,
    /// Consensus index of its start: the log is needed from there.
    pub(crate) index: u64,
}

impl Shadow {
    /// Begins a shadow: ranges that an unfinished shadow or the current copy has right are taken over.
    pub(crate) fn start(offer: &SeedOffer, index: u64, current: &State, unfinished: Option<&Shadow>) -> Shadow {
        let mut state = State::offered(offer);
        let right = |copy: &State| -> BTreeSet<usize> {
            (0..RANGES).filter(|r| offer.ranges.get(*r).is_some_and(|d| *d == copy.digest.range(*r))).collect()
        };
        let from_current = right(current);
        let from_unfinished: BTreeSet<usize> =
            unfinished.map(|old| right(&old.state)).unwrap_or_default().difference(&from_current).copied().collect();
        take_over(&mut state, current, &from_current);
        if let Some(old) = unfinished {
            take_over(&mut state, &old.state, &from_unfinished);
        }
        let wanted = (0..RANGES)
            .filter(|range| !from_current.contains(range) && !from_unfinished.contains(range))
            .filter_map(|range| u16::try_from(range).ok())
            .collect();
        let received = u64::try_from(state.len()).unwrap_or(u64::MAX);
        Shadow { seed: offer.seed, state, wanted, chunks: 0, received, of: offer.records, index }
    }

    /// Adds a chunk's records.
    pub(crate) fn chunk(&mut self, chunk: &SeedChunk) {
        self.chunks = self.chunks.saturating_add(1);
        for (key, record) in &chunk.records {
            if self.older(key, record.version.seq) {
                self.state.put(key, record.clone());
            }
            self.received = self.received.saturating_add(1);
        }
    }

    /// Replays an entry after the seed's start.
    pub(crate) fn replay(&mut self, stored: &Stored, rules: &Rules) -> Result<(), ApplyError> {
        let entry = stored.entry.as_ref();
        self.state.check(entry)?;
        let at = entry.position;
        match &entry.body {
            Body::Effects(effects) => {
                for effect in effects {
                    if !self.older(effect.key(), at.seq) {
                        continue;
                    }
                    match effect {
                        Effect::Put { key, class, value, .. } => {
                            self.state.put(key, Record { version: at, class: *class, value: value.clone() });
                        }
                        Effect::Delete { key, .. } => {
                            self.state.remove(key);
                        }
                    }
                }
            }
            Body::Expire(keys) => {
                for key in keys {
                    if self.older(key, at.seq) && self.state.raw(key).is_some_and(|r| !r.class.present_at(entry.time)) {
                        self.state.remove(key);
                    }
                }
            }
            // A change of serving pool ends a seed at its source, so a shadow never sees one before its swap.
            Body::Open { .. } | Body::Handover(_) | Body::Promote(_) => {
                return Err(ApplyError::Opened);
            }
        }
        self.state.advance(stored, rules);
        Ok(())
    }

    /// Whether the shadow's record is absent or older than this sequence.
    fn older(&self, key: &Key, seq: u64) -> bool {
        self.state.raw(key).is_none_or(|record| record.version.seq < seq)
    }
}

fn take_over(into: &mut State, from: &State, ranges: &BTreeSet<usize>) {
    if ranges.is_empty() {
        return;
    }
    for (key, record) in from.iter() {
        if ranges.contains(&digest::range_of(key)) {
            into.put(key, record.clone());
        }
    }
}
