//! Cold starts: both servers are killed, east starts alone and may not serve in full until someone says that it may.
//!
//! Owns that part of `drill --kills`, under traffic: what both had acknowledged must be there afterwards.

use super::DrillError;
use super::ask;
use super::board::Side;
use super::ledger::State;
use super::proofs::Proof;
use super::stages::Course;
use super::traffic;
use super::watch::Watch;
use crate::cli::table::millis;
use crate::client::{CallError, Prefer};
use pairline_node::command::Command;
use std::time::{Duration, Instant};

/// How full service comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An administrator asserts that east's epochs are current.
    Asserted,
    /// The partner comes back and confirms them.
    PartnerReturns,
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Kills both, starts east alone, and brings full service back.
///
/// # Errors
/// A stage does not reach its end.
pub async fn play(course: &mut Course, watch: &Watch, way: Way) -> Result<(), DrillError> {
    course.stage(match way {
        Way::Asserted => "cold start, asserted",
        Way::PartnerReturns => "cold start, partner returns",
    });
    tokio::time::sleep(seconds(2)).await;
    course.arena.kill(Side::East).await;
    course.arena.kill(Side::West).await;
    watch.starts(Side::East);
    course.arena.restart(Side::East).await?;
    course.mode(Side::East, Side::East, "resiliency", seconds(30)).await?;
    let refused = refusal(course).await?;
    course.prove(Proof::new(
        match way {
            Way::Asserted => "cold start alone: limited service, a change is refused with its reason",
            Way::PartnerReturns => "cold start alone, again: limited service, a change is refused with its reason",
        },
        refused.is_ok(),
        refused.unwrap_or_else(|other| other),
    ));
    match way {
        Way::Asserted => asserted(course, watch).await?,
        Way::PartnerReturns => partner_returns(course, watch).await?,
    }
    ask::settled(course, seconds(90)).await
}

async fn asserted(course: &mut Course, watch: &Watch) -> Result<(), DrillError> {
    let began = Instant::now();
    let command =
        Command::PoolAssertActive { pool: "east".into(), reason: Some("drill: west is known to be off".into()) };
    course.arena.ask(Side::East, &command).await?;
    let taken = accepted(course, seconds(10)).await;
    course.prove(Proof::new("after assert-active a change is taken", taken, format!("{} later", waited(began))));
    watch.starts(Side::West);
    course.arena.restart(Side::West).await
}

async fn partner_returns(course: &mut Course, watch: &Watch) -> Result<(), DrillError> {
    let began = Instant::now();
    watch.starts(Side::West);
    course.arena.restart(Side::West).await?;
    let taken = accepted(course, seconds(30)).await;
    let figures = format!("{} after west was started again", waited(began));
    course.prove(Proof::new("with the partner's return full service comes by itself", taken, figures));
    Ok(())
}

fn waited(since: Instant) -> String {
    millis(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Asks for a change at east: `Ok` with the reason if it was refused as it must be.
async fn refusal(course: &Course) -> Result<Result<String, String>, DrillError> {
    Ok(match put(course).await? {
        Err(CallError::Refused(problem)) if problem.kind.contains("resiliency") && !problem.remedy.is_empty() => {
            Ok(format!("{} {}: {}", problem.status, problem.kind, problem.detail))
        }
        Err(other) => Err(other.to_string()),
        Ok(()) => Err("it was taken".into()),
    })
}

/// Whether a change at east is taken within the limit.
async fn accepted(course: &Course, limit: Duration) -> bool {
    ask::becomes(limit, async || Ok(put(course).await?.is_ok())).await
}

/// Puts one contact into a list of a user of east, at east and nowhere else.
async fn put(course: &Course) -> Result<Result<(), CallError>, DrillError> {
    let users = course.swarm.of(Side::East, None);
    let who = users.first().and_then(|user| course.swarm.people.get(*user));
    let who = who.ok_or_else(|| DrillError::Unexpected("no user at home on east".into()))?;
    let number = crate::tls::random_u64().unwrap_or(1);
    let (op, contact) = ((format!("{number:032x}"), 1), format!("sip:cold-{number:x}@{}", who.domain));
    course.ledger.asked(op.clone(), who.number, contact.clone());
    let mut session = course.arena.session();
    let done = traffic::change_at(&mut session, who, &contact, &op, &Prefer::Only("east".into())).await;
    let state = match &done {
        Ok(()) => State::Acknowledged(course.swarm.board.now()),
        Err(error) => traffic::after(error),
    };
    course.ledger.answered(&op, state);
    Ok(done)
}
