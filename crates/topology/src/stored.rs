//! Values that the `cms` group stores for topology: kinds 1 to 99.
//!
//! Owns the kinds' numbers and the frame of every value: one version byte, then the content. A newer version is refused
//! untouched. Does not own the procedure journal (kinds 100 to 119), which is the procedures' own.
//!
//! The topology has two versions. 1 is fields by their order. 2 is the document's text: a policy added later needs no further
//! version, for a text without it means its default, and a build that does not know it refuses the document as a whole. A
//! document that says nothing new is still written as version 1, so that older builds read it.

use crate::error::ConfigError;
use crate::model::Topology;
use crate::parse;
use crate::stored_v1::TopologyV1;
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
/// Version of the values written by this build, the topology's excepted.
pub const VERSION: u8 = 1;
/// Newest version of the topology's value.
pub const TOPOLOGY_VERSION: u8 = 2;
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
    /// It says what this build does not know, or is no text.
    #[error("the document's text cannot be read here: {}", .0.first().map_or_else(|| "not UTF-8".to_owned(), ToString::to_string))]
    Text(Vec<ConfigError>),
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
    if let Some(v1) = TopologyV1::of(topology) {
        return encode(&v1);
    }
    let mut value = vec![TOPOLOGY_VERSION];
    value.extend_from_slice(parse::to_toml(topology).as_bytes());
    Bytes::from(value)
}

/// Reads the topology document's stored value. The rules between its parts are not checked again: what was published was
/// checked.
///
/// # Errors
/// See [`StoredError`].
pub fn decode_topology(value: &[u8]) -> Result<Topology, StoredError> {
    match value.split_first() {
        Some((&TOPOLOGY_VERSION, text)) if value.len() <= MAX_VALUE => {
            let text = std::str::from_utf8(text).map_err(|_| StoredError::Text(Vec::new()))?;
            parse::read("topology", text).map_err(StoredError::Text)
        }
        _ => decode::<TopologyV1>(value).map(Topology::from),
    }
}
