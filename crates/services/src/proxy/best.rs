//! Which of several final responses goes back (RFC 3261 §16.7 step 6).
//!
//! Owns the order of preference and the words of answers that stand for timeouts and broken flows.

use pairline_sip::edit::Edit;
use pairline_sip::header::Name;
use pairline_sip::message::Message;

use crate::forward;
use bytes::Bytes;

/// How a leg ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With this final response.
    Final(Box<Message>),
    /// Nobody answered in time: as if 408.
    Timeout,
    /// It could not be sent or its flow broke: as if 503.
    Flow,
    /// It does not fit into a datagram: as if 513.
    TooLarge,
}

impl Ended {
    /// The status that it counts as.
    pub fn status(&self) -> u16 {
        match self {
            Ended::Final(message) => message.status().unwrap_or(500),
            Ended::Timeout => 408,
            Ended::Flow => 503,
            Ended::TooLarge => 513,
        }
    }

    /// Whether the device was not reached at all.
    pub fn unreached(&self) -> bool {
        matches!(self, Ended::Flow) || self.status() == 430
    }
}

/// Smaller is better.
fn rank(ended: &Ended, cancelled: bool) -> (u8, u8) {
    let status = ended.status();
    match status {
        600.. => (0, 0),
        // After the caller's CANCEL the answer is 487, whatever else came in.
        487 if cancelled => (1, 0),
        300..=399 => (2, 0),
        // A second copy of a request that rings elsewhere: says nothing about the call (RFC 3261 §8.2.2.2).
        482 => (9, 0),
        // A broken flow says nothing about the user either.
        430 => (8, 1),
        401 | 407 | 415 | 420 | 484 => (3, 0),
        408 => (3, 3),
        487 => (3, 2),
        400..=499 => (3, 1),
        503 => (5, 0),
        _ => (4, 0),
    }
}

/// The index of the best one; `None` if there is none.
pub fn choose(ended: &[Ended], cancelled: bool) -> Option<usize> {
    (0..ended.len()).min_by_key(|i| (rank(&ended[*i], cancelled), *i))
}

/// The chosen response as it goes back: for a challenge with those of all other legs (RFC 3261 §16.7 step 7).
pub fn returned(chosen: &Message, all: &[Ended]) -> Bytes {
    if !matches!(chosen.status(), Some(401 | 407)) {
        return forward::response_back(chosen);
    }
    let mut edit = Edit::new(chosen);
    edit.pop_via();
    for other in all {
        let Ended::Final(other) = other else { continue };
        if std::ptr::eq(&**other, chosen) || !matches!(other.status(), Some(401 | 407)) {
            continue;
        }
        for name in [Name::WwwAuthenticate, Name::ProxyAuthenticate] {
            for value in other.headers(name) {
                edit.append(name, value);
            }
        }
    }
    edit.finish()
}
