//! Digest authentication as a phone computes it (RFC 7616 §3.4), without any of Pairline's code.
//!
//! Owns the arithmetic and the reading of a challenge. Does not own messages (`raw`, `phone`).

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

/// Digest algorithms by their names in SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `MD5`.
    Md5,
    /// `SHA-256`.
    Sha256,
    /// `SHA-512-256`.
    Sha512Over256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Over256];

    /// Its token.
    pub fn token(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512Over256 => "SHA-512-256",
        }
    }

    /// The digest of a text, in hexadecimal.
    pub fn hex(self, text: &str) -> String {
        let bytes = match self {
            Algorithm::Md5 => Md5::digest(text).to_vec(),
            Algorithm::Sha256 => Sha256::digest(text).to_vec(),
            Algorithm::Sha512Over256 => Sha512_256::digest(text).to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// HA1: what a server stores instead of the password.
pub fn ha1(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hex(&format!("{user}:{realm}:{password}"))
}

/// A challenge as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Its realm.
    pub realm: String,
    /// Its nonce.
    pub nonce: String,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Whether it says that only the nonce was too old.
    pub stale: bool,
}

impl Challenge {
    /// Reads the first challenge of an answer.
    ///
    /// # Panics
    /// If there is none, or one that cannot be read.
    pub fn of(answer: &str) -> Challenge {
        let line = answer.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: Digest "));
        let line = line.unwrap_or_else(|| panic!("no challenge in {answer}"));
        let field = |name: &str| {
            let all = line.split(',').filter_map(|field| field.trim().split_once('='));
            all.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned()).next()
        };
        let token = field("algorithm").unwrap_or_else(|| "MD5".to_owned());
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.token() == token);
        Challenge {
            realm: field("realm").unwrap_or_else(|| panic!("no realm in {line}")),
            nonce: field("nonce").unwrap_or_else(|| panic!("no nonce in {line}")),
            algorithm: algorithm.unwrap_or_else(|| panic!("unknown algorithm in {line}")),
            stale: field("stale").is_some_and(|stale| stale == "true"),
        }
    }

    /// The Authorization header line that answers it, for a nonce count.
    pub fn answer(&self, user: &str, password: &str, method: &str, uri: &str, count: u32) -> String {
        let Challenge { realm, nonce, algorithm, .. } = self;
        let (secret, what) = (ha1(*algorithm, user, realm, password), algorithm.hex(&format!("{method}:{uri}")));
        let response = algorithm.hex(&format!("{secret}:{nonce}:{count:08x}:c0ffee:auth:{what}"));
        format!(
            "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", cnonce=\"c0ffee\", nc={count:08x}, qop=auth, algorithm={}\r\n",
            algorithm.token()
        )
    }
}
