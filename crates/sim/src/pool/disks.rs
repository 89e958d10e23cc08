//! Disks that are lost: emptied, or put back as they were a while ago.
//!
//! Owns the images of disks, and which pools have a server whose copies do not count yet. The design survives one such server of a pool at
//! a time, until its groups have all their voters again; one that is taken out counts as one. An older state of a disk has forgotten
//! what it promised, and only whoever leads knows that: it is put back only while all others of the pool run and hear each other, and
//! nothing else happens to them until it was found out.

use super::faults::Mend;
use super::world::{Due, World};
use super::{checks, faults};
use pairline_group::GroupId;
use pairline_group::io::Role;
use pairline_store::MemoryCheckpoints;
use pairline_store::files::DiskImage;
use std::collections::{BTreeMap, BTreeSet};

/// How long all groups of a pool have to have their voters, before another server of it may be lost.
const SETTLED_MS: u64 = 1_500;

/// What is on a disk.
pub type Image = (DiskImage, MemoryCheckpoints);

/// A pool of which one server does not count.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Whose disk was lost; `None` if it was taken out.
    at: Option<usize>,
    /// An older state of the disk is there.
    older: bool,
    /// The pool had two servers then: without this one nobody leads.
    two: bool,
    /// Since when all groups have their voters.
    settled: Option<u64>,
}

/// What is known of lost disks.
#[derive(Default)]
pub struct Disks {
    images: BTreeMap<usize, Image>,
    open: BTreeMap<usize, Open>,
    /// Servers whose disk was lost at some time of the run, or that may have come anew.
    lost: BTreeSet<usize>,
}

/// Whether every server of a pool counts.
pub fn is_settled(world: &World, pool: usize) -> bool {
    !world.disks.open.contains_key(&pool)
}

/// Whether nothing may happen to the servers of a pool: an older state of a disk is there, and was not found out yet.
pub fn spares(world: &World, pool: usize) -> bool {
    world.disks.open.get(&pool).is_some_and(|open| open.older)
}

/// One server of a pool does not count for a while.
pub fn unsettled(world: &mut World, pool: usize, at: Option<usize>) {
    world.disks.open.insert(pool, Open { at, older: false, two: false, settled: None });
}

/// A server's disk is lost, if the pool survives that: at once, or it will be put back as it is now.
pub fn lose(world: &mut World, at: usize) {
    if !may_be_lost(world, at) {
        return faults::crash(world, at);
    }
    if world.rng.chance(60) && world.pool(world.side[at]).len() > 2 {
        return wipe(world, at);
    }
    let image = world.servers[at].image();
    world.disks.images.insert(at, image);
    let wait = world.rng.between(800, 8_000);
    world.after(wait, Due::Mend(Mend::OldDisk(at)));
}

fn may_be_lost(world: &World, at: usize) -> bool {
    let served = world.options.disks && !world.healing && world.is_member(at) && world.servers[at].runs();
    // What a fenced copy has not yet written to its tail nobody else has.
    let fenced = |group: &GroupId| checks::status(world, at, *group).is_some_and(|copy| copy.role == Role::Fenced);
    let pool = world.side[at];
    // Where a pool of two grows, two still decide in some of its groups.
    let three = world.options.servers.get(pool).is_some_and(|begun| *begun > 2) || is_whole(world, pool);
    served && three && is_settled(world, pool) && !world.groups().iter().any(fenced)
}

fn wipe(world: &mut World, at: usize) {
    let leads = !checks::led_at(world, at).is_empty();
    if leads {
        world.met("a leader's disk was wiped");
    }
    world.met("a disk was wiped");
    taken(world, at);
    world.servers[at].empty_disk();
    let away = *world.rng.pick(&[50, 1_000, 6_000, 15_000]).unwrap_or(&1_000);
    world.after(away, Due::Mend(Mend::Start(at)));
}

/// The disk of a server that runs is taken away. What stands in tails on it alone is lost with it.
fn taken(world: &mut World, at: usize) {
    let server = &mut world.servers[at];
    let (tails, fronts, touched) = (server.tail_operations(), server.tail_records(), server.tail_touched());
    world.pair.in_tails.extend(tails);
    world.pair.in_fronts.extend(fronts);
    world.pair.touched_by_tails.extend(touched);
    world.stop(at, true);
    world.note("disk-lost", &format!("server {at}"));
    world.disks.lost.insert(at);
    let pool = world.side[at];
    unsettled(world, pool, Some(at));
}

