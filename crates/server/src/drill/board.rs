//! What the drill knows of its simulated users and their requests, by stage.
//!
//! Owns the counts. Written by the users' tasks, read by the stages.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Distinct reasons of failure that are kept a stage.
const REASONS: usize = 64;

/// How the reason begins for which an established call was not ended as it should.
const DROPPED: &str = "Call: BYE";

/// Which of the two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The pool that is killed.
    East,
    /// Its partner.
    West,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::East => Side::West,
            Side::West => Side::East,
        }
    }

    /// Its pool's name.
    pub fn name(self) -> &'static str {
        match self {
            Side::East => "east",
            Side::West => "west",
        }
    }
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A REGISTER.
    Register,
    /// A whole call.
    Call,
    /// A MESSAGE.
    Message,
    /// A contact change.
    Change,
}

/// A server, as a client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its pool.
    pub side: Side,
    /// Its number in the topology.
    pub server: u32,
}

/// Where a user is signed in, as its client knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Server and end of the binding, in milliseconds of the drill.
    pub signed_in: Option<(At, u64)>,
    /// Its server is gone, and its client does not know it yet.
    pub unaware: bool,
    /// Successes so far.
    pub count: u64,
    /// The first success after the last mark at the side that it named, in milliseconds of the drill.
    pub first_after_mark: Option<u64>,
    /// Longest expiry granted, in seconds.
    pub granted: u32,
}

/// A request that has begun: the stage that it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Number of the stage.
    pub stage: usize,
    at: u64,
    apart: bool,
}

/// Counts of one stage.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Successes by kind.
    pub good: BTreeMap<What, u64>,
    /// Failures by kind.
    pub bad: BTreeMap<What, u64>,
    /// Of those, the ones that began while a client at one end had not noticed that its server was gone.
    pub apart: BTreeMap<What, u64>,
    /// When the last of the others began, in milliseconds of the drill.
    pub last_bad: BTreeMap<What, u64>,
    /// Requests that have not ended, but for those whose clients had not noticed that a server was gone.
    pub open: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
}

impl Counts {
    /// Successes and failures of a kind.
    pub fn of(&self, what: What) -> (u64, u64) {
        let count = |counts: &BTreeMap<What, u64>| counts.get(&what).copied().unwrap_or(0);
        (count(&self.good), count(&self.bad))
    }

    /// Calls that were established and could not be ended as they should.
    pub fn dropped(&self) -> u64 {
        self.reasons.iter().filter(|(why, _)| why.starts_with(DROPPED)).map(|(_, count)| count).sum()
    }

    /// Adds those of another stage.
    pub fn add(&mut self, other: &Counts) {
        for (mine, theirs) in
            [(&mut self.good, &other.good), (&mut self.bad, &other.bad), (&mut self.apart, &other.apart)]
        {
            theirs.iter().for_each(|(what, count)| *mine.entry(*what).or_default() += count);
        }
        for (what, at) in &other.last_bad {
            let last = self.last_bad.entry(*what).or_default();
            *last = (*last).max(*at);
        }
        self.open += other.open;
        other.reasons.iter().for_each(|(why, count)| *self.reasons.entry(why.clone()).or_default() += count);
    }
}

struct Inner {
    marked: Option<Side>,
    statuses: Vec<Status>,
    stages: Vec<(String, Counts)>,
    in_flight: BTreeMap<What, u64>,
}

/// The board.
pub struct Board {
    start: Instant,
    inner: Mutex<Inner>,
}

