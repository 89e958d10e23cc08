//! sipvicious, the scanner that everybody on the Internet meets first: svmap looks for servers, svwar for users, svcrack for passwords.
//!
//! Owns the command lines and the reading of what it found, and a server that tells users apart, on which svwar is held: what finds
//! nobody there proves nothing elsewhere.

use crate::deployment::DOMAIN;
use crate::program::Program;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time for any of its runs: each waits some seconds for a last answer.
const ENDS: Duration = Duration::from_secs(60);
/// Local port of the next one.
static NEXT_PORT: AtomicU16 = AtomicU16::new(17_700);
/// What it says in place of an empty table.
const NOTHING: &str = "found nothing";

/// One of its programs at work.
pub struct Scan(Program);

/// What one of its programs found and said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The rows of its table: the two columns.
    pub rows: Vec<(String, String)>,
    /// All that it said.
    pub text: String,
}

impl Scan {
    /// Starts `svmap` for those ports of some hosts.
    pub fn svmap(method: &str, ports: &str, hosts: &[&str]) -> Scan {
        let mut command = Command::new("svmap");
        command.args(["-m", method, "-p", ports]).args(hosts);
        Self::start("svmap", &mut command)
    }

    /// Starts `svwar` for the names in a file; `forced`, although the server does not even say who is unknown.
    pub fn svwar(server: SocketAddr, method: &str, names: &Path, forced: bool) -> Scan {
        let mut command = Command::new("svwar");
        command.args(["-m", method, "--domain", DOMAIN, "-d"]).arg(names).args(forced.then_some("--force"));
        Self::start("svwar", command.arg(format!("udp://{server}")))
    }

    /// Starts `svcrack` for a user with the words in a file. It says when it has tried them all.
    pub fn svcrack(server: SocketAddr, user: &str, words: &Path) -> Scan {
        let mut command = Command::new("svcrack");
        command.args(["-v", "-u", user, "--domain", DOMAIN, "-d"]).arg(words);
        Self::start("svcrack", command.arg(format!("udp://{server}")))
    }

    /// From 127.0.0.1, since svwar and svcrack know an option for another address and do not heed it.
    fn start(name: &str, command: &mut Command) -> Scan {
        // A port of its own each: they send no right ACK, so answers to an INVITE come again when the next one listens already.
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        command.args(["-x", "127.0.0.1", "-P", &port.to_string()]);
        Scan(Program::start(name, command))
    }

    /// What it had found when it ended.
    ///
    /// # Panics
    /// If it does not end, or says neither what it found nor that it found nothing.
    pub fn found(mut self) -> Found {
        let status = self.0.finish(ENDS);
        let lines = self.0.lines(0);
        let rows = rows(&lines);
        let text = lines.join("\n");
        assert!(status.success() && (rows.is_empty() == text.contains(NOTHING)), "{status}: {text}");
        Found { rows, text }
    }
}

/// The rows of the table that it draws, without its head.
fn rows(lines: &[String]) -> Vec<(String, String)> {
    let cells = |line: &String| {
        let (first, second) = line.strip_prefix('|')?.strip_suffix('|')?.split_once('|')?;
        Some((first.trim().to_owned(), second.trim().to_owned()))
    };
    lines.iter().filter_map(cells).skip(1).collect()
}

impl Found {
    /// The shape of the answers that it had no explanation for: status lines and header names.
    pub fn unexplained(&self) -> Vec<String> {
        let answers = self.text.lines().filter_map(|line| line.split_once("Response: '").map(|(_, rest)| rest));
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        answers.map(|answer| answer.split("\\r\\n").map(name).collect::<Vec<_>>().join(" ")).collect()
    }
}

/// A server that challenges some names and has not found the others: what svwar is made for.
pub struct Telltale {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Telltale {
    /// Starts one that has these users.
    ///
    /// # Panics
    /// If no socket is to be had.
    pub fn start(users: &'static [&'static str]) -> Telltale {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
                // A scanner that has ended is answered in vain.
                let _ = socket.send_to(answer(&String::from_utf8_lossy(&buffer[..length]), users).as_bytes(), from);
            }
        });
        Telltale { address, thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Telltale {
    fn drop(&mut self) {
        // An empty datagram ends it. Were it lost, a thread would outlive a test's case, no more.
        let asked = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"", self.address));
        if let (Ok(_), Some(thread)) = (asked, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn answer(request: &str, users: &[&str]) -> String {
    let known = users.iter().any(|user| request.contains(&format!("<sip:{user}@")));
    let status = if known { "401 Unauthorized" } else { "404 Not Found" };
    let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
    let lines: Vec<&str> = request.lines().filter(kept).collect();
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
    let challenge = if known { challenge } else { "" };
    format!("SIP/2.0 {status}\r\n{}\r\n{challenge}Content-Length: 0\r\n\r\n", lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    //! Tables and answers as the programs print them.

    use super::*;

    #[test]
    fn rows_are_those_below_the_head() {
        let text = "+---+\n| Extension | Authentication |\n+===+\n| alice     | reqauth        |\n+---+";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(rows(&lines), [("alice".to_owned(), "reqauth".to_owned())]);
        assert!(rows(&[]).is_empty());
    }

    #[test]
    fn an_answer_is_its_status_and_the_names_of_its_headers() {
        let text =
            "ERROR:TakeASip:Response: 'SIP/2.0 401 Unauthorized\\r\\nVia: SIP/2.0/UDP a:1\\r\\nCSeq: 1 X\\r\\n\\r\\n'";
        let found = Found { rows: Vec::new(), text: text.to_owned() };
        assert_eq!(found.unexplained(), ["SIP/2.0 401 Unauthorized Via CSeq  '"]);
    }

    #[test]
    fn a_telltale_tells() {
        let request = "REGISTER sip:x SIP/2.0\r\nVia: v\r\nFrom: <sip:alice@x>;tag=1\r\nX: y\r\n\r\n";
        assert!(answer(request, &["alice"]).starts_with("SIP/2.0 401 Unauthorized\r\nVia: v\r\nFrom: "));
        assert!(answer(request, &["bob"]).starts_with("SIP/2.0 404 "));
    }
}
