//! Preflight: what is observed, and what it means for a command.
//!
//! Owns the facts' types, the findings' form and the order of the rules; each rule is in `rules`. Observing is the
//! shell's. Preflight changes nothing and can be run at any time.

use crate::mode::Mode;
use crate::plan::Command;
use crate::rules;
use pairline_group::io::{GroupStatus, Role};
use pairline_group::{Epoch, GroupId, Millis, PoolId};
use pairline_topology::policy::ProcedurePolicy;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One pool, as seen from where preflight runs. `None` = not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSight {
    /// Which.
    pub pool: PoolId,
    /// Short name.
    pub name: String,
    /// Its partner.
    pub partner: Option<PoolId>,
    /// Whether it answers now, by any path; the pool where preflight runs always does.
    pub reachable: bool,
    /// Its mode.
    pub mode: Mode,
    /// Release.
    pub version: Option<String>,
    /// Days until its first certificate expires.
    pub certificate_days: Option<u16>,
    /// Free disk in per cent.
    pub free_disk_percent: Option<u8>,
    /// Users whose home it is.
    pub users: Option<u32>,
    /// Users that it can serve.
    pub capacity_users: Option<u32>,
    /// Servers of other roles that send everything to this pool.
    pub next_hops: Vec<String>,
}

/// One pool's copy of a group, as last known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSight {
    /// Whose copy.
    pub at: PoolId,
    /// Its status.
    pub status: GroupStatus,
}

/// A procedure that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningProcedure {
    /// Its id.
    pub id: u128,
    /// What it is.
    pub what: String,
    /// Who ordered it.
    pub operator: String,
    /// Wall clock of its start.
    pub since: Millis,
}

/// Everything that the rules look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Where preflight runs.
    pub here: PoolId,
    /// Whether the link to the partner is up.
    pub link_up: bool,
    /// Milliseconds since the partner's last heartbeat; `None` if it was never heard.
    pub silent_for: Option<Millis>,
    /// Pools.
    pub pools: Vec<PoolSight>,
    /// Copies of groups, of both sides as far as known.
    pub groups: Vec<GroupSight>,
    /// Partner's wall clock minus ours.
    pub clock_offset_ms: Option<i64>,
    /// The procedure that has not ended, if any.
    pub running: Option<RunningProcedure>,
    /// Groups whose last verification found a difference.
    pub unequal: Vec<GroupId>,
    /// Bounds of the deployment.
    pub bounds: ProcedurePolicy,
    /// What is not replicated at all.
    pub not_replicated: Vec<String>,
}

impl Observed {
    /// A pool.
    pub fn pool(&self, pool: PoolId) -> Option<&PoolSight> {
        self.pools.iter().find(|p| p.pool == pool)
    }

    /// Short name of a pool.
    pub fn name_of(&self, pool: PoolId) -> String {
        self.pool(pool).map_or_else(|| format!("pool {}", pool.0), |p| p.name.clone())
    }

    /// A pool's copy of a group.
    pub fn copy(&self, group: GroupId, at: PoolId) -> Option<&GroupStatus> {
        self.groups.iter().find(|g| g.at == at && g.status.group == group).map(|g| &g.status)
    }

    /// Who serves a group: the word of the copy that knows the highest epoch. Among equal epochs an active copy's word
    /// counts, since it is the epoch's holder. A copy that stood down by order and has not heard of the promotion for which it did so
    /// is still its pool's to be moved: the server that gave the order may be lost, and then nobody serves the group.
    pub fn serving(&self, group: GroupId) -> Option<(Epoch, PoolId)> {
        let copies = self.groups.iter().filter(|g| g.status.group == group);
        let best = copies.max_by_key(|g| (g.status.epoch, g.status.role == Role::Active))?;
        Some((best.status.epoch, if has_stood_down(&best.status) { best.at } else { best.status.serving }))
    }

    /// Whether a copy serves nobody although its pool is the one that should: it has stopped, or it does not know of the promotion that made it
    /// so, since an older state of its disk was put back.
    pub fn is_idle(&self, copy: &GroupStatus) -> bool {
        let highest = self.groups.iter().filter(|g| g.status.group == copy.group).map(|g| g.status.epoch).max();
        copy.stopped.is_some() || (copy.role != Role::Active && highest.is_some_and(|epoch| copy.epoch < epoch))
    }

