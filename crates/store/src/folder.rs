//! The data folder: whose it is, which format it has, and that only one process uses it.
//!
//! Owns the `format` file and the lock. Checks before it touches anything.

use crate::files::{FileError, FileLayer, FileLock, OpenMode, read_all, write_atomically};
use std::path::{Path, PathBuf};

/// Version of the folder's layout that this build writes, and the highest that it reads.
pub const FORMAT: u32 = 1;
/// Name of the format file.
pub const FORMAT_FILE: &str = "format";
/// Name of the lock file.
pub const LOCK_FILE: &str = "lock";

const INTRODUCTION: &str = "pairline-store";

/// Why a data folder is refused. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It has content and no format file of ours.
    #[error("{path} is not empty and not a Pairline data folder; nothing was changed")]
    Foreign {
        /// Which folder.
        path: PathBuf,
    },
    /// Written by a later build.
    #[error("{path} has data format {found}; this build reads up to {supported}; nothing was changed")]
    Newer {
        /// Which folder.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// Another process uses it.
    #[error("{path} is in use by another Pairline process")]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot use the data folder")]
    Files(#[from] FileError),
}

/// What a folder is, found without touching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// Not there, or empty.
    Fresh,
    /// A data folder of a format that this build reads.
    Ours,
}

/// Content of the format file.
fn format_text(version: u32) -> String {
    format!("{INTRODUCTION} {version}\n")
}

fn parse_format(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    text.strip_prefix(INTRODUCTION)?.strip_prefix(' ')?.trim_end().parse().ok()
}

/// Looks at a folder without changing it.
pub fn inspect(files: &dyn FileLayer, folder: &Path) -> Result<FolderState, FolderError> {
    let names = match files.list(folder) {
        Err(FileError::NotFound { .. }) => return Ok(FolderState::Fresh),
        other => other?,
    };
    if !names.iter().any(|name| name == FORMAT_FILE) {
        // A start that was interrupted before its first file leaves these.
        let ours = |name: &String| name == LOCK_FILE || name == "format.tmp";
        return if names.iter().all(ours) {
            Ok(FolderState::Fresh)
        } else {
            Err(FolderError::Foreign { path: folder.to_path_buf() })
        };
    }
    let path = folder.join(FORMAT_FILE);
    let text = read_all(files.open(&path, OpenMode::Read)?.as_ref(), &path, 4096)?;
    match parse_format(&text) {
        Some(found) if found > FORMAT => {
            Err(FolderError::Newer { path: folder.to_path_buf(), found, supported: FORMAT })
        }
        Some(found) if found > 0 => Ok(FolderState::Ours),
        _ => Err(FolderError::Foreign { path: folder.to_path_buf() }),
    }
}

/// Checks and locks a folder, and writes the format file into a fresh one. True if it was fresh.
pub(crate) fn claim(files: &dyn FileLayer, folder: &Path) -> Result<(Box<dyn FileLock>, bool), FolderError> {
    inspect(files, folder)?;
    files.create_dir(folder)?;
    let lock = match files.lock(&folder.join(LOCK_FILE)) {
        Err(FileError::Locked { .. }) => {
            return Err(FolderError::InUse { path: folder.to_path_buf() });
        }
        other => other?,
    };
    // Again, now that nobody else can change it.
    let fresh = inspect(files, folder)? == FolderState::Fresh;
    if fresh {
        write_atomically(files, &folder.join(FORMAT_FILE), format_text(FORMAT).as_bytes())?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            files.sync_dir(parent)?;
        }
    }
    Ok((lock, fresh))
}
