//! The witness of a pool of two: a replica that votes and holds no data.
//!
//! Owns what of an item goes to a witness, when it goes, and what a witness may say. Which replica is one stands in its number
//! ([`members::is_witness`]). Does not own voting: a witness is asked for its vote, and gives it, as any replica.
//!
//! **What it has.** Term and vote, and of each item index and term: all that decides an election. Items come to it without what they say,
//! but for changes of the configuration. It cannot lead: it never campaigns, nobody hears it as a leader, and a replica with data refuses
//! an item without its content.
//!
//! **Why nothing is lost.** An item is committed once a majority of the voters has it on its disk; of two with data (A and B) and a witness
//! (W) any two. Say that A and W have it, and A fails. B is behind, and can lead only with a majority's votes: its own and W's. W's log ends
//! behind the item, or at it, so by term and index it is the newer one, and W refuses B. The group waits for A's disk rather than going on
//! without the item. If B has the item, its log is not older than W's, as far as W has only been told of what B has too.
//!
//! **When it is told.** So that B *can* lead whenever it is there, and so that the loss of either disk loses nothing, W is told of an item
//! only once it is committed without W, which is to say by A and B: W's log is then never newer than B's. W is told at once only where those
//! with data are no majority by themselves. That is so when the other is away: its link is down, or it has not answered a heartbeat for as long as
//! a lease lasts, or needs a copy of the state, or has something outstanding and its disk has gained nothing for [`SLOW`]. It is there again when it is heard and has all
//! that stood in the leader's log half a second ago; up to then both A and W write for it. A new leader waits for a moment before it calls
//! the other away ([`HEARING`]).
//!
//! **The library** knows nothing of this. It takes a witness for one to which a copy of the state is on its way, so that it sends it nothing but heartbeats; what
//! a witness is told is sent from here, and what it answers counts there as any answer does.

use super::members::{self, Members};
use super::{Consensus, ReplicaBody, ReplicaId, ReplicaItem, ReplicaMessage, log};
use crate::codec;
use crate::ids::{Millis, ServerId};
use bytes::Bytes;
use raft::eraftpb::Entry;
use raft::{GetEntriesContext, ProgressState, StateRole};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long the other replica's disk may gain nothing of what it lacks before it counts as away.
const SLOW: Millis = 1_000;
/// How long a new leader waits for the first word of the other: two rounds of heartbeats.
const HEARING: Millis = 200;
/// Ticks after which what stood in the log is to be at a replica that is there again.
const CAUGHT_UP_TICKS: usize = 5;
/// What a witness has not answered for so long is sent again.
const AGAIN: Millis = 300;
/// Items in one message to a witness: each takes a few bytes.
const ITEMS: u64 = 4_096;
/// The library's mark for a replica to which it sends no items: one whose copy of the state never arrives.
const NEVER: u64 = u64::MAX / 2;

/// Another replica with data, as the leader sees it.
#[derive(Clone, Copy, Debug)]
struct Other {
    matched: u64,
    /// When its disk last gained something, or lacked nothing.
    gained: Millis,
    away: bool,
}

/// What a witness was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The first index that it was not told of.
    next: u64,
    /// When it was last told something.
    at: Millis,
}

/// What the leader of a group with a witness keeps account of; empty elsewhere.
#[derive(Debug, Default)]
pub(super) struct Witnessing {
    /// Whether the group has a witness.
    pub(super) is: bool,
    /// Servers to which there is no link; kept also while another leads.
    unlinked: BTreeSet<ServerId>,
    begun: Millis,
    others: BTreeMap<ReplicaId, Other>,
    told: BTreeMap<ReplicaId, Told>,
    /// The last index at each of the last ticks, oldest first.
    lasts: VecDeque<u64>,
}

impl Witnessing {
    /// This replica leads in a new term.
    pub(super) fn begin(&mut self, now: Millis) {
        let unlinked = std::mem::take(&mut self.unlinked);
        *self = Witnessing { is: self.is, unlinked, begun: now, ..Witnessing::default() };
    }

    /// Whether there is a link to a server.
    pub(super) fn linked(&mut self, server: ServerId, on: bool) {
        if on {
            self.unlinked.remove(&server)
        } else {
            self.unlinked.insert(server)
        };
    }

    /// Up to where a replica has to have the log to count as there again.
    fn mark(&self) -> u64 {
        self.lasts.front().copied().unwrap_or(0)
    }

    fn is_away(&self, replica: ReplicaId) -> bool {
        self.others.get(&replica).is_none_or(|other| other.away)
    }
}

/// What a witness is told of an item: all of a change of the configuration, which it has to know; nothing of any other.
fn stripped(entry: &Entry) -> ReplicaItem {
    let item = log::item(entry);
    let whole = item.payload.is_empty() || codec::is_change(&item.payload);
    ReplicaItem { term: item.term, payload: if whole { item.payload } else { codec::bare() } }
}

