//! Faults of two pools: those of single servers, and those of a whole pool and of what lies between the pools.
//!
//! Owns what is only between two pools or of all servers of one. Single servers' faults, and how all are mended, stand in `pool::faults`.

use crate::pool::disks;
use crate::pool::faults::{self, Mend};
use crate::pool::world::{Due, World};

/// One drawn fault, and the next one later.
pub fn strike(world: &mut World) {
    if world.healing {
        return;
    }
    if [0, 1].into_iter().any(|pool| disks::spares(world, pool)) {
        return faults::next(world);
    }
    let pool = usize::try_from(world.rng.below(2)).unwrap_or(0);
    match world.rng.below(100) {
        0..=51 => faults::one(world),
        52..=62 => lose(world, pool),
        63..=64 => {
            lose(world, 0);
            lose(world, 1);
        }
        65..=76 => part(world, pool),
        77..=83 => slow_frames(world, pool),
        84..=90 => slow_disks(world, pool),
        91..=95 => one_link(world),
        _ => freeze(world, pool),
    }
    if world.servers.iter().all(|server| server.node.is_none()) {
        world.met("all servers were down");
    }
    faults::next(world);
}

fn long(world: &mut World) -> u64 {
    *world.rng.pick(&[900, 4_000, 10_000, 25_000]).unwrap_or(&4_000)
}

/// All servers of a pool go at one time, and come back one by one.
fn lose(world: &mut World, pool: usize) {
    let lasts = long(world);
    let power = world.options.power_loss && world.rng.chance(60);
    for at in world.pool(pool) {
        world.stop(at, power);
        let late = world.rng.below(3_000);
        world.after(lasts + late, Due::Mend(Mend::Start(at)));
    }
    world.met("a pool was lost");
}

/// Nothing passes between the pools, or nothing in one direction.
fn part(world: &mut World, pool: usize) {
    let lasts = long(world);
    let both = world.rng.chance(70);
    for from in world.pool(pool) {
        for to in world.pool(1 - pool) {
            faults::set_cut(world, from, to, lasts);
            if both {
                faults::set_cut(world, to, from, lasts);
            }
        }
    }
    world.met(if both { "the pools were cut off from each other" } else { "one direction between the pools was cut" });
}

/// A server of the one pool and a server of the other do not hear each other.
fn one_link(world: &mut World) {
    let ends = [0, 1].map(|pool| {
        let servers = world.pool(pool);
        world.rng.pick(&servers).copied().unwrap_or(0)
    });
    let lasts = long(world);
    let both = world.rng.chance(70);
    faults::set_cut(world, ends[0], ends[1], lasts);
    if both {
        faults::set_cut(world, ends[1], ends[0], lasts);
    }
}

/// What goes to the other pool takes long, and what comes back does not.
fn slow_frames(world: &mut World, pool: usize) {
    let (lasts, by) = (long(world), *world.rng.pick(&[60, 300, 1_200]).unwrap_or(&300));
    for from in world.pool(pool) {
        for to in world.pool(1 - pool) {
            world.slow.insert((from, to), by);
            world.after(lasts, Due::Mend(Mend::Fast(from, to)));
        }
    }
    world.met("frames of one direction were slow");
}

/// One disk of a pool is slow, or all are.
fn slow_disks(world: &mut World, pool: usize) {
    let (lasts, ms) = (long(world), *world.rng.pick(&[200, 700, 2_000]).unwrap_or(&200));
    let all = world.rng.chance(40);
    let servers = world.pool(pool);
    let one = world.rng.pick(&servers).copied();
    for at in servers.into_iter().filter(|at| all || Some(*at) == one) {
        world.slow_disks.insert(at, ms);
        world.after(lasts, Due::Mend(Mend::FastDisk(at)));
    }
    world.met("a disk was slow");
}

/// All processes of a pool stand still.
fn freeze(world: &mut World, pool: usize) {
    let lasts = long(world);
    for at in world.pool(pool) {
        if world.servers[at].runs() {
            faults::freeze_for(world, at, lasts);
        }
    }
    world.met("a pool was frozen");
}
