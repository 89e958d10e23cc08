//! The order to stand down, given to another server by its admin API, outside the link, before a disaster failover.
//!
//! Owns the carrying of that one order. Only an HTTP answer from a server with the expected identity counts; silence proves
//! nothing, and the node treats it so. What the order says, and whether it is obeyed, is the nodes' matter.

use crate::tls::{Credentials, PeerIdentity};
use pairline_node::command::Command;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time for the whole question.
const BOUND: Duration = Duration::from_secs(2);

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has stopped serving what the order names.
    Fenced,
    /// It lives and has not stopped.
    Alive,
    /// Nothing, or nothing that the expected server said.
    Silence,
}

/// Gives the order, bounded in time.
pub async fn order(credentials: &Credentials, expected: PeerIdentity, admin: SocketAddr, order: &Command) -> Answer {
    match tokio::time::timeout(BOUND, ask(credentials, expected, admin, order)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Answer::Silence,
    }
}

async fn ask(
    credentials: &Credentials,
    expected: PeerIdentity,
    admin: SocketAddr,
    order: &Command,
) -> io::Result<Answer> {
    let config = credentials.admin_client_of(expected).map_err(io::Error::other)?;
    let tcp = TcpStream::connect(admin).await?;
    let name = ServerName::IpAddress(admin.ip().into());
    let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
    let body = serde_json::to_string(order).map_err(io::Error::other)?;
    let request = format!(
        "POST /api/v1/fence HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    // The status line's beginning says all: `HTTP/1.1 200`.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    Ok(match &head {
        head if head.starts_with(b"HTTP/1.") && head.ends_with(b" 200") => Answer::Fenced,
        head if head.starts_with(b"HTTP/1.") => Answer::Alive,
        _ => Answer::Silence,
    })
}
