//! A Front End whose disk was lost comes back empty, under load, and holds its groups again.
//!
//! Owns the course and its part of the report. The load and the arithmetic are others'.

use super::super::Binaries;
use super::Options;
use super::faults::{GROUPS, now};
use super::front_ends::{FrontEnds, Shape};
use super::journal::{self, Lost, Through, Took, Window};
use super::network::{Network, SERVERS};
use super::register::Part;
use super::traffic::{CHANGED, Load, Rates, Traffic};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Users whose records the server has to get again; some of them are registered and make the load.
const USERS: u32 = 200_000;
/// Seconds of load before the loss, of which the first are not looked at, while the server is away, and from its return on: it has to
/// be whole again under load.
const SETTLING: u32 = 5;
const BEFORE: u32 = 20;
const AWAY: u32 = 10;
const FROM_THEN: u32 = 60;
/// The server that loses its disk, by its place from 0.
const VICTIM: usize = 1;

/// A stretch of the course.
struct Stretch {
    name: &'static str,
    seconds: f64,
    took: BTreeMap<String, Took>,
    through: Through,
}

/// What was found.
struct Found {
    /// Seconds that the import took.
    import: f64,
    /// Records of all groups at the server before its disk was lost, and when it was whole again.
    records: (f64, f64),
    /// Seconds from its start until every group had all its copies.
    whole: f64,
    stretches: Vec<Stretch>,
    changes: Lost,
    bindings: Lost,
}

