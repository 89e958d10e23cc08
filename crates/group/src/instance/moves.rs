//! How the replicas of a group come to be those that it should have.
//!
//! Owns the next change of the configuration, which whoever leads works out from what it knows: who has asked to come in, who has caught
//! up, who is to go. Newcomers follow first; they vote when they have nearly everything, and only then others go. Does not own which servers
//! a group should be on (`placement`), nor what a change does (`consensus`).

use super::replicas::{self, NEAR};
use super::{Cx, Instance};
use crate::config::HostConfig;
use crate::consensus::members::{self, Members};
use crate::consensus::{Change, Known, MOST_STEPS, ReplicaId, Step};
use crate::frame::MemberBody;
use crate::ids::{Millis, ServerId};
use crate::io::Now;
use std::collections::{BTreeMap, BTreeSet};

/// Without a leader for so long, a copy asks whether it still is one.
pub(super) const LOST: Millis = 2_000;
/// So long a server that asked is let in; it asks again.
const ASKED: Millis = 2_000;

/// Which servers a group should be on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) voters: BTreeSet<ServerId>,
    /// Those that only follow.
    pub(crate) learners: BTreeSet<ServerId>,
    /// The one of the voters that is to hold no data.
    pub(crate) witness: Option<ServerId>,
}

/// Servers that asked to come in: with which disk, and when.
pub(super) type Asked = BTreeMap<ServerId, (u64, Millis)>;

/// What the next change follows from.
#[derive(Debug)]
struct View<'a> {
    own: ReplicaId,
    members: &'a Members,
    known: &'a [Known],
    wanted: &'a Wanted,
    asked: &'a Asked,
    /// Whether a server may be let in that is to vote.
    may_begin: bool,
    /// Numbers that were used before are let in: a fault.
    old_too: bool,
}

impl Wanted {
    fn has(&self, server: ServerId) -> bool {
        self.voters.contains(&server) || self.learners.contains(&server)
    }
}

impl View<'_> {
    fn known(&self, replica: ReplicaId) -> Option<&Known> {
        self.known.iter().find(|known| known.replica == replica)
    }

    fn lives(&self, replica: ReplicaId) -> bool {
        replica == self.own || self.known(replica).is_some_and(|known| known.heard.is_some())
    }

    /// Learners that are to vote.
    fn coming(&self) -> impl Iterator<Item = ReplicaId> {
        let learners = self.members.learners.iter().copied();
        learners.filter(|learner| self.wanted.voters.contains(&members::server(*learner)))
    }

    /// A server that comes in, in the place of its earlier disk if it had one.
    fn newcomer(&self) -> Option<Vec<Step>> {
        self.asked.iter().find_map(|(server, (incarnation, _))| {
            let old = self.old_too.then(|| members::number(*server, *incarnation, 0));
            let number = self.members.next_number(*server, *incarnation).or(old)?;
            let here = self.members.of_server(*server);
            let witness = self.wanted.witness == Some(*server) || here.is_some_and(members::is_witness);
            let number = replicas::of_kind(witness, number);
            let Some(here) = here else {
                let may = self.may_begin || !self.wanted.voters.contains(server);
                return (may && self.wanted.has(*server)).then(|| vec![Step::Learner(number)]);
            };
            // It was let in a moment ago, and has not heard of it yet.
            let blank = self.members.learners.contains(&here) && self.known(here).is_some_and(|known| !known.has_some);
            let fresh = blank && members::age(here).0 == *incarnation;
            let only = self.members.voters.len() == 1 && self.members.voters.contains(&here);
            let fine = !fresh && !only && here != self.own;
            fine.then(|| vec![Step::Remove(here), Step::Learner(number)])
        })
    }

    /// Those that have caught up vote, and those go that are not wanted.
    fn exchange(&self) -> Vec<Step> {
        let caught_up = |replica: &ReplicaId| {
            self.known(*replica).is_some_and(|known| known.has_some && known.behind <= NEAR && known.heard.is_some())
        };
        let ready: Vec<ReplicaId> = self.coming().filter(caught_up).collect();
        let mut steps: Vec<Step> = ready.iter().copied().map(Step::Voter).collect();
        let mut after: BTreeSet<ReplicaId> = self.members.voters.iter().copied().chain(ready.iter().copied()).collect();
        let voting: BTreeSet<ServerId> = after.iter().copied().map(members::server).collect();
        let complete = self.wanted.voters.iter().all(|server| voting.contains(server));
        let mut extra: Vec<ReplicaId> = after
            .iter()
            .copied()
            .filter(|voter| *voter != self.own && !self.wanted.voters.contains(&members::server(*voter)))
            .collect();
        extra.sort_by_key(|voter| self.lives(*voter));
        let most = if complete { extra.len() } else { ready.len() };
        for gone in extra.into_iter().take(most) {
            after.remove(&gone);
            let live = after.iter().filter(|voter| self.lives(**voter)).count();
            if live * 2 <= after.len() {
                after.insert(gone);
                continue;
            }
            let follows = self.wanted.learners.contains(&members::server(gone));
            steps.push(if follows { Step::Learner(gone) } else { Step::Remove(gone) });
        }
        let unwanted = |learner: &&ReplicaId| !self.wanted.has(members::server(**learner));
        steps.extend(self.members.learners.iter().filter(unwanted).copied().map(Step::Remove));
        steps.truncate(MOST_STEPS);
        steps
    }
}

