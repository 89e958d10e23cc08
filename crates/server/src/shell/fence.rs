//! Whether another server lives, asked of its admin API outside the link, before a disaster failover.
//!
//! Owns that one question. "Alive" is only an HTTP answer from a server with the expected identity; silence proves nothing,
//! and the node treats it so.

use crate::tls::{Credentials, PeerIdentity};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time for the whole question.
const BOUND: Duration = Duration::from_secs(2);

/// Whether the server's admin API answers.
pub async fn is_alive(credentials: &Credentials, expected: PeerIdentity, admin: SocketAddr) -> bool {
    matches!(tokio::time::timeout(BOUND, ask(credentials, expected, admin)).await, Ok(Ok(true)))
}

async fn ask(credentials: &Credentials, expected: PeerIdentity, admin: SocketAddr) -> io::Result<bool> {
    let config = credentials.admin_client_of(expected).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(admin).await?;
    let name = ServerName::IpAddress(admin.ip().into());
    let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = [0_u8; 9];
    stream.read_exact(&mut head).await?;
    Ok(head.starts_with(b"HTTP/1."))
}