/// An image that was kept is put back, if all others of the pool are well.
pub fn put_back(world: &mut World, at: usize) {
    let Some((files, checkpoints)) = world.disks.images.remove(&at) else { return };
    if !may_be_lost(world, at) || !others_are_well(world, at) {
        return;
    }
    world.met("an old disk came back");
    taken(world, at);
    world.servers[at].restore(&(files, checkpoints));
    let pool = world.side[at];
    let two = world.pool(pool).len() < 3;
    if let Some(open) = world.disks.open.get_mut(&pool) {
        (open.older, open.two) = (true, two);
    }
    for other in world.pool(pool).into_iter().filter(|other| *other != at) {
        world.servers[other].clean_disk();
        world.room(other);
        world.slow_disks.remove(&other);
    }
    let away = *world.rng.pick(&[300, 1_000, 3_000]).unwrap_or(&300);
    world.after(away, Due::Mend(Mend::Start(at)));
}

/// Whether a server with an older disk has to wait: for all others, and for a leader of each of its groups.
pub fn waits(world: &World, at: usize) -> bool {
    let pool = world.side[at];
    let Some(open) = world.disks.open.get(&pool).filter(|open| open.older && open.at == Some(at)) else { return false };
    let led = |group: &GroupId| leader(world, pool, *group).is_some();
    !(others_are_well(world, at) && (open.two || world.groups().iter().all(led)))
}

/// All others of its pool run, and hear each other and it. Who has come and is not in the document of another yet is not to be heard by that:
/// the document may need the server that waits.
fn others_are_well(world: &World, at: usize) -> bool {
    let all = world.pool(world.side[at]);
    let others: Vec<usize> = all.iter().copied().filter(|other| *other != at).collect();
    let hear = |a: usize, b: usize| {
        let linked = world.mesh.end(a, b).is_some() && world.mesh.end(b, a).is_some();
        let close = world.mesh.whole(a, b) && linked && !world.slow.contains_key(&(a, b));
        a == b || close || !world.members.know_each_other(a, b)
    };
    let with_it = others.iter().all(|other| world.mesh.whole(at, *other));
    with_it && others.iter().all(|a| world.servers[*a].runs() && others.iter().all(|b| hear(*a, *b)))
}

/// The server that leads a pool's copies of a group.
fn leader(world: &World, pool: usize, group: GroupId) -> Option<usize> {
    world.pool(pool).into_iter().find(|at| {
        let node = world.servers[*at].node.as_ref().filter(|_| world.servers[*at].runs());
        node.is_some_and(|node| node.inspect(|core| core.host.leads(group)))
    })
}

/// Whether every group of a pool is led, with the voters that it should have, all of whom are heard.
pub fn is_whole(world: &World, pool: usize) -> bool {
    lacks(world, pool).is_none()
}

/// What a pool lacks to be whole.
pub fn lacks(world: &World, pool: usize) -> Option<String> {
    world.groups().into_iter().find_map(|group| {
        let Some(at) = leader(world, pool, group) else { return Some(format!("nobody leads group {group}")) };
        let voters: BTreeSet<_> =
            checks::voters_in(world, pool, group).into_iter().map(|at| world.servers[at].id).collect();
        let node = world.servers[at].node.as_ref()?;
        node.inspect(|core| {
            let replicas = core.host.replicas(group);
            let vote: BTreeSet<_> = replicas.iter().filter(|one| one.voter).map(|one| one.server).collect();
            let heard = replicas.iter().filter(|one| one.voter).all(|one| one.heard);
            let moves = core.host.moves();
            let is_whole = moves == 0 && vote == voters && heard;
            (!is_whole).then(|| {
                format!("group {group}, led by server {at}: {vote:?} vote, {voters:?} should; all heard: {heard}; {moves} moves")
            })
        })
    })
}

/// Notes which pools have all their voters again.
pub fn look(world: &mut World) {
    for (pool, open) in world.disks.open.clone() {
        let away = open.at.is_some_and(|at| !world.servers[at].runs());
        let whole = !away && is_whole(world, pool);
        let settled = whole.then(|| open.settled.unwrap_or(world.now));
        let since = settled.is_some_and(|since| world.now >= since + SETTLED_MS);
        if !since {
            world.disks.open.insert(pool, Open { settled, ..open });
            continue;
        }
        world.disks.open.remove(&pool);
        world.note("whole", &format!("pool {pool}"));
        if open.at.is_some() {
            world.met("a server that had lost its disk counts again");
        }
    }
}

/// A server is told by others that they remember another disk of it: right, if it has had one.
pub fn told(world: &mut World, at: usize) {
    if world.disks.lost.contains(&at) {
        world.met("a server was told that its disk is not the one of before");
    } else {
        let what = format!("server {at} is told that its disk was lost, and it was not");
        world.history.violate(1, what);
    }
}

/// The disk of a server that is started for the first time, or anew, may be another one.
pub fn may_be_new(world: &mut World, at: usize) {
    world.disks.lost.insert(at);
}
