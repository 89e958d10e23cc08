//! One deployment of two paired pools, started as an operator starts it.
//!
//! Owns the `up` process, servers that were started again by hand, and the data folder. Speaks to them through the command line only.

use crate::names;
use crate::program::{Program, signal};
use crate::tmpfs::Tmpfs;
use crate::wait::until;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Time for both pools to be ready.
const START: Duration = Duration::from_secs(90);

/// Last line of the greeting: passwords stand above it, what the servers say stands below.
const GREETED: &str = "Ctrl-C stops everything";

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
    /// Earlier `up`s of this folder.
    past: Vec<Program>,
    /// Servers started by hand.
    again: Vec<Program>,
    /// What must not be in any log, beside what lies in the folder.
    secrets: Vec<String>,
    disk: Option<Tmpfs>,
}

/// The binary under test: `PAIRLINE_BIN`, or the release build.
pub fn binary() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let path = std::env::var_os("PAIRLINE_BIN").map_or_else(|| target.join("release/pairline"), PathBuf::from);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not built", path.display())) }
}

/// A server's process that is stopped; goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen(u32);

impl Drop for Frozen {
    fn drop(&mut self) {
        // A process that is gone needs no more.
        let _ = signal(self.0, "CONT");
    }
}

impl Deployment {
    /// Starts a fresh one in `folder` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready, with its last lines.
    pub fn start(binary: &Path, folder: &Path, options: &[&str]) -> Self {
        Self::start_resolving(binary, folder, options, None)
    }

    /// The same, with other DNS servers than the machine's: those of that `resolv.conf`.
    ///
    /// # Panics
    /// If it does not get ready, with its last lines.
    pub fn start_resolving(binary: &Path, folder: &Path, options: &[&str], resolv_conf: Option<&Path>) -> Self {
        let up = run_up(binary, folder, &[&["--fresh"], options].concat(), resolv_conf);
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Self { binary, folder, up, past: Vec::new(), again: Vec::new(), secrets: Vec::new(), disk: None }
    }

    /// Starts `up` on the same folder after it was ended, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not get ready, with its last lines.
    pub fn up_again(&mut self, options: &[&str]) {
        let up = run_up(&self.binary, &self.folder, options, None);
        self.past.push(std::mem::replace(&mut self.up, up));
    }

    /// Ends `up` as Ctrl-C does, and servers started by hand. True if everything ended cleanly.
    pub fn interrupt(&mut self) -> bool {
        let again = self.again.iter_mut().map(Program::stop).filter(|clean| !clean).count() == 0;
        self.up.interrupt() && self.up.ended().is_some_and(|status| status.success()) && again
    }

    /// The `up` process.
    pub fn up(&self) -> &Program {
        &self.up
    }

    /// The last lines of `up` and of servers started by hand.
    pub fn last_lines(&self) -> String {
        let again: Vec<String> = self.again.iter().map(|server| format!("by hand:\n{}", server.tail(10))).collect();
        format!("last lines of `pairline up`:\n{}\n{}", self.up.tail(60), again.join("\n"))
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
        self.cli_in(&self.folder, args, "")
    }

