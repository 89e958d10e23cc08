//! A fresh pair of pools on loopback addresses of its own: the demo's policies, two server processes, no users.
//!
//! Owns folder, addresses and processes, and the ways to ask them. What is measured is the benchmark's.

use super::Binaries;
use super::delay;
use super::samples::{self, Sample, Sampler};
use super::server::{self, Server};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The deployment; `EAST` and `WEST` stand for the addresses.
const TOPOLOGY: &str = include_str!("pair.toml");
/// Groups that each pool ships: its routing groups.
pub(crate) const GROUPS: u32 = 32;
/// Time for servers to answer.
const START: Duration = Duration::from_secs(60);
/// Port of the admin API.
const ADMIN: u16 = 7443;
/// Port of SIP.
const SIP: u16 = 5060;
/// Port of the link.
const LINK: u16 = 7444;
/// Port of west's link behind a proxy.
const FAR_LINK: u16 = 7454;

/// One of both pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Has the management store and dials the link.
    East,
    /// Its partner.
    West,
}

impl Side {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::East => "east",
            Side::West => "west",
        }
    }
}

/// A running pair.
#[derive(Debug)]
pub(crate) struct Pair {
    binaries: Binaries,
    folder: PathBuf,
    data: PathBuf,
    hosts: [String; 2],
    east: Option<Server>,
    west: Option<Server>,
}

impl Pair {
    /// Creates a deployment in a folder and starts both servers, with half of `rtt` on each direction of their link.
    pub(crate) fn start(binaries: &Binaries, folder: &Path, rtt: Duration) -> Result<Self, String> {
        Self::start_with(binaries, folder, rtt, &[])
    }

