//! Which replicas a group has: who votes, who only follows, and how that is changed.
//!
//! Owns the form of a configuration and of a change of it, and which numbers can never belong to it again. A change is an item of the log:
//! it takes effect where it is applied, always with a joint step, in which both the old and the new voters decide. Does not own who should
//! be a replica.

use super::ReplicaId;
use crate::ids::ServerId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of a life that count how often a replica was taken from the group; the generation stands above them.
const IN_GENERATION: u32 = 8;
/// Generations that can be told apart.
const MOST_GENERATIONS: u64 = 0x7f;

/// Steps of one change, at most.
pub(crate) const MOST_STEPS: usize = 64;

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// It votes.
    Voter(ReplicaId),
    /// It only follows.
    Learner(ReplicaId),
    /// It is a replica no more, for ever.
    Remove(ReplicaId),
}

/// A change of the configuration, as it stands in the log. Without steps it ends the joint one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) steps: Vec<Step>,
}

/// The replicas of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) voters: BTreeSet<ReplicaId>,
    pub(crate) learners: BTreeSet<ReplicaId>,
    /// While the configuration is joint: those that voted before, and decide too.
    pub(crate) outgoing: BTreeSet<ReplicaId>,
    /// Those of them that will be learners.
    pub(crate) learners_next: BTreeSet<ReplicaId>,
    /// The highest number that each server ever had in this group.
    pub(crate) highest: BTreeMap<ServerId, ReplicaId>,
    /// How often it was changed.
    pub(crate) changes: u64,
}

/// Set in the number of a replica that is a witness: it votes and holds no data.
const WITNESS: ReplicaId = 1 << 63;
/// How often a server's replica can be taken from a group with one disk.
const LIVES: u64 = 0x7fff;

/// Whether a replica is a witness.
pub(crate) fn is_witness(replica: ReplicaId) -> bool {
    replica & WITNESS != 0
}

/// That number, as a witness's.
pub(crate) fn as_witness(replica: ReplicaId) -> ReplicaId {
    replica | WITNESS
}

/// The server of a replica.
pub(crate) fn server(replica: ReplicaId) -> ServerId {
    ServerId(u32::try_from((replica >> 16) & 0xffff_ffff).unwrap_or(u32::MAX))
}

/// Which disk of its server a replica is on, and its life with that disk: the group's generation, then how often it was taken from the
/// group in that.
pub(crate) fn age(replica: ReplicaId) -> (u64, u64) {
    (replica & 0xffff, replica >> 48 & LIVES)
}

/// How often the group had been left with one survivor when this number was given. All replicas of a group are of one generation.
pub(crate) fn generation(replica: ReplicaId) -> u64 {
    age(replica).1 >> IN_GENERATION
}

/// The number of a server's replica with this disk and in this life.
pub(crate) fn number(server: ServerId, incarnation: u64, life: u64) -> ReplicaId {
    ((life & LIVES) << 48 | u64::from(server.0) << 16 | (incarnation & 0xffff)).max(1)
}

impl Members {
    /// The replicas that a group begins with.
    pub(crate) fn of(voters: impl IntoIterator<Item = ReplicaId>) -> Members {
        let voters: BTreeSet<ReplicaId> = voters.into_iter().collect();
        let highest = voters.iter().map(|voter| (server(*voter), *voter)).collect();
        Members { voters, highest, ..Members::default() }
    }

    /// Whether nothing is known: a replica that has just come and waits for a copy.
    pub(crate) fn is_blank(&self) -> bool {
        self.voters.is_empty()
    }

    /// Whether both old and new voters decide.
    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// All that decide.
    pub(crate) fn deciding(&self) -> BTreeSet<ReplicaId> {
        self.voters.union(&self.outgoing).copied().collect()
    }

    /// All replicas.
    pub(crate) fn all(&self) -> BTreeSet<ReplicaId> {
        self.deciding().union(&self.learners).copied().collect()
    }

    /// Whether a replica is one of the group's.
    pub(crate) fn contains(&self, replica: ReplicaId) -> bool {
        self.voters.contains(&replica) || self.learners.contains(&replica) || self.outgoing.contains(&replica)
    }

    /// The replica that a server has.
    pub(crate) fn of_server(&self, of: ServerId) -> Option<ReplicaId> {
        self.all().into_iter().find(|replica| server(*replica) == of)
    }

    /// How often the group was left with one survivor.
    pub(crate) fn generation(&self) -> u64 {
        self.voters.first().copied().map(generation).unwrap_or_default()
    }

    /// Whether a number was taken from the group, or can never belong to it.
    pub(crate) fn is_gone(&self, replica: ReplicaId) -> bool {
        let highest = self.highest.get(&server(replica));
        let before = generation(replica) < self.generation();
        !self.contains(replica) && (before || highest.is_some_and(|highest| age(replica) <= age(*highest)))
    }

    /// The number with which a server can come in that has no copy, with this disk; nothing if its disk is an old one, or was let in too
    /// often.
    pub(crate) fn next_number(&self, of: ServerId, incarnation: u64) -> Option<ReplicaId> {
        let first = self.generation() << IN_GENERATION;
        let Some(highest) = self.highest.get(&of) else { return Some(number(of, incarnation, first)) };
        let (before, life) = age(*highest);
        match incarnation.cmp(&before) {
            std::cmp::Ordering::Less => None,
            // The next one would be of another generation.
            std::cmp::Ordering::Equal if life >= first | ((1 << IN_GENERATION) - 1) => None,
            std::cmp::Ordering::Equal => Some(number(of, incarnation, first.max(life + 1))),
            std::cmp::Ordering::Greater => Some(number(of, incarnation, first)),
        }
    }

