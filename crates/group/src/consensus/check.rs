//! Whether a message can be true here, asked before the library sees it: the library ends the process over what cannot be.
//!
//! Owns the questions. What follows from an answer is the caller's.

use super::message::{ReplicaBody, ReplicaItem, ReplicaMessage};
use super::{ReplicaId, members, witness};
use crate::codec::MAX_ITEM;

/// Terms and indices beyond this come from no replica: one a nanosecond would take centuries.
const FAR: u64 = 1 << 62;
/// Bytes of a context that names a read.
const CONTEXT: usize = 128;

/// What a replica knows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) replica: ReplicaId,
    pub(super) term: u64,
    /// Last index of its log.
    pub(super) last: u64,
    /// Committed index, and its term.
    pub(super) committed: (u64, u64),
}

/// Why a message cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// It is for another replica, or from this one.
    #[error("it is not for this replica")]
    Misdirected,
    /// Terms, indices or sizes contradict each other.
    #[error("it contradicts itself")]
    Contradiction,
    /// The leader knows this replica to have had what it does not have: its disk lost acknowledged items.
    #[error("the leader knows of items that this replica once had on its disk")]
    Lost,
    /// The leader has another item where this replica has a committed one.
    #[error("the leader has another item in the place of a committed one")]
    Forked,
    /// An answer speaks of items that were never sent.
    #[error("it speaks of items that were never sent")]
    Ahead,
    /// Its sender was taken from the group.
    #[error("its sender is no replica of the group any more")]
    Gone,
    /// This replica knows nothing yet, and waits for a copy.
    #[error("this replica waits for a copy")]
    Blank,
    /// A witness would lead, or is to.
    #[error("a witness does not lead")]
    Witness,
    /// An item without its content comes to a replica that holds data, or one with it to a witness.
    #[error("an item comes without its content to a replica with data, or with it to a witness")]
    Content,
}

/// Whether a message can be true.
pub(super) fn check(here: &Standing, message: &ReplicaMessage) -> Result<(), Impossible> {
    if message.to != here.replica || message.from == here.replica || message.from == 0 {
        return Err(Impossible::Misdirected);
    }
    if message.term == 0 || message.term >= FAR {
        return Err(Impossible::Contradiction);
    }
    // What is of an older term is not believed anyhow.
    let counts = message.term >= here.term;
    match &message.body {
        ReplicaBody::Append { index, log_term, commit, items } => {
            consistent((*index, *log_term, *commit), message.term, items)?;
            if counts && *index >= here.committed.0 {
                let same = *index > here.committed.0 || *log_term == here.committed.1;
                if *log_term < here.committed.1 || !same {
                    return Err(Impossible::Forked);
                }
            }
            Ok(())
        }
        ReplicaBody::Heartbeat { commit, context } => {
            short(context)?;
            // A leader tells each replica only of what that one has said to be synced.
            if counts && *commit > here.last { Err(Impossible::Lost) } else { Ok(()) }
        }
        ReplicaBody::Appended { index, hint, rejected, commit, .. } => {
            if *index >= FAR || *hint >= FAR || *commit >= FAR {
                return Err(Impossible::Contradiction);
            }
            let ahead = message.term == here.term && !rejected && *index > here.last;
            if ahead { Err(Impossible::Ahead) } else { Ok(()) }
        }
        ReplicaBody::HeartbeatAnswer { context, .. }
        | ReplicaBody::ReadIndex { context }
        | ReplicaBody::ReadIndexAnswer { context, .. } => short(context),
        ReplicaBody::AskVote { index, commit, .. } => {
            if *index >= FAR || *commit >= FAR {
                Err(Impossible::Contradiction)
            } else {
                Ok(())
            }
        }
        ReplicaBody::Vote { .. } | ReplicaBody::TimeoutNow => Ok(()),
    }
}

/// Whether a message is one that a witness may say or hear: it says nothing that a leader or a candidate says, and gets no content.
pub(super) fn of_witnesses(here: ReplicaId, message: &ReplicaMessage) -> Result<(), Impossible> {
    use ReplicaBody::{Append, AskVote, Heartbeat, ReadIndexAnswer, TimeoutNow};
    let leads =
        matches!(message.body, Append { .. } | Heartbeat { .. } | AskVote { .. } | TimeoutNow | ReadIndexAnswer { .. });
    let is_to_lead = members::is_witness(here) && matches!(message.body, TimeoutNow);
    if (members::is_witness(message.from) && leads) || is_to_lead {
        return Err(Impossible::Witness);
    }
    match &message.body {
        Append { items, .. } if !items.iter().all(|item| witness::fits(here, &item.payload)) => {
            Err(Impossible::Content)
        }
        _ => Ok(()),
    }
}

fn short(context: &[u8]) -> Result<(), Impossible> {
    if context.len() > CONTEXT { Err(Impossible::Contradiction) } else { Ok(()) }
}

/// Items whose terms do not fall and are not of the future.
fn consistent((index, log_term, commit): (u64, u64, u64), term: u64, items: &[ReplicaItem]) -> Result<(), Impossible> {
    let near = index < FAR && commit < FAR && (index == 0) == (log_term == 0);
    let last = items.iter().try_fold(log_term, |before, item| {
        (item.term >= before.max(1) && item.payload.len() <= MAX_ITEM).then_some(item.term)
    });
    if near && last.is_some_and(|last| last <= term) { Ok(()) } else { Err(Impossible::Contradiction) }
}

