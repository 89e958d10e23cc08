//! Replication frames between the hosts of paired pools and of one pool, and their bytes: a version byte, then postcard.
//!
//! Owns shape and bounds. Does not own what follows from a frame (`ship`), nor links.

use crate::codec::{self, DecodeError, SeedChunk, SeedOffer};
use crate::consensus::{ReplicaId, ReplicaMessage};
use crate::digest::RANGES;
use crate::entry::ChainHash;
use crate::ids::{GroupId, Millis, PoolId, Position, ServerId};
use crate::lineage::{self, LineageItem};
use crate::record::{Key, Record};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Largest frame in bytes.
pub const MAX_FRAME: usize = 16 << 20;
/// Most groups in one frame: two pools of 4096 and the management store.
const MAX_GROUPS: usize = 8193;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not understood.
    #[error("frame: {0}")]
    Decode(#[from] DecodeError),
    /// More bytes than a frame may have.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
}

/// How one copy of a group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHello {
    /// Which group.
    pub group: GroupId,
    /// Its lineage.
    pub lineage: Vec<LineageItem>,
    /// Its applied position.
    pub position: Position,
    /// Chain hash there.
    pub chain: ChainHash,
    /// State digest there.
    pub digest: [u8; 32],
    /// Oldest sequence that it could ship; 0 if none.
    pub retained_from: u64,
    /// Whether it wants to be seeded.
    pub wants_seed: bool,
    /// Bytes of entries that it is ready to have outstanding.
    pub credit: u64,
}

/// How all copies of a server stand; sent at the start of a link and whenever a copy's standing changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's pool.
    pub pool: PoolId,
    /// The sender.
    pub server: ServerId,
    /// The sender's disk.
    pub incarnation: u64,
    /// Rises with each hello on a link, so that an older one is known as such.
    pub number: u64,
    /// Whether all groups are in it (the first hello of a link).
    pub whole: bool,
    /// Asks for a whole hello in return.
    pub ask: bool,
    /// The copies.
    pub groups: Vec<GroupHello>,
}

/// One group in a canary: everything up to this position is committed and will be, or was, sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryItem {
    /// Which group.
    pub group: GroupId,
    /// The source's position.
    pub position: Position,
    /// Chain hash there.
    pub chain: ChainHash,
    /// State digest there.
    pub digest: [u8; 32],
    /// Group time at the source now.
    pub time: Millis,
    /// Bytes that the source has yet to see acknowledged.
    pub behind_bytes: u64,
}

