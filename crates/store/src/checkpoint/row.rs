//! Rows of the checkpoint: keys whose byte order is the order of records, and versioned values.
//!
//! Owns the encodings and the per-group checksum. Knows no database.

use pairline_group::ids::{Epoch, PoolId, Position};
use pairline_group::record::Class;
use pairline_group::{GroupId, Key, Kind, Record};

/// Version of every row that this build writes.
pub(super) const ROW_VERSION: u8 = 1;
/// Longest owner and item, in bytes.
pub(super) const MAX_KEY_PART: usize = 512;
/// Longest value, in bytes.
pub(super) const MAX_VALUE: usize = 8 * 1024 * 1024;

/// The row of a group: its meta, and what its record rows must add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupRow {
    /// Record rows.
    pub count: u64,
    /// Wrapping sum of their checksums.
    pub sum: u64,
    pub meta: Vec<u8>,
}

/// Key of a group's row; groups sort by pool, then index.
pub(super) fn group_key(group: GroupId) -> [u8; 4] {
    let [a, b] = group.pool.0.to_be_bytes();
    let [c, d] = group.index.to_be_bytes();
    [a, b, c, d]
}

pub(super) fn group_of(key: [u8; 4]) -> GroupId {
    let [a, b, c, d] = key;
    GroupId { pool: PoolId(u16::from_be_bytes([a, b])), index: u16::from_be_bytes([c, d]) }
}

/// Encodes a group row.
pub(super) fn encode_group(row: &GroupRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(21 + row.meta.len());
    out.push(ROW_VERSION);
    out.extend_from_slice(&crc32c::crc32c(&row.meta).to_le_bytes());
    out.extend_from_slice(&row.count.to_le_bytes());
    out.extend_from_slice(&row.sum.to_le_bytes());
    out.extend_from_slice(&row.meta);
    out
}

/// Decodes a group row.
pub(super) fn decode_group(bytes: &[u8]) -> Result<GroupRow, &'static str> {
    let mut rest = Reader(bytes);
    if rest.array::<1>()? != [ROW_VERSION] {
        return Err("group row has an unknown version");
    }
    let crc = u32::from_le_bytes(rest.array()?);
    let row = GroupRow {
        count: u64::from_le_bytes(rest.array()?),
        sum: u64::from_le_bytes(rest.array()?),
        meta: rest.0.to_vec(),
    };
    if crc32c::crc32c(&row.meta) == crc { Ok(row) } else { Err("meta does not match its checksum") }
}

/// Checksum of a record row, to be summed.
pub(super) fn row_sum(key: &[u8], value: &[u8]) -> u64 {
    let low = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let high = crc32c::crc32c_append(crc32c::crc32c(value), key);
    u64::from(low) | (u64::from(high) << 32)
}

/// Key of a record: group, owner (0 escaped as 0 255, ended by 0 0), kind, item.
pub(super) fn record_key(group: GroupId, key: &Key) -> Option<Vec<u8>> {
    if key.owner.len() > MAX_KEY_PART || key.item.len() > MAX_KEY_PART {
        return None;
    }
    let mut out = Vec::with_capacity(8 + key.owner.len() + key.item.len());
    out.extend_from_slice(&group_key(group));
    for byte in key.owner.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(255);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&key.kind.0.to_be_bytes());
    out.extend_from_slice(&key.item);
    Some(out)
}

/// First key that a group's records can have.
pub(super) fn first_key(group: GroupId) -> Vec<u8> {
    group_key(group).to_vec()
}

/// First key behind a group's records; `None` for the last group there can be.
pub(super) fn end_key(group: GroupId) -> Option<Vec<u8>> {
    u32::from_be_bytes(group_key(group)).checked_add(1).map(|next| next.to_be_bytes().to_vec())
}

/// Decodes a record's key without its group.
pub(super) fn decode_key(bytes: &[u8]) -> Result<Key, &'static str> {
    let mut owner = Vec::new();
    let mut rest = Reader(bytes.get(4..).ok_or("record key is too short")?);
    loop {
        match rest.array::<1>()? {
            [0] => match rest.array::<1>()? {
                [0] => break,
                [255] => owner.push(0),
                _ => return Err("record key has a bad escape"),
            },
            [byte] => owner.push(byte),
        }
    }
    let owner = String::from_utf8(owner).map_err(|_| "record key's owner is not text")?;
    let kind = Kind(u16::from_be_bytes(rest.array()?));
    Ok(Key::new(&owner, kind, rest.0))
}

/// Encodes a record: version, class, position, value.
pub(super) fn encode_record(record: &Record) -> Option<Vec<u8>> {
    if record.value.len() > MAX_VALUE {
        return None;
    }
    let mut out = Vec::with_capacity(28 + record.value.len());
    out.push(ROW_VERSION);
    match record.class {
        Class::Durable => out.push(0),
        Class::Soft { expires } => {
            out.push(1);
            out.extend_from_slice(&expires.to_le_bytes());
        }
    }
    out.extend_from_slice(&record.version.epoch.number.to_le_bytes());
    out.extend_from_slice(&record.version.epoch.granted_by.0.to_le_bytes());
    out.extend_from_slice(&record.version.seq.to_le_bytes());
    out.extend_from_slice(&record.value);
    Some(out)
}

/// Decodes a record.
pub(super) fn decode_record(bytes: &[u8]) -> Result<Record, &'static str> {
    let mut rest = Reader(bytes);
    if rest.array::<1>()? != [ROW_VERSION] {
        return Err("record row has an unknown version");
    }
    let class = match rest.array::<1>()? {
        [0] => Class::Durable,
        [1] => Class::Soft { expires: u64::from_le_bytes(rest.array()?) },
        _ => return Err("record row has an unknown class"),
    };
    let number = u64::from_le_bytes(rest.array()?);
    let granted_by = PoolId(u16::from_le_bytes(rest.array()?));
    let seq = u64::from_le_bytes(rest.array()?);
    let version = Position { epoch: Epoch { number, granted_by }, seq };
    Ok(Record { version, class, value: rest.0.to_vec().into() })
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or("row is too short")?;
        self.0 = tail;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        ("[\\x00a-c\u{e9}]{0,6}", any::<u16>(), proptest::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(owner, kind, item)| Key::new(&owner, Kind(kind), &item))
    }

    proptest! {
        #[test]
        fn key_order_is_byte_order_and_decodes(a in key(), b in key()) {
            let group = GroupId { pool: PoolId(3), index: 7 };
            let (ka, kb) = (record_key(group, &a).unwrap(), record_key(group, &b).unwrap());
            prop_assert_eq!(a.cmp(&b), ka.cmp(&kb));
            prop_assert_eq!(decode_key(&ka).unwrap(), a);
            prop_assert!(ka >= first_key(group) && ka < end_key(group).unwrap());
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_key(&bytes);
            let _ = decode_group(&bytes);
            if let Ok(record) = decode_record(&bytes) {
                prop_assert_eq!(encode_record(&record).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn limits_are_refused() {
        let group = GroupId::CMS;
        assert!(record_key(group, &Key::new(&"x".repeat(513), Kind(1), b"")).is_none());
        assert!(record_key(group, &Key::new("x", Kind(1), &[0; 513])).is_none());
        assert_eq!(end_key(GroupId { pool: PoolId(u16::MAX), index: u16::MAX }), None);
    }
}
