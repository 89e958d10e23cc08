//! What becomes of the entries of a divergent tail: skipped, applied, discarded, or left to a person.
//!
//! Owns the rule of DESIGN §7 as a pure function, and what has to be remembered between one entry and the next
//! ([`Progress`]). Storing the tail is the group's and the store's; proposing what is applied is the node's.

use crate::journal::{KIND_LOCK, KIND_PROCEDURE};
use pairline_group::io::{Proposal, Write, WriteClass};
use pairline_group::tail::{self, Resolution};
use pairline_group::{Body, Class, Effect, Entry, Key, Kind, OpId, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Whether an operation was applied in the history that won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was not.
    No,
    /// There (also when it was skipped as a duplicate there).
    At(Position),
    /// Its session has gone on so far that nobody can tell.
    Unknown,
}

/// The present state of the group, asked by the rule. It may be behind the serving pool's: [`Progress`] bridges that.
pub trait Lookup {
    /// Whether and where this operation was applied.
    fn applied(&self, op: &OpId) -> Applied;
    /// The record's version, `None` if it is absent.
    fn version(&self, key: &Key) -> Option<Position>;
    /// Whether this copy has applied the entry at that position of the history that won.
    fn has(&self, at: Position) -> bool;
    /// Whether records of this kind are soft; needed for deletes, which do not say.
    fn is_soft(&self, kind: Kind) -> bool;
    /// Whether the group is the management store's.
    fn is_cms(&self) -> bool;
}

/// A record that has changed on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which.
    pub key: Key,
    /// The version that the tail's entry was based on.
    pub based_on: Option<Position>,
    /// The version now.
    pub now: Option<Position>,
}

/// What becomes of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Its operation was applied on the other side as well.
    Skip {
        /// Where.
        at: Position,
    },
    /// Every record still has the version that it was based on: propose this.
    Apply(Proposal),
    /// Some record has changed: a person decides.
    Conflict(Vec<Conflict>),
    /// Whether its operation was applied cannot be told any more: a person decides.
    Unknown,
    /// Nothing in it is to be applied.
    Nothing,
}

/// One entry with what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its position in the tail.
    pub position: Position,
    /// The operation that it answered.
    pub op: Option<OpId>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Soft records that it touched: discarded.
    pub soft: Vec<Key>,
    /// Records of what was under way when it was written (a procedure and its lock): discarded, for they would hold up
    /// what is under way now.
    pub past: Vec<Key>,
}

/// What becomes of a whole tail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// In the order of the tail.
    pub items: Vec<Item>,
}

impl Divergence {
    /// Numbers of entries: skipped, applied, left to a person, not to be applied.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let count = |wanted: fn(&Verdict) -> bool| self.items.iter().filter(|i| wanted(&i.verdict)).count();
        (
            count(|v| matches!(v, Verdict::Skip { .. })),
            count(|v| matches!(v, Verdict::Apply(_))),
            count(|v| matches!(v, Verdict::Conflict(_) | Verdict::Unknown)),
            count(|v| matches!(v, Verdict::Nothing)),
        )
    }
}

/// A record as an entry of the tail left it in the history that won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    /// Where; `None` if the entry is only taken as applied.
    at: Option<Position>,
    /// Its version from then on; `None` if it was deleted.
    version: Option<Position>,
}

/// Which of the tail's entries live on under another position, and what they made of their records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    moved: BTreeMap<Position, Position>,
    written: BTreeMap<Key, Written>,
    /// Sequence where the histories part.
    fork: u64,
    /// Sequences of entries that were no longer kept when the tail was stored.
    lost: Range<u64>,
}

/// The version that a record must have for an entry to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// This one.
    Exactly(Option<Position>),
    /// What it was based on is not known, so any from before the histories part, or this one of the tail itself.
    Shared(Option<Position>),
}

impl Progress {
    /// Nothing applied yet of this tail.
    pub fn of<'e>(fork: Position, tail: impl IntoIterator<Item = &'e Entry>) -> Progress {
        let (mut last, mut kept) = (None, None);
        for entry in tail {
            last = Some(entry.position.seq);
            if !tail::is_made(entry) {
                kept = Some(entry.position.seq);
                break;
            }
        }
        let end = kept.or(last.map(|last| last.saturating_add(1))).unwrap_or(fork.seq);
        Progress { fork: fork.seq, lost: fork.seq..end, ..Progress::default() }
    }

    /// This entry of the tail was committed at `now`, at whatever pool.
    pub fn committed(&mut self, entry: &Entry, now: Position) {
        self.moved.insert(entry.position, now);
        self.wrote(entry, Some(now), now);
    }

    /// This entry would be committed: later ones are decided on as if it had been.
    pub fn assume(&mut self, entry: &Entry) {
        self.wrote(entry, None, entry.position);
    }

    fn wrote(&mut self, entry: &Entry, at: Option<Position>, version: Position) {
        let Body::Effects(effects) = &entry.body else { return };
        for effect in effects {
            let version = matches!(effect, Effect::Put { .. }).then_some(version);
            self.written.insert(effect.key().clone(), Written { at, version });
        }
    }

    /// The record's version now: this copy's, or what the tail's entries made of it where the copy does not know it yet.
    fn version(&self, key: &Key, state: &impl Lookup) -> Option<Position> {
        match self.written.get(key) {
            Some(written) if written.at.is_none_or(|at| !state.has(at)) => written.version,
            _ => state.version(key),
        }
    }

    fn expected(&self, entry: &Entry, based_on: Option<Position>) -> Expected {
        let moved = based_on.map(|p| self.moved.get(&p).copied().unwrap_or(p));
        let unknown = match based_on {
            // Whether an absent record had been deleted by an entry that is gone is not known, either.
            None => !self.lost.is_empty(),
            Some(p) => self.lost.contains(&p.seq),
        };
        if tail::is_made(entry) || unknown { Expected::Shared(moved) } else { Expected::Exactly(moved) }
    }

    fn holds(&self, expected: Expected, now: Option<Position>) -> bool {
        match expected {
            Expected::Exactly(version) => now == version,
            Expected::Shared(version) => now == version || now.is_none_or(|now| now.seq < self.fork),
        }
    }
}

