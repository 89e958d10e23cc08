//! Why a message was refused, and the reply that is owed for it.

use bytes::Bytes;

use crate::header::Name;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Nothing but line ends.
    #[error("empty message")]
    Empty,
    /// The start line is neither a request line nor a status line.
    #[error("malformed start line")]
    StartLine,
    /// A SIP version other than 2.0.
    #[error("unsupported SIP version")]
    Version,
    /// The Request-URI is malformed.
    #[error("malformed Request-URI")]
    RequestUri,
    /// The status code is not from 100 to 699.
    #[error("malformed status code")]
    Status,
    /// A line end other than CRLF, or a NUL outside a quoted pair.
    #[error("stray line end or NUL in the headers")]
    ControlByte,
    /// A header name that is no token, or no colon after it.
    #[error("malformed header name")]
    HeaderName,
    /// The headers do not end with an empty line.
    #[error("headers are not terminated")]
    Unterminated,
    /// More header lines than [`MAX_HEADERS`](crate::message::MAX_HEADERS).
    #[error("too many header lines")]
    TooManyHeaders,
    /// The header section is longer than [`MAX_HEADER_BYTES`](crate::message::MAX_HEADER_BYTES).
    #[error("header section too long")]
    HeaderTooLong,
    /// The message is longer than [`MAX_MESSAGE_BYTES`](crate::message::MAX_MESSAGE_BYTES).
    #[error("message too long")]
    MessageTooLong,
    /// A mandatory header is missing.
    #[error("missing {}", .0.as_str())]
    Missing(Name),
    /// A header that may occur once occurs again.
    #[error("more than one {}", .0.as_str())]
    Duplicate(Name),
    /// A header's value does not follow its grammar.
    #[error("malformed {}", .0.as_str())]
    Malformed(Name),
    /// The method in CSeq is not that of the request line.
    #[error("CSeq method differs from the request's")]
    MethodMismatch,
    /// Content-Length says more than there is.
    #[error("body shorter than Content-Length")]
    Truncated,
}

impl ParseErrorKind {
    /// The status of the reply to a request with this error.
    pub fn status(self) -> u16 {
        match self {
            ParseErrorKind::Version => 505,
            ParseErrorKind::MessageTooLong => 513,
            _ => 400,
        }
    }
}

/// A refused message: the reason, and the bytes from which a reply can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The message as it came.
    pub message: Bytes,
}

impl ParseError {
    /// A reply (400, 505 or 513) if the bytes are a request other than ACK whose top Via names a sender and which has a CSeq.
    /// What it copies stands in it as it came, well-formed or not, and what is not there is not in it either (RFC 4475 §3.3.1).
    /// To be sent to where the request came from.
    pub fn reply(&self) -> Option<Bytes> {
        crate::parse::refusal(&self.message, self.kind, None)
    }

    /// As [`reply`](Self::reply), with `received` and `rport` filled in for `remote`.
    pub fn reply_to(&self, remote: std::net::SocketAddr) -> Option<Bytes> {
        crate::parse::refusal(&self.message, self.kind, Some(remote))
    }
}
