//! The course of a drill: from two healthy pools over a killed one and back.
//!
//! Owns the order of stages and what each must reach. Every wait has a deadline, and a missed one ends the drill with its
//! reason; servers and clients are stopped either way.

use super::DrillError;
use super::arena::Arena;
use super::board::{Side, What};
use super::ledger::{self, Change, State};
use super::phones::{self, Phone};
use super::proofs::{self, Proof};
use super::stages::Course;
use super::swarm::Swarm;
use super::traffic;
use crate::cli::args::DrillArgs;
use crate::cli::procedures;
use crate::cli::run::{out, pretty};
use crate::cli::table::millis;
use crate::client::{CallError, Prefer};
use pairline_node::command::{Command, Reply};
use pairline_node::view::{DivergenceView, ProcedureView, VerifyView};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds that a UDP client waits for a dead target before it tries the next (64 × T1).
const TIMER_F: u64 = 32;

/// Promotion must be done within this many milliseconds.
const PROMOTE_MS: u64 = 2_000;

/// The last user that is aware of its dead flow must be signed in again within this many milliseconds of the command.
const SIGN_IN_MS: u64 = 20_000;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Plays a drill; true if every proof holds.
pub async fn run(data: &Path, args: &DrillArgs, json: bool) -> Result<bool, DrillError> {
    let arena = Arena::start(data, args).await?;
    let folder = arena.layout.root().to_owned();
    let people = match arena.people(args).await {
        Ok(people) => people,
        Err(error) => {
            arena.end().await;
            return Err(error);
        }
    };
    let seed = crate::tls::random_u64().unwrap_or(1);
    let mut course = Course::new(arena, Swarm::start(people, seed, u64::from(args.users) * 2), args.clone(), json);
    let mut phones = Vec::new();
    if let Err(error) = Box::pin(play(&mut course, &mut phones)).await {
        course.report.ended_early = Some(error.to_string());
    }
    for phone in phones {
        phone.end().await;
    }
    let (arena, report) = course.finish();
    arena.end().await;
    out(&if json { pretty(&serde_json::json!(report)) } else { report.text() });
    if args.keep && !json {
        out(&format!("kept: {} (log.jsonl has every event)\n", folder.display()));
    }
    Ok(report.holds())
}

async fn play(course: &mut Course, phones: &mut Vec<Phone>) -> Result<(), DrillError> {
    sign_in(course, phones).await?;
    normal(course).await?;
    let killed = kill(course).await?;
    resiliency(course).await?;
    let failed_over = failover(course, &killed, phones).await?;
    let lost = recovery_point(course, &killed, &failed_over).await?;
    come_back(course).await?;
    divergence(course, &lost).await?;
    failback(course).await?;
    equality(course).await
}

/// Everyone signs in.
async fn sign_in(course: &mut Course, phones: &mut Vec<Phone>) -> Result<(), DrillError> {
    course.stage("sign in");
    course.steady(seconds(60)).await?;
    match phones::installed() {
        _ if course.args.no_baresip => course.report.skipped.push("real clients (--no-baresip)".into()),
        None => course
            .report
            .skipped
            .push("real clients: baresip is not installed (Debian: apt install baresip-core)".into()),
        Some(program) => {
            for (number, transport) in [(0, "UDP"), (1, "TCP")] {
                phones.push(Phone::start(&course.arena, &program, transport, number).await?);
            }
        }
    }
    let all: Vec<usize> = (0..course.swarm.people.len()).collect();
    course
        .until("every user signed in", seconds(90), |swarm| {
            let count = swarm.signed_in(&all, None);
            (count == all.len(), format!("{count} of {}", all.len()))
        })
        .await?;
    let limit = seconds(30);
    let begun = Instant::now();
    for phone in phones.iter() {
        // Asked of the server, since a client may have signed in before its events were listened to.
        while !registered(course, &phone.user).await? {
            if begun.elapsed() > limit {
                return Err(course.late(
                    "both real clients signed in",
                    limit,
                    "see clients/*/baresip/output.log".into(),
                ));
            }
            tokio::time::sleep(super::stages::PAUSE).await;
        }
    }
    Ok(())
}

async fn registered(course: &Course, user: &str) -> Result<bool, DrillError> {
    let command = Command::RegistrationList { user: Some(user.to_owned()), after: None, limit: 1 };
    match course.arena.ask(Side::East, &command).await? {
        Reply::Registrations { registrations, .. } => Ok(!registrations.is_empty()),
        other => Err(DrillError::Unexpected(format!("{other:?}"))),
    }
}

