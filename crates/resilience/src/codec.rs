//! The frame of every value that this room stores or sends: one version byte, then the content.
//!
//! Owns the bound on length and the refusal of newer versions. What the content is, is said by its type.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of everything written by this build.
pub const VERSION: u8 = 1;
/// Longest value in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;

/// Why bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("the value is empty")]
    Empty,
    /// Longer than its kind may be.
    #[error("the value has {0} bytes, more than {1}")]
    TooLong(usize, usize),
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

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8], longest: usize) -> Result<T, CodecError> {
    if value.len() > longest {
        return Err(CodecError::TooLong(value.len(), longest));
    }
    let (version, body) = value.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Newer(*version));
    }
    let (decoded, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(decoded) } else { Err(CodecError::Trailing(rest.len())) }
}
