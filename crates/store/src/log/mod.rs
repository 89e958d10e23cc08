//! The log of all groups of a server: one writer, one sync per batch, and what comes back after a crash.
//!
//! Owns segments, records, sync marks, purging and the rewriting of live data. It is a plain state machine over a
//! [`FileLayer`]: no thread, no clock. Never knows what a payload means.

mod collect;
mod error;
mod format;
mod index;
mod recover;
mod scan;
mod segments;

pub use error::{Corruption, LogError, LogOpenError};
pub use recover::{LogRecovery, RecoveredLog};

use crate::files::{FileError, FileLayer, OpenFile};
use format::{Head, RecordKind, SEGMENT_HEADER, encode_record, encode_touched, record_len};
use index::{Index, Place};
use pairline_group::GroupId;
use pairline_group::io::{LogBatch, LogKind, LogRecord};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest payload of one record, in bytes.
pub const MAX_RECORD: u64 = 8 * 1024 * 1024;
/// Largest batch, in bytes as stored.
pub const MAX_BATCH: u64 = 256 * 1024 * 1024;

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Length of a segment in bytes (64 MiB); a batch larger than that has a segment of its own.
    pub segment_bytes: u64,
    /// While the log is shorter than this many segments, live data is not rewritten.
    pub keep_segments: u64,
    /// Most bytes that one [`Log::collect`] rewrites.
    pub rewrite_bytes: u64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { segment_bytes: 64 * 1024 * 1024, keep_segments: 4, rewrite_bytes: 4 * 1024 * 1024 }
    }
}

/// Size of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segment files.
    pub segments: u64,
    /// Bytes written in them (preallocated space not counted).
    pub bytes: u64,
    /// Bytes of records that are still needed.
    pub live_bytes: u64,
    /// Records that are still needed.
    pub live_records: u64,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    number: u64,
    file: Box<dyn OpenFile>,
    tail: u64,
    /// Length of its header: at this tail it holds no record.
    header: u64,
}

/// The log. After [`LogError::Failed`] it refuses everything.
#[derive(Debug)]
pub struct Log {
    files: Arc<dyn FileLayer>,
    folder: PathBuf,
    config: LogConfig,
    index: Index,
    /// Lengths of the sealed segments.
    sealed: BTreeMap<u64, u64>,
    active: Active,
    /// Serials of the groups written since the last mark.
    touched: BTreeMap<GroupId, u64>,
    mark: u64,
    total: u64,
    /// Everything written is synced, and a mark may say so.
    mark_due: bool,
    unsynced: bool,
    last_batch: u64,
    synced_batch: u64,
    dead: Option<Box<str>>,
    buffer: Vec<u8>,
}

/// A record about to be written.
#[derive(Clone, Copy)]
struct Pending<'a> {
    kind: RecordKind,
    rewritten: bool,
    group: GroupId,
    term: u64,
    index: u64,
    payload: &'a [u8],
}

impl Log {
    /// Opens the log in `folder` (created if absent), replays it and begins a new segment. Changes nothing if it fails with
    /// [`LogOpenError::Newer`].
    pub fn open(
        files: Arc<dyn FileLayer>,
        folder: PathBuf,
        config: LogConfig,
    ) -> Result<(Log, LogRecovery), LogOpenError> {
        let found = segments::replay(files.as_ref(), &folder)?;
        let segments::Found { replay, last, sealed, torn_bytes, discard } = found;
        files.create_dir(&folder)?;
        let (mark, total) = (replay.mark, replay.total);
        let (mut recovery, index) = replay.finish();
        recovery.torn_bytes = torn_bytes;
        let previous = segments::settle(files.as_ref(), &folder, last, discard)?;
        let (number, previous_len) = previous.map_or((1, 0), |(number, len)| (number + 1, len));
        let header = format::SegmentHeader { segment: number, previous_len, mark, total, table: index.table() };
        let file = segments::create(files.as_ref(), &folder, &header, config.segment_bytes)?;
        let tail = header.encoded_len();
        let log = Log {
            files,
            folder,
            config,
            index,
            sealed,
            active: Active { number, file, tail, header: tail },
            touched: BTreeMap::new(),
            mark,
            total,
            mark_due: false,
            unsynced: false,
            last_batch: 0,
            synced_batch: 0,
            dead: None,
            buffer: Vec::new(),
        };
        Ok((log, recovery))
    }

    /// Fails if any segment was written by a later build. Changes nothing.
    pub fn probe(files: &dyn FileLayer, folder: &Path) -> Result<(), LogOpenError> {
        segments::probe(files, folder)
    }

    /// Treats a group as corrupt: it takes nothing, and nothing of it is deleted, until it is forgotten.
    pub fn refuse(&mut self, group: GroupId) {
        self.index.groups.entry(group).or_default().corrupt = true;
    }

    fn alive(&self) -> Result<(), LogError> {
        match &self.dead {
            Some(reason) => Err(LogError::Dead(reason.clone())),
            None => Ok(()),
        }
    }

    /// Makes an error of the file layer final.
    fn fail(&mut self, error: FileError) -> LogError {
        self.dead.get_or_insert_with(|| error.to_string().into());
        LogError::Failed(error)
    }

