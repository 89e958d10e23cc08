//! Errors of the log, and the reasons for which a group's part of it is not believed.

use crate::files::FileError;
use pairline_group::GroupId;
use std::path::PathBuf;

/// Why the log refuses.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk is full. Nothing of the refused call remains; the log can be used again once there is space.
    #[error("the disk is full: nothing of this batch was written")]
    NoSpace(#[source] FileError),
    /// A write or sync failed. Final: what is on disk is no longer known, the process must end and recover.
    #[error("the log's disk failed")]
    Failed(#[source] FileError),
    /// An earlier failure was final.
    #[error("the log refuses everything since an earlier failure: {0}")]
    Dead(Box<str>),
    /// An item whose predecessor is not in the log.
    #[error("group {group}: item {index} does not follow item {last}")]
    Gap {
        /// Which group.
        group: GroupId,
        /// The refused item.
        index: u64,
        /// The last item there is.
        last: u64,
    },
    /// An item at an index that was already purged (or 0).
    #[error("group {group}: item {index} is at or below the purged index {purged}")]
    BelowPurge {
        /// Which group.
        group: GroupId,
        /// The refused item.
        index: u64,
        /// Purged through here.
        purged: u64,
    },
    /// A payload above 8 MiB, or a batch above 256 MiB.
    #[error("group {group}: record or batch of {bytes} bytes is too large")]
    TooLarge {
        /// Which group.
        group: GroupId,
        /// How large.
        bytes: u64,
    },
    /// More than 65,536 groups.
    #[error("too many groups in one log")]
    TooManyGroups,
    /// The group's log was found corrupt at start; it takes nothing until it is forgotten.
    #[error("group {0} was found corrupt and has not been forgotten")]
    Corrupt(GroupId),
}

/// Why a log cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// A file operation failed.
    #[error("cannot open the log")]
    Files(#[from] FileError),
    /// Written by a later build.
    #[error("{path} has log format {found}; this build reads up to {supported}")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// Ours.
        supported: u16,
    },
}

/// Why the stored data of one group is not believed: it must be resynchronised from another copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A synced record's content does not match its checksum.
    #[error("a record in segment {segment} at offset {offset} is damaged")]
    Damaged {
        /// Which segment.
        segment: u64,
        /// Where.
        offset: u64,
    },
    /// Synced records are missing.
    #[error("records {expected} to {before} of this group are missing (seen in segment {segment})")]
    Missing {
        /// Where it showed.
        segment: u64,
        /// First missing record of the group, by its serial.
        expected: u64,
        /// Last missing one.
        before: u64,
    },
    /// A damaged stretch may have held records of this group, and nothing proves that it did not.
    #[error("segment {segment} is damaged at offset {offset}, where this group may have had records")]
    Unproven {
        /// Which segment.
        segment: u64,
        /// Where.
        offset: u64,
    },
    /// Items do not follow one another.
    #[error("item {expected} of the consensus log is missing")]
    Hole {
        /// The missing index.
        expected: u64,
    },
    /// Log items were purged for a checkpoint that is not there.
    #[error("the log starts after item {purged}, and the checkpoint that held the state before is gone")]
    CheckpointLost {
        /// Purged through here.
        purged: u64,
    },
    /// The group's rows in the checkpoint do not match their checksums.
    #[error("the checkpoint of this group is damaged: {reason}")]
    CheckpointDamaged {
        /// What does not match.
        reason: &'static str,
    },
}
