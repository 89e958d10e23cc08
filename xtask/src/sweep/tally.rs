//! What the runs of a sweep gave, and `docs/results/sweep.md`.
//!
//! Owns the reading of the simulator's output and the report.

use crate::bench::{machine, today};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A kind of world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// Two pools of one server each.
    Pairs,
    /// One pool of several.
    Pools,
    /// Two pools of several.
    Sites,
}

/// Seeds of one family that one process runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) family: Family,
    pub(super) from: u64,
    pub(super) count: u64,
}

impl Part {
    /// Its halves, if it has more than one seed.
    fn halves(self) -> Option<[Part; 2]> {
        let half = self.count / 2;
        let rest = Part { from: self.from + half, count: self.count - half, ..self };
        (half > 0).then_some([Part { count: half, ..self }, rest])
    }
}

/// What the seeds of a family gave.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    seeds: u64,
    failed: u64,
    simulated_s: f64,
    took_s: f64,
    changes: u64,
    acknowledged: u64,
}

/// What all gave.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sums: [Sum; 3],
    done: u64,
    /// What was found, as the simulator wrote it.
    found: Vec<String>,
}

impl Family {
    /// The simulator's word for its seeds.
    pub(super) fn word(self) -> &'static str {
        match self {
            Family::Pairs => "seeds",
            Family::Pools => "pool",
            Family::Sites => "site",
        }
    }

    /// Seeds for one process: some minutes.
    pub(super) fn part(self) -> u64 {
        match self {
            Family::Pairs => 500,
            Family::Pools => 200,
            Family::Sites => 50,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Family::Pairs => "two pools of one server each",
            Family::Pools => "one pool of two, three or five servers",
            Family::Sites => "two pools of two, three or five servers each",
        }
    }
}

impl Sum {
    /// Reads the line with which the simulator ends: `N seeds, F failed; S virtual seconds in T s (…); C changes, A acknowledged`.
    fn read(line: &str) -> Option<Sum> {
        let numbers: Vec<f64> =
            line.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|word| word.parse().ok()).collect();
        let [seeds, failed, simulated_s, took_s, _, changes, acknowledged] = numbers[..] else { return None };
        let whole = |number: f64| format!("{number:.0}").parse().unwrap_or(0);
        let (seeds, failed) = (whole(seeds), whole(failed));
        Some(Sum { seeds, failed, simulated_s, took_s, changes: whole(changes), acknowledged: whole(acknowledged) })
    }

    fn add(&mut self, other: &Sum) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.simulated_s += other.simulated_s;
        self.took_s += other.took_s;
        self.changes += other.changes;
        self.acknowledged += other.acknowledged;
    }
}

impl Tally {
    /// Takes what a process wrote, and says what it found. A seed whose process did not come to its end has failed; of several it is to
    /// be found out which it is: the parts that are to be run for that.
    #[must_use]
    pub(super) fn add(&mut self, part: &Part, output: &str, errors: &str) -> Vec<Part> {
        let known = self.found.len();
        let sum = output.lines().find(|line| line.contains(" virtual seconds in ")).and_then(Sum::read);
        if sum.is_none()
            && let Some(halves) = part.halves()
        {
            println!("`sim {} {} {}` did not come to its end: half by half", part.family.word(), part.from, part.count);
            return halves.to_vec();
        }
        self.done += part.count;
        let found = output.lines().filter(|line| line.starts_with("seed ") || line.starts_with("  "));
        self.found.extend(found.map(str::to_owned));
        if sum.is_none() {
            let last: Vec<&str> = errors.lines().rev().take(3).collect();
            let (word, from, count) = (part.family.word(), part.from, part.count);
            self.found.push(format!("`sim {word} {from} {count}` did not come to its end: {}", last.join(" / ")));
        }
        let sum = sum.unwrap_or(Sum { seeds: part.count, failed: part.count, ..Sum::default() });
        self.sums[part.family as usize].add(&sum);
        self.found[known..].iter().for_each(|line| println!("{line}"));
        Vec::new()
    }

