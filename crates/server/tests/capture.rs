//! What is captured of real servers: the mirror to a collector, the ring of files, and a trace of a call across two servers.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_node::command::{Actor, Command, Reply};
use pairline_node::io::{Input, Output};
use pairline_server::capture::{TraceAnswer, TraceError, TraceOrder, Traced};
use pairline_server::cli::ladder::{Ladder, Step};
use pairline_server::shell::{RunningServer, Server, ServerOptions};
use pairline_sip::auth;
use pairline_sip::flow::Flow;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply as SipReply;
use pairline_sip::request::RequestBuilder;
use pairline_topology::CaptureConfig;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use support::{Deployment, PATIENCE, wait_for};

const PASSWORD: &str = "correct horse";

fn ask(server: &RunningServer, command: Command) -> Reply {
    let actor = Actor::Administrator("test".to_owned());
    server.runtime().block_on(server.handle().command(actor, command)).unwrap()
}

fn add_user(server: &RunningServer, user: &str, pool: &str) {
    let (user, pool) = (user.to_owned(), Some(pool.to_owned()));
    ask(server, Command::UserAdd { user, password: PASSWORD.to_owned(), display_name: None, pool });
}

fn metric(server: &RunningServer, name: &str, label: &str) -> f64 {
    let samples = server.handle().further_samples();
    let fits = |labels: &[(String, String)]| labels.iter().any(|(_, value)| value == label);
    let found = samples.iter().find(|(have, labels, _)| have == name && fits(labels));
    found.unwrap_or_else(|| panic!("no {name} {label}")).2
}

/// A phone on a socket of its own.
struct Phone {
    socket: UdpSocket,
    user: &'static str,
    cseq: u32,
}

impl Phone {
    fn new(server: &RunningServer, user: &'static str) -> Phone {
        let socket = UdpSocket::bind((support::address(), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(server.address("udp").unwrap()).unwrap();
        Phone { socket, user, cseq: 0 }
    }

    fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn receive(&self, fits: impl Fn(&Message) -> bool) -> Message {
        let mut buffer = [0; 65_535];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap();
            let message = Message::parse(buffer[..length].to_vec().into()).unwrap();
            if fits(&message) {
                return message;
            }
        }
    }

    /// Sends a request and returns the final answer; a challenge is answered.
    fn ask(&mut self, method: Method, to: &str, call: &str) -> Message {
        let mut credentials = None;
        loop {
            self.cseq += 1;
            let request = self.request(&method, to, call, credentials.as_ref());
            self.socket.send(&request).unwrap();
            let sequence = self.cseq;
            let answer = self.receive(|m| m.status().is_some_and(|s| s >= 200) && m.cseq().0 == sequence);
            let (challenge, header) = match answer.status() {
                Some(401) => (Name::WwwAuthenticate, "Authorization"),
                Some(407) => (Name::ProxyAuthenticate, "Proxy-Authorization"),
                _ => return answer,
            };
            assert!(credentials.is_none(), "challenged again");
            if method == Method::Invite {
                self.acknowledge(&answer, to, call);
            }
            let value = answer.header(challenge).unwrap().to_vec();
            let challenge = auth::Challenge::parse(&value).unwrap();
            let uri = if method == Method::Register { "sip:pairline.test" } else { to };
            let value = auth::answer(&challenge, self.user, PASSWORD, method.as_str(), uri, "c0ffee", 1);
            credentials = Some((header, value));
        }
    }

    fn request(&self, method: &Method, to: &str, call: &str, credentials: Option<&(&str, String)>) -> bytes::Bytes {
        let (local, user, cseq) = (self.local(), self.user, self.cseq);
        let register = *method == Method::Register;
        let mut request = RequestBuilder::new(method.clone(), if register { "sip:pairline.test" } else { to })
            .header("Via", format!("SIP/2.0/UDP {local};rport;branch=z9hG4bK{user}{cseq}"))
            .header("From", format!("<sip:{user}@pairline.test>;tag=1{user}"))
            .header("To", format!("<{to}>"))
            .header("Call-ID", call)
            .header("CSeq", format!("{cseq} {method}"))
            .header("Max-Forwards", "70")
            .header("Contact", format!("<sip:{user}@{local}>"));
        if register {
            request = request.header("Expires", "60");
        }
        if let Some((name, value)) = credentials {
            request = request.header(name, value);
        }
        request.build()
    }

    fn acknowledge(&self, answer: &Message, to: &str, call: &str) {
        let (local, user, cseq) = (self.local(), self.user, answer.cseq().0);
        let ack = RequestBuilder::new(Method::Ack, to)
            .header("Via", format!("SIP/2.0/UDP {local};rport;branch=z9hG4bK{user}{cseq}"))
            .header("From", format!("<sip:{user}@pairline.test>;tag=1{user}"))
            .header("To", answer.header(Name::To).unwrap())
            .header("Call-ID", call)
            .header("CSeq", format!("{cseq} ACK"))
            .header("Max-Forwards", "70");
        self.socket.send(&ack.build()).unwrap();
    }

    fn register(&mut self) {
        let (to, call) = (format!("sip:{}@pairline.test", self.user), format!("reg-{}", self.user));
        assert_eq!(self.ask(Method::Register, &to, &call).status(), Some(200));
    }
}

fn start_with(deployment: &Deployment, name: &str, capture: CaptureConfig) -> RunningServer {
    let mut options: ServerOptions = deployment.options(name);
    options.config.capture = capture;
    options.hep_key = options.config.capture.hep.map(|_| b"myHep".to_vec());
    Server::start(options).unwrap()
}

/// The chunks of a HEP3 packet by their types, read as a collector reads them.
fn chunks(packet: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    assert_eq!(&packet[..4], b"HEP3");
    assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len());
    let mut rest = &packet[6..];
    let mut all = BTreeMap::new();
    while !rest.is_empty() {
        let word = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let (vendor, kind, length) = (word(0), word(2), usize::from(word(4)));
        assert_eq!(vendor, 0);
        assert!(all.insert(kind, rest[6..length].to_vec()).is_none(), "chunk {kind} twice");
        rest = &rest[length..];
    }
    all
}

