//! The classic capture file (pcap): its header, and one record a message, with IP and UDP headers made for it.
//!
//! Owns the form. What came over a connection is written as a datagram between the true addresses and ports: TLS and WebSocket are
//! undone, and no program has to put streams together again. Does not own files (`ring`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Microsecond resolution, the writer's byte order (little endian here, on any machine).
const MAGIC: u32 = 0xa1b2_c3d4;
/// Packets begin with their IP header (LINKTYPE_RAW).
const LINK_TYPE: u32 = 101;
/// Largest packet that is said to be in the file.
const SNAP_LENGTH: u32 = 262_144;
/// Largest message of one record: with its headers it has to be a datagram.
const LARGEST: usize = 65_000;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const HOPS: u8 = 64;

/// The beginning of every file.
pub fn file_header() -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    for half in [2_u16, 4] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for word in [0, 0, SNAP_LENGTH, LINK_TYPE] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out
}

/// One record: a message that went from one address to another at that wall-clock microsecond. A message of more than 65,000 bytes
/// is cut.
pub fn record(at_us: u64, source: SocketAddr, destination: SocketAddr, message: &[u8]) -> Vec<u8> {
    let message = &message[..message.len().min(LARGEST)];
    let packet = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => packet_v4((from, source.port()), (to, destination.port()), message),
        (from, to) => packet_v6((v6(from), source.port()), (v6(to), destination.port()), message),
    };
    let length = u32::try_from(packet.len()).unwrap_or(SNAP_LENGTH);
    let seconds = u32::try_from(at_us / 1_000_000).unwrap_or(u32::MAX);
    let micros = u32::try_from(at_us % 1_000_000).unwrap_or(0);
    let mut out = Vec::with_capacity(16 + packet.len());
    for word in [seconds, micros, length, length] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&packet);
    out
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A length that the bound on messages keeps within 16 bits.
fn length16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn packet_v4(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), message: &[u8]) -> Vec<u8> {
    let total = length16(20 + UDP_HEADER + message.len());
    let mut out = Vec::with_capacity(usize::from(total));
    // Version 4, five words of header, no service class; no fragment.
    out.extend_from_slice(&[0x45, 0]);
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, HOPS, UDP, 0, 0]);
    out.extend_from_slice(&from.0.octets());
    out.extend_from_slice(&to.0.octets());
    let sum = checksum(&[&out]);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, UDP]].concat();
    datagram(&mut out, &pseudo, from.1, to.1, message);
    out
}

fn packet_v6(from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), message: &[u8]) -> Vec<u8> {
    let length = length16(UDP_HEADER + message.len());
    let mut out = Vec::with_capacity(40 + usize::from(length));
    out.extend_from_slice(&[0x60, 0, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[UDP, HOPS]);
    out.extend_from_slice(&from.0.octets());
    out.extend_from_slice(&to.0.octets());
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, UDP]].concat();
    datagram(&mut out, &pseudo, from.1, to.1, message);
    out
}

/// Appends the UDP header and the message. The sum of the pseudo header is the same for both versions, where the upper half of
/// version 6's length is 0 (RFC 768, RFC 8200 §8.1).
fn datagram(out: &mut Vec<u8>, pseudo: &[u8], from: u16, to: u16, message: &[u8]) {
    let length = length16(UDP_HEADER + message.len()).to_be_bytes();
    let header = [from.to_be_bytes(), to.to_be_bytes(), length].concat();
    let sum = match checksum(&[pseudo, &length, &header, message]) {
        // 0 would say that there is none.
        0 => 0xffff,
        sum => sum,
    };
    out.extend_from_slice(&header);
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(message);
}

/// The internet's checksum (RFC 1071) over parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        let mut words = part.chunks_exact(2);
        sum += words.by_ref().map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>();
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_be_bytes([*last, 0]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{checksum, file_header, record};

    /// The example of an IP header that textbooks share; its checksum is b861.
    #[test]
    fn the_checksum_of_a_known_header() {
        let header = [0x45_u8, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&[&header]), 0xb861);
        assert_eq!(checksum(&[b"\x01"]), !0x0100);
    }

    #[test]
    fn a_file_begins_as_the_format_wants() {
        let expected = b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00\0\0\0\0\0\0\0\0\x00\x00\x04\x00\x65\x00\x00\x00";
        assert_eq!(file_header(), expected);
    }

    /// Whoever receives a datagram adds everything up, checksum included, and must get all ones.
    fn adds_up(packet: &[u8], header: usize, addresses: std::ops::Range<usize>) -> bool {
        let udp = &packet[header..];
        checksum(&[&packet[addresses], &[0, 17], &udp[4..6], udp]) == 0
    }

    #[test]
    fn a_record_of_version_4_has_right_lengths_and_sums() {
        for message in [&b"BYE sip:a SIP/2.0\r\n\r\n"[..], b"odd"] {
            let at = 1_700_000_000_000_042;
            let out = record(at, "192.0.2.10:5060".parse().unwrap(), "198.51.100.20:15060".parse().unwrap(), message);
            let (head, packet) = out.split_at(16);
            let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            assert_eq!((word(0), word(4)), (1_700_000_000, 42));
            assert_eq!((word(8) as usize, word(12) as usize), (packet.len(), packet.len()));
            assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
            assert_eq!(checksum(&[&packet[..20]]), 0, "the IP header adds up");
            assert!(adds_up(packet, 20, 12..20), "the datagram adds up");
            assert_eq!(packet[20..24], [0x13, 0xc4, 0x3a, 0xd4]);
            assert_eq!(&packet[28..], message);
        }
    }

    #[test]
    fn a_record_of_version_6_has_right_lengths_and_sums() {
        let out = record(0, "[2001:db8::1]:5061".parse().unwrap(), "192.0.2.1:7".parse().unwrap(), b"x");
        let packet = &out[16..];
        assert_eq!((packet[0], packet[6], packet.len()), (0x60, 17, 49));
        assert_eq!(u16::from_be_bytes([packet[4], packet[5]]), 9);
        assert!(adds_up(packet, 40, 8..40));
    }

    #[test]
    fn a_message_that_is_too_long_for_a_datagram_is_cut() {
        let address = "192.0.2.1:5060".parse().unwrap();
        let out = record(0, address, address, &[b'a'; 66_000]);
        assert_eq!(out.len(), 16 + 28 + 65_000);
    }
}
