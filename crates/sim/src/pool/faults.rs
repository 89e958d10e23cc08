//! Faults of a pool: crashes, cuts between servers, freezes, full disks, failed syncs.
//!
//! Owns what each fault does and how it is mended. When one strikes is drawn from the seed.

use super::world::{Due, World};
use super::{disks, members, rigs};
use pairline_store::files::Fault;

/// How long a server that ends waits for answers, in milliseconds, as the shell does.
const FINISH_MS: u64 = 2_000;

/// How many times a server is cut off while the pools begin.
const ROUGHLY: usize = 4;
/// So long it is, and so long the pools do not hear each other before and after.
const ALONE_MS: u64 = 1_500;
const ELECTED_MS: u64 = 2_500;

/// What mends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Start a server.
    Start(usize),
    /// Heal a direction.
    Heal(usize, usize),
    /// Go on after a freeze.
    Wake(usize),
    /// Room on the disk again.
    Room(usize),
    /// The next change of a link that comes and goes: so many are left.
    Flap(usize, usize, u8),
    /// The next death of a server that dies and comes back at once, again and again: so many are left.
    Churn(usize, u8),
    /// A server dies now.
    Die(usize),
    /// Frames of a direction take no longer than others any more.
    Fast(usize, usize),
    /// A disk is as fast as others again.
    FastDisk(usize),
    /// The server at which a procedure runs is lost now.
    LoseRunner,
    /// A server that is about to end, since that time, ends when all that was under way is answered, for one start of the process.
    End(usize, u64, u64),
    /// The disk of a server is put back as it was when an image of it was kept.
    OldDisk(usize),
    /// What was waited for has come.
    Rigged(rigs::Moment),
    /// A server that is no part of the deployment any more is stopped.
    Retire(usize),
}

/// One drawn fault, and the next one later.
pub fn strike(world: &mut World) {
    if world.healing {
        return;
    }
    if !disks::spares(world, 0) {
        one(world);
    }
    next(world);
}

/// The next fault is due some time from now.
pub fn next(world: &mut World) {
    let mean = world.options.fault_every_ms;
    let wait = world.rng.between(mean / 2 + 1, mean * 2);
    world.after(wait, Due::Fault);
}

/// One fault of a server, or between some.
pub fn one(world: &mut World) {
    let at = world.any_server();
    let others: Vec<usize> = world.members().into_iter().filter(|other| *other != at).collect();
    let other = world.rng.pick(&others).copied().unwrap_or(at);
    match world.rng.below(114) {
        0..=19 => crash(world, at),
        20..=27 => churn_beside_cut(world, at, other),
        28..=49 => freeze(world, at),
        50..=59 => isolate(world, at),
        60..=68 => cut(world, at, other, true),
        69..=75 => cut(world, at, other, false),
        76..=80 => parts(world),
        81..=85 => mend(world, Mend::Flap(at, other, 8)),
        86..=90 => disk_full(world, at),
        91..=94 => sync_fails(world, at),
        // Stands for nothing where servers are in no upgrade domains.
        95..=99 if world.options.in_domains() => domain_stops(world, at),
        100..=107 => disks::lose(world, at),
        108..=113 => rigs::begin(world),
        _ => many_crash(world),
    }
}

/// Mends one fault.
pub fn mend(world: &mut World, what: Mend) {
    match what {
        Mend::Start(at) if world.servers[at].node.is_none() && world.is_member(at) => {
            if disks::waits(world, at) {
                return world.after(100, Due::Mend(what));
            }
            world.servers[at].clean_disk();
            world.start(at);
        }
        Mend::Start(_) => {}
        Mend::Heal(from, to) => {
            world.mesh.set_cut(from, to, false);
            world.after(1, Due::Arrival(from, to));
            if world.mesh.whole(from, to) {
                world.passes(from, to);
            }
        }
        Mend::Wake(at) => wake(world, at),
        Mend::Room(at) => {
            world.servers[at].files.set_capacity(None);
            world.room(at);
        }
        Mend::Flap(a, b, left) => flap(world, a, b, left),
        Mend::Churn(at, left) => churn(world, at, left),
        Mend::Die(at) if !world.healing => crash(world, at),
        Mend::Die(_) => {}
        Mend::Fast(from, to) => {
            world.slow.remove(&(from, to));
        }
        Mend::LoseRunner if !world.healing => crate::site::operators::lose_runner(world),
        Mend::LoseRunner => {}
        Mend::FastDisk(at) => {
            world.slow_disks.remove(&at);
        }
        Mend::End(at, boot, since) => end(world, at, boot, since),
        Mend::OldDisk(at) => disks::put_back(world, at),
        Mend::Rigged(moment) => rigs::strike(world, moment),
        Mend::Retire(at) => members::retire(world, at),
    }
}

