//! Typed identifiers of replication: pools, servers, groups, epochs, positions, tickets.
//!
//! Owns their order and their stable encodings. Does not own names: which pool is called what is topology's.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds of some clock; which clock is said where it is used.
pub type Millis = u64;

/// A pool's number in the deployment. `0` is the deployment itself (the management store's group).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolId(pub u16);

/// A server's number in the deployment; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerId(pub u32);

/// One live connection to another server; a new connection has a new id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// The caller's name for a request to the host; echoed in its answer, never interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// A group: `pool` is the *home* pool (never changed by failover), `index` its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId {
    /// Home pool of the group; `PoolId(0)` for the management store.
    pub pool: PoolId,
    /// Number of the routing group within its home pool.
    pub index: u16,
}

impl GroupId {
    /// The management store's group.
    pub const CMS: GroupId = GroupId { pool: PoolId(0), index: 0 };

    /// Whether this is the management store's group.
    pub fn is_cms(self) -> bool {
        self.pool == PoolId(0)
    }

    /// The routing group of a user: a stable hash of the user's id, so that it is the same on every server and build.
    ///
    /// `groups` is the pool's fixed number of routing groups (at least 1).
    pub fn of_user(home: PoolId, groups: u16, user: &str) -> GroupId {
        let hash = blake3::hash(user.as_bytes());
        let mut first = [0_u8; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        let index = u64::from_le_bytes(first) % u64::from(groups.max(1));
        GroupId { pool: home, index: u16::try_from(index).unwrap_or(0) }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_cms() { write!(f, "cms") } else { write!(f, "{}/{}", self.pool.0, self.index) }
    }
}

/// Fencing token of a group: rises at each change of serving pool, granted once, by one committed entry.
///
/// Ordered by number, then by granting pool, so both sides of a cut can never grant the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Rises by one at each grant.
    pub number: u64,
    /// The pool whose entry granted it.
    pub granted_by: PoolId,
}

impl Epoch {
    /// What a copy knows that stood down by order: above the epoch that it served in, and below whatever is granted next.
    pub(crate) fn stood_down(self) -> Epoch {
        Epoch { number: self.number, granted_by: PoolId(u16::MAX) }
    }

    /// Whether some pool has granted it.
    pub fn is_granted(self) -> bool {
        self.granted_by != PoolId(u16::MAX)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.granted_by.0)
    }
}

/// An entry's place in its group's log. Ordered by epoch, then sequence; sequences go on across epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Epoch in which the entry was written.
    pub epoch: Epoch,
    /// Previous entry's sequence plus one; the first entry of a group has 1, an empty group stands at 0.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}
