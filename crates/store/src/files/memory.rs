//! A simulated disk: remembers what was written and what was synced, and fails on order.
//!
//! Owns the crash model. At a crash every unsynced write is kept, dropped or torn at sector (now and then byte) borders, each
//! on its own, so that later writes may survive earlier ones; of unsynced directory operations a prefix survives (ordered
//! journal). Directories themselves are durable once created. Deterministic: all chance comes from the seed given.

use super::{FileError, FileLayer, FileLock, OpenFile, OpenMode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: u64 = 512;

/// A fault to be met by one later operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A write (or resize, or reservation) reports an I/O error; nothing of it happens.
    WriteIo,
    /// A write (or resize, or reservation) reports a full disk; half of a write may have happened.
    WriteNoSpace,
    /// A sync of a file reports an I/O error, and what it should have written never reaches the disk.
    SyncIo,
    /// A read reports an I/O error.
    ReadIo,
}

#[derive(Clone, Debug)]
enum FileOp {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug)]
enum NameOp {
    Link { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
}

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<FileOp>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameOp>,
    inodes: BTreeMap<u64, Inode>,
    open: BTreeMap<u64, u32>,
    next_inode: u64,
    locks: BTreeSet<PathBuf>,
    generation: u64,
    operations: u64,
    cut_at: Option<u64>,
    cut: bool,
    faults: BTreeMap<Fault, u64>,
    capacity: Option<u64>,
}

/// What a whole disk holds durably, to be put back later (an old image restored, a disk swapped).
#[derive(Clone, Debug, Default)]
pub struct DiskImage {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// The simulated disk of one server; clones are handles to the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryFiles {
    /// An empty disk without faults.
    pub fn new() -> MemoryFiles {
        MemoryFiles::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // A panic elsewhere does not make plain data unusable.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses the power and starts again. Open files and locks are gone; of what was not synced, `seed` decides what is left
    /// (0: nothing). Faults and a pending cut are cleared; the capacity stays.
    pub fn crash(&self, seed: u64) {
        self.disk().crash(seed);
    }

    /// The process dies, the machine does not: open files and locks are gone, everything written is still there.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.reset_process();
    }

    /// Mutating operations so far (writes, resizes, reservations, syncs, directory changes).
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Cuts the power at the `nth` mutating operation from now (1 = the next): it may happen in part, it and all later ones
    /// report [`FileError::Cut`], until [`MemoryFiles::crash`].
    pub fn cut_after(&self, nth: u64) {
        let mut disk = self.disk();
        disk.cut_at = Some(disk.operations.saturating_add(nth.max(1)));
    }

    /// Lets the `nth` operation of that kind from now fail, once (1 = the next).
    pub fn arm(&self, fault: Fault, nth: u64) {
        self.disk().faults.insert(fault, nth.max(1));
    }

    /// Clears armed faults.
    pub fn disarm(&self) {
        self.disk().faults.clear();
    }

    /// Limits the sum of all file lengths, in bytes; `None` = no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Sum of all file lengths, in bytes.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// What would be there if the power went now and nothing unsynced survived.
    pub fn image(&self) -> DiskImage {
        let disk = self.disk();
        let mut files = BTreeMap::new();
        for (path, inode) in &disk.durable_names {
            if let Some(inode) = disk.inodes.get(inode) {
                files.insert(path.clone(), inode.synced.clone());
            }
        }
        DiskImage { directories: disk.directories.clone(), files }
    }

    /// Puts an image in place of everything (also an empty one: the disk is wiped). Open files and locks are gone.
    pub fn restore(&self, image: &DiskImage) {
        let mut disk = self.disk();
        disk.reset_process();
        disk.directories = image.directories.clone();
        disk.names.clear();
        disk.pending_names.clear();
        disk.inodes.clear();
        for (path, bytes) in &image.files {
            let inode = disk.next_inode;
            disk.next_inode += 1;
            disk.inodes.insert(inode, Inode { current: bytes.clone(), synced: bytes.clone(), pending: Vec::new() });
            disk.names.insert(path.clone(), inode);
        }
        disk.durable_names = disk.names.clone();
    }

