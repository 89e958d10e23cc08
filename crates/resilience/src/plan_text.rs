//! Plans as readable text.
//!
//! Owns the words only; the plan's content is `plan`'s.

use crate::plan::{FencePath, Plan, Step, StepKind};
use pairline_group::Millis;
use pairline_group::io::Lag;
use std::fmt;

/// A lag as people read it.
pub(crate) fn lag_text(lag: Lag) -> String {
    match lag {
        Lag::Unknown => "unknown".to_owned(),
        Lag::Exactly(ms) => seconds(ms),
        Lag::AtMost(ms) => format!("≤ {}", seconds(ms)),
    }
}

/// Milliseconds as seconds with three digits.
pub(crate) fn seconds(ms: Millis) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// The worst of several lags: unknown is worse than any figure.
pub(crate) fn worst(lags: impl Iterator<Item = Lag>) -> Option<Lag> {
    lags.max_by_key(|lag| match lag {
        Lag::Exactly(ms) => (0, *ms),
        Lag::AtMost(ms) => (1, *ms),
        Lag::Unknown => (2, 0),
    })
}

impl Plan {
    /// One step in words.
    pub fn describe(&self, step: &Step) -> String {
        match &step.kind {
            StepKind::Announce { pool, back: false } => {
                format!("announce the failover of {}", self.name_of(*pool))
            }
            StepKind::Announce { pool, back: true } => {
                format!("announce the failback of {}", self.name_of(*pool))
            }
            StepKind::Fence { pool, paths } => {
                let words: Vec<&str> = paths
                    .iter()
                    .map(|p| match p {
                        FencePath::Link => "link",
                        FencePath::Admin => "admin API",
                    })
                    .collect();
                format!("try to fence {} by {}", self.name_of(*pool), words.join(", "))
            }
            StepKind::CatchUp { bound, limit } => {
                format!("wait until the lag is below {} (at most {})", seconds(*bound), seconds(*limit))
            }
            StepKind::Handover { group, from, to } => {
                format!("hand {group} over from {} to {}", self.name_of(*from), self.name_of(*to))
            }
            StepKind::Promote { group, to } => format!("promote {group} at {}", self.name_of(*to)),
            StepKind::MoveClients { from, to } => {
                format!("begin to move clients from {} to {}, paced", self.name_of(*from), self.name_of(*to))
            }
            StepKind::Close => "write down who serves, end the procedure, report".to_owned(),
        }
    }

    /// The loss to be expected, in words.
    pub fn expected_loss(&self) -> String {
        if !self.command.is_disaster() {
            return "none: each group moves only when the target has everything, else it does not move".to_owned();
        }
        let lag = worst(self.recovery.iter().map(|r| r.lag)).map_or_else(|| "unknown".to_owned(), lag_text);
        let silent = self.silent_for.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", seconds(ms)));
        format!(
            "{} was last heard {silent}; what it committed within {lag} before now may be missing; anything later is \
             unknown. It is kept there as divergent tail and can be applied when {} returns",
            self.name_of(self.source),
            self.name_of(self.source)
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {:032x}: {}", self.id, self.command.name())?;
        writeln!(f, "  ordered by {}: {}", self.operator, self.command.reason())?;
        let (from, to) = (self.name_of(self.source), self.name_of(self.target));
        writeln!(f, "  from {from} to {to}; runs at {to}")?;
        if let Some(id) = self.supersedes {
            writeln!(f, "  replaces procedure {id:032x}")?;
        }
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        writeln!(f, "  expected loss: {}", self.expected_loss())?;
        for step in &self.steps {
            writeln!(f, "  {:>4}. at {}: {}", step.number, self.name_of(step.at), self.describe(step))?;
        }
        self.users_see.iter().try_for_each(|line| writeln!(f, "  users: {line}"))?;
        self.will_not.iter().try_for_each(|line| writeln!(f, "  it will not {line}"))?;
        self.excluded.iter().try_for_each(|line| writeln!(f, "  not replicated: {line}"))
    }
}
