//! The report that ends a procedure: who, when, why, what was promised and reached, how long each part took.
//!
//! Owns its content and its two forms (text, JSON). Figures of users signing in grow after the end, while the report is looked
//! at again; they are added to a report that is otherwise complete.

use crate::journal::{FenceOutcome, Procedure, ProcedureState, Stage, StepOutcome};
use crate::plan::{Command, FencePath, Plan};
use crate::plan_text::{lag_text, seconds, worst};
use crate::preflight::{Finding, Verdict};
use pairline_group::{Millis, Position};
use serde::Serialize;
use std::fmt;

/// When users were signed in again at the pool that serves them now, in milliseconds from the start of the procedure. Shares
/// are of those who have signed in until the report is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SignIn {
    /// How many have.
    pub users: usize,
    /// The first one.
    pub first: Option<Millis>,
    /// Half of them.
    pub half: Option<Millis>,
    /// 95 in a hundred.
    pub p95: Option<Millis>,
    /// 99 in a hundred.
    pub p99: Option<Millis>,
}

/// One group of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupLine {
    /// Which.
    pub group: String,
    /// Whether it moved.
    pub moved: bool,
    /// Whether it had moved before its step.
    pub was_moved: bool,
    /// Position that the target held when the plan was made: what was promised at least.
    pub promised: Option<String>,
    /// Last position before the promotion: what is there. Absent for a handover, which moves everything.
    pub actual: Option<String>,
    /// Asked again this often.
    pub retries: u32,
}

/// The report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The procedure's id, in hexadecimal.
    pub procedure: String,
    /// What it was.
    pub what: String,
    /// Who ordered it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Who served before.
    pub from: String,
    /// Who serves now.
    pub to: String,
    /// How it ended, in words.
    pub state: String,
    /// Whether every step is done.
    pub complete: bool,
    /// Wall clock of the start, milliseconds since 1970.
    pub started: Millis,
    /// Wall clock of the end.
    pub ended: Option<Millis>,
    /// Milliseconds that the source had not been heard when the command was given: detection and decision.
    pub silent_before: Option<Millis>,
    /// How often it was resumed.
    pub resumed: u32,
    /// Recovery point as promised, in words.
    pub promised: String,
    /// Recovery point as reached, in words.
    pub actual: String,
    /// Milliseconds of each part.
    pub stages: Vec<(Stage, Millis)>,
    /// Users signing in again.
    pub sign_in: SignIn,
    /// Groups.
    pub groups: Vec<GroupLine>,
    /// Steps asked again, over all.
    pub retries: u32,
    /// Answers of the paths to the source.
    pub fences: Vec<(FencePath, FenceOutcome)>,
    /// What was confirmed.
    pub confirmations: Vec<(Millis, String)>,
    /// What preflight found.
    pub findings: Vec<Finding>,
    /// What is not replicated.
    pub excluded: Vec<String>,
    /// Entries in divergent tails that are known now, by group.
    pub tails: Vec<(String, u64)>,
    /// What to do next.
    pub advice: Vec<String>,
}

impl Report {
    /// The report of a procedure as its journal stands.
    pub fn of(procedure: &Procedure) -> Report {
        let plan = &procedure.plan;
        let groups = group_lines(procedure);
        Report {
            procedure: format!("{:032x}", plan.id),
            what: plan.command.name().to_owned(),
            operator: plan.operator.clone(),
            reason: plan.command.reason().to_owned(),
            from: plan.name_of(plan.source),
            to: plan.name_of(plan.target),
            state: state_text(procedure),
            complete: procedure.state == ProcedureState::Done,
            started: procedure.started,
            ended: procedure.ended,
            silent_before: plan.silent_for,
            resumed: procedure.resumed,
            promised: promised(procedure),
            actual: actual(procedure),
            stages: procedure.stages.iter().map(|s| (s.stage, s.took)).collect(),
            sign_in: SignIn::default(),
            retries: procedure.results.iter().map(|r| r.retries).sum(),
            groups,
            fences: procedure.fences.clone(),
            confirmations: procedure.confirmations.clone(),
            findings: plan.findings.iter().filter(|f| f.verdict != Verdict::Ok).cloned().collect(),
            excluded: plan.excluded.clone(),
            tails: Vec::new(),
            advice: advice(procedure),
        }
    }

    /// The same with figures of users signing in.
    pub fn with_sign_in(mut self, sign_in: SignIn) -> Report {
        self.sign_in = sign_in;
        self
    }

    /// The same with divergent tails (group, entries) that became known.
    pub fn with_tails(mut self, tails: Vec<(String, u64)>) -> Report {
        self.tails = tails;
        self
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts, numbers, lists and unit variants are always writable")
    }
}

fn group_lines(procedure: &Procedure) -> Vec<GroupLine> {
    let line = |step: &crate::plan::Step| {
        let group = step.group()?;
        let result = procedure.result(step.number);
        let promised = procedure.plan.recovery.iter().find(|r| r.group == group).map(|r| r.position);
        Some(GroupLine {
            group: group.to_string(),
            moved: result.is_some(),
            was_moved: result.is_some_and(|r| r.outcome == StepOutcome::WasDone),
            promised: promised.map(|p| p.to_string()),
            actual: result.and_then(|r| r.recovery_point).map(|p| p.to_string()),
            retries: result.map_or(0, |r| r.retries),
        })
    };
    procedure.plan.steps.iter().filter_map(line).collect()
}

