//! Listening for the admin API: TCP, TLS, HTTP/1.1, with limits before anything costs much.
//!
//! Owns the accept loop and its limits. Does not own routes or certificates.

use super::handler::{ApiState, Peer, router};
use axum::Router;
use axum::extract::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS: usize = 512;

/// How long a TLS handshake, and then the head of a request, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address cannot be listened on.
    #[error("admin API cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Another problem of the listening socket.
    #[error("admin API's socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// Binds the API's socket.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ApiError> {
    TcpListener::bind(address).await.map_err(|source| ApiError::Listen { address, source })
}

/// Serves the API until `stop` becomes true; open connections are then dropped.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    state: Arc<ApiState>,
    stop: watch::Receiver<bool>,
) -> Result<(), ApiError> {
    serve_routes(listener, tls, router(state), stop).await
}

/// Serves any routes within the same limits, until `stop` becomes true or is dropped.
pub async fn serve_routes(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    app: Router,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ApiError> {
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            _ = stop.changed() => return Ok(()),
        };
        let Ok(permit) = permit else { return Ok(()) };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(pair) => pair,
            Err(error) => {
                // Out of descriptors, or the peer went away in the queue: neither may end the API.
                tracing::warn!(target: "pairline::event", event = "admin-accept-failed", "admin API could not accept: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let app = app.clone().layer(Extension(Peer(peer)));
        let acceptor = acceptor.clone();
        let mut stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = connection(acceptor, stream, app) => {}
                _ = stop.changed() => {}
            }
            drop(permit);
        });
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, app: axum::Router) {
    // Failure costs only latency.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE * 3)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        tracing::debug!(target: "pairline::event", event = "admin-connection", "admin connection ended: {error}");
    }
}
