//! Files that hold keys and certificates: written whole or not at all, private ones readable by their owner only.
//!
//! Owns how such files reach the disk. Does not own their content.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file that is read here; keys, certificates and secrets are far smaller.
const LARGEST: u64 = 1 << 20;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// Larger than any such file may be.
    #[error("{0} is larger than 1 MiB and so is not what it should be")]
    TooLarge(PathBuf),
    /// Others may read a file that holds secrets.
    #[error("{path} may be read by others (mode {mode:o}); make it private: chmod 600 {path}")]
    NotPrivate {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { what, path, source }
}

/// Writes a file with mode 0600 by way of a temporary file in the same folder, synced before it takes the name.
///
/// # Errors
/// Those of the file system; the old content stays then.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, 0o600)
}

/// As [`write_private`], but readable by all (certificates).
///
/// # Errors
/// As [`write_private`].
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, 0o644)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io("cannot create folder", folder))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("cannot replace", &temporary)(e)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(io("cannot create", &temporary))?;
    file.write_all(content).map_err(io("cannot write", &temporary))?;
    file.sync_all().map_err(io("cannot sync", &temporary))?;
    fs::rename(&temporary, path).map_err(io("cannot rename to", path))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(io("cannot sync folder", folder))
}

/// Reads a small file.
///
/// # Errors
/// Those of the file system, and [`FileError::TooLarge`].
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(io("cannot open", path))?;
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(io("cannot read", path))?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(content)
}

/// Reads a small file that holds secrets, and refuses it if others may read it.
///
/// # Errors
/// As [`read`], and [`FileError::NotPrivate`].
pub fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let mode = fs::metadata(path).map_err(io("cannot open", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode });
    }
    read(path)
}
