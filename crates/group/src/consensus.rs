//! Consensus of one group among the replicas of its pool.
//!
//! Owns the library's state machine, its log in memory, and the rules under which it is driven: writes are asynchronous,
//! entries are readable before they are synced, and a commit counts only after the sync was reported. Its message types
//! never leave this module; what is stored is ours. Does not own what an item means.

mod log;

use crate::codec::Hard;
use crate::ids::GroupId;
use bytes::Bytes;
use log::MemLog;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};

const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;

/// An element of the consensus log. The payload is empty where the library itself wrote one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogItem {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: Bytes,
}

/// Why consensus could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The library refused; the stored state contradicts itself.
    #[error("consensus: {0}")]
    Library(#[from] raft::Error),
    /// The stored log has a hole, or its terms fall.
    #[error("the stored log is not consecutive at index {0}")]
    Hole(u64),
}

/// What to store, and what has become committed.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// Report this number with [`Consensus::persisted`] once everything up to here is synced.
    pub(crate) number: u64,
    /// To be appended.
    pub(crate) items: Vec<LogItem>,
    /// To be stored, if it changed in a way that matters.
    pub(crate) hard: Option<Hard>,
    /// Committed: to be applied in order.
    pub(crate) committed: Vec<LogItem>,
}

/// Where a replica starts.
#[derive(Debug, Default)]
pub(crate) struct Start {
    pub(crate) seed: u64,
    pub(crate) replica: u64,
    /// Index and term up to which the state is applied.
    pub(crate) applied: (u64, u64),
    pub(crate) hard: Hard,
    /// Synced items after `applied`, consecutive.
    pub(crate) items: Vec<LogItem>,
}

/// One replica of one group.
pub(crate) struct Consensus {
    node: RawNode<MemLog>,
    seed: u64,
    replica: u64,
    stored: Hard,
}

impl Consensus {
    /// Starts a replica of a group with one voter and lets it campaign at once.
    pub(crate) fn start(group: GroupId, start: Start) -> Result<Consensus, ConsensusError> {
        let (applied, applied_term) = start.applied;
        let mut next = applied.saturating_add(1);
        let mut term = applied_term;
        for item in &start.items {
            if item.index != next || item.term < term {
                return Err(ConsensusError::Hole(next));
            }
            next = next.saturating_add(1);
            term = item.term;
        }
        let last = next - 1;
        // With one voter everything on its disk has a majority.
        let hard = Hard { term: start.hard.term.max(term), commit: last, ..start.hard };
        let seed = mix(start.seed ^ (u64::from(group.pool.0) << 32) ^ (u64::from(group.index) << 8));
        let config = Config {
            id: start.replica,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: 64 << 20,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let log = MemLog::new(start.replica, hard, (applied, applied_term), start.items);
        let node = RawNode::new(&config, log, &logger)?;
        let mut consensus = Consensus { node, seed, replica: start.replica, stored: hard };
        consensus.set_timeout();
        if let Err(error) = consensus.node.campaign() {
            return Err(ConsensusError::Library(error));
        }
        consensus.set_timeout();
        Ok(consensus)
    }

    /// The library draws its timeout from a generator of the thread; ours comes from (seed, group, replica, term).
    fn set_timeout(&mut self) {
        let mixed = mix(self.seed ^ mix(self.replica) ^ mix(self.node.raft.term));
        let span = u64::try_from(ELECTION_TICKS).unwrap_or(1);
        let extra = usize::try_from(mixed % span).unwrap_or(0);
        self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + extra);
    }

    /// One tick of about 100 ms.
    pub(crate) fn tick(&mut self) {
        self.set_timeout();
        self.node.tick();
        self.set_timeout();
    }

    /// Whether this replica leads and has committed an entry of its own term, so that its state is complete.
    pub(crate) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.commit_to_current_term()
    }

    /// Proposes an item; returns the index that it will have, or `None` if this replica cannot propose now.
    pub(crate) fn propose(&mut self, payload: &Bytes) -> Option<u64> {
        // As the library's own `propose` does it, without a copy of the payload.
        let entry = Entry { data: payload.clone(), ..Entry::default() };
        let mut message = Message { from: self.node.raft.id, entries: vec![entry].into(), ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        self.node.raft.step(message).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// What to store next; `None` if there is nothing to do.
    pub(crate) fn drain(&mut self) -> Option<Drained> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let mut out = Drained { number: ready.number(), ..Drained::default() };
        if let Some(hs) = ready.hs() {
            let hard = Hard { term: hs.term, vote: hs.vote, commit: hs.commit };
            if hard.term != self.stored.term || hard.vote != self.stored.vote {
                self.stored = hard;
                out.hard = Some(hard);
            }
        }
        let entries = ready.take_entries();
        out.items = entries.iter().map(log::item).collect();
        self.node.mut_store().append(entries);
        out.committed = ready.take_committed_entries().iter().map(log::item).collect();
        self.node.advance_append_async(ready);
        Some(out)
    }

    /// Everything up to the drain with this number is synced.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Everything up to this index is applied; with one voter the log in memory may go up to there.
    pub(crate) fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        self.node.mut_store().compact(index);
    }

    /// The stored hard state.
    pub(crate) fn hard(&self) -> Hard {
        self.stored
    }
}

/// A fixed mixing function (splitmix64's finaliser).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
