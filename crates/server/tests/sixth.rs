//! Every transport over IPv6.
#![allow(clippy::unwrap_used)]

use super::support;

use futures_util::{SinkExt as _, StreamExt as _};
use pairline_server::shell::{RunningServer, Server};
use pairline_server::tls::{CertificateNames, config};
use rustls::pki_types::ServerName;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use support::{Deployment, PATIENCE, credentials_from, echo, identity};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const REQUEST: &str =
    "OPTIONS sip:[::1] SIP/2.0\r\nVia: SIP/2.0/TCP [::1];branch=z9hG4bK1\r\nContent-Length: 4\r\n\r\nbody";

/// East with all its listeners at `[::1]`, and free ports.
fn start(deployment: &mut Deployment) -> RunningServer {
    for listener in &mut deployment.topology.server[0].listener {
        listener.address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    }
    let mut options = deployment.options("east");
    let names =
        CertificateNames { identity: identity(1, 1), names: vec![], addresses: vec![Ipv6Addr::LOCALHOST.into()] };
    let credentials = credentials_from(&deployment.authority, &deployment.authority.issue(&names).unwrap());
    options.sip_certificate = credentials.certified().clone();
    let (told_in, _told) = mpsc::sync_channel(64);
    Server::start_with(options, echo(told_in)).unwrap()
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut buffer = vec![0; REQUEST.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(buffer).unwrap(), REQUEST);
}

async fn exchange_web<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut request = "ws://[::1]/".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "sip".parse().unwrap());
    request.headers_mut().insert("origin", "https://[::1]:1234".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    socket.send(Message::text(REQUEST)).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(told, Message::text(REQUEST));
}

/// By address: the certificate names `::1`.
async fn secure(deployment: &Deployment, stream: TcpStream) -> TlsStream<TcpStream> {
    let roots = config::roots(deployment.authority.certificate_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from(Ipv6Addr::LOCALHOST));
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn every_transport_speaks_ipv6() {
    let mut deployment = Deployment::new();
    let server = start(&mut deployment);
    let at = |listener: &str| server.address(listener).unwrap();
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    socket.connect(at("udp")).await.unwrap();
    let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction1";
    for (sent, expected) in [
        (REQUEST.as_bytes(), REQUEST.as_bytes().to_vec()),
        (stun, pairline_sip::stun::answer(stun, socket.local_addr().unwrap()).unwrap().to_vec()),
    ] {
        socket.send(sent).await.unwrap();
        let mut buffer = [0; 512];
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(buffer[..length], expected);
    }
    exchange(TcpStream::connect(at("tcp")).await.unwrap()).await;
    exchange(secure(&deployment, TcpStream::connect(at("tls")).await.unwrap()).await).await;
    exchange_web(TcpStream::connect(at("ws")).await.unwrap()).await;
    exchange_web(secure(&deployment, TcpStream::connect(at("wss")).await.unwrap()).await).await;
}
