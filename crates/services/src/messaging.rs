//! Instant messages in page mode (RFC 3428).
//!
//! Owns what a MESSAGE must be to be relayed. The relaying itself is the proxy's: a message is answered 2xx only after a
//! device has, and nothing is stored.

use pairline_sip::header::Name;
use pairline_sip::message::Message;

/// Why a MESSAGE is refused: status and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Final status.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
}

/// Checks a MESSAGE before it is relayed. `max_body` in bytes.
pub fn check(request: &Message, max_body: usize) -> Result<(), Unfit> {
    if request.body().len() > max_body {
        return Err(Unfit { status: 413, reason: "Message Too Large" });
    }
    // RFC 3428 §4: a MESSAGE never opens a dialog, so it has no Contact of ours to learn.
    if !request.body().is_empty() && !request.has(Name::ContentType) {
        return Err(Unfit { status: 400, reason: "Content-Type Missing" });
    }
    Ok(())
}