    /// The same with something on its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn cli_with(&self, args: &[&str], input: &str) -> Said {
        self.cli_in(&self.folder, args, input)
    }

    /// The same with another data folder.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn cli_in(&self, folder: &Path, args: &[&str], input: &str) -> Said {
        let mut command = Command::new(&self.binary);
        command.arg("--data").arg(folder).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = || -> std::io::Result<Output> {
            let mut child = command.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // A command that reads nothing may be gone already.
                let _ = pipe.write_all(input.as_bytes());
            }
            child.wait_with_output()
        };
        let output = { run }().unwrap_or_else(|error| panic!("pairline {args:?}: {error}"));
        Said {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command of the command line that is not waited for.
    pub fn start_cli(&self, args: &[&str]) -> Program {
        let mut command = Command::new(&self.binary);
        command.arg("--data").arg(&self.folder).args(args);
        Program::start(&format!("pairline {}", args.join(" ")), &mut command)
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

    /// The certificate of the deployment's authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority/authority.pem")
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
        self.gone(pid);
    }

    /// Stops the server of a pool (SIGSTOP) until what this gives is dropped: it is silent, and nobody is told so.
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&self, pool: &str) -> Frozen {
        let pid = self.server_pid(pool).unwrap_or_else(|| panic!("{pool} does not run"));
        assert!(signal(pid, "STOP"), "{pool} cannot be stopped");
        Frozen(pid)
    }

    /// Waits until a server's process is over: its sockets and its store's lock are free only then, a moment after its command line
    /// has gone from the list of processes.
    ///
    /// # Panics
    /// If it still runs after a while.
    pub fn gone(&mut self, pid: u32) {
        until(Duration::from_secs(20), "the server's process is over", || {
            self.again.iter_mut().for_each(|program| {
                program.ended();
            });
            // A dead main thread is not the end: the files stay open until the last thread has gone.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            state.is_none_or(|state| state.starts_with('Z') && threads <= 1).then_some(())
        });
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

    /// Address of the admin API of a pool's only server, for `--server`.
    ///
    /// # Panics
    /// If the demo has no such pool.
    pub fn admin(pool: &str) -> &'static str {
        match pool {
            "east" => "127.0.1.1:7443",
            "west" => "127.0.2.1:7443",
            other => panic!("the demo has no pool {other}"),
        }
    }

    /// The row of a pool in the status that one server gives.
    ///
    /// # Panics
    /// If that server does not answer.
    pub fn pool_at(&self, server: &str, pool: &str) -> Value {
        let status = self.must(&["--server", Self::admin(server), "pool", "status", "--json"]).json();
        let rows = status["pools"].as_array().cloned().unwrap_or_default();
        let found = rows.into_iter().find(|row| row["name"] == pool);
        found.unwrap_or_else(|| panic!("no pool {pool} in {status}"))
    }

    /// Puts the data of a pool's server on a small file system of its own. Its server must not run.
    ///
    /// # Panics
    /// If that fails.
    pub fn put_on_small_disk(&mut self, pool: &str, mebibytes: u32) {
        let data = self.server_config(pool).with_file_name("data");
        self.disk = Some(Tmpfs::over(&data, mebibytes));
    }

    /// The small file system.
    ///
    /// # Panics
    /// If there is none.
    pub fn disk(&self) -> &Tmpfs {
        self.disk.as_ref().expect("the group has put a server on a small disk")
    }

    /// Remembers something that must not be in any log.
    pub fn keep_secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    /// What was to be remembered.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Every line that the servers have said, without the greetings of `up`.
    pub fn server_lines(&self) -> Vec<String> {
        let mut all = Vec::new();
        for up in self.past.iter().chain([&self.up]) {
            let lines = up.lines(0);
            let greeted = lines.iter().position(|line| line.contains(GREETED)).map_or(0, |at| at + 1);
            all.extend(lines.into_iter().skip(greeted));
        }
        all.extend(self.again.iter().flat_map(|server| server.lines(0)));
        all
    }

    /// Stops everything. True if it stopped cleanly when asked.
    pub fn stop(&mut self) -> bool {
        let again = self.again.iter_mut().map(Program::stop).filter(|clean| !clean).count() == 0;
        let clean = self.up.stop() && again;
        self.disk = None;
        clean
    }
}

/// Runs `up` and waits until it is ready.
fn run_up(binary: &Path, folder: &Path, options: &[&str], resolv_conf: Option<&Path>) -> Program {
    let mut command = Command::new(binary);
    command.arg("up").args(options).arg("--data").arg(folder);
    if let Some(file) = resolv_conf {
        command = names::resolving(&command, file);
    }
    let up = Program::start("pairline up", &mut command);
    up.expect_line(0, START, GREETED);
    up
}
