//! Overload: what a server still does while more and more comes, how long admitted calls take, and how soon it is over.
//!
//! Owns the loads, the figures and their targets (issue 3, "must show" 5).

use super::pair::{Pair, Side};
use super::{Binaries, machine, today, write_report};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Parts of the mix.
pub(crate) const SHARES: &str = "register:2,message:4,call:3";
/// What one of each counts: units, as the server's admission weighs them.
const UNITS: [(&str, f64); 3] = [("register", 1.0), ("message", 2.0), ("call", 4.0)];
/// Multiples of the capacity that are offered.
const LOADS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];
/// Share of the peak that is to be done at ten times the capacity.
const GOODPUT: f64 = 0.8;
/// Longest p99 of admitted INVITEs, in milliseconds.
const INVITE_MS: f64 = 100.0;
/// Longest recovery, in seconds, and for how long it is watched.
const RECOVERY_S: f64 = 2.0;
const WATCHED_S: f64 = 10.0;
/// Operations a second with which the search for the capacity begins, and its factor.
const SEARCH: (f64, f64) = (2_000.0, 1.3);
/// What the server counts of what it let fall.
const SHED: &str = "pairline_udp_shed_total";
const DROPPED: &str = "pairline_udp_dropped_total";
/// Steps of the search.
const SEARCH_STEPS: i32 = 11;

/// Options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Registered users.
    pub users: u32,
    /// Seconds of each load.
    pub seconds: u32,
    /// Core of the servers.
    pub server_core: u32,
    /// Core of the generator.
    pub load_core: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { users: 20_000, seconds: 10, server_core: 0, load_core: 1 }
    }
}

/// What one load showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Multiple of the capacity.
    times: f64,
    /// A second: due, done, refused, failed otherwise.
    offered: f64,
    done: f64,
    /// Done of each kind, a second.
    kinds: [f64; 3],
    /// Done in units, a second.
    units: f64,
    refused: f64,
    failed: f64,
    /// Datagrams that the server let fall: for want of time to refuse them, and for want of room.
    shed: f64,
    dropped: f64,
    /// From the sending of an INVITE to its 200, in milliseconds.
    invite_p50: f64,
    invite_p99: f64,
    /// The same from when it was due: with what the generator was late.
    due_p99: f64,
    /// From one look of the generator at its sockets to the next, in milliseconds.
    round_p99: f64,
    /// Processor time of the serving process, in cores.
    cores: f64,
}

impl Load {
    fn new(times: f64, seconds: f64, report: &Value) -> Load {
        let step = &report["steps"][0];
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let kinds = UNITS.map(|(kind, _)| step["succeeded"][kind].as_f64().unwrap_or(0.0) / seconds);
        let operations = number(&report["operations"]);
        Load {
            times,
            offered: number(&step["offered"]) / seconds,
            done: kinds.iter().sum(),
            kinds,
            units: units(&kinds),
            refused: number(&step["refused"]) / seconds,
            failed: number(&step["failed"]) / seconds,
            shed: 0.0,
            dropped: 0.0,
            invite_p50: number(&step["answered"]["p50"]) / 1000.0,
            invite_p99: number(&step["answered"]["p99"]) / 1000.0,
            due_p99: number(&step["invites"]["p99"]) / 1000.0,
            round_p99: number(&step["rounds"]["p99"]) / 1000.0,
            cores: number(&report["server"]["processes"][0]["cpu_us_per_operation"]) * operations / seconds / 1e6,
        }
    }
}

/// Units of an operation of the mix, on average.
fn units_each() -> f64 {
    let parts: Vec<(&str, f64)> = SHARES
        .split(',')
        .filter_map(|part| part.split_once(':'))
        .filter_map(|(kind, part)| Some((kind, part.parse().ok()?)))
        .collect();
    let weight = |kind: &str| UNITS.iter().find(|(name, _)| *name == kind).map_or(0.0, |(_, weight)| *weight);
    let all: f64 = parts.iter().map(|(_, part)| part).sum();
    parts.iter().map(|(kind, part)| weight(kind) * part).sum::<f64>() / all
}

