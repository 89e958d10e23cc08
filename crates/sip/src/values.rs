//! Comma-separated header values: elements outside quotes and angle brackets (RFC 3261 §7.3.1).

use crate::scan;

/// The range of the element of `value` that begins at `at`, without white space at its ends, and
/// the position after the comma that follows it (or the length of `value` + 1 at the end).
pub(crate) fn element_at(value: &[u8], at: usize) -> (std::ops::Range<usize>, usize) {
    let comma = find_comma(value, at).unwrap_or(value.len());
    let start = scan::skip_lws(&value[..comma], at);
    let end = start + scan::trim_end(&value[start..comma]).len();
    (start..end, comma + 1)
}

fn find_comma(value: &[u8], at: usize) -> Option<usize> {
    // Most lines hold one element: without a comma nothing else has to be looked at.
    let first = at + memchr::memchr(b',', &value[at..])?;
    if memchr::memchr2(b'"', b'<', &value[at..first]).is_none() {
        return Some(first);
    }
    let mut i = at;
    let mut angle = false;
    while i < value.len() {
        match value[i] {
            b'"' if !angle => match scan::quoted_end(value, i) {
                Some(end) => {
                    i = end;
                    continue;
                }
                None => return None,
            },
            b'<' => angle = true,
            b'>' => angle = false,
            b',' if !angle => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// The elements of one header value, in order; empty elements are given as empty slices.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at > value.len() {
            return None;
        }
        let (range, next) = element_at(value, at);
        at = next;
        Some(&value[range])
    })
}
