//! The report of the rounds.
//!
//! Owns the sums over rounds, the tables and the verdicts. Measures nothing.

use super::Options;
use super::faults::{Fault, Round};
use super::journal::Lost;
use super::register::Part;
use super::traffic::Rates;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Most until new requests are served again, in milliseconds, of 95 of 100 rounds.
const TARGET: u64 = 2_000;
/// Most findings that are listed one by one.
const LISTED: usize = 40;

/// The value that this part in a hundred of the values does not exceed; none if any of them never came.
pub(crate) fn quantile(values: &[Option<u64>], percent: usize) -> Option<u64> {
    let mut sorted: Vec<u64> = values.iter().map(|value| value.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().filter(|value| *value != u64::MAX)
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "never".to_owned(), |value| value.to_string())
}

impl Round {
    /// When the last group was served again with REGISTER, and with MESSAGE and INVITE.
    fn worst(&self) -> [Option<u64>; 2] {
        let worst = |each: Vec<Option<u64>>| each.into_iter().try_fold(0, |worst, one| Some(one?.max(worst)));
        [
            worst(self.served.values().map(|served| served.register).collect()),
            worst(self.served.values().map(super::journal::Served::dialog).collect()),
        ]
    }

    fn json(&self) -> Value {
        let [register, dialog] = self.worst();
        let lost = |lost: &Lost| json!({"looked_for": lost.looked_for, "lost": lost.count, "named": lost.named});
        let calls = &self.calls;
        json!({
            "round": self.number, "fault": self.fault.name(), "server": format!("fe{}", self.victim + 1),
            "rates": self.rates, "register_ms": register, "dialog_ms": dialog,
            "failures": self.failures.kinds, "last_failure_ms": self.failures.last,
            "calls": {
                "new": calls.new, "failed_there": calls.failed_there, "failed_elsewhere": calls.failed_elsewhere,
                "established": calls.established, "made_there": calls.made_there, "kept": calls.kept,
                "kept_elsewhere": calls.kept_elsewhere, "broken": calls.broken,
            },
            "changes": lost(&self.changes), "bindings": lost(&self.bindings), "guests": self.guests.values().sum::<u32>(), "unsaid": self.unsaid, "healthy_s": self.healthy,
        })
    }
}

/// A round in one line.
pub(crate) fn line(round: &Round) -> String {
    let [register, dialog] = round.worst();
    let calls = &round.calls;
    format!(
        "  round {}, {} of fe{}: served again after {} ms (REGISTER), {} ms (MESSAGE, INVITE), last failure at another {} ms; calls kept {} of {}, \
         new failed {} + {} of {}; lost {} of {} changes, {} of {} bindings; healthy {:.1} s after the repair",
        round.number,
        round.fault.name(),
        round.victim + 1,
        shown(register),
        shown(dialog),
        round.failures.last,
        calls.kept,
        calls.established,
        calls.failed_there,
        calls.failed_elsewhere,
        calls.new,
        round.changes.count,
        round.changes.looked_for,
        round.bindings.count,
        round.bindings.looked_for,
        round.healthy
    )
}

