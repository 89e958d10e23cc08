//! Single Front Ends of Enterprise pools die under traffic, one after the other, and come back.
//!
//! Owns what is done and what must hold. A site's loss is in `play`, the loss for maintenance in `maintenance`.

use super::DrillError;
use super::ask;
use super::board::{Counts, Side, What};
use super::ledger::{Change, State};
use super::proofs::{self, Proof};
use super::stages::{Course, PAUSE};
use crate::cli::table::millis;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// From this many milliseconds after the death of a Front End on, nothing may fail any more that begins, but for clients that do
/// not know of it yet: another copy leads within two seconds, and who asked the dead leader waits up to three.
const SERVED_MS: u64 = 5_000;

/// How long the pool is watched without it.
const WITHOUT_MS: u64 = SERVED_MS + 3_000;

/// How long a request of that time may take to its end: an INVITE that nobody answers is given up after 35 s.
const END: Duration = Duration::from_secs(45);

/// Calls between clients of other Front Ends that are up when one dies.
const CALLS: usize = 20;

/// The shortest of them, in milliseconds once it is answered, and by how much the next one is longer, to the longest.
const CALL_MS: u64 = 2_500;
const LONGER_MS: u64 = 200;

/// Until all of them are answered.
const SET_UP: Duration = Duration::from_millis(1_500);

/// Between two clients that begin anew.
const BETWEEN: Duration = Duration::from_millis(4);

/// Results of calls.
pub type Calls = JoinSet<Result<(), String>>;

/// One Front End that dies.
struct Loss {
    side: Side,
    server: String,
    dies: &'static str,
    returns: &'static str,
}

/// A Front End of each pool dies, then the one that leads most groups of east; in a brief drill only that one.
///
/// # Errors
/// A stage does not reach its end.
pub async fn play(course: &mut Course) -> Result<(), DrillError> {
    let each = [
        (Side::East, "a Front End of east dies", "east's returns"),
        (Side::West, "a Front End of west dies", "west's returns"),
    ];
    let count = if course.args.brief { 0 } else { each.len() };
    for (side, dies, returns) in each.into_iter().take(count) {
        let server = course.arena.of(side).get(1).cloned().unwrap_or_default();
        lose(course, Loss { side, server, dies, returns }).await?;
    }
    let server = busiest(course, Side::East).await?;
    lose(course, Loss { side: Side::East, server, dies: "east's busiest dies", returns: "the busiest returns" }).await
}

/// The server that leads most groups.
///
/// # Errors
/// The pool does not say.
pub async fn busiest(course: &Course, side: Side) -> Result<String, DrillError> {
    let view = ask::health(course, side).await?;
    let servers = view.pools.iter().flat_map(|pool| &pool.servers);
    let most = servers.max_by_key(|server| server.leads).map(|server| server.server.clone()).unwrap_or_default();
    let found = course.arena.of(side).into_iter().find(|name| *name == most || course.arena.label(name) == most);
    found.ok_or_else(|| DrillError::Unexpected(format!("{} leads most groups of {}", most, side.name())))
}

async fn lose(course: &mut Course, loss: Loss) -> Result<(), DrillError> {
    let number = course.arena.topology.server_named(&loss.server).map_or(0, |server| server.id.0);
    let label = course.arena.label(&loss.server);
    let led = led_by(course, &loss).await?;
    let calls = between_others(course, number);
    tokio::time::sleep(SET_UP).await;
    course.stage(loss.dies);
    let stage = course.number();
    let streams = kill(course, &loss.server).await;
    let at = course.swarm.board.now();
    course.say(&format!("it led {led} groups, and {} clients were at it that notice", streams.len()));
    let back = elsewhere(course, &streams, number, at).await;
    let rest = WITHOUT_MS.saturating_sub(course.swarm.board.now().saturating_sub(at));
    tokio::time::sleep(Duration::from_millis(rest)).await;
    let everyone: BTreeSet<usize> = (0..course.swarm.people.len()).collect();
    let acknowledged = course.ledger.acknowledged(&everyone);
    let missing = ask::missing_at(course, loss.side, &acknowledged).await?;
    course.prove(Proof::new(
        "without the dead Front End no acknowledged change is missing",
        missing.is_empty() && !acknowledged.is_empty(),
        format!("{label}: {} of {} missing", missing.len(), acknowledged.len()),
    ));
    course.stage(loss.returns);
    let began = course.swarm.board.now();
    course.arena.launch(&loss.server)?;
    course.arena.wait(&loss.server, false).await?;
    ask::healthy(course, Duration::from_secs(60)).await?;
    let whole = course.swarm.board.now() - began;
    course.report.figure(
        &format!("{label}: start to all copies of every group"),
        "-",
        format!("{}; it had led {led} groups", millis(whole)),
    );
    signed_in(course, &label, streams.len(), &back);
    ended_well(course, &label, calls).await;
    served(course, &label, stage, at).await?;
    settle(course, &label, Some(&loss.server)).await
}

