//! `pairline trace user NAME`: one user's messages at every server of the deployment, merged into one ladder.
//!
//! Owns the asking of all servers side by side, their clocks, and the output. Does not own the drawing (`ladder`) nor what a server
//! keeps (`capture`).

use super::args::Common;
use super::ladder::{Ladder, Step};
use super::run::{RunError, out, pretty};
use crate::capture::TraceAnswer;
use crate::client::{Access, CallError, Prefer, Session, Timed, TraceClient, wall_us};
use pairline_node::command::{Command, Reply};
use serde_json::json;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Between two readings of one server.
const EVERY: Duration = Duration::from_millis(250);
/// Between two tries to reach a server that does not answer.
const AGAIN: Duration = Duration::from_secs(2);
/// How long messages wait for earlier ones of other servers, in microseconds, before they are shown as they come.
const SETTLE_US: u64 = 800_000;
/// Steps that wait in memory; a trace of more is cut.
const STEPS: usize = 200_000;

/// What is asked.
#[derive(Clone, Debug)]
pub struct TraceAsked {
    /// Whom to trace.
    pub name: String,
    /// Whether to show messages as they come.
    pub follow: bool,
    /// For how long.
    pub seconds: u32,
}

/// A server's clock against this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// How far it is ahead, in microseconds.
    pub ahead_us: i64,
    /// By how much that may be wrong.
    pub within_us: i64,
}

impl Clock {
    fn of(timed: &Timed, now_us: u64) -> Clock {
        let trip = timed.got_us.saturating_sub(timed.asked_us);
        let middle = timed.asked_us.saturating_add(trip / 2);
        let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        Clock { ahead_us: signed(now_us).saturating_sub(signed(middle)), within_us: signed(trip / 2).saturating_add(1) }
    }

    /// The server's time in this machine's. An offset that may as well be none is taken for none: on one machine, and between
    /// machines that are kept in step, it would only bring disorder.
    fn correct(self, at_us: u64) -> u64 {
        if self.ahead_us.abs() <= self.within_us {
            return at_us;
        }
        at_us.saturating_add_signed(self.ahead_us.saturating_neg())
    }
}

/// What the task of one server tells.
enum Told {
    /// It is traced there from now on.
    Traced { at: usize, server: String },
    /// Messages, and the server's clock.
    Seen { at: usize, answer: TraceAnswer, clock: Clock },
    /// It does not answer.
    Away { at: usize, why: String },
    /// It refuses; nobody else will say otherwise.
    Refused(CallError),
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
struct Known {
    address: String,
    name: Option<String>,
    clock: Option<Clock>,
    lost: u64,
    away: Option<String>,
}

impl Known {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

/// Traces a user until the time is over or the administrator has seen enough.
///
/// # Errors
/// A refusal; no server that answers is no error but a word about each.
pub async fn run(access: Access, common: &Common, asked: TraceAsked) -> Result<bool, RunError> {
    let user = canonical(&access, &asked.name).await?;
    let (stop, stopping) = watch::channel(false);
    let (tell, mut told) = mpsc::channel(64);
    let mut tasks = Vec::new();
    let mut show = Show::new(common.json, asked.follow, &access);
    let until = Instant::now() + Duration::from_secs(u64::from(asked.seconds));
    for (at, endpoint) in access.endpoints.iter().enumerate() {
        let client = TraceClient::new(access.clone(), endpoint.address.clone());
        let one = One { at, client, user: user.clone(), until, tell: tell.clone(), stopping: stopping.clone() };
        tasks.push(tokio::spawn(one.run()));
    }
    drop(tell);
    eprintln!("tracing {user} for {} s; Ctrl-C ends it", asked.seconds);
    let mut refused = None;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            word = told.recv() => match word {
                None => break,
                Some(Told::Refused(error)) => {
                    refused = Some(error);
                    stop.send_replace(true);
                }
                Some(word) => show.take(word),
            },
            _ = tick.tick() => show.flush(wall_us().saturating_sub(SETTLE_US)),
            // Without signals the trace ends by its time.
            Ok(()) = tokio::signal::ctrl_c() => {
                stop.send_replace(true);
            }
        }
    }
    for task in tasks {
        // A panic in one is a bug that its own message names.
        let _ = task.await;
    }
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(show.end(&user)),
    }
}

/// The user's address as the deployment writes it. Whoever is not known is traced all the same: a phone with a wrong name is worth a
/// look.
async fn canonical(access: &Access, name: &str) -> Result<String, RunError> {
    let mut session = Session::with_limit(access.clone(), Duration::from_secs(5));
    match session.call(&Command::UserShow { user: name.to_owned() }, &Prefer::Any).await {
        Ok(Reply::Users { users, .. }) => Ok(users.into_iter().next().map_or(name.to_owned(), |view| view.user)),
        Ok(_) => Ok(name.to_owned()),
        Err(CallError::Refused(problem)) if problem.status == 404 => {
            eprintln!("the deployment has no user {name}; what names one is shown all the same");
            Ok(name.to_owned())
        }
        Err(error @ CallError::Refused(_)) => Err(error.into()),
        // Each server is asked again, and named if it is away.
        Err(_) => Ok(name.to_owned()),
    }
}

