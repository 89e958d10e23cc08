//! The other servers of the pool, and those of a partner that has several: which are heard, and what waits while they choose who leads
//! a group.
//!
//! Owns the liveness of servers, and the waiting for a leader. Whether a pool is heard is its heartbeats' affair (`modes`). Who leads is replication's to say (`group`); where a user is served
//! follows from it in `place`.

use crate::core::{Core, Link, WaitResult};
use crate::executor::TaskId;
use crate::peer::PeerFrame;
use pairline_group::{GroupId, LinkId, Millis, PoolId};
use std::collections::BTreeMap;

/// Interval at which a server that has nothing else to say says that it is there, in milliseconds.
const ALIVE_MS: Millis = 200;

/// Silence after which a server of the pool is not asked any more, in milliseconds: longer than a machine under load stands still,
/// shorter than a group needs to choose another leader.
const SILENT_MS: Millis = 1_000;

/// How long a server may be without any group before it says so, in milliseconds.
const AWAITED_MS: Millis = 3_000;

/// A pause between two turns, in milliseconds, in which neighbours have taken this process for silent.
const STOOD_STILL_MS: Millis = SILENT_MS + ALIVE_MS;

/// How long a group may be without a leader before its users are served from what is known here, in milliseconds.
pub const LEADERLESS_MS: Millis = 4_000;

/// What is known of the pool's other servers.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Groups that this pool serves and that nobody who can be reached leads, with since when (monotonic).
    pub leaderless: BTreeMap<GroupId, Millis>,
    /// Who waits for a leader, of whatever group.
    waiting: BTreeMap<u64, TaskId>,
    due: Millis,
    /// Something has changed that those who wait have not been told.
    untold: bool,
    /// It was said that this server has nothing yet.
    awaits: bool,
}

/// Who leads a group, or which servers are heard, has changed.
pub fn changed(core: &mut Core) {
    core.neighbours.untold = has_several(core);
}

/// A neighbour is linked again: it may lead, or know who does, so that users wait for that rather than being served in limits.
pub fn linked(core: &mut Core) {
    core.neighbours.leaderless.clear();
    crate::knows::doubt(core);
    changed(core);
}

/// Lets whoever waits for such a change look again; true if there was one.
pub fn pump(core: &mut Core) -> bool {
    if !std::mem::take(&mut core.neighbours.untold) {
        return false;
    }
    look(core);
    for (wait, task) in std::mem::take(&mut core.neighbours.waiting) {
        core.resolve(task, wait, WaitResult::Elapsed);
    }
    crate::place::wake_all_watchers(core);
    true
}

/// A wait of a task that ends with the next change, or at that time. To be ended with [`waited`].
pub fn wait(core: &mut Core, task: TaskId, until: Millis) -> u64 {
    let wait = core.wait_until(task, until);
    core.neighbours.waiting.insert(wait, task);
    wait
}

/// That wait is over.
pub fn waited(core: &mut Core, wait: u64) {
    core.neighbours.waiting.remove(&wait);
}

/// Whether this pool has several servers.
pub fn has_several(core: &Core) -> bool {
    is_of_several(core, core.pool)
}

/// Whether a pool has several servers, so that another one can be asked where one is silent.
pub fn is_of_several(core: &Core, pool: PoolId) -> bool {
    core.topology.server.iter().filter(|server| server.pool == pool && !server.is_witness()).nth(1).is_some()
}