    /// Writes a batch, whole or not at all. It is durable only after [`Log::sync`].
    pub fn append(&mut self, batch: &LogBatch) -> Result<(), LogError> {
        self.alive()?;
        self.check(&batch.records)?;
        let pending: Vec<Pending<'_>> = batch.records.iter().map(pending).collect();
        self.write(&pending)?;
        self.last_batch = self.last_batch.max(batch.batch);
        Ok(())
    }

    /// Makes everything appended durable. Returns the number of the last batch that is.
    pub fn sync(&mut self) -> Result<u64, LogError> {
        self.alive()?;
        if self.unsynced {
            if let Err(error) = self.active.file.sync_data() {
                return Err(self.fail(error));
            }
            self.unsynced = false;
            self.mark_due = !self.touched.is_empty();
        }
        self.synced_batch = self.last_batch;
        Ok(self.synced_batch)
    }

    /// Writes the mark that says that everything is synced, if one is due. Call when idle and at the end: without it, damage
    /// to the last synced batch cannot be told from a torn write. It needs no sync.
    pub fn mark(&mut self) -> Result<(), LogError> {
        self.alive()?;
        if self.mark_due && !self.unsynced { self.write(&[]) } else { Ok(()) }
    }

    /// Items of the group up to and including `through` are no longer needed. Durable with the next sync.
    pub fn purge(&mut self, group: GroupId, through: u64) -> Result<(), LogError> {
        self.alive()?;
        let known = self.index.groups.get(&group);
        if known.is_some_and(|entry| entry.corrupt) {
            return Err(LogError::Corrupt(group));
        }
        if known.map_or(0, |entry| entry.purged) >= through {
            return Ok(());
        }
        let kind = RecordKind::Purge;
        self.write(&[Pending { kind, rewritten: false, group, term: 0, index: through, payload: &[] }])
    }

    /// Makes everything of a group void, also if it was corrupt; it may then begin anew. Durable with the next sync.
    pub fn forget(&mut self, group: GroupId) -> Result<(), LogError> {
        self.alive()?;
        let kind = RecordKind::Forget;
        self.write(&[Pending { kind, rewritten: false, group, term: 0, index: 0, payload: &[] }])
    }

    /// Size of the log.
    pub fn stats(&self) -> LogStats {
        let mut stats = LogStats {
            segments: self.sealed.len() as u64 + 1,
            bytes: self.sealed.values().sum::<u64>() + self.active.tail,
            ..LogStats::default()
        };
        for live in self.index.live.values() {
            stats.live_bytes += live.bytes;
            stats.live_records += live.records;
        }
        stats
    }

    /// Bytes of the live records of one group, for its retention cap.
    pub fn group_bytes(&self, group: GroupId) -> u64 {
        self.index
            .groups
            .get(&group)
            .map_or(0, |entry| entry.items.iter().chain(&entry.hard_state).map(|place| place.len).sum())
    }

    /// Last item of a group, if it has items.
    pub fn last_index(&self, group: GroupId) -> Option<u64> {
        self.index.groups.get(&group)?.last()
    }

    /// Refuses a batch that would leave holes or break a limit, before anything is written.
    fn check(&self, records: &[LogRecord]) -> Result<(), LogError> {
        let fresh = index::GroupIndex::default();
        let mut last: BTreeMap<GroupId, Option<u64>> = BTreeMap::new();
        let mut bytes = 0_u64;
        for record in records {
            let (group, len) = (record.group, record.payload.len() as u64);
            bytes = bytes.saturating_add(record_len(record.payload.len()));
            if len > MAX_RECORD || bytes > MAX_BATCH {
                return Err(LogError::TooLarge { group, bytes: len.max(bytes) });
            }
            let entry = self.index.groups.get(&group).unwrap_or(&fresh);
            if entry.corrupt {
                return Err(LogError::Corrupt(group));
            }
            let known = last.entry(group).or_insert_with(|| entry.before_next());
            if record.kind == LogKind::Item {
                entry.check(group, record.index, *known)?;
                *known = Some(record.index);
            }
        }
        let new = last.keys().filter(|group| !self.index.groups.contains_key(group)).count();
        if self.index.groups.len() + new > format::MAX_GROUPS as usize {
            return Err(LogError::TooManyGroups);
        }
        Ok(())
    }