    /// The configuration in which one replica is left of these, under a new number and of a new generation: no other number that was ever
    /// given, known here or not, belongs to it. Nothing, if there were too many generations.
    pub(crate) fn survived_by(&self, replica: ReplicaId) -> Option<(ReplicaId, Members)> {
        let next = self.generation() + 1;
        if next > MOST_GENERATIONS {
            return None;
        }
        let survivor = number(server(replica), age(replica).0, next << IN_GENERATION);
        let mut highest = self.highest.clone();
        highest.insert(server(replica), survivor);
        let changes = self.changes + 1;
        Some((survivor, Members { voters: [survivor].into(), highest, changes, ..Members::default() }))
    }

    /// The library's form.
    pub(super) fn to_library(&self) -> ConfState {
        ConfState {
            voters: self.voters.iter().copied().collect(),
            learners: self.learners.iter().copied().collect(),
            voters_outgoing: self.outgoing.iter().copied().collect(),
            learners_next: self.learners_next.iter().copied().collect(),
            auto_leave: self.is_joint(),
            ..ConfState::default()
        }
    }

    /// What a change has made of it.
    pub(super) fn changed(&mut self, change: &Change, now: &ConfState) {
        self.voters = now.voters.iter().copied().collect();
        self.learners = now.learners.iter().copied().collect();
        self.outgoing = now.voters_outgoing.iter().copied().collect();
        self.learners_next = now.learners_next.iter().copied().collect();
        self.changes += 1;
        for step in &change.steps {
            if let Step::Voter(replica) | Step::Learner(replica) = *step {
                let highest = self.highest.entry(server(replica)).or_insert(replica);
                if age(*highest) < age(replica) {
                    *highest = replica;
                }
            }
        }
    }
}

impl Change {
    /// The library's form: with a joint step, which ends by itself.
    pub(super) fn to_library(&self) -> ConfChangeV2 {
        let mut out = ConfChangeV2::default();
        if self.steps.is_empty() {
            return out;
        }
        out.set_transition(ConfChangeTransition::Implicit);
        let single = |step: &Step| {
            let (kind, replica) = match *step {
                Step::Voter(replica) => (ConfChangeType::AddNode, replica),
                Step::Learner(replica) => (ConfChangeType::AddLearnerNode, replica),
                Step::Remove(replica) => (ConfChangeType::RemoveNode, replica),
            };
            let mut out = ConfChangeSingle::default();
            out.set_change_type(kind);
            out.node_id = replica;
            out
        };
        out.set_changes(self.steps.iter().map(single).collect::<Vec<_>>().into());
        out
    }
}

#[cfg(test)]
mod tests {
    //! Numbers are never taken back.

    use super::*;

    #[test]
    fn a_number_that_was_taken_from_the_group_never_comes_back() {
        let (one, two) = (ServerId(1), ServerId(2));
        let mut members = Members::of([number(one, 1, 0), number(two, 3, 0)]);
        assert!(!members.is_gone(number(one, 1, 0)) && !members.is_gone(number(one, 2, 0)));
        assert!(members.is_gone(number(two, 2, 0)), "a lower one than its server has");
        assert_eq!(members.next_number(two, 2), None);
        assert_eq!(members.next_number(two, 4), Some(number(two, 4, 0)));
        let change = Change { steps: vec![Step::Remove(number(two, 3, 0))] };
        let now = ConfState { voters: vec![number(one, 1, 0)], ..ConfState::default() };
        members.changed(&change, &now);
        assert!(members.is_gone(number(two, 3, 0)), "though its disk is the same");
        assert_eq!(members.next_number(two, 3), Some(number(two, 3, 1)));
        assert!(!members.is_gone(number(two, 3, 1)));
        assert_eq!((server(number(two, 3, 7)), age(number(two, 3, 7))), (two, (3, 7)));
        let witness = as_witness(number(two, 3, 7));
        assert_eq!((server(witness), age(witness), is_witness(witness)), (two, (3, 7), true));
        assert!(!is_witness(number(ServerId(u32::MAX), u64::MAX, u64::MAX)), "no number is one by chance");
    }

    #[test]
    fn of_an_earlier_generation_no_number_comes_back_known_or_not() {
        let (one, two, three) = (ServerId(1), ServerId(2), ServerId(3));
        let members = Members::of([number(one, 1, 0), number(two, 1, 0), number(three, 1, 3)]);
        let (survivor, after) = members.survived_by(number(three, 1, 3)).unwrap();
        assert_eq!((after.generation(), generation(survivor), after.deciding().len()), (1, 1, 1));
        for gone in [number(three, 1, 3), number(one, 1, 0), number(one, 7, 0), number(ServerId(9), 1, 200)] {
            assert!(after.is_gone(gone), "{gone:x}");
        }
        assert!(!after.is_gone(survivor));
        for (server, incarnation) in [(one, 1), (one, 7), (ServerId(9), 1)] {
            let number = after.next_number(server, incarnation).unwrap();
            assert!(
                generation(number) == 1
                    && !after.is_gone(number)
                    && members.next_number(server, incarnation) != Some(number)
            );
        }
        let mut last = Members::of([number(one, 1, 0x7fff)]);
        assert_eq!(last.survived_by(number(one, 1, 0x7fff)), None);
        last = Members::of([number(one, 1, 0xff)]);
        assert_eq!(last.next_number(one, 1), None, "a number of the next generation is not given");
        assert_eq!(last.next_number(one, 2), Some(number(one, 2, 0)));
    }
}
