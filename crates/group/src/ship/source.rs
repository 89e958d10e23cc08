//! The source's side: entries leave as soon as they are committed, as far as the receiver's credit goes.
//!
//! Owns cursors of sending and what an acknowledgement means. Seeds are in `seed`.

use super::{SEED_STALL, STALL};
use crate::entry::ChainHash;
use crate::frame::{CanaryItem, Frame, GroupHello};
use crate::ids::Position;
use crate::instance::{Cx, Instance};
use crate::io::Role;
use bytes::Bytes;

/// Most entries in one frame.
const MAX_ENTRIES: usize = 1024;

impl Instance {
    /// Whether this copy is the one to ship.
    pub(super) fn may_send(&self, cx: &Cx<'_>) -> bool {
        let newer = self.peer.as_ref().is_some_and(|peer| crate::lineage::head(&peer.lineage) < self.state.epoch());
        cx.link.is_some()
            && self.peer.is_some()
            && !self.is_stopped()
            && !self.source.broken
            && self.fence.is_none()
            && (self.role() == Role::Active || newer || self.source.pulled)
    }

    /// Ships from where the partner stands, by entries if they are kept, else by a seed. Returns `false` if its history is
    /// not a part of this copy's.
    pub(super) fn ship_to(&mut self, cx: &mut Cx<'_>, peer: &GroupHello) -> bool {
        let (here, there) = (self.state.position.seq, peer.position.seq);
        let finished = self.source.seed.as_ref().is_some_and(|seed| there >= seed.start.seq);
        if finished {
            self.source.seed = None;
            self.reseeded();
        } else if self.source.seed.as_ref().is_some_and(|seed| {
            let failed = seed.ended && peer.wants_seed;
            !failed && cx.now.mono < seed.progress.saturating_add(SEED_STALL)
        }) {
            return true;
        }
        if peer.wants_seed && there < here {
            self.begin_seed(cx);
            return true;
        }
        let point = if there == here {
            Some((Some(self.state.position), self.state.chain))
        } else if there == 0 && self.retained.first() == Some(1) {
            Some((None, ChainHash::default()))
        } else {
            self.retained.point(there)
        };
        match point {
            Some((position, chain)) => {
                if chain != peer.chain || position.is_some_and(|position| position != peer.position) {
                    self.break_chain(cx, peer.position, true);
                    return false;
                }
                self.source.sent = Some(there);
                self.source.acked = Some(there);
                self.source.seed_due = false;
                self.source.broken_told = false;
                self.source.progress = cx.now.mono;
                true
            }
            None => {
                self.begin_seed(cx);
                true
            }
        }
    }

    /// Sends what can be sent.
    pub(crate) fn pump(&mut self, cx: &mut Cx<'_>) {
        if self.follows() {
            return;
        }
        if self.source.seed.is_some() {
            self.pump_seed(cx);
            return;
        }
        if !self.may_send(cx) {
            return;
        }
        let (Some(sent), Some(acked)) = (self.source.sent, self.source.acked) else {
            return;
        };
        let window = self.source.credit.min(cx.cfg.limits.ship_window);
        let outstanding = self.retained.bytes_after(acked).saturating_sub(self.retained.bytes_after(sent));
        if sent >= self.state.position.seq || outstanding >= window {
            return;
        }
        let last = self.send_entries(cx, sent, window - outstanding);
        if last == sent {
            self.source.overrun();
            self.begin_seed(cx);
        } else {
            self.source.sent = Some(last);
        }
    }

    /// Sends entries after a sequence, about as many bytes as allowed (at least one entry); returns the last one sent.
    pub(super) fn send_entries(&mut self, cx: &mut Cx<'_>, after: u64, allowed: u64) -> u64 {
        let batch = cx.cfg.limits.ship_batch;
        let mut last = after;
        let mut left = allowed;
        let mut frame: Vec<Bytes> = Vec::new();
        let mut size = 0_usize;
        let group = self.group;
        for kept in self.retained.from(after.saturating_add(1)) {
            if kept.position.seq != last.saturating_add(1) || left == 0 {
                break;
            }
            let bytes = kept.bytes();
            left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            size += bytes.len();
            frame.push(bytes);
            last = kept.position.seq;
            if size >= batch || frame.len() >= MAX_ENTRIES {
                cx.send(Frame::Entries { group, entries: std::mem::take(&mut frame) });
                size = 0;
            }
        }
        if !frame.is_empty() {
            cx.send(Frame::Entries { group, entries: frame });
        }
        last
    }

    /// The partner has applied and stored everything up to here.
    pub(crate) fn on_ack(&mut self, cx: &mut Cx<'_>, position: Position, chain: ChainHash, credit: u64) {
        self.source.credit = credit;
        let here = self.state.position.seq;
        if position.seq > here || self.source.sent.is_none() {
            return;
        }
        let point = if position.seq == here {
            Some((Some(self.state.position), self.state.chain))
        } else {
            self.retained.point(position.seq)
        };
        match point {
            Some((_, own)) if own == chain => {}
            Some((Some(own), _)) if own == position => {
                self.break_chain(cx, position, true);
                return;
            }
            // Of another epoch, or too old to tell: how the partner stands is decided by its hello.
            Some(_) => return,
            None => {}
        }
        if self.source.acked.is_none_or(|acked| acked < position.seq) {
            self.source.acked = Some(position.seq);
            self.source.progress = cx.now.mono;
        }
        if self.source.sent < Some(position.seq) {
            self.source.sent = Some(position.seq);
        }
        if let Some(peer) = &mut self.peer
            && peer.position.seq < position.seq
        {
            peer.position = position;
            peer.chain = chain;
            // What the partner holds at this position of ours it holds with our lineage.
            peer.lineage = self.state.lineage.iter().filter(|item| covered(item, position)).copied().collect();
        }
    }

    /// Sends again what was lost on the way, and begins a stalled seed anew.
    pub(crate) fn tick_source(&mut self, cx: &mut Cx<'_>) {
        if cx.link.is_none() || self.follows() {
            return;
        }
        if self.source.seed.as_ref().is_some_and(|seed| cx.now.mono >= seed.progress.saturating_add(SEED_STALL)) {
            self.source.seed = None;
            self.begin_seed(cx);
            return;
        }
        let stalled = cx.now.mono >= self.source.progress.saturating_add(STALL);
        if stalled && self.source.sent > self.source.acked {
            self.source.sent = self.source.acked;
            self.source.progress = cx.now.mono;
        }
    }

    /// This group's part of a canary, if this copy is the source.
    pub(crate) fn canary(&self, cx: &Cx<'_>) -> Option<CanaryItem> {
        if self.fence.is_some() || self.is_stopped() || self.role() != Role::Active || !self.confirmed {
            return None;
        }
        // One that another may have followed does not know how far the group is.
        if !self.leads_now(cx.now) {
            return None;
        }
        let acked = self.source.acked.unwrap_or(0);
        Some(CanaryItem {
            group: self.group,
            position: self.state.position,
            chain: self.state.chain,
            digest: self.state.digest.total(),
            time: self.time(cx.now),
            behind_bytes: self.retained.bytes_after(acked),
        })
    }
}

/// Whether a copy at this position has this epoch in its lineage: a handover's epoch comes with the entry before its first
/// one, a promotion's with its own.
fn covered(item: &crate::lineage::LineageItem, position: Position) -> bool {
    let handed = item.epoch.granted_by != item.pool;
    item.first <= position.seq || (handed && item.first == position.seq.saturating_add(1))
}
