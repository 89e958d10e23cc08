//! The contract between the host (all instances of one server) and its shell: inputs in, outputs out.
//!
//! Owns the types of that contract. Decides nothing; [`crate::host::Host`] does.

use crate::entry::{Entry, OpId, StepRef};
use crate::ids::{Epoch, GroupId, LinkId, Millis, PoolId, Position, ServerId, Ticket};
use crate::placement::FrontEnd;
use crate::record::{Class, Key, Record};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Both clocks of the server at one instant. The host never asks for the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the process started: intervals, lag.
    pub mono: Millis,
    /// Wall-clock milliseconds since 1970: group time, labels.
    pub wall: Millis,
}

/// One change that a service wants. Checked against speculative state, then written as one entry, or refused whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// De-duplication key; `None` for changes that are idempotent by themselves.
    pub op: Option<OpId>,
    /// The procedure's step that it belongs to.
    pub step: Option<StepRef>,
    /// If set, refused unless the group's epoch is this one (the service's epoch guard after an await).
    pub epoch: Option<Epoch>,
    /// Versions that the service read: each must still hold (`None` = was absent). Expired soft records count as absent.
    pub reads: Vec<(Key, Option<Position>)>,
    /// What to write; at most one write per key, at most 4096 writes and 4 MiB a proposal.
    pub writes: Vec<Write>,
}

/// One write of a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Puts a record, whatever was there.
    Put {
        /// Which record.
        key: Key,
        /// Durable or soft.
        class: WriteClass,
        /// The value.
        value: Bytes,
    },
    /// Removes a record; no effect is written if it is absent.
    Delete {
        /// Which record.
        key: Key,
    },
}

/// Class of a write; the expiry of a soft record is given as a duration and fixed in group time by the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteClass {
    /// Kept until deleted.
    Durable,
    /// Lives for this many milliseconds of group time.
    Soft {
        /// How long.
        lives: Millis,
    },
}

/// How an accepted request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// The entry is committed (on disk on a majority) and applied.
    Committed(Position),
    /// The same operation id was applied before, at this position; nothing was written now.
    Duplicate(Position),
    /// Nothing to write (every delete was of an absent record).
    NoChange(Position),
    /// Refused, with the reason; nothing was written.
    Refused(Refusal),
}

/// Why the host refuses. Each is an ordinary, tested answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A record that the proposal read has changed; read again and retry.
    #[error("record {0:?} has changed since it was read")]
    Conflict(Key),
    /// The epoch that the caller holds is not the group's.
    #[error("the group is in epoch {0}, served by pool {1:?}")]
    Moved(Epoch, PoolId),
    /// This instance is a backup or fenced: the pool named serves the group in that epoch.
    #[error("not active here: epoch {0} is served by pool {1:?}")]
    NotActive(Epoch, PoolId),
    /// Active by its own log, but not yet confirmed by partner or administrator since the restart.
    #[error("authority not confirmed since the restart")]
    Unconfirmed,
    /// An operation id older than the de-duplication window: it may or may not have been applied.
    #[error("operation is older than the de-duplication window: outcome unknown")]
    OutcomeUnknown,
    /// A handover is on its way: retry at the target.
    #[error("handover to pool {0:?} in progress")]
    HandingOver(PoolId),
    /// Too much is in flight; retry later.
    #[error("too much in flight")]
    Busy,
    /// A limit of the proposal itself is exceeded.
    #[error("proposal too large: {0}")]
    TooLarge(Box<str>),
    /// No such group on this server.
    #[error("no such group here")]
    NoSuchGroup,
    /// The log stopped: an invariant failed or the disk did; the reason says which.
    #[error("group stopped: {0}")]
    Stopped(Box<str>),
    /// The instance cannot do this in its present state; the reason says why.
    #[error("not possible now: {0}")]
    NotNow(Box<str>),
    /// The disk of the serving server is full: nothing can be acknowledged until there is room.
    #[error("the disk of the serving server is full")]
    DiskFull,
    /// Another server of the pool leads the group (which, if it is known): the change belongs there.
    #[error("another server of the pool leads the group")]
    NotLeader(Option<ServerId>),
}

