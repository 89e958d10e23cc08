//! Hostile bytes against a whole node: parser, transactions, dispatcher, registrar, proxy. Nothing panics, no answer is a lever,
//! nothing is left behind.
//!
//! Owns what must hold. The pair of nodes is `common`'s, the anomalies are the SIP crate's.
#![allow(clippy::unwrap_used)]

use super::anomaly_cases;
use super::common;

use anomaly_cases::{BASES, each};
use bytes::Bytes;
use common::{EAST, Pair};
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::{Frame, Message, StreamFramer};

const STRANGER: &str = "192.0.2.1:5060";
/// Milliseconds after which every transaction is over (64 × T1, and as long again for INVITE).
const ALL_OVER: u64 = 130_000;
/// What an answer may have that its request has not: the challenge, or a status line with its reason.
const MORE: usize = 360;

/// East, with two users; west is there so that east serves them.
fn east() -> Pair {
    let mut pair = Pair::steady();
    for user in ["alice", "bob"] {
        let (user, password) = (user.to_owned(), "a long enough password".to_owned());
        pair.must(EAST, Command::UserAdd { user, password, display_name: None, pool: Some("east".to_owned()) });
    }
    pair.sites[EAST].sip.clear();
    pair
}

/// Gives east a message, and what east wants sent.
fn sip(pair: &mut Pair, flow: Flow, message: Bytes) -> Vec<(Flow, Bytes)> {
    pair.give(EAST, Input::Sip { flow, message });
    std::mem::take(&mut pair.sites[EAST].sip)
}

/// Nothing of what strangers sent is left after a while; gives what was sent meanwhile.
fn cleaned(pair: &mut Pair) -> Vec<(Flow, Bytes)> {
    pair.run(ALL_OVER);
    let node = pair.sites[EAST].node.as_ref().unwrap();
    let (transactions, held) = node.inspect(|core| (core.layer.len(), core.layer.held_bytes()));
    assert_eq!((transactions, held, node.live_tasks()), (0, 0, 0), "transactions, their bytes, tasks");
    std::mem::take(&mut pair.sites[EAST].sip)
}

fn udp() -> Flow {
    Flow { transport: Transport::Udp, listener: 0, remote: STRANGER.parse().unwrap(), connection: 0 }
}

#[test]
fn datagrams_with_one_anomaly_are_no_lever() {
    let mut east = east();
    let (mut cases, mut answered, mut received, mut returned) = (0, 0, 0, 0);
    for base in &BASES {
        cases += each(base, |label, bytes| {
            let good = Message::parse(Bytes::copy_from_slice(bytes)).is_ok();
            let sent = sip(&mut east, udp(), Bytes::copy_from_slice(bytes));
            let total: usize = sent.iter().map(|(_, message)| message.len()).sum();
            assert!(total <= bytes.len() + MORE, "{label}: {total} bytes for {}", bytes.len());
            for (flow, message) in sent {
                // The port may be that of its Via (RFC 3261 §18.2.2); never another host.
                let source = STRANGER.parse::<std::net::SocketAddr>().unwrap().ip();
                assert_eq!(flow.remote.ip(), source, "{label}: to where it came from and nowhere else");
                assert!(!good || Message::parse(message).is_ok(), "{label}: an answer parses");
                answered += 1;
            }
            (received, returned) = (received + bytes.len(), returned + total);
        });
    }
    assert!(cases > 20_000 && answered > 8_000, "{answered} of {cases} answered: too weak a test");
    returned += cleaned(&mut east).iter().map(|(_, message)| message.len()).sum::<usize>();
    assert!(returned * 2 <= received * 3, "{returned} bytes sent for {received}, repetitions included");
}

#[test]
fn streams_with_one_anomaly_end_or_go_on() {
    let mut east = east();
    let mut cases = 0;
    for base in &BASES {
        cases += each(base, |label, bytes| {
            let flow = Flow { transport: Transport::Tcp, connection: 7, ..udp() };
            let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
            framer.push(bytes);
            let mut total = 0;
            while let Some(frame) = framer.next() {
                if let Ok(Frame::Message(message)) = frame {
                    total += sip(&mut east, flow, message).iter().map(|(_, message)| message.len()).sum::<usize>();
                }
            }
            // One message may be framed as several, each with its answer.
            assert!(total <= 2 * bytes.len() + MORE, "{label}: {total} bytes for {}", bytes.len());
        });
    }
    assert!(cases > 20_000);
    east.give(EAST, Input::FlowClosed { flow: Flow { transport: Transport::Tcp, connection: 7, ..udp() } });
    cleaned(&mut east);
}

/// CVE-2021-41145: FreeSWITCH lost 8 GB in 90 s to REGISTERs. A flood of strangers, each with a user, a branch and an address of
/// its own, costs nothing that stays, and the users are served meanwhile.
#[test]
fn cve_2021_41145_a_flood_of_strangers_leaves_nothing() {
    let mut east = east();
    let mut most = 0;
    for n in 0..30_000_u32 {
        let remote = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0xc612_0000 + n), 5060));
        let method = ["REGISTER", "INVITE", "MESSAGE", "SUBSCRIBE"][n as usize % 4];
        let uri = if method == "REGISTER" { "sip:pairline.test".to_owned() } else { format!("sip:u{n}@pairline.test") };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};branch=z9hG4bKflood{n};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:u{n}@pairline.test>;tag={n}\r\nTo: <sip:u{n}@pairline.test>\r\nCall-ID: flood{n}\r\n\
             CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        let sent = sip(&mut east, Flow { remote, ..udp() }, Bytes::from(text));
        assert_eq!(sent.len(), 1, "each is answered, once");
        let node = east.sites[EAST].node.as_ref().unwrap();
        assert_eq!(node.live_tasks(), 0, "nobody's request waits for anything");
        most = most.max(node.inspect(|core| core.layer.held_bytes()));
    }
    assert!(most < 64 * 1024 * 1024, "{most} bytes held by transactions");
    cleaned(&mut east);
}

/// CVE-2026-77322: a length is not memory. What the other pool sends is bounded before anything is made for it, and a frame that
/// is cut off, or says more than it has, is refused.
#[test]
fn cve_2026_77322_a_stated_length_claims_nothing() {
    use pairline_node::peer::{PEER_FRAME_LIMIT, PEER_VERSION, PeerFrame};
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for kind in 0..16_u8 {
        for before in 0..12 {
            let frame = [&[PEER_VERSION, kind][..], &vec![0; before], &huge, &[0; 4]].concat();
            let _ = PeerFrame::decode(&frame);
            let _ = pairline_group::frame::decode(&frame);
            let _ = pairline_group::codec::decode_entry(&frame);
        }
    }
    let sip = PeerFrame::Sip(Bytes::from_static(b"OPTIONS sip:a SIP/2.0\r\n\r\n")).encode();
    for end in 0..sip.len() {
        assert!(PeerFrame::decode(&sip[..end]).is_err(), "cut off after {end}");
    }
    assert!(PeerFrame::decode(&vec![PEER_VERSION; PEER_FRAME_LIMIT + 1]).is_err());
}
