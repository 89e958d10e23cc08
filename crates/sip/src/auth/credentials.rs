//! Challenges and the answers to them: making, reading and checking.

use std::borrow::Cow;

use subtle::ConstantTimeEq;

use super::digest::{Algorithm, ha1};
use super::fields::{Fields, Known};

/// Why a challenge or credentials cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Another scheme than Digest.
    #[error("not the Digest scheme")]
    NotDigest,
    /// The list does not follow its grammar.
    #[error("malformed digest fields")]
    Syntax,
    /// A field occurs twice.
    #[error("repeated digest field")]
    Repeated,
    /// Too many or too long fields.
    #[error("digest fields exceed the limits")]
    TooLong,
    /// A mandatory field is missing.
    #[error("missing digest field {0}")]
    Missing(&'static str),
    /// An algorithm that is not supported.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// A nonce count that is not eight hexadecimal digits.
    #[error("malformed nonce count")]
    NonceCount,
}

/// Authorization or Proxy-Authorization, quotes and escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The user name.
    pub username: Cow<'a, [u8]>,
    /// The realm.
    pub realm: Cow<'a, [u8]>,
    /// The nonce.
    pub nonce: Cow<'a, [u8]>,
    /// The digest URI, which need not equal the Request-URI.
    pub uri: Cow<'a, [u8]>,
    /// The response.
    pub response: Cow<'a, [u8]>,
    /// The algorithm; MD5 if none is named.
    pub algorithm: Algorithm,
    /// The client nonce.
    pub cnonce: Option<Cow<'a, [u8]>>,
    /// The nonce count.
    pub nc: Option<u32>,
    /// The nonce count as it stands, which is what was hashed.
    pub nc_text: Option<Cow<'a, [u8]>>,
    /// The quality of protection.
    pub qop: Option<Cow<'a, [u8]>>,
    /// The opaque value.
    pub opaque: Option<Cow<'a, [u8]>>,
}

impl<'a> Credentials<'a> {
    /// Reads one header value, at most 4 KiB. A repeated field is an error.
    pub fn parse(value: &'a [u8]) -> Result<Credentials<'a>, AuthError> {
        let mut list = Fields::parse(value)?;
        let username = list.need(Known::Username)?;
        let realm = list.need(Known::Realm)?;
        let nonce = list.need(Known::Nonce)?;
        let uri = list.need(Known::Uri)?;
        let response = list.need(Known::Response)?;
        let algorithm = algorithm_of(list.take(Known::Algorithm))?;
        let nc_text = list.take(Known::Nc);
        let nc = match &nc_text {
            None => None,
            Some(text) => Some(parse_nc(text).ok_or(AuthError::NonceCount)?),
        };
        Ok(Credentials {
            username,
            realm,
            nonce,
            uri,
            response,
            algorithm,
            cnonce: list.take(Known::Cnonce),
            nc,
            nc_text,
            qop: list.take(Known::Qop),
            opaque: list.take(Known::Opaque),
        })
    }
}

fn algorithm_of(token: Option<Cow<'_, [u8]>>) -> Result<Algorithm, AuthError> {
    match token {
        None => Ok(Algorithm::Md5),
        Some(token) => Algorithm::from_token(&token).ok_or(AuthError::Algorithm),
    }
}

fn parse_nc(text: &[u8]) -> Option<u32> {
    if text.len() != 8 {
        return None;
    }
    text.iter().try_fold(0u32, |value, &b| Some(value << 4 | u32::from(crate::scan::hex_value(b)?)))
}

/// Whether the response is right for `ha1` (hexadecimal, of the credentials' algorithm) and the
/// request's method. Only `qop=auth` with cnonce and nc is accepted. The comparison takes the same
/// time wherever it fails. Nonce, realm and algorithm policy are the caller's to check.
pub fn verify(credentials: &Credentials<'_>, ha1: &[u8], method: &[u8]) -> bool {
    let algorithm = credentials.algorithm;
    let qop_auth = credentials.qop.as_deref().is_some_and(|qop| qop.eq_ignore_ascii_case(b"auth"));
    let (Some(cnonce), Some(nc)) = (&credentials.cnonce, &credentials.nc_text) else {
        return false;
    };
    if !qop_auth || ha1.len() != algorithm.hex_len() || credentials.response.len() != algorithm.hex_len() {
        return false;
    }
    let qop = credentials.qop.as_deref().unwrap_or_default();
    let expected = response_of(algorithm, ha1, [&credentials.nonce, nc, cnonce, qop], method, &credentials.uri);
    let given = credentials.response.to_ascii_lowercase();
    bool::from(expected.ct_eq(&given))
}

/// KD(HA1, nonce:nc:cnonce:qop:HA2) of RFC 7616 §3.4.1; `middle` is nonce, nc, cnonce, qop.
fn response_of(algorithm: Algorithm, ha1: &[u8], middle: [&[u8]; 4], method: &[u8], uri: &[u8]) -> Vec<u8> {
    let ha2 = algorithm.hex_of(&[method, uri]);
    let [nonce, nc, cnonce, qop] = middle;
    algorithm.hex_of(&[ha1, nonce, nc, cnonce, qop, &ha2])
}

/// The value of a WWW-Authenticate header, or of a Proxy-Authenticate one: both have the same
/// form, so the last argument changes nothing; it says at the call which of them is meant.
pub fn challenge(realm: &str, algorithm: Algorithm, nonce: &str, stale: bool, _proxy: bool) -> String {
    let mut text = String::with_capacity(96 + realm.len() + nonce.len());
    text.push_str("Digest realm=\"");
    push_quoted(&mut text, realm);
    text.push_str("\", nonce=\"");
    push_quoted(&mut text, nonce);
    text.push_str("\", algorithm=");
    text.push_str(algorithm.as_str());
    text.push_str(", qop=\"auth\"");
    if stale {
        text.push_str(", stale=true");
    }
    text
}

fn push_quoted(text: &mut String, value: &str) {
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        if !c.is_control() {
            text.push(c);
        }
    }
}

