//! The state of one copy of a group, and how an entry changes it.
//!
//! Owns records, digest, lineage, group time, de-duplication and applied steps. Everything here depends on entries only, so
//! that copies at one position are equal. Does not own who may append (`instance`).

use crate::codec::{Meta, SeedOffer, Stored};
use crate::dedup::{Bounds, Dedup};
use crate::digest::Digest;
use crate::entry::{Body, ChainHash, Effect, Entry, Promote, StepRef};
use crate::ids::{Epoch, Millis, PoolId, Position};
use crate::lineage::{self, LineageItem};
use crate::record::{Class, Key, Kind, Record};
use crate::views::Views;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Steps remembered per group; a procedure has a few per group.
const MAX_STEPS: usize = 256;

/// Why an entry does not fit the state: an invariant is broken, and the group stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not the next sequence.
    #[error("sequence {got} after {have}")]
    Sequence {
        /// What stands applied.
        have: u64,
        /// What came.
        got: u64,
    },
    /// Not the epoch that the lineage grants.
    #[error("epoch {got} where {have} is served")]
    Epoch {
        /// The lineage's.
        have: Epoch,
        /// The entry's.
        got: Epoch,
    },
    /// Not the chain hash that stands applied.
    #[error("chain hash differs at {0}")]
    Chain(Position),
    /// Group time went back.
    #[error("group time went back at {0}")]
    Time(Position),
    /// A record does not have the version that the entry was based on.
    #[error("version of a record differs at {at}: {key:?}")]
    Version {
        /// The entry.
        at: Position,
        /// The record.
        key: Key,
    },
    /// `Open` in a group that has entries.
    #[error("opened twice")]
    Opened,
    /// A handover's digest is not that of this copy.
    #[error("digest differs from the handover's at {0}")]
    Digest(Position),
}

/// Applied steps of procedures, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps(Vec<(StepRef, Position)>);

impl Steps {
    pub(crate) fn look(&self, step: &StepRef) -> Option<Position> {
        self.0.iter().rev().find(|(have, _)| have == step).map(|(_, at)| *at)
    }

    fn note(&mut self, step: StepRef, at: Position) {
        if self.0.len() >= MAX_STEPS {
            self.0.remove(0);
        }
        self.0.push((step, at));
    }
}

/// State of one copy.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) position: Position,
    pub(crate) chain: ChainHash,
    pub(crate) time: Millis,
    pub(crate) lineage: Vec<LineageItem>,
    records: BTreeMap<Key, Held>,
    pub(crate) digest: Digest,
    pub(crate) dedup: Dedup,
    pub(crate) steps: Steps,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    /// How many records there are of each kind; none of those of which there are none.
    pub(crate) kinds: BTreeMap<Kind, u64>,
    /// Each soft record once, under a time before which it does not expire. A refresh, which puts an expiry off, leaves it
    /// where it is: whoever looks for what has expired moves it on first.
    expiries: BTreeSet<(Millis, Key)>,
    /// States as they stood, for those that are read while this one goes on.
    views: Views,
}

/// A record in its place.
#[derive(Debug)]
struct Held {
    record: Record,
    /// Where it stands among the expiries, if it is soft.
    due: Millis,
}

impl State {
    /// The pool that serves and its epoch.
    pub(crate) fn serving(&self) -> Option<(PoolId, Epoch)> {
        self.lineage.last().map(|item| (item.pool, item.epoch))
    }

    pub(crate) fn epoch(&self) -> Epoch {
        lineage::head(&self.lineage)
    }

    /// The record, whatever its expiry.
    pub(crate) fn raw(&self, key: &Key) -> Option<&Record> {
        self.records.get(key).map(|held| &held.record)
    }

