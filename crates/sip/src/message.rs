//! One parsed SIP message: the received bytes and spans over them. Typed fields are read on
//! demand; nothing is decoded, unfolded or copied.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::error::ParseError;
use crate::header::Name;
use crate::lines::{Line, Lines};
use crate::method::Method;
use crate::name_addr::NameAddr;
use crate::scan;
use crate::uri::{Uri, UriError};
use crate::values;
use crate::via::Via;

pub use crate::lines::MAX_HEADERS;

/// The longest header section that is accepted, start line included, in bytes.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The longest message that is accepted, in bytes. Framers may set a lower limit.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// The longest branch, tag or Call-ID that is accepted, in bytes.
pub const MAX_TOKEN: usize = 1024;

/// A parsed message. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Message {
    pub(crate) buf: Bytes,
    pub(crate) lines: Lines,
    pub(crate) seen: u128,
    pub(crate) start: Start,
    pub(crate) method: Method,
    pub(crate) cseq: u32,
    pub(crate) body_at: u32,
    pub(crate) source: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Request { uri_at: u32, uri_end: u32 },
    Response { status: u16, reason_at: u32, reason_end: u32 },
}

impl Message {
    /// Reads one whole message: a datagram, or a framed message of a stream. Bytes after
    /// Content-Length are cut off; line ends before the start line are skipped. Via, From, To,
    /// Call-ID and CSeq are checked, so that their getters cannot fail; of a request also
    /// Contact, Route, Record-Route and Path.
    pub fn parse(buf: Bytes) -> Result<Message, ParseError> {
        crate::parse::message(buf)
    }