impl Instance {
    /// Whether this copy leads and its configuration is not the wanted one.
    pub(crate) fn differs(&self, now: Now, wanted: &Wanted) -> bool {
        let members = self.consensus.members();
        let servers = |of: &BTreeSet<ReplicaId>| of.iter().copied().map(members::server).collect::<BTreeSet<_>>();
        let same = servers(&members.voters) == wanted.voters && servers(&members.learners) == wanted.learners;
        self.leads_now(now) && (members.is_joint() || !same)
    }

    /// Whether a server that is to vote is on its way into this group.
    pub(crate) fn lets_in(&self, now: Now, wanted: &Wanted) -> bool {
        let known = self.consensus.known(now.mono);
        let coming = |known: &Known| {
            !known.votes && known.heard.is_some() && wanted.voters.contains(&members::server(known.replica))
        };
        self.leads_now(now) && (self.consensus.members().is_joint() || known.iter().any(coming))
    }

    /// Brings the replicas a step nearer to what is wanted; whether a server that is to vote was let in.
    pub(crate) fn move_on(&mut self, cx: &mut Cx<'_>, wanted: &Wanted, may_begin: bool) -> bool {
        let now = cx.now.mono;
        self.asked.retain(|_, (_, at)| now < at.saturating_add(ASKED));
        if !self.leads_now(cx.now) || self.is_stopped() || self.passing.is_some() {
            return false;
        }
        if self.consensus.members().is_joint() {
            self.consensus.leave_joint();
            return false;
        }
        let known = self.consensus.known(now);
        let view = View {
            own: self.consensus.replica(),
            members: self.consensus.members(),
            known: &known,
            wanted,
            asked: &self.asked,
            may_begin,
            old_too: replicas::faults(cx.cfg).old_number_accepted,
        };
        let newcomer = view.newcomer();
        let lets_in = newcomer.is_some();
        let steps = newcomer.unwrap_or_else(|| view.exchange());
        if steps.is_empty() {
            return false;
        }
        if lets_in {
            // What it said before it was let in says nothing of what comes after.
            let of = |step: &Step| match *step {
                Step::Voter(replica) | Step::Learner(replica) | Step::Remove(replica) => members::server(replica),
            };
            for step in &steps {
                self.asked.remove(&of(step));
            }
        }
        self.consensus.propose_change(&Change { steps }) && lets_in
    }

