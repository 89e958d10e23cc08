//! One round of `drill --kills`: an order, a kill at a drawn moment, a restart, and whatever brings the procedure to its end.
//!
//! Owns the round and its line in the report. Does not own how many there are or what is proven over all (`kills`).

use super::DrillError;
use super::ask;
use super::board::Side;
use super::kills::{Aims, Dice};
use super::stages::{Course, PAUSE};
use super::watch::Watch;
use crate::cli::table::millis;
use crate::client::{CallError, Prefer, Session};
use pairline_node::command::{Command, Reply};
use pairline_node::view::ProcedureView;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Longest time for which a killed server stays dead, in milliseconds: longer than the detection interval.
const DEAD: u64 = 3_000;

/// Longest time in which a round's procedure must come to its end.
const SETTLE: Duration = Duration::from_secs(150);

/// Longest wait for the answer to one order; what is not answered by then is asked again.
const ANSWER: Duration = Duration::from_secs(30);

/// Where in the procedure the kill fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Hit {
    /// Nothing of it was written down yet.
    Before,
    /// It had begun and had not ended.
    Within,
    /// It was done, and whoever ordered it knew.
    After,
}

/// One round, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// What was ordered.
    pub order: String,
    /// Who was killed.
    pub killed: &'static str,
    /// Milliseconds from the order to the kill.
    pub after_ms: u64,
    /// Where the kill fell.
    pub hit: Hit,
    /// Steps that the survivor knew to be done right after the kill, of how many.
    pub steps: Option<(u32, u32)>,
    /// Milliseconds for which the server stayed dead.
    pub dead_ms: u64,
    /// How often the procedure was resumed.
    pub resumed: u32,
    /// How often it was aborted.
    pub aborted: u32,
    /// How the procedure ended.
    pub end: String,
    /// Milliseconds from the restart until the procedure had ended and the pair was steady.
    pub settled_ms: u64,
    /// Acknowledged changes that were missing at its end.
    pub missing: usize,
}

impl Round {
    /// The cells of its line.
    pub fn cells(&self) -> Vec<String> {
        let steps = self.steps.map_or_else(String::new, |(done, of)| format!(" ({done} of {of} steps)"));
        let hit = match self.hit {
            Hit::Before => "before it",
            Hit::Within => "within it",
            Hit::After => "after it",
        };
        vec![
            self.number.to_string(),
            self.order.clone(),
            self.killed.to_owned(),
            millis(self.after_ms),
            format!("{hit}{steps}"),
            millis(self.dead_ms),
            format!("{} / {}", self.resumed, self.aborted),
            self.end.clone(),
            millis(self.settled_ms),
            self.missing.to_string(),
        ]
    }
}

/// What is ordered: the command, the pool that runs it, and its words.
pub struct Order {
    /// The command.
    pub command: Command,
    /// Where users will be served.
    pub target: Side,
    /// A failback rather than a failover.
    pub back: bool,
    /// In words.
    pub words: String,
}

/// The planned move that the present places of the groups allow: a failback of what is away, else a failover of a drawn pool.
///
/// # Errors
/// A server does not say who serves.
pub async fn next_order(course: &Course, dice: &mut Dice) -> Result<Order, DrillError> {
    for side in [Side::East, Side::West] {
        let view = ask::pool(course, side, side).await?;
        if view.serving_own < view.groups {
            let command = ask::failback(side, "drill --kills");
            return Ok(Order { command, target: side, back: true, words: format!("failback {}", side.name()) });
        }
    }
    let side = dice.side();
    let command = ask::failover(side, false, "drill --kills");
    Ok(Order { command, target: side.other(), back: false, words: format!("failover {}", side.name()) })
}

/// Plays one round up to the settled pair.
///
/// # Errors
/// A server that does not come up, a procedure that does not end, a pair that does not settle.
pub async fn play(
    course: &mut Course,
    watch: &Watch,
    dice: &mut Dice,
    aims: &mut Aims,
    number: u32,
) -> Result<Round, DrillError> {
    let known = procedures(course, &[Side::East, Side::West]).await.into_iter().map(|view| view.id).collect();
    let order = next_order(course, dice).await?;
    let (killed, dead_ms) = (dice.side(), dice.below(DEAD));
    let aim = if order.back { &mut aims.failback } else { &mut aims.failover };
    let delay = aim.delay(dice);
    let mut ordered = give(course, &order).await?;
    let asked = Instant::now();
    tokio::time::sleep(Duration::from_millis(delay)).await;
    course.arena.kill(killed).await;
    let after_ms = millis_since(asked);
    let survivor = fresh(procedures(course, &[killed.other()]).await, &known);
    tokio::time::sleep(Duration::from_millis(dead_ms)).await;
    watch.starts(killed);
    let began = Instant::now();
    course.arena.restart(killed).await?;
    let settled = settle(course, &mut ordered, &order, &known).await?;
    ask::settled(course, Duration::from_secs(90)).await?;
    let settled_ms = millis_since(began);
    let last = fresh(procedures(course, &[order.target]).await, &known);
    let hit = hit(&order, killed, survivor.as_ref(), last.as_ref(), &settled);
    aim.learn(after_ms, hit);
    let acknowledged = course.ledger.all_acknowledged();
    let round = Round {
        number,
        killed: killed.name(),
        after_ms,
        hit,
        steps: survivor.filter(|_| hit == Hit::Within).map(|view| view.steps),
        dead_ms,
        resumed: settled.resumed,
        aborted: settled.aborted,
        end: last.map_or(settled.answer, |view| view.state),
        settled_ms,
        missing: ask::missing_at(course, Side::West, &acknowledged).await?.len(),
        order: order.words,
    };
    course.say(&format!("round {}", round.cells().join(" | ")));
    Ok(round)
}

