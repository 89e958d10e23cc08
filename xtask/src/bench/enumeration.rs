//! Telling users apart by time: how long a running server takes to answer for a user that exists and for one that does not.
//!
//! Owns the tries, in random order, and the report. The statistics are `ranks`'. That the answers are alike in all else is
//! tested without a server; here it is only looked at again.

use super::pairline::Pairline;
use super::{machine, ranks, today};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Tries of each kind, for users that exist and as many for users that do not.
    pub tries: u32,
    /// Users that exist.
    pub users: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { tries: 2_000, users: 1_000 }
    }
}

/// How long an answer may be waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tries that are thrown away before each measurement.
const WARM_UP: u32 = 200;
/// Two kinds that differ by chance are as likely as this.
const LEVEL: f64 = 0.05;
const REALM: &str = "pairline.test";

/// One kind of request.
#[derive(Clone, Copy, Debug)]
struct Kind {
    method: &'static str,
    /// With an answer to a challenge, which is wrong.
    guess: bool,
    /// The user in question is the one that is called, not the one that asks.
    called: bool,
}

const KINDS: [Kind; 12] = [
    Kind { method: "REGISTER", guess: false, called: false },
    Kind { method: "REGISTER", guess: true, called: false },
    Kind { method: "INVITE", guess: false, called: false },
    Kind { method: "INVITE", guess: true, called: false },
    Kind { method: "OPTIONS", guess: false, called: false },
    Kind { method: "OPTIONS", guess: true, called: false },
    Kind { method: "MESSAGE", guess: true, called: false },
    Kind { method: "SUBSCRIBE", guess: false, called: false },
    Kind { method: "SUBSCRIBE", guess: true, called: false },
    Kind { method: "INVITE", guess: false, called: true },
    Kind { method: "OPTIONS", guess: false, called: true },
    Kind { method: "SUBSCRIBE", guess: false, called: true },
];

/// What came of one kind.
struct Row {
    kind: Kind,
    /// Median microseconds of users that exist, and of users that do not.
    medians: [f64; 2],
    /// How likely such a difference is by chance.
    p: f64,
    /// Statuses and sizes are the same.
    alike: bool,
}

/// Runs everything against a fresh pair and writes the report.
pub(crate) fn run(root: &Path, binary: &Path, folder: &Path, options: &Options, build: &str) -> Result<(), String> {
    let server = Pairline::start(binary, folder, 0, options.users)?;
    let mut client = Client::new(server.address, options.users)?;
    let mut rows = Vec::new();
    for kind in KINDS {
        rows.push(measure(&mut client, kind, options.tries)?);
    }
    let text = report(&rows, options, build);
    super::write_report(root, "enumeration.md", &text)?;
    let apart: Vec<&str> = rows.iter().filter(|row| !row.passes()).map(|row| row.kind.method).collect();
    if apart.is_empty() { Ok(()) } else { Err(format!("users can be told apart by {}", apart.join(", "))) }
}

impl Row {
    fn passes(&self) -> bool {
        self.alike && self.p > LEVEL / KINDS.len() as f64
    }
}