    /// The same with other values in the topology's text: each first text is replaced by the second.
    pub(crate) fn start_with(
        binaries: &Binaries,
        folder: &Path,
        rtt: Duration,
        edits: &[(&str, &str)],
    ) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        // Of its own, so that neither a demo nor another benchmark is in the way.
        let own = std::process::id() % 250 + 1;
        let hosts = [format!("127.{own}.71.1"), format!("127.{own}.72.1")];
        let topology = folder.join("topology.toml");
        let text = TOPOLOGY.replace("EAST", &hosts[0]).replace("WEST", &hosts[1]);
        let text = edits.iter().fold(text, |text, (from, to)| text.replace(from, to));
        fs::write(&topology, text).map_err(|e| format!("{}: {e}", topology.display()))?;
        let (binaries, data) = (binaries.clone(), folder.join("data"));
        let mut pair = Self { binaries, folder: folder.to_owned(), data, hosts, east: None, west: None };
        let up = ["--data", &pair.data.to_string_lossy(), "up", "--topology", &topology.to_string_lossy()];
        let creating = Server::start_anywhere(&pair.binaries.pairline, &up.map(str::to_owned), &folder.join("up.log"))?;
        pair.steady()?;
        drop(creating);
        if !rtt.is_zero() {
            pair.lengthen(rtt)?;
        }
        pair.start_server(Side::East)?;
        pair.start_server(Side::West)?;
        pair.steady()?;
        Ok(pair)
    }

    /// West accepts its link elsewhere, and a proxy stands where east dials.
    fn lengthen(&self, rtt: Duration) -> Result<(), String> {
        let path = self.config(Side::West);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let far = self.address(Side::West, FAR_LINK)?;
        let text = format!("{text}\n[override]\nlink = \"{far}\"\n");
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        delay::start(self.address(Side::West, LINK)?, far, rtt / 2)
    }

    fn host(&self, side: Side) -> &str {
        &self.hosts[usize::from(side == Side::West)]
    }

    fn address(&self, side: Side, port: u16) -> Result<SocketAddr, String> {
        format!("{}:{port}", self.host(side)).parse().map_err(|e| format!("{}: {e}", self.host(side)))
    }

    fn server_folder(&self, side: Side) -> PathBuf {
        self.data.join("servers").join(format!("fe1.{}.pairline.test", side.name()))
    }

    fn config(&self, side: Side) -> PathBuf {
        self.server_folder(side).join("server.toml")
    }

    /// Starts a side's server.
    pub(crate) fn start_server(&mut self, side: Side) -> Result<(), String> {
        let args = ["server", "--config", &self.config(side).to_string_lossy()].map(str::to_owned);
        let log = self.folder.join(format!("{}.log", side.name()));
        let server = Server::start_anywhere(&self.binaries.pairline, &args, &log)?;
        match side {
            Side::East => self.east = Some(server),
            Side::West => self.west = Some(server),
        }
        Ok(())
    }

    /// Ends west's server and empties its disk.
    pub(crate) fn lose_west(&mut self) -> Result<(), String> {
        self.west = None;
        let disk = self.server_folder(Side::West).join("data");
        fs::remove_dir_all(&disk).map_err(|e| format!("{}: {e}", disk.display()))
    }

    /// Waits until the pair is steady; asked again while its servers do not answer yet.
    pub(crate) fn steady(&self) -> Result<(), String> {
        let until = Instant::now() + START;
        loop {
            match self.cli(&["pool", "status", "--wait", "steady", "--timeout", "120"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until west holds everything that east has.
    pub(crate) fn settle(&self) -> Result<(), String> {
        self.cli(&["pool", "sync", "east"]).map(drop)
    }

    /// Where a side takes SIP.
    pub(crate) fn sip(&self, side: Side) -> Result<SocketAddr, String> {
        self.address(side, SIP)
    }

    /// The process of a side's server.
    pub(crate) fn pid(&self, side: Side) -> u32 {
        self.server(side).map_or(0, Server::pid)
    }

    /// Keeps both servers, with all their threads, on one core.
    pub(crate) fn pin(&self, core: u32) -> Result<(), String> {
        for side in [Side::East, Side::West] {
            let mut command = Command::new("taskset");
            command.args(["-a", "-c", "-p", &core.to_string(), &self.pid(side).to_string()]);
            let output = command.output().map_err(|e| format!("taskset: {e}"))?;
            if !output.status.success() {
                return Err(format!("taskset: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(())
    }

    /// Runs a command of the command line.
    pub(crate) fn cli(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binaries.pairline);
        let output = command.arg("--data").arg(&self.data).args(args).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("pairline {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
    }

    /// Imports users `u0000001` …, user n at home on pool n modulo their number, each with so many others as contacts. Seconds.
    pub(crate) fn import(&self, users: u32, contacts: u32, pools: &[&str]) -> Result<f64, String> {
        let mut csv = String::from("user,password,pool,contacts\n");
        for (number, pool) in (1..=users).zip(pools.iter().cycle()) {
            // Writing to a String cannot fail.
            let _ = write!(csv, "u{number:07},u{number:07},{pool},");
            for other in 1..=contacts {
                let separator = if other == 1 { "" } else { ";" };
                let _ = write!(csv, "{separator}u{:07}", (number + other) % users + 1);
            }
            csv.push('\n');
        }
        let path = self.folder.join("users.csv");
        fs::write(&path, csv).map_err(|e| format!("{}: {e}", path.display()))?;
        let answer = self.cli(&["--json", "user", "import", &path.to_string_lossy()])?;
        let answer: Value = serde_json::from_str(&answer).map_err(|e| format!("{answer}: {e}"))?;
        if answer["added"].as_u64() != Some(u64::from(users)) {
            return Err(format!("not every user was added: {answer}"));
        }
        answer["took_ms"].as_f64().map(|ms| ms / 1000.0).ok_or_else(|| format!("no time: {answer}"))
    }

    /// Whether a pool's groups are equal on both sides: how many of how many.
    pub(crate) fn verify(&self, side: Side) -> Result<String, String> {
        let answer = self.cli(&["--json", "pool", "verify", side.name()])?;
        let answer: Value = serde_json::from_str(&answer).map_err(|e| format!("{answer}: {e}"))?;
        Ok(format!("{} of {}", answer["equal"], answer["groups"]))
    }

    /// Arguments with which `pairline-load-https` reaches a server.
    fn access(&self, side: Side) -> Result<Vec<String>, String> {
        let path = |name: &str| self.data.join(name).to_string_lossy().into_owned();
        let server = self.address(side, ADMIN)?.to_string();
        let args = [
            "--server",
            &server,
            "--authority",
            &path("authority/authority.pem"),
            "--token-file",
            &path("admin.token"),
        ];
        Ok(args.map(str::to_owned).into())
    }

    /// Samples a server's metrics every 20 ms from now on.
    pub(crate) fn sample(&self, side: Side, selectors: &[&str]) -> Result<Sampler, String> {
        let lines = self.folder.join(format!("{}.samples", side.name()));
        Sampler::start(&self.binaries.https, &self.access(side)?, selectors, &lines)
    }

    /// One sample.
    pub(crate) fn look(&self, side: Side, selectors: &[&str]) -> Result<Sample, String> {
        let mut command = Command::new(&self.binaries.https);
        command.arg("samples").args(self.access(side)?).args(["--duration", "0.001"]);
        for selector in selectors {
            command.args(["--metric", selector]);
        }
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        samples::read(&text).pop().filter(|s| !s.figures.is_empty()).ok_or_else(|| format!("no metrics: {text}"))
    }

    /// Sends requests to a server's API and gives their report.
    pub(crate) fn requests(&self, side: Side, more: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.binaries.https);
        let output = command.arg("requests").args(self.access(side)?).args(more).output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).map_err(|_| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn server(&self, side: Side) -> Option<&Server> {
        match side {
            Side::East => self.east.as_ref(),
            Side::West => self.west.as_ref(),
        }
    }

    /// Processor time that a server has used, in seconds.
    pub(crate) fn cpu(&self, side: Side) -> f64 {
        server::cpu(self.pid(side))
    }

    /// Open files and sockets of a server.
    pub(crate) fn descriptors(&self, side: Side) -> f64 {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid(side))).map(Iterator::count);
        // A count of files is far below 2^53.
        open.map_or(f64::NAN, |count| count as f64)
    }

    /// Resident memory of a server, in MiB.
    pub(crate) fn memory(&self, side: Side) -> f64 {
        let pid = self.pid(side);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")).and_then(|n| n.trim().parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }
}

/// The wall clock as samples have it: milliseconds since 1970.
pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
