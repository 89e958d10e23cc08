//! When a replica asks for votes.
//!
//! Owns the timeouts, which no two replicas share in a term, and the campaigns that do not wait for one because the leader's server is gone. Who is
//! voted for is the library's, and what forbids a vote is `super`'s.

use super::{Consensus, ELECTION_TICKS, Hurry, ReplicaId, mix};
use crate::ids::Millis;
use raft::{INVALID_ID, StateRole};

/// Time between the replicas that campaign because the link to their leader went down.
const APART: Millis = 100;
/// Time after which such a replica tries again, and how often. It might be one that cannot win and only keeps the others from it.
const AGAIN: Millis = 200;
const TRIES: u32 = 2;
/// What a replica waits beyond its promise, so that the others' have run out too.
const MARGIN: Millis = 20;

impl Consensus {
    /// The library draws its timeout from a generator of the thread; ours comes from (seed, group, replica, term), and no two replicas have
    /// the same one in a term.
    pub(super) fn set_timeout(&mut self) {
        let turn = mix(self.seed ^ mix(self.node.raft.term));
        let place = self.place(turn, |_| true);
        let yields = if self.yields { 2 * ELECTION_TICKS } else { 0 };
        let own = if self.never_leads() { usize::MAX - 1 } else { ELECTION_TICKS + 1 + place + yields };
        self.node.raft.set_randomized_election_timeout(own);
    }

    /// This replica's place among some of the voters, in an order that the turn decides.
    fn place(&self, turn: u64, counts: impl Fn(ReplicaId) -> bool) -> usize {
        let voters: Vec<ReplicaId> = self.voters.iter().copied().filter(|voter| counts(*voter)).collect();
        let own = voters.iter().position(|voter| *voter == self.replica).unwrap_or(0);
        let turn = usize::try_from(turn % 1024).unwrap_or(0);
        (own + turn) % voters.len().max(1)
    }

    /// Whether this replica is to leave it to others to lead: it waits longer before it campaigns.
    pub(crate) fn yields(&mut self, on: bool) {
        self.yields = on;
    }

    /// The link to the leader's server is down. It is waited for no longer than was promised to it.
    pub(crate) fn lost_leader(&mut self) {
        let raft = &mut self.node.raft;
        let lost = std::mem::replace(&mut raft.leader_id, INVALID_ID);
        let turn = mix(self.seed ^ mix(self.node.raft.term));
        let place = Millis::try_from(self.place(turn, |voter| voter != lost)).unwrap_or(0);
        if self.yields || !self.node.raft.promotable() || self.never_leads() {
            return;
        }
        let due = self.now.max(self.promised).saturating_add(MARGIN + place * APART);
        self.hurry = Some(Hurry { due, term: self.node.raft.term, tries: TRIES });
    }

    /// Campaigns if the leader was lost and it is time. To be called often: a tick is long.
    pub(crate) fn hurry(&mut self, now: Millis) {
        self.now = now;
        let Some(hurry) = self.hurry.filter(|hurry| now >= hurry.due) else { return };
        let raft = &self.node.raft;
        // One that asks for votes already is not to begin anew: its disk may be slow.
        let waits = matches!(raft.state, StateRole::Follower | StateRole::PreCandidate) && raft.term == hurry.term;
        let lost = waits && raft.leader_id == INVALID_ID;
        let next = Hurry { due: now.saturating_add(AGAIN), tries: hurry.tries.saturating_sub(1), ..hurry };
        self.hurry = Some(next).filter(|next| lost && next.tries > 0);
        // It may have been taken from the voters since. The library would ask for votes all the same, be elected, and end the process.
        if lost && raft.promotable() {
            // It refuses while a change of the voters is to be applied.
            let _ = self.node.campaign();
            self.set_timeout();
        }
    }
}
