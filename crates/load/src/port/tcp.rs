//! Connections to the servers.
//!
//! Owns connecting, framing of what comes, and what could not be written yet.

use super::Received;
use crate::wire::scan;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(2);
/// What may wait to be written; beyond it the connection counts as gone.
const KEPT: usize = 4 << 20;
/// Bytes asked for at a time.
const CHUNK: usize = 64 << 10;

/// One connection to each server.
#[derive(Debug)]
pub struct TcpPort {
    local: IpAddr,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    server: SocketAddr,
    local: SocketAddr,
    stream: TcpStream,
    read: Vec<u8>,
    taken: usize,
    kept: Vec<u8>,
    closed: bool,
}

impl TcpPort {
    pub(super) fn new(local: IpAddr) -> Self {
        Self { local, connections: Vec::new() }
    }

    pub(super) fn local(&mut self, server: SocketAddr) -> io::Result<SocketAddr> {
        Ok(self.connection(server)?.local)
    }

    pub(super) fn send(&mut self, to: SocketAddr, message: &[u8]) -> io::Result<()> {
        let connection = self.connection(to)?;
        if connection.kept.len() + message.len() > KEPT {
            connection.closed = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        connection.kept.extend_from_slice(message);
        Ok(())
    }

    pub(super) fn flush(&mut self) {
        for connection in &mut self.connections {
            connection.flush();
        }
    }

    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> Received {
        for connection in &mut self.connections {
            if connection.take(buffer) {
                return Received::Message(connection.server);
            }
        }
        match self.connections.iter().position(|c| c.closed) {
            Some(index) => Received::Closed(self.connections.swap_remove(index).server),
            None => Received::Nothing,
        }
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.connections.iter().map(|c| (c.stream.as_fd(), !c.kept.is_empty()))
    }

    fn connection(&mut self, server: SocketAddr) -> io::Result<&mut Connection> {
        let index = match self.connections.iter().position(|c| c.server == server && !c.closed) {
            Some(index) => index,
            None => {
                self.connections.push(Connection::open(self.local, server)?);
                self.connections.len() - 1
            }
        };
        Ok(&mut self.connections[index])
    }
}

impl Connection {
    fn open(local: IpAddr, server: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        socket.connect_timeout(&server.into(), CONNECT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from(socket);
        let local = stream.local_addr()?;
        Ok(Self { server, local, stream, read: Vec::new(), taken: 0, kept: Vec::new(), closed: false })
    }

    /// Takes the next whole message, reading more if none is there.
    fn take(&mut self, buffer: &mut Vec<u8>) -> bool {
        loop {
            self.taken += scan::leading_breaks(&self.read[self.taken..]);
            if let Some(length) = scan::framed(&self.read[self.taken..]) {
                buffer.clear();
                buffer.extend_from_slice(&self.read[self.taken..self.taken + length]);
                self.taken += length;
                return true;
            }
            self.read.drain(..self.taken);
            self.taken = 0;
            if self.closed || !self.fill() {
                return false;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let had = self.read.len();
        self.read.resize(had + CHUNK, 0);
        let got = match self.stream.read(&mut self.read[had..]) {
            Ok(0) => {
                self.closed = true;
                0
            }
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.closed = true;
                0
            }
        };
        self.read.truncate(had + got);
        got > 0
    }

    fn flush(&mut self) {
        while !self.kept.is_empty() && !self.closed {
            match self.stream.write(&self.kept) {
                Ok(0) => self.closed = true,
                Ok(length) => drop(self.kept.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }
}
