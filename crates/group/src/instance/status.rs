//! What one copy reports of itself.
//!
//! Owns how state, lag and figures are derived. Reports what is not known as unknown, never as zero.

use super::{Cx, Instance};
use crate::config::planted;
use crate::ids::{Epoch, Millis, PoolId};
use crate::io::{ExportState, GroupStatus, ImportState, Lag, Role};

/// Age of the oldest unacknowledged entry beyond which shipping no longer counts as keeping up.
const STEADY: Millis = 2000;

impl Instance {
    /// This copy as the server sees it now.
    pub(crate) fn status(&self, cx: &Cx<'_>) -> GroupStatus {
        let (serving, epoch) = self.shown_serving().unwrap_or_default();
        let (behind_entries, behind_bytes) = self.behind();
        GroupStatus {
            group: self.group,
            role: self.shown_role(),
            confirmed: self.confirmed,
            serving,
            epoch: epoch.max(self.heard),
            position: self.state.position,
            digest: self.state.digest.total(),
            records: u64::try_from(self.state.len()).unwrap_or(u64::MAX),
            bytes: self.state.bytes,
            export: self.export(cx),
            import: self.import(),
            lag: self.lag(cx),
            behind_entries,
            behind_bytes,
            seed: self.seed_progress(),
            verified: self.verified,
            tail: self.tail,
            stopped: self.stopped.clone(),
            leader: self.leader(cx.now),
        }
    }

    /// The role as others see it: a group at home here that is not opened yet is its pool's to serve, and not confirmed.
    pub(crate) fn shown_role(&self) -> Role {
        if self.unopened { Role::Active } else { self.role() }
    }

    /// Who serves, as others see it.
    pub(crate) fn shown_serving(&self) -> Option<(PoolId, Epoch)> {
        if self.unopened { Some((self.own, Epoch::default())) } else { self.serving() }
    }

    fn export(&self, cx: &Cx<'_>) -> ExportState {
        if cx.partner.is_none() {
            return ExportState::NotInitialised;
        }
        if self.source.broken || self.is_stopped() {
            return ExportState::Error;
        }
        let seeding = self.source.seed.is_some() || self.source.seed_due;
        let Some(acked) = self.source.acked else {
            return if seeding { ExportState::NonSteady } else { ExportState::NotInitialised };
        };
        let all = acked >= self.state.position.seq;
        match self.role() {
            Role::Active if cx.link.is_none() => ExportState::Error,
            // Young as the oldest entry may be: nothing goes out before the partner has been re-based or seeded.
            Role::Active if !self.source.ships() => ExportState::NonSteady,
            Role::Active => match self.lag(cx) {
                Lag::Exactly(lag) | Lag::AtMost(lag) if lag < STEADY => ExportState::Steady,
                _ => ExportState::NonSteady,
            },
            Role::Backup | Role::Fenced if !self.handed_over() => ExportState::NotInitialised,
            Role::Backup | Role::Fenced if all => ExportState::Final,
            Role::Backup | Role::Fenced => ExportState::NonSteady,
        }
    }

    /// Whether this copy was the last one to serve before the one that serves now.
    pub(super) fn handed_over(&self) -> bool {
        let lineage = &self.state.lineage;
        lineage.len() >= 2 && lineage.iter().rev().nth(1).is_some_and(|item| item.pool == self.own)
    }

    fn import(&self) -> ImportState {
        let failed = self.sink.import_error || self.is_stopped() || (self.source.broken && self.role() != Role::Active);
        if failed { ImportState::Error } else { ImportState::Normal }
    }

    fn lag(&self, cx: &Cx<'_>) -> Lag {
        if cx.partner.is_none() {
            return Lag::Unknown;
        }
        if self.source.broken || self.is_stopped() {
            return Lag::Unknown;
        }
        if self.role() != Role::Active {
            let nothing = if planted!(cx.cfg, UnknownLagIsZero) { Lag::AtMost(0) } else { Lag::Unknown };
            return self.sink.lag_base.map_or(nothing, |base| {
                if planted!(cx.cfg, LagFromWallClock) {
                    return Lag::AtMost(cx.now.wall.saturating_sub(self.state.time).min(1));
                }
                Lag::AtMost(cx.now.mono.saturating_sub(base))
            });
        }
        let Some(acked) = self.source.acked else {
            return Lag::Unknown;
        };
        let own = self.consensus.is_alone() || acked >= self.led_from;
        if self.speaks(cx.now) && (own || acked >= self.state.position.seq) {
            return self.shipped(cx, acked);
        }
        // What another leader wrote may be older than it is here, and one that leads now may have written what is not here: but nothing
        // that the partner lacks was there when a leader last had no more than the partner has.
        let before = self.words.before(self.state.epoch(), acked);
        before.map_or(Lag::Unknown, |at| Lag::AtMost(cx.now.mono.saturating_sub(at)))
    }

    /// How far behind the partner is with what this copy has written.
    fn shipped(&self, cx: &Cx<'_>, acked: u64) -> Lag {
        if acked >= self.state.position.seq {
            return Lag::Exactly(0);
        }
        let Some(oldest) = self.retained.get(acked.saturating_add(1)) else {
            return Lag::Unknown;
        };
        if planted!(cx.cfg, LagFromWallClock) {
            return Lag::Exactly(cx.now.wall.saturating_sub(oldest.time));
        }
        oldest.at.map_or(Lag::Unknown, |at| Lag::Exactly(cx.now.mono.saturating_sub(at)))
    }

    fn behind(&self) -> (u64, u64) {
        let here = self.state.position.seq;
        if self.role() == Role::Active {
            let acked = self.source.acked.unwrap_or(0);
            return (here.saturating_sub(acked), self.retained.bytes_after(acked));
        }
        let entries = self.sink.known.map_or(0, |known| known.seq.saturating_sub(here));
        (entries, if entries == 0 { 0 } else { self.sink.known_bytes })
    }

    fn seed_progress(&self) -> Option<(u64, u64)> {
        if let Some(seed) = &self.source.seed {
            return Some((seed.records, seed.of));
        }
        self.shadow.as_ref().map(|shadow| (shadow.received, shadow.of))
    }
}
