//! What a pool of three Front Ends costs while nobody asks it anything.
//!
//! Owns the measurement and its part of the report.

use super::super::{Binaries, server};
use super::front_ends::{FrontEnds, Shape};
use super::network::Network;
use super::register::Part;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Routing groups.
const GROUPS: u32 = 64;
/// Time after the start that is not measured: leaders are still moved then.
const SETTLING: Duration = Duration::from_secs(10);
/// What is measured.
const MEASURED: Duration = Duration::from_secs(30);
/// Most that a server may use, in percent of one core.
const TARGET: f64 = 3.0;

/// Measures and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path) -> Result<Part, String> {
    println!("idle: {} s", (SETTLING + MEASURED).as_secs());
    let pool = FrontEnds::start(binaries, &folder.join("idle"), Network::loopback(), Shape::alone(GROUPS), None)?;
    std::thread::sleep(SETTLING);
    let look = || pool.pids().into_iter().map(server::cpu).collect::<Vec<f64>>();
    let (before, began) = (look(), Instant::now());
    std::thread::sleep(MEASURED);
    let (after, seconds) = (look(), began.elapsed().as_secs_f64());
    pool.healthy()?;
    let used: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (after - before) / seconds * 100.0).collect();
    Ok(report(&used))
}

fn report(used: &[f64]) -> Part {
    let mut text = String::from("## A pool without traffic\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Three Front Ends, {GROUPS} routing groups, no users; {} s, from {} s after the start.\n",
        MEASURED.as_secs(),
        SETTLING.as_secs()
    );
    text.push_str("| | % of one core |\n|---|---|\n");
    for (number, used) in used.iter().enumerate() {
        let _ = writeln!(text, "| fe{} | {used:.2} |", number + 1);
    }
    // A figure that could not be had is none that is low enough.
    let verdict = if used.iter().all(|used| *used < TARGET) { "met" } else { "missed" };
    let _ = writeln!(text, "\nTarget: under {TARGET:.0} % of one core for each. {verdict}.");
    (text, json!({"groups": GROUPS, "percent": used, "target": TARGET}))
}

#[cfg(test)]
mod tests {
    //! The verdict.

    use super::*;

    #[test]
    fn each_server_must_be_below_the_target() {
        assert!(
            report(&[0.5, 2.9, 1.0])
                .0
                .contains("| fe2 | 2.90 |\n| fe3 | 1.00 |\n\nTarget: under 3 % of one core for each. met.")
        );
        assert!(report(&[0.5, 3.0, 1.0]).0.contains("each. missed."));
        assert!(report(&[0.5, f64::NAN, 1.0]).0.contains("each. missed."));
    }
}