    /// Changes the bytes of a stored file behind everyone's back (rot, truncation, misdirected writes). False if absent.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut disk = self.disk();
        let Some(inode) = disk.names.get(path).copied() else {
            return false;
        };
        let Some(inode) = disk.inodes.get_mut(&inode) else {
            return false;
        };
        change(&mut inode.current);
        inode.synced = inode.current.clone();
        inode.pending.clear();
        true
    }

    /// The present content of a file, synced or not.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let inode = disk.names.get(path)?;
        Some(disk.inodes.get(inode)?.current.clone())
    }

    /// All files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }
}

/// A small deterministic generator (SplitMix64), so that a crash is a function of its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits the memory that holds it")
}

fn apply_write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = index(offset);
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

fn apply(bytes: &mut Vec<u8>, op: &FileOp) {
    match op {
        FileOp::Write { offset, data } => apply_write(bytes, *offset, data),
        FileOp::SetLen(len) => bytes.resize(index(*len), 0),
    }
}

/// Keeps each sector of a write or not; of one in eight kept sectors only the first bytes.
fn apply_torn(bytes: &mut Vec<u8>, offset: u64, data: &[u8], chance: &mut Chance) {
    let mut at = 0_usize;
    while at < data.len() {
        let absolute = offset + at as u64;
        let room = index(SECTOR - absolute % SECTOR).min(data.len() - at);
        if chance.below(2) == 0 {
            let kept = if chance.below(8) == 0 { index(chance.below(room as u64)) } else { room };
            if kept > 0 {
                apply_write(bytes, absolute, &data[at..at + kept]);
            }
        }
        at += room;
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, u64>, op: &NameOp) {
    match op {
        NameOp::Link { path, inode } => {
            names.insert(path.clone(), *inode);
        }
        NameOp::Rename { from, to } => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameOp::Unlink { path } => {
            names.remove(path);
        }
    }
}

fn in_directory(op: &NameOp, directory: &Path) -> bool {
    let (NameOp::Link { path, .. } | NameOp::Unlink { path } | NameOp::Rename { to: path, .. }) = op;
    path.parent() == Some(directory)
}

impl Disk {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(|inode| inode.current.len() as u64).sum()
    }

    fn reset_process(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.open.clear();
        self.faults.clear();
        self.cut_at = None;
        self.cut = false;
        self.drop_unreachable();
    }

    fn crash(&mut self, seed: u64) {
        let mut chance = Chance(seed);
        let kept = if seed == 0 { 0 } else { index(chance.below(self.pending_names.len() as u64 + 1)) };
        let ops = std::mem::take(&mut self.pending_names);
        for op in &ops[..kept] {
            apply_name(&mut self.durable_names, op);
        }
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            for op in std::mem::take(&mut inode.pending) {
                match (if seed == 0 { 0 } else { chance.below(4) }, &op) {
                    (0, _) => {}
                    (3, FileOp::Write { offset, data }) => apply_torn(&mut inode.synced, *offset, data, &mut chance),
                    _ => apply(&mut inode.synced, &op),
                }
            }
            inode.current = inode.synced.clone();
        }
        self.reset_process();
    }

    /// Frees what no name and no open file refers to.
    fn drop_unreachable(&mut self) {
        let mut used: BTreeSet<u64> = self.names.values().chain(self.durable_names.values()).copied().collect();
        used.extend(self.open.keys());
        for op in &self.pending_names {
            if let NameOp::Link { inode, .. } = op {
                used.insert(*inode);
            }
        }
        self.inodes.retain(|inode, _| used.contains(inode));
    }

    /// Counts a mutating operation; true if the power goes in the middle of it.
    fn step(&mut self) -> Result<bool, FileError> {
        if self.cut {
            return Err(FileError::Cut);
        }
        self.operations += 1;
        self.cut = self.cut_at == Some(self.operations);
        Ok(self.cut)
    }

    /// Whether an armed fault strikes now.
    fn strikes(&mut self, fault: Fault) -> bool {
        match self.faults.get_mut(&fault) {
            Some(1) => {
                self.faults.remove(&fault);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn name_op(&mut self, op: NameOp) -> Result<(), FileError> {
        let cut = self.step()?;
        apply_name(&mut self.names, &op);
        self.pending_names.push(op);
        if cut { Err(FileError::Cut) } else { Ok(()) }
    }

    /// One write-like operation on a file that would end at `end`, with its faults.
    fn file_op(&mut self, inode: u64, path: &Path, op: FileOp, name: &'static str) -> Result<(), FileError> {
        let cut = self.step()?;
        if self.strikes(Fault::WriteIo) {
            return Err(injected(name, path));
        }
        let armed = self.strikes(Fault::WriteNoSpace);
        let used = if self.capacity.is_some() { self.used() } else { 0 };
        let (capacity, file) = (self.capacity, self.inodes.entry(inode).or_default());
        let end = match &op {
            FileOp::Write { offset, data } => offset.saturating_add(data.len() as u64),
            FileOp::SetLen(len) => *len,
        };
        let growth = end.saturating_sub(file.current.len() as u64);
        let full = capacity.is_some_and(|limit| growth > 0 && used.saturating_add(growth) > limit);
        if armed || full {
            if let FileOp::Write { offset, data } = op {
                let excess = capacity.map_or(0, |limit| used.saturating_add(growth).saturating_sub(limit));
                let len = data.len() as u64;
                let fits = if full { len.saturating_sub(excess) } else { len / 2 };
                let half = FileOp::Write { offset, data: data[..index(fits)].to_vec() };
                apply(&mut file.current, &half);
                file.pending.push(half);
            }
            return Err(FileError::NoSpace { op: name, path: path.to_path_buf() });
        }
        apply(&mut file.current, &op);
        file.pending.push(op);
        if cut { Err(FileError::Cut) } else { Ok(()) }
    }

    fn sync(&mut self, inode: u64, path: &Path) -> Result<(), FileError> {
        if self.step()? {
            return Err(FileError::Cut);
        }
        let failed = self.strikes(Fault::SyncIo);
        let file = self.inodes.entry(inode).or_default();
        let pending = std::mem::take(&mut file.pending);
        if failed {
            // As real systems do: the pages are marked clean, readers still see them, the disk never gets them.
            return Err(injected("sync", path));
        }
        for op in &pending {
            apply(&mut file.synced, op);
        }
        Ok(())
    }
}

fn injected(op: &'static str, path: &Path) -> FileError {
    FileError::Io { op, path: path.to_path_buf(), source: io::Error::other("injected I/O error") }
}

#[derive(Debug)]
struct MemoryFile {
    files: MemoryFiles,
    path: PathBuf,
    inode: u64,
    generation: u64,
}

impl MemoryFile {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, FileError> {
        let disk = self.files.disk();
        if disk.cut || disk.generation != self.generation { Err(FileError::Cut) } else { Ok(disk) }
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.generation != self.generation {
            return;
        }
        if let Some(count) = disk.open.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                disk.open.remove(&self.inode);
                disk.drop_unreachable();
            }
        }
    }
}

