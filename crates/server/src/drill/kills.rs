//! The course of `drill --kills`: servers killed at drawn moments of planned procedures, under traffic, then a pool cut off but
//! alive, then cold starts. Everything drawn comes from one seed; what the machine makes of it does not.
//!
//! Owns the order of its parts and what is proven over all of them. One round is in `rounds`.

use super::DrillError;
use super::ask;
use super::board::Side;
use super::cold::{self, Way};
use super::cut;
use super::play::everyone;
use super::proofs::{self, Proof};
use super::rounds::{self, Hit, Round};
use super::stages::Course;
use super::watch::Watch;
use crate::cli::table::millis;
use pairline_node::command::Command;
use std::collections::BTreeMap;
use std::time::Duration;

/// From this number of kills on, some must have fallen into a failover and some into a failback.
const ENOUGH: u32 = 20;

/// Longest delay from an order to the kill, in milliseconds.
const LATEST: u64 = 1_500;

/// The shortest stretch that kills are aimed at, in milliseconds.
const NARROWEST: u64 = 6;

/// What is drawn (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// The same seed draws the same.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `below` (at least 1).
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }

    /// One of the two.
    pub fn side(&mut self) -> Side {
        if self.below(2) == 0 { Side::East } else { Side::West }
    }
}

/// How late after an order a kill falls: anywhere up to the longest delay, or aimed at the short stretch in which a procedure
/// runs. Every kill is aimed until one has fallen into a procedure of that kind, and every other one after that.
pub struct Aim {
    span: u64,
    fell: bool,
}

impl Aim {
    /// For a kind of procedure that took this many milliseconds when nobody disturbed it.
    fn new(span: u64) -> Aim {
        Aim { span: span.max(NARROWEST), fell: false }
    }

    /// Draws a delay in milliseconds.
    pub fn delay(&self, dice: &mut Dice) -> u64 {
        let aimed = dice.below(2) == 0 || !self.fell;
        dice.below(if aimed { self.span } else { LATEST })
    }

    /// Learns where a kill fell.
    pub fn learn(&mut self, after_ms: u64, hit: Hit) {
        match hit {
            Hit::Within => self.fell = true,
            Hit::After if after_ms < self.span => self.span = after_ms.max(NARROWEST),
            Hit::Before => self.span = self.span.max(after_ms.min(LATEST / 2) * 2),
            Hit::After => {}
        }
    }
}

/// Aims at both kinds of procedures.
pub struct Aims {
    /// At failovers.
    pub failover: Aim,
    /// At failbacks.
    pub failback: Aim,
}

/// Plays the whole course.
///
/// # Errors
/// A stage does not reach its end.
pub async fn play(course: &mut Course, seed: u64) -> Result<(), DrillError> {
    let args = &course.args;
    course.report.setting = format!(
        "{} kills drawn from seed {seed}; {} users ({} % on UDP), {} contact changes/s, {} calls/s, {} messages/s",
        args.kills, args.users, args.udp, args.rate, args.calls, args.messages
    );
    course.stage("sign in");
    course.steady(Duration::from_secs(60)).await?;
    everyone(course).await?;
    course.stage("normal");
    let watch = Watch::start(&course.arena);
    course.traffic();
    tokio::time::sleep(Duration::from_secs(4)).await;
    course.steady(Duration::from_secs(30)).await?;
    course.stage("undisturbed");
    let mut aims = undisturbed(course).await?;
    course.stage("kills");
    let mut dice = Dice::new(seed);
    for number in 1..=course.args.kills {
        let round = Box::pin(rounds::play(course, &watch, &mut dice, &mut aims, number)).await?;
        course.report.rounds.push(round);
    }
    judge(course);
    course.stage("home");
    home(course, &mut dice).await?;
    Box::pin(cut::play(course)).await?;
    Box::pin(cold::play(course, &watch, Way::Asserted)).await?;
    Box::pin(cold::play(course, &watch, Way::PartnerReturns)).await?;
    at_the_end(course).await?;
    for proof in watch.proofs() {
        course.prove(proof);
    }
    Ok(())
}

/// A failover and a failback without a kill: how long they take from the order to its answer is what kills are aimed at.
async fn undisturbed(course: &mut Course) -> Result<Aims, DrillError> {
    let failover = timed(course, ask::failover(Side::East, false, "drill"), Side::West).await?;
    course.report.figure("failover without a kill", "-", millis(failover));
    let failback = timed(course, ask::failback(Side::East, "drill"), Side::East).await?;
    course.report.figure("failback without a kill", "-", millis(failback));
    ask::settled(course, Duration::from_secs(60)).await?;
    Ok(Aims { failover: Aim::new(failover), failback: Aim::new(failback) })
}

