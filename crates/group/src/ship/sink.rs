//! The sink's side: received entries are proposed unchanged in this pool's own consensus, so that position and chain hash are
//! equal on both sides and the applied position is the cursor.
//!
//! Owns what is taken from the wire and what is said back. Nothing is acknowledged before it is applied, which is after it is
//! synced.

use super::{Place, SeedIn};
use crate::codec::{Item, SeedChunk, SeedOffer, Stored, Swap};
use crate::config::planted;
use crate::entry::ChainHash;
use crate::frame::{CanaryItem, Frame};
use crate::ids::{Millis, Position};
use crate::instance::{Cx, Head, Instance};
use crate::io::Role;
use bytes::Bytes;
use std::sync::Arc;

/// Interval at which a missing answer is asked for again.
const NUDGE: Millis = 1500;
/// Canaries that wait for this copy to catch up.
const MAX_CANARIES: usize = 64;

impl Instance {
    /// Whether this copy takes entries from the partner.
    fn imports(&self) -> bool {
        !self.is_stopped()
            && self.procedure.is_none()
            && self.leads()
            && !self.is_passed_on()
            && !self.source.broken
            && (self.role() != Role::Active || self.sink.pulling.is_some())
    }

    /// Takes consecutive entries; what is known is skipped, a gap is asked for again.
    pub(crate) fn on_entries(&mut self, cx: &mut Cx<'_>, entries: Vec<Bytes>) {
        if !self.imports() {
            return;
        }
        if self.shadow.is_some() && self.sink.seed.is_none() {
            self.abandon_shadow(cx);
            return;
        }
        for bytes in entries {
            let Some(stored) = Stored::decode(&bytes).ok().filter(|stored| stored.entry.fits()) else {
                self.sink.import_error = true;
                return;
            };
            let seq = stored.seq();
            if seq <= self.head.position.seq {
                continue;
            }
            if seq != self.head.position.seq.saturating_add(1) || stored.entry.prev != self.head.chain {
                self.resync(cx);
                return;
            }
            let head = Head { position: stored.entry.position, chain: stored.chain, time: stored.entry.time };
            if !self.append(Item::Entry(stored), Vec::new()) {
                return;
            }
            self.set_head(head);
        }
        self.sink.import_error = false;
        if planted!(cx.cfg, CursorBeforeDurable) {
            let (position, chain) = (self.head.position, self.head.chain);
            cx.send(Frame::Ack { group: self.group, position, chain, credit: cx.cfg.limits.ship_window });
        }
    }

    /// The source ships entries and does not go on with the seed that was begun on an earlier link: the unfinished copy is
    /// given up, since nothing would ever complete it.
    fn abandon_shadow(&mut self, cx: &mut Cx<'_>) {
        if self.idle() && self.append(Item::SeedAbort, Vec::new()) {
            self.set_head(Head { position: self.state.position, chain: self.state.chain, time: self.state.time });
        }
        self.resync(cx);
    }

    /// Says again where this copy stands, at most a few times a second for one position.
    fn resync(&mut self, cx: &mut Cx<'_>) {
        if self.idle() && self.shadow.is_none() && self.sink.seed.is_none() {
            self.rehead();
        }
        let at = (self.head.position.seq, cx.now.mono);
        if self.sink.resync.is_some_and(|(seq, when)| seq == at.0 && cx.now.mono < when.saturating_add(200)) {
            return;
        }
        self.sink.resync = Some(at);
        cx.hello.insert(self.group);
    }

    /// A seed is offered.
    pub(crate) fn on_seed_offer(&mut self, cx: &mut Cx<'_>, offer: Arc<SeedOffer>) {
        if offer.seed > self.sink.offered {
            self.sink.offered = offer.seed;
            self.take_offer(cx, offer);
        }
    }

    fn take_offer(&mut self, cx: &mut Cx<'_>, offer: Arc<SeedOffer>) {
        if !self.leads() {
            // A copy that was just created: the source would offer again only after a while.
            self.sink.early = Some(offer);
            return;
        }
        let higher = offer.position > self.state.position || planted!(cx.cfg, SwapBackwards);
        let tail_open = self.fence.is_some_and(|fence| !fence.tail_stored && self.state.position.seq >= fence.fork)
            && !self.virgin();
        if !self.imports() || !higher || (tail_open && !planted!(cx.cfg, RebaseWithoutTail)) || !self.idle() {
            return;
        }
        let head = Head { position: offer.position, chain: offer.chain, time: offer.time };
        self.sink.seed = Some(SeedIn { id: offer.seed, next: 0 });
        if self.append(Item::SeedStart(offer), Vec::new()) {
            self.set_head(head);
        }
    }

    /// A part of a seed arrived.
    pub(crate) fn on_seed_chunk(&mut self, chunk: Arc<SeedChunk>) {
        if !self.imports() {
            return;
        }
        let Some(seed) = self.sink.seed.as_mut().filter(|seed| seed.id == chunk.seed && seed.next == chunk.number)
        else {
            return;
        };
        seed.next += 1;
        self.append(Item::Seed(chunk), Vec::new());
    }