/// What hosts of paired pools, and of one pool, say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// How the sender's copies stand.
    Hello(Hello),
    /// Consecutive entries as they are stored.
    Entries {
        /// Which group.
        group: GroupId,
        /// Encoded entries, oldest first.
        entries: Vec<Bytes>,
    },
    /// Entries up to here are applied and durable at the receiver.
    Ack {
        /// Which group.
        group: GroupId,
        /// The receiver's position.
        position: Position,
        /// Chain hash there.
        chain: ChainHash,
        /// Bytes of entries that it is ready to have outstanding.
        credit: u64,
    },
    /// An unconfirmed active asks its backup, which is ahead, for what its disk has lost.
    Pull {
        /// Which group.
        group: GroupId,
        /// What it has.
        position: Position,
        /// Chain hash there.
        chain: ChainHash,
    },
    /// The sender has another entry at a shared position of one epoch.
    Broken {
        /// Which group.
        group: GroupId,
        /// Where.
        at: Position,
    },
    /// A seed begins.
    SeedOffer {
        /// Which group.
        group: GroupId,
        /// Its head.
        offer: Arc<SeedOffer>,
    },
    /// The ranges that the receiver does not have.
    SeedWant {
        /// Which group.
        group: GroupId,
        /// Which seed.
        seed: u64,
        /// Indices of ranges, of 256.
        ranges: Vec<u16>,
    },
    /// A part of a seed.
    SeedChunk {
        /// Which group.
        group: GroupId,
        /// The part.
        chunk: Arc<SeedChunk>,
    },
    /// That many chunks of a seed are durable at the receiver.
    SeedAck {
        /// Which group.
        group: GroupId,
        /// Which seed.
        seed: u64,
        /// How many.
        chunks: u64,
        /// Sequence that the shadow copy has reached by entries.
        seq: u64,
    },
    /// Everything of a seed, and every entry up to the position, was sent.
    SeedEnd {
        /// Which group.
        group: GroupId,
        /// Which seed.
        seed: u64,
        /// Where the source stands.
        position: Position,
        /// Its digest there.
        digest: [u8; 32],
    },
    /// Asks for a canary.
    Ping {
        /// The asker's monotonic clock; echoed.
        stamp: Millis,
    },
    /// Answers a ping.
    Canary {
        /// The ping's stamp.
        echo: Millis,
        /// The sender's wall clock.
        wall: Millis,
        /// Groups of which the sender is the source.
        groups: Vec<CanaryItem>,
    },
    /// Compare with this.
    Verify {
        /// Which group.
        group: GroupId,
        /// Where the sender stands.
        position: Position,
        /// Its digest there.
        digest: [u8; 32],
        /// Its digest of each range there.
        ranges: Vec<[u8; 32]>,
    },
    /// Asks the source for a [`Frame::Verify`].
    VerifyAsk {
        /// Which group.
        group: GroupId,
    },
    /// Outcome of a comparison.
    VerifyResult {
        /// Which group.
        group: GroupId,
        /// Where both stood.
        position: Position,
        /// Whether the digests are equal.
        equal: bool,
        /// Ranges that differ.
        ranges: Vec<u16>,
    },
    /// Goes before the hello of a copy that has taken entries which it has not applied yet: its disk is slow or full. They will be
    /// applied, so an active that lost them must have them back before it writes others in their place.
    Underway {
        /// Which group.
        group: GroupId,
        /// The last of them.
        position: Position,
    },
    /// One copy's replica to another's, within a pool.
    Replica {
        /// Which group.
        group: GroupId,
        /// What it says.
        message: Box<ReplicaMessage>,
    },
    /// Of a copy of the whole state, from one replica to another within a pool.
    Copy {
        /// Which group.
        group: GroupId,
        /// Who says it.
        from: ReplicaId,
        /// To whom.
        to: ReplicaId,
        /// What.
        body: CopyBody,
    },
    /// The groups that a server leads in its pool, whoever serves them. It goes with each canary to the partner, so that this one knows to
    /// whom it has to speak; and to the other servers of the pool, for those that have no copy.
    Leads {
        /// Which groups.
        groups: Vec<GroupId>,
    },
    /// Of an orderly change of leader, from one replica to another within a pool.
    Lead {
        /// Which group.
        group: GroupId,
        /// Who says it.
        from: ReplicaId,
        /// To whom.
        to: ReplicaId,
        /// What.
        body: LeadBody,
    },
    /// Who is a replica of a group; between servers of a pool.
    Member {
        /// Which group.
        group: GroupId,
        /// What.
        body: MemberBody,
    },
    /// A copy of the group went on alone, by an administrator's order: none of those of before belongs to it any more. Between servers of a
    /// pool.
    Survived {
        /// Which group.
        group: GroupId,
        /// A replica of it, of the present generation.
        replica: ReplicaId,
        /// The group's lineage there: where it parts from another's, there may be more that it does not have.
        lineage: Vec<LineageItem>,
    },
}

/// What is said before an orderly change of leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeadBody {
    /// The leader asks whether the other would lead.
    Ask,
    /// It would.
    Yes,
    /// It would not.
    No,
}

/// What is said of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyBody {
    /// It begins.
    Begin {
        /// Its number at the sender, rising.
        copy: u64,
        /// The sender's state but its records, as in a checkpoint.
        meta: Bytes,
    },
    /// A part of it.
    Part {
        /// Which copy.
        copy: u64,
        /// From 0, without gaps.
        part: u64,
        /// Records, ordered by key over all parts.
        records: Vec<(Key, Record)>,
        /// With the last part: the sender's term.
        last: Option<u64>,
    },
    /// So many parts have arrived.
    Have {
        /// Which copy.
        copy: u64,
        /// How many.
        parts: u64,
    },
}

