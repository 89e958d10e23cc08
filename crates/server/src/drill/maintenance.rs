//! A Front End is drained and taken back, then the whole pool is restarted server by server, under traffic.
//!
//! Owns what is done and what must hold: no change lost, no established call dropped. New calls may fail, and are counted.

use super::DrillError;
use super::ask;
use super::board::{Counts, Side, What};
use super::front_ends::{self, Calls, one_call};
use super::proofs::Proof;
use super::stages::Course;
use crate::cli::rolling;
use crate::cli::table::millis;
use crate::client::Prefer;
use pairline_node::command::Command;
use std::time::Duration;

/// Seconds that the drain of one server may take.
const DRAIN_S: u64 = 60;

/// How long a server stays drained.
const DRAINED: Duration = Duration::from_secs(4);

/// Between two of the calls that are up throughout.
const PACE: Duration = Duration::from_millis(400);

/// How long each of them lasts, in milliseconds once it is answered: longer than a server is away.
const CALL_MS: u64 = 6_000;

/// Drains a server, then restarts all of east's.
///
/// # Errors
/// A stage does not reach its end.
pub async fn play(course: &mut Course) -> Result<(), DrillError> {
    let server = course.arena.of(Side::East).first().cloned().unwrap_or_default();
    let label = course.arena.label(&server);
    course.stage("drained");
    let mut stages = vec![course.number()];
    let mut calls = Calls::new();
    let (command, east) = (Command::ServerDrain { server: server.clone(), seconds: DRAIN_S }, Side::East.name());
    let began = course.swarm.board.now();
    let mut session = course.arena.session();
    with_calls(course, &mut calls, async {
        Ok::<_, DrillError>(session.call(&command, &Prefer::Pool(east.into())).await.map(|_| ())?)
    })
    .await?;
    course.report.figure(&format!("{label}: drain"), "-", millis(course.swarm.board.now() - began));
    with_calls(course, &mut calls, tokio::time::sleep(DRAINED)).await;
    course.stage("taken back");
    stages.push(course.number());
    session.call(&Command::ServerUndrain { server }, &Prefer::Pool(east.into())).await?;
    ask::healthy(course, Duration::from_secs(60)).await?;
    judge(course, &format!("{label} drained"), &stages, calls).await?;
    roll(course).await
}

async fn roll(course: &mut Course) -> Result<(), DrillError> {
    course.stage("rolling restart");
    let stages = vec![course.number()];
    let mut calls = Calls::new();
    let began = course.swarm.board.now();
    let access = course.arena.access.clone();
    let told = |line: &str| course.say(line);
    let rolled =
        with_calls(course, &mut calls, Box::pin(rolling::restart(&access, Side::East.name(), DRAIN_S, told))).await;
    let took = course.swarm.board.now() - began;
    course.report.figure("east: rolling restart", "-", millis(took));
    let figures = match &rolled {
        Ok(()) => format!("after {}", millis(took)),
        Err(error) => error.to_string(),
    };
    course.prove(Proof::new("the rolling restart comes to its end", rolled.is_ok(), figures));
    judge(course, "east restarted", &stages, calls).await
}

/// Does some work while one call after the other is begun; all of them are to end well.
async fn with_calls<T>(course: &Course, calls: &mut Calls, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut pace = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = pace.tick() => {
                if let Some((from, to)) = course.swarm.pair() {
                    calls.spawn(one_call(course, from, to, CALL_MS));
                }
            }
        }
    }
}

async fn judge(course: &mut Course, label: &str, stages: &[usize], calls: Calls) -> Result<(), DrillError> {
    let asked = calls.len();
    let failed: Vec<String> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
    let long = failed.iter().filter(|why| why.starts_with("BYE")).count();
    front_ends::settle(course, label, None).await?;
    let mut all = Counts::default();
    stages.iter().for_each(|stage| all.add(&course.swarm.board.counts(*stage)));
    let (good, bad) = all.of(What::Call);
    let dropped = all.dropped();
    course.say(&format!("{:?}", all.reasons));
    course.prove(Proof::new(
        "no established call is dropped",
        dropped == 0 && good > 0 && asked > 0,
        format!("{label}: {dropped} of {}; {long} of {asked} that lasted {}", good + dropped, millis(CALL_MS)),
    ));
    let (changed, refused) = all.of(What::Change);
    course.report.figure(
        &format!("{label}: failed new calls, and other requests"),
        "counted",
        format!(
            "{} of {} new calls; {} of {} registrations, {} of {} messages, {refused} of {} changes; {}",
            bad - dropped.min(bad),
            good + bad,
            all.of(What::Register).1,
            all.of(What::Register).0 + all.of(What::Register).1,
            all.of(What::Message).1,
            all.of(What::Message).0 + all.of(What::Message).1,
            changed + refused,
            front_ends::apart(&all),
        ),
    );
    Ok(())
}
