//! How the rest of the process speaks to the node: commands with answers, and the stream of events.
//!
//! Owns the waiting for answers, bounded in number and time. Does not own commands.

use super::counters::{Counters, count};
use super::events::{EventHub, Events};
use super::inbox::{Inbox, Refused};
use crate::capture::Capture;
use crate::net::tally::Labelled;
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::io::Input;
use pairline_node::view::Sample;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Commands that may wait for their answers at one time.
const WAITING: usize = 4096;
/// How long an answer is waited for. Procedures answer when they have started, so minutes mean that something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for commands that wait for the partner or for all groups.
const LONG_PATIENCE: Duration = Duration::from_secs(300);

type Answer = Result<Reply, Problem>;

/// Commands whose answers are awaited.
#[derive(Default)]
pub struct Waiting(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, oneshot::Sender<Answer>>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<(u64, oneshot::Receiver<Answer>)> {
        let mut table = self.lock();
        if table.open.len() >= WAITING {
            table.open.retain(|_, sender| !sender.is_closed());
            if table.open.len() >= WAITING {
                return None;
            }
        }
        table.last += 1;
        let (sender, receiver) = oneshot::channel();
        let request = table.last;
        table.open.insert(request, sender);
        Some((request, receiver))
    }

    fn forget(&self, request: u64) {
        self.lock().open.remove(&request);
    }

    /// Gives an answer to whoever waits for it.
    pub fn answer(&self, request: u64, answer: Answer) {
        if let Some(sender) = self.lock().open.remove(&request) {
            // Whoever asked may have stopped waiting.
            let _ = sender.send(answer);
        }
    }
}

/// Speaks to the node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    inbox: Inbox,
    waiting: Arc<Waiting>,
    events: EventHub,
    counters: Arc<Counters>,
    capture: Capture,
    patience: Option<Duration>,
}

fn problem(status: u16, kind: &str, title: &str, detail: String, remedy: &str) -> Problem {
    Problem { status, kind: kind.to_owned(), title: title.to_owned(), detail, remedy: remedy.to_owned() }
}

fn stopping() -> Problem {
    problem(
        503,
        "server-stopping",
        "The server is stopping",
        "It takes no more commands.".to_owned(),
        "Ask another server of the pool, or wait until this one is back.",
    )
}

fn patience(command: &Command) -> Duration {
    match command {
        Command::PoolSync { .. }
        | Command::ServerDrain { .. }
        | Command::PoolVerify { .. }
        | Command::PoolPair { .. }
        | Command::PoolUnpair { .. }
        | Command::TopologyPublish { .. }
        | Command::PoolFailover { .. }
        | Command::PoolFailback { .. }
        | Command::ManagementFailover { .. }
        | Command::PoolDivergence { .. }
        | Command::PoolDivergenceSettle { .. }
        | Command::ProcedureResume { .. }
        | Command::ProcedureAbort { .. } => LONG_PATIENCE,
        _ => PATIENCE,
    }
}

impl NodeHandle {
    /// For the shell.
    pub fn new(
        inbox: Inbox,
        waiting: Arc<Waiting>,
        events: EventHub,
        counters: Arc<Counters>,
        capture: Capture,
    ) -> NodeHandle {
        NodeHandle { inbox, waiting, events, counters, capture, patience: None }
    }

    /// The same with one time limit for all commands.
    pub fn with_patience(self, limit: Duration) -> NodeHandle {
        NodeHandle { patience: Some(limit), ..self }
    }

    /// Hands one command in and waits for its answer. Safe to drop at the await: the command goes on, its answer is lost.
    ///
    /// # Errors
    /// What the node refuses; 503 `overloaded` when too many commands wait; 504 `no-answer` after 30 s (5 min for those
    /// that wait for another pool), in which case the outcome is unknown.
    pub async fn command(&self, actor: Actor, command: Command) -> Answer {
        let limit = self.patience.unwrap_or_else(|| patience(&command));
        let Some((request, receiver)) = self.waiting.open() else { return Err(self.overloaded()) };
        match self.inbox.try_control(Input::Admin { request, actor, command }) {
            Ok(()) => {}
            Err(refused) => {
                self.waiting.forget(request);
                return Err(match refused {
                    Refused::Full => self.overloaded(),
                    Refused::Ended => stopping(),
                });
            }
        }
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => {
                self.waiting.forget(request);
                Err(problem(
                    504,
                    "no-answer",
                    "No answer in time",
                    format!(
                        "The node gave no answer within {} s. Whether the command took effect is unknown.",
                        limit.as_secs()
                    ),
                    "Look at the state first (for example `pairline pool status`), then repeat the command.",
                ))
            }
        }
    }

    fn overloaded(&self) -> Problem {
        count(&self.counters.commands_refused);
        problem(
            503,
            "overloaded",
            "Too many commands are waiting",
            "The command was not taken; nothing was changed.".to_owned(),
            "Repeat it in a few seconds.",
        )
    }

    /// Events from now on; a subscriber that is slow misses some and is told how many.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// What the shell counts, by metric name.
    pub fn shell_samples(&self) -> Vec<(&'static str, u64)> {
        self.counters.samples()
    }

    /// Waits in queues of messages, and what was captured.
    pub fn further_samples(&self) -> Vec<Sample> {
        let mut all = self.counters.waits.samples();
        all.extend(self.capture.samples());
        all
    }

    /// The capture.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Stream connections by transport and reason.
    pub fn connection_samples(&self) -> Vec<Labelled> {
        self.counters.connections.samples()
    }
}
