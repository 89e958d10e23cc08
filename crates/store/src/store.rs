//! All of a server's storage behind one handle, driven by its single store thread (or the simulator).
//!
//! Owns the data folder's layout and the order in which its parts are opened. Decides nothing about groups.

use crate::checkpoint::{CheckpointError, CheckpointStore, RedbCheckpoints, Unopenable};
use crate::files::{FileLayer, FileLock};
use crate::folder::{self, FolderError};
use crate::log::{Corruption, Log, LogConfig, LogError, LogOpenError, LogRecovery, LogStats};
use crate::tails::{TailError, TailId, Tails};
use pairline_group::GroupId;
use pairline_group::entry::Entry;
use pairline_group::ids::Position;
use pairline_group::io::{GroupCheckpoint, LogBatch, RecoveredGroup};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of a server's storage.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data folder; created if absent, refused if it has foreign content.
    pub folder: PathBuf,
    /// Settings of the log.
    pub log: LogConfig,
    /// Bound of the checkpoint database's page cache, in bytes.
    pub checkpoint_cache: usize,
}

impl StoreConfig {
    /// Production settings for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig { folder: folder.into(), log: LogConfig::default(), checkpoint_cache: 64 * 1024 * 1024 }
    }

    /// Small segments and caches, for tests and the simulator.
    pub fn small(folder: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            folder: folder.into(),
            log: LogConfig { segment_bytes: 64 * 1024, keep_segments: 2, rewrite_bytes: 16 * 1024 },
            checkpoint_cache: 1024 * 1024,
        }
    }
}

/// Why the storage cannot be opened. Nothing was changed for all but `Files`-like causes.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder is foreign, newer or in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tails.
    #[error(transparent)]
    Tails(#[from] TailError),
}

/// What was noticed while opening.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// The folder was empty.
    pub created: bool,
    /// The checkpoint could not be used and was set aside; the groups must resynchronise.
    pub checkpoint_discarded: Option<Unopenable>,
    /// Groups whose data is not to be believed. They are not among the recovered ones and take nothing until
    /// [`Store::forget`].
    pub corrupt: Vec<(GroupId, Corruption)>,
    /// Bytes of a write that the last stop had interrupted (never acknowledged).
    pub torn_bytes: u64,
}

/// A server's storage in two halves, which may be driven by a thread each.
#[derive(Debug)]
pub struct Store {
    /// What is acknowledged by, and tails.
    pub log: LogStore,
    /// What lets the log before it go.
    pub checkpoints: Box<dyn CheckpointStore>,
}

/// The half of the storage that whoever commits waits for: the log; and the tails.
#[derive(Debug)]
pub struct LogStore {
    log: Log,
    tails: Tails,
    _lock: Box<dyn FileLock>,
}

impl Store {
    /// Opens the data folder with the checkpoint in a database file.
    pub fn open(
        config: &StoreConfig,
        files: Arc<dyn FileLayer>,
    ) -> Result<(Store, Vec<RecoveredGroup>, OpenReport), OpenError> {
        let (lock, created) = folder::claim(files.as_ref(), &config.folder)?;
        // A newer log refuses before the checkpoint's file is touched.
        Log::probe(files.as_ref(), &config.folder.join("log"))?;
        let path = config.folder.join("checkpoint.redb");
        let (checkpoints, discarded) = RedbCheckpoints::open(files.clone(), path, config.checkpoint_cache)?;
        Store::assemble(config, files, Box::new(checkpoints), lock, created, discarded)
    }

    /// Opens the data folder with checkpoints of the caller's (the simulator's [`crate::MemoryCheckpoints`]).
    pub fn open_with(
        config: &StoreConfig,
        files: Arc<dyn FileLayer>,
        checkpoints: Box<dyn CheckpointStore>,
    ) -> Result<(Store, Vec<RecoveredGroup>, OpenReport), OpenError> {
        let (lock, created) = folder::claim(files.as_ref(), &config.folder)?;
        Store::assemble(config, files, checkpoints, lock, created, None)
    }

