//! Divergent tails: entries that a fenced instance had committed and that the pair does not have. Never lost.
//!
//! Owns the files (one per group and fork, plus one with the resolutions) and their durability. Does not decide what is
//! applied and what is a conflict; it only remembers it.

mod export;
mod format;

use crate::files::{FileError, FileLayer, OpenMode, read_all, write_atomically};
use pairline_group::GroupId;
use pairline_group::entry::Entry;
use pairline_group::ids::{Epoch, PoolId, Position};
pub use pairline_group::tail::Resolution;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest tail file that is written or read, in bytes.
pub const MAX_TAIL: u64 = 4 * 1024 * 1024 * 1024;

/// Why a tail operation failed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// A file operation failed.
    #[error("cannot store or read a divergent tail")]
    Files(#[from] FileError),
    /// Written by a later build; untouched.
    #[error("{path} has tail format {found}; this build reads up to {supported}")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        supported: u8,
    },
    /// A tail file that is not what was written; untouched.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not match.
        reason: &'static str,
    },
    /// No such tail.
    #[error("group {} has no divergent tail at fork {}", .0.group, .0.fork)]
    NotFound(TailId),
    /// A mark for an entry that the tail does not have.
    #[error("the tail has {entries} entries; there is none at {position}")]
    NoSuchEntry {
        /// How many there are.
        entries: usize,
        /// The position named.
        position: Position,
    },
    /// Longer than [`MAX_TAIL`].
    #[error("a divergent tail of {bytes} bytes is too long")]
    TooLong {
        /// How long.
        bytes: u64,
    },
}

/// A tail's name: the group, and where the histories part. Several contents at one fork (a fault elsewhere) are kept apart
/// by `copy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TailId {
    /// Which group.
    pub group: GroupId,
    /// The first position of the winning epoch.
    pub fork: Position,
    /// 0 for the first content stored at this fork.
    pub copy: u16,
}

/// A tail as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailInfo {
    /// Its name.
    pub id: TailId,
    /// Entries in it.
    pub entries: u64,
    /// Entries whose resolution is open or a conflict.
    pub unsettled: u64,
    /// BLAKE3 of header and entries.
    pub digest: [u8; 32],
}

/// A tail with its entries, oldest first, and what became of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its name.
    pub id: TailId,
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// One per entry.
    pub resolutions: Vec<Resolution>,
    /// BLAKE3 of header and entries.
    pub digest: [u8; 32],
}

/// The tails of one server.
#[derive(Clone, Debug)]
pub struct Tails {
    files: Arc<dyn FileLayer>,
    folder: PathBuf,
}

impl TailId {
    fn stem(self) -> String {
        let TailId { group, fork, copy } = self;
        format!(
            "{}-{}-{}.{}-{}-{}",
            group.pool.0, group.index, fork.epoch.number, fork.epoch.granted_by.0, fork.seq, copy
        )
    }

    fn parse(stem: &str) -> Option<TailId> {
        let mut parts = stem.split(['-', '.']);
        let pool = PoolId(parts.next()?.parse().ok()?);
        let index = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        let granted_by = PoolId(parts.next()?.parse().ok()?);
        let seq = parts.next()?.parse().ok()?;
        let copy = parts.next()?.parse().ok()?;
        let fork = Position { epoch: Epoch { number, granted_by }, seq };
        Some(TailId { group: GroupId { pool, index }, fork, copy })
            .filter(|id| parts.next().is_none() && id.stem() == stem)
    }
}

impl Tails {
    /// The tails in `folder`, which is created.
    pub fn open(files: Arc<dyn FileLayer>, folder: PathBuf) -> Result<Tails, TailError> {
        files.create_dir(&folder)?;
        files.sync_dir(folder.parent().unwrap_or(Path::new("")))?;
        Ok(Tails { files, folder })
    }

    fn path(&self, id: TailId, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", id.stem()))
    }

    /// Names of all tails, by group and fork.
    pub fn list(&self) -> Result<Vec<TailId>, TailError> {
        let names = self.files.list(&self.folder)?;
        let mut ids: Vec<TailId> = names.iter().filter_map(|name| TailId::parse(name.strip_suffix(".tail")?)).collect();
        ids.sort();
        Ok(ids)
    }

    /// Stores a tail durably. The same content again is no change; other content at the same fork is kept beside it.
    pub fn store(&self, group: GroupId, fork: Position, entries: &[Arc<Entry>]) -> Result<TailId, TailError> {
        let (bytes, digest) = format::encode(group, fork, entries);
        if bytes.len() as u64 > MAX_TAIL {
            return Err(TailError::TooLong { bytes: bytes.len() as u64 });
        }
        let mut copy = 0;
        for id in self.list()?.into_iter().filter(|id| id.group == group && id.fork == fork) {
            // Only what reads back whole counts as stored.
            if self.read(id).is_ok_and(|tail| tail.digest == digest) {
                self.files.sync_dir(&self.folder)?;
                return Ok(id);
            }
            copy = id.copy.saturating_add(1);
        }
        let id = TailId { group, fork, copy };
        write_atomically(self.files.as_ref(), &self.path(id, "tail"), &bytes)?;
        Ok(id)
    }