async fn timed(course: &Course, command: Command, target: Side) -> Result<u64, DrillError> {
    ask::settled(course, Duration::from_secs(60)).await?;
    let began = course.swarm.board.now();
    ask::procedure(course, &command, target, Duration::from_secs(60)).await?;
    Ok(course.swarm.board.now() - began)
}

/// Brings everything home that the last round left at the partner.
async fn home(course: &mut Course, dice: &mut Dice) -> Result<(), DrillError> {
    loop {
        let order = rounds::next_order(course, dice).await?;
        if !order.back {
            return Ok(());
        }
        ask::procedure(course, &order.command, order.target, Duration::from_secs(60)).await?;
        ask::settled(course, Duration::from_secs(60)).await?;
    }
}

/// What the rounds show together.
fn judge(course: &mut Course) {
    let rounds = std::mem::take(&mut course.report.rounds);
    let mut fell: BTreeMap<(bool, Hit), usize> = BTreeMap::new();
    for round in &rounds {
        *fell.entry((round.order.starts_with("failover"), round.hit)).or_default() += 1;
    }
    let count = |failover: bool, hit: Hit| fell.get(&(failover, hit)).copied().unwrap_or(0);
    for (failover, name) in [(true, "kills around a failover"), (false, "kills around a failback")] {
        let [before, within, after] = [Hit::Before, Hit::Within, Hit::After].map(|hit| count(failover, hit));
        course.report.figure(name, "-", format!("{before} before, {within} within, {after} after it"));
    }
    let resumed: u32 = rounds.iter().map(|round| round.resumed).sum();
    let aborted: u32 = rounds.iter().map(|round| round.aborted).sum();
    let longest = rounds.iter().map(|round| round.settled_ms).max().unwrap_or(0);
    course.report.figure("restart to end of procedure and steady pair", "-", format!("longest {}", millis(longest)));
    let (within_failover, within_failback) = (count(true, Hit::Within), count(false, Hit::Within));
    if course.args.kills >= ENOUGH {
        course.prove(Proof::new(
            "kills fell into failovers and into failbacks",
            within_failover > 0 && within_failback > 0,
            format!("{within_failover} into failovers, {within_failback} into failbacks"),
        ));
    }
    course.prove(Proof::new(
        "every procedure came to its end after a kill",
        !rounds.is_empty(),
        format!("{} rounds, {resumed} times resumed, {aborted} times aborted", rounds.len()),
    ));
    let lost: Vec<String> =
        rounds.iter().filter(|r| r.missing > 0).map(|r| format!("round {}: {}", r.number, r.missing)).collect();
    course.prove(Proof::new(
        "no acknowledged change was missing after any round",
        lost.is_empty(),
        if lost.is_empty() { format!("{} acknowledged so far", course.ledger.count()) } else { lost.join(", ") },
    ));
    course.report.rounds = rounds;
}

/// Quiet, everything that had no answer asked again, then ledger and copies compared.
async fn at_the_end(course: &mut Course) -> Result<(), DrillError> {
    course.stage("equality");
    course.quiet().await?;
    ask::settled(course, Duration::from_secs(60)).await?;
    let unknown = course.ledger.unknown();
    ask::retry_unknown(course, &unknown).await;
    let left = course.ledger.unknown().len();
    course.report.figure(
        "changes without an answer, asked again",
        "-",
        format!("{}; {left} still without", unknown.len()),
    );
    let all = course.ledger.all();
    let people: Vec<_> = course.swarm.people.iter().collect();
    let (lists, _) = course.arena.contacts(Side::West, &people).await?;
    course.prove(proofs::exact(&all, &lists));
    let equal = ask::equal(course).await?;
    course.prove(equal);
    Ok(())
}

/// The header of the rounds' table.
pub const HEADER: [&str; 10] =
    ["ROUND", "ORDER", "KILLED", "AFTER", "KILL FELL", "DEAD FOR", "RESUMED / ABORTED", "END", "SETTLED", "MISSING"];

/// The lines of the rounds' table.
pub fn lines(rounds: &[Round]) -> Vec<Vec<String>> {
    rounds.iter().map(Round::cells).collect()
}
