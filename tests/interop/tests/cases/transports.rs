//! TLS, WebSockets and STUN with other people's programs and by hand.

use super::baresip::address;
use super::{east, west};
use pairline_interop::deployment::{DOMAIN, Deployment};
use pairline_interop::digest::Challenge;
use pairline_interop::openssl::Openssl;
use pairline_interop::phone::Phone;
use pairline_interop::program::signal;
use pairline_interop::raw;
use pairline_interop::web::Web;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Time for something that needs no repetition.
const SOON: Duration = Duration::from_secs(15);
/// Where the demo's pools speak what beside UDP and TCP.
const TLS: u16 = 5061;
const WSS: u16 = 8443;
const WS: u16 = 5066;
/// What a browser's script asks for.
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol: sip\r\n";

fn at(pool: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(pool.ip(), port)
}

fn authority(pairline: &Deployment) -> PathBuf {
    pairline.folder().join("authority/authority.pem")
}

fn options(via: &str, call_id: &str) -> String {
    raw::request("OPTIONS", &format!("sip:{DOMAIN}"), via, call_id, "")
}

/// `openssl` agrees with every server on TLS 1.2 and 1.3, by every name that clients may ask for; and on nothing else.
pub fn openssl(pairline: &mut Deployment) {
    let authority = authority(pairline);
    for (pool, name) in [(east(), "east"), (west(), "west")] {
        let server = at(pool, TLS).to_string();
        let names = [DOMAIN.to_owned(), format!("{name}.{DOMAIN}"), format!("fe1.{name}.{DOMAIN}")];
        for (n, shown) in names.iter().enumerate() {
            for version in ["-tls1_2", "-tls1_3"] {
                let mut tls = Openssl::connect(&server, &authority, shown, &[version]);
                tls.write_all(options("TLS 127.0.0.1:9", &format!("{name}{n}{version}")).as_bytes())
                    .expect("openssl reads");
                tls.flush().expect("openssl reads");
                let mut answer = [0; 11];
                tls.read_exact(&mut answer).unwrap_or_else(|error| panic!("{shown} {version}: {error}"));
                assert_eq!(&answer, b"SIP/2.0 200", "{shown} {version}");
            }
        }
        for (wrong, version) in [("somebody.else.test", "-tls1_3"), (DOMAIN, "-tls1_1")] {
            let mut tls = Openssl::connect(&server, &authority, wrong, &[version]);
            // It may be gone before it reads.
            let _ = tls.write_all(options("TLS 127.0.0.1:9", "wrong").as_bytes());
            assert_eq!(tls.read(&mut [0; 1]).unwrap_or(0), 0, "{wrong} {version} is not agreed on");
        }
    }
}

/// Over TLS on one side or on both, within a pool and across pools.
pub fn baresip(pairline: &mut Deployment) {
    let mut alice = super::baresip::phone(pairline, "alice", "tls");
    let place = pairline.must(&["user", "where", "alice"]).out;
    assert!(place.contains("TLS 127.") && place.contains("reachable"), "{place}");
    let mut bob = super::baresip::phone(pairline, "bob", "address");
    let mut carol = super::baresip::phone(pairline, "carol", "tls");
    alice.call(&mut bob, &address("bob"), SOON);
    bob.hang_up(&mut alice, SOON);
    bob.call(&mut alice, &address("alice"), SOON);
    bob.hang_up(&mut alice, SOON);
    bob.write(&alice, "alice", "From a datagram into a stream.", SOON);
    carol.call(&mut alice, &address("alice"), SOON);
    alice.hang_up(&mut carol, SOON);
    alice.write(&carol, "carol", "Across the sites.", SOON);
}

/// The same header lines as in the request, for an answer by hand.
fn answer(request: &str, status: &str) -> String {
    let kept =
        |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].iter().any(|name| line.starts_with(name));
    let lines: Vec<&str> = request.lines().filter(kept).collect();
    let to = request.lines().find(|line| line.starts_with("To:")).expect("a request has a To");
    format!("SIP/2.0 {status}\r\n{}\r\n{to};tag=web\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"))
}