fn state_text(procedure: &Procedure) -> String {
    match &procedure.state {
        ProcedureState::Running => format!("running, step {}", procedure.next_step),
        ProcedureState::Done => "done".to_owned(),
        ProcedureState::Aborted { by, .. } => format!("aborted by {by}"),
        ProcedureState::Stopped { reason } => format!("stopped: {reason}"),
        ProcedureState::Superseded { by } => format!("replaced by procedure {by:032x}"),
    }
}

fn promised(procedure: &Procedure) -> String {
    if !procedure.plan.command.is_disaster() {
        return "no loss".to_owned();
    }
    let lag = worst(procedure.plan.recovery.iter().map(|r| r.lag)).map_or_else(|| "unknown".to_owned(), lag_text);
    format!("{lag} behind the source's last report")
}

fn actual(procedure: &Procedure) -> String {
    let plan = &procedure.plan;
    let (moved, all) = (procedure.moved().len(), plan.groups().len());
    if !plan.command.is_disaster() {
        return format!("no loss: {moved} of {all} groups moved, each with everything that it had");
    }
    let of = |group| {
        let step = plan.steps.iter().find(|s| s.group() == Some(group))?;
        procedure.result(step.number)?.recovery_point
    };
    let points: Vec<(Position, Position)> =
        plan.recovery.iter().filter_map(|r| of(r.group).map(|p| (r.position, p))).collect();
    let behind = points.iter().filter(|(promised, actual)| actual < promised).count();
    format!("{moved} of {all} groups promoted, {} at a known position, {behind} behind what was promised", points.len())
}

/// What to do about groups that had moved before an abort: where they are is where they stay.
fn after_abort(plan: &Plan, moved: usize) -> String {
    let pool = plan.name_of(plan.subject);
    match plan.command {
        Command::Failover { .. } => {
            format!("{moved} groups have moved; hand them back: pairline pool failback {pool}")
        }
        Command::Failback { .. } | Command::Reclaim { .. } => {
            let there = plan.groups().len() - moved;
            let from = plan.name_of(plan.source);
            format!(
                "{moved} groups are at home, {there} are still at {from}: bring the rest home with pairline pool failback \
                 {pool}, or the whole pool away again with pairline pool failover {pool}"
            )
        }
        Command::ManagementFailover { .. } => {
            "the management store has moved; give pairline management failover again to move it back".to_owned()
        }
    }
}

fn advice(procedure: &Procedure) -> Vec<String> {
    let plan = &procedure.plan;
    let mut all = Vec::new();
    let moved = procedure.moved().len();
    let id = plan.id;
    match &procedure.state {
        ProcedureState::Aborted { .. } if moved > 0 => all.push(after_abort(plan, moved)),
        ProcedureState::Stopped { .. } => {
            all.push(format!("pairline procedure resume {id:032x}, or pairline procedure abort {id:032x}"));
        }
        ProcedureState::Done if plan.command.is_disaster() => {
            let from = plan.name_of(plan.source);
            all.push(format!("when {from} returns: pairline pool divergence {from}, then pairline pool failback"));
        }
        _ => {}
    }
    all.extend(about_fences(procedure));
    all
}

/// Whether the source stopped, as far as it could be reached: one path that reached it speaks for it.
fn about_fences(procedure: &Procedure) -> Option<String> {
    let plan = &procedure.plan;
    let from = plan.name_of(plan.source);
    let ended = |wanted: FenceOutcome| procedure.fences.iter().find(|(_, outcome)| *outcome == wanted);
    if !plan.command.is_disaster() || ended(FenceOutcome::Fenced).is_some() {
        return None;
    }
    Some(match ended(FenceOutcome::Refused) {
        Some((path, _)) => format!(
            "{from} answered by its {} and did not stop: it lives and may go on serving in its old epoch; switch it off",
            match path {
                FencePath::Link => "link",
                FencePath::Admin => "admin API",
            }
        ),
        None => format!("no path to {from} confirmed that it stopped: see that it is off"),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &str| writeln!(f, "  {name:<22} {value}");
        writeln!(f, "{} {}", self.what, self.procedure)?;
        row(f, "state", &self.state)?;
        row(f, "ordered by", &format!("{}: {}", self.operator, self.reason))?;
        row(f, "from, to", &format!("{}, {}", self.from, self.to))?;
        row(f, "recovery promised", &self.promised)?;
        row(f, "recovery actual", &self.actual)?;
        if let Some(ms) = self.silent_before {
            row(f, "not heard before", &seconds(ms))?;
        }
        for (stage, ms) in &self.stages {
            row(f, &format!("stage {stage:?}"), &seconds(*ms))?;
        }
        let s = &self.sign_in;
        if s.users > 0 {
            row(f, "signed in here again", &format!("{} users until now", s.users))?;
        }
        for (name, value) in [("first", s.first), ("50 %", s.half), ("95 %", s.p95), ("99 %", s.p99)] {
            if let Some(ms) = value {
                row(f, &format!("signed in {name}"), &seconds(ms))?;
            }
        }
        let moved = self.groups.iter().filter(|g| g.moved).count();
        row(f, "groups moved", &format!("{moved} of {}, {} retries", self.groups.len(), self.retries))?;
        for (path, outcome) in &self.fences {
            row(f, &format!("fence by {path:?}"), &format!("{outcome:?}"))?;
        }
        self.confirmations.iter().try_for_each(|(at, what)| row(f, "confirmed", &format!("{what} ({at})")))?;
        self.findings.iter().try_for_each(|finding| row(f, "finding", &finding.to_string()))?;
        self.excluded.iter().try_for_each(|what| row(f, "not replicated", what))?;
        self.tails.iter().try_for_each(|(group, n)| row(f, "divergent tail", &format!("{group}: {n} entries")))?;
        self.advice.iter().try_for_each(|line| row(f, "next", line))
    }
}
