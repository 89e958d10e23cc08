//! Checkers of pools of several servers: who may commit, equal copies at equal positions, what must hold once everything works again.
//!
//! Owns what is looked at while the world runs and at its end. What clients and phones were told is checked beside them.

use super::disks;
use super::world::World;
use crate::history;
use crate::server::Effect;
use pairline_group::io::GroupStatus;
use pairline_group::placement::{self, FrontEnd};
use pairline_group::{Epoch, GroupId, Key, PoolId, Position};
use pairline_node::peer::PeerFrame;
use pairline_sip::uri::Aor;
use pairline_topology::Server;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of the copies.
#[derive(Default)]
pub struct Copies {
    digests: BTreeMap<GroupId, BTreeMap<Position, [u8; 32]>>,
    last: BTreeMap<(usize, GroupId), (u64, Position)>,
    /// Groups that each server could commit in after its last turn, with the epoch.
    led: BTreeMap<usize, BTreeMap<GroupId, Epoch>>,
    /// The same when it was frozen.
    frozen: BTreeMap<usize, BTreeMap<GroupId, Epoch>>,
}

impl Copies {
    /// A server is frozen: what it led is kept.
    pub fn led_when_frozen(&mut self, at: usize) {
        let led = self.led.get(&at).cloned().unwrap_or_default();
        self.frozen.insert(at, led);
    }
}

/// The servers of a pool that vote in a group, or should.
pub fn voters_in(world: &World, pool: usize, group: GroupId) -> Vec<usize> {
    let servers = world.pool(pool);
    let known = servers.iter().filter_map(|at| world.topology.server(world.servers[*at].id));
    let front_ends: Vec<FrontEnd> = known.map(Server::front_end).collect();
    let places = placement::of(group, &front_ends);
    servers.into_iter().filter(|at| places.contains(&world.servers[*at].id)).collect()
}

/// The servers of a pool that have copies of a group, or should: all of them have the management store.
pub fn placed_in(world: &World, pool: usize, group: GroupId) -> Vec<usize> {
    if group.is_cms() { world.pool(pool) } else { voters_in(world, pool, group) }
}

/// All servers that have copies of a group.
pub fn placed(world: &World, group: GroupId) -> Vec<usize> {
    (0..world.options.servers.len()).flat_map(|pool| placed_in(world, pool, group)).collect()
}

/// The home of a user of a run: those with even numbers have the first pool, with two pools the others have the second.
pub fn home_of(world: &World, user: &str) -> Option<PoolId> {
    let digits = user.trim_start_matches("sip:").trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let digits = digits.split('@').next().unwrap_or_default();
    let number: usize = digits.parse().unwrap_or(0);
    world.topology.pool.get(number % world.options.servers.len()).map(|pool| pool.id)
}

/// The routing group of a user.
pub fn group_of(world: &World, user: &Aor) -> Option<GroupId> {
    world.topology.group_of(home_of(world, user.as_str())?, user.as_str())
}

/// Groups that a server can commit in, as of its last turn, with the epoch.
fn commits(world: &World, at: usize) -> BTreeMap<GroupId, Epoch> {
    let groups = world.groups();
    let Some(node) = world.servers[at].node.as_ref() else { return BTreeMap::new() };
    node.inspect(|core| {
        let led = groups.into_iter().filter(|group| core.host.can_commit(*group));
        led.filter_map(|group| Some((group, core.host.serving(group)?.1))).collect()
    })
}

/// Groups that a server can commit in now.
pub fn led_at(world: &World, at: usize) -> Vec<GroupId> {
    commits(world, at).into_keys().collect()
}

/// The servers at which a group can be committed in, as of their last turns, with the epoch there.
pub fn committing(world: &World, group: GroupId) -> Vec<(usize, Epoch)> {
    let led = world.copies.led.iter();
    led.filter_map(|(at, groups)| Some((*at, *groups.get(&group)?))).collect()
}