#[cfg(test)]
mod tests {
    //! Each way in which a message cannot be, beside one that can.

    use super::*;
    use bytes::Bytes;

    const HERE: Standing = Standing { replica: 2, term: 5, last: 20, committed: (18, 4) };

    fn checked(term: u64, body: ReplicaBody) -> Result<(), Impossible> {
        check(&HERE, &ReplicaMessage { from: 1, to: 2, term, body })
    }

    fn append(index: u64, log_term: u64, terms: &[u64]) -> ReplicaBody {
        let items = terms.iter().map(|term| ReplicaItem { term: *term, payload: Bytes::new() }).collect();
        ReplicaBody::Append { index, log_term, commit: 3, items }
    }

    #[test]
    fn who_speaks_to_whom_is_looked_at() {
        for (from, to) in [(1, 3), (2, 2), (0, 2)] {
            let message = ReplicaMessage { from, to, term: 5, body: ReplicaBody::TimeoutNow };
            assert_eq!(check(&HERE, &message), Err(Impossible::Misdirected));
        }
        assert_eq!(checked(5, ReplicaBody::TimeoutNow), Ok(()));
        assert_eq!(checked(0, ReplicaBody::TimeoutNow), Err(Impossible::Contradiction));
        assert_eq!(checked(FAR, ReplicaBody::TimeoutNow), Err(Impossible::Contradiction));
    }

    #[test]
    fn appended_items_must_agree_with_themselves_and_with_what_is_committed() {
        assert_eq!(checked(5, append(18, 4, &[4, 5, 5])), Ok(()));
        assert_eq!(checked(5, append(20, 5, &[])), Ok(()));
        assert_eq!(checked(5, append(0, 0, &[1])), Ok(()), "of long ago: repeated");
        for (index, log_term, terms) in
            [(18, 4, &[5, 4][..]), (18, 4, &[6]), (18, 6, &[]), (18, 4, &[0]), (0, 1, &[1]), (3, 0, &[1])]
        {
            assert_eq!(checked(5, append(index, log_term, terms)), Err(Impossible::Contradiction), "{terms:?}");
        }
        assert_eq!(checked(5, append(18, 3, &[5])), Err(Impossible::Forked));
        assert_eq!(checked(5, append(18, 5, &[5])), Err(Impossible::Forked));
        assert_eq!(checked(5, append(19, 3, &[])), Err(Impossible::Forked));
        assert_eq!(checked(4, append(19, 3, &[])), Ok(()), "of an older term, which is not believed");
    }

    #[test]
    fn a_leader_that_knows_more_of_this_disk_than_there_is_says_that_it_lost_something() {
        let beat = |commit| ReplicaBody::Heartbeat { commit, context: Bytes::new() };
        assert_eq!(checked(5, beat(20)), Ok(()));
        assert_eq!(checked(5, beat(21)), Err(Impossible::Lost));
        assert_eq!(checked(4, beat(21)), Ok(()));
        let long = ReplicaBody::Heartbeat { commit: 1, context: Bytes::from(vec![0; CONTEXT + 1]) };
        assert_eq!(checked(5, long), Err(Impossible::Contradiction));
    }

    #[test]
    fn a_witness_is_no_leader_and_gets_no_content() {
        let witness = members::as_witness(2);
        let of = |here, from, body| of_witnesses(here, &ReplicaMessage { from, to: here, term: 5, body });
        let vote = ReplicaBody::Vote { pre: false, granted: true, commit: 0, commit_term: 0 };
        let answer = ReplicaBody::Appended { index: 7, log_term: 0, commit: 0, rejected: false, hint: 0 };
        let beat = ReplicaBody::Heartbeat { commit: 0, context: Bytes::new() };
        let ask = ReplicaBody::AskVote { pre: true, transfer: false, index: 7, log_term: 5, commit: 0, commit_term: 0 };
        for (body, may) in [(vote, true), (answer, true), (beat, false), (ask, false), (append(18, 4, &[]), false)] {
            assert_eq!(of(1, witness, body.clone()).is_ok(), may, "{body:?}");
            assert_eq!(of(1, 3, body), Ok(()), "one with data may");
        }
        assert_eq!(of(witness, 1, ReplicaBody::TimeoutNow), Err(Impossible::Witness));
        let item = |payload| {
            let items = vec![ReplicaItem { term: 5, payload }];
            ReplicaBody::Append { index: 18, log_term: 4, commit: 3, items }
        };
        let (bare, content) = (crate::codec::bare(), Bytes::from_static(b"\x01\x05"));
        assert_eq!(of(witness, 1, item(bare.clone())), Ok(()));
        assert_eq!(of(witness, 1, item(content.clone())), Err(Impossible::Content));
        assert_eq!(of(2, 1, item(bare)), Err(Impossible::Content));
        assert_eq!(of(2, 1, item(content)), Ok(()));
    }

    #[test]
    fn an_answer_cannot_speak_of_what_was_never_sent() {
        let answer = |index, rejected| ReplicaBody::Appended { index, log_term: 0, commit: 0, rejected, hint: 0 };
        assert_eq!(checked(5, answer(20, false)), Ok(()));
        assert_eq!(checked(5, answer(21, false)), Err(Impossible::Ahead));
        assert_eq!(checked(5, answer(21, true)), Ok(()));
        assert_eq!(checked(6, answer(21, false)), Ok(()), "to a leader of another term");
    }
}