    /// Seeds that have been run.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Seeds that found something.
    pub(super) fn failed(&self) -> u64 {
        self.sums.iter().map(|sum| sum.failed).sum()
    }

    fn report(&self, (from, jobs): (u64, usize), took: Duration) -> String {
        let mut text = format!(
            "# Sweep of the simulator\n\nMade by `cargo xtask sweep` on {}, on {}: seeds from {from} on, {jobs} processes at a time at the lowest priority, {:.0} minutes \
             in all. The build has overflow checks and assertions on; one seed in 97 is run twice and has to take the same way. \
             *Speed* is virtual time by the time of the process that simulated it. `docs/results/simulation.md` says what each family does \
             and checks.\n\n| family | seeds | virtual seconds | speed | changes, acknowledged | found something |\n|---|---|---|---|---|---|\n",
            today(),
            machine(),
            took.as_secs_f64() / 60.0
        );
        for family in [Family::Pairs, Family::Pools, Family::Sites] {
            let sum = self.sums[family as usize];
            let speed = sum.simulated_s / sum.took_s.max(0.001);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {speed:.0} times | {}, {} | {} |",
                family.title(),
                sum.seeds,
                sum.simulated_s,
                sum.changes,
                sum.acknowledged,
                sum.failed
            );
        }
        let seeds: u64 = self.sums.iter().map(|sum| sum.seeds).sum();
        let _ = writeln!(text, "\n{seeds} seeds, {} found something.", self.failed());
        if !self.found.is_empty() {
            let _ = writeln!(text, "\n```\n{}\n```", self.found.join("\n"));
        }
        text
    }
}

/// Writes the report and prints it.
///
/// # Errors
/// A line that says what could not be written.
pub(super) fn write(root: &Path, tally: &Tally, run: (u64, usize), took: Duration) -> Result<(), String> {
    crate::bench::write_report(root, "sweep.md", &tally.report(run, took))
}

#[cfg(test)]
mod tests {
    //! What the simulator writes is read as it is meant.

    use super::*;

    const POOLS: Part = Part { family: Family::Pools, from: 7, count: 3 };

    #[test]
    fn the_last_line_is_read_and_what_was_found_is_kept() {
        let output = "seed 8 (replay with `sim pool-replay 8`):\n  invariant 1: lost\n3 seeds, 1 failed; 180 virtual seconds in 0.9 s (200x); 90 changes, 80 acknowledged\n2 passed, 1 failed\n";
        let mut tally = Tally::default();
        let other = "3 seeds, 0 failed; 20 virtual seconds in 0.1 s (200x); 10 changes, 9 acknowledged\n";
        assert!(tally.add(&POOLS, output, "").is_empty() && tally.add(&POOLS, other, "").is_empty());
        assert_eq!((tally.failed(), tally.done()), (1, 6));
        let text = tally.report((7, 2), Duration::from_secs(60));
        assert!(text.contains("| 6 | 200 | 200 times | 100, 89 | 1 |"), "{text}");
        assert!(text.contains("  invariant 1: lost"), "{text}");
    }

    #[test]
    fn the_seed_whose_process_did_not_come_to_its_end_is_found_and_has_failed() {
        let mut tally = Tally::default();
        let (mut queue, mut run) = (vec![POOLS], Vec::new());
        while let Some(part) = queue.pop() {
            run.push((part.from, part.count));
            let ends = !(part.from..part.from + part.count).contains(&9);
            let output =
                format!("{} seeds, 0 failed; 9 virtual seconds in 1 s (9x); 1 changes, 1 acknowledged", part.count);
            let errors = "one\ntwo\nthread panicked\nat some place";
            queue.extend(tally.add(&part, if ends { &output } else { "" }, errors));
        }
        assert_eq!(run, [(7, 3), (8, 2), (9, 1), (8, 1), (7, 1)]);
        assert_eq!((tally.failed(), tally.done()), (1, 3));
        assert!(tally.report((7, 1), Duration::ZERO).contains("`sim pool 9 1` did not come to its end: at some place"));
    }
}
