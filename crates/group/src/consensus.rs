//! Consensus of one group among the replicas of its pool.
//!
//! Owns the library's state machine, its log in memory, and the rules under which it is driven: writes are asynchronous,
//! entries are readable before they are synced, a commit counts only after the sync was reported, and what a follower says goes out
//! only after what it says is synced. Its message types never leave this module; what is stored and sent is ours. Does not own what
//! an item means, nor links.

mod campaign;
mod check;
#[cfg(test)]
mod joint;
mod lease;
mod log;
pub(crate) mod members;
mod message;
mod proof;
mod survivor;
mod witness;

pub use check::Impossible;
pub(crate) use members::{Change, MOST_STEPS, Members, Step};
pub use message::{ReplicaBody, ReplicaItem, ReplicaMessage};

use crate::codec::Hard;
use crate::ids::{GroupId, Millis};
use bytes::Bytes;
use check::Standing;
use lease::{Lease, PROMISE};
use log::MemLog;
use raft::eraftpb::{Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{Config, INVALID_ID, RawNode, StateRole};
use std::collections::{BTreeSet, VecDeque};
use witness::Witnessing;

/// Number of a replica in its group: which server, which of the disks that it has had, and whether it is a witness. Never 0, never used
/// again.
pub type ReplicaId = u64;

/// Ticks without a leader after which a replica helps another to lead, if it is asked. None campaigns before one more has passed.
const ELECTION_TICKS: usize = 6;
const HEARTBEAT_TICKS: usize = 1;
/// Time after which a leader that has told another to lead, and hears nothing of it, ends all the same.
const PASSED: Millis = 400;
/// How many times as many items stay in memory for a replica that a copy of the state is on its way to.
const FOR_COPY: u64 = 16;

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
    pub(crate) replica: ReplicaId,
    /// The configuration at `applied`; one of nobody for a replica that waits for a copy.
    pub(crate) members: Members,
    /// Index and term up to which the state is applied.
    pub(crate) applied: (u64, u64),
    pub(crate) hard: Hard,
    /// Synced items after `applied`, consecutive.
    pub(crate) items: Vec<LogItem>,
    /// Items that stay in memory for replicas that are behind, after they are applied here.
    pub(crate) keep: u64,
    /// On this server's clock.
    pub(crate) now: Millis,
    /// The only voter does not campaign before it is told to: its state, or its log, is not yet as it says.
    pub(crate) waits: bool,
    pub(crate) faults: Faults,
}

/// Faults that tests plant here; none in a normal build.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) vote_not_stored: bool,
    pub(crate) follower_speaks_early: bool,
    pub(crate) leads_before_applied: bool,
    pub(crate) lease_ignored: bool,
    pub(crate) promise_forgotten: bool,
    pub(crate) passed_on_and_kept: bool,
    pub(crate) changes_without_joint: bool,
    pub(crate) changes_at_append: bool,
    pub(crate) learners_count: bool,
    pub(crate) old_number_accepted: bool,
    pub(crate) witness_leads: bool,
    pub(crate) witness_votes_for_all: bool,
    pub(crate) witness_counted: bool,
}

/// A campaign that does not wait for the election timeout.
#[derive(Clone, Copy, Debug)]
struct Hurry {
    due: Millis,
    /// Only in this term: in a later one somebody else has tried.
    term: u64,
    tries: u32,
}

/// What the leader knows of one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) replica: ReplicaId,
    /// Items that it is not known to have.
    pub(crate) behind: u64,
    /// Whether it votes.
    pub(crate) votes: bool,
    /// Whether it is known to have anything.
    pub(crate) has_some: bool,
    /// Since when it has been heard, if it was a moment ago; this replica hears itself.
    pub(crate) heard: Option<Millis>,
}

/// What a leader has said with a heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// What this replica's clock said when the leader had last heard it: what follows was said after that.
    pub(crate) asked: Option<Millis>,
    /// What.
    pub(crate) note: Bytes,
}