impl OpenFile for MemoryFile {
    fn len(&self) -> Result<u64, FileError> {
        Ok(self.disk()?.inodes.get(&self.inode).map_or(0, |inode| inode.current.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), FileError> {
        let mut disk = self.disk()?;
        if disk.strikes(Fault::ReadIo) {
            return Err(injected("read", &self.path));
        }
        let bytes = disk.inodes.get(&self.inode).map_or(&[][..], |inode| inode.current.as_slice());
        let start = index(offset);
        match bytes.get(start..start.saturating_add(out.len())) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => {
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, "file ends before");
                Err(FileError::from_io("read", &self.path, source))
            }
        }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        self.disk()?.file_op(self.inode, &self.path, FileOp::Write { offset, data: data.to_vec() }, "write")
    }

    fn set_len(&self, len: u64) -> Result<(), FileError> {
        self.disk()?.file_op(self.inode, &self.path, FileOp::SetLen(len), "resize")
    }

    fn allocate(&self, len: u64) -> Result<(), FileError> {
        let target = len.max(self.len()?);
        self.disk()?.file_op(self.inode, &self.path, FileOp::SetLen(target), "reserve space for")
    }

    fn sync_data(&self) -> Result<(), FileError> {
        self.disk()?.sync(self.inode, &self.path)
    }
}

