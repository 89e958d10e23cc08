//! After a loss: who is signed in again, when, and whether within what was promised.
//!
//! Owns the bounds and their formula. Clients aware of their dead flow come back at once, the others with their refresh.

use super::DrillError;
use super::ask;
use super::board::Side;
use super::phones::Phone;
use super::play::{FailedOver, Killed};
use super::proofs::Proof;
use super::stages::{Course, PAUSE};
use crate::cli::table::millis;
use std::time::{Duration, Instant};

/// Milliseconds that a UDP client waits for a dead target before it tries the next (64 × T1).
const TIMER_F: u64 = 32_000;

/// What the formula leaves out, in milliseconds: the requests themselves with their challenge, the pause of a simulated client
/// between two targets (half a second), and the moment between two looks.
const SLACK: u64 = 3_000;

/// The last user that is aware of its dead flow must be signed in again within this many milliseconds of the command.
const SIGN_IN_MS: u64 = 20_000;

/// Users that noticed their dead flow: signed in again, and reachable.
///
/// # Errors
/// They are not signed in within the deadline.
pub async fn aware(course: &mut Course, killed: &Killed, failed_over: &FailedOver) -> Result<(), DrillError> {
    let aware = course.swarm.of(Side::East, Some(true));
    let partners = course.swarm.of(Side::West, Some(true));
    course
        .until("users aware of their dead flow signed in", Duration::from_secs(30), |swarm| {
            let count = swarm.signed_in(&aware, Some(Side::West));
            let all = count == aware.len() && swarm.signed_in(&partners, None) == partners.len();
            (all, format!("{count} of {}", aware.len()))
        })
        .await?;
    let statuses = course.swarm.board.statuses();
    // In full service from the end of the promotion at the earliest: before it they were guests in resiliency mode.
    let first: Vec<u64> = aware.iter().filter_map(|user| statuses.get(*user)?.first_after_mark).collect();
    let guests = spread(first.iter().map(|at| at.saturating_sub(killed.at)).collect());
    course.report.figure("aware users: guests in resiliency mode after the loss", "-", guests);
    let times: Vec<u64> =
        first.iter().map(|at| (*at).max(failed_over.done_at).saturating_sub(failed_over.asked_at)).collect();
    let last = times.iter().max().copied().unwrap_or(u64::MAX);
    let before = first.iter().filter(|at| **at < failed_over.asked_at).count();
    course.report.figure(
        "signed in with full service after the command (aware of the dead flow)",
        format!("last ≤ {}", millis(SIGN_IN_MS)),
        format!("{}; {before} of {} were guests before the command", spread(times.clone()), first.len()),
    );
    course.prove(Proof::new(
        "the last aware user is signed in again in time",
        last <= SIGN_IN_MS && times.len() == aware.len(),
        millis(last),
    ));
    reachable(course, &aware).await;
    Ok(())
}

async fn reachable(course: &mut Course, users: &[usize]) {
    let from = course.swarm.of(Side::West, Some(true));
    let mut failed = Vec::new();
    for chunk in users.chunks(50) {
        let probes = chunk.iter().zip(from.iter().cycle()).map(|(to, from)| course.swarm.message(*from, *to));
        for result in join_all(probes).await {
            failed.extend(result.err());
        }
    }
    let figures = format!(
        "{} of {} answered; failures {:?}",
        users.len() - failed.len(),
        users.len(),
        failed.iter().take(3).collect::<Vec<_>>()
    );
    course.prove(Proof::new("every aware user can be reached (not only its record)", failed.is_empty(), figures));
}