fn address(chunks: &BTreeMap<u16, Vec<u8>>, ip: u16, port: u16) -> SocketAddr {
    let octets: [u8; 4] = chunks[&ip][..].try_into().unwrap();
    let port = u16::from_be_bytes(chunks[&port][..].try_into().unwrap());
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port)
}

/// Checks the packets of one registration: challenge, answer, both ways, nothing from which a password can be guessed.
fn registration_is_seen(packets: &[BTreeMap<u16, Vec<u8>>], phone: &Phone, server: SocketAddr) {
    let lines: Vec<String> = packets
        .iter()
        .map(|chunks| String::from_utf8_lossy(&chunks[&15]).lines().next().unwrap_or_default().to_owned())
        .collect();
    let request = "REGISTER sip:pairline.test SIP/2.0".to_owned();
    assert_eq!((&lines[0], &lines[2]), (&request, &request));
    assert!(lines[1].starts_with("SIP/2.0 401") && lines[3].starts_with("SIP/2.0 200"), "{lines:?}");
    for (n, chunks) in packets.iter().enumerate() {
        assert_eq!((&chunks[&1][..], &chunks[&2][..], &chunks[&11][..]), (&[2][..], &[17][..], &[1][..]));
        assert_eq!((&chunks[&14][..], &chunks[&17][..]), (&b"myHep"[..], &b"reg-alice"[..]));
        let (source, destination) = (address(chunks, 3, 7), address(chunks, 4, 8));
        let expected = if n % 2 == 0 { (phone.local(), server) } else { (server, phone.local()) };
        assert_eq!((source, destination), expected, "packet {n}");
        let seconds = u32::from_be_bytes(chunks[&9][..].try_into().unwrap());
        assert!(seconds > 1_700_000_000 && u32::from_be_bytes(chunks[&10][..].try_into().unwrap()) < 1_000_000);
    }
    let answered = String::from_utf8_lossy(&packets[2][&15]).into_owned();
    let at = answered.find("response=\"").unwrap() + 10;
    let filled = answered[at..].split('"').next().unwrap();
    assert!(filled.len() >= 32 && filled.bytes().all(|b| b == b'x'), "{answered}");
}

#[test]
fn a_collector_receives_every_message_with_its_addresses_and_no_answer_to_a_challenge() {
    let collector = UdpSocket::bind((support::address(), 0)).unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let deployment = Deployment::new();
    let hep = Some(collector.local_addr().unwrap());
    let capture = CaptureConfig { hep, hep_id: Some(2001), ..CaptureConfig::default() };
    let (east, west) = both(&deployment, capture);
    add_user(&east, "alice", "east");
    let mut phone = Phone::new(&east, "alice");
    phone.register();
    let mut buffer = [0; 65_535];
    let packets: Vec<_> = (0..4)
        .map(|_| {
            let length = collector.recv(&mut buffer).unwrap();
            chunks(&buffer[..length])
        })
        .collect();
    registration_is_seen(&packets, &phone, east.address("udp").unwrap());
    assert_eq!(packets[0][&12], 2001_u32.to_be_bytes());
    assert_eq!(packets[0][&19], b"fe1.east.pairline.test");
    let of = |result| metric(&east, "pairline_capture_hep_packets_total", result);
    wait_for("the count", || (of("sent") == 4.0).then_some(()));
    assert_eq!((of("failed"), of("dropped")), (0.0, 0.0));
    let _ = (east.stop(), west.stop());
}

