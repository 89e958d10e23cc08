//! Header parameters: `;name=value` lists after a URI, a Via or a media type (RFC 3261 §25.1
//! `generic-param`), with white space and folding tolerated. URI parameters are in `uri`.

use crate::scan;

/// The bytes do not follow the grammar of the thing that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header value at byte {at}")]
pub struct SyntaxError {
    /// Offset in the value at which reading stopped.
    pub at: usize,
}

/// A list of parameters, checked when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a> {
    raw: &'a [u8],
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name as it stands; compare without regard to case.
    pub name: &'a [u8],
    /// The value as it stands, quotes included; `None` without `=`.
    pub raw_value: Option<&'a [u8]>,
    /// Where the parameter begins (its `;`) in the list.
    pub(crate) start: usize,
    /// Where it ends in the list.
    pub(crate) end: usize,
}

impl<'a> Param<'a> {
    /// The value without surrounding quotes (quoted pairs inside are kept); empty without `=`.
    pub fn value(&self) -> &'a [u8] {
        match self.raw_value {
            None => b"",
            Some([b'"', inner @ .., b'"']) => inner,
            Some(value) => value,
        }
    }
}

impl<'a> Params<'a> {
    /// Checks `raw`, which is empty or starts (after white space) with `;`.
    pub fn parse(raw: &'a [u8]) -> Result<Params<'a>, SyntaxError> {
        Self::parse_with(raw, |_| {})
    }

    /// As [`parse`](Self::parse), showing each parameter on the way, so that a check of one of
    /// them needs no second pass.
    pub(crate) fn parse_with(raw: &'a [u8], mut see: impl FnMut(&Param<'a>)) -> Result<Params<'a>, SyntaxError> {
        let mut at = 0;
        while let Some(param) = next_param(raw, at)? {
            see(&param);
            at = param.end;
        }
        Ok(Params { raw })
    }

    /// A list that was checked before; should it not have been, iteration ends at the first
    /// malformed parameter.
    pub(crate) fn trusted(raw: &'a [u8]) -> Params<'a> {
        Params { raw }
    }

    /// No parameters.
    pub fn empty() -> Params<'static> {
        Params { raw: b"" }
    }

    /// The bytes from the first `;`.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let raw = self.raw;
        let mut at = 0;
        std::iter::from_fn(move || {
            let param = next_param(raw, at).ok().flatten()?;
            at = param.end;
            Some(param)
        })
    }

    /// The first parameter called `name`, in any case.
    pub fn find(&self, name: &str) -> Option<Param<'a>> {
        self.iter().find(|param| param.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The value of `name` without quotes; empty if the parameter has none.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name).map(|param| param.value())
    }

    /// Whether `name` is present, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

#[inline]
fn next_param(raw: &[u8], at: usize) -> Result<Option<Param<'_>>, SyntaxError> {
    let start = scan::skip_lws(raw, at);
    if start == raw.len() {
        return Ok(None);
    }
    if raw[start] != b';' {
        return Err(SyntaxError { at: start });
    }
    let name_at = scan::skip_lws(raw, start + 1);
    let name_end = scan::skip_token(raw, name_at);
    if name_end == name_at {
        return Err(SyntaxError { at: name_at });
    }
    let name = &raw[name_at..name_end];
    let equals = scan::skip_lws(raw, name_end);
    if raw.get(equals) != Some(&b'=') {
        return Ok(Some(Param { name, raw_value: None, start, end: name_end }));
    }
    let value_at = scan::skip_lws(raw, equals + 1);
    let end = value_end(raw, value_at)?;
    Ok(Some(Param { name, raw_value: Some(&raw[value_at..end]), start, end }))
}

fn value_end(raw: &[u8], at: usize) -> Result<usize, SyntaxError> {
    if raw.get(at) == Some(&b'"') {
        return scan::quoted_end(raw, at).ok_or(SyntaxError { at });
    }
    let rest = &raw[at..];
    let length = rest.iter().position(|&b| !scan::is_param_byte(b));
    let end = at + length.unwrap_or(rest.len());
    if raw.get(end).is_some_and(|&b| b != b';' && !scan::is_lws(b)) {
        return Err(SyntaxError { at: end });
    }
    Ok(end)
}
