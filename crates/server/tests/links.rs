//! Links over real sockets: who is let in, who is refused and why, frames, budgets, replacement.
#![allow(clippy::unwrap_used)]

use super::support;

use bytes::Bytes;
use pairline_group::LinkId;
use pairline_node::io::Input;
use pairline_server::link::{LinkTimes, Links, Peer, hello, links::LinkSetup};
use pairline_server::shell::counters::Counters;
use pairline_server::shell::events::{EventHub, Events};
use pairline_server::shell::inbox::{Outlet, inbox};
use pairline_server::tls::{Authority, Credentials, PeerIdentity};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{PATIENCE, credentials_from, event, identity, names};
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const LEVELS: hello::Levels = hello::Levels { lowest: 1, highest: 1 };

struct End {
    links: Links,
    outlet: Outlet,
    events: Events,
    address: SocketAddr,
    me: PeerIdentity,
}

fn end(credentials: Credentials) -> End {
    let listener = pairline_server::net::tcp::listen(SocketAddr::new(support::address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let (inbox, outlet) = inbox(counters.clone());
    let hub = EventHub::default();
    let events = hub.subscribe();
    let me = credentials.identity();
    let setup = LinkSetup {
        credentials: Arc::new(credentials),
        times: LinkTimes { handshake: Duration::from_secs(2), ..LinkTimes::default() },
        inbox,
        events: hub,
        counters,
        runtime: tokio::runtime::Handle::current(),
    };
    End { links: Links::start(listener, setup).unwrap(), outlet, events, address, me }
}

impl End {
    fn peer(&self) -> Peer {
        Peer { identity: self.me, address: self.address, name: format!("server-{}", self.me.server.0) }
    }

    async fn input(&mut self) -> Input {
        let waiting = async {
            loop {
                if let Some((input, _place)) = self.outlet.peer() {
                    return input;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("no input came")
    }

    async fn control(&mut self) -> Input {
        let waiting = async {
            loop {
                if let Some(input) = self.outlet.control() {
                    return input;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("no word came")
    }

    async fn up(&mut self) -> (LinkId, PeerIdentity) {
        match self.input().await {
            Input::LinkUp { link, pool, server } => {
                let told = self.input().await;
                assert!(matches!(told, Input::LinkLevel { link: of, highest: 1 } if of == link), "{told:?}");
                (link, PeerIdentity { pool, server })
            }
            other => panic!("expected a link, got {other:?}"),
        }
    }

    async fn frame(&mut self) -> Bytes {
        match self.input().await {
            Input::PeerFrame { frame, .. } => frame,
            other => panic!("expected a frame, got {other:?}"),
        }
    }
}

fn issue(authority: &Authority, who: PeerIdentity) -> Credentials {
    credentials_from(authority, &authority.issue(&names(who)).unwrap())
}

fn pair(authority: &Authority) -> (End, End) {
    (end(issue(authority, identity(1, 1))), end(issue(authority, identity(2, 2))))
}

#[tokio::test]
async fn two_servers_link_once_and_frames_pass_both_ways() {
    let authority = Authority::create("test").unwrap().0;
    let (mut east, mut west) = pair(&authority);
    east.links.set_peers(vec![west.peer()], 1);
    west.links.set_peers(vec![east.peer()], 1);
    let (to_west, at_west) = east.up().await;
    let (to_east, at_east) = west.up().await;
    assert_eq!((at_west, at_east), (identity(2, 2), identity(1, 1)));
    let long: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n / 1000 % 251).unwrap()).collect();
    for frame in [Bytes::from_static(b""), Bytes::from_static(b"short"), Bytes::from(long)] {
        east.links.send_all([(to_west, frame.clone())]);
        assert_eq!(west.frame().await, frame);
        west.links.send_all([(to_east, frame.clone())]);
        assert_eq!(east.frame().await, frame);
    }
    assert_eq!((east.links.live().len(), west.links.live().len()), (1, 1));
}

#[tokio::test]
async fn servers_without_a_common_feature_level_have_no_link_and_both_say_what_to_do() {
    let authority = Authority::create("test").unwrap().0;
    let (mut east, mut west) = pair(&authority);
    // West's deployment uses a level that this build does not know.
    west.links.set_peers(vec![east.peer()], 2);
    east.links.set_peers(vec![west.peer()], 1);
    let told = event(&mut east.events, "link-rejected").await;
    assert!(
        told.contains("uses feature level 2, and this build knows up to 1: put the newer program in its place here"),
        "{told}"
    );
    let told = event(&mut west.events, "link-rejected").await;
    assert!(told.contains("knows feature levels up to 1, and the deployment uses 2 here"), "{told}");
    assert_eq!((east.links.live(), west.links.live()), (vec![], vec![]));
    let end = east.control().await;
    assert!(matches!(end, Input::LevelInForce { level: 2 }), "{end:?}");
    assert!(west.outlet.control().is_none());
}

#[tokio::test]
async fn the_end_of_a_link_is_told_and_it_comes_back() {
    let authority = Authority::create("test").unwrap().0;
    let (mut east, mut west) = pair(&authority);
    east.links.set_peers(vec![west.peer()], 1);
    west.links.set_peers(vec![east.peer()], 1);
    let (first, _) = east.up().await;
    west.up().await;
    // The topology drops west for a moment, seen from west only.
    west.links.set_peers(vec![], 1);
    assert!(matches!(east.input().await, Input::LinkDown { link } if link == first));
    assert!(matches!(west.input().await, Input::LinkDown { .. }));
    west.links.set_peers(vec![east.peer()], 1);
    let (second, _) = east.up().await;
    assert_ne!(first, second);
    let text = event(&mut east.events, "link-down").await;
    assert!(text.contains("server-2"), "{text}");
}

async fn refusal_of(bad: Credentials, authority: &Authority) -> String {
    let mut west = end(issue(authority, identity(2, 2)));
    let east = end(bad);
    west.links.set_peers(vec![Peer { identity: identity(1, 1), address: east.address, name: "east".to_owned() }], 1);
    east.links.set_peers(vec![west.peer()], 1);
    let text = event(&mut west.events, "link-rejected").await;
    assert!(west.outlet.peer().is_none(), "the node must not hear of it");
    text
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let now = OffsetDateTime::now_utc();
    let (from, until) = (now - time::Duration::days(30), now - time::Duration::days(1));
    let issued = authority.issue_between(&names(identity(1, 1)), from, until).unwrap();
    let bad = credentials_from(&authority, &issued);
    assert_eq!(bad.days_left(now.unix_timestamp()), -1);
    let text = refusal_of(bad, &authority).await;
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let other = Authority::create("test").unwrap().0;
    let issued = other.issue(&names(identity(1, 1))).unwrap();
    // It trusts ours, so that the refusal is west's.
    let pem = authority.certificate_pem().as_bytes();
    let bad = Credentials::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), pem).unwrap();
    let text = refusal_of(bad, &authority).await;
    assert!(text.contains("not from this deployment's authority"), "{text}");
}

#[tokio::test]
async fn a_server_that_the_topology_does_not_have_is_refused_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let text = refusal_of(issue(&authority, identity(1, 9)), &authority).await;
    assert!(text.contains("pool 1 server 9") && text.contains("topology does not have"), "{text}");
}

#[tokio::test]
async fn the_dialling_side_refuses_a_wrong_pool_too() {
    let authority = Authority::create("test").unwrap().0;
    let mut east = end(issue(&authority, identity(1, 1)));
    let wrong = end(issue(&authority, identity(3, 2)));
    wrong.links.set_peers(vec![east.peer()], 1);
    let claimed = Peer { identity: identity(2, 2), address: wrong.address, name: "west".to_owned() };
    east.links.set_peers(vec![claimed], 1);
    let text = event(&mut east.events, "link-rejected").await;
    assert!(text.contains("of pool 3 server 2") && text.contains("expected was pool 2 server 2"), "{text}");
    assert!(east.outlet.peer().is_none());
}

#[tokio::test]
async fn plain_tcp_is_refused_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let mut west = end(issue(&authority, identity(2, 2)));
    let mut stream = TcpStream::connect(west.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let text = event(&mut west.events, "link-rejected").await;
    assert!(text.contains("does not speak TLS"), "{text}");
}

/// A TLS connection as an authenticated but misbehaving server.
async fn impostor(west: &End, authority: &Authority) -> tokio_rustls::client::TlsStream<TcpStream> {
    let credentials = issue(authority, identity(1, 1));
    let config = credentials.link_client(west.me).unwrap();
    let tcp = TcpStream::connect(west.address).await.unwrap();
    let name = rustls::pki_types::ServerName::IpAddress(west.address.ip().into());
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap()
}

fn wire(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 1).unwrap().to_be_bytes().to_vec();
    out.push(0);
    out.extend_from_slice(body);
    out
}

#[tokio::test]
async fn an_oversized_frame_ends_the_link_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let mut west = end(issue(&authority, identity(2, 2)));
    west.links.set_peers(vec![Peer { identity: identity(1, 1), address: west.address, name: "east".to_owned() }], 1);
    let mut stream = impostor(&west, &authority).await;
    stream.write_all(&wire(&hello::encode(identity(1, 1), LEVELS))).await.unwrap();
    west.up().await;
    stream.write_all(&(17 * 1024 * 1024_u32).to_be_bytes()).await.unwrap();
    let text = event(&mut west.events, "link-down").await;
    assert!(text.contains("exceeds the limit of 16 MiB"), "{text}");
    assert!(matches!(west.input().await, Input::LinkDown { .. }));
}

#[tokio::test]
async fn a_compressed_frame_that_claims_too_much_ends_the_link() {
    let authority = Authority::create("test").unwrap().0;
    let mut west = end(issue(&authority, identity(2, 2)));
    west.links.set_peers(vec![Peer { identity: identity(1, 1), address: west.address, name: "east".to_owned() }], 1);
    let mut stream = impostor(&west, &authority).await;
    stream.write_all(&wire(&hello::encode(identity(1, 1), LEVELS))).await.unwrap();
    west.up().await;
    let mut bomb = 10_u32.to_be_bytes().to_vec();
    bomb.push(1);
    bomb.extend_from_slice(&u32::MAX.to_be_bytes());
    bomb.extend_from_slice(&[0; 5]);
    stream.write_all(&bomb).await.unwrap();
    let text = event(&mut west.events, "link-down").await;
    assert!(text.contains("exceeds the limit"), "{text}");
}

#[tokio::test]
async fn another_version_and_a_false_hello_are_refused_in_words() {
    let authority = Authority::create("test").unwrap().0;
    let mut west = end(issue(&authority, identity(2, 2)));
    west.links.set_peers(vec![Peer { identity: identity(1, 1), address: west.address, name: "east".to_owned() }], 1);
    let mut newer = hello::encode(identity(1, 1), LEVELS);
    newer[4] = 9;
    let liar = hello::encode(identity(1, 7), LEVELS);
    let cases: [(&[u8], &str); 3] = [
        (&newer, "version 9"),
        (&liar, "its certificate says pool 1 server 1"),
        (b"HELLO", "does not speak the link protocol"),
    ];
    for (hello, expected) in cases {
        let mut stream = impostor(&west, &authority).await;
        stream.write_all(&wire(hello)).await.unwrap();
        let text = event(&mut west.events, "link-rejected").await;
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn a_newer_link_replaces_the_older_one_in_order() {
    let authority = Authority::create("test").unwrap().0;
    let mut west = end(issue(&authority, identity(2, 2)));
    west.links.set_peers(vec![Peer { identity: identity(1, 1), address: west.address, name: "east".to_owned() }], 1);
    let mut first = impostor(&west, &authority).await;
    first.write_all(&wire(&hello::encode(identity(1, 1), LEVELS))).await.unwrap();
    let (older, _) = west.up().await;
    let mut second = impostor(&west, &authority).await;
    second.write_all(&wire(&hello::encode(identity(1, 1), LEVELS))).await.unwrap();
    assert!(matches!(west.input().await, Input::LinkDown { link } if link == older), "the end comes first");
    let (newer, _) = west.up().await;
    assert_ne!(older, newer);
    assert_eq!(west.links.live(), vec![(newer, identity(1, 1))]);
}

#[test]
fn the_hello_is_frozen() {
    let without_levels = [b'P', b'L', b'N', b'K', 1, 0x01, 0x02, 0, 0, 0x03, 0x04];
    let golden = [&without_levels[..], &[0, 1, 0, 3]].concat();
    let levels = hello::Levels { lowest: 1, highest: 3 };
    assert_eq!(hello::encode(identity(0x0102, 0x0304), levels)[..], golden);
    assert_eq!(hello::check(&golden, identity(0x0102, 0x0304), LEVELS), Ok(3));
    assert_eq!(hello::check(&without_levels, identity(0x0102, 0x0304), LEVELS), Ok(1));
}

#[test]
fn frames_are_frozen_and_round_trip() {
    let mut encoder = pairline_server::link::frame::Encoder::new().unwrap();
    let mut out = Vec::new();
    encoder.encode(b"abc", &mut out).unwrap();
    assert_eq!(out, [0, 0, 0, 4, 0, b'a', b'b', b'c']);
    out.clear();
    encoder.encode(&[7; 16 * 1024], &mut out).unwrap();
    assert_eq!((out[4], out.len()), (0, 16 * 1024 + 5), "not worth it");
    out.clear();
    encoder.encode(&[7; 20_000], &mut out).unwrap();
    assert_eq!(out[4], 1, "compressed");
    assert_eq!(out[5..9], 20_000_u32.to_be_bytes());
    let mut decoder = pairline_server::link::frame::Decoder::new().unwrap();
    assert_eq!(decoder.decode(out[4..].to_vec(), 1 << 20).unwrap(), vec![7; 20_000]);
    for cut in 5..out.len() {
        assert!(decoder.decode(out[4..cut].to_vec(), 1 << 20).is_err(), "cut at {cut}");
    }
    assert!(decoder.decode(vec![2, 0], 100).is_err(), "unknown flag");
    assert!(encoder.encode(&vec![0; 16 * 1024 * 1024], &mut out).is_err(), "too long");
}