#[test]
fn a_collector_is_reached_over_tcp_as_well() {
    let collector = TcpListener::bind((support::address(), 0)).unwrap();
    let deployment = Deployment::new();
    let hep = Some(collector.local_addr().unwrap());
    let (east, west) = both(&deployment, CaptureConfig { hep, hep_tcp: true, ..CaptureConfig::default() });
    add_user(&east, "alice", "east");
    let mut phone = Phone::new(&east, "alice");
    phone.register();
    let (mut stream, _) = collector.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let packets: Vec<_> = (0..4)
        .map(|_| {
            let mut packet = vec![0; 6];
            stream.read_exact(&mut packet).unwrap();
            packet.resize(usize::from(u16::from_be_bytes([packet[4], packet[5]])), 0);
            stream.read_exact(&mut packet[6..]).unwrap();
            chunks(&packet)
        })
        .collect();
    registration_is_seen(&packets, &phone, east.address("udp").unwrap());
    let _ = (east.stop(), west.stop());
}

/// A message that arrives on an accepted connection is sent on over one that the server makes: both ends of both are true ones, the
/// port that the system chose among them.
#[test]
fn messages_of_connections_have_the_addresses_of_their_connections() {
    let collector = UdpSocket::bind((support::address(), 0)).unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let peer = TcpListener::bind((support::address(), 0)).unwrap();
    let there = peer.local_addr().unwrap();
    let script = support::scripted(move |_, input| match input {
        Input::Sip { flow, message } => {
            vec![Output::Sip { flow: Flow { remote: there, connection: 0, ..flow }, message }]
        }
        _ => vec![],
    });
    let deployment = Deployment::new();
    let mut options = deployment.options("east");
    options.config.capture.hep = Some(collector.local_addr().unwrap());
    let east = Server::start_with(options, script).unwrap();
    let mut client = TcpStream::connect(east.address("tcp").unwrap()).unwrap();
    let mut buffer = [0; 65_535];
    let mut seen = |client: &mut TcpStream, n: u32| {
        let text = format!("OPTIONS sip:x SIP/2.0\r\nCall-ID: {n}\r\nContent-Length: 0\r\n\r\n");
        client.write_all(text.as_bytes()).unwrap();
        [(); 2].map(|()| {
            let length = collector.recv(&mut buffer).unwrap();
            let chunks = chunks(&buffer[..length]);
            assert_eq!((&chunks[&2][..], &chunks[&15][..]), (&[6][..], text.as_bytes()));
            assert_eq!(chunks[&17], n.to_string().as_bytes());
            (address(&chunks, 3, 7), address(&chunks, 4, 8))
        })
    };
    let first = seen(&mut client, 1);
    assert_eq!(first[0], (client.local_addr().unwrap(), east.address("tcp").unwrap()));
    assert_eq!(first[1].1, there, "its own port is known once the connection is made");
    let (mut made, from) = peer.accept().unwrap();
    made.set_read_timeout(Some(PATIENCE)).unwrap();
    // What has arrived shows that the connection is made.
    made.read_exact(&mut [0; 20]).unwrap();
    assert_eq!(seen(&mut client, 2)[1], (from, there));
    east.stop();
}

/// The messages in a capture file, checked as a reader does: every length leads to the next record.
fn records(file: &PathBuf) -> Vec<(SocketAddr, SocketAddr, String)> {
    let content = fs::read(file).unwrap();
    assert_eq!(&content[..4], b"\xd4\xc3\xb2\xa1");
    let word = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
    assert_eq!(word(20), 101, "raw IP");
    let (mut at, mut all) = (24, Vec::new());
    while at < content.len() {
        let length = word(at + 8) as usize;
        let packet = &content[at + 16..at + 16 + length];
        assert_eq!((packet[0], packet[9], word(at + 12) as usize), (0x45, 17, length));
        let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!((usize::from(half(2)), usize::from(half(24)) + 20), (length, length));
        let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        let ends = (SocketAddr::new(ip(12).into(), half(20)), SocketAddr::new(ip(16).into(), half(22)));
        all.push((ends.0, ends.1, String::from_utf8_lossy(&packet[28..]).into_owned()));
        at += 16 + length;
    }
    all
}

