//! The `name=value` lists of challenges and credentials. Runs before authentication, on hostile
//! bytes: everything is bounded and a repeated name is an error.

use std::borrow::Cow;

use super::credentials::AuthError;
use crate::scan;

const MAX_LENGTH: usize = 4096;
const MAX_FIELDS: usize = 24;
const MAX_VALUE: usize = 1024;

/// One field: its name, and its value without quotes and escapes.
pub(super) type Field<'a> = (&'a [u8], Cow<'a, [u8]>);

/// Reads `Digest name=value, name="value", …`.
pub(super) fn parse(value: &[u8]) -> Result<Vec<Field<'_>>, AuthError> {
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
    let mut fields: Vec<Field<'_>> = Vec::with_capacity(12);
    loop {
        let name_end = scan::skip_token(value, at);
        let name = &value[at..name_end];
        let equals = scan::skip_lws(value, name_end);
        if name.is_empty() || value.get(equals) != Some(&b'=') {
            return Err(AuthError::Syntax);
        }
        let (text, end) = field_value(value, scan::skip_lws(value, equals + 1))?;
        if fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return Err(AuthError::Repeated);
        }
        if fields.len() == MAX_FIELDS || text.len() > MAX_VALUE {
            return Err(AuthError::TooLong);
        }
        fields.push((name, text));
        at = scan::skip_lws(value, end);
        match value.get(at) {
            None => return Ok(fields),
            Some(b',') => at = scan::skip_lws(value, at + 1),
            Some(_) => return Err(AuthError::Syntax),
        }
    }
}

fn field_value(value: &[u8], at: usize) -> Result<(Cow<'_, [u8]>, usize), AuthError> {
    if value.get(at) == Some(&b'"') {
        let end = scan::quoted_end(value, at).ok_or(AuthError::Syntax)?;
        return Ok((unescape(&value[at + 1..end - 1]), end));
    }
    let length =
        value[at..].iter().take_while(|b| !scan::is_lws(**b) && !matches!(b, b',' | b'"' | 0..=0x1f | 0x7f)).count();
    if length == 0 {
        return Err(AuthError::Syntax);
    }
    Ok((Cow::Borrowed(&value[at..at + length]), at + length))
}

/// A quoted string's text without its backslashes.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&b) = bytes.next() {
        let plain = if b == b'\\' { bytes.next() } else { Some(&b) };
        out.extend(plain);
    }
    Cow::Owned(out)
}

/// Takes the value of `name` out of the list.
pub(super) fn take<'a>(fields: &mut Vec<Field<'a>>, name: &str) -> Option<Cow<'a, [u8]>> {
    let at = fields.iter().position(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(fields.swap_remove(at).1)
}