/// What the shell tells the host.
#[derive(Clone, Debug)]
pub enum HostInput {
    /// Time passes. Call at least every 50 ms, and once per batch of inputs after the batch.
    Tick,
    /// A proposal; answered by [`HostOutput::Done`] with the same ticket.
    Propose {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Where to.
        group: GroupId,
        /// What.
        proposal: Proposal,
    },
    /// Everything up to this log batch is on disk (cumulative).
    Synced {
        /// Number of the [`LogBatch`].
        batch: u64,
    },
    /// A mutually authenticated connection to a server of a pool is up; the host says hello on it.
    LinkUp {
        /// The connection.
        link: LinkId,
        /// The pool at its other end, as its certificate says.
        peer: PoolId,
        /// The server there.
        server: ServerId,
    },
    /// The connection is gone.
    LinkDown {
        /// The connection.
        link: LinkId,
    },
    /// A replication frame arrived (already authenticated; content is still not trusted to be well-formed).
    Frame {
        /// On which connection.
        link: LinkId,
        /// What.
        frame: crate::frame::Frame,
    },
    /// Sets the pool's pairing: creates backup instances of the partner's groups, and drops those of a pool that is not the
    /// partner any more. A change back to the same value is no change.
    Pair {
        /// The partner and how many routing groups it has; with none of them, the pool with which only the management store
        /// is exchanged (not paired, but followed).
        partner: Option<(PoolId, u16)>,
        /// Whether this pool holds the management store's backup or active instance (paired pools hold it both).
        with_cms: bool,
    },
    /// Append `Handover` to an active group (planned failover, failback). Idempotent per step.
    Handover {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// Who serves next.
        to: PoolId,
        /// The procedure's step.
        step: StepRef,
    },
    /// Append `Promote` to a backup group (disaster failover, reclaim, recovery). Idempotent per step.
    Promote {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// The procedure's step.
        step: StepRef,
        /// Who ordered it.
        operator: Box<str>,
        /// Plan of the procedure, for the management store's promotion; else empty.
        plan: Bytes,
    },
    /// Stop serving a group by order of the partner's procedure, which is about to promote its copy. Answered when the fence
    /// is committed.
    Fence {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// The highest epoch that the order knows; one who serves in a later one goes on.
        epoch: Epoch,
        /// Who will serve next.
        by: PoolId,
    },
    /// An administrator asserts that this pool's active instances hold the current epochs (after a cold start alone).
    AssertActive,
    /// Compare with the partner at one position; answered by [`HostOutput::Verified`] per group.
    Verify {
        /// Which group.
        group: GroupId,
    },
    /// Take a checkpoint of the groups that are next, with as many changes as [`crate::Limits::checkpoint_records`] says, about:
    /// answered by [`HostOutput::Checkpoint`].
    Checkpoint {
        /// Echoed in the answer.
        id: u64,
    },
    /// That checkpoint is durable; the log before it may go.
    CheckpointDone {
        /// Which checkpoint.
        id: u64,
    },
    /// The divergent tail of a group is on disk: re-basing may go on.
    TailStored {
        /// Which group.
        group: GroupId,
    },
    /// So many entries of the stored tails of a group wait for a decision, by what the tails' files say. To be given after a
    /// start, after a tail was stored, and whenever something became of an entry.
    TailOpen {
        /// Which group.
        group: GroupId,
        /// How many, over all of its tails here.
        entries: u64,
    },
    /// A drained server passes on every group that it leads, one after the other, and leads none unless nobody else can; until it is told
    /// that it is not drained any more. It forgets that when it is started anew. How far it is: [`crate::Host::drained`].
    Drain {
        /// Whether it is.
        on: bool,
    },
    /// The copy here goes on as the only one of its group: all others are lost. Refused where somebody leads, or did a moment ago. Answered when it
    /// is on disk and the copy leads; idempotent per step where the group is served by this pool.
    Survive {
        /// Echoed in the answer.
        ticket: Ticket,
        /// Which group.
        group: GroupId,
        /// What is ordered.
        order: Survive,
    },
    /// The servers of the pool are these from now on: groups move to where they should be, gently. Every server of the pool is told, in any
    /// order. How far it is: [`crate::Host::moves`].
    Servers {
        /// Those that hold data.
        servers: Vec<FrontEnd>,
        /// The one that only votes.
        witness: Option<ServerId>,
    },
}