/// One replica of one group.
pub(crate) struct Consensus {
    node: RawNode<MemLog>,
    seed: u64,
    replica: ReplicaId,
    stored: Hard,
    /// Whether this replica is the only voter: everything on its disk has a majority.
    alone: bool,
    applied: u64,
    /// The first index that a copy on its way to another replica will need after itself.
    floor: Option<u64>,
    keep: u64,
    faults: Faults,
    members: Members,
    /// All that vote and may lead, in order.
    voters: Vec<ReplicaId>,
    /// The newest change of the configuration in the log.
    changed_at: u64,
    /// Once an item after this index is committed, a majority has on its disk that the configuration is committed.
    settled_after: u64,
    /// The latest time that was told.
    now: Millis,
    lease: Lease,
    /// No vote is given before: a leader counts on it.
    promised: Millis,
    /// When this replica was started: what its clock said before may have been another clock's.
    started: Millis,
    /// When a leader was last heard.
    heard: Millis,
    /// The first term in which this process heard a leader, or led.
    since: Option<u64>,
    /// The link to the leader's server is down: campaign then, if no leader is heard before.
    hurry: Option<Hurry>,
    /// Whether it is to leave it to others to lead.
    yields: bool,
    /// What the leader keeps account of where there is a witness.
    witnessing: Witnessing,
    /// What a leader says with its heartbeats, and since when that is so.
    note: (Millis, Bytes),
    /// What may be sent now.
    outbox: Vec<ReplicaMessage>,
    /// What may be sent once everything up to the drain with that number is synced.
    held: VecDeque<(u64, Vec<ReplicaMessage>)>,
}

