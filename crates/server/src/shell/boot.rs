//! The start number of this server's process: rises at each start, durably before anything uses it.
//!
//! Owns the file `boot` in the server's data folder: one line, format version and number. In an empty folder it begins with the time in
//! seconds: a folder that was emptied must not count again what was counted before, or what its server once told of its connections would be
//! taken for what is open now.

use crate::tls::files::{self, FileError};
use std::path::Path;

/// Why there is no start number.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what this or an earlier build wrote.
    #[error("the file `boot` in the data folder is not readable by this build; it holds \"1 <number>\"")]
    Malformed,
}

/// Takes the next start number.
///
/// # Errors
/// [`BootError`].
pub fn next(folder: &Path) -> Result<u64, BootError> {
    let path = folder.join("boot");
    let last = if path.exists() {
        let content = files::read(&path)?;
        let text = std::str::from_utf8(&content).map_err(|_| BootError::Malformed)?;
        let number = text.trim_end().strip_prefix("1 ").ok_or(BootError::Malformed)?;
        number.parse().map_err(|_| BootError::Malformed)?
    } else {
        super::clock::wall_millis() / 1_000
    };
    let next = last.saturating_add(1);
    files::write_private(&path, format!("1 {next}\n").as_bytes())?;
    Ok(next)
}