/// The order to go on as the only copy of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survive {
    /// The order's own step.
    pub step: StepRef,
    /// Who gave it, for the group's log.
    pub operator: Box<str>,
    /// What it was given by, for the group's log.
    pub plan: Bytes,
    /// Where the partner's copy stands, if that is known, and its digest there.
    pub partner: Option<(Position, [u8; 32])>,
}

/// How a copy stands among those of its group: what an order to go on alone is decided by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Servers whose copies decide, as far as this copy knows.
    pub voters: Vec<ServerId>,
    /// Servers whose copies only follow.
    pub learners: Vec<ServerId>,
    /// How often the group was left with one survivor.
    pub survived: u64,
    /// Term and index of the last item of the log: of copies that are compared the one for which they are highest has most.
    pub last: (u64, u64),
    /// Items in the log that are not known here to have been committed.
    pub doubtful: u64,
    /// For how long no leader has been heard, in milliseconds; since the start of the process at most.
    pub quiet: Millis,
    /// Up to where the state is applied.
    pub position: Position,
    /// Group time of the last entry there.
    pub time: Millis,
}

/// What the host tells the shell.
#[derive(Clone, Debug)]
pub enum HostOutput {
    /// Append and sync, in the order of batches; answer with [`HostInput::Synced`].
    Append(LogBatch),
    /// Send a frame; dropped without harm if the link is gone.
    Send {
        /// On which connection.
        link: LinkId,
        /// What.
        frame: crate::frame::Frame,
    },
    /// Answer to a request with a ticket.
    Done {
        /// The request.
        ticket: Ticket,
        /// Its group.
        group: GroupId,
        /// How it ended.
        done: Done,
    },
    /// An entry was applied here (active or backup alike), in order per group. Not repeated for entries that were
    /// applied before a restart's recovery.
    Applied {
        /// Which group.
        group: GroupId,
        /// What.
        entry: Arc<Entry>,
    },
    /// The whole state of a group was replaced by a swap (seeding, re-basing): caches over it are void.
    Swapped {
        /// Which group.
        group: GroupId,
    },
    /// A group's role, epoch, confirmation or leader changed; read it with `Host::group`.
    RoleChanged {
        /// Which group.
        group: GroupId,
    },
    /// A returned instance found entries that the pair does not have: store them durably, then answer
    /// [`HostInput::TailStored`]. Nothing is re-based before.
    StoreTail {
        /// Which group.
        group: GroupId,
        /// The first position of the winning epoch (where the histories part).
        fork: Position,
        /// The entries after the fork, oldest first.
        entries: Vec<Arc<Entry>>,
    },
    /// Changes of some groups since their last checkpoint; write them in one transaction, answer `CheckpointDone`.
    Checkpoint {
        /// The request's id.
        id: u64,
        /// One per group with changes.
        groups: Vec<CheckpointDelta>,
        /// Whether all groups have had their turn since the last round.
        round: bool,
    },
    /// This server keeps no copy of this group any more: log, checkpoint and all may go, also what was appended and is not synced yet. It may
    /// come back later, empty.
    Forget {
        /// Which group.
        group: GroupId,
    },
    /// Log records of this group up to and including this index are no longer needed.
    Purge {
        /// Which group.
        group: GroupId,
        /// Consensus index.
        through: u64,
    },
    /// Outcome of a comparison with the partner.
    Verified {
        /// Which group.
        group: GroupId,
        /// Where both copies stood.
        position: Position,
        /// Whether their digests are equal.
        equal: bool,
        /// If unequal: indices of the ranges (of 256) that differ.
        ranges: Vec<u16>,
    },
    /// Something that an operator must know, once per occurrence.
    Alarm(Alarm),
}