    /// All groups of which any copy is known, in order.
    pub fn group_ids(&self) -> Vec<GroupId> {
        let mut all: Vec<GroupId> = self.groups.iter().map(|g| g.status.group).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Whether a copy stood down by order and has not heard of the promotion for which it did so.
pub fn has_stood_down(copy: &GroupStatus) -> bool {
    copy.role == Role::Fenced && !copy.epoch.is_granted()
}

/// Name of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rule {
    /// The pool exists and has a partner.
    Paired,
    /// The command is given at the pool that will serve.
    Place,
    /// One procedure at a time.
    Running,
    /// There is something to move.
    Something,
    /// A pool that serves its partner's groups is not failed over.
    FailBackFirst,
    /// A healthy pool is not failed over as in a disaster.
    Healthy,
    /// A planned procedure needs the source.
    Reachable,
    /// The source is off, or it is accepted that it may go on.
    Fencing,
    /// The management store can carry the journal.
    ManagementStore,
    /// The target has a copy of every group.
    Seeded,
    /// Every copy is in order.
    Copies,
    /// The lag.
    Lag,
    /// The copies are equal.
    Verify,
    /// No divergent tail is open.
    Tail,
    /// The target can serve both populations.
    Capacity,
    /// The pools run the same release.
    Version,
    /// Certificates.
    Certificate,
    /// Clocks.
    Clock,
    /// Disk room.
    Disk,
    /// Next hops that point at the pool that is left.
    NextHop,
    /// What is not replicated.
    Exclusions,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing stands against it.
    Ok,
    /// Must be known, does not prevent.
    Warn,
    /// Prevents.
    Refuse,
}

/// One finding of preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// What it says.
    pub verdict: Verdict,
    /// What was found.
    pub reason: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warning",
            Verdict::Refuse => "REFUSED",
        };
        write!(f, "{word}: {:?}: {}", self.rule, self.reason)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " -> {}", self.remedy) }
    }
}

/// What a command means under these facts: who leaves, who serves next, which groups move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The pool whose groups move.
    pub pool: PoolId,
    /// Who serves them now.
    pub source: PoolId,
    /// Who serves next.
    pub target: PoolId,
    /// Groups to be moved, `cms` first if it is among them.
    pub groups: Vec<GroupId>,
}

/// Resolves a command.
///
/// # Errors
/// The finding that the pool does not exist or has no partner.
pub fn subject(command: &Command, seen: &Observed) -> Result<Subject, Finding> {
    let partner_of = |pool: PoolId| {
        seen.pool(pool).and_then(|p| p.partner).ok_or_else(|| Finding {
            rule: Rule::Paired,
            verdict: Verdict::Refuse,
            reason: format!("{} is not a paired pool of this deployment", seen.name_of(pool)),
            remedy: "pair it first: pairline pool pair".to_owned(),
        })
    };
    let served_by = |home: PoolId, by: PoolId| -> Vec<GroupId> {
        let of_home = seen.group_ids().into_iter().filter(|g| g.pool == home && !g.is_cms());
        of_home.filter(|g| seen.serving(*g).is_some_and(|(_, pool)| pool == by)).collect()
    };
    let cms_at = |pool: PoolId| seen.serving(GroupId::CMS).is_some_and(|(_, at)| at == pool);
    match command {
        Command::Failover { pool, .. } => {
            let target = partner_of(*pool)?;
            let mut groups = served_by(*pool, *pool);
            if cms_at(*pool) {
                groups.insert(0, GroupId::CMS);
            }
            Ok(Subject { pool: *pool, source: *pool, target, groups })
        }
        Command::Failback { pool, .. } | Command::Reclaim { pool, .. } => {
            let source = partner_of(*pool)?;
            let mut groups = served_by(*pool, source);
            if matches!(command, Command::Reclaim { .. }) {
                // A reclaim needs a journal: a management store that went to the lost partner is taken back with the rest.
                if cms_at(source) {
                    groups.insert(0, GroupId::CMS);
                }
                // While the partner answers, only what serves nobody there is taken back.
                let idle = |g: &GroupId| seen.copy(*g, source).is_some_and(|copy| seen.is_idle(copy));
                let answers = seen.pool(source).is_some_and(|p| p.reachable);
                if answers && groups.iter().any(idle) {
                    groups.retain(idle);
                }
            }
            Ok(Subject { pool: *pool, source, target: *pool, groups })
        }
        Command::ManagementFailover { to, .. } => {
            let source = partner_of(*to)?;
            let groups = if cms_at(source) { vec![GroupId::CMS] } else { Vec::new() };
            Ok(Subject { pool: source, source, target: *to, groups })
        }
    }
}

/// Applies every rule. The command can go on if no verdict is [`Verdict::Refuse`].
pub fn preflight(command: &Command, seen: &Observed) -> Vec<Finding> {
    match subject(command, seen) {
        Ok(subject) => rules::all(command, &subject, seen),
        Err(finding) => vec![finding],
    }
}
