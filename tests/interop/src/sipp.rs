//! SIPp with scenarios of our own.
//!
//! Owns the command line, the scenarios' place, and what it counts. What a scenario does is in its file.

use crate::program::Program;
use crate::socat::Tunnel;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One run of SIPp.
#[derive(Clone, Debug)]
pub struct Sipp<'a> {
    /// File name of the scenario, without ending.
    pub scenario: &'a str,
    /// The server.
    pub server: SocketAddr,
    /// `u1` (UDP) or `t1` (TCP, one connection).
    pub transport: &'a str,
    /// What its messages name as transport, where that is not what SIPp itself speaks.
    pub wire: Option<&'a str>,
    /// Local SIP port.
    pub port: u16,
    /// Calls in all.
    pub calls: u32,
    /// Calls a second.
    pub rate: u32,
    /// Values of `-key`.
    pub keys: Vec<(&'a str, String)>,
    /// Who authenticates (`-au`, `-ap`).
    pub user: Option<(&'a str, String)>,
    /// Scenario for requests that belong to no call of its own (`-oocsf`).
    pub others: Option<&'a str>,
}

/// The file of a scenario.
fn file_of(scenario: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{scenario}.xml"))
}

impl<'a> Sipp<'a> {
    /// One call of a scenario over UDP.
    pub fn new(scenario: &'a str, server: SocketAddr, port: u16) -> Self {
        let (transport, wire, keys) = ("u1", None, Vec::new());
        Self { scenario, server, transport, wire, port, calls: 1, rate: 10, keys, user: None, others: None }
    }

    /// Over TLS to where that tunnel goes: Debian's SIPp has none of its own.
    pub fn over_tls(&mut self, tunnel: &Tunnel) {
        (self.server, self.transport, self.wire) = (tunnel.address(), "t1", Some("TLS"));
    }

    /// The file with what it counts.
    fn counts(&self) -> String {
        format!("sipp-{}-{}.csv", self.scenario, self.port)
    }

    /// Starts it.
    pub fn start(&self, folder: &Path) -> Program {
        let mut command = Command::new("sipp");
        command.current_dir(folder);
        command.arg("-sf").arg(file_of(self.scenario)).args([
            "-t",
            self.transport,
            "-i",
            "127.0.0.1",
            "-nostdin",
            "-trace_err",
        ]);
        command.args(["-p", &self.port.to_string(), "-m", &self.calls.to_string(), "-r", &self.rate.to_string()]);
        command.args(["-timeout", "40s", "-timeout_error", "-recv_timeout", "20000"]);
        command.args(["-trace_stat", "-stf", &self.counts()]);
        let spoken = if self.transport.starts_with('t') { "TCP" } else { "UDP" };
        command.args(["-key", "wire", self.wire.unwrap_or(spoken)]);
        for (key, value) in &self.keys {
            command.args(["-key", key, value]);
        }
        if let Some((user, password)) = &self.user {
            command.args(["-au", user, "-ap", password]);
        }
        if let Some(others) = self.others {
            command.arg("-oocsf").arg(file_of(others));
        }
        command.arg(self.server.to_string());
        Program::start(&format!("sipp {}", self.scenario), &mut command)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it does not succeed, or if it counted another number of successful calls than it was to make.
    pub fn run(&self, folder: &Path) -> Counts {
        let mut program = self.start(folder);
        finish(&mut program);
        let counts = self.counted(folder);
        assert_eq!((counts.of("SuccessfulCall"), counts.of("FailedCall")), (u64::from(self.calls), 0), "{counts:?}");
        counts
    }

    /// What it had counted when it ended.
    ///
    /// # Panics
    /// If it has left no counts.
    pub fn counted(&self, folder: &Path) -> Counts {
        let path = folder.join(self.counts());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Counts::read(&text).unwrap_or_else(|| panic!("{} has no counts:\n{text}", path.display()))
    }
}

/// What SIPp counted from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// The last line of its file of statistics, by the names of the first one.
    fn read(text: &str) -> Option<Counts> {
        let mut lines = text.lines();
        let names = lines.next()?.split(';');
        let values = lines.last()?.split(';');
        // Times are no counts, and neither is what happened since the line before, `(P)`.
        let count = |(name, value): (&str, &str)| Some((name.strip_suffix("(C)")?.to_owned(), value.parse().ok()?));
        Some(Counts(names.zip(values).filter_map(count).collect()))
    }

    /// One of them, by SIPp's name of it.
    ///
    /// # Panics
    /// If SIPp has no such count.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_else(|| panic!("sipp does not count {name}: {:?}", self.0.keys()))
    }
}

/// Waits for the end of a run that must succeed.
///
/// # Panics
/// If it does not, with its last lines.
pub fn finish(program: &mut Program) {
    let status = program.finish(Duration::from_secs(60));
    assert!(status.success(), "sipp ended with {status}:\n{}", program.tail(60));
}

#[cfg(test)]
mod tests {
    //! The last line counts.

    use super::*;

    #[test]
    fn counts_are_those_of_the_last_line() {
        let text = "Start;CallRate(C);SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);CallLength(C);\n\
                    x\ty;0;0;0;0;00:00:00;\nx\ty;8.4;3;20;1;00:00:02;\n";
        let counts = Counts::read(text).expect("two lines of values");
        assert_eq!((counts.of("SuccessfulCall"), counts.of("FailedCall")), (20, 1));
        assert_eq!(counts.0.len(), 2, "neither rates nor times: {counts:?}");
        assert_eq!(Counts::read("Start;\n"), None);
    }
}
