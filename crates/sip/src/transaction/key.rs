//! What makes two messages belong to one transaction (RFC 3261 §17.1.3 and §17.2.3), as a hash.
//!
//! Owns what goes into it. The hash is keyed, so that nobody outside can make two keys meet, in a table or altogether.

use crate::message::Message;
use crate::via::Via;

/// What a transaction is found by.
pub(super) type Key = u128;

/// Which machine a request belongs to, by the method that the key carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The method of the message itself.
    Own,
    /// INVITE, for the ACK and the CANCEL that follow one.
    Invite,
}

/// Makes the keys of one layer.
#[derive(Debug)]
pub(super) struct Keys {
    secret: [u8; 32],
    /// What is hashed next.
    gathered: Vec<u8>,
}

impl Keys {
    /// With a seed that peers do not know.
    pub(super) fn new(seed: u64) -> Keys {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        Keys { secret, gathered: Vec::with_capacity(256) }
    }

    /// The key of a request's server transaction.
    pub(super) fn server(&mut self, message: &Message, class: Class) -> Key {
        self.gathered.clear();
        let via = message.via();
        let method = match class {
            Class::Own => message.method().as_str().as_bytes(),
            Class::Invite => b"INVITE",
        };
        if via.has_magic_cookie() {
            self.branch(method, &via);
        } else {
            // RFC 2543 elements: the parts that stay the same in ACK and CANCEL. The To tag is left
            // out, since an ACK has one that its INVITE had not.
            self.gathered.push(b'o');
            self.part(method);
            self.part(message.request_uri());
            self.part(message.from().tag().unwrap_or_default());
            self.part(message.call_id());
            self.gathered.extend_from_slice(&message.cseq().0.to_be_bytes());
            self.part(via.raw());
        }
        self.hash()
    }

    /// The key of a request's server transaction from nothing but its method and top Via; `None` for an RFC 2543 element's, whose
    /// key has more in it.
    pub(super) fn server_at(&mut self, method: &[u8], via: &Via<'_>) -> Option<Key> {
        if !via.has_magic_cookie() {
            return None;
        }
        self.gathered.clear();
        self.branch(method, via);
        Some(self.hash())
    }

    /// The key of the client transaction of a request that is sent, or of a response.
    pub(super) fn client(&mut self, message: &Message) -> Key {
        self.client_at(message.method().as_str().as_bytes(), &message.via())
    }

    /// As [`client`](Self::client), from nothing but method and top Via.
    pub(super) fn client_at(&mut self, method: &[u8], via: &Via<'_>) -> Key {
        self.gathered.clear();
        self.part(method);
        self.part(via.branch().unwrap_or_default());
        self.hash()
    }

    fn branch(&mut self, method: &[u8], via: &Via<'_>) {
        self.gathered.push(b'c');
        self.part(method);
        self.part(via.branch().unwrap_or_default());
        let at = self.gathered.len();
        self.gathered.extend_from_slice(via.host);
        self.gathered[at..].make_ascii_lowercase();
        self.gathered.extend_from_slice(&via.port.unwrap_or(5060).to_be_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        // No part can contain a zero byte outside quoted pairs, which no part here may hold.
        self.gathered.push(0);
    }

    fn hash(&self) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::keyed_hash(&self.secret, &self.gathered).as_bytes()[..16]);
        Key::from_le_bytes(key)
    }
}
