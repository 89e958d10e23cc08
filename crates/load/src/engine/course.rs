//! Offered load that changes by steps, and what became of it; and clients that come back after all were dropped at once.
//!
//! Owns the course of a run, its figures by step and by slice of time, and when a refused client comes again. Sends nothing.

use super::slot::Kind;
use crate::hist::Histogram;
use crate::pace::Pacer;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Length of a slice, in nanoseconds.
pub const SLICE: u64 = 100_000_000;
/// Slices that are kept; later ones count in the last.
const MAX_SLICES: usize = 36_000;
/// Base and longest of the back-off of a client that got no answer (RFC 5626 §4.5, all flows failed), in nanoseconds.
const BACK_OFF: (u64, u64) = (30_000_000_000, 1_800_000_000_000);

/// What is offered, step by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Operations a second and for how many seconds.
    pub rates: Vec<(f64, f64)>,
    /// Parts of each kind; they need not add up to one.
    pub shares: Vec<(Kind, f64)>,
}

impl Steps {
    /// All seconds.
    pub fn seconds(&self) -> f64 {
        self.rates.iter().map(|(_, seconds)| seconds).sum()
    }

    /// The part of one of so many threads.
    pub fn of_thread(&self, threads: f64) -> Steps {
        Steps { rates: self.rates.iter().map(|(rate, s)| (rate / threads, *s)).collect(), shares: self.shares.clone() }
    }

    fn pacers(&self, step: usize, now: u64) -> Vec<(Kind, Pacer)> {
        let Some((rate, _)) = self.rates.get(step) else { return Vec::new() };
        let all: f64 = self.shares.iter().map(|(_, share)| share).sum();
        self.shares.iter().map(|(kind, share)| (*kind, Pacer::new(rate * share / all.max(1e-9), now))).collect()
    }
}

/// How an operation ended, for the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Succeeded,
    /// By a 500 or 503.
    Refused,
    /// In any other way.
    Failed,
}

/// Figures of one step; an operation belongs to the step in which it was due.
#[derive(Clone, Debug, Default)]
pub struct StepCounts {
    /// Operations that were due.
    pub offered: u64,
    /// Of these, those that succeeded, by kind.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// Of these, those refused with 500 or 503.
    pub refused: u64,
    /// The rest.
    pub failed: u64,
    /// From the time at which an INVITE was due to its 200, in nanoseconds.
    pub invites: Histogram,
    /// From the time at which it was sent first to its 200: without what the generator itself was late.
    pub answered: Histogram,
    /// From one look at the sockets to the next: so long the generator leaves a message lying at most.
    pub rounds: Histogram,
}

/// One slice of the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Requests sent, repetitions among them.
    pub sent: u64,
    /// Operations that were due.
    pub offered: u64,
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Operations that failed otherwise.
    pub failed: u64,
}

/// Figures by step and slice.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// By step.
    pub steps: Vec<StepCounts>,
    /// By slice since the start of the measurement.
    pub slices: Vec<Slice>,
    /// When each client was back, in nanoseconds since all were dropped.
    pub back: Histogram,
    /// Tries that clients needed.
    pub tries: u64,
}

impl Curve {
    fn slice(&mut self, since: u64) -> &mut Slice {
        // A day of slices fits any usize.
        let index = ((since / SLICE) as usize).min(MAX_SLICES - 1);
        if self.slices.len() <= index {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.steps.resize(self.steps.len().max(other.steps.len()), StepCounts::default());
        for (step, other) in self.steps.iter_mut().zip(&other.steps) {
            step.offered += other.offered;
            step.refused += other.refused;
            step.failed += other.failed;
            step.invites.merge(&other.invites);
            step.answered.merge(&other.answered);
            step.rounds.merge(&other.rounds);
            for (kind, count) in &other.succeeded {
                *step.succeeded.entry(kind).or_default() += count;
            }
        }
        self.slices.resize(self.slices.len().max(other.slices.len()), Slice::default());
        for (slice, other) in self.slices.iter_mut().zip(&other.slices) {
            slice.sent += other.sent;
            slice.offered += other.offered;
            slice.succeeded += other.succeeded;
            slice.refused += other.refused;
            slice.failed += other.failed;
        }
        self.back.merge(&other.back);
        self.tries += other.tries;
    }
}

/// The course of one thread's measurement.
#[derive(Debug, Default)]
pub struct Course {
    steps: Steps,
    /// When the measurement began, and when the present step ends.
    start: Option<u64>,
    ends: u64,
    step: usize,
    /// Clients that are to come back, by time; with the tries that they have made.
    returning: BinaryHeap<Reverse<(u64, u32, u32)>>,
    tries: Vec<u32>,
    left: usize,
    random: u64,
    /// The figures.
    pub curve: Curve,
}

impl Course {
    /// Of a plan; without steps nothing is kept.
    pub fn new(steps: Steps, seed: u64) -> Course {
        let curve = Curve { steps: vec![StepCounts::default(); steps.rates.len()], ..Curve::default() };
        Course { steps, curve, random: seed | 1, ..Course::default() }
    }

