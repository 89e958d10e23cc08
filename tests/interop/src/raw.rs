//! SIP by hand: messages as text over plain sockets, for what no well-behaved program sends.
//!
//! Owns sockets and the few templates. Answers are texts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Time for an answer.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Where requests come from if nothing else is said.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A request without credentials. `extra` is whole header lines.
pub fn request(method: &str, uri: &str, via: &str, call_id: &str, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via};rport;branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@pairline.test>;tag=raw\r\nTo: <{uri}>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

/// Sends one datagram and gives the answer, `None` if there is none in time. Sends again every second, as a client does.
///
/// # Panics
/// If the socket fails.
pub fn ask(server: SocketAddr, bytes: &[u8], limit: Duration) -> Option<String> {
    ask_from(LOOPBACK, server, bytes, limit)
}

/// The same from another address of this machine.
///
/// # Panics
/// If the socket fails.
pub fn ask_from(source: IpAddr, server: SocketAddr, bytes: &[u8], limit: Duration) -> Option<String> {
    let socket = UdpSocket::bind((source, 0)).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a fixed time-out is valid");
    let mut buffer = [0; 65_536];
    for _ in 0..limit.as_secs().max(1) {
        socket.send_to(bytes, server).expect("loopback takes datagrams");
        if let Ok((length, _)) = socket.recv_from(&mut buffer) {
            return Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    None
}

/// How a connection answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// With these bytes (up to the first blank line).
    Text(String),
    /// By closing.
    Closed,
    /// Not at all.
    Silence,
}

/// A connection to a server.
///
/// # Panics
/// If it cannot be made.
pub fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&server, ANSWER).expect("the server accepts connections");
    stream.set_read_timeout(Some(ANSWER)).expect("a fixed time-out is valid");
    stream.set_write_timeout(Some(ANSWER)).expect("a fixed time-out is valid");
    stream.set_nodelay(true).expect("a connected socket");
    stream
}

/// Writes what the server takes; it may close in between.
pub fn pour(stream: &mut TcpStream, bytes: &[u8]) {
    // A server that refuses what it gets may close while we write: that is an answer.
    let _ = stream.write_all(bytes);
}

/// Waits for what the server does.
pub fn answer(stream: &mut TcpStream) -> Answer {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) if text.is_empty() => return Answer::Closed,
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return if text.is_empty() {
                    Answer::Silence
                } else {
                    Answer::Text(String::from_utf8_lossy(&text).into_owned())
                };
            }
            Err(_) => return if text.is_empty() { Answer::Closed } else { break },
        }
        if text.windows(4).any(|w| w == b"\r\n\r\n") {
            break;
        }
    }
    Answer::Text(String::from_utf8_lossy(&text).into_owned())
}
