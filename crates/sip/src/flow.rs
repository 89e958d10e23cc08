//! Flows: where a message came from or goes to. Owns no socket; a flow is only a name for one.

use std::net::SocketAddr;

/// The transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP datagrams.
    Udp,
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118) over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Inside the mutually authenticated link to another pool.
    Peer,
}

impl Transport {
    /// Whether the transport delivers or fails: everything but UDP.
    pub fn reliable(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// Whether the bytes travel encrypted and authenticated.
    pub fn secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss | Transport::Peer)
    }

    /// The transport's token in a Via (RFC 3261 §20.42). A peer link is announced as `TLS`.
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls | Transport::Peer => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The value of the `transport` URI parameter that leads to this transport. There is one word for both kinds of
    /// WebSocket (RFC 7118 §5.3).
    pub fn uri_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls | Transport::Peer => "tls",
            Transport::Ws | Transport::Wss => "ws",
        }
    }

    /// The port used when none is given (RFC 3261 §18.1.1, RFC 7118 §8).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls | Transport::Peer => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// Reads a Via token or a `transport` parameter, in any case. `None` for transports we lack.
    pub fn from_token(token: &[u8]) -> Option<Transport> {
        const KNOWN: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        KNOWN.into_iter().find(|known| token.eq_ignore_ascii_case(known.via_token().as_bytes()))
    }
}

/// Where a message came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The transport.
    pub transport: Transport,
    /// The local listener, by its index in the configuration.
    pub listener: u16,
    /// The remote address and port.
    pub remote: SocketAddr,
    /// The connection; always 0 for UDP. For streams 0 means "connect, or reuse one", and a number with the bit [`NAMED`]
    /// the same with a proof: the other end must show a certificate for the name that the number stands for.
    pub connection: u64,
}

/// The bit of [`Flow::connection`] that makes it the number of a name (RFC 5922 §7.2), not of a connection. Whoever locates a
/// destination gives the numbers.
pub const NAMED: u64 = 1 << 63;

impl Flow {
    /// Whether the flow says where to send, not on which connection.
    pub fn is_destination(&self) -> bool {
        self.connection == 0 || self.connection & NAMED != 0
    }

    /// A UDP flow.
    pub fn udp(listener: u16, remote: SocketAddr) -> Flow {
        Flow { transport: Transport::Udp, listener, remote, connection: 0 }
    }
}
