//! Both servers looked at all the time: who is active for which group, in which epoch, with a link or without.
//!
//! Owns the looks and the rules that they are held against. Does not own what is done to the servers meanwhile. A look is
//! true at some moment between question and answer; each rule uses that end of it which cannot accuse a server wrongly.

use super::arena::Arena;
use super::board::Side;
use super::proofs::Proof;
use crate::client::{Access, Prefer, Session};
use pairline_node::command::{Command, Reply};
use pairline_node::view::StatusView;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Between two looks at one server.
const EVERY: Duration = Duration::from_millis(20);

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A pool must have stopped serving in an older epoch this long after it could have heard of a higher one.
const HEARD_MS: u64 = 1_000;

/// Breaches that are kept in words.
const KEPT: usize = 20;

/// One look at one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When it was asked, in milliseconds of the watch.
    pub asked: u64,
    /// When the answer was there.
    pub answered: u64,
    /// Whether its link was up.
    pub linked: bool,
    /// Epoch of each group's copy.
    pub epochs: BTreeMap<String, u64>,
    /// Groups that it served in full: active and confirmed.
    pub active: BTreeSet<String>,
}

impl Look {
    /// From a server's metrics.
    pub fn of(status: &StatusView, asked: u64, answered: u64) -> Look {
        let mut look = Look { asked, answered, ..Look::default() };
        for (name, labels, value) in &status.samples {
            let label = |wanted: &str| labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            match (name.as_str(), label("group")) {
                ("pairline_links_up", _) => look.linked = *value > 0.5,
                ("pairline_group_epoch", Some(group)) => {
                    look.epochs.insert(group, whole(*value));
                }
                ("pairline_group_role", Some(group)) if label("role").as_deref() == Some("active") => {
                    look.active.insert(group);
                }
                _ => {}
            }
        }
        look
    }
}

/// A metric that counts; anything else is 0.
fn whole(value: f64) -> u64 {
    Duration::try_from_secs_f64(value).map_or(0, |time| time.as_secs())
}

/// What both servers were seen to be, and every breach of the rules.
#[derive(Debug, Default)]
pub struct Facts {
    holders: BTreeMap<(String, u64), BTreeSet<Side>>,
    highest: BTreeMap<String, (u64, u64)>,
    linked_since: BTreeMap<Side, u64>,
    started: BTreeMap<Side, u64>,
    restarts: u64,
    looks: BTreeMap<Side, u64>,
    last: BTreeMap<Side, u64>,
    longest_gap: u64,
    longest_stale: u64,
    two_active: Breaches,
    served_on: Breaches,
    served_unasked: Breaches,
}

/// Breaches of one rule: all are counted, the first ones are kept in words.
#[derive(Debug, Default)]
struct Breaches {
    count: u64,
    words: BTreeSet<String>,
}

impl Breaches {
    fn add(&mut self, words: String) {
        self.count += 1;
        if self.words.len() < KEPT {
            self.words.insert(words);
        }
    }

    fn proof(&self, claim: &'static str, figures: String) -> Proof {
        let first: Vec<&str> = self.words.iter().take(3).map(String::as_str).collect();
        let figures = if self.count == 0 { figures } else { format!("{} breaches: {}", self.count, first.join("; ")) };
        Proof::new(claim, self.count == 0, figures)
    }
}

impl Facts {
    /// A server's process is about to be started.
    pub fn starts(&mut self, side: Side, at: u64) {
        self.restarts += 1;
        self.started.insert(side, at);
        self.silent(side);
    }

    /// A server did not answer: its link must be seen anew.
    pub fn silent(&mut self, side: Side) {
        self.linked_since.remove(&side);
        self.last.remove(&side);
    }

