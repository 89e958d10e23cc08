//! Commands of an administrator and the plans made of them: inert data, printed before anything happens.
//!
//! Owns their types and encoding. Whether a plan may be made is `preflight`'s, its steps' order `planner`'s, carrying it
//! out `runner`'s.

use crate::codec::{self, CodecError};
use crate::preflight::Finding;
use bytes::Bytes;
use pairline_group::io::Lag;
use pairline_group::{GroupId, Millis, PoolId, Position, StepRef};
use serde::{Deserialize, Serialize};

/// What an administrator orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Have the partner serve everything that `pool` serves of its own (and the management store, if it is there).
    Failover {
        /// The pool to be left.
        pool: PoolId,
        /// The pool is lost: promote instead of handing over; entries after the recovery point are lost for now.
        disaster: bool,
        /// Plan only.
        dry_run: bool,
        /// Accept the findings that may be accepted.
        force: bool,
        /// The administrator states that the pool is off.
        confirm_source_off: bool,
        /// Why, for the audit.
        reason: String,
    },
    /// Bring the groups of `pool` home.
    Failback {
        /// The home pool.
        pool: PoolId,
        /// Plan only.
        dry_run: bool,
        /// Accept the findings that may be accepted.
        force: bool,
        /// Why, for the audit.
        reason: String,
    },
    /// Move the management store alone.
    ManagementFailover {
        /// Who serves it next.
        to: PoolId,
        /// Its present pool is lost.
        disaster: bool,
        /// Plan only.
        dry_run: bool,
        /// Accept the findings that may be accepted.
        force: bool,
        /// The administrator states that the present pool is off.
        confirm_source_off: bool,
        /// Why, for the audit.
        reason: String,
    },
    /// Take back at home, in a new epoch, the groups that are with a partner that is lost or never got them.
    Reclaim {
        /// The home pool.
        pool: PoolId,
        /// Plan only.
        dry_run: bool,
        /// The administrator states that the partner is off. Needed; nothing overrides it.
        confirm_target_off: bool,
        /// Why, for the audit.
        reason: String,
    },
}

impl Command {
    /// Whether groups are promoted rather than handed over.
    pub fn is_disaster(&self) -> bool {
        match self {
            Command::Failover { disaster, .. } | Command::ManagementFailover { disaster, .. } => *disaster,
            Command::Failback { .. } => false,
            Command::Reclaim { .. } => true,
        }
    }

    /// Whether only a plan is wanted.
    pub fn is_dry_run(&self) -> bool {
        match self {
            Command::Failover { dry_run, .. }
            | Command::Failback { dry_run, .. }
            | Command::ManagementFailover { dry_run, .. }
            | Command::Reclaim { dry_run, .. } => *dry_run,
        }
    }

    /// The same order, only to be looked at.
    pub fn as_dry_run(&self) -> Command {
        let mut order = self.clone();
        match &mut order {
            Command::Failover { dry_run, .. }
            | Command::Failback { dry_run, .. }
            | Command::ManagementFailover { dry_run, .. }
            | Command::Reclaim { dry_run, .. } => *dry_run = true,
        }
        order
    }

    /// Whether findings that may be accepted are.
    pub fn is_forced(&self) -> bool {
        match self {
            Command::Failover { force, .. }
            | Command::Failback { force, .. }
            | Command::ManagementFailover { force, .. } => *force,
            Command::Reclaim { .. } => false,
        }
    }

    /// Whether the administrator stated that the pool that is left is off.
    pub fn says_source_off(&self) -> bool {
        match self {
            Command::Failover { confirm_source_off, .. } | Command::ManagementFailover { confirm_source_off, .. } => {
                *confirm_source_off
            }
            Command::Failback { .. } => false,
            Command::Reclaim { confirm_target_off, .. } => *confirm_target_off,
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Command::Failover { reason, .. }
            | Command::Failback { reason, .. }
            | Command::ManagementFailover { reason, .. }
            | Command::Reclaim { reason, .. } => reason,
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Failover { disaster: false, .. } => "pool failover (planned)",
            Command::Failover { disaster: true, .. } => "pool failover (disaster)",
            Command::Failback { .. } => "pool failback",
            Command::ManagementFailover { disaster: false, .. } => "management store failover (planned)",
            Command::ManagementFailover { disaster: true, .. } => "management store failover (disaster)",
            Command::Reclaim { .. } => "reclaim",
        }
    }
}

