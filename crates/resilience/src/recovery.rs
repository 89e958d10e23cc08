//! The record of a group that went on with the one copy that was left of it: in the `cms` group, kind 102.
//!
//! Owns the record's form and its key. When a group may go on so, and how, is replication's; the words of what was at risk are the node's.

use crate::codec::{self, CodecError};
use bytes::Bytes;
use pairline_group::{GroupId, Key, Kind, Millis, PoolId, Position, ServerId};
use serde::{Deserialize, Serialize};

/// Such a record.
pub const KIND_RECOVERY: Kind = Kind(102);
/// Its owner.
pub const OWNER: &str = "recovery";
/// Longest record in bytes.
const LONGEST: usize = 64 * 1024;

/// One recovery of one group's copies in one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The order's number; groups that were recovered by one command share it.
    pub id: u128,
    /// The pool whose copies were lost.
    pub pool: PoolId,
    /// Which group.
    pub group: GroupId,
    /// Who ordered it.
    pub operator: String,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Wall clock of the order.
    pub at: Millis,
    /// The server whose copy was left.
    pub survivor: ServerId,
    /// Servers whose copies had decided and were given up.
    pub lost: Vec<ServerId>,
    /// Where the copy stood: up to there it knew that everything was committed.
    pub before: Position,
    /// Items in its log beyond, which count since.
    pub doubtful: u64,
    /// What the operator was told might be lost.
    pub at_risk: String,
    /// Where the group went on.
    pub after: Position,
}

impl Recovery {
    /// Where the record stands: by pool, group and time.
    pub fn key(&self) -> Key {
        let mut item = Vec::with_capacity(14);
        item.extend_from_slice(&self.pool.0.to_be_bytes());
        item.extend_from_slice(&self.group.pool.0.to_be_bytes());
        item.extend_from_slice(&self.group.index.to_be_bytes());
        item.extend_from_slice(&self.at.to_be_bytes());
        Key::new(OWNER, KIND_RECOVERY, &item)
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Understands a record's bytes.
    ///
    /// # Errors
    /// If they are too long, of a newer build, or damaged.
    pub fn decode(value: &[u8]) -> Result<Recovery, CodecError> {
        codec::decode(value, LONGEST)
    }
}
