//! Copies of the whole state for replicas that the log in memory no longer reaches.
//!
//! Owns both ends: the leader sends its state as it stood at one index, in parts, a few ahead of what has arrived; the receiver puts it
//! together, takes it over whole or not at all, and says nothing more until its checkpoint is on disk. What stands in its log from before
//! is void from then on: a mark says so, and until the mark is on disk the checkpoint does. Consensus only hears of index and term.

use super::{Cx, Instance};
use super::{checkpoint, replicas};
use crate::codec::{self, Meta};
use crate::config::planted;
use crate::consensus::ReplicaId;
use crate::frame::{CopyBody, Frame};
use crate::ids::Millis;
use crate::record::Key;
use crate::state::{self, State};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A copy that makes no progress for so long is begun anew.
const STALL: Millis = 5_000;
/// Copies of one group that are sent at once.
const AT_ONCE: usize = 2;

/// A copy on its way to another replica.
#[derive(Debug)]
pub(super) struct CopyOut {
    number: u64,
    /// The state as it stood.
    state: State,
    /// Consensus index and term there.
    at: (u64, u64),
    cursor: Option<Key>,
    sent: u64,
    arrived: u64,
    /// Whether all records, and the end, were sent.
    all: bool,
    progress: Millis,
}

/// A copy that arrives.
#[derive(Debug)]
pub(super) struct CopyIn {
    from: ReplicaId,
    number: u64,
    meta: Meta,
    records: Vec<(Key, crate::record::Record)>,
    parts: u64,
}

/// A copy that was taken over and is not on disk yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restoring {
    /// The drain that is synced when the checkpoint is durable; 0 until it was drained.
    pub(super) drain: u64,
    at: (u64, u64),
    /// The checkpoint that has it, once one was taken.
    pub(super) checkpoint: Option<u64>,
}

impl Instance {
    /// Begins, carries on and gives up copies to others; for the leader.
    pub(crate) fn tick_copies(&mut self, cx: &mut Cx<'_>) {
        if self.follows() || self.is_stopped() {
            self.copies.clear();
            return;
        }
        let (now, first) = (cx.now.mono, self.consensus.first_kept());
        self.copies.retain(|_, copy| now < copy.progress.saturating_add(STALL) && copy.at.0 + 1 >= first);
        for replica in self.consensus.out_of_reach() {
            if self.copies.len() < AT_ONCE && !self.copies.contains_key(&replica) {
                self.begin_copy(cx, replica);
            }
        }
        // Those that the log reaches again are done.
        let consensus = &self.consensus;
        self.copies.retain(|replica, copy| !consensus.has(*replica, copy.at.0));
        self.consensus.keep_from(self.copies.values().map(|copy| copy.at.0).min());
    }

    fn begin_copy(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        self.copy_number = self.copy_number.max(cx.now.wall).saturating_add(1);
        let (number, meta) = (self.copy_number, codec::encode_meta(&self.meta(cx.cfg)).into());
        cx.tell_of_copy(self.group, (replicas::own(cx.cfg), to), CopyBody::Begin { copy: number, meta });
        let copy = CopyOut {
            number,
            state: self.state.clone(),
            at: self.applied,
            cursor: None,
            sent: 0,
            arrived: 0,
            all: false,
            progress: cx.now.mono,
        };
        self.copies.insert(to, copy);
        self.send_parts(cx, to);
    }

    /// Sends the next parts of a copy, and its end.
    fn send_parts(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        let limits = &cx.cfg.limits;
        let (most, window) = (u64::try_from(limits.seed_chunk).unwrap_or(u64::MAX), limits.seed_window);
        let (group, ends) = (self.group, (replicas::own(cx.cfg), to));
        let term = self.consensus.term();
        let Some(copy) = self.copies.get_mut(&to) else { return };
        while !copy.all && copy.sent - copy.arrived < window {
            let records = copy.next_part(most);
            let (copy_number, part) = (copy.number, copy.sent);
            copy.sent += 1;
            let last = copy.cursor.is_none().then_some(term);
            copy.all = last.is_some();
            cx.tell_of_copy(group, ends, CopyBody::Part { copy: copy_number, part, records, last });
        }
    }