/// Kills a Front End; the clients come back that were at it and notice. What those do that do not know of it yet is counted apart.
pub async fn kill(course: &mut Course, server: &str) -> Vec<usize> {
    let number = course.arena.topology.server_named(server).map_or(0, |server| server.id.0);
    let there = course.swarm.at_server(number);
    let (streams, datagrams): (Vec<usize>, Vec<usize>) = there.into_iter().partition(|user| course.streams(*user));
    course.arena.kill_server(server).await;
    course.swarm.board.unaware(&datagrams);
    course.say(&format!("{} is killed (SIGKILL)", course.arena.label(server)));
    streams
}

/// How many groups a server leads.
async fn led_by(course: &Course, loss: &Loss) -> Result<u32, DrillError> {
    let view = ask::health(course, loss.side).await?;
    let label = course.arena.label(&loss.server);
    let servers = view.pools.iter().flat_map(|pool| &pool.servers);
    Ok(servers.filter(|s| s.server == loss.server || s.server == label).map(|s| s.leads).sum())
}

/// Calls between clients that are at other servers than this one, some of them by way of it.
fn between_others(course: &Course, server: u32) -> Calls {
    let others = (0..course.swarm.people.len())
        .filter(|user| course.swarm.board.at(*user).is_some_and(|at| at.server != server))
        .collect::<Vec<_>>();
    let (first, second) = others.split_at(others.len() / 2);
    let mut calls = Calls::new();
    // Who calls whom is such that both pools and all pairs of servers occur.
    let pairs = first.iter().zip(second.iter().rev()).step_by((first.len() / CALLS).max(1)).take(CALLS);
    for (hold, (from, to)) in (0..).map(|n| CALL_MS + n * LONGER_MS).zip(pairs) {
        calls.spawn(one_call(course, *from, *to, hold));
    }
    calls
}

/// One call, in a task of its own.
pub fn one_call(
    course: &Course,
    from: usize,
    to: usize,
    hold: u64,
) -> impl Future<Output = Result<(), String>> + use<> {
    let swarm = Arc::clone(&course.swarm);
    async move { swarm.call(from, to, hold).await }
}

/// When each of these clients was signed in at another server, as far as they were in time.
async fn elsewhere(course: &Course, clients: &[usize], dead: u32, since: u64) -> Vec<u64> {
    let mut open: BTreeSet<usize> = clients.iter().copied().collect();
    let mut times = Vec::new();
    while !open.is_empty() && course.swarm.board.now() < since + WITHOUT_MS {
        let now = course.swarm.board.now();
        open.retain(|user| {
            let back = course.swarm.board.at(*user).is_some_and(|at| at.server != dead);
            if back {
                times.push(now.saturating_sub(since));
            }
            !back
        });
        tokio::time::sleep(PAUSE / 5).await;
    }
    times
}

fn signed_in(course: &mut Course, label: &str, clients: usize, back: &[u64]) {
    let last = back.iter().max().copied().unwrap_or(0);
    let figures = format!("{label}: {} of {clients}; last after {}", back.len(), millis(last));
    course.prove(Proof::new(
        "the clients of the dead Front End are signed in at others in time",
        back.len() == clients && clients > 0 && last <= SERVED_MS,
        figures,
    ));
}

