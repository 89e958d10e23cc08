//! Segment files: their names, their creation, the walk over them at start, and what is settled before writing goes on.
//!
//! Owns the order of file operations around a segment. The verdict on damage is [`super::recover`]'s.

use super::error::LogOpenError;
use super::format::{self, SegmentHeader, SegmentRead};
use super::recover::Replay;
use super::scan::{Event, Scan};
use crate::files::{FileError, FileLayer, OpenFile, OpenMode, read_all};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// No segment that we write is longer: the longest batch, its header with the largest table, and a mark.
const MAX_SEGMENT: u64 = super::MAX_BATCH + 1024 * 1024 * 1024;

/// What the walk found.
pub(super) struct Found {
    pub replay: Replay,
    /// The last segment and where its records end.
    pub last: Option<(u64, u64)>,
    /// All segments but the one to discard, with their lengths.
    pub sealed: BTreeMap<u64, u64>,
    pub torn_bytes: u64,
    /// A segment whose creation was interrupted: nothing was ever written to it.
    pub discard: Option<u64>,
}

pub(super) fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016x}.log"))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

struct Loaded {
    number: u64,
    bytes: Vec<u8>,
    header: Option<SegmentHeader>,
}

impl Loaded {
    fn load(files: &dyn FileLayer, folder: &Path, number: u64) -> Result<Loaded, LogOpenError> {
        let path = path_of(folder, number);
        let bytes = read_all(files.open(&path, OpenMode::Read)?.as_ref(), &path, MAX_SEGMENT)?;
        let header = match SegmentHeader::decode(&bytes) {
            SegmentRead::Newer(found) => return Err(newer(path, found)),
            SegmentRead::Ok(header) => Some(header).filter(|header| header.segment == number),
            SegmentRead::Bad => None,
        };
        Ok(Loaded { number, bytes, header })
    }

