//! What a message is, by a look at its start line and its CSeq: for counting and for sorting what is captured.
//!
//! Owns that look, which allocates nothing and checks nothing else. Whoever decides anything by a message parses it.

/// What a message is, as one look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind<'a> {
    /// The status of a response, 100 to 699; `None` for a request.
    pub status: Option<u16>,
    /// The method of a request; of a response the method in CSeq, empty where there is none.
    pub method: &'a [u8],
}

/// Looks at one whole message; `None` if it does not begin as SIP 2.0 does.
pub fn kind_of(message: &[u8]) -> Option<Kind<'_>> {
    if let Some(rest) = message.strip_prefix(b"SIP/2.0 ") {
        let digits: &[u8; 3] = rest.first_chunk()?;
        let status = digits.iter().try_fold(0_u16, |all, b| b.is_ascii_digit().then(|| all * 10 + u16::from(b - b'0')));
        let status = status.filter(|status| (100..700).contains(status))?;
        return Some(Kind { status: Some(status), method: cseq_method(message) });
    }
    let line = &message[..memchr::memchr(b'\n', message)?];
    let method = &line[..memchr::memchr(b' ', line)?];
    line.trim_ascii_end().ends_with(b" SIP/2.0").then_some(Kind { status: None, method })
}

/// The method in CSeq; empty where it is not found.
fn cseq_method(message: &[u8]) -> &[u8] {
    let mut rest = message;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        rest = &rest[end + 1..];
        match rest.first() {
            Some(b'C' | b'c') => {}
            // The empty line: what follows is the body.
            Some(b'\r' | b'\n') | None => return b"",
            _ => continue,
        }
        if let Some(value) = value_of(rest, b"cseq") {
            let value = value.trim_ascii();
            let at = value.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
            return &value[at..];
        }
    }
    b""
}

/// The value of the header line that `rest` begins with, if it is that header.
fn value_of<'a>(rest: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, after) = rest.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    let line = &after[..memchr::memchr(b'\n', after).unwrap_or(after.len())];
    line.trim_ascii_start().strip_prefix(b":")
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind_of};

    #[test]
    fn requests_and_responses_are_told_apart() {
        let request = b"INVITE sip:bob@example.org SIP/2.0\r\nCSeq: 7 INVITE\r\n\r\n";
        assert_eq!(kind_of(request), Some(Kind { status: None, method: b"INVITE" }));
        for text in [
            &b"SIP/2.0 180 Ringing\r\nCall-ID: a\r\nCSeq: 7 INVITE\r\n\r\n"[..],
            b"SIP/2.0 180 Ringing\nContact: <sip:a@b>\ncseq \t:  7\tINVITE\n\n",
        ] {
            assert_eq!(kind_of(text), Some(Kind { status: Some(180), method: b"INVITE" }));
        }
    }

    #[test]
    fn a_response_without_cseq_has_no_method_and_its_body_is_not_searched() {
        let text = b"SIP/2.0 200 OK\r\nVia: x\r\n\r\nCSeq: 1 BYE\r\n";
        assert_eq!(kind_of(text), Some(Kind { status: Some(200), method: b"" }));
    }

    #[test]
    fn what_is_not_sip_shows_nothing() {
        for text in
            [&b""[..], b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"SIP/2.0 99 x\r\n", b"SIP/2.0 7OO x\r\n", b"OPTIONS"]
        {
            assert_eq!(kind_of(text), None, "{}", String::from_utf8_lossy(text));
        }
    }
}
