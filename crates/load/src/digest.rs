//! Answers to digest challenges.
//!
//! Owns what a client remembers of a challenge: nonce, count, and which header answers it. The arithmetic is `sip`'s.

use pairline_sip::auth::{self, Challenge};
use std::borrow::Cow;

/// A challenge that was met, and how often it was answered.
#[derive(Debug)]
pub struct Session {
    challenge: Challenge<'static>,
    header: &'static str,
    count: u32,
}

impl Session {
    /// From the value of a `WWW-Authenticate` (401) or `Proxy-Authenticate` (407) header; `None` if it cannot be answered.
    pub fn new(status: u16, value: &[u8]) -> Option<Self> {
        let challenge = Challenge::parse(value).ok()?;
        let challenge = Challenge {
            realm: Cow::Owned(challenge.realm.into_owned()),
            nonce: Cow::Owned(challenge.nonce.into_owned()),
            opaque: challenge.opaque.map(|text| Cow::Owned(text.into_owned())),
            ..challenge
        };
        let header = if status == 407 { "Proxy-Authorization" } else { "Authorization" };
        Some(Self { challenge, header, count: 0 })
    }

    /// Name and value of the header for one more request.
    pub fn answer(&mut self, user: &str, password: &str, method: &str, uri: &str) -> (&'static str, String) {
        self.count += 1;
        let client_nonce = format!("pl{:08x}", self.count.wrapping_mul(0x9E37_79B9));
        let value = auth::answer(&self.challenge, user, password, method, uri, &client_nonce, self.count);
        (self.header, value)
    }
}
