//! Just enough of Rust's lexical grammar to tell code from comments and literals.
//!
//! Owns the splitting and the matching of braces. Knows nothing of items, and is no parser.

use std::ops::Range;

/// A Rust text in two layers of the same length in lines.
pub(crate) struct Split {
    /// Code, with comments and the insides of literals replaced by blanks.
    pub code: String,
    /// Comments, with everything else replaced by blanks.
    pub comments: String,
}

/// Splits `source`. Line breaks are kept in both layers.
pub(crate) fn split(source: &str) -> Split {
    let bytes = source.as_bytes();
    let mut code = vec![b' '; bytes.len()];
    let mut comments = vec![b' '; bytes.len()];
    for (i, byte) in bytes.iter().enumerate().filter(|(_, b)| **b == b'\n') {
        code[i] = *byte;
        comments[i] = *byte;
    }
    let mut at = 0;
    while at < bytes.len() {
        let (end, layer) = token(bytes, at);
        match layer {
            Layer::Code => code[at..end].copy_from_slice(&bytes[at..end]),
            Layer::Comment => comments[at..end].copy_from_slice(&bytes[at..end]),
            Layer::Literal => {
                code[at] = b'"';
                code[end - 1] = b'"';
            }
        }
        at = end;
    }
    // Only whole tokens are copied and the rest is blanks, so both are valid UTF-8 whenever the source is.
    Split {
        code: String::from_utf8_lossy(&code).into_owned(),
        comments: String::from_utf8_lossy(&comments).into_owned(),
    }
}

enum Layer {
    Code,
    Comment,
    Literal,
}

/// The end of the token at `at` and the layer that it belongs to.
fn token(bytes: &[u8], at: usize) -> (usize, Layer) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return (at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()), Layer::Comment);
    }
    if rest.starts_with(b"/*") {
        return (at + block_comment(rest), Layer::Comment);
    }
    if rest[0] == b'"' {
        return (at + quoted(rest, b'"'), Layer::Literal);
    }
    if rest[0] == b'\'' {
        return match character(rest) {
            Some(length) => (at + length, Layer::Literal),
            None => (at + 1, Layer::Code),
        };
    }
    let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80).count();
    if word == 0 {
        return (at + 1, Layer::Code);
    }
    if matches!(&rest[..word], b"r" | b"br" | b"cr")
        && let Some(length) = raw(&rest[word..])
    {
        return (at + word + length, Layer::Literal);
    }
    if matches!(&rest[..word], b"b" | b"c") && rest.get(word) == Some(&b'"') {
        return (at + word + quoted(&rest[word..], b'"'), Layer::Literal);
    }
    (at + word, Layer::Code)
}

/// Length of the nested block comment at the start of `rest`.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the literal at the start of `rest`, escapes respected.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal, or `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .map_or_else(|e| std::str::from_utf8(&rest[1..1 + e.valid_up_to()]).ok(), Some)
        .and_then(|text| text.chars().next())
        .map(char::len_utf8)?;
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// Length of `#"…"#` with its hashes, or `None` if this is not a raw string.
fn raw(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|b| **b == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.extend(std::iter::repeat_n(b'#', hashes));
    let body = &rest[hashes + 1..];
    let end = body.windows(closing.len()).position(|w| w == closing.as_slice())?;
    Some(hashes + 1 + end + closing.len())
}

/// The range of the first `{…}` at or after `from`, unless a `;` at depth 0 comes first.
pub(crate) fn braced(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0usize;
    let mut round = 0usize;
    let mut start = None;
    for (i, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round = round.saturating_sub(1),
            b';' if depth == 0 && round == 0 => return None,
            b'{' => {
                depth += 1;
                start.get_or_insert(i);
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return start.map(|s| s..i + 1);
                }
            }
            _ => {}
        }
    }
    None
}
