//! Checkers of two pools of several servers: what each says of the other's lag, who serves, and what must hold once all is healed.
//!
//! Owns what concerns both pools. Copies, entries, clients and phones are checked as those of one pool, in `pool`.

use super::{ask, epochs, remedies};
use crate::pool::checks::{leader, placed_in, status};
use crate::pool::world::World;
use pairline_group::io::{ExportState, GroupStatus, ImportState, Lag, Role};
use pairline_group::{GroupId, LineageItem};
use pairline_node::command::{Command, Reply};
use pairline_node::view::{PoolsView, ProcedureView};

/// Slack of a lag figure: a tick of the node, one of the checker, and how far the servers of a pool are apart.
const LAG_SLACK_MS: u64 = 400;

/// How long two pools may both serve a group in full although all servers hear each other.
const BOTH_ACTIVE_MS: u64 = 3_000;

/// How long a server may take to notice that the other pool is there.
const HEARD_MS: u64 = 6_000;

/// How often what is open is resumed at the end.
const RESUMES: u32 = 12;

/// Looks at the running world.
pub fn look(world: &mut World) {
    for group in world.groups() {
        one_serves(world, group);
        for at in 0..world.size() {
            lag_is_honest(world, at, group);
        }
    }
    for at in 0..world.size() {
        pool_is_heard(world, at);
    }
    epochs::look(world);
}

/// Whether some server of the other pool has been heard all the time, by a link in order.
fn pool_is_heard(world: &mut World, at: usize) {
    let heard = |other: &usize| {
        let (there, back) = (world.mesh.end(at, *other), world.mesh.end(*other, at));
        world.servers[*other].runs() && world.mesh.whole(at, *other) && there.is_some() && back.is_some()
    };
    let one = world.pool(1 - world.side[at]).into_iter().find(heard);
    let Some(one) = one.filter(|_| world.servers[at].runs() && world.slow.is_empty()) else {
        world.pair.heard_since.remove(&at);
        return;
    };
    let now = world.now;
    let known = world.pair.heard_since.entry(at).or_insert((one, now));
    if known.0 != one {
        *known = (one, now);
    }
    let since = known.1;
    let partner = world.servers[one].pool;
    let away = world.servers[at].node.as_ref().is_some_and(|node| node.inspect(|core| core.modes.away(partner)));
    if away && now.saturating_sub(since) > HEARD_MS {
        let what = format!("server {at} takes the other pool for lost and hears server {one} of it since {since}");
        world.history.violate(9, what);
    }
}

/// A server says that its pool has stood down: no server of the pool commits in what was ordered.
pub fn stood_down(world: &mut World, at: usize, order: &Command) {
    let Command::Fence { groups, .. } = order else { return };
    for group in world.groups() {
        let Some(epoch) =
            groups.iter().find_map(|word| word.strip_prefix(&format!("{}/{}@", group.pool.0, group.index)))
        else {
            continue;
        };
        for other in world.pool(world.side[at]) {
            let Some(node) = world.servers[other].node.as_ref().filter(|_| world.servers[other].runs()) else {
                continue;
            };
            let serves = node.inspect(|core| core.host.can_commit(group).then(|| core.host.serving(group)).flatten());
            if serves.is_some_and(|(_, of)| format!("{}.{}", of.number, of.granted_by.0) == epoch) {
                let what =
                    format!("group {group}: server {at} says that its pool has stood down, and server {other} commits");
                return world.history.violate(9, what);
            }
        }
    }
}

fn lineage(world: &World, at: usize, group: GroupId) -> Vec<LineageItem> {
    let node = world.servers[at].node.as_ref();
    node.map(|node| node.inspect(|core| core.host.lineage(group).to_vec())).unwrap_or_default()
}

