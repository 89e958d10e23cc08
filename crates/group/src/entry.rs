//! Entries of a group's log: effects, and the few that change who serves.
//!
//! Owns their types. Does not own their encoding on disk or wire (`codec`), nor when they may be appended (`instance`).

use crate::ids::{Epoch, Millis, PoolId, Position};
use crate::record::{Class, Key};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Chain hash: BLAKE3 over the previous chain hash and the entry's encoding. All zero before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainHash(pub [u8; 32]);

/// De-duplication key of a proposed change: the client's session and its counter in that session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId {
    /// Random or hashed 128-bit name of the client session.
    pub session: u128,
    /// Rises within the session.
    pub counter: u64,
}

/// Which step of which procedure an entry belongs to, so that a journal can be rebuilt from the groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepRef {
    /// The procedure's id.
    pub procedure: u128,
    /// Number of the step in its plan.
    pub step: u32,
}

/// One element of a group's log. Equal, byte for byte, on every copy of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// Chain hash of the entry before it.
    pub prev: ChainHash,
    /// Group time in milliseconds: max(previous entry's time, leader's wall clock).
    pub time: Millis,
    /// The operation that it answers, if a client named one.
    pub op: Option<OpId>,
    /// The procedure's step that it belongs to, if any.
    pub step: Option<StepRef>,
    /// What it does.
    pub body: Body,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// First entry of a new group; grants epoch 1 to its home pool.
    Open {
        /// The pool that serves from here.
        pool: PoolId,
    },
    /// Puts and deletes, checked against the versions that the proposer read before they were written down.
    Effects(Vec<Effect>),
    /// Removal of soft records that had expired by this entry's group time.
    Expire(Vec<Key>),
    /// Last entry of an active instance: fences it where it applies there and activates the target where it applies there.
    Handover(Handover),
    /// The only entry that a backup instance may append for itself, in a disaster procedure (or by asserted recovery).
    Promote(Promote),
}

impl Entry {
    /// About how many bytes its effects take.
    pub(crate) fn room(&self) -> usize {
        let part = |key: &Key| key.owner.len() + key.item.len() + 36;
        match &self.body {
            Body::Effects(effects) => effects
                .iter()
                .map(|effect| match effect {
                    Effect::Put { key, value, .. } => part(key) + value.len(),
                    Effect::Delete { key, .. } => part(key),
                })
                .sum(),
            Body::Expire(keys) => keys.iter().map(part).sum(),
            Body::Open { .. } | Body::Handover(_) | Body::Promote(_) => 0,
        }
    }

    /// Whether every key that it names can be stored.
    pub(crate) fn fits(&self) -> bool {
        match &self.body {
            Body::Effects(effects) => effects.iter().all(|effect| effect.key().fits()),
            Body::Expire(keys) => keys.iter().all(Key::fits),
            Body::Open { .. } | Body::Handover(_) | Body::Promote(_) => true,
        }
    }
}

/// One effect of an entry on one record. The new version is the entry's position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Writes a record.
    Put {
        /// Which record.
        key: Key,
        /// The version that the change was based on; `None` where the record was absent.
        based_on: Option<Position>,
        /// Durable, or soft with its expiry.
        class: Class,
        /// The new value.
        value: Bytes,
    },
    /// Removes a record.
    Delete {
        /// Which record.
        key: Key,
        /// The version that was removed.
        based_on: Option<Position>,
    },
}

impl Effect {
    /// The record that it touches.
    pub fn key(&self) -> &Key {
        match self {
            Effect::Put { key, .. } | Effect::Delete { key, .. } => key,
        }
    }
}

/// The planned change of serving pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Who serves next.
    pub to: PoolId,
    /// The epoch that it is granted: number = current + 1.
    pub epoch: Epoch,
    /// State digest of the source before this entry; the target refuses to activate if its own differs.
    pub digest: [u8; 32],
}

/// The disaster change of serving pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promote {
    /// The epoch that it takes: number = highest known + 1, granted by the promoting pool itself.
    pub epoch: Epoch,
    /// The recovery point: the last position that it holds.
    pub recovery_point: Position,
    /// Added to the expiry of every soft record that was alive at the gap's start (at most 10 minutes).
    pub soft_extension: Millis,
    /// Who ordered it, for the audit.
    pub operator: Box<str>,
    /// Opaque plan of the procedure (only in the management store's promotion, where it is the journal's first record).
    pub plan: Bytes,
}
