//! Frames between servers, of one pool or of two, inside their mutually authenticated link.
//!
//! Owns the envelope: replication frames, heartbeats, SIP between pools, forwarded proposals and commands.
//! Does not own what replication frames or heartbeats contain.

use crate::command::Actor;
use crate::copies::Copy;
use crate::orders::Order;
use bytes::Bytes;
use pairline_group::io::{Done, Proposal};
use pairline_group::{GroupId, Key, Kind, Position, Record, ServerId};
use serde::{Deserialize, Serialize};

/// Version of the envelope; an unknown one is refused untouched.
pub const PEER_VERSION: u8 = 1;

/// Longest encoded frame that is accepted.
pub const PEER_FRAME_LIMIT: usize = 16 * 1024 * 1024;

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// An encoded replication frame.
    Group(Bytes),
    /// An encoded heartbeat.
    Heartbeat(Bytes),
    /// One SIP message for the other pool.
    Sip(Bytes),
    /// A proposal for a group that the other pool serves.
    Propose {
        /// Echoed in the answer.
        ticket: u64,
        /// Where to.
        group: GroupId,
        /// What; it carries its operation id, so a retry is applied once.
        proposal: Proposal,
    },
    /// Its answer.
    Proposed {
        /// The request.
        ticket: u64,
        /// How it ended.
        done: Done,
    },
    /// A command that belongs to the other pool.
    Command {
        /// Echoed in the answer.
        call: u64,
        /// Who asked there.
        actor: Actor,
        /// The command, as JSON (its self-describing form is also the API's).
        command: Bytes,
    },
    /// Its answer.
    CommandReply {
        /// The request.
        call: u64,
        /// `Result<Reply, Problem>` as JSON.
        reply: Bytes,
    },
    /// The runner of a procedure asks the source of a planned move for one group's handover.
    Handover {
        /// Echoed in the answer.
        call: u64,
        /// Which group.
        group: GroupId,
        /// The procedure's step.
        step: pairline_group::StepRef,
    },
    /// Asks for the statuses of all copies there.
    Look {
        /// Echoed in the answer.
        call: u64,
    },
    /// Its answer.
    Looked {
        /// The request.
        call: u64,
        /// One per group.
        statuses: Vec<pairline_group::io::GroupStatus>,
    },
    /// A procedure changes how a pool's mode is to be seen.
    Mode {
        /// Whose mode.
        pool: pairline_group::PoolId,
        /// 1 failover started, 2 failback started, 3 procedure ended.
        event: u8,
    },
    /// Its answer.
    HandedOver {
        /// The request.
        call: u64,
        /// How it ended.
        done: Done,
    },
    /// Replication frames one behind the other, each with its length before it as in [`PeerFrame::Group`], to the end of the frame.
    /// Never decoded as a whole: see [`groups_in`].
    Groups,
    /// A server of the same pool is there.
    Alive,
    /// Asks who leads a group in this pool for records of an owner: of one kind, or all.
    Read {
        /// Echoed in the answer.
        call: u64,
        /// Which group.
        group: GroupId,
        /// Whose.
        owner: String,
        /// Which.
        kind: Option<Kind>,
    },
    /// Its answer.
    Records {
        /// The request.
        call: u64,
        /// The records in the order of their keys; from a server that does not lead the group: who does, if that is known there.
        found: Result<Vec<(Key, Record)>, Option<ServerId>>,
    },
    /// A server that has stood still asks for a sign: what comes before the answer had waited, and its senders have given it up.
    Awake {
        /// Echoed in the answer.
        call: u64,
    },
    /// Its answer.
    Known {
        /// The request.
        call: u64,
    },
    /// A REGISTER that a client has sent to a server of the same pool, as it came, for the one that leads its user's group.
    Register {
        /// Echoed in the answer.
        call: u64,
        /// The client's flow, as in flow tokens: the sender's own.
        client: Bytes,
        /// What credentials are weighed by, as the listener there wants it.
        algorithm: String,
        /// The request.
        message: Bytes,
    },
    /// Its answer.
    Registered {
        /// The request.
        call: u64,
        /// The final response for the client; none: not decided in one step there, and nothing was done.
        response: Option<Bytes>,
    },
    /// A procedure at another server of this pool wants something of a group that is led here.
    Order {
        /// Echoed in the answer.
        call: u64,
        /// Which group.
        group: GroupId,
        /// What.
        order: Order,
    },
    /// Its answer.
    Ordered {
        /// The request.
        call: u64,
        /// How it ended.
        done: Done,
    },
    /// Whoever leads a group has applied an entry of a procedure's step.
    Stepped {
        /// Which group.
        group: GroupId,
        /// The entry as it is stored.
        entry: Bytes,
    },
    /// The copy that whoever leads a group has refuses to be activated by a handover.
    HandoverRefused {
        /// Which group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// Asks another server of this pool for all its copies.
    Copies {
        /// Echoed in the answer.
        call: u64,
    },
    /// Its answer.
    HasCopies {
        /// The request.
        call: u64,
        /// One per group.
        copies: Vec<Copy>,
        /// The procedure that runs there.
        runs: Option<u128>,
    },
    /// A server tells another one of its pool of the document in force: the witness, and one whose copy of the management store is behind,
    /// take it from there.
    Document {
        /// As it is stored there.
        value: Bytes,
        /// Up to where the store is known to have no other.
        at: Position,
    },
    /// A server works at a feature level.
    #[cfg(feature = "next")]
    AtLevel {
        /// Which.
        level: u16,
    },
}