    fn assemble(
        config: &StoreConfig,
        files: Arc<dyn FileLayer>,
        mut checkpoints: Box<dyn CheckpointStore>,
        lock: Box<dyn FileLock>,
        created: bool,
        checkpoint_discarded: Option<Unopenable>,
    ) -> Result<(Store, Vec<RecoveredGroup>, OpenReport), OpenError> {
        let tails = Tails::open(files.clone(), config.folder.join("tails"))?;
        let mut stored = checkpoints.read_all()?;
        let (mut log, recovery) = Log::open(files, config.folder.join("log"), config.log)?;
        // A crash between the two halves of forgetting: the second half is made up for.
        for group in recovery.groups.iter().filter(|(_, log)| log.forgotten).map(|(group, _)| *group) {
            if stored.iter().any(|(of, _)| *of == group) {
                checkpoints.forget(group)?;
                stored.retain(|(of, _)| *of != group);
            }
        }
        let torn_bytes = recovery.torn_bytes;
        let (groups, corrupt) = merge(stored, recovery);
        for group in corrupt.keys() {
            log.refuse(*group);
        }
        let corrupt = corrupt.into_iter().collect();
        let report = OpenReport { created, checkpoint_discarded, corrupt, torn_bytes };
        Ok((Store { log: LogStore { log, tails, _lock: lock }, checkpoints }, groups, report))
    }

    /// Makes a group's log and checkpoint void, durably (a corrupt group before it is seeded anew).
    pub fn forget(&mut self, group: GroupId) -> Result<(), ForgetError> {
        self.log.forget(group)?;
        self.checkpoints.forget(group)?;
        Ok(())
    }
}

impl LogStore {
    /// Writes a batch to the log, whole or not at all; durable only after [`LogStore::sync`].
    pub fn append(&mut self, batch: &LogBatch) -> Result<(), LogError> {
        self.log.append(batch)
    }

    /// Makes everything appended durable, with one sync. Returns the number of the last durable batch, for
    /// [`pairline_group::HostInput::Synced`]. An error is final: end the process.
    pub fn sync(&mut self) -> Result<u64, LogError> {
        self.log.sync()
    }

    /// Writes the sync mark; call when there is nothing else to do, and before a clean end. Cheap if none is due.
    pub fn idle(&mut self) -> Result<(), LogError> {
        self.log.mark()
    }

    /// Log items of a group up to and including `through` are no longer needed; call only once a checkpoint covers them.
    pub fn purge(&mut self, group: GroupId, through: u64) -> Result<(), LogError> {
        self.log.purge(group, through)
    }

    /// Frees the log's space: call after purges, off the hot path. Syncs.
    pub fn collect(&mut self) -> Result<(), LogError> {
        self.log.collect()
    }

    /// Makes a group's log void, durably: the first half of forgetting it. Its word is final: a start that finds the checkpoint still
    /// there completes the rest.
    pub fn forget(&mut self, group: GroupId) -> Result<(), LogError> {
        self.log.forget(group)?;
        self.log.sync().map(|_| ())
    }

    /// Stores a divergent tail durably, for [`pairline_group::HostOutput::StoreTail`].
    pub fn store_tail(&mut self, group: GroupId, fork: Position, entries: &[Arc<Entry>]) -> Result<TailId, TailError> {
        self.tails.store(group, fork, entries)
    }

    /// The divergent tails; the handle may be used by other threads.
    pub fn tails(&self) -> &Tails {
        &self.tails
    }

    /// Size of the log.
    pub fn log_stats(&self) -> LogStats {
        self.log.stats()
    }

    /// Bytes of one group's records in the log.
    pub fn group_log_bytes(&self, group: GroupId) -> u64 {
        self.log.group_bytes(group)
    }

    /// Ends cleanly: everything durable, with its mark.
    pub fn close(mut self) -> Result<(), LogError> {
        self.log.sync()?;
        self.log.mark()?;
        self.log.sync().map(|_| ())
    }
}

/// Why a group could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Puts checkpoints and logs together per group, and leaves out what is not to be believed.
fn merge(
    stored: Vec<(GroupId, Result<GroupCheckpoint, Corruption>)>,
    recovery: LogRecovery,
) -> (Vec<RecoveredGroup>, BTreeMap<GroupId, Corruption>) {
    let mut corrupt = recovery.corrupt;
    let mut groups: BTreeMap<GroupId, RecoveredGroup> = BTreeMap::new();
    for (group, checkpoint) in stored {
        match checkpoint {
            Ok(checkpoint) => {
                groups.insert(group, RecoveredGroup { group, checkpoint: Some(checkpoint), log: Vec::new() });
            }
            Err(reason) => {
                corrupt.entry(group).or_insert(reason);
            }
        }
    }
    for (group, log) in recovery.groups {
        if log.purged > 0 && !groups.contains_key(&group) {
            corrupt.entry(group).or_insert(Corruption::CheckpointLost { purged: log.purged });
        } else if !log.records.is_empty() {
            groups.entry(group).or_insert_with(|| RecoveredGroup { group, ..RecoveredGroup::default() }).log =
                log.records;
        }
    }
    groups.retain(|group, _| !corrupt.contains_key(group));
    (groups.into_values().collect(), corrupt)
}
