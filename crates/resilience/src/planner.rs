//! From a command to a plan: preflight, then the steps in their order.
//!
//! Owns the order: announce, fence or catch up, `cms` first, then each routing group, then clients, then the end. A plan
//! never names two pools as the next to serve a group, and never names one that serves it already.

use crate::plan::{Bounds, Command, FencePath, Plan, Recovery, Step, StepKind};
use crate::preflight::{Finding, Observed, Rule, Subject, Verdict, preflight, subject};
use pairline_group::{GroupId, Millis, PoolId};

/// Why no plan was made: every finding, the refusals among them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {}", refusals(.0))]
pub struct Refused(pub Vec<Finding>);

fn refusals(findings: &[Finding]) -> String {
    let only = findings.iter().filter(|f| f.verdict == Verdict::Refuse);
    only.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes the plan of a command. `id` is fresh and random, `now` the wall clock.
///
/// # Errors
/// A rule of preflight refuses.
pub fn plan(command: &Command, seen: &Observed, operator: &str, id: u128, now: Millis) -> Result<Plan, Refused> {
    let findings = preflight(command, seen);
    if findings.iter().any(|f| f.verdict == Verdict::Refuse) {
        return Err(Refused(findings));
    }
    let subject = subject(command, seen).map_err(|finding| Refused(vec![finding]))?;
    let superseded = findings.iter().any(|f| f.rule == Rule::Running);
    let partner_names = seen.pools.iter().map(|p| (p.pool, p.name.clone())).collect();
    Ok(Plan {
        id,
        command: command.clone(),
        operator: operator.to_owned(),
        made_at: now,
        subject: subject.pool,
        source: subject.source,
        target: subject.target,
        supersedes: seen.running.as_ref().filter(|_| superseded).map(|r| r.id),
        steps: steps(command, &subject, seen),
        recovery: recovery(command, &subject, seen),
        silent_for: seen.silent_for,
        users_see: users_see(command, &subject, seen),
        will_not: will_not(command, &subject, seen),
        excluded: seen.not_replicated.clone(),
        findings,
        names: partner_names,
        bounds: Bounds { parallel: seen.bounds.parallel_groups.max(1), attempts: 60, answer: 2_000, link: 600_000 },
    })
}

fn steps(command: &Command, subject: &Subject, seen: &Observed) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut push = |at: PoolId, kind: StepKind| {
        let number = u32::try_from(steps.len() + 1).expect("a plan has at most a few thousand steps");
        steps.push(Step { number, at, kind });
    };
    let (source, target) = (subject.source, subject.target);
    let disaster = command.is_disaster();
    let alone = matches!(command, Command::ManagementFailover { .. });
    if !alone {
        let back = !matches!(command, Command::Failover { .. });
        push(target, StepKind::Announce { pool: subject.pool, back });
    }
    if disaster {
        push(source, StepKind::Fence { pool: source, paths: vec![FencePath::Link, FencePath::Admin] });
    } else {
        let bound = Millis::from(seen.bounds.lag_bound_ms);
        push(target, StepKind::CatchUp { bound, limit: Millis::from(seen.bounds.catch_up_s) * 1_000 });
    }
    for group in subject.groups.iter().copied() {
        if disaster {
            push(target, StepKind::Promote { group, to: target });
        } else {
            push(source, StepKind::Handover { group, from: source, to: target });
        }
    }
    if !disaster && !alone {
        push(source, StepKind::MoveClients { from: source, to: target });
    }
    push(target, StepKind::Close);
    steps
}

fn recovery(command: &Command, subject: &Subject, seen: &Observed) -> Vec<Recovery> {
    let of = |group: GroupId| {
        let held = seen.copy(group, subject.target)?;
        let lag = if command.is_disaster() { held.lag } else { seen.copy(group, subject.source)?.lag };
        Some(Recovery { group, position: held.position, lag })
    };
    subject.groups.iter().copied().filter_map(of).collect()
}

fn users_see(command: &Command, subject: &Subject, seen: &Observed) -> Vec<String> {
    let to = seen.name_of(subject.target);
    match command {
        Command::ManagementFailover { .. } => {
            vec!["nothing; changes of the configuration pause for a moment".to_owned()]
        }
        Command::Failover { disaster: true, .. } | Command::Reclaim { .. } => vec![
            format!("clients sign in at {to} when their flow breaks or their registration is due"),
            "established calls keep their sound; contacts, settings and bindings are there as of the recovery point"
                .to_owned(),
        ],
        Command::Failover { disaster: false, .. } | Command::Failback { .. } => vec![
            format!("calls and messages go on; changes pause for a moment while each group moves to {to}"),
            "clients move paced; those that stay are served through the pool that they are connected to".to_owned(),
        ],
    }
}

fn will_not(command: &Command, subject: &Subject, seen: &Observed) -> Vec<String> {
    let from = seen.name_of(subject.source);
    let mut lines = vec!["change the home pool of any user".to_owned()];
    if command.is_disaster() {
        lines.push(format!("stop {from} if no path to it answers: see that it is off"));
    }
    if matches!(command, Command::Failback { .. }) {
        lines.push("move the management store back".to_owned());
    }
    lines
}