/// Traffic while all is well.
async fn normal(course: &mut Course) -> Result<(), DrillError> {
    course.stage("normal");
    course.traffic();
    tokio::time::sleep(seconds(8)).await;
    course.steady(seconds(30)).await?;
    let counts = course.swarm.board.counts(course.number());
    let failed: u64 = counts.bad.values().sum();
    course.prove(Proof::new(
        "in normal operation nothing fails",
        failed == 0,
        format!("{failed} failed: {:?}", counts.reasons),
    ));
    Ok(())
}

/// The moment of the disaster.
struct Killed {
    at: u64,
    instant: Instant,
}

async fn kill(course: &mut Course) -> Result<Killed, DrillError> {
    course.stage("kill");
    if course.args.hold > 0 {
        // The partner stands still, as behind a congested line: what east commits now is not shipped.
        course.arena.process(Side::West).signal(Signal::STOP);
        tokio::time::sleep(Duration::from_millis(course.args.hold)).await;
    }
    course.swarm.board.mark();
    course.arena.process(Side::East).kill().await;
    let killed = Killed { at: course.swarm.board.now(), instant: Instant::now() };
    course.arena.process(Side::West).signal(Signal::CONT);
    course.say("east is killed (SIGKILL)");
    course.mode(Side::West, Side::East, "resiliency", seconds(30)).await?;
    let aware = course.swarm.of(Side::East, Some(true));
    course
        .until("users aware of their dead flow signed in at the partner", seconds(45), |swarm| {
            let count = swarm.signed_in(&aware, Some(Side::West));
            (count == aware.len(), format!("{count} of {}", aware.len()))
        })
        .await?;
    Ok(killed)
}

/// Resiliency mode: calls work, contacts are readable, changes are refused.
async fn resiliency(course: &mut Course) -> Result<(), DrillError> {
    course.stage("resiliency mode");
    let users = course.swarm.of(Side::East, Some(true));
    let mut good = 0;
    let tries = users.len().min(10);
    for at in 0..tries {
        let (from, to) = (users[at], users[(at + 1) % users.len()]);
        let (call, message) = tokio::join!(course.swarm.call(from, to, 200), course.swarm.message(to, from));
        match (call, message) {
            (Ok(()), Ok(())) => good += 1,
            (call, message) => course.say(&format!("call {call:?}, message {message:?}")),
        }
    }
    course.prove(Proof::new(
        "in resiliency mode calls and messages work",
        good == tries && tries > 0,
        format!("{good} of {tries} pairs of users of the dead pool"),
    ));
    let changed: BTreeSet<usize> =
        course.ledger.acknowledged(&users.iter().copied().collect()).iter().map(|c| c.user).collect();
    let people: Vec<_> = changed.iter().take(20).filter_map(|user| course.swarm.people.get(*user)).collect();
    let (lists, read_only) = course.arena.contacts(Side::West, &people).await?;
    let filled = lists.values().filter(|list| !list.is_empty()).count();
    let readable = !people.is_empty() && filled == people.len() && read_only == people.len();
    course.prove(Proof::new(
        "contacts are readable, and marked so",
        readable,
        format!("{filled} of {} lists, {read_only} marked read-only", people.len()),
    ));
    let who = users.first().and_then(|user| course.swarm.people.get(*user)).cloned();
    let who = who.ok_or_else(|| DrillError::Unexpected("no user at home on east".into()))?;
    let mut session = course.arena.session();
    let op = ("0123456789abcdef0123456789abcdef".to_owned(), 1);
    let refused = traffic::change(&mut session, &who, "sip:refused@pairline.test", &op).await;
    let (holds, figures) = match refused {
        Err(CallError::Refused(problem)) => (
            problem.kind.contains("resiliency") && !problem.remedy.is_empty(),
            format!("{} {}: {}", problem.status, problem.kind, problem.detail),
        ),
        other => (false, format!("{other:?}")),
    };
    course.prove(Proof::new("changes are refused with a reason", holds, figures));
    Ok(())
}

/// The failover and what it took.
struct FailedOver {
    asked_at: u64,
    report: ProcedureView,
}

