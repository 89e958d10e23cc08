//! Nonces that need no table: version, issue time and a random number under a MAC. Any server
//! that has the keys can check one, so they stay valid in a whole pool and at its partner.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::digest::hex;
use crate::scan;

const VERSION: u8 = 1;
/// Version, issue time, random number.
const HEAD: usize = 1 + 8 + 8;
const MAC: usize = 16;
/// A nonce may come from a server whose clock is ahead of ours by so much, in milliseconds.
const SKEW_MS: u64 = 300_000;

/// The keys of a pool and its partner. Rotation moves `current` to `previous`.
#[derive(Clone)]
pub struct NonceKeys {
    /// Signs and checks.
    pub current: [u8; 32],
    /// Only checks.
    pub previous: Option<[u8; 32]>,
}

impl std::fmt::Debug for NonceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKeys(..)")
    }
}

/// What a nonce is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// Issued by us, and young enough.
    Fresh {
        /// Identifies the nonce; rises with the time of issue.
        id: u128,
    },
    /// Issued by us, too long ago.
    Expired,
    /// Not issued under either key.
    Unknown,
}

/// A new nonce, in lower-case hexadecimal (66 digits). `now_wall_ms` is wall time in milliseconds.
pub fn issue_nonce(keys: &NonceKeys, now_wall_ms: u64, random: u64) -> String {
    let mut bytes = Vec::with_capacity(HEAD + MAC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&now_wall_ms.to_be_bytes());
    bytes.extend_from_slice(&random.to_be_bytes());
    let mac = hmac_sha256(&keys.current, &bytes);
    bytes.extend_from_slice(&mac[..MAC]);
    hex(&bytes).into_iter().map(char::from).collect()
}

/// Checks a nonce that a client gave back, against a maximum age in milliseconds.
pub fn check_nonce(keys: &NonceKeys, nonce: &[u8], now_wall_ms: u64, max_age_ms: u64) -> NonceVerdict {
    let Some(bytes) = unhex(nonce) else {
        return NonceVerdict::Unknown;
    };
    if bytes[0] != VERSION {
        return NonceVerdict::Unknown;
    }
    let (head, mac) = bytes.split_at(HEAD);
    let signed = |key: &[u8; 32]| bool::from(hmac_sha256(key, head)[..MAC].ct_eq(mac));
    let current = signed(&keys.current);
    let previous = keys.previous.as_ref().is_some_and(signed);
    if !current && !previous {
        return NonceVerdict::Unknown;
    }
    let mut number = [0u8; 16];
    number.copy_from_slice(&head[1..]);
    let id = u128::from_be_bytes(number);
    let mut issued = [0u8; 8];
    issued.copy_from_slice(&head[1..9]);
    let issued = u64::from_be_bytes(issued);
    let fresh = issued <= now_wall_ms.saturating_add(SKEW_MS) && now_wall_ms.saturating_sub(issued) <= max_age_ms;
    if fresh { NonceVerdict::Fresh { id } } else { NonceVerdict::Expired }
}

fn unhex(text: &[u8]) -> Option<[u8; HEAD + MAC]> {
    if text.len() != 2 * (HEAD + MAC) {
        return None;
    }
    let mut bytes = [0u8; HEAD + MAC];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = scan::hex_value(pair[0])? * 16 + scan::hex_value(pair[1])?;
    }
    Some(bytes)
}

/// HMAC (RFC 2104) with SHA-256 and a key shorter than the block.
fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut inner = [0x36u8; 64];
    let mut outer = [0x5cu8; 64];
    for (at, byte) in key.iter().enumerate() {
        inner[at] ^= byte;
        outer[at] ^= byte;
    }
    let first = Sha256::new_with_prefix(inner).chain_update(message);
    let second = Sha256::new_with_prefix(outer).chain_update(first.finalize());
    second.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::hmac_sha256;
    use crate::auth::digest::hex;

    /// RFC 4231 test case 2 has a short key; padded with zeros it is the same key.
    #[test]
    fn hmac_of_rfc_4231() {
        let mut key = [0u8; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            hex(&hmac_sha256(&key, b"what do ya want for nothing?")),
            b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
