//! Lag of a steady pair: durable changes at a fixed rate on east, and how far west says that it may be behind.
//!
//! Owns the traffic, the figures and their targets. The lag is not computed here: it is what the servers themselves report, east
//! exactly, west as a bound by its canaries.

use super::pair::{GROUPS, Pair, Side};
use super::samples::{Sample, quantile};
use super::{Binaries, machine, today, write_report};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Targets of the receiver's bound without a longer way: p50 and p99 in milliseconds.
const TARGET: (f64, f64) = (100.0, 500.0);
/// The same with a round trip of 50 ms.
const FAR_TARGET: (f64, f64) = (150.0, 1000.0);
/// What west says of the groups that it receives, and east of those that it ships.
const BOUND: &str = "pairline_group_lag_seconds{bound=\"at-most\"}";
const EXACT: &str = "pairline_group_lag_seconds{bound=\"exact\"}";
/// Groups that east ships: those of its users, and the management store.
const SHIPPED: u32 = GROUPS + 1;

/// Options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Changes a second.
    pub rate: u32,
    /// Seconds measured.
    pub seconds: u32,
    /// Users whose lists change.
    pub users: u32,
    /// Round trip of the link in a second run, in milliseconds; 0 leaves it out.
    pub rtt: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: 500, seconds: 60, users: 2000, rtt: 50 }
    }
}

/// One run.
struct Run {
    rtt: u32,
    bound: Lags,
    exact: Lags,
    traffic: Value,
    equal: String,
}

/// Lags over a time, in milliseconds: the worst group of each sample.
#[derive(Debug, PartialEq)]
struct Lags {
    samples: usize,
    absent: usize,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Lags {
    /// A sample without an answer, or without a lag of every group, counts as worse than any number.
    fn new(samples: &[Sample]) -> Self {
        let worst =
            |s: &Sample| Some(s.figure(0)).filter(|f| f.count == SHIPPED).map_or(f64::INFINITY, |f| f.max * 1000.0);
        let values: Vec<f64> = samples.iter().map(worst).collect();
        let share = |share| quantile(&values, share).unwrap_or(f64::INFINITY);
        let absent = values.iter().filter(|value| value.is_infinite()).count();
        Self { samples: values.len(), absent, p50: share(0.5), p99: share(0.99), max: share(1.0) }
    }

    fn meets(&self, target: (f64, f64)) -> bool {
        self.absent == 0 && self.samples > 0 && self.p50 < target.0 && self.p99 < target.1
    }
}

/// Measures and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    let mut runs = vec![measure(binaries, &folder.join("near"), options, 0)?];
    if options.rtt > 0 {
        runs.push(measure(binaries, &folder.join("far"), options, options.rtt)?);
    }
    write_report(root, "lag.md", &report(options, &runs))?;
    let missed: Vec<String> = runs
        .iter()
        .filter(|run| !run.bound.meets(target(run.rtt)) || run.traffic["failed"] != 0)
        .map(|run| format!("{} ms", run.rtt))
        .collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("target missed with a round trip of {}", missed.join(", "))) }
}

fn target(rtt: u32) -> (f64, f64) {
    if rtt == 0 { TARGET } else { FAR_TARGET }
}

fn measure(binaries: &Binaries, folder: &Path, options: &Options, rtt: u32) -> Result<Run, String> {
    println!("{} changes a second for {} s, round trip of the link {rtt} ms", options.rate, options.seconds);
    let pair = Pair::start(binaries, folder, Duration::from_millis(u64::from(rtt)))?;
    pair.import(options.users, 0, &["east"])?;
    pair.steady()?;
    let west = pair.sample(Side::West, &[BOUND])?;
    let east = pair.sample(Side::East, &[EXACT])?;
    let traffic = pair.requests(Side::East, &traffic(options).iter().map(String::as_str).collect::<Vec<_>>());
    let (west, east, traffic) = (west.end()?, east.end()?, traffic?);
    pair.cli(&["pool", "sync", "east"])?;
    let within = |samples: Vec<Sample>| -> Vec<Sample> {
        let time = |index: usize| traffic["measured"][index].as_f64().unwrap_or(f64::NAN);
        samples.into_iter().filter(|sample| (time(0)..time(1)).contains(&sample.at)).collect()
    };
    let (bound, exact) = (Lags::new(&within(west)), Lags::new(&within(east)));
    Ok(Run { rtt, bound, exact, equal: pair.verify(Side::East)?, traffic })
}

