//! What a run of a fuzz target came to, and the table in `docs/results/fuzz.md`.
//!
//! Owns the reading of libFuzzer's log and the rows. Rows of targets that did not run again stay as they are.

use std::path::Path;

const HEAD: &str = "# Fuzzing

Made by `cargo xtask fuzz`: libFuzzer with coverage feedback, a release build with every assertion and overflow check on, at the
lowest priority beside whatever else the machine did. An input that panics, takes more than 5 ms of processor time (the least of
five tries) or more memory than its target allows (`fuzz/src/targets.rs`) ends a run as found. *Slowest* is the processor time of
the slowest input, in the build with counters, which is several times slower than the product; *most memory* is the most that one
input held at a time. *Edges* are the places in the code that inputs reached.

| target | date | seconds | inputs | edges | slowest, µs | most memory, KiB | process, MiB | found |
|---|---|---|---|---|---|---|---|---|
";

/// One run of one target.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    target: String,
    seconds: u32,
    inputs: u64,
    edges: u64,
    slowest_us: u64,
    most_bytes: u64,
    process_mib: u64,
    /// It ended before its time, with something found.
    pub failed: bool,
}

impl Row {
    /// Reads libFuzzer's log and the target's own report.
    pub(crate) fn read(target: &str, seconds: u32, log: &str, costs: &str, failed: bool) -> Row {
        let named = |text: &str, name: &str| {
            let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let edges = log.lines().rev().find_map(|line| line.split_once("cov: "));
        let edges = edges.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        Row {
            target: target.to_owned(),
            seconds,
            inputs: named(log, "stat::number_of_executed_units:").unwrap_or(0),
            edges: edges.unwrap_or(0),
            slowest_us: named(costs, "slowest_us").unwrap_or(0),
            most_bytes: named(costs, "most_bytes").unwrap_or(0),
            process_mib: named(log, "stat::peak_rss_mb:").unwrap_or(0),
            failed,
        }
    }

    fn line(&self, date: &str) -> String {
        format!(
            "| {} | {date} | {} | {} | {} | {} | {} | {} | {} |",
            self.target,
            self.seconds,
            self.inputs,
            self.edges,
            self.slowest_us,
            self.most_bytes.div_ceil(1024),
            self.process_mib,
            if self.failed { "something" } else { "nothing" }
        )
    }
}

/// Puts a row into the table, in place of that target's last one.
///
/// # Errors
/// A line that says what could not be written.
pub(crate) fn keep(root: &Path, row: &Row) -> Result<(), String> {
    let path = root.join("docs/results/fuzz.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let line = row.line(&crate::bench::today());
    println!("{line}");
    let own = format!("| {} |", row.target);
    let rows = before.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| target |") && !l.starts_with(&own));
    let mut rows: Vec<&str> = rows.chain([line.as_str()]).collect();
    rows.sort_unstable();
    let text = format!("{HEAD}{}\n", rows.join("\n"));
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}
