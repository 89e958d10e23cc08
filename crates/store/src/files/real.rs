//! The file layer of the operating system.
//!
//! Owns the mapping to `std::fs`, positioned reads and writes, preallocation and advisory locks. No policy.

use super::direct::DirectFile;
use super::{FileError, FileLayer, FileLock, OpenFile, OpenMode};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Files of the operating system. New files are readable by their owner only (0600), directories 0700.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

#[derive(Debug)]
pub(super) struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealFile {
    pub(super) fn error(&self, op: &'static str, error: std::io::Error) -> FileError {
        FileError::from_io(op, &self.path, error)
    }

    /// Reserves space, and says whether the file system can.
    pub(super) fn reserve(&self, len: u64) -> Result<bool, FileError> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(true),
            // Not every file system can reserve space; then a full disk shows at the write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if self.len()? < len {
                    self.set_len(len)?;
                }
                Ok(false)
            }
            Err(e) => Err(self.error("reserve space for", e.into())),
        }
    }
}

/// Holds the open file; the system releases the lock when it is closed, also after a crash.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl FileLock for RealLock {}

impl FileLayer for RealFiles {
    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| FileError::from_io("create directory", path, e))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn OpenFile>, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew | OpenMode::CreateLog => options.write(true).create_new(true),
            OpenMode::CreateOrWrite => options.write(true).create(true),
        };
        let file = options.open(path).map_err(|e| FileError::from_io("open", path, e))?;
        let file = RealFile { file, path: path.to_path_buf() };
        if mode != OpenMode::CreateLog {
            return Ok(Box::new(file));
        }
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        Ok(match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(direct) => Box::new(DirectFile::new(file, direct)),
            // Not every file system can write past the cache.
            Err(_) => Box::new(file),
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, FileError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| FileError::from_io("list", path, e))? {
            let entry = entry.map_err(|e| FileError::from_io("list", path, e))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        std::fs::rename(from, to).map_err(|e| FileError::from_io("rename", from, e))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        std::fs::remove_file(path).map_err(|e| FileError::from_io("remove", path, e))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)
            .and_then(|directory| directory.sync_all())
            .map_err(|e| FileError::from_io("sync directory", path, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| FileError::from_io("open", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(FileError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(e)) => Err(FileError::from_io("lock", path, e)),
        }
    }
}

impl OpenFile for RealFile {
    fn len(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(|e| self.error("measure", e))?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), FileError> {
        self.file.read_exact_at(out, offset).map_err(|e| self.error("read", e))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        self.file.write_all_at(data, offset).map_err(|e| self.error("write", e))
    }

    fn set_len(&self, len: u64) -> Result<(), FileError> {
        self.file.set_len(len).map_err(|e| self.error("resize", e))
    }

    fn allocate(&self, len: u64) -> Result<(), FileError> {
        self.reserve(len).map(drop)
    }

    fn sync_data(&self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|e| self.error("sync", e))
    }
}
