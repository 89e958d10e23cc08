//! Copies of the whole state for replicas that the log in memory no longer reaches.
//!
//! Owns both ends: the leader sends its state as it stood at one index, in parts, a few ahead of what has arrived; the receiver puts it
//! together, takes it over whole or not at all, and says nothing more until its checkpoint is on disk and its log is rid of what stood there
//! before: what reaches beyond the copy is cut off by a mark at its index, then all up to there is purged. The checkpoint says that the log
//! may be void, and a log that still reaches back to the copy's index has not been purged. Consensus only hears of index and term.

use super::{Cx, Instance};
use super::{checkpoint, replicas};
use crate::codec::{self, Meta};
use crate::config::planted;
use crate::consensus::{Consensus, ReplicaId, members};
use crate::frame::{CopyBody, Frame};
use crate::ids::{GroupId, Millis};
use crate::io::HostOutput;
use crate::lineage;
use crate::state::{self, State};
use std::collections::BTreeMap;

/// A copy that makes no progress for so long is begun anew.
const STALL: Millis = 5_000;
/// Bytes that an arriving copy may have.
const MOST_BYTES: u64 = 4 << 30;
/// Copies of one group that are sent at once.
const AT_ONCE: usize = 2;
/// Parts of a copy that make a chunk of a seed: between servers of a pool everything that is acknowledged waits behind what is on the link.
const PARTS: u64 = 4;

/// A copy on its way to another replica.
#[derive(Debug)]
pub(super) struct CopyOut {
    number: u64,
    /// Consensus index and term of the state, which is read by a view of this number; a witness gets no records.
    at: (u64, u64),
    witness: bool,
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
    /// What has come of it. Put together as it comes: at the end it would take as long as there are records.
    state: State,
    parts: u64,
    bytes: u64,
    progress: Millis,
}

/// A copy that was taken over, until its checkpoint is on disk and the log is rid of what stood there before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restoring {
    /// The drain that is synced when this is over; 0 if there was none.
    pub(super) drain: u64,
    at: (u64, u64),
    /// Last index of the log on disk before.
    last: u64,
    /// The checkpoint that has it, once one was taken.
    pub(super) checkpoint: Option<u64>,
    pub(super) durable: bool,
    /// The batch with the mark, once there is one.
    pub(super) mark: Option<u64>,
}

impl Restoring {
    /// After a start: the checkpoint is on disk, the log is as it was.
    pub(super) fn of_checkpoint(at: (u64, u64), last: u64) -> Restoring {
        Restoring { drain: 0, at, last, checkpoint: None, durable: true, mark: None }
    }

    /// This copy's own state, which goes on alone at an index behind all that is in its log.
    pub(super) fn of_survivor(at: (u64, u64), durable: bool) -> Restoring {
        Restoring { durable, ..Restoring::of_checkpoint(at, at.0.saturating_sub(1)) }
    }
}

impl Instance {
    /// Begins, carries on and gives up copies to others; for the leader.
    pub(crate) fn tick_copies(&mut self, cx: &mut Cx<'_>) {
        let (now, first) = (cx.now.mono, self.consensus.first_kept());
        if self.copy_in.as_ref().is_some_and(|copy| now >= copy.progress.saturating_add(STALL)) {
            self.copy_in = None;
        }
        // Also before all of its log is applied: it may be that nothing more is committed before another has a copy.
        if !self.consensus.is_elected() || self.is_stopped() {
            self.drop_copies(|_, _, _| true);
            return;
        }
        self.drop_copies(|_, _, copy| now >= copy.progress.saturating_add(STALL) || copy.at.0 + 1 < first);
        for replica in self.consensus.out_of_reach() {
            if self.copies.len() < AT_ONCE && !self.copies.contains_key(&replica) {
                self.begin_copy(cx, replica);
            }
        }
        // Those that the log reaches again are done.
        self.drop_copies(|consensus, replica, copy| consensus.has(replica, copy.at.0));
        self.consensus.keep_from(self.copies.values().map(|copy| copy.at.0).min());
    }

    /// Gives up copies to others, and what they are read from.
    pub(super) fn drop_copies(&mut self, which: impl Fn(&Consensus, ReplicaId, &CopyOut) -> bool) {
        self.copies.retain(|replica, copy| !which(&self.consensus, *replica, copy));
        let (copies, whole) = (&self.copies, self.view_of_whole());
        self.state.keep_views(|number| whole == Some(number) || copies.values().any(|copy| copy.number == number));
    }

    /// A replica that knows nothing yet asks for a copy.
    pub(super) fn offer_copy(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        if self.copies.len() < AT_ONCE && !self.copies.contains_key(&to) && self.restoring.is_none() {
            self.begin_copy(cx, to);
            self.consensus.keep_from(self.copies.values().map(|copy| copy.at.0).min());
        }
    }

    /// While a seed is under way its shadow is in no copy: the state, which stands still meanwhile, is given as of before the seed, and the
    /// log, which is kept from there on, builds the shadow anew.
    fn begin_copy(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        self.copy_number = self.copy_number.max(cx.now.wall).saturating_add(1);
        let witness = members::is_witness(to);
        let before_seed = self.shadow.as_ref().filter(|_| !witness).map(|shadow| shadow.index);
        let at = before_seed.map_or(Some(self.applied), |index| self.consensus.place_before(index));
        let Some(at) = at else { return };
        let mut meta = if witness { self.bare_meta() } else { self.meta(cx.cfg) };
        (meta.applied, meta.applied_term) = at;
        let (number, meta) = (self.copy_number, codec::encode_meta(&meta).into());
        cx.tell_of_copy(self.group, (self.consensus.replica(), to), CopyBody::Begin { copy: number, meta });
        let copy = CopyOut { number, at, witness, sent: 0, arrived: 0, all: false, progress: cx.now.mono };
        if !witness {
            self.state.open_view(number);
        }
        self.copies.insert(to, copy);
        self.send_parts(cx, to);
    }

