//! The checkpoint of a copy whose records were all replaced, taken in pieces.
//!
//! Owns the state as it stood when the first piece was taken, and what has been taken of it: in one piece it takes as long as there are
//! records, in which nobody is served. On disk it comes as one checkpoint, when the last piece is there. Does not own what a checkpoint says
//! beside its records (`checkpoint`).

use super::Instance;
use crate::codec;
use crate::config::HostConfig;
use crate::io::CheckpointDelta;

/// The view that it is read from: copies for others have numbers from 1 on.
const VIEW: u64 = 0;
/// Chunks of a seed that make a piece.
const CHUNKS: u64 = 4;

/// What a copy has for a checkpoint.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nothing has changed.
    Nothing,
    /// What has changed.
    Delta(CheckpointDelta),
    /// A piece of the whole: there is more, which is to be taken next.
    Piece,
}

/// A checkpoint of the whole, as far as it has been taken.
#[derive(Debug)]
pub(super) struct Whole {
    delta: CheckpointDelta,
    /// The log index that it covers.
    covers: u64,
}

impl Instance {
    /// Whether the whole is to be written, or is being taken.
    pub(super) fn wants_whole(&self) -> bool {
        self.cleared || self.whole.is_some()
    }

    /// Takes the next piece; with the last, everything is there.
    pub(super) fn take_whole(&mut self, cfg: &HostConfig, id: u64) -> Taken {
        // What was begun before the records were replaced is of those.
        let begun = self.whole.take().filter(|_| !self.cleared);
        let mut whole = begun.unwrap_or_else(|| self.begin_whole(cfg));
        let most = u64::try_from(cfg.limits.seed_chunk).unwrap_or(u64::MAX).saturating_mul(CHUNKS);
        let Some((records, more)) = self.state.next_of_view(VIEW, most) else {
            // Not of this state: from the beginning.
            self.cleared = true;
            return Taken::Piece;
        };
        whole.delta.puts.extend(records);
        if more {
            self.whole = Some(whole);
            return Taken::Piece;
        }
        self.drop_copies(|_, _, _| false);
        self.pending_checkpoints.push_back((id, whole.covers));
        if let Some(restoring) = &mut self.restoring {
            restoring.checkpoint.get_or_insert(id);
        }
        Taken::Delta(whole.delta)
    }

    fn begin_whole(&mut self, cfg: &HostConfig) -> Whole {
        self.cleared = false;
        self.changed = false;
        self.touched.clear();
        self.state.open_view(VIEW);
        let meta = codec::encode_meta(&self.meta(cfg)).into();
        let puts = Vec::with_capacity(self.state.len());
        let delta = CheckpointDelta { group: self.group, meta, clear: true, puts, deletes: Vec::new() };
        Whole { delta, covers: self.covered(cfg) }
    }

    /// What was taken so far does not say what a checkpoint has to say from now on: it is begun anew.
    pub(super) fn forget_whole(&mut self) {
        self.cleared |= self.whole.take().is_some();
    }

    /// The view that the whole is read from, if it is being taken.
    pub(super) fn view_of_whole(&self) -> Option<u64> {
        self.whole.as_ref().map(|_| VIEW)
    }
}
