//! What becomes of the entries of a divergent tail: skipped, applied, or listed for a person.
//!
//! Owns the rule of DESIGN §7 as a pure function. Storing the tail is the group's; proposing what is applied is the
//! shell's, one entry at a time, telling [`Progress`] each new position so that later entries of the tail may build on it.

use pairline_group::io::{Proposal, Write, WriteClass};
use pairline_group::{Body, Class, Effect, Entry, Key, Kind, OpId, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The present state of the group, asked by the rule.
pub trait Lookup {
    /// Where this operation was applied, if it was (also when it was skipped as a duplicate there).
    fn applied(&self, op: &OpId) -> Option<Position>;
    /// The record's version, `None` if it is absent.
    fn version(&self, key: &Key) -> Option<Position>;
    /// Whether records of this kind are soft; needed for deletes, which do not say.
    fn is_soft(&self, kind: Kind) -> bool;
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
    /// It has no durable effect.
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
}

/// What becomes of a whole tail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// In the order of the tail.
    pub items: Vec<Item>,
}

impl Divergence {
    /// Numbers of entries: skipped, applied, in conflict, without durable effect.
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let count = |wanted: fn(&Verdict) -> bool| self.items.iter().filter(|i| wanted(&i.verdict)).count();
        (
            count(|v| matches!(v, Verdict::Skip { .. })),
            count(|v| matches!(v, Verdict::Apply(_))),
            count(|v| matches!(v, Verdict::Conflict(_))),
            count(|v| matches!(v, Verdict::Nothing)),
        )
    }
}

/// Which of the tail's positions live on under another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    moved: BTreeMap<Position, Position>,
}

impl Progress {
    /// Nothing applied yet.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// The tail's entry at `tail` was committed at `now`.
    pub fn committed(&mut self, tail: Position, now: Position) {
        self.moved.insert(tail, now);
    }

    fn today(&self, based_on: Option<Position>) -> Option<Position> {
        based_on.map(|p| self.moved.get(&p).copied().unwrap_or(p))
    }
}

/// Decides on one entry of a tail, given what became of those before it.
pub fn decide(entry: &Entry, progress: &mut Progress, state: &impl Lookup) -> Item {
    let effects: &[Effect] = match &entry.body {
        Body::Effects(effects) => effects,
        _ => &[],
    };
    let (soft, durable): (Vec<&Effect>, Vec<&Effect>) = effects.iter().partition(|e| soft_effect(e, state));
    let mut discarded: Vec<Key> = soft.into_iter().map(|e| e.key().clone()).collect();
    if let Body::Expire(keys) = &entry.body {
        discarded.extend(keys.iter().cloned());
    }
    let verdict = verdict(entry, &durable, progress, state);
    if let Verdict::Skip { at } = &verdict {
        // Later entries of the tail that build on this one find its twin.
        progress.committed(entry.position, *at);
    }
    Item { position: entry.position, op: entry.op, verdict, soft: discarded }
}

/// Decides on a whole tail without applying anything: entries that would be applied count as applied for later ones.
pub fn decide_all<'e>(tail: impl IntoIterator<Item = &'e Entry>, state: &impl Lookup) -> Divergence {
    let mut progress = Progress::new();
    let mut overlay = Overlay { below: state, versions: BTreeMap::new() };
    let mut items = Vec::new();
    for entry in tail {
        let item = decide(entry, &mut progress, &overlay);
        if let (Verdict::Apply(_), Body::Effects(effects)) = (&item.verdict, &entry.body) {
            for effect in effects.iter().filter(|e| !soft_effect(e, state)) {
                let version = matches!(effect, Effect::Put { .. }).then_some(entry.position);
                overlay.versions.insert(effect.key().clone(), version);
            }
        }
        items.push(item);
    }
    Divergence { items }
}

/// The state as it would be after the entries that would be applied.
struct Overlay<'s, L: Lookup> {
    below: &'s L,
    versions: BTreeMap<Key, Option<Position>>,
}

impl<L: Lookup> Lookup for Overlay<'_, L> {
    fn applied(&self, op: &OpId) -> Option<Position> {
        self.below.applied(op)
    }

    fn version(&self, key: &Key) -> Option<Position> {
        self.versions.get(key).copied().unwrap_or_else(|| self.below.version(key))
    }

    fn is_soft(&self, kind: Kind) -> bool {
        self.below.is_soft(kind)
    }
}

fn soft_effect(effect: &Effect, state: &impl Lookup) -> bool {
    match effect {
        Effect::Put { class, .. } => matches!(class, Class::Soft { .. }),
        Effect::Delete { key, .. } => state.is_soft(key.kind),
    }
}

fn based_on(effect: &Effect) -> Option<Position> {
    match effect {
        Effect::Put { based_on, .. } | Effect::Delete { based_on, .. } => *based_on,
    }
}

fn verdict(entry: &Entry, durable: &[&Effect], progress: &Progress, state: &impl Lookup) -> Verdict {
    if let Some(at) = entry.op.and_then(|op| state.applied(&op)) {
        return Verdict::Skip { at };
    }
    if durable.is_empty() {
        return Verdict::Nothing;
    }
    let mut conflicts = Vec::new();
    let mut reads = Vec::new();
    for effect in durable {
        let expected = progress.today(based_on(effect));
        let now = state.version(effect.key());
        if now == expected {
            reads.push((effect.key().clone(), expected));
        } else {
            conflicts.push(Conflict { key: effect.key().clone(), based_on: based_on(effect), now });
        }
    }
    if conflicts.is_empty() {
        let writes = durable.iter().map(|e| write_of(e)).collect();
        Verdict::Apply(Proposal { op: entry.op, step: None, epoch: None, reads, writes })
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
