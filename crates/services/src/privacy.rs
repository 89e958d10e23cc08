//! What a caller wants hidden (RFC 3323, 3325, 7044).
//!
//! Owns the reading of Privacy. Does not own what is hidden where (`forward`, `proxy::history`).

use pairline_sip::header::Name;
use pairline_sip::message::Message;

/// Whether Privacy holds one of these values. They are separated by semicolons (RFC 3323 §4.2); commas are met too.
pub fn asks(request: &Message, values: &[&str]) -> bool {
    let named = |tag: &[u8]| values.iter().any(|value| tag.eq_ignore_ascii_case(value.as_bytes()));
    request.has(Name::Privacy)
        && request
            .headers(Name::Privacy)
            .flat_map(|line| line.split(|b| matches!(b, b';' | b',')))
            .any(|tag| named(tag.trim_ascii()))
}
