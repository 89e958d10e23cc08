//! The deployment's secrets: the key that seals credentials at rest and the root of the keys of digest nonces.
//!
//! Owns their file: versioned, mode 0600, the same at both pools. Does not own their use: the keys that sign nonces are
//! derived from the root and the wall clock's period (`pairline_sip::auth`), so they rotate at both pools without a message,
//! and this file stays as it is.

use crate::tls::files::{self, FileError};
use crate::tls::{RandomFailed, fill_random};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Version of the file that this build writes; newer ones are refused untouched.
pub const VERSION: u32 = 1;

/// The secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Seals stored credentials (ChaCha20-Poly1305).
    pub sealing: [u8; 32],
    /// Root of the keys that sign digest nonces.
    pub nonce_current: [u8; 32],
    /// A root that an administrator has replaced by hand; nonces under it are still accepted.
    pub nonce_previous: Option<[u8; 32]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// Why secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a secrets file.
    #[error("not a secrets file: {0}")]
    Malformed(&'static str),
    /// Written by a newer build.
    #[error("the secrets file has version {0}, this build knows up to {VERSION}")]
    Newer(u32),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    sealing: String,
    nonce_current: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce_previous: Option<String>,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32], SecretsError> {
    let mut key = [0_u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(SecretsError::Malformed("a key must be 64 hexadecimal digits"));
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| SecretsError::Malformed("a key must be hexadecimal"))?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| SecretsError::Malformed("a key must be hexadecimal"))?;
    }
    Ok(key)
}

impl Secrets {
    /// New secrets for a new deployment.
    ///
    /// # Errors
    /// [`SecretsError::Random`].
    pub fn generate() -> Result<Secrets, SecretsError> {
        let mut sealing = [0_u8; 32];
        let mut nonce_current = [0_u8; 32];
        fill_random(&mut sealing)?;
        fill_random(&mut nonce_current)?;
        Ok(Secrets { sealing, nonce_current, nonce_previous: None })
    }

    /// Reads a text as [`Secrets::to_toml`] writes it.
    ///
    /// # Errors
    /// [`SecretsError::Malformed`], [`SecretsError::Newer`].
    pub fn from_toml(text: &str) -> Result<Secrets, SecretsError> {
        let version: VersionOnly = toml::from_str(text).map_err(|_| SecretsError::Malformed("no version"))?;
        if version.version > VERSION {
            return Err(SecretsError::Newer(version.version));
        }
        // The parser's own message would quote the line, and so the secret.
        let stored: Stored = toml::from_str(text).map_err(|_| SecretsError::Malformed("missing or unknown fields"))?;
        Ok(Secrets {
            sealing: unhex(&stored.sealing)?,
            nonce_current: unhex(&stored.nonce_current)?,
            nonce_previous: stored.nonce_previous.as_deref().map(unhex).transpose()?,
        })
    }

    /// As text.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "version = {VERSION}\nsealing = \"{}\"\nnonce_current = \"{}\"\n",
            hex(&self.sealing),
            hex(&self.nonce_current)
        );
        if let Some(previous) = &self.nonce_previous {
            text.push_str(&format!("nonce_previous = \"{}\"\n", hex(previous)));
        }
        text
    }

    /// Loads the file, which must be private.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn load(path: &Path) -> Result<Secrets, SecretsError> {
        let content = files::read_private(path)?;
        let text = std::str::from_utf8(&content).map_err(|_| SecretsError::Malformed("not text"))?;
        Secrets::from_toml(text)
    }

    /// Writes the file with mode 0600.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn store(&self, path: &Path) -> Result<(), SecretsError> {
        Ok(files::write_private(path, self.to_toml().as_bytes())?)
    }

    /// Loads the file, or creates it with new secrets at the first start.
    ///
    /// # Errors
    /// [`SecretsError`]; an existing file is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<Secrets, SecretsError> {
        if path.exists() {
            return Secrets::load(path);
        }
        let secrets = Secrets::generate()?;
        secrets.store(path)?;
        Ok(secrets)
    }
}