/// Servers of a pool that are down or frozen.
fn away(world: &World, pool: usize) -> usize {
    world.pool(pool).into_iter().filter(|at| !world.servers[*at].runs()).count()
}

fn may_go(world: &World, at: usize) -> bool {
    let pool = world.side[at];
    // Of five servers each group has three; two that go may be two of the same three, unless they are of one upgrade domain.
    let minority = usize::from(world.pool(pool).len() > 2);
    let beside = world.pool(pool).into_iter().filter(|other| world.share_domain(at, *other));
    let of_domain = beside.filter(|other| !world.servers[*other].runs()).count();
    !disks::spares(world, pool) && (world.options.mass || away(world, pool) < minority + of_domain)
}

/// A server dies, and comes back.
pub fn crash(world: &mut World, at: usize) {
    if world.servers[at].node.is_none() || !(may_go(world, at) || world.servers[at].paused) {
        return;
    }
    let power = world.options.power_loss && world.rng.chance(60);
    world.met(if power { "power was lost" } else { "a process died" });
    world.stop(at, power);
    let servers = world.pool(world.side[at]);
    if servers.iter().filter(|at| world.servers[**at].node.is_none()).count() * 2 > servers.len() {
        world.met("a majority was down");
    }
    let lasts = *world.rng.pick(&[50, 1_000, 6_000, 15_000]).unwrap_or(&1_000);
    world.after(lasts, Due::Mend(Mend::Start(at)));
}

/// All servers of an upgrade domain die at once, and come back.
fn domain_stops(world: &mut World, at: usize) {
    let mut servers = world.pool(world.side[at]);
    servers.retain(|other| world.share_domain(at, *other));
    servers.push(at);
    servers.iter().for_each(|server| crash(world, *server));
    if servers.len() > 1 && servers.iter().all(|server| world.servers[*server].node.is_none()) {
        world.met("the servers of an upgrade domain were stopped at once");
    }
}

/// A drained server is restarted in order, as `pairline pool restart` does it.
pub fn restart(world: &mut World, at: usize) {
    if world.healing || !world.servers[at].runs() || !may_go(world, at) {
        return;
    }
    world.note("leaving", &format!("server {at}"));
    world.give(at, vec![pairline_node::io::Input::Ending]);
    let (boot, now) = (world.servers[at].boot, world.now);
    world.after(250, Due::Mend(Mend::End(at, boot, now)));
}

fn end(world: &mut World, at: usize, boot: u64, since: u64) {
    if world.servers[at].boot != boot {
        return;
    }
    let under_way = world.servers[at].node.as_ref().map_or(0, pairline_node::Node::under_way);
    let spared = disks::spares(world, world.side[at]);
    if (under_way > 0 && world.now < since + FINISH_MS) || !world.servers[at].runs() || spared {
        return world.after(20, Due::Mend(Mend::End(at, boot, since)));
    }
    if under_way == 0 {
        world.met("a server was restarted in order");
    }
    world.stop(at, false);
    let away = world.rng.between(50, 2_000);
    world.after(away, Due::Mend(Mend::Start(at)));
}

/// A majority, or all at once.
fn many_crash(world: &mut World) {
    if !world.options.mass {
        let at = world.any_server();
        return crash(world, at);
    }
    let all = world.rng.chance(50);
    let one = if world.is_paired() { world.any_server() } else { 0 };
    let servers = world.pool(world.side[one]);
    for (nth, at) in servers.iter().enumerate() {
        if all || nth <= servers.len() / 2 {
            crash(world, *at);
        }
    }
    if world.servers.iter().all(|server| server.node.is_none()) {
        world.met("all servers were down");
    }
}

