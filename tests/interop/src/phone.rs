//! A phone that sends exactly what a case wants sent, also what no phone would.
//!
//! Owns one registration's Call-ID and CSeq. Answers are texts; whether they are the right ones is the case's to say.

use crate::deployment::DOMAIN;
use crate::digest::Challenge;
use crate::raw;
use std::net::{IpAddr, SocketAddr};

/// One phone of one user.
pub struct Phone {
    user: String,
    server: SocketAddr,
    call_id: String,
    cseq: u32,
    /// The address in its Contact header.
    pub contact: String,
    /// The address that its datagrams come from.
    pub source: IpAddr,
}

impl Phone {
    /// A phone that registers `sip:user@127.0.0.1:port` at a server. Nothing listens there.
    pub fn new(user: &str, server: SocketAddr, port: u16) -> Phone {
        let contact = format!("sip:{user}@127.0.0.1:{port}");
        let (user, call_id, source) = (user.to_owned(), format!("phone-{user}-{port}"), raw::LOOPBACK);
        Phone { user, server, call_id, cseq: 0, contact, source }
    }

    /// The URI that it registers with.
    pub fn uri() -> String {
        format!("sip:{DOMAIN}")
    }

    /// The next REGISTER as text. `extra` is whole header lines.
    pub fn message(&mut self, transport: &str, extra: &str) -> String {
        self.cseq += 1;
        let Phone { user, call_id, cseq, contact, .. } = self;
        format!(
            "REGISTER {} SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:9;rport;branch=z9hG4bK{call_id}{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{DOMAIN}>;tag=phone\r\nTo: <sip:{user}@{DOMAIN}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <{contact}>\r\nExpires: 20\r\n{extra}Content-Length: 0\r\n\r\n",
            Self::uri()
        )
    }

    /// Sends the next REGISTER over UDP and gives the answer.
    ///
    /// # Panics
    /// If there is none.
    pub fn register(&mut self, extra: &str) -> String {
        let message = self.message("UDP", extra);
        let told = raw::ask_from(self.source, self.server, message.as_bytes(), raw::ANSWER);
        told.unwrap_or_else(|| panic!("a REGISTER of {} gets no answer", self.user))
    }

    /// The challenge to a REGISTER without credentials.
    ///
    /// # Panics
    /// If there is none.
    pub fn challenge(&mut self) -> Challenge {
        Challenge::of(&self.register(""))
    }

    /// The credentials for a challenge.
    pub fn credentials(&self, challenge: &Challenge, password: &str) -> String {
        challenge.answer(&self.user, password, "REGISTER", &Self::uri(), 1)
    }

    /// Asks for a challenge, answers it, and gives the status line of what came then.
    ///
    /// # Panics
    /// If there is no answer, or no challenge.
    pub fn sign_in(&mut self, password: &str) -> String {
        let challenge = self.challenge();
        let credentials = self.credentials(&challenge, password);
        let told = self.register(&credentials);
        told.lines().next().unwrap_or_default().to_owned()
    }
}
