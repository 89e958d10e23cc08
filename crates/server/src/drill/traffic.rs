//! The drill's traffic: calls, messages and contact changes at steady rates, whatever happens to the pools.
//!
//! Owns the pace. Open loop: what a dead pool does not answer does not slow the others down.

use super::agent::{Order, Persona};
use super::board::{Side, What};
use super::ledger::{Ledger, Op, State};
use super::swarm::Swarm;
use crate::client::{Access, CallError, Prefer, Session};
use pairline_node::command::{Command, Reply};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Workers that send contact changes; each has a client session of its own.
const WORKERS: u64 = 16;

/// How long a contact change may take before its answer counts as missing.
const CHANGE: Duration = Duration::from_secs(5);

/// Rates a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Calls.
    pub calls: u32,
    /// Messages.
    pub messages: u32,
    /// Contact changes.
    pub changes: u32,
}

/// Running generators; dropping it stops them, `stop` also waits for what is on its way.
pub struct Traffic {
    tasks: JoinSet<()>,
    swarm: Arc<Swarm>,
}

impl Traffic {
    /// Starts all generators.
    pub fn start(swarm: &Arc<Swarm>, ledger: &Arc<Ledger>, access: &Access, rates: Rates) -> Traffic {
        let mut tasks = JoinSet::new();
        tasks.spawn(calls(Arc::clone(swarm), rates.calls));
        tasks.spawn(messages(Arc::clone(swarm), rates.messages));
        tasks.spawn(changes(Arc::clone(swarm), Arc::clone(ledger), access.clone(), rates.changes));
        Traffic { tasks, swarm: Arc::clone(swarm) }
    }

    /// Stops and waits until calls and messages have ended; false if some had not within the limit.
    pub async fn stop(mut self, limit: Duration) -> bool {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        let until = tokio::time::Instant::now() + limit;
        let board = &self.swarm.board;
        while board.in_flight(What::Call) + board.in_flight(What::Message) > 0 {
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

fn pace(rate: u32) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn calls(swarm: Arc<Swarm>, rate: u32) {
    let mut pace = pace(rate);
    loop {
        pace.tick().await;
        let Some((from, to)) = swarm.pair() else { continue };
        let hold = u64::try_from(300 + swarm.random(1_500)).unwrap_or(1_000);
        // A user with too many orders is passed over: that is the generator's limit, not a failed call.
        swarm.order(from, Order::Call { callee: to, to: swarm.aor(to), hold, done: None });
    }
}

async fn messages(swarm: Arc<Swarm>, rate: u32) {
    let mut pace = pace(rate);
    loop {
        pace.tick().await;
        let Some((from, to)) = swarm.pair() else { continue };
        swarm.order(from, Order::Message { callee: to, to: swarm.aor(to), done: None });
    }
}

async fn changes(swarm: Arc<Swarm>, ledger: Arc<Ledger>, access: Access, rate: u32) {
    let mut workers = JoinSet::new();
    let each = Duration::from_secs(1) * u32::try_from(WORKERS).unwrap_or(16) / rate.max(1);
    // Sessions are named anew for each generator, so that counters never repeat.
    let base = crate::tls::random_u64().unwrap_or(0);
    for worker in 0..WORKERS {
        let (swarm, ledger) = (Arc::clone(&swarm), Arc::clone(&ledger));
        let session = Session::with_limit(rotated(&access, worker), CHANGE);
        workers.spawn(async move {
            let start = each * u32::try_from(worker).unwrap_or(0) / u32::try_from(WORKERS).unwrap_or(16);
            tokio::time::sleep(start).await;
            change_worker(&swarm, &ledger, session, each, format!("{base:016x}{worker:016x}")).await;
        });
    }
    while workers.join_next().await.is_some() {}
}

/// The same servers, begun with another one: those of a pool are used in turn.
fn rotated(access: &Access, by: u64) -> Access {
    let mut access = access.clone();
    let count = access.endpoints.len().max(1);
    access.endpoints.rotate_left(usize::try_from(by).unwrap_or(0) % count);
    access
}

async fn change_worker(swarm: &Swarm, ledger: &Ledger, mut session: Session, each: Duration, name: String) {
    let mut pace = tokio::time::interval(each);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counter = 0;
    loop {
        pace.tick().await;
        counter += 1;
        let user = swarm.random(swarm.people.len());
        let Some(who) = swarm.people.get(user) else { continue };
        let op: Op = (name.clone(), counter);
        let contact = format!("sip:c{}-{counter}@{}", name.get(12..).unwrap_or(&name), who.domain);
        ledger.asked(op.clone(), user, contact.clone());
        let ticket = swarm.board.begin(What::Change, &[]);
        let result = change(&mut session, who, &contact, &op).await;
        let state = match &result {
            Ok(()) => State::Acknowledged(swarm.board.now()),
            Err(error) => after(error),
        };
        ledger.answered(&op, state);
        swarm.board.end(ticket, What::Change, result.map_err(|error| reason(&error)));
    }
}

/// Asks one change; the home pool's server first, the other if it cannot be reached.
pub async fn change(session: &mut Session, who: &Persona, contact: &str, op: &Op) -> Result<(), CallError> {
    change_at(session, who, contact, op, &Prefer::Pool(home(who.home))).await
}

/// Asks one change of the servers that are named.
pub async fn change_at(
    session: &mut Session,
    who: &Persona,
    contact: &str,
    op: &Op,
    prefer: &Prefer,
) -> Result<(), CallError> {
    let command = Command::ContactPut {
        user: format!("{}@{}", who.user, who.domain),
        contact: contact.to_owned(),
        name: "Drill".into(),
        groups: vec!["drill".into()],
        op: Some(op.clone()),
    };
    match session.call(&command, prefer).await? {
        Reply::Ok { .. } | Reply::Contacts { .. } => Ok(()),
        other => Err(CallError::Unexpected { address: "the server".into(), why: format!("{other:?}") }),
    }
}

fn home(side: Side) -> String {
    side.name().to_owned()
}

/// What a failed change means for the ledger: a refusal means "nothing was written", except where the answer says otherwise.
pub fn after(error: &CallError) -> State {
    match error {
        CallError::Refused(problem) if problem.status == 504 || problem.kind.contains("unknown") => State::Unknown,
        CallError::Refused(_) | CallError::Unreachable(_) => State::Refused,
        CallError::Unknown { .. } | CallError::Unexpected { .. } => State::Unknown,
    }
}

fn reason(error: &CallError) -> String {
    match error {
        CallError::Refused(problem) => format!("{} {}", problem.status, problem.kind),
        CallError::Unreachable(_) => "no server answers".into(),
        CallError::Unknown { why, .. } | CallError::Unexpected { why, .. } => why.clone(),
    }
}
