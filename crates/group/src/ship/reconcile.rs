//! What follows from how the partner's copy stands: ship, seed, pull back, fence, confirm, or stop shipping.
//!
//! Owns these decisions, and nothing else. They are made again whenever either side's standing changes, and each is safe to
//! make twice.

use crate::codec::{Fence, Item, TailMark};
use crate::config::planted;
use crate::entry::Entry;
use crate::frame::{Frame, GroupHello};
use crate::ids::Position;
use crate::instance::{Cx, Instance};
use crate::io::{Alarm, HostOutput, Role};
use crate::lineage::{self, Relation};
use crate::retained::Kept;
use std::cmp::Ordering;
use std::sync::Arc;

impl Instance {
    /// How this copy stands.
    pub(crate) fn hello(&self, cx: &Cx<'_>) -> GroupHello {
        GroupHello {
            group: self.group,
            lineage: self.state.lineage.clone(),
            position: self.state.position,
            chain: self.state.chain,
            digest: self.state.digest.total(),
            retained_from: self.retained.first().unwrap_or(0),
            wants_seed: self.sink.wants_seed,
            credit: cx.cfg.limits.ship_window,
        }
    }

    /// The last entry that this copy has taken from the partner, if it is not applied yet.
    pub(crate) fn underway(&self) -> Option<Position> {
        let taken = !self.serves_here() && !self.idle() && self.shadow.is_none();
        Some(self.head.position).filter(|head| taken && head.seq > self.state.position.seq)
    }

    /// The partner has taken entries up to here, and its hello will not count those that it has not applied.
    pub(crate) fn on_underway(&mut self, position: Position) {
        self.sink.underway = Some(position);
    }

    /// Sequence up to which the partner's copy has, or will have, entries of the present epoch.
    fn partner_will_have(&self, peer: &GroupHello) -> u64 {
        let underway = self.sink.underway.filter(|position| position.epoch == self.state.epoch());
        peer.position.seq.max(underway.map_or(0, |position| position.seq))
    }

    /// The partner says how its copy stands.
    pub(crate) fn on_hello(&mut self, cx: &mut Cx<'_>, hello: GroupHello, whole: bool) {
        if whole {
            self.source.broken = false;
        }
        self.source.credit = hello.credit;
        self.told_of = None;
        self.peer = Some(hello);
        if self.idle() && self.shadow.is_none() {
            self.rehead();
        }
        self.reconcile(cx);
    }

    /// The partner says to one that does not lead how its copy stands. Whoever leads acts on that, and may be gone before another has what
    /// it wrote of it; the next one is not to serve then as if nothing had been said.
    pub(crate) fn overhear_hello(&mut self, cx: &mut Cx<'_>, hello: &GroupHello) {
        let relation = lineage::relate(&self.state.lineage, &hello.lineage);
        let newer = hello.lineage.last().filter(|_| relation.order == Ordering::Less);
        self.told_of =
            newer.map(|item| Fence { epoch: item.epoch, pool: item.pool, fork: relation.fork, tail_stored: false });
        if self.told_of.is_some() && self.serves_here() && self.confirmed {
            self.confirmed = false;
            self.tell_role(cx);
        }
    }

    /// Whether the partner was last said to be in an epoch that this copy's log does not have.
    pub(crate) fn is_told_of_newer(&self) -> bool {
        self.told_of.is_some_and(|fence| fence.epoch > self.state.epoch())
    }

    /// It leads now, with all that was committed before: what it was told of counts, if it still is the newer.
    pub(crate) fn fence_as_told(&mut self, cx: &mut Cx<'_>) {
        let Some(fence) = self.told_of.take().filter(|fence| fence.epoch > self.state.epoch()) else { return };
        if self.serves_here() && fence.pool != self.own {
            self.fence_now(cx, fence);
        }
    }

