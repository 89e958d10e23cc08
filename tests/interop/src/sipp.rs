//! SIPp with scenarios of our own.
//!
//! Owns the command line and the scenarios' place. What a scenario does is in its file.

use crate::program::Program;
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
        Self { scenario, server, transport: "u1", port, calls: 1, rate: 10, keys: Vec::new(), user: None, others: None }
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
    /// If it does not succeed, with its last lines.
    pub fn run(&self, folder: &Path) {
        let mut program = self.start(folder);
        finish(&mut program);
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
