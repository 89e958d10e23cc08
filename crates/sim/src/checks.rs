//! Checkers of the invariants of DESIGN §9, from outside.
//!
//! Owns what is looked at while the world runs, and what must hold when it has healed. Entries' own checkers (chain, writers)
//! stand in `history`, because they look at each entry as it is applied.

use crate::history::{self, Answer};
use crate::world::World;
use pairline_group::io::{GroupStatus, Lag, Role};
use pairline_group::{GroupId, OpId};
use std::collections::{BTreeMap, BTreeSet};

/// Slack of a lag figure: a tick of the node plus a tick of the checker.
const LAG_SLACK_MS: u64 = 120;

/// How long two servers may both serve a group in full although they hear each other.
const BOTH_ACTIVE_MS: u64 = 1_000;

pub(crate) fn status(world: &World, site: usize, group: GroupId) -> Option<GroupStatus> {
    let node = world.servers[site].node.as_ref()?;
    node.inspect(|core| core.host.group(group))
}

pub(crate) fn groups(world: &World) -> Vec<GroupId> {
    let mut all = vec![GroupId::CMS];
    all.extend(world.topology.pool.iter().flat_map(|pool| world.topology.groups_of(pool.id)));
    all
}

/// Looks at the running world.
pub fn look(world: &mut World) {
    for group in groups(world) {
        one_active(world, group);
        lag_is_honest(world, group);
        for site in 0..2 {
            if let Some(status) = status(world, site, group)
                && let Some(reason) = status.stopped
            {
                world.history.violate(3, format!("group {group} at site {site} stopped: {reason}"));
            }
        }
    }
}

fn one_active(world: &mut World, group: GroupId) {
    let serve = |site: usize| {
        let node = world.servers[site].node.as_ref()?;
        node.inspect(|core| core.host.can_commit(group).then(|| core.host.serving(group)).flatten())
    };
    let (Some((_, first)), Some((_, second))) = (serve(0), serve(1)) else {
        world.both_active.remove(&group);
        return;
    };
    if first == second {
        world.history.violate(2, format!("group {group}: both sites serve epoch {first}"));
        return;
    }
    let hear = world.servers.iter().all(|server| server.runs() && server.link.is_some())
        && world.net.connection.is_some_and(|connection| connection.ends.iter().all(Option::is_some))
        && world.net.whole();
    if !hear {
        world.both_active.remove(&group);
        return;
    }
    let since = *world.both_active.entry(group).or_insert(world.now);
    if world.now.saturating_sub(since) > BOTH_ACTIVE_MS + 4 * world.options.delay_ms {
        world
            .history
            .violate(9, format!("group {group}: both sites serve in full ({first} and {second}) and hear each other"));
    }
}

fn lag_is_honest(world: &mut World, group: GroupId) {
    for site in 0..2 {
        let Some(status) = status(world, site, group) else { continue };
        if status.role != Role::Backup || world.servers[site].paused {
            continue;
        }
        let Lag::AtMost(said) = status.lag else { continue };
        let Some(node) = world.servers[site].node.as_ref() else { continue };
        // Whoever asks the node asks it with the time; here it is looked at as of the last time that it was told.
        let untold = world.servers[site].clocks(world.now).mono.saturating_sub(node.inspect(|core| core.now.mono));
        let said = said + untold;
        let lineage = node.inspect(|core| core.host.lineage(group).to_vec());
        let Some(oldest) = world.history.next_after(group, &lineage, status.position.seq) else { continue };
        let real = world.now.saturating_sub(oldest);
        if real > 0 {
            world.met("a backup was behind");
        }
        if real > said + LAG_SLACK_MS {
            let what = format!("group {group}: site {site} says at most {said} ms behind, it is {real} ms");
            world.history.violate(4, what);
        }
    }
}

/// The oracle forgets what only a disk held that is now replaced by an older image of itself.
pub fn forget_unshipped(world: &mut World, site: usize) {
    let pool = world.servers[site].pool;
    for group in groups(world) {
        let Some(theirs) = status(world, 1 - site, group) else { continue };
        let Some(node) = world.servers[1 - site].node.as_ref() else { continue };
        let lineage = node.inspect(|core| core.host.lineage(group).to_vec());
        world.copies.forget_after(group, theirs.position);
        let Some(seen) = world.history.entries.get_mut(&group) else { continue };
        let beyond: Vec<_> = seen
            .iter()
            .filter(|((epoch, seq), entry)| {
                let after =
                    *epoch > theirs.position.epoch || (*epoch == theirs.position.epoch && *seq > theirs.position.seq);
                // What a pool that was cut off committed after the fork stands on no other disk either.
                (after || !stands_on(&lineage, *epoch, *seq)) && entry.first_at == pool
            })
            .map(|(key, _)| *key)
            .collect();
        for key in beyond {
            if let Some(entry) = seen.remove(&key)
                && let Some(op) = entry.entry.op
            {
                world.excused.insert(op);
            }
        }
    }
}

/// Whether an entry of this epoch and sequence is a part of the history that a lineage describes.
fn stands_on(lineage: &[pairline_group::LineageItem], epoch: pairline_group::Epoch, seq: u64) -> bool {
    let at = lineage.iter().position(|item| item.epoch == epoch);
    at.is_some_and(|at| lineage[at].first <= seq && lineage.get(at + 1).is_none_or(|next| seq < next.first))
}

