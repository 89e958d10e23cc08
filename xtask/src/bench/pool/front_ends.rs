//! A pool of three Front Ends, each a process of its own, alone or with a partner of as many.
//!
//! Owns folder, processes and users, and the ways to ask them. What is measured, and what is done to them, is others'. The partner is there to
//! be shipped to: nothing is done to its servers.

use super::super::server::Server;
use super::super::{Binaries, samples};
use super::network::{Network, SERVERS};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The deployment; `EAST1` … stand for the addresses, `GROUPS` for the number of routing groups.
const TOPOLOGY: &str = include_str!("pool.toml");
/// What a paired pool's deployment has besides; `WEST1` … stand for the partner's addresses.
const PARTNER: &str = include_str!("partner.toml");
/// Longest time until every group is led and has all its copies.
const HEALTHY: Duration = Duration::from_secs(120);
/// Between two looks at the pool's health.
const LOOK: Duration = Duration::from_millis(100);

/// What is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    groups: u32,
    paired: bool,
}

impl Shape {
    /// A pool with so many routing groups, and no partner.
    pub(crate) fn alone(groups: u32) -> Self {
        Self { groups, paired: false }
    }

    /// One with a partner of three Front Ends, on the same core, with as many groups.
    pub(crate) fn paired(groups: u32) -> Self {
        Self { groups, paired: true }
    }

    fn topology(self) -> String {
        let partner = if self.paired { PARTNER } else { "" };
        format!("{TOPOLOGY}{partner}").replace("GROUPS", &self.groups.to_string())
    }
}

/// A running pool.
#[derive(Debug)]
pub(crate) struct FrontEnds {
    binaries: Binaries,
    folder: PathBuf,
    data: PathBuf,
    core: Option<u32>,
    servers: [Option<Server>; SERVERS],
    /// The partner's; empty if the pool is not paired.
    partner: Vec<Server>,
    /// How often each was started: each start has a log of its own.
    starts: [u32; SERVERS],
    /// Where they stand.
    pub network: Network,
}

impl FrontEnds {
    /// Creates a deployment in a folder and starts its servers, on one core if one is named.
    pub(crate) fn start(
        binaries: &Binaries,
        folder: &Path,
        network: Network,
        shape: Shape,
        core: Option<u32>,
    ) -> Result<Self, String> {
        let mut pool = Self::create(binaries, folder, network, shape.topology(), core)?;
        for server in 0..if shape.paired { SERVERS } else { 0 } {
            let name = format!("fe{}.west", server + 1);
            let process = pool.process(&name, &name, Vec::new())?;
            pool.partner.push(process);
        }
        pool.started()
    }

