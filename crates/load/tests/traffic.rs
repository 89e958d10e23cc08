//! Every kind of traffic against a small server of its own: a registrar that challenges, and a proxy that records its route.
// Helpers of tests are no `#[test]` functions; what they unwrap is a fact of the test.
#![allow(clippy::unwrap_used)]

use clap::Parser as _;
use pairline_load::args::Cli;
use pairline_load::report::Report;
use pairline_load::run::run;
use pairline_load::wire::scan;
use pairline_sip::auth::{Algorithm, Credentials, challenge, ha1, verify};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const REALM: &str = "pairline.test";

/// A registrar and proxy on one socket.
struct Server {
    socket: UdpSocket,
    address: SocketAddr,
    contacts: HashMap<String, SocketAddr>,
    /// Answers nothing to the first datagram of each kind, so that requests are sent again.
    deaf: bool,
    heard: HashMap<Vec<u8>, u32>,
}

impl Server {
    fn start(deaf: bool) -> (SocketAddr, Arc<AtomicBool>, JoinHandle<()>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ends);
        let mut server = Server { socket, address, contacts: HashMap::new(), deaf, heard: HashMap::new() };
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = server.socket.recv_from(&mut buffer) {
                    server.message(&buffer[..length], from);
                }
            }
        });
        (address, ends, thread)
    }

    fn message(&mut self, message: &[u8], from: SocketAddr) {
        if scan::status(message).is_some() {
            self.back(message);
            return;
        }
        if self.deaf {
            let count = self.heard.entry(message.to_vec()).or_default();
            *count += 1;
            if *count == 1 {
                return;
            }
        }
        let (method, uri) = scan::request_line(message).unwrap();
        if method == b"REGISTER" { self.register(message, from) } else { self.relay(message, uri) }
    }

    fn register(&mut self, message: &[u8], from: SocketAddr) {
        let name = user(scan::uri(scan::header(message, "to", "t").unwrap()));
        let answered = scan::header(message, "authorization", "").is_some_and(|value| {
            let credentials = Credentials::parse(value).unwrap();
            let secret = ha1(Algorithm::Sha256, name.as_bytes(), REALM.as_bytes(), name.as_bytes());
            credentials.nonce.as_ref() == b"n1" && verify(&credentials, &secret, b"REGISTER")
        });
        if answered {
            let contact = scan::address(scan::uri(scan::header(message, "contact", "m").unwrap())).unwrap();
            self.contacts.insert(name, contact);
            self.reply(message, from, "200 OK", "");
        } else {
            let value = challenge(REALM, Algorithm::Sha256, "n1", false, false);
            self.reply(message, from, "401 Unauthorized", &format!("WWW-Authenticate: {value}\r\n"));
        }
    }

    fn reply(&self, message: &[u8], to: SocketAddr, status: &str, extra: &str) {
        let copied: String = scan::lines(message)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .filter(|line| ["Via", "From", "To", "Call-ID", "CSeq"].contains(&line.split(':').next().unwrap()))
            .map(|line| line + "\r\n")
            .collect();
        self.socket
            .send_to(format!("SIP/2.0 {status}\r\n{copied}{extra}Content-Length: 0\r\n\r\n").as_bytes(), to)
            .unwrap();
    }

    /// Onwards: with our Via, without our Route, recorded if it begins a dialog.
    fn relay(&self, message: &[u8], uri: &[u8]) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let to = match scan::address(uri) {
            Some(address) => address,
            None => self.contacts[&user(uri)],
        };
        let branch = text.split("branch=").nth(1).unwrap().split("\r\n").next().unwrap();
        let (line, rest) = text.split_once("\r\n").unwrap();
        let own = format!("Route: <sip:{};lr>\r\n", self.address);
        let in_dialog = rest.contains(&own);
        let record = if in_dialog { String::new() } else { format!("Record-Route: <sip:{};lr>\r\n", self.address) };
        let rest = rest.replace(&own, "").replacen("From: ", &format!("{record}From: "), 1);
        let via = format!("Via: SIP/2.0/UDP {};branch={branch}x\r\n", self.address);
        self.socket.send_to(format!("{line}\r\n{via}{rest}").as_bytes(), to).unwrap();
    }

    /// A response goes to the second Via.
    fn back(&self, message: &[u8]) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let (line, rest) = text.split_once("\r\n").unwrap();
        let (_, rest) = rest.split_once("\r\n").unwrap();
        let via = rest.split("\r\n").next().unwrap().strip_prefix("Via: SIP/2.0/UDP ").unwrap();
        let to: SocketAddr = via.split(';').next().unwrap().parse().unwrap();
        self.socket.send_to(format!("{line}\r\n{rest}").as_bytes(), to).unwrap();
    }
}

