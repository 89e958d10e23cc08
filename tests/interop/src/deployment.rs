//! One deployment of two paired pools, started as an operator starts it.
//!
//! Owns the `up` process, servers that were started again by hand, and the data folder. Speaks to them through the command line only.

use crate::program::{Program, signal};
use crate::wait::until;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Time for both pools to be ready.
const START: Duration = Duration::from_secs(90);

/// SIP domain of the demo.
pub const DOMAIN: &str = "pairline.test";

/// What one command of the command line said.
#[derive(Debug)]
pub struct Said {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Its standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.out, self.err))
    }

    /// Both outputs, for messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Two paired pools.
pub struct Deployment {
    binary: PathBuf,
    folder: PathBuf,
    up: Program,
    again: Vec<Program>,
}

/// The binary under test: `PAIRLINE_BIN`, or the release build.
pub fn binary() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = std::env::var_os("PAIRLINE_BIN").map_or_else(|| target.join("release/pairline"), PathBuf::from);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not built", path.display())) }
}

impl Deployment {
    /// Starts a fresh one in `folder` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready, with its last lines.
    pub fn start(binary: &Path, folder: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(binary);
        command.arg("up").arg("--fresh").args(options).arg("--data").arg(folder);
        let up = Program::start("pairline up", &mut command);
        up.expect_line(0, START, "Ctrl-C stops everything");
        Self { binary: binary.to_owned(), folder: folder.to_owned(), up, again: Vec::new() }
    }

    /// The `up` process.
    pub fn up(&self) -> &Program {
        &self.up
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command of the command line.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn cli(&self, args: &[&str]) -> Said {
        let output: Output = Command::new(&self.binary)
            .arg("--data")
            .arg(&self.folder)
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("pairline {args:?}: {error}"));
        Said {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed.
    ///
    /// # Panics
    /// If it does not, with what it said.
    pub fn must(&self, args: &[&str]) -> Said {
        let said = self.cli(args);
        assert!(said.success, "pairline {}: {}", args.join(" "), said.all());
        said
    }

    /// The password of a demo user.
    ///
    /// # Panics
    /// If there is none.
    pub fn password(&self, user: &str) -> String {
        let path = self.folder.join("clients").join(user).join("password");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    /// A ready-made baresip configuration of a demo user: `address`, `srv` or `outbound`.
    pub fn baresip_folder(&self, user: &str, variant: &str) -> PathBuf {
        self.folder.join("clients").join(user).join("baresip").join(variant)
    }

    /// The configuration of the only server of a pool.
    ///
    /// # Panics
    /// If there is none.
    pub fn server_config(&self, pool: &str) -> PathBuf {
        let servers = self.folder.join("servers");
        let entries = fs::read_dir(&servers).unwrap_or_else(|error| panic!("{}: {error}", servers.display()));
        let mut folders = entries.flatten().map(|entry| entry.path());
        let of_pool =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().split('.').any(|part| part == pool));
        folders
            .find(of_pool)
            .unwrap_or_else(|| panic!("no server of {pool} in {}", servers.display()))
            .join("server.toml")
    }

    /// Process id of the server of a pool.
    pub fn server_pid(&self, pool: &str) -> Option<u32> {
        let config = self.server_config(pool);
        let config = config.to_string_lossy();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("\0server\0") && line.contains(&*config)
        })
    }

    /// Kills the server of a pool (SIGKILL) and waits until it is gone.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self, pool: &str) {
        let pid = self.server_pid(pool).unwrap_or_else(|| panic!("{pool} does not run"));
        assert!(signal(pid, "KILL"), "{pool} cannot be killed");
        self.again.retain_mut(|program| program.ended().is_none());
        until(Duration::from_secs(10), "the killed server is gone", || self.server_pid(pool).is_none().then_some(()));
    }

    /// Starts the server of a pool again, as `up` tells an operator to.
    pub fn start_again(&mut self, pool: &str) {
        let mut command = Command::new(&self.binary);
        command.arg("server").arg("--config").arg(self.server_config(pool));
        self.again.push(Program::start(&format!("{pool} again"), &mut command));
    }

    /// The status of both pools.
    ///
    /// # Panics
    /// If no server answers.
    pub fn status(&self) -> Value {
        self.must(&["pool", "status", "--json"]).json()
    }

    /// Stops everything. True if it stopped cleanly when asked.
    pub fn stop(&mut self) -> bool {
        let again = self.again.iter_mut().map(Program::stop).filter(|clean| !clean).count() == 0;
        self.up.stop() && again
    }
}
