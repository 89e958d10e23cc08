//! What makes two messages belong to one transaction (RFC 3261 §17.1.3 and §17.2.3), as bytes to
//! look up, and the keyed map for them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use sha2::{Digest, Sha256};

use crate::message::Message;
use crate::via::Via;

/// Longer keys are replaced by their hash, so that no peer decides how much a key takes.
const MAX_KEY: usize = 192;

/// Keys to transaction ids. Never iterated, so the order of the hash cannot leak into behaviour.
pub(super) type Map = HashMap<Box<[u8]>, u64, Seeded>;

/// Which machine a request belongs to, by the method that the key carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The method of the message itself.
    Own,
    /// INVITE, for the ACK and the CANCEL that follow one.
    Invite,
}

/// Writes the key of a request's server transaction.
pub(super) fn server(out: &mut Vec<u8>, message: &Message, class: Class) {
    out.clear();
    let via = message.via();
    let method = match class {
        Class::Own => message.method().as_str().as_bytes(),
        Class::Invite => b"INVITE",
    };
    if via.has_magic_cookie() {
        branch(out, method, &via);
    } else {
        // RFC 2543 elements: the parts that stay the same in ACK and CANCEL. The To tag is left
        // out, since an ACK has one that its INVITE had not.
        out.push(b'o');
        part(out, method);
        part(out, message.request_uri());
        part(out, message.from().tag().unwrap_or_default());
        part(out, message.call_id());
        out.extend_from_slice(&message.cseq().0.to_be_bytes());
        part(out, via.raw());
    }
    shorten(out);
}

/// Writes the key of a request's server transaction from nothing but its method and top Via; false for an RFC 2543 element's,
/// whose key has more in it.
pub(super) fn server_at(out: &mut Vec<u8>, method: &[u8], via: &Via<'_>) -> bool {
    out.clear();
    let ours = via.has_magic_cookie();
    if ours {
        branch(out, method, via);
        shorten(out);
    }
    ours
}

fn branch(out: &mut Vec<u8>, method: &[u8], via: &Via<'_>) {
    out.push(b'c');
    part(out, method);
    part(out, via.branch().unwrap_or_default());
    let at = out.len();
    out.extend_from_slice(via.host);
    out[at..].make_ascii_lowercase();
    out.extend_from_slice(&via.port.unwrap_or(5060).to_be_bytes());
}

/// Writes the key of the client transaction of a request that is sent, or of a response.
pub(super) fn client(out: &mut Vec<u8>, message: &Message) {
    client_of(out, message, message.method().as_str().as_bytes());
}

/// As [`client`], for another method on the same branch.
pub(super) fn client_of(out: &mut Vec<u8>, message: &Message, method: &[u8]) {
    client_at(out, method, &message.via());
}

/// As [`client`], from nothing but method and top Via.
pub(super) fn client_at(out: &mut Vec<u8>, method: &[u8], via: &Via<'_>) {
    out.clear();
    part(out, method);
    part(out, via.branch().unwrap_or_default());
    shorten(out);
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    // No part can contain a zero byte outside quoted pairs, which no part here may hold.
    out.push(0);
}

fn shorten(out: &mut Vec<u8>) {
    if out.len() > MAX_KEY {
        let digest = Sha256::digest(out.as_slice());
        out.clear();
        out.push(b'h');
        out.extend_from_slice(&digest);
    }
}

/// A hasher with a seed that peers do not know, so that they cannot make keys collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeded(pub(super) u64);

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0 ^ 0x243f_6a88_85a3_08d3)
    }
}

/// Folded multiplication over eight bytes at a time.
pub(super) struct Folded(u64);

impl Folded {
    fn mix(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        // Both halves fit by construction.
        self.0 = (wide >> 64) as u64 ^ (wide as u64);
        self.0 = self.0.rotate_left(23);
    }
}

fn read_word(bytes: &[u8]) -> u64 {
    let mut word = [0u8; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.mix(read_word(chunk));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