async fn failover(course: &mut Course, killed: &Killed, phones: &[Phone]) -> Result<FailedOver, DrillError> {
    course.stage("failover");
    let asked_at = course.swarm.board.now();
    let asked = Instant::now();
    let command = Command::PoolFailover {
        pool: "east".into(),
        disaster: true,
        dry_run: false,
        force: false,
        confirm: Some("yes".into()),
        reason: Some("drill: east was killed".into()),
    };
    let report = procedure(course, &command, seconds(60)).await?;
    let took = course.swarm.board.now() - asked_at;
    let promote = promotion_ms(&report).unwrap_or(took);
    course.report.figure("failover: promotion", format!("≤ {}", millis(PROMOTE_MS)), millis(promote));
    course.report.figure("failover: command to end", "-", millis(took));
    course.report.figure("from kill to failover command", "-", millis(asked_at.saturating_sub(killed.at)));
    course.prove(Proof::new("promotion is done in time", promote <= PROMOTE_MS, millis(promote)));
    signed_in_again(course, killed, asked_at, asked_at + took).await?;
    udp_users(course, killed, asked, phones).await?;
    Ok(FailedOver { asked_at, report })
}

/// Time in which the management store and the groups were promoted.
fn promotion_ms(report: &ProcedureView) -> Option<u64> {
    let stages = &report.report.as_ref()?.stages;
    let promoting = stages.iter().filter(|(name, _)| name == "Move" || name == "ManagementStore");
    promoting.map(|(_, ms)| *ms).reduce(|a, b| a + b)
}

/// Starts a procedure and waits for its end.
async fn procedure(course: &Course, command: &Command, limit: Duration) -> Result<ProcedureView, DrillError> {
    let mut session = course.arena.session();
    let prefer = Prefer::PartnerOf("east".into());
    let started = match session.call(command, &prefer).await? {
        Reply::Procedure(view) => view,
        Reply::Plan(plan) => return Err(DrillError::Unexpected(crate::cli::render_pool::plan(&plan))),
        other => return Err(DrillError::Unexpected(format!("{other:?}"))),
    };
    let follow = procedures::follow(&mut session, started, &prefer, |view| {
        course
            .say(&format!("{} of {}: {}, step {} of {}", view.kind, view.pool, view.state, view.steps.0, view.steps.1));
    });
    let done = tokio::time::timeout(limit, follow)
        .await
        .map_err(|_| course.late("end of the procedure", limit, "running".into()))??;
    if done.state == "done" { Ok(done) } else { Err(DrillError::Unexpected(crate::cli::render_pool::procedure(&done))) }
}

/// Users that noticed their dead flow: signed in again, and reachable.
async fn signed_in_again(course: &mut Course, killed: &Killed, asked_at: u64, done_at: u64) -> Result<(), DrillError> {
    let aware = course.swarm.of(Side::East, Some(true));
    course
        .until("users aware of their dead flow signed in", seconds(30), |swarm| {
            let count = swarm.signed_in(&aware, Some(Side::West));
            (count == aware.len(), format!("{count} of {}", aware.len()))
        })
        .await?;
    let statuses = course.swarm.board.statuses();
    // In full service from the end of the promotion at the earliest: before it they were guests in resiliency mode.
    let first: Vec<u64> = aware.iter().filter_map(|user| statuses.get(*user)?.first_after_mark).collect();
    let guests = spread(first.iter().map(|at| at.saturating_sub(killed.at)).collect());
    course.report.figure("aware users: guests in resiliency mode after the loss", "-", guests);
    let times: Vec<u64> = first.iter().map(|at| (*at).max(done_at).saturating_sub(asked_at)).collect();
    let last = times.iter().max().copied().unwrap_or(u64::MAX);
    let figures = spread(times.clone());
    course.report.figure(
        "signed in again after the command (aware of the dead flow)",
        format!("last ≤ {}", millis(SIGN_IN_MS)),
        figures,
    );
    course.prove(Proof::new(
        "the last aware user is signed in again in time",
        last <= SIGN_IN_MS && times.len() == aware.len(),
        millis(last),
    ));
    let from = course.swarm.of(Side::West, Some(true));
    let mut failed = Vec::new();
    for chunk in aware.chunks(50) {
        let probes = chunk.iter().zip(from.iter().cycle()).map(|(to, from)| course.swarm.message(*from, *to));
        for result in join_all(probes).await {
            failed.extend(result.err());
        }
    }
    let figures = format!(
        "{} of {} answered; failures {:?}",
        aware.len() - failed.len(),
        aware.len(),
        failed.iter().take(3).collect::<Vec<_>>()
    );
    course.prove(Proof::new("every aware user can be reached (not only its record)", failed.is_empty(), figures));
    Ok(())
}

