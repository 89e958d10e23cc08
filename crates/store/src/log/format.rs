//! Bytes of the log: segment headers and records, with their checksums.
//!
//! Owns encoding and decoding only. Every record header is bound by its checksum to its segment and offset, so a block that
//! a disk wrote to the wrong place is not a record there. All integers are little-endian; everything starts at a multiple of 8.

use pairline_group::GroupId;
use pairline_group::ids::PoolId;

/// Version of segments and of records that this build writes, and the highest that it reads.
pub(super) const VERSION: u8 = 1;
/// Length of a record's header.
pub(super) const RECORD_HEADER: usize = 48;
/// Length of a segment's header without its table.
pub(super) const SEGMENT_HEADER: usize = 48;
/// Length of one entry of a segment's table.
pub(super) const TABLE_ENTRY: usize = 24;
/// Most entries of a table or of a mark: more groups than this no server has.
pub(super) const MAX_GROUPS: u32 = 1 << 16;
/// Longest payload that a record read back may have (marks are the longest of our own).
pub(super) const MAX_PAYLOAD: u32 = 8 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"PLLOGSEG";

/// What a stored record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An element of a group's consensus log.
    Item,
    /// A group's consensus hard state.
    HardState,
    /// Items of the group up to the index are no longer needed.
    Purge,
    /// Everything of the group before this record is void.
    Forget,
    /// Everything before this record was synced: `index` = its number, `term` = records written in all so far.
    Mark,
}

impl RecordKind {
    fn number(self) -> u8 {
        match self {
            RecordKind::Item => 1,
            RecordKind::HardState => 2,
            RecordKind::Purge => 3,
            RecordKind::Forget => 4,
            RecordKind::Mark => 5,
        }
    }

    fn from_number(number: u8) -> Option<RecordKind> {
        Some(match number {
            1 => RecordKind::Item,
            2 => RecordKind::HardState,
            3 => RecordKind::Purge,
            4 => RecordKind::Forget,
            5 => RecordKind::Mark,
            _ => return None,
        })
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: RecordKind,
    /// A copy of a live record, moved to the log's head: it replaces nothing.
    pub rewritten: bool,
    pub group: GroupId,
    pub term: u64,
    pub index: u64,
    /// The group's count of records, this one included: a gap shows a lost record.
    pub serial: u64,
    pub len: u32,
    pub payload_crc: u32,
}

/// What stands at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadRead {
    /// Nothing was written here (all zero), or not enough bytes are left for a header.
    Blank,
    /// Not a header.
    Bad,
    /// A header of a later version.
    Newer(u8),
    /// A header.
    Ok(Head),
}

/// One group's line in a segment's table: how things stood when the segment began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub group: GroupId,
    pub serial: u64,
    pub purged: u64,
}

/// A segment's header. Its presence says that the segment before is complete and synced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub segment: u64,
    /// Length of the segment before; 0 for the first.
    pub previous_len: u64,
    /// Number of the last mark written before.
    pub mark: u64,
    /// Records written in all before.
    pub total: u64,
    pub table: Vec<TableEntry>,
}

/// What stands at the start of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SegmentRead {
    /// Not a whole header.
    Bad,
    /// A header of a later version.
    Newer(u16),
    /// A header.
    Ok(SegmentHeader),
}

/// Length of a record with this payload, padded.
pub(super) fn record_len(payload: usize) -> u64 {
    (RECORD_HEADER + payload.next_multiple_of(8)) as u64
}