/// Whether an item can come to a replica: with its content to one that holds data, without to a witness.
pub(super) fn fits(to: ReplicaId, payload: &Bytes) -> bool {
    let bare = codec::is_bare(payload);
    let content = !payload.is_empty() && !bare && !codec::is_change(payload);
    if members::is_witness(to) { !content } else { !bare }
}

/// Whether the voters that are there, without witnesses, decide by themselves in each set.
fn decide(members: &Members, there: impl Fn(ReplicaId) -> bool) -> bool {
    let majority = |set: &BTreeSet<ReplicaId>| {
        let with_data = set.iter().filter(|voter| !members::is_witness(**voter) && there(**voter)).count();
        set.is_empty() || with_data * 2 > set.len()
    };
    majority(&members.voters) && majority(&members.outgoing)
}

/// A witness's answer to items: whose, index and term, and a hint if they were refused.
type Answer = (ReplicaId, (u64, u64), Option<u64>);

/// What a witness answers to items: where its log ends, or where it was refused with a hint.
pub(super) fn says(message: &ReplicaMessage) -> Option<Answer> {
    match message.body {
        ReplicaBody::Appended { index, log_term, rejected, hint, .. } if members::is_witness(message.from) => {
            Some((message.from, (index, log_term), rejected.then_some(hint)))
        }
        _ => None,
    }
}

impl Consensus {
    /// Whether this replica is a witness.
    pub(crate) fn is_witness(&self) -> bool {
        members::is_witness(self.replica)
    }

    /// Whether this replica never campaigns.
    pub(super) fn never_leads(&self) -> bool {
        self.is_witness() && !self.faults.witness_leads
    }

    /// Whether there is a link to a server of the pool.
    pub(crate) fn linked(&mut self, server: ServerId, on: bool) {
        self.witnessing.linked(server, on);
    }

    /// The library sends no items to witnesses.
    pub(super) fn pause_witnesses(&mut self) {
        if self.node.raft.state != StateRole::Leader || !self.witnessing.is {
            return;
        }
        for (replica, progress) in self.node.raft.mut_prs().iter_mut() {
            if members::is_witness(*replica) && progress.state != ProgressState::Snapshot {
                progress.become_snapshot(NEVER);
            }
        }
    }

    /// A tick has passed.
    pub(super) fn tick_witnesses(&mut self) {
        if self.node.raft.state != StateRole::Leader || !self.witnessing.is {
            return;
        }
        if self.witnessing.lasts.len() >= CAUGHT_UP_TICKS {
            self.witnessing.lasts.pop_front();
        }
        let last = self.last();
        self.witnessing.lasts.push_back(last);
        self.tell_witnesses();
    }

    /// Takes note of which other replicas with data are there.
    fn look_at_others(&mut self) {
        let (now, last, first) = (self.now, self.last(), self.first_kept());
        let counts = self.lease.term() == self.node.raft.term;
        let hearing = now < self.witnessing.begun.saturating_add(HEARING);
        let deciding = self.members.deciding();
        self.witnessing.others.retain(|replica, _| deciding.contains(replica));
        for replica in deciding.into_iter().filter(|voter| *voter != self.replica && !members::is_witness(*voter)) {
            let progress = self.node.raft.prs().get(replica);
            let (matched, next) = progress.map_or((0, 0), |progress| (progress.matched, progress.next_idx));
            let heard = counts && self.lease.heard_since(now, replica).is_some();
            let linked = !self.witnessing.unlinked.contains(&members::server(replica));
            let mark = self.witnessing.mark();
            let other = self.witnessing.others.entry(replica).or_insert(Other { matched, gained: now, away: false });
            if matched > other.matched || matched >= last {
                (other.matched, other.gained) = (matched, now);
            }
            let slow = now >= other.gained.saturating_add(SLOW);
            let there = linked && next >= first && (heard || hearing);
            other.away = !there || slow || (other.away && !(heard && matched >= mark));
        }
    }

    /// Up to which index witnesses are told of the log.
    fn witnesses_know(&mut self) -> u64 {
        self.look_at_others();
        let own = self.replica;
        let without = decide(&self.members, |voter| voter == own || !self.witnessing.is_away(voter));
        if without && !self.faults.witness_counted { self.node.raft.raft_log.committed } else { self.last() }
    }