/// One server's trace, from its start to its end.
struct One {
    at: usize,
    client: TraceClient,
    user: String,
    until: Instant,
    tell: mpsc::Sender<Told>,
    stopping: watch::Receiver<bool>,
}

impl One {
    async fn run(mut self) {
        let mut running: Option<(u64, u64)> = None;
        while !self.is_over() {
            let wait = match self.step(&mut running).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => EVERY,
                Err(CallError::Refused(problem)) if problem.kind == "no-such-trace" => {
                    // It was started again, or was not read in time.
                    running = None;
                    EVERY
                }
                Err(CallError::Unreachable(whys)) => {
                    let why = whys.into_iter().next().map_or_else(String::new, |(_, why)| why);
                    self.say(Told::Away { at: self.at, why }).await;
                    AGAIN
                }
                Err(error) => {
                    self.say(Told::Refused(error)).await;
                    break;
                }
            };
            let left = self.until.saturating_duration_since(Instant::now());
            // The sender lives as long as this does; an end of it would be an end of all.
            let _ = tokio::time::timeout(wait.min(left), self.stopping.wait_for(|stop| *stop)).await;
        }
        if running.is_some() {
            // What was sent when the trace was ended may still be on its way into it: the servers write it beside their work.
            tokio::time::sleep(EVERY).await;
            // What came since the last reading; a server that is gone has nothing more to say.
            while matches!(self.step(&mut running).await, Ok(true)) {}
        }
        if let Some((id, _)) = running {
            let _ = self.client.stop(id).await;
        }
    }

    fn is_over(&self) -> bool {
        *self.stopping.borrow() || Instant::now() >= self.until
    }

    async fn say(&self, word: Told) {
        // Whoever listened has gone.
        let _ = self.tell.send(word).await;
    }

    /// Starts or reads; true if more waits there.
    async fn step(&mut self, running: &mut Option<(u64, u64)>) -> Result<bool, CallError> {
        let Some((id, after)) = *running else {
            let left = self.until.saturating_duration_since(Instant::now()).as_secs().max(1);
            let timed = self.client.start(&self.user, u32::try_from(left).unwrap_or(1)).await?;
            if let TraceAnswer::Started { id, server, .. } = timed.answer {
                *running = Some((id, 0));
                self.say(Told::Traced { at: self.at, server }).await;
            }
            return Ok(false);
        };
        let timed = self.client.read(id, after).await?;
        if let TraceAnswer::Messages { now_us, messages, more, .. } = &timed.answer {
            let (clock, more) = (Clock::of(&timed, *now_us), *more);
            *running = Some((id, messages.last().map_or(after, |last| last.number)));
            self.say(Told::Seen { at: self.at, answer: timed.answer, clock }).await;
            return Ok(more);
        }
        Ok(false)
    }
}

/// What is shown, as it comes or at the end.
struct Show {
    json: bool,
    follow: bool,
    servers: Vec<Known>,
    waiting: Vec<Step>,
    ladder: Ladder,
    shown: usize,
    cut: usize,
}

impl Show {
    fn new(json: bool, follow: bool, access: &Access) -> Show {
        let known = |address: &String| Known { address: address.clone(), ..Known::default() };
        let servers = access.endpoints.iter().map(|endpoint| known(&endpoint.address)).collect();
        Show { json, follow, servers, waiting: Vec::new(), ladder: Ladder::default(), shown: 0, cut: 0 }
    }

    fn take(&mut self, word: Told) {
        match word {
            Told::Traced { at, server } => {
                let Some(known) = self.servers.get_mut(at) else { return };
                eprintln!("traced at {server}");
                known.name = Some(server);
                known.away = None;
            }
            Told::Away { at, why } => {
                let Some(known) = self.servers.get_mut(at) else { return };
                if known.away.is_none() {
                    eprintln!("{} does not answer: {why}", known.name());
                }
                known.away = Some(why);
            }
            Told::Seen { at, answer, clock } => self.seen(at, answer, clock),
            // Taken before.
            Told::Refused(_) => {}
        }
    }

