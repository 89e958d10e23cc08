//! Until when a leader may count on being the only one, and how long a follower waits before it helps another to lead.
//!
//! Owns the bookkeeping of both. Each round of heartbeats carries the time, on the leader's clock, at which it went out, and is answered
//! with it. Whoever hears a heartbeat gives no vote for [`PROMISE`]; so after a round that a majority has answered nobody else is elected
//! for that long, counted from when it was sent, and the leader counts on the somewhat shorter [`LEASE`]. It holds across anything that
//! stops this process, because only its own clock is asked. An answer carries the time on the follower's clock in turn, and the next heartbeat
//! to it brings that back: so a follower knows since when at the latest, by its own clock, what the leader tells it is true.
//! Does not own clocks.

use super::ReplicaId;
use crate::ids::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// How long a leader counts on the last round of heartbeats that a majority has answered.
pub(super) const LEASE: Millis = 400;
/// How long a follower that heard a heartbeat gives no vote. What it is longer than the lease is for clocks that run unequally, and for the
/// time of a turn, which is read at its beginning.
pub(super) const PROMISE: Millis = 450;
/// Bytes of a time.
const STAMP: usize = 8;
/// Stands before a term in the context of a heartbeat.
const TERM: u8 = 2;

/// What a leader knows of another replica.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    /// When the newest round that it has answered was sent.
    round: Millis,
    /// When it was last heard.
    heard: Millis,
    /// Since when it has been heard without a long pause.
    since: Millis,
    /// What its own clock said when it last answered.
    told: Option<Millis>,
}

/// What the answers of one term say.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The sets of voters of which each has to have answered by majority, as others and how many of these.
    sets: Vec<(BTreeSet<ReplicaId>, usize)>,
    term: u64,
    answers: BTreeMap<ReplicaId, Answer>,
    /// When the newest round that a majority has answered was sent.
    confirmed: Option<Millis>,
    /// When another replica was told to lead. Its voters do not wait, so nothing is certain in this term any more.
    given_up: Option<Millis>,
}

impl Lease {
    /// A replica's among these sets of voters. What was heard stays. That `extra` ones count is a fault.
    pub(super) fn among<'a>(
        &mut self,
        own: ReplicaId,
        sets: impl IntoIterator<Item = &'a BTreeSet<ReplicaId>>,
        extra: &BTreeSet<ReplicaId>,
    ) {
        let others = |set: &BTreeSet<ReplicaId>| {
            let needed = set.len() / 2 + 1 - usize::from(set.contains(&own));
            (set.union(extra).copied().filter(|voter| *voter != own).collect(), needed)
        };
        self.sets = sets.into_iter().filter(|set| !set.is_empty()).map(others).collect();
        self.confirmed = self.majority();
    }

    /// When the newest round was sent that a majority of each set has answered.
    fn majority(&self) -> Option<Millis> {
        let of_set = |(others, needed): &(BTreeSet<ReplicaId>, usize)| {
            let Some(last) = needed.checked_sub(1) else { return Some(Millis::MAX) };
            let mut rounds: Vec<Millis> =
                others.iter().filter_map(|other| self.answers.get(other)).map(|answer| answer.round).collect();
            rounds.sort_unstable_by(|a, b| b.cmp(a));
            rounds.get(last).copied()
        };
        // Nothing, if any of them has not.
        self.sets.iter().map(of_set).min().flatten()
    }

    /// The term that the answers are of.
    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// This replica leads in a new term.
    pub(super) fn begin(&mut self, term: u64) {
        *self = Lease { sets: std::mem::take(&mut self.sets), term, ..Lease::default() };
    }

    /// Another replica is told to lead.
    pub(super) fn give_up(&mut self, now: Millis) {
        self.given_up.get_or_insert(now);
    }

    /// When that was.
    pub(super) fn given_up(&self) -> Option<Millis> {
        self.given_up
    }

    /// A replica has answered a heartbeat with this context.
    pub(super) fn answered(&mut self, now: Millis, from: ReplicaId, context: &[u8]) {
        let Some(round) = round(context).filter(|round| *round <= now) else { return };
        let answer = self.answers.entry(from).or_insert(Answer { since: now, heard: now, ..Answer::default() });
        if now >= answer.heard.saturating_add(LEASE) {
            answer.since = now;
        }
        answer.heard = now;
        answer.told = stamp(context.get(STAMP..).unwrap_or_default());
        if round <= answer.round {
            return;
        }
        answer.round = round;
        self.confirmed = self.majority();
    }

    /// Whether nobody else can lead now.
    pub(super) fn holds(&self, now: Millis) -> bool {
        self.given_up.is_none() && self.confirmed.is_some_and(|sent| now < sent.saturating_add(LEASE))
    }

    /// What a replica's clock said when it last answered; `None` if that was not a moment ago: it may have begun anew since.
    pub(super) fn told(&self, now: Millis, replica: ReplicaId) -> Option<Millis> {
        let answer = self.answers.get(&replica)?;
        answer.told.filter(|_| now < answer.heard.saturating_add(LEASE))
    }

    /// Since when a replica has been heard without a long pause; `None` if it was not heard a moment ago.
    pub(super) fn heard_since(&self, now: Millis, replica: ReplicaId) -> Option<Millis> {
        let answer = self.answers.get(&replica)?;
        (now < answer.heard.saturating_add(LEASE)).then_some(answer.since)
    }
}

/// What a leader says with a heartbeat beside the round's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said<'a> {
    /// What the receiver's clock said when it was last heard.
    pub(super) told: Option<Millis>,
    /// The term of the item up to which the receiver is told that all is committed; 0 if that is not in the leader's log any more, `None` from
    /// a leader that does not say it.
    pub(super) term: Option<u64>,
    /// What else it has to say.
    pub(super) note: &'a [u8],
}