/// Where the kill fell, by the procedure's state. It runs at its target: a killed target leaves it open unless it was done,
/// and a target that survives tells how far it is.
fn hit(
    order: &Order,
    killed: Side,
    survivor: Option<&ProcedureView>,
    last: Option<&ProcedureView>,
    settled: &Settled,
) -> Hit {
    match (last, survivor) {
        (None, _) => Hit::Before,
        (Some(_), _) if killed == order.target => {
            if settled.resumed + settled.aborted > 0 {
                Hit::Within
            } else {
                Hit::After
            }
        }
        (Some(_), None) => Hit::Before,
        (Some(_), Some(view)) if view.state == "done" => Hit::After,
        (Some(_), Some(_)) => Hit::Within,
    }
}

fn millis_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Gives the order over a connection that is open already; its answer comes when the procedure has ended.
async fn give(course: &Course, order: &Order) -> Result<JoinHandle<Result<Reply, CallError>>, DrillError> {
    let mut session = course.arena.session();
    let (command, at) = (order.command.clone(), Prefer::Only(order.target.name().into()));
    session.call(&Command::ServerStatus, &at).await?;
    Ok(tokio::spawn(async move { session.call(&command, &at).await }))
}

/// All procedures that these sides' servers know; a server without an answer knows none.
async fn procedures(course: &Course, sides: &[Side]) -> Vec<ProcedureView> {
    let mut all = Vec::new();
    for side in sides {
        if let Ok(Reply::Procedures { procedures }) = course.arena.ask(*side, &Command::ProcedureList).await {
            all.extend(procedures);
        }
    }
    all
}

/// The procedure that was not there before the round.
fn fresh(all: Vec<ProcedureView>, known: &BTreeSet<String>) -> Option<ProcedureView> {
    all.into_iter().find(|view| !known.contains(&view.id))
}

/// What it took to bring a procedure to its end.
#[derive(Default)]
struct Settled {
    resumed: u32,
    aborted: u32,
    answer: String,
}

/// Lists, resumes, and aborts where resuming is refused with that advice, until nothing is open at the order's target and the
/// order itself is answered.
async fn settle(
    course: &Course,
    ordered: &mut JoinHandle<Result<Reply, CallError>>,
    order: &Order,
    known: &BTreeSet<String>,
) -> Result<Settled, DrillError> {
    let mut session = Session::with_limit(course.arena.access.clone(), ANSWER);
    let target = Prefer::Only(order.target.name().into());
    let until = Instant::now() + SETTLE;
    let mut settled = Settled::default();
    let mut seen = String::from("nothing");
    while Instant::now() < until {
        let open = open(course, order.target, known).await;
        match open {
            Err(why) => seen = why,
            Ok(None) if ordered.is_finished() => {
                settled.answer = words(ordered.await);
                return Ok(settled);
            }
            Ok(None) => seen = "the order is not answered".into(),
            Ok(Some(view)) if view.state == "running" => seen = format!("running, step {:?}", view.steps),
            Ok(Some(view)) => {
                settled.resumed += 1;
                course.say(&format!("resume {} ({})", view.id, view.stopped.clone().unwrap_or_default()));
                seen = match session.call(&Command::ProcedureResume { id: view.id.clone() }, &target).await {
                    Ok(Reply::Procedure(view)) => format!("resumed: {} {:?}", view.state, view.stopped),
                    Ok(other) => format!("{other:?}"),
                    Err(CallError::Refused(problem)) if problem.remedy.contains("abort") => {
                        settled.aborted += 1;
                        let abort = Command::ProcedureAbort { id: view.id, reclaim: false };
                        format!("{problem}; abort: {:?}", session.call(&abort, &target).await.map(|_| "taken"))
                    }
                    Err(error) => error.to_string(),
                };
            }
        }
        tokio::time::sleep(PAUSE * 4).await;
    }
    Err(course.late("end of the round's procedure", SETTLE, seen))
}

/// The procedure of this round, if it is known at either side and not over at the target.
async fn open(course: &Course, target: Side, known: &BTreeSet<String>) -> Result<Option<ProcedureView>, String> {
    let there = match course.arena.ask(target, &Command::ProcedureList).await {
        Ok(Reply::Procedures { procedures }) => fresh(procedures, known),
        Ok(other) => return Err(format!("{other:?}")),
        Err(error) => return Err(error.to_string()),
    };
    let elsewhere = fresh(procedures(course, &[target.other()]).await, known);
    match (there, elsewhere) {
        (Some(view), _) if over(&view.state) => Ok(None),
        (Some(view), _) => Ok(Some(view)),
        (None, Some(view)) => Err(format!("{} is not known at {} yet", view.id, target.name())),
        (None, None) => Ok(None),
    }
}

fn over(state: &str) -> bool {
    matches!(state, "done" | "aborted" | "superseded")
}

/// The order's answer in few words.
fn words(answer: Result<Result<Reply, CallError>, tokio::task::JoinError>) -> String {
    match answer {
        Ok(Ok(Reply::Procedure(view))) => view.state,
        Ok(Ok(_)) => "answered".into(),
        Ok(Err(CallError::Refused(problem))) => format!("refused: {}", problem.kind),
        Ok(Err(CallError::Unreachable(_))) => "no server".into(),
        Ok(Err(_)) => "no answer".into(),
        Err(_) => "dropped".into(),
    }
}