/// Alarms of replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// This clock is more than 5 s ahead of group time's source.
    ClockAhead {
        /// Which group.
        group: GroupId,
        /// By how much.
        by: Millis,
    },
    /// The log's cap was reached before the partner had everything: the backup must be seeded anew.
    ReseedNeeded {
        /// Which group.
        group: GroupId,
    },
    /// The backup was ahead in the same epoch: this disk had lost acknowledged entries, which were pulled back.
    DiskLostData {
        /// Which group.
        group: GroupId,
        /// What this disk had.
        had: Position,
        /// What the partner had.
        partner: Position,
    },
    /// Both copies have different entries at one position in one epoch: shipping stops, an administrator chooses.
    ChainBroken {
        /// Which group.
        group: GroupId,
        /// Where.
        at: Position,
    },
    /// An invariant failed; the group serves no more.
    GroupStopped {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: Box<str>,
    },
    /// The target of a handover found a digest different from its own and did not activate.
    HandoverRefused {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: Box<str>,
    },
    /// A divergent tail was found and is kept.
    DivergentTail {
        /// Which group.
        group: GroupId,
        /// How many entries.
        entries: u64,
    },
    /// The front of a divergent tail had been let go by the caps of the log: entries made from the state stand for it.
    TailFrontLost {
        /// Which group.
        group: GroupId,
        /// How many entries are gone.
        entries: u64,
        /// How many were made instead.
        made: u64,
    },
    /// This server was a replica of a group, and was taken from it: its copy is forgotten.
    ReplicaRemoved {
        /// Which group.
        group: GroupId,
    },
    /// The others remember this disk of this server, or a later one, and there is nothing of the group on it: it was emptied, or is an old
    /// one. The server comes in anew, under a number that was never used.
    OldDisk {
        /// Which group.
        group: GroupId,
        /// The incarnation that they remember.
        incarnation: u64,
    },
    /// The group went on with another copy while this one was away, by an administrator's order: this one is void, and forgotten.
    Outlived {
        /// Which group.
        group: GroupId,
        /// Where this copy stood.
        had: Position,
        /// Entries of it that are kept as a divergent tail.
        tail: u64,
    },
}

/// Records to append to the server's log, synced together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// Rises by one per batch from 1 in each process.
    pub batch: u64,
    /// In order.
    pub records: Vec<LogRecord>,
}

/// One record of the server's log. The log stores it and gives it back; only the host understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Whose.
    pub group: GroupId,
    /// Which kind.
    pub kind: LogKind,
    /// Consensus term (items) or 0.
    pub term: u64,
    /// Consensus index (items) or 0. An item at or below an earlier index replaces it and all after it.
    pub index: u64,
    /// Versioned bytes; at most 8 MiB.
    pub payload: Bytes,
}

/// Kind of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKind {
    /// An element of the group's consensus log.
    Item,
    /// The group's consensus hard state; the last one counts.
    HardState,
}

/// What the disk gives back at start, per group.
#[derive(Clone, Debug, Default)]
pub struct RecoveredGroup {
    /// Whose.
    pub group: GroupId,
    /// Last durable checkpoint, if any.
    pub checkpoint: Option<GroupCheckpoint>,
    /// Synced log records after the last purge, oldest first, replaced items already left out.
    pub log: Vec<LogRecord>,
}

