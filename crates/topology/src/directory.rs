//! The directory of users: where a user belongs, and the hint of who serves a group.
//!
//! Owns the keys and values of those records in `cms` and the canonical form of an address of record. Passwords are not
//! here (they live in the user's own group), and the hint never decides: the group's lineage does.

use crate::model::Topology;
use crate::stored::{self, KIND_DIRECTORY, KIND_OWNERSHIP, StoredError};
use bytes::Bytes;
use pairline_group::{Epoch, GroupId, Key, PoolId};
use serde::{Deserialize, Serialize};

/// Owner of the records that belong to the deployment, not to a user.
pub const DEPLOYMENT_OWNER: &str = "deployment";
/// Longest address of record in bytes.
pub const MAX_AOR: usize = 256;

/// A user's entry in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// Where the user belongs; never changed by failover.
    pub home: PoolId,
    /// Whether the user may sign in.
    pub enabled: bool,
}

/// Who served a group when somebody last wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipHint {
    /// The pool.
    pub serving: PoolId,
    /// The epoch in which it served.
    pub epoch: Epoch,
}

/// A user's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserHome {
    /// Home pool.
    pub pool: PoolId,
    /// Routing group, which holds everything the user has.
    pub group: GroupId,
    /// Whether the user may sign in.
    pub enabled: bool,
}

/// The canonical address of record `sip:user@domain`: domain in lower case, user as given.
///
/// `None` if the user part is empty, too long, or has bytes outside RFC 3261's unreserved set and `&=+$,;?/` (escapes are
/// resolved before; quotes, spaces and controls never occur), or if the domain is no host name.
pub fn aor(user: &str, domain: &str) -> Option<String> {
    let user_ok =
        !user.is_empty() && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%".contains(&b));
    let text = format!("sip:{user}@{}", domain.to_ascii_lowercase());
    (user_ok && crate::check::is_host_name(domain) && text.len() <= MAX_AOR).then_some(text)
}

/// Key of a user's directory entry.
pub fn user_key(aor: &str) -> Key {
    Key::new(aor, KIND_DIRECTORY, b"")
}

/// Key of a group's ownership hint.
pub fn ownership_key(group: GroupId) -> Key {
    let mut item = [0_u8; 4];
    item[..2].copy_from_slice(&group.pool.0.to_be_bytes());
    item[2..].copy_from_slice(&group.index.to_be_bytes());
    Key::new(DEPLOYMENT_OWNER, KIND_OWNERSHIP, &item)
}

/// The group that an ownership hint's key names.
pub fn group_of_key(key: &Key) -> Option<GroupId> {
    let item: [u8; 4] = key.item.as_ref().try_into().ok()?;
    let [a, b, c, d] = item;
    (key.kind == KIND_OWNERSHIP)
        .then_some(GroupId { pool: PoolId(u16::from_be_bytes([a, b])), index: u16::from_be_bytes([c, d]) })
}

impl DirectoryEntry {
    /// The stored value.
    pub fn encode(&self) -> Bytes {
        stored::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// See [`StoredError`].
    pub fn decode(value: &[u8]) -> Result<DirectoryEntry, StoredError> {
        stored::decode(value)
    }

    /// The user's place; `None` if the home pool is not in the topology.
    pub fn place(&self, topology: &Topology, aor: &str) -> Option<UserHome> {
        let group = topology.group_of(self.home, aor)?;
        Some(UserHome { pool: self.home, group, enabled: self.enabled })
    }
}

impl OwnershipHint {
    /// The stored value.
    pub fn encode(&self) -> Bytes {
        stored::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// See [`StoredError`].
    pub fn decode(value: &[u8]) -> Result<OwnershipHint, StoredError> {
        stored::decode(value)
    }
}