fn units(kinds: &[f64; 3]) -> f64 {
    kinds.iter().zip(UNITS).map(|(count, (_, weight))| count * weight).sum()
}

/// What was found.
struct Found {
    /// Offered and done operations, and done units, a second.
    search: Vec<(f64, f64, f64)>,
    /// The most units a second, and the operations a second in which they were done.
    peak: f64,
    capacity: f64,
    loads: Vec<Load>,
    /// Seconds after the fall of the load until nothing was refused any more.
    recovery: f64,
}

/// Measures and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    // A fresh pair for each run: what the phones of the run before have left registered would be rung as well.
    let fresh = |name: &str| start(binaries, &folder.join(name), options);
    let steps: Vec<f64> = (0..SEARCH_STEPS).map(|n| SEARCH.0 * SEARCH.1.powi(n)).collect();
    let course: Vec<(f64, f64)> = steps.iter().map(|rate| (*rate, 3.0)).collect();
    let report = mix(&fresh("search")?, binaries, options, &course)?;
    let search: Vec<(f64, f64, f64)> = steps
        .iter()
        .zip(goodputs(&report, 3.0))
        .map(|(rate, kinds)| (*rate, kinds.iter().sum(), units(&kinds)))
        .collect();
    let peak = search.iter().map(|(_, _, units)| *units).fold(0.0, f64::max);
    let capacity = peak / units_each();
    println!("capacity {capacity:.0} operations a second, {peak:.0} units: {search:.0?}");
    let seconds = f64::from(options.seconds);
    let mut loads = Vec::new();
    for times in LOADS {
        let pair = fresh(&format!("load-{times}"))?;
        let report = mix(&pair, binaries, options, &[(capacity * times, seconds)])?;
        let fell = pair.look(Side::East, &[SHED, DROPPED])?;
        let load = Load::new(times, seconds, &report);
        let (shed, dropped) = (fell.figure(0).sum / seconds, fell.figure(1).sum / seconds);
        loads.push(Load { shed, dropped, ..load });
        println!("{:?} {}", loads.last(), report["statuses"]);
    }
    let pair = fresh("recovery")?;
    let report = mix(&pair, binaries, options, &[(capacity * 10.0, seconds), (capacity * 0.5, WATCHED_S)])?;
    let found = Found { search, peak, capacity, loads, recovery: recovery(&report["slices"], seconds) };
    write_report(root, "overload.md", &text(options, &found))?;
    let missed = missed(&found);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join("; "))) }
}

