//! Proposals: the checks against speculative state, and the entry of effects that follows.
//!
//! Owns refusals of proposals and the `Expire` batches. Does not own what happens once an entry is committed (`commit`).

use super::gathered::Gathered;
use super::{Cx, Head, Instance, Spec, Wait};
use crate::config::planted;
use crate::dedup::Seen;
use crate::entry::{Body, Effect, Entry};
use crate::ids::{Millis, Position, Ticket};
use crate::io::{Done, Proposal, Refusal, Role, Write, WriteClass, class_at};
use crate::record::Key;
use std::collections::BTreeSet;

impl Instance {
    /// Takes a proposal; the answer comes by its ticket.
    pub(crate) fn propose(&mut self, cx: &mut Cx<'_>, ticket: Ticket, proposal: Proposal) {
        if let Err(done) = self.try_propose(cx, ticket, proposal) {
            cx.done(ticket, self.group, done);
        }
    }

    fn try_propose(&mut self, cx: &mut Cx<'_>, ticket: Ticket, proposal: Proposal) -> Result<(), Done> {
        self.admit(cx, &proposal).map_err(Done::Refused)?;
        if gathers(&proposal) {
            return self.gather(cx, ticket, &proposal);
        }
        self.close_gathered(cx);
        if let Some(op) = proposal.op {
            if let Some(seq) = self.overlay.ops.get(&op).copied() {
                return self.wait_for(seq, ticket, Wait::Duplicate);
            }
            match self.state.dedup.look(op) {
                Seen::At(at) => return Err(Done::Duplicate(at)),
                Seen::TooOld => return Err(Done::Refused(Refusal::OutcomeUnknown)),
                Seen::New => {}
            }
        }
        let time = self.head.time.max(cx.now.wall);
        for (key, expected) in &proposal.reads {
            if self.version_at(key, time) != *expected {
                return Err(Done::Refused(Refusal::Conflict(key.clone())));
            }
        }
        let effects = self.effects(&proposal, time);
        if effects.is_empty() {
            let last = self.head.position.seq;
            return self.wait_for(last, ticket, Wait::NoChange);
        }
        let entry = self.next_entry(time, &proposal, effects);
        let (op, position) = (entry.op, entry.position);
        let touched: Vec<(Key, Spec)> = specs(&entry);
        if planted!(cx.cfg, AckBeforeSync) {
            cx.done(ticket, self.group, Done::Committed(position));
            self.write(entry, Vec::new()).ok();
        } else if self.write(entry, vec![(ticket, Wait::Committed)]).is_err() {
            return Err(Done::Refused(Refusal::Busy));
        }
        self.overlay.keys.extend(touched);
        if let Some(op) = op {
            self.overlay.ops.insert(op, position.seq);
        }
        Ok(())
    }

    fn next_entry(&self, time: Millis, proposal: &Proposal, effects: Vec<Effect>) -> Entry {
        Entry {
            position: self.next_position(),
            prev: self.head.chain,
            time,
            op: proposal.op,
            step: proposal.step,
            body: Body::Effects(effects),
        }
    }

    /// Attaches a ticket to the entry in flight with this sequence, or answers at once if it is applied.
    fn wait_for(&mut self, seq: u64, ticket: Ticket, wait: Wait) -> Result<(), Done> {
        let flight = self.flight.iter_mut().rev().find(|flight| match &flight.item {
            crate::codec::Item::Entry(stored) => stored.seq() == seq,
            _ => false,
        });
        match flight {
            Some(flight) => {
                flight.waiters.push((ticket, wait));
                Ok(())
            }
            None => Err(Done::NoChange(self.state.position)),
        }
    }

    fn admit(&self, cx: &Cx<'_>, proposal: &Proposal) -> Result<(), Refusal> {
        if let Some(reason) = &self.stopped {
            return Err(Refusal::Stopped(reason.clone()));
        }
        if self.follows() || !self.leads_now(cx.now) {
            return Err(Refusal::NotLeader(self.leader(cx.now)));
        }
        if self.unopened {
            return Err(Refusal::Unconfirmed);
        }
        let (pool, epoch) = self.serving().unwrap_or_default();
        if self.role() != Role::Active {
            return Err(Refusal::NotActive(epoch, pool));
        }
        if !self.confirmed && !planted!(cx.cfg, UnconfirmedServes) {
            return Err(Refusal::Unconfirmed);
        }
        if proposal.epoch.is_some_and(|guard| guard != epoch) && !planted!(cx.cfg, NoEpochCheck) {
            return Err(Refusal::Moved(epoch, pool));
        }
        if let Some(procedure) = &self.procedure {
            return Err(procedure.refusal());
        }
        if self.passing.is_some() {
            // Whoever leads next takes it, in a moment.
            return Err(Refusal::NotLeader(None));
        }
        let limits = &cx.cfg.limits;
        if !self.consensus.leads()
            || self.flight.len() >= limits.inflight_entries
            || self.flight_bytes >= limits.inflight_bytes
        {
            return Err(Refusal::Busy);
        }
        check_size(proposal, limits.writes, limits.proposal_bytes)
    }

