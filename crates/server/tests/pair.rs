//! Two servers with the real node in one process: links, commands, registration over UDP and TCP, loss of one, restart.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::view::PoolsView;
use pairline_server::shell::{Ended, RunningServer, Server};
use pairline_sip::auth;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::request::RequestBuilder;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use support::{Deployment, PATIENCE, wait_for};

fn ask(server: &RunningServer, command: Command) -> Result<Reply, Problem> {
    let actor = Actor::Administrator("test".to_owned());
    server.runtime().block_on(server.handle().command(actor, command))
}

fn pools(server: &RunningServer) -> PoolsView {
    match ask(server, Command::PoolStatus) {
        Ok(Reply::Pools(view)) => view,
        other => panic!("no status: {other:?}"),
    }
}

/// Asks for the status again until it fits.
fn wait_for_pair(server: &RunningServer, fits: impl Fn(&PoolsView) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let view = pools(server);
        if fits(&view) {
            return;
        }
        assert!(Instant::now() < deadline, "the pair does not get there: {view:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn alive(view: &PoolsView, pool: &str) -> bool {
    view.pools.iter().any(|p| p.name == pool && p.alive)
}

fn steady(view: &PoolsView) -> bool {
    // The management store is shipped in one direction only.
    let users: Vec<_> = view.shipping.iter().filter(|s| s.module == "user-data").collect();
    users.len() == 2 && users.iter().all(|s| s.export == "steady" && s.behind_entries == 0)
}

/// Something that sends a request and returns the final answer.
trait Phone {
    fn local(&self) -> SocketAddr;
    fn transport(&self) -> &'static str;
    fn exchange(&mut self, request: &[u8]) -> Message;
}

impl Phone for UdpSocket {
    fn local(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }
    fn transport(&self) -> &'static str {
        "UDP"
    }
    fn exchange(&mut self, request: &[u8]) -> Message {
        self.send(request).unwrap();
        let mut buffer = [0; 65_535];
        loop {
            let length = self.recv(&mut buffer).unwrap();
            let reply = Message::parse(buffer[..length].to_vec().into()).unwrap();
            if reply.status().is_some_and(|s| s >= 200) {
                return reply;
            }
        }
    }
}

impl Phone for TcpStream {
    fn local(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }
    fn transport(&self) -> &'static str {
        "TCP"
    }
    fn exchange(&mut self, request: &[u8]) -> Message {
        self.write_all(request).unwrap();
        let mut framer = pairline_sip::framing::StreamFramer::new(65_536);
        let mut buffer = [0; 4096];
        loop {
            let length = self.read(&mut buffer).unwrap();
            assert!(length > 0, "closed without an answer");
            framer.push(&buffer[..length]);
            while let Some(Ok(frame)) = framer.next() {
                if let pairline_sip::framing::Frame::Message(bytes) = frame {
                    let reply = Message::parse(bytes).unwrap();
                    if reply.status().is_some_and(|s| s >= 200) {
                        return reply;
                    }
                }
            }
        }
    }
}

