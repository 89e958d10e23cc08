//! What the replicas of a group say to each other.
//!
//! Owns our own form of it, which is what goes over links, and the translation into the library's and back. A message that makes no sense
//! in itself cannot be written down in it; whether it makes sense here and now is asked by `super::check` before the library sees it.

use super::log;
use super::{LogItem, ReplicaId};
use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use serde::{Deserialize, Serialize};

/// What the library says in a vote request that comes from an orderly change of leader.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// One element of the consensus log on its way; its index follows from where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaItem {
    /// The term in which it was proposed.
    pub term: u64,
    /// What it carries, in its stored form; empty where the library itself wrote it.
    pub payload: Bytes,
}

/// One message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMessage {
    /// Who says it.
    pub from: ReplicaId,
    /// To whom.
    pub to: ReplicaId,
    /// In which term.
    pub term: u64,
    /// What.
    pub body: ReplicaBody,
}

/// What one replica says to another (Ongaro's thesis, chapters 3, 4, 6, 9 and 10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaBody {
    /// The leader: these items follow the one at that index and term.
    Append {
        /// Index of the item before them.
        index: u64,
        /// Its term.
        log_term: u64,
        /// What is committed.
        commit: u64,
        /// The items.
        items: Vec<ReplicaItem>,
    },
    /// An answer: synced up to there, or not taken.
    Appended {
        /// Index of the last item that is synced; of the one that did not fit, if rejected.
        index: u64,
        /// If rejected: the term at the hint.
        log_term: u64,
        /// What the sender knows as committed.
        commit: u64,
        /// Whether it did not fit.
        rejected: bool,
        /// If rejected: where the leader may try next.
        hint: u64,
    },
    /// The leader is there.
    Heartbeat {
        /// What is committed, as far as the receiver is known to have it.
        commit: u64,
        /// Reads that wait for the answer.
        context: Bytes,
    },
    /// An answer.
    HeartbeatAnswer {
        /// What the sender knows as committed.
        commit: u64,
        /// Echoed.
        context: Bytes,
    },
    /// Asks for a vote.
    AskVote {
        /// Only whether it would be given.
        pre: bool,
        /// Whether the leader itself has asked for the change.
        transfer: bool,
        /// The candidate's last index.
        index: u64,
        /// Its term.
        log_term: u64,
        /// What the candidate knows as committed.
        commit: u64,
        /// The term there.
        commit_term: u64,
    },
    /// An answer.
    Vote {
        /// Only whether it would be given.
        pre: bool,
        /// Whether it is given.
        granted: bool,
        /// If not: what the sender knows as committed.
        commit: u64,
        /// The term there.
        commit_term: u64,
    },
    /// The leader hands over: campaign at once.
    TimeoutNow,
    /// A follower asks up to where it must have applied before it may answer a read.
    ReadIndex {
        /// Names the read.
        context: Bytes,
    },
    /// An answer.
    ReadIndexAnswer {
        /// Up to there.
        index: u64,
        /// Echoed.
        context: Bytes,
    },
}