/// The process gets no time: nothing is delivered and no timer goes off. Its clocks go on.
fn freeze(world: &mut World, at: usize) {
    if !world.servers[at].runs() || !may_go(world, at) {
        return;
    }
    let lasts = match world.rng.below(4) {
        0 => world.rng.between(100, 1_000),
        1 | 2 => world.rng.between(1_000, 6_000),
        _ => world.rng.between(6_000, 20_000),
    };
    freeze_for(world, at, lasts);
}

/// A server that runs is frozen for some time.
pub fn freeze_for(world: &mut World, at: usize, lasts: u64) {
    world.note("frozen", &format!("server {at} for {lasts}"));
    world.servers[at].paused = true;
    world.copies.led_when_frozen(at);
    world.met("a server was frozen");
    world.after(lasts, Due::Mend(Mend::Wake(at)));
    for other in (0..world.size()).filter(|other| *other != at) {
        if let Some(link) = world.mesh.end(other, at) {
            let wait = world.options.give_up_ms + world.rng.below(400);
            world.after(wait, Due::GiveUp(other, at, link));
        }
    }
}

fn wake(world: &mut World, at: usize) {
    if world.servers[at].paused && super::checks::led_by_another(world, at) {
        world.met("a frozen leader woke after another was elected");
    }
    world.wake(at);
}

/// Cuts a direction for some time.
pub fn set_cut(world: &mut World, from: usize, to: usize, lasts: u64) {
    world.note("cut", &format!("{from} to {to} for {lasts}"));
    world.mesh.set_cut(from, to, true);
    world.will_give_up(from, to);
    world.after(lasts, Due::Mend(Mend::Heal(from, to)));
}

/// How long a cut lasts.
pub fn lasts(world: &mut World) -> u64 {
    *world.rng.pick(&[300, 900, 2_500, 8_000, 20_000]).unwrap_or(&2_500)
}

/// While groups are to be opened for the first time, the pools hear each other for moments only, and at each of them one server does not hear its
/// neighbours: what a leader there begins with what it hears, it cannot end.
pub fn begin_roughly(world: &mut World) {
    let members = world.members();
    parted(world, ELECTED_MS);
    for _ in 0..ROUGHLY {
        let at = *world.rng.pick(&members).unwrap_or(&0);
        for other in world.pool(world.side[at]).into_iter().filter(|other| *other != at) {
            set_cut(world, at, other, ALONE_MS);
            set_cut(world, other, at, ALONE_MS);
        }
        let heard = world.now + world.rng.between(100, 350);
        world.run_until(heard);
        parted(world, ALONE_MS);
    }
    world.met("servers were cut off while groups were opened");
}

/// No server of a pool hears one of the other for so long; that passes.
fn parted(world: &mut World, lasts: u64) {
    let members = world.members();
    for (from, to) in members.iter().flat_map(|from| members.iter().map(move |to| (*from, *to))) {
        if world.side[from] != world.side[to] {
            set_cut(world, from, to, lasts);
        }
    }
    let next = world.now + lasts + 1;
    world.run_until(next);
}

fn cut(world: &mut World, at: usize, other: usize, both: bool) {
    let lasts = lasts(world);
    set_cut(world, at, other, lasts);
    if both {
        set_cut(world, other, at, lasts);
        world.met("two servers were cut off from each other");
    } else {
        world.met("one direction was cut");
    }
}

/// One server is cut off from all others, in one or both directions.
fn isolate(world: &mut World, at: usize) {
    let lasts = lasts(world);
    let (from, to) =
        *world.rng.pick(&[(true, true), (true, true), (true, false), (false, true)]).unwrap_or(&(true, true));
    for other in (0..world.size()).filter(|other| *other != at) {
        if from {
            set_cut(world, at, other, lasts);
        }
        if to {
            set_cut(world, other, at, lasts);
        }
    }
    world.met("a server was cut off from all others");
    if world.rng.chance(50) {
        // Much is under way through it just then: what nobody else will ever have.
        super::clients::burst(world, at);
    }
}