/// First, half, most and last of some times in milliseconds.
fn spread(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let Some(last) = times.last() else { return "none".into() };
    let share = |per_cent: usize| millis(times.get(times.len() * per_cent / 100).copied().unwrap_or(*last));
    format!("first {}, 50 % {}, 95 % {}, 99 % {}, last {}", share(0), share(50), share(95), share(99), millis(*last))
}

/// Runs futures at one time, in one task.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
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

/// Clients that notice nothing until their refresh: simulated ones on UDP, and the real ones.
async fn udp_users(course: &mut Course, killed: &Killed, asked: Instant, phones: &[Phone]) -> Result<(), DrillError> {
    let unaware = course.swarm.of(Side::East, Some(false));
    let granted = course.swarm.board.statuses().iter().map(|status| u64::from(status.granted)).max().unwrap_or(0);
    let bound = granted + TIMER_F;
    let limit = seconds(bound + 10);
    let formula = format!("≤ {granted} s granted expiry + {TIMER_F} s = {bound} s after the loss");
    if !unaware.is_empty() {
        course
            .until("users on UDP signed in at the partner", limit, |swarm| {
                let count = swarm.signed_in(&unaware, Some(Side::West));
                (count == unaware.len(), format!("{count} of {}", unaware.len()))
            })
            .await?;
        let statuses = course.swarm.board.statuses();
        let last = unaware.iter().filter_map(|user| statuses.get(*user)?.first_after_mark).max().unwrap_or(0);
        course.report.figure(
            "signed in again after the loss: simulated users on UDP, last",
            formula.clone(),
            millis(last.saturating_sub(killed.at)),
        );
    }
    for phone in phones {
        while phone.first_after(killed.instant).is_none() && killed.instant.elapsed() < limit {
            tokio::time::sleep(super::stages::PAUSE).await;
        }
        let actual = match phone.first_after(killed.instant) {
            None => format!("not within {} s", limit.as_secs()),
            Some(at) => {
                let after = |since: Instant| {
                    millis(u64::try_from(at.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX))
                };
                format!("{} after the loss, {} after the command", after(killed.instant), after(asked))
            }
        };
        let promised = if phone.transport == "UDP" {
            formula.clone()
        } else {
            format!("≤ {granted} s granted expiry after the loss")
        };
        course.report.figure(&format!("baresip on {}", phone.transport), promised, actual);
    }
    Ok(())
}

/// What the disaster cost.
struct Lost {
    missing: Vec<Change>,
    unknown: Vec<Change>,
}

/// Reads every list of east's users at west and compares it with the ledger.
async fn recovery_point(course: &mut Course, killed: &Killed, failed_over: &FailedOver) -> Result<Lost, DrillError> {
    course.stage("recovery point");
    let east: BTreeSet<usize> = course.swarm.of(Side::East, None).into_iter().collect();
    let acknowledged: Vec<Change> = course
        .ledger
        .acknowledged(&east)
        .into_iter()
        .filter(|change| matches!(change.state, State::Acknowledged(at) if at <= killed.at + 200))
        .collect();
    let unknown: Vec<Change> =
        course.ledger.unknown().into_iter().filter(|change| east.contains(&change.user)).collect();
    let missing = missing_at(course, Side::West, &acknowledged).await?;
    let lag = failed_over.report.report.as_ref().and_then(|report| report.promised_lag_ms);
    let proof = proofs::recovery_point(&missing, failed_over.asked_at, lag);
    course.report.figure(
        "recovery point: age at the command",
        lag.map_or("unknown".into(), |lag| format!("≤ {}", millis(lag))),
        format!("{} of {} acknowledged changes of east are not at west", missing.len(), acknowledged.len()),
    );
    course.prove(proof);
    if let Some(report) = &failed_over.report.report {
        let short = report.recovery_points.iter().filter(|(_, promised, actual)| promised != actual).count();
        course.report.figure(
            "recovery point: groups",
            format!("{} promised", report.recovery_points.len()),
            format!("{short} differ from what was promoted"),
        );
    }
    Ok(Lost { missing, unknown })
}

async fn missing_at(course: &Course, side: Side, changes: &[Change]) -> Result<Vec<Change>, DrillError> {
    let users: BTreeSet<usize> = changes.iter().map(|change| change.user).collect();
    let people: Vec<_> = users.iter().filter_map(|user| course.swarm.people.get(*user)).collect();
    let (lists, _) = course.arena.contacts(side, &people).await?;
    Ok(ledger::missing(changes, &lists))
}

