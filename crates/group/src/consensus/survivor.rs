//! The only replica that is left of a group.
//!
//! Owns what stands in its log and is not known to be committed, and the replica of a new generation that takes its place. When that may be,
//! and what becomes of the state, is the caller's.

use super::{Consensus, ConsensusError, LogItem, Start, log};
use crate::codec::Hard;
use crate::ids::GroupId;
use raft::GetEntriesContext;

impl Consensus {
    /// The only voter, which was started to wait, campaigns.
    pub(crate) fn begin(&mut self) -> Result<(), ConsensusError> {
        self.node.campaign()?;
        self.set_timeout();
        Ok(())
    }

    /// Term and index of the last item: of two copies the one for which they are higher has everything that was ever committed among both.
    pub(crate) fn last_item(&self) -> (u64, u64) {
        let log = &self.node.raft.raft_log;
        (log.last_term(), log.last_index())
    }

    /// Items after what is applied, in order: whether they were committed is not known here.
    ///
    /// # Errors
    /// If they are not in memory, which they are.
    pub(crate) fn doubtful(&self) -> Result<Vec<LogItem>, ConsensusError> {
        let (from, to) = (self.applied + 1, self.last() + 1);
        let items = self.node.raft.raft_log.slice(from, to, None, GetEntriesContext::empty(false))?;
        Ok(items.iter().map(log::item).collect())
    }

    /// The replica that goes on alone, behind all that stands in this one's log, in a new term and under a number of a new generation. It
    /// waits to be told to begin. `None` if no number is left.
    pub(crate) fn survivor(&self, group: GroupId) -> Result<Option<Consensus>, ConsensusError> {
        let Some((replica, members)) = self.members.survived_by(self.replica) else { return Ok(None) };
        let (index, term) = (self.last() + 1, self.node.raft.term + 1);
        let start = Start {
            seed: self.seed,
            replica,
            members,
            applied: (index, term),
            hard: Hard { term, vote: 0, commit: index },
            items: Vec::new(),
            keep: self.keep,
            now: self.now,
            waits: true,
            faults: self.faults,
        };
        Consensus::start(group, start).map(Some)
    }
}
