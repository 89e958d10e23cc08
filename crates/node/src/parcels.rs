//! Replication frames of one turn, gathered by the link that they go out on.
//!
//! Owns what is gathered and how large a parcel may grow. What it costs to hand a frame from thread to thread, to write it and to read it, here and
//! at the other server, is paid once a parcel: of a pool's groups nearly each change goes to two servers and is answered by two. Frames of one
//! link keep their order among themselves; other frames of the turn go out before them, and nothing depends on which of those came first.
//! Does not own what the frames say, nor how a parcel is opened ([`crate::peer::groups_in`]).

use crate::peer::{GROUP, GROUPS, PEER_VERSION};
use bytes::Bytes;
use pairline_group::LinkId;
use pairline_group::frame::{self, Frame};
use std::collections::BTreeMap;

/// Most bytes of one parcel: larger frames are compressed on the way, which costs more than it brings for what is small.
const MOST: usize = 15 * 1024;
/// Bytes of the buffer for one frame that are kept for the next.
const KEPT: usize = 64 * 1024;
/// Longest form of a length.
const LENGTH: usize = 10;

/// What waits for the end of the turn.
#[derive(Debug, Default)]
pub struct Parcels {
    open: BTreeMap<LinkId, Vec<u8>>,
    /// One frame's bytes; kept for its room.
    one: Vec<u8>,
}

impl Parcels {
    /// Adds a frame for a link; gives what is to go out now, in order: what was gathered for it before, if there is no room beside that, and the frame
    /// itself, if it is one that goes alone.
    pub fn add(&mut self, link: LinkId, frame: &Frame) -> impl Iterator<Item = Bytes> + use<> {
        self.one = frame::encode_into(frame, std::mem::take(&mut self.one));
        let alone = goes_alone(frame);
        let parcel = self.open.entry(link).or_default();
        let full = !parcel.is_empty() && (alone || parcel.len() + self.one.len() + LENGTH > MOST);
        let before = full.then(|| Bytes::from(std::mem::take(parcel)));
        if parcel.is_empty() {
            parcel.reserve(self.one.len() + LENGTH + 2);
            parcel.extend_from_slice(&[PEER_VERSION, GROUP]);
        } else {
            parcel[1] = GROUPS;
        }
        write_length(parcel, self.one.len());
        parcel.extend_from_slice(&self.one);
        if self.one.capacity() > KEPT {
            self.one = Vec::new();
        }
        let itself = if alone { self.open.remove(&link).map(Bytes::from) } else { None };
        before.into_iter().chain(itself)
    }

    /// What is gathered for some link, until there is nothing.
    pub fn take(&mut self) -> Option<(LinkId, Bytes)> {
        self.open.pop_first().map(|(link, parcel)| (link, Bytes::from(parcel)))
    }
}

/// Whether a frame holds, or asks for, a piece of a copy: who gets it takes few of those at a time, and counts what comes together as one.
fn goes_alone(frame: &Frame) -> bool {
    matches!(frame, Frame::Copy { .. } | Frame::SeedWant { .. } | Frame::SeedChunk { .. } | Frame::SeedAck { .. })
}

/// A length as the envelope's encoding has it: seven bits a byte, the low ones first.
fn write_length(out: &mut Vec<u8>, length: usize) {
    let mut left = length;
    while left >= 0x80 {
        // The mask leaves seven bits.
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    //! Parcels hold what one frame after the other would, in order, and no more than there is room for.

    use super::*;
    use crate::peer::{PeerFrame, groups_in};
    use pairline_group::{GroupId, Millis, PoolId};

    fn ping(stamp: Millis) -> Frame {
        Frame::Ping { stamp }
    }

    /// A frame of about so many bytes.
    fn large(bytes: usize) -> Frame {
        Frame::Entries { group: GroupId { pool: PoolId(1), index: 2 }, entries: vec![Bytes::from(vec![5; bytes])] }
    }

    fn whole(frame: &Frame) -> Bytes {
        PeerFrame::Group(frame::encode(frame)).encode()
    }

    fn opened(parcel: &[u8]) -> Vec<Frame> {
        groups_in(parcel).expect("several").map(|one| frame::decode(one.expect("whole")).expect("sound")).collect()
    }

    #[test]
    fn frames_travel_together_by_link_and_come_apart_again() {
        let mut parcels = Parcels::default();
        let said = [ping(1), large(300), ping(3)];
        for frame in &said {
            assert_eq!(parcels.add(LinkId(7), frame).next(), None);
            assert_eq!(parcels.add(LinkId(5), frame).next(), None, "another link between them");
        }
        assert_eq!(parcels.add(LinkId(9), &large(200)).next(), None);
        for link in [LinkId(5), LinkId(7)] {
            let (to, parcel) = parcels.take().expect("gathered");
            assert_eq!((to, &opened(&parcel)[..]), (link, &said[..]));
            assert_eq!(parcel[..2], PeerFrame::Groups.encode()[..], "the number of the frame");
        }
        assert_eq!(parcels.take(), Some((LinkId(9), whole(&large(200)))), "one that is alone is as it always was");
        assert_eq!(parcels.take(), None);
    }

    #[test]
    fn what_has_no_room_beside_others_goes_behind_them() {
        let mut parcels = Parcels::default();
        let mut sent: Vec<Bytes> = Vec::new();
        let said = [ping(1), large(MOST), ping(2), large(200_000), ping(3)];
        for frame in &said {
            sent.extend(parcels.add(LinkId(1), frame));
        }
        sent.extend(parcels.take().map(|(_, parcel)| parcel));
        assert_eq!(sent, said.iter().map(whole).collect::<Vec<_>>());
        let mut sent: Vec<Bytes> = (0..40).flat_map(|_| parcels.add(LinkId(1), &large(1_000))).collect();
        sent.extend(parcels.take().map(|(_, parcel)| parcel));
        assert!(
            sent.iter().all(|parcel| parcel.len() <= MOST),
            "{:?}",
            sent.iter().map(Bytes::len).collect::<Vec<_>>()
        );
        assert_eq!(sent.iter().map(|parcel| opened(parcel).len()).sum::<usize>(), 40);
    }

    #[test]
    fn pieces_of_copies_go_alone_and_in_their_place() {
        let mut parcels = Parcels::default();
        let ack = |chunks| Frame::SeedAck { group: GroupId { pool: PoolId(1), index: 2 }, seed: 1, chunks, seq: 9 };
        let said = [ping(1), ack(1), ack(2), ping(2)];
        let mut sent: Vec<Bytes> = said.iter().flat_map(|frame| parcels.add(LinkId(1), frame)).collect();
        sent.extend(parcels.take().map(|(_, parcel)| parcel));
        assert_eq!(sent, said.iter().map(whole).collect::<Vec<_>>());
        assert_eq!(parcels.take(), None);
    }

    #[test]
    fn a_damaged_parcel_gives_what_was_whole_and_an_error() {
        let mut parcels = Parcels::default();
        assert_eq!(parcels.add(LinkId(1), &ping(1)).chain(parcels.add(LinkId(1), &large(30))).count(), 0);
        let (_, parcel) = parcels.take().expect("gathered");
        let found: Vec<_> = groups_in(&parcel[..parcel.len() - 1]).expect("several").collect();
        assert!(matches!(&found[..], [Ok(_), Err(_)]), "{found:?}");
        assert!(groups_in(&whole(&ping(1))).is_none() && groups_in(&[]).is_none());
    }
}