/// Time passes.
pub fn tick(core: &mut Core) {
    let now = core.now.mono;
    if now < core.neighbours.due {
        return;
    }
    core.neighbours.due = now + ALIVE_MS;
    let own: Vec<(LinkId, Link)> = core
        .links
        .iter()
        .filter(|(_, link)| has_several(core) || is_of_several(core, link.pool))
        .map(|(id, link)| (*id, *link))
        .collect();
    if own.is_empty() && !has_several(core) {
        return;
    }
    let mut any = false;
    for (id, link) in own {
        core.send_on(id, &PeerFrame::Alive);
        if let Some(call) = link.awaking {
            // A link that is too full lets frames fall; without an answer nothing asked on it would be done again.
            core.send_on(id, &PeerFrame::Awake { call });
        }
        let silent = now.saturating_sub(link.heard) > SILENT_MS && is_of_several(core, link.pool);
        if silent == link.silent {
            continue;
        }
        any = true;
        if let Some(link) = core.links.get_mut(&id) {
            link.silent = silent;
        }
        if silent {
            crate::peer_side::server_lost(core, link.pool, link.server);
        } else {
            core.layer.transport_restored(now, crate::core::peer_flow_of(link.pool, link.server));
        }
    }
    if any {
        changed(core);
    }
    tell_awaited(core);
    look(core);
    let gone: Vec<u64> = core
        .neighbours
        .waiting
        .clone()
        .into_iter()
        .filter(|(_, task)| core.state(*task).is_none())
        .map(|(wait, _)| wait)
        .collect();
    gone.iter().for_each(|wait| waited(core, *wait));
}

/// This server has no group yet, and nobody to take them from: a server that does not answer might have everything.
fn tell_awaited(core: &mut Core) {
    let awaits = core.now.mono >= AWAITED_MS && core.host.groups().is_empty() && core.host.awaited() > 0;
    if std::mem::replace(&mut core.neighbours.awaits, awaits) || !awaits {
        return;
    }
    let servers = core.topology.voters_of(core.pool);
    let missing = servers.iter().filter(|server| {
        server.id != core.config.server && core.way_to(pairline_services::cx::Peer::Server(server.id)).is_none()
    });
    let names: Vec<&str> = missing.map(|server| server.name.as_str()).collect();
    let text = format!("this server's disk is empty; it waits for {}, which may have everything", names.join(", "));
    core.event(crate::event::Level::Warn, "awaiting-servers", text);
}

/// This process has stood still for so long that its neighbours have given up what they asked of it: whatever they asked before
/// they answer now is not done any more, or it would be done twice, and a telephone rings that nobody calls.
pub fn stood_still(core: &mut Core, ms: Millis) {
    if ms < STOOD_STILL_MS || !has_several(core) {
        return;
    }
    crate::knows::doubt(core);
    let all: Vec<LinkId> = core.links.keys().copied().collect();
    for id in all {
        let call = core.fresh();
        if let Some(link) = core.links.get_mut(&id) {
            link.awaking = Some(call);
        }
        core.send_on(id, &PeerFrame::Awake { call });
    }
}

/// A neighbour has stood still. What it was asked before this it does not do; so nobody waits for that. It may ask more than once.
pub fn asks(core: &mut Core, link: LinkId, call: u64) {
    let Some(neighbour) = core.links.get_mut(&link) else { return };
    let (first, pool, server) = (neighbour.awoken.replace(call) != Some(call), neighbour.pool, neighbour.server);
    if first {
        crate::peer_side::server_lost(core, pool, server);
        core.layer.transport_restored(core.now.mono, crate::core::peer_flow_of(pool, server));
    }
    core.send_on(link, &PeerFrame::Known { call });
}

/// The answer to that: what comes from now on is new.
pub fn awake(core: &mut Core, link: LinkId, call: u64) {
    if let Some(link) = core.links.get_mut(&link).filter(|link| link.awaking == Some(call)) {
        link.awaking = None;
    }
}

/// Whether a message is a request that had waited while this process stood still, and is let fall.
pub fn has_waited(core: &mut Core, link: LinkId, message: &[u8]) -> bool {
    let waits = core.links.get(&link).is_some_and(|link| link.awaking.is_some());
    let waited = waits && !message.starts_with(b"SIP/2.0 ");
    if waited {
        core.count("sip_requests_after_standstill");
    }
    waited
}

/// Notes which groups nobody leads who can be reached.
fn look(core: &mut Core) {
    let now = core.now.mono;
    let without: Vec<GroupId> =
        crate::place::groups(core).into_iter().filter(|group| crate::place::is_leaderless(core, *group)).collect();
    let before = std::mem::take(&mut core.neighbours.leaderless);
    core.neighbours.leaderless =
        without.into_iter().map(|group| (group, before.get(&group).copied().unwrap_or(now))).collect();
}
