//! What the node itself does for each of the usual requests, in instructions: the same on every machine and in every run, so that a change of
//! one in a hundred is seen where processor time moves by half.
//!
//! Owns the run under valgrind and the report. What is run, and what of it counts, is a test of `node` (`tests/cost.rs`).

use super::{installed, machine, numbers, today, write_report};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tests of `cost.rs`, and what they do.
const KINDS: [(&str, &str); 3] = [
    ("registers", "REGISTER refreshed, its nonce reused, committed to a disk in memory"),
    ("messages", "MESSAGE from user to user and its 200, with a nonce reused"),
    ("calls", "whole call: INVITE with a nonce reused, 180, 200, ACK, BYE, 200"),
];

/// Counts, and writes the report.
///
/// # Errors
/// A line that says what could not be had or done.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<(), String> {
    let mut turns = 40;
    numbers(args, &mut [("--turns", &mut turns)])?;
    if turns == 0 {
        return Err("at least one turn".to_owned());
    }
    if !installed("valgrind") {
        return Err("valgrind is missing (Debian: valgrind)".to_owned());
    }
    let binary = build(root)?;
    let mut text = head(turns);
    for (kind, what) in KINDS {
        let (instructions, operations) = count(&binary, kind, turns)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {what} | {:.1} |", instructions / operations / 1_000.0);
    }
    write_report(root, "instructions.md", &text)
}

fn head(turns: u32) -> String {
    format!(
        "# Instructions of a request\n\nMade by `cargo xtask bench instructions --turns {turns}` on {}, {}.\n\n\
         The node of a pool of one server with 32 groups, 48 operations in a turn, counted by valgrind (callgrind): from bytes to bytes, without \
         sockets, threads, links and disks. The processor that valgrind shows has no instructions for SHA-256, which credentials are weighed \
         by: some 25,000 of each operation are its, and a hundred times fewer on most machines.\n\n\
         | | thousand instructions each |\n|---|---|\n",
        machine(),
        today()
    )
}

/// The tests of `node`, optimised.
fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["test", "--release", "-p", "pairline-node", "--test", "all", "--no-run", "--message-format", "json"])
        .current_dir(root)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    executable(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| "the tests of node could not be built".to_owned())
}

/// The program among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let of = |line: &str| serde_json::from_str::<Value>(line).ok()?["executable"].as_str().map(PathBuf::from);
    messages.lines().filter_map(of).next_back()
}

/// Instructions and operations of one kind.
fn count(binary: &Path, kind: &str, turns: u32) -> Result<(f64, f64), String> {
    let (test, turns) = (format!("cost::{kind}"), turns.to_string());
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
            "--toggle-collect=*cost*counted*",
        ])
        .arg(binary)
        .args(["--exact", &test, "--nocapture", "--test-threads", "1"])
        .env("PAIRLINE_TURNS", turns)
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    let (said, counted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let figures = (behind(&counted, "Collected :"), behind(&said, "counted "));
    match figures {
        (Some(instructions), Some(operations)) if output.status.success() && instructions > 0.0 => {
            Ok((instructions, operations))
        }
        _ => Err(format!("{test}: {said}{counted}")),
    }
}

/// The number behind a word.
fn behind(text: &str, word: &str) -> Option<f64> {
    let rest = &text[text.find(word)? + word.len()..];
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{behind, executable};
    use std::path::PathBuf;

    #[test]
    fn figures_and_the_program_are_found_in_what_tools_print() {
        assert_eq!(behind("==7== Collected : 561464053\n==7== ", "Collected :"), Some(561_464_053.0));
        assert_eq!(behind("test cost::calls ... counted 192\nok", "counted "), Some(192.0));
        assert_eq!(behind("nothing", "counted "), None);
        let messages = "{\"executable\":null}\nnoise\n{\"executable\":\"/t/all-1\"}\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/all-1")));
    }
}