/// East's server is started again: it must stay fenced.
async fn come_back(course: &mut Course) -> Result<(), DrillError> {
    course.stage("east returns");
    course.arena.restart(Side::East).await?;
    let until = Instant::now() + seconds(10);
    let mut most = 0;
    let mut looks = 0;
    while Instant::now() < until {
        if let Ok(view) = course.arena.status(Side::East).await
            && let Some(east) = view.pools.iter().find(|pool| pool.name == "east")
        {
            looks += 1;
            most = most.max(east.serving_own);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    course.prove(Proof::new(
        "the returned pool stays fenced",
        most == 0 && looks > 0,
        format!("{looks} looks in 10 s, it served at most {most} of its groups"),
    ));
    Ok(())
}

/// The tail is complete, exact, and can be applied.
async fn divergence(course: &mut Course, lost: &Lost) -> Result<(), DrillError> {
    course.stage("divergent tail");
    course.steady(seconds(90)).await?;
    let tail = tail(course, false).await?;
    let durable = tail.entries.iter().filter(|entry| entry.durable).count();
    course.report.figure(
        "divergent tail",
        format!("{} lost and {} unanswered changes", lost.missing.len(), lost.unknown.len()),
        format!("{} entries, {durable} durable", tail.entries.len()),
    );
    for proof in proofs::tail(&course.swarm, &lost.missing, &lost.unknown, &tail) {
        course.prove(proof);
    }
    let applied = self::tail(course, true).await?;
    course.prove(proofs::applied(&applied));
    let left = missing_at(course, Side::West, &lost.missing).await?;
    course.prove(Proof::new(
        "after applying it nothing acknowledged is lost",
        left.is_empty(),
        format!("{} of {} still missing", left.len(), lost.missing.len()),
    ));
    retry_unknown(course, &lost.unknown).await;
    Ok(())
}

async fn tail(course: &Course, apply: bool) -> Result<DivergenceView, DrillError> {
    match course.arena.ask(Side::East, &Command::PoolDivergence { pool: "east".into(), apply }).await? {
        Reply::Divergence(view) => Ok(view),
        other => Err(DrillError::Unexpected(format!("{other:?}"))),
    }
}

/// A client without an answer asks again under the same operation id: applied once, whatever the tail did with it.
async fn retry_unknown(course: &Course, unknown: &[Change]) {
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

/// Back home under traffic.
async fn failback(course: &mut Course) -> Result<(), DrillError> {
    course.stage("before failback");
    course.steady(seconds(60)).await?;
    tokio::time::sleep(seconds(3)).await;
    course.stage("failback");
    let number = course.number();
    tokio::time::sleep(seconds(1)).await;
    let began = course.swarm.board.now();
    procedure(
        course,
        &Command::PoolFailback {
            pool: "east".into(),
            disaster: false,
            dry_run: false,
            force: false,
            confirm: None,
            reason: Some("drill".into()),
        },
        seconds(120),
    )
    .await?;
    let took = course.swarm.board.now() - began;
    course.report.figure("failback under traffic", "no failed call", millis(took));
    tokio::time::sleep(seconds(2)).await;
    course.stage("home again");
    tokio::time::sleep(seconds(4)).await;
    course.quiet().await?;
    let counts = course.swarm.board.counts(number);
    let failed = counts.bad.get(&What::Call).copied().unwrap_or(0);
    let calls = counts.good.get(&What::Call).copied().unwrap_or(0) + failed;
    course.prove(Proof::new(
        "failback without a failed call",
        failed == 0 && calls > 0,
        format!("{failed} of {calls} calls; {:?}", counts.reasons),
    ));
    Ok(())
}

/// Nothing lost, both copies equal.
async fn equality(course: &mut Course) -> Result<(), DrillError> {
    course.stage("equality");
    course.steady(seconds(60)).await?;
    let mut left = 0;
    let mut all = 0;
    for side in [Side::East, Side::West] {
        let users: BTreeSet<usize> = course.swarm.of(side, None).into_iter().collect();
        let acknowledged = course.ledger.acknowledged(&users);
        all += acknowledged.len();
        left += missing_at(course, side, &acknowledged).await?.len();
    }
    course.prove(Proof::new(
        "no acknowledged change is lost in the whole drill",
        left == 0 && all > 0,
        format!("{left} of {all} missing"),
    ));
    let mut views: Vec<VerifyView> = Vec::new();
    for side in [Side::East, Side::West] {
        match course.arena.ask(side, &Command::PoolVerify { pool: side.name().into() }).await? {
            Reply::Verify(view) => views.push(view),
            other => return Err(DrillError::Unexpected(format!("{other:?}"))),
        }
    }
    course.prove(proofs::equal(&views));
    Ok(())
}