/// A group's checkpoint as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCheckpoint {
    /// Versioned bytes of everything but records: applied index and position, lineage, de-duplication, role, time.
    pub meta: Bytes,
    /// All records, ordered by key.
    pub records: Vec<(Key, Record)>,
}

/// Changes of one group between two checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointDelta {
    /// Whose.
    pub group: GroupId,
    /// Replaces the stored meta.
    pub meta: Bytes,
    /// If set, all stored records of the group go first (after a swap).
    pub clear: bool,
    /// Records to write.
    pub puts: Vec<(Key, Record)>,
    /// Records to remove.
    pub deletes: Vec<Key>,
}

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Accepts commits (once confirmed).
    Active,
    /// Accepts only shipped entries.
    Backup,
    /// Was active; a higher epoch exists; has not yet become a backup of it (tail not stored, or re-basing).
    Fenced,
}

/// Export state of shipping one group (DESIGN §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExportState {
    /// Nothing shipped yet, or nothing to ship from here.
    NotInitialised,
    /// Keeping up.
    Steady,
    /// Entries arise faster than they leave, or a seed runs.
    NonSteady,
    /// The source is read-only and the partner has everything.
    Final,
    /// Shipping failed; the true state is unknown.
    Error,
}

/// Import state of one group (DESIGN §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ImportState {
    /// Fine.
    Normal,
    /// Cannot import.
    Error,
}

/// A lag in milliseconds, honest about what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lag {
    /// No canary yet.
    Unknown,
    /// Measured on the source's monotonic clock.
    Exactly(Millis),
    /// Upper bound, from the receiver's clock since the last canary plus its round trip: shown as "≤".
    AtMost(Millis),
}

/// One group as this server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupId,
    /// What this copy is.
    pub role: Role,
    /// For an active: confirmed since the restart.
    pub confirmed: bool,
    /// Who serves the group, as far as this copy knows.
    pub serving: PoolId,
    /// The highest epoch that this copy knows of.
    pub epoch: Epoch,
    /// Applied position.
    pub position: Position,
    /// State digest at that position.
    pub digest: [u8; 32],
    /// Records (soft and durable).
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Export of this copy, if it is active and paired.
    pub export: ExportState,
    /// Import of this copy, if it is a backup.
    pub import: ImportState,
    /// Source's lag (active) or receiver's bound (backup).
    pub lag: Lag,
    /// Entries that the partner has not acknowledged (active), or that are known missing (backup).
    pub behind_entries: u64,
    /// Their bytes.
    pub behind_bytes: u64,
    /// A running seed: records sent or received so far, and of how many.
    pub seed: Option<(u64, u64)>,
    /// Position and wall time of the last proven equality with the partner.
    pub verified: Option<(Position, Millis)>,
    /// Entries of stored divergent tails that wait for a decision.
    pub tail: u64,
    /// If stopped: why.
    pub stopped: Option<Box<str>>,
    /// The server of this pool that leads, as far as this copy knows. Not in frames between servers: what these hold of a status is as it
    /// ever was.
    #[serde(skip)]
    pub leader: Option<ServerId>,
}

/// How one replica of a group stands, as the leader of the group knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The server that has it.
    pub server: ServerId,
    /// Whether it votes, also by those that were replicas before while these still decide; one that does not only follows.
    pub voter: bool,
    /// Whether it holds no data.
    pub witness: bool,
    /// Items of the log that it is not known to have on its disk.
    pub behind: u64,
    /// Whether it answered a moment ago.
    pub heard: bool,
    /// Whether it leads.
    pub leads: bool,
}

/// Soft classes as durations, fixed by the leader.
pub(crate) fn class_at(class: WriteClass, time: Millis) -> Class {
    match class {
        WriteClass::Durable => Class::Durable,
        WriteClass::Soft { lives } => Class::Soft { expires: time.saturating_add(lives) },
    }
}