fn user(uri: &[u8]) -> String {
    let text = String::from_utf8(uri.to_vec()).unwrap();
    text.strip_prefix("sip:").unwrap().split('@').next().unwrap().to_owned()
}

fn load(traffic: &str, deaf: bool, more: &[&str]) -> Report {
    let (address, ends, thread) = Server::start(deaf);
    let address = address.to_string();
    let mut args = vec!["pairline-load", traffic, "--server", &address, "--users", "20"];
    args.extend(["--duration", "0.3", "--warmup", "0.05"]);
    args.extend(more);
    let report = run(&Cli::try_parse_from(args).unwrap()).unwrap();
    ends.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    report
}

#[test]
fn registrations_answer_the_challenge_once_and_keep_the_nonce() {
    let report = load("register", false, &["--digest"]);
    assert!(report.operations > 0 && report.failed == 0, "{report}");
    assert!(report.unregistered.is_empty() && report.statuses.keys().eq([&200]), "{report}");
    let fresh = load("register", false, &["--digest", "--fresh-nonce"]);
    assert!(fresh.failed == 0 && fresh.statuses.contains_key(&401), "{fresh}");
}

#[test]
fn without_digest_a_challenge_is_a_failure() {
    let report = load("register", false, &[]);
    assert!(report.operations == 0 && report.failed > 0, "{report}");
    assert_eq!(report.unregistered.get(&401), Some(&20));
}

#[test]
fn each_user_once() {
    let report = load("register", false, &["--digest", "--once", "--threads", "2"]);
    assert_eq!((report.operations, report.failed), (20, 0), "{report}");
}

#[test]
fn messages_reach_the_other_side() {
    let report = load("message", false, &["--digest"]);
    assert!(report.operations > 0 && report.failed == 0 && report.received + 100 >= report.operations, "{report}");
}

#[test]
fn calls_are_set_up_along_the_recorded_route_and_ended() {
    let report = load("call", false, &["--digest", "--hold", "5"]);
    assert!(report.operations > 0 && report.failed == 0, "{report}");
    assert_eq!(report.kinds.keys().copied().collect::<Vec<_>>(), ["call"]);
}

#[test]
fn open_loop_offers_its_rate_and_lost_requests_are_sent_again() {
    let report = load("register", true, &["--digest", "--rate", "50"]);
    assert!(report.failed == 0 && report.unregistered.is_empty(), "{report}");
}

#[test]
fn users_of_a_dead_server_move_to_the_next_and_the_journal_has_what_was_acknowledged() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let path = std::env::temp_dir().join(format!("pairline-load-journal-{}", std::process::id()));
    let name = path.to_string_lossy().into_owned();
    let more = [
        "--digest",
        "--server",
        &dead,
        "--timeout",
        "0.2",
        "--expires",
        "2",
        "--duration",
        "1.5",
        "--hold",
        "0",
        "--journal",
        &name,
    ];
    let (address, ends, thread) = Server::start(false);
    let address = address.to_string();
    let mut args = vec![
        "pairline-load",
        "drill-traffic",
        "--server",
        &address,
        "--users",
        "20",
        "--calls",
        "20",
        "--messages",
        "20",
    ];
    args.extend(more);
    let report = run(&Cli::try_parse_from(args).unwrap()).unwrap();
    ends.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let journal = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(report.operations > 0 && report.journal_missing == 0, "{report}");
    let lines: Vec<serde_json::Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() as u64 >= report.operations, "{} lines, {report}", lines.len());
    assert!(
        lines.iter().all(|line| line["v"] == 1 && line["server"] == address.as_str()),
        "only the living server acknowledges"
    );
    for user in 1..=20 {
        let name = format!("u{user:05}");
        assert!(
            lines.iter().any(|line| line["op"] == "register" && line["user"] == name.as_str()),
            "{name} never registered"
        );
    }
}
