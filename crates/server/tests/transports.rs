//! Datagrams and streams over real sockets, with a scripted node behind them.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::io::{Input, Output};
use pairline_server::shell::{Ended, RunningServer, Server, StartError};
use pairline_sip::flow::{Flow, Transport};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use support::{Deployment, PATIENCE, echo, scripted, until};

const REQUEST: &str =
    "OPTIONS sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nContent-Length: 4\r\n\r\nbody";

fn start(deployment: &Deployment) -> (RunningServer, mpsc::Receiver<String>) {
    let (told_in, told) = mpsc::sync_channel(1024);
    (Server::start_with(deployment.options("east"), echo(told_in)).unwrap(), told)
}

fn client(server: &RunningServer) -> TcpStream {
    let stream = TcpStream::connect(server.address("tcp").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read(stream: &mut TcpStream, length: usize) -> String {
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).unwrap();
    String::from_utf8(buffer).unwrap()
}

fn counter(server: &RunningServer, name: &str) -> u64 {
    server.handle().shell_samples().iter().find(|(n, _)| *n == name).unwrap().1
}

#[test]
fn datagrams_go_through_the_node_and_back_in_batches() {
    let deployment = Deployment::new();
    let (server, _told) = start(&deployment);
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    for n in 0..200_u32 {
        socket.send(format!("MESSAGE number {n:06}").as_bytes()).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut buffer = [0; 2048];
    while seen.len() < 200 {
        let length = socket.recv(&mut buffer).unwrap();
        seen.insert(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    assert!(seen.contains("MESSAGE number 000199"));
    let handle = server.handle();
    assert_eq!(server.stop(), Ended::Stopped);
    // Counted after the system call, so only exact once the threads have ended.
    let samples = handle.shell_samples();
    for name in ["pairline_udp_received_total", "pairline_udp_sent_total"] {
        assert!(samples.contains(&(name, 200)), "{samples:?}");
    }
}

#[test]
fn short_datagrams_are_ignored_before_the_node() {
    let deployment = Deployment::new();
    let (server, _told) = start(&deployment);
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    socket.send(b"\r\n\r\n").unwrap();
    socket.send(b"").unwrap();
    socket.send(b"long enough to be answered").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"long enough to be answered");
    assert_eq!(counter(&server, "pairline_udp_ignored_total"), 2);
}

#[test]
fn a_stun_request_on_the_sip_port_learns_its_source_and_reaches_no_node() {
    let deployment = Deployment::new();
    let (server, _told) = start(&deployment);
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction1";
    // An indication is not answered; the request behind it is, and SIP goes on beside it.
    socket.send(b"\x00\x11\x00\x00\x21\x12\xa4\x42transaction0").unwrap();
    socket.send(request).unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[..length], pairline_sip::stun::answer(request, socket.local_addr().unwrap()).unwrap());
    socket.send(b"long enough to be answered").unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"long enough to be answered");
    assert_eq!(counter(&server, "pairline_stun_answered_total"), 1);
}

#[test]
fn one_datagram_that_is_too_large_does_not_close_the_way_to_its_destination() {
    let deployment = Deployment::new();
    let (told_in, told) = mpsc::sync_channel(16);
    let script = scripted(move |_, input| match input {
        Input::Sip { flow, message } => vec![
            Output::Sip { flow, message: bytes::Bytes::from(vec![b'x'; 65_508]) },
            Output::Sip { flow: Flow { remote: "[::1]:9".parse().unwrap(), ..flow }, message: message.clone() },
            Output::Sip { flow, message },
        ],
        Input::FlowClosed { flow } => {
            let _ = told_in.try_send(flow);
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    socket.send(b"long enough to be answered").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"long enough to be answered", "the small one behind it arrives");
    // A destination that this socket cannot send to is told, and it is the first and only one.
    assert_eq!(until(&told, |_| true).remote, "[::1]:9".parse().unwrap());
    assert_eq!(counter(&server, "pairline_udp_send_failed_total"), 2);
}

#[test]
fn a_stream_is_framed_whatever_its_segments() {
    let deployment = Deployment::new();
    let (server, _told) = start(&deployment);
    for size in [1, 2, 7, 40, 1000] {
        let mut stream = client(&server);
        stream.set_nodelay(true).unwrap();
        let two = REQUEST.repeat(2);
        for piece in two.as_bytes().chunks(size) {
            stream.write_all(piece).unwrap();
            stream.flush().unwrap();
        }
        assert_eq!(read(&mut stream, two.len()), two, "in pieces of {size}");
    }
    assert_eq!(counter(&server, "pairline_stream_messages_total"), 10);
}

#[test]
fn a_keep_alive_is_answered_and_reaches_no_node() {
    let deployment = Deployment::new();
    let (server, _told) = start(&deployment);
    let mut stream = client(&server);
    stream.write_all(b"\r\n\r\n").unwrap();
    assert_eq!(read(&mut stream, 2), "\r\n");
    stream.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(read(&mut stream, REQUEST.len()), REQUEST);
    assert_eq!(counter(&server, "pairline_stream_messages_total"), 1);
}

const HEAD: &str = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                    To: <sip:x>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

#[test]
fn garbage_and_oversized_messages_close_the_connection_with_an_answer_if_there_is_one_to_give() {
    let deployment = Deployment::new();
    let (server, told) = start(&deployment);
    let huge = format!("{HEAD}Content-Length: 10000000\r\n\r\n{}", "x".repeat(200_000));
    let endless = format!("{HEAD}Subject: {}", "x".repeat(100_000));
    let cases = [
        ("OPTIONS sip:x SIP/2.0\r\nVia: x\r\n\r\n".to_owned(), ""),
        ("\n\n\n\n\0\0\0\0".to_owned(), ""),
        (format!("{HEAD}\r\n"), "SIP/2.0 400 Bad Request"),
        (endless, "SIP/2.0 400 Bad Request"),
        (huge, "SIP/2.0 513 "),
    ];
    for (case, expected) in cases {
        let mut stream = client(&server);
        stream.write_all(case.as_bytes()).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with(expected) && rest.is_empty() == expected.is_empty(), "answered: {rest:?}");
        drop(stream);
        until(&told, |t| t.starts_with("FlowClosed"));
    }
    assert_eq!(counter(&server, "pairline_stream_malformed_total"), 5);
    let mut stream = client(&server);
    stream.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(read(&mut stream, REQUEST.len()), REQUEST, "others are still served");
}

#[test]
fn connections_beyond_the_limit_of_a_source_are_refused_and_granted_ones_make_room() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.source.unproven = 2;
    // This node answers everything 200.
    let grant = scripted(|_, input| match input {
        Input::Sip { flow, message } => {
            let method = std::str::from_utf8(&message).unwrap().split(' ').next().unwrap();
            let reply = format!("SIP/2.0 200 OK\r\ncseq: 1 {method}\r\n\r\n");
            vec![Output::Sip { flow, message: reply.into() }]
        }
        _ => vec![],
    });
    let register = REQUEST.replace("OPTIONS", "REGISTER");
    let granted = "SIP/2.0 200 OK\r\ncseq: 1 REGISTER\r\n\r\n";
    let server = Server::start_with(options, grant).unwrap();
    let mut first = client(&server);
    first.write_all(register.as_bytes()).unwrap();
    read(&mut first, granted.len());
    let mut more: Vec<TcpStream> = (0..2).map(|_| client(&server)).collect();
    // The two are known to be accepted once their keep-alives are answered, which grants nothing.
    for stream in &mut more {
        stream.write_all(b"\r\n\r\n").unwrap();
        assert_eq!(read(stream, 2), "\r\n");
        // Nor does what needs no password.
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert!(read(stream, granted.len() - 1).contains("OPTIONS"));
    }
    let mut third = client(&server);
    let mut rest = Vec::new();
    let _ = third.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(counter(&server, "pairline_stream_refused_total"), 1);
    more[0].write_all(register.as_bytes()).unwrap();
    read(&mut more[0], granted.len());
    let mut fourth = client(&server);
    fourth.write_all(register.as_bytes()).unwrap();
    assert_eq!(read(&mut fourth, granted.len()), granted);
}

#[test]
fn a_published_bound_of_connections_counts_at_once_and_ends_none() {
    let deployment = Deployment::new();
    let options = deployment.options("east");
    let mut published = options.topology.clone();
    published.policies.limits.connections_per_server = 1;
    let node = scripted(move |_, input| match input {
        Input::Sip { flow, message } => {
            vec![Output::TopologyChanged(Box::new(published.clone())), Output::Sip { flow, message }]
        }
        _ => vec![],
    });
    let server = Server::start_with(options, node).unwrap();
    let mut streams = [client(&server), client(&server)];
    for stream in &mut streams {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert_eq!(read(stream, REQUEST.len()), REQUEST);
    }
    // Until the bound has come where connections are accepted, one more gets its answer and goes.
    let refused = (0..1_000).any(|_| {
        let mut more = client(&server);
        let _ = more.write_all(b"\r\n\r\n");
        !more.read(&mut [0; 2]).is_ok_and(|length| length > 0)
    });
    assert!(refused && counter(&server, "pairline_stream_refused_total") == 1);
    for stream in &mut streams {
        stream.write_all(b"\r\n\r\n").unwrap();
        assert_eq!(read(stream, 2), "\r\n", "those that there were stay");
    }
}

#[test]
fn who_was_granted_nothing_may_send_only_so_much_and_only_so_fast() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.unproven_bytes = REQUEST.len() * 10;
    let (told_in, _told) = mpsc::sync_channel(1024);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let mut stream = client(&server);
    for _ in 0..10 {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        assert_eq!(read(&mut stream, REQUEST.len()), REQUEST);
    }
    stream.write_all(REQUEST.as_bytes()).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "one more is too much");
    let closed: Vec<_> =
        server.handle().connection_samples().into_iter().filter(|(_, l, n)| l.len() == 2 && *n > 0).collect();
    assert!(closed.contains(&(
        "pairline_connections_closed_total",
        vec![("transport", "TCP"), ("reason", "too-much")],
        1
    )));
    server.stop();

    let mut options = deployment.options("east");
    // What is over the burst waits a quarter of a second.
    let bytes = u64::try_from(REQUEST.len()).unwrap();
    options.streams.source.burst = bytes;
    options.streams.source.rate = bytes * 4;
    let (told_in, _told) = mpsc::sync_channel(1024);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let (mut one, mut other) = (client(&server), client(&server));
    one.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(read(&mut one, REQUEST.len()), REQUEST);
    let begun = std::time::Instant::now();
    other.write_all(REQUEST.as_bytes()).unwrap();
    assert_eq!(read(&mut other, REQUEST.len()), REQUEST, "late, but served");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[test]