/// Decides on one entry of a tail, given what became of those before it.
pub fn decide(entry: &Entry, progress: &mut Progress, state: &impl Lookup) -> Item {
    let effects: &[Effect] = match &entry.body {
        Body::Effects(effects) => effects,
        _ => &[],
    };
    let mut item =
        Item { position: entry.position, op: entry.op, verdict: Verdict::Nothing, soft: Vec::new(), past: Vec::new() };
    let mut durable = Vec::new();
    for effect in effects {
        if soft_effect(effect, state) {
            item.soft.push(effect.key().clone());
        } else if state.is_cms() && past(effect.key().kind) {
            item.past.push(effect.key().clone());
        } else {
            durable.push(effect);
        }
    }
    if let Body::Expire(keys) = &entry.body {
        item.soft.extend(keys.iter().cloned());
    }
    item.verdict = verdict(entry, &durable, progress, state);
    if let Verdict::Skip { at } = &item.verdict {
        // Later entries of the tail that build on this one find its twin.
        progress.committed(entry, *at);
    }
    item
}

/// Decides on an entry of which something became before; `None` if that was final. What was left to a person stays with
/// them, unless its operation was applied meanwhile.
pub fn revisit(entry: &Entry, before: Resolution, progress: &mut Progress, state: &impl Lookup) -> Option<Item> {
    let operation = || state.applied(&tail::tail_operation(entry));
    match before {
        Resolution::Open => Some(decide(entry, progress, state)),
        Resolution::Applied(at) | Resolution::Skipped(at) => {
            let known = at.or_else(|| match operation() {
                Applied::At(at) => Some(at),
                Applied::No | Applied::Unknown => None,
            });
            if let Some(at) = known {
                progress.committed(entry, at);
            }
            None
        }
        Resolution::Conflict => {
            let mut item = decide(entry, progress, state);
            if matches!(item.verdict, Verdict::Apply(_)) {
                item.verdict = Verdict::Conflict(Vec::new());
            }
            Some(item)
        }
        Resolution::Discarded | Resolution::GivenUp => None,
    }
}

/// Decides on a whole tail without applying anything: entries that would be applied count as applied for later ones.
pub fn decide_all<'e, T>(fork: Position, tail: T, state: &impl Lookup) -> Divergence
where
    T: IntoIterator<Item = &'e Entry> + Copy,
{
    let mut progress = Progress::of(fork, tail);
    let mut items = Vec::new();
    for entry in tail {
        let item = decide(entry, &mut progress, state);
        if matches!(item.verdict, Verdict::Apply(_)) {
            progress.assume(entry);
        }
        items.push(item);
    }
    Divergence { items }
}

fn soft_effect(effect: &Effect, state: &impl Lookup) -> bool {
    match effect {
        Effect::Put { class, .. } => matches!(class, Class::Soft { .. }),
        Effect::Delete { key, .. } => state.is_soft(key.kind),
    }
}

/// Whether records of this kind in the management store say what was under way when they were written.
fn past(kind: Kind) -> bool {
    kind == KIND_PROCEDURE || kind == KIND_LOCK
}

fn based_on(effect: &Effect) -> Option<Position> {
    match effect {
        Effect::Put { based_on, .. } | Effect::Delete { based_on, .. } => *based_on,
    }
}

fn verdict(entry: &Entry, durable: &[&Effect], progress: &Progress, state: &impl Lookup) -> Verdict {
    if durable.is_empty() {
        return Verdict::Nothing;
    }
    let op = tail::tail_operation(entry);
    match state.applied(&op) {
        Applied::At(at) => return Verdict::Skip { at },
        Applied::Unknown => return Verdict::Unknown,
        Applied::No => {}
    }
    let mut conflicts = Vec::new();
    let mut reads = Vec::new();
    for effect in durable {
        let now = progress.version(effect.key(), state);
        if progress.holds(progress.expected(entry, based_on(effect)), now) {
            reads.push((effect.key().clone(), now));
        } else {
            conflicts.push(Conflict { key: effect.key().clone(), based_on: based_on(effect), now });
        }
    }
    if conflicts.is_empty() {
        let writes = durable.iter().map(|e| write_of(e)).collect();
        Verdict::Apply(Proposal { op: Some(op), step: None, epoch: None, reads, writes })
    } else {
        Verdict::Conflict(conflicts)
    }
}

fn write_of(effect: &Effect) -> Write {
    match effect {
        Effect::Put { key, value, .. } => {
            Write::Put { key: key.clone(), class: WriteClass::Durable, value: value.clone() }
        }
        Effect::Delete { key, .. } => Write::Delete { key: key.clone() },
    }
}