/// Measures and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Part, String> {
    println!("rejoin: {USERS} users");
    let mut pool =
        FrontEnds::start(binaries, &folder.join("rejoin"), Network::with_cables(), Shape::alone(GROUPS), None)?;
    let began = now();
    pool.import(USERS)?;
    let import = seconds(began, now());
    println!("  imported in {import:.1} s");
    let own = folder.join("rejoin-round");
    std::fs::create_dir_all(&own).map_err(|e| format!("{}: {e}", own.display()))?;
    let duration = SETTLING + BEFORE + AWAY + FROM_THEN;
    let load = Load { users: options.users, rates: Rates::of(options.load_percent), seconds: duration, goes_on: true };
    let mut traffic = Traffic::start(binaries, &pool, &own, 1, load)?;
    traffic.pass(SETTLING)?;
    let settled = now();
    traffic.pass(BEFORE)?;
    let before = pool.records(VICTIM)?;
    let lost = now();
    pool.kill(VICTIM);
    pool.wipe(VICTIM)?;
    traffic.pass(AWAY)?;
    let returned = now();
    pool.start_server(VICTIM)?;
    pool.healthy()?;
    let whole = now();
    let after = pool.records(VICTIM)?;
    if seconds(returned, whole) >= f64::from(FROM_THEN) {
        return Err(format!("whole again after {:.0} s, when the load had ended", seconds(returned, whole)));
    }
    println!("  whole again after {:.1} s", seconds(returned, whole));
    let (lines, changes, _) = traffic.end()?;
    let end = now();
    let stretch = |name, from, to| {
        let window = Window { hit: from, repaired: to, victim: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let (took, through) = (journal::took(&lines, &window), journal::through(&lines, &window));
        Stretch { name, seconds: seconds(from, to), took, through }
    };
    let stretches = vec![
        stretch("before", settled, lost),
        stretch("without it", lost, returned),
        stretch("while it gets its copies", returned, whole),
        stretch("after that", whole, end),
    ];
    // What the returned server itself says: it holds everything that was acknowledged while it was away.
    let lists = pool.read(VICTIM, "/api/v1/users/{user}/contacts", CHANGED.min(options.users))?;
    let bindings = pool.read(VICTIM, "/api/v1/users/{user}/registrations", options.users)?;
    let found = Found {
        import,
        records: (before, after),
        whole: seconds(returned, whole),
        stretches,
        changes: journal::lost_changes(1, &changes, &lists),
        bindings: journal::lost_bindings(&journal::bindings(&lines), &bindings),
    };
    Ok(report(options, &found))
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

impl Stretch {
    fn failed(&self) -> u64 {
        self.through.new.values().map(|new| new.failed).sum()
    }

    fn json(&self) -> Value {
        let took =
            |took: &Took| json!({"count": took.count, "p50_ms": took.half, "p99_ms": took.p99, "most_ms": took.most});
        let silent: u64 = self.through.new.values().map(|new| new.silent_first).sum();
        json!({
            "name": self.name, "seconds": self.seconds, "failed": self.failed(), "not_answered_first": silent,
            "failures": self.through.failures,
            "took": self.took.iter().map(|(kind, times)| (kind.clone(), took(times))).collect::<BTreeMap<String, Value>>(),
        })
    }
}

fn report(options: &Options, found: &Found) -> Part {
    let mut text = String::from("## A Front End comes back with an empty disk\n\n");
    let rates = Rates::of(options.load_percent);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{USERS} users in {GROUPS} groups (imported in {:.1} s), {} of them registered and under load: {:.0} REGISTER/s, {:.0} calls/s, {:.0} MESSAGE/s, \
         {:.0} changes of contact lists/s over UDP; generators and servers share all cores. One of the {SERVERS} is killed (kill -9), its disk is emptied, and it is \
         started {AWAY} s later. It has every copy of every group again, and counts again for a majority, **{:.1} s** after its start: {:.0} records, {:.0} before the \
         loss. The times are from a request's first sending to its acceptance; one that the dead server did not answer goes to another after 2 s and counts \
         with that wait.\n",
        found.import,
        options.users,
        rates.registers,
        rates.calls,
        rates.messages,
        rates.changes,
        found.whole,
        found.records.1,
        found.records.0
    );
    text.push_str(
        "| | s | REGISTER p50 / p99 / most, ms | MESSAGE | new calls | sent first to a server that did not answer | failed |\n|---|---|---|---|---|---|---|\n",
    );
    for stretch in &found.stretches {
        let of = |kind: &str| {
            let Took { half, p99, most, .. } = stretch.took.get(kind).copied().unwrap_or_default();
            format!("{half} / {p99} / {most}")
        };
        let silent: u64 = stretch.through.new.values().map(|new| new.silent_first).sum();
        let (register, message, call) = (of("register"), of("message"), of("call"));
        let _ = writeln!(
            text,
            "| {} | {:.1} | {register} | {message} | {call} | {silent} | {} |",
            stretch.name,
            stretch.seconds,
            stretch.failed()
        );
    }
    let failed: u64 = found.stretches.iter().map(Stretch::failed).sum();
    let broken: u64 = found.stretches.iter().map(|stretch| stretch.through.established - stretch.through.kept).sum();
    let lost = found.changes.count + found.bindings.count;
    let verdict = if failed + broken + lost == 0 && found.records.1 >= found.records.0 { "met" } else { "missed" };
    let _ = writeln!(
        text,
        "\nAsked of the returned server itself after it: {} of {} acknowledged changes and {} of {} bindings missing; {broken} established calls broken. Target: no \
         failed request, nothing lost. {verdict}.",
        found.changes.count, found.changes.looked_for, found.bindings.count, found.bindings.looked_for
    );
    let json = json!({
        "users": USERS, "import_seconds": found.import, "records": found.records, "whole_seconds": found.whole,
        "stretches": found.stretches.iter().map(Stretch::json).collect::<Vec<_>>(),
        "changes": {"looked_for": found.changes.looked_for, "lost": found.changes.count, "named": found.changes.named},
        "bindings": {"looked_for": found.bindings.looked_for, "lost": found.bindings.count, "named": found.bindings.named},
    });
    (text, json)
}

#[cfg(test)]
mod tests {
    //! The verdict.

    use super::*;

    fn found(failed: u64, records: f64) -> Found {
        let new = BTreeMap::from([("call".to_owned(), journal::New { sent: 10, failed, ..journal::New::default() })]);
        let stretch = Stretch {
            name: "before",
            seconds: 20.0,
            took: BTreeMap::from([("register".to_owned(), Took { count: 9, half: 1, p99: 4, most: 7 })]),
            through: Through { new, ..Through::default() },
        };
        let (changes, bindings) = (Lost::default(), Lost::default());
        Found { import: 40.0, records: (600_000.0, records), whole: 9.5, stretches: vec![stretch], changes, bindings }
    }

    #[test]
    fn no_request_may_fail_and_every_record_must_be_there() {
        let text = |failed, records| report(&Options::default(), &found(failed, records)).0;
        assert!(text(0, 600_000.0).contains("| before | 20.0 | 1 / 4 / 7 |"), "{}", text(0, 600_000.0));
        assert!(text(0, 600_000.0).contains("nothing lost. met."));
        assert!(text(1, 600_000.0).contains("missed.") && text(0, 599_999.0).contains("missed."));
    }
}