    /// The measurement begins; with these clients dropped, if any.
    pub fn begin(&mut self, now: u64, dropped: u32) -> Vec<(Kind, Pacer)> {
        self.start = Some(now);
        self.returning = (0..dropped).map(|user| Reverse((now, user, 0))).collect();
        self.tries = vec![0; dropped as usize];
        self.left = dropped as usize;
        self.ends = now + self.length(0);
        self.steps.pacers(0, now)
    }

    fn length(&self, step: usize) -> u64 {
        self.steps.rates.get(step).map_or(0, |(_, seconds)| (seconds * 1e9) as u64)
    }

    /// The schedule of the next step, once the present one is over.
    pub fn advance(&mut self, now: u64) -> Option<Vec<(Kind, Pacer)>> {
        if self.start.is_none() || self.step >= self.steps.rates.len() || now < self.ends {
            return None;
        }
        self.step += 1;
        let from = self.ends;
        self.ends += self.length(self.step);
        Some(self.steps.pacers(self.step, from))
    }

    /// The next client that comes back now.
    pub fn returns(&mut self, now: u64) -> Option<u32> {
        let Reverse((at, user, tries)) = self.returning.peek().copied()?;
        if at > now {
            return None;
        }
        self.returning.pop();
        self.tries[user as usize] = tries + 1;
        self.curve.tries += 1;
        Some(user)
    }

    /// When the next client comes back.
    pub fn due(&self) -> Option<u64> {
        self.returning.peek().map(|Reverse((at, ..))| *at)
    }

    /// Whether every dropped client is back.
    pub fn all_back(&self) -> bool {
        self.start.is_some() && self.left == 0
    }

