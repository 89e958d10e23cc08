//! Messages made from other messages: replies (RFC 3261 §8.2.6), the ACK to a non-2xx response
//! (§17.1.1.3) and CANCEL (§9.1).

use bytes::Bytes;

use crate::header::Name;
use crate::message::Message;
use crate::scan;
use crate::status::default_reason;
use crate::values;
use crate::via;

/// A reply under construction. Via, From, To, Call-ID and CSeq come from the request, and
/// Record-Route where the reply can form a dialog.
pub struct Reply<'a> {
    request: &'a Message,
    status: u16,
    reason: Option<&'a str>,
    to_tag: Option<&'a str>,
    extra: Vec<u8>,
    content_type: Option<&'a str>,
    body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A reply to `request` with the default reason phrase and no body.
    pub fn to(request: &'a Message, status: u16) -> Reply<'a> {
        Reply { request, status, reason: None, to_tag: None, extra: Vec::new(), content_type: None, body: b"" }
    }

    /// Another reason phrase.
    pub fn reason(mut self, reason: &'a str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The To tag if the request has none. Without this call the tag is derived from the
    /// transaction, so that every reply to one request has the same.
    pub fn to_tag(mut self, tag: &'a str) -> Self {
        self.to_tag = Some(tag);
        self
    }

    /// Adds a header. Line ends in name or value are written as spaces.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if self.extra.is_empty() {
            self.extra.reserve(256);
        }
        crate::write::header(&mut self.extra, name.as_bytes(), value.as_ref());
        self
    }

    /// Adds a known header.
    pub fn header_id(self, name: Name, value: impl AsRef<[u8]>) -> Self {
        self.header(name.as_str(), value)
    }

    /// Sets the body and its type.
    pub fn body(mut self, content_type: &'a str, body: &'a [u8]) -> Self {
        self.content_type = Some(content_type);
        self.body = body;
        self
    }

    /// The complete reply.
    pub fn build(&self) -> Bytes {
        let request = self.request;
        let head = request.body_at as usize;
        let estimate = 192 + head.min(1024) + self.extra.len() + self.body.len();
        let mut out = Vec::with_capacity(estimate);
        let reason = self.reason.unwrap_or_else(|| default_reason(self.status));
        write_status_line(&mut out, self.status, reason);
        self.write_vias(&mut out);
        if (101..300).contains(&self.status) && request.method().forms_dialog() {
            for line in request.headers(Name::RecordRoute) {
                copy_value(&mut out, b"Record-Route: ", line);
            }
        }
        copy_first(&mut out, b"From: ", request, Name::From);
        self.write_to(&mut out);
        copy_first(&mut out, b"Call-ID: ", request, Name::CallId);
        copy_first(&mut out, b"CSeq: ", request, Name::CSeq);
        if self.status == 100 {
            // RFC 3261 §8.2.6.1.
            if let Some(time) = request.header(Name::Timestamp) {
                copy_value(&mut out, b"Timestamp: ", time);
            }
        }
        out.extend_from_slice(&self.extra);
        if let Some(content_type) = self.content_type {
            crate::write::header(&mut out, b"Content-Type", content_type.as_bytes());
        }
        finish(&mut out, self.body);
        Bytes::from(out)
    }

    fn write_vias(&self, out: &mut Vec<u8>) {
        let mut first = true;
        for line in self.request.headers(Name::Via) {
            let fix = self.request.source().filter(|_| first);
            match fix {
                None => copy_value(out, b"Via: ", line),
                Some(source) => {
                    out.extend_from_slice(b"Via: ");
                    let (range, _) = values::element_at(line, 0);
                    match via::Via::parse(&line[range.clone()]) {
                        Ok(top) => {
                            let (received, rport) = top.fix_for(source);
                            via::write_fixed(&top, received, rport, out);
                            out.extend_from_slice(&line[range.end..]);
                        }
                        Err(_) => out.extend_from_slice(line),
                    }
                    out.extend_from_slice(b"\r\n");
                }
            }
            first = false;
        }
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let to = self.request.header(Name::To).unwrap_or_default();
        out.extend_from_slice(b"To: ");
        out.extend_from_slice(to);
        if self.status > 100 && self.request.to().tag().is_none() {
            out.extend_from_slice(b";tag=");
            match self.to_tag {
                Some(tag) => crate::write::value(out, tag.as_bytes()),
                None => write_hex(out, derived_tag(self.request)),
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The ACK to a non-2xx final response: same Request-URI, top Via, From, Call-ID, Route and
    /// sequence number as the INVITE, the To of the response (RFC 3261 §17.1.1.3).
    pub fn ack_for(invite: &Message, response: &Message) -> Bytes {
        let to = response.header(Name::To).unwrap_or_default();
        hop_request(invite, "ACK", to, None)
    }

    /// The CANCEL of a request that was sent (RFC 3261 §9.1).
    pub fn cancel_for(invite: &Message) -> Bytes {
        Self::cancel_with_reason(invite, None)
    }

    /// As [`cancel_for`](Self::cancel_for), with a Reason header (RFC 3326).
    pub fn cancel_with_reason(invite: &Message, reason: Option<&str>) -> Bytes {
        let to = invite.header(Name::To).unwrap_or_default();
        hop_request(invite, "CANCEL", to, reason)
    }
}

fn hop_request(invite: &Message, method: &str, to: &[u8], reason: Option<&str>) -> Bytes {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.request_uri());
    out.extend_from_slice(b" SIP/2.0\r\n");
    copy_value(&mut out, b"Via: ", invite.via().raw());
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    for line in invite.headers(Name::Route) {
        copy_value(&mut out, b"Route: ", line);
    }
    copy_first(&mut out, b"From: ", invite, Name::From);
    copy_value(&mut out, b"To: ", to);
    copy_first(&mut out, b"Call-ID: ", invite, Name::CallId);
    out.extend_from_slice(b"CSeq: ");
    crate::write::decimal(&mut out, u64::from(invite.cseq().0));
    out.push(b' ');
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(reason) = reason {
        crate::write::header(&mut out, b"Reason", reason.as_bytes());
    }
    finish(&mut out, b"");
    Bytes::from(out)
}

/// Appends a status line.
pub(crate) fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"SIP/2.0 ");
    crate::write::decimal(out, u64::from(status));
    out.push(b' ');
    crate::write::value(out, reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends Content-Length, the empty line and the body.
pub(crate) fn finish(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(b"Content-Length: ");
    crate::write::decimal(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// The To tag that replies get when the caller gives none: the same for every message of one
/// transaction, INVITE, its CANCEL and the ACK to its non-2xx final response alike.
pub(crate) fn derived_tag(message: &Message) -> u64 {
    let via = message.via();
    let cseq = message.cseq().0.to_be_bytes();
    let from = message.from();
    scan::mix_hash(&[message.call_id(), from.tag().unwrap_or_default(), via.branch().unwrap_or_default(), &cseq])
}

/// Appends 16 hexadecimal digits.
pub(crate) fn write_hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in value.to_be_bytes() {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn copy_first(out: &mut Vec<u8>, label: &[u8], message: &Message, name: Name) {
    if let Some(value) = message.header(name) {
        copy_value(out, label, value);
    }
}

/// Copies a value of a parsed message as it stands, folding included.
fn copy_value(out: &mut Vec<u8>, label: &[u8], value: &[u8]) {
    out.extend_from_slice(label);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
