//! What a committed item does: entries change the state, seeds build the shadow, a swap makes it current.
//!
//! Owns the order of effects of one commit. The same code runs live and when a log is replayed after a restart.

use super::{Cx, HISTORY, Head, Instance, Wait};
use crate::codec::{self, Fence, Item, SeedChunk, SeedOffer, Stored, Swap};
use crate::config::{HostConfig, planted};
use crate::consensus::LogItem;
use crate::entry::Body;
use crate::frame::Frame;
use crate::ids::Ticket;
use crate::io::{Alarm, Done, HostOutput, Refusal, Role};
use crate::shadow::Shadow;
use crate::state::ApplyError;
use bytes::Bytes;

impl Instance {
    /// Applies one committed item.
    pub(crate) fn committed(&mut self, cx: &mut Cx<'_>, log: LogItem) {
        let index = log.index;
        let (item, waiters) = match self.take_flight(cx.cfg, &log) {
            Some(taken) => taken,
            None if log.payload.is_empty() => (Item::Noop, Vec::new()),
            None => match codec::decode_item(&log.payload) {
                Ok(item) => (item, Vec::new()),
                Err(error) => {
                    self.stop(cx, &format!("log item {index}: {error}"));
                    (Item::Noop, Vec::new())
                }
            },
        };
        if self.stopped.is_some() {
            self.refuse_waiters(cx, waiters);
            return;
        }
        match item {
            Item::Noop | Item::Restored => {}
            Item::Bare if self.is_witness() => {}
            Item::Bare => self.stop(cx, &format!("log item {index} is here without its content")),
            Item::Entry(_) | Item::SeedStart(_) | Item::Seed(_) | Item::Swap(_) if self.is_witness() => {
                self.stop(cx, &format!("log item {index} holds data, and this is a witness"));
            }
            Item::Entry(stored) => self.entry(cx, (index, log.term), stored, waiters),
            Item::SeedStart(offer) => self.seed_start(cx, index, &offer),
            Item::Seed(chunk) => self.seed_chunk(&chunk),
            Item::Swap(swap) => self.swap(cx, &swap),
            Item::SeedAbort => self.shadow = None,
            Item::Change(change) => self.change_members(cx, &change),
            Item::Fence(fence) => {
                self.fenced(fence);
                let at = self.state.position;
                waiters.into_iter().for_each(|(ticket, _)| cx.done(ticket, self.group, Done::Committed(at)));
            }
            Item::TailStored(mark) => {
                // Other tails may be open; the exact number comes from the tails' files.
                self.tail = self.tail.max(mark.entries);
                if let Some(fence) = self.fence.as_mut().filter(|fence| fence.epoch == mark.epoch) {
                    fence.tail_stored = true;
                }
            }
        }
        // What stopped the group stays the next item, also after a restart.
        if self.stopped.is_none() {
            self.applied = (index, log.term);
            self.changed = true;
        }
        self.tell_role(cx);
    }

    fn take_flight(&mut self, cfg: &HostConfig, log: &LogItem) -> Option<(Item, Vec<(Ticket, Wait)>)> {
        while self.flight.front().is_some_and(|flight| flight.index < log.index) {
            self.flight.pop_front();
        }
        let (flight, planted) = (self.flight.front()?, planted!(cfg, FlightsOutliveLeader));
        if flight.index != log.index || !(planted || same(&flight.payload, &log.payload)) {
            return None;
        }
        let flight = self.flight.pop_front()?;
        self.flight_bytes = self.flight_bytes.saturating_sub(u64::try_from(flight.payload.len()).unwrap_or(0));
        Some((flight.item, flight.waiters))
    }

    fn refuse_waiters(&mut self, cx: &mut Cx<'_>, waiters: Vec<(Ticket, Wait)>) {
        let reason = self.stopped.clone().unwrap_or_default();
        for (ticket, _) in waiters {
            cx.done(ticket, self.group, Done::Refused(Refusal::Stopped(reason.clone())));
        }
    }

    pub(super) fn entry(
        &mut self,
        cx: &mut Cx<'_>,
        (index, term): (u64, u64),
        stored: Stored,
        waiters: Vec<(Ticket, Wait)>,
    ) {
        // What was on disk at the start is committed anew by the first leader, and says no more than in a replay.
        let live = !self.replaying && self.consensus.is_live(term);
        let rules = cx.rules();
        if let Some(shadow) = &mut self.shadow {
            if stored.entry.prev == shadow.state.chain {
                if shadow.replay(&stored, &rules).is_err() {
                    self.drop_seed();
                }
                self.sink.ack_due = true;
                return;
            }
            self.shadow = None;
        }
        if self.orphans {
            if stored.entry.prev != self.state.chain {
                self.refuse_orphan(cx, waiters);
                return;
            }
            self.orphans = false;
        }
        let partner_has = self.partner_has();
        let touched = &mut self.touched;
        let applied = self.state.apply(&stored, &rules, &mut |key| {
            touched.insert(key.clone());
        });
        if let Err(error) = applied {
            if matches!(error, ApplyError::Digest(_)) {
                cx.alarm(Alarm::HandoverRefused { group: self.group, reason: error.to_string().into() });
            }
            self.stop(cx, &error.to_string());
            self.refuse_waiters(cx, waiters);
            return;
        }
        (self.unopened, self.opening) = (false, false);
        self.release(&stored.entry);
        let position = stored.entry.position;
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((position, self.state.digest.total()));
        self.settle_epoch(cx, &stored, partner_has, live);
        if !self.replaying {
            cx.out.push_back(HostOutput::Applied { group: self.group, entry: stored.entry.clone() });
        }
        let at = live.then_some(cx.now.mono);
        self.retained.push(stored, index, at);
        for (ticket, wait) in waiters {
            let done = match wait {
                Wait::Committed => Done::Committed(position),
                Wait::Duplicate => Done::Duplicate(position),
                Wait::NoChange => Done::NoChange(position),
            };
            cx.done(ticket, self.group, done);
        }
        self.sink.ack_due = true;
    }

