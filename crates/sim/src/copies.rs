//! Checkers of copies over time: equal digests at equal positions, nothing durable lost by a restart, no step backwards,
//! soft records extended by a promotion.
//!
//! Owns what was seen of each copy while the world ran. Checks of one moment stand in `checks`.

use crate::checks::{groups, status};
use crate::world::World;
use pairline_group::io::{ExportState, Role};
use pairline_group::{Body, Effect, Entry, GroupId, Position};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds by which a promotion's time base may differ from what the oracle knows.
const EXTENSION_SLACK_MS: u64 = 250;

/// What was seen of the copies.
#[derive(Default)]
pub struct Copies {
    digests: BTreeMap<GroupId, BTreeMap<Position, [u8; 32]>>,
    last: [BTreeMap<GroupId, (u64, Position)>; 2],
    /// Positions that must be there at the next start, by group: what was applied, and what the other side had counted.
    owed: [BTreeMap<GroupId, (Position, &'static str)>; 2],
    /// The other side's wall clock when something of it last arrived.
    heard_wall: [u64; 2],
    /// Groups of a replaced disk that have not caught up: the other side may still count what the former disk had.
    replaced: [BTreeSet<GroupId>; 2],
}

impl Copies {
    /// The disk of a site was replaced: nothing is owed by it, and what neither copy has never was.
    pub fn disk_replaced(&mut self, site: usize, groups: Vec<GroupId>) {
        self.replaced[site] = groups.into_iter().collect();
        self.owed[site].clear();
        self.last[site].clear();
    }

    /// Whether a site's disk was replaced and has not caught up.
    pub fn catching_up(&self, site: usize) -> bool {
        !self.replaced[site].is_empty()
    }

    /// Positions after this one may be given anew.
    pub fn forget_after(&mut self, group: GroupId, position: Position) {
        if let Some(seen) = self.digests.get_mut(&group) {
            seen.retain(|at, _| *at <= position);
        }
    }
}

/// Looks at both copies of every group.
pub fn look(world: &mut World) {
    for group in groups(world) {
        caught_up(world, group);
        for site in 0..2 {
            let Some(status) = status(world, site, group) else { continue };
            if status.stopped.is_some() || status.position.seq == 0 {
                continue;
            }
            let boot = world.servers[site].boot;
            let seen = world.copies.digests.entry(group).or_default();
            let first = *seen.entry(status.position).or_insert(status.digest);
            if first != status.digest {
                let what = format!("group {group}: two states at {}, the second at site {site}", status.position);
                world.history.violate(3, what);
            }
            let before = world.copies.last[site].insert(group, (boot, status.position));
            if let Some((of, before)) = before
                && of == boot
                && before > status.position
            {
                let what = format!("group {group}: site {site} moved back from {before} to {}", status.position);
                world.history.violate(3, what);
            }
        }
    }
}

/// Both copies stand at one position: whatever a replaced disk lacked is there again.
fn caught_up(world: &mut World, group: GroupId) {
    if world.copies.replaced.iter().any(|groups| groups.contains(&group)) {
        let at: Vec<Option<Position>> =
            (0..2).map(|site| status(world, site, group).map(|status| status.position)).collect();
        if at[0].is_some() && at[0] == at[1] {
            world.copies.replaced.iter_mut().for_each(|groups| {
                groups.remove(&group);
            });
        }
    }
}

/// Whether both copies of every group stand at one position.
pub fn level(world: &World) -> bool {
    groups(world).into_iter().all(|group| {
        let at = |site| status(world, site, group).map(|status| status.position);
        at(0) == at(1)
    })
}

/// A server stops: what it has applied, and what the other side counts as acknowledged by it, must be there when it is back.
pub fn stopping(world: &mut World, site: usize) {
    let mut owed = BTreeMap::new();
    for group in groups(world) {
        let Some(own) = status(world, site, group) else { continue };
        owed.insert(group, (own.position, "applied"));
        if world.copies.replaced[site].contains(&group) {
            continue;
        }
        let Some(active) = status(world, 1 - site, group) else { continue };
        if active.role != Role::Active || !active.confirmed || active.export == ExportState::NotInitialised {
            continue;
        }
        let counted = active.position.seq.saturating_sub(active.behind_entries);
        if counted > own.position.seq && own.position.epoch == active.position.epoch {
            owed.insert(group, (Position { seq: counted, ..own.position }, "acknowledged"));
        }
    }
    world.copies.owed[site] = owed;
}

/// A server is back.
pub fn started(world: &mut World, site: usize) {
    for (group, (owed, how)) in std::mem::take(&mut world.copies.owed[site]) {
        let Some(has) = status(world, site, group).map(|status| status.position) else {
            // A pool that parted from its partner drops the copies of that pool's groups.
            if !parted(world, site, group) {
                world.history.violate(1, format!("group {group}: site {site} had {how} entry {owed} and has no copy"));
            }
            continue;
        };
        // A re-base whose swap was on the disk already leads to a higher epoch, and there to its own sequence.
        if has < owed {
            let what = format!("group {group}: site {site} had {how} entry {owed} and starts at {has}");
            world.history.violate(if how == "applied" { 1 } else { 3 }, what);
        }
    }
}

/// Whether a site has learned that it is not paired any more, and the group is the other pool's.
fn parted(world: &World, site: usize, group: GroupId) -> bool {
    let own = world.servers[site].pool;
    let paired = world.servers[site].node.as_ref().is_none_or(|node| node.inspect(|core| core.partner().is_some()));
    !paired && group.pool != own && !group.is_cms()
}

/// Something of the other side arrived.
pub fn heard(world: &mut World, site: usize) {
    let wall = world.servers[1 - site].clocks(world.now).wall;
    world.copies.heard_wall[site] = world.copies.heard_wall[site].max(wall);
}

/// A site applied an entry.
pub fn applied(world: &mut World, site: usize, group: GroupId, entry: &Entry) {
    match &entry.body {
        Body::Effects(effects) => one_version(world, group, entry.position, effects),
        Body::Promote(_) => extended(world, site, group, entry),
        Body::Open { .. } | Body::Handover(_) | Body::Expire(_) => {}
    }
}

/// A record's version is the position of the entry that wrote it, so that no entry may write one twice: whoever read the first
/// of the two versions would be taken for one who read the second.
fn one_version(world: &mut World, group: GroupId, position: Position, effects: &[Effect]) {
    let keys: BTreeSet<&pairline_group::Key> = effects.iter().map(Effect::key).collect();
    if effects.len() > keys.len() {
        world.history.violate(3, format!("group {group}: the entry at {position} writes one record twice"));
    }
    if effects.len() > 1 && effects.iter().any(|effect| effect.key().kind == pairline_services::records::BINDING) {
        world.met("registrations shared an entry");
    }
}

/// A promotion must extend soft records by the time in which nobody could refresh them.
fn extended(world: &mut World, site: usize, group: GroupId, entry: &Entry) {
    let Body::Promote(promote) = &entry.body else { return };
    if promote.epoch.granted_by != world.servers[site].pool {
        return;
    }
    let before = entry.position.seq.saturating_sub(1);
    let known = world.history.entries.get(&group).into_iter().flatten();
    let previous = known.filter(|((_, seq), _)| *seq == before).map(|(_, seen)| seen.entry.time).max().unwrap_or(0);
    let silence = entry.time.saturating_sub(previous.max(world.copies.heard_wall[site]));
    let wanted = silence.min(world.options.limits().soft_extension);
    if wanted > EXTENSION_SLACK_MS {
        world.met("a promotion extended soft records");
    }
    if promote.soft_extension + EXTENSION_SLACK_MS < wanted {
        let what = format!(
            "group {group}: promoted after {silence} ms of silence, soft records extended by {} ms",
            promote.soft_extension
        );
        world.history.violate(4, what);
    }
}
