//! SIP over TLS with real sockets: what clients see, who proves what, and who is connected to.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::io::{Input, Output};
use pairline_server::shell::{RunningServer, Server};
use pairline_server::tls::{Authority, CertificateNames, Issued, config};
use pairline_sip::flow::{Flow, Transport};
use pairline_topology::ClientCertificates;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::{Deployment, PATIENCE, echo, identity, scripted, until};

const REQUEST: &str = "OPTIONS sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.9:5061;branch=z9hG4bK1\r\n\
                       From: <sip:a@pairline.test>;tag=1\r\nTo: <sip:pairline.test>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\
                       Content-Length: 4\r\n\r\nbody";

type Client = StreamOwned<ClientConnection, TcpStream>;

fn chain(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = rustls_pemfile::certs(&mut issued.certificate_pem.as_bytes()).map(Result::unwrap).collect();
    (chain, rustls_pemfile::private_key(&mut issued.key_pem.as_bytes()).unwrap().unwrap())
}

fn issue(authority: &Authority, names: &[&str], addresses: &[IpAddr]) -> Issued {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let names = CertificateNames { identity: identity(9, 9), names, addresses: addresses.to_vec() };
    authority.issue(&names).unwrap()
}

fn client_config(
    deployment: &Deployment,
    version: &'static SupportedProtocolVersion,
    certificate: Option<&Issued>,
) -> Arc<ClientConfig> {
    let roots = config::roots(deployment.authority.certificate_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let (chain, key) = chain(issued);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

fn on(stream: TcpStream, config: Arc<ClientConfig>) -> Client {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("pairline.test").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

fn client(server: &RunningServer, config: Arc<ClientConfig>) -> Client {
    on(TcpStream::connect(server.address("tls").unwrap()).unwrap(), config)
}

fn exchange(client: &mut Client) -> String {
    client.write_all(REQUEST.as_bytes()).unwrap();
    read(client, REQUEST.len())
}

fn read(stream: &mut impl Read, length: usize) -> String {
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

fn tally(server: &RunningServer, name: &str, label: &str) -> u64 {
    let samples = server.handle().connection_samples();
    let fits = |labels: &[(&str, &str)]| labels[0].1 == "TLS" && labels.get(1).is_none_or(|(_, word)| *word == label);
    samples.iter().find(|(n, labels, _)| *n == name && fits(labels)).unwrap().2
}

/// Waits until a count is reached.
fn counted(server: &RunningServer, name: &str, label: &str, at_least: u64) {
    let end = std::time::Instant::now() + PATIENCE;
    while tally(server, name, label) < at_least {
        assert!(std::time::Instant::now() < end, "{name} {label} stays below {at_least}");
        std::thread::yield_now();
    }
}

#[test]
fn both_versions_carry_messages_and_keep_alives() {
    let deployment = Deployment::new();
    let (told_in, _told) = mpsc::sync_channel(64);
    let server = Server::start_with(deployment.options("east"), echo(told_in)).unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client = client(&server, client_config(&deployment, version, None));
        assert_eq!(exchange(&mut client), REQUEST);
        assert_eq!(client.conn.protocol_version(), Some(version.version));
        client.write_all(b"\r\n\r\n").unwrap();
        assert_eq!(read(&mut client, 2), "\r\n");
        assert_eq!(exchange(&mut client), REQUEST);
    }
    assert_eq!(tally(&server, "pairline_connections_opened_total", "in"), 2);
    counted(&server, "pairline_connections_closed_total", "closed", 2);
    assert_eq!(tally(&server, "pairline_connections", ""), 0);
}

#[test]
fn a_client_that_comes_back_resumes_its_session() {
    let deployment = Deployment::new();
    let (told_in, _told) = mpsc::sync_channel(64);
    let server = Server::start_with(deployment.options("east"), echo(told_in)).unwrap();
    let config = client_config(&deployment, &rustls::version::TLS13, None);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut client = client(&server, config.clone());
        exchange(&mut client);
        kinds.push(client.conn.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[test]
fn what_is_not_tls_and_what_is_too_slow_is_closed_and_counted() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.handshake = Duration::from_millis(300);
    let (told_in, _told) = mpsc::sync_channel(64);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let connect = || {
        let stream = TcpStream::connect(server.address("tls").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut plain = connect();
    plain.write_all(REQUEST.as_bytes()).unwrap();
    let mut rest = Vec::new();
    // An alert, or nothing, and then the end; a reset is an end too.
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"SIP"));
    counted(&server, "pairline_handshakes_failed_total", "not-tls", 1);
    let mut silent = connect();
    rest.clear();
    silent.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    counted(&server, "pairline_handshakes_failed_total", "timeout", 1);
    drop(connect());
    counted(&server, "pairline_handshakes_failed_total", "closed", 1);
    // A phone that does not know the deployment's authority says so.
    let elsewhere = Deployment::new();
    let mut distrusting = client(&server, client_config(&elsewhere, &rustls::version::TLS13, None));
    assert_eq!(distrusting.write_all(REQUEST.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidData);
    counted(&server, "pairline_handshakes_failed_total", "certificate", 1);
    let mut good = client(&server, client_config(&deployment, &rustls::version::TLS13, None));
    assert_eq!(exchange(&mut good), REQUEST);
}

#[test]
fn a_certificate_that_is_believed_tells_the_node_who_it_is_and_no_other_does() {
    let deployment = Deployment::new();
    let (told_in, told) = mpsc::sync_channel(64);
    let script = scripted(move |_, input| match input {
        Input::Sip { flow, message } => {
            let _ = told_in.try_send(format!("sip {}", flow.connection));
            vec![Output::Sip { flow, message }]
        }
        Input::FlowVerified { flow, names } => {
            let _ = told_in.try_send(format!("{} {}", flow.connection, names.join(" ")));
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let known = issue(&deployment.authority, &["SBC.example.org", "*.example.org"], &[]);
    let (stranger, _) = Authority::create("elsewhere").unwrap();
    let unknown = issue(&stranger, &["pairline.test"], &[]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        exchange(&mut client(&server, client_config(&deployment, version, Some(&unknown))));
        exchange(&mut client(&server, client_config(&deployment, version, None)));
        exchange(&mut client(&server, client_config(&deployment, version, Some(&known))));
    }
    let said: Vec<String> = told.try_iter().collect();
    assert_eq!(said, ["sip 1", "sip 2", "3 sbc.example.org", "sip 3", "sip 4", "sip 5", "6 sbc.example.org", "sip 6",]);
}

#[test]
fn where_certificates_are_required_nobody_comes_without() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.config.sip.client_certificates = ClientCertificates::Required;
    let (told_in, _told) = mpsc::sync_channel(64);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let (stranger, _) = Authority::create("elsewhere").unwrap();
    let unknown = issue(&stranger, &["pairline.test"], &[]);
    for certificate in [None, Some(&unknown)] {
        let mut refused = client(&server, client_config(&deployment, &rustls::version::TLS13, certificate));
        let outcome = refused.write_all(REQUEST.as_bytes()).and_then(|()| refused.read_exact(&mut [0; 1]));
        let kind = outcome.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::InvalidData | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    }
    counted(&server, "pairline_handshakes_failed_total", "certificate", 2);
    let known = issue(&deployment.authority, &["sbc.example.org"], &[]);
    let mut client = client(&server, client_config(&deployment, &rustls::version::TLS13, Some(&known)));
    assert_eq!(exchange(&mut client), REQUEST);
}

/// A node that sends what comes by UDP to `destination`, or to where `sips:pairline.test` is located at west's address, and
/// tells what is closed.
fn sender(destination: Option<Flow>, west: IpAddr, told: mpsc::SyncSender<Flow>) -> pairline_server::shell::MakeNode {
    let mut waiting = Vec::new();
    scripted(move |_, input| match input {
        Input::Sip { flow, message } if flow.transport == Transport::Udp => match destination {
            Some(flow) => vec![Output::Sip { flow, message }],
            None => {
                waiting.push(message);
                vec![Output::Resolve { id: 1, uri: bytes::Bytes::from_static(b"sips:pairline.test") }]
            }
        },
        Input::Resolved { addresses, .. } => {
            let flows = addresses.unwrap();
            let flow = *flows.iter().find(|flow| flow.remote.ip() == west).unwrap();
            waiting.drain(..).map(|message| Output::Sip { flow, message }).collect()
        }
        Input::FlowClosed { flow } => {
            let _ = told.try_send(flow);
            vec![]
        }
        _ => vec![],
    })
}

fn send(server: &RunningServer) {
    let socket = std::net::UdpSocket::bind((support::address(), 0)).unwrap();
    socket.send_to(REQUEST.as_bytes(), server.address("udp").unwrap()).unwrap();
}

/// Accepts one TLS connection with that certificate and reads one request; the client's chain, or why there was none.
fn serve_one(listener: &TcpListener, issued: &Issued) -> Result<(String, usize), std::io::Error> {
    let (chain, key) = chain(issued);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
    let mut buffer = vec![0; REQUEST.len() * 2];
    tls.read_exact(&mut buffer)?;
    let shown = tls.conn.server_name().unwrap_or_default().to_owned();
    assert_eq!(String::from_utf8(buffer).unwrap(), REQUEST.repeat(2));
    Ok((shown, REQUEST.len() * 2))
}

#[test]
fn a_located_domain_must_prove_its_name_and_one_connection_serves_it() {
    let deployment = Deployment::new();
    let west = deployment.topology.server[1].listener[0].address.ip();
    let listener = TcpListener::bind((west, 5061)).unwrap();
    let (told_in, told) = mpsc::sync_channel(64);
    let server = Server::start_with(deployment.options("east"), sender(None, west, told_in)).unwrap();
    // Believed, but somebody else's; the right name with a wildcard only; the right name from an authority nobody knows.
    let (stranger, _) = Authority::create("elsewhere").unwrap();
    let wrong = [
        issue(&deployment.authority, &["fe1.west.pairline.test"], &[west]),
        issue(&deployment.authority, &["*.test"], &[]),
        issue(&stranger, &["pairline.test"], &[]),
    ];
    for (n, issued) in (1..).zip(&wrong) {
        send(&server);
        serve_one(&listener, issued).unwrap_err();
        let closed = until(&told, |flow: &Flow| flow.is_destination());
        assert_eq!((closed.transport, closed.remote), (Transport::Tls, SocketAddr::new(west, 5061)));
        counted(&server, "pairline_handshakes_failed_total", "certificate", n);
    }
    let right = issue(&deployment.authority, &["pairline.test"], &[]);
    send(&server);
    send(&server);
    let (shown, _) = serve_one(&listener, &right).unwrap();
    assert_eq!(shown, "pairline.test", "the name that is meant, before any look-up");
    assert_eq!(tally(&server, "pairline_connections_opened_total", "out"), 1);
}

#[test]
fn an_address_must_be_in_the_certificate() {
    let deployment = Deployment::new();
    let peer = support::address();
    let listener = TcpListener::bind((peer, 0)).unwrap();
    let remote = listener.local_addr().unwrap();
    let flow = Flow { transport: Transport::Tls, listener: 3, remote, connection: 0 };
    let (told_in, told) = mpsc::sync_channel(64);
    let server = Server::start_with(deployment.options("east"), sender(Some(flow), peer, told_in)).unwrap();
    send(&server);
    serve_one(&listener, &issue(&deployment.authority, &["pairline.test"], &[])).unwrap_err();
    assert_eq!(until(&told, |flow: &Flow| flow.is_destination()), flow);
    send(&server);
    send(&server);
    serve_one(&listener, &issue(&deployment.authority, &["x.example"], &[peer])).unwrap();
}

#[test]
fn only_a_proven_name_that_offers_it_is_answered_on_its_own_connection() {
    let deployment = Deployment::new();
    let west = deployment.topology.server[1].listener[0].address.ip();
    let (told_in, told) = mpsc::sync_channel(64);
    let server = Server::start_with(deployment.options("east"), sender(None, west, told_in)).unwrap();
    let from_west = |certificate: Option<&Issued>, offer: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(west, 0).into()).unwrap();
        socket.connect(&server.address("tls").unwrap().into()).unwrap();
        let mut client = on(socket.into(), client_config(&deployment, &rustls::version::TLS13, certificate));
        client.write_all(REQUEST.replace("branch=", &format!("{offer}branch=")).as_bytes()).unwrap();
        client.write_all(b"\r\n\r\n").unwrap();
        // Its answer says that the request has been taken.
        assert_eq!(read(&mut client, 2), "\r\n");
        client
    };
    let right = issue(&deployment.authority, &["pairline.test"], &[]);
    let other = issue(&deployment.authority, &["sbc.example.org"], &[]);
    let _held = [from_west(None, "alias;"), from_west(Some(&other), "alias;"), from_west(Some(&right), "")];
    send(&server);
    // None of them: it tries to connect, and nobody listens there.
    until(&told, |flow: &Flow| flow.is_destination());
    counted(&server, "pairline_handshakes_failed_total", "unreachable", 1);
    let mut reused = from_west(Some(&right), "alias;");
    send(&server);
    assert_eq!(read(&mut reused, REQUEST.len()), REQUEST);
    drop(reused);
    let closed = until(&told, |flow: &Flow| flow.is_destination());
    assert_eq!(closed.remote, SocketAddr::new(west, 5061), "its end is told for the destination too");
}

/// Whether a client with a certificate of that authority is let in.
fn is_let_in(server: &RunningServer, deployment: &Deployment, authority: &Authority) -> bool {
    let issued = issue(authority, &["sbc.example.org"], &[]);
    let mut client = client(server, client_config(deployment, &rustls::version::TLS13, Some(&issued)));
    client.write_all(REQUEST.as_bytes()).and_then(|()| client.read_exact(&mut [0; 1])).is_ok()
}

#[tokio::test]
async fn authorities_that_change_on_disk_are_believed_without_a_restart() {
    let deployment = Deployment::new();
    let file = deployment.folder.path().join("authorities.pem");
    let (first, second) = (Authority::create("first").unwrap().0, Authority::create("second").unwrap().0);
    let mut options = deployment.options("east");
    options.config.sip.client_certificates = ClientCertificates::Required;
    options.config.sip.authorities = Some(file.clone());
    options.certificates_every = Duration::from_secs(3_600);
    std::fs::write(&file, first.certificate_pem()).unwrap();
    let roots = config::roots_with(options.credentials.roots(), first.certificate_pem().as_bytes()).unwrap();
    options.sip_trust.replace(roots).unwrap();
    let (told_in, _told) = mpsc::sync_channel(64);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let mut events = server.handle().events();
    let let_in = || [&deployment.authority, &first, &second].map(|of| is_let_in(&server, &deployment, of));
    assert_eq!(let_in(), [true, true, false]);
    std::fs::write(&file, second.certificate_pem()).unwrap();
    server.reload_certificates();
    let text = support::event(&mut events, "authorities-reloaded").await;
    assert!(text.contains("authorities.pem") && text.contains("2 with"), "{text}");
    assert_eq!(let_in(), [true, false, true], "the deployment's own is always believed");
    // What cannot be used changes nothing.
    std::fs::write(&file, "no certificate").unwrap();
    server.reload_certificates();
    let text = support::event(&mut events, "authorities-not-taken").await;
    assert!(text.contains("authorities.pem") && text.contains("still believed"), "{text}");
    assert_eq!(let_in(), [true, false, true]);
}
