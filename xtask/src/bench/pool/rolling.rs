//! All servers of a pool are restarted under load, one after the other, by the one command that does it.
//!
//! Owns the course of the rounds and their report. The load and the arithmetic are others'.

use super::super::Binaries;
use super::Options;
use super::faults::{GROUPS, now};
use super::front_ends::{FrontEnds, Shape};
use super::journal::{self, Lost, New, Through, Window};
use super::network::{Network, SERVERS};
use super::register::Part;
use super::traffic::{CHANGED, Load, Rates, Traffic};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Seconds of load before the restart, and from its beginning: all of it has to happen under load.
const BEFORE: u32 = 8;
const FROM_THEN: u32 = 60;
/// Most findings that are listed one by one.
const LISTED: usize = 40;

/// What one round gave.
#[derive(Debug)]
struct Round {
    number: u32,
    /// Successes a second before the restart, by kind.
    rates: BTreeMap<&'static str, f64>,
    /// Seconds from the command to its end: every server is back, and the pool healthy.
    seconds: f64,
    /// The command's own words.
    steps: Vec<String>,
    through: Through,
    changes: Lost,
    bindings: Lost,
    guests: BTreeMap<SocketAddr, u32>,
}

/// Plays all rounds and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Part, String> {
    let pool = FrontEnds::start(binaries, &folder.join("rolling"), Network::with_cables(), Shape::alone(GROUPS), None)?;
    pool.import(options.users)?;
    let mut rounds = Vec::new();
    let mut stopped = None;
    for number in 1..=options.rounds {
        match play(binaries, folder, &pool, options, number) {
            Ok(round) => {
                println!("{}", line(&round));
                rounds.push(round);
            }
            Err(error) => {
                println!("  round {number}: {error}");
                stopped = Some(format!("round {number}: {error}"));
                break;
            }
        }
    }
    Ok(report(options, &rounds, stopped))
}

fn play(binaries: &Binaries, folder: &Path, pool: &FrontEnds, options: &Options, number: u32) -> Result<Round, String> {
    let own = folder.join(format!("rolling-round-{number}"));
    std::fs::create_dir_all(&own).map_err(|e| format!("{}: {e}", own.display()))?;
    let rates = Rates::of(options.load_percent);
    let load = Load { users: options.users, rates, seconds: BEFORE + FROM_THEN, goes_on: true };
    let mut traffic = Traffic::start(binaries, pool, &own, number, load)?;
    let began = now();
    traffic.pass(BEFORE)?;
    let hit = now();
    let said = pool.cli(&["pool", "restart", "east"])?;
    let repaired = now();
    let seconds = repaired.saturating_sub(hit) as f64 / 1000.0;
    if seconds >= f64::from(FROM_THEN) {
        return Err(format!("the restart took {seconds:.0} s and the load had ended before"));
    }
    let (lines, changes, _) = traffic.end()?;
    let window = Window { hit, repaired, victim: SocketAddr::from(([0, 0, 0, 0], 0)) };
    let survivor = number as usize % SERVERS;
    let lists = pool.read(survivor, "/api/v1/users/{user}/contacts", CHANGED.min(options.users))?;
    let bindings = pool.read(survivor, "/api/v1/users/{user}/registrations", options.users)?;
    let round = Round {
        number,
        rates: journal::rates(&lines, &changes, began, hit),
        seconds,
        steps: said.lines().map(str::to_owned).collect(),
        through: journal::through(&lines, &window),
        changes: journal::lost_changes(number, &changes, &lists),
        bindings: journal::lost_bindings(&journal::bindings(&lines), &bindings),
        guests: journal::guests(&lines),
    };
    if round.is_clean() {
        // What nobody needs to look into is not kept.
        let _ = std::fs::remove_dir_all(&own);
    }
    Ok(round)
}

impl Round {
    fn of(&self, kind: &str) -> New {
        self.through.new.get(kind).copied().unwrap_or_default()
    }

    fn is_clean(&self) -> bool {
        let failed: u64 = self.through.new.values().map(|new| new.failed).sum();
        self.changes.count + self.bindings.count + failed == 0 && self.through.established == self.through.kept
    }

