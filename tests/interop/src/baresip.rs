//! One baresip, commanded over its control port.
//!
//! Owns the process and the connection. Commands and events are netstrings of JSON (module `ctrl_tcp`); the SIP trace goes to the
//! program's lines.

use crate::program::Program;
use crate::wait::until;
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Time for the control port to open.
const START: Duration = Duration::from_secs(20);
/// Time for an answer to a command.
const ANSWER: Duration = Duration::from_secs(10);

/// One baresip.
pub struct Baresip {
    name: String,
    program: Program,
    control: TcpStream,
    read: Vec<u8>,
    events: Vec<Value>,
}

impl Baresip {
    /// Starts one with the configuration in `folder`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(name: &str, folder: &Path) -> Self {
        let config = folder.join("config");
        let text = fs::read_to_string(&config).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
        let address = text.lines().find_map(|line| line.strip_prefix("ctrl_tcp_listen"));
        let address: SocketAddr =
            address.and_then(|a| a.trim().parse().ok()).expect("the configuration names a control port");
        let program =
            Program::start(&format!("baresip of {name}"), Command::new("baresip").arg("-s").arg("-f").arg(folder));
        let control = until(START, "baresip opens its control port", || TcpStream::connect(address).ok());
        control.set_read_timeout(Some(Duration::from_millis(100))).expect("a fixed time-out is valid");
        Self { name: name.to_owned(), program, control, read: Vec::new(), events: Vec::new() }
    }

    /// The process, whose lines hold the SIP trace.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Gives a command and its answer.
    ///
    /// # Panics
    /// If there is no answer, or it is a refusal.
    pub fn command(&mut self, command: &str, parameters: &str) -> String {
        let text = json!({"command": command, "params": parameters, "token": command}).to_string();
        self.control.write_all(format!("{}:{text},", text.len()).as_bytes()).expect("the control connection lives");
        let ends = Instant::now() + ANSWER;
        let answer = loop {
            assert!(Instant::now() < ends, "{}: no answer to `{command}`\n{}", self.name, self.program.tail(20));
            self.receive();
            let at = self.events.iter().position(|event| event["response"] == true && event["token"] == command);
            if let Some(at) = at {
                break self.events.remove(at);
            }
        };
        assert_eq!(answer["ok"], true, "{}: `{command} {parameters}`: {answer}", self.name);
        answer["data"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all `count` registrations of its account are accepted.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn registered(&mut self, limit: Duration) {
        let what = format!("{} is registered", self.name);
        let ends = Instant::now() + limit;
        loop {
            let told = self.command("reginfo", "");
            if told.contains("OK") && !told.contains("ERR") && !told.contains("zzz") {
                return;
            }
            assert!(
                Instant::now() < ends,
                "not within {} s: {what}: {told}\n{}",
                limit.as_secs(),
                self.program.tail(40)
            );
            self.receive();
        }
    }

    /// Waits for an event of this type, oldest first, and takes it.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn event(&mut self, kind: &str, limit: Duration) -> Value {
        let ends = Instant::now() + limit;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["type"] == kind) {
                return self.events.remove(at);
            }
            assert!(
                Instant::now() < ends,
                "{}: no {kind} within {} s; events: {:?}\n{}",
                self.name,
                limit.as_secs(),
                self.events.iter().map(|e| e["type"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>(),
                self.program.tail(40)
            );
            self.receive();
        }
    }

    /// Forgets events that nobody waits for.
    pub fn forget(&mut self) {
        self.receive();
        self.events.clear();
    }

    /// Calls somebody and waits until both sides have the call.
    ///
    /// # Panics
    /// If the call is not established in time.
    pub fn call(&mut self, other: &mut Baresip, address: &str, limit: Duration) {
        self.forget();
        other.forget();
        self.command("dial", address);
        self.event("CALL_ESTABLISHED", limit);
        other.event("CALL_ESTABLISHED", limit);
    }

    /// Hangs up and waits until the other side knows.
    ///
    /// # Panics
    /// If the other side does not learn of it in time.
    pub fn hang_up(&mut self, other: &mut Baresip, limit: Duration) {
        self.command("hangup", "");
        other.event("CALL_CLOSED", limit);
    }

    /// Writes to a contact (by its place in the contact list) and waits until the other side has shown the text.
    ///
    /// # Panics
    /// If the text does not arrive in time.
    pub fn write(&mut self, other: &Baresip, user: &str, text: &str, limit: Duration) {
        let wanted = format!("sip:{user}@");
        // The list does not wrap round: first towards its begin, then towards its end.
        let way = ["contact_prev"; 10].into_iter().chain(["contact_next"; 10]);
        for step in way {
            if self.command(step, "").contains(&wanted) {
                break;
            }
        }
        let mark = other.program.mark();
        self.command("message", text);
        other.program.expect_line(mark, limit, text);
    }

    /// Takes what has come over the control connection.
    fn receive(&mut self) {
        let mut chunk = [0; 8192];
        match self.control.read(&mut chunk) {
            Ok(0) => panic!("{}: baresip has ended:\n{}", self.name, self.program.tail(20)),
            Ok(length) => self.read.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{}: control connection: {error}", self.name),
        }
        while let Some((event, used)) = netstring(&self.read) {
            self.events.push(event);
            self.read.drain(..used);
        }
    }
}

/// The first whole netstring of JSON and its length.
fn netstring(bytes: &[u8]) -> Option<(Value, usize)> {
    let colon = bytes.iter().position(|b| *b == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    (bytes.len() > end).then(|| (serde_json::from_slice(&bytes[colon + 1..end]).unwrap_or(Value::Null), end + 1))
}
