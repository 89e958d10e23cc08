//! Records of a user's group: which kinds there are, their keys and their stored forms.
//!
//! Owns kinds 200–299. Does not own the forms of bindings and subscriptions (`binding`, `subscription`) nor the directory (`pairline-topology`, kinds 1–99).

use crate::settings::Secret;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key as CipherKey, Nonce};
use pairline_group::{Key, Kind, PoolId};
use pairline_sip::auth::Algorithm;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Sealed HA1s of a user; durable; item empty.
pub const CREDENTIAL: Kind = Kind(200);
/// Settings of a user; durable; item empty.
pub const SETTINGS: Kind = Kind(201);
/// One contact of a user's list; durable; item = the contact's address.
pub const CONTACT: Kind = Kind(202);
/// One binding; soft; item = its 16-byte id.
pub const BINDING: Kind = Kind(203);
/// One guest binding, in a group of the pool that made it; soft; item = home pool (big-endian u16), then the 16-byte id.
pub const GUEST: Kind = Kind(204);
/// One subscription to a user; soft; item = its 16-byte id.
pub const SUBSCRIPTION: Kind = Kind(205);

/// Whether records of a kind are soft: lost with a tail, and no loss.
pub fn is_soft(kind: Kind) -> bool {
    matches!(kind, BINDING | GUEST | SUBSCRIPTION)
}

const CREDENTIAL_VERSION: u8 = 1;
const SETTINGS_VERSION: u8 = 1;
const CONTACT_VERSION: u8 = 1;

/// Why a stored value cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No version byte.
    #[error("empty value")]
    Empty,
    /// A form that this build does not know.
    #[error("version {0} is not known here")]
    Version(u8),
    /// Not well-formed.
    #[error("malformed value")]
    Malformed(#[source] postcard::Error),
    /// A field is out of range.
    #[error("bad value of {0}")]
    Value(&'static str),
    /// The seal does not open: another key, or changed bytes.
    #[error("the seal does not open")]
    Seal,
}

/// Splits the version byte off.
pub(crate) fn body_of(value: &[u8], version: u8) -> Result<&[u8], DecodeError> {
    match value.split_first() {
        None => Err(DecodeError::Empty),
        Some((v, body)) if *v == version => Ok(body),
        Some((v, _)) => Err(DecodeError::Version(*v)),
    }
}

fn encode<T: Serialize>(version: u8, value: &T) -> Bytes {
    Bytes::from(postcard::to_extend(value, vec![version]).expect("encoding into memory cannot fail"))
}

fn decode<T: DeserializeOwned>(version: u8, value: &[u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(body_of(value, version)?).map_err(DecodeError::Malformed)
}

/// Key of a user's credential.
pub fn credential_key(user: &str) -> Key {
    Key::new(user, CREDENTIAL, b"")
}

/// Key of a user's settings.
pub fn settings_key(user: &str) -> Key {
    Key::new(user, SETTINGS, b"")
}

/// Key of a contact in a user's list.
pub fn contact_key(user: &str, contact: &str) -> Key {
    Key::new(user, CONTACT, contact.as_bytes())
}

/// Key of a binding.
pub fn binding_key(user: &str, id: &[u8; 16]) -> Key {
    Key::new(user, BINDING, id)
}

/// Key of a guest binding of a user whose home is `home`; it lies in the group with the user's hash of the pool that made it.
pub fn guest_key(user: &str, home: PoolId, id: &[u8; 16]) -> Key {
    let mut item = [0_u8; 18];
    item[..2].copy_from_slice(&home.0.to_be_bytes());
    item[2..].copy_from_slice(id);
    Key::new(user, GUEST, &item)
}

/// Key of a subscription to a user.
pub fn subscription_key(user: &str, id: &[u8; 16]) -> Key {
    Key::new(user, SUBSCRIPTION, id)
}

/// A user's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Shown to others.
    pub display_name: Option<String>,
    /// All calls go there instead (a SIP address of this deployment).
    pub forward_to: Option<String>,
    /// Free text.
    pub note: Option<String>,
}

impl Settings {
    /// Encodes with the version byte.
    pub fn encode(&self) -> Bytes {
        encode(SETTINGS_VERSION, self)
    }

    /// Decodes a stored value.
    pub fn decode(value: &[u8]) -> Result<Settings, DecodeError> {
        decode(SETTINGS_VERSION, value)
    }
}

/// One contact of a list; its address is the record's item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its name.
    pub name: String,
    /// Groups that it is in.
    pub groups: Vec<String>,
}

impl Contact {
    /// Encodes with the version byte.
    pub fn encode(&self) -> Bytes {
        encode(CONTACT_VERSION, self)
    }

    /// Decodes a stored value.
    pub fn decode(value: &[u8]) -> Result<Contact, DecodeError> {
        decode(CONTACT_VERSION, value)
    }
}

