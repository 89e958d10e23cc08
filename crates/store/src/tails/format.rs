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

/// Version of tail and marks files that this build writes, and the highest that it reads.
const VERSION: u8 = 1;
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
fn version(magic: &[u8; 7], bytes: &[u8], path: &Path) -> Result<(), TailError> {
    let damaged = TailError::Damaged { path: path.to_path_buf(), reason: "it does not begin as it should" };
    if bytes.get(..7) != Some(magic) {
        return Err(damaged);
    }
    match bytes.get(7) {
        Some(&VERSION) => Ok(()),
        Some(&found) if found > VERSION => {
            Err(TailError::Newer { path: path.to_path_buf(), found, supported: VERSION })
        }
        _ => Err(damaged),
    }
}

/// Reads a tail file's header (the file's first bytes suffice).
pub(super) fn decode_header(bytes: &[u8], path: &Path) -> Result<Header, TailError> {
    version(TAIL_MAGIC, bytes, path)?;
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

/// Encodes the marks of a tail; they name the tail by its digest.
pub(super) fn encode_marks(tail: [u8; 32], marks: &[Resolution]) -> Vec<u8> {
    let mut out = Vec::with_capacity(72 + marks.len());
    out.extend_from_slice(MARKS_MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&tail);
    out.extend(marks.iter().map(|mark| mark.number()));
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
    version(MARKS_MAGIC, bytes, path)?;
    let damaged = |reason| TailError::Damaged { path: path.to_path_buf(), reason };
    let (content, check) = bytes.split_last_chunk::<32>().ok_or(damaged("it is cut off"))?;
    if digest(content, &[]) != *check {
        return Err(damaged("its content does not match its digest"));
    }
    if content.get(8..40) != Some(&tail[..]) || content.len() != 40 + count {
        return Err(damaged("it belongs to another tail"));
    }
    let marks: Option<Vec<Resolution>> = content[40..].iter().map(|number| Resolution::from_number(*number)).collect();
    marks.ok_or(damaged("it has an unknown mark"))
}