    /// The version that a reader at this group time sees, in speculative state.
    fn version_at(&self, key: &Key, time: Millis) -> Option<Position> {
        let now = match self.overlay.keys.get(key) {
            Some(spec) => spec.now,
            None => self.state.raw(key).map(|record| (record.version, record.class)),
        };
        now.filter(|(_, class)| class.present_at(time)).map(|(version, _)| version)
    }

    /// The version that is stored, expired or not, in speculative state.
    fn stored_version(&self, key: &Key) -> Option<Position> {
        match self.overlay.keys.get(key) {
            Some(spec) => spec.now.map(|(version, _)| version),
            None => self.state.raw(key).map(|record| record.version),
        }
    }

    fn effects(&self, proposal: &Proposal, time: Millis) -> Vec<Effect> {
        let writes = &proposal.writes;
        let mut effects = Vec::with_capacity(writes.len());
        for write in writes {
            match write {
                Write::Put { key, class, value } => effects.push(Effect::Put {
                    key: key.clone(),
                    based_on: read_version(proposal, key).or_else(|| self.stored_version(key)),
                    class: class_at(*class, time),
                    value: value.clone(),
                }),
                Write::Delete { key } => {
                    if self.version_at(key, time).is_some() {
                        effects.push(Effect::Delete { key: key.clone(), based_on: self.stored_version(key) });
                    }
                }
            }
        }
        effects
    }

    /// Writes an `Expire` entry if soft records have expired and nothing else is under way with them.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_>) {
        if planted!(cx.cfg, ExpireByLocalClock) {
            for key in self.state.expired(cx.now.wall, cx.cfg.limits.expire_batch) {
                self.state.remove(&key);
            }
            return;
        }
        if !self.can_commit(cx.now) || self.state.expires_first().is_none_or(|due| due > cx.now.wall) {
            return;
        }
        let time = self.head.time.max(cx.now.wall);
        let mut keys = self.state.expired(time, cx.cfg.limits.expire_batch);
        keys.retain(|key| !self.overlay.keys.contains_key(key));
        if keys.is_empty() {
            return;
        }
        let position = self.next_position();
        let touched: Vec<(Key, Spec)> =
            keys.iter().map(|key| (key.clone(), Spec { seq: position.seq, now: None })).collect();
        let entry = Entry { position, prev: self.head.chain, time, op: None, step: None, body: Body::Expire(keys) };
        if self.write(entry, Vec::new()).is_ok() {
            self.overlay.keys.extend(touched);
        }
    }

    /// Drops what the overlay holds because of an entry that is now applied.
    pub(crate) fn release(&mut self, entry: &Entry) {
        if self.overlay.keys.is_empty() && self.overlay.ops.is_empty() {
            return;
        }
        let seq = entry.position.seq;
        let mut release = |key: &Key| {
            if self.overlay.keys.get(key).is_some_and(|spec| spec.seq <= seq) {
                self.overlay.keys.remove(key);
            }
        };
        match &entry.body {
            Body::Effects(effects) => effects.iter().for_each(|effect| release(effect.key())),
            Body::Expire(keys) => keys.iter().for_each(release),
            Body::Open { .. } | Body::Handover(_) | Body::Promote(_) => {}
        }
        if let Some(op) = entry.op {
            self.overlay.ops.remove(&op);
        }
    }

    /// Adds a change to the entry that is being gathered, or begins one.
    fn gather(&mut self, cx: &mut Cx<'_>, ticket: Ticket, proposal: &Proposal) -> Result<(), Done> {
        let meets = self.gathered.is_some() && self.is_in_next(proposal);
        let unseen = meets && planted!(cx.cfg, SharedPosition);
        if meets && !unseen {
            // Two versions of one record cannot have one position.
            self.close_gathered(cx);
        }
        let time = self.gathered.as_ref().map_or_else(|| self.head.time.max(cx.now.wall), |gathered| gathered.time);
        for (key, expected) in &proposal.reads {
            if !unseen && self.version_at(key, time) != *expected {
                return Err(Done::Refused(Refusal::Conflict(key.clone())));
            }
        }
        let effects = self.effects(proposal, time);
        if effects.is_empty() {
            self.close_gathered(cx);
            let last = self.head.position.seq;
            return self.wait_for(last, ticket, Wait::NoChange);
        }
        let position = self.next_position();
        let gathered = self.gathered.get_or_insert_with(|| Gathered::at(time));
        for effect in effects {
            let (key, spec) = spec(&effect, position);
            let before = self.overlay.keys.insert(key.clone(), spec);
            gathered.add(key, before, effect);
        }
        gathered.waiters.push((ticket, Wait::Committed));
        if gathered.is_full() {
            self.close_gathered(cx);
        }
        Ok(())
    }

    /// Whether a change reads or writes a record that is written by the next entry.
    fn is_in_next(&self, proposal: &Proposal) -> bool {
        let next = self.next_position().seq;
        let reads = proposal.reads.iter().map(|(key, _)| key);
        let writes = proposal.writes.iter().map(|write| match write {
            Write::Put { key, .. } | Write::Delete { key } => key,
        });
        reads.chain(writes).any(|key| self.overlay.keys.get(key).is_some_and(|spec| spec.seq == next))
    }

    /// Writes the entry that is being gathered, if there is one. Until then the head does not count it.
    pub(crate) fn close_gathered(&mut self, cx: &mut Cx<'_>) {
        let Some(mut gathered) = self.gathered.take() else {
            return;
        };
        let entry = Entry {
            position: self.next_position(),
            prev: self.head.chain,
            time: gathered.time,
            op: None,
            step: None,
            body: Body::Effects(std::mem::take(&mut gathered.effects)),
        };
        let position = entry.position;
        let mut waiters = std::mem::take(&mut gathered.waiters);
        if planted!(cx.cfg, AckBeforeSync) {
            for (ticket, _) in waiters.drain(..) {
                cx.done(ticket, self.group, Done::Committed(position));
            }
        }
        if let Err(waiters) = self.write(entry, waiters) {
            for (key, before) in gathered.before.into_iter().rev() {
                match before {
                    Some(spec) => self.overlay.keys.insert(key, spec),
                    None => self.overlay.keys.remove(&key),
                };
            }
            for (ticket, _) in waiters {
                cx.done(ticket, self.group, Done::Refused(Refusal::Busy));
            }
        }
    }

    fn next_position(&self) -> Position {
        Position { epoch: self.state.epoch(), seq: self.head.position.seq.saturating_add(1) }
    }

    /// Forgets all speculative state.
    pub(crate) fn drop_overlay(&mut self) {
        self.overlay.keys.clear();
        self.overlay.ops.clear();
    }

    /// The head as it stands.
    pub(crate) fn set_head(&mut self, head: Head) {
        self.head = head;
    }
}

