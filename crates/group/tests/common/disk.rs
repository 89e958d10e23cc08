//! A server's disk in the tests: what is synced stays, what is not is lost by a crash; the log has the rules of the real one.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint, LogBatch, LogKind, LogRecord, RecoveredGroup};
use pairline_group::{GroupId, Key, Record};
use std::collections::{BTreeMap, VecDeque};

/// A server's disk.
#[derive(Clone, Default)]
pub struct Disk {
    pub synced: Vec<LogRecord>,
    pub unsynced: VecDeque<LogBatch>,
    checkpoints: BTreeMap<GroupId, (Bytes, BTreeMap<Key, Record>)>,
    purged: BTreeMap<GroupId, u64>,
    /// Last item of each group, synced or not.
    last: BTreeMap<GroupId, u64>,
}

impl Disk {
    /// Appends a batch.
    ///
    /// # Panics
    /// If an item stands below the purge or leaves a hole: the real log refuses that, and the server ends.
    pub fn append(&mut self, batch: LogBatch) {
        for record in batch.records.iter().filter(|record| record.kind == LogKind::Item) {
            let purged = self.purged.get(&record.group).copied().unwrap_or(0);
            let last = self.last.get(&record.group).copied().filter(|last| *last > purged);
            let next = last.or(Some(purged).filter(|purged| *purged > 0)).map(|last| last + 1);
            assert!(record.index > purged, "below the purge at {purged}: {}", record.index);
            assert!(next.is_none_or(|next| record.index <= next), "a hole before {}: {next:?}", record.index);
            self.last.insert(record.group, record.index);
        }
        self.unsynced.push_back(batch);
    }

    /// Syncs the oldest unsynced batch; gives its number.
    pub fn sync_one(&mut self) -> Option<u64> {
        let batch = self.unsynced.pop_front()?;
        self.synced.extend(batch.records);
        Some(batch.batch)
    }

    /// Of the unsynced batches the first `keep` survive, and for an odd number half of the next one.
    pub fn crash(&mut self, keep: usize) {
        for (at, batch) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            let half = if at == keep && keep % 2 == 1 { batch.records.len() / 2 } else { 0 };
            let survive = if at < keep { batch.records.len() } else { half };
            self.synced.extend(batch.records.into_iter().take(survive));
        }
        self.last.clear();
        for record in self.synced.iter().filter(|record| record.kind == LogKind::Item) {
            self.last.insert(record.group, record.index);
        }
    }

    /// Writes a checkpoint.
    pub fn checkpoint(&mut self, groups: Vec<CheckpointDelta>) {
        for delta in groups {
            let (meta, records) = self.checkpoints.entry(delta.group).or_default();
            *meta = delta.meta;
            if delta.clear {
                records.clear();
            }
            for key in delta.deletes {
                records.remove(&key);
            }
            records.extend(delta.puts);
        }
    }

    /// Items of a group up to there are gone.
    pub fn purge(&mut self, group: GroupId, through: u64) {
        self.purged.insert(group, through);
    }

    /// Everything of a group is gone.
    pub fn forget(&mut self, group: GroupId) {
        self.synced.retain(|record| record.group != group);
        self.unsynced.iter_mut().for_each(|batch| batch.records.retain(|record| record.group != group));
        self.checkpoints.remove(&group);
        self.purged.remove(&group);
        self.last.remove(&group);
    }

    /// What a start finds.
    pub fn recovered(&self) -> Vec<RecoveredGroup> {
        let mut groups: BTreeMap<GroupId, RecoveredGroup> = BTreeMap::new();
        for (group, (meta, records)) in &self.checkpoints {
            let records = records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
            let checkpoint = Some(GroupCheckpoint { meta: meta.clone(), records });
            groups.insert(*group, RecoveredGroup { group: *group, checkpoint, log: Vec::new() });
        }
        for record in &self.synced {
            let group = record.group;
            let purged = self.purged.get(&group).copied().unwrap_or(0);
            let to = groups.entry(group).or_insert_with(|| RecoveredGroup { group, ..RecoveredGroup::default() });
            match record.kind {
                LogKind::HardState => to.log.retain(|old| old.kind != LogKind::HardState),
                LogKind::Item if record.index <= purged => continue,
                LogKind::Item => to.log.retain(|old| old.kind != LogKind::Item || old.index < record.index),
            }
            to.log.push(record.clone());
        }
        groups.into_values().collect()
    }
}
