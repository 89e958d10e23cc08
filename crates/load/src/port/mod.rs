//! Sockets of the generator: one kind of port for each transport, never waiting but in [`wait`].
//!
//! Owns sending, receiving and framing. Knows nothing of what the messages say.

mod tcp;
mod tls;
mod udp;
mod ws;

pub use tls::Secure;

use crate::args::Transport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing more for now.
    Nothing,
    /// One message, in the buffer.
    Message(SocketAddr),
    /// The connection with that address is gone.
    Closed(SocketAddr),
}

/// One socket, or the connections that share one place in the rotation.
#[derive(Debug)]
pub enum Port {
    /// One UDP socket.
    Udp(udp::UdpPort),
    /// One connection to each server, made when it is first needed.
    Tcp(tcp::TcpPort),
    /// The same over TLS, with or without WebSocket frames.
    Tls(tls::TlsPort),
}

impl Port {
    /// Opens a port that sends from `local`, over UDP from that port if it is not 0; `secure` says to whom and how, for connections over TLS.
    ///
    /// # Errors
    /// If the address cannot be used, or nobody says whom to believe.
    pub fn open(transport: Transport, local: SocketAddr, secure: Option<&Secure>) -> io::Result<Self> {
        let ip = local.ip();
        Ok(match transport {
            Transport::Udp => Self::Udp(udp::UdpPort::open(local)?),
            Transport::Tcp => Self::Tcp(tcp::TcpPort::new(ip)),
            Transport::Tls | Transport::Wss => {
                let secure = secure.ok_or_else(|| io::Error::other("no authority is named"))?;
                Self::Tls(tls::TlsPort::new(ip, secure.clone()))
            }
        })
    }

    /// Our address as `server` sees it; connects if need be.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn local(&mut self, server: SocketAddr) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(port) => Ok(port.local()),
            Self::Tcp(port) => port.local(server),
            Self::Tls(port) => port.local(server),
        }
    }

    /// Sends one message. What a full socket refuses is lost (UDP) or kept for [`Port::flush`] (TCP).
    ///
    /// # Errors
    /// If the connection is gone and cannot be made again.
    pub fn send(&mut self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(port) => port.send(to, message),
            Self::Tcp(port) => port.send(to, message),
            Self::Tls(port) => port.send(to, message),
        }
    }

    /// Takes one message into `buffer`, replacing what is there.
    ///
    /// # Errors
    /// If the socket itself fails.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        match self {
            Self::Udp(port) => port.receive(buffer),
            Self::Tcp(port) => Ok(port.receive(buffer)),
            Self::Tls(port) => Ok(port.receive(buffer)),
        }
    }

    /// Writes what is kept.
    pub fn flush(&mut self) {
        match self {
            Self::Udp(_) => {}
            Self::Tcp(port) => port.flush(),
            Self::Tls(port) => port.flush(),
        }
    }

    fn sockets<'a>(&'a self, out: &mut Vec<(BorrowedFd<'a>, bool)>) {
        match self {
            Self::Udp(port) => out.push((port.socket(), false)),
            Self::Tcp(port) => out.extend(port.sockets()),
            Self::Tls(port) => out.extend(port.sockets()),
        }
    }
}

/// Waits until something can be read, something kept can be written, or `nanos` have passed.
///
/// # Errors
/// If the system call fails.
pub fn wait(ports: &[Port], nanos: u64) -> io::Result<()> {
    let mut sockets = Vec::new();
    for port in ports {
        port.sockets(&mut sockets);
    }
    let mut polled: Vec<PollFd<'_>> = sockets
        .into_iter()
        .map(|(socket, writes)| {
            let flags = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            PollFd::from_borrowed_fd(socket, flags)
        })
        .collect();
    let limit = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
    match poll(&mut polled, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The address from which the system reaches `server`.
///
/// # Errors
/// If it has no way there.
pub fn local_address(server: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}
