//! Sending on stream connections, and making those that are not there yet.
//!
//! Owns connecting, with its proof of who is at the other end (RFC 5922). Does not own the table (`streams`) nor what
//! follows (`stream`).

use super::accept::failure_of;
use super::context::Context;
use super::stream;
use super::streams::{Place, Sent};
use super::tally::Failure;
use super::tcp;
use crate::shell::counters::count;
use crate::tls::{SipPeer, reason};
use bytes::Bytes;
use pairline_node::event::Level;
use pairline_sip::flow::{Flow, Transport};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Sends on streams; never waits.
#[derive(Clone)]
pub struct Dialler {
    context: Context,
    runtime: Handle,
    local: Vec<(u16, IpAddr)>,
}

impl Dialler {
    /// Connects on that runtime, from the addresses of those listeners.
    pub fn new(context: Context, runtime: Handle, local: Vec<(u16, IpAddr)>) -> Dialler {
        Dialler { context, runtime, local }
    }

    /// Sends a message on its connection; makes one if the flow is a destination and none leads there. Never waits.
    ///
    /// Returns the flow if it is gone already; a later end is told to the node as an input.
    pub fn send(&self, flow: Flow, message: Bytes) -> Option<Flow> {
        match self.context.streams.send(&flow, message) {
            Sent::Queued | Sent::OverBudget => None,
            Sent::Gone => Some(flow),
            Sent::Connect(place, peer) => {
                let from = self.local.iter().find(|(l, _)| *l == flow.listener).or_else(|| self.local.first());
                let from = from.map(|(_, ip)| *ip).filter(|ip| ip.is_ipv4() == flow.remote.is_ipv4());
                self.runtime.spawn(connect(place, peer, from, self.context.clone()));
                None
            }
        }
    }

    /// Closes a connection once what waits is written.
    pub fn close(&self, flow: &Flow) {
        self.context.streams.close(flow);
    }
}

/// A connection that has been made.
enum Made {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

async fn connect(place: Place, peer: SipPeer, from: Option<IpAddr>, context: Context) {
    let transport = place.shared.flow.transport;
    let made = tokio::select! {
        made = make(&place, &peer, from, &context) => made,
        () = place.shared.abort.notified() => Err(Failure::Closed),
    };
    let made = match made {
        Ok(made) => made,
        Err(why) => {
            count(&context.counters.stream_connect_failed);
            context.counters.connections.failed(transport, why);
            return stream::ended(&place.shared, &context).await;
        }
    };
    count(&context.counters.stream_connected);
    context.counters.connections.opened(transport, false);
    match made {
        Made::Plain(stream) => stream::serve(stream, place, context).await,
        Made::Secure(stream) => {
            context.streams.identify(&place.shared, context.tls.identify(stream.get_ref().1.peer_certificates()));
            stream::serve(stream, place, context).await;
        }
    }
}

async fn make(place: &Place, peer: &SipPeer, from: Option<IpAddr>, context: &Context) -> Result<Made, Failure> {
    let (flow, limits) = (place.shared.flow, context.streams.limits());
    let opened = tokio::time::timeout(limits.connect, tcp::open(flow.remote, from)).await;
    let stream = opened.map_err(|_| Failure::Timeout)?.map_err(|_| Failure::Unreachable)?;
    tcp::prepare(&stream);
    if let Ok(local) = stream.local_addr() {
        context.streams.is_at(&place.shared, local);
    }
    if flow.transport == Transport::Tcp {
        return Ok(Made::Plain(stream));
    }
    let secured = tokio::time::timeout(limits.handshake, secure(stream, peer, context)).await;
    secured.unwrap_or(Err(Failure::Timeout)).map(|stream| Made::Secure(Box::new(stream)))
}

async fn secure(stream: TcpStream, peer: &SipPeer, context: &Context) -> Result<TlsStream<TcpStream>, Failure> {
    let config = context.tls.client(peer).map_err(|_| Failure::Certificate)?;
    // A name that cannot stand in a handshake is asked for by address; the certificate must show the name all the same.
    let remote = stream.peer_addr().map_err(|_| Failure::Closed)?.ip();
    let shown = match peer {
        SipPeer::Domain(domain) => ServerName::try_from(domain.clone()).unwrap_or(ServerName::from(remote)),
        SipPeer::Address(address) => ServerName::from(*address),
    };
    TlsConnector::from(config).connect(shown, stream).await.map_err(|error| {
        let why = failure_of(&error);
        let text = format!("no TLS connection for SIP to {peer} ({remote}): {}", reason::of_io(&error));
        if context.throttle.allows(&peer.to_string(), &text) {
            context.events.emit(Level::Warn, "sip-tls-refused", text);
        }
        why
    })
}