#[test]
fn capture_files_turn_stay_bounded_and_hold_whole_records_without_bodies() {
    let deployment = Deployment::new();
    let capture = CaptureConfig { pcap: true, pcap_files: 2, pcap_file_mib: 1, ..CaptureConfig::default() };
    let east = start_with(&deployment, "east", capture);
    let phone = Phone::new(&east, "alice");
    let local = phone.local();
    let body = "secret! ".repeat(5_000);
    for n in 0..90_u32 {
        let request = RequestBuilder::new(Method::Options, "sip:pairline.test")
            .header("Via", format!("SIP/2.0/UDP {local};rport;branch=z9hG4bKo{n}"))
            .header("From", "<sip:alice@pairline.test>;tag=1")
            .header("To", "<sip:pairline.test>")
            .header("Call-ID", format!("options-{n}"))
            .header("CSeq", "1 OPTIONS")
            .header("Max-Forwards", "70")
            .body("text/plain", body.as_bytes())
            .build();
        phone.socket.send(&request).unwrap();
        phone.receive(|m| m.status().is_some() && m.call_id() == format!("options-{n}").as_bytes());
    }
    let written = || metric(&east, "pairline_capture_pcap_records_total", "written");
    wait_for("all records", || (written() >= 180.0).then_some(()));
    let server = east.address("udp").unwrap();
    east.stop();
    let folder = deployment.folder.path().join("east/capture");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        let meta = fs::metadata(file).unwrap();
        assert!(meta.len() <= 1024 * 1024 && meta.permissions().mode() & 0o777 == 0o600);
    }
    let all: Vec<_> = files.iter().flat_map(records).collect();
    assert!(all.iter().all(|(_, _, text)| !text.contains("secret!")), "bodies are filled");
    let (from, to, last) = &all[all.len() - 2];
    assert_eq!((*from, *to), (local, server));
    assert!(last.starts_with("OPTIONS sip:pairline.test") && last.contains("Call-ID: options-89"), "{last:.300}");
    assert!(last.ends_with(&"x".repeat(body.len())), "same length");
    let (from, to, answer) = &all[all.len() - 1];
    assert_eq!((*from, *to), (server, local));
    assert!(answer.starts_with("SIP/2.0 "), "{answer}");
}

fn order(server: &RunningServer, order: &TraceOrder) -> Result<TraceAnswer, TraceError> {
    server.handle().capture().trace(order)
}