    /// Tells each witness what it is to know and was not told yet, and again what it has not answered.
    pub(super) fn tell_witnesses(&mut self) {
        if self.node.raft.state != StateRole::Leader || !self.witnessing.is {
            return;
        }
        let (know, now, committed) = (self.witnesses_know(), self.now, self.node.raft.raft_log.committed);
        let all = self.node.raft.prs().iter().filter(|(replica, _)| members::is_witness(**replica));
        let all: Vec<(ReplicaId, u64)> = all.map(|(replica, progress)| (*replica, progress.matched)).collect();
        self.witnessing.told.retain(|replica, _| all.iter().any(|(known, _)| known == replica));
        for (replica, matched) in all {
            if self.lease.heard_since(now, replica).is_none() {
                // It answers a heartbeat first: nothing is put together for one that is not there.
                continue;
            }
            let known = self.witnessing.told.get(&replica).copied();
            // Of one that has said nothing in this term it is not known where its log ends: it is asked, without items.
            let mut told = known.unwrap_or(Told { next: committed + 1, at: now });
            let again = matched + 1 < told.next && now >= told.at.saturating_add(AGAIN);
            if again && matched > 0 {
                told.next = matched + 1;
            }
            let asks = known.is_none() || (again && matched == 0);
            self.witnessing.told.insert(replica, told);
            if asks || told.next <= know {
                self.tell_witness(replica, know);
            }
        }
    }

    /// Sends a witness the items from where it was told last.
    fn tell_witness(&mut self, to: ReplicaId, know: u64) {
        let Some(mut told) = self.witnessing.told.get(&to).copied() else { return };
        loop {
            let before = told.next - 1;
            let log = &self.node.raft.raft_log;
            // What is no longer in memory comes as a copy, which is as empty as a witness is.
            let (Ok(log_term), commit) = (log.term(before), log.committed) else { return };
            let count = (know + 1).saturating_sub(told.next).min(ITEMS);
            let context = GetEntriesContext::empty(false);
            let Ok(entries) = log.slice(told.next, told.next + count, None, context) else { return };
            let items: Vec<ReplicaItem> = entries.iter().map(stripped).collect();
            let body = ReplicaBody::Append { index: before, log_term, commit, items };
            self.outbox.push(ReplicaMessage { from: self.replica, to, term: self.node.raft.term, body });
            (told.next, told.at) = (told.next + count, self.now);
            self.witnessing.told.insert(to, told);
            if told.next > know {
                return;
            }
        }
    }

    /// A witness has answered, and the library has taken note of it.
    pub(super) fn witness_answered(&mut self, from: ReplicaId, (index, log_term): (u64, u64), hint: Option<u64>) {
        let log = &self.node.raft.raft_log;
        let matched = self.node.raft.prs().get(from).map_or(0, |progress| progress.matched);
        let Some(mut told) = self.witnessing.told.get(&from).copied() else { return };
        match hint {
            None => told.next = told.next.max(index.min(self.last()) + 1),
            // It answers something that was sent before it said that it has more.
            Some(_) if index <= matched => return,
            Some(hint) => {
                let shared = if log_term > 0 { log.find_conflict_by_term(hint, log_term).0 } else { hint };
                let ends = shared.saturating_add(1).min(self.last() + 1);
                told.next = index.min(ends).max(matched + 1);
                self.witnessing.told.insert(from, told);
                return self.tell_witness(from, told.next - 1);
            }
        }
        self.witnessing.told.insert(from, told);
    }

    /// Whether what a witness needs next is no longer kept.
    pub(super) fn witness_is_out_of_reach(&self, replica: ReplicaId) -> bool {
        self.witnessing.told.get(&replica).is_some_and(|told| told.next < self.first_kept())
    }
}

#[cfg(test)]
mod tests {
    //! What goes to whom, and when those with data decide by themselves.

    use super::*;
    use crate::consensus::Change;

    fn data(server: u32) -> ReplicaId {
        members::number(ServerId(server), 1, 0)
    }

    fn witness(server: u32) -> ReplicaId {
        members::as_witness(data(server))
    }

    #[test]
    fn a_witness_is_told_of_changes_of_the_configuration_and_of_nothing_else() {
        let entry = |payload: Bytes| log::entry(crate::consensus::LogItem { index: 7, term: 3, payload });
        let change = codec::encode_change(&Change::default());
        let said = Bytes::from_static(b"\x01\x01 what it says");
        assert_eq!(stripped(&entry(said.clone())), ReplicaItem { term: 3, payload: codec::bare() });
        assert_eq!(stripped(&entry(change.clone())), ReplicaItem { term: 3, payload: change.clone() });
        assert_eq!(stripped(&entry(Bytes::new())), ReplicaItem { term: 3, payload: Bytes::new() });
        for (payload, to_data, to_witness) in
            [(said, true, false), (codec::bare(), false, true), (change, true, true), (Bytes::new(), true, true)]
        {
            assert_eq!((fits(data(1), &payload), fits(witness(3), &payload)), (to_data, to_witness), "{payload:?}");
        }
    }

    #[test]
    fn those_with_data_decide_by_themselves_where_they_are_a_majority_of_each_set() {
        let two = Members::of([data(1), data(2), witness(3)]);
        assert!(decide(&two, |_| true));
        assert!(!decide(&two, |voter| voter == data(1)), "one of three");
        assert!(!decide(&two, |voter| voter != data(2)), "a witness that is there makes none");
        let replaced = Members { outgoing: two.voters.clone(), ..Members::of([data(1), witness(3)]) };
        assert!(!decide(&replaced, |_| true), "one of two, in the new set");
    }
}
