//! Faults of the virtual world: crashes, cuts, pauses, full disks, old disks.
//!
//! Owns what each fault does and how it is mended. When one strikes is drawn from the seed.

use crate::net::GIVE_UP_MS;
use crate::world::{Due, World};
use pairline_group::io::Role;
use pairline_node::io::Input;
use pairline_store::files::{DiskImage, Fault};
use pairline_store::{MemoryCheckpoints, MemoryFiles};

/// What mends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Start a server.
    Start(usize),
    /// Heal a direction.
    Heal(usize),
    /// Go on after a pause.
    Continue(usize),
    /// Room on the disk again.
    Room(usize),
    /// The power goes, and the disk that comes back is the image kept before.
    OldDisk(usize),
}

/// Disk images that may be put back.
#[derive(Default)]
pub struct Images {
    kept: [Option<(DiskImage, MemoryCheckpoints)>; 2],
    wanted: [bool; 2],
    empty: [bool; 2],
}

/// One drawn fault.
pub fn strike(world: &mut World) {
    if world.healing {
        return;
    }
    let site = usize::try_from(world.rng.below(2)).unwrap_or(0);
    match world.rng.below(100) {
        0..=34 => crash(world, site),
        35..=54 => cut(world, site, true),
        55..=69 => cut(world, site, false),
        70..=79 => pause(world, site),
        80..=86 => disk_full(world, site),
        87..=90 => sync_fails(world, site),
        91..=95 => old_disk_soon(world, site),
        _ => both_crash(world),
    }
    let mean = world.options.fault_every_ms;
    let wait = world.rng.between(mean / 2 + 1, mean * 2);
    world.after(wait, Due::Fault);
}

/// Mends one fault.
pub fn mend(world: &mut World, what: Mend) {
    match what {
        Mend::Start(site) => {
            if world.servers[site].node.is_none() {
                world.servers[site].clean_disk();
                put_old_image_back(world, site);
                world.start(site);
            }
        }
        Mend::Heal(from) => {
            let now = world.now;
            world.net.set_cut(from, false, now);
            world.after(1, Due::Arrival);
            world.after(1, Due::Reconnect);
        }
        Mend::Continue(site) => carry_on(world, site),
        Mend::Room(site) => {
            world.servers[site].files.set_capacity(None);
            world.room(site);
        }
        Mend::OldDisk(site) => replace_disk(world, site),
    }
}

fn crash(world: &mut World, site: usize) {
    if world.servers[site].node.is_none() {
        return;
    }
    let power = world.options.power_loss && world.rng.chance(60);
    world.met(if power { "power was lost" } else { "a process died" });
    world.stop(site, power);
    let away = *world.rng.pick(&[50, 1_000, 6_000, 15_000]).unwrap_or(&1_000);
    world.after(away, Due::Mend(Mend::Start(site)));
}

fn both_crash(world: &mut World) {
    for site in 0..2 {
        crash(world, site);
    }
    world.met("both sites were down");
}

fn cut(world: &mut World, from: usize, both: bool) {
    let now = world.now;
    let lasts = *world.rng.pick(&[300, 2_500, 8_000, 20_000]).unwrap_or(&2_500);
    world.net.set_cut(from, true, now);
    world.after(lasts, Due::Mend(Mend::Heal(from)));
    if both {
        world.net.set_cut(1 - from, true, now);
        world.after(lasts, Due::Mend(Mend::Heal(1 - from)));
        world.met("the sites were cut off from each other");
    } else {
        world.met("one direction was cut");
    }
    if let Some(connection) = world.net.connection {
        for site in 0..2 {
            if let Some(link) = connection.ends[site] {
                let jitter = world.rng.below(400);
                world.after(GIVE_UP_MS + jitter, Due::GiveUp(site, link));
            }
        }
    }
}

fn pause(world: &mut World, site: usize) {
    if !world.servers[site].runs() {
        return;
    }
    world.servers[site].paused = true;
    world.met("a server was frozen");
    let lasts = *world.rng.pick(&[200, 3_000, 12_000]).unwrap_or(&3_000);
    world.after(lasts, Due::Mend(Mend::Continue(site)));
    if let Some(link) = world.net.connection.and_then(|connection| connection.ends[1 - site]) {
        world.after(GIVE_UP_MS * 4, Due::GiveUp(1 - site, link));
    }
}

