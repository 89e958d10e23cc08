//! One HTTPS connection, kept open between requests.
//!
//! Owns TLS, writing a request and reading its answer, with limits. Answers must say how long they are.

use super::args::ServerArgs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest head of an answer, in bytes.
const HEAD: usize = 64 * 1024;
/// Longest body of an answer, in bytes.
const BODY: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate: {0}")]
    Authority(#[source] rustls::Error),
    /// TLS refuses to start.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The connection cannot be made, or broke, or took too long.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// Something came that is no answer.
    #[error("the answer cannot be read: {0}")]
    Answer(&'static str),
}

/// A server, and how it is asked.
#[derive(Clone, Debug)]
pub struct Target {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    /// The head's lines that are the same in all requests.
    fixed: String,
    timeout: Duration,
}

impl Target {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// A file, or the certificate in it.
    pub fn new(args: &ServerArgs) -> Result<Self, HttpsError> {
        let pem = read(&args.authority)?;
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
            let certificate =
                certificate.map_err(|source| HttpsError::File { path: args.authority.clone(), source })?;
            roots.add(certificate).map_err(HttpsError::Authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(HttpsError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut fixed = format!("Host: {}\r\nContent-Type: application/json\r\n", args.server);
        if let Some(path) = &args.token_file {
            let token = String::from_utf8_lossy(&read(path)?).trim().to_owned();
            fixed += &format!("Authorization: Bearer {token}\r\n");
        }
        let timeout = Duration::from_secs_f64(args.timeout.max(0.001));
        Ok(Self { server: args.server, tls: Arc::new(tls), fixed, timeout })
    }
}

impl Target {
    /// The same deployment at another of its servers.
    pub fn at(&self, server: SocketAddr) -> Self {
        Self { server, ..self.clone() }
    }

    /// The server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }
}

fn read(path: &Path) -> Result<Vec<u8>, HttpsError> {
    std::fs::read(path).map_err(|source| HttpsError::File { path: path.to_owned(), source })
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; the handshake is made with the first request.
    ///
    /// # Errors
    /// The connection or TLS.
    pub fn open(target: &Target) -> Result<Self, HttpsError> {
        let stream = TcpStream::connect_timeout(&target.server, target.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(target.timeout))?;
        stream.set_write_timeout(Some(target.timeout))?;
        let name = ServerName::IpAddress(target.server.ip().into());
        let session = ClientConnection::new(Arc::clone(&target.tls), name).map_err(HttpsError::Tls)?;
        Ok(Self { stream: StreamOwned::new(session, stream), buffer: Vec::new() })
    }

    /// Sends a request and waits for its answer. After an error the connection must not be used again.
    ///
    /// # Errors
    /// The connection, or an answer without length or beyond the limits.
    pub fn exchange(&mut self, target: &Target, method: &str, path: &str, body: &str) -> Result<Answer, HttpsError> {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n{body}", target.fixed);
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        self.buffer.clear();
        loop {
            if let Some(head) = head(&self.buffer)? {
                let whole = head.length + head.body;
                if self.buffer.len() >= whole {
                    let body = self.buffer.get(head.length..whole).unwrap_or_default().to_vec();
                    return Ok(Answer { status: head.status, body });
                }
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), HttpsError> {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part)? {
            0 => Err(HttpsError::Answer("the connection was closed before its end")),
            count => {
                self.buffer.extend_from_slice(part.get(..count).unwrap_or_default());
                Ok(())
            }
        }
    }
}

/// What an answer's head says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head with its empty line.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

/// The head of an answer, once all of it is there.
fn head(bytes: &[u8]) -> Result<Option<Head>, HttpsError> {
    let Some(end) = bytes.windows(4).take(HEAD).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > HEAD { Err(HttpsError::Answer("its head is too long")) } else { Ok(None) };
    };
    let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default());
    let text = text.map_err(|_| HttpsError::Answer("its head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.and_then(|s| s.parse().ok()).ok_or(HttpsError::Answer("it has no status"))?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let body = match (length, status) {
        (None, 204 | 304) => 0,
        (None, _) => return Err(HttpsError::Answer("it does not say its length")),
        (Some(text), _) => text.parse().map_err(|_| HttpsError::Answer("its length is no number"))?,
    };
    if body > BODY {
        return Err(HttpsError::Answer("its body is too long"));
    }
    Ok(Some(Head { status, length: end + 4, body }))
}

#[cfg(test)]
mod tests {
    //! Heads: whole, in parts, and such that must be refused.

    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 503 Busy\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        for cut in 0..text.len() - 7 {
            assert_eq!(head(&text[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(head(text).unwrap(), Some(Head { status: 503, length: text.len() - 7, body: 7 }));
        let none = head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((none.status, none.body), (204, 0));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(head(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").is_err());
        assert!(head(&vec![b'a'; HEAD + 1]).is_err());
    }
}
