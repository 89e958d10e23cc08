//! The course of a drill: from two healthy pools over a killed one and back.
//!
//! Owns the order of stages and what each must reach. Every wait has a deadline, and a missed one ends the drill with its
//! reason; servers and clients are stopped either way.

use super::DrillError;
use super::arena::Arena;
use super::ask;
use super::board::{Counts, Side, What};
use super::front_ends;
use super::kills;
use super::ledger::{Change, State};
use super::maintenance;
use super::phones::{self, Phone};
use super::proofs::{self, Proof};
use super::returning;
use super::stages::{Course, PAUSE};
use super::stop::Stop;
use super::swarm::Swarm;
use super::traffic;
use crate::cli::args::DrillArgs;
use crate::cli::run::{out, pretty};
use crate::cli::table::millis;
use crate::client::CallError;
use pairline_node::view::ProcedureView;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Promotion must be done within this many milliseconds.
const PROMOTE_MS: u64 = 2_000;

/// What was acknowledged this many milliseconds before the line was held had been shipped: the pair was steady.
const SHIPPED_MS: u64 = 2_000;

/// Calls that are made before the failback and outlive it.
const LONG_CALLS: usize = 20;

/// How long they last once they are answered, in milliseconds: well over a failback, which takes a second or two.
const LONG_CALL_MS: u64 = 10_000;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Plays a drill; true if every proof holds. Servers, clients and folder are gone at its end, whatever it was.
///
/// # Errors
/// The deployment cannot be created or started, or its users cannot be added.
pub async fn run(data: &Path, args: &DrillArgs, json: bool) -> Result<bool, DrillError> {
    let mut stop = Stop::new()?;
    let mut arena = Arena::create(data, args)?;
    let folder = arena.layout.root().to_owned();
    let prepare = async {
        arena.start().await?;
        arena.people(args).await
    };
    let people = match stop.unless(Box::pin(prepare)).await {
        Ok(people) => people,
        Err(error) => {
            arena.end().await;
            return Err(error);
        }
    };
    let seed = crate::tls::random_u64().unwrap_or(1);
    let swarm = Swarm::start(people, seed, u64::from(args.users) * 2);
    let mut course = Course::new(arena, swarm, args.clone(), json);
    let mut phones = Vec::new();
    let played = if args.kills > 0 {
        stop.unless(Box::pin(kills::play(&mut course, args.seed.unwrap_or(seed)))).await
    } else {
        stop.unless(Box::pin(play(&mut course, &mut phones))).await
    };
    if let Err(error) = played {
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
    if course.args.enterprise {
        front_ends::play(course).await?;
    }
    if course.args.enterprise && !course.args.brief {
        maintenance::play(course).await?;
        real_clients(course, phones).await?;
    }
    let killed = kill(course).await?;
    resiliency(course, &killed).await?;
    let failed_over = failover(course, &killed, phones).await?;
    let lost = recovery_point(course, &failed_over).await?;
    come_back(course, &killed).await?;
    divergence(course, &lost).await?;
    failback(course).await?;
    equality(course).await
}

/// The real clients are signed in when the site dies: one whose REGISTER failed while its server was restarted waits 30 to 60 s by
/// its own rule, and one on UDP 32 s for each server that did not answer.
async fn real_clients(course: &mut Course, phones: &[Phone]) -> Result<(), DrillError> {
    course.stage("real clients");
    let (begun, limit) = (Instant::now(), seconds(180));
    for phone in phones {
        let at = loop {
            match phone.first_after(begun) {
                Some(at) => break at,
                None if begun.elapsed() > limit => {
                    return Err(course.late("every real client signed in again", limit, phone.user.clone()));
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        };
        let took = u64::try_from((at - begun).as_millis()).unwrap_or(u64::MAX);
        course.report.figure(
            &format!("baresip on {}: signs in after the restarts", phone.transport),
            "-",
            millis(took),
        );
    }
    Ok(())
}

/// Everyone signs in, real clients too.
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
    everyone(course).await?;
    let limit = seconds(30);
    let begun = Instant::now();
    for phone in phones.iter() {
        // Asked of the server, since a client may have signed in before its events were listened to.
        while ask::bindings(course, Side::East, &phone.user).await?.is_empty() {
            if begun.elapsed() > limit {
                let seen = "see clients/*/baresip/output.log".into();
                return Err(course.late("both real clients signed in", limit, seen));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Waits until every simulated user is signed in.
///
/// # Errors
/// Not all are within the deadline.
pub async fn everyone(course: &Course) -> Result<(), DrillError> {
    let all: Vec<usize> = (0..course.swarm.people.len()).collect();
    course
        .until("every user signed in", seconds(90), |swarm| {
            let count = swarm.signed_in(&all, None);
            (count == all.len(), format!("{count} of {}", all.len()))
        })
        .await
}

/// Traffic while all is well.
async fn normal(course: &mut Course) -> Result<(), DrillError> {
    course.stage("normal");
    course.traffic();
    tokio::time::sleep(if course.args.brief { seconds(3) } else { seconds(8) }).await;
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
pub struct Killed {
    /// On the drill's clock, in milliseconds.
    pub at: u64,
    /// The same instant.
    pub instant: Instant,
    /// West took in no user of east before this.
    pub taken_in: Instant,
    /// The Front End of west that died with it.
    pub with_it: Option<String>,
}

async fn kill(course: &mut Course) -> Result<Killed, DrillError> {
    course.stage("kill");
    if course.args.hold > 0 {
        // The line stands still, as a congested one does: what east commits now is not shipped. It ends with the kill, before
        // west's detection interval has passed, so that the loss is noticed after it and not before.
        course.arena.line.hold();
        tokio::time::sleep(Duration::from_millis(course.args.hold)).await;
    }
    let with_it = match course.args.enterprise {
        true => Some(front_ends::busiest(course, Side::West).await?),
        false => None,
    };
    course.arena.kill(Side::East).await;
    course.arena.line.lose();
    if let Some(server) = &with_it {
        front_ends::kill(course, server).await;
    }
    let (at, instant) = (course.swarm.board.now(), Instant::now());
    course.swarm.board.mark(Side::West);
    course.say("east is killed (SIGKILL), and what was on the line is lost");
    course.mode(Side::West, Side::East, "resiliency", seconds(30)).await?;
    // The mode may be as much older as there is between two looks.
    let taken_in = Instant::now().checked_sub(PAUSE * 4).map_or(instant, |look| look.max(instant));
    let aware = course.swarm.of(Side::East, Some(true));
    course
        .until("users aware of their dead flow signed in at the partner", seconds(45), |swarm| {
            let count = swarm.signed_in(&aware, Some(Side::West));
            (count == aware.len(), format!("{count} of {}", aware.len()))
        })
        .await?;
    Ok(Killed { at, instant, taken_in, with_it })
}

/// Resiliency mode: calls work, contacts are readable, changes are refused.
async fn resiliency(course: &mut Course, killed: &Killed) -> Result<(), DrillError> {
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
    // Lists with something that was shipped: what was acknowledged while the line was held is not to be read here.
    let shipped = killed.at.saturating_sub(course.args.hold + SHIPPED_MS);
    let before = |change: &Change| matches!(change.state, State::Acknowledged(at) if at < shipped);
    let all = course.ledger.acknowledged(&users.iter().copied().collect());
    let changed: BTreeSet<usize> = all.iter().filter(|change| before(change)).map(|change| change.user).collect();
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
pub struct FailedOver {
    /// When the command was given, on the drill's clock in milliseconds.
    pub asked_at: u64,
    /// The same instant.
    pub asked: Instant,
    /// When it was done, on the drill's clock.
    pub done_at: u64,
    /// What the procedure reports.
    pub report: ProcedureView,
}

async fn failover(course: &mut Course, killed: &Killed, phones: &[Phone]) -> Result<FailedOver, DrillError> {
    course.stage("failover");
    let asked_at = course.swarm.board.now();
    let asked = Instant::now();
    let command = ask::failover(Side::East, true, "drill: east was killed");
    let report = ask::procedure(course, &command, Side::West, seconds(60)).await?;
    let failed_over = FailedOver { asked_at, asked, done_at: course.swarm.board.now(), report };
    let took = failed_over.done_at - asked_at;
    let promote = promotion_ms(&failed_over.report).unwrap_or(took);
    course.report.figure("failover: promotion", format!("≤ {}", millis(PROMOTE_MS)), millis(promote));
    course.report.figure("failover: command to end", "-", millis(took));
    course.report.figure("from kill to failover command", "-", millis(asked_at.saturating_sub(killed.at)));
    course.prove(Proof::new("promotion is done in time", promote <= PROMOTE_MS, millis(promote)));
    returning::aware(course, killed, &failed_over).await?;
    returning::unaware(course, killed, &failed_over, phones).await?;
    Ok(failed_over)
}

/// Time in which the management store and the groups were promoted.
fn promotion_ms(report: &ProcedureView) -> Option<u64> {
    let stages = &report.report.as_ref()?.stages;
    let promoting = stages.iter().filter(|(name, _)| name == "Move" || name == "ManagementStore");
    promoting.map(|(_, ms)| *ms).reduce(|a, b| a + b)
}

/// What the disaster cost.
struct Lost {
    missing: Vec<Change>,
    unknown: Vec<Change>,
}

/// Reads every list of east's users at west and compares it with the ledger.
async fn recovery_point(course: &mut Course, failed_over: &FailedOver) -> Result<Lost, DrillError> {
    course.stage("recovery point");
    let east: BTreeSet<usize> = course.swarm.of(Side::East, None).into_iter().collect();
    // Until the command nobody but east could acknowledge a change of its users: resiliency mode refuses them.
    let acknowledged: Vec<Change> = course
        .ledger
        .acknowledged(&east)
        .into_iter()
        .filter(|change| matches!(change.state, State::Acknowledged(at) if at < failed_over.asked_at))
        .collect();
    let unknown: Vec<Change> =
        course.ledger.unknown().into_iter().filter(|change| east.contains(&change.user)).collect();
    let missing = ask::missing_at(course, Side::West, &acknowledged).await?;
    let report = failed_over.report.report.clone().unwrap_or_default();
    course.report.figure(
        "recovery point: age at the command",
        report.promised_lag_ms.map_or("unknown".into(), |lag| format!("≤ {}", millis(lag))),
        format!("{} of {} acknowledged changes of east are not at west", missing.len(), acknowledged.len()),
    );
    course.prove(proofs::recovery_point(&missing, failed_over.asked_at, report.promised_lag_ms));
    if course.args.hold > 0 {
        course.prove(Proof::new(
            "with the line held there was something to lose",
            !missing.is_empty(),
            format!("{} acknowledged changes in {} ms", missing.len(), course.args.hold),
        ));
    }
    let short = report.recovery_points.iter().filter(|(_, promised, actual)| promised != actual).count();
    course.report.figure(
        "recovery point: groups",
        format!("{} promised", report.recovery_points.len()),
        format!("{short} differ from what was promoted"),
    );
    Ok(Lost { missing, unknown })
}

/// East's servers are started again: they must stay fenced. That of west which died with them is back before.
async fn come_back(course: &mut Course, killed: &Killed) -> Result<(), DrillError> {
    course.stage("east returns");
    if let Some(server) = &killed.with_it {
        course.arena.launch(server)?;
        course.arena.wait(server, false).await?;
    }
    course.arena.restart(Side::East).await?;
    let looked = if course.args.brief { 3 } else { 10 };
    let until = Instant::now() + seconds(looked);
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
        format!("{looks} looks in {looked} s, it served at most {most} of its groups"),
    ));
    Ok(())
}

/// The tail is complete, exact, and can be applied.
async fn divergence(course: &mut Course, lost: &Lost) -> Result<(), DrillError> {
    course.stage("divergent tail");
    ask::settled(course, seconds(90)).await?;
    let tail = ask::tail(course, false).await?;
    let durable = tail.entries.iter().filter(|entry| entry.durable).count();
    course.report.figure(
        "divergent tail",
        format!("{} lost and {} unanswered changes", lost.missing.len(), lost.unknown.len()),
        format!("{} entries, {durable} durable", tail.entries.len()),
    );
    for proof in proofs::tail(&course.swarm, &lost.missing, &lost.unknown, &tail) {
        course.prove(proof);
    }
    let applied = ask::tail(course, true).await?;
    course.prove(proofs::applied(&applied));
    let left = ask::missing_at(course, Side::West, &lost.missing).await?;
    course.prove(Proof::new(
        "after applying it nothing acknowledged is lost",
        left.is_empty(),
        format!("{} of {} still missing", left.len(), lost.missing.len()),
    ));
    ask::retry_unknown(course, &lost.unknown).await;
    Ok(())
}

/// Back home under traffic. Every call counts that is up during it or comes after it.
async fn failback(course: &mut Course) -> Result<(), DrillError> {
    course.stage("before failback");
    let mut stages = vec![course.number()];
    ask::settled(course, seconds(60)).await?;
    tokio::time::sleep(seconds(3)).await;
    let long = long_calls(course);
    tokio::time::sleep(seconds(2)).await;
    course.stage("failback");
    stages.push(course.number());
    tokio::time::sleep(seconds(1)).await;
    let began = course.swarm.board.now();
    let up = course.swarm.board.in_flight(What::Call);
    let command = ask::failback(Side::East, "drill");
    ask::procedure(course, &command, Side::East, seconds(120)).await?;
    let took = course.swarm.board.now() - began;
    course.report.figure("failback under traffic", "no failed call", millis(took));
    tokio::time::sleep(seconds(2)).await;
    course.stage("home again");
    stages.push(course.number());
    tokio::time::sleep(seconds(4)).await;
    course.quiet().await?;
    let asked = long.len();
    let ended = long.join_all().await;
    let ended_well = ended.iter().filter(|result| result.is_ok()).count();
    course.report.figure(
        "calls up when the failback began",
        format!("{asked} that outlive it"),
        format!("{up}; of those {asked}, {ended_well} ended well"),
    );
    let mut all = Counts::default();
    stages.iter().for_each(|stage| all.add(&course.swarm.board.counts(*stage)));
    let failed = all.bad.get(&What::Call).copied().unwrap_or(0);
    let calls = all.good.get(&What::Call).copied().unwrap_or(0) + failed;
    let holds = failed == 0 && calls > 0 && up > 0 && ended_well == asked && asked > 0;
    course.prove(Proof::new(
        "failback without a failed call, before, during and after it",
        holds,
        format!("{failed} of {calls} calls; {:?}", all.reasons),
    ));
    Ok(())
}

/// Calls between users of both pools, each long enough to be up through the whole failback.
fn long_calls(course: &Course) -> JoinSet<Result<(), String>> {
    let (east, west) = (course.swarm.of(Side::East, None), course.swarm.of(Side::West, None));
    let mut calls = JoinSet::new();
    let pairs = east.into_iter().zip(west).take(LONG_CALLS);
    for (number, (east, west)) in pairs.enumerate() {
        let (from, to) = if number % 2 == 0 { (east, west) } else { (west, east) };
        let swarm = Arc::clone(&course.swarm);
        calls.spawn(async move { swarm.call(from, to, LONG_CALL_MS).await });
    }
    calls
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
        left += ask::missing_at(course, side, &acknowledged).await?.len();
    }
    course.prove(Proof::new(
        "no acknowledged change is lost in the whole drill",
        left == 0 && all > 0,
        format!("{left} of {all} missing"),
    ));
    let equal = ask::equal(course).await?;
    course.prove(equal);
    Ok(())
}
