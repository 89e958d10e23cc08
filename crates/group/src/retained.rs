//! The entries of a group that are kept for shipping, for divergence and for an older disk of the partner.
//!
//! Owns which entries are kept and their accounting. Does not own the log on disk; a purge follows from here.

use crate::codec::Stored;
use crate::entry::ChainHash;
use crate::ids::{Millis, Position};
use std::collections::VecDeque;

/// A kept entry.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) stored: Stored,
    /// Its consensus index here.
    pub(crate) index: u64,
    /// When it was applied here, on the monotonic clock; unknown for entries of an earlier process.
    pub(crate) at: Option<Millis>,
    /// Bytes of all entries ever kept up to and including it.
    end: u64,
}

/// Kept entries: consecutive, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retained {
    entries: VecDeque<Kept>,
    total: u64,
}

impl Retained {
    pub(crate) fn push(&mut self, stored: Stored, index: u64, at: Option<Millis>) {
        if self.entries.back().is_some_and(|last| last.stored.seq().saturating_add(1) != stored.seq()) {
            self.entries.clear();
        }
        self.total += u64::try_from(stored.len()).unwrap_or(0);
        self.entries.push_back(Kept { stored, index, at, end: self.total });
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Sequence of the oldest kept entry.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(|kept| kept.stored.seq())
    }

    /// Consensus index of the oldest kept entry.
    pub(crate) fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|kept| kept.index)
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Kept> {
        let first = self.first()?;
        let at = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.entries.get(at)
    }

    /// Entries from this sequence on.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = &Kept> {
        let skip = self.first().map_or(0, |first| usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX));
        self.entries.iter().skip(skip)
    }

    /// Position and chain hash after the entry with this sequence, where known.
    pub(crate) fn point(&self, seq: u64) -> Option<(Option<Position>, ChainHash)> {
        if let Some(kept) = self.get(seq) {
            return Some((Some(kept.stored.entry.position), kept.stored.chain));
        }
        let next = self.get(seq.checked_add(1)?)?;
        Some((None, next.stored.entry.prev))
    }

    /// Bytes of the kept entries after this sequence.
    pub(crate) fn bytes_after(&self, seq: u64) -> u64 {
        match self.get(seq) {
            Some(kept) => self.total - kept.end,
            None if self.first().is_some_and(|first| first > seq) => self.bytes(),
            None => 0,
        }
    }

    /// Bytes of all kept entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.front().map_or(0, |kept| self.total - kept.end + u64::try_from(kept.stored.len()).unwrap_or(0))
    }

    /// Lets the oldest entries at or below `done` go while there are more of these than the history allows.
    pub(crate) fn trim(&mut self, done: u64, history: usize, history_bytes: u64) {
        while let Some(front) = self.entries.front() {
            let seq = front.stored.seq();
            if seq > done {
                return;
            }
            let count = usize::try_from(done - seq).unwrap_or(usize::MAX).saturating_add(1);
            let bytes = self.bytes().saturating_sub(self.bytes_after(done));
            if count <= history && bytes <= history_bytes {
                return;
            }
            self.entries.pop_front();
        }
    }

    /// Lets the oldest entries go whatever their state; returns whether one above `done` went.
    pub(crate) fn cap(&mut self, most: usize, most_bytes: u64, done: u64) -> bool {
        let mut lost = false;
        while self.entries.len() > most || self.bytes() > most_bytes {
            let Some(gone) = self.entries.pop_front() else {
                break;
            };
            lost |= gone.stored.seq() > done;
        }
        lost
    }
}
