//! What the stages of a drill have in common: their clock, their deadlines, their lines in the report.
//!
//! Owns the bookkeeping of the course. Does not own the course (`play`).

use super::DrillError;
use super::arena::Arena;
use super::board::Side;
use super::ledger::Ledger;
use super::proofs::Proof;
use super::report::{Report, StageLine};
use super::swarm::Swarm;
use super::traffic::{Rates, Traffic};
use crate::cli::args::DrillArgs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at something that is waited for.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A drill that is being played.
pub struct Course {
    /// The deployment.
    pub arena: Arena,
    /// The simulated users.
    pub swarm: Arc<Swarm>,
    /// Contact changes.
    pub ledger: Arc<Ledger>,
    /// What will be printed.
    pub report: Report,
    /// Rates and shares.
    pub args: DrillArgs,
    traffic: Option<Traffic>,
    stage: Option<(&'static str, usize, u64)>,
    lines: Vec<(&'static str, usize, u64)>,
    quiet: bool,
}

impl Course {
    /// A course on a deployment that runs.
    pub fn new(arena: Arena, swarm: Swarm, args: DrillArgs, quiet: bool) -> Course {
        let edition = if args.enterprise { "two Enterprise pools of three Front Ends; " } else { "" };
        let setting = format!(
            "{edition}{} users ({} % on UDP), {} contact changes/s, {} calls/s, {} messages/s; line held {} ms before the kill",
            args.users, args.udp, args.rate, args.calls, args.messages, args.hold
        );
        Course {
            arena,
            swarm: Arc::new(swarm),
            ledger: Arc::default(),
            report: Report { setting, ..Report::default() },
            args,
            traffic: None,
            stage: None,
            lines: Vec::new(),
            quiet,
        }
    }

    /// Begins a stage; the one before it ends.
    pub fn stage(&mut self, name: &'static str) {
        self.close_stage();
        self.swarm.board.stage(name);
        self.stage = Some((name, self.swarm.board.present(), self.swarm.board.now()));
        self.say(&format!("--- {name}"));
    }

    fn close_stage(&mut self) {
        if let Some((name, number, began)) = self.stage.take() {
            self.lines.push((name, number, self.swarm.board.now().saturating_sub(began)));
        }
    }

    /// Name of the present stage.
    pub fn name(&self) -> &'static str {
        self.stage.map_or("start", |(name, ..)| name)
    }

    /// Whether a user's client is on a stream, so that it notices the loss of its server.
    pub fn streams(&self, user: usize) -> bool {
        self.swarm.people.get(user).is_some_and(|who| who.transport.reliable())
    }

    /// Number of the present stage on the board.
    pub fn number(&self) -> usize {
        self.stage.map_or(0, |(_, number, _)| number)
    }

    /// Says one line about the course.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{:>8.2} s  {line}", Duration::from_millis(self.swarm.board.now()).as_secs_f64());
        }
    }

    /// Notes a proof.
    pub fn prove(&mut self, proof: Proof) {
        self.say(&format!("{}: {} ({})", if proof.holds { "holds" } else { "FAILS" }, proof.claim, proof.figures));
        self.report.proofs.push(proof);
    }

    /// Starts traffic.
    pub fn traffic(&mut self) {
        let rates = Rates { calls: self.args.calls, messages: self.args.messages, changes: self.args.rate };
        self.traffic = Some(Traffic::start(&self.swarm, &self.ledger, &self.arena.access, rates));
    }

    /// Stops traffic and waits for what is on its way.
    pub async fn quiet(&mut self) -> Result<(), DrillError> {
        let limit = Duration::from_secs(75);
        let ended = match self.traffic.take() {
            Some(traffic) => traffic.stop(limit).await,
            None => true,
        };
        if ended {
            Ok(())
        } else {
            Err(self.late("end of all calls and messages", limit, "some are still on their way".into()))
        }
    }

    /// The error of a stage whose deadline has passed.
    pub fn late(&self, what: &'static str, limit: Duration, seen: String) -> DrillError {
        DrillError::Deadline { stage: self.name(), what, seconds: limit.as_secs(), seen }
    }

    /// Waits until the swarm shows something; `look` says what it sees, and whether that is enough.
    pub async fn until(
        &self,
        what: &'static str,
        limit: Duration,
        mut look: impl FnMut(&Swarm) -> (bool, String),
    ) -> Result<(), DrillError> {
        let until = Instant::now() + limit;
        loop {
            let (enough, seen) = look(&self.swarm);
            if enough {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.late(what, limit, seen));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until both servers see a steady pair.
    pub async fn steady(&self, limit: Duration) -> Result<(), DrillError> {
        let mut session = self.arena.session();
        let (view, steady) = crate::cli::procedures::wait_steady(&mut session, limit, |_| {}).await?;
        if steady { Ok(()) } else { Err(self.late("a steady pair", limit, crate::cli::render_pool::pools(&view))) }
    }

    /// Waits until one side's server shows another pool in a mode (compared by its beginning, in any case).
    pub async fn mode(&self, seen_by: Side, of: Side, mode: &str, limit: Duration) -> Result<(), DrillError> {
        let until = Instant::now() + limit;
        let mut seen = String::from("no answer");
        loop {
            if let Ok(view) = self.arena.status(seen_by).await
                && let Some(pool) = view.pools.iter().find(|pool| pool.name == of.name())
            {
                let letters = |text: &str| {
                    text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase()
                };
                if letters(&pool.mode).starts_with(&letters(mode)) {
                    return Ok(());
                }
                seen = format!("{} ({})", pool.mode, pool.mode_reason);
            }
            if Instant::now() >= until {
                return Err(self.late("the mode", limit, seen));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends the course: the report with all stages.
    pub fn finish(mut self) -> (Arena, Report) {
        self.close_stage();
        let board = Arc::clone(&self.swarm.board);
        self.report.stages =
            self.lines.iter().map(|(name, number, took)| StageLine::new(name, *took, &board.counts(*number))).collect();
        (self.arena, self.report)
    }
}
