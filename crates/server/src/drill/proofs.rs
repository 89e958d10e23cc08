//! What a drill proves: each claim with its verdict and the figures behind it.
//!
//! Owns the comparisons of ledger, lists and tail. Computes only; the stages ask and read.

use super::ledger::{Change, State};
use super::swarm::Swarm;
use pairline_node::view::{DivergenceView, TailEntryView, VerifyView};
use pairline_services::contacts;
use pairline_sip::Aor;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What is claimed.
    pub claim: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The figures.
    pub figures: String,
}

impl Proof {
    /// A claim with its verdict.
    pub fn new(claim: &'static str, holds: bool, figures: impl Into<String>) -> Proof {
        Proof { claim, holds, figures: figures.into() }
    }
}

/// A change's operation id as the tail shows it.
pub fn op_text(swarm: &Swarm, change: &Change) -> Option<String> {
    let who = swarm.people.get(change.user)?;
    let aor = Aor::parse(&who.aor())?;
    let op = contacts::op_id(&aor, &change.op.0, change.op.1);
    Some(format!("{:032x}:{}", op.session, op.counter))
}

/// Everything that was lost was acknowledged no earlier than the recovery point that the failover promised.
///
/// The target looks at its lag after the command was given, so the promise reaches back to the same moment or an earlier
/// one, and a change is acknowledged after it is committed: no tolerance is needed, but for two clocks that count whole
/// milliseconds.
pub fn recovery_point(missing: &[Change], asked_at: u64, promised_lag_ms: Option<u64>) -> Proof {
    const CLAIM: &str = "everything acknowledged up to the reported recovery point is present";
    const ROUNDING_MS: u64 = 2;
    let oldest = missing.iter().filter_map(|change| match change.state {
        State::Acknowledged(at) => Some(at),
        _ => None,
    });
    match (oldest.min(), promised_lag_ms) {
        (_, None) => Proof::new(CLAIM, false, "the failover reported no recovery point"),
        (None, Some(lag)) => Proof::new(CLAIM, true, format!("nothing is missing; promised ≤ {lag} ms")),
        (Some(oldest), Some(lag)) => {
            let age = asked_at.saturating_sub(oldest);
            let figures = format!(
                "{} missing, the oldest acknowledged {age} ms before the command; promised ≤ {lag} ms",
                missing.len()
            );
            Proof::new(CLAIM, age <= lag + ROUNDING_MS, figures)
        }
    }
}

/// Acknowledged minus present equals the tail's acknowledged durable entries, entry by entry; what else is in the tail was
/// sent and never answered.
pub fn tail(swarm: &Swarm, missing: &[Change], unknown: &[Change], tail: &DivergenceView) -> Vec<Proof> {
    let by_op = |changes: &[Change]| -> BTreeMap<String, Change> {
        changes.iter().filter_map(|change| Some((op_text(swarm, change)?, change.clone()))).collect()
    };
    let (missing, unknown) = (by_op(missing), by_op(unknown));
    let durable: Vec<&TailEntryView> = tail.entries.iter().filter(|entry| entry.durable).collect();
    let in_tail: BTreeSet<&str> = durable.iter().filter_map(|entry| entry.op.as_deref()).collect();
    let not_in_tail = missing.keys().filter(|op| !in_tail.contains(op.as_str())).count();
    let answered_none = in_tail.iter().filter(|op| unknown.contains_key(**op)).count();
    let strangers = in_tail.iter().filter(|op| !missing.contains_key(**op) && !unknown.contains_key(**op)).count();
    let nameless = durable.iter().filter(|entry| entry.op.is_none()).count();
    let unlike = missing
        .iter()
        .filter(|(op, change)| {
            let entry = durable.iter().find(|entry| entry.op.as_deref() == Some(op.as_str()));
            entry.is_some_and(|entry| !entry.records.iter().any(|record| record.contains(&change.contact)))
        })
        .count();
    vec![
        Proof::new(
            "acknowledged minus present lies in the tail, entry by entry",
            not_in_tail == 0 && unlike == 0,
            format!("{} missing, {not_in_tail} of them not in the tail, {unlike} with another content", missing.len()),
        ),
        Proof::new(
            "the loss equals the tail's acknowledged durable entries exactly",
            not_in_tail == 0 && strangers == 0 && nameless == 0 && in_tail.len() == missing.len() + answered_none,
            format!(
                "tail {} entries, {} durable: {} acknowledged and missing, {answered_none} sent and never answered, {strangers} others",
                tail.entries.len(),
                durable.len(),
                missing.len() - not_in_tail,
            ),
        ),
    ]
}

/// Everything that was acknowledged is in the lists that were read, nothing that was refused, and nothing that nobody asked for.
pub fn exact(changes: &[Change], lists: &BTreeMap<usize, BTreeSet<String>>) -> Proof {
    let mut asked: BTreeMap<(usize, &str), &State> = BTreeMap::new();
    for change in changes {
        asked.insert((change.user, &change.contact), &change.state);
    }
    let there: BTreeSet<(usize, &str)> =
        lists.iter().flat_map(|(user, list)| list.iter().map(|contact| (*user, contact.as_str()))).collect();
    let acknowledged = asked.iter().filter(|(_, state)| matches!(state, State::Acknowledged(_)));
    let missing = acknowledged.clone().filter(|(change, _)| !there.contains(*change)).count();
    let refused = asked.iter().filter(|(change, state)| **state == &State::Refused && there.contains(*change)).count();
    let strangers = there.iter().filter(|change| !asked.contains_key(*change)).count();
    let acknowledged = acknowledged.count();
    Proof::new(
        "every acknowledged change is there, exactly",
        acknowledged > 0 && missing + refused + strangers == 0,
        format!(
            "{acknowledged} acknowledged, {missing} missing; {refused} there though refused; {strangers} that nobody asked for"
        ),
    )
}

/// Every durable entry of the tail found its end, none in conflict.
pub fn applied(tail: &DivergenceView) -> Proof {
    let count = |outcome: &str| tail.entries.iter().filter(|entry| entry.durable && entry.outcome == outcome).count();
    let durable = tail.entries.iter().filter(|entry| entry.durable).count();
    let settled = count("applied") + count("skipped");
    let figures = format!(
        "{durable} durable: {} applied, {} skipped, {} in conflict, {} open",
        count("applied"),
        count("skipped"),
        count("conflict"),
        count("open")
    );
    Proof::new("the tail is applied whole", settled == durable, figures)
}

/// All groups of both pools are equal on both sides.
pub fn equal(views: &[VerifyView]) -> Proof {
    let figures: Vec<String> = views
        .iter()
        .map(|view| {
            let first = view.unequal.first().map(|(group, at, _)| format!(" ({group} differs at {at})"));
            let first = first.or(view.skipped.first().map(|(group, why)| format!(" ({group}: {why})")));
            format!("{}: {} of {} groups{}", view.pool, view.equal, view.groups, first.unwrap_or_default())
        })
        .collect();
    let holds = !views.is_empty() && views.iter().all(crate::cli::render_pool::verified_all);
    Proof::new("both copies of all groups are equal by digest", holds, figures.join(", "))
}
