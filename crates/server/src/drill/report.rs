//! The drill's one table, and the same for machines.
//!
//! Owns its form.

use super::board::{Counts, What};
use super::kills;
use super::proofs::Proof;
use super::rounds::Round;
use crate::cli::table::{millis, table};
use serde::Serialize;

/// One stage as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct StageLine {
    /// Name.
    pub stage: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Requests that began in it and succeeded.
    pub good: Requests,
    /// Requests that began in it and failed.
    pub failed: Requests,
    /// Why, and how often.
    pub reasons: Vec<(String, u64)>,
}

/// Counts by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// REGISTER.
    pub registers: u64,
    /// Whole calls.
    pub calls: u64,
    /// MESSAGE.
    pub messages: u64,
    /// Contact changes.
    pub changes: u64,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// What was promised or is demanded.
    pub promised: String,
    /// What was measured.
    pub actual: String,
}

/// The whole report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Users, rates and transport shares.
    pub setting: String,
    /// Stages in order.
    pub stages: Vec<StageLine>,
    /// Rounds of `--kills`, in order.
    pub rounds: Vec<Round>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// Proofs.
    pub proofs: Vec<Proof>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Why the drill ended early, if it did.
    pub ended_early: Option<String>,
}

impl Requests {
    /// From counts by kind.
    pub fn of(counts: &std::collections::BTreeMap<What, u64>) -> Requests {
        let count = |what| counts.get(&what).copied().unwrap_or(0);
        Requests {
            registers: count(What::Register),
            calls: count(What::Call),
            messages: count(What::Message),
            changes: count(What::Change),
        }
    }
}

impl StageLine {
    /// From a stage's counts.
    pub fn new(stage: &str, took_ms: u64, counts: &Counts) -> StageLine {
        let mut reasons: Vec<(String, u64)> = counts.reasons.iter().map(|(why, count)| (why.clone(), *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons.truncate(8);
        StageLine {
            stage: stage.to_owned(),
            took_ms,
            good: Requests::of(&counts.good),
            failed: Requests::of(&counts.bad),
            reasons,
        }
    }
}

impl Report {
    /// Adds a figure.
    pub fn figure(&mut self, name: &str, promised: impl Into<String>, actual: impl Into<String>) {
        self.figures.push(Figure { name: name.to_owned(), promised: promised.into(), actual: actual.into() });
    }

    /// Whether the drill was played to its end and every proof holds.
    pub fn holds(&self) -> bool {
        self.ended_early.is_none() && !self.proofs.is_empty() && self.proofs.iter().all(|proof| proof.holds)
    }

    /// The table.
    pub fn text(&self) -> String {
        let mut text = format!("\nPairline drill: {}\n\n", self.setting);
        let rows: Vec<Vec<String>> = self
            .stages
            .iter()
            .map(|line| {
                let pair = |good: u64, failed: u64| format!("{good} / {failed}");
                vec![
                    line.stage.clone(),
                    millis(line.took_ms),
                    pair(line.good.registers, line.failed.registers),
                    pair(line.good.calls, line.failed.calls),
                    pair(line.good.messages, line.failed.messages),
                    pair(line.good.changes, line.failed.changes),
                ]
            })
            .collect();
        text.push_str(
            "requests by stage in which they began (calls under way at the kill began before it): good / failed\n",
        );
        text.push_str(&table(&["STAGE", "TIME", "REGISTER", "CALLS", "MESSAGES", "CHANGES"], &rows));
        if !self.rounds.is_empty() {
            text.push('\n');
            text.push_str(&table(&kills::HEADER, &kills::lines(&self.rounds)));
        }
        let rows: Vec<Vec<String>> =
            self.figures.iter().map(|f| vec![f.name.clone(), f.promised.clone(), f.actual.clone()]).collect();
        text.push('\n');
        text.push_str(&table(&["FIGURE", "PROMISED", "ACTUAL"], &rows));
        let rows: Vec<Vec<String>> = self
            .proofs
            .iter()
            .map(|p| vec![if p.holds { "holds" } else { "FAILS" }.into(), p.claim.into(), p.figures.clone()])
            .collect();
        text.push('\n');
        text.push_str(&table(&["PROOF", "CLAIM", "FIGURES"], &rows));
        for skipped in &self.skipped {
            text.push_str(&format!("skipped: {skipped}\n"));
        }
        if let Some(why) = &self.ended_early {
            text.push_str(&format!("\nENDED EARLY: {why}\n"));
        }
        text.push_str(if self.holds() { "\nevery proof holds\n" } else { "\nNOT every proof holds\n" });
        text
    }
}