impl ReplicaMessage {
    /// Our form of what the library wants to have sent; `None` for what is never sent.
    pub(super) fn from_library(mut message: Message) -> Option<ReplicaMessage> {
        let (index, log_term, commit, commit_term) =
            (message.index, message.log_term, message.commit, message.commit_term);
        let pre = matches!(message.msg_type, MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse);
        let context = message.context.clone();
        let body = match message.msg_type {
            MessageType::MsgAppend => {
                let entries = message.take_entries().into_vec();
                let item = |entry: &Entry| {
                    let LogItem { term, payload, .. } = log::item(entry);
                    ReplicaItem { term, payload }
                };
                ReplicaBody::Append { index, log_term, commit, items: entries.iter().map(item).collect() }
            }
            MessageType::MsgAppendResponse => {
                let (rejected, hint) = (message.reject, message.reject_hint);
                ReplicaBody::Appended { index, log_term, commit, rejected, hint }
            }
            MessageType::MsgHeartbeat => ReplicaBody::Heartbeat { commit, context },
            MessageType::MsgHeartbeatResponse => ReplicaBody::HeartbeatAnswer { commit, context },
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                let transfer = context == TRANSFER;
                ReplicaBody::AskVote { pre, transfer, index, log_term, commit, commit_term }
            }
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                ReplicaBody::Vote { pre, granted: !message.reject, commit, commit_term }
            }
            MessageType::MsgTimeoutNow => ReplicaBody::TimeoutNow,
            MessageType::MsgReadIndex => ReplicaBody::ReadIndex { context: data(&message) },
            MessageType::MsgReadIndexResp => ReplicaBody::ReadIndexAnswer { index, context: data(&message) },
            _ => return None,
        };
        Some(ReplicaMessage { from: message.from, to: message.to, term: message.term, body })
    }

    /// The library's form.
    pub(super) fn into_library(self) -> Message {
        let mut out = Message { from: self.from, to: self.to, term: self.term, ..Message::default() };
        match self.body {
            ReplicaBody::Append { index, log_term, commit, items } => {
                out.msg_type = MessageType::MsgAppend;
                (out.index, out.log_term, out.commit) = (index, log_term, commit);
                let entries = (index + 1..)
                    .zip(items)
                    .map(|(index, ReplicaItem { term, payload })| log::entry(LogItem { index, term, payload }));
                out.entries = entries.collect::<Vec<Entry>>().into();
            }
            ReplicaBody::Appended { index, log_term, commit, rejected, hint } => {
                out.msg_type = MessageType::MsgAppendResponse;
                (out.index, out.log_term, out.commit) = (index, log_term, commit);
                (out.reject, out.reject_hint) = (rejected, hint);
            }
            ReplicaBody::Heartbeat { commit, context } => {
                out.msg_type = MessageType::MsgHeartbeat;
                (out.commit, out.context) = (commit, context);
            }
            ReplicaBody::HeartbeatAnswer { commit, context } => {
                out.msg_type = MessageType::MsgHeartbeatResponse;
                (out.commit, out.context) = (commit, context);
            }
            ReplicaBody::AskVote { pre, transfer, index, log_term, commit, commit_term } => {
                out.msg_type = if pre { MessageType::MsgRequestPreVote } else { MessageType::MsgRequestVote };
                (out.index, out.log_term, out.commit, out.commit_term) = (index, log_term, commit, commit_term);
                out.context = if transfer { Bytes::from_static(TRANSFER) } else { Bytes::new() };
            }
            ReplicaBody::Vote { pre, granted, commit, commit_term } => {
                use MessageType::{MsgRequestPreVoteResponse, MsgRequestVoteResponse};
                out.msg_type = if pre { MsgRequestPreVoteResponse } else { MsgRequestVoteResponse };
                (out.reject, out.commit, out.commit_term) = (!granted, commit, commit_term);
            }
            ReplicaBody::TimeoutNow => out.msg_type = MessageType::MsgTimeoutNow,
            ReplicaBody::ReadIndex { context } => {
                out.msg_type = MessageType::MsgReadIndex;
                out.entries = vec![Entry { data: context, ..Entry::default() }].into();
            }
            ReplicaBody::ReadIndexAnswer { index, context } => {
                out.msg_type = MessageType::MsgReadIndexResp;
                out.index = index;
                out.entries = vec![Entry { data: context, ..Entry::default() }].into();
            }
        }
        out
    }
}

/// What a question for a read index, or its answer, carries.
fn data(message: &Message) -> Bytes {
    message.entries.first().map(|entry| entry.data.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Both ways lose nothing.

    use super::*;

    #[test]
    fn every_message_comes_back_from_the_librarys_form_as_it_was() {
        let item = |term, payload: &'static [u8]| ReplicaItem { term, payload: Bytes::from_static(payload) };
        let context = Bytes::from_static(b"read 7");
        let mut bodies = vec![
            ReplicaBody::Append { index: 7, log_term: 3, commit: 6, items: vec![item(3, b"one"), item(4, b"")] },
            ReplicaBody::Append { index: 0, log_term: 0, commit: 0, items: vec![] },
            ReplicaBody::Appended { index: 9, log_term: 0, commit: 8, rejected: false, hint: 0 },
            ReplicaBody::Appended { index: 9, log_term: 2, commit: 5, rejected: true, hint: 6 },
            ReplicaBody::Heartbeat { commit: 4, context: context.clone() },
            ReplicaBody::HeartbeatAnswer { commit: 4, context: context.clone() },
            ReplicaBody::TimeoutNow,
            ReplicaBody::ReadIndex { context: context.clone() },
            ReplicaBody::ReadIndexAnswer { index: 12, context },
        ];
        for (pre, other) in [(false, false), (false, true), (true, false), (true, true)] {
            let (index, log_term, commit, commit_term) = (8, 2, 7, 2);
            bodies.push(ReplicaBody::AskVote { pre, transfer: other, index, log_term, commit, commit_term });
            bodies.push(ReplicaBody::Vote { pre, granted: other, commit, commit_term });
        }
        for body in bodies {
            let message = ReplicaMessage { from: 1, to: 2, term: 4, body };
            assert_eq!(ReplicaMessage::from_library(message.clone().into_library()), Some(message));
        }
    }

    #[test]
    fn what_is_only_for_the_library_itself_is_not_sent() {
        for local in [MessageType::MsgHup, MessageType::MsgBeat, MessageType::MsgCheckQuorum, MessageType::MsgPropose] {
            let message = Message { msg_type: local, ..Message::default() };
            assert_eq!(ReplicaMessage::from_library(message), None);
        }
    }
}