    /// The message's bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.buf
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The method of a request; of a response the method in CSeq.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Response { status, .. } => Some(status),
            Start::Request { .. } => None,
        }
    }

    /// The reason phrase of a response; empty for a request.
    pub fn reason(&self) -> &[u8] {
        match self.start {
            Start::Response { reason_at, reason_end, .. } => &self.buf[reason_at as usize..reason_end as usize],
            Start::Request { .. } => b"",
        }
    }

    /// The Request-URI; empty for a response.
    pub fn request_uri(&self) -> &[u8] {
        match self.start {
            Start::Request { uri_at, uri_end } => &self.buf[uri_at as usize..uri_end as usize],
            Start::Response { .. } => b"",
        }
    }

    /// The Request-URI in parts.
    pub fn parse_request_uri(&self) -> Result<Uri<'_>, UriError> {
        Uri::parse(self.request_uri())
    }

    /// Notes where the message came from, so that replies carry `received` and `rport` in their
    /// top Via. The transaction layer does this for every request.
    pub fn set_source(&mut self, source: SocketAddr) {
        self.source = Some(source);
    }

    /// Where the message came from, if noted.
    pub fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    pub(crate) fn line(&self, name: Name) -> Option<&Line> {
        if self.seen & name.bit() == 0 {
            return None;
        }
        self.lines.as_slice().iter().find(|line| line.name == name)
    }

    pub(crate) fn value_of(&self, line: &Line) -> &[u8] {
        &self.buf[line.value_range()]
    }

    /// Whether a header occurs.
    pub fn has(&self, name: Name) -> bool {
        self.seen & name.bit() != 0
    }

    /// The value of the first line of a header; folded white space is kept.
    pub fn header(&self, name: Name) -> Option<&[u8]> {
        self.line(name).map(|line| self.value_of(line))
    }

    /// The values of all lines of a header, one per line.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines: &[Line] = if self.has(name) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.name == name).map(|line| self.value_of(line))
    }

    /// The value of the first line of a header by its name, in any case and known or not.
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        match Name::from_bytes(name.as_bytes()) {
            Name::Other => self
                .headers_raw()
                .find(|(id, found, _)| *id == Name::Other && found.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, _, value)| value),
            known => self.header(known),
        }
    }

    /// All header lines in order: id, name as it stands, value.
    pub fn headers_raw(&self) -> impl Iterator<Item = (Name, &[u8], &[u8])> {
        self.lines.as_slice().iter().map(|line| (line.name, &self.buf[line.name_range()], self.value_of(line)))
    }

    /// The comma-separated elements of a header, across its lines; empty elements are skipped.
    pub fn elements(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.headers(name).flat_map(values::elements).filter(|element| !element.is_empty())
    }

    /// The top Via.
    pub fn via(&self) -> Via<'_> {
        self.vias().next().expect("parse requires a valid Via")
    }

    /// All Via values, top first.
    pub fn vias(&self) -> impl Iterator<Item = Via<'_>> {
        self.elements(Name::Via).filter_map(Via::trusted)
    }

    /// From.
    pub fn from(&self) -> NameAddr<'_> {
        self.checked_addr(Name::From)
    }

    /// To.
    pub fn to(&self) -> NameAddr<'_> {
        self.checked_addr(Name::To)
    }

    fn checked_addr(&self, name: Name) -> NameAddr<'_> {
        let value = self.header(name).expect("parse requires From and To");
        NameAddr::trusted(value).expect("parse requires valid From and To")
    }

    /// The sequence number and method of CSeq.
    pub fn cseq(&self) -> (u32, &Method) {
        (self.cseq, &self.method)
    }

    /// Call-ID.
    pub fn call_id(&self) -> &[u8] {
        self.header(Name::CallId).expect("parse requires Call-ID")
    }

    /// Max-Forwards, if present.
    pub fn max_forwards(&self) -> Option<u8> {
        let hops = scan::parse_u16(self.header(Name::MaxForwards)?)?;
        u8::try_from(hops).ok()
    }

    /// Expires in seconds; `None` if absent or no number, the maximum if it overflows.
    pub fn expires(&self) -> Option<u32> {
        scan::parse_u32_saturating(self.header(Name::Expires)?)
    }

    /// The Contact values.
    pub fn contacts(&self) -> Contacts<'_> {
        let star = self.elements(Name::Contact).any(|element| element == b"*");
        Contacts { star, list: self.addresses(Name::Contact) }
    }

    /// The Route values in order.
    pub fn routes(&self) -> Addresses<'_> {
        self.addresses(Name::Route)
    }

    /// The Record-Route values in order.
    pub fn record_routes(&self) -> Addresses<'_> {
        self.addresses(Name::RecordRoute)
    }

    /// The Path values in order (RFC 3327).
    pub fn paths(&self) -> Addresses<'_> {
        self.addresses(Name::Path)
    }

    /// The addresses of any header of that form, across lines and commas. Malformed elements,
    /// which can only occur in headers that `parse` does not check, are skipped.
    pub fn addresses(&self, name: Name) -> Addresses<'_> {
        Addresses {
            message: self,
            name,
            // The headers that `parse` checks in every request.
            checked: self.is_request() && matches!(name, Name::Contact | Name::Route | Name::RecordRoute | Name::Path),
            line: 0,
            at: 0,
        }
    }

    /// The body, as long as Content-Length says.
    pub fn body(&self) -> &[u8] {
        &self.buf[self.body_at as usize..]
    }

    /// Whether Supported lists an option tag.
    pub fn supported(&self, tag: &str) -> bool {
        self.option_tags(Name::Supported).any(|found| found.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// The tokens of a header such as Require, Supported or Allow.
    pub fn option_tags(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.elements(name)
    }
}

/// Addresses of one header, across its lines.
#[derive(Clone)]
pub struct Addresses<'a> {
    message: &'a Message,
    name: Name,
    checked: bool,
    line: usize,
    at: usize,
}

impl<'a> Iterator for Addresses<'a> {
    type Item = NameAddr<'a>;

    fn next(&mut self) -> Option<NameAddr<'a>> {
        if !self.message.has(self.name) {
            return None;
        }
        let lines = self.message.lines.as_slice();
        while let Some(line) = lines.get(self.line) {
            let value = self.message.value_of(line);
            if line.name != self.name || self.at > value.len() {
                self.line += 1;
                self.at = 0;
                continue;
            }
            let (range, next) = values::element_at(value, self.at);
            self.at = next;
            let element = &value[range];
            let addr = if self.checked && element != b"*" {
                NameAddr::trusted(element)
            } else {
                NameAddr::parse(element).ok()
            };
            if addr.is_some() {
                return addr;
            }
        }
        None
    }
}

/// The Contact values of a message.
#[derive(Clone)]
pub struct Contacts<'a> {
    /// Whether one of the values is `*` (RFC 3261 §10.2.2); it is not among the addresses.
    pub star: bool,
    list: Addresses<'a>,
}

impl<'a> Iterator for Contacts<'a> {
    type Item = NameAddr<'a>;

    fn next(&mut self) -> Option<NameAddr<'a>> {
        self.list.next()
    }
}
