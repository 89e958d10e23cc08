//! TCP listeners and outgoing TCP connections for SIP.
//!
//! Owns accepting and connecting. Does not own the life of a connection (`stream`) nor the table (`streams`).

use super::stream::{self, Context};
use super::streams::{Place, Sent};
use crate::shell::counters::count;
use bytes::Bytes;
use pairline_sip::flow::{Flow, Transport};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;

/// Connections that the system may hold before they are accepted.
const BACKLOG: i32 = 1024;

/// One bound listener.
pub struct BoundTcp {
    /// Its index in the configuration.
    pub listener: u16,
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

/// TCP for SIP: starts accept loops and makes connections on demand.
#[derive(Clone)]
pub struct Tcp {
    context: Context,
    runtime: Handle,
    local: Vec<(u16, IpAddr)>,
}

impl Tcp {
    /// Starts accepting on the listeners, on that runtime.
    ///
    /// # Errors
    /// The runtime's refusal of a socket.
    pub fn start(listeners: Vec<BoundTcp>, context: Context, runtime: Handle) -> io::Result<Tcp> {
        let mut local = Vec::new();
        for bound in listeners {
            local.push((bound.listener, bound.socket.local_addr()?.ip()));
            let context = context.clone();
            let _entered = runtime.enter();
            let socket = tokio::net::TcpListener::from_std(bound.socket)?;
            runtime.spawn(accept(socket, bound.listener, context));
        }
        Ok(Tcp { context, runtime, local })
    }

    /// Sends a message on its connection; makes one if the flow names none and none goes there. Never waits.
    ///
    /// Returns the flow if it is gone already; a later end is told to the node as an input.
    pub fn send(&self, flow: Flow, message: Bytes) -> Option<Flow> {
        match self.context.streams.send(&flow, message) {
            Sent::Queued | Sent::OverBudget => None,
            Sent::Gone => Some(flow),
            Sent::Connect(place) => {
                let from = self.local.iter().find(|(l, _)| *l == flow.listener).or_else(|| self.local.first());
                let from = from.map(|(_, ip)| *ip).filter(|ip| ip.is_ipv4() == flow.remote.is_ipv4());
                self.runtime.spawn(connect(place, from, self.context.clone()));
                None
            }
        }
    }

    /// Closes a connection once what waits is written.
    pub fn close(&self, flow: &Flow) {
        self.context.streams.close(flow);
    }
}

async fn accept(socket: tokio::net::TcpListener, listener: u16, context: Context) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => {
                let Some(place) = context.streams.accept(Transport::Tcp, listener, remote) else {
                    count(&context.counters.stream_refused);
                    continue;
                };
                count(&context.counters.stream_accepted);
                prepare(&stream);
                tokio::spawn(stream::serve(stream, place, context.clone()));
            }
            // Out of descriptors, or a connection that ended before it was accepted.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connect(place: Place, from: Option<IpAddr>, context: Context) {
    let remote = place.shared.flow.remote;
    let connecting = tokio::time::timeout(context.streams.limits().connect, open(remote, from));
    let opened = tokio::select! {
        opened = connecting => opened.ok().and_then(Result::ok),
        () = place.shared.abort.notified() => None,
    };
    match opened {
        Some(stream) => {
            count(&context.counters.stream_connected);
            prepare(&stream);
            stream::serve(stream, place, context).await;
        }
        None => {
            count(&context.counters.stream_connect_failed);
            stream::ended(&place.shared, &context).await;
        }
    }
}

async fn open(remote: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(ip) = from.filter(|ip| !ip.is_unspecified()) {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    socket.connect(remote).await
}

/// Small messages leave at once. A refusal of the system changes only speed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}
