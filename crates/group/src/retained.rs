//! The entries of a group that are kept for shipping, for divergence and for an older disk of the partner.
//!
//! Owns which entries are kept and their accounting. They are kept as bytes: few are ever looked into again, and their values
//! are older ones of records. Does not own the log on disk; a purge follows from here.

use crate::codec::Stored;
use crate::entry::{ChainHash, Entry};
use crate::ids::{Millis, Position};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// A kept entry.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) position: Position,
    /// Its group time.
    pub(crate) time: Millis,
    /// The chain hash that it leads to.
    pub(crate) chain: ChainHash,
    item: Bytes,
    /// Its consensus index here.
    pub(crate) index: u64,
    /// When it was applied here, on the monotonic clock; unknown for entries of an earlier process.
    pub(crate) at: Option<Millis>,
    /// Bytes of all entries ever kept up to and including it.
    end: u64,
}

impl Kept {
    fn seq(&self) -> u64 {
        self.position.seq
    }

    fn len(&self) -> u64 {
        u64::try_from(Stored::len_in(&self.item)).unwrap_or(0)
    }

    /// The entry as it is shipped.
    pub(crate) fn bytes(&self) -> Bytes {
        Stored::bytes_in(&self.item)
    }

    /// The entry; `None` cannot be, since the bytes were made or understood here.
    pub(crate) fn entry(&self) -> Option<Arc<Entry>> {
        Stored::of_item(self.item.clone()).ok().map(|stored| stored.entry)
    }
}

/// Kept entries: consecutive, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retained {
    entries: VecDeque<Kept>,
    /// Chain hash before the oldest.
    before: ChainHash,
    total: u64,
}

impl Retained {
    pub(crate) fn push(&mut self, stored: Stored, index: u64, at: Option<Millis>) {
        if self.entries.back().is_some_and(|last| last.seq().saturating_add(1) != stored.seq()) {
            self.entries.clear();
        }
        let entry = &stored.entry;
        if self.entries.is_empty() {
            self.before = entry.prev;
        }
        let (position, time, chain) = (entry.position, entry.time, stored.chain);
        let mut kept = Kept { position, time, chain, item: stored.into_item(), index, at, end: 0 };
        self.total += kept.len();
        kept.end = self.total;
        self.entries.push_back(kept);
    }

    fn pop(&mut self) -> Option<Kept> {
        let gone = self.entries.pop_front()?;
        self.before = gone.chain;
        Some(gone)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Sequence of the oldest kept entry.
    pub(crate) fn first(&self) -> Option<u64> {
        self.entries.front().map(Kept::seq)
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
            return Some((Some(kept.position), kept.chain));
        }
        let next = seq.checked_add(1)?;
        (self.first()? == next).then_some((None, self.before))
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
        self.entries.front().map_or(0, |kept| self.total - kept.end + kept.len())
    }

    /// Lets the oldest entries at or below `done` go while there are more of these than the history allows.
    pub(crate) fn trim(&mut self, done: u64, history: usize, history_bytes: u64) {
        while let Some(front) = self.entries.front() {
            let seq = front.seq();
            if seq > done {
                return;
            }
            let count = usize::try_from(done - seq).unwrap_or(usize::MAX).saturating_add(1);
            let bytes = self.bytes().saturating_sub(self.bytes_after(done));
            if count <= history && bytes <= history_bytes {
                return;
            }
            self.pop();
        }
    }

    /// Lets the oldest entries go whatever their state; returns whether one above `done` went.
    pub(crate) fn cap(&mut self, most: usize, most_bytes: u64, done: u64) -> bool {
        let mut lost = false;
        while self.entries.len() > most || self.bytes() > most_bytes {
            let Some(gone) = self.pop() else {
                break;
            };
            lost |= gone.seq() > done;
        }
        lost
    }
}