    /// Takes a look and holds it against the rules.
    pub fn take(&mut self, side: Side, look: &Look) {
        *self.looks.entry(side).or_default() += 1;
        if let Some(last) = self.last.insert(side, look.answered) {
            self.longest_gap = self.longest_gap.max(look.answered.saturating_sub(last));
        }
        if look.linked {
            self.linked_since.entry(side).or_insert(look.answered);
        } else {
            self.linked_since.remove(&side);
        }
        for group in &look.active {
            let epoch = look.epochs.get(group).copied().unwrap_or(0);
            let holders = self.holders.entry((group.clone(), epoch)).or_default();
            holders.insert(side);
            if holders.len() > 1 {
                self.two_active.add(format!("{group} in epoch {epoch}"));
            }
            self.in_older_epoch(side, look, group, epoch);
        }
        for (group, epoch) in &look.epochs {
            let highest = self.highest.entry(group.clone()).or_insert((*epoch, look.answered));
            if *epoch > highest.0 {
                *highest = (*epoch, look.answered);
            }
        }
    }

    /// The pool served this group in this epoch; was a higher one granted that it could have known?
    fn in_older_epoch(&mut self, side: Side, look: &Look, group: &str, epoch: u64) {
        let Some((highest, known)) = self.highest.get(group).copied().filter(|(highest, _)| *highest > epoch) else {
            return;
        };
        if let Some(linked) = self.linked_since.get(&side) {
            let stale = look.asked.saturating_sub(known.max(*linked));
            self.longest_stale = self.longest_stale.max(stale);
            if stale > HEARD_MS {
                self.served_on.add(format!("{} served {group} in epoch {epoch} below {highest}", side.name()));
            }
        }
        if self.started.get(&side).is_some_and(|started| known < *started && *started <= look.asked) {
            self.served_unasked.add(format!("{} served {group} in epoch {epoch} below {highest}", side.name()));
        }
    }

    /// What was seen, as proofs.
    pub fn proofs(&self) -> Vec<Proof> {
        let looks = |side| self.looks.get(&side).copied().unwrap_or(0);
        let seen = format!(
            "{} looks at east, {} at west, the longest pause between two {} ms; {} epochs of {} groups",
            looks(Side::East),
            looks(Side::West),
            self.longest_gap,
            self.holders.len(),
            self.highest.len()
        );
        let mut first = self.two_active.proof("no group was ever active in two places in one epoch", seen);
        first.holds &= looks(Side::East) > 0 && looks(Side::West) > 0;
        let longest = format!("at most {} ms after it could have heard", self.longest_stale);
        vec![
            first,
            self.served_on.proof("no pool went on in an older epoch once it could know of a higher one", longest),
            self.served_unasked
                .proof("no restarted pool served in full in an older epoch", format!("{} restarts", self.restarts)),
        ]
    }
}

/// The watch; dropping it ends the looks.
pub struct Watch {
    began: Instant,
    facts: Arc<Mutex<Facts>>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Begins to look at both servers.
    pub fn start(arena: &Arena) -> Watch {
        let began = Instant::now();
        let facts = Arc::<Mutex<Facts>>::default();
        let mut tasks = JoinSet::new();
        for side in [Side::East, Side::West] {
            tasks.spawn(look_on(side, arena.access.clone(), Arc::clone(&facts), began));
        }
        Watch { began, facts, _tasks: tasks }
    }

    /// A server's process is about to be started.
    pub fn starts(&self, side: Side) {
        let now = since(self.began);
        lock(&self.facts).starts(side, now);
    }

    /// What was seen so far, as proofs.
    pub fn proofs(&self) -> Vec<Proof> {
        lock(&self.facts).proofs()
    }
}

fn lock(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn look_on(side: Side, access: Access, facts: Arc<Mutex<Facts>>, began: Instant) {
    let mut session = Session::with_limit(access, ANSWER);
    let only = Prefer::Only(side.name().to_owned());
    let mut pace = tokio::time::interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let asked = since(began);
        let answer = session.call(&Command::ServerStatus, &only).await;
        let answered = since(began);
        match answer {
            Ok(Reply::Status(status)) => lock(&facts).take(side, &Look::of(&status, asked, answered)),
            _ => lock(&facts).silent(side),
        }
    }
}