/// HA1s of a user, one per algorithm that policy may allow. Printed without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Realm that they were computed for.
    pub realm: String,
    /// Lower-case hexadecimal HA1 by algorithm.
    pub ha1: Vec<(Algorithm, Vec<u8>)>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("realm", &self.realm).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct PlainCredential {
    realm: String,
    ha1: Vec<(u8, Vec<u8>)>,
}

/// The same, read without copying.
#[derive(Deserialize)]
struct Opened<'a> {
    #[serde(rename = "realm", borrow)]
    _realm: &'a str,
    #[serde(borrow)]
    ha1: Vec<(u8, &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    nonce: [u8; 12],
    #[serde(borrow)]
    sealed: &'a [u8],
}

fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Sha512_256 => 3,
    }
}

fn algorithm_of(code: u8) -> Option<Algorithm> {
    Some(match code {
        1 => Algorithm::Md5,
        2 => Algorithm::Sha256,
        3 => Algorithm::Sha512_256,
        _ => return None,
    })
}

fn cipher(key: &Secret) -> ChaCha20Poly1305 {
    let derived = derive(key, b"credential");
    ChaCha20Poly1305::new(CipherKey::from_slice(&derived))
}

/// A key for one purpose from the deployment's sealing key.
pub(crate) fn derive(key: &Secret, purpose: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&key.0, purpose).as_bytes()
}

/// The sealed part of a stored credential.
fn unseal(key: &Secret, user: &str, value: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let body = body_of(value, CREDENTIAL_VERSION)?;
    let sealed: Sealed<'_> = postcard::from_bytes(body).map_err(DecodeError::Malformed)?;
    let payload = Payload { msg: sealed.sealed, aad: user.as_bytes() };
    cipher(key).decrypt(Nonce::from_slice(&sealed.nonce), payload).map_err(|_| DecodeError::Seal)
}

impl Credential {
    /// Computes the HA1s of a password.
    pub fn from_password(algorithms: &[Algorithm], user: &str, realm: &str, password: &str) -> Credential {
        let ha1 = algorithms
            .iter()
            .map(|a| (*a, pairline_sip::auth::ha1(*a, user.as_bytes(), realm.as_bytes(), password.as_bytes())))
            .collect();
        Credential { realm: realm.to_owned(), ha1 }
    }

    /// The HA1 of one algorithm.
    pub fn ha1(&self, algorithm: Algorithm) -> Option<&[u8]> {
        self.ha1.iter().find(|(a, _)| *a == algorithm).map(|(_, h)| h.as_slice())
    }

    /// Seals for storage (ChaCha20-Poly1305, bound to the user's address).
    ///
    /// The cipher's nonce is a keyed hash of `random`, user and content: equal only for equal content, so a weak
    /// `random` cannot make two contents share one.
    pub fn seal(&self, key: &Secret, user: &str, random: u64) -> Bytes {
        let plain = PlainCredential {
            realm: self.realm.clone(),
            ha1: self.ha1.iter().map(|(a, h)| (algorithm_code(*a), h.clone())).collect(),
        };
        let plain = postcard::to_stdvec(&plain).expect("encoding into memory cannot fail");
        let mut hasher = blake3::Hasher::new_keyed(&derive(key, b"credential nonce"));
        hasher.update(&random.to_be_bytes());
        hasher.update(&u64::try_from(user.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(user.as_bytes());
        hasher.update(&plain);
        let mut nonce = [0_u8; 12];
        nonce.copy_from_slice(&hasher.finalize().as_bytes()[..12]);
        let sealed = cipher(key)
            .encrypt(Nonce::from_slice(&nonce), Payload { msg: &plain, aad: user.as_bytes() })
            .expect("a few hundred bytes are within the cipher's limits");
        encode(CREDENTIAL_VERSION, &Sealed { nonce, sealed: &sealed })
    }

    /// The HA1 of one algorithm in a stored value; `None` if there is none of that algorithm.
    ///
    /// # Errors
    /// As [`Credential::open`].
    pub fn open_ha1(
        key: &Secret,
        user: &str,
        value: &[u8],
        algorithm: Algorithm,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let plain = unseal(key, user, value)?;
        let plain: Opened<'_> = postcard::from_bytes(&plain).map_err(DecodeError::Malformed)?;
        let code = algorithm_code(algorithm);
        Ok(plain.ha1.iter().find(|(found, _)| *found == code).map(|(_, ha1)| ha1.to_vec()))
    }

    /// Opens a stored value.
    ///
    /// # Errors
    /// If it is of another version, malformed, or sealed with another key or for another user.
    pub fn open(key: &Secret, user: &str, value: &[u8]) -> Result<Credential, DecodeError> {
        let plain = unseal(key, user, value)?;
        let plain: PlainCredential = postcard::from_bytes(&plain).map_err(DecodeError::Malformed)?;
        let ha1 = plain
            .ha1
            .into_iter()
            .map(|(code, hash)| Ok((algorithm_of(code).ok_or(DecodeError::Value("algorithm"))?, hash)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        Ok(Credential { realm: plain.realm, ha1 })
    }
}
