//! The load of a round: the SIP generator and that of changes, and what they noted.
//!
//! Owns their processes and command lines, and the news of how far they are. Does not own what their notes mean.

use super::super::Binaries;
use super::front_ends::FrontEnds;
use super::journal::{self, Change, Line};
use super::network::SERVERS;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Longest time until all users are registered.
const PREPARED: Duration = Duration::from_secs(180);
/// Longest time between two of the generator's lines, of which it writes one a second.
const LINES: Duration = Duration::from_secs(30);
/// First port of the generator: the same in every round, so that users keep their contacts.
const PORT: u32 = 21_000;
/// Users whose lists are changed.
pub(crate) const CHANGED: u32 = 2_000;

/// Offered a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// REGISTER.
    pub registers: f64,
    /// Calls.
    pub calls: f64,
    /// MESSAGE.
    pub messages: f64,
    /// Changes of contact lists.
    pub changes: f64,
}

impl Rates {
    /// A part of what the pool must bear, in percent; messages always so many that users of every group are heard of often.
    pub(crate) fn of(percent: u32) -> Rates {
        let part = f64::from(percent) / 100.0;
        Rates { registers: 2000.0 * part, calls: 100.0 * part, messages: 300.0, changes: 500.0 * part }
    }
}

/// The running load of one round.
#[derive(Debug)]
pub(crate) struct Traffic {
    sip: Child,
    lines: Receiver<Value>,
    changes: Option<Child>,
    folder: PathBuf,
    round: u32,
    load: Load,
}

/// What a round's load is, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Registered users.
    pub users: u32,
    /// Offered.
    pub rates: Rates,
    /// Seconds.
    pub seconds: u32,
    /// A new request that one server refuses with 503, or does not answer, goes to the next one, as by SRV.
    pub goes_on: bool,
}

impl Traffic {
    /// Starts the SIP generator and waits until all users are registered and its traffic goes on; then the changes start.
    pub(crate) fn start(
        binaries: &Binaries,
        pool: &FrontEnds,
        folder: &Path,
        round: u32,
        load: Load,
    ) -> Result<Self, String> {
        let mut command = Command::new(&binaries.load);
        command.args(["drill-traffic", "--json", "--digest", "--user-agent", "SIPp", "--elsewhere"]);
        for server in 0..SERVERS {
            command.args(["--server", &pool.sip(server)?.to_string()]);
        }
        if load.goes_on {
            command.arg("--goes-on");
        }
        let Load { users, rates, seconds, .. } = load;
        let numbers = [
            ("--users", f64::from(users)),
            ("--registers", rates.registers),
            ("--calls", rates.calls),
            ("--messages", rates.messages),
            ("--duration", f64::from(seconds)),
            ("--hold", f64::from(super::faults::HOLD)),
            ("--timeout", 2.0),
            ("--expires", 600.0),
            ("--local-port", f64::from(PORT)),
            ("--sockets", 8.0),
        ];
        for (name, value) in numbers {
            command.args([name, &value.to_string()]);
        }
        command.arg("--journal").arg(folder.join("sip.journal")).arg("--journal-failures");
        let errors = fs::File::create(folder.join("load.log")).map_err(|e| e.to_string())?;
        let mut sip = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("pairline-load: {e}"))?;
        let out = sip.stdout.take().ok_or("pairline-load says nothing")?;
        let (tell, lines) = sync_channel(1024);
        // It ends with the generator's output.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|line: Value| tell.send(line).is_err()) {
                    return;
                }
            }
        });
        let mut traffic = Self { sip, lines, changes: None, folder: folder.to_owned(), round, load };
        traffic.line(PREPARED, |line| line["phase"] == "measure")?;
        traffic.change(pool)?;
        Ok(traffic)
    }

    fn change(&mut self, pool: &FrontEnds) -> Result<(), String> {
        let mut command = pool.https("requests", 0)?;
        for server in 1..SERVERS {
            command.args(["--or-server", &pool.admin(server)?.to_string()]);
        }
        let contact = journal::contact(self.round, "{n}");
        let path = format!("/api/v1/users/{{user}}/contacts/{contact}");
        let body = format!(r#"{{"name":"Bench","op":["bench-{}-{}",{{n}}]}}"#, std::process::id(), self.round);
        command.args(["--method", "PUT", "--path", &path, "--body", &body, "--timeout", "2", "--warmup", "0"]);
        command.args(["--users", &CHANGED.to_string(), "--rate", &self.load.rates.changes.to_string()]);
        command.args(["--duration", &self.load.seconds.to_string(), "--connections", "48", "--journal"]);
        command.arg(self.folder.join("changes.journal"));
        let report = fs::File::create(self.folder.join("changes.json")).map_err(|e| e.to_string())?;
        let errors = report.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(report).stderr(errors);
        self.changes = Some(command.spawn().map_err(|e| format!("pairline-load-https: {e}"))?);
        Ok(())
    }

    /// Waits for a line of the generator.
    fn line(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
        // One line a second: as many as could come within the limit.
        for _ in 0..=limit.as_secs() {
            match self.lines.recv_timeout(LINES) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(error) => {
                    let said = fs::read_to_string(self.folder.join("load.log")).unwrap_or_default();
                    return Err(format!("the generator says nothing: {error} {said}"));
                }
            }
        }
        Err("the generator does not come to its measurement".to_owned())
    }

    /// Lets so many seconds of traffic pass.
    pub(crate) fn pass(&mut self, seconds: u32) -> Result<(), String> {
        for _ in 0..seconds {
            self.line(LINES, |_| true)?;
        }
        Ok(())
    }

    /// Waits for the end, and gives the notes and the generator's own report.
    pub(crate) fn end(mut self) -> Result<(Vec<Line>, Vec<Change>, Value), String> {
        let report =
            self.line(Duration::from_secs(u64::from(self.load.seconds) + 60), |line| line["traffic"].is_string())?;
        if let Some(mut changes) = self.changes.take() {
            let status = changes.wait().map_err(|e| e.to_string())?;
            if !status.success() {
                let said = fs::read_to_string(self.folder.join("changes.json")).unwrap_or_default();
                return Err(format!("pairline-load-https: {said}"));
            }
        }
        let text = |name: &str| {
            let path = self.folder.join(name);
            fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        };
        Ok((journal::read(&text("sip.journal")?), journal::read(&text("changes.journal")?), report))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for child in self.changes.iter_mut().chain([&mut self.sip]) {
            // Already gone is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