    /// Decides what follows.
    pub(crate) fn reconcile(&mut self, cx: &mut Cx<'_>) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        if self.is_stopped() || cx.link.is_none() || self.source.broken || self.follows() {
            return;
        }
        if self.unopened && peer.position.seq == 0 && self.state.position.seq == 0 && self.shadow.is_none() {
            // Nobody has it: the deployment is new, or nothing of the group was ever shipped.
            if self.idle() {
                self.open(cx);
                self.tell_role(cx);
            }
            return;
        }
        let relation = lineage::relate(&self.state.lineage, &peer.lineage);
        if relation.torn {
            let at = Position { seq: relation.fork, ..self.state.position };
            self.break_chain(cx, at, true);
            return;
        }
        match relation.order {
            Ordering::Less => self.peer_newer(cx, &peer, relation),
            Ordering::Equal => self.peer_equal(cx, &peer),
            Ordering::Greater => self.peer_older(cx, &peer, relation),
        }
    }

    fn serves_here(&self) -> bool {
        self.role() == Role::Active
    }

    /// The partner has an epoch that this copy's log does not have.
    fn peer_newer(&mut self, cx: &mut Cx<'_>, peer: &GroupHello, relation: Relation) {
        let epoch = lineage::head(&peer.lineage);
        let pool = peer.lineage.last().map(|item| item.pool).unwrap_or_default();
        self.heard = self.heard.max(epoch);
        let was_active = self.state.serving().is_some_and(|(pool, _)| pool == self.own);
        let parted = self.state.position.seq >= relation.fork;
        if (was_active || parted) && self.fence.is_none_or(|fence| fence.epoch < epoch) {
            self.fence_now(cx, Fence { epoch, pool, fork: relation.fork, tail_stored: false });
        }
        if !self.idle() {
            return;
        }
        if was_active && self.virgin() {
            self.want_seed(cx);
        } else if parted {
            self.tail_first(cx, peer, relation);
        }
    }

    /// Stops serving at once, and for good.
    fn fence_now(&mut self, cx: &mut Cx<'_>, fence: Fence) {
        self.set_fence(fence);
        self.sink.tail_out = false;
        self.append(Item::Fence(fence), Vec::new());
        self.tell_role(cx);
    }

    /// A tail must be stored before anything is re-based.
    fn tail_first(&mut self, cx: &mut Cx<'_>, peer: &GroupHello, relation: Relation) {
        let stored = self.fence.is_some_and(|fence| fence.tail_stored);
        if stored || planted!(cx.cfg, RebaseWithoutTail) {
            self.want_seed(cx);
            return;
        }
        if self.sink.tail_out {
            return;
        }
        self.sink.tail_out = true;
        let epoch = lineage::head(&peer.lineage);
        let entries = self.tail_from(relation.fork);
        let kept = self.kept_from(relation.fork);
        let count = self.state.position.seq.saturating_sub(relation.fork).saturating_add(1);
        cx.alarm(Alarm::DivergentTail { group: self.group, entries: count });
        if kept > relation.fork {
            let made = u64::try_from(entries.partition_point(|entry| entry.position.seq < kept)).unwrap_or(u64::MAX);
            cx.alarm(Alarm::TailFrontLost { group: self.group, entries: kept - relation.fork, made });
        }
        let fork = Position { epoch, seq: relation.fork };
        cx.out.push_back(HostOutput::StoreTail { group: self.group, fork, entries });
    }

    /// Sequence of the first entry from the fork on that is still kept; one after the last if none is.
    fn kept_from(&self, fork: u64) -> u64 {
        let after = self.state.position.seq.saturating_add(1);
        self.retained.first().map_or(after, |first| first.max(fork)).min(after)
    }

    /// The tail from the fork on. What the caps of the log let go before the partner had it is made from the state, so that
    /// the re-base that follows does not take it away unseen.
    pub(crate) fn tail_from(&self, fork: u64) -> Vec<Arc<Entry>> {
        let mut entries = crate::tail::made(&self.state, fork, self.kept_from(fork));
        entries.extend(self.retained.from(fork).filter_map(Kept::entry));
        entries
    }

    /// The shell has stored the tail.
    pub(crate) fn tail_stored(&mut self, cx: &mut Cx<'_>) {
        let Some(fence) = self.fence.filter(|fence| !fence.tail_stored) else {
            return;
        };
        if !self.sink.tail_out {
            return;
        }
        let entries = u64::try_from(self.tail_from(fence.fork).len()).unwrap_or(u64::MAX);
        self.append(Item::TailStored(TailMark { epoch: fence.epoch, entries }), Vec::new());
        cx.hello.insert(self.group);
    }

    fn want_seed(&mut self, cx: &mut Cx<'_>) {
        if !self.sink.wants_seed {
            self.sink.wants_seed = true;
            cx.hello.insert(self.group);
        }
    }

    /// Both know the same head epoch.
    fn peer_equal(&mut self, cx: &mut Cx<'_>, peer: &GroupHello) {
        let (here, there) = (self.state.position.seq, peer.position.seq);
        if !self.serves_here() {
            // This copy follows; it ships only if the active asked for its own entries back.
            if there >= here {
                self.source.pulled = false;
                self.source.seed = None;
                self.source.seed_due = false;
                if there > here || self.check_equal(cx, peer) {
                    self.source.acked = Some(here);
                }
            } else if peer.wants_seed {
                self.source.pulled = true;
                self.begin_seed(cx);
            }
            return;
        }
        let missing = self.partner_will_have(peer) > here && !planted!(cx.cfg, UnderwayIgnored);
        if there > here || (missing && !self.confirmed) {
            self.behind_own_backup(cx, peer);
            return;
        }
        if there == here && !self.check_equal(cx, peer) {
            return;
        }
        self.sink.pulling = None;
        self.sink.wants_seed = false;
        if self.ship_to(cx, peer) {
            self.confirm(cx);
        }
    }

    /// At one position and in one epoch both must have one history.
    fn check_equal(&mut self, cx: &mut Cx<'_>, peer: &GroupHello) -> bool {
        if peer.position != self.state.position || peer.chain != self.state.chain {
            self.break_chain(cx, self.state.position, true);
            return false;
        }
        if peer.digest == self.state.digest.total() {
            self.verified = Some((self.state.position, cx.now.wall));
        }
        true
    }

    /// The backup has, or will have, entries of this epoch that this disk does not have: it lost what it had acknowledged.
    fn behind_own_backup(&mut self, cx: &mut Cx<'_>, peer: &GroupHello) {
        if planted!(cx.cfg, OldDiskAccepted) {
            self.confirm(cx);
            return;
        }
        if !self.speaks(cx.now) {
            // Another may have led meanwhile: then this disk has lost nothing, and that one's entries are on their way.
            self.sink.unsure = true;
            return;
        }
        // A seed that an earlier link left unfinished does not go on by itself.
        if !self.idle() || (self.shadow.is_some() && self.sink.seed.is_some()) {
            return;
        }
        let target = self.partner_will_have(peer);
        let partner = Position { seq: target, ..peer.position };
        if self.virgin() && self.sink.pulling.is_none() {
            self.confirmed = false;
            self.sink.pulling = Some(target);
            cx.alarm(Alarm::DiskLostData { group: self.group, had: self.state.position, partner });
            self.want_seed(cx);
            self.tell_role(cx);
            return;
        }
        if self.appended && !self.virgin() {
            self.break_chain(cx, self.state.position, true);
            return;
        }
        if self.sink.pulling.is_none() {
            cx.alarm(Alarm::DiskLostData { group: self.group, had: self.state.position, partner });
        }
        self.confirmed = false;
        self.sink.pulling = Some(target);
        self.rehead();
        self.ask_pull(cx);
        self.tell_role(cx);
    }

    pub(crate) fn ask_pull(&mut self, cx: &mut Cx<'_>) {
        if !self.sink.wants_seed {
            cx.send(Frame::Pull { group: self.group, position: self.state.position, chain: self.state.chain });
        }
    }

    /// This copy's log has an epoch that the partner's does not have.
    fn peer_older(&mut self, cx: &mut Cx<'_>, peer: &GroupHello, relation: Relation) {
        if self.serves_here() {
            self.sink.pulling = None;
            self.confirm(cx);
        }
        if peer.position.seq >= relation.fork {
            // The partner stores its tail first; it asks for the seed when it has.
            if peer.wants_seed {
                self.begin_seed(cx);
            }
            return;
        }
        self.ship_to(cx, peer);
    }

    fn confirm(&mut self, cx: &mut Cx<'_>) {
        if self.serves_here() && self.fence.is_none() && !self.confirmed {
            self.confirmed = true;
            self.tell_role(cx);
        }
    }

    /// The partner's active copy asks for what its disk has lost.
    pub(crate) fn on_pull(&mut self, cx: &mut Cx<'_>, position: Position, chain: crate::entry::ChainHash) {
        let Some(mut peer) = self.peer.clone() else {
            cx.hello.insert(self.group);
            return;
        };
        if self.is_stopped() || self.serves_here() || position.seq > self.state.position.seq {
            return;
        }
        peer.position = position;
        peer.chain = chain;
        self.source.pulled = true;
        self.peer = Some(peer.clone());
        self.ship_to(cx, &peer);
    }

    /// The histories differ where they must not: shipping stops, both branches stay.
    pub(crate) fn break_chain(&mut self, cx: &mut Cx<'_>, at: Position, tell: bool) {
        self.source.broken = true;
        self.source.seed = None;
        self.source.seed_due = false;
        if !self.source.broken_told {
            self.source.broken_told = true;
            cx.alarm(Alarm::ChainBroken { group: self.group, at });
        }
        if tell {
            cx.send(Frame::Broken { group: self.group, at });
        }
    }

    /// The link is gone.
    pub(crate) fn unlinked(&mut self) {
        self.source.unlinked();
        self.peer = None;
        self.sink.unlinked();
        if self.idle() && self.shadow.is_none() {
            self.rehead();
        }
    }
}