    /// Whether this copy has to ask whether it still is one, or waits for a copy of the state.
    pub(crate) fn seeks(&self, now: Now) -> bool {
        let lost = now.mono >= self.quiet_since.saturating_add(LOST);
        let doubts = self.is_blank() || self.was_removed() || lost;
        !self.consensus.is_alone() && self.copy_in.is_none() && self.restoring.is_none() && doubts
    }

    /// When a leader was last known.
    pub(crate) fn note_quiet(&mut self, now: Now) {
        // Whoever only follows believes in the last leader for ever.
        let told = !self.takes_part() && self.leader(now).is_some();
        let known = self.leads_now(now) || told;
        self.quiet_since = if known { now.mono } else { self.quiet_since.max(self.consensus.heard_at()) };
    }

    /// Whether this copy knows nothing yet.
    pub(crate) fn is_blank(&self) -> bool {
        self.consensus.members().is_blank()
    }

    /// Whether nothing ever stood in it, here or, as far as this copy was told, anywhere.
    pub(crate) fn is_void(&self) -> bool {
        !self.is_blank() && self.consensus.last() == 0 && self.applied.0 == 0 && self.consensus.leader().is_none()
    }

    /// Whether this copy is one of the group's, as far as it knows.
    pub(crate) fn is_replica(&self) -> bool {
        self.consensus.is_member()
    }

    /// Whether the group has the replicas that it began with.
    pub(crate) fn is_as_founded(&self, cfg: &HostConfig) -> bool {
        let members = self.consensus.members();
        members.changes == 0 && *members == replicas::first_members(cfg, self.group)
    }

    /// Whether it has found that it is no replica of the group any more. It keeps its copy and votes until a leader says that a majority of
    /// the others knows that: should some of them be lost before, it may be needed once more.
    pub(crate) fn was_removed(&self) -> bool {
        !self.is_blank() && !self.consensus.is_member() && !self.replaying
    }