/// Clients that notice nothing until their refresh: simulated ones on UDP, and the real ones. Each must be back within its
/// formula; one that is not fails a proof and does not end the drill.
///
/// # Errors
/// West does not answer.
pub async fn unaware(
    course: &mut Course,
    killed: &Killed,
    failed_over: &FailedOver,
    phones: &[Phone],
) -> Result<(), DrillError> {
    let granted = course.swarm.board.statuses().iter().map(|status| u64::from(status.granted)).max().unwrap_or(0);
    let refresh = granted * 1_000 + SLACK;
    // A client on UDP waits for each server that is dead, and finds the next one only then.
    let servers = course.arena.of(Side::East).len() + usize::from(killed.with_it.is_some());
    let datagrams = refresh + TIMER_F * u64::try_from(servers).unwrap_or(1);
    simulated(course, killed, datagrams, &formula(granted, servers)).await;
    for phone in phones {
        let udp = phone.transport == "UDP";
        let bound = if udp { datagrams } else { refresh };
        let back = came_back(course, killed, phone, bound).await?;
        let actual = match back {
            None => format!("not within {}", millis(bound)),
            Some(at) => {
                let after = back_after(killed.instant, at);
                let service = match at.checked_duration_since(failed_over.asked) {
                    Some(after) => format!("{} after the command", millis(whole(after))),
                    None => format!(
                        "as guest, {} before the command; full service with the promotion, {} after the command",
                        millis(back_after(at, failed_over.asked)),
                        millis(failed_over.done_at.saturating_sub(failed_over.asked_at)),
                    ),
                };
                format!("{} after the loss ({service})", millis(after))
            }
        };
        let waits = if udp { servers } else { 0 };
        course.report.figure(&format!("baresip on {}", phone.transport), formula(granted, waits), actual.clone());
        let claim = match udp {
            true => "the real client on UDP is back within its formula",
            false => "the real client on TCP is back within its formula",
        };
        let holds = back.is_some_and(|at| back_after(killed.instant, at) <= bound);
        course.prove(Proof::new(claim, holds, actual));
    }
    Ok(())
}

fn formula(granted: u64, waits: usize) -> String {
    let timer = match waits {
        0 => String::new(),
        1 => format!(" + {} s (64 × T1)", TIMER_F / 1_000),
        _ => format!(" + {waits} × {} s (64 × T1)", TIMER_F / 1_000),
    };
    format!("≤ {granted} s granted expiry{timer} + {} s slack after the loss", SLACK / 1_000)
}

async fn simulated(course: &mut Course, killed: &Killed, bound: u64, formula: &str) {
    let unaware = course.swarm.of(Side::East, Some(false));
    if unaware.is_empty() {
        return;
    }
    let times = |course: &Course| -> Vec<u64> {
        let statuses = course.swarm.board.statuses();
        let back = unaware.iter().filter_map(|user| statuses.get(*user)?.first_after_mark);
        back.map(|at| at.saturating_sub(killed.at)).collect()
    };
    while times(course).len() < unaware.len() && whole(killed.instant.elapsed()) <= bound {
        tokio::time::sleep(PAUSE).await;
    }
    let times = times(course);
    let holds = times.len() == unaware.len() && times.iter().all(|time| *time <= bound);
    let figures = format!("{} of {}; {}", times.len(), unaware.len(), spread(times.clone()));
    course.report.figure("simulated users on UDP signed in again after the loss", formula, figures.clone());
    course.prove(Proof::new("every simulated user on UDP is back within its formula", holds, figures));
}

/// When a real client signed in at west, if it did within the bound. A client may still read an answer of the dead pool, so
/// nothing counts before west took anyone in, and west must show the binding as its own.
async fn came_back(course: &Course, killed: &Killed, phone: &Phone, bound: u64) -> Result<Option<Instant>, DrillError> {
    loop {
        let there = ask::bindings(course, Side::West, &phone.user).await?.iter().any(|binding| binding.pool == "west");
        let since = phone.first_after(killed.taken_in);
        if there && since.is_some() {
            return Ok(since);
        }
        if whole(killed.instant.elapsed()) > bound {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn back_after(since: Instant, at: Instant) -> u64 {
    whole(at.saturating_duration_since(since))
}

/// First, half, most and last of some times in milliseconds.
fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let Some(last) = times.last() else { return "none".into() };
    let share = |per_cent: usize| millis(times.get(times.len() * per_cent / 100).copied().unwrap_or(*last));
    format!("first {}, 50 % {}, 95 % {}, 99 % {}, last {}", share(0), share(50), share(95), share(99), millis(*last))
}

/// Runs futures at one time, in one task.
pub async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}