/// Two pools serve a group, each in its epoch, although all servers hear each other.
fn one_serves(world: &mut World, group: GroupId) {
    let committing = crate::pool::checks::committing(world, group);
    let several = committing.iter().any(|(_, epoch)| *epoch != committing[0].1);
    let members = world.members();
    let hear = |a: usize, b: usize| {
        a == b || world.mesh.whole(a, b) && world.mesh.end(a, b).is_some() && world.mesh.end(b, a).is_some()
    };
    let all = members.iter().all(|a| world.servers[*a].runs() && members.iter().all(|b| hear(*a, *b)));
    if !several || !all || !world.slow.is_empty() || !world.slow_disks.is_empty() {
        world.pair.both_active.remove(&group);
        return;
    }
    let since = *world.pair.both_active.entry(group).or_insert(world.now);
    let most = BOTH_ACTIVE_MS + 4 * (world.options.wide_ms.0 + world.options.wide_ms.1 + world.options.sync_ms);
    if world.now.saturating_sub(since) > most {
        let what = format!("group {group}: {committing:?} serve in full although all servers hear each other");
        world.history.violate(9, what);
    }
}

/// Whoever leads a backup copy says no less than it is behind.
fn lag_is_honest(world: &mut World, at: usize, group: GroupId) {
    let Some(node) = world.servers[at].node.as_ref().filter(|_| world.servers[at].runs()) else { return };
    if !node.inspect(|core| core.host.leads(group)) {
        return;
    }
    let Some(status) = status(world, at, group).filter(|status| status.role == Role::Backup) else { return };
    let Lag::AtMost(said) = status.lag else { return };
    let untold = world.servers[at].clocks(world.now).mono.saturating_sub(node.inspect(|core| core.now.mono));
    let said = said + untold;
    let lineage = lineage(world, at, group);
    let Some(oldest) = epochs::told_since(world, group, &lineage, status.position.seq) else { return };
    let real = world.now.saturating_sub(oldest);
    if real > 0 {
        world.met("a backup was behind");
    }
    if real > said + LAG_SLACK_MS {
        let what = format!("group {group}: server {at} says at most {said} ms behind, it is {real} ms");
        world.history.violate(4, what);
    }
}

/// An administrator was told something by some server.
pub fn told(world: &mut World, at: usize, reply: &Reply, asked: u64) {
    match reply {
        Reply::Pools(view) => status_is_honest(world, at, view, asked),
        Reply::Procedure(view) => promise_is_kept(world, view),
        Reply::Procedures { procedures } => procedures.iter().for_each(|view| promise_is_kept(world, view)),
        _ => {}
    }
}

/// The status names no less than what is missing at the other pool. While it was gathered, it was so at some moment.
fn status_is_honest(world: &mut World, at: usize, view: &PoolsView, asked: u64) {
    let took = world.now.saturating_sub(asked);
    for group in world.groups() {
        let Some((source, real)) = missing_for(world, group, asked) else { continue };
        let module = if group.is_cms() { "management-store" } else { "user-data" };
        let from = &world.topology.pool[source].name;
        let row = view.shipping.iter().find(|row| row.module == module && row.from == *from);
        let Some(said) = row.and_then(|row| row.lag_seconds) else { continue };
        // Figures are tenths of seconds at the finest.
        let said = std::time::Duration::from_secs_f64(said.max(0.0)).as_millis();
        if u128::from(real) > said + u128::from(took + LAG_SLACK_MS + 100) {
            let what =
                format!("group {group}: server {at} says {said} ms of lag, the other pool lacks an entry of {real} ms");
            return world.history.violate(4, what);
        }
    }
}

/// The pool that serves a group since before that time, and how long a leader there, this one or an earlier one, has had the oldest entry that no
/// server of the other pool has applied.
fn missing_for(world: &World, group: GroupId, asked: u64) -> Option<(usize, u64)> {
    if world.pair.split.contains_key(&group) {
        return None;
    }
    let source = leader(world, group)?;
    let lineage = lineage(world, source, group);
    let last = lineage.last()?;
    let entries = world.history.entries.get(&group)?;
    let begun = entries.get(&(last.epoch, last.first.max(1)))?.at;
    let pool = world.side[source];
    // What the other pool has acknowledged may be applied at a server that is down now, or that has gone.
    let (low, high) = ((last.epoch, 0), (last.epoch, u64::MAX));
    let there = (0..world.size()).filter(|at| world.side[*at] != pool);
    let applied = there.filter_map(|at| world.pair.applied_at.get(&(at, group))?.range(low..=high).next_back());
    let most = applied.map(|((_, seq), _)| *seq).max()?;
    let oldest = epochs::told_since(world, group, &lineage, most)?;
    (begun < asked).then(|| (pool, world.now.saturating_sub(oldest)))
}