/// A contact is put into each list in turn, and with the next pass over the users it is removed again.
fn traffic(options: &Options) -> Vec<String> {
    let contact = "sip:colleague@example.org";
    let put = json!({"command": "contact-put", "user": "{user}", "contact": contact, "name": "Colleague {n}", "groups": ["work"]});
    let remove = json!({"command": "contact-remove", "user": "{user}", "contact": contact});
    let (rate, seconds, users) = (options.rate.to_string(), options.seconds.to_string(), options.users.to_string());
    let (put, remove) = (put.to_string(), remove.to_string());
    [
        ["--path", "/api/v1/command"],
        ["--body", &put],
        ["--body", &remove],
        ["--rate", &rate],
        ["--duration", &seconds],
        ["--warmup", "5"],
        ["--users", &users],
        ["--digits", "7"],
        ["--connections", "64"],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

fn report(options: &Options, runs: &[Run]) -> String {
    let mut text = String::from("# Lag of a steady pair\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench lag --rate {} --seconds {} --users {} --rtt {}` on {}, {}. Both servers, the generator and both \
         samplers share this machine.\n\n\
         A fresh pair with the demo's policies; {} users at home on east; {} contact changes a second (half puts, half removals) through \
         east's admin API in open loop, each answered when it is on east's disk. About every 20 ms both servers are asked for their metrics; \
         a sample is the worst of the {SHIPPED} groups that east ships (`pairline_group_lag_seconds`). West's is its own upper bound by \
         canaries, east's is exact by acknowledgements. A sample in which a group has no lag, or without an answer, counts as absent and as \
         worse than any number. The longer round trip is made by a proxy in the link that hands on each byte after half of it.\n",
        options.rate,
        options.seconds,
        options.users,
        options.rtt,
        machine(),
        today(),
        options.users,
        options.rate
    );
    text.push_str("| round trip of the link | lag | p50 ms | p99 ms | max ms | samples | absent | target |\n|---|---|---|---|---|---|---|---|\n");
    for run in runs {
        let (p50, p99) = target(run.rtt);
        let met = if run.bound.meets((p50, p99)) { "met" } else { "**missed**" };
        let goal = format!("p50 < {p50:.0}, p99 < {p99:.0}: {met}");
        for (who, lags, goal) in [("west's bound", &run.bound, goal.as_str()), ("east's, exact", &run.exact, "–")] {
            let Lags { samples, absent, p50, p99, max } = lags;
            let _ = writeln!(
                text,
                "| {} ms | {who} | {p50:.0} | {p99:.0} | {max:.0} | {samples} | {absent} | {goal} |",
                run.rtt
            );
        }
    }
    text.push_str("\n| round trip of the link | changes/s | changes | failed | commit p50 ms | p99 ms | max ms | groups equal afterwards |\n|---|---|---|---|---|---|---|---|\n");
    for run in runs {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let millis = |name: &str| number(&run.traffic["latency"][name]) / 1000.0;
        let _ = writeln!(
            text,
            "| {} ms | {:.1} | {} | {} | {:.1} | {:.1} | {:.1} | {} |",
            run.rtt,
            number(&run.traffic["rate"]),
            run.traffic["operations"],
            run.traffic["failed"],
            millis("p50"),
            millis("p99"),
            millis("max"),
            run.equal
        );
        for refusal in run.traffic["refusals"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "\nRefused: {refusal}\n");
        }
    }
    text.push_str("\nA change's latency counts from the time at which it was due.\n");
    text
}

#[cfg(test)]
mod tests {
    //! What counts as a lag, and when a target is met.

    use super::*;
    use crate::bench::samples::Sum;

    fn sample(count: u32, max: f64) -> Sample {
        Sample { at: 0.0, figures: vec![Sum { count, sum: 0.0, max }] }
    }

    #[test]
    fn a_group_without_lag_fails_the_target() {
        let good: Vec<Sample> = (1..=100).map(|n| sample(SHIPPED, f64::from(n) / 1000.0)).collect();
        let lags = Lags::new(&good);
        assert_eq!(lags, Lags { samples: 100, absent: 0, p50: 50.0, p99: 99.0, max: 100.0 });
        assert!(lags.meets(TARGET));
        let silent = Sample { at: 0.0, figures: Vec::new() };
        for bad in [sample(SHIPPED - 1, 0.0), silent] {
            let lags = Lags::new(&[good.clone(), vec![bad]].concat());
            assert_eq!((lags.absent, lags.meets(TARGET)), (1, false));
        }
        assert!(!Lags::new(&[]).meets(TARGET));
    }

    #[test]
    fn the_report_says_what_was_missed() {
        let slow = Lags { samples: 9, absent: 0, p50: 120.0, p99: 130.0, max: 140.0 };
        let exact = Lags { samples: 9, absent: 0, p50: 1.0, p99: 2.0, max: 3.0 };
        let traffic = json!({"rate": 499.9, "operations": 10, "failed": 0, "latency": {"p50": 5000.0, "p99": 9000.0, "max": 9500.0}});
        let run = Run { rtt: 0, bound: slow, exact, traffic, equal: "33 of 33".into() };
        let text = report(&Options::default(), &[run]);
        assert!(
            text.contains("| 0 ms | west's bound | 120 | 130 | 140 | 9 | 0 | p50 < 100, p99 < 500: **missed** |"),
            "{text}"
        );
        assert!(text.contains("| 0 ms | 499.9 | 10 | 0 | 5.0 | 9.0 | 9.5 | 33 of 33 |"), "{text}");
    }
}
