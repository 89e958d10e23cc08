//! Whether what a heartbeat says to be committed is what is here.
//!
//! Owns that question. A heartbeat names no items, only how far the leader knows this replica's log to be like its own; the library believes
//! it, since no replica loses what it has said to be synced. A disk that was put back to an older state has lost it: where its log is as long
//! as before, an item that another took the place of would be taken for committed.

use super::check::Impossible;
use super::message::{ReplicaBody, ReplicaMessage};
use super::{Consensus, lease};

impl Consensus {
    /// Compares the terms of the item up to which all is said to be committed: two logs that have one item of one index and term are alike up
    /// to there (Ongaro's thesis, 3.5). Where the leader's log does not go back so far, nothing is committed by its word alone.
    ///
    /// # Errors
    /// [`Impossible::Lost`]: there is another item here.
    pub(super) fn prove(&self, message: &mut ReplicaMessage) -> Result<(), Impossible> {
        let log = &self.node.raft.raft_log;
        let of_now = message.term >= self.node.raft.term;
        let ReplicaBody::Heartbeat { commit, context } = &mut message.body else { return Ok(()) };
        // A leader of a build before does not say the term.
        let Some(theirs) = lease::said(context).term.filter(|_| of_now) else { return Ok(()) };
        // 0: not in the log any more, there or here. What is not here any more is committed.
        let ours = log.term(*commit).unwrap_or_default();
        if theirs == 0 {
            *commit = log.committed.min(*commit);
        } else if ours != 0 && ours != theirs {
            return Err(Impossible::Lost);
        }
        Ok(())
    }
}
