//! Pools' modes at this node: heartbeats out and in, and the machines of `resilience` fed with them.
//!
//! Owns the machines and the partner's last heartbeat. The rules of a mode are `resilience::mode`'s.

use crate::core::Core;
use crate::event::Level;
use crate::peer::PeerFrame;
use bytes::Bytes;
use pairline_group::io::{GroupStatus, Now, Role};
use pairline_group::{Epoch, Millis, PoolId, ServerId};
use pairline_resilience::heartbeat::{ClockEstimate, Heartbeat, Serves};
use pairline_resilience::mode::{Mode, ModeChange, ModeEvent, ModeMachine, ModeReason, OperatorEvent, Ownership, View};
use pairline_topology::Topology;
use std::collections::BTreeMap;

/// A mode in words.
pub struct Described {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub since_ms: Millis,
}

/// Modes of the own pool and of the partner.
pub struct Modes {
    machines: BTreeMap<PoolId, ModeMachine>,
    reasons: BTreeMap<PoolId, (Millis, ModeReason)>,
    /// The last heartbeat of each server of the partner, with its arrival (monotonic, wall).
    heard: BTreeMap<ServerId, (Heartbeat, Millis, Millis)>,
    /// Users by home pool.
    pub population: crate::population::Population,
    /// Clock offset to each server of the partner.
    clocks: BTreeMap<ServerId, ClockEstimate>,
    number: u64,
    next_send: Millis,
    interval: Millis,
    dirty: bool,
}

impl Modes {
    /// Machines for the pools of a topology, as a server of that pool sees them; none for a server that serves nobody.
    pub fn new(topology: &Topology, own: Option<PoolId>, now: Now) -> Modes {
        let policy = &topology.policies.resilience;
        let machines = topology
            .pool
            .iter()
            .filter(|_| own.is_some())
            .map(|pool| {
                let view = if Some(pool.id) == own { View::Own } else { View::Partner };
                (pool.id, ModeMachine::new(pool.id, view, policy, now.mono))
            })
            .collect();
        Modes {
            machines,
            reasons: BTreeMap::new(),
            heard: BTreeMap::new(),
            population: crate::population::Population::default(),
            clocks: BTreeMap::new(),
            number: 0,
            next_send: now.mono,
            interval: u64::from(policy.heartbeat_ms).max(10),
            dirty: true,
        }
    }

    /// Whether users of a pool get limited service here now: the pool is not heard, or it is this one and not confirmed.
    pub fn resiliency(&self, pool: PoolId) -> bool {
        self.machines.get(&pool).is_some_and(|machine| match machine.mode() {
            Mode::Resiliency => true,
            // Some of its groups have moved and the rest is not heard: limited for the rest.
            Mode::FailingOver | Mode::FailingBack | Mode::FailedOver => machine.is_away(),
            Mode::Starting | Mode::Normal => false,
        })
    }

    /// The mode of a pool.
    pub fn mode(&self, pool: PoolId) -> Mode {
        self.machines.get(&pool).map_or(Mode::Normal, ModeMachine::mode)
    }

    /// Whether the pool's heartbeats are missing.
    pub fn away(&self, pool: PoolId) -> bool {
        self.machines.get(&pool).is_some_and(ModeMachine::is_away)
    }

    /// Whether a pool can be expected to answer: a frozen server keeps its connection open, but sends no heartbeats.
    pub fn hears(&self, pool: PoolId, now: Millis) -> bool {
        self.machines.get(&pool).is_none_or(|machine| {
            !machine.is_away() || now.saturating_sub(machine.last_heard()) < self.interval.saturating_mul(3)
        })
    }

    /// When a heartbeat last came, from whichever server of the partner.
    pub fn last_heard(&self) -> Option<Millis> {
        self.heard.values().map(|(_, at, _)| *at).max()
    }

    /// The last heartbeats of a pool's servers that have not been silent while others spoke, the latest first.
    pub fn heartbeats(&self, pool: PoolId) -> Vec<&Heartbeat> {
        let last = self.last_heard().unwrap_or(0);
        let fresh = |at: Millis| last.saturating_sub(at) <= self.interval.saturating_mul(3);
        let of_pool = self.heard.values().filter(|(beat, at, _)| beat.pool == pool && fresh(*at));
        let mut all: Vec<&(Heartbeat, Millis, Millis)> = of_pool.collect();
        all.sort_by_key(|(_, at, _)| std::cmp::Reverse(*at));
        all.into_iter().map(|(beat, _, _)| beat).collect()
    }

