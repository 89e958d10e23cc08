//! The replicas of one group within its pool, as one of them sees the others.
//!
//! Owns their numbers, what is said between them, and what follows from a change of leader: what was proposed and is not committed has an
//! unknown outcome, and whoever leads now writes at the end of what is committed. Consensus itself is `consensus`'s.

use super::{Cx, Instance};
use crate::codec::Item;
use crate::config::{HostConfig, planted};
use crate::consensus::{Faults, Impossible, ReplicaId, ReplicaMessage};
use crate::ids::{GroupId, ServerId};
use crate::io::{Done, Refusal};
use crate::placement;

/// The number of a server's replica with the disk that has this incarnation.
fn number(server: ServerId, incarnation: u64) -> ReplicaId {
    (u64::from(server.0) << 16 | (incarnation & 0xffff)).max(1)
}

/// The number of this server's replicas.
pub(crate) fn own(cfg: &HostConfig) -> ReplicaId {
    number(cfg.server, cfg.incarnation)
}

/// The server of a replica.
pub(crate) fn server(replica: ReplicaId) -> ServerId {
    ServerId(u32::try_from(replica >> 16).unwrap_or(u32::MAX))
}

/// The replicas that a group begins with: one on each server that it is placed on, with its first disk.
pub(crate) fn voters(cfg: &HostConfig, group: GroupId) -> Vec<ReplicaId> {
    let number = |server| if server == cfg.server { own(cfg) } else { number(server, 1) };
    placement::of(group, &cfg.servers).into_iter().map(number).collect()
}

/// The faults that a test planted.
pub(super) fn faults(cfg: &HostConfig) -> Faults {
    Faults {
        vote_not_stored: planted!(cfg, VoteNotStored),
        follower_speaks_early: planted!(cfg, FollowerSpeaksEarly),
        leads_before_applied: planted!(cfg, LeadsBeforeApplied),
    }
}

/// Whether this server has a copy of a group.
pub(crate) fn has(cfg: &HostConfig, group: GroupId) -> bool {
    placement::of(group, &cfg.servers).contains(&cfg.server)
}

impl Instance {
    /// Whether another replica leads, or none does yet.
    pub(crate) fn follows(&self) -> bool {
        !self.consensus.is_alone() && !self.consensus.leads()
    }

    /// Opens a group that nobody else can have: at once, or as soon as some replica leads.
    pub(crate) fn open_first(&mut self, cx: &mut Cx<'_>) {
        self.opening = !self.consensus.is_alone();
        if !self.opening {
            self.open(cx);
        }
    }

    /// The server that leads, as far as this copy knows.
    pub(crate) fn leader(&self) -> Option<ServerId> {
        self.consensus.leader().map(server)
    }

    /// About 100 ms have passed.
    pub(crate) fn tick_consensus(&mut self) {
        if self.takes_part() {
            self.consensus.tick();
        }
    }

    /// Another replica says something.
    pub(crate) fn hear(&mut self, cx: &mut Cx<'_>, message: ReplicaMessage) {
        if !self.takes_part() {
            return;
        }
        match self.consensus.hear(message) {
            Ok(()) => {}
            Err(why @ (Impossible::Lost | Impossible::Forked)) => self.stop(cx, &why.to_string()),
            // Of no consequence, whoever sent it: it is as if it had been lost.
            Err(Impossible::Misdirected | Impossible::Contradiction | Impossible::Ahead) => {}
        }
    }

    /// A stopped copy among several says nothing more, so that the others go on without it; nor does one whose state is not on disk.
    fn takes_part(&self) -> bool {
        self.consensus.is_alone() || !(self.is_stopped() || self.restoring.is_some())
    }

    /// Sends what is to be said to the others.
    pub(crate) fn speak(&mut self, cx: &mut Cx<'_>) {
        for message in self.consensus.take_messages() {
            cx.tell(self.group, message);
        }
    }

    /// Draws the conclusions from a change of leader; whether something was written.
    pub(crate) fn note_leader(&mut self, cx: &mut Cx<'_>) -> bool {
        let leads = self.consensus.leads_in();
        if leads == self.led || self.consensus.is_alone() {
            self.led = leads;
            return false;
        }
        if self.led.is_some() {
            self.stepped_down(cx);
        }
        self.led = leads;
        if leads.is_some() {
            self.rehead();
            self.unlinked();
            if self.shadow.is_some() {
                // What its leader knew of the seed is gone with it.
                self.append(Item::SeedAbort, Vec::new());
            }
            if self.opening {
                self.open(cx);
            }
        }
        self.tell_role(cx);
        leads.is_some()
    }

    /// Another replica leads, or will: what was proposed here may yet be committed, or never.
    fn stepped_down(&mut self, cx: &mut Cx<'_>) {
        self.drop_overlay();
        if planted!(cx.cfg, FlightsOutliveLeader) {
            return;
        }
        let gathered = self.gathered.take().map(|gathered| gathered.waiters).unwrap_or_default();
        let flights = self.flight.drain(..).flat_map(|flight| flight.waiters);
        let mut tickets: Vec<_> = gathered.into_iter().chain(flights).map(|(ticket, _)| ticket).collect();
        tickets.extend(self.procedure.take().into_iter().flat_map(|procedure| procedure.tickets));
        self.flight_bytes = 0;
        self.appended = false;
        self.copies.clear();
        self.rehead();
        for ticket in tickets {
            cx.done(ticket, self.group, Done::Refused(Refusal::OutcomeUnknown));
        }
    }
}