/// The pool falls into two parts.
fn parts(world: &mut World) {
    let lasts = lasts(world);
    // Those that come later fall to one of them too.
    let side: Vec<bool> = (0..world.size()).map(|_| world.rng.chance(50)).collect();
    for a in 0..world.size() {
        for b in (0..world.size()).filter(|b| side[a] != side[*b]) {
            set_cut(world, a, b, lasts);
        }
    }
    world.met("the pool fell into two parts");
}

/// A link that comes and goes.
fn flap(world: &mut World, a: usize, b: usize, left: u8) {
    let spared = disks::spares(world, world.side[a]) || disks::spares(world, world.side[b]);
    let cut = left > 0 && left.is_multiple_of(2) && !world.healing && !spared;
    for (from, to) in [(a, b), (b, a)] {
        world.mesh.set_cut(from, to, cut);
        world.after(1, Due::Arrival(from, to));
    }
    world.met("a link came and went");
    if cut {
        world.will_give_up(a, b);
    }
    if world.mesh.whole(a, b) {
        world.passes(a, b);
    }
    if left > 0 && !world.healing {
        let wait = world.rng.between(100, 2_500);
        world.after(wait, Due::Mend(Mend::Flap(a, b, left - 1)));
    }
}

/// A server dies and comes back at once, again and again, mostly while two others do not hear each other.
fn churn_beside_cut(world: &mut World, at: usize, other: usize) {
    let third = (0..world.size()).find(|third| *third != at && *third != other);
    if let Some(third) = third.filter(|_| world.rng.chance(70)) {
        cut(world, other, third, true);
    }
    world.met("a server died again and again");
    churn(world, at, 14);
}

fn churn(world: &mut World, at: usize, left: u8) {
    if world.healing || left == 0 {
        return;
    }
    if world.servers[at].runs() && may_go(world, at) {
        let power = world.options.power_loss && world.rng.chance(50);
        world.stop(at, power);
        let away = world.rng.between(2, 60);
        world.after(away, Due::Mend(Mend::Start(at)));
    }
    let wait = world.rng.between(70, 600);
    world.after(wait, Due::Mend(Mend::Churn(at, left - 1)));
}

/// A server has taken a copy over: now and then it dies around the time at which that is on its disk.
pub fn copied(world: &mut World, at: usize) {
    rigs::copied(world, at);
    if world.strained && !world.healing && world.options.fault_every_ms > 0 && world.rng.chance(40) {
        let wait = world.rng.between(0, 300);
        world.after(wait, Due::Mend(Mend::Die(at)));
    }
}

fn disk_full(world: &mut World, at: usize) {
    let used = world.servers[at].files.used();
    // Others have taken more than what the log frees by itself.
    world.servers[at].files.set_capacity(Some(used / 2));
    world.met("a disk was full");
    let lasts = *world.rng.pick(&[1_000, 4_000, 12_000]).unwrap_or(&4_000);
    world.after(lasts, Due::Mend(Mend::Room(at)));
    world.after(lasts + 500, Due::Mend(Mend::Start(at)));
}

fn sync_fails(world: &mut World, at: usize) {
    if !may_go(world, at) {
        return;
    }
    let nth = world.rng.between(1, 20);
    world.servers[at].files.arm(Fault::SyncIo, nth);
    world.met("a sync failed");
    world.after(6_000, Due::Mend(Mend::Start(at)));
}

/// Everything works again.
pub fn heal(world: &mut World) {
    world.healing = true;
    world.options.loss_percent = 0;
    world.slow.clear();
    world.slow_disks.clear();
    for a in 0..world.size() {
        for b in (0..world.size()).filter(|b| *b != a) {
            mend(world, Mend::Heal(a, b));
        }
    }
    for at in 0..world.size() {
        world.servers[at].clean_disk();
        world.room(at);
        wake(world, at);
        mend(world, Mend::Start(at));
    }
}
