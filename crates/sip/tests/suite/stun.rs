//! STUN on the SIP port: RFC 5769's vectors, refusals, and hostile bytes.

use pairline_sip::stun::{answer, is_stun};
use proptest::prelude::*;
use std::net::SocketAddr;

const TRANSACTION: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

fn request(attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    [&[0, 1], &length[..], b"\x21\x12\xa4\x42", &TRANSACTION, attributes].concat()
}

fn from(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The mapped addresses of RFC 5769 §2.2 and §2.3: their XORed forms are the ones printed there.
#[test]
fn the_source_is_told_in_the_form_of_rfc_5769() {
    let v4 = answer(&request(b""), from("192.0.2.1:32853")).unwrap();
    let head = b"\x01\x01\x00\x0c\x21\x12\xa4\x42";
    assert_eq!(&v4[..], [&head[..], &TRANSACTION, b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"].concat());
    let v6 = answer(&request(b""), from("[2001:db8:1234:5678:11:2233:4455:6677]:32853")).unwrap();
    let mapped = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
    assert_eq!(&v6[20..], mapped);
    let inside = answer(&request(b""), from("[::ffff:192.0.2.1]:32853")).unwrap();
    assert_eq!(inside, v4, "an IPv4 address in IPv6 dress is IPv4");
}

/// RFC 5769 §2.1: a request with a right fingerprint (and ICE's attributes, which nobody asked for here).
#[test]
fn a_fingerprint_is_checked_and_answered() {
    let sample = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    let told = answer(sample, from("192.0.2.1:32853")).unwrap();
    // ICE's PRIORITY must be understood and is not: 420, with its number, and a fingerprint that the same reading accepts.
    assert_eq!(told[..2], [0x01, 0x11]);
    let refusal = b"\x00\x09\x00\x15\x00\x00\x04\x14Unknown Attribute\0\0\0\x00\x0a\x00\x02\x00\x24\0\0";
    assert_eq!(&told[20..56], refusal);
    assert_eq!(&told[told.len() - 8..told.len() - 4], b"\x80\x28\x00\x04");
    let mut again = told.to_vec();
    again[..2].copy_from_slice(&[0, 1]);
    assert_eq!(answer(&again, from("192.0.2.1:1")), None, "its fingerprint was of a response");
    let mut wrong = sample.to_vec();
    wrong[30] ^= 1;
    assert_eq!(answer(&wrong, from("192.0.2.1:32853")), None);
    let mut behind = sample.to_vec();
    behind.extend_from_slice(b"\x80\x22\x00\x00");
    behind[3] += 4;
    assert_eq!(answer(&behind, from("192.0.2.1:32853")), None, "nothing stands behind a fingerprint");
}

#[test]
fn what_is_no_binding_request_gets_no_answer() {
    let source = from("192.0.2.1:32853");
    let good = request(b"");
    for (at, value) in [(0, 0x40), (0, 1), (1, 0x11), (1, 2), (3, 4), (3, 3), (4, 0)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(answer(&bad, source), None, "byte {at} = {value}");
    }
    for bad in [&b"\x80\x22\x00\x08abcd"[..], b"\x80\x22\x00\x03abc", b"\x80\x22", b"\x80\x22\xff\xff"] {
        assert_eq!(answer(&request(bad), source), None, "{bad:?}");
    }
    let long = request(&[&b"\x80\x22\x02\x40"[..], &[b'x'; 0x240]].concat());
    assert_eq!(answer(&long, source), None);
    assert!(!is_stun(b"OPTIONS sip:x SIP/2.0\r\n\r\n") && !is_stun(b"\r\n\r\n") && !is_stun(&good[..19]));
    assert!(answer(&request(b"\x00\x06\x00\x01a\0\0\0\x80\x22\x00\x00"), source).unwrap().starts_with(&[1, 1]));
}

proptest! {
    #[test]
    fn no_datagram_panics_or_is_answered_by_much_more(
        kind in prop::sample::select(vec![0x0001_u16, 0x0011, 0x0101, 0x0003]),
        body in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..240,
        v6 in any::<bool>(),
    ) {
        let mut message = request(&body);
        message[..2].copy_from_slice(&kind.to_be_bytes());
        message.truncate(cut.max(1));
        let source = from(if v6 { "[2001:db8::1]:1" } else { "192.0.2.1:1" });
        if let Some(told) = answer(&message, source) {
            prop_assert_eq!(kind, 1);
            prop_assert!(told.len() <= message.len() + 44);
        }
    }

    #[test]
    fn many_unknown_attributes_make_a_short_refusal(kinds in prop::collection::vec(0x0030_u16..0x8000, 1..60)) {
        let body: Vec<u8> = kinds.iter().flat_map(|kind| [&kind.to_be_bytes()[..], &[0, 0]].concat()).collect();
        let told = answer(&request(&body), from("192.0.2.1:1")).unwrap();
        prop_assert!(told.starts_with(&[1, 0x11]) && told.len() <= 64, "{}", told.len());
    }
}