#[derive(Debug)]
struct MemoryLock {
    files: MemoryFiles,
    path: PathBuf,
    generation: u64,
}

impl FileLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.generation == self.generation {
            disk.locks.remove(&self.path);
        }
    }
}

impl MemoryFiles {
    fn handle(&self, disk: &mut Disk, path: &Path, inode: u64) -> Box<dyn OpenFile> {
        *disk.open.entry(inode).or_default() += 1;
        let generation = disk.generation;
        Box::new(MemoryFile { files: self.clone(), path: path.to_path_buf(), inode, generation })
    }

    fn create(disk: &mut Disk, path: &Path) -> Result<u64, FileError> {
        if !path.parent().is_none_or(|parent| disk.directories.contains(parent) || parent.as_os_str().is_empty()) {
            return Err(FileError::NotFound { path: path.to_path_buf() });
        }
        let inode = disk.next_inode;
        disk.next_inode += 1;
        disk.inodes.insert(inode, Inode::default());
        disk.name_op(NameOp::Link { path: path.to_path_buf(), inode })?;
        Ok(inode)
    }
}

impl FileLayer for MemoryFiles {
    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        let mut disk = self.disk();
        if disk.cut {
            return Err(FileError::Cut);
        }
        for directory in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            disk.directories.insert(directory.to_path_buf());
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Box<dyn OpenFile>, FileError> {
        let mut disk = self.disk();
        if disk.cut {
            return Err(FileError::Cut);
        }
        let found = disk.names.get(path).copied();
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew | OpenMode::CreateLog) => {
                return Err(FileError::AlreadyExists { path: path.to_path_buf() });
            }
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::Write) => {
                return Err(FileError::NotFound { path: path.to_path_buf() });
            }
            (None, OpenMode::CreateNew | OpenMode::CreateLog | OpenMode::CreateOrWrite) => {
                MemoryFiles::create(&mut disk, path)?
            }
        };
        Ok(self.handle(&mut disk, path, inode))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>, FileError> {
        let disk = self.disk();
        if disk.cut {
            return Err(FileError::Cut);
        }
        if !disk.directories.contains(path) {
            return Err(FileError::NotFound { path: path.to_path_buf() });
        }
        let entries = disk.names.keys().chain(&disk.directories).filter(|entry| entry.parent() == Some(path));
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let mut disk = self.disk();
        if !disk.names.contains_key(from) {
            return Err(FileError::NotFound { path: from.to_path_buf() });
        }
        disk.name_op(NameOp::Rename { from: from.to_path_buf(), to: to.to_path_buf() })
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(FileError::NotFound { path: path.to_path_buf() });
        }
        disk.name_op(NameOp::Unlink { path: path.to_path_buf() })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FileError> {
        let mut disk = self.disk();
        if disk.step()? {
            return Err(FileError::Cut);
        }
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut disk.pending_names).into_iter().partition(|op| in_directory(op, path));
        for op in &now {
            apply_name(&mut disk.durable_names, op);
        }
        disk.pending_names = later;
        disk.drop_unreachable();
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>, FileError> {
        let mut disk = self.disk();
        if disk.cut {
            return Err(FileError::Cut);
        }
        if !disk.locks.insert(path.to_path_buf()) {
            return Err(FileError::Locked { path: path.to_path_buf() });
        }
        if !disk.names.contains_key(path) {
            MemoryFiles::create(&mut disk, path)?;
        }
        let generation = disk.generation;
        Ok(Box::new(MemoryLock { files: self.clone(), path: path.to_path_buf(), generation }))
    }
}
