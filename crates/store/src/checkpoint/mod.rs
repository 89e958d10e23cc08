//! Checkpoints: the state of every group as of some moment, so that the log before it may go.
//!
//! Owns the port and its errors. Adapters: [`RedbCheckpoints`] (a database file) and [`MemoryCheckpoints`]. Never knows what
//! `meta` means or when a checkpoint is due.

mod backend;
mod memory;
mod redb;
mod row;

pub use self::redb::{MAX_ATTEMPTS, RedbCheckpoints, Unopenable};
pub use memory::MemoryCheckpoints;

use crate::files::FileError;
use crate::log::Corruption;
use pairline_group::GroupId;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint};
use std::fmt::Debug;
use std::path::PathBuf;

/// Why a checkpoint operation failed. Nothing of a failed write is there.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file operation around the database failed.
    #[error("cannot open the checkpoint")]
    Files(#[from] FileError),
    /// Written by a later build (or by an incompatible one of the database library); nothing was changed.
    #[error("{path} has checkpoint format {found}; this build reads up to {supported}")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The disk is full; the checkpoint before this one is still there, and a later write may succeed.
    #[error("the disk is full: the checkpoint was not written")]
    NoSpace(#[source] Box<::redb::Error>),
    /// The database failed.
    #[error("the checkpoint's database failed")]
    Database(#[source] Box<::redb::Error>),
    /// A sync failed before. Final: the process must end and recover.
    #[error("the checkpoint refuses everything since a failed sync")]
    Dead,
    /// A key or value beyond the limits (owner and item 512 bytes each, value 8 MiB).
    #[error("group {group}: a record of the checkpoint is too large")]
    TooLarge {
        /// Which group.
        group: GroupId,
    },
}

/// All groups' checkpoints as read; a group whose rows are damaged has the reason instead.
pub type AllCheckpoints = Vec<(GroupId, Result<GroupCheckpoint, Corruption>)>;

/// The port: one durable transaction per checkpoint.
pub trait CheckpointStore: Debug + Send {
    /// Writes the changes of all groups in one durable transaction.
    fn write(&mut self, deltas: &[CheckpointDelta]) -> Result<(), CheckpointError>;
    /// Removes everything of a group, durably.
    fn forget(&mut self, group: GroupId) -> Result<(), CheckpointError>;
    /// Reads one group; `None` if it has no checkpoint.
    fn read(&mut self, group: GroupId) -> Result<Option<Result<GroupCheckpoint, Corruption>>, CheckpointError>;
    /// Reads all groups, ordered.
    fn read_all(&mut self) -> Result<AllCheckpoints, CheckpointError>;
}
