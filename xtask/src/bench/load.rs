//! One run of `pairline-load`.
//!
//! Owns its command line and the reading of its report.

use super::{Binaries, Options};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;

/// Processes whose time is told apart: two pools of three servers.
pub(crate) const MOST: usize = 6;

/// What one run measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Operations a second.
    pub rate: f64,
    /// Processor time of all server processes per operation, in microseconds.
    pub cpu: f64,
    /// What of it was in the kernel, in microseconds: sockets and disks.
    pub kernel: f64,
    /// Processor time of the first process alone.
    pub cpu_first: f64,
    /// Of each of the first processes: processor time, and what of it was in the kernel; 0 where there are no more.
    pub each: [(f64, f64); MOST],
    /// Memory of the first process, in bytes.
    pub memory_first: f64,
    /// Memory of all, in bytes.
    pub memory: f64,
    /// 99th percentile of latency, in microseconds.
    pub p99: f64,
}

/// Runs `pairline-load register` with these further arguments.
pub(crate) fn run(
    binaries: &Binaries,
    options: &Options,
    server: SocketAddr,
    pids: &[u32],
    more: &[&str],
) -> Result<Figures, String> {
    run_as("register", binaries, options, server, pids, more)
}

/// The same with that kind of traffic.
pub(crate) fn run_as(
    traffic: &str,
    binaries: &Binaries,
    options: &Options,
    server: SocketAddr,
    pids: &[u32],
    more: &[&str],
) -> Result<Figures, String> {
    let mut command = Command::new(&binaries.load);
    command.args([traffic, "--json", "--server", &server.to_string(), "--pin", &options.load_core.to_string()]);
    for (name, value) in [("--users", options.users), ("--duration", options.seconds)] {
        if !more.contains(&name) {
            command.args([name, &value.to_string()]);
        }
    }
    for pid in pids {
        command.args(["--cpu-pid", &pid.to_string()]);
    }
    let output = command.args(more).output().map_err(|e| format!("pairline-load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("pairline-load: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let failed = report["failed"].as_u64().unwrap_or(u64::MAX);
    let operations = report["operations"].as_u64().unwrap_or(0);
    if operations == 0 || failed > operations / 1000 {
        return Err(format!("too many failures: {report}"));
    }
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let cost = &report["server"];
    Ok(Figures {
        rate: number(&report["rate"]),
        cpu: number(&cost["cpu_us_per_operation"]),
        kernel: number(&cost["kernel_us_per_operation"]),
        cpu_first: number(&cost["processes"][0]["cpu_us_per_operation"]),
        each: std::array::from_fn(|nth| {
            let of = |name: &str| cost["processes"][nth].get(name).map_or(0.0, number);
            (of("cpu_us_per_operation"), of("kernel_us_per_operation"))
        }),
        memory_first: number(&cost["processes"][0]["memory"]),
        memory: number(&cost["memory"]),
        p99: number(&report["latency"]["p99"]),
    })
}