/// The server that leads a group and can commit in it.
pub fn leader(world: &World, group: GroupId) -> Option<usize> {
    (0..world.size()).find(|at| {
        let node = world.servers[*at].node.as_ref().filter(|_| world.servers[*at].runs());
        node.is_some_and(|node| node.inspect(|core| core.host.can_commit(group)))
    })
}

/// Whether some group that a server led when it was frozen is led by another now.
pub fn led_by_another(world: &World, at: usize) -> bool {
    let frozen = world.copies.frozen.get(&at).cloned().unwrap_or_default();
    let others = (0..world.size()).filter(|other| *other != at && world.servers[*other].runs());
    others.flat_map(|other| world.copies.led.get(&other)).any(|led| led.keys().any(|group| frozen.contains_key(group)))
}

/// A server has had its turn: nobody else may commit where it can, but for a pool that has not learned of a higher epoch. Whoever could
/// after its own last turn is asked for this moment; what it does then is given back.
pub fn one_commits(world: &mut World, at: usize) -> Vec<(usize, Vec<Effect>)> {
    let mine = commits(world, at);
    world.copies.led.insert(at, mine.clone());
    let mut turns = Vec::new();
    if mine.is_empty() {
        return turns;
    }
    for other in (0..world.size()).filter(|other| *other != at) {
        let both = |world: &World| -> Vec<GroupId> {
            let (led, same) = (world.copies.led.get(&other), world.side[other] == world.side[at]);
            let clash = |(group, epoch): (&GroupId, &Epoch)| mine.get(group).is_some_and(|own| same || own == epoch);
            led.into_iter().flatten().filter(|(group, epoch)| clash((group, epoch))).map(|(group, _)| *group).collect()
        };
        if !world.servers[other].runs() || both(world).is_empty() {
            continue;
        }
        let now = world.now;
        turns.push((other, world.servers[other].handle(now, Vec::new())));
        let led = commits(world, other);
        world.copies.led.insert(other, led);
        if let Some(group) = both(world).first() {
            let what = format!("group {group}: servers {at} and {other} can commit at one time in one epoch");
            world.history.violate(2, what);
        }
    }
    turns
}

/// One copy of a group.
pub fn status(world: &World, at: usize, group: GroupId) -> Option<GroupStatus> {
    world.servers[at].node.as_ref()?.inspect(|core| core.host.group(group))
}

/// Looks at all copies: equal states at equal positions, none stopped, none backwards.
pub fn look(world: &mut World) {
    for group in world.groups() {
        for at in placed(world, group) {
            let Some(status) = status(world, at, group) else { continue };
            if let Some(reason) = &status.stopped {
                world.history.violate(3, format!("group {group} at server {at} stopped: {reason}"));
            }
            if status.position.seq == 0 {
                continue;
            }
            let seen = world.copies.digests.entry(group).or_default();
            let first = *seen.entry(status.position).or_insert(status.digest);
            if first != status.digest {
                let what = format!("group {group}: two states at {}, the second at server {at}", status.position);
                world.history.violate(3, what);
            }
            let boot = world.servers[at].boot;
            let before = world.copies.last.insert((at, group), (boot, status.position));
            if before.is_some_and(|(of, before)| of == boot && before > status.position) {
                let what = format!("group {group}: server {at} moved back from {before:?} to {}", status.position);
                world.history.violate(3, what);
            }
        }
    }
}

/// A server stops: what is lost with it.
pub fn stopping(world: &mut World, at: usize) {
    world.copies.led.remove(&at);
    let own = world.servers[at].id;
    let Some(node) = world.servers[at].node.as_ref() else { return };
    let leads = !commits(world, at).is_empty();
    let in_flight = node.inspect(|core| !core.commit_started.is_empty());
    if leads && in_flight {
        world.met("a leader died with proposals in flight");
    }
    let waited_for = world.servers.iter().any(|server| {
        let waits = |node: &pairline_node::Node| node.inspect(|core| core.forwarded.values().any(|(_, to)| *to == own));
        server.node.as_ref().is_some_and(waits)
    });
    let is_request = |frame: &bytes::Bytes| matches!(PeerFrame::decode(frame), Ok(PeerFrame::Sip(message)) if !message.starts_with(b"SIP/2.0"));
    if waited_for || (leads && world.mesh.on_the_way_to(at).any(is_request)) {
        world.met("a request was forwarded to a leader that died");
    }
}

