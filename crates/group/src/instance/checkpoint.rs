//! Checkpoints, purges, and the way back from them after a restart.
//!
//! Owns what a checkpoint of a copy holds and from which log index on the log is still needed. Does not own files.

use super::copy::Restoring;
use super::whole::Taken;
use super::{Cx, Head, Instance, replicas};
use crate::codec::{self, DecodeError, Hard, HardOf, Item, Meta};
use crate::config::{HostConfig, planted};
use crate::consensus::{Consensus, ConsensusError, LogItem, Start};
use crate::ids::GroupId;
use crate::io::{CheckpointDelta, HostOutput, LogKind, LogRecord, Now, RecoveredGroup};
use crate::shadow::Shadow;
use crate::state::State;

/// Why a copy could not be recovered. Its data is then not used: the server re-joins it from its partner or a peer.
#[derive(Debug, thiserror::Error)]
pub enum GroupRecoverError {
    /// The checkpoint's meta is not understood.
    #[error("checkpoint: {0}")]
    Meta(#[source] DecodeError),
    /// The checkpoint's records do not have the digest that its meta states.
    #[error("the records of the checkpoint do not have its digest")]
    Digest,
    /// A log record is not understood.
    #[error("log record {index}: {source}")]
    Record {
        /// Its index.
        index: u64,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The log does not reach back to the checkpoint, or contradicts itself.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
}

/// The log record of an item.
pub(super) fn item_record(group: GroupId, item: LogItem) -> LogRecord {
    let payload = if item.payload.is_empty() { codec::encode_item(&Item::Noop) } else { item.payload };
    LogRecord { group, kind: LogKind::Item, term: item.term, index: item.index, payload }
}

/// Says in the log that what stands there at this index and term, and after it, is void.
pub(super) fn mark(group: GroupId, (index, term): (u64, u64)) -> LogRecord {
    LogRecord { group, kind: LogKind::Item, term, index, payload: codec::encode_item(&Item::Restored) }
}

impl Instance {
    /// The log record of a hard state.
    pub(super) fn hard_record(&self, hard: Hard) -> LogRecord {
        // Of a copy that is not on disk yet nothing is committed there: what the log still holds may be what nobody else ever had.
        let bare = self.restoring.is_some_and(|restoring| !restoring.durable);
        let commit = if bare { hard.commit.min(self.durable) } else { hard.commit };
        let hard = Hard { commit, ..hard };
        // Until there is a checkpoint the log begins there; the last record is the one that counts.
        let origin = (self.durable == 0).then(|| self.origin.clone());
        let of = HardOf { hard, replica: self.consensus.replica(), origin };
        let (group, payload) = (self.group, codec::encode_hard(&of).into());
        LogRecord { group, kind: LogKind::HardState, term: 0, index: 0, payload }
    }

    /// What changed since the last checkpoint.
    pub(crate) fn checkpoint(&mut self, cfg: &HostConfig, id: u64) -> Taken {
        if self.orphans {
            // Items that follow an abandoned seed can be told from others only by replaying its end.
            return Taken::Nothing;
        }
        if self.wants_whole() {
            return self.take_whole(cfg, id);
        }
        self.pending_checkpoints.push_back((id, self.covered(cfg)));
        if !self.changed {
            return Taken::Nothing;
        }
        self.changed = false;
        if let Some(restoring) = &mut self.restoring {
            restoring.checkpoint.get_or_insert(id);
        }
        let meta = codec::encode_meta(&self.meta(cfg));
        let mut delta = CheckpointDelta { group: self.group, meta: meta.into(), ..CheckpointDelta::default() };
        for key in std::mem::take(&mut self.touched) {
            match self.state.raw(&key) {
                Some(record) => delta.puts.push((key, record.clone())),
                None => delta.deletes.push(key),
            }
        }
        Taken::Delta(delta)
    }

    /// The log index that a checkpoint of now covers. A seed under way is not in it: it is rebuilt from the log, even if its swap is applied
    /// before the checkpoint is durable.
    pub(super) fn covered(&self, cfg: &HostConfig) -> u64 {
        let seed = self.shadow.as_ref().map_or(u64::MAX, |shadow| shadow.index.saturating_sub(1));
        if planted!(cfg, SeedLogPurged) { self.applied.0 } else { self.applied.0.min(seed) }
    }

    pub(super) fn meta(&self, cfg: &HostConfig) -> Meta {
        let forgets = planted!(cfg, DedupNotInCheckpoint);
        Meta {
            applied: self.applied.0,
            applied_term: self.applied.1,
            hard: self.consensus.hard(),
            position: self.state.position,
            chain: self.state.chain,
            time: self.state.time,
            lineage: self.state.lineage.clone(),
            dedup: if forgets { Default::default() } else { self.state.dedup.clone() },
            steps: self.state.steps.clone(),
            digest: self.state.digest.total(),
            fence: self.fence,
            tail: self.tail,
            heard: self.heard,
            restored: self.restoring.is_some(),
            replica: self.consensus.replica(),
            members: Some(self.consensus.members().clone()),
        }
    }

    /// What a witness gets of it: where the log stands, and who the replicas are.
    pub(super) fn bare_meta(&self) -> Meta {
        Meta {
            applied: self.applied.0,
            applied_term: self.applied.1,
            members: Some(self.consensus.members().clone()),
            digest: State::default().digest.total(),
            ..Meta::default()
        }
    }

    /// A checkpoint is durable: what the log holds before it, and nobody else needs, may go.
    pub(crate) fn checkpoint_done(&mut self, cx: &mut Cx<'_>, id: u64) {
        self.restored(id);
        while let Some((pending, applied)) = self.pending_checkpoints.front().copied() {
            if pending > id {
                break;
            }
            self.durable = self.durable.max(applied);
            self.pending_checkpoints.pop_front();
        }
        let kept = self.retained.first_index().unwrap_or(u64::MAX);
        let seed = self.shadow.as_ref().map_or(u64::MAX, |shadow| shadow.index);
        let through = self.durable.min(kept.saturating_sub(1)).min(seed.saturating_sub(1));
        // What a copy that was taken over makes void is cut off before it is purged.
        if through > self.purged && self.restoring.is_none() {
            self.purged = through;
            cx.out.push_back(HostOutput::Purge { group: self.group, through });
        }
    }

    /// Rebuilds a copy from what the disk gave back. The log after the checkpoint is applied by the first drain; until
    /// [`Instance::recovered`] the copy replays.
    pub(crate) fn recover(cx: &Cx<'_>, from: RecoveredGroup) -> Result<Instance, GroupRecoverError> {
        let cfg = cx.cfg;
        let group = from.group;
        let (mut hard, mut replica, mut members) = (Hard::default(), 0, None);
        let (mut state, mut meta) = (State::default(), None);
        if let Some(checkpoint) = from.checkpoint {
            let read = codec::decode_meta(&checkpoint.meta).map_err(GroupRecoverError::Meta)?;
            hard = read.hard;
            (replica, members) = (read.replica, read.members.clone());
            state = State::restore(&read, checkpoint.records).ok_or(GroupRecoverError::Digest)?;
            meta = Some(read);
        }
        let applied = meta.as_ref().map_or((0, 0), |meta| (meta.applied, meta.applied_term));
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let restored = meta.as_ref().is_some_and(|meta| meta.restored) && !planted!(cfg, CopyKeepsOldLog);
        let items = || from.log.iter().filter(|record| record.kind == LogKind::Item).map(|record| record.index);
        // Whoever took a copy over purges the log up to it before anything is appended: a log that reaches back is of before.
        let void = restored && items().any(|index| index <= applied.0);
        let last = items().max().unwrap_or(0);
        for record in from.log {
            let index = record.index;
            match record.kind {
                LogKind::HardState => {
                    let read = codec::decode_hard(&record.payload)
                        .map_err(|source| GroupRecoverError::Record { index, source })?;
                    replica = replica.max(read.replica);
                    members = members.or(read.origin);
                    if read.hard.term >= hard.term {
                        hard = read.hard;
                    }
                }
                // Of before a copy was taken over.
                LogKind::Item if void => {}
                LogKind::Item if index <= applied.0 => before.push(record),
                LogKind::Item => after.push(LogItem { index, term: record.term, payload: record.payload }),
            }
        }
        // One of an earlier build has the replicas that it began with, and its first number.
        let members = members.unwrap_or_else(|| replicas::first_members(cfg, group));
        let (replica, origin) = (replicas::or_own(cfg, replica), members.clone());
        let start = Start {
            seed: cfg.seed,
            replica,
            members,
            applied,
            hard,
            items: after,
            keep: cfg.limits.replica_items,
            now: cx.now.mono,
            waits: void,
            faults: replicas::faults(cfg),
        };
        let mut instance = Instance::with(cfg, group, Consensus::start(group, start)?);
        instance.origin = origin;
        instance.replaying = true;
        instance.changed = false;
        instance.applied = applied;
        instance.durable = applied.0;
        instance.state = state;
        if let Some(meta) = meta {
            instance.changed = meta.restored;
            instance.restoring = void.then(|| Restoring::of_checkpoint(applied, last));
            instance.fence = meta.fence;
            instance.tail = meta.tail;
            instance.heard = meta.heard;
        }
        instance.keep_before(cx, before)?;
        instance.history.push_back((instance.state.position, instance.state.digest.total()));
        Ok(instance)
    }

    /// Log records that the checkpoint covers: entries to keep for the partner, and a seed that was under way.
    fn keep_before(&mut self, cx: &Cx<'_>, records: Vec<LogRecord>) -> Result<(), GroupRecoverError> {
        let rules = cx.rules();
        for record in records {
            let index = record.index;
            let item =
                codec::decode_item(&record.payload).map_err(|source| GroupRecoverError::Record { index, source })?;
            match item {
                Item::Entry(stored) => {
                    let continues = self.shadow.as_ref().is_some_and(|shadow| shadow.state.chain == stored.entry.prev);
                    match &mut self.shadow {
                        Some(shadow) if continues => {
                            if shadow.replay(&stored, &rules).is_err() {
                                self.shadow = None;
                            }
                        }
                        _ => {
                            self.shadow = None;
                            self.retained.push(stored, index, None);
                        }
                    }
                }
                Item::SeedStart(offer) => {
                    self.shadow = Some(Shadow::start(&offer, index, &self.state, self.shadow.as_ref()));
                }
                Item::Seed(chunk) => {
                    if let Some(shadow) = self.shadow.as_mut().filter(|shadow| shadow.chunks == chunk.number) {
                        shadow.chunk(&chunk);
                    }
                }
                Item::Swap(_) => {
                    self.shadow = None;
                    self.retained.clear();
                }
                Item::SeedAbort => self.shadow = None,
                Item::Restored => {
                    self.shadow = None;
                    self.retained.clear();
                }
                Item::Noop | Item::Bare | Item::Fence(_) | Item::TailStored(_) | Item::Change(_) => {}
            }
        }
        let last = self.retained.point(self.state.position.seq);
        if last.is_none_or(|(_, chain)| chain != self.state.chain) {
            self.retained.clear();
        }
        Ok(())
    }

    /// The replay is over: `confirmed` says whether an active copy may serve at once, `alone` whether nobody else can have what
    /// this disk does not have.
    pub(crate) fn recovered(&mut self, cx: &mut Cx<'_>, confirmed: bool, alone: bool) {
        self.opening = alone && self.state.position.seq == 0 && !self.consensus.is_alone();
        self.replaying = false;
        self.confirmed = confirmed && self.fence.is_none();
        self.appended = false;
        self.sink.ack_due = false;
        self.told = None;
        self.set_head(Head { position: self.state.position, chain: self.state.chain, time: self.state.time });
        self.tell_role(cx);
    }
}

/// Creates the instance of a group that the disk does not have.
pub(crate) fn fresh(cfg: &HostConfig, group: GroupId, now: Now) -> Result<Instance, GroupRecoverError> {
    Ok(Instance::fresh(cfg, group, now)?)
}
