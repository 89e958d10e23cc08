//! The socket of one simulated user: UDP, or one TCP connection.
//!
//! Owns reading and writing whole messages. Does not own what they mean.

use bytes::Bytes;
use pairline_sip::{Flow, Frame, StreamFramer, Transport};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long a connection may take to be made, or a write to be taken.
const WAIT: Duration = Duration::from_secs(2);

/// What came.
#[derive(Debug)]
pub enum Came {
    /// A whole message, and who sent it.
    Message(Bytes, SocketAddr),
    /// The connection is gone.
    Closed,
}

/// A socket.
pub enum Wire {
    /// None yet, or lost.
    None,
    /// UDP, not connected: a dead port is not noticed, as with a real phone.
    Udp(UdpSocket, Vec<u8>),
    /// One connection.
    Tcp(Box<Stream>),
}

/// One TCP connection with what was read and not cut into messages yet.
pub struct Stream {
    stream: TcpStream,
    framer: StreamFramer,
    remote: SocketAddr,
    number: u64,
}

impl Wire {
    /// A UDP socket on a free port.
    pub async fn udp() -> std::io::Result<Wire> {
        Ok(Wire::Udp(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?, vec![0; 65_536]))
    }

    /// A TCP connection; `number` tells it from earlier ones.
    pub async fn tcp(remote: SocketAddr, number: u64) -> std::io::Result<Wire> {
        let stream = tokio::time::timeout(WAIT, TcpStream::connect(remote))
            .await
            .map_err(|_| std::io::ErrorKind::TimedOut)??;
        // Failure costs only latency.
        let _ = stream.set_nodelay(true);
        Ok(Wire::Tcp(Box::new(Stream {
            stream,
            framer: StreamFramer::new(StreamFramer::DEFAULT_LIMIT),
            remote,
            number,
        })))
    }

    /// Whether something can be sent.
    pub fn is_open(&self) -> bool {
        !matches!(self, Wire::None)
    }

    /// The address that the other side answers to.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Wire::None => None,
            Wire::Udp(socket, _) => socket.local_addr().ok(),
            Wire::Tcp(stream) => stream.stream.local_addr().ok(),
        }
    }

    /// The flow to a remote over this socket.
    pub fn flow(&self, remote: SocketAddr) -> Flow {
        match self {
            Wire::Tcp(stream) => {
                Flow { transport: Transport::Tcp, listener: 0, remote: stream.remote, connection: stream.number }
            }
            _ => Flow { transport: Transport::Udp, listener: 0, remote, connection: 0 },
        }
    }

    /// Sends one message; false if the connection is gone.
    pub async fn send(&mut self, remote: SocketAddr, bytes: &[u8]) -> bool {
        match self {
            Wire::None => false,
            Wire::Udp(socket, _) => {
                // A full buffer loses a datagram, as a network does; retransmission is the layer's.
                let _ = socket.send_to(bytes, remote).await;
                true
            }
            Wire::Tcp(stream) => {
                matches!(tokio::time::timeout(WAIT, stream.stream.write_all(bytes)).await, Ok(Ok(())))
            }
        }
    }

    /// Waits for the next message. Safe to drop at the await: nothing that was read is lost.
    pub async fn receive(&mut self) -> Came {
        match self {
            Wire::None => std::future::pending().await,
            Wire::Udp(socket, buffer) => loop {
                if let Ok((length, from)) = socket.recv_from(buffer).await {
                    return Came::Message(Bytes::copy_from_slice(&buffer[..length]), from);
                }
            },
            Wire::Tcp(stream) => stream.receive().await,
        }
    }
}

impl Stream {
    async fn receive(&mut self) -> Came {
        let mut buffer = [0_u8; 8 * 1024];
        loop {
            match self.framer.next() {
                Some(Ok(Frame::Message(bytes))) => return Came::Message(bytes, self.remote),
                Some(Ok(Frame::Ping | Frame::Pong)) => continue,
                Some(Err(_)) => return Came::Closed,
                None => {}
            }
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Came::Closed,
                Ok(length) => self.framer.push(&buffer[..length]),
            }
        }
    }
}
