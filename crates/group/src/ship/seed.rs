//! Seeding and re-basing, which are one thing: the source sends the ranges that the receiver lacks in key order while it goes
//! on serving, then every entry since it began, then says where it stands.
//!
//! Owns the source's side of a seed. How the receiver makes one exact state of it is in `shadow`.

use super::SeedOut;
use crate::codec::{SeedChunk, SeedOffer};
use crate::config::planted;
use crate::digest;
use crate::frame::Frame;
use crate::instance::{Cx, Instance};
use crate::state;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

impl Instance {
    /// Asks for a seed of the partner's copy; it starts when the host has room for one more.
    pub(super) fn begin_seed(&mut self, cx: &mut Cx<'_>) {
        if self.source.seed.is_none() && self.may_send(cx) {
            self.source.seed_due = true;
            self.source.sent = None;
        }
    }

    /// Starts a seed that is due.
    pub(crate) fn start_seed(&mut self, cx: &mut Cx<'_>) {
        self.source.seed_due = false;
        if !self.may_send(cx) || self.source.seed.is_some() {
            return;
        }
        self.source.seeds = self.source.seeds.saturating_add(1);
        // Distinct between the processes of a source, so that an old chunk never fits a new seed.
        let id = cx.now.wall.wrapping_mul(4096).wrapping_add(self.source.seeds);
        let of = u64::try_from(self.state.len()).unwrap_or(u64::MAX);
        let dedup = if planted!(cx.cfg, DedupNotInSeed) { Default::default() } else { self.state.dedup.clone() };
        let offer = SeedOffer {
            seed: id,
            position: self.state.position,
            chain: self.state.chain,
            time: self.state.time,
            lineage: self.state.lineage.clone(),
            ranges: self.state.digest.ranges(),
            dedup,
            steps: self.state.steps.clone(),
            records: of,
        };
        self.source.seed = Some(SeedOut {
            id,
            start: self.state.position,
            wanted: None,
            cursor: None,
            all_chunks: false,
            sent: 0,
            acked: 0,
            entries_sent: self.state.position.seq,
            entries_acked: self.state.position.seq,
            ended: false,
            records: 0,
            of,
            progress: cx.now.mono,
        });
        cx.send(Frame::SeedOffer { group: self.group, offer: Arc::new(offer) });
    }

    /// The receiver says which ranges it lacks.
    pub(crate) fn on_seed_want(&mut self, cx: &mut Cx<'_>, id: u64, ranges: &[u16]) {
        let Some(seed) = self.source.seed.as_mut().filter(|seed| seed.id == id) else {
            return;
        };
        seed.wanted.get_or_insert_with(|| ranges.iter().copied().collect());
        seed.progress = cx.now.mono;
    }

    /// The receiver has stored chunks and entries of a seed.
    pub(crate) fn on_seed_ack(&mut self, cx: &mut Cx<'_>, id: u64, chunks: u64, seq: u64) {
        let Some(seed) = self.source.seed.as_mut().filter(|seed| seed.id == id) else {
            return;
        };
        if chunks > seed.acked || seq > seed.entries_acked {
            seed.progress = cx.now.mono;
        }
        seed.acked = seed.acked.max(chunks.min(seed.sent));
        seed.entries_acked = seed.entries_acked.max(seq.min(seed.entries_sent));
    }

    /// Sends the next parts of a running seed.
    pub(super) fn pump_seed(&mut self, cx: &mut Cx<'_>) {
        if !self.may_send(cx) {
            self.source.seed = None;
            return;
        }
        let Some(mut seed) = self.source.seed.take() else {
            return;
        };
        let Some(wanted) = seed.wanted.take() else {
            self.source.seed = Some(seed);
            return;
        };
        if wanted.is_empty() {
            seed.all_chunks = true;
        }
        while !seed.all_chunks && seed.sent.saturating_sub(seed.acked) < cx.cfg.limits.seed_window {
            let records = self.next_chunk(cx, &mut seed, &wanted);
            if !records.is_empty() {
                seed.records = seed.records.saturating_add(u64::try_from(records.len()).unwrap_or(0));
                let chunk = Arc::new(SeedChunk { seed: seed.id, number: seed.sent, records });
                seed.sent += 1;
                cx.send(Frame::SeedChunk { group: self.group, chunk });
            }
        }
        if seed.all_chunks && seed.acked >= seed.sent {
            self.pump_seed_entries(cx, &mut seed);
        }
        seed.wanted = Some(wanted);
        self.source.seed = Some(seed);
    }

    /// Records of wanted ranges after the cursor, about one chunk of them.
    fn next_chunk(
        &self,
        cx: &Cx<'_>,
        seed: &mut SeedOut,
        wanted: &BTreeSet<u16>,
    ) -> Vec<(crate::record::Key, crate::record::Record)> {
        let most = u64::try_from(cx.cfg.limits.seed_chunk).unwrap_or(u64::MAX);
        let from = seed.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut records = Vec::new();
        let mut bytes = 0;
        for (key, record) in self.state.starting_at(from) {
            if u16::try_from(digest::range_of(key)).is_ok_and(|range| !wanted.contains(&range)) {
                continue;
            }
            bytes += state::size(key, record).saturating_add(48);
            records.push((key.clone(), record.clone()));
            if bytes >= most {
                seed.cursor = Some(key.clone());
                return records;
            }
        }
        seed.all_chunks = true;
        records
    }

    /// Entries since the seed began; at the end of them, where the source stands.
    fn pump_seed_entries(&mut self, cx: &mut Cx<'_>, seed: &mut SeedOut) {
        let window = self.source.credit.min(cx.cfg.limits.ship_window);
        let sent = self.retained.bytes_after(seed.entries_sent);
        let outstanding = self.retained.bytes_after(seed.entries_acked).saturating_sub(sent);
        if seed.entries_sent < self.state.position.seq && outstanding < window {
            seed.entries_sent = self.send_entries(cx, seed.entries_sent, window - outstanding);
        }
        if !seed.ended && seed.entries_sent >= self.state.position.seq {
            seed.ended = true;
            cx.send(Frame::SeedEnd {
                group: self.group,
                seed: seed.id,
                position: self.state.position,
                digest: self.state.digest.total(),
            });
        }
    }
}
