//! Lets the database library work on a file of the file layer, so that it runs on the simulated disk, too.
//!
//! Owns the translation of calls and errors, and remembers a failed sync.

use crate::files::OpenFile;
use redb::StorageBackend;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One open file as the database's storage.
#[derive(Debug)]
pub(super) struct Backend {
    pub file: Box<dyn OpenFile>,
    /// Set once a sync has failed: what is on disk is no longer known.
    pub sync_failed: Arc<AtomicBool>,
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len().map_err(|error| error.into_io())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read_at(offset, out).map_err(|error| error.into_io())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len).map_err(|error| error.into_io())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.file.sync_data().map_err(|error| {
            self.sync_failed.store(true, Ordering::Relaxed);
            error.into_io()
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.file.write_at(offset, data).map_err(|error| error.into_io())
    }
}
