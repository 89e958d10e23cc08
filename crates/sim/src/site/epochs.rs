//! Which groups may be served by two pools at once, each in an epoch of its own: from a promotion until the older epoch is over.
//!
//! Owns that time, and since when whoever led has had an entry. What is read and acknowledged in it is in no one order; what came before it and comes after it must be.

use crate::pool::world::World;
use crate::pool::{checks, clients};
use pairline_group::{Body, Entry, Epoch, GroupId, LineageItem};

/// A server applied an entry.
pub fn applied(world: &mut World, at: usize, group: GroupId, entry: &Entry) {
    let key = (entry.position.epoch, entry.position.seq);
    world.pair.applied_at.entry((at, group)).or_default().insert(key, world.now);
    if leads(world, at, group) {
        world.pair.led.entry(group).or_default().entry(key).or_insert(world.now);
    }
    let Body::Promote(promote) = &entry.body else { return };
    let epoch = promote.epoch;
    if !world.pair.promoted.insert((group, epoch)) {
        return;
    }
    let highest = world.pair.split.entry(group).or_insert(epoch);
    *highest = epoch.max(*highest);
    clients::split(world, group);
}

fn leads(world: &World, at: usize, group: GroupId) -> bool {
    let node = world.servers[at].node.as_ref();
    node.is_some_and(|node| node.inspect(|core| core.host.can_commit(group)))
}

/// What a copy has that came to it whole, and not entry by entry.
fn note_copied(world: &mut World, group: GroupId) {
    for at in 0..world.size() {
        let Some(status) = checks::status(world, at, group) else { continue };
        let key = (status.position.epoch, status.position.seq);
        let now = world.now;
        world.pair.applied_at.entry((at, group)).or_default().entry(key).or_insert(now);
    }
}

/// What a new leader has applied before it led, it may be asked for now.
fn note_led(world: &mut World, group: GroupId) {
    for at in 0..world.size() {
        if !leads(world, at, group) {
            continue;
        }
        let Some(status) = checks::status(world, at, group) else { continue };
        let (epoch, now) = (status.position.epoch, world.now);
        let Some(entries) = world.history.entries.get(&group) else { continue };
        let known = world.pair.led.entry(group).or_default();
        let last = known.range(..=(epoch, status.position.seq)).next_back().map_or((epoch, 0), |(key, _)| *key);
        for (key, _) in entries.range(last..=(epoch, status.position.seq)) {
            known.entry(*key).or_insert(now);
        }
    }
}

/// The time since when somebody may have been told of the entry after a sequence on a lineage.
pub fn told_since(world: &World, group: GroupId, lineage: &[LineageItem], seq: u64) -> Option<u64> {
    let item = lineage.iter().rev().find(|item| item.first <= seq + 1)?;
    world.pair.led.get(&group)?.get(&(item.epoch, seq + 1)).copied()
}

/// Ends the split of those groups that nobody can commit in any more but in the highest epoch.
pub fn look(world: &mut World) {
    for group in world.groups() {
        note_led(world, group);
        note_copied(world, group);
    }
    for (group, epoch) in world.pair.split.clone() {
        let committing = checks::committing(world, group);
        let old = committing.iter().filter(|(_, of)| *of < epoch).count();
        if old > 0 && old < committing.len() {
            world.met("two pools served one group, in two epochs");
        }
        let over = (0..world.options.servers.len()).all(|pool| has_learned(world, pool, group, epoch));
        if old == 0 && over && !committing.is_empty() {
            world.pair.split.remove(&group);
            clients::whole(world, group);
        }
    }
}

/// Whether a pool cannot serve a group in an older epoch any more: a majority of its servers with copies knows of this one. While only some of them
/// are away nobody commits there, and they may come back with what they knew.
fn has_learned(world: &World, pool: usize, group: GroupId, epoch: Epoch) -> bool {
    let voters = checks::voters_in(world, pool, group);
    let knows = |at: &&usize| {
        let node = world.servers[**at].node.as_ref().filter(|_| world.servers[**at].runs());
        node.and_then(|node| node.inspect(|core| core.host.serving(group))).is_some_and(|(_, known)| known >= epoch)
    };
    voters.iter().filter(knows).count() > voters.len() / 2
}