    /// All records, whatever their expiry, ordered by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.starting_at(Bound::Unbounded)
    }

    /// Records from a key on, whatever their expiry, ordered by key.
    pub(crate) fn starting_at(&self, first: Bound<Key>) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.range((first, Bound::Unbounded)).map(|(key, held)| (key, &held.record))
    }

    /// Begins a view of the state as it is now, under a number that no other has.
    pub(crate) fn open_view(&mut self, number: u64) {
        self.views.open(number);
    }

    /// Ends all views but those.
    pub(crate) fn keep_views(&mut self, wanted: impl Fn(u64) -> bool) {
        self.views.keep(wanted);
    }

    /// The next records of a view, about so many bytes of them, and whether there are more; `None` if this state has no such view.
    pub(crate) fn next_of_view(&mut self, number: u64, most: u64) -> Option<(Vec<(Key, Record)>, bool)> {
        let (records, mut bytes) = (&self.records, 0_u64);
        let present =
            |from| records.range((from, Bound::Unbounded)).map(|(key, held): (&Key, &Held)| (key, &held.record));
        self.views.next(number, present, |key, record| {
            bytes += size(key, record).saturating_add(48);
            bytes >= most
        })
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Puts a record in place, in step with digest, size and expiries.
    pub(crate) fn put(&mut self, key: &Key, record: Record) {
        self.digest.add(key, &record);
        self.bytes += size(key, &record);
        let expires = expiry(&record);
        let Some(held) = self.records.get_mut(key) else {
            let due = expires.unwrap_or_default();
            self.views.changed(key, None);
            self.records.insert(key.clone(), Held { record, due });
            *self.kinds.entry(key.kind).or_default() += 1;
            if expires.is_some() {
                self.expiries.insert((due, key.clone()));
            }
            return;
        };
        let old = std::mem::replace(&mut held.record, record);
        let due = expiry(&old).map(|_| held.due);
        // Put off, it stays where it is.
        let stays = matches!((due, expires), (None, None)) || due.zip(expires).is_some_and(|(due, at)| due <= at);
        if !stays {
            held.due = expires.unwrap_or_default();
            if let Some(due) = due {
                self.expiries.remove(&(due, key.clone()));
            }
            if let Some(at) = expires {
                self.expiries.insert((at, key.clone()));
            }
        }
        self.views.changed(key, Some(&old));
        self.forget(key, &old);
    }

    /// Removes a record, in step with digest, size and expiries.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let Some(Held { record, due }) = self.records.remove(key) else {
            return false;
        };
        self.views.changed(key, Some(&record));
        self.forget(key, &record);
        if expiry(&record).is_some() {
            self.expiries.remove(&(due, key.clone()));
        }
        if let Some(count) = self.kinds.get_mut(&key.kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&key.kind);
            }
        }
        true
    }

    fn forget(&mut self, key: &Key, old: &Record) {
        self.digest.take(key, old);
        self.bytes = self.bytes.saturating_sub(size(key, old));
    }

    /// Checks that this is the next entry of this copy's chain.
    pub(crate) fn check(&self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.position.seq != self.position.seq.saturating_add(1) {
            return Err(ApplyError::Sequence { have: self.position.seq, got: entry.position.seq });
        }
        if entry.prev != self.chain {
            return Err(ApplyError::Chain(entry.position));
        }
        if entry.time < self.time {
            return Err(ApplyError::Time(entry.position));
        }
        let expected = self.epoch();
        let fits = match &entry.body {
            Body::Open { .. } if !self.lineage.is_empty() => return Err(ApplyError::Opened),
            Body::Open { .. } => entry.position.epoch > expected,
            Body::Promote(promote) => entry.position.epoch == promote.epoch && promote.epoch > expected,
            Body::Handover(handover) => entry.position.epoch == expected && handover.epoch > expected,
            Body::Effects(_) | Body::Expire(_) => entry.position.epoch == expected,
        };
        if fits { Ok(()) } else { Err(ApplyError::Epoch { have: expected, got: entry.position.epoch }) }
    }

    /// Applies the next entry. On an error nothing has changed. Touched keys are handed to `touched`.
    pub(crate) fn apply(
        &mut self,
        stored: &Stored,
        rules: &Rules,
        touched: &mut impl FnMut(&Key),
    ) -> Result<(), ApplyError> {
        let entry = stored.entry.as_ref();
        match self.check(entry) {
            Err(ApplyError::Epoch { .. }) if rules.any_epoch => {}
            other => other?,
        }
        match &entry.body {
            Body::Effects(effects) => {
                self.check_versions(entry.position, effects)?;
                for effect in effects {
                    self.effect(entry.position, effect);
                    touched(effect.key());
                }
            }
            Body::Expire(keys) => {
                for key in keys {
                    if self.raw(key).is_some_and(|record| !record.class.present_at(entry.time)) {
                        self.remove(key);
                        touched(key);
                    }
                }
            }
            Body::Handover(handover) => {
                if rules.compare_digest && handover.digest != self.digest.total() {
                    return Err(ApplyError::Digest(entry.position));
                }
            }
            Body::Open { .. } => {}
            Body::Promote(promote) => self.extend_soft(promote, touched),
        }
        self.advance(stored, rules);
        Ok(())
    }

    /// Moves position, chain, time, lineage and tables past an entry.
    pub(crate) fn advance(&mut self, stored: &Stored, rules: &Rules) {
        let entry = stored.entry.as_ref();
        match &entry.body {
            Body::Open { pool } => {
                self.lineage.push(LineageItem { epoch: entry.position.epoch, first: entry.position.seq, pool: *pool });
            }
            Body::Handover(handover) => {
                let first = entry.position.seq.saturating_add(1);
                self.lineage.push(LineageItem { epoch: handover.epoch, first, pool: handover.to });
            }
            Body::Promote(promote) => {
                let (pool, seq) = (promote.epoch.granted_by, entry.position.seq);
                let before = self.lineage.last().filter(|item| item.pool == pool);
                // By the pool that served already: a copy went on alone. Behind its recovery point there may be another history in the epoch
                // before, and what it has itself of that counts as the new one's.
                let first = before
                    .map_or(seq, |item| promote.recovery_point.seq.saturating_add(1).clamp(item.first.min(seq), seq));
                self.lineage.push(LineageItem { epoch: promote.epoch, first, pool });
            }
            Body::Effects(_) | Body::Expire(_) => {}
        }
        if let Some(op) = entry.op {
            self.dedup.note(op, entry.position, entry.time, &rules.dedup);
        }
        if let (Some(step), Body::Handover(_) | Body::Promote(_)) = (entry.step, &entry.body) {
            self.steps.note(step, entry.position);
        }
        self.position = entry.position;
        self.chain = stored.chain;
        self.time = entry.time;
    }

    fn check_versions(&self, at: Position, effects: &[Effect]) -> Result<(), ApplyError> {
        for effect in effects {
            let (key, based_on) = match effect {
                Effect::Put { key, based_on, .. } | Effect::Delete { key, based_on } => (key, based_on),
            };
            if self.raw(key).map(|record| record.version) != *based_on {
                return Err(ApplyError::Version { at, key: key.clone() });
            }
        }
        Ok(())
    }

    fn effect(&mut self, at: Position, effect: &Effect) {
        match effect {
            Effect::Put { key, class, value, .. } => {
                self.put(key, Record { version: at, class: *class, value: value.clone() });
            }
            Effect::Delete { key, .. } => {
                self.remove(key);
            }
        }
    }

    /// Extends every soft record that was alive when the last entry before the promotion was written.
    fn extend_soft(&mut self, promote: &Promote, touched: &mut impl FnMut(&Key)) {
        if promote.soft_extension == 0 {
            return;
        }
        let lives = |key: &&Key| self.raw(key).and_then(expiry).is_some_and(|expires| expires > self.time);
        let alive: Vec<Key> = self.expiries.iter().map(|(_, key)| key).filter(lives).cloned().collect();
        for key in alive {
            let Some(mut record) = self.raw(&key).cloned() else {
                continue;
            };
            if let Class::Soft { expires } = record.class {
                record.class = Class::Soft { expires: expires.saturating_add(promote.soft_extension) };
                self.put(&key, record);
                touched(&key);
            }
        }
    }

    /// A time before which no soft record expires; `None` if there is none.
    pub(crate) fn expires_first(&self) -> Option<Millis> {
        self.expiries.first().map(|(due, _)| *due)
    }

    /// Keys of soft records that are absent at this group time, oldest first.
    pub(crate) fn expired(&mut self, time: Millis, most: usize) -> Vec<Key> {
        let put_off = |(due, key): &(Millis, Key)| {
            let expires = self.raw(key).and_then(expiry)?;
            (expires > *due).then(|| (*due, key.clone(), expires))
        };
        let due = self.expiries.iter().take_while(|(due, _)| *due <= time);
        let moves: Vec<(Millis, Key, Millis)> = due.filter_map(put_off).collect();
        for (due, key, expires) in moves {
            if let Some(held) = self.records.get_mut(&key) {
                held.due = expires;
            }
            self.expiries.remove(&(due, key.clone()));
            self.expiries.insert((expires, key));
        }
        let due = self.expiries.iter().take_while(|(due, _)| *due <= time);
        due.take(most).map(|(_, key)| key.clone()).collect()
    }

    /// What a seed begins with: the source's state without its records.
    pub(crate) fn offered(offer: &SeedOffer) -> State {
        State {
            position: offer.position,
            chain: offer.chain,
            time: offer.time,
            lineage: offer.lineage.clone(),
            dedup: offer.dedup.clone(),
            steps: offer.steps.clone(),
            ..State::default()
        }
    }

    /// Rebuilds a state from a checkpoint; `None` if the records are not those of the meta.
    pub(crate) fn restore(meta: &Meta, records: Vec<(Key, Record)>) -> Option<State> {
        let mut state = State::bare(meta);
        for (key, record) in records {
            state.put(&key, record);
        }
        state.is_of(meta).then_some(state)
    }

    /// The same without records, which are put in one after the other.
    pub(crate) fn bare(meta: &Meta) -> State {
        State {
            position: meta.position,
            chain: meta.chain,
            time: meta.time,
            lineage: meta.lineage.clone(),
            dedup: meta.dedup.clone(),
            steps: meta.steps.clone(),
            ..State::default()
        }
    }

    /// Whether the records are those that were promised.
    pub(crate) fn is_of(&self, meta: &Meta) -> bool {
        self.digest.total() == meta.digest
    }
}