/// A position as reports write it.
fn read(text: &str) -> Option<(u64, u64)> {
    let (epoch, seq) = text.split_once(':')?;
    Some((epoch.split_once('.')?.0.parse().ok()?, seq.parse().ok()?))
}

/// A procedure that is done has reached at least what it promised.
fn promise_is_kept(world: &mut World, view: &ProcedureView) {
    let Some(report) = view.report.as_ref().filter(|_| view.state == "done") else { return };
    for (group, promised, actual) in &report.recovery_points {
        if let (Some(promised), Some(actual)) = (read(promised), read(actual))
            && actual < promised
        {
            let what = format!("group {group}: {promised:?} was promised and {actual:?} is there");
            return world.history.violate(4, what);
        }
    }
}

fn open_procedures(world: &mut World) -> Vec<ProcedureView> {
    let at = world.any_server();
    match ask(world, at, Command::ProcedureList) {
        Some(Ok(Reply::Procedures { procedures })) => {
            procedures.into_iter().filter(|one| one.state == "stopped" || one.state == "running").collect()
        }
        other => {
            world.history.violate(6, format!("after healing server {at} lists no procedures: {other:?}"));
            Vec::new()
        }
    }
}

/// The home pool of a group that nobody serves: its pool has stood down for a promotion that never came.
fn stranded(world: &World) -> Option<(usize, GroupId)> {
    let alone = |group: &GroupId| crate::pool::checks::committing(world, *group).is_empty();
    let group = world.groups().into_iter().find(alone)?;
    let fenced = |pool: &usize| led(world, *pool, group).is_some_and(|(_, copy)| copy.role == Role::Fenced);
    [0, 1].into_iter().find(fenced).map(|pool| (pool, group))
}

/// An order to stand down may be carried out when the server that gave it is lost, and nothing of the procedure was written yet. An
/// administrator sees groups that nobody serves, and gives the command again.
pub fn nothing_is_stranded(world: &mut World) {
    for _ in 0..6 {
        let Some((pool, group)) = stranded(world).filter(|_| world.is_good()) else { return };
        world.met("a pool stood down and nobody took over");
        let at = world.pool(1 - pool)[0];
        let name = world.topology.pool[pool].name.clone();
        let (disaster, dry_run, force) = (true, false, true);
        let (confirm, reason) = (Some("yes".to_owned()), Some("nobody serves".to_owned()));
        let disaster = match group.is_cms() && world.rng.chance(50) {
            true => Command::ManagementFailover { disaster, dry_run, force, confirm, reason },
            false => Command::PoolFailover { pool: name, disaster, dry_run, force, confirm, reason },
        };
        remedies::insist(world, at, disaster);
        let next = world.now + 5_000;
        world.run_until(next);
    }
}

/// Every procedure can be brought to its end.
pub fn procedures_end(world: &mut World) {
    let mut said = String::new();
    for round in 0..RESUMES {
        // One that another holds up says so: whoever looks at the list sees both, and ends that one first.
        let open = open_procedures(world);
        let Some(first) = open.get(round as usize % open.len().max(1)) else { return };
        if first.state == "stopped" && first.stopped.is_none() {
            return world.history.violate(6, format!("procedure {} has stopped without a reason", first.id));
        }
        let at = world.any_server();
        let reply = ask(world, at, Command::ProcedureResume { id: first.id.clone() });
        said = format!("{first:?}: {reply:?}");
        let next = world.now + 3_000;
        world.run_until(next);
    }
    if let Some(first) = open_procedures(world).first().filter(|_| world.is_good()) {
        for at in world.members() {
            let node = world.servers[at].node.as_ref();
            let runner = node.map(|node| node.inspect(|core| format!("{:?}", core.procedures.runner)));
            world.note("runner", &format!("server {at}: {runner:?}"));
        }
        let what =
            format!("after healing the {} {} is {} and cannot be ended: {said}", first.kind, first.id, first.state);
        world.history.violate(6, what);
    }
}