    fn seen(&mut self, at: usize, answer: TraceAnswer, clock: Clock) {
        let (Some(known), TraceAnswer::Messages { messages, lost, .. }) = (self.servers.get_mut(at), answer) else {
            return;
        };
        known.away = None;
        known.lost = lost;
        // The quickest answer knows the clock best.
        let best = known.clock.filter(|best| best.within_us <= clock.within_us).unwrap_or(clock);
        known.clock = Some(best);
        let server = known.name().to_owned();
        for traced in messages {
            if self.waiting.len() >= STEPS {
                self.cut += 1;
                continue;
            }
            self.waiting.push(Step { at_us: best.correct(traced.at_us), server: server.clone(), traced });
        }
    }

    /// Shows what is older than that, if messages are shown as they come.
    fn flush(&mut self, older_us: u64) {
        if !self.follow {
            return;
        }
        self.waiting.sort_by_key(|step| step.at_us);
        let ready = self.waiting.partition_point(|step| step.at_us <= older_us);
        for step in self.waiting.drain(..ready) {
            self.shown += 1;
            if self.json {
                out(&format!("{}\n", row(&step)));
            } else {
                out(&self.ladder.add(&step));
            }
        }
    }

    /// Shows the rest, and what is to be known of the servers. Whether any was traced.
    fn end(mut self, user: &str) -> bool {
        self.flush(u64::MAX);
        if !self.follow {
            self.waiting.sort_by_key(|step| step.at_us);
            self.shown = self.waiting.len();
            if self.json {
                let servers: Vec<_> = self.servers.iter().map(server_row).collect();
                let messages: Vec<_> = self.waiting.iter().map(row).collect();
                out(&pretty(&json!({ "user": user, "servers": servers, "messages": messages, "cut": self.cut })));
            } else {
                out(&Ladder::draw(&self.waiting));
            }
        }
        for known in &self.servers {
            eprintln!("{}", server_line(known));
        }
        if self.shown == 0 {
            eprintln!("nothing was seen of {user}");
        }
        if self.cut > 0 {
            eprintln!("{} further messages are not shown; trace for a shorter time", self.cut);
        }
        self.servers.iter().any(|known| known.name.is_some())
    }
}

fn row(step: &Step) -> serde_json::Value {
    json!({ "time_us": step.at_us, "seen_by": step.server, "words": step.words(), "message": step.traced })
}

fn server_row(known: &Known) -> serde_json::Value {
    json!({
        "address": known.address,
        "server": known.name,
        "clock_ahead_us": known.clock.map(|clock| clock.ahead_us),
        "clock_within_us": known.clock.map(|clock| clock.within_us),
        "lost": known.lost,
        "problem": known.away,
    })
}

fn server_line(known: &Known) -> String {
    let clock = known.clock.map_or_else(
        || "clock unknown".to_owned(),
        |clock| {
            let millis = |us: i64| format!("{}.{} ms", us.unsigned_abs() / 1_000, us.unsigned_abs() / 100 % 10);
            let way = if clock.ahead_us < 0 { "behind" } else { "ahead" };
            format!("clock {} {way} of this machine's, within {}", millis(clock.ahead_us), millis(clock.within_us))
        },
    );
    let lost = if known.lost > 0 { format!("; {} messages lost", known.lost) } else { String::new() };
    match (&known.name, &known.away) {
        (None, why) => format!("{}: not traced: {}", known.address, why.as_deref().unwrap_or("no answer")),
        (Some(name), None) => format!("{name}: {clock}{lost}"),
        (Some(name), Some(why)) => format!("{name}: stopped answering: {why}; {clock}{lost}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(asked_us: u64, got_us: u64, now_us: u64) -> Clock {
        Clock::of(&Timed { answer: TraceAnswer::Stopped, asked_us, got_us }, now_us)
    }

    #[test]
    fn a_clock_is_corrected_only_where_it_is_certainly_off() {
        let ahead = clock(1_000_000, 1_002_000, 1_501_000);
        assert_eq!(ahead, Clock { ahead_us: 500_000, within_us: 1_001 });
        assert_eq!(ahead.correct(2_000_000), 1_500_000);
        let behind = clock(1_000_000, 1_002_000, 991_000);
        assert_eq!((behind.ahead_us, behind.correct(5_000)), (-10_000, 15_000));
        let alike = clock(1_000_000, 1_002_000, 1_001_900);
        assert_eq!(alike.correct(77), 77, "within the error of its measuring");
    }

    #[test]
    fn a_server_that_does_not_answer_is_named() {
        let known =
            Known { address: "192.0.2.1:7443".to_owned(), away: Some("refused".to_owned()), ..Known::default() };
        assert_eq!(server_line(&known), "192.0.2.1:7443: not traced: refused");
        let answered = Known {
            name: Some("fe1".to_owned()),
            clock: Some(Clock { ahead_us: -2_340, within_us: 460 }),
            lost: 3,
            ..Known::default()
        };
        let expected = "fe1: clock 2.3 ms behind of this machine's, within 0.4 ms; 3 messages lost";
        assert_eq!(server_line(&answered), expected);
    }
}
