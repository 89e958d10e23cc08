//! Pairline under measurement: two paired pools as `up` starts them, every registration committed to disk and shipped; or a
//! Standard Edition pool alone, which has nobody to ship to.
//!
//! Owns the start, the users, and the processes' ids.

use super::server::{self, Server};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The deployment of one pool; `EAST` stands for its address.
const ALONE: &str = include_str!("alone.toml");

/// A running pair, or a pool alone.
#[derive(Debug)]
pub(crate) struct Pairline {
    binary: PathBuf,
    data: PathBuf,
    server: Server,
    paired: bool,
    /// SIP of the pool that the users are at home on.
    pub address: SocketAddr,
}

impl Pairline {
    /// Starts a fresh pair and adds users `u00001` … at home on east, each with its name as password.
    pub(crate) fn start(binary: &Path, folder: &Path, core: u32, users: u32) -> Result<Self, String> {
        let data = folder.join("pairline");
        let args = ["up", "--fresh", "--data", &data.to_string_lossy()].map(str::to_owned);
        let server = Server::start(core, binary, &args, &folder.join("pairline.log"))?;
        let address = SocketAddr::from(([127, 0, 1, 1], 5060));
        let pair = Self { binary: binary.to_owned(), data, server, paired: true, address };
        server::answers(address, Duration::from_secs(60))?;
        pair.cli(&["pool", "status", "--wait", "steady", "--timeout", "60"])?;
        pair.import(folder, users)?;
        Ok(pair)
    }

    /// Starts a fresh pool that is not paired, with the same users: its registrations are committed to disk and not shipped.
    pub(crate) fn start_alone(binary: &Path, folder: &Path, core: u32, users: u32) -> Result<Self, String> {
        let data = folder.join("alone");
        // The folder of an earlier repeat, if there was one.
        let _ = fs::remove_dir_all(&data);
        let host = format!("127.{}.73.1", std::process::id() % 250 + 1);
        let topology = folder.join("alone.toml");
        fs::write(&topology, ALONE.replace("EAST", &host)).map_err(|e| format!("{}: {e}", topology.display()))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let args = ["--data".to_owned(), text(&data), "up".to_owned(), "--topology".to_owned(), text(&topology)];
        let server = Server::start(core, binary, &args, &folder.join("alone.log"))?;
        let address = format!("{host}:5060").parse().map_err(|e| format!("{host}: {e}"))?;
        let pool = Self { binary: binary.to_owned(), data, server, paired: false, address };
        server::answers(address, Duration::from_secs(60))?;
        pool.import(folder, users)?;
        Ok(pool)
    }

    fn import(&self, folder: &Path, users: u32) -> Result<(), String> {
        let mut csv = String::from("user,password,pool\n");
        for number in 1..=users {
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "u{number:05},u{number:05},east");
        }
        let path = folder.join("users.csv");
        fs::write(&path, csv).map_err(|e| format!("{}: {e}", path.display()))?;
        self.cli(&["user", "import", &path.to_string_lossy()])?;
        self.settle()
    }

    /// The file of the deployment's authority.
    pub(crate) fn authority(&self) -> String {
        self.data.join("authority/authority.pem").to_string_lossy().into_owned()
    }

    /// Publishes values of policies in the place of those in force, each by its key.
    pub(crate) fn publish(&self, folder: &Path, values: &[(&str, u32)]) -> Result<(), String> {
        let topology = folder.join("changed.toml");
        fs::write(&topology, with_values(&self.cli(&["topology", "show"])?, values)?)
            .map_err(|e| format!("{}: {e}", topology.display()))?;
        self.cli(&["topology", "publish", &topology.to_string_lossy()]).map(drop)
    }

    /// Waits until the partner holds everything.
    pub(crate) fn settle(&self) -> Result<(), String> {
        if !self.paired {
            return Ok(());
        }
        self.cli(&["pool", "sync", "east"]).map(drop)
    }

    fn cli(&self, args: &[&str]) -> Result<String, String> {
        let output =
            Command::new(&self.binary).arg("--data").arg(&self.data).args(args).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("pairline {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// The processes of the servers: the one that serves the users first.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, String> {
        let of_pool = |pool: &str| {
            children(self.server.pid()).into_iter().find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&format!(".{pool}."))
            })
        };
        match (of_pool("east"), of_pool("west")) {
            (Some(east), Some(west)) => Ok(vec![east, west]),
            (Some(east), None) if !self.paired => Ok(vec![east]),
            _ => Err("the servers' processes are not found".to_owned()),
        }
    }
}

/// A topology's text with other values for these keys, each of which has to be there.
fn with_values(text: &str, values: &[(&str, u32)]) -> Result<String, String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in values {
        let is_it = |line: &&mut String| line.split_once(" = ").is_some_and(|(name, _)| name == *key);
        let line = lines.iter_mut().find(is_it).ok_or_else(|| format!("the topology has no {key}:\n{text}"))?;
        *line = format!("{key} = {value}");
    }
    Ok(lines.join("\n") + "\n")
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<u32>>()).collect()
}

#[cfg(test)]
mod tests {
    //! The edit of a topology.

    use super::*;

    #[test]
    fn values_of_keys_are_replaced_and_one_that_is_not_there_is_an_error() {
        let text = "[policies]\nexpiry = 20\nmax_expiry = 20\n";
        assert_eq!(with_values(text, &[("max_expiry", 7)]).unwrap(), "[policies]\nexpiry = 20\nmax_expiry = 7\n");
        assert!(with_values(text, &[("y", 7)]).is_err());
    }
}
