//! The consensus log of one group in memory, as the library reads it.
//!
//! Owns the part after the last compaction. Entries are here as soon as they are drained, before they are synced. Does not
//! own the log on disk.

use super::LogItem;
use super::members::{Change, Members};
use crate::codec::{self, Hard};
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::collections::VecDeque;

/// The log behind one consensus replica.
pub(crate) struct MemLog {
    hard: Hard,
    /// The configuration that the log begins with.
    conf: ConfState,
    /// Index and term of the entry before the first one here.
    base: (u64, u64),
    entries: VecDeque<Entry>,
}

/// Our form of a library entry.
pub(crate) fn item(entry: &Entry) -> LogItem {
    let payload = match entry.entry_type {
        EntryType::EntryNormal => entry.data.clone(),
        // The end of a joint configuration is the library's own.
        _ if entry.context.is_empty() => codec::encode_change(&Change::default()),
        _ => entry.context.clone(),
    };
    LogItem { index: entry.index, term: entry.term, payload }
}

/// The library's form of an item.
pub(crate) fn entry(item: LogItem) -> Entry {
    let LogItem { index, term, payload } = item;
    if codec::is_change(&payload) {
        // Only its kind matters to the library; what it says is read where it is applied.
        let entry_type = EntryType::EntryConfChangeV2;
        return Entry { entry_type, index, term, context: payload, ..Entry::default() };
    }
    Entry { index, term, data: payload, ..Entry::default() }
}

impl MemLog {
    pub(crate) fn new(members: &Members, hard: Hard, base: (u64, u64), items: Vec<LogItem>) -> MemLog {
        MemLog { hard, conf: members.to_library(), base, entries: items.into_iter().map(entry).collect() }
    }

    fn last(&self) -> u64 {
        self.base.0 + u64::try_from(self.entries.len()).unwrap_or(0)
    }

    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.base.0 + 1)?).ok()
    }

    /// Appends entries; one at or below an earlier index replaces it and all after it.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        if let Some(at) = self.at(first.index) {
            self.entries.truncate(at);
            self.entries.extend(entries);
        }
    }

    /// The first index that is here.
    pub(crate) fn first(&self) -> u64 {
        self.base.0 + 1
    }

    /// Forgets everything: the log goes on after this index and term.
    pub(crate) fn restart(&mut self, base: (u64, u64)) {
        self.base = base;
        self.entries.clear();
    }

    /// Forgets entries up to this index.
    pub(crate) fn compact(&mut self, through: u64) {
        while self.base.0 < through {
            let Some(gone) = self.entries.pop_front() else {
                return;
            };
            self.base = (gone.index, gone.term);
        }
    }
}

impl Storage for MemLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let Hard { term, vote, commit } = self.hard;
        let hard_state = HardState { term, vote, commit, ..HardState::default() };
        Ok(RaftState { hard_state, conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let compacted = || raft::Error::Store(StorageError::Compacted);
        let unavailable = || raft::Error::Store(StorageError::Unavailable);
        let from = self.at(low).ok_or_else(compacted)?;
        let to = self.at(high).ok_or_else(compacted)?;
        if to > self.entries.len() || from > to {
            return Err(unavailable());
        }
        let most = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0_u64;
        let mut out = Vec::with_capacity(to - from);
        for entry in self.entries.range(from..to) {
            size = size
                .saturating_add(u64::try_from(entry.data.len() + entry.context.len()).unwrap_or(u64::MAX))
                .saturating_add(24);
            if size > most && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        let at = self.at(index).ok_or(raft::Error::Store(StorageError::Compacted))?;
        self.entries.get(at).map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
