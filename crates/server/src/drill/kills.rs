//! The course of `drill --kills`: servers killed at drawn moments of planned procedures, under traffic, then a pool cut off but
//! alive, then cold starts. Everything drawn comes from one seed; what the machine makes of it does not.
//!
//! Owns the order of its parts and what is proven over all of them. One round is in `rounds`.

use super::DrillError;
use super::ask;
use super::board::Side;
use super::cold::{self, Way};
use super::cut;
use super::ledger::State;
use super::play::everyone;
use super::proofs::Proof;
use super::rounds::{self, Hit, Round};
use super::stages::Course;
use super::watch::Watch;
use crate::cli::table::millis;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From this number of kills on, some must have fallen into a failover and some into a failback.
const ENOUGH: u32 = 20;

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
    let span = undisturbed(course).await?;
    course.stage("kills");
    let mut dice = Dice::new(seed);
    for number in 1..=course.args.kills {
        let round = Box::pin(rounds::play(course, &watch, &mut dice, span, number)).await?;
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

/// A failover and a failback without a kill: how long they take, in milliseconds from the order to its answer. Half of the
/// kills are drawn from such a stretch, since it is short against the longest delay.
async fn undisturbed(course: &mut Course) -> Result<u64, DrillError> {
    let mut longest = 1;
    for (name, command, target) in [
        ("failover without a kill", ask::failover(Side::East, false, "drill"), Side::West),
        ("failback without a kill", ask::failback(Side::East, "drill"), Side::East),
    ] {
        ask::settled(course, Duration::from_secs(60)).await?;
        let began = course.swarm.board.now();
        ask::procedure(course, &command, target, Duration::from_secs(60)).await?;
        let took = course.swarm.board.now() - began;
        course.report.figure(name, "-", millis(took));
        longest = longest.max(took);
    }
    ask::settled(course, Duration::from_secs(60)).await?;
    Ok(longest)
}

/// Brings everything home that the last round left at the partner.
async fn home(course: &mut Course, dice: &mut Dice) -> Result<(), DrillError> {
    loop {
        let order = rounds::next_order(course, dice).await?;
        if !order.words.starts_with("failback") {
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
    let mut asked: BTreeMap<(usize, &str), &State> = BTreeMap::new();
    for change in &all {
        asked.insert((change.user, &change.contact), &change.state);
    }
    let there: BTreeSet<(usize, &str)> =
        lists.iter().flat_map(|(user, list)| list.iter().map(|contact| (*user, contact.as_str()))).collect();
    let acknowledged = asked.iter().filter(|(_, state)| matches!(state, State::Acknowledged(_)));
    let missing = acknowledged.clone().filter(|(change, _)| !there.contains(*change)).count();
    let refused = asked.iter().filter(|(change, state)| **state == &State::Refused && there.contains(*change)).count();
    let strangers = there.iter().filter(|change| !asked.contains_key(*change)).count();
    let acknowledged = acknowledged.count();
    course.prove(Proof::new(
        "every acknowledged change is there, exactly",
        acknowledged > 0 && missing + refused + strangers == 0,
        format!(
            "{acknowledged} acknowledged, {missing} missing; {refused} there though refused; {strangers} that nobody asked for"
        ),
    ));
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
