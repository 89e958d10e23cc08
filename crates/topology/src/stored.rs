//! Values that the `cms` group stores for topology: kinds 1 to 99.
//!
//! Owns the kinds' numbers and the frame of every value: one version byte, then the content. A newer version is refused
//! untouched. Does not own the procedure journal (kinds 100 to 119), which is the procedures' own.

use crate::model::Topology;
use bytes::Bytes;
use pairline_group::{Key, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The topology document.
pub const KIND_TOPOLOGY: Kind = Kind(1);
/// A user's directory entry.
pub const KIND_DIRECTORY: Kind = Kind(2);
/// A group's ownership hint.
pub const KIND_OWNERSHIP: Kind = Kind(3);
/// Version of the values written by this build.
pub const VERSION: u8 = 1;
/// Longest value in bytes; a proposal takes no more.
pub const MAX_VALUE: usize = 4 * 1024 * 1024;

/// Why a stored value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// No bytes at all.
    #[error("the value is empty")]
    Empty,
    /// Longer than any value may be.
    #[error("the value has {0} bytes, more than {MAX_VALUE}")]
    TooLong(usize),
    /// Written by a newer build; it stays untouched.
    #[error("the value has format version {0}, this build reads up to {VERSION}")]
    Newer(u8),
    /// Its content does not fit its type.
    #[error("the value cannot be read")]
    Malformed(#[from] postcard::Error),
    /// Bytes are left over after the value.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    let body = postcard::to_extend(value, vec![VERSION]).expect("writing to memory does not fail for plain data");
    Bytes::from(body)
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoredError> {
    if value.len() > MAX_VALUE {
        return Err(StoredError::TooLong(value.len()));
    }
    let (version, body) = value.split_first().ok_or(StoredError::Empty)?;
    if *version != VERSION {
        return Err(StoredError::Newer(*version));
    }
    let (decoded, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(decoded) } else { Err(StoredError::Trailing(rest.len())) }
}

/// Key of the topology document in `cms`.
pub fn topology_key() -> Key {
    Key::new(crate::directory::DEPLOYMENT_OWNER, KIND_TOPOLOGY, b"")
}

/// The topology document's stored value.
pub fn encode_topology(topology: &Topology) -> Bytes {
    encode(topology)
}

/// Reads the topology document's stored value. It is not checked again: what was published was checked.
///
/// # Errors
/// See [`StoredError`].
pub fn decode_topology(value: &[u8]) -> Result<Topology, StoredError> {
    decode(value)
}
