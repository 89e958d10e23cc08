//! Frames between servers of paired pools, inside their mutually authenticated link.
//!
//! Owns the envelope: replication frames, heartbeats, SIP between pools, forwarded proposals and commands.
//! Does not own what replication frames or heartbeats contain.

use crate::command::Actor;
use bytes::Bytes;
use pairline_group::GroupId;
use pairline_group::io::{Done, Proposal};
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

/// The place of [`PeerFrame::Sip`] among the frames, as it stands in the second byte of an encoded one.
const SIP: u8 = 2;

/// The SIP message in an encoded frame, if there is one; all other frames are told by one byte.
pub fn sip_in(frame: &[u8]) -> Option<Bytes> {
    match frame {
        [PEER_VERSION, SIP, ..] => match PeerFrame::decode(frame) {
            Ok(PeerFrame::Sip(message)) => Some(message),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_is_told_from_other_frames_without_decoding_them() {
        let message = Bytes::from_static(b"ACK sip:a SIP/2.0\r\n\r\n");
        assert_eq!(sip_in(&PeerFrame::Sip(message.clone()).encode()), Some(message));
        for other in [PeerFrame::Look { call: 2 }, PeerFrame::Heartbeat(Bytes::new()), PeerFrame::Group(Bytes::new())] {
            assert_eq!(sip_in(&other.encode()), None);
        }
        assert_eq!((sip_in(&[]), sip_in(&[PEER_VERSION, SIP]), sip_in(&[9, SIP, 0])), (None, None, None));
    }
}