/// A pair whose servers share one core, with its users at home on east.
pub(crate) fn start(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Pair, String> {
    let edits = [
        ("max_expiry_s = 20", "max_expiry_s = 3600"),
        ("default_expiry_s = 20", "default_expiry_s = 3600"),
        ("min_expiry_s = 20", "min_expiry_s = 300"),
    ];
    let pair = Pair::start_with(binaries, folder, Duration::ZERO, &edits)?;
    pair.import(options.users, 0, &["east"])?;
    pair.settle()?;
    pair.pin(options.server_core)?;
    Ok(pair)
}

/// Arguments of `pairline-load` that every load has.
pub(crate) fn generator(pair: &Pair, binaries: &Binaries, options: &Options, kind: &str) -> Result<Command, String> {
    let mut command = Command::new(&binaries.load);
    command.args([kind, "--json", "--digest", "--digits", "7", "--expires", "3600"]);
    command.args(["--server", &pair.sip(Side::East)?.to_string(), "--users", &options.users.to_string()]);
    command.args(["--pin", &options.load_core.to_string(), "--cpu-pid", &pair.pid(Side::East).to_string()]);
    Ok(command)
}

/// The report of a run of the generator.
pub(crate) fn report_of(mut command: Command) -> Result<Value, String> {
    let output = command.output().map_err(|e| format!("pairline-load: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    last.ok_or_else(|| format!("pairline-load: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn mix(pair: &Pair, binaries: &Binaries, options: &Options, steps: &[(f64, f64)]) -> Result<Value, String> {
    let steps: Vec<String> = steps.iter().map(|(rate, seconds)| format!("{rate:.0}:{seconds}")).collect();
    let mut command = generator(pair, binaries, options, "mix")?;
    command.args(["--steps", &steps.join(","), "--shares", SHARES, "--warmup", "0", "--sockets", "16"]);
    report_of(command)
}

/// What was done a second of each kind, by step.
fn goodputs(report: &Value, seconds: f64) -> Vec<[f64; 3]> {
    let steps = report["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let done = |step: &Value| UNITS.map(|(kind, _)| step["succeeded"][kind].as_f64().unwrap_or(0.0) / seconds);
    steps.iter().map(done).collect()
}

/// Seconds from the fall of the load to the end of the last slice in which more than one in a hundred was refused or failed.
fn recovery(slices: &Value, fall_s: f64) -> f64 {
    let ms = slices["ms"].as_f64().unwrap_or(f64::NAN);
    let values = |name: &str| -> Vec<f64> {
        slices[name].as_array().into_iter().flatten().map(|n| n.as_f64().unwrap_or(f64::NAN)).collect()
    };
    let (offered, refused, failed) = (values("offered"), values("refused"), values("failed"));
    let mut last = 0.0;
    for (index, ((offered, refused), failed)) in (0_u32..).zip(offered.iter().zip(&refused).zip(&failed)) {
        let ends = (f64::from(index) + 1.0) * ms / 1000.0;
        if ends > fall_s + 0.001 && refused + failed > offered / 100.0 {
            last = ends - fall_s;
        }
    }
    last
}

fn missed(found: &Found) -> Vec<String> {
    let mut missed = Vec::new();
    let most = found.loads.last().cloned().unwrap_or_default();
    if most.units < found.peak * GOODPUT {
        missed.push(format!(
            "goodput at {} times the capacity is {:.0} %",
            most.times,
            most.units / found.peak * 100.0
        ));
    }
    for load in found.loads.iter().filter(|load| load.invite_p99.is_nan() || load.invite_p99 >= INVITE_MS) {
        missed
            .push(format!("p99 of admitted INVITEs at {} times the capacity is {:.0} ms", load.times, load.invite_p99));
    }
    if found.recovery.is_nan() || found.recovery > RECOVERY_S {
        missed.push(format!("recovery took {:.1} s", found.recovery));
    }
    missed
}

fn text(options: &Options, found: &Found) -> String {
    let mut text = String::from("# Overload\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench overload --users {} --seconds {}` on {}, {}.\n\n\
         For each load a fresh pair with longer expiries, both servers on one core, the generator (`pairline-load mix`) on the other; {} users with digest \
         at home on east, each registration and its shipping included, each with a registration and a message behind it, so that its challenges are met. Operations are offered in open loop in the parts {SHARES}: a refresh, \
         a message to another user, a whole call (INVITE, ACK, BYE). Who is refused is not heard again, its place in the schedule is \
         another's; what is not answered is repeated (T1, T2 of RFC 3261) and given up after 32 s. An operation is done if it ended with \
         2xx throughout. Goodput is counted in the units in which the server weighs them (a refresh 1, a message 2, a call 4), since under \
         overload more of one kind is done and less of another: calls come before messages. An INVITE's time is from its sending to its 200, \
         the called side's included; where the generator cannot keep the schedule its own lateness is in the column beside, and what it leaves \
         lying in its sockets, twice on a call's way, is its round. The capacity is the most that was done a second \
         while the offer rose from step to step, in units, and as operations of this mix: **{:.0} operations, {:.0} units**.\n",
        options.users,
        options.seconds,
        machine(),
        today(),
        options.users,
        found.capacity,
        found.peak
    );
    text.push_str("| load | offered/s | refreshes, messages, calls done/s | units/s | of the peak | refused/s | failed/s | let fall/s, for want of room/s | INVITE p50 ms | p99 ms | p99 since due | generator's round p99 ms | cores | µs a refusal |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    let each = found.loads.first().map_or(f64::NAN, |calm| calm.cores / calm.units);
    for load in &found.loads {
        let refusal = (load.cores - load.units * each) / load.refused * 1e6;
        let refusal = if load.refused > load.done { format!("{refusal:.1}") } else { "–".to_owned() };
        let _ = writeln!(
            text,
            "| {} × | {:.0} | {:.0}, {:.0}, {:.0} | {:.0} | {:.0} % | {:.0} | {:.1} | {:.0}, {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {refusal} |",
            load.times,
            load.offered,
            load.kinds[0],
            load.kinds[1],
            load.kinds[2],
            load.units,
            load.units / found.peak * 100.0,
            load.refused,
            load.failed,
            load.shed,
            load.dropped,
            load.invite_p50,
            load.invite_p99,
            load.due_p99,
            load.round_p99,
            load.cores
        );
    }
    let _ = writeln!(
        text,
        "\nThe cores are those of east's process; a refusal's cost is what is left of them after what was done, at the cost of half the \
         capacity.\n\nAfter {} s of ten times the capacity the load fell to half of it: {:.1} s later nothing was refused or failed any more.\n",
        options.seconds, found.recovery
    );
    let missed = missed(found);
    if missed.is_empty() {
        text.push_str("Targets (at least 80 % of the peak at ten times the capacity, p99 of admitted INVITEs below 100 ms, recovery within 2 s): met.\n");
    } else {
        let _ = writeln!(text, "Targets missed: {}.", missed.join("; "));
    }
    text.push_str("\nThe search:");
    for (rate, done, _) in &found.search {
        let _ = write!(text, " {done:.0} of {rate:.0};");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    //! The figures come from the generator's report, and what misses a target is said.

    use super::*;
    use serde_json::json;

    #[test]
    fn an_operation_of_the_mix_has_the_units_of_its_parts() {
        assert!((units_each() - 22.0 / 9.0).abs() < 1e-9, "two of one unit, four of two, three of four");
    }

    #[test]
    fn recovery_is_the_last_slice_with_refusals_after_the_fall() {
        let slices = json!({"ms": 100, "offered": [10, 10, 200, 200, 200, 200], "refused": [9, 9, 50, 3, 1, 0], "failed": [0, 0, 0, 0, 1, 0]});
        assert!((recovery(&slices, 0.2) - 0.2).abs() < 1e-9);
        assert!(recovery(&slices, 0.5) < 1e-9);
    }

    #[test]
    fn what_misses_a_target_is_named() {
        let report = json!({
            "steps": [{"offered": 1000, "succeeded": {"call": 100, "register": 500}, "refused": 390, "failed": 10, "invites": {"p50": 9000.0, "p99": 900_000.0}, "answered": {"p50": 8000.0, "p99": 120_000.0}, "rounds": {"p99": 2000.0}}],
            "operations": 600, "server": {"processes": [{"cpu_us_per_operation": 100.0}]}
        });
        let load = Load::new(10.0, 2.0, &report);
        assert_eq!((load.offered, load.done, load.refused, load.invite_p99), (500.0, 300.0, 195.0, 120.0));
        assert_eq!((load.due_p99, load.round_p99), (900.0, 2.0));
        assert_eq!((load.kinds, load.units), ([250.0, 0.0, 50.0], 450.0));
        assert!((load.cores - 0.03).abs() < 1e-9);
        let found = Found { search: vec![], peak: 600.0, capacity: 400.0, loads: vec![load], recovery: 2.5 };
        let missed = missed(&found);
        assert_eq!(missed.len(), 3, "{missed:?}");
        assert!(text(&Options::default(), &found).contains("| 10 × | 500 | 250, 0, 50 | 450 | 75 % |"));
        assert_eq!(goodputs(&report, 2.0), [[250.0, 0.0, 50.0]]);
    }
}