/// What is said of who is a replica of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberBody {
    /// A server has no copy and should, or does not hear a leader.
    Ask {
        /// Its replica's number; 0 if it has no copy.
        replica: ReplicaId,
        /// Which of its disks this is.
        incarnation: u64,
        /// Whether it needs a copy of the state.
        blank: bool,
    },
    /// That replica was taken from the group.
    Gone {
        /// Its number.
        replica: ReplicaId,
    },
    /// The others remember this disk of that server, or a later one, and it is empty: it has to come in under a number above this.
    Old {
        /// Which.
        incarnation: u64,
    },
    /// There is nothing of that group at that server, and as far as it knows there never was.
    Nothing,
}

impl Frame {
    /// The one group that it is about; none if it is about several, or about none.
    pub(crate) fn group(&self) -> Option<GroupId> {
        match self {
            Frame::Entries { group, .. }
            | Frame::Ack { group, .. }
            | Frame::Pull { group, .. }
            | Frame::Broken { group, .. }
            | Frame::SeedOffer { group, .. }
            | Frame::SeedWant { group, .. }
            | Frame::SeedChunk { group, .. }
            | Frame::SeedAck { group, .. }
            | Frame::SeedEnd { group, .. }
            | Frame::Verify { group, .. }
            | Frame::VerifyAsk { group }
            | Frame::VerifyResult { group, .. }
            | Frame::Underway { group, .. }
            | Frame::Replica { group, .. }
            | Frame::Copy { group, .. }
            | Frame::Lead { group, .. }
            | Frame::Member { group, .. }
            | Frame::Survived { group, .. } => Some(*group),
            Frame::Hello(_) | Frame::Ping { .. } | Frame::Canary { .. } | Frame::Leads { .. } => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        let fine = match self {
            Frame::Hello(hello) => {
                hello.groups.len() <= MAX_GROUPS && hello.groups.iter().all(|group| lineage::sound(&group.lineage))
            }
            Frame::SeedOffer { offer, .. } => return offer.check(),
            Frame::SeedWant { ranges, .. } | Frame::VerifyResult { ranges, .. } => ranges.len() <= RANGES,
            Frame::Verify { ranges, .. } => ranges.len() == RANGES,
            Frame::Canary { groups, .. } => groups.len() <= MAX_GROUPS,
            Frame::Leads { groups } => groups.len() <= MAX_GROUPS,
            Frame::Entries { entries, .. } => entries.iter().all(|entry| entry.len() < codec::MAX_ITEM - 1),
            Frame::SeedChunk { chunk, .. } => chunk.fits(),
            Frame::Copy { body: CopyBody::Part { records, .. }, .. } => codec::fit(records),
            Frame::Survived { lineage, .. } => lineage::sound(lineage),
            Frame::Ack { .. }
            | Frame::Pull { .. }
            | Frame::Broken { .. }
            | Frame::SeedAck { .. }
            | Frame::SeedEnd { .. }
            | Frame::Ping { .. }
            | Frame::VerifyAsk { .. }
            | Frame::Underway { .. }
            | Frame::Replica { .. }
            | Frame::Lead { .. }
            | Frame::Member { .. }
            | Frame::Copy { .. } => true,
        };
        if fine { Ok(()) } else { Err(DecodeError::Bounds("frame")) }
    }
}

/// The bytes of a frame.
pub fn encode(frame: &Frame) -> Bytes {
    Bytes::from(codec::encode(frame))
}

/// The bytes of a frame, in a buffer that has had its use.
pub fn encode_into(frame: &Frame, buffer: Vec<u8>) -> Vec<u8> {
    codec::encode_into(frame, buffer)
}

/// Understands a frame.
///
/// # Errors
/// If it is too large, malformed, of an unknown version or out of bounds.
pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    let frame: Frame = codec::decode(bytes)?;
    frame.check()?;
    Ok(frame)
}