    /// Reads one tail's header and marks; the entries stay on disk.
    pub fn info(&self, id: TailId) -> Result<TailInfo, TailError> {
        let path = self.path(id, "tail");
        let file = self.open_tail(id, &path)?;
        let mut header = vec![0; format::header_len()];
        let damaged = |reason| TailError::Damaged { path: path.clone(), reason };
        if file.len()? < header.len() as u64 {
            return Err(damaged("its header is cut off"));
        }
        file.read_at(0, &mut header)?;
        let header = format::decode_header(&header, &path)?;
        if file.len()? != header.body.saturating_add(format::header_len() as u64) {
            return Err(damaged("it has another length than it says"));
        }
        // A length that passed above bounds the count: an entry has at least its own length field.
        let count = usize::try_from(header.count).ok().filter(|count| header.body >= 4 * *count as u64);
        let count = count.ok_or(damaged("it has another number of entries than it says"))?;
        let unsettled = self.marks(id, header.digest, count)?.iter().filter(|mark| !mark.is_settled()).count() as u64;
        Ok(TailInfo { id, entries: header.count, unsettled, digest: header.digest })
    }

    fn open_tail(&self, id: TailId, path: &Path) -> Result<Box<dyn crate::files::OpenFile>, TailError> {
        match self.files.open(path, OpenMode::Read) {
            Err(FileError::NotFound { .. }) => Err(TailError::NotFound(id)),
            other => Ok(other?),
        }
    }

    fn marks(&self, id: TailId, digest: [u8; 32], count: usize) -> Result<Vec<Resolution>, TailError> {
        let path = self.path(id, "marks");
        match self.files.open(&path, OpenMode::Read) {
            Err(FileError::NotFound { .. }) => Ok(vec![Resolution::Open; count]),
            other => format::decode_marks(digest, count, &read_all(other?.as_ref(), &path, MAX_TAIL)?, &path),
        }
    }

    /// Reads a tail; its digest is checked.
    pub fn read(&self, id: TailId) -> Result<Tail, TailError> {
        let path = self.path(id, "tail");
        let bytes = read_all(self.open_tail(id, &path)?.as_ref(), &path, MAX_TAIL)?;
        let mut tail = format::decode(id, &bytes, &path)?;
        tail.resolutions = self.marks(id, tail.digest, tail.entries.len())?;
        Ok(tail)
    }

    /// All tails with an entry that waits for a decision, by group and fork, and why others could not be read.
    pub fn unsettled(&self, wanted: impl Fn(GroupId) -> bool) -> (Vec<Tail>, Vec<TailError>) {
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        let ids = self.list().unwrap_or_else(|error| {
            failed.push(error);
            Vec::new()
        });
        for id in ids.into_iter().filter(|id| wanted(id.group)) {
            // The entries of one that is settled stay on disk.
            let tail = self.info(id).and_then(|info| (info.unsettled > 0).then(|| self.read(id)).transpose());
            match tail {
                Ok(tail) => found.extend(tail),
                Err(error) => failed.push(error),
            }
        }
        (found, failed)
    }

    /// Remembers durably what became of entries, named by their position in the tail.
    pub fn resolve(&self, id: TailId, marks: &[(Position, Resolution)]) -> Result<(), TailError> {
        let mut tail = self.read(id)?;
        let places: BTreeMap<Position, usize> =
            tail.entries.iter().enumerate().map(|(at, entry)| (entry.position, at)).collect();
        for (position, resolution) in marks {
            let entries = tail.entries.len();
            let at = places.get(position).ok_or(TailError::NoSuchEntry { entries, position: *position })?;
            tail.resolutions[*at] = *resolution;
        }
        self.write_marks(&tail)
    }

    /// The same for all tails of a group at one fork; positions that one of them does not have are another's.
    pub fn resolve_at(
        &self,
        group: GroupId,
        fork: Position,
        marks: &BTreeMap<Position, Resolution>,
    ) -> Result<(), TailError> {
        for id in self.list()?.into_iter().filter(|id| id.group == group && id.fork == fork) {
            // One that cannot be read was said to be so when the tails were listed.
            let Ok(mut tail) = self.read(id) else { continue };
            let before = tail.resolutions.clone();
            for (entry, resolution) in tail.entries.iter().zip(&mut tail.resolutions) {
                *resolution = marks.get(&entry.position).copied().unwrap_or(*resolution);
            }
            if tail.resolutions != before {
                self.write_marks(&tail)?;
            }
        }
        Ok(())
    }

    fn write_marks(&self, tail: &Tail) -> Result<(), TailError> {
        let bytes = format::encode_marks(tail.digest, &tail.resolutions);
        Ok(write_atomically(self.files.as_ref(), &self.path(tail.id, "marks"), &bytes)?)
    }

    /// The tail as text: one JSON object a line, first the tail, then each entry with its resolution.
    pub fn export(&self, id: TailId) -> Result<String, TailError> {
        Ok(export::lines(&self.read(id)?))
    }
}