fn udp(server: &RunningServer) -> UdpSocket {
    let socket = UdpSocket::bind((support::address(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server.address("udp").unwrap()).unwrap();
    socket
}

fn tcp(server: &RunningServer) -> TcpStream {
    let stream = TcpStream::connect(server.address("tcp").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn register(phone: &mut dyn Phone, user: &str, cseq: u32, authorization: Option<&str>) -> Message {
    let local = phone.local();
    let transport = phone.transport();
    let mut request = RequestBuilder::new(Method::Register, "sip:pairline.test")
        .header("Via", format!("SIP/2.0/{transport} {local};rport;branch=z9hG4bK{user}{cseq}{transport}"))
        .header("From", format!("<sip:{user}@pairline.test>;tag=1{user}"))
        .header("To", format!("<sip:{user}@pairline.test>"))
        .header("Call-ID", format!("{user}-{local}"))
        .header("CSeq", format!("{cseq} REGISTER"))
        .header("Max-Forwards", "70")
        .header("Contact", format!("<sip:{user}@{local};transport={}>", transport.to_ascii_lowercase()))
        .header("Expires", "20");
    if let Some(value) = authorization {
        request = request.header("Authorization", value);
    }
    phone.exchange(&request.build())
}

fn sign_in(phone: &mut dyn Phone, user: &str, password: &str) -> u16 {
    let challenged = register(phone, user, 1, None);
    assert_eq!(challenged.status(), Some(401));
    let value = challenged.header(Name::WwwAuthenticate).unwrap().to_vec();
    let challenge = auth::Challenge::parse(&value).unwrap();
    let answer = auth::answer(&challenge, user, password, "REGISTER", "sip:pairline.test", "c0ffee", 1);
    register(phone, user, 2, Some(&answer)).status().unwrap()
}

fn add_user(server: &RunningServer, user: &str, pool: &str) {
    let command = Command::UserAdd {
        user: user.to_owned(),
        password: "correct horse".to_owned(),
        display_name: None,
        pool: Some(pool.to_owned()),
    };
    ask(server, command).unwrap();
}

fn both() -> (Deployment, RunningServer, RunningServer) {
    let deployment = Deployment::new();
    let east = Server::start(deployment.options("east")).unwrap();
    let west = Server::start(deployment.options("west")).unwrap();
    for server in [&east, &west] {
        wait_for_pair(server, |view| alive(view, "east") && alive(view, "west") && steady(view));
    }
    (deployment, east, west)
}

#[test]
fn users_register_at_either_pool_over_udp_and_tcp() {
    let (_deployment, east, west) = both();
    assert_eq!((east.connections().0, west.connections().0), (1, 1), "one link between two servers");
    add_user(&east, "alice", "east");
    add_user(&east, "bob", "west");
    assert_eq!(sign_in(&mut udp(&east), "alice", "correct horse"), 200);
    assert_eq!(sign_in(&mut tcp(&west), "bob", "correct horse"), 200);
    assert_eq!(sign_in(&mut tcp(&west), "alice", "correct horse"), 200, "through the other pool");
    assert_ne!(sign_in(&mut udp(&east), "alice", "wrong"), 200);
    let registrations = Command::RegistrationList { user: Some("alice".to_owned()), after: None, limit: 10 };
    match ask(&east, registrations).unwrap() {
        Reply::Registrations { registrations, .. } => assert_eq!(registrations.len(), 2, "{registrations:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(east.stop(), Ended::Stopped);
    assert_eq!(west.stop(), Ended::Stopped);
}

#[test]
fn what_was_acknowledged_survives_a_restart_and_the_other_pool_sees_the_loss() {
    let (deployment, east, west) = both();
    add_user(&east, "alice", "east");
    for n in 0..20 {
        let command = Command::ContactPut {
            user: "alice".to_owned(),
            contact: format!("sip:friend{n}@pairline.test"),
            name: format!("Friend {n}"),
            groups: vec![],
            op: Some(("test".to_owned(), n)),
        };
        ask(&east, command).unwrap();
    }
    assert_eq!(east.stop(), Ended::Stopped);
    wait_for_pair(&west, |view| !alive(view, "east"));
    let list = || Command::ContactList { user: "alice".to_owned() };
    let read_at_west = wait_for("alice's contacts at west", || match ask(&west, list()) {
        Ok(Reply::Contacts { contacts, read_only: true }) => Some(contacts),
        _ => None,
    });
    assert_eq!(read_at_west.len(), 20, "an orderly stop ships what was acknowledged");
    let east = Server::start(deployment.options("east")).unwrap();
    wait_for_pair(&west, |view| alive(view, "east") && steady(view));
    let read_at_east = wait_for("alice's contacts at east", || match ask(&east, list()) {
        Ok(Reply::Contacts { contacts, read_only: false }) => Some(contacts),
        _ => None,
    });
    assert_eq!(read_at_east, read_at_west);
}

/// The value of a metric of the answering server, by name and first label's value.
fn metric(server: &RunningServer, name: &str, label: Option<&str>) -> Option<f64> {
    let Ok(Reply::Status(status)) = ask(server, Command::ServerStatus) else { panic!("no status") };
    let fits = |labels: &[(String, String)]| label.is_none_or(|label| labels.first().is_some_and(|(_, v)| v == label));
    status.samples.iter().find(|(have, labels, _)| have == name && fits(labels)).map(|(_, _, value)| *value)
}

#[test]
fn metrics_count_registrations_of_home_and_guests_stranded_ones_and_commits() {
    let (_deployment, east, west) = both();
    add_user(&east, "alice", "east");
    add_user(&east, "bob", "west");
    let mut stays = udp(&west);
    let mut goes = tcp(&west);
    assert_eq!(sign_in(&mut stays, "bob", "correct horse"), 200);
    assert_eq!(sign_in(&mut goes, "bob", "correct horse"), 200);
    let counts = |kind| metric(&west, "pairline_registrations", Some(kind));
    let stranded = || metric(&west, "pairline_registrations_stranded", None);
    wait_for("two of home", || (counts("home") == Some(2.0)).then_some(()));
    assert_eq!((counts("guest"), stranded()), (Some(0.0), Some(0.0)));
    assert_eq!(metric(&east, "pairline_registrations", Some("home")), Some(0.0), "a backup's copies are not its own");
    drop(goes);
    wait_for("one stranded", || (stranded() == Some(1.0)).then_some(()));
    let bucket = |le| metric(&west, "pairline_commit_latency_seconds_bucket", Some(le)).unwrap();
    let all = metric(&west, "pairline_commit_latency_seconds_count", None).unwrap();
    assert!(all >= 2.0 && bucket("+Inf") == all && bucket("0.001") <= bucket("5"), "{all}");
    assert_eq!(east.stop(), Ended::Stopped);
    wait_for_pair(&west, |view| !alive(view, "east"));
    let place = || match ask(&west, Command::UserWhere { user: "alice".to_owned() }) {
        Ok(Reply::Where(view)) => Some(view.place),
        _ => None,
    };
    wait_for("resiliency mode", || (place().as_deref() == Some("resiliency")).then_some(()));
    assert_eq!(sign_in(&mut udp(&west), "alice", "correct horse"), 200);
    wait_for("one guest", || (counts("guest") == Some(1.0)).then_some(()));
}
