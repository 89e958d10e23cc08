//! Small writers into a byte vector, shared by edits, replies and requests.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends `value` in decimal.
pub(crate) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of a division by ten fits.
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an address, IPv6 without brackets (as `received` wants it).
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{address}");
}

/// Appends a header value; line ends and NUL, which would begin another header, become spaces.
pub(crate) fn value(out: &mut Vec<u8>, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(value);
    if memchr::memchr3(b'\r', b'\n', 0, value).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
    }
}

/// Appends `name: value` and the line end; what cannot stand in a name becomes a hyphen.
pub(crate) fn header(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    let start = out.len();
    out.extend_from_slice(name);
    for byte in &mut out[start..] {
        if !crate::scan::is_token_byte(*byte) {
            *byte = b'-';
        }
    }
    out.extend_from_slice(b": ");
    value(out, text);
    out.extend_from_slice(b"\r\n");
}