/// The part of the report, for people and machines; `stopped` says why there are fewer rounds than asked for.
pub(crate) fn report(
    options: &Options,
    rounds: &[Round],
    groups: usize,
    why_not: Option<String>,
    stopped: Option<String>,
) -> Part {
    let mut text = introduction(options, rounds, groups, why_not.as_deref());
    text.push_str(
        "| | rounds | REGISTER p50 / p95 / most, ms | MESSAGE, INVITE p50 / p95 / most, ms | last failure at another p50 / p95, ms | changes \
         lost | bindings lost | calls kept | of these elsewhere | new calls failed, of all | healthy p95, s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let kinds: BTreeSet<Fault> = rounds.iter().map(|round| round.fault).collect();
    for fault in kinds {
        let of: Vec<&Round> = rounds.iter().filter(|round| round.fault == fault).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", row(fault.name(), &of));
    }
    let all: Vec<&Round> = rounds.iter().collect();
    let _ = writeln!(text, "{}\n", row("all", &all));
    let missed = verdicts(rounds, stopped.as_deref());
    let words = if missed.is_empty() { "met".to_owned() } else { format!("missed: {}", missed.join("; ")) };
    let _ = writeln!(
        text,
        "Targets: served again within {TARGET} ms (p95 over rounds, of the group that was served last), nothing lost, all established calls \
         kept. {words}."
    );
    text.push_str(&findings(rounds));
    let json = json!({
        "load_percent": options.load_percent, "missed": missed, "no_network_cut_because": why_not,
        "rounds": rounds.iter().map(Round::json).collect::<Vec<Value>>(),
    });
    (text, json)
}

fn introduction(options: &Options, rounds: &[Round], groups: usize, why_not: Option<&str>) -> String {
    let offered = Rates::of(options.load_percent);
    let mut reached: BTreeMap<&str, f64> = BTreeMap::new();
    for (kind, rate) in rounds.iter().flat_map(|round| &round.rates) {
        // Rounds are few.
        *reached.entry(kind).or_default() += rate / rounds.len() as f64;
    }
    let rate = |kind: &str| reached.get(kind).copied().unwrap_or(0.0);
    let place = match why_not {
        None => "Each server stands in a network of its own; a cut pulls its cable, to clients and servers.".to_owned(),
        Some(why) => format!("Cuts are left out: {why}."),
    };
    format!(
        "## One of three servers dies, freezes, is cut off\n\n\
         Under load: {:.0} REGISTER/s offered ({:.0} reached), {:.0} calls/s ({:.0}), {:.0} MESSAGE/s ({:.0}), {:.0} changes of contact \
         lists/s ({:.0}), {} users in {groups} groups; generators and servers share all cores. A fault lasts 10 s, under load, as does the \
         repair. {place} The server that is hit is each of the three in turn.\n\n\
         *Served again*: from the fault to the first success of a request that was sent after it, of the group for which that came last; \
         MESSAGE and INVITE from and to its users, of which there are {:.0} a second in each group, so that this is seen up to some tenths of \
         a second late. A client whose server does not answer goes to the next after 2 s, so its own wait is \
         longer; failures there are counted apart. *Last failure at another*: when the last new request was sent that a server that was well \
         refused or did not answer. *Calls kept*: established before the fault, re-INVITE and BYE accepted after it, sent first to the server \
         after the one that the call was made through. *Lost*: acknowledged before, while or after the fault, and not there when a \
         server that was well was asked for every one of them after the round; a binding also if it does not end when the last \
         acknowledged refresh says.\n\n",
        offered.registers,
        rate("register"),
        offered.calls,
        rate("call"),
        offered.messages,
        rate("message"),
        offered.changes,
        rate("change"),
        options.users,
        (offered.calls + offered.messages) / groups.max(1) as f64,
    )
}

fn row(name: &str, rounds: &[&Round]) -> String {
    let of = |values: &[Option<u64>]| {
        let [p50, p95, most] = [50, 95, 100].map(|percent| shown(quantile(values, percent)));
        (format!("{p50} / {p95}"), most)
    };
    let worst = |kind: usize| of(&rounds.iter().map(|round| round.worst()[kind]).collect::<Vec<_>>());
    let ((register, register_most), (dialog, dialog_most)) = (worst(0), worst(1));
    let (last, _) = of(&rounds.iter().map(|round| Some(round.failures.last)).collect::<Vec<_>>());
    let sum = |value: fn(&Round) -> u64| rounds.iter().map(|round| value(round)).sum::<u64>();
    let healthy: Vec<Option<u64>> = rounds.iter().map(|round| Some((round.healthy * 1000.0) as u64)).collect();
    format!(
        "| {name} | {} | {register} / {register_most} | {dialog} / {dialog_most} | {last} | {} of {} | {} of {} | {} of {} | {} | {} there, {} \
         elsewhere, of {} | {:.1} |",
        rounds.len(),
        sum(|r| r.changes.count),
        sum(|r| r.changes.looked_for),
        sum(|r| r.bindings.count),
        sum(|r| r.bindings.looked_for),
        sum(|r| u64::from(r.calls.kept)),
        sum(|r| u64::from(r.calls.established)),
        sum(|r| u64::from(r.calls.kept_elsewhere)),
        sum(|r| u64::from(r.calls.failed_there)),
        sum(|r| u64::from(r.calls.failed_elsewhere)),
        sum(|r| u64::from(r.calls.new)),
        quantile(&healthy, 95).map_or(f64::NAN, |ms| ms as f64 / 1000.0)
    )
}

/// What is missed.
fn verdicts(rounds: &[Round], stopped: Option<&str>) -> Vec<String> {
    let mut missed: Vec<String> = stopped.map(str::to_owned).into_iter().collect();
    for (kind, name) in [(0, "REGISTER"), (1, "MESSAGE and INVITE")] {
        let p95 = quantile(&rounds.iter().map(|round| round.worst()[kind]).collect::<Vec<_>>(), 95);
        if p95.is_none_or(|p95| p95 > TARGET) {
            missed.push(format!("{name} served again after {} ms", shown(p95)));
        }
    }
    let lost: u64 = rounds.iter().map(|round| round.changes.count + round.bindings.count).sum();
    if lost > 0 {
        missed.push(format!("{lost} lost"));
    }
    let broken: u32 = rounds.iter().map(|round| round.calls.established - round.calls.kept).sum();
    if broken > 0 {
        missed.push(format!("{broken} established calls broken"));
    }
    if !rounds.iter().any(|round| round.calls.established > 0 && round.changes.looked_for > 0) {
        missed.push("there was nothing to lose".to_owned());
    }
    missed
}

/// What was lost or broken one by one, and failures at servers that were well.
fn findings(rounds: &[Round]) -> String {
    let mut text = String::new();
    let each = rounds.iter().flat_map(|round| {
        let all =
            round.changes.named.iter().chain(&round.bindings.named).chain(&round.calls.broken).chain(&round.unsaid);
        all.map(move |what| {
            format!("- round {}, {} of fe{}: {what}", round.number, round.fault.name(), round.victim + 1)
        })
    });
    let each: Vec<String> = each.take(LISTED).collect();
    if !each.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\nLost, broken or not said, the first of them:\n\n{}", each.join("\n"));
    }
    for round in rounds.iter().filter(|round| !round.guests.is_empty()) {
        let by: Vec<String> = round.guests.iter().map(|(server, count)| format!("{count} by {server}")).collect();
        let (number, fault, victim) = (round.number, round.fault.name(), round.victim + 1);
        let _ = writeln!(
            text,
            "\nRound {number}, {fault} of fe{victim}: REGISTERs that were taken as those of guests, for some seconds and at that server only, though \
             the others had a majority: {}. Lost they are only if such a user has no binding at all that lasts as long.",
            by.join(", ")
        );
    }
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    for (kind, count) in rounds.iter().flat_map(|round| &round.failures.kinds) {
        *kinds.entry(kind).or_default() += count;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
    if !kinds.is_empty() {
        let _ = writeln!(
            text,
            "\nNew requests that servers that were well refused or did not answer while one was away, by step, status and words (0: no answer): {}.",
            kinds.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    //! Quantiles and verdicts.

    use super::super::journal::{Calls, Failures, Served};
    use super::*;

    fn round(register: Option<u64>) -> Round {
        let served = Served { register, from: Some(10), to: Some(20) };
        let calm = Served { register: Some(1), from: Some(1), to: Some(1) };
        let looked = Lost { looked_for: 5, ..Lost::default() };
        Round {
            number: 1,
            fault: Fault::Kill,
            victim: 2,
            rates: BTreeMap::from([("register", 100.0)]),
            served: BTreeMap::from([("east/1".to_owned(), served), ("east/2".to_owned(), calm)]),
            failures: Failures::default(),
            calls: Calls { established: 2, kept: 2, new: 3, ..Calls::default() },
            changes: looked.clone(),
            bindings: looked,
            guests: BTreeMap::new(),
            unsaid: Vec::new(),
            healthy: 1.0,
        }
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen_and_one_that_never_came_is_the_highest() {
        let values: Vec<Option<u64>> = (1..=20).map(Some).collect();
        assert_eq!([50, 95, 100].map(|percent| quantile(&values, percent)), [Some(10), Some(19), Some(20)]);
        assert_eq!(quantile(&[Some(1), None], 50), Some(1));
        assert_eq!(quantile(&[Some(1), None], 95), None);
        assert_eq!(quantile(&[], 95), None);
    }

    #[test]
    fn the_group_that_is_served_last_counts() {
        assert_eq!(round(Some(700)).worst(), [Some(700), Some(20)]);
        assert_eq!(round(None).worst(), [None, Some(20)]);
    }

    #[test]
    fn targets_are_met_only_if_all_of_them_are() {
        let options = Options::default();
        let (text, _) = report(&options, &[round(Some(700))], 2, None, None);
        assert!(text.contains("kept. met."), "{text}");
        assert!(
            text.contains("| kill -9 | 1 | 700 / 700 / 700 | 20 / 20 / 20 | 0 / 0 | 0 of 5 | 0 of 5 | 2 of 2 |"),
            "{text}"
        );
        let mut bad = round(None);
        (bad.changes.count, bad.calls.kept) = (1, 1);
        bad.changes.named.push("sip:c1 of u00001".to_owned());
        let (text, json) = report(&options, &[bad], 2, Some("no root".to_owned()), Some("round 2: gone".to_owned()));
        let wanted = "missed: round 2: gone; REGISTER served again after never ms; 1 lost; 1 established calls broken.";
        assert!(text.contains(wanted), "{text}");
        assert!(
            text.contains("- round 1, kill -9 of fe3: sip:c1 of u00001") && text.contains("left out: no root"),
            "{text}"
        );
        assert_eq!(json["rounds"][0]["changes"]["lost"], 1);
        assert!(!verdicts(&[], None).is_empty(), "no rounds prove nothing");
    }
}
