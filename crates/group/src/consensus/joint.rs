//! Tests: while the voters change, the old and the new ones both decide; and those of before stay until they are not needed any more.

use super::{Change, Consensus, Drained, Faults, Members, ReplicaBody, ReplicaId, ReplicaMessage, Start, Step};
use crate::codec::{self, Item};
use crate::ids::{GroupId, Millis};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const A: ReplicaId = 1 << 16 | 1;
const B: ReplicaId = 2 << 16 | 1;
const C: ReplicaId = 3 << 16 | 1;
const D: ReplicaId = 4 << 16 | 1;
const E: ReplicaId = 5 << 16 | 1;

/// Five replicas with instant disks and links: the first three vote, the others follow.
struct Five {
    all: BTreeMap<ReplicaId, Consensus>,
    now: Millis,
    /// Who hears whom.
    together: Vec<BTreeSet<ReplicaId>>,
    /// What was committed at each index, by anybody.
    committed: BTreeMap<u64, BTreeSet<(u64, Bytes)>>,
}

impl Five {
    fn new(faults: Faults) -> Five {
        let members = Members { learners: [D, E].into(), ..Members::of([A, B, C]) };
        let start =
            |replica| Start { seed: 7, replica, members: members.clone(), keep: 64, faults, ..Start::default() };
        let begin = |replica| (replica, Consensus::start(GroupId::CMS, start(replica)).expect("a fresh one"));
        let together = vec![[A, B, C, D, E].into()];
        Five { all: [A, B, C, D, E].map(begin).into(), now: 0, together, committed: BTreeMap::new() }
    }

    fn replica(&mut self, replica: ReplicaId) -> &mut Consensus {
        self.all.get_mut(&replica).expect("one of five")
    }

    fn members(&self, replica: ReplicaId) -> &Members {
        self.all[&replica].members()
    }

    /// Stores and applies at one replica; what it says.
    fn drain(&mut self, replica: ReplicaId) -> Vec<ReplicaMessage> {
        let one = self.all.get_mut(&replica).expect("one of five");
        while let Some(Drained { number, committed, .. }) = one.drain() {
            one.persisted(number);
            for item in committed {
                if let Ok(Item::Change(change)) = codec::decode_item(&item.payload) {
                    one.apply_change(&change).expect("it fits");
                }
                one.applied(item.index);
                self.committed.entry(item.index).or_default().insert((item.term, item.payload));
            }
        }
        one.take_messages()
    }

    /// These messages come to those to whom they go.
    fn hear(&mut self, said: impl IntoIterator<Item = ReplicaMessage>) {
        let now = self.now;
        for message in said {
            let _ = self.replica(message.to).hear(now, message);
        }
    }

    fn settle(&mut self) {
        loop {
            let all: Vec<ReplicaId> = self.all.keys().copied().collect();
            let said: Vec<ReplicaMessage> = all.into_iter().flat_map(|replica| self.drain(replica)).collect();
            if said.is_empty() {
                return;
            }
            for message in said {
                let (from, to) = (message.from, message.to);
                let near = self.together.iter().any(|set| set.contains(&from) && set.contains(&to));
                if let Some(one) = self.all.get_mut(&to).filter(|_| near) {
                    let _ = one.hear(self.now, message);
                }
            }
        }
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now += 100;
            let now = self.now;
            self.all.values_mut().for_each(|one| one.tick(now));
            self.settle();
        }
    }

    fn leader_among(&self, of: &[ReplicaId]) -> Option<ReplicaId> {
        of.iter().copied().find(|replica| self.all.get(replica).is_some_and(|one| one.leads() && one.holds(self.now)))
    }

    /// Until one of these leads, and no other.
    fn until_led_by(&mut self, replica: ReplicaId) {
        for _ in 0..600 {
            self.run(1);
            let leads = self.leader_among(&[A, B, C]);
            if leads == Some(replica) {
                return;
            }
            if leads.is_some_and(|leader| self.replica(leader).pass_to(0, replica)) {
                self.settle();
            }
        }
        panic!("it never leads");
    }

    /// Whether two things were committed in one place.
    fn forked(&self) -> bool {
        self.committed.values().any(|there| there.len() > 1)
    }
}