    /// After an entry that changed who serves: fence, confirmation, procedure, shipping.
    fn settle_epoch(&mut self, cx: &mut Cx<'_>, stored: &Stored, partner_has: u64, live: bool) {
        let changes = matches!(stored.entry.body, Body::Handover(_) | Body::Promote(_) | Body::Open { .. });
        if self.fence.is_some_and(|fence| fence.epoch <= self.state.epoch()) {
            self.fence = None;
        }
        self.heard = self.heard.max(self.state.epoch());
        if !changes {
            return;
        }
        // A grant that arrives now is the highest one known, unless a higher one was heard of or the log is only replayed.
        let mine = self.state.serving().is_some_and(|(pool, _)| pool == self.own);
        // What was vouched for after the start is so for what was on disk then.
        let vouched = live || (!self.replaying && (self.confirmed || self.asserted));
        let sure = vouched && self.heard <= self.state.epoch() && !self.is_told_of_newer();
        self.confirmed = mine && (sure || planted!(cx.cfg, UnconfirmedServes));
        self.source.epoch_changed();
        if self.role() == Role::Active && !matches!(stored.entry.body, Body::Open { .. }) {
            self.drop_overlay();
            // The pool that served before has all that came from it.
            let handed = matches!(stored.entry.body, Body::Handover(_));
            self.source.acked = Some(if handed { stored.seq() } else { partner_has });
        }
        self.procedure_applied(cx, stored);
    }

    /// An entry that was to follow a seed that was given up: not a part of this copy's history.
    fn refuse_orphan(&mut self, cx: &mut Cx<'_>, waiters: Vec<(Ticket, Wait)>) {
        for (ticket, _) in waiters {
            let refusal = Refusal::NotNow("it followed a seed that was given up".into());
            cx.done(ticket, self.group, Done::Refused(refusal));
        }
    }

    fn seed_start(&mut self, cx: &mut Cx<'_>, index: u64, offer: &SeedOffer) {
        self.orphans = false;
        let unfinished = self.shadow.take();
        let shadow = Shadow::start(offer, index, &self.state, unfinished.as_ref());
        if !self.replaying {
            let frame = Frame::SeedWant { group: self.group, seed: offer.seed, ranges: shadow.wanted.clone() };
            cx.send(frame);
        }
        self.shadow = Some(shadow);
    }

    fn seed_chunk(&mut self, chunk: &SeedChunk) {
        match &mut self.shadow {
            Some(shadow) if shadow.seed == chunk.seed && shadow.chunks == chunk.number => shadow.chunk(chunk),
            _ => {}
        }
        self.sink.ack_due = true;
    }

    fn swap(&mut self, cx: &mut Cx<'_>, swap: &Swap) {
        let Some(shadow) = self.shadow.take() else {
            return;
        };
        let higher = swap.position > self.state.position || planted!(cx.cfg, SwapBackwards);
        let equal = shadow.state.position == swap.position && shadow.state.digest.total() == swap.digest;
        if shadow.seed != swap.seed || !equal || !higher {
            self.drop_seed();
            return;
        }
        self.state = shadow.state;
        self.unopened = false;
        self.retained.clear();
        self.history.clear();
        self.history.push_back((self.state.position, self.state.digest.total()));
        self.touched.clear();
        self.cleared = true;
        self.drop_overlay();
        self.heard = self.heard.max(self.state.epoch());
        if self.fence.is_some_and(|fence| fence.epoch <= self.state.epoch()) {
            self.fence = None;
        }
        self.source.epoch_changed();
        self.sink.swapped(cx.now.mono);
        self.verified = Some((self.state.position, cx.now.wall));
        if self.flight.is_empty() {
            self.set_head(Head { position: self.state.position, chain: self.state.chain, time: self.state.time });
        }
        if !self.replaying {
            cx.out.push_back(HostOutput::Swapped { group: self.group });
        }
        cx.hello.insert(self.group);
    }

    /// A seed that did not become right: the old copy stays, and another seed is asked for.
    fn drop_seed(&mut self) {
        self.shadow = None;
        self.orphans = true;
        self.sink.seed = None;
        self.sink.import_error = true;
        self.sink.wants_seed = true;
    }

    fn fenced(&mut self, fence: Fence) {
        self.unsure_fence = None;
        self.heard = self.heard.max(fence.epoch);
        if fence.epoch <= self.state.epoch() {
            return;
        }
        let newer = self.fence.is_none_or(|have| have.epoch < fence.epoch);
        if newer {
            self.fence = Some(fence);
        }
        self.confirmed = false;
    }
}

/// Whether two payloads are equal: nearly always they are one and the same.
fn same(a: &Bytes, b: &Bytes) -> bool {
    std::ptr::eq(&a[..], &b[..]) || a == b
}