/// A way to reach the pool that is to be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FencePath {
    /// The link between the pools.
    Link,
    /// The admin API of its servers.
    Admin,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepKind {
    /// Tells every server that the procedure runs.
    Announce {
        /// Whose mode changes.
        pool: PoolId,
        /// Failback rather than failover.
        back: bool,
    },
    /// Tries to make the pool that is left stop, by every path, and records which answered.
    Fence {
        /// The pool.
        pool: PoolId,
        /// The paths.
        paths: Vec<FencePath>,
    },
    /// Waits until the lag of all groups to be moved is below the bound.
    CatchUp {
        /// Milliseconds.
        bound: Millis,
        /// The longest wait in milliseconds.
        limit: Millis,
    },
    /// Appends `Handover` at the pool that serves and awaits that the target is active.
    Handover {
        /// Which group.
        group: GroupId,
        /// Who serves now.
        from: PoolId,
        /// Who serves next.
        to: PoolId,
    },
    /// Appends `Promote` at the target and awaits that it is active.
    Promote {
        /// Which group.
        group: GroupId,
        /// Who serves next.
        to: PoolId,
    },
    /// Begins to move clients, paced; not awaited.
    MoveClients {
        /// Where they are.
        from: PoolId,
        /// Where they go.
        to: PoolId,
    },
    /// Writes down who serves now, ends the procedure, makes the report.
    Close,
}

/// One step. All steps are idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its number, from 1, as in [`StepRef`].
    pub number: u32,
    /// Where it has its effect.
    pub at: PoolId,
    /// What it does.
    pub kind: StepKind,
}

impl Step {
    /// The group that it moves, if it moves one.
    pub fn group(&self) -> Option<GroupId> {
        match self.kind {
            StepKind::Handover { group, .. } | StepKind::Promote { group, .. } => Some(group),
            _ => None,
        }
    }
}

/// What the target held of one group when the plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Which group.
    pub group: GroupId,
    /// The target's position.
    pub position: Position,
    /// The lag as known at the target (disaster) or at the source (planned).
    pub lag: Lag,
}

/// Bounds that the runner keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Groups in flight at once.
    pub parallel: u16,
    /// Asking again without an answer, before the procedure stops.
    pub attempts: u32,
    /// Milliseconds to wait for an answer before asking again.
    pub answer: Millis,
    /// Milliseconds that the link may be down before the procedure stops (resumable).
    pub link: Millis,
}

/// An inert plan: making it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The procedure's id.
    pub id: u128,
    /// What was ordered.
    pub command: Command,
    /// By whom.
    pub operator: String,
    /// Wall clock of the making.
    pub made_at: Millis,
    /// The pool whose groups move (the present pool for the management store alone).
    pub subject: PoolId,
    /// Who serves now.
    pub source: PoolId,
    /// Who serves next; the runner runs there.
    pub target: PoolId,
    /// A stopped or running procedure that this one replaces (accepted with force).
    pub supersedes: Option<u128>,
    /// In order; numbers rise from 1.
    pub steps: Vec<Step>,
    /// What is held of each group to be moved.
    pub recovery: Vec<Recovery>,
    /// Milliseconds since the source was last heard, at the making.
    pub silent_for: Option<Millis>,
    /// What users will see.
    pub users_see: Vec<String>,
    /// What it does not do.
    pub will_not: Vec<String>,
    /// What is not replicated at all.
    pub excluded: Vec<String>,
    /// What preflight found.
    pub findings: Vec<Finding>,
    /// Short names of the pools, for printing.
    pub names: Vec<(PoolId, String)>,
    /// Bounds of the runner.
    pub bounds: Bounds,
}

impl Plan {
    /// The stored form.
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// See [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Plan, CodecError> {
        codec::decode(bytes, codec::MAX_VALUE)
    }

    /// The reference that stands in entries made by a step.
    pub fn step_ref(&self, number: u32) -> StepRef {
        StepRef { procedure: self.id, step: number }
    }

    /// Short name of a pool.
    pub fn name_of(&self, pool: PoolId) -> String {
        let found = self.names.iter().find(|(id, _)| *id == pool);
        found.map_or_else(|| format!("pool {}", pool.0), |(_, name)| name.clone())
    }

    /// Groups to be moved, in the order of their steps.
    pub fn groups(&self) -> Vec<GroupId> {
        self.steps.iter().filter_map(Step::group).collect()
    }

    /// Whether the management store's own promotion is part of it: then the journal begins with that entry.
    pub fn promotes_cms(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.kind, StepKind::Promote { group, .. } if group.is_cms()))
    }
}