fn exchange() -> Change {
    Change { steps: vec![Step::Voter(D), Step::Voter(E), Step::Remove(B), Step::Remove(C)] }
}

/// B and C are cut off in the moment in which A has the change committed; whether both sides then commit what the other does not know.
fn two_majorities(faults: Faults) -> bool {
    let mut five = Five::new(faults);
    five.until_led_by(A);
    assert!(five.replica(A).propose_change(&exchange()));
    // They have it on their disks and say so, and hear nothing more.
    let mut said = five.drain(A);
    said.retain(|message| [B, C].contains(&message.to));
    let now = five.now;
    five.hear(said);
    let answers: Vec<ReplicaMessage> = [B, C].into_iter().flat_map(|replica| five.drain(replica)).collect();
    five.together = vec![[A, D, E].into(), [B, C].into()];
    for message in answers {
        let _ = five.replica(A).hear(now, message);
    }
    five.settle();
    five.run(30);
    five.replica(A).propose(&Bytes::from_static(b"east"));
    five.settle();
    if let Some(leader) = five.leader_among(&[B, C]) {
        five.replica(leader).propose(&Bytes::from_static(b"west"));
    }
    five.run(30);
    five.forked()
}

#[test]
fn the_old_and_the_new_voters_never_decide_apart() {
    assert!(!two_majorities(Faults::default()));
    assert!(two_majorities(Faults { changes_without_joint: true, ..Faults::default() }), "the fault is seen");
}

#[test]
fn who_was_about_to_campaign_and_is_taken_from_the_voters_asks_for_no_votes() {
    let mut five = Five::new(Faults::default());
    five.until_led_by(A);
    assert!(five.replica(A).propose_change(&Change { steps: vec![Step::Voter(D), Step::Remove(C)] }));
    for _ in 0..20 {
        let said: Vec<ReplicaMessage> = [A, B, D, E].into_iter().flat_map(|replica| five.drain(replica)).collect();
        five.now += 20;
        let now = five.now;
        five.replica(A).tick(now);
        five.hear(said);
        // The link goes down before it has applied what it heard.
        five.replica(C).lost_leader();
        let answers = five.drain(C);
        if !five.members(C).contains(C) {
            break;
        }
        five.hear(answers);
    }
    assert!(!five.members(C).contains(C), "it knows that it is to go");
    let later = five.now + 5_000;
    five.replica(C).hurry(later);
    let said = five.drain(C);
    assert!(said.iter().all(|message| !matches!(message.body, ReplicaBody::AskVote { .. })), "{said:?}");
}

#[test]
fn a_leader_s_disk_may_be_lost_before_others_know_that_the_change_is_over() {
    let mut five = Five::new(Faults::default());
    five.until_led_by(A);
    // One of three is replaced: the end of the joint configuration is committed, and only C, which goes, hears of it.
    assert!(five.replica(A).propose_change(&Change { steps: vec![Step::Voter(D), Step::Remove(C)] }));
    for _ in 0..20 {
        let said: Vec<ReplicaMessage> = [A, B, C, D, E].into_iter().flat_map(|replica| five.drain(replica)).collect();
        let over = five.replica(A).members().changes == 2;
        five.now += 20;
        let now = five.now;
        five.replica(A).tick(now);
        five.hear(said.into_iter().filter(|message| !over || message.to == C));
        if five.replica(C).members().changes == 2 {
            break;
        }
    }
    assert!(!five.members(C).contains(C), "it knows that it is to go");
    assert!(!five.replica(A).is_settled(), "the others do not");
    assert!(five.members(B).is_joint() && five.members(D).is_joint());
    five.all.remove(&A);
    five.run(60);
    let leader = five.leader_among(&[B, D]).expect("C still votes");
    assert_eq!(five.members(B).voters, [A, B, D].into());
    assert!(!five.members(B).is_joint() && !five.members(D).is_joint());
    // Once a majority knows, C may forget: B and D go on by themselves.
    five.replica(leader).settle();
    five.run(2);
    assert!(five.replica(leader).is_settled());
    five.all.remove(&C);
    assert!(five.replica(leader).propose(&Bytes::from_static(b"on")).is_some());
    five.run(2);
    assert!(five.committed.values().flatten().any(|(_, payload)| &payload[..] == b"on") && !five.forked());
}
