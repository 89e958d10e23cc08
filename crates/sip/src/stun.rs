//! STUN binding requests on the SIP port (RFC 5389, for the keep-alive of RFC 5626 §3.5.2): recognised and answered.
//!
//! Owns that much of STUN, bounded. There are no credentials in this use, so there is nothing to check and nothing to learn.
//! Owns no socket.

use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 20;
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Attributes that must be understood from here down (RFC 5389 §15).
const OPTIONAL: u16 = 0x8000;
/// What may stand in a request and means nothing here: addresses and credentials.
const KNOWN: [u16; 6] = [0x0001, 0x0006, 0x0008, 0x0014, 0x0015, XOR_MAPPED_ADDRESS];
/// The longest request that is read: what fits any network undivided (RFC 5389 §7.1).
const LONGEST: usize = 548;
/// Attributes that are named in a refusal, so that it is never much longer than what it answers.
const NAMED: usize = 4;

/// Whether a datagram is STUN and not SIP: both begin differently (RFC 5389 §6).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] & 0xc0 == 0 && datagram[4..8] == COOKIE
}

/// The answer to a binding request that came from `from`; `None` to anything else, and to what is malformed.
pub fn answer(datagram: &[u8], from: SocketAddr) -> Option<Bytes> {
    if !is_stun(datagram) || datagram.len() > LONGEST || number(datagram, 0)? != BINDING_REQUEST {
        return None;
    }
    let length = usize::from(number(datagram, 2)?);
    if length % 4 != 0 || HEADER + length != datagram.len() {
        return None;
    }
    let asked = attributes(datagram)?;
    let mut reply = Reply::new(datagram.get(8..HEADER)?);
    if asked.unknown.is_empty() {
        reply.kind(BINDING_RESPONSE);
        reply.mapped(from);
    } else {
        reply.kind(BINDING_ERROR);
        reply.attribute(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute\0\0\0", 21);
        let unknown: Vec<u8> = asked.unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        let used = unknown.len();
        reply.attribute(UNKNOWN_ATTRIBUTES, &padded(unknown), used);
    }
    if asked.fingerprint {
        reply.fingerprint();
    }
    Some(reply.0.into())
}

/// What a request has besides its header.
struct Asked {
    unknown: Vec<u16>,
    fingerprint: bool,
}

/// Reads the attributes; `None` if they are malformed, or the fingerprint is wrong or not the last.
fn attributes(message: &[u8]) -> Option<Asked> {
    let mut asked = Asked { unknown: Vec::new(), fingerprint: false };
    let mut at = HEADER;
    while at < message.len() {
        if asked.fingerprint {
            return None;
        }
        let (kind, length) = (number(message, at)?, usize::from(number(message, at + 2)?));
        let value = message.get(at + 4..at + 4 + length)?;
        if kind == FINGERPRINT {
            let right = crc32(&message[..at]) ^ FINGERPRINT_XOR;
            if value != right.to_be_bytes() {
                return None;
            }
            asked.fingerprint = true;
        } else if kind < OPTIONAL && !KNOWN.contains(&kind) && asked.unknown.len() < NAMED {
            asked.unknown.push(kind);
        }
        at += 4 + length.next_multiple_of(4);
    }
    // Padding of the last one must be there too.
    (at == message.len()).then_some(asked)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]))
}

fn padded(mut value: Vec<u8>) -> Vec<u8> {
    value.resize(value.len().next_multiple_of(4), 0);
    value
}

/// A reply in the making; its length field is right after each step.
struct Reply(Vec<u8>);

impl Reply {
    fn new(transaction: &[u8]) -> Reply {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(transaction);
        Reply(bytes)
    }

    fn kind(&mut self, kind: u16) {
        self.0[..2].copy_from_slice(&kind.to_be_bytes());
    }

    /// Adds one whose value is already padded; `used` bytes of it count.
    fn attribute(&mut self, kind: u16, padded: &[u8], used: usize) {
        // Values are a few bytes.
        let used = u16::try_from(used).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&used.to_be_bytes());
        self.0.extend_from_slice(padded);
        let length = u16::try_from(self.0.len() - HEADER).unwrap_or(u16::MAX);
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }

    /// XOR-MAPPED-ADDRESS (RFC 5389 §15.2): hidden from translators that change addresses wherever they see them.
    fn mapped(&mut self, from: SocketAddr) {
        let (family, address) = match from.ip().to_canonical() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let port = from.port() ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mut value = vec![0, family];
        value.extend_from_slice(&port.to_be_bytes());
        value.extend(address.iter().zip(&self.0[4..HEADER]).map(|(byte, key)| byte ^ key));
        let used = value.len();
        self.attribute(XOR_MAPPED_ADDRESS, &value, used);
    }

    /// FINGERPRINT (RFC 5389 §15.5), computed with the length that the message has with it.
    fn fingerprint(&mut self) {
        let length = u16::try_from(self.0.len() - HEADER + 8).unwrap_or(u16::MAX);
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32(&self.0) ^ FINGERPRINT_XOR;
        self.attribute(FINGERPRINT, &crc.to_be_bytes(), 4);
    }
}

/// CRC-32 of ITU V.42.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}
