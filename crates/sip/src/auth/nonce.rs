//! Nonces that need no table: version, issue time and a random number under a MAC. Any server
//! that has the roots can check one, so they stay valid in a whole pool and at its partner.
//!
//! The key of the MAC is derived from a root and the number of the wall clock's period, so keys rotate
//! everywhere at once and without a message. Two are valid: the present period's and the one before.

use std::cell::RefCell;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::digest::hex;
use crate::scan;

/// Version 1 was signed with the root itself.
const VERSION: u8 = 2;
/// Version, issue time, random number.
const HEAD: usize = 1 + 8 + 8;
const MAC: usize = 16;
/// A nonce may come from a server whose clock is ahead of ours by so much, in milliseconds.
const SKEW_MS: u64 = 300_000;

/// For how long one derived key signs, in milliseconds (6 h); it checks for as long again. No nonce may live longer.
pub const NONCE_PERIOD_MS: u64 = 6 * 3_600_000;

/// The roots of a deployment's nonce keys. Each period of [`NONCE_PERIOD_MS`] has a key of its own, derived from the root.
#[derive(Clone)]
pub struct NonceKeys {
    current: Root,
    previous: Option<Root>,
}

impl NonceKeys {
    /// Keys of a root that signs and checks, and of one that was replaced (after a leak), which only checks.
    pub fn new(current: [u8; 32], previous: Option<[u8; 32]>) -> NonceKeys {
        NonceKeys { current: Root::new(current), previous: previous.map(Root::new) }
    }
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
    /// Not issued under a key that is valid now.
    Unknown,
}

/// A new nonce, in lower-case hexadecimal (66 digits). `now_wall_ms` is wall time in milliseconds.
pub fn issue_nonce(keys: &NonceKeys, now_wall_ms: u64, random: u64) -> String {
    let mut bytes = Vec::with_capacity(HEAD + MAC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&now_wall_ms.to_be_bytes());
    bytes.extend_from_slice(&random.to_be_bytes());
    let mac = keys.current.sign(now_wall_ms / NONCE_PERIOD_MS, &bytes);
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
    let mut number = [0u8; 16];
    number.copy_from_slice(&head[1..]);
    let id = u128::from_be_bytes(number);
    let mut issued = [0u8; 8];
    issued.copy_from_slice(&head[1..9]);
    let issued = u64::from_be_bytes(issued);
    let Some(period) = valid_period(issued, now_wall_ms) else {
        return NonceVerdict::Unknown;
    };
    let signed = |root: &Root| bool::from(root.sign(period, head)[..MAC].ct_eq(mac));
    if !signed(&keys.current) && !keys.previous.as_ref().is_some_and(signed) {
        return NonceVerdict::Unknown;
    }
    let fresh = issued <= now_wall_ms.saturating_add(SKEW_MS) && now_wall_ms.saturating_sub(issued) <= max_age_ms;
    if fresh { NonceVerdict::Fresh { id } } else { NonceVerdict::Expired }
}

/// The lowest id of a nonce that was issued at a wall time, in milliseconds, or later.
pub(super) fn id_from(issued: u64) -> u128 {
    u128::from(issued) << 64
}

/// The period whose key signed at that time, if that key is valid now: the present one, the one before, or the next one where
/// the issuer's clock may be ahead of ours.
fn valid_period(issued: u64, now_wall_ms: u64) -> Option<u64> {
    let (period, now) = (issued / NONCE_PERIOD_MS, now_wall_ms / NONCE_PERIOD_MS);
    let last = now_wall_ms.saturating_add(SKEW_MS) / NONCE_PERIOD_MS;
    (now.saturating_sub(1)..=last).contains(&period).then_some(period)
}

/// A root, and the key that was derived from it last: each is asked for by every request for hours.
#[derive(Clone)]
struct Root {
    bytes: [u8; 32],
    derived: RefCell<Option<(u64, Mac)>>,
}

impl Root {
    fn new(bytes: [u8; 32]) -> Root {
        Root { bytes, derived: RefCell::new(None) }
    }

    /// The MAC of a message under the key of one period.
    fn sign(&self, period: u64, message: &[u8]) -> [u8; 32] {
        let mut derived = self.derived.borrow_mut();
        match &*derived {
            Some((of, mac)) if *of == period => mac.of(message),
            _ => derived.insert((period, Mac::new(&self.key_of(period)))).1.of(message),
        }
    }

    fn key_of(&self, period: u64) -> [u8; 32] {
        const LABEL: &[u8; 18] = b"pairline nonce key";
        let mut message = [0u8; LABEL.len() + 8];
        message[..LABEL.len()].copy_from_slice(LABEL);
        message[LABEL.len()..].copy_from_slice(&period.to_be_bytes());
        Mac::new(&self.bytes).of(&message)
    }
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

/// HMAC (RFC 2104) with SHA-256 and a key shorter than the block: both hashes as they stand behind their block of the key, which is
/// half of the work of a short message.
#[derive(Clone)]
struct Mac {
    inner: Sha256,
    outer: Sha256,
}

impl Mac {
    fn new(key: &[u8; 32]) -> Mac {
        let mut inner = [0x36u8; 64];
        let mut outer = [0x5cu8; 64];
        for (at, byte) in key.iter().enumerate() {
            inner[at] ^= byte;
            outer[at] ^= byte;
        }
        Mac { inner: Sha256::new_with_prefix(inner), outer: Sha256::new_with_prefix(outer) }
    }

    fn of(&self, message: &[u8]) -> [u8; 32] {
        let first = self.inner.clone().chain_update(message).finalize();
        self.outer.clone().chain_update(first).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::Mac;
    use crate::auth::digest::hex;

    /// RFC 4231 test case 2 has a short key; padded with zeros it is the same key.
    #[test]
    fn hmac_of_rfc_4231() {
        let mut key = [0u8; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            hex(&Mac::new(&key).of(b"what do ya want for nothing?")),
            b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