impl Board {
    /// For that many users.
    pub fn new(users: usize) -> Board {
        let inner = Inner {
            marked: None,
            statuses: vec![Status::default(); users],
            stages: vec![("start".into(), Counts::default())],
            in_flight: BTreeMap::new(),
        };
        Board { start: Instant::now(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the drill's start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same as an instant of the runtime's clock.
    pub fn instant(&self, at: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + std::time::Duration::from_millis(at))
    }

    /// Begins a stage; requests count for the stage in which they began.
    pub fn stage(&self, name: &str) {
        self.lock().stages.push((name.to_owned(), Counts::default()));
    }

    /// Number of the present stage.
    pub fn present(&self) -> usize {
        self.lock().stages.len() - 1
    }

    /// A request begins that needs these users' clients.
    pub fn begin(&self, what: What, users: &[usize]) -> Ticket {
        let at = self.now();
        let mut inner = self.lock();
        *inner.in_flight.entry(what).or_default() += 1;
        let apart = users.iter().any(|user| inner.statuses.get(*user).is_some_and(|status| status.unaware));
        let stage = inner.stages.len() - 1;
        if let Some((_, counts)) = inner.stages.get_mut(stage).filter(|_| !apart) {
            counts.open += 1;
        }
        Ticket { stage, at, apart }
    }

    /// A request ended.
    pub fn end(&self, ticket: Ticket, what: What, result: Result<(), String>) {
        let mut inner = self.lock();
        if let Some(count) = inner.in_flight.get_mut(&what) {
            *count = count.saturating_sub(1);
        }
        let Some((_, counts)) = inner.stages.get_mut(ticket.stage) else { return };
        counts.open = counts.open.saturating_sub(u64::from(!ticket.apart));
        match result {
            Ok(()) => *counts.good.entry(what).or_default() += 1,
            Err(why) => {
                *counts.bad.entry(what).or_default() += 1;
                if ticket.apart {
                    *counts.apart.entry(what).or_default() += 1;
                } else {
                    let last = counts.last_bad.entry(what).or_default();
                    *last = (*last).max(ticket.at);
                }
                let why = format!("{what:?}: {why}");
                if counts.reasons.len() < REASONS || counts.reasons.contains_key(&why) {
                    *counts.reasons.entry(why).or_default() += 1;
                }
            }
        }
    }

    /// Requests of a kind that have not ended.
    pub fn in_flight(&self, what: What) -> u64 {
        self.lock().in_flight.get(&what).copied().unwrap_or(0)
    }

    /// Counts of a stage by its number.
    pub fn counts(&self, stage: usize) -> Counts {
        self.lock().stages.get(stage).map(|(_, counts)| counts.clone()).unwrap_or_default()
    }

    /// All stages with their counts.
    pub fn stages(&self) -> Vec<(String, Counts)> {
        self.lock().stages.clone()
    }

    /// A user is signed in.
    pub fn signed_in(&self, user: usize, at: At, granted: u32) {
        let now = self.now();
        let mut inner = self.lock();
        let counts = inner.marked.is_none_or(|marked| marked == at.side);
        if let Some(status) = inner.statuses.get_mut(user) {
            status.signed_in = Some((at, now + u64::from(granted) * 1_000));
            status.unaware = false;
            status.count += 1;
            status.granted = status.granted.max(granted);
            if counts {
                status.first_after_mark.get_or_insert(now);
            }
        }
    }

    /// A user's client knows that its binding is of no use.
    pub fn lost(&self, user: usize) {
        if let Some(status) = self.lock().statuses.get_mut(user) {
            status.signed_in = None;
        }
    }

    /// A server is gone, and the clients of these users do not know it yet.
    pub fn unaware(&self, users: &[usize]) {
        let mut inner = self.lock();
        for user in users {
            if let Some(status) = inner.statuses.get_mut(*user) {
                status.unaware = true;
            }
        }
    }

    /// From now on `first_after_mark` is the next success at this side. An answer of the other side that is still on its way
    /// counts for nothing.
    pub fn mark(&self, side: Side) {
        let mut inner = self.lock();
        inner.marked = Some(side);
        inner.statuses.iter_mut().for_each(|status| status.first_after_mark = None);
    }

    /// Status of every user.
    pub fn statuses(&self) -> Vec<Status> {
        self.lock().statuses.clone()
    }

    /// Where a user is signed in now, if its binding has not expired.
    pub fn side_of(&self, user: usize) -> Option<Side> {
        self.at(user).map(|at| at.side)
    }

    /// The same with its server.
    pub fn at(&self, user: usize) -> Option<At> {
        let now = self.now();
        let status = self.lock().statuses.get(user).copied()?;
        status.signed_in.filter(|(_, until)| *until > now).map(|(at, _)| at)
    }
}
