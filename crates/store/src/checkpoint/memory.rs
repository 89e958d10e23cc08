//! Checkpoints in memory: for the simulator, where a handle outlives the simulated process.
//!
//! Owns nothing but maps. A write is atomic and at once durable.

use super::row::{MAX_KEY_PART, MAX_VALUE};
use super::{AllCheckpoints, CheckpointError, CheckpointStore};
use crate::log::Corruption;
use bytes::Bytes;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint};
use pairline_group::{GroupId, Key, Record};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stored {
    meta: Bytes,
    records: BTreeMap<Key, Record>,
}

type State = BTreeMap<GroupId, Stored>;

/// Checkpoints in memory; clones are handles to the same ones.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoints {
    state: Arc<Mutex<State>>,
}

impl MemoryCheckpoints {
    /// None yet.
    pub fn new() -> MemoryCheckpoints {
        MemoryCheckpoints::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy with a life of its own: the image of an old disk, to be put back with [`MemoryCheckpoints::restore`].
    pub fn image(&self) -> MemoryCheckpoints {
        MemoryCheckpoints { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Puts an image in place of what is there.
    pub fn restore(&self, image: &MemoryCheckpoints) {
        let state = image.state().clone();
        *self.state() = state;
    }
}

impl Stored {
    fn read(&self) -> GroupCheckpoint {
        let records = self.records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
        GroupCheckpoint { meta: self.meta.clone(), records }
    }
}

impl CheckpointStore for MemoryCheckpoints {
    fn write(&mut self, deltas: &[CheckpointDelta]) -> Result<(), CheckpointError> {
        for delta in deltas {
            let too_large = |key: &Key| key.owner.len() > MAX_KEY_PART || key.item.len() > MAX_KEY_PART;
            if delta.puts.iter().any(|(key, record)| too_large(key) || record.value.len() > MAX_VALUE)
                || delta.deletes.iter().any(too_large)
            {
                return Err(CheckpointError::TooLarge { group: delta.group });
            }
        }
        let mut state = self.state();
        for delta in deltas {
            let stored = state.entry(delta.group).or_default();
            stored.meta = delta.meta.clone();
            if delta.clear {
                stored.records.clear();
            }
            for key in &delta.deletes {
                stored.records.remove(key);
            }
            stored.records.extend(delta.puts.iter().cloned());
        }
        Ok(())
    }

    fn forget(&mut self, group: GroupId) -> Result<(), CheckpointError> {
        self.state().remove(&group);
        Ok(())
    }

    fn read(&mut self, group: GroupId) -> Result<Option<Result<GroupCheckpoint, Corruption>>, CheckpointError> {
        Ok(self.state().get(&group).map(|stored| Ok(stored.read())))
    }

    fn read_all(&mut self) -> Result<AllCheckpoints, CheckpointError> {
        Ok(self.state().iter().map(|(group, stored)| (*group, Ok(stored.read()))).collect())
    }
}
