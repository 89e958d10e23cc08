//! A plan's steps grouped into stages: what runs together, and from where on the journal can be written.
//!
//! Owns the grouping only. Running them is `runner`'s.

use crate::journal::Stage;
use crate::plan::{Plan, Step, StepKind};

/// Steps that run together; the next stage begins when all are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageRun {
    /// For the report.
    pub(crate) stage: Stage,
    /// In the plan's order.
    pub(crate) steps: Vec<Step>,
}

fn stage_of(step: &Step) -> Stage {
    match &step.kind {
        StepKind::Announce { .. } => Stage::Announce,
        StepKind::Fence { .. } => Stage::Fence,
        StepKind::CatchUp { .. } => Stage::CatchUp,
        StepKind::Handover { group, .. } | StepKind::Promote { group, .. } if group.is_cms() => Stage::ManagementStore,
        StepKind::Handover { .. } | StepKind::Promote { .. } => Stage::Move,
        StepKind::MoveClients { .. } => Stage::Clients,
        StepKind::Close => Stage::Close,
    }
}

/// Groups a plan's steps.
pub(crate) fn stages(plan: &Plan) -> Vec<StageRun> {
    let mut all: Vec<StageRun> = Vec::new();
    for step in &plan.steps {
        let stage = stage_of(step);
        match all.last_mut() {
            Some(last) if last.stage == stage => last.steps.push(step.clone()),
            _ => all.push(StageRun { stage, steps: vec![step.clone()] }),
        }
    }
    all
}

/// The first stage before which the journal is written. When the management store itself is promoted, nothing can be
/// written before that: its `Promote` entry carries the record and is the journal's beginning.
pub(crate) fn journal_from(plan: &Plan, stages: &[StageRun]) -> usize {
    if !plan.promotes_cms() {
        return 0;
    }
    stages.iter().position(|s| s.stage == Stage::ManagementStore).map_or(0, |at| at + 1)
}