    /// The source has sent everything of a seed and every entry up to this position.
    pub(crate) fn on_seed_end(&mut self, cx: &mut Cx<'_>, seed: u64, position: Position, digest: [u8; 32]) {
        if !self.imports() || self.sink.seed.is_none_or(|have| have.id != seed) {
            return;
        }
        if self.head.position != position {
            self.sink.wants_seed = true;
            self.resync(cx);
            return;
        }
        self.append(Item::Swap(Swap { seed, position, digest }), Vec::new());
    }

    /// Says what is applied.
    pub(crate) fn acknowledge(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::take(&mut self.sink.ack_due) || cx.link.is_none() || self.follows() {
            return;
        }
        self.catch_canaries();
        if let Some(shadow) = &self.shadow {
            let (seed, chunks, seq) = (shadow.seed, shadow.chunks, shadow.state.position.seq);
            cx.send(Frame::SeedAck { group: self.group, seed, chunks, seq });
            return;
        }
        let parted = self.fence.is_some_and(|fence| self.state.position.seq >= fence.fork);
        if !parted && (self.role() != Role::Active || self.sink.pulling.is_some()) {
            let (position, chain) = (self.state.position, self.state.chain);
            cx.send(Frame::Ack { group: self.group, position, chain, credit: cx.cfg.limits.ship_window });
        }
        self.compare_when_there(cx);
    }

    /// An active that waited for its own entries has them.
    pub(crate) fn pulled_enough(&self) -> bool {
        self.sink.pulling.is_some_and(|target| self.state.position.seq >= target) && self.idle()
    }

    /// The source says how far it is.
    pub(crate) fn on_canary(&mut self, cx: &mut Cx<'_>, stamp: Millis, item: CanaryItem) {
        if self.role() == Role::Active {
            return;
        }
        self.sink.known = self.sink.known.max(Some(item.position));
        self.sink.known_bytes = item.behind_bytes;
        self.sink.known_time = self.sink.known_time.max(item.time);
        if item.position == self.state.position && item.chain == self.state.chain {
            if item.digest == self.state.digest.total() {
                self.verified = Some((item.position, cx.now.wall));
            } else {
                self.sink.import_error = true;
            }
        }
        self.expect(cx, Place { position: item.position, chain: item.chain, digest: item.digest }, stamp);
    }

    /// The leader of this pool says that a copy which stands at that place had, at `stamp` by this copy's clock, everything of the partner.
    pub(crate) fn on_behind(&mut self, cx: &Cx<'_>, stamp: Millis, position: Position, chain: ChainHash) {
        // The digest is asked for only where the chain is not known any more; none is equal to this.
        self.expect(cx, Place { position, chain, digest: [0; 32] }, stamp);
    }

    /// Once this copy has everything up to that place, it has everything that the partner had at `stamp`.
    fn expect(&mut self, cx: &Cx<'_>, place: Place, stamp: Millis) {
        if self.sink.canaries.len() >= MAX_CANARIES {
            self.sink.canaries.pop_front();
        }
        if planted!(cx.cfg, CanaryBeforeData) {
            self.sink.lag_base = self.sink.lag_base.max(Some(stamp));
        }
        self.sink.canaries.push_back((place, stamp));
        self.catch_canaries();
    }

    fn catch_canaries(&mut self) {
        while let Some((place, stamp)) = self.sink.canaries.front().copied() {
            if place.position > self.state.position {
                return;
            }
            // One of another branch, or too old to tell, says nothing of how far behind this copy is.
            if self.passed(&place) {
                self.sink.lag_base = self.sink.lag_base.max(Some(stamp));
            }
            self.sink.canaries.pop_front();
        }
    }

    /// Whether this copy's own history went through a place.
    fn passed(&self, place: &Place) -> bool {
        if place.position == self.state.position {
            return place.chain == self.state.chain;
        }
        match self.retained.point(place.position.seq) {
            Some((_, chain)) => chain == place.chain,
            None => self.history.iter().any(|(at, digest)| *at == place.position && *digest == place.digest),
        }
    }

    /// Asks again for what should have come.
    pub(crate) fn tick_sink(&mut self, cx: &mut Cx<'_>) {
        if self.follows() {
            return;
        }
        if let Some(offer) = self.sink.early.take() {
            self.take_offer(cx, offer);
        }
        if self.sink.unsure && self.speaks(cx.now) {
            self.sink.unsure = false;
            self.reconcile(cx);
        }
        if cx.link.is_none() || self.is_stopped() || cx.now.mono < self.sink.nudged.saturating_add(NUDGE) {
            return;
        }
        self.sink.nudged = cx.now.mono;
        if self.sink.pulling.is_some() {
            self.ask_pull(cx);
        }
        if self.peer.is_none() && cx.cfg.servers.len() > 1 {
            // How the partner stands was asked when this copy began to lead, and not answered.
            cx.hello.insert(self.group);
        }
        let missing = self.role() != Role::Active && self.sink.known > Some(self.state.position);
        if self.idle() && (self.sink.wants_seed || missing) {
            cx.hello.insert(self.group);
        }
    }
}
