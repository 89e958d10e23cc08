//! Helpers: readable text to wire bytes, and sample messages.

use bytes::Bytes;
use pairline_sip::{Message, ParseErrorKind};

/// The text with each line feed as CRLF.
pub fn wire(text: &str) -> Bytes {
    Bytes::from(text.replace('\n', "\r\n").into_bytes())
}

/// A parsed message.
pub fn parse(text: &str) -> Message {
    Message::parse(wire(text)).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Why a message is refused.
pub fn refused(text: &str) -> ParseErrorKind {
    match Message::parse(wire(text)) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.kind,
    }
}

/// Wire bytes as text with line feeds.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace("\r\n", "\n")
}

/// A plain request with the given request line and extra header lines (each with its line feed).
pub fn request(method: &str, extra: &str) -> String {
    format!(
        "{method} sip:bob@example.com SIP/2.0\n\
         Via: SIP/2.0/UDP client.example.net:5070;branch=z9hG4bK776asdhds\n\
         Max-Forwards: 70\n\
         To: Bob <sip:bob@example.com>\n\
         From: Alice <sip:alice@example.net>;tag=1928301774\n\
         Call-ID: a84b4c76e66710@example.net\n\
         CSeq: 314159 {method}\n\
         {extra}Content-Length: 0\n\n"
    )
}
