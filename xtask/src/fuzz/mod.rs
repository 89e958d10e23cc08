//! `cargo xtask fuzz`: builds the fuzz targets with coverage counters, runs them and reports what was found.
//!
//! Owns building, running and the report. What a target does is in `fuzz/`; what it begins with is in `seeds`.

mod report;
mod seeds;

use report::Row;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The targets, as `fuzz/src/targets.rs` names them, and the longest input of each in bytes.
const TARGETS: [(&str, u32); 14] = [
    ("message", 4096),
    ("stream", 8192),
    ("uri", 512),
    ("name_addr", 1024),
    ("via_route", 1024),
    ("digest", 5120),
    ("transactions", 8192),
    ("stun", 600),
    ("websocket", 8192),
    ("capture", 4096),
    ("peer_frame", 4096),
    ("record", 4096),
    ("topology", 4096),
    ("node", 4096),
];
/// Seconds for each target, if none are given.
const SECONDS: u32 = 600;
/// Memory of the whole process, in MiB, at which libFuzzer gives up.
const RSS_LIMIT: u32 = 1024;
/// The binary in a build's folder.
const BINARY: &str = "release/pairline-fuzz";
/// Counters for libFuzzer's runtime, on a stable compiler; with `--target` they stay out of build scripts and macros.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// What is to be run.
struct Wish<'a> {
    targets: Vec<(&'a str, u32)>,
    seconds: u32,
    /// What an earlier run built is good enough.
    built: bool,
}

/// Runs `cargo xtask fuzz [TARGET]… [--seconds N] [--built]`.
///
/// # Errors
/// A line that says what could not be had, or which targets found something and where the input is.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<(), String> {
    let wish = wish(args)?;
    let folder = folder(root);
    let binary = if wish.built { folder.join(host()?).join(BINARY) } else { build(root, &folder)? };
    let mut found = Vec::new();
    for (target, longest) in &wish.targets {
        let row = fuzz(root, &folder, &binary, target, *longest, wish.seconds)?;
        if row.failed {
            found.push(format!("{target} (see {})", folder.join("found").display()));
        }
        report::keep(root, &row)?;
    }
    if found.is_empty() { Ok(()) } else { Err(format!("found something: {}", found.join(", "))) }
}

fn wish<'a>(args: &[&'a str]) -> Result<Wish<'a>, String> {
    let mut wish = Wish { targets: Vec::new(), seconds: SECONDS, built: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if *arg == "--seconds" {
            let seconds = rest.next().and_then(|text| text.parse().ok()).filter(|s| *s > 0);
            wish.seconds = seconds.ok_or("--seconds needs a number from 1")?;
            continue;
        }
        if *arg == "--built" {
            wish.built = true;
            continue;
        }
        let known = TARGETS.iter().find(|(name, _)| name == arg);
        let names = || TARGETS.map(|(name, _)| name).join(" ");
        wish.targets.push(*known.ok_or_else(|| format!("unknown target {arg} ({})", names()))?);
    }
    if wish.targets.is_empty() {
        wish.targets.extend(TARGETS);
    }
    Ok(wish)
}

/// Where builds, corpora and findings are.
fn folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("fuzz")
}

/// The compiler's own target triple.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

fn build(root: &Path, folder: &Path) -> Result<PathBuf, String> {
    let host = host()?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(folder)
        .current_dir(root.join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if !status.success() {
        return Err("the build failed (libFuzzer needs a C++ compiler; Debian: g++)".to_owned());
    }
    Ok(folder.join(host).join(BINARY))
}

/// Runs one target for a while, at the lowest priority.
fn fuzz(root: &Path, folder: &Path, binary: &Path, target: &str, longest: u32, seconds: u32) -> Result<Row, String> {
    let made = |name: &str| -> Result<PathBuf, String> {
        let path = folder.join(name).join(target);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    };
    let (corpus, seeded, found) = (made("corpus")?, made("seeds")?, made("found")?);
    seeds::write(root, target, &seeded)?;
    let costs = folder.join(format!("{target}.costs"));
    // A report of an earlier run would be taken for this one's.
    let _ = std::fs::remove_file(&costs);
    println!("fuzz: {target} for {seconds} s");
    let output = Command::new("nice")
        .args(["-n", "19"])
        .arg(binary)
        .args([&corpus, &seeded])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={longest}"))
        .arg(format!("-rss_limit_mb={RSS_LIMIT}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-dict={}", root.join("fuzz/sip.dict").display()))
        .args(["-timeout=10", "-print_final_stats=1"])
        .env("FUZZ_TARGET", target)
        .env("FUZZ_REPORT", &costs)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", binary.display()))?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let log_file = folder.join(format!("{target}.log"));
    std::fs::write(&log_file, &log).map_err(|e| format!("{}: {e}", log_file.display()))?;
    let costs = std::fs::read_to_string(&costs).unwrap_or_default();
    Ok(Row::read(target, seconds, &log, &costs, !output.status.success()))
}
