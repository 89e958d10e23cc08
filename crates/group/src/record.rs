//! Records: one stored item each, (owner, kind, item) → value.
//!
//! Owns keys, classes and versions. Does not own what a kind means; that is the services'.

use crate::ids::{Millis, Position};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;

/// Number of a record kind; given out by the rooms above, opaque here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind(pub u16);

/// A record's key. Ordered by owner, kind, item, so that all records of an owner are one range. Copies share their
/// parts: a change of one record names it in its entry, in the overlay, the state and the expiries.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// Begins as the owner begins, so that the order of two keys is nearly always told by what is in place, without a
    /// look at their parts elsewhere in memory. First, so that it is compared first.
    #[serde(skip)]
    head: [u64; 2],
    /// Whose record it is (a user's address, or a document's family); at most 512 bytes.
    pub owner: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Which one of that kind; empty where there is only one; at most 512 bytes.
    #[serde(serialize_with = "as_bytes")]
    pub item: Arc<[u8]>,
}

/// Longest owner and longest item of a key, in bytes.
pub const MAX_PART: usize = 512;

impl Key {
    /// Whether owner and item are short enough to be stored.
    pub fn fits(&self) -> bool {
        self.owner.len() <= MAX_PART && self.item.len() <= MAX_PART
    }

    /// Builds a key from borrowed parts.
    pub fn new(owner: &str, kind: Kind, item: &[u8]) -> Key {
        // The empty item is one for all keys.
        let item = if item.is_empty() { Arc::default() } else { item.into() };
        Key { head: head_of(owner), owner: owner.into(), kind, item }
    }
}

/// The first bytes of an owner as numbers, in the same order as the owners: what is shorter has zeros.
fn head_of(owner: &str) -> [u64; 2] {
    let mut bytes = [0_u8; 16];
    let length = owner.len().min(bytes.len());
    bytes[..length].copy_from_slice(&owner.as_bytes()[..length]);
    let (first, second) = bytes.split_at(8);
    let number = |part: &[u8]| part.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    [number(first), number(second)]
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("owner", &self.owner).field("kind", &self.kind).field("item", &self.item).finish()
    }
}

/// A key as it is stored and sent, read where it lies.
#[derive(Deserialize)]
#[serde(rename = "Key")]
struct Parts<'a> {
    #[serde(borrow)]
    owner: Cow<'a, str>,
    kind: Kind,
    #[serde(borrow)]
    item: Cow<'a, [u8]>,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        Ok(Key::new(&parts.owner, parts.kind, &parts.item))
    }
}

/// In one piece: the same bytes as one by one.
fn as_bytes<S: Serializer>(item: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(item)
}

/// How long a record is to live, and whether it is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Kept until deleted.
    Durable,
    /// Absent once group time passes `expires` (milliseconds of group time).
    Soft {
        /// Group time at which the record is absent.
        expires: Millis,
    },
}

impl Class {
    /// Whether a record of this class is there at group time `now`.
    pub fn present_at(self, now: Millis) -> bool {
        match self {
            Class::Durable => true,
            Class::Soft { expires } => now < expires,
        }
    }
}

/// A stored record. Its version is the position of the entry that last put it: never reused with other content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position of the entry that wrote this value.
    pub version: Position,
    /// Durable, or soft with its expiry.
    pub class: Class,
    /// The value; its first byte is the version of its format, by convention of all writers.
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    //! The order of keys.

    use super::*;

    #[test]
    fn keys_are_ordered_by_owner_kind_and_item_however_long_the_owner_is() {
        let owners =
            ["", "\0", "a", "a\0", "ab", "sip:alice@example", "sip:alice@example.org", "sip:alicf", "sip:\u{fc}", "t"];
        let mut keys = Vec::new();
        for owner in owners {
            for kind in [1, 2, 300] {
                for item in [&b""[..], b"\0", b"x"] {
                    keys.push(Key::new(owner, Kind(kind), item));
                }
            }
        }
        for a in &keys {
            for b in &keys {
                let parts = |k: &Key| (k.owner.to_string(), k.kind, k.item.to_vec());
                assert_eq!(a.cmp(b), parts(a).cmp(&parts(b)), "{a:?} {b:?}");
                assert_eq!(a == b, parts(a) == parts(b));
            }
        }
    }
}