fn measure(client: &mut Client, kind: Kind, tries: u32) -> Result<Row, String> {
    client.nonce = client.challenge()?;
    for _ in 0..WARM_UP {
        let known = client.random().is_multiple_of(2);
        client.once(kind, known)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    let mut shapes = [BTreeSet::new(), BTreeSet::new()];
    while times.iter().any(|t| t.len() < tries as usize) {
        let exists = client.random().is_multiple_of(2);
        let side = usize::from(!exists);
        let (time, shape) = client.once(kind, exists)?;
        if times[side].len() < tries as usize {
            times[side].push(time);
            shapes[side].insert(shape);
        }
    }
    let p = ranks::p_value(&times[0], &times[1]);
    let medians = times.map(|mut t| ranks::median(&mut t));
    println!("{} guess {} called {}: p {p:.3}, {medians:?} us", kind.method, kind.guess, kind.called);
    Ok(Row { kind, medians, p, alike: shapes[0] == shapes[1] })
}

/// The prober: one socket, one request at a time.
struct Client {
    socket: UdpSocket,
    own: SocketAddr,
    users: u32,
    number: u64,
    state: u64,
    nonce: String,
}

impl Client {
    fn new(server: SocketAddr, users: u32) -> Result<Client, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        socket.connect(server).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let own = socket.local_addr().map_err(|e| e.to_string())?;
        Ok(Client { socket, own, users, number: 0, state: 0x9e37_79b9_7f4a_7c15, nonce: String::new() })
    }

    /// A step of xorshift: the order must not follow anything that the server does.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 16
    }

    fn challenge(&mut self) -> Result<String, String> {
        let kind = Kind { method: "REGISTER", guess: false, called: false };
        let (_, reply) = self.ask(kind, "u00001")?;
        let nonce = reply.split_once("nonce=\"").and_then(|(_, rest)| rest.split_once('"'));
        nonce.map(|(nonce, _)| nonce.to_owned()).ok_or_else(|| format!("no challenge: {reply}"))
    }

    /// One try: microseconds, and status line with size.
    fn once(&mut self, kind: Kind, exists: bool) -> Result<(f64, (String, usize)), String> {
        let number = self.random() % u64::from(self.users) + 1;
        let name = format!("{}{number:05}", if exists { 'u' } else { 'v' });
        let (time, reply) = self.ask(kind, &name)?;
        let status = reply.lines().next().unwrap_or_default().to_owned();
        Ok((time, (status, reply.len())))
    }

    fn ask(&mut self, kind: Kind, name: &str) -> Result<(f64, String), String> {
        self.number += 1;
        let text = self.request(kind, name);
        let call = format!("Call-ID: e{:08}\r\n", self.number);
        let mut buffer = [0; 4096];
        let began = Instant::now();
        self.socket.send(text.as_bytes()).map_err(|e| e.to_string())?;
        loop {
            let length = self.socket.recv(&mut buffer).map_err(|e| format!("{} of {name}: {e}", kind.method))?;
            let time = began.elapsed();
            let reply = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if reply.contains(&call) && !reply.starts_with("SIP/2.0 100") {
                return Ok((time.as_secs_f64() * 1e6, reply));
            }
        }
    }

    fn request(&self, kind: Kind, name: &str) -> String {
        let Kind { method, guess, called } = kind;
        let number = self.number;
        let (from, to) = if called { ("u00001", name) } else { (name, name) };
        let uri = if method == "REGISTER" { format!("sip:{REALM}") } else { format!("sip:{to}@{REALM}") };
        let header = if matches!(method, "REGISTER" | "SUBSCRIBE") { "Authorization" } else { "Proxy-Authorization" };
        let credentials = match guess {
            false => String::new(),
            true => format!(
                "{header}: Digest username=\"{from}\", realm=\"{REALM}\", nonce=\"{}\", uri=\"{uri}\", response=\"{number:064x}\", \
                 algorithm=SHA-256, cnonce=\"c\", qop=auth, nc=00000001\r\n",
                self.nonce
            ),
        };
        let typed = match method {
            "MESSAGE" => "Content-Type: text/plain\r\n",
            "SUBSCRIBE" => "Event: reg\r\nContact: <sip:e@127.0.0.1:5070>\r\n",
            _ => "",
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bKe{number:08}\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}@{REALM}>;tag=e\r\nTo: <sip:{to}@{REALM}>\r\nCall-ID: e{number:08}\r\nCSeq: 1 {method}\r\n\
             {credentials}{typed}Content-Length: 0\r\n\r\n",
            self.own
        )
    }
}

fn report(rows: &[Row], options: &Options, build: &str) -> String {
    let mut text = format!(
        "# Telling users apart\n\nMade by `cargo xtask bench enumeration --tries {} --users {}` ({build}) on {}, {}. Server and prober \
         share this machine.\n\nA fresh pair with the demo's policies, {} users at home on east. For each kind of request {} tries for \
         users that exist and as many for users that do not, one at a time in random order; p is that of a two-sided Mann-Whitney test \
         on the time from sending to the answer. {} kinds are looked at, so users count as told apart by time where p is not above \
         {LEVEL} / {} (Bonferroni). *Alike*: the same statuses and sizes.\n\n\
         | request | credentials | the user is | exists, median µs | does not, median µs | p | alike | told apart |\n|---|---|---|---|---|---|---|---|\n",
        options.tries,
        options.users,
        machine(),
        today(),
        options.users,
        options.tries,
        KINDS.len(),
        KINDS.len()
    );
    for row in rows {
        let Kind { method, guess, called } = row.kind;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {method} | {} | {} | {:.0} | {:.0} | {:.3} | {} | {} |",
            if guess { "wrong password" } else { "none" },
            if called { "called" } else { "asking" },
            row.medians[0],
            row.medians[1],
            row.p,
            if row.alike { "yes" } else { "no" },
            if row.passes() { "no" } else { "yes" }
        );
    }
    text
}