    /// A dropped client is back, or has been refused and told to wait for so many seconds, or got no answer.
    pub fn tried(&mut self, now: u64, user: u32, back: bool, retry_after: Option<u64>) {
        let (Some(start), Some(tries)) = (self.start, self.tries.get(user as usize).copied()) else { return };
        if back {
            self.left = self.left.saturating_sub(1);
            self.curve.back.record(now - start);
            return;
        }
        let wait = match retry_after {
            Some(seconds) => seconds * 1_000_000_000,
            None => {
                let longest = (BACK_OFF.0 << tries.min(6)).min(BACK_OFF.1);
                // RFC 5626 §4.5: between half of it and all of it.
                longest / 2 + self.draw() % (longest / 2)
            }
        };
        self.returning.push(Reverse((now + wait, user, tries)));
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// A request is sent.
    pub fn sent(&mut self, now: u64) {
        if let Some(start) = self.start {
            self.curve.slice(now.saturating_sub(start)).sent += 1;
        }
    }

    /// An operation was due.
    pub fn offered(&mut self, due: u64) {
        if let Some(since) = self.since(due) {
            self.curve.slice(since).offered += 1;
            if let Some(step) = self.step_at(since) {
                step.offered += 1;
            }
        }
    }

    /// The sockets have been looked at, for the first time since then.
    pub fn looked(&mut self, before: u64, now: u64) {
        if let Some(since) = self.since(now)
            && let Some(step) = self.step_at(since)
        {
            step.rounds.record(now.saturating_sub(before));
        }
    }

    /// An INVITE that was due and sent then has been accepted.
    pub fn accepted(&mut self, due: u64, sent: u64, now: u64) {
        if let Some(since) = self.since(due)
            && let Some(step) = self.step_at(since)
        {
            step.invites.record(now.saturating_sub(due));
            step.answered.record(now.saturating_sub(sent));
        }
    }

    /// An operation that was due then has ended.
    pub fn ended(&mut self, due: u64, kind: Kind, outcome: Outcome) {
        let Some(since) = self.since(due) else { return };
        let slice = self.curve.slice(since);
        match outcome {
            Outcome::Succeeded => slice.succeeded += 1,
            Outcome::Refused => slice.refused += 1,
            Outcome::Failed => slice.failed += 1,
        }
        if let Some(step) = self.step_at(since) {
            match outcome {
                Outcome::Succeeded => *step.succeeded.entry(kind.name()).or_default() += 1,
                Outcome::Refused => step.refused += 1,
                Outcome::Failed => step.failed += 1,
            }
        }
    }

    fn since(&self, due: u64) -> Option<u64> {
        due.checked_sub(self.start?)
    }

    fn step_at(&mut self, since: u64) -> Option<&mut StepCounts> {
        let mut ends = 0;
        let index = (0..self.steps.rates.len()).find(|step| {
            ends += self.length(*step);
            since < ends
        })?;
        self.curve.steps.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    //! Steps follow each other, operations count where they were due, clients come back when they were told.

    use super::*;

    #[test]
    fn an_operation_counts_in_the_step_in_which_it_was_due() {
        let steps =
            Steps { rates: vec![(10.0, 1.0), (1000.0, 2.0)], shares: vec![(Kind::Call, 1.0), (Kind::Message, 3.0)] };
        let mut course = Course::new(steps, 1);
        let second = 1_000_000_000;
        assert!(course.advance(7 * second).is_none(), "not begun");
        let pacers = course.begin(5 * second, 0);
        assert_eq!(pacers.len(), 2);
        course.offered(5 * second);
        course.ended(5 * second, Kind::Call, Outcome::Succeeded);
        assert!(course.advance(6 * second - 1).is_none());
        assert_eq!(course.advance(6 * second).map(|pacers| pacers.len()), Some(2));
        course.offered(6 * second);
        course.accepted(6 * second, 6 * second + 1_000_000, 6 * second + 4_000_000);
        course.looked(6 * second, 6 * second + 7_000_000);
        course.ended(6 * second, Kind::Message, Outcome::Refused);
        assert_eq!(course.advance(8 * second).map(|pacers| pacers.len()), Some(0), "over");
        assert!(course.advance(9 * second).is_none());
        let steps = &course.curve.steps;
        assert_eq!((steps[0].offered, steps[0].succeeded["call"], steps[0].refused), (1, 1, 0));
        assert_eq!((steps[1].offered, steps[1].refused), (1, 1));
        assert!((4_000_000..4_200_000).contains(&steps[1].invites.max()));
        assert!((3_000_000..3_200_000).contains(&steps[1].answered.max()));
        assert!((7_000_000..7_300_000).contains(&steps[1].rounds.max()));
        assert_eq!((course.curve.slices[0].succeeded, course.curve.slices[10].refused), (1, 1));
    }

    #[test]
    fn clients_come_back_when_told_or_by_the_back_off() {
        let mut course = Course::new(Steps::default(), 7);
        let second = 1_000_000_000;
        course.begin(second, 2);
        let mut first = [course.returns(second), course.returns(second)].map(Option::unwrap);
        first.sort_unstable();
        assert_eq!((first, course.returns(second)), ([0, 1], None));
        course.tried(second, 0, false, Some(3));
        course.tried(second, 1, false, None);
        assert_eq!(course.due(), Some(4 * second));
        assert_eq!((course.returns(4 * second - 1), course.returns(4 * second)), (None, Some(0)));
        let due = course.due().unwrap();
        assert!((second + 30 * second..second + 60 * second).contains(&due), "one try: 60 s, at least half: {due}");
        course.tried(5 * second, 0, true, None);
        assert!(!course.all_back());
        assert_eq!(course.returns(due), Some(1));
        course.tried(due, 1, true, None);
        assert!(course.all_back());
        assert_eq!(course.curve.tries, 4);
    }
}
