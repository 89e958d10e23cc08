//! Messages out of a byte stream (RFC 3261 §18.3) and the CRLF keep-alive of RFC 5626. What comes
//! out depends on the bytes only, never on how they were cut. Owns no connection.

use bytes::Bytes;

use crate::error::{ParseError, ParseErrorKind};
use crate::header::Name;
use crate::message::MAX_HEADER_BYTES;
use crate::{parse, scan};

/// One thing found in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, to be parsed.
    Message(Bytes),
    /// The second CRLF of a pair between messages: a keep-alive that is answered with one CRLF.
    /// The first of the pair came as [`Frame::Pong`], since it cannot be told apart when read.
    Ping,
    /// A CRLF between messages: the answer to a keep-alive, or the first half of one.
    Pong,
}

/// Why a stream cannot be read on. The connection has to be closed: where the next message
/// begins is no longer known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The header section is longer than the limit.
    #[error("header section exceeds the limit")]
    HeaderTooLong,
    /// The message is longer than the limit.
    #[error("message exceeds the limit")]
    MessageTooLong,
    /// No Content-Length, which streams require.
    #[error("no Content-Length")]
    NoContentLength,
    /// More than one Content-Length, equal or not.
    #[error("more than one Content-Length")]
    DuplicateContentLength,
    /// Content-Length is no plain decimal number.
    #[error("malformed Content-Length")]
    BadContentLength,
    /// Stray CR, LF or NUL in the header section, or a lone CR or LF between messages.
    #[error("stray line end")]
    ControlByte,
}

impl FramingError {
    /// What is wrong with the message, in the words of the parser.
    fn kind(self) -> ParseErrorKind {
        match self {
            FramingError::HeaderTooLong => ParseErrorKind::HeaderTooLong,
            FramingError::MessageTooLong => ParseErrorKind::MessageTooLong,
            FramingError::NoContentLength => ParseErrorKind::Missing(Name::ContentLength),
            FramingError::DuplicateContentLength => ParseErrorKind::Duplicate(Name::ContentLength),
            FramingError::BadContentLength => ParseErrorKind::Malformed(Name::ContentLength),
            FramingError::ControlByte => ParseErrorKind::ControlByte,
        }
    }
}

/// Cuts one stream into messages. Holds at most one unfinished message and what was pushed
/// behind it; the caller stops reading while `buffered` is above its own bound.
#[derive(Debug)]
pub struct StreamFramer {
    buffer: Vec<u8>,
    /// Consumed bytes at the beginning of `buffer`.
    start: usize,
    /// How far, from `start`, the end of the headers has been looked for.
    scanned: usize,
    /// The length of the whole message, once its headers are complete.
    expected: Option<usize>,
    half_ping: bool,
    limit: usize,
    failed: Option<ParseError>,
}

impl StreamFramer {
    /// The usual limit of a message, in bytes.
    pub const DEFAULT_LIMIT: usize = 64 * 1024;

    /// Room that an empty buffer keeps, in bytes.
    const IDLE_CAPACITY: usize = 4096;

    /// A framer that accepts messages of up to `limit` bytes, headers up to 16 KiB of it.
    pub fn new(limit: usize) -> StreamFramer {
        StreamFramer { buffer: Vec::new(), start: 0, scanned: 0, expected: None, half_ping: false, limit, failed: None }
    }

    /// Adds received bytes; after an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            // An idle connection must not keep the room of its largest message.
            self.buffer.shrink_to(Self::IDLE_CAPACITY);
        } else if self.start > 4096 && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that were pushed and not yet given out.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// After an error: what is wrong, with the beginning of the message, from which a reply may be made.
    pub fn refused(&self) -> Option<&ParseError> {
        self.failed.as_ref()
    }

    /// The next frame; `None` until more bytes come, and for ever after an error.
    #[allow(clippy::should_implement_trait)] // `None` here is not the end.
    pub fn next(&mut self) -> Option<Result<Frame, FramingError>> {
        if self.failed.is_some() {
            return None;
        }
        match self.step() {
            Ok(frame) => frame.map(Ok),
            Err(error) => {
                let end = self.buffer.len().min(self.start + MAX_HEADER_BYTES);
                let message = Bytes::copy_from_slice(&self.buffer[self.start..end]);
                self.failed = Some(ParseError { kind: error.kind(), message });
                self.buffer = Vec::new();
                self.start = 0;
                Some(Err(error))
            }
        }
    }

    fn step(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.expected.is_none() && self.scanned == 0 {
            match self.buffer.get(self.start) {
                Some(b'\r') => return self.line_end(),
                Some(b'\n') => return Err(FramingError::ControlByte),
                _ => {}
            }
        }
        let total = match self.expected {
            Some(total) => total,
            None => match self.measure()? {
                Some(total) => *self.expected.insert(total),
                None => return Ok(None),
            },
        };
        if self.buffered() < total {
            return Ok(None);
        }
        // An own copy: a retained message must not keep the whole read buffer alive.
        let message = Bytes::copy_from_slice(&self.buffer[self.start..self.start + total]);
        self.start += total;
        self.scanned = 0;
        self.expected = None;
        self.half_ping = false;
        Ok(Some(Frame::Message(message)))
    }

    /// A CR between messages.
    fn line_end(&mut self) -> Result<Option<Frame>, FramingError> {
        match self.buffer.get(self.start + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.start += 2;
                let second = self.half_ping;
                self.half_ping = !second;
                Ok(Some(if second { Frame::Ping } else { Frame::Pong }))
            }
            Some(_) => Err(FramingError::ControlByte),
        }
    }

    /// The length of the message that begins at `start`, once its headers are complete.
    fn measure(&mut self) -> Result<Option<usize>, FramingError> {
        let data = &self.buffer[self.start..];
        let header_limit = MAX_HEADER_BYTES.min(self.limit);
        let window = data.len().min(header_limit);
        // The end may straddle what was searched before by up to three bytes.
        let from = self.scanned.saturating_sub(3);
        let Some(found) = memchr::memmem::find(&data[from..window], b"\r\n\r\n") else {
            if data.len() >= header_limit {
                return Err(FramingError::HeaderTooLong);
            }
            self.scanned = data.len();
            return Ok(None);
        };
        let head = from + found + 4;
        let length = content_length(&data[..head])?;
        let total =
            head.checked_add(length).filter(|&total| total <= self.limit).ok_or(FramingError::MessageTooLong)?;
        Ok(Some(total))
    }
}

/// Content-Length of a complete header section, read by the same line rules as the parser.
fn content_length(head: &[u8]) -> Result<usize, FramingError> {
    let stray = |_| FramingError::ControlByte;
    let mut at = parse::logical_line(head, 0).map_err(stray)?;
    let mut found = None;
    while !head[at..].starts_with(b"\r\n") {
        let mut end = parse::logical_line(head, at).map_err(stray)?;
        while matches!(head.get(end), Some(b' ' | b'\t')) {
            end = parse::logical_line(head, end).map_err(stray)?;
        }
        // A line with a bad name is refused by the parser; it cannot be Content-Length.
        if let Ok(line) = parse::header_line(head, at, end)
            && line.name == Name::ContentLength
        {
            if found.is_some() {
                return Err(FramingError::DuplicateContentLength);
            }
            let value = &head[line.value_range()];
            if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
                let length = scan::parse_u32(value).and_then(|n| usize::try_from(n).ok());
                found = Some(length.ok_or(FramingError::MessageTooLong)?);
            } else {
                return Err(FramingError::BadContentLength);
            }
        }
        at = end;
    }
    found.ok_or(FramingError::NoContentLength)
}
