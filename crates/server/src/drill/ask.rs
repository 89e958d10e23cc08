//! Questions and orders to the servers that every course of a drill has in common.
//!
//! Owns their form and what counts as an answer. Does not own when they are asked.

use super::DrillError;
use super::board::Side;
use super::ledger::{self, Change, State};
use super::proofs::{self, Proof};
use super::stages::Course;
use super::traffic;
use crate::cli::{procedures, render_health, render_pool};
use crate::client::Prefer;
use pairline_node::command::{Command, Reply};
use pairline_node::view::{BindingView, DivergenceView, HealthView, PoolView, ProcedureView, Sample};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// An answer that does not fit the question.
pub fn strange(reply: &Reply) -> DrillError {
    DrillError::Unexpected(format!("{reply:?}"))
}

/// The order to fail a pool over.
pub fn failover(pool: Side, disaster: bool, reason: &str) -> Command {
    Command::PoolFailover {
        pool: pool.name().into(),
        disaster,
        dry_run: false,
        force: false,
        confirm: disaster.then(|| "yes".into()),
        reason: Some(reason.to_owned()),
    }
}

/// The order to fail a pool back.
pub fn failback(pool: Side, reason: &str) -> Command {
    Command::PoolFailback {
        pool: pool.name().into(),
        disaster: false,
        dry_run: false,
        force: false,
        confirm: None,
        reason: Some(reason.to_owned()),
    }
}

/// Starts a procedure at the pool that will serve and waits for its end.
///
/// # Errors
/// It is refused, does not end in time, or ends otherwise than done.
pub async fn procedure(
    course: &Course,
    command: &Command,
    target: Side,
    limit: Duration,
) -> Result<ProcedureView, DrillError> {
    let mut session = course.arena.session();
    let prefer = Prefer::Pool(target.name().into());
    let started = match session.call(command, &prefer).await? {
        Reply::Procedure(view) => view,
        Reply::Plan(plan) => return Err(DrillError::Unexpected(render_pool::plan(&plan))),
        other => return Err(strange(&other)),
    };
    let follow = procedures::follow(&mut session, started, &prefer, |view| {
        course
            .say(&format!("{} of {}: {}, step {} of {}", view.kind, view.pool, view.state, view.steps.0, view.steps.1));
    });
    let done = tokio::time::timeout(limit, follow)
        .await
        .map_err(|_| course.late("end of the procedure", limit, "running".into()))??;
    if done.state == "done" { Ok(done) } else { Err(DrillError::Unexpected(render_pool::procedure(&done))) }
}

/// What a side's server says of a pool.
///
/// # Errors
/// No answer, or none about that pool.
pub async fn pool(course: &Course, seen_by: Side, of: Side) -> Result<PoolView, DrillError> {
    let view = course.arena.status(seen_by).await?;
    let found = view.pools.into_iter().find(|pool| pool.name == of.name());
    found.ok_or_else(|| DrillError::Unexpected(format!("no pool {} at {}", of.name(), seen_by.name())))
}

/// Bindings of a user as a side's server sees them.
///
/// # Errors
/// No answer.
pub async fn bindings(course: &Course, seen_by: Side, user: &str) -> Result<Vec<BindingView>, DrillError> {
    let command = Command::RegistrationList { user: Some(user.to_owned()), after: None, limit: 1 };
    match course.arena.ask(seen_by, &command).await? {
        Reply::Registrations { registrations, .. } => Ok(registrations),
        other => Err(strange(&other)),
    }
}

/// Of some changes, those whose contact is not in the lists that a side's server shows.
///
/// # Errors
/// No answer.
pub async fn missing_at(course: &Course, side: Side, changes: &[Change]) -> Result<Vec<Change>, DrillError> {
    let users: BTreeSet<usize> = changes.iter().map(|change| change.user).collect();
    let people: Vec<_> = users.iter().filter_map(|user| course.swarm.people.get(*user)).collect();
    let (lists, _) = course.arena.contacts(side, &people).await?;
    Ok(ledger::missing(changes, &lists))
}

