//! `name-addr` and `addr-spec` with header parameters (From, To, Contact, Route and their like).

use crate::params::{Param, Params, SyntaxError};
use crate::scan;
use crate::uri::{Uri, UriError};

/// A URI with an optional display name and header parameters (RFC 3261 §20.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    raw: &'a [u8],
    /// The display name as it stands, quotes included; empty if there is none.
    pub display: &'a [u8],
    /// The URI without angle brackets.
    pub uri: &'a [u8],
    /// The header parameters.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value (one element of a list). A URI outside angle brackets ends at its first
    /// `;`, which begins the header parameters, and must not contain `?` or `,` (RFC 3261 §20).
    pub fn parse(raw: &'a [u8]) -> Result<NameAddr<'a>, SyntaxError> {
        Self::parse_with(raw, |_| {})
    }

    /// Reads a value that was checked when its message was parsed: only finds the parts.
    pub(crate) fn trusted(raw: &'a [u8]) -> Option<NameAddr<'a>> {
        let quoted = match raw.first()? {
            b'"' => scan::quoted_end(raw, 0)?,
            _ => 0,
        };
        let stop = raw[quoted..].iter().position(|b| matches!(b, b'<' | b';'));
        let stop = quoted + stop.unwrap_or(raw.len() - quoted);
        let before = scan::trim_end(&raw[..stop]);
        let (display, uri, rest) = if raw.get(stop) == Some(&b'<') {
            let close = stop + memchr::memchr(b'>', &raw[stop..])?;
            (before, &raw[stop + 1..close], close + 1)
        } else {
            (&raw[..0], before, stop)
        };
        Some(NameAddr { raw, display, uri, params: Params::trusted(&raw[rest..]) })
    }

    /// As [`parse`](Self::parse), showing each header parameter on the way.
    pub(crate) fn parse_with(raw: &'a [u8], see: impl FnMut(&Param<'a>)) -> Result<NameAddr<'a>, SyntaxError> {
        let raw = scan::trim(raw);
        match raw.first() {
            None => Err(SyntaxError { at: 0 }),
            Some(b'"') => {
                let end = scan::quoted_end(raw, 0).ok_or(SyntaxError { at: 0 })?;
                let open = scan::skip_lws(raw, end);
                if raw.get(open) != Some(&b'<') {
                    return Err(SyntaxError { at: open });
                }
                Self::bracketed(raw, &raw[..end], open, see)
            }
            Some(_) => {
                let stop = raw.iter().position(|b| matches!(b, b'<' | b';' | b'"')).unwrap_or(raw.len());
                if raw.get(stop) == Some(&b'<') {
                    Self::bracketed(raw, scan::trim_end(&raw[..stop]), stop, see)
                } else {
                    Self::bare(raw, stop, see)
                }
            }
        }
    }

    fn bracketed(
        raw: &'a [u8],
        display: &'a [u8],
        open: usize,
        see: impl FnMut(&Param<'a>),
    ) -> Result<NameAddr<'a>, SyntaxError> {
        let inside = &raw[open + 1..];
        let close = memchr::memchr(b'>', inside).ok_or(SyntaxError { at: open })?;
        let uri = &inside[..close];
        check_uri(uri, open + 1)?;
        let rest_at = open + 1 + close + 1;
        Ok(NameAddr { raw, display, uri, params: rest(raw, rest_at, see)? })
    }

    fn bare(raw: &'a [u8], stop: usize, see: impl FnMut(&Param<'a>)) -> Result<NameAddr<'a>, SyntaxError> {
        if raw.get(stop) == Some(&b'"') {
            return Err(SyntaxError { at: stop });
        }
        let uri = scan::trim_end(&raw[..stop]);
        check_uri(uri, 0)?;
        if let Some(at) = memchr::memchr2(b'?', b',', uri) {
            return Err(SyntaxError { at });
        }
        Ok(NameAddr { raw, display: b"", uri, params: rest(raw, stop, see)? })
    }

    /// The whole value, white space at its ends removed.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The URI in parts.
    pub fn parse_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }

    /// The value of a header parameter without quotes; empty for a parameter without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// Whether a header parameter is present.
    pub fn has_param(&self, name: &str) -> bool {
        self.params.has(name)
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag")
    }

    /// The `q` parameter in thousandths, 0 to 1000; `None` if absent or malformed.
    pub fn q(&self) -> Option<u16> {
        parse_q(self.param("q")?)
    }

    /// The `expires` parameter in seconds; digits that overflow give the maximum.
    pub fn expires(&self) -> Option<u32> {
        scan::parse_u32_saturating(self.param("expires")?)
    }
}

fn rest<'a>(raw: &'a [u8], at: usize, see: impl FnMut(&Param<'a>)) -> Result<Params<'a>, SyntaxError> {
    Params::parse_with(&raw[at..], see).map_err(|error| SyntaxError { at: at + error.at })
}

/// A scheme, a colon, something after it, and nothing that a URI can never contain.
fn check_uri(uri: &[u8], at: usize) -> Result<(), SyntaxError> {
    let colon = memchr::memchr(b':', uri).ok_or(SyntaxError { at })?;
    let scheme = &uri[..colon];
    let scheme_ok = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !scheme_ok || colon + 1 == uri.len() {
        return Err(SyntaxError { at });
    }
    if scan::is_uri_text(uri) { Ok(()) } else { Err(SyntaxError { at }) }
}

/// `qvalue` of RFC 3261 §25.1: 0 to 1 with at most three decimals; in thousandths.
pub(crate) fn parse_q(value: &[u8]) -> Option<u16> {
    let (whole, fraction): (u16, &[u8]) = match value {
        [b'0'] => (0, b""),
        [b'1'] => (1000, b""),
        [b'0', b'.', rest @ ..] => (0, rest),
        [b'1', b'.', rest @ ..] => (1000, rest),
        // Seen in the wild, and harmless.
        [b'.', rest @ ..] if !rest.is_empty() => (0, rest),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut thousandths = 0u16;
    for i in 0..3 {
        let digit = fraction.get(i).map_or(0, |b| u16::from(b - b'0'));
        thousandths = thousandths * 10 + digit;
    }
    let total = whole + thousandths;
    (total <= 1000).then_some(total)
}