/// Why a frame is refused.
#[derive(Debug, thiserror::Error)]
pub enum PeerFrameError {
    /// Longer than [`PEER_FRAME_LIMIT`].
    #[error("frame of {0} bytes is over the limit")]
    TooLong(usize),
    /// A version that this build does not know.
    #[error("frame version {0} is not known here")]
    Version(u8),
    /// No version byte.
    #[error("empty frame")]
    Empty,
    /// Not well-formed.
    #[error("malformed frame")]
    Malformed(#[source] postcard::Error),
}

impl PeerFrame {
    /// Encodes the frame with its version byte.
    pub fn encode(&self) -> Bytes {
        let body = postcard::to_extend(self, vec![PEER_VERSION]).expect("encoding into memory cannot fail");
        Bytes::from(body)
    }

    /// Decodes one whole frame.
    pub fn decode(bytes: &[u8]) -> Result<PeerFrame, PeerFrameError> {
        if bytes.len() > PEER_FRAME_LIMIT {
            return Err(PeerFrameError::TooLong(bytes.len()));
        }
        let (version, body) = bytes.split_first().ok_or(PeerFrameError::Empty)?;
        if *version != PEER_VERSION {
            return Err(PeerFrameError::Version(*version));
        }
        postcard::from_bytes(body).map_err(PeerFrameError::Malformed)
    }
}

/// The places of [`PeerFrame::Group`] and [`PeerFrame::Groups`] among the frames, as they stand in the second byte of an encoded one.
pub(crate) const GROUP: u8 = 0;
pub(crate) const GROUPS: u8 = 12;

/// The replication frames in an encoded parcel of several; `None` if it is none. An error ends them.
pub fn groups_in(frame: &[u8]) -> Option<impl Iterator<Item = Result<&[u8], PeerFrameError>>> {
    let mut rest = match frame {
        [PEER_VERSION, GROUPS, rest @ ..] if frame.len() <= PEER_FRAME_LIMIT => rest,
        _ => return None,
    };
    Some(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match postcard::take_from_bytes(rest) {
            Ok((one, after)) => {
                rest = after;
                Some(Ok(one))
            }
            Err(error) => {
                rest = &[];
                Some(Err(PeerFrameError::Malformed(error)))
            }
        }
    }))
}

/// The places of the frames that carry SIP messages, as they stand in the second byte of an encoded one.
const SIP: u8 = 2;
const REGISTER: u8 = 18;
const REGISTERED: u8 = 19;

/// The SIP message in an encoded frame, if there is one; all other frames are told by one byte.
pub fn sip_in(frame: &[u8]) -> Option<Bytes> {
    match frame {
        [PEER_VERSION, SIP | REGISTER | REGISTERED, ..] => match PeerFrame::decode(frame) {
            Ok(PeerFrame::Sip(message) | PeerFrame::Register { message, .. }) => Some(message),
            Ok(PeerFrame::Registered { response, .. }) => response,
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pairline_group::{Epoch, PoolId};

    #[test]
    fn sip_is_told_from_other_frames_without_decoding_them() {
        let message = Bytes::from_static(b"ACK sip:a SIP/2.0\r\n\r\n");
        assert_eq!(sip_in(&PeerFrame::Sip(message.clone()).encode()), Some(message.clone()));
        let register = PeerFrame::Register {
            call: 3,
            client: Bytes::from_static(b"flow"),
            algorithm: "MD5".to_owned(),
            message: message.clone(),
        };
        // Frozen: servers of two versions stand side by side while a pool is restarted.
        let sample = [&b"\x01\x12\x03\x04flow\x03MD5\x15"[..], &message].concat();
        assert_eq!(register.encode(), sample);
        assert_eq!(sip_in(&sample), Some(message.clone()));
        let registered = PeerFrame::Registered { call: 3, response: Some(message.clone()) };
        let sample = [&b"\x01\x13\x03\x01\x15"[..], &message].concat();
        assert_eq!(registered.encode(), sample);
        assert_eq!(sip_in(&sample), Some(message.clone()));
        assert_eq!(sip_in(&PeerFrame::Registered { call: 3, response: None }.encode()), None);
        let at = Position { epoch: Epoch { number: 3, granted_by: PoolId(1) }, seq: 7 };
        let document = PeerFrame::Document { value: Bytes::from_static(b"\x02text"), at }.encode();
        assert_eq!(document, &b"\x01\x1a\x05\x02text\x03\x01\x07"[..], "frozen as well");
        for other in [PeerFrame::Look { call: 2 }, PeerFrame::Heartbeat(Bytes::new()), PeerFrame::Group(Bytes::new())] {
            assert_eq!(sip_in(&other.encode()), None);
        }
        assert_eq!((sip_in(&[]), sip_in(&[PEER_VERSION, SIP]), sip_in(&[9, SIP, 0])), (None, None, None));
    }
}