fn specs(entry: &Entry) -> Vec<(Key, Spec)> {
    let Body::Effects(effects) = &entry.body else {
        return Vec::new();
    };
    effects.iter().map(|effect| spec(effect, entry.position)).collect()
}

/// What an effect of the entry at `position` makes of its record.
fn spec(effect: &Effect, position: Position) -> (Key, Spec) {
    let seq = position.seq;
    match effect {
        Effect::Put { key, class, .. } => (key.clone(), Spec { seq, now: Some((position, *class)) }),
        Effect::Delete { key, .. } => (key.clone(), Spec { seq, now: None }),
    }
}

/// Whether a change may share an entry with others: it has no id of its own to be remembered by, belongs to no procedure,
/// and what it writes is soft.
fn gathers(proposal: &Proposal) -> bool {
    let soft =
        |write: &Write| matches!(write, Write::Put { class: WriteClass::Soft { .. }, .. } | Write::Delete { .. });
    proposal.op.is_none() && proposal.step.is_none() && proposal.writes.iter().all(soft)
}

/// The version of the one record that is written, if it was read, and so checked, and is there.
fn read_version(proposal: &Proposal, key: &Key) -> Option<Position> {
    match (&proposal.reads[..], &proposal.writes[..]) {
        ([(read, version)], [_]) if read == key => *version,
        _ => None,
    }
}

fn check_size(proposal: &Proposal, writes: usize, bytes: usize) -> Result<(), Refusal> {
    let too_large = |what: &str| Err(Refusal::TooLarge(what.into()));
    if proposal.writes.len() > writes || proposal.reads.len() > writes.saturating_mul(2) {
        return too_large("writes or reads");
    }
    let mut total = 0_usize;
    for write in &proposal.writes {
        let (key, value) = match write {
            Write::Put { key, value, .. } => (key, value.len()),
            Write::Delete { key } => (key, 0),
        };
        if !key.fits() {
            return too_large("key");
        }
        total = total.saturating_add(key.owner.len() + key.item.len() + 48).saturating_add(value);
    }
    if total > bytes {
        return too_large("bytes");
    }
    if proposal.writes.len() > 1 {
        let mut seen = BTreeSet::new();
        for write in &proposal.writes {
            let (Write::Put { key, .. } | Write::Delete { key }) = write;
            if !seen.insert(key) {
                return too_large("two writes to one key");
            }
        }
    }
    if proposal.reads.iter().all(|(key, _)| key.fits()) { Ok(()) } else { too_large("key") }
}
