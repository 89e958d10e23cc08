//! The port to the file system: the few operations that stored formats need, each with its durability spelled out.
//!
//! Owns the traits and their errors. Adapters: [`RealFiles`] (the operating system) and [`MemoryFiles`] (a simulated disk
//! with faults). Knows no format.

mod direct;
mod memory;
mod real;

pub use memory::{DiskImage, Fault, MemoryFiles};
pub use real::RealFiles;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No such file or directory.
    #[error("{path} is not there")]
    NotFound {
        /// Which.
        path: PathBuf,
    },
    /// A file to be created exists already.
    #[error("{path} exists already")]
    AlreadyExists {
        /// Which.
        path: PathBuf,
    },
    /// The disk (or the quota) is full.
    #[error("no space left on the disk: cannot {op} {path}")]
    NoSpace {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("{path} is locked by another process")]
    Locked {
        /// Which lock file.
        path: PathBuf,
    },
    /// The simulated machine has lost its power: nothing works until it is started again.
    #[error("the disk is gone (power cut)")]
    Cut,
    /// Anything else that the operating system reports.
    #[error("cannot {op} {path}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    /// Sorts an error of the system into the cases that callers tell apart.
    pub fn from_io(op: &'static str, path: &Path, source: io::Error) -> FileError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => FileError::NotFound { path },
            io::ErrorKind::AlreadyExists => FileError::AlreadyExists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::NoSpace { op, path },
            _ => FileError::Io { op, path, source },
        }
    }

    /// Whether the cause is a full disk.
    pub fn is_no_space(&self) -> bool {
        matches!(self, FileError::NoSpace { .. })
    }

    /// The same as an [`io::Error`], for libraries that want one.
    pub fn into_io(self) -> io::Error {
        match self {
            FileError::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, self),
            FileError::AlreadyExists { .. } => io::Error::new(io::ErrorKind::AlreadyExists, self),
            FileError::NoSpace { .. } => io::Error::new(io::ErrorKind::StorageFull, self),
            FileError::Locked { .. } => io::Error::new(io::ErrorKind::WouldBlock, self),
            FileError::Cut => io::Error::new(io::ErrorKind::BrokenPipe, self),
            FileError::Io { source, .. } => source,
        }
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; fails if it exists.
    CreateNew,
    /// As [`OpenMode::CreateNew`], for a file that is written from front to back and synced often: behind what was written last it has
    /// zeros, up to a block of 4096 bytes.
    CreateLog,
    /// For reading and writing; created empty if absent.
    CreateOrWrite,
}

/// A held lock; dropping it (or the end of the process) releases it.
pub trait FileLock: Debug + Send + Sync {}

/// The directory operations. What they do is durable only after [`FileLayer::sync_dir`] of the parent.
pub trait FileLayer: Debug + Send + Sync {
    /// Creates a directory and its parents; no error if it exists.
    fn create_dir(&self, path: &Path) -> Result<(), FileError>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn OpenFile>, FileError>;
    /// Names of the entries of a directory, sorted; `NotFound` if there is no such directory.
    fn list(&self, path: &Path) -> Result<Vec<String>, FileError>;
    /// Renames a file over any other of that name, atomically.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<(), FileError>;
    /// Makes creations, renames and removals in this directory durable.
    fn sync_dir(&self, path: &Path) -> Result<(), FileError>;
    /// Takes an exclusive lock on a file (created if absent) without waiting; `Locked` if another holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError>;
}

/// An open file. What is written is durable only after [`OpenFile::sync_data`] returned without an error; after a failed
/// sync nothing written since the last good one may be believed.
pub trait OpenFile: Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Result<u64, FileError>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool, FileError> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; an error if the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), FileError>;
    /// Writes all of `data` at `offset`, growing the file if needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), FileError>;
    /// Writes all of `data` after the last byte.
    fn append(&self, data: &[u8]) -> Result<(), FileError> {
        self.write_at(self.len()?, data)
    }
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len: u64) -> Result<(), FileError>;
    /// Reserves space up to `len` (reads as zeros), so that later writes below it cannot run out of space.
    fn allocate(&self, len: u64) -> Result<(), FileError>;
    /// Makes data and length durable.
    fn sync_data(&self) -> Result<(), FileError>;
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_all(file: &dyn OpenFile, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let len = file.len()?;
    let size = usize::try_from(len.min(limit)).unwrap_or(usize::MAX);
    if len > limit {
        let source = io::Error::new(io::ErrorKind::InvalidData, "file is larger than anything written here");
        return Err(FileError::Io { op: "read", path: path.to_path_buf(), source });
    }
    let mut bytes = vec![0; size];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Writes a file so that after a crash either the old content or all of the new is there: temporary, sync, rename, sync.
pub(crate) fn write_atomically(files: &dyn FileLayer, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = (|| {
        let file = files.open(&temporary, OpenMode::CreateOrWrite)?;
        file.set_len(0)?;
        file.write_at(0, bytes)?;
        file.sync_data()
    })();
    if let Err(error) = written {
        // The leftover is harmless (never read), but on a full disk it would hold space; the first error is what counts.
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files.rename(&temporary, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new("")))
}