    fn json(&self) -> Value {
        let lost = |lost: &Lost| json!({"looked_for": lost.looked_for, "lost": lost.count, "named": lost.named});
        let new: BTreeMap<&String, Value> = self
            .through
            .new
            .iter()
            .map(|(kind, new)| {
                let New { sent, refused_first, silent_first, failed, slowest } = new;
                let value = json!({
                    "sent": sent, "refused_first": refused_first, "silent_first": silent_first, "failed": failed, "slowest_ms": slowest,
                });
                (kind, value)
            })
            .collect();
        json!({
            "round": self.number, "seconds": self.seconds, "steps": self.steps, "rates": self.rates, "new": new,
            "failures": self.through.failures,
            "calls": {"established": self.through.established, "kept": self.through.kept, "broken": self.through.broken},
            "changes": lost(&self.changes), "bindings": lost(&self.bindings), "guests": self.guests.values().sum::<u32>(),
        })
    }
}

/// A round in one line.
fn line(round: &Round) -> String {
    let new = |kind: &str| {
        let New { sent, refused_first, silent_first, failed, slowest } = round.of(kind);
        format!(
            "{kind} {sent} sent, {refused_first} refused first, {silent_first} not answered first, {failed} failed, slowest {slowest} ms"
        )
    };
    format!(
        "  round {}: all restarted in {:.1} s; {}; {}; {}; calls kept {} of {}; lost {} of {} changes, {} of {} bindings; failures {:?}",
        round.number,
        round.seconds,
        new("call"),
        new("message"),
        new("register"),
        round.through.kept,
        round.through.established,
        round.changes.count,
        round.changes.looked_for,
        round.bindings.count,
        round.bindings.looked_for,
        round.through.failures,
    )
}

/// The part of the report, for people and machines; `stopped` says why there are fewer rounds than asked for.
fn report(options: &Options, rounds: &[Round], stopped: Option<String>) -> Part {
    let mut text = introduction(options, rounds);
    text.push_str(
        "| round | s | calls kept | new calls: sent / refused first / not answered first / failed / slowest, ms | MESSAGE: the same | REGISTER: the \
         same | changes lost | bindings lost |\n|---|---|---|---|---|---|---|---|\n",
    );
    for round in rounds {
        let new = |kind: &str| {
            let New { sent, refused_first, silent_first, failed, slowest } = round.of(kind);
            format!("{sent} / {refused_first} / {silent_first} / {failed} / {slowest}")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {} of {} | {} | {} | {} | {} of {} | {} of {} |",
            round.number,
            round.seconds,
            round.through.kept,
            round.through.established,
            new("call"),
            new("message"),
            new("register"),
            round.changes.count,
            round.changes.looked_for,
            round.bindings.count,
            round.bindings.looked_for
        );
    }
    let missed = verdicts(rounds, stopped);
    let words = if missed.is_empty() { "met".to_owned() } else { format!("missed: {}", missed.join("; ")) };
    let _ = writeln!(text, "\nTargets: nothing lost, all established calls kept, no new call failed. {words}.");
    text.push_str(&findings(rounds));
    let json = json!({
        "load_percent": options.load_percent, "missed": missed, "rounds": rounds.iter().map(Round::json).collect::<Vec<Value>>(),
    });
    (text, json)
}

fn introduction(options: &Options, rounds: &[Round]) -> String {
    let offered = Rates::of(options.load_percent);
    let mean = |kind: &str| {
        let sum: f64 = rounds.iter().filter_map(|round| round.rates.get(kind)).sum();
        sum / rounds.len().max(1) as f64
    };
    format!(
        "## All servers are restarted under load, one after the other\n\n\
         `pairline pool restart` while {:.0} REGISTER/s are offered ({:.0} reached before it), {:.0} calls/s ({:.0}), {:.0} MESSAGE/s ({:.0}), {:.0} \
         changes of contact lists/s ({:.0}), {} users in {GROUPS} groups over UDP; generators and servers share all cores. A client whose new \
         request is refused with 503, or not answered for 2 s, sends it to the next server, as one does that has found the pool by SRV. *s*: from \
         the command until all three are back and the pool is healthy; new requests are those sent in that time. *Calls kept*: \
         established before its end and ended after its beginning, re-INVITE and BYE accepted, sent first to the server after the one that the \
         call was made through. *Lost*: acknowledged at any time of the round, and not there when one server was asked for everything after \
         it; a binding also if it does not end when the last acknowledged refresh says.\n\n",
        offered.registers,
        mean("register"),
        offered.calls,
        mean("call"),
        offered.messages,
        mean("message"),
        offered.changes,
        mean("change"),
        options.users,
    )
}