/// East's divergent tail, offered for application if `apply`.
///
/// # Errors
/// No answer.
pub async fn tail(course: &Course, apply: bool) -> Result<DivergenceView, DrillError> {
    match course.arena.ask(Side::East, &Command::PoolDivergence { pool: "east".into(), apply }).await? {
        Reply::Divergence(view) => Ok(view),
        other => Err(strange(&other)),
    }
}

/// A client without an answer asks again under the same operation id: applied once, whatever became of the first time.
pub async fn retry_unknown(course: &Course, unknown: &[Change]) {
    let mut session = course.arena.session();
    for change in unknown {
        let Some(who) = course.swarm.people.get(change.user) else { continue };
        let state = match traffic::change(&mut session, who, &change.contact, &change.op).await {
            Ok(()) => State::Acknowledged(course.swarm.board.now()),
            Err(error) => traffic::after(&error),
        };
        course.ledger.answered(&change.op, state);
    }
}

/// Both copies of all groups of both pools, compared.
///
/// # Errors
/// No answer.
pub async fn equal(course: &Course) -> Result<Proof, DrillError> {
    let mut views = Vec::new();
    for side in [Side::East, Side::West] {
        match course.arena.ask(side, &Command::PoolVerify { pool: side.name().into() }).await? {
            Reply::Verify(view) => views.push(view),
            other => return Err(strange(&other)),
        }
    }
    Ok(proofs::equal(&views))
}

/// Waits until the pair is steady and nothing else is left to happen by itself: every copy is re-based and confirmed, and each
/// server hears the other again.
///
/// # Errors
/// It is not so within the limit.
pub async fn settled(course: &Course, limit: Duration) -> Result<(), DrillError> {
    course.steady(limit).await?;
    if becomes(limit, async || at_rest(course).await).await {
        return Ok(());
    }
    Err(course.late("copies re-based and confirmed, and both pools heard", limit, "see log.jsonl".into()))
}

async fn at_rest(course: &Course) -> Result<bool, DrillError> {
    let open = |(name, labels, _): &Sample| {
        name == "pairline_group_role"
            && labels.iter().any(|(name, role)| name == "role" && matches!(role.as_str(), "fenced" | "unconfirmed"))
    };
    for side in [Side::East, Side::West] {
        for server in course.arena.of(side) {
            let answer = course.arena.ask_server(&server, &Command::ServerStatus).await?;
            let Reply::Status(status) = answer else { return Ok(false) };
            if status.samples.iter().any(open) {
                return Ok(false);
            }
        }
        let mode = pool(course, side, side.other()).await?.mode;
        if matches!(mode.as_str(), "resiliency" | "starting") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Health of a side's pool, as any of its servers sees it.
///
/// # Errors
/// No answer.
pub async fn health(course: &Course, side: Side) -> Result<HealthView, DrillError> {
    let command = Command::PoolHealth { pool: Some(side.name().into()), part: false };
    match course.arena.ask(side, &command).await? {
        Reply::Health(view) => Ok(view),
        other => Err(strange(&other)),
    }
}

/// Waits until every group of both pools has a leader and all its copies.
///
/// # Errors
/// It is not so within the limit.
pub async fn healthy(course: &Course, limit: Duration) -> Result<(), DrillError> {
    for side in [Side::East, Side::West] {
        let whole = async || Ok(render_health::exit_code(&health(course, side).await?) == 0);
        if !becomes(limit, whole).await {
            let seen = match health(course, side).await {
                Ok(view) => render_health::health(&view),
                Err(error) => error.to_string(),
            };
            return Err(course.late("all copies of every group", limit, seen));
        }
    }
    Ok(())
}

/// Waits until something that is asked for is so; false if it was not within the limit. A question without an answer counts
/// as "not yet".
pub async fn becomes<F>(limit: Duration, mut question: impl FnMut() -> F) -> bool
where
    F: Future<Output = Result<bool, DrillError>>,
{
    let until = Instant::now() + limit;
    loop {
        if matches!(question().await, Ok(true)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(super::stages::PAUSE).await;
    }
}