/// What must hold after healing: both copies equal, one active, nothing acknowledged missing.
pub fn converged(world: &mut World) {
    let mut tails: BTreeSet<OpId> = BTreeSet::new();
    for server in &mut world.servers {
        tails.extend(server.tail_operations());
        world.tail_records.extend(server.tail_records());
    }
    for group in groups(world) {
        copies_agree(world, group);
        if world.history.violations.is_empty() {
            nothing_lost(world, group, &tails);
        }
    }
}

/// The site of a copy that has stood down, and its group, where the other site has not taken over and both run.
pub fn stranded(world: &World) -> Option<(usize, GroupId)> {
    groups(world).into_iter().find_map(|group| {
        let roles = [0, 1].map(|site| status(world, site, group).map(|status| status.role));
        match roles {
            [Some(Role::Fenced), Some(Role::Backup)] => Some((0, group)),
            [Some(Role::Backup), Some(Role::Fenced)] => Some((1, group)),
            _ => None,
        }
    })
}

fn copies_agree(world: &mut World, group: GroupId) {
    let both: Vec<Option<GroupStatus>> = (0..2).map(|site| status(world, site, group)).collect();
    let [Some(a), Some(b)] = both.as_slice() else {
        let what = format!("group {group}: a copy is missing after healing: {both:?}");
        world.history.violate(3, what);
        return;
    };
    let active: Vec<&GroupStatus> = [a, b].into_iter().filter(|s| s.role == Role::Active && s.confirmed).collect();
    if active.len() != 1 {
        let text = format!(
            "{:?}/{} at {} (export {:?}, seed {:?}, stopped {:?}) and {:?}/{} at {} (export {:?}, seed {:?}, stopped {:?})",
            a.role,
            a.confirmed,
            a.position,
            a.export,
            a.seed,
            a.stopped,
            b.role,
            b.confirmed,
            b.position,
            b.export,
            b.seed,
            b.stopped
        );
        world.history.violate(
            9,
            format!("group {group}: after healing the copies are {text}, epochs {} and {}", a.epoch, b.epoch),
        );
        return;
    }
    if a.position != b.position || a.digest != b.digest {
        let what = format!(
            "group {group}: after healing the copies differ: {} ({:?}, export {:?}, seed {:?}, {} behind) and {} ({:?}, import {:?}, seed {:?})",
            a.position, a.role, a.export, a.seed, a.behind_entries, b.position, b.role, b.import, b.seed
        );
        world.history.violate(3, what);
    }
}

fn nothing_lost(world: &mut World, group: GroupId, tails: &BTreeSet<OpId>) {
    let Some(site) = (0..2).find(|site| status(world, *site, group).is_some_and(|s| s.role == Role::Active)) else {
        return;
    };
    let Some(node) = world.servers[site].node.as_ref() else { return };
    let (lineage, seq, present) = node.inspect(|core| {
        let lineage = core.host.lineage(group).to_vec();
        let seq = core.host.group(group).map_or(0, |status| status.position.seq);
        let present: BTreeMap<_, _> =
            core.host.scan_all(group).map(|(key, record)| (key.clone(), record.value.clone())).collect();
        (lineage, seq, present)
    });
    let Some(chain) = world.history.chain(group, &lineage, seq) else {
        world.history.violate(3, format!("group {group}: the serving copy stands on an entry that nobody applied"));
        return;
    };
    let mut replayed = history::replay(&chain);
    replayed.retain(|key, _| present.contains_key(key) || is_durable(&chain, key));
    if replayed != present {
        let missing = replayed.keys().filter(|key| !present.contains_key(*key)).count();
        let added = present.keys().filter(|key| !replayed.contains_key(*key)).count();
        let what = format!(
            "group {group}: the state is not what its entries say ({missing} records missing, {added} too many)"
        );
        world.history.violate(3, what);
    }
    if let Some(op) = history::repeated_ops(&chain).first() {
        world.history.violate(7, format!("group {group}: operation {op:?} was applied more than once"));
    }
    let applied: BTreeSet<OpId> = chain.iter().filter_map(|entry| entry.op).collect();
    world.applied.extend(applied);
    world.in_tails.extend(tails.iter().copied());
}

fn is_durable(chain: &[std::sync::Arc<pairline_group::Entry>], key: &pairline_group::Key) -> bool {
    chain.iter().rev().find_map(|entry| match &entry.body {
        pairline_group::Body::Effects(effects) => effects.iter().find_map(|effect| match effect {
            pairline_group::Effect::Put { key: of, class, .. } if of == key => {
                Some(*class == pairline_group::Class::Durable)
            }
            _ => None,
        }),
        _ => None,
    }) == Some(true)
}

/// Every acknowledged change is applied on the surviving history, or stands in a stored tail.
pub fn acknowledged(world: &mut World) {
    let mut lost = Vec::new();
    for change in &world.history.changes {
        let Some(op) = crate::clients::operation(change) else { continue };
        let there = world.applied.contains(&op);
        match change.answer {
            Answer::Acknowledged
                if !there
                    && !world.in_tails.contains(&op)
                    && !world.excused.contains(&op)
                    && !crate::clients::record(change).is_some_and(|key| world.tail_records.contains(&key)) =>
            {
                lost.push(change.contact.clone());
            }
            _ => {}
        }
    }
    if let Some(first) = lost.first() {
        let what = format!("{} acknowledged changes are neither present nor in a tail, {first} first", lost.len());
        world.history.violate(if world.sometimes.contains("a disaster failover was started") { 4 } else { 1 }, what);
    }
}