    /// Creates a deployment, whose servers do not run yet.
    fn create(
        binaries: &Binaries,
        folder: &Path,
        network: Network,
        text: String,
        core: Option<u32>,
    ) -> Result<Self, String> {
        // The folder of an earlier repeat, if there was one.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let text = (0..SERVERS).fold(text, |text, at| {
            let text = text.replace(&format!("EAST{}", at + 1), &network.address(at));
            text.replace(&format!("WEST{}", at + 1), &network.partner(at))
        });
        let topology = folder.join("topology.toml");
        fs::write(&topology, text).map_err(|e| format!("{}: {e}", topology.display()))?;
        let (servers, partner, starts) = ([None, None, None], Vec::new(), [0; SERVERS]);
        let (binaries, folder, data) = (binaries.clone(), folder.to_owned(), folder.join("data"));
        let pool = Self { binaries, data, folder, core, servers, partner, starts, network };
        let up = ["--data", &pool.data.to_string_lossy(), "up", "--topology", &topology.to_string_lossy()];
        let creating = Server::start_anywhere(&pool.binaries.pairline, &up.map(str::to_owned), &pool.log("up"))?;
        pool.created(creating)?;
        Ok(pool)
    }

    /// Starts the pool's own servers, each in its network, and waits until everything is as it should be.
    fn started(mut self) -> Result<Self, String> {
        self.network.part()?;
        for server in 0..SERVERS {
            self.start_server(server)?;
        }
        self.healthy()?;
        if !self.partner.is_empty() {
            self.steady()?;
        }
        Ok(self)
    }

    /// Waits until the new deployment is healthy, and ends it again.
    fn created(&self, mut creating: Server) -> Result<(), String> {
        self.healthy_while(|| creating.runs()).map(drop).map_err(|error| {
            let said = fs::read_to_string(self.log("up")).unwrap_or_default();
            format!("{error}\n{said}")
        })
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts a server, by its place from 0, with the data that it has.
    pub(crate) fn start_server(&mut self, server: usize) -> Result<(), String> {
        self.starts[server] += 1;
        let log = format!("fe{}-{}", server + 1, self.starts[server]);
        self.servers[server] =
            Some(self.process(&format!("fe{}.east", server + 1), &log, self.network.prefix(server))?);
        Ok(())
    }

    /// Starts the process of a server, with words before its command line.
    fn process(&self, server: &str, log: &str, mut words: Vec<String>) -> Result<Server, String> {
        let config = self.folder_of(server).join("server.toml");
        if let Some(core) = self.core {
            words.splice(0..0, ["taskset", "-c", &core.to_string()].map(str::to_owned));
        }
        words.push(self.binaries.pairline.to_string_lossy().into_owned());
        words.extend(["server", "--config", &config.to_string_lossy(), "--log", "json"].map(str::to_owned));
        let program = words.remove(0);
        Server::start_anywhere(Path::new(&program), &words, &self.log(log))
    }

    /// Ends a server as a power cut would.
    pub(crate) fn kill(&mut self, server: usize) {
        if let Some(mut server) = self.servers[server].take() {
            server.kill_at_once();
        }
    }

    /// Takes a dead server's disk away.
    pub(crate) fn wipe(&self, server: usize) -> Result<(), String> {
        let disk = self.folder_of(&format!("fe{}.east", server + 1)).join("data");
        fs::remove_dir_all(&disk).map_err(|e| format!("{}: {e}", disk.display()))
    }

    fn folder_of(&self, server: &str) -> PathBuf {
        self.data.join("servers").join(format!("{server}.pairline.test"))
    }

    /// Sends a signal to a server.
    pub(crate) fn signal(&self, server: usize, signal: &str) -> Result<(), String> {
        let mut command = Command::new("kill");
        let status = command.args(["-s", signal, &self.pid(server).to_string()]).status();
        match status.map_err(|e| format!("kill: {e}"))?.success() {
            true => Ok(()),
            false => Err(format!("fe{} is gone", server + 1)),
        }
    }

    /// The process of a server.
    pub(crate) fn pid(&self, server: usize) -> u32 {
        self.servers[server].as_ref().map_or(0, Server::pid)
    }

    /// All processes: the pool's own, then its partner's.
    pub(crate) fn pids(&self) -> Vec<u32> {
        (0..SERVERS).map(|server| self.pid(server)).chain(self.partner.iter().map(Server::pid)).collect()
    }

    /// Where a server takes SIP.
    pub(crate) fn sip(&self, server: usize) -> Result<SocketAddr, String> {
        self.socket(server, 5060)
    }

    /// Where a server's API is.
    pub(crate) fn admin(&self, server: usize) -> Result<SocketAddr, String> {
        self.socket(server, 7443)
    }

    fn socket(&self, server: usize, port: u16) -> Result<SocketAddr, String> {
        let host = self.network.address(server);
        format!("{host}:{port}").parse().map_err(|e| format!("{host}: {e}"))
    }

    /// Waits until every group is led and has all its copies. Seconds.
    pub(crate) fn healthy(&self) -> Result<f64, String> {
        self.healthy_while(|| true)
    }

    /// Waits until the pair is steady: each pool has what the other has.
    pub(crate) fn steady(&self) -> Result<(), String> {
        let wait = ["pool", "status", "--wait", "steady", "--timeout", &HEALTHY.as_secs().to_string()];
        self.cli(&wait).map(drop)
    }

    fn healthy_while(&self, mut runs: impl FnMut() -> bool) -> Result<f64, String> {
        let began = Instant::now();
        loop {
            match self.cli(&["pool", "health", "east"]) {
                Ok(_) => return Ok(began.elapsed().as_secs_f64()),
                Err(error) if began.elapsed() >= HEALTHY || !runs() => {
                    return Err(format!("not healthy after {:.0} s: {error}", began.elapsed().as_secs_f64()));
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Runs a command of the command line.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binaries.pairline);
        command.arg("--data").arg(&self.data).args(args).stdin(Stdio::null());
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(format!("pairline {}: {text}{}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
    }

    /// Imports users `u00001` …, each with its name as password.
    pub(crate) fn import(&self, users: u32) -> Result<(), String> {
        let mut csv = String::from("user,password,pool\n");
        for number in 1..=users {
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "u{number:05},u{number:05},east");
        }
        let path = self.folder.join("users.csv");
        fs::write(&path, csv).map_err(|e| format!("{}: {e}", path.display()))?;
        self.cli(&["user", "import", &path.to_string_lossy()]).map(drop)
    }

    /// The generator of requests over HTTPS with what it needs to ask a server.
    pub(crate) fn https(&self, work: &str, server: usize) -> Result<Command, String> {
        let mut command = Command::new(&self.binaries.https);
        command.args([work, "--server", &self.admin(server)?.to_string(), "--authority"]);
        command.arg(self.data.join("authority/authority.pem")).arg("--token-file").arg(self.data.join("admin.token"));
        Ok(command)
    }

    /// Records of all groups at a server.
    pub(crate) fn records(&self, server: usize) -> Result<f64, String> {
        let mut command = self.https("samples", server)?;
        let output = command.args(["--duration", "0.001", "--metric", "pairline_group_records"]).output();
        let output = output.map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let sample = samples::read(&text).pop().filter(|sample| !sample.figures.is_empty());
        sample.map(|sample| sample.figure(0).sum).ok_or_else(|| format!("no metrics: {text}"))
    }

    /// What a server's API answers for each of the first users: name, time in milliseconds since 1970, body.
    pub(crate) fn read(&self, server: usize, path: &str, users: u32) -> Result<Vec<(String, f64, Value)>, String> {
        let mut command = self.https("read", server)?;
        let output = command.args(["--path", path, "--users", &users.to_string()]).output();
        let output = output.map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("reading at fe{}: {}", server + 1, String::from_utf8_lossy(&output.stderr)));
        }
        let line = |line: &str| -> Result<(String, f64, Value), String> {
            let mut line: Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
            if line["status"].as_u64() != Some(200) {
                return Err(format!("fe{} does not say what it has: {line}", server + 1));
            }
            let (user, at) = (line["user"].as_str().unwrap_or_default().to_owned(), line["at"].as_f64());
            Ok((user, at.unwrap_or(f64::NAN), line["body"].take()))
        };
        String::from_utf8_lossy(&output.stdout).lines().map(line).collect()
    }
}
