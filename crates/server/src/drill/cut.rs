//! A pool that is cut off and alive: its partner is promoted, and what it goes on to commit becomes its divergent tail.
//!
//! Owns that part of `drill --kills`. Traffic rests, so that the tail can be told entry by entry.

use super::DrillError;
use super::ask;
use super::board::Side;
use super::ledger::{Change, State};
use super::proofs::{self, Proof};
use super::stages::Course;
use super::traffic;
use crate::client::Prefer;
use rustix::process::Signal;
use std::time::Duration;

/// Changes that each side takes while the line is cut: half before the promotion, half after it.
const CHANGES: usize = 40;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Cuts the line, promotes west, writes on both sides, heals, applies the tail, fails back: once with the old pool within
/// reach of its admin API, so that it can be told to stand down, and once without.
///
/// # Errors
/// A stage does not reach its end.
pub async fn play(course: &mut Course) -> Result<(), DrillError> {
    round(course, true).await?;
    round(course, false).await
}

async fn round(course: &mut Course, told: bool) -> Result<(), DrillError> {
    course.stage(if told { "cut off, told to stand down" } else { "cut off but alive" });
    course.quiet().await?;
    ask::settled(course, seconds(60)).await?;
    course.arena.line.cut();
    course.mode(Side::West, Side::East, "resiliency", seconds(30)).await?;
    let mut writer = Writer::new();
    let mut old = writer.write(course, Side::East, CHANGES / 2).await;
    let command = ask::failover(Side::East, true, "drill: the line is cut");
    if !told {
        // Nothing answers while the promotion is ordered; afterwards the old pool goes on and knows nothing.
        course.arena.signal(Side::East, Signal::STOP);
    }
    let promoted = ask::procedure(course, &command, Side::West, seconds(60)).await;
    course.arena.signal(Side::East, Signal::CONT);
    promoted?;
    old.extend(writer.write(course, Side::East, CHANGES - CHANGES / 2).await);
    let new = writer.write(course, Side::West, CHANGES).await;
    let taken = |changes: &[Change]| changes.iter().filter(|c| matches!(c.state, State::Acknowledged(_))).count();
    let (claim, by_old) = if told {
        ("cut off, the old pool takes nothing any more once it is told to stand down", CHANGES / 2)
    } else {
        ("cut off and not reached, the old pool takes changes in its old epoch, the promoted one in the new", CHANGES)
    };
    course.prove(Proof::new(
        claim,
        taken(&old) == by_old && taken(&new) == CHANGES,
        format!("{} of {CHANGES} at east, {} of {CHANGES} at west", taken(&old), taken(&new)),
    ));
    course.arena.line.heal();
    let fenced = ask::becomes(seconds(10), async || {
        let view = ask::pool(course, Side::East, Side::East).await?;
        Ok(view.serving_own == 0)
    });
    let fenced = fenced.await;
    course.prove(Proof::new("once it can hear, the old pool is fenced", fenced, "looked for 10 s at most"));
    ask::settled(course, seconds(90)).await?;
    reconcile(course, &old, &new, told).await?;
    ask::procedure(course, &ask::failback(Side::East, "drill"), Side::East, seconds(60)).await?;
    ask::settled(course, seconds(60)).await?;
    course.traffic();
    Ok(())
}

/// The tail is what east took, entry by entry, and can be applied.
async fn reconcile(course: &mut Course, old: &[Change], new: &[Change], told: bool) -> Result<(), DrillError> {
    let acknowledged: Vec<Change> =
        old.iter().filter(|change| matches!(change.state, State::Acknowledged(_))).cloned().collect();
    let unknown: Vec<Change> = old.iter().filter(|change| change.state == State::Unknown).cloned().collect();
    let missing = ask::missing_at(course, Side::West, &acknowledged).await?;
    let tail = ask::tail(course, false).await?;
    let durable = tail.entries.iter().filter(|entry| entry.durable).count();
    course.report.figure(
        if told { "tail of the pool that was told to stand down" } else { "tail of the pool that was cut off" },
        format!("{} changes", if told { CHANGES / 2 } else { CHANGES }),
        format!("{durable} durable entries of {}", tail.entries.len()),
    );
    course.prove(Proof::new(
        "everything that the old pool took is in its tail, and nothing of it elsewhere",
        missing.len() == acknowledged.len() && durable == acknowledged.len() + unknown.len(),
        format!("{} taken, {} not at west, {durable} durable in the tail", acknowledged.len(), missing.len()),
    ));
    for proof in proofs::tail(&course.swarm, &missing, &unknown, &tail) {
        course.prove(proof);
    }
    let applied = ask::tail(course, true).await?;
    course.prove(proofs::applied(&applied));
    let all: Vec<Change> = acknowledged.iter().chain(new).cloned().collect();
    let left = ask::missing_at(course, Side::West, &all).await?;
    course.prove(Proof::new(
        "after applying it nothing is lost that either side took",
        left.is_empty(),
        format!("{} of {} missing", left.len(), all.len()),
    ));
    Ok(())
}

/// Writes changes of east's users at one server and no other.
struct Writer {
    session: String,
    counter: u64,
}

impl Writer {
    fn new() -> Writer {
        Writer { session: format!("{:032x}", crate::tls::random_u64().unwrap_or(1)), counter: 0 }
    }

    async fn write(&mut self, course: &Course, at: Side, count: usize) -> Vec<Change> {
        let users = course.swarm.of(Side::East, None);
        let mut session = course.arena.session();
        let only = Prefer::Only(at.name().into());
        let mut changes = Vec::new();
        for who in users.iter().cycle().take(count).filter_map(|user| course.swarm.people.get(*user)) {
            self.counter += 1;
            let op = (self.session.clone(), self.counter);
            let contact = format!("sip:{}-{}-{}@{}", at.name(), &self.session[26..], self.counter, who.domain);
            course.ledger.asked(op.clone(), who.number, contact.clone());
            let state = match traffic::change_at(&mut session, who, &contact, &op, &only).await {
                Ok(()) => State::Acknowledged(course.swarm.board.now()),
                Err(error) => {
                    course.say(&format!("{} at {}: {error}", contact, at.name()));
                    traffic::after(&error)
                }
            };
            course.ledger.answered(&op, state.clone());
            changes.push(Change { op, user: who.number, contact, state });
        }
        changes
    }
}
