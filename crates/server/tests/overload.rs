//! A real server that may admit little: refusals over UDP and TCP, what is never refused, and what its metrics say.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::command::{Actor, Command, Reply};
use pairline_server::shell::{Ended, RunningServer, Server};
use pairline_sip::Message;
use pairline_sip::framing::{Frame, StreamFramer};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use support::{Deployment, PATIENCE};

/// A server of an unlinked pool that takes ten units a second, five of them at once.
fn start(deployment: &mut Deployment) -> RunningServer {
    deployment.topology.policies.overload.min_rate = 10;
    deployment.topology.policies.overload.max_rate = 10;
    Server::start(deployment.options("east")).unwrap()
}

fn request(method: &str, n: u32, transport: &str, tag: &str) -> String {
    format!(
        "{method} sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:5099;rport;branch=z9hG4bKo{n}\r\nMax-Forwards: 70\r\n\
         From: <sip:x@pairline.test>;tag=x\r\nTo: <sip:pairline.test>{tag}\r\nCall-ID: overload{n}\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends a request and gives its answer; repeated as UDP needs it.
fn ask(socket: &UdpSocket, text: &str) -> Message {
    let mut buffer = [0; 65_535];
    for _ in 0..40 {
        socket.send(text.as_bytes()).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            return Message::parse(buffer[..length].to_vec().into()).unwrap();
        }
    }
    panic!("no answer to {text}")
}

fn metrics(server: &RunningServer) -> BTreeMap<(String, String), f64> {
    let handle = server.handle();
    let command = handle.command(Actor::Administrator("test".to_owned()), Command::ServerStatus);
    let Ok(Reply::Status(status)) = server.runtime().block_on(command) else { panic!("no status") };
    let label = |labels: &[(String, String)]| labels.first().map(|(_, value)| value.clone()).unwrap_or_default();
    status.samples.iter().map(|(name, labels, value)| ((name.clone(), label(labels)), *value)).collect()
}

#[test]
fn more_than_may_be_admitted_is_refused_over_udp_and_tcp_and_counted() {
    let mut deployment = Deployment::new();
    let server = start(&mut deployment);
    let address = (deployment.topology.server[0].listener[0].address.ip(), 5060);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 40)).unwrap();
    let mut statuses = BTreeMap::new();
    for n in 0..60 {
        let reply = ask(&socket, &request("OPTIONS", n, "UDP", ""));
        let status = reply.status().unwrap();
        *statuses.entry(status).or_insert(0) += 1;
        assert_eq!(status == 500, reply.header_named("Retry-After").is_some());
    }
    assert!(statuses[&200] >= 5 && statuses[&500] >= 20, "{statuses:?}");
    let bye = ask(&socket, &request("BYE", 100, "UDP", ";tag=1"));
    assert_ne!(bye.status(), Some(500), "what is going on is not refused");

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let many: String = (200..260).map(|n| request("OPTIONS", n, "TCP", "")).collect();
    stream.write_all(many.as_bytes()).unwrap();
    let (mut framer, mut refused, mut answers) = (StreamFramer::new(65_536), 0, 0);
    let mut buffer = [0; 4096];
    while answers < 60 {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed after {answers} answers");
        framer.push(&buffer[..length]);
        while let Some(Ok(Frame::Message(bytes))) = framer.next() {
            answers += 1;
            refused += u32::from(Message::parse(bytes).unwrap().status() == Some(500));
        }
    }
    assert!(refused >= 20, "{refused} of {answers}");
    let metrics = metrics(&server);
    let value = |name: &str, label: &str| metrics[&(name.to_owned(), label.to_owned())];
    assert!(value("pairline_admission_refused_total", "other") >= 40.0);
    assert!(value("pairline_admission_admitted_total", "other") >= 5.0);
    assert!(value("pairline_admission_admitted_total", "in-dialog") >= 1.0);
    assert!(value("pairline_admission_refused_total", "in-dialog") < 0.5);
    assert!((value("pairline_admission_units_per_second", "") - 10.0).abs() < 0.5);
    assert_eq!(server.stop(), Ended::Stopped);
}
