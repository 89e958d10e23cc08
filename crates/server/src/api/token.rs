//! Bearer tokens: the administrator's, and those that users get for their own contacts and settings.
//!
//! Owns their format, issue and check, in constant time. Does not own where the secret lies or who may ask for a token.

use std::fmt::Write;
use subtle::ConstantTimeEq;

/// Longest token that is looked at, in bytes.
const LONGEST: usize = 1024;

/// Shortest administrator token that is accepted, in bytes: 128 bits in hex.
const SHORTEST_SECRET: usize = 32;

/// Version of the user token's format; the first member of the token.
const VERSION: &str = "u1";

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// The administrator's token is too short to be one.
    #[error("the administrator's token has fewer than {SHORTEST_SECRET} characters")]
    TooShort,
}

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The administrator.
    Administrator,
    /// A user, as written when the token was issued.
    User(String),
}

/// Checks and issues tokens. Holds digests of the secret, never the secret.
#[derive(Clone)]
pub struct Tokens {
    admin: blake3::Hash,
    user_key: [u8; 32],
}

impl Tokens {
    /// From the administrator's token. User tokens are bound to it: replacing it ends them all.
    pub fn new(admin_token: &str) -> Result<Tokens, TokenError> {
        let secret = admin_token.trim();
        if secret.len() < SHORTEST_SECRET {
            return Err(TokenError::TooShort);
        }
        Ok(Tokens {
            admin: blake3::hash(secret.as_bytes()),
            user_key: blake3::derive_key("pairline 2026 user bearer token v1", secret.as_bytes()),
        })
    }

    /// Whom a token stands for at this wall-clock second; `None` if it is not valid.
    pub fn check(&self, token: &str, wall_seconds: u64) -> Option<Holder> {
        if token.len() > LONGEST {
            return None;
        }
        if bool::from(blake3::hash(token.as_bytes()).as_bytes().ct_eq(self.admin.as_bytes())) {
            return Some(Holder::Administrator);
        }
        self.check_user(token, wall_seconds)
    }

    /// Issues a user's token that is valid until a wall-clock second.
    pub fn issue(&self, user: &str, until: u64) -> String {
        let name = hex(user.as_bytes());
        format!("{VERSION}.{name}.{until}.{}", hex(&self.mac(user, until)))
    }

    fn check_user(&self, token: &str, wall_seconds: u64) -> Option<Holder> {
        let mut parts = token.split('.');
        let (version, name, until, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        let user = String::from_utf8(unhex(name)?).ok()?;
        let until: u64 = until.parse().ok()?;
        let right = bool::from(self.mac(&user, until).as_slice().ct_eq(&unhex(mac)?));
        (right && wall_seconds < until).then_some(Holder::User(user))
    }

    fn mac(&self, user: &str, until: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.user_key);
        hasher.update(&until.to_le_bytes());
        hasher.update(user.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of lower- or upper-case hex; `None` if it is not hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
