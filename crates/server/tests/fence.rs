//! Asking whether another server lives, and following a topology that changed.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::command::{Actor, Command};
use pairline_node::io::{Input, Output};
use pairline_server::shell::Server;
use pairline_server::shell::fence::{self, Answer};
use pairline_server::tls::{Authority, Credentials};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use support::{Deployment, credentials_from, identity, names, scripted, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn issue(authority: &Authority, pool: u16, server: u32) -> Credentials {
    let who = identity(pool, server);
    credentials_from(authority, &authority.issue(&names(who)).unwrap())
}

/// Serves one answer per connection over TLS.
async fn admin_api(credentials: &Credentials, answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((support::address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(credentials.admin_server().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut request = [0; 512];
            let length = stream.read(&mut request).await.unwrap_or(0);
            assert!(request[..length].starts_with(b"POST /api/v1/fence HTTP/1.1\r\n"));
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn only_an_http_answer_of_the_expected_server_counts() {
    let authority = Authority::create("test").unwrap().0;
    let me = issue(&authority, 2, 2);
    let other = issue(&authority, 1, 1);
    let order = Command::Fence { procedure: "ab".into(), by: 2, groups: vec!["1/0@1.1".into()], proof: "00".into() };
    let ask = async |expected, address| fence::order(&me, expected, address, &order).await;
    let obeys = admin_api(&other, b"HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(ask(identity(1, 1), obeys).await, Answer::Fenced);
    assert_eq!(ask(identity(1, 9), obeys).await, Answer::Silence, "another server's certificate");
    let refuses = admin_api(&other, b"HTTP/1.1 409 Conflict\r\n\r\n").await;
    assert_eq!(ask(identity(1, 1), refuses).await, Answer::Alive, "it lives and goes on");
    let older = admin_api(&other, b"HTTP/1.1 404 Not Found\r\n\r\n").await;
    assert_eq!(ask(identity(1, 1), older).await, Answer::Alive, "an older release has no such route");
    let strange = admin_api(&other, b"SIP/2.0 200 OK\r\n\r\n").await;
    assert_eq!(ask(identity(1, 1), strange).await, Answer::Silence);
    let stranger = issue(&Authority::create("test").unwrap().0, 1, 1);
    let foreign = admin_api(&stranger, b"HTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(ask(identity(1, 1), foreign).await, Answer::Silence, "another deployment's authority");
    let closed = SocketAddr::new(support::address(), 1);
    assert_eq!(ask(identity(1, 1), closed).await, Answer::Silence);
    // Accepts, and says nothing: as a stopped process does.
    let silent = TcpListener::bind((support::address(), 0)).await.unwrap();
    assert_eq!(ask(identity(1, 1), silent.local_addr().unwrap()).await, Answer::Silence);
}

#[test]
fn the_node_hears_the_answer_and_the_shell_follows_its_topology() {
    let deployment = Deployment::new();
    let west_admin = deployment.topology.server[1].admin;
    let mut next = deployment.topology.clone();
    next.revision = 7;
    next.deployment.domains.push("second.test".to_owned());
    let next = Arc::new(next);
    let (told_in, told) = mpsc::sync_channel(16);
    let sent = next.clone();
    let script = scripted(move |_, input| match input {
        Input::Facts(_) => {
            let order = Command::Fence { procedure: "ab".into(), by: 1, groups: Vec::new(), proof: String::new() };
            let fence = Output::TryFence { id: 5, admin: west_admin, order };
            vec![Output::TopologyChanged(Box::new((*sent).clone())), fence]
        }
        Input::Admin { actor: Actor::Server, command: Command::FenceAnswer { id, alive, .. }, .. } => {
            let _ = told_in.try_send((id, alive));
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    assert_eq!(until(&told, |_| true), (5, false), "nobody listens there");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while *server.topology() != *next {
        assert!(std::time::Instant::now() < deadline, "the shell does not follow");
        std::thread::yield_now();
    }
    let found = pairline_server::dns::ZoneView::new(server.topology());
    let answer = found.now().find("_sip._udp.second.test", hickory_proto::rr::RecordType::SRV);
    assert_eq!(answer.answers.len(), 2);
}
