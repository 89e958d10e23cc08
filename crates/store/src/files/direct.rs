//! A file that is written from front to back past the system's cache.
//!
//! Owns the alignment that such writes need, and the zeros that are written ahead so that a sync has no metadata to write. A write
//! and its sync cost a third of the processor time that they cost through the cache. Where the file system takes no such writes, they go
//! through the cache. Does not own what is written.

use super::real::RealFile;
use super::{FileError, OpenFile};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes begin and end at multiples of this many bytes: what any disk asks for.
const BLOCK: usize = 4096;
/// Zeros are written up to the next multiple of this, where space is reserved.
const AHEAD: u64 = 1 << 20;

/// A new file. Behind the end of the last write it has zeros, up to a block; so a write in front of what was written last loses what
/// follows within its last block.
#[derive(Debug)]
pub(super) struct DirectFile {
    /// The same file through the cache: for reading, and for whatever else is no write.
    cached: RealFile,
    direct: File,
    tail: Mutex<Tail>,
}

/// What is known of the end of the file.
#[derive(Debug, Default)]
struct Tail {
    /// Where the last write ended.
    end: u64,
    /// The part of the block before `end` that is written again with it, and room for more.
    blocks: Blocks,
    /// Up to here there are written zeros at least.
    filled: u64,
    /// Up to here space is reserved.
    reserved: u64,
    /// The file system does not take such writes.
    plain: bool,
}

/// Bytes at an aligned place in memory.
#[derive(Debug, Default)]
struct Blocks {
    memory: Vec<u8>,
    from: usize,
}

impl Blocks {
    /// So many bytes, the first `kept` of them as they were.
    fn with(&mut self, len: usize, kept: usize) -> &mut [u8] {
        if self.memory.len() < self.from + len {
            let mut memory = vec![0; len + BLOCK];
            let from = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
            memory[from..from + kept].copy_from_slice(&self.memory[self.from..self.from + kept]);
            (self.memory, self.from) = (memory, from);
        }
        &mut self.memory[self.from..self.from + len]
    }
}

/// Splits an offset into the start of its block and what is before it in the block.
fn split(offset: u64) -> (u64, usize) {
    let within = offset % BLOCK as u64;
    // Less than a block.
    (offset - within, usize::try_from(within).unwrap_or(0))
}

impl DirectFile {
    pub(super) fn new(cached: RealFile, direct: File) -> DirectFile {
        DirectFile { cached, direct, tail: Mutex::default() }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, tail: &mut Tail, offset: u64, data: &[u8]) -> Result<(), FileError> {
        let (start, before) = split(offset);
        if tail.end != offset && before > 0 {
            let mut head = vec![0; before];
            self.cached.read_at(start, &mut head)?;
            tail.blocks.with(before, 0).copy_from_slice(&head);
        }
        let end = offset + data.len() as u64;
        let whole = end.next_multiple_of(BLOCK as u64);
        let zeros_to = if end > tail.filled { end.next_multiple_of(AHEAD).min(tail.reserved) } else { 0 };
        let (_, beyond) = split(zeros_to);
        let to = whole.max(zeros_to - beyond as u64);
        let len = usize::try_from(to - start).map_err(|_| self.cached.error("write", too_large()))?;
        let bytes = tail.blocks.with(len, before);
        bytes[before..before + data.len()].copy_from_slice(data);
        bytes[before + data.len()..].fill(0);
        // Until it is known to be there, nothing is known of the end.
        tail.end = u64::MAX;
        self.direct
            .write_all_at(&tail.blocks.memory[tail.blocks.from..][..len], start)
            .map_err(|e| self.cached.error("write", e))?;
        let (last, rest) = split(end);
        let last = usize::try_from(last - start).unwrap_or(0);
        tail.blocks.with(len, len).copy_within(last..last + rest, 0);
        tail.end = end;
        tail.filled = tail.filled.max(to);
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "larger than memory")
}

/// What a file system says that does not take writes past the cache, or not with this alignment.
fn is_refusal(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput)
}

impl OpenFile for DirectFile {
    fn len(&self) -> Result<u64, FileError> {
        self.cached.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), FileError> {
        self.cached.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        let mut tail = self.tail();
        if !tail.plain {
            match self.write(&mut tail, offset, data) {
                Err(error) if is_refusal(&error) => tail.plain = true,
                done => return done,
            }
        }
        self.cached.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> Result<(), FileError> {
        let mut tail = self.tail();
        tail.end = u64::MAX;
        tail.filled = tail.filled.min(len);
        tail.reserved = tail.reserved.min(len);
        self.cached.set_len(len)
    }

    fn allocate(&self, len: u64) -> Result<(), FileError> {
        let reserved = self.cached.reserve(len)?;
        if reserved {
            self.tail().reserved = len;
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), FileError> {
        self.cached.sync_data()
    }
}