    /// The largest offset of a clock of the partner's servers to this one's.
    pub fn clock_offset(&self) -> Option<i64> {
        self.clocks.values().filter_map(ClockEstimate::offset).max_by_key(|offset| offset.unsigned_abs())
    }

    /// The mode of a pool in words.
    pub fn describe(&self, pool: PoolId, now: Millis) -> Described {
        let (since, reason) =
            self.reasons.get(&pool).map_or((0, String::new()), |(at, reason)| (*at, reason.to_string()));
        Described { name: self.mode(pool).to_string(), reason, since_ms: now.saturating_sub(since) }
    }

    /// When the node must be called at the latest.
    pub fn next_timeout(&self) -> Option<Millis> {
        let machines = self.machines.values().filter_map(ModeMachine::next_timeout).min();
        Some(machines.map_or(self.next_send, |at| at.min(self.next_send)))
    }
}

/// Time passes: heartbeats leave, silences count.
pub fn tick(core: &mut Core) {
    crate::start::ensure_topology_stored(core);
    if core.modes.dirty {
        ownership_changed(core);
    }
    let now = core.now.mono;
    for pool in watched(core) {
        feed(core, pool, ModeEvent::Tick);
    }
    if now >= core.modes.next_send {
        core.modes.next_send = now + core.modes.interval;
        send(core);
    }
}

fn send(core: &mut Core) {
    let Some(partner) = core.partner() else { return };
    crate::population::refresh(core, false);
    core.modes.number += 1;
    let now = core.now;
    let facts = &core.facts;
    let free = facts.disk_free.saturating_mul(100).checked_div(facts.disk_total).unwrap_or(100);
    let heartbeat = Heartbeat {
        pool: core.pool,
        server: core.config.server,
        number: core.modes.number,
        mode: core.modes.mode(core.pool),
        mode_of_partner: core.modes.mode(partner),
        serves: serves(core, partner),
        wall: now.wall,
        mono: now.mono,
        echo: None,
        load_permille: u16::try_from(core.states.iter().flatten().count() * 1_000 / crate::core::MAX_TASKS)
            .unwrap_or(u16::MAX),
        free_disk_percent: u8::try_from(free).unwrap_or(100),
        users: core.modes.population.of(core.pool).unwrap_or(0),
        certificate_days: u16::try_from(facts.certificate_days.max(0)).unwrap_or(u16::MAX),
        version: core.config.version.as_str().into(),
    };
    for (server, link) in core.servers_linked(partner) {
        let heard = core.modes.heard.get(&server);
        let echo = heard.map(|(beat, mono, wall)| beat.echo(*wall, now.mono.saturating_sub(*mono)));
        let heartbeat = Heartbeat { echo, ..heartbeat.clone() };
        core.send_on(link, &PeerFrame::Heartbeat(heartbeat.encode()));
    }
}

fn serves(core: &Core, partner: PoolId) -> Serves {
    let mut serves = Serves { highest_epoch: Epoch::default(), ..Serves::default() };
    for group in statuses(core) {
        serves.highest_epoch = serves.highest_epoch.max(group.epoch);
        match (group.role, group.confirmed) {
            (Role::Active, true) => {
                serves.active += 1;
                serves.of_partner += u16::from(group.group.pool == partner);
                serves.cms |= group.group.is_cms();
            }
            (Role::Active, false) => serves.unconfirmed += 1,
            (Role::Backup | Role::Fenced, _) => {}
        }
    }
    serves
}

/// Statuses of all copies here; a witness has none.
pub fn statuses(core: &Core) -> Vec<GroupStatus> {
    if crate::witness::is_here(core) {
        return Vec::new();
    }
    core.host.groups().into_iter().filter_map(|id| core.host.group(id)).collect()
}

