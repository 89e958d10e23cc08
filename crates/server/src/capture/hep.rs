//! HEP version 3: how a captured message is wrapped for a collector (Homer).
//!
//! Owns the form: "HEP3", the length of all, then chunks of vendor, type, length and value, everything in network order. Only the
//! generic vendor's chunks are written. Does not own sending (`mirror`).

use std::net::{IpAddr, SocketAddr};

/// The vendor of the generic chunks.
const GENERIC: u16 = 0;
/// Bytes of one chunk before its value.
const CHUNK: usize = 6;
/// Largest payload that is sent: the length of all is 16 bits, and so is a datagram's.
const LARGEST_PAYLOAD: usize = 64_000;
/// Largest other value.
const LARGEST_VALUE: usize = 512;

/// Chunk types.
mod kind {
    pub const FAMILY: u16 = 1;
    pub const PROTOCOL: u16 = 2;
    pub const SOURCE_V4: u16 = 3;
    pub const DESTINATION_V4: u16 = 4;
    pub const SOURCE_V6: u16 = 5;
    pub const DESTINATION_V6: u16 = 6;
    pub const SOURCE_PORT: u16 = 7;
    pub const DESTINATION_PORT: u16 = 8;
    pub const SECONDS: u16 = 9;
    pub const MICROSECONDS: u16 = 10;
    pub const PAYLOAD_TYPE: u16 = 11;
    pub const AGENT: u16 = 12;
    pub const KEY: u16 = 14;
    pub const PAYLOAD: u16 = 15;
    pub const CORRELATION: u16 = 17;
    pub const NODE: u16 = 19;
}

/// IP protocol numbers.
const UDP: u8 = 17;
const TCP: u8 = 6;
/// The payload is SIP.
const SIP: u8 = 1;

/// One captured message.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Wall-clock microseconds.
    pub at_us: u64,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// Whether it travelled as a datagram; over a connection otherwise.
    pub datagram: bool,
    /// What all messages of one call share: the Call-ID.
    pub correlation: &'a [u8],
    /// The message; a longer one than 64,000 bytes is cut.
    pub message: &'a [u8],
}

/// What is the same in all packets of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// The capture agent's number.
    pub id: u32,
    /// What the collector asks for, if it does.
    pub key: Option<Vec<u8>>,
    /// The server's name.
    pub node: String,
}

/// Wraps a message.
pub fn encode(agent: &Agent, packet: &Packet<'_>) -> Vec<u8> {
    let message = &packet.message[..packet.message.len().min(LARGEST_PAYLOAD)];
    let mut out = Vec::with_capacity(message.len() + 256);
    out.extend_from_slice(b"HEP3\0\0");
    addresses(&mut out, packet);
    let protocol = if packet.datagram { UDP } else { TCP };
    chunk(&mut out, kind::PROTOCOL, &[protocol]);
    chunk(&mut out, kind::SOURCE_PORT, &packet.source.port().to_be_bytes());
    chunk(&mut out, kind::DESTINATION_PORT, &packet.destination.port().to_be_bytes());
    let seconds = u32::try_from(packet.at_us / 1_000_000).unwrap_or(u32::MAX);
    let micros = u32::try_from(packet.at_us % 1_000_000).unwrap_or(0);
    chunk(&mut out, kind::SECONDS, &seconds.to_be_bytes());
    chunk(&mut out, kind::MICROSECONDS, &micros.to_be_bytes());
    chunk(&mut out, kind::PAYLOAD_TYPE, &[SIP]);
    chunk(&mut out, kind::AGENT, &agent.id.to_be_bytes());
    if let Some(key) = &agent.key {
        chunk(&mut out, kind::KEY, cut(key));
    }
    if !packet.correlation.is_empty() {
        chunk(&mut out, kind::CORRELATION, cut(packet.correlation));
    }
    chunk(&mut out, kind::NODE, cut(agent.node.as_bytes()));
    chunk(&mut out, kind::PAYLOAD, message);
    let length = u16::try_from(out.len()).unwrap_or(u16::MAX);
    out[4..6].copy_from_slice(&length.to_be_bytes());
    out
}

fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(LARGEST_VALUE)]
}

