//! The `name=value` lists of challenges and credentials. Runs before authentication, on hostile
//! bytes: everything is bounded and a repeated name is an error.

use std::borrow::Cow;

use super::credentials::AuthError;
use crate::scan;

const MAX_LENGTH: usize = 4096;
const MAX_FIELDS: usize = 24;
const MAX_VALUE: usize = 1024;

/// A field that something is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Known {
    Username,
    Realm,
    Nonce,
    Uri,
    Response,
    Algorithm,
    Cnonce,
    Nc,
    Qop,
    Opaque,
    Stale,
}

/// All of them with their names, in their order.
const KNOWN: [(&str, Known); 11] = [
    ("username", Known::Username),
    ("realm", Known::Realm),
    ("nonce", Known::Nonce),
    ("uri", Known::Uri),
    ("response", Known::Response),
    ("algorithm", Known::Algorithm),
    ("cnonce", Known::Cnonce),
    ("nc", Known::Nc),
    ("qop", Known::Qop),
    ("opaque", Known::Opaque),
    ("stale", Known::Stale),
];

impl Known {
    fn from_name(name: &[u8]) -> Option<Known> {
        let is_it = |(known, _): &&(&str, Known)| known.as_bytes().eq_ignore_ascii_case(name);
        KNOWN.iter().find(is_it).map(|(_, known)| *known)
    }

    /// As it stands in an error.
    fn name(self) -> &'static str {
        KNOWN[self as usize].0
    }
}

/// The fields of one list: values without quotes and escapes.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    known: [Option<Cow<'a, [u8]>>; KNOWN.len()],
    /// Names of the others, which are read over.
    others: Vec<&'a [u8]>,
    count: usize,
}

impl<'a> Fields<'a> {
    /// Reads `Digest name=value, name="value", …`.
    pub(super) fn parse(value: &'a [u8]) -> Result<Fields<'a>, AuthError> {
        if value.len() > MAX_LENGTH {
            return Err(AuthError::TooLong);
        }
        let value = scan::trim(value);
        let scheme_end = scan::skip_token(value, 0);
        if !value[..scheme_end].eq_ignore_ascii_case(b"Digest") {
            return Err(AuthError::NotDigest);
        }
        let mut at = scan::skip_lws(value, scheme_end);
        if at == scheme_end {
            return Err(AuthError::Syntax);
        }
        let mut fields = Fields::default();
        loop {
            let name_end = scan::skip_token(value, at);
            let name = &value[at..name_end];
            let equals = scan::skip_lws(value, name_end);
            if name.is_empty() || value.get(equals) != Some(&b'=') {
                return Err(AuthError::Syntax);
            }
            let (text, end) = field_value(value, scan::skip_lws(value, equals + 1))?;
            fields.put(name, text)?;
            at = scan::skip_lws(value, end);
            match value.get(at) {
                None => return Ok(fields),
                Some(b',') => at = scan::skip_lws(value, at + 1),
                Some(_) => return Err(AuthError::Syntax),
            }
        }
    }

    fn put(&mut self, name: &'a [u8], text: Cow<'a, [u8]>) -> Result<(), AuthError> {
        let known = Known::from_name(name);
        let repeated = match known {
            Some(known) => self.known[known as usize].is_some(),
            None => self.others.iter().any(|other| other.eq_ignore_ascii_case(name)),
        };
        if repeated {
            return Err(AuthError::Repeated);
        }
        if self.count == MAX_FIELDS || text.len() > MAX_VALUE {
            return Err(AuthError::TooLong);
        }
        self.count += 1;
        match known {
            Some(known) => self.known[known as usize] = Some(text),
            None => self.others.push(name),
        }
        Ok(())
    }

    /// Takes a value out of the list.
    pub(super) fn take(&mut self, what: Known) -> Option<Cow<'a, [u8]>> {
        self.known[what as usize].take()
    }

    /// The same of one that must be there.
    pub(super) fn need(&mut self, what: Known) -> Result<Cow<'a, [u8]>, AuthError> {
        self.take(what).ok_or(AuthError::Missing(what.name()))
    }
}

fn field_value(value: &[u8], at: usize) -> Result<(Cow<'_, [u8]>, usize), AuthError> {
    if value.get(at) == Some(&b'"') {
        // Nearly always there is no escape in it.
        let first = memchr::memchr2(b'"', b'\\', &value[at + 1..]).ok_or(AuthError::Syntax)? + at + 1;
        if value[first] == b'"' {
            return Ok((Cow::Borrowed(&value[at + 1..first]), first + 1));
        }
        let end = scan::quoted_end(value, at).ok_or(AuthError::Syntax)?;
        return Ok((Cow::Owned(unescape(&value[at + 1..end - 1])), end));
    }
    let length =
        value[at..].iter().take_while(|b| !scan::is_lws(**b) && !matches!(b, b',' | b'"' | 0..=0x1f | 0x7f)).count();
    if length == 0 {
        return Err(AuthError::Syntax);
    }
    Ok((Cow::Borrowed(&value[at..at + length]), at + length))
}

/// A quoted string's text without its backslashes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&b) = bytes.next() {
        let plain = if b == b'\\' { bytes.next() } else { Some(&b) };
        out.extend(plain);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, Known};

    #[test]
    fn each_known_field_stands_at_its_place_in_the_table() {
        for (at, (name, known)) in KNOWN.iter().enumerate() {
            assert_eq!((*known as usize, known.name()), (at, *name));
            assert_eq!(Known::from_name(name.to_ascii_uppercase().as_bytes()), Some(*known));
        }
        assert_eq!(Known::from_name(b"domain"), None);
    }
}
