//! Avalanche: all clients are dropped at one instant and register again, with a challenge each.
//!
//! Owns the run, its figures and their targets (issue 3, "must show" 5).

use super::overload::{self, generator, report_of};
use super::pair::Side;
use super::samples::Sample;
use super::{Binaries, machine, today, write_report};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// By when all clients are to be back, in seconds.
const ALL_BACK_S: f64 = 60.0;
/// What the server says that it admits, and what it admitted and refused.
const RATE: &str = "pairline_admission_units_per_second";
const OVERLOADED: &str = "pairline_overloaded";

/// What was found.
#[derive(Clone, Debug, Default)]
struct Found {
    clients: u64,
    wanted: u64,
    tries: u64,
    /// Seconds until half, 99 % and all were back.
    p50: f64,
    p99: f64,
    all: f64,
    /// Requests sent in each second.
    sent: Vec<f64>,
    /// Registrations accepted in each second.
    accepted: Vec<f64>,
    refused: f64,
    failed: f64,
    /// Lowest and highest rate while overload was declared, if it was.
    rate: Option<(f64, f64)>,
}

/// Measures and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &overload::Options) -> Result<(), String> {
    let pair = overload::start(binaries, folder, options)?;
    let sampler = pair.sample(Side::East, &[RATE, OVERLOADED])?;
    let mut command = generator(&pair, binaries, options, "avalanche")?;
    command.args(["--duration", &options.seconds.to_string(), "--warmup", "0", "--sockets", "64"]);
    let report = report_of(command)?;
    let samples = sampler.end()?;
    let found = Found::new(&report, options.users, &samples);
    println!("{found:?} {}", report["statuses"]);
    write_report(root, "avalanche.md", &text(options, &found))?;
    let missed = missed(&found);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join("; "))) }
}

impl Found {
    fn new(report: &Value, wanted: u32, samples: &[Sample]) -> Found {
        let back = &report["back"];
        let seconds = |name: &str| back["after"][name].as_f64().unwrap_or(f64::NAN) / 1e6;
        let slices = &report["slices"];
        let per_second = (1000.0 / slices["ms"].as_f64().unwrap_or(100.0)).round();
        let values = |name: &str| -> Vec<f64> {
            slices[name].as_array().into_iter().flatten().map(|n| n.as_f64().unwrap_or(f64::NAN)).collect()
        };
        // Ten slices of a tenth of a second.
        let by_second = |values: Vec<f64>| -> Vec<f64> {
            values.chunks((per_second as usize).max(1)).map(|second| second.iter().sum()).collect()
        };
        let busy: Vec<f64> = samples.iter().filter(|s| s.figure(1).max > 0.0).map(|s| s.figure(0).max).collect();
        let least = busy.iter().copied().fold(f64::INFINITY, f64::min);
        let most = busy.iter().copied().fold(0.0, f64::max);
        Found {
            clients: back["clients"].as_u64().unwrap_or(0),
            wanted: u64::from(wanted),
            tries: back["tries"].as_u64().unwrap_or(0),
            p50: seconds("p50"),
            p99: seconds("p99"),
            all: seconds("max"),
            sent: by_second(values("sent")),
            accepted: by_second(values("succeeded")),
            refused: values("refused").iter().sum(),
            failed: values("failed").iter().sum(),
            rate: (!busy.is_empty()).then_some((least, most)),
        }
    }
}

fn missed(found: &Found) -> Vec<String> {
    let mut missed = Vec::new();
    if found.clients < found.wanted {
        missed.push(format!("{} of {} clients came back", found.clients, found.wanted));
    }
    if found.all.is_nan() || found.all > ALL_BACK_S {
        missed.push(format!("the last was back after {:.1} s", found.all));
    }
    missed
}

fn text(options: &overload::Options, found: &Found) -> String {
    let mut text = String::from("# Avalanche\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench avalanche --users {}` on {}, {}.\n\n\
         A fresh pair, both servers on one core, the generator on the other. {} clients register over UDP; then all are dropped at one \
         instant, forget their nonces, and register again at once: no client waits for another, none begins with a pause. Who is refused \
         waits exactly for Retry-After; who gets no answer repeats its request (T1, T2 of RFC 3261), gives up after 32 s and waits as RFC \
         5626 §4.5 says.\n",
        options.users,
        machine(),
        today(),
        options.users
    );
    let _ = writeln!(
        text,
        "| | |\n|---|---|\n| back | {} of {} |\n| half after | {:.2} s |\n| 99 % after | {:.2} s |\n| all after | {:.2} s |\n\
         | tries of all | {} |\n| refused | {:.0} |\n| failed otherwise | {:.0} |",
        found.clients, found.wanted, found.p50, found.p99, found.all, found.tries, found.refused, found.failed
    );
    if let Some((least, most)) = found.rate {
        let _ = writeln!(text, "| admitted by the server while overloaded, units a second | {least:.0} to {most:.0} |");
    }
    text.push_str("\n| second | requests sent | registrations accepted |\n|---|---|---|\n");
    for (second, (sent, accepted)) in found.sent.iter().zip(&found.accepted).enumerate().take(30) {
        let _ = writeln!(text, "| {} | {sent:.0} | {accepted:.0} |", second + 1);
    }
    text.push_str(
        "\nA registration is two requests and two units: the first is challenged. The first second is the drop itself, which nothing but \
         the clients could spread; from then on requests come as the answers told them to. A registration is counted in the second in which \
         its try began.\n",
    );
    let missed = missed(found);
    if missed.is_empty() {
        text.push_str("\nTarget (all back within 60 s): met.\n");
    } else {
        let _ = writeln!(text, "\nTarget missed: {}.", missed.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    //! The report says who is missing, and sums slices to seconds.

    use super::*;
    use serde_json::json;

    #[test]
    fn seconds_and_missing_clients() {
        let report = json!({
            "back": {"clients": 9, "tries": 12, "after": {"p50": 500_000.0, "p99": 61e6, "max": 61e6}},
            "slices": {"ms": 100, "sent": vec![1; 15], "succeeded": vec![1; 12], "refused": [3], "failed": [0]}
        });
        let found = Found::new(&report, 10, &[]);
        assert_eq!(found.sent, [10.0, 5.0]);
        assert_eq!((found.clients, found.tries, found.refused), (9, 12, 3.0));
        assert_eq!(missed(&found).len(), 2);
        assert!(text(&overload::Options::default(), &found).contains("| back | 9 of 10 |"));
    }
}