    /// Another replica of the group says something of a copy.
    pub(crate) fn on_copy(&mut self, cx: &mut Cx<'_>, from: ReplicaId, body: CopyBody) {
        match body {
            CopyBody::Begin { copy, meta } => {
                if self.restoring.is_some() || !self.follows() || self.is_stopped() {
                    return;
                }
                let Ok(meta) = codec::decode_meta(&meta) else { return };
                if meta.applied > self.applied.0 {
                    self.copy_in = Some(CopyIn { from, number: copy, meta, records: Vec::new(), parts: 0 });
                }
            }
            CopyBody::Part { copy, part, records, last } => {
                let Some(coming) = &mut self.copy_in else { return };
                if (coming.from, coming.number, coming.parts) != (from, copy, part) {
                    return;
                }
                coming.records.extend(records);
                coming.parts += 1;
                let parts = coming.parts;
                cx.tell_of_copy(self.group, (replicas::own(cx.cfg), from), CopyBody::Have { copy, parts });
                if let Some(term) = last {
                    self.take_over(cx, term);
                }
            }
            CopyBody::Have { copy, parts } => {
                let Some(out) = self.copies.get_mut(&from).filter(|out| out.number == copy) else { return };
                out.arrived = out.arrived.max(parts.min(out.sent));
                out.progress = cx.now.mono;
                self.send_parts(cx, from);
            }
        }
    }

    /// All parts are here: the copy becomes the state, if consensus has a use for it and it is what it says.
    fn take_over(&mut self, cx: &mut Cx<'_>, term: u64) {
        let Some(CopyIn { from, meta, records, .. }) = self.copy_in.take() else { return };
        let at = (meta.applied, meta.applied_term);
        let Some(state) = State::restore(&meta, records) else { return };
        if !self.consensus.restore(from, term, at) {
            return;
        }
        self.state = state;
        self.shadow = None;
        self.orphans = false;
        (self.fence, self.tail, self.heard) = (meta.fence, meta.tail, self.heard.max(meta.heard));
        self.applied = at;
        self.retained.clear();
        self.history.clear();
        self.history.push_back((self.state.position, self.state.digest.total()));
        self.touched.clear();
        (self.cleared, self.changed) = (true, true);
        (self.unopened, self.opening) = (false, false);
        self.drop_overlay();
        self.rehead();
        self.restoring = Some(Restoring { drain: 0, at, checkpoint: planted!(cx.cfg, CopyNotDurable).then_some(0) });
        cx.out.push_back(crate::io::HostOutput::Swapped { group: self.group });
        self.tell_role(cx);
    }

    /// The checkpoint with a copy that was taken over is on disk: this replica takes part again.
    pub(super) fn restored(&mut self, written: u64) {
        let Some(restoring) = self.restoring else { return };
        if restoring.checkpoint.is_none_or(|id| id > written) || restoring.drain == 0 {
            return;
        }
        self.restoring = None;
        self.consensus.persisted(restoring.drain);
        self.consensus.applied(restoring.at.0);
        self.synced(self.synced);
        self.marks.push(checkpoint::mark(self.group, restoring.at));
    }
}

impl CopyOut {
    /// Records after the cursor, about one part of them; without a cursor afterwards there are no more.
    fn next_part(&mut self, most: u64) -> Vec<(Key, crate::record::Record)> {
        let from = self.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut records, mut bytes) = (Vec::new(), 0);
        for (key, record) in self.state.starting_at(from) {
            if bytes >= most {
                self.cursor = records.last().map(|(key, _): &(Key, _)| key.clone());
                break;
            }
            bytes += state::size(key, record).saturating_add(48);
            records.push((key.clone(), record.clone()));
        }
        records
    }
}

impl Cx<'_> {
    fn tell_of_copy(&mut self, group: crate::ids::GroupId, (from, to): (ReplicaId, ReplicaId), body: CopyBody) {
        if let Some(link) = self.peers.get(&replicas::server(to)).copied() {
            let frame = Frame::Copy { group, from, to, body };
            self.out.push_back(crate::io::HostOutput::Send { link, frame });
        }
    }
}

/// Copies that are sent, by receiver.
pub(super) type Copies = BTreeMap<ReplicaId, CopyOut>;
