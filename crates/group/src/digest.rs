//! The incremental digest of a group's records.
//!
//! Owns the hash of one record and its sums. A record's hash is added when it is there and taken away when it is not, so
//! the digest depends on the set of records and on nothing else. Does not own when a record changes (`state`).

use crate::record::{Class, Key, Record};

/// Number of ranges in which a difference can be located.
pub const RANGES: usize = 256;

/// Sum of record hashes: four lanes of 64 bits, each wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, hash: &[u64; 4]) {
        for (lane, part) in self.0.iter_mut().zip(hash) {
            *lane = lane.wrapping_add(*part);
        }
    }

    fn take(&mut self, hash: &[u64; 4]) {
        for (lane, part) in self.0.iter_mut().zip(hash) {
            *lane = lane.wrapping_sub(*part);
        }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        for (chunk, lane) in out.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        out
    }
}

/// Digest of a set of records, whole and by range.
#[derive(Clone, Debug)]
pub(crate) struct Digest {
    total: Sum,
    ranges: Vec<Sum>,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest { total: Sum::default(), ranges: vec![Sum::default(); RANGES] }
    }
}

impl Digest {
    pub(crate) fn add(&mut self, key: &Key, record: &Record) {
        let hash = record_hash(key, record);
        self.total.add(&hash);
        if let Some(range) = self.ranges.get_mut(range_of(key)) {
            range.add(&hash);
        }
    }

    pub(crate) fn take(&mut self, key: &Key, record: &Record) {
        let hash = record_hash(key, record);
        self.total.take(&hash);
        if let Some(range) = self.ranges.get_mut(range_of(key)) {
            range.take(&hash);
        }
    }

    /// The digest of all records.
    pub(crate) fn total(&self) -> [u8; 32] {
        self.total.bytes()
    }

    /// The digest of one range.
    pub(crate) fn range(&self, range: usize) -> [u8; 32] {
        self.ranges.get(range).map(Sum::bytes).unwrap_or_default()
    }

    /// The digests of all ranges.
    pub(crate) fn ranges(&self) -> Vec<[u8; 32]> {
        self.ranges.iter().map(Sum::bytes).collect()
    }

    /// Indices of the ranges that differ from the other side's.
    pub(crate) fn differing(&self, other: &[[u8; 32]]) -> Vec<u16> {
        (0..RANGES)
            .filter(|range| other.get(*range).is_none_or(|theirs| *theirs != self.range(*range)))
            .filter_map(|range| u16::try_from(range).ok())
            .collect()
    }
}

/// The range of a key: FNV-1a over its parts, folded to one byte, so that it is the same on every build.
pub(crate) fn range_of(key: &Key) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let kind = key.kind.0.to_le_bytes();
    for byte in key.owner.bytes().chain(kind).chain(key.item.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    usize::from((hash ^ (hash >> 32)).to_le_bytes()[0] ^ (hash >> 16).to_le_bytes()[0])
}

fn record_hash(key: &Key, record: &Record) -> [u64; 4] {
    let mut head = [0_u8; 64];
    let class = match record.class {
        Class::Durable => 0,
        Class::Soft { expires } => expires.wrapping_add(1),
    };
    let fields = [
        u64::try_from(key.owner.len()).unwrap_or(u64::MAX),
        u64::try_from(key.item.len()).unwrap_or(u64::MAX),
        u64::from(key.kind.0),
        record.version.epoch.number,
        u64::from(record.version.epoch.granted_by.0),
        record.version.seq,
        class,
        u64::from(matches!(record.class, Class::Soft { .. })),
    ];
    for (chunk, field) in head.chunks_exact_mut(8).zip(fields) {
        chunk.copy_from_slice(&field.to_le_bytes());
    }
    // In one piece: the hash function's own buffer costs more than the copy.
    let mut whole = Vec::with_capacity(head.len() + key.owner.len() + key.item.len() + record.value.len());
    for part in [&head, key.owner.as_bytes(), &key.item, &record.value] {
        whole.extend_from_slice(part);
    }
    let hash = blake3::hash(&whole);
    let mut out = [0_u64; 4];
    for (lane, chunk) in out.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(chunk);
        *lane = u64::from_le_bytes(bytes);
    }
    out
}