/// WWW-Authenticate or Proxy-Authenticate, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The realm.
    pub realm: Cow<'a, [u8]>,
    /// The nonce.
    pub nonce: Cow<'a, [u8]>,
    /// The algorithm; MD5 if none is named.
    pub algorithm: Algorithm,
    /// Whether `auth` is among the offered qualities of protection.
    pub qop_auth: bool,
    /// The opaque value, to be given back.
    pub opaque: Option<Cow<'a, [u8]>>,
    /// Whether only the nonce was too old.
    pub stale: bool,
}

impl<'a> Challenge<'a> {
    /// Reads one header value.
    pub fn parse(value: &'a [u8]) -> Result<Challenge<'a>, AuthError> {
        let mut list = Fields::parse(value)?;
        let realm = list.need(Known::Realm)?;
        let nonce = list.need(Known::Nonce)?;
        let algorithm = algorithm_of(list.take(Known::Algorithm))?;
        let qop_auth = list.take(Known::Qop).is_some_and(|offered| {
            offered.split(|&b| b == b',').any(|qop| crate::scan::trim(qop).eq_ignore_ascii_case(b"auth"))
        });
        let stale = list.take(Known::Stale).is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"));
        Ok(Challenge { realm, nonce, algorithm, qop_auth, opaque: list.take(Known::Opaque), stale })
    }
}

/// The value of Authorization or Proxy-Authorization that answers a challenge with `qop=auth`.
pub fn answer(
    challenge: &Challenge<'_>,
    username: &str,
    password: &str,
    method: &str,
    uri: &str,
    cnonce: &str,
    nc: u32,
) -> String {
    let algorithm = challenge.algorithm;
    let secret = ha1(algorithm, username.as_bytes(), &challenge.realm, password.as_bytes());
    let nc = format!("{nc:08x}");
    let response = response_of(
        algorithm,
        &secret,
        [&challenge.nonce, nc.as_bytes(), cnonce.as_bytes(), b"auth"],
        method.as_bytes(),
        uri.as_bytes(),
    );
    let mut text = String::with_capacity(384);
    let mut quoted = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str("=\"");
        push_quoted(&mut text, value);
        text.push_str("\", ");
    };
    quoted("Digest username", username);
    quoted("realm", &String::from_utf8_lossy(&challenge.realm));
    quoted("nonce", &String::from_utf8_lossy(&challenge.nonce));
    quoted("uri", uri);
    quoted("response", &String::from_utf8_lossy(&response));
    quoted("cnonce", cnonce);
    if let Some(opaque) = &challenge.opaque {
        quoted("opaque", &String::from_utf8_lossy(opaque));
    }
    text.push_str("nc=");
    text.push_str(&nc);
    text.push_str(", qop=auth, algorithm=");
    text.push_str(algorithm.as_str());
    text
}