    /// Sends the next parts of a copy, and its end.
    fn send_parts(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        let limits = &cx.cfg.limits;
        let (most, window) = (u64::try_from(limits.seed_chunk).unwrap_or(u64::MAX) / PARTS, limits.seed_window);
        let (group, ends) = (self.group, (self.consensus.replica(), to));
        let term = self.consensus.term();
        let Some(copy) = self.copies.get_mut(&to) else { return };
        while !copy.all && copy.sent - copy.arrived < window {
            let next =
                if copy.witness { Some((Vec::new(), false)) } else { self.state.next_of_view(copy.number, most) };
            let Some((records, more)) = next else {
                // Another state has taken the place of the one that was read.
                self.drop_copies(|_, replica, _| replica == to);
                return;
            };
            let (copy_number, part) = (copy.number, copy.sent);
            copy.sent += 1;
            let last = (!more).then_some(term);
            copy.all = last.is_some();
            cx.tell_of_copy(group, ends, CopyBody::Part { copy: copy_number, part, records, last });
        }
    }

    /// Another replica of the group says something of a copy.
    pub(crate) fn on_copy(&mut self, cx: &mut Cx<'_>, from: ReplicaId, body: CopyBody) {
        match body {
            CopyBody::Begin { copy, meta } => {
                let takes = self.restoring.is_none() && self.follows() && !self.is_stopped();
                if !takes || members::is_witness(from) {
                    return;
                }
                let Ok(meta) = codec::decode_meta(&meta) else { return };
                if meta.applied <= self.applied.0 {
                    // The leader believes this replica to be where its log no longer reaches: it is told what is here, or it offers for ever.
                    let members = meta.members.unwrap_or_else(|| self.consensus.members().clone());
                    let _ = self.consensus.restore((from, meta.hard.term), (meta.applied, meta.applied_term), &members);
                } else if lineage::sound(&meta.lineage) {
                    let progress = cx.now.mono;
                    let state = State::bare(&meta);
                    self.copy_in = Some(CopyIn { from, number: copy, meta, state, parts: 0, bytes: 0, progress });
                }
            }
            CopyBody::Part { copy, part, records, last } => {
                let Some(coming) = &mut self.copy_in else { return };
                if (coming.from, coming.number, coming.parts) != (from, copy, part) {
                    return;
                }
                if members::is_witness(self.consensus.replica()) && !records.is_empty() {
                    self.copy_in = None;
                    return;
                }
                coming.bytes += records.iter().map(|(key, record)| state::size(key, record)).sum::<u64>();
                if coming.bytes > MOST_BYTES {
                    self.copy_in = None;
                    return;
                }
                for (key, record) in records {
                    coming.state.put(&key, record);
                }
                coming.progress = cx.now.mono;
                coming.parts += 1;
                let parts = coming.parts;
                cx.tell_of_copy(self.group, (self.consensus.replica(), from), CopyBody::Have { copy, parts });
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
        let Some(CopyIn { from, meta, state, .. }) = self.copy_in.take() else { return };
        let at = (meta.applied, meta.applied_term);
        if !state.is_of(&meta) {
            return;
        }
        let last = self.consensus.last();
        // An older build's copy is of a group that was never changed.
        let members = meta.members.clone().unwrap_or_else(|| self.consensus.members().clone());
        if !self.consensus.restore((from, term), at, &members) {
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
        let durable = planted!(cx.cfg, CopyNotDurable);
        self.restoring = Some(Restoring { durable, ..Restoring::of_checkpoint(at, last) });
        cx.out.push_back(HostOutput::Swapped { group: self.group });
        self.tell_role(cx);
    }

    /// A checkpoint is on disk.
    pub(super) fn restored(&mut self, written: u64) {
        if let Some(restoring) = &mut self.restoring {
            restoring.durable |= restoring.checkpoint.is_some_and(|id| id <= written);
        }
    }

    /// Brings a copy that was taken over to its end: mark, purge, and this replica takes part again.
    pub(super) fn advance_restoring(&mut self, cx: &mut Cx<'_>) {
        let Some(restoring) = self.restoring.filter(|restoring| restoring.durable) else { return };
        let (index, term) = restoring.at;
        if restoring.last >= index && restoring.mark.is_none() {
            if self.marks.is_empty() {
                self.marks.push(checkpoint::mark(self.group, (index, term)));
            }
            return;
        }
        if restoring.mark.is_some_and(|batch| batch > self.synced) {
            return;
        }
        self.restoring = None;
        self.purged = self.purged.max(index);
        self.durable = self.durable.max(index);
        // The checkpoint's word that the log is void is taken back by the next.
        self.changed = true;
        cx.out.push_back(HostOutput::Purge { group: self.group, through: index });
        if restoring.drain > 0 {
            self.consensus.persisted(restoring.drain);
        }
        self.consensus.applied(index);
        self.synced(self.synced);
        if self.consensus.is_alone() {
            self.survived(cx);
        }
    }
}

impl Cx<'_> {
    fn tell_of_copy(&mut self, group: GroupId, (from, to): (ReplicaId, ReplicaId), body: CopyBody) {
        if let Some(link) = self.peers.get(&replicas::server(to)).copied() {
            let frame = Frame::Copy { group, from, to, body };
            self.out.push_back(HostOutput::Send { link, frame });
        }
    }
}

/// Copies that are sent, by receiver.
pub(super) type Copies = BTreeMap<ReplicaId, CopyOut>;