fn put_group(out: &mut Vec<u8>, group: GroupId) {
    out.extend_from_slice(&group.pool.0.to_le_bytes());
    out.extend_from_slice(&group.index.to_le_bytes());
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn group_at(bytes: &[u8], at: usize) -> Option<GroupId> {
    Some(GroupId { pool: PoolId(u16_at(bytes, at)?), index: u16_at(bytes, at + 2)? })
}

/// Checksum of a header (its own field left out), bound to where it stands.
fn head_crc(segment: u64, offset: u64, header: &[u8]) -> u32 {
    let mut place = [0_u8; 16];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    let crc = crc32c::crc32c(&place);
    let crc = crc32c::crc32c_append(crc, &header[..4]);
    crc32c::crc32c_append(crc, &header[8..RECORD_HEADER])
}

/// Appends a record that will stand at `offset` of `segment`. `head.len` and `head.payload_crc` are computed here.
pub(super) fn encode_record(out: &mut Vec<u8>, segment: u64, offset: u64, head: Head, payload: &[u8]) {
    let start = out.len();
    let len = u32::try_from(payload.len()).expect("payloads are checked against 8 MiB before");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[VERSION, head.kind.number(), u8::from(head.rewritten), 0]);
    put_group(out, head.group);
    out.extend_from_slice(&head.term.to_le_bytes());
    out.extend_from_slice(&head.index.to_le_bytes());
    out.extend_from_slice(&head.serial.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = head_crc(segment, offset, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// Reads the header at `offset` of `segment`, whose bytes start with `bytes`.
pub(super) fn decode_head(bytes: &[u8], segment: u64, offset: u64) -> HeadRead {
    let Some(header) = bytes.get(..RECORD_HEADER) else {
        return HeadRead::Blank;
    };
    if header[..8] == [0; 8] {
        return if header.iter().all(|byte| *byte == 0) { HeadRead::Blank } else { HeadRead::Bad };
    }
    // Cheap refusals first: a damaged stretch is searched at every multiple of 8.
    if header[8] == 0 || u32_at(header, 4) != Some(head_crc(segment, offset, header)) {
        return HeadRead::Bad;
    }
    if header[8] > VERSION {
        return HeadRead::Newer(header[8]);
    }
    let parsed = (|| {
        Some(Head {
            kind: RecordKind::from_number(header[9])?,
            rewritten: header[10] & 1 == 1,
            group: group_at(header, 12)?,
            term: u64_at(header, 16)?,
            index: u64_at(header, 24)?,
            serial: u64_at(header, 32)?,
            len: u32_at(header, 0).filter(|len| *len <= MAX_PAYLOAD)?,
            payload_crc: u32_at(header, 40)?,
        })
    })();
    parsed.map_or(HeadRead::Bad, HeadRead::Ok)
}

/// Payload of a mark: the groups written since the mark before, with their serials.
pub(super) fn encode_touched(touched: impl Iterator<Item = (GroupId, u64)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (group, serial) in touched {
        put_group(&mut out, group);
        out.extend_from_slice(&serial.to_le_bytes());
    }
    out
}

/// Reads the payload of a mark.
pub(super) fn decode_touched(payload: &[u8]) -> Option<Vec<(GroupId, u64)>> {
    payload.chunks(12).map(|line| Some((group_at(line, 0)?, u64_at(line, 4)?))).collect()
}

impl SegmentHeader {
    /// Length of the encoding.
    pub(super) fn encoded_len(&self) -> u64 {
        (SEGMENT_HEADER + 8 + TABLE_ENTRY * self.table.len()) as u64
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER + 8 + TABLE_ENTRY * self.table.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&u16::from(VERSION).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let count = u32::try_from(self.table.len()).expect("at most 65536 groups");
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.previous_len.to_le_bytes());
        out.extend_from_slice(&self.mark.to_le_bytes());
        out.extend_from_slice(&self.total.to_le_bytes());
        for entry in &self.table {
            put_group(&mut out, entry.group);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&entry.serial.to_le_bytes());
            out.extend_from_slice(&entry.purged.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// Reads a header; `bytes` is the file's start (all of it, or at least the header).
    pub(super) fn decode(bytes: &[u8]) -> SegmentRead {
        if bytes.get(..8) != Some(MAGIC) {
            return SegmentRead::Bad;
        }
        // The magic and the version never move, so that a later format is recognised although nothing else is understood.
        match u16_at(bytes, 8) {
            Some(version) if version > u16::from(VERSION) => return SegmentRead::Newer(version),
            Some(version) if version == u16::from(VERSION) => {}
            _ => return SegmentRead::Bad,
        }
        SegmentHeader::decode_body(bytes).map_or(SegmentRead::Bad, SegmentRead::Ok)
    }

    fn decode_body(bytes: &[u8]) -> Option<SegmentHeader> {
        let count = usize::try_from(u32_at(bytes, 12).filter(|count| *count <= MAX_GROUPS)?).ok()?;
        let end = SEGMENT_HEADER + TABLE_ENTRY * count;
        if crc32c::crc32c(bytes.get(..end)?) != u32_at(bytes, end)? {
            return None;
        }
        let mut table = Vec::with_capacity(count);
        for line in bytes[SEGMENT_HEADER..end].chunks(TABLE_ENTRY) {
            let entry = TableEntry { group: group_at(line, 0)?, serial: u64_at(line, 8)?, purged: u64_at(line, 16)? };
            table.push(entry);
        }
        Some(SegmentHeader {
            segment: u64_at(bytes, 16)?,
            previous_len: u64_at(bytes, 24)?,
            mark: u64_at(bytes, 32)?,
            total: u64_at(bytes, 40)?,
            table,
        })
    }
}
