//! Faults that are aimed at one moment of replication: a voter that dies as it has voted, a leader that hears nothing of the one that it
//! has told to lead, a death before a copy that was taken over counts.
//!
//! Owns what is waited for and what happens then. All of it could happen by chance, and hardly ever would.

use super::faults::{self, Mend};
use super::world::{Due, World};
use super::{checks, clients, disks};
use bytes::Bytes;
use pairline_group::frame::{self, Frame};
use pairline_group::{ReplicaBody, ReplicaMessage};
use pairline_node::command::Command;
use pairline_node::peer::PeerFrame;
use std::collections::BTreeMap;

/// How long something is waited for, and who was cut off stays so.
const PATIENCE_MS: u64 = 4_000;

/// How long after a change of leader the one of before is asked.
const ASKED_MS: u64 = 400;

/// What is waited for.
#[derive(Clone, Copy, Debug)]
enum Rig {
    /// This leader is cut off: a vote for another one.
    Vote(usize),
    /// This leader is drained: it tells another one to lead.
    Pass(usize),
}

/// What happens at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A vote has arrived.
    Voted {
        /// Who gave it.
        voter: usize,
        /// Who got it.
        candidate: usize,
        /// The leader of before.
        before: usize,
    },
    /// Much is changed through a server.
    Changed(usize),
    /// A server is asked what others may have changed.
    Asked(usize),
}

/// What is known of it.
#[derive(Default)]
pub struct Rigs {
    waits: Option<(Rig, u64)>,
    /// Servers that have taken over a copy, in which start.
    copied: BTreeMap<usize, u64>,
}

/// A leader is cut off, or drained, and a moment waited for.
pub fn begin(world: &mut World) {
    let groups = world.groups();
    let Some(group) = world.rng.pick(&groups).copied() else { return };
    let Some(at) = checks::leader(world, group) else { return };
    let pool = world.pool(world.side[at]);
    if pool.len() < 3 || pool.iter().any(|at| !world.servers[*at].runs()) {
        return;
    }
    let rig = if world.rng.chance(60) { Rig::Vote(at) } else { Rig::Pass(at) };
    world.rigs.waits = Some((rig, world.now + PATIENCE_MS));
    match rig {
        Rig::Vote(_) => alone(world, at, PATIENCE_MS),
        Rig::Pass(_) => {
            let server = world.members.all[at].name.clone();
            world.command(at, Command::ServerDrain { server, seconds: 5 }, clients::Pending::Drain);
        }
    }
}

/// A server is cut off from the others of its pool.
fn alone(world: &mut World, at: usize, lasts: u64) {
    for other in world.pool(world.side[at]).into_iter().filter(|other| *other != at) {
        faults::set_cut(world, at, other, lasts);
        faults::set_cut(world, other, at, lasts);
    }
}

/// A server sends a frame to another, where it will arrive at that time.
pub fn sent(world: &mut World, (at, to): (usize, usize), bytes: &Bytes, arrival: u64) {
    let Some((rig, until)) = world.rigs.waits else { return };
    if world.now > until || world.healing || disks::spares(world, world.side[at]) {
        world.rigs.waits = None;
        return;
    }
    let Some(message) = replica_message(bytes).filter(|_| world.side[at] == world.side[to]) else { return };
    match (rig, message.body) {
        (Rig::Vote(before), ReplicaBody::Vote { pre: false, granted: true, .. })
            if before != at && before != to && world.side[before] == world.side[at] =>
        {
            world.rigs.waits = None;
            let voted = Moment::Voted { voter: at, candidate: to, before };
            world.after(arrival + 1 - world.now, Due::Mend(Mend::Rigged(voted)));
        }
        (Rig::Pass(from), ReplicaBody::TimeoutNow) if from == at => {
            world.rigs.waits = None;
            world.met("a leader heard nothing of the one that it had told to lead");
            for other in world.pool(world.side[at]).into_iter().filter(|other| *other != at) {
                faults::set_cut(world, other, at, PATIENCE_MS);
            }
            let led = arrival + 2 * world.options.sync_ms - world.now;
            for n in 1..8 {
                world.after(led + n * ASKED_MS / 8, Due::Mend(Mend::Rigged(Moment::Changed(to))));
                world.after(led + n * ASKED_MS / 8 + 20, Due::Mend(Mend::Rigged(Moment::Asked(at))));
            }
        }
        _ => {}
    }
}

/// What one replica says to another, if a frame is that.
fn replica_message(bytes: &Bytes) -> Option<ReplicaMessage> {
    let Ok(PeerFrame::Group(inner)) = PeerFrame::decode(bytes) else { return None };
    match frame::decode(&inner).ok()? {
        Frame::Replica { message, .. } => Some(*message),
        _ => None,
    }
}

/// The moment has come.
pub fn strike(world: &mut World, moment: Moment) {
    if world.healing {
        return;
    }
    match moment {
        Moment::Voted { voter, candidate, before } => {
            if world.servers[voter].node.is_none() || disks::spares(world, world.side[voter]) {
                return;
            }
            world.met("a voter died as it had voted");
            world.stop(voter, world.options.power_loss);
            let away = world.rng.between(2, 40);
            world.after(away, Due::Mend(Mend::Start(voter)));
            alone(world, candidate, PATIENCE_MS + 2_000);
            for (from, to) in [(before, voter), (voter, before)] {
                faults::mend(world, Mend::Heal(from, to));
            }
        }
        Moment::Changed(at) => clients::burst(world, at),
        Moment::Asked(at) => (0..clients::USERS).for_each(|number| clients::read(world, at, number)),
    }
}

/// A server has taken over a copy.
pub fn copied(world: &mut World, at: usize) {
    let boot = world.servers[at].boot;
    world.rigs.copied.insert(at, boot);
}

/// A checkpoint of a server is on its disk, and it has not heard of that: if the copy is in it, it may die just now.
pub fn checkpointed(world: &mut World, at: usize) {
    let new = world.rigs.copied.remove(&at) == Some(world.servers[at].boot);
    let strikes = world.strained && !world.healing;
    if new && strikes && world.options.fault_every_ms > 0 && world.rng.chance(60) {
        let wait = world.rng.between(1, 19);
        world.after(wait, Due::Mend(Mend::Die(at)));
    }
}
