//! One UDP socket.
//!
//! Owns the socket and its buffers' sizes.

use super::Received;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

/// Asked of the kernel for each direction; it may give less.
const SOCKET_BUFFER: usize = 4 << 20;
/// Largest datagram that is read.
const DATAGRAM: usize = 65_535;

/// One UDP socket, unconnected: requests of any server are taken.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
}

impl UdpPort {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn send(&mut self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        match self.socket.send_to(message, to) {
            Ok(_) => Ok(()),
            // Lost, as any datagram may be; retransmission follows.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Received> {
        buffer.resize(DATAGRAM, 0);
        match self.socket.recv_from(buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                Ok(Received::Message(from))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(Received::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}
