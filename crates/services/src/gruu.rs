//! Globally routable user agent URIs (RFC 5627): addresses of one device of a user.
//!
//! Owns both forms and what they lead to. A public one says the instance in clear. A temporary one is sealed: whoever calls
//! it learns neither user nor device, and every server of the deployment can open it without having made it. It is void once
//! the device's registration has another Call-ID or has begun anew. Does not own when a client is told (`registrar`) or
//! where the request goes (`proxy`).

use crate::binding::Binding;
use crate::records::derive;
use crate::routes::{hex, unhex};
use crate::settings::Secret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key as CipherKey, Nonce};
use pairline_group::Millis;
use pairline_sip::uri::{Aor, Uri};

/// Beginning of a temporary GRUU's user part.
const PREFIX: &str = "tgruu.";
/// Version of what is sealed.
const VERSION: u8 = 1;
/// Bytes of the cipher's nonce.
const NONCE: usize = 12;
/// Bytes of the mark of an instance, and of a Call-ID.
const MARK: usize = 12;
/// Version, time of issue, two marks.
const HEAD: usize = 1 + 8 + 2 * MARK;
/// Names are filled up to a multiple of this, so that their length does not tell them.
const PAD: usize = 16;

/// The device that a GRUU leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Of a public GRUU: the instance's URN.
    Instance(Box<[u8]>),
    /// Of a temporary GRUU.
    Registration {
        /// Mark of the instance.
        instance: [u8; MARK],
        /// Mark of the registration's Call-ID.
        call_id: [u8; MARK],
        /// Wall-clock milliseconds at which it was given out.
        issued: Millis,
    },
}

impl Target {
    /// The device that a Request-URI means, if it is a GRUU of that user. Cheap for URIs that are none.
    pub fn of(key: &Secret, request_uri: &[u8]) -> Option<Target> {
        if !request_uri.contains(&b';') {
            return None;
        }
        let uri = Uri::parse(request_uri).ok()?;
        let urn = uri.param("gr")?;
        match urn {
            b"" => open(key, &uri).map(|(_, target)| target),
            urn => Some(Target::Instance(unescape(urn)?.into())),
        }
    }

    /// Whether a live binding is one of that device's.
    pub fn admits(&self, binding: &Binding) -> bool {
        let Some(instance) = binding.instance.as_deref() else {
            return false;
        };
        match self {
            Target::Instance(urn) => urn_of(instance).eq_ignore_ascii_case(urn),
            Target::Registration { instance: device, call_id, issued } => {
                *device == mark(instance) && *call_id == mark(&binding.call_id) && *issued >= binding.since
            }
        }
    }

    /// Whether it can be void while the user exists: such a GRUU leads to nobody (404), a public one to a device that is
    /// away (480).
    pub fn is_temporary(&self) -> bool {
        matches!(self, Target::Registration { .. })
    }
}

/// The URN of a `+sip.instance` value: without its angle brackets.
fn urn_of(instance: &[u8]) -> &[u8] {
    instance.strip_prefix(b"<").and_then(|urn| urn.strip_suffix(b">")).unwrap_or(instance)
}

fn mark(bytes: &[u8]) -> [u8; MARK] {
    let mut out = [0_u8; MARK];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..MARK]);
    out
}

/// `sip:` or `sips:`, as the contact has it (RFC 5627 §5.2).
fn scheme(binding: &Binding) -> &'static str {
    let secure = binding.contact.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"sips:"));
    if secure { "sips:" } else { "sip:" }
}

/// The public GRUU of a binding's device; `None` without an instance.
pub fn public(user: &Aor, binding: &Binding) -> Option<String> {
    let urn = urn_of(binding.instance.as_deref()?);
    Some(format!("{}{}@{};gr={}", scheme(binding), user.user(), user.domain(), escape(urn)))
}

/// A temporary GRUU of a binding's device, given out at this wall-clock time; `None` without an instance.
pub fn temporary(key: &Secret, user: &Aor, binding: &Binding, wall: Millis) -> Option<String> {
    let mut plain = Vec::with_capacity(HEAD + user.user().len() + PAD);
    plain.push(VERSION);
    plain.extend_from_slice(&wall.to_be_bytes());
    plain.extend_from_slice(&mark(binding.instance.as_deref()?));
    plain.extend_from_slice(&mark(&binding.call_id));
    plain.extend_from_slice(user.user().as_bytes());
    plain.resize(HEAD + user.user().len().next_multiple_of(PAD), 0);
    // Equal only for equal content, so no two contents share a nonce.
    let mut hasher = blake3::Hasher::new_keyed(&derive(key, b"temporary gruu nonce"));
    hasher.update(user.domain().as_bytes());
    hasher.update(&plain);
    let mut sealed = hasher.finalize().as_bytes()[..NONCE].to_vec();
    let payload = Payload { msg: &plain, aad: user.domain().as_bytes() };
    let body = cipher(key)
        .encrypt(Nonce::from_slice(&sealed), payload)
        .expect("a few hundred bytes are within the cipher's limits");
    sealed.extend_from_slice(&body);
    Some(format!("{}{PREFIX}{}@{};gr", scheme(binding), hex(&sealed), user.domain()))
}

/// The user that a temporary GRUU of ours stands for, whether it is still valid or not.
pub fn owner(key: &Secret, uri: &Uri<'_>) -> Option<Aor> {
    uri.user.filter(|user| user.starts_with(PREFIX.as_bytes()))?;
    open(key, uri).map(|(user, _)| user)
}

fn cipher(key: &Secret) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(CipherKey::from_slice(&derive(key, b"temporary gruu")))
}

/// Opens a temporary GRUU; `None` if its seal is not this deployment's.
fn open(key: &Secret, uri: &Uri<'_>) -> Option<(Aor, Target)> {
    let aor = uri.aor()?;
    let bytes = unhex(uri.user?.strip_prefix(PREFIX.as_bytes())?)?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
    let payload = Payload { msg: sealed, aad: aor.domain().as_bytes() };
    let plain = cipher(key).decrypt(Nonce::from_slice(nonce), payload).ok()?;
    let (head, name) = plain.split_at_checked(HEAD)?;
    if head[0] != VERSION {
        return None;
    }
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let name = std::str::from_utf8(&name[..end]).ok()?;
    let user = Aor::parse(&format!("sip:{name}@{}", aor.domain()))?;
    let issued = Millis::from_be_bytes(head[1..9].try_into().ok()?);
    let instance = head[9..9 + MARK].try_into().ok()?;
    let call_id = head[9 + MARK..].try_into().ok()?;
    Some((user, Target::Registration { instance, call_id, issued }))
}

/// As a URI parameter's value (RFC 3261 §25.1, `pvalue`).
fn escape(urn: &[u8]) -> String {
    let mut out = String::with_capacity(urn.len());
    for byte in urn {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            out.extend(unhex(&after.get(..2)?.to_ascii_lowercase())?);
            rest = &after[2..];
        } else {
            out.push(*first);
        }
    }
    Some(out)
}