/// What is missed.
fn verdicts(rounds: &[Round], stopped: Option<String>) -> Vec<String> {
    let mut missed: Vec<String> = stopped.into_iter().collect();
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(value).sum::<u64>();
    let named = [
        (sum(|round| round.changes.count + round.bindings.count), "lost"),
        (sum(|round| round.through.established - round.through.kept), "established calls broken"),
        (sum(|round| round.of("call").failed), "new calls failed"),
    ];
    missed.extend(named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    if !rounds.iter().any(|round| round.through.established > 0 && round.changes.looked_for > 0) {
        missed.push("there was nothing to lose".to_owned());
    }
    missed
}

/// What was lost, broken or refused, one by one.
fn findings(rounds: &[Round]) -> String {
    let mut text = String::new();
    let each = rounds.iter().flat_map(|round| {
        let all = round.changes.named.iter().chain(&round.bindings.named).chain(&round.through.broken);
        all.map(move |what| format!("- round {}: {what}", round.number))
    });
    let each: Vec<String> = each.take(LISTED).collect();
    if !each.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nLost or broken, the first of them:\n\n{}", each.join("\n"));
    }
    let guests: u32 = rounds.iter().flat_map(|round| round.guests.values()).sum();
    if guests > 0 {
        let _ = writeln!(text, "\nREGISTERs that were taken as those of guests, for some seconds: {guests}.");
    }
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for (kind, count) in rounds.iter().flat_map(|round| &round.through.failures) {
        *kinds.entry(kind).or_default() += count;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
    if !kinds.is_empty() {
        let _ = writeln!(
            text,
            "\nNew requests that no server accepted, by step, status, words and the last server asked (0: no answer): {}.",
            kinds.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    //! Verdicts.

    use super::*;

    fn round() -> Round {
        let looked = Lost { looked_for: 5, ..Lost::default() };
        let call = New { sent: 9, refused_first: 2, silent_first: 1, failed: 0, slowest: 2_100 };
        let through =
            Through { new: BTreeMap::from([("call".to_owned(), call)]), established: 3, kept: 3, ..Through::default() };
        Round {
            number: 1,
            rates: BTreeMap::from([("call", 10.0)]),
            seconds: 7.5,
            steps: Vec::new(),
            through,
            changes: looked.clone(),
            bindings: looked,
            guests: BTreeMap::new(),
        }
    }

    #[test]
    fn a_round_is_met_only_if_nothing_is_lost_broken_or_failed() {
        let (text, _) = report(&Options::default(), &[round()], None);
        assert!(text.contains("no new call failed. met."), "{text}");
        assert!(text.contains("| 1 | 7.5 | 3 of 3 | 9 / 2 / 1 / 0 / 2100 | 0 / 0 / 0 / 0 / 0 |"), "{text}");
        let mut bad = round();
        (bad.changes.count, bad.through.kept) = (1, 1);
        bad.through.new.entry("call".to_owned()).or_default().failed = 4;
        assert!(!bad.is_clean() && round().is_clean());
        let (text, json) = report(&Options::default(), &[bad], Some("round 2: gone".to_owned()));
        assert!(
            text.contains("missed: round 2: gone; 1 lost; 2 established calls broken; 4 new calls failed."),
            "{text}"
        );
        assert_eq!(json["rounds"][0]["new"]["call"]["failed"], 4);
        assert!(!verdicts(&[], None).is_empty(), "no rounds prove nothing");
    }
}