    /// A server asks how it stands to the group; the answer.
    pub(crate) fn asked(
        &mut self,
        cx: &mut Cx<'_>,
        from: ServerId,
        (replica, incarnation, blank): (ReplicaId, u64, bool),
    ) -> Option<MemberBody> {
        if self.is_blank() {
            return None;
        }
        let leads = self.leads_now(cx.now);
        let lenient = replicas::faults(cx.cfg).old_number_accepted;
        let members = self.consensus.members();
        if replica != 0 && members.contains(replica) {
            if leads && blank && members.deciding().contains(&replica) {
                // It had everything once, and has lost it: it may not come back under this number.
                return Some(MemberBody::Old { incarnation: members::age(replica).0 });
            }
            if leads && blank {
                self.offer_copy(cx, replica);
            }
            return None;
        }
        if !leads {
            return None;
        }
        if replica != 0 {
            let kept = lenient && members.is_gone(replica);
            if !self.consensus.is_settled() {
                self.consensus.settle();
                return None;
            }
            return (!kept).then_some(MemberBody::Gone { replica });
        }
        if members.next_number(from, incarnation).is_none() && !lenient {
            let highest = members.highest.get(&from).copied().unwrap_or_default();
            return Some(MemberBody::Old { incarnation: members::age(highest).0 });
        }
        // It was let in a moment ago: the answer is on its way, and the question must not count once it has a copy.
        let known = self.consensus.known(cx.now.mono);
        let blank =
            known.iter().find(|known| members::server(known.replica) == from && !known.votes && !known.has_some);
        if blank.is_some_and(|known| members::age(known.replica).0 == incarnation) {
            self.asked.remove(&from);
        } else {
            self.asked.insert(from, (incarnation, cx.now.mono));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    //! The order of things, and what is never done.

    use super::*;

    fn number(server: u32, incarnation: u64) -> ReplicaId {
        members::number(ServerId(server), incarnation, 0)
    }

    fn known(replica: ReplicaId, behind: u64, heard: bool) -> Known {
        Known { replica, behind, votes: false, has_some: behind < 1_000, heard: heard.then_some(0) }
    }

    fn wanted(servers: &[u32]) -> Wanted {
        Wanted { voters: servers.iter().map(|server| ServerId(*server)).collect(), ..Wanted::default() }
    }

    fn steps(members: &Members, known: &[Known], wanted: &Wanted, asked: &Asked) -> Vec<Step> {
        let own = number(1, 1);
        let view = View { own, members, known, wanted, asked, may_begin: true, old_too: false };
        view.newcomer().unwrap_or_else(|| view.exchange())
    }

    #[test]
    fn a_replaced_disk_comes_in_the_place_of_the_old_one_and_votes_when_it_has_caught_up() {
        let mut members = Members::of([number(1, 1), number(2, 1), number(3, 1)]);
        let wanted = wanted(&[1, 2, 3]);
        let asked = |incarnation| Asked::from([(ServerId(3), (incarnation, 0))]);
        let all = |third| vec![known(number(1, 1), 0, true), known(number(2, 1), 0, true), third];
        let dead = all(known(number(3, 1), 9, false));
        assert_eq!(steps(&members, &dead, &wanted, &asked(0)), [], "an older disk");
        let change = steps(&members, &dead, &wanted, &asked(2));
        assert_eq!(change, [Step::Remove(number(3, 1)), Step::Learner(number(3, 2))]);
        members.voters.remove(&number(3, 1));
        members.learners.insert(number(3, 2));
        members.highest.insert(ServerId(3), number(3, 2));
        let blank = all(known(number(3, 2), 1_000, true));
        assert_eq!(steps(&members, &blank, &wanted, &asked(2)), [], "it has not heard of it yet");
        assert_eq!(steps(&members, &blank, &wanted, &asked(1)), [], "an older disk");
        assert_eq!(steps(&members, &all(known(number(3, 2), NEAR + 1, true)), &wanted, &Asked::new()), []);
        let near = all(known(number(3, 2), 3, true));
        assert_eq!(steps(&members, &near, &wanted, &Asked::new()), [Step::Voter(number(3, 2))]);
    }

    #[test]
    fn nobody_goes_before_another_votes_nor_where_too_few_would_be_left() {
        let mut members = Members::of([number(1, 1), number(2, 1), number(3, 1)]);
        let wanted = wanted(&[1, 2, 4]);
        let asked = Asked::from([(ServerId(4), (1, 0))]);
        let live = |second| {
            let three = [number(1, 1), number(3, 1), number(4, 1)].map(|replica| known(replica, 0, true));
            [&three[..], &[known(number(2, 1), 0, second)]].concat()
        };
        assert_eq!(steps(&members, &live(true), &wanted, &Asked::new()), [], "the other has not come");
        assert_eq!(steps(&members, &live(true), &wanted, &asked), [Step::Learner(number(4, 1))]);
        members.learners.insert(number(4, 1));
        let both = [Step::Voter(number(4, 1)), Step::Remove(number(3, 1))];
        assert_eq!(steps(&members, &live(true), &wanted, &Asked::new()), both);
        let one = Members::of([number(1, 1), number(2, 1), number(3, 1)]);
        let two = wanted_two();
        assert_eq!(steps(&one, &live(false), &two, &Asked::new()), [], "one of two would be left");
        assert_eq!(steps(&one, &live(true), &two, &Asked::new()), [Step::Remove(number(3, 1))]);
        let elsewhere = Wanted { voters: [ServerId(2), ServerId(3)].into(), ..Wanted::default() };
        assert_eq!(steps(&one, &live(true), &elsewhere, &Asked::new()), [], "whoever leads does not remove itself");
    }

    fn wanted_two() -> Wanted {
        wanted(&[1, 2])
    }
}
