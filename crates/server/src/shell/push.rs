//! Orders to wake sleeping clients, posted to the deployment's push gateway (RFC 8599).
//!
//! Owns the gateway's address, the one HTTP request an order costs, and its bounds: at most [`AT_ONCE`] at a time, each within
//! [`BOUND`], none repeated. An order that finds no room is dropped and counted; the caller then waits in vain, as it would
//! for a push service that does not deliver. Does not own who is woken (the services do).

use super::counters::Counters;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use pairline_services::push::Wake;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// Time for one order, from connecting to the answer.
const BOUND: Duration = Duration::from_secs(3);
/// Orders under way at one time.
const AT_ONCE: usize = 64;

/// Where orders are posted.
#[derive(Clone)]
pub struct Gateway {
    host: String,
    authority: String,
    path: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    token: Option<String>,
    room: Arc<Semaphore>,
}

/// Why an address is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// Not `http://…` or `https://…`, or without a host.
    #[error("push.gateway: {0:?} is not an http or https address; write for example \"http://127.0.0.1:9080/wake\"")]
    Address(String),
    /// `https` without the authority that its certificate is checked against.
    #[error(
        "push.gateway is https: write push.authority, the PEM file of the authority that its certificate comes from"
    )]
    NoAuthority,
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Taken,
    Refused,
    Failed,
}

impl Gateway {
    /// Reads an address. `tls` is what a certificate is checked by, `token` is sent as a bearer token.
    ///
    /// # Errors
    /// See [`GatewayError`].
    pub fn new(
        address: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        token: Option<String>,
    ) -> Result<Gateway, GatewayError> {
        let bad = || GatewayError::Address(address.to_owned());
        let uri: hyper::Uri = address.parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        if secure && tls.is_none() {
            return Err(GatewayError::NoAuthority);
        }
        let host = uri.host().ok_or_else(bad)?.to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Gateway {
            authority: format!("{host}:{port}"),
            host: host.trim_matches(['[', ']']).to_owned(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            tls: tls.filter(|_| secure),
            token,
            room: Arc::new(Semaphore::new(AT_ONCE)),
        })
    }

    /// Posts an order in the background, if there is room.
    pub fn post(&self, wake: &Wake, counters: &Arc<Counters>) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            counters.push_dropped.fetch_add(1, Relaxed);
            return;
        };
        let (gateway, counters) = (self.clone(), Arc::clone(counters));
        let body = serde_json::to_string(wake).unwrap_or_default();
        tokio::spawn(async move {
            let end = tokio::time::timeout(BOUND, gateway.ask(body)).await.unwrap_or(End::Failed);
            let counter = match end {
                End::Taken => &counters.push_sent,
                End::Refused => &counters.push_refused,
                End::Failed => &counters.push_failed,
            };
            counter.fetch_add(1, Relaxed);
            drop(room);
        });
    }

    async fn ask(&self, body: String) -> End {
        let Ok(tcp) = TcpStream::connect(&self.authority).await else {
            return End::Failed;
        };
        let Some(tls) = &self.tls else {
            return self.exchange(tcp, body).await;
        };
        let Ok(name) = ServerName::try_from(self.host.clone()) else {
            return End::Failed;
        };
        match TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await {
            Ok(stream) => self.exchange(stream, body).await,
            Err(_) => End::Failed,
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, body: String) -> End {
        let mut request = Request::post(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let Ok(request) = request.body(Full::new(bytes::Bytes::from(body))) else {
            return End::Failed;
        };
        let Ok((mut sender, connection)) = handshake(TokioIo::new(stream)).await else {
            return End::Failed;
        };
        let driven = tokio::spawn(async move { connection.await.ok() });
        let end = match sender.send_request(request).await {
            Ok(response) if response.status().is_success() => End::Taken,
            Ok(_) => End::Refused,
            Err(_) => End::Failed,
        };
        driven.abort();
        end
    }
}