    /// Writes records (and a mark before them, if one is due) in one write, in one segment.
    fn write(&mut self, records: &[Pending<'_>]) -> Result<(), LogError> {
        let mark = if self.mark_due && !self.unsynced {
            encode_touched(self.touched.iter().map(|(group, serial)| (*group, *serial)))
        } else {
            Vec::new()
        };
        let size: u64 = records.iter().map(|record| record_len(record.payload.len())).sum();
        let mark_size = if mark.is_empty() { 0 } else { record_len(mark.len()) };
        let full = self.active.tail + mark_size + size > self.config.segment_bytes;
        if full && self.active.tail > self.active.header {
            self.roll()?;
            // The new segment's header says what the mark would have said.
            return self.write_here(records, &[]);
        }
        self.write_here(records, &mark)
    }

    fn write_here(&mut self, records: &[Pending<'_>], mark: &[u8]) -> Result<(), LogError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (segment, tail) = (self.active.number, self.active.tail);
        let (mut number, mut total) = (self.mark, self.total);
        if !mark.is_empty() {
            number += 1;
            let head = Head {
                kind: RecordKind::Mark,
                rewritten: false,
                group: GroupId::default(),
                term: total,
                index: number,
                serial: 0,
                len: 0,
                payload_crc: 0,
            };
            encode_record(&mut buffer, segment, tail, head, mark);
            total += 1;
        }
        let mut serials: BTreeMap<GroupId, u64> = BTreeMap::new();
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let known = self.index.groups.get(&record.group).map_or(0, |entry| entry.serial);
            let serial = serials.entry(record.group).or_insert(known);
            *serial += 1;
            let start = buffer.len();
            let offset = tail + start as u64;
            encode_record(&mut buffer, segment, offset, record.head(*serial), record.payload);
            places.push(Place { segment, offset, len: (buffer.len() - start) as u64 });
            total += 1;
        }
        let written = self.put(&buffer);
        let len = buffer.len() as u64;
        self.buffer = buffer;
        written?;
        if !mark.is_empty() {
            self.mark = number;
            self.mark_due = false;
            self.touched.clear();
        }
        self.total = total;
        self.active.tail += len;
        self.unsynced = true;
        for (record, place) in records.iter().zip(places) {
            self.enter(record, place);
        }
        for (group, serial) in serials {
            self.index.groups.entry(group).or_default().serial = serial;
            self.touched.insert(group, serial);
        }
        Ok(())
    }

    /// One write at the tail. On a full disk everything of it is taken back.
    fn put(&mut self, buffer: &[u8]) -> Result<(), LogError> {
        let Err(error) = self.active.file.write_at(self.active.tail, buffer) else {
            return Ok(());
        };
        if !error.is_no_space() {
            return Err(self.fail(error));
        }
        let undone = self.active.file.set_len(self.active.tail).and_then(|()| self.active.file.sync_data());
        match undone {
            Ok(()) => {
                // What was written before is synced now, too.
                self.unsynced = false;
                self.mark_due = !self.touched.is_empty();
                Err(LogError::NoSpace(error))
            }
            Err(second) => Err(self.fail(second)),
        }
    }

    fn enter(&mut self, record: &Pending<'_>, place: Place) {
        match record.kind {
            RecordKind::Item if record.rewritten => self.index.moved(record.group, Some(record.index), place),
            RecordKind::HardState if record.rewritten => self.index.moved(record.group, None, place),
            RecordKind::Item => self.index.item(record.group, record.index, place),
            RecordKind::HardState => self.index.hard_state(record.group, place),
            RecordKind::Purge => self.index.purge(record.group, record.index),
            RecordKind::Forget => self.index.forget(record.group),
            RecordKind::Mark => {}
        }
    }

    /// Seals the active segment (synced) and begins the next.
    fn roll(&mut self) -> Result<(), LogError> {
        let sealed = self.active.file.set_len(self.active.tail).and_then(|()| self.active.file.sync_data());
        if let Err(error) = sealed {
            return Err(self.fail(error));
        }
        self.unsynced = false;
        self.mark_due = !self.touched.is_empty();
        let header = format::SegmentHeader {
            segment: self.active.number + 1,
            previous_len: self.active.tail,
            mark: self.mark,
            total: self.total,
            table: self.index.table(),
        };
        let file = match segments::create(self.files.as_ref(), &self.folder, &header, self.config.segment_bytes) {
            Ok(file) => file,
            Err(error) if error.is_no_space() => {
                let undone = segments::undo_create(self.files.as_ref(), &self.folder, header.segment);
                return Err(undone.map_or_else(|second| self.fail(second), |()| LogError::NoSpace(error)));
            }
            Err(error) => return Err(self.fail(error)),
        };
        let tail = header.encoded_len();
        let next = Active { number: header.segment, file, tail, header: tail };
        let before = std::mem::replace(&mut self.active, next);
        self.sealed.insert(before.number, before.tail);
        self.touched.clear();
        self.mark_due = false;
        Ok(())
    }
}

impl Pending<'_> {
    fn head(&self, serial: u64) -> Head {
        Head {
            kind: self.kind,
            rewritten: self.rewritten,
            group: self.group,
            term: self.term,
            index: self.index,
            serial,
            len: 0,
            payload_crc: 0,
        }
    }
}

fn pending(record: &LogRecord) -> Pending<'_> {
    let kind = match record.kind {
        LogKind::Item => RecordKind::Item,
        LogKind::HardState => RecordKind::HardState,
    };
    Pending {
        kind,
        rewritten: false,
        group: record.group,
        term: record.term,
        index: record.index,
        payload: &record.payload,
    }
}

/// Shortest segment that can hold anything.
const _: () = assert!(SEGMENT_HEADER.is_multiple_of(8) && format::RECORD_HEADER.is_multiple_of(8));
