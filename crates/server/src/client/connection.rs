//! One HTTPS connection to one server's admin API, kept open between requests.
//!
//! Owns connecting, the request and its limits. Does not own the choice of server.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long connecting and the TLS handshake may take together.
const CONNECT: Duration = Duration::from_millis(2_500);

/// Largest answer that is read.
const ANSWER_LIMIT: usize = 32 * 1024 * 1024;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nothing was sent.
    #[error("{0}")]
    NotConnected(String),
    /// The request was sent, the answer is missing: its effect is unknown.
    #[error("the connection broke before the answer: {0}")]
    Broken(String),
    /// No answer in time: its effect is unknown.
    #[error("no answer within {0} s")]
    TimedOut(u64),
}

impl ConnectionError {
    /// Whether the request certainly had no effect.
    pub fn nothing_sent(&self) -> bool {
        matches!(self, ConnectionError::NotConnected(_))
    }
}

/// One open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Connects and checks the certificate against the address.
    pub async fn open(address: &str, tls: Arc<rustls::ClientConfig>) -> Result<Connection, ConnectionError> {
        match tokio::time::timeout(CONNECT, Connection::connect(address, tls)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::NotConnected("no connection in time".into())),
        }
    }

    async fn connect(address: &str, tls: Arc<rustls::ClientConfig>) -> Result<Connection, ConnectionError> {
        let refused = |error: &dyn std::fmt::Display| ConnectionError::NotConnected(error.to_string());
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| refused(&e))?;
        let stream = TcpStream::connect(address).await.map_err(|e| refused(&e))?;
        // Failure costs only latency.
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|e| refused(&e))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| refused(&e))?;
        // Ends by itself when the sender is dropped or the server closes; its error shows up at the sender.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Connection { sender, host: address.to_owned() })
    }

    /// Whether another request may go over it.
    pub fn usable(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request with a JSON body; returns status and body.
    pub async fn post(
        &mut self,
        path: &str,
        token: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<(u16, Bytes), ConnectionError> {
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::new(body))
            .map_err(|error| ConnectionError::NotConnected(error.to_string()))?;
        self.exchange(request, limit).await
    }

    /// Sends one GET; returns status and body.
    pub async fn get(&mut self, path: &str, token: &str, limit: Duration) -> Result<(u16, Bytes), ConnectionError> {
        let request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::new(Bytes::new()))
            .map_err(|error| ConnectionError::NotConnected(error.to_string()))?;
        self.exchange(request, limit).await
    }

    /// Sends one DELETE; returns status and body.
    pub async fn delete(&mut self, path: &str, token: &str, limit: Duration) -> Result<(u16, Bytes), ConnectionError> {
        let request = Request::delete(path)
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::new(Bytes::new()))
            .map_err(|error| ConnectionError::NotConnected(error.to_string()))?;
        self.exchange(request, limit).await
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(u16, Bytes), ConnectionError> {
        // A connection that the server closed while it lay idle is found out here, before anything is sent.
        self.sender.ready().await.map_err(|error| ConnectionError::NotConnected(error.to_string()))?;
        let exchange = async {
            let response =
                self.sender.send_request(request).await.map_err(|error| ConnectionError::Broken(error.to_string()))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|error| ConnectionError::Broken(error.to_string()))?
                .to_bytes();
            Ok((status, body))
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::TimedOut(limit.as_secs())),
        }
    }
}