async fn ended_well(course: &mut Course, label: &str, calls: Calls) {
    let asked = calls.len();
    let failed: Vec<String> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
    course.prove(Proof::new(
        "established calls between clients of others go on and accept their BYE",
        failed.is_empty() && asked > 0,
        format!("{label}: {} of {asked}; {:?}", asked - failed.len(), failed.iter().take(3).collect::<Vec<_>>()),
    ));
}

/// What began in that stage has ended: from when on did nothing fail any more?
async fn served(course: &mut Course, label: &str, stage: usize, since: u64) -> Result<(), DrillError> {
    course
        .until("end of all that began without it", END, |swarm| {
            let open = swarm.board.counts(stage).open;
            (open == 0, format!("{open} requests are open"))
        })
        .await?;
    let counts = course.swarm.board.counts(stage);
    let kinds = [What::Register, What::Change, What::Call, What::Message];
    let last = |what: What| counts.last_bad.get(&what).map(|at| at.saturating_sub(since));
    let words = kinds.map(|what| {
        let (good, bad) = counts.of(what);
        let last = last(what).map_or_else(String::new, |at| format!(", the last began after {}", millis(at)));
        format!("{what:?} {bad} of {}{last}", good + bad)
    });
    course.report.figure(
        &format!("{label}: failed without it"),
        format!("none after {}", millis(SERVED_MS)),
        format!("{}; {}", words.join("; "), apart(&counts)),
    );
    course.say(&format!("{:?}", counts.reasons));
    let holds = kinds.iter().all(|what| last(*what).is_none_or(|at| at <= SERVED_MS) && counts.of(*what).0 > 0);
    course.prove(Proof::new(
        "service is whole again in time: registrations, changes, new calls, messages",
        holds,
        format!("{label}: the last that failed began {} after its death", latest(&counts, since)),
    ));
    Ok(())
}

fn latest(counts: &Counts, since: u64) -> String {
    counts.last_bad.values().max().map_or_else(|| "not".into(), |at| millis(at.saturating_sub(since)))
}

/// Requests that are counted apart, in words.
pub fn apart(counts: &Counts) -> String {
    let apart: u64 = counts.apart.values().sum();
    format!("{apart} of them of clients on UDP that did not know of it yet")
}

/// Traffic rests; what had no answer is asked again, and everything that was acknowledged is there, exactly. Then all clients begin
/// anew at their first server, so that the next stage finds them everywhere.
///
/// # Errors
/// Traffic does not end, or no server answers.
pub async fn settle(course: &mut Course, label: &str, at: Option<&str>) -> Result<(), DrillError> {
    course.quiet().await?;
    let unknown: Vec<Change> = course.ledger.unknown();
    ask::retry_unknown(course, &unknown).await;
    let all = course.ledger.all();
    let open = all.iter().filter(|change| change.state == State::Unknown).count();
    let people: Vec<_> = course.swarm.people.iter().collect();
    let (lists, _) = match at {
        Some(server) => course.arena.contacts_at(server, &people).await?,
        None => course.arena.contacts(Side::East, &people).await?,
    };
    let exact = proofs::exact(&all, &lists);
    let figures = format!("{label}: {}; {} had no answer, {open} still have none", exact.figures, unknown.len());
    course.prove(Proof { figures, ..exact });
    anew(course).await?;
    course.traffic();
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn anew(course: &mut Course) -> Result<(), DrillError> {
    course.stage("clients begin anew");
    for user in 0..course.swarm.people.len() {
        course.swarm.order(user, super::agent::Order::Anew);
        // Not all in one moment: that would be another drill.
        tokio::time::sleep(BETWEEN).await;
    }
    let home = |swarm: &super::swarm::Swarm| {
        let there = swarm.people.iter().filter(|who| swarm.board.side_of(who.number) == Some(who.home)).count();
        (there == swarm.people.len(), format!("{there} of {}", swarm.people.len()))
    };
    course.until("every user signed in at home", Duration::from_secs(60), home).await
}