fn addresses(out: &mut Vec<u8>, packet: &Packet<'_>) {
    match (packet.source.ip(), packet.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            chunk(out, kind::FAMILY, &[2]);
            chunk(out, kind::SOURCE_V4, &source.octets());
            chunk(out, kind::DESTINATION_V4, &destination.octets());
        }
        (source, destination) => {
            chunk(out, kind::FAMILY, &[10]);
            chunk(out, kind::SOURCE_V6, &v6(source));
            chunk(out, kind::DESTINATION_V6, &v6(destination));
        }
    }
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Values are bounded above, so that every length fits.
fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(CHUNK + value.len()).unwrap_or(u16::MAX);
    for word in [GENERIC, kind, length] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::{Agent, LARGEST_PAYLOAD, Packet, encode};

    fn agent() -> Agent {
        Agent { id: 2001, key: Some(b"myHep".to_vec()), node: "fe1".to_owned() }
    }

    /// Written by hand from the draft's tables, chunk by chunk; it never changes.
    #[test]
    fn a_datagram_between_two_addresses_of_version_4() {
        let packet = Packet {
            at_us: 1_700_000_000_000_042,
            source: "192.0.2.10:5060".parse().unwrap(),
            destination: "198.51.100.20:15060".parse().unwrap(),
            datagram: true,
            correlation: b"call-1",
            message: b"ACK",
        };
        let expected: Vec<u8> = [
            &b"HEP3\x00\x86"[..],
            b"\x00\x00\x00\x01\x00\x07\x02",
            b"\x00\x00\x00\x03\x00\x0a\xc0\x00\x02\x0a",
            b"\x00\x00\x00\x04\x00\x0a\xc6\x33\x64\x14",
            b"\x00\x00\x00\x02\x00\x07\x11",
            b"\x00\x00\x00\x07\x00\x08\x13\xc4",
            b"\x00\x00\x00\x08\x00\x08\x3a\xd4",
            b"\x00\x00\x00\x09\x00\x0a\x65\x53\xf1\x00",
            b"\x00\x00\x00\x0a\x00\x0a\x00\x00\x00\x2a",
            b"\x00\x00\x00\x0b\x00\x07\x01",
            b"\x00\x00\x00\x0c\x00\x0a\x00\x00\x07\xd1",
            b"\x00\x00\x00\x0e\x00\x0bmyHep",
            b"\x00\x00\x00\x11\x00\x0ccall-1",
            b"\x00\x00\x00\x13\x00\x09fe1",
            b"\x00\x00\x00\x0f\x00\x09ACK",
        ]
        .concat();
        assert_eq!(encode(&agent(), &packet), expected);
    }

    #[test]
    fn a_connection_between_addresses_of_version_6_without_key_and_call() {
        let packet = Packet {
            at_us: 0,
            source: "[2001:db8::1]:5061".parse().unwrap(),
            destination: "192.0.2.1:1".parse().unwrap(),
            datagram: false,
            correlation: b"",
            message: b"",
        };
        let out = encode(&Agent { key: None, ..agent() }, &packet);
        let has = |chunk: &[u8]| out.windows(chunk.len()).any(|window| window == chunk);
        assert!(has(b"\x00\x00\x00\x01\x00\x07\x0a") && has(b"\x00\x00\x00\x02\x00\x07\x06"));
        assert!(has(b"\x00\x00\x00\x06\x00\x16\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"), "a mapped address");
        assert!(!has(b"\x00\x00\x00\x0e") && !has(b"\x00\x00\x00\x11"));
        assert_eq!(usize::from(u16::from_be_bytes([out[4], out[5]])), out.len());
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_its_lengths_are_right() {
        let message = vec![b'a'; 70_000];
        let address = "192.0.2.1:5060".parse().unwrap();
        let correlation = vec![b'c'; 5_000];
        let packet = Packet {
            at_us: 0,
            source: address,
            destination: address,
            datagram: false,
            correlation: &correlation,
            message: &message,
        };
        let out = encode(&agent(), &packet);
        assert_eq!(usize::from(u16::from_be_bytes([out[4], out[5]])), out.len());
        assert!(out.ends_with(&message[..LARGEST_PAYLOAD]) && out.len() < 65_507);
    }
}
