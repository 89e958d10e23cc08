//! Accepting stream connections: limits, then the handshakes that their transport wants, then serving.
//!
//! Owns what happens until a connection carries SIP. Does not own sockets (`tcp`), the table (`streams`) or what follows
//! (`stream`).

use super::context::Context;
use super::stream;
use super::streams::{Place, Shared};
use super::tally::Failure;
use super::tcp::{self, BoundStream};
use crate::shell::counters::count;
use pairline_node::io::Input;
use pairline_sip::flow::Transport;
use rustls::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Starts accepting on the listeners, on that runtime.
///
/// # Errors
/// The runtime's refusal of a socket.
pub fn start(listeners: Vec<BoundStream>, context: &Context, runtime: &Handle) -> io::Result<()> {
    for bound in listeners {
        let _entered = runtime.enter();
        let socket = TcpListener::from_std(bound.socket)?;
        runtime.spawn(accept(socket, bound.transport, bound.listener, context.clone()));
    }
    Ok(())
}

async fn accept(socket: TcpListener, transport: Transport, listener: u16, context: Context) {
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => admit(stream, transport, listener, remote, &context),
            // Out of descriptors, or a connection that ended before it was accepted.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn admit(stream: TcpStream, transport: Transport, listener: u16, remote: SocketAddr, context: &Context) {
    let Some(place) = context.streams.accept(transport, listener, remote) else {
        count(&context.counters.stream_refused);
        context.counters.connections.failed(transport, Failure::Limit);
        return;
    };
    count(&context.counters.stream_accepted);
    tcp::prepare(&stream);
    tokio::spawn(begin(stream, place, context.clone()));
}

/// The handshakes, all within one time, then service. A place that is not used is given back.
async fn begin(stream: TcpStream, place: Place, context: Context) {
    let transport = place.shared.flow.transport;
    if transport == Transport::Tcp {
        context.counters.connections.opened(transport, true);
        return stream::serve(stream, place, context).await;
    }
    match shaken(&place.shared, &context, secure(stream, &context)).await {
        Ok(stream) => serve_tls(stream, place, context).await,
        Err(why) => {
            context.counters.connections.failed(transport, why);
            stream::ended(&place.shared, &context).await;
        }
    }
}

/// A handshake within its time.
async fn shaken<T>(
    shared: &Shared,
    context: &Context,
    handshake: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = tokio::time::timeout(context.streams.limits().handshake, handshake) => done.unwrap_or(Err(Failure::Timeout)),
        () = shared.abort.notified() => Err(Failure::Closed),
    }
}

async fn secure(stream: TcpStream, context: &Context) -> Result<TlsStream<TcpStream>, Failure> {
    let config = Arc::clone(context.tls.listeners());
    TlsAcceptor::from(config).accept(stream).await.map_err(|error| failure_of(&error))
}

/// What a failed TLS handshake was.
pub fn failure_of(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Failure::Certificate,
        Some(Error::AlertReceived(_)) | None => Failure::Closed,
        Some(_) => Failure::NotTls,
    }
}

async fn serve_tls(stream: TlsStream<TcpStream>, place: Place, context: Context) {
    let names = context.tls.proven(stream.get_ref().1.peer_certificates());
    if !names.is_empty() {
        let (flow, proven) = (place.shared.flow, names.domains().to_vec());
        context.streams.proven(&place.shared, names);
        // If the node has ended, the connection ends by itself.
        let _ = context.inbox.stream(Input::FlowVerified { flow, names: proven }).await;
    }
    context.counters.connections.opened(place.shared.flow.transport, true);
    stream::serve(stream, place, context).await;
}
