//! TCP sockets for SIP: listening, and opening connections.
//!
//! Owns the sockets' options. Does not own accepting (`accept`), sending (`dial`) or the life of a connection (`stream`).

use pairline_sip::flow::Transport;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Connections that the system may hold before they are accepted.
const BACKLOG: i32 = 1024;
/// A connection that is silent for so long is asked whether its other end is still there,
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// then again and again,
const PROBE_EVERY: Duration = Duration::from_secs(15);
/// and so often in vain.
const PROBES: u32 = 4;
/// What was sent and is not acknowledged for so long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(32);

/// One bound listener of streams.
pub struct BoundStream {
    /// Its index in the configuration.
    pub listener: u16,
    /// What is spoken there.
    pub transport: Transport,
    /// The socket.
    pub socket: TcpListener,
}

/// Binds a TCP socket for listening, reusing an address whose old connections linger.
///
/// # Errors
/// The system's: address in use, not ours, not allowed.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Opens a connection, from that address if one is given.
///
/// # Errors
/// The system's.
pub async fn open(remote: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = from.filter(|ip| !ip.is_unspecified()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    socket.connect(remote).await
}

/// Small messages leave at once, and a peer that is gone without a word is found out within two minutes. What the system
/// refuses of it changes only how soon.
pub fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that vanishes cannot be played on one machine without privileges; what the system is told can be read back.
    #[tokio::test]
    async fn the_system_is_told_to_look_after_the_other_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stream = open(listener.local_addr().expect("bound"), None).await.expect("it listens");
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().expect("readable") && socket.keepalive().expect("readable"));
        assert_eq!(socket.tcp_keepalive_time().expect("readable"), PROBE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().expect("readable"), PROBE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().expect("readable"), PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(UNACKNOWLEDGED));
    }
}
