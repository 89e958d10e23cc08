//! Accepting stream connections: limits, then the handshakes that their transport wants, then serving.
//!
//! Owns what happens until a connection carries SIP. Does not own sockets (`tcp`), the table (`streams`) or what follows
//! (`stream`, `websocket`).

use super::context::Context;
use super::stream;
use super::streams::Place;
use super::tally::Failure;
use super::tcp::{self, BoundStream};
use super::upgrade::upgrade;
use super::websocket;
use crate::shell::counters::count;
use pairline_node::io::Input;
use pairline_sip::flow::Transport;
use rustls::{AlertDescription, Error, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;

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
    if let Ok(local) = stream.local_addr() {
        context.streams.is_at(&place.shared, local);
    }
    tokio::spawn(begin(stream, place, context.clone()));
}

/// A connection that is ready to carry SIP.
enum Ready {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
    Web(Box<WebSocketStream<TcpStream>>),
    SecureWeb(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

/// The handshakes, all within one time, then service. A place that is not used is given back.
async fn begin(stream: TcpStream, place: Place, context: Context) {
    let transport = place.shared.flow.transport;
    let handshakes = tokio::time::timeout(context.streams.limits().handshake, shake(stream, transport, &context));
    let ready = tokio::select! {
        done = handshakes => done.unwrap_or(Err(Failure::Timeout)),
        () = place.shared.abort.notified() => Err(Failure::Closed),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(why) => {
            context.counters.connections.failed(transport, why);
            return stream::ended(&place.shared, &context).await;
        }
    };
    context.counters.connections.opened(transport, true);
    match ready {
        Ready::Plain(stream) => stream::serve(stream, place, context).await,
        Ready::Secure(stream) => {
            identify(&stream, &place, &context).await;
            stream::serve(stream, place, context).await;
        }
        Ready::Web(socket) => websocket::serve(*socket, place, context).await,
        Ready::SecureWeb(socket) => websocket::serve(*socket, place, context).await,
    }
}

async fn shake(stream: TcpStream, transport: Transport, context: &Context) -> Result<Ready, Failure> {
    let message = context.streams.limits().message;
    Ok(match transport {
        Transport::Tls => Ready::Secure(Box::new(secure(stream, context.tls.listeners()).await?)),
        Transport::Ws => Ready::Web(Box::new(upgrade(stream, &context.origins, message).await?)),
        Transport::Wss => {
            let stream = secure(stream, context.tls.web()).await?;
            Ready::SecureWeb(Box::new(upgrade(stream, &context.origins, message).await?))
        }
        Transport::Tcp | Transport::Udp | Transport::Peer => Ready::Plain(stream),
    })
}

async fn secure(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<TlsStream<TcpStream>, Failure> {
    TlsAcceptor::from(Arc::clone(config)).accept(stream).await.map_err(|error| failure_of(&error))
}

/// Tells the node who the other end has proven to be, if it has.
async fn identify(stream: &TlsStream<TcpStream>, place: &Place, context: &Context) {
    let names = context.tls.identify(stream.get_ref().1.peer_certificates());
    if names.is_empty() {
        return;
    }
    let (flow, proven) = (place.shared.flow, names.proven());
    context.streams.identify(&place.shared, names);
    // If the node has ended, the connection ends by itself.
    let _ = context.inbox.stream(Input::FlowVerified { flow, names: proven }).await;
}

/// What a failed TLS handshake was.
pub fn failure_of(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Failure::Certificate,
        Some(Error::AlertReceived(alert)) if refuses_certificate(*alert) => Failure::Certificate,
        Some(Error::AlertReceived(_)) | None => Failure::Closed,
        Some(_) => Failure::NotTls,
    }
}

/// Whether the other end says that it does not believe a certificate of ours, or wants one that it can.
fn refuses_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::UnknownCA
            | A::AccessDenied
    )
}
