//! Records: one stored item each, (owner, kind, item) → value.
//!
//! Owns keys, classes and versions. Does not own what a kind means; that is the services'.

use crate::ids::{Millis, Position};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Number of a record kind; given out by the rooms above, opaque here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kind(pub u16);

/// A record's key. Ordered by owner, kind, item, so that all records of an owner are one range. Copies share their
/// parts: a change of one record names it in its entry, in the overlay, the state and the expiries.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Whose record it is (a user's address, or a document's family); at most 512 bytes.
    pub owner: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Which one of that kind; empty where there is only one; at most 512 bytes.
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
        Key { owner: owner.into(), kind, item: item.into() }
    }
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