/// Rules of applying that are the same on all copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) dedup: Bounds,
    /// Whether a handover's digest is compared (always, but for a planted fault).
    pub(crate) compare_digest: bool,
    /// Whether epochs are not looked at (never, but for a planted fault).
    pub(crate) any_epoch: bool,
}

/// When a soft record is absent.
fn expiry(record: &Record) -> Option<Millis> {
    match record.class {
        Class::Soft { expires } => Some(expires),
        Class::Durable => None,
    }
}

/// Bytes that a record counts for.
pub(crate) fn size(key: &Key, record: &Record) -> u64 {
    u64::try_from(key.owner.len() + key.item.len() + record.value.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Expiries of soft records that are put off, brought forward and removed.

    use super::*;

    fn put(state: &mut State, owner: &str, class: Class) {
        let record = Record { version: Position::default(), class, value: bytes::Bytes::new() };
        state.put(&Key::new(owner, Kind(1), b""), record);
    }

    fn soft(expires: Millis) -> Class {
        Class::Soft { expires }
    }

    fn expired(state: &mut State, time: Millis) -> Vec<String> {
        state.expired(time, 10).iter().map(|key| key.owner.to_string()).collect()
    }

    #[test]
    fn what_is_put_off_brought_forward_or_made_durable_expires_when_it_says() {
        let mut state = State::default();
        for owner in ["a", "b", "c", "d"] {
            put(&mut state, owner, soft(100));
        }
        put(&mut state, "a", soft(300));
        put(&mut state, "b", soft(50));
        put(&mut state, "c", Class::Durable);
        assert_eq!(state.expires_first(), Some(50));
        assert!(expired(&mut state, 49).is_empty());
        assert_eq!(expired(&mut state, 100), ["b", "d"], "oldest first");
        assert_eq!(state.expired(100, 1).len(), 1, "no more than asked for");
        state.remove(&Key::new("b", Kind(1), b""));
        state.remove(&Key::new("d", Kind(1), b""));
        assert!(expired(&mut state, 299).is_empty());
        assert_eq!(expired(&mut state, 300), ["a"]);
        put(&mut state, "a", soft(400));
        state.remove(&Key::new("a", Kind(1), b""));
        assert_eq!(state.expires_first(), None, "nothing is left of what was removed");
    }

    #[test]
    fn each_soft_record_stands_once_among_the_expiries() {
        let mut state = State::default();
        let mut seed = 7_u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let owner = ((seed >> 33) % 8).to_string();
            let time = (seed >> 40) % 100;
            match (seed >> 50) % 4 {
                0 => {
                    state.remove(&Key::new(&owner, Kind(1), b""));
                }
                1 => put(&mut state, &owner, Class::Durable),
                2 => put(&mut state, &owner, soft(time)),
                _ => {
                    let exact: BTreeSet<Key> = (state.iter())
                        .filter(|(_, record)| !record.class.present_at(time))
                        .map(|(key, _)| key.clone())
                        .collect();
                    assert_eq!(state.expired(time, 100).into_iter().collect::<BTreeSet<_>>(), exact);
                }
            }
            let soft = state.iter().filter(|(_, record)| expiry(record).is_some()).count();
            assert_eq!(state.expiries.len(), soft);
            for (due, key) in &state.expiries {
                assert!(state.raw(key).and_then(expiry).is_some_and(|expires| *due <= expires));
            }
        }
    }
}