fn trace(server: &RunningServer, user: &str) -> u64 {
    match order(server, &TraceOrder::Start { user: user.to_owned(), seconds: 60 }) {
        Ok(TraceAnswer::Started { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

fn traced(server: &RunningServer, id: u64) -> Vec<Traced> {
    match order(server, &TraceOrder::Read { id, after: 0 }) {
        Ok(TraceAnswer::Messages { messages, .. }) => messages,
        other => panic!("{other:?}"),
    }
}

/// Both servers, in step: alone on an empty disk neither would serve anybody.
fn both(deployment: &Deployment, capture_of_east: CaptureConfig) -> (RunningServer, RunningServer) {
    let east = start_with(deployment, "east", capture_of_east);
    let west = start_with(deployment, "west", CaptureConfig::default());
    for server in [&east, &west] {
        wait_for("the pair", || match ask(server, Command::PoolStatus) {
            Reply::Pools(view) => {
                let users = view.shipping.iter().filter(|s| s.module == "user-data" && s.export == "steady").count();
                (view.pools.iter().all(|p| p.alive) && users == 2).then_some(())
            }
            _ => None,
        });
    }
    (east, west)
}

#[test]
fn a_call_across_two_servers_is_traced_at_both_in_order() {
    let deployment = Deployment::new();
    let (east, west) = both(&deployment, CaptureConfig::default());
    add_user(&east, "alice", "east");
    add_user(&east, "bob", "west");
    add_user(&east, "carol", "east");
    let (mut alice, mut bob) = (Phone::new(&east, "alice"), Phone::new(&west, "bob"));
    let mut carol = Phone::new(&east, "carol");
    bob.register();
    let ids = [trace(&east, "sip:alice@pairline.test"), trace(&west, "sip:alice@pairline.test")];
    carol.register();
    let answering = std::thread::spawn(move || {
        let invite = bob.receive(|m| m.is_request() && *m.method() == Method::Invite);
        bob.socket.send(&SipReply::to(&invite, 486).build()).unwrap();
        bob
    });
    let answer = alice.ask(Method::Invite, "sip:bob@pairline.test", "the-call");
    assert_eq!(answer.status(), Some(486));
    alice.acknowledge(&answer, "sip:bob@pairline.test", "the-call");
    let bob = answering.join().unwrap();
    let seen = |server: &RunningServer, id: u64, count: usize| {
        wait_for("the messages", || Some(traced(server, id)).filter(|messages| messages.len() >= count))
    };
    // At east: the challenge and its ACK, then INVITE, 100, the link both ways, 486 and ACKs; at west its share.
    let east_saw = seen(&east, ids[0], 10);
    let west_saw = seen(&west, ids[1], 6);
    assert!(east_saw.iter().chain(&west_saw).all(|m| m.message.contains("Call-ID: the-call")), "carol is not traced");
    let steps = |name: &str, messages: &[Traced]| -> Vec<Step> {
        let step = |traced: &Traced| Step { at_us: traced.at_us, server: name.to_owned(), traced: traced.clone() };
        messages.iter().map(step).collect()
    };
    let mut all = [steps("fe1.east.pairline.test", &east_saw), steps("fe1.west.pairline.test", &west_saw)].concat();
    all.sort_by_key(|step| step.at_us);
    let way = |step: &Step| format!("{} {} {}", &step.server[4..8], step.traced.direction, step.traced.transport);
    let invites: Vec<String> = all.iter().filter(|step| step.words() == "INVITE").map(way).collect();
    let expected = ["east in UDP", "east in UDP", "east out link", "west in link", "west out UDP"];
    assert_eq!(invites, expected, "challenged once, then through both servers");
    let busy: Vec<String> = all.iter().filter(|step| step.words().starts_with("486")).map(way).collect();
    assert_eq!(busy, ["west in UDP", "west out link", "east in link", "east out UDP"]);
    let drawn = Ladder::draw(&all);
    assert_eq!(drawn.lines().filter(|line| line.contains("INVITE-")).count(), 4, "{drawn}");
    assert!(drawn.contains(&alice.local().to_string()) && drawn.contains(&bob.local().to_string()), "{drawn}");
    for (server, id) in [(&east, ids[0]), (&west, ids[1])] {
        assert_eq!(order(server, &TraceOrder::Stop { id }), Ok(TraceAnswer::Stopped));
        assert_eq!(order(server, &TraceOrder::Read { id, after: 0 }), Err(TraceError::Unknown));
    }
    let _ = (east.stop(), west.stop());
}

#[test]
fn messages_are_counted_by_method_transport_and_status_and_timed() {
    let deployment = Deployment::new();
    let (east, west) = both(&deployment, CaptureConfig::default());
    add_user(&east, "alice", "east");
    let mut alice = Phone::new(&west, "alice");
    alice.register();
    let value = |server: &RunningServer, name: &str, labels: &[(&str, &str)]| {
        let Reply::Status(status) = ask(server, Command::ServerStatus) else { panic!("no status") };
        let fits =
            |have: &[(String, String)]| have.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(labels.iter().copied());
        status.samples.iter().find(|(have, of, _)| have == name && fits(of)).map(|(_, _, value)| *value)
    };
    let requests = |server, direction, transport| {
        let labels = [("method", "REGISTER"), ("direction", direction), ("transport", transport)];
        value(server, "pairline_sip_requests_total", &labels)
    };
    // West asks for the way at once; what the home pool has to say comes from there.
    assert_eq!(requests(&west, "in", "UDP"), Some(2.0));
    assert_eq!(requests(&west, "out", "link"), requests(&east, "in", "link"));
    assert!(requests(&east, "in", "link").is_some_and(|count| count >= 1.0));
    let answers = [("method", "REGISTER"), ("direction", "out"), ("code", "200")];
    assert_eq!(value(&west, "pairline_sip_responses_total", &answers), Some(1.0));
    let timed = [("method", "REGISTER")];
    assert_eq!(value(&west, "pairline_request_latency_seconds_count", &timed), Some(2.0));
    let waits = |queue| metric(&west, "pairline_queue_wait_seconds_count", queue);
    assert!(waits("rest") >= 2.0 && waits("streams") == 0.0);
    let _ = (east.stop(), west.stop());
}