/// What stands in divergent tails can be offered, and nothing of it stays open.
pub fn tails_are_applied(world: &mut World) {
    for pool in ["east", "west"] {
        let at = world.any_server();
        let command = Command::PoolDivergence { pool: pool.to_owned(), apply: true };
        match ask(world, at, command) {
            Some(Ok(Reply::Divergence(view))) => {
                if let Some(open) = view.entries.iter().find(|entry| entry.outcome == "open") {
                    let what = format!("after healing an entry of {pool}'s tail stays open: {open:?}");
                    world.history.violate(4, what);
                }
            }
            other => world.history.violate(4, format!("after healing {pool}'s tails are not offered: {other:?}")),
        }
    }
    for at in world.members() {
        let pool = world.topology.pool[world.side[at]].name.clone();
        let Some(Ok(Reply::Divergence(view))) = ask(world, at, Command::PoolDivergence { pool, apply: false }) else {
            continue;
        };
        if let Some(open) = view.entries.iter().find(|entry| entry.outcome == "open") {
            world.history.violate(4, format!("server {at} has an entry of a tail that was not offered: {open:?}"));
        }
    }
}

/// Every group is led in both pools, confirmed, shipped and proven equal, and every server says so.
pub fn in_step(world: &mut World) {
    let until = world.now + 10_000;
    let mut wrong = Some(String::new());
    while wrong.is_some() && world.now < until && world.is_good() {
        let next = world.now + 250;
        world.run_until(next);
        wrong = world.groups().into_iter().find_map(|group| out_of_step(world, group));
    }
    if let Some(wrong) = wrong {
        return world.history.violate(9, format!("after healing {wrong}"));
    }
    verified(world);
    for at in world.members() {
        if world.is_good() {
            status_is_whole(world, at);
        }
    }
}

/// How a group's copies stand where they are led.
fn led(world: &World, pool: usize, group: GroupId) -> Option<(usize, GroupStatus)> {
    let leads = |at: &usize| {
        let node = world.servers[*at].node.as_ref();
        node.is_some_and(|node| node.inspect(|core| core.host.leads(group)))
    };
    let at = placed_in(world, pool, group).into_iter().find(leads)?;
    Some((at, status(world, at, group)?))
}

fn out_of_step(world: &World, group: GroupId) -> Option<String> {
    let copies: Vec<(usize, GroupStatus)> = [0, 1].into_iter().filter_map(|pool| led(world, pool, group)).collect();
    let [(_, a), (_, b)] = copies.as_slice() else {
        return Some(format!("group {group} is led at {:?} only", copies.iter().map(|(at, _)| at).collect::<Vec<_>>()));
    };
    let (active, backup) = if a.role == Role::Active { (a, b) } else { (b, a) };
    let good = active.role == Role::Active
        && active.confirmed
        && backup.role == Role::Backup
        && matches!(active.export, ExportState::Steady)
        && backup.import == ImportState::Normal;
    (!good).then(|| format!("group {group} stands so: {copies:?}"))
}

fn verified(world: &mut World) {
    for pool in ["east", "west"] {
        if !world.is_good() {
            return;
        }
        let at = world.any_server();
        match ask(world, at, Command::PoolVerify { pool: pool.to_owned() }) {
            Some(Ok(Reply::Verify(view))) if view.equal == view.groups => world.met("copies were proven equal"),
            other => world.history.violate(3, format!("after healing server {at} verifies {pool}: {other:?}")),
        }
    }
}

fn status_is_whole(world: &mut World, at: usize) {
    let all = world.groups().len();
    let view = match ask(world, at, Command::PoolStatus) {
        Some(Ok(Reply::Pools(view))) => view,
        other => return world.history.violate(4, format!("after healing server {at} has no status: {other:?}")),
    };
    let served: u32 = view.pools.iter().map(|pool| pool.serving_own + pool.serving_partner).sum();
    let stores = view.pools.iter().filter(|pool| pool.management_store).count();
    let alive = view.pools.iter().all(|pool| pool.alive);
    if usize::try_from(served).unwrap_or(0) + 1 != all || stores != 1 || !alive {
        let what = format!("after healing server {at} tells of {served} of {all} groups: {:?}", view.pools);
        world.history.violate(4, what);
    }
}