fn carry_on(world: &mut World, site: usize) {
    if !world.servers[site].paused {
        return;
    }
    world.servers[site].paused = false;
    let frames = std::mem::take(&mut world.servers[site].paused_frames);
    let alive = world.net.connection.and_then(|connection| connection.ends[site]);
    for (link, frame) in frames {
        crate::copies::heard(world, site);
        world.give(site, Input::PeerFrame { link, frame });
    }
    if alive.is_none() {
        world.give_up_lost(site);
    }
    world.after(1, Due::Reconnect);
}

fn disk_full(world: &mut World, site: usize) {
    let used = world.servers[site].files.used();
    // Others have taken more than what the log frees by itself.
    world.servers[site].files.set_capacity(Some(used / 2));
    world.met("a disk was full");
    let lasts = *world.rng.pick(&[1_000, 4_000, 12_000]).unwrap_or(&4_000);
    world.after(lasts, Due::Mend(Mend::Room(site)));
    world.after(lasts + 500, Due::Mend(Mend::Start(site)));
}

fn sync_fails(world: &mut World, site: usize) {
    let nth = world.rng.between(1, 20);
    world.servers[site].files.arm(Fault::SyncIo, nth);
    world.met("a sync failed");
    world.after(6_000, Due::Mend(Mend::Start(site)));
}

fn keep_image(world: &mut World, site: usize) {
    if !world.options.old_disk || world.servers[site].node.is_none() || world.images.kept[site].is_some() {
        return;
    }
    let server = &world.servers[site];
    world.images.kept[site] = Some((server.files.image(), server.checkpoints.image()));
}

/// Keeps an image now; seconds later the power goes and the image is what comes back.
fn old_disk_soon(world: &mut World, site: usize) {
    if !world.options.old_disk {
        return crash(world, site);
    }
    if world.options.wipe && world.rng.chance(30) {
        world.images.kept[site] = Some((MemoryFiles::new().image(), MemoryCheckpoints::new().image()));
        world.images.empty[site] = true;
    } else {
        keep_image(world, site);
    }
    let wait = world.rng.between(800, 6_000);
    world.after(wait, Due::Mend(Mend::OldDisk(site)));
}

fn replace_disk(world: &mut World, site: usize) {
    if world.healing || world.images.kept[site].is_none() || !world.servers[site].runs() {
        return;
    }
    // With the other disk replaced and not caught up, or a tail not yet stored, no copy is promised to have everything.
    let fenced = crate::checks::groups(world)
        .into_iter()
        .any(|group| crate::checks::status(world, site, group).is_some_and(|status| status.role == Role::Fenced));
    if fenced || world.copies.catching_up(1 - site) {
        return;
    }
    let tails = world.servers[site].tail_operations();
    world.excused.extend(tails);
    world.images.wanted[site] = true;
    world.stop(site, true);
    world.after(300, Due::Mend(Mend::Start(site)));
}

fn put_old_image_back(world: &mut World, site: usize) {
    // Only with the partner there: what neither copy has any more is lost by right, and the oracle must know what that is.
    let wanted = std::mem::take(&mut world.images.wanted[site]);
    if !wanted || !world.servers[1 - site].runs() {
        return;
    }
    if let Some((files, checkpoints)) = world.images.kept[site].take() {
        let served = crate::checks::groups(world).into_iter().any(|group| {
            crate::checks::status(world, 1 - site, group)
                .is_some_and(|status| status.serving == world.servers[site].pool && status.role == Role::Backup)
        });
        if served {
            world.met("an active got an old disk");
        }
        crate::checks::forget_unshipped(world, site);
        let all = crate::checks::groups(world);
        world.copies.disk_replaced(site, all);
        world.servers[site].files.restore(&files);
        world.servers[site].checkpoints.restore(&checkpoints);
        let empty = std::mem::take(&mut world.images.empty[site]);
        world.met(if empty { "a disk was wiped" } else { "an old disk came back" });
        world.note("old-disk", &format!("site {site}"));
    }
}
