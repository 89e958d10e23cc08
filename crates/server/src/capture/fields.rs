//! The head of a message as lines, whatever state it is in: what is captured may be malformed, and still has to be read.
//!
//! Owns the cutting into header lines and body. Does not own what a header means, and checks nothing.

use std::ops::Range;

/// Where the parts of one message are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The start line, without its line end.
    pub start: Range<usize>,
    /// Names and values of headers, folded lines included.
    pub headers: Vec<(Range<usize>, Range<usize>)>,
    /// Where the body begins; the message's length if there is none.
    pub body_at: usize,
}

/// Headers that are looked at; a message with more is malformed anyway.
const MOST: usize = 512;

impl Fields {
    /// Cuts a message.
    pub fn of(message: &[u8]) -> Fields {
        let begin = message.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(message.len());
        let mut lines = Lines { message, at: begin };
        let start = lines.next().unwrap_or(begin..begin);
        let mut fields = Fields { start, headers: Vec::with_capacity(24), body_at: message.len() };
        while let Some(line) = lines.next() {
            let text = &message[line.clone()];
            if text.is_empty() {
                fields.body_at = lines.at;
                break;
            }
            if matches!(text.first(), Some(b' ' | b'\t')) {
                if let Some((_, value)) = fields.headers.last_mut() {
                    value.end = line.end;
                }
                continue;
            }
            let colon = text.iter().position(|b| *b == b':');
            if let Some(colon) = colon.filter(|_| fields.headers.len() < MOST) {
                let name = trimmed(message, line.start..line.start + colon);
                fields.headers.push((name, line.start + colon + 1..line.end));
            }
        }
        fields
    }

    /// Values of a header, by its name or its compact form, without white space at both ends.
    pub fn values<'m>(
        &'m self,
        message: &'m [u8],
        name: &'m str,
        compact: Option<&'m str>,
    ) -> impl Iterator<Item = &'m [u8]> {
        let is = move |found: &[u8]| {
            found.eq_ignore_ascii_case(name.as_bytes())
                || compact.is_some_and(|compact| found.eq_ignore_ascii_case(compact.as_bytes()))
        };
        let fits = self.headers.iter().filter(move |(found, _)| is(&message[found.clone()]));
        fits.map(|(_, value)| message[value.clone()].trim_ascii())
    }

    /// The Call-ID; empty if there is none.
    pub fn call_id<'m>(&'m self, message: &'m [u8]) -> &'m [u8] {
        self.values(message, "call-id", Some("i")).next().unwrap_or_default()
    }
}

struct Lines<'m> {
    message: &'m [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.message.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        let end = rest.iter().position(|b| *b == b'\n');
        self.at = end.map_or(self.message.len(), |end| start + end + 1);
        let mut end = end.map_or(self.message.len(), |end| start + end);
        if end > start && self.message[end - 1] == b'\r' {
            end -= 1;
        }
        Some(start..end)
    }
}

fn trimmed(message: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &message[range.clone()];
    let start = text.len() - text.trim_ascii_start().len();
    let end = text.trim_ascii_end().len();
    if start >= end { range.start..range.start } else { range.start + start..range.start + end }
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn a_message_is_cut_into_start_line_headers_and_body() {
        let text = b"\r\nINVITE sip:b@x SIP/2.0\r\nVia : a,\r\n b\r\ni:  one \r\nCall-ID: two\r\n\r\nCall-ID: body\r\n";
        let fields = Fields::of(text);
        assert_eq!(&text[fields.start.clone()], b"INVITE sip:b@x SIP/2.0");
        assert_eq!(fields.values(text, "VIA", Some("v")).next(), Some(&b"a,\r\n b"[..]));
        let ids: Vec<&[u8]> = fields.values(text, "call-id", Some("i")).collect();
        assert_eq!(ids, [&b"one"[..], b"two"]);
        assert_eq!(fields.call_id(text), b"one");
        assert_eq!(&text[fields.body_at..], b"Call-ID: body\r\n");
    }

    #[test]
    fn what_is_no_message_has_no_parts_and_harms_nobody() {
        for text in [&b""[..], b"\r\n\r\n", b"\n", b"x", b": \n :\n\n", b"\r", b"a\n b\n", b"a\n:\n", b"\xff\xfe\n \n"]
        {
            let fields = Fields::of(text);
            assert!(fields.body_at <= text.len());
            assert!(fields.call_id(text).is_empty());
        }
    }
}