fn an_idle_connection_is_closed() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.unproven_idle = std::time::Duration::from_millis(50);
    let (told_in, told) = mpsc::sync_channel(16);
    let server = Server::start_with(options, echo(told_in)).unwrap();
    let mut stream = client(&server);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    until(&told, |t| t.starts_with("FlowClosed"));
    assert_eq!(counter(&server, "pairline_stream_idle_total"), 1);
    // Keep-alives alone keep nothing open: each gets its answer, until the end comes all the same.
    let mut stream = client(&server);
    while stream.write_all(b"\r\n\r\n").is_ok() {
        let mut pong = [0; 2];
        if stream.read_exact(&mut pong).is_err() {
            break;
        }
    }
    until(&told, |t| t.starts_with("FlowClosed"));
    assert_eq!(counter(&server, "pairline_stream_idle_total"), 2);
}

#[test]
fn a_connection_is_made_on_demand_reused_and_its_end_is_told_for_both_flows() {
    let deployment = Deployment::new();
    let listener = TcpListener::bind((support::address(), 0)).unwrap();
    let remote = listener.local_addr().unwrap();
    let (told_in, told) = mpsc::sync_channel(1024);
    let script = scripted(move |_, input| match input {
        Input::Sip { flow, message } if flow.transport == Transport::Udp => {
            let flow = Flow { transport: Transport::Tcp, listener: 2, remote, connection: 0 };
            vec![Output::Sip { flow, message }]
        }
        Input::FlowClosed { flow } => {
            let _ = told_in.try_send(flow);
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    socket.send(b"first message through").unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(from.ip(), server.address("tcp").unwrap().ip(), "sent from the listener's address");
    assert_eq!(read(&mut accepted, 21), "first message through");
    socket.send(b"second one, same way.").unwrap();
    assert_eq!(read(&mut accepted, 21), "second one, same way.");
    accepted.shutdown(Shutdown::Both).unwrap();
    let numbered = until(&told, |f: &Flow| f.connection != 0);
    assert_eq!(numbered.remote, remote);
    until(&told, |f: &Flow| f.connection == 0 && f.remote == remote);
    drop(listener);
    socket.send(b"nobody listens there.").unwrap();
    until(&told, |f: &Flow| f.connection == 0 && f.remote == remote);
    assert_eq!(counter(&server, "pairline_stream_connect_failed_total"), 1);
    assert_eq!(counter(&server, "pairline_stream_connected_total"), 1);
}

#[test]
fn a_peer_that_does_not_read_loses_its_connection() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.write_bytes = 64 * 1024;
    let (told_in, told) = mpsc::sync_channel(1024);
    let flood = scripted(move |_, input| match input {
        Input::Sip { flow, .. } => {
            (0..1000).map(|_| Output::Sip { flow, message: bytes::Bytes::from(vec![b'x'; 32 * 1024]) }).collect()
        }
        Input::FlowClosed { flow } => {
            let _ = told_in.try_send(flow);
            vec![]
        }
        _ => vec![],
    });
    let server = Server::start_with(options, flood).unwrap();
    let mut stream = client(&server);
    stream.write_all(REQUEST.as_bytes()).unwrap();
    until(&told, |f| f.connection != 0);
    assert!(counter(&server, "pairline_stream_over_budget_total") >= 1);
}

#[test]
fn a_port_in_use_is_a_clear_error_and_leaves_no_data() {
    let deployment = Deployment::new();
    let (_server, _told) = start(&deployment);
    let mut options = deployment.options("east");
    options.config.data = deployment.folder.path().join("second");
    let refused = Server::start_with(options, echo(mpsc::sync_channel(1).0)).err().unwrap();
    assert!(matches!(refused, StartError::Bind { .. }));
    let text = refused.to_string();
    assert!(text.contains("another program") && text.contains("7444"), "{text}");
    assert!(!deployment.folder.path().join("second").exists());
}

#[test]
fn a_node_that_must_end_ends_the_server_with_its_reason() {
    let deployment = Deployment::new();
    let script = scripted(|_, input| match input {
        Input::Sip { .. } => vec![Output::Fatal { reason: "the script says so".to_owned() }],
        _ => vec![],
    });
    let server = Server::start_with(deployment.options("east"), script).unwrap();
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    socket.send(b"long enough to be taken").unwrap();
    let ended = server.runtime().clone().block_on(server.wait());
    assert_eq!(ended, Ended::Fatal("the script says so".to_owned()));
    assert_eq!(server.stop(), ended);
}

#[test]
fn a_node_that_cannot_start_undoes_the_start() {
    let deployment = Deployment::new();
    let refused = Server::start_with(deployment.options("east"), Box::new(|_, _| Err("no".to_owned()))).err().unwrap();
    assert!(matches!(refused, StartError::Node(reason) if reason == "no"));
    // Ports and data folder are free again.
    let (server, _told) = start(&deployment);
    assert_eq!(server.stop(), Ended::Stopped);
}

/// A node that grants every request and tells its client to be heard every second.
fn granting() -> pairline_server::shell::MakeNode {
    scripted(move |_, input| match input {
        Input::Sip { flow, message } => {
            let text = String::from_utf8_lossy(&message);
            let method = text.split(' ').next().unwrap_or_default().to_owned();
            let reply = format!("SIP/2.0 200 OK\r\nCSeq: 1 {method}\r\nFlow-Timer: 1\r\nContent-Length: 0\r\n\r\n");
            vec![Output::Sip { flow, message: reply.into() }]
        }
        _ => vec![],
    })
}

/// What such a node answers a request of that method on a connection.
fn granted(stream: &mut TcpStream, method: &str) -> String {
    let request = REQUEST.replace("OPTIONS", method);
    stream.write_all(request.as_bytes()).unwrap();
    let reply = read(stream, 62 + method.len());
    assert!(reply.ends_with("\r\n\r\n"), "{reply}");
    reply
}

/// RFC 5626 §4.4: who was told when to be heard and is silent is gone; who sends keep-alives, or was told nothing, stays.
#[test]
fn a_flow_without_keep_alives_is_closed_after_its_flow_timer() {
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.streams.flow_grace = Some(std::time::Duration::from_millis(200));
    let server = Server::start_with(options, granting()).unwrap();
    let mut told_nothing = client(&server);
    granted(&mut told_nothing, "MESSAGE");
    let mut heard = client(&server);
    granted(&mut heard, "REGISTER");
    let mut silent = client(&server);
    granted(&mut silent, "REGISTER");
    silent.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        heard.write_all(b"\r\n\r\n").unwrap();
        assert_eq!(read(&mut heard, 2), "\r\n", "whoever is heard stays");
        match silent.read(&mut [0; 1]) {
            Ok(0) => break,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            other => panic!("{other:?}"),
        }
        assert!(std::time::Instant::now() < end, "the silent one stays");
    }
    granted(&mut heard, "REGISTER");
    granted(&mut told_nothing, "MESSAGE");
    assert_eq!(counter(&server, "pairline_stream_idle_total"), 1);
}

/// Where the policy lets everybody be silent, only the idle limit counts.
#[test]
fn without_a_grace_nobody_is_closed_for_silence() {
    let deployment = Deployment::new();
    let start = |grace| {
        let mut options = deployment.options(if grace == 0 { "east" } else { "west" });
        options.streams.flow_grace = (grace > 0).then(|| std::time::Duration::from_millis(grace));
        Server::start_with(options, granting()).unwrap()
    };
    let (lenient, strict) = (start(0), start(1));
    let mut patient = client(&lenient);
    granted(&mut patient, "REGISTER");
    let mut other = client(&strict);
    granted(&mut other, "REGISTER");
    // Both were told the same, this one later.
    assert_eq!(other.read(&mut [0; 1]).unwrap(), 0);
    granted(&mut patient, "REGISTER");
}