/// The context of a heartbeat. A leader of before said neither the mark nor the term, and its note never begins with the mark.
pub(super) fn context(now: Millis, said: Said<'_>) -> Vec<u8> {
    let (now, told) = (now.to_le_bytes(), said.told.unwrap_or(0).to_le_bytes());
    let term = said.term.map(|term| [&[TERM][..], &term.to_le_bytes()[..]].concat()).unwrap_or_default();
    [&now[..], &told[..], &term, said.note].concat()
}

/// The context of the answer to a heartbeat with that context: the round's time, and this replica's.
pub(super) fn answer(context: &[u8], now: Millis) -> Vec<u8> {
    [context.get(..STAMP).unwrap_or_default(), &now.to_le_bytes()[..]].concat()
}

fn stamp(bytes: &[u8]) -> Option<Millis> {
    bytes.first_chunk::<STAMP>().map(|stamp| Millis::from_le_bytes(*stamp))
}

/// When the round with this context went out.
fn round(context: &[u8]) -> Option<Millis> {
    stamp(context)
}

/// The inverse of [`context`], but for the round's time.
pub(super) fn said(context: &[u8]) -> Said<'_> {
    let rest = context.get(STAMP..).unwrap_or_default();
    let told = stamp(rest).filter(|told| *told > 0);
    let rest = rest.get(STAMP..).unwrap_or_default();
    match rest.split_first().and_then(|(mark, rest)| rest.split_first_chunk::<STAMP>().filter(|_| *mark == TERM)) {
        Some((term, note)) => Said { told, term: Some(u64::from_le_bytes(*term)), note },
        None => Said { told, term: None, note: rest },
    }
}

#[cfg(test)]
mod tests {
    //! A majority, the newest round that it has answered, and no time that has not come yet.

    use super::*;

    fn lease(voters: u64) -> Lease {
        let mut lease = Lease::default();
        lease.among(1, [&(1..=voters).collect()], &BTreeSet::new());
        lease.begin(3);
        lease
    }

    fn beat(now: Millis, note: &[u8]) -> Vec<u8> {
        context(now, Said { note, ..Said::default() })
    }

    #[test]
    fn it_lasts_from_when_the_round_went_out_that_a_majority_has_answered() {
        let mut three = lease(3);
        assert!(!three.holds(0), "nobody has answered");
        three.answered(1_090, 2, &beat(1_000, b""));
        assert!(three.holds(1_000 + LEASE - 1) && !three.holds(1_000 + LEASE));
        three.answered(1_200, 3, &beat(1_150, b"more"));
        assert!(three.holds(1_150 + LEASE - 1), "one other is enough");
        three.answered(1_300, 3, &beat(1_050, b""));
        assert!(three.holds(1_150 + LEASE - 1), "a late answer takes nothing back");

        let mut five = lease(5);
        five.answered(1_100, 2, &beat(1_100, b""));
        assert!(!five.holds(1_100));
        five.answered(1_100, 3, &beat(1_000, b""));
        assert!(five.holds(1_399) && !five.holds(1_400), "the older of the two that are needed counts");
    }

    #[test]
    fn in_a_joint_configuration_a_majority_of_the_old_and_of_the_new_voters_is_needed() {
        let mut lease = lease(3);
        lease.answered(1_000, 2, &beat(1_000, b""));
        lease.answered(1_000, 9, &beat(1_000, b""));
        assert!(lease.holds(1_000));
        lease.among(1, [&[1, 2, 3].into(), &[1, 4, 5].into()], &BTreeSet::new());
        assert!(!lease.holds(1_000), "nobody of the new ones has answered");
        lease.answered(1_000, 4, &beat(1_000, b""));
        assert!(lease.holds(1_000));
        lease.among(1, [&[4, 5].into()], &BTreeSet::new());
        assert!(!lease.holds(1_000), "who does not vote does not count");
    }

    #[test]
    fn what_cannot_be_an_answer_is_none() {
        let mut lease = lease(3);
        lease.answered(1_000, 2, &beat(1_001, b""));
        lease.answered(1_000, 2, b"short");
        assert!(!lease.holds(1_000));
        lease.answered(1_000, 2, &beat(1_000, b""));
        assert!(lease.holds(1_000));
        lease.give_up(1_000);
        lease.answered(1_001, 2, &beat(1_001, b""));
        assert!(!lease.holds(1_001), "for the whole term");
        lease.begin(4);
        assert!(!lease.holds(1_000), "answers of an older term say nothing");
        assert_eq!(said(&beat(7, b"note")), Said { note: b"note", ..Said::default() });
        assert_eq!(said(b"short"), Said::default());
    }

    #[test]
    fn a_replica_gets_the_time_back_that_its_clock_said() {
        let mut lease = lease(3);
        let heartbeat = beat(1_000, b"note");
        lease.answered(1_010, 2, &answer(&heartbeat, 77_000));
        assert_eq!(lease.told(1_020, 2), Some(77_000));
        assert_eq!(lease.told(1_020, 3), None, "not heard yet");
        assert_eq!(lease.told(1_010 + LEASE, 2), None, "it may have begun anew since");
        let says = Said { told: lease.told(1_020, 2), term: Some(9), note: b"note" };
        assert_eq!(says.told, Some(77_000));
        assert_eq!(said(&context(1_100, says)), says);
        lease.answered(1_030, 3, &beat(1_000, b"")[..8]);
        assert_eq!(lease.told(1_030, 3), None, "one that tells nothing of its clock");
    }
}