/// A script in a browser registers over a WebSocket, is called by a phone, and says that it is busy.
fn busy_browser<S: std::io::Read + std::io::Write>(pairline: &Deployment, stream: S, transport: &str, origin: &str) {
    let opened = Web::open(stream, &format!("{SUBPROTOCOL}Origin: {origin}\r\n"));
    let mut web = opened.unwrap_or_else(|answer| panic!("{transport} from {origin}: {answer}"));
    let mut script = Phone::new("alice", east(), 1);
    script.contact = "sip:alice@df7jal23ls0d.invalid;transport=ws".to_owned();
    web.send(&script.message(transport, ""));
    let challenge = Challenge::of(&web.expect("SIP/2.0 401"));
    let credentials = script.credentials(&challenge, &pairline.password("alice"));
    web.send(&script.message(transport, &credentials));
    web.expect("SIP/2.0 200");
    let place = pairline.must(&["user", "where", "alice"]).out;
    assert!(place.contains(&format!("{transport} 127.")) && place.contains("reachable"), "{place}");
    let mut bob = super::baresip::phone(pairline, "bob", "address");
    bob.command("dial", &address("alice"));
    let invite = web.expect("INVITE sip:alice@df7jal23ls0d.invalid");
    assert!(invite.contains(&format!("Via: SIP/2.0/{transport} ")), "{invite}");
    assert!(invite.contains("Record-Route: <sip:f1-") && invite.contains(";transport=ws"), "{invite}");
    web.send(&answer(&invite, "486 Busy Here"));
    web.expect("ACK sip:alice@df7jal23ls0d.invalid");
    bob.event("CALL_CLOSED", SOON);
    web.send("\r\n\r\n");
    assert_eq!(web.receive(), "\r\n");
}

/// Over plain WebSockets, from a page of the server's own host.
pub fn websocket(pairline: &mut Deployment) {
    busy_browser(pairline, raw::connect(at(east(), WS)), "WS", "http://127.0.1.1:8000");
    for origin in ["https://evil.example", "null"] {
        let refused = Web::open(raw::connect(at(east(), WS)), &format!("{SUBPROTOCOL}Origin: {origin}\r\n"));
        let answer = refused.err().expect("pages of others may not connect");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    let refused = Web::open(raw::connect(at(east(), WS)), "Sec-WebSocket-Protocol: chat\r\n").err();
    assert!(refused.is_some_and(|answer| answer.starts_with("HTTP/1.1 400 ")), "another subprotocol is refused");
}

/// Over secure ones.
pub fn secure_websocket(pairline: &mut Deployment) {
    let server = at(east(), WSS).to_string();
    let tls = Openssl::connect(&server, &authority(pairline), DOMAIN, &[]);
    busy_browser(pairline, tls, "WSS", &format!("https://{DOMAIN}"));
}

/// A phone behind a NAT learns its address on the SIP port (RFC 5626 §3.5.2).
pub fn stun(_: &mut Deployment) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(raw::ANSWER)).expect("a fixed time-out is valid");
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42a transactio";
    socket.send_to(request, east()).expect("loopback takes datagrams");
    let mut answer = [0; 64];
    let (length, _) = socket.recv_from(&mut answer).expect("a binding request is answered");
    let port = socket.local_addr().expect("bound").port() ^ 0x2112;
    let mut expected = b"\x01\x01\x00\x0c\x21\x12\xa4\x42a transactio\x00\x20\x00\x08\x00\x01".to_vec();
    expected.extend(port.to_be_bytes());
    // 127.0.0.1 under the cookie.
    expected.extend([0x7f ^ 0x21, 0x12, 0xa4, 0x01 ^ 0x42]);
    assert_eq!(answer[..length], expected);
}

/// SIGHUP makes a server read its certificate again and ends nothing.
pub fn renewal(pairline: &mut Deployment) {
    let mut stream = raw::connect(east());
    let mark = pairline.up().mark();
    let pid = pairline.server_pid("east").expect("east runs");
    assert!(signal(pid, "HUP"));
    let line = pairline.up().expect_line(mark, SOON, "is shown from now on");
    assert!(line.contains("server.pem") && line.contains("expires in 39"), "{line}");
    raw::pour(&mut stream, options("TCP 127.0.0.1:9", "renewal").as_bytes());
    assert!(matches!(raw::answer(&mut stream), raw::Answer::Text(text) if text.starts_with("SIP/2.0 200")));
    assert_eq!(pairline.server_pid("east"), Some(pid));
}