/// A heartbeat arrived over a link of that server.
pub fn heartbeat(core: &mut Core, (pool, server): (PoolId, ServerId), bytes: &Bytes) {
    match Heartbeat::decode(bytes) {
        Ok(heartbeat) if heartbeat.pool == pool => {
            let now = core.now;
            core.modes.clocks.entry(server).or_default().heard(&heartbeat, now.mono, now.wall);
            core.modes.heard.insert(server, (heartbeat, now.mono, now.wall));
            let first = core.topology.servers_of(pool).first().is_none_or(|first| first.id == server);
            if first || !crate::config::planted!(core.config, OneServerIsThePool) {
                feed(core, pool, ModeEvent::Heartbeat);
            }
            feed(core, core.pool, ModeEvent::Heartbeat);
        }
        Ok(heartbeat) => {
            core.count("peer_frames_refused");
            let text = format!("a heartbeat of pool {} came over the link of pool {}", heartbeat.pool.0, pool.0);
            core.event(Level::Warn, "peer-frame-refused", text);
        }
        Err(error) => {
            core.count("peer_frames_refused");
            core.event(Level::Warn, "peer-frame-refused", format!("heartbeat from pool {}: {error}", pool.0));
        }
    }
}

/// A link to a pool came up or went down.
pub fn link_changed(core: &mut Core, pool: PoolId) {
    let event = if core.link_to(pool).is_some() { ModeEvent::LinkUp } else { ModeEvent::LinkDown };
    feed(core, pool, event);
    crate::place::wake_all_watchers(core);
}

/// Roles, epochs or confirmations changed: who serves is counted anew at the next tick.
pub fn mark_changed(core: &mut Core) {
    core.modes.dirty = true;
}

/// Counts who serves the groups of each pool and tells its machine.
pub fn ownership_changed(core: &mut Core) {
    core.modes.dirty = false;
    let all = statuses(core);
    for pool in watched(core) {
        let mut ownership = Ownership::default();
        for group in all.iter().filter(|group| group.group.pool == pool && !group.group.is_cms()) {
            match (group.serving == pool, group.role, group.confirmed) {
                (true, Role::Active, false) => ownership.unconfirmed += 1,
                (true, _, _) => ownership.home += 1,
                // A copy that is still empty says nothing yet of who serves, and there is nobody else.
                (false, _, _) if core.partner().is_none() => ownership.home += 1,
                (false, _, _) => ownership.partner += 1,
            }
        }
        feed(core, pool, ModeEvent::Ownership(ownership));
    }
}

/// Pools that have a mode here: this one and its partner. Of others no heartbeats come, and nobody stands in for them.
fn watched(core: &Core) -> Vec<PoolId> {
    [Some(core.pool), core.partner()].into_iter().flatten().collect()
}

/// A procedure or an administrator says something about a pool.
pub fn operator(core: &mut Core, pool: PoolId, event: OperatorEvent) {
    feed(core, pool, ModeEvent::Operator(event));
}

/// A new topology is in force.
pub fn policy_changed(core: &mut Core) {
    let policy = core.topology.policies.resilience.clone();
    core.modes.interval = u64::from(policy.heartbeat_ms).max(10);
    let watched = watched(core);
    let now = core.now.mono;
    for (pool, machine) in &mut core.modes.machines {
        machine.set_policy(&policy);
        if !watched.contains(pool) {
            // A partner that is one no more; as a partner again it starts as one that was never missed.
            *machine = ModeMachine::new(*pool, View::Partner, &policy, now);
            core.modes.reasons.remove(pool);
        }
    }
    // What servers said that are none of the partner's any more.
    let topology = std::rc::Rc::clone(&core.topology);
    let still = |server: &ServerId| topology.server(*server).is_some_and(|server| watched.contains(&server.pool));
    core.modes.heard.retain(|server, _| still(server));
    core.modes.clocks.retain(|server, _| still(server));
    core.modes.dirty = true;
}

fn feed(core: &mut Core, pool: PoolId, event: ModeEvent) {
    let now = core.now.mono;
    let Some(machine) = core.modes.machines.get_mut(&pool) else { return };
    let Some(change) = machine.handle(now, event) else { return };
    changed(core, &change);
}

fn changed(core: &mut Core, change: &ModeChange) {
    core.modes.reasons.insert(change.pool, (core.now.mono, change.reason));
    let name = core.topology.pool_name(change.pool);
    let level = if matches!(change.to, Mode::Normal | Mode::Starting) { Level::Info } else { Level::Warn };
    let text = format!("pool {name}: {} → {}: {}", change.from, change.to, change.reason);
    core.event(level, "mode-changed", text);
    crate::place::wake_all_watchers(core);
}