    /// Where records begin.
    fn from(&self) -> usize {
        let len = self.header.as_ref().map_or(format::SEGMENT_HEADER as u64, SegmentHeader::encoded_len);
        usize::try_from(len).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// Whether its creation was interrupted: no header, and no record ever.
    fn unborn(&self) -> bool {
        self.header.is_none()
            && !matches!(
                Scan::new(&self.bytes, self.number, 0).step(),
                Ok(Some(Event::Record { .. } | Event::BadPayload { .. } | Event::Damage { .. })) | Err(_)
            )
    }
}

fn newer(path: PathBuf, found: u16) -> LogOpenError {
    LogOpenError::Newer { path, found, supported: u16::from(format::VERSION) }
}

/// Numbers of the segments, ascending. A folder that is not there has none.
fn numbers(files: &dyn FileLayer, folder: &Path) -> Result<Vec<u64>, FileError> {
    let names = match files.list(folder) {
        Err(FileError::NotFound { .. }) => Vec::new(),
        other => other?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Fails if the header of any segment is of a later version.
pub(super) fn probe(files: &dyn FileLayer, folder: &Path) -> Result<(), LogOpenError> {
    for number in numbers(files, folder)? {
        let path = path_of(folder, number);
        let file = files.open(&path, OpenMode::Read)?;
        let mut start = [0; 10];
        if file.len()? < start.len() as u64 {
            continue;
        }
        file.read_at(0, &mut start)?;
        if let SegmentRead::Newer(found) = SegmentHeader::decode(&start) {
            return Err(newer(path, found));
        }
    }
    Ok(())
}

/// Walks over all segments, oldest first. Changes nothing.
pub(super) fn replay(files: &dyn FileLayer, folder: &Path) -> Result<Found, LogOpenError> {
    let mut found =
        Found { replay: Replay::default(), last: None, sealed: BTreeMap::new(), torn_bytes: 0, discard: None };
    let numbers = numbers(files, folder)?;
    let mut queue = numbers.iter().copied();
    let mut current = match queue.next() {
        Some(number) => Some(Loaded::load(files, folder, number)?),
        None => None,
    };
    while let Some(segment) = current {
        let next = match queue.next() {
            Some(number) => Some(Loaded::load(files, folder, number)?),
            None => None,
        };
        if next.is_none() && segment.unborn() {
            found.discard = Some(segment.number);
            break;
        }
        walk(folder, &mut found, &segment, next.as_ref())?;
        current = next;
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Found, segment: &Loaded, next: Option<&Loaded>) -> Result<(), LogOpenError> {
    let (number, from) = (segment.number, segment.from());
    match &segment.header {
        Some(header) => found.replay.header(header),
        None => found.replay.lost_header(number),
    }
    let known_end = next.filter(|next| next.number == number + 1).and_then(|next| next.header.as_ref());
    let end = match known_end {
        Some(next) => {
            let end = usize::try_from(next.previous_len).unwrap_or(usize::MAX);
            found.replay.sealed(number, &segment.bytes, from, end).map(|()| next.previous_len)
        }
        None => found.replay.last(number, &segment.bytes, from),
    };
    let end = end.map_err(|version| newer(path_of(folder, number), u16::from(version)))?;
    if next.is_none() {
        let written = segment.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        found.torn_bytes = written.saturating_sub(end);
    }
    found.sealed.insert(number, end);
    found.last = Some((number, end));
    Ok(())
}

/// Makes what was replayed final: the interrupted creation goes, the last segment ends (synced) where its records end, so
/// that nothing behind it can ever be taken for a record.
pub(super) fn settle(
    files: &dyn FileLayer,
    folder: &Path,
    last: Option<(u64, u64)>,
    discard: Option<u64>,
) -> Result<Option<(u64, u64)>, FileError> {
    if let Some(number) = discard {
        undo_create(files, folder, number)?;
    }
    if let Some((number, end)) = last {
        let file = files.open(&path_of(folder, number), OpenMode::Write)?;
        if file.len()? != end {
            file.set_len(end)?;
        }
        // Also when nothing was cut: what was read may stand only in the cache of a machine that did not stop. After a
        // failed sync the cache counts as clean, so another sync alone would write nothing: it is written again first.
        write_again(file.as_ref(), end)?;
        file.sync_data()?;
        files.sync_dir(folder)?;
    }
    Ok(last)
}

/// Writes the first `end` bytes of a file over themselves.
fn write_again(file: &dyn OpenFile, end: u64) -> Result<(), FileError> {
    const CHUNK: u64 = 1 << 20;
    let mut offset = 0;
    while offset < end {
        let len = usize::try_from((end - offset).min(CHUNK)).expect("a chunk fits into memory");
        let mut chunk = vec![0; len];
        file.read_at(offset, &mut chunk)?;
        file.write_at(offset, &chunk)?;
        offset += CHUNK;
    }
    Ok(())
}

/// Creates a segment with its space reserved and its header durable.
pub(super) fn create(
    files: &dyn FileLayer,
    folder: &Path,
    header: &SegmentHeader,
    segment_bytes: u64,
) -> Result<Box<dyn OpenFile>, FileError> {
    let file = files.open(&path_of(folder, header.segment), OpenMode::CreateLog)?;
    match file.allocate(segment_bytes.max(header.encoded_len())) {
        // On a nearly full disk the log must still open: space is then found, or refused, write by write.
        Err(error) if error.is_no_space() => file.set_len(0)?,
        other => other?,
    }
    file.write_at(0, &header.encode())?;
    file.sync_data()?;
    files.sync_dir(folder)?;
    Ok(file)
}

/// Takes back a creation that failed or was interrupted.
pub(super) fn undo_create(files: &dyn FileLayer, folder: &Path, segment: u64) -> Result<(), FileError> {
    match files.remove(&path_of(folder, segment)) {
        Err(FileError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => files.sync_dir(folder),
    }
}
