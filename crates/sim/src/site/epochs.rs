//! Which groups may be served by two pools at once, each in an epoch of its own: from a promotion until the older epoch is over.
//!
//! Owns that time. What is read and acknowledged in it is in no one order; what came before it and comes after it must be.

use crate::pool::world::World;
use crate::pool::{checks, clients};
use pairline_group::{Body, Entry, GroupId};

/// A server applied an entry.
pub fn applied(world: &mut World, group: GroupId, entry: &Entry) {
    let Body::Promote(promote) = &entry.body else { return };
    let epoch = promote.epoch;
    if !world.pair.promoted.insert((group, epoch)) {
        return;
    }
    let highest = world.pair.split.entry(group).or_insert(epoch);
    *highest = epoch.max(*highest);
    clients::split(world, group);
}

/// Ends the split of those groups that nobody can commit in any more but in the highest epoch.
pub fn look(world: &mut World) {
    for (group, epoch) in world.pair.split.clone() {
        let committing = checks::committing(world, group);
        let old = committing.iter().filter(|(_, of)| *of < epoch).count();
        if old > 0 && old < committing.len() {
            world.met("two pools served one group, in two epochs");
        }
        if old == 0 && !committing.is_empty() {
            world.pair.split.remove(&group);
            clients::whole(world, group);
        }
    }
}