impl Consensus {
    /// Starts a replica. The only voter of a group campaigns at once; among several, one that hears no leader does after a while.
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
        let alone = is_alone(&start.members, start.replica);
        let sure = sure(&start.items, last);
        let known = if alone { sure.max(start.hard.commit) } else { start.hard.commit };
        let commit = known.clamp(applied, last);
        let hard = Hard { term: start.hard.term.max(term), commit, ..start.hard };
        let seed = mix(start.seed ^ (u64::from(group.pool.0) << 32) ^ (u64::from(group.index) << 8));
        let config = Config {
            id: start.replica,
            election_tick: ELECTION_TICKS,
            max_election_tick: most_ticks(&start),
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: 64 << 20,
            ..Config::default()
        };
        let changed_at = newest_change(&start.items).unwrap_or(0);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let log = MemLog::new(&start.members, hard, (applied, applied_term), start.items);
        let node = RawNode::new(&config, log, &logger)?;
        let mut consensus = Consensus {
            node,
            seed,
            replica: start.replica,
            stored: hard,
            alone,
            applied,
            floor: None,
            keep: start.keep,
            faults: start.faults,
            lease: Lease::default(),
            members: start.members,
            voters: Vec::new(),
            changed_at,
            settled_after: last,
            now: start.now,
            // What an earlier process has promised is not known any more.
            promised: start.now.saturating_add(PROMISE),
            started: start.now,
            heard: start.now,
            since: None,
            hurry: None,
            yields: false,
            witnessing: Witnessing::default(),
            note: (0, Bytes::new()),
            outbox: Vec::new(),
            held: VecDeque::new(),
        };
        consensus.members_changed();
        consensus.set_timeout();
        if alone && !start.waits {
            consensus.begin()?;
        }
        Ok(consensus)
    }

    /// One tick of about 100 ms.
    pub(crate) fn tick(&mut self, now: Millis) {
        self.now = now;
        let leads = self.node.raft.state == StateRole::Leader && self.lease.term() == self.node.raft.term;
        if leads && self.lease.given_up().is_some_and(|at| now >= at.saturating_add(PASSED)) {
            // It can never count on being the only one again in this term.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, INVALID_ID);
        }
        self.set_timeout();
        self.node.tick();
        self.set_timeout();
        self.note_term();
        self.tick_witnesses();
    }

    /// Tells another replica to lead, if it has all of the log; whether it was told.
    pub(crate) fn pass_to(&mut self, now: Millis, to: ReplicaId) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let ready =
            raft.state == StateRole::Leader && raft.prs().get(to).is_some_and(|progress| progress.matched == last);
        if !ready || members::is_witness(to) || self.lease.given_up().is_some() {
            return false;
        }
        if !self.faults.passed_on_and_kept {
            self.lease.give_up(now);
        }
        self.node.transfer_leader(to);
        true
    }

    /// A new leader lets everybody know at once, and so hears soon whether it has a majority.
    fn note_term(&mut self) {
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader && self.lease.term() != raft.term {
            self.since.get_or_insert(raft.term);
            self.lease.begin(raft.term);
            // What was so when this replica led before is not so any more.
            self.note = (self.now, Bytes::new());
            self.witnessing.begin(self.now);
            self.settled_after = self.last();
            self.node.ping();
        }
    }

    /// What this replica says with its heartbeats, while it leads.
    pub(crate) fn say(&mut self, now: Millis, note: Bytes) {
        self.note = (now, note);
    }

    /// Whether this replica leads and has applied an entry of its own term, so that its state is complete.
    pub(crate) fn leads(&self) -> bool {
        self.leads_in().is_some()
    }

    /// When a leader was last heard; at the start at the latest.
    pub(crate) fn heard_at(&self) -> Millis {
        self.heard
    }

    /// Whether this replica was elected, applied or not what it has to.
    pub(crate) fn is_elected(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The term in which it leads and has applied an entry.
    pub(crate) fn leads_in(&self) -> Option<u64> {
        let raft = &self.node.raft;
        let own =
            self.faults.leads_before_applied || raft.raft_log.term(self.applied).is_ok_and(|term| term == raft.term);
        (raft.state == StateRole::Leader && own).then_some(raft.term)
    }

    /// Whether an item of this term was written by a leader that this process could have heard: not before all of them last stopped.
    pub(crate) fn is_live(&self, term: u64) -> bool {
        self.alone || self.since.is_some_and(|since| term >= since)
    }

    /// Whether nobody else can lead now: a majority has heard this replica a moment ago.
    pub(crate) fn holds(&self, now: Millis) -> bool {
        self.alone || self.faults.lease_ignored || (self.lease.term() == self.node.raft.term && self.lease.holds(now))
    }

    /// How the replicas stand, as the leader knows; nothing elsewhere.
    pub(crate) fn known(&self, now: Millis) -> Vec<Known> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let last = raft.raft_log.last_index();
        let heard = |replica| {
            let own = (replica == self.replica).then_some(0);
            own.or_else(|| self.lease.heard_since(now, replica).filter(|_| self.lease.term() == raft.term))
        };
        let known = raft.prs().iter().map(|(id, progress)| Known {
            replica: *id,
            behind: last.saturating_sub(progress.matched),
            votes: self.members.voters.contains(id),
            has_some: progress.matched > 0,
            heard: heard(*id),
        });
        let mut known: Vec<Known> = known.collect();
        known.sort_unstable_by_key(|known| known.replica);
        known
    }

    /// Whether this replica is the only voter.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether a majority of all that decide can be had without this replica. Of two, no: there the other leads anew and begins from what
    /// is here, and what this disk has forgotten decides nothing.
    pub(crate) fn can_do_without_this(&self) -> bool {
        let others = |set: &BTreeSet<ReplicaId>| set.iter().filter(|voter| **voter != self.replica).count();
        let fine = |set: &BTreeSet<ReplicaId>| set.is_empty() || others(set) > set.len() / 2;
        fine(&self.members.voters) && fine(&self.members.outgoing)
    }

    /// Who leads, as far as this replica knows.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        Some(self.node.raft.leader_id).filter(|id| *id != INVALID_ID)
    }

    /// Takes what another replica says; what a leader says with a heartbeat comes back.
    ///
    /// # Errors
    /// [`Impossible`]: it cannot be; nothing has changed.
    pub(crate) fn hear(&mut self, now: Millis, mut message: ReplicaMessage) -> Result<Option<Heard>, Impossible> {
        self.now = now;
        let log = &self.node.raft.raft_log;
        let committed = (log.committed, log.term(log.committed).unwrap_or_default());
        let (replica, term, last) = (self.replica, self.node.raft.term, log.last_index());
        check::check(&Standing { replica, term, last, committed }, &message)?;
        self.prove(&mut message)?;
        if !self.faults.witness_leads {
            check::of_witnesses(replica, &message)?;
        }
        if self.members.is_gone(message.from) && !self.faults.old_number_accepted {
            return Err(Impossible::Gone);
        }
        if self.members.is_blank() {
            // It has to have a copy first, and to know that it does not vote: it may have had this number before.
            return Err(Impossible::Blank);
        }
        let mut note = None;
        match &message.body {
            ReplicaBody::Heartbeat { context, .. } if message.term >= term => {
                let said = lease::said(context);
                let asked = said.told.filter(|asked| (self.started..=now).contains(asked));
                note = Some(Heard { asked, note: context.slice_ref(said.note) });
                self.promise(message.term);
            }
            ReplicaBody::Append { .. } if message.term >= term => self.promise(message.term),
            ReplicaBody::HeartbeatAnswer { context, .. } if self.counts(&message) => {
                self.lease.answered(now, message.from, context);
            }
            // Not an answer either: whoever asks may do so again.
            ReplicaBody::AskVote { transfer: false, .. } if now < self.promised => return Ok(None),
            _ => {}
        }
        if let ReplicaBody::AskVote { log_term, .. } = &mut message.body
            && self.faults.witness_votes_for_all
            && self.is_witness()
        {
            *log_term = message.term;
        }
        let answer = self.counts(&message).then(|| witness::says(&message)).flatten();
        self.set_timeout();
        // It refuses answers of replicas that it does not know: they have been removed.
        let _ = self.node.step(message.into_library());
        self.set_timeout();
        self.note_term();
        if let Some((from, at, hint)) = answer {
            self.witness_answered(from, at, hint);
        }
        Ok(note)
    }

    /// An answer to a heartbeat says when it was given, by this replica's clock.
    fn stamped(&self, mut message: ReplicaMessage) -> ReplicaMessage {
        if let ReplicaBody::HeartbeatAnswer { context, .. } = &mut message.body {
            *context = lease::answer(context, self.now).into();
        }
        message
    }

    /// Whether this replica leads, and a voter speaks of that.
    fn counts(&self, message: &ReplicaMessage) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader && raft.term == message.term && self.members.contains(message.from)
    }

    /// A leader is heard: it may count on this replica for a while.
    fn promise(&mut self, term: u64) {
        self.since.get_or_insert(term);
        self.heard = self.now;
        self.hurry = None;
        if !self.faults.promise_forgotten {
            self.promised = self.now.saturating_add(PROMISE);
        }
    }

    /// What is to be sent now; in order for each receiver, lost without harm.
    pub(crate) fn take_messages(&mut self) -> Vec<ReplicaMessage> {
        let said = std::mem::take(&mut self.outbox);
        // Whoever knows nothing says nothing. One that was taken from the group answers those that do not know of it yet.
        if self.members.is_blank() { Vec::new() } else { said }
    }

    /// The configuration, as far as it is applied.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// Whether this replica is one of the group's.
    pub(crate) fn is_member(&self) -> bool {
        self.members.contains(self.replica)
    }

    /// Proposes a change of the configuration; whether it could. Only one at a time, and none while the configuration is joint.
    pub(crate) fn propose_change(&mut self, change: &Change) -> bool {
        let free = self.leads() && !self.node.raft.has_pending_conf() && self.lease.given_up().is_none();
        if !free || self.members.is_joint() != change.steps.is_empty() {
            return false;
        }
        let payload = crate::codec::encode_change(change);
        self.node.propose_conf_change(payload.to_vec(), change.to_library()).is_ok()
    }

    /// Whether this replica leads and a majority of the present voters has on its disk that they are the voters: those from before are
    /// needed no more.
    pub(crate) fn is_settled(&self) -> bool {
        self.leads() && !self.members.is_joint() && self.applied > self.settled_after
    }

    /// Sees to it that it will be.
    pub(crate) fn settle(&mut self) {
        if self.leads() && !self.members.is_joint() && self.last() == self.settled_after {
            self.propose(&Bytes::new());
        }
    }

    /// A joint configuration whose leader has gone before its end is ended by the next.
    pub(crate) fn leave_joint(&mut self) {
        if self.members.is_joint() {
            self.propose_change(&Change::default());
        }
    }

    /// A change of the configuration is committed, and takes effect.
    ///
    /// # Errors
    /// If it does not fit to the configuration.
    pub(crate) fn apply_change(&mut self, change: &Change) -> Result<(), ConsensusError> {
        if self.faults.changes_at_append {
            return Ok(());
        }
        self.take_effect(change)
    }

    fn take_effect(&mut self, change: &Change) -> Result<(), ConsensusError> {
        let mut now = self.node.apply_conf_change(&change.to_library())?;
        if self.faults.changes_without_joint && !change.steps.is_empty() {
            now = self.node.apply_conf_change(&Change::default().to_library())?;
        }
        self.members.changed(change, &now);
        self.members_changed();
        self.settled_after = self.last();
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && !raft.promotable() {
            // It was elected by those of before, and has told the others.
            let term = raft.term;
            raft.become_follower(term, INVALID_ID);
        }
        Ok(())
    }

    /// Draws the conclusions from a new configuration.
    fn members_changed(&mut self) {
        let members = &self.members;
        self.voters = members.deciding().into_iter().filter(|voter| !members::is_witness(*voter)).collect();
        self.alone = is_alone(members, self.replica);
        self.witnessing.is = members.all().into_iter().any(members::is_witness);
        let extra = if self.faults.learners_count { members.learners.clone() } else { BTreeSet::new() };
        self.lease.among(self.replica, [&members.voters, &members.outgoing], &extra);
    }

    /// Proposes an item; returns the index that it will have, or `None` if this replica cannot propose now.
    pub(crate) fn propose(&mut self, payload: &Bytes) -> Option<u64> {
        if self.node.raft.state != StateRole::Leader {
            return None;
        }
        // As the library's own `propose` does it, without a copy of the payload.
        let entry = Entry { data: payload.clone(), ..Entry::default() };
        let mut message = Message { from: self.node.raft.id, entries: vec![entry].into(), ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        self.node.raft.step(message).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// What to store next; `None` if there is nothing to do.
    pub(crate) fn drain(&mut self) -> Option<Drained> {
        self.pause_witnesses();
        if !self.node.has_ready() {
            self.tell_witnesses();
            return None;
        }
        let mut ready = self.node.ready();
        let mut out = Drained { number: ready.number(), ..Drained::default() };
        let entries = ready.take_entries();
        out.items = entries.iter().map(log::item).collect();
        self.changed_at = newest_change(&out.items).unwrap_or(self.changed_at);
        if let Some(hs) = ready.hs() {
            let hard = Hard { term: hs.term, vote: hs.vote, commit: hs.commit };
            // Who decides is known after a restart too, without those that do not decide any more.
            let settles = self.stored.commit < self.changed_at && hard.commit >= self.changed_at;
            if hard.term != self.stored.term || hard.vote != self.stored.vote || settles {
                self.stored = hard;
                out.hard = (!self.faults.vote_not_stored).then_some(hard);
            }
        }
        let messages = ready.take_messages().into_iter().filter_map(ReplicaMessage::from_library);
        // What a witness is told is sent apart.
        let apart = |message: &ReplicaMessage| {
            members::is_witness(message.to) && matches!(message.body, ReplicaBody::Append { .. })
        };
        for mut message in messages.filter(|message| !apart(message)) {
            if let ReplicaBody::Heartbeat { commit, context } = &mut message.body {
                // The note is older than this heartbeat, by as much as the other clock has gone on since.
                let (since, note) = &self.note;
                let age = self.now.saturating_sub(*since);
                let told = self.lease.told(self.now, message.to).map(|told| told.saturating_sub(age));
                let term = self.node.raft.raft_log.term(*commit).unwrap_or_default();
                *context = lease::context(self.now, lease::Said { told, term: Some(term), note }).into();
            }
            self.outbox.push(message);
        }
        // That a leader was heard is true whatever is on disk; a slow disk is not to look like silence.
        let (now, held): (Vec<_>, Vec<_>) = ready
            .take_persisted_messages()
            .into_iter()
            .filter_map(ReplicaMessage::from_library)
            .partition(|message| matches!(message.body, ReplicaBody::HeartbeatAnswer { .. }));
        let now: Vec<ReplicaMessage> = now.into_iter().map(|message| self.stamped(message)).collect();
        self.outbox.extend(now);
        if self.faults.follower_speaks_early {
            self.outbox.extend(held);
        } else if !held.is_empty() {
            self.held.push_back((out.number, held));
        }
        let snapshot = ready.snapshot().get_metadata();
        if snapshot.index > 0 {
            self.node.mut_store().restart((snapshot.index, snapshot.term));
        }
        self.node.mut_store().append(entries);
        let early = if self.faults.changes_at_append { out.items.clone() } else { Vec::new() };
        out.committed = ready.take_committed_entries().iter().map(log::item).collect();
        self.node.advance_append_async(ready);
        for item in early {
            if let Ok(crate::codec::Item::Change(change)) = crate::codec::decode_item(&item.payload) {
                let _ = self.take_effect(&change);
            }
        }
        Some(out)
    }

    /// Everything up to the drain with this number is synced.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        while self.held.front().is_some_and(|(held, _)| *held <= number) {
            let Some((_, messages)) = self.held.pop_front() else { return };
            self.outbox.extend(messages);
        }
    }

    /// Everything up to this index is applied. What other replicas may still need of the log stays in memory, within bounds.
    pub(crate) fn applied(&mut self, index: u64) {
        self.applied = index;
        self.node.advance_apply_to(index);
        let kept = index.saturating_sub(self.keep);
        let most = index.saturating_sub(self.keep.saturating_mul(FOR_COPY));
        let kept = self.floor.map_or(kept, |floor| kept.min(floor)).max(most);
        let through =
            if self.alone && self.members.learners.is_empty() { index } else { index.min(self.needed()).max(kept) };
        self.node.mut_store().compact(through);
    }

    /// The last index that every other replica has, as far as the leader knows; on others what they keep in case they lead next.
    fn needed(&self) -> u64 {
        if self.node.raft.state != StateRole::Leader {
            return self.applied.saturating_sub(self.keep / 4);
        }
        self.node.raft.prs().iter().map(|(_, progress)| progress.matched).min().unwrap_or(0)
    }

    /// The number of this replica.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The present term.
    pub(crate) fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The last index of the log.
    pub(crate) fn last(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The first index that is kept in memory.
    pub(crate) fn first_kept(&self) -> u64 {
        self.node.store().first()
    }

    /// A copy of the state at this index is on its way: what comes after it is kept, within bounds.
    pub(crate) fn keep_from(&mut self, index: Option<u64>) {
        self.floor = index;
    }

    /// The place in the log right before an index; `None` if it is not known any more, or if who decides has changed since.
    pub(crate) fn place_before(&self, index: u64) -> Option<(u64, u64)> {
        // The library says term 0 of what it does not keep any more.
        let known = self.changed_at < index && index >= self.first_kept();
        let before = index.checked_sub(1).filter(|_| known)?;
        Some((before, self.node.raft.raft_log.term(before).ok()?))
    }

    /// Replicas that are there and need what is no longer kept, as the leader knows them.
    pub(crate) fn out_of_reach(&self) -> Vec<ReplicaId> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let first = self.first_kept();
        let behind = raft.prs().iter().filter(|(id, progress)| **id != self.replica && progress.recent_active).filter(
            |(id, progress)| match members::is_witness(**id) {
                true => self.witness_is_out_of_reach(**id),
                false => progress.next_idx < first,
            },
        );
        behind.map(|(id, _)| *id).collect()
    }

    /// Whether a replica has everything up to an index, as the leader knows it.
    pub(crate) fn has(&self, replica: ReplicaId, index: u64) -> bool {
        self.node.raft.prs().get(replica).is_none_or(|progress| progress.matched >= index)
    }

    /// Takes note that the state is that of another replica at this index and term: what was in the log is void. Whether it is of use.
    pub(crate) fn restore(
        &mut self,
        from: (ReplicaId, u64),
        (index, index_term): (u64, u64),
        members: &Members,
    ) -> bool {
        let (from, term) = from;
        let raft = &self.node.raft;
        // The library takes term 0 for that of whatever is beyond its log, and would fall over what is not there.
        let is_place = index == 0 || index_term > 0;
        if term < raft.term || !is_place || !self.may_be_one_of(members) {
            return false;
        }
        let mut metadata = SnapshotMetadata { index, term: index_term, ..SnapshotMetadata::default() };
        metadata.set_conf_state(members.to_library());
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata);
        let mut message = Message { from, to: self.replica, term, ..Message::default() };
        message.msg_type = MessageType::MsgSnapshot;
        message.set_snapshot(snapshot);
        // Where the log has all of it already, or it is committed here, the library tells the leader what is here and takes over nothing.
        let _ = self.node.step(message);
        let taken = self.node.raft.snap().is_some_and(|snapshot| snapshot.get_metadata().index == index);
        if taken {
            self.members = members.clone();
            self.members_changed();
        }
        taken
    }

    /// Whether this replica can take over a configuration: one that knows nothing yet may have voted under its number before, and votes only
    /// where that is decided after it came.
    fn may_be_one_of(&self, members: &Members) -> bool {
        let learns = members.learners.contains(&self.replica);
        learns || (!self.members.is_blank() && members.contains(self.replica))
    }

    /// The stored hard state.
    pub(crate) fn hard(&self) -> Hard {
        self.stored
    }
}

/// Ticks within which a replica campaigns that hears no leader; never, if it is a witness.
fn most_ticks(start: &Start) -> usize {
    if members::is_witness(start.replica) { usize::MAX } else { 4 * ELECTION_TICKS + start.members.voters.len() }
}

/// What is committed where nobody else decides: all that is here, as far as that is so.
fn sure(items: &[LogItem], last: u64) -> u64 {
    let change = items.iter().find(|item| crate::codec::is_change(&item.payload));
    change.map_or(last, |item| item.index)
}

/// Where the newest change of the configuration stands among these items.
fn newest_change(items: &[LogItem]) -> Option<u64> {
    items.iter().rev().find(|item| crate::codec::is_change(&item.payload)).map(|item| item.index)
}

/// Whether a replica is the only one that decides.
fn is_alone(members: &Members, replica: ReplicaId) -> bool {
    let only = !members.is_joint() && members.voters.len() == 1 && members.voters.contains(&replica);
    only && !members::is_witness(replica)
}

/// A fixed mixing function (splitmix64's finaliser).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
