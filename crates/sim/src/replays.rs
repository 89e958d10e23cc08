//! Frames that arrive again: single replication frames of a connection, out of place, and whole seeds.
//!
//! Owns what is kept of each direction. A connection ends with what was kept of it, as the record layer of a link would have it.

use crate::world::World;
use bytes::Bytes;
use pairline_group::frame::{self, Frame};
use pairline_group::{GroupId, LinkId};
use pairline_node::peer::PeerFrame;
use std::collections::{BTreeMap, VecDeque};

/// Frames kept per direction.
const KEPT: usize = 48;
/// Frames of one seed that are kept.
const SEED_FRAMES: usize = 64;

/// What was sent in one direction on the present connection.
#[derive(Default)]
pub struct Replays {
    link: Option<LinkId>,
    kept: VecDeque<Bytes>,
    running: BTreeMap<GroupId, (u64, Vec<Bytes>)>,
    seeds: Vec<Vec<Bytes>>,
}

impl Replays {
    fn keep(&mut self, link: LinkId, bytes: &Bytes, frame: &Frame) {
        if self.link != Some(link) {
            *self = Replays { link: Some(link), ..Replays::default() };
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(bytes.clone());
        match frame {
            Frame::SeedOffer { group, offer } => {
                self.running.insert(*group, (offer.seed, vec![bytes.clone()]));
            }
            Frame::SeedChunk { group, chunk } => {
                if let Some((seed, frames)) = self.running.get_mut(group)
                    && *seed == chunk.seed
                    && frames.len() < SEED_FRAMES
                {
                    frames.push(bytes.clone());
                }
            }
            Frame::SeedEnd { group, .. } => {
                if let Some((_, mut frames)) = self.running.remove(group) {
                    frames.push(bytes.clone());
                    self.seeds.push(frames);
                }
            }
            _ => {}
        }
    }
}

/// A frame was sent; gives back what the receiver gets again after it.
pub fn sent(world: &mut World, site: usize, link: LinkId, bytes: &Bytes) -> Vec<Bytes> {
    if world.options.replay_permille == 0 {
        return Vec::new();
    }
    let Ok(PeerFrame::Group(inner)) = PeerFrame::decode(bytes) else { return Vec::new() };
    let Ok(frame) = frame::decode(&inner) else { return Vec::new() };
    world.replays[site].keep(link, bytes, &frame);
    if world.healing || world.rng.below(1_000) >= world.options.replay_permille {
        return Vec::new();
    }
    world.met("a frame arrived again");
    let replays = &world.replays[site];
    if world.rng.chance(20)
        && let Some(seed) = world.rng.pick(&replays.seeds)
    {
        let seed = seed.clone();
        world.met("a seed arrived again");
        return seed;
    }
    let at = usize::try_from(world.rng.below(replays.kept.len() as u64)).unwrap_or(0);
    replays.kept.get(at).cloned().into_iter().collect()
}
