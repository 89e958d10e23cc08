//! Connections over TLS, each with SIP as a stream or in WebSocket frames.
//!
//! Owns connecting, the handshakes, and what came or could not be written yet. Frames are `ws`'s.

use super::Received;
use super::ws::{self, Frame};
use crate::wire::scan;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Time for a connection and for each step of its handshakes.
const CONNECT: Duration = Duration::from_secs(5);
/// What may wait to be written; beyond it the connection counts as gone.
const KEPT: usize = 4 << 20;
/// Bytes asked for at a time.
const CHUNK: usize = 64 << 10;

/// Whom connections are made to, and how.
#[derive(Clone, Debug)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    host: String,
    web: bool,
}

impl Secure {
    /// Believes the authorities of a PEM file, and means the server of that name; `web`: in WebSocket frames.
    ///
    /// # Errors
    /// If the file cannot be read or used, or the name is none.
    pub fn load(authority: &Path, name: &str, web: bool) -> io::Result<Self> {
        let pem = std::fs::read(authority)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", authority.display())))?;
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
            roots.add(certificate?).map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), name: server, host: name.to_owned(), web })
    }
}

/// One connection to each server.
#[derive(Debug)]
pub struct TlsPort {
    local: IpAddr,
    secure: Secure,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    server: SocketAddr,
    local: SocketAddr,
    stream: StreamOwned<ClientConnection, TcpStream>,
    web: bool,
    read: Vec<u8>,
    taken: usize,
    kept: Vec<u8>,
    frames: u32,
    closed: bool,
}

impl TlsPort {
    pub(super) fn new(local: IpAddr, secure: Secure) -> Self {
        Self { local, secure, connections: Vec::new() }
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
        connection.keep(message);
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
        self.connections.iter().map(|c| (c.stream.sock.as_fd(), !c.kept.is_empty() || c.stream.conn.wants_write()))
    }

    fn connection(&mut self, server: SocketAddr) -> io::Result<&mut Connection> {
        let index = match self.connections.iter().position(|c| c.server == server && !c.closed) {
            Some(index) => index,
            None => {
                self.connections.push(Connection::open(self.local, server, &self.secure)?);
                self.connections.len() - 1
            }
        };
        Ok(&mut self.connections[index])
    }
}

impl Connection {
    /// Connects and makes both handshakes, waiting for each.
    fn open(local: IpAddr, server: SocketAddr, secure: &Secure) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        socket.connect_timeout(&server.into(), CONNECT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(CONNECT))?;
        socket.set_write_timeout(Some(CONNECT))?;
        let mut tcp = TcpStream::from(socket);
        let local = tcp.local_addr()?;
        let mut session =
            ClientConnection::new(Arc::clone(&secure.config), secure.name.clone()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        let stream = StreamOwned::new(session, tcp);
        let (read, kept) = (Vec::new(), Vec::new());
        let mut connection =
            Self { server, local, stream, web: secure.web, read, taken: 0, kept, frames: 0, closed: false };
        if secure.web {
            connection.open_web(&secure.host)?;
        }
        connection.stream.sock.set_nonblocking(true)?;
        Ok(connection)
    }

    fn open_web(&mut self, host: &str) -> io::Result<()> {
        self.stream.write_all(ws::opening(host).as_bytes())?;
        self.stream.flush()?;
        loop {
            if let Some(length) = ws::opened(&self.read)? {
                self.read.drain(..length);
                return Ok(());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => self.read.extend_from_slice(&chunk[..got]),
            }
        }
    }

    fn keep(&mut self, message: &[u8]) {
        if self.web {
            self.frames = self.frames.wrapping_mul(0x9e37_79b1).wrapping_add(1);
            ws::write(&mut self.kept, ws::TEXT, message, self.frames);
        } else {
            self.kept.extend_from_slice(message);
        }
    }

    /// Takes the next whole message, reading more if none is there.
    fn take(&mut self, buffer: &mut Vec<u8>) -> bool {
        loop {
            let found = if self.web { self.next_frame() } else { self.next_message() };
            if let Some((from, to)) = found {
                buffer.clear();
                buffer.extend_from_slice(&self.read[from..to]);
                return true;
            }
            self.read.drain(..self.taken);
            self.taken = 0;
            if self.closed || !self.fill() {
                return false;
            }
        }
    }

    fn next_message(&mut self) -> Option<(usize, usize)> {
        self.taken += scan::leading_breaks(&self.read[self.taken..]);
        let length = scan::framed(&self.read[self.taken..])?;
        let from = self.taken;
        self.taken += length;
        Some((from, from + length))
    }

    fn next_frame(&mut self) -> Option<(usize, usize)> {
        loop {
            let start = self.taken;
            let (frame, length) = match ws::read(&self.read[start..]) {
                Ok(found) => found?,
                Err(_) => {
                    self.closed = true;
                    return None;
                }
            };
            self.taken += length;
            match frame {
                Frame::Message(from, to) => return Some((start + from, start + to)),
                Frame::Ping(from, to) => {
                    let payload = self.read[start + from..start + to].to_vec();
                    ws::write(&mut self.kept, ws::PONG, &payload, 1);
                }
                Frame::Close => self.closed = true,
                Frame::Other => {}
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
        while !self.closed && (!self.kept.is_empty() || self.stream.conn.wants_write()) {
            let written = match self.kept.is_empty() {
                true => self.stream.flush().map(|()| 0),
                false => self.stream.write(&self.kept),
            };
            match written {
                Ok(length) => drop(self.kept.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }
}
