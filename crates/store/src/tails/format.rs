//! Bytes of a tail file and of its marks file.
//!
//! Owns encoding and decoding. Integers are little-endian.

use super::{Resolution, Tail, TailError, TailId};
use pairline_group::GroupId;
use pairline_group::codec::{decode_entry, encode_entry};
use pairline_group::entry::Entry;
use pairline_group::ids::{Epoch, PoolId, Position};
use std::path::Path;
use std::sync::Arc;

/// Version of tail files that this build writes, and the highest that it reads.
const VERSION: u8 = 1;
/// The same of marks files. Version 1 had one byte an entry and did not say at which position an entry was applied.
const MARKS_VERSION: u8 = 2;
const TAIL_MAGIC: &[u8; 7] = b"PLTAIL\0";
const MARKS_MAGIC: &[u8; 7] = b"PLMARK\0";
/// Magic, version, group, fork, count, body length, digest.
const HEADER: usize = 8 + 4 + 18 + 8 + 8 + 32;

/// A tail file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub group: GroupId,
    pub fork: Position,
    pub count: u64,
    pub body: u64,
    /// BLAKE3 of everything before it in the header, and of the body.
    pub digest: [u8; 32],
}

fn digest(header: &[u8], body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// Encodes a tail; also its digest.
pub(super) fn encode(group: GroupId, fork: Position, entries: &[Arc<Entry>]) -> (Vec<u8>, [u8; 32]) {
    let mut body = Vec::new();
    for entry in entries {
        let bytes = encode_entry(entry);
        let len = u32::try_from(bytes.len()).expect("an entry is at most a log record: 8 MiB");
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(TAIL_MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&group.pool.0.to_le_bytes());
    out.extend_from_slice(&group.index.to_le_bytes());
    out.extend_from_slice(&fork.epoch.number.to_le_bytes());
    out.extend_from_slice(&fork.epoch.granted_by.0.to_le_bytes());
    out.extend_from_slice(&fork.seq.to_le_bytes());
    out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let digest = digest(&out, &body);
    out.extend_from_slice(&digest);
    out.extend_from_slice(&body);
    (out, digest)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

/// Checks magic and version, which never move.
fn version(magic: &[u8; 7], supported: u8, bytes: &[u8], path: &Path) -> Result<u8, TailError> {
    let damaged = TailError::Damaged { path: path.to_path_buf(), reason: "it does not begin as it should" };
    if bytes.get(..7) != Some(magic) {
        return Err(damaged);
    }
    match bytes.get(7) {
        Some(&found) if found > supported => Err(TailError::Newer { path: path.to_path_buf(), found, supported }),
        Some(&found) if found > 0 => Ok(found),
        _ => Err(damaged),
    }
}

/// Reads a tail file's header (the file's first bytes suffice).
pub(super) fn decode_header(bytes: &[u8], path: &Path) -> Result<Header, TailError> {
    version(TAIL_MAGIC, VERSION, bytes, path)?;
    let mut rest = Reader(bytes.get(8..).unwrap_or_default());
    let parsed = (|| {
        let pool = PoolId(u16::from_le_bytes(rest.array()?));
        let index = u16::from_le_bytes(rest.array()?);
        let number = u64::from_le_bytes(rest.array()?);
        let granted_by = PoolId(u16::from_le_bytes(rest.array()?));
        let seq = u64::from_le_bytes(rest.array()?);
        let count = u64::from_le_bytes(rest.array()?);
        let body = u64::from_le_bytes(rest.array()?);
        let fork = Position { epoch: Epoch { number, granted_by }, seq };
        Some(Header { group: GroupId { pool, index }, fork, count, body, digest: rest.array()? })
    })();
    parsed.ok_or(TailError::Damaged { path: path.to_path_buf(), reason: "its header is cut off" })
}

/// Length of a tail file's header.
pub(super) const fn header_len() -> usize {
    HEADER
}

/// Reads a whole tail file and checks its digest.
pub(super) fn decode(id: TailId, bytes: &[u8], path: &Path) -> Result<Tail, TailError> {
    let header = decode_header(bytes, path)?;
    let damaged = |reason| TailError::Damaged { path: path.to_path_buf(), reason };
    let body = bytes.get(HEADER..).unwrap_or_default();
    if digest(&bytes[..HEADER - 32], body) != header.digest {
        return Err(damaged("its content does not match its digest"));
    }
    let mut entries = Vec::new();
    let mut rest = Reader(body);
    while !rest.0.is_empty() {
        let len = rest.array().map(u32::from_le_bytes).ok_or(damaged("an entry is cut off"))?;
        let entry = rest.bytes(len as usize).ok_or(damaged("an entry is cut off"))?;
        let entry = decode_entry(entry).map_err(|_| damaged("an entry cannot be decoded"))?;
        entries.push(Arc::new(entry));
    }
    if entries.len() as u64 != header.count {
        return Err(damaged("it has another number of entries than it says"));
    }
    let resolutions = vec![Resolution::Open; entries.len()];
    Ok(Tail { id, entries, resolutions, digest: header.digest })
}

/// Numbers of resolutions as stored; those with a position are followed by it.
const OPEN: u8 = 0;
const APPLIED: u8 = 1;
const SKIPPED: u8 = 2;
const CONFLICT: u8 = 3;
const DISCARDED: u8 = 4;
const GIVEN_UP: u8 = 5;
const APPLIED_AT: u8 = 6;
const SKIPPED_AT: u8 = 7;

fn encode_mark(mark: Resolution, out: &mut Vec<u8>) {
    out.push(match mark {
        Resolution::Open => OPEN,
        Resolution::Applied(None) => APPLIED,
        Resolution::Applied(Some(_)) => APPLIED_AT,
        Resolution::Skipped(None) => SKIPPED,
        Resolution::Skipped(Some(_)) => SKIPPED_AT,
        Resolution::Conflict => CONFLICT,
        Resolution::Discarded => DISCARDED,
        Resolution::GivenUp => GIVEN_UP,
    });
    if let Some(at) = mark.at() {
        out.extend_from_slice(&at.epoch.number.to_le_bytes());
        out.extend_from_slice(&at.epoch.granted_by.0.to_le_bytes());
        out.extend_from_slice(&at.seq.to_le_bytes());
    }
}

/// One mark; version 1 knows neither positions nor what was given up.
fn decode_mark(rest: &mut Reader<'_>, version: u8) -> Option<Resolution> {
    let [number] = rest.array()?;
    let mut at = || {
        let number = u64::from_le_bytes(rest.array()?);
        let granted_by = PoolId(u16::from_le_bytes(rest.array()?));
        let seq = u64::from_le_bytes(rest.array()?);
        Some(Position { epoch: Epoch { number, granted_by }, seq })
    };
    Some(match number {
        OPEN => Resolution::Open,
        APPLIED => Resolution::Applied(None),
        SKIPPED => Resolution::Skipped(None),
        CONFLICT => Resolution::Conflict,
        DISCARDED => Resolution::Discarded,
        GIVEN_UP if version >= 2 => Resolution::GivenUp,
        APPLIED_AT if version >= 2 => Resolution::Applied(Some(at()?)),
        SKIPPED_AT if version >= 2 => Resolution::Skipped(Some(at()?)),
        _ => return None,
    })
}

/// Encodes the marks of a tail; they name the tail by its digest.
pub(super) fn encode_marks(tail: [u8; 32], marks: &[Resolution]) -> Vec<u8> {
    let mut out = Vec::with_capacity(72 + marks.len());
    out.extend_from_slice(MARKS_MAGIC);
    out.push(MARKS_VERSION);
    out.extend_from_slice(&tail);
    for mark in marks {
        encode_mark(*mark, &mut out);
    }
    let check = digest(&out, &[]);
    out.extend_from_slice(&check);
    out
}

/// Reads the marks of the tail with this digest.
pub(super) fn decode_marks(
    tail: [u8; 32],
    count: usize,
    bytes: &[u8],
    path: &Path,
) -> Result<Vec<Resolution>, TailError> {
    let version = version(MARKS_MAGIC, MARKS_VERSION, bytes, path)?;
    let damaged = |reason| TailError::Damaged { path: path.to_path_buf(), reason };
    let (content, check) = bytes.split_last_chunk::<32>().ok_or(damaged("it is cut off"))?;
    if digest(content, &[]) != *check {
        return Err(damaged("its content does not match its digest"));
    }
    if content.get(8..40) != Some(&tail[..]) {
        return Err(damaged("it belongs to another tail"));
    }
    let mut rest = Reader(&content[40..]);
    let mut marks = Vec::new();
    while !rest.0.is_empty() {
        marks.push(decode_mark(&mut rest, version).ok_or(damaged("it has an unknown mark"))?);
    }
    if marks.len() == count { Ok(marks) } else { Err(damaged("it belongs to another tail")) }
}