/// A server is back: what it says now is of a new life.
pub fn started(world: &mut World, at: usize) {
    world.copies.led.remove(&at);
    world.copies.last.retain(|(of, _), _| *of != at);
}

/// Whether the leader of a group has a record.
pub fn has(world: &World, group: GroupId, key: &Key) -> bool {
    let node = leader(world, group).and_then(|at| world.servers[at].node.as_ref());
    node.is_some_and(|node| node.inspect(|core| core.host.get(group, key).is_some()))
}

/// Whether every group has one leader and all its copies stand where the leader's does.
pub fn level(world: &World) -> bool {
    world.groups().into_iter().all(|group| {
        let at: BTreeSet<Option<Position>> =
            placed(world, group).into_iter().map(|at| status(world, at, group).map(|status| status.position)).collect();
        leader(world, group).is_some() && at.len() == 1
    })
}

/// What is not where it should be: a pool without the right voters, or a server with a copy that it should not have.
pub fn misplaced(world: &World) -> Option<String> {
    let pools = 0..world.options.servers.len();
    if let Some((pool, what)) = pools.into_iter().find_map(|pool| Some((pool, disks::lacks(world, pool)?))) {
        return Some(format!("pool {pool} does not have the voters that it should have: {what}"));
    }
    world.members().into_iter().find_map(|at| {
        let node = world.servers[at].node.as_ref()?;
        let has = node.inspect(|core| core.host.groups());
        let stray = has.into_iter().find(|group| !placed(world, *group).contains(&at))?;
        Some(format!("server {at} still has a copy of group {stray}"))
    })
}

/// What must hold after healing: a leader of each group, equal copies where they should be, and states that follow from their entries.
pub fn converged(world: &mut World) {
    if let Some(what) = misplaced(world) {
        world.history.violate(1, format!("after healing {what}"));
    }
    for group in world.groups() {
        let Some(leader) = leader(world, group) else {
            world.history.violate(1, format!("group {group}: nobody leads after healing"));
            continue;
        };
        let own = status(world, leader, group);
        let own = own.map(|status| (status.position, status.digest));
        for at in placed(world, group) {
            let there = status(world, at, group).map(|status| (status.position, status.digest));
            if there != own {
                let (own, there) = (own.map(|own| own.0), there.map(|there| there.0));
                let what =
                    format!("group {group}: after healing server {leader} is at {own:?} and server {at} at {there:?}");
                world.history.violate(3, what);
            }
        }
        follows(world, leader, group);
    }
}

/// The leader's state is what the entries say that were seen, and no operation is among them twice.
fn follows(world: &mut World, leader: usize, group: GroupId) {
    let Some(node) = world.servers[leader].node.as_ref() else { return };
    let (lineage, seq) = node.inspect(|core| {
        (core.host.lineage(group).to_vec(), core.host.position(group).map_or(0, |position| position.seq))
    });
    // An entry may have been applied by a server only while its log was replayed: then nobody saw it.
    let Some(chain) = world.history.chain(group, &lineage, seq) else { return };
    if let Some(op) = history::repeated_ops(&chain).first() {
        world.history.violate(7, format!("group {group}: operation {op:?} was applied more than once"));
    }
    let Some(node) = world.servers[leader].node.as_ref() else { return };
    let present: BTreeMap<_, _> = node
        .inspect(|core| core.host.scan_all(group).map(|(key, record)| (key.clone(), record.value.clone())).collect());
    let replayed = history::replay(&chain);
    if let Some((key, _)) = present.iter().find(|(key, value)| replayed.get(*key) != Some(*value)) {
        world.history.violate(3, format!("group {group}: the state is not what its entries say: {key:?}"));
    }
    world.pair.applied.extend(chain.iter().filter_map(|entry| entry.op));
}
