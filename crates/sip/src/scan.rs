//! Byte classes and number parsing shared by the parsers. Knows no header and no message.

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const PARAM_VALUE: u8 = 4;
const URI: u8 = 8;

const CLASS: [u8; 256] = build_class();

const fn build_class() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric() {
            class |= TOKEN | HOST;
        }
        if matches!(b, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
            class |= TOKEN;
        }
        let plain = b > b' ' && b != 0x7f && !matches!(b, b'"' | b'<' | b'>');
        if plain {
            class |= URI;
        }
        if plain && !matches!(b, b';' | b',') {
            class |= PARAM_VALUE;
        }
        table[byte] = class;
        byte += 1;
    }
    table
}

/// A character of `token` (RFC 3261 §25.1).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

/// A character of a host name; the underscore is tolerated.
pub(crate) fn is_host_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & HOST != 0
}

/// A character that can stand in a parameter value outside quotes.
pub(crate) fn is_param_byte(byte: u8) -> bool {
    CLASS[usize::from(byte)] & PARAM_VALUE != 0
}

/// Whether all characters can occur in a URI: no white space, control characters, quotes, angles.
pub(crate) fn is_uri_text(bytes: &[u8]) -> bool {
    // Without an early exit the loop has no branch to mispredict; URIs are short.
    bytes.iter().fold(URI, |all, &b| all & CLASS[usize::from(b)]) & URI != 0
}

/// A non-empty token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// White space as it can occur inside a header value; line ends belong to folding.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The first position at or after `at` that is not white space.
pub(crate) fn skip_lws(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_lws(bytes[at]) {
        at += 1;
    }
    at
}

/// The first position at or after `at` that is not a token character.
pub(crate) fn skip_token(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length = rest.iter().position(|&b| !is_token_byte(b));
    at + length.unwrap_or(rest.len())
}

/// `bytes` without white space at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(&bytes[skip_lws(bytes, 0)..])
}

/// `bytes` without white space at the end.
pub(crate) fn trim_end(bytes: &[u8]) -> &[u8] {
    let mut end = bytes.len();
    while end > 0 && is_lws(bytes[end - 1]) {
        end -= 1;
    }
    &bytes[..end]
}

/// Digits only, at least one, leading zeros allowed; `None` on anything else or overflow.
pub(crate) fn parse_u32(bytes: &[u8]) -> Option<u32> {
    // Nearly all are so short that nothing can overflow.
    if bytes.len() < 10 {
        let digit = |sum: u32, b: &u8| Some(sum * 10 + u32::from(Some(b.wrapping_sub(b'0')).filter(|d| *d < 10)?));
        return bytes.iter().try_fold(0, digit).filter(|_| !bytes.is_empty());
    }
    let mut value: u32 = 0;
    for &b in bytes {
        if !b.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(b - b'0'))?;
    }
    Some(value)
}

/// As [`parse_u32`], for ports.
pub(crate) fn parse_u16(bytes: &[u8]) -> Option<u16> {
    parse_u32(bytes).and_then(|value| u16::try_from(value).ok())
}

/// As [`parse_u32`], but digits that overflow give the maximum (RFC 3261 §20.19 deltas).
pub(crate) fn parse_u32_saturating(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(parse_u32(bytes).unwrap_or(u32::MAX))
}

/// The end of the quoted string that opens at `at`: the position after the closing quote.
pub(crate) fn quoted_end(bytes: &[u8], at: usize) -> Option<usize> {
    debug_assert_eq!(bytes.get(at), Some(&b'"'));
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    None
}

/// The value of one hexadecimal digit.
pub(crate) fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// 64-bit FNV-1a with a final mix: for tags and jitter, never for security.
pub(crate) fn mix_hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &b in *part {
            hash = (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // A separator that cannot occur in the parts, so that ("ab", "c") != ("a", "bc").
        hash = (hash ^ 0x1ff).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::parse_u32;

    #[test]
    fn numbers_have_digits_only_and_fit() {
        let cases: [(&[u8], Option<u32>); 12] = [
            (b"", None),
            (b"0", Some(0)),
            (b"000000007", Some(7)),
            (b"0000000000007", Some(7)),
            (b"999999999", Some(999_999_999)),
            (b"4294967295", Some(u32::MAX)),
            (b"4294967296", None),
            (b"12a", None),
            (b"-1", None),
            (b"/", None),
            (b":", None),
            (b"1 ", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse_u32(text), number, "{}", String::from_utf8_lossy(text));
        }
    }
}
