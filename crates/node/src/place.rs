//! Where a user is served and how a binding can be reached, from what replication and modes say.
//!
//! Owns the mapping from (roles, links, modes) to the services' `Place` and `Reach`. Changes nothing.

use crate::core::Core;
use crate::neighbours;
use pairline_group::io::Role;
use pairline_group::{GroupId, PoolId, ServerId, placement};
use pairline_services::binding::{Binding, FlowRef};
use pairline_services::cx::{LocateError, Peer, Place, Reach, TaskEvent};
use pairline_services::records;
use pairline_services::settings::{DeploymentView, Listener};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::target::{Locator, Means, Step, Target};
use pairline_sip::uri::{Aor, Uri};
use pairline_topology::directory::{self, DirectoryEntry};
use std::collections::BTreeSet;

/// The home pool of a user, from the local copy of the management store.
pub fn home_of(core: &Core, user: &str) -> Option<PoolId> {
    let record = core.host.get(GroupId::CMS, &directory::user_key(user))?;
    DirectoryEntry::decode(&record.value).ok().map(|entry| entry.home)
}

/// The routing group of a user with that home.
pub fn group_of(core: &Core, home: PoolId, user: &str) -> Option<GroupId> {
    core.topology.group_of(home, user)
}

/// Where a user of our domains is served.
pub fn of_user(core: &Core, user: &Aor) -> Place {
    let Some(home) = home_of(core, user.as_str()) else { return crate::knows::unknown(core) };
    let Some(group) = group_of(core, home, user.as_str()) else { return Place::NoSuchUser };
    of_group(core, group)
}

/// Where a group is served.
pub fn of_group(core: &Core, group: GroupId) -> Place {
    if core.host.can_commit(group) {
        return Place::Here { group };
    }
    let serving = core.host.serving(group).map_or(group.pool, |(pool, _)| pool);
    if is_for_this_pool(core, group) {
        return in_this_pool(core, group);
    }
    // Only the partner stands in for a pool that is not heard.
    let ours = serving == core.pool || core.partner() == Some(serving);
    let limited = ours && core.modes.resiliency(serving);
    match core.host.role(group) {
        Some(Role::Active) if limited => Place::Resiliency { group },
        Some(Role::Active) => Place::Unavailable { group: Some(group), pool: serving },
        Some(Role::Backup | Role::Fenced) if serving != core.pool => {
            // Heartbeats decide before the link does: a frozen server keeps its connection open.
            let at = at_other(core, group, serving);
            if limited {
                Place::Resiliency { group }
            } else if core.peer_flow(at).is_some() {
                Place::Elsewhere { group: Some(group), at }
            } else {
                Place::Unavailable { group: Some(group), pool: serving }
            }
        }
        Some(_) => Place::Unavailable { group: Some(group), pool: serving },
        // Who has a copy knows who serves.
        None if core.partner() == Some(group.pool) && asked_for(core, group).is_some() => in_this_pool(core, group),
        None if core.peer_flow(Peer::Pool(group.pool)).is_some() => {
            Place::Elsewhere { group: Some(group), at: Peer::Pool(group.pool) }
        }
        None => Place::Unavailable { group: Some(group), pool: group.pool },
    }
}

/// Whom to ask of another pool that serves a group: the server that leads it there, if that is known and it can be reached; else any,
/// which passes on.
fn at_other(core: &Core, group: GroupId, serving: PoolId) -> Peer {
    let several = neighbours::is_of_several(core, serving) && core.host.partner() == Some(serving);
    let leader = core.host.partner_leader(group).filter(|_| several).map(Peer::Server);
    leader.filter(|at| core.way_to(*at).is_some()).unwrap_or(Peer::Pool(serving))
}

/// Where a group is served that this pool of several servers serves: by the one that leads it. While none does that can be reached, its
/// users wait for a short while; then they are served in limits from the copy here, or from one that another server has.
fn in_this_pool(core: &Core, group: GroupId) -> Place {
    let limited = || core.modes.resiliency(core.pool) || is_long_leaderless(core, group);
    match asked_for(core, group) {
        Some(server) => Place::Elsewhere { group: Some(group), at: Peer::Server(server) },
        None if core.host.role(group).is_some() && limited() => Place::Resiliency { group },
        None if limited() => match with_copy(core, group) {
            Some(server) => Place::Elsewhere { group: Some(group), at: Peer::Server(server) },
            None => Place::Unavailable { group: Some(group), pool: core.pool },
        },
        None => Place::Unavailable { group: Some(group), pool: core.pool },
    }
}

/// Whether another server of this pool may lead a group: the pool serves it and has several.
pub fn is_for_this_pool(core: &Core, group: GroupId) -> bool {
    let serving = core.host.serving(group).map_or(group.pool, |(pool, _)| pool);
    serving == core.pool && neighbours::has_several(core)
}

/// The other server of this pool that is asked for a group: who leads it, as far as is known here, whether there is a copy here or not.
pub fn asked_for(core: &Core, group: GroupId) -> Option<ServerId> {
    core.host.leader(group).filter(|server| is_heard(core, *server))
}

/// A server that should have a copy of a group that this one should not have.
fn with_copy(core: &Core, group: GroupId) -> Option<ServerId> {
    let placed = placement::of(group, &core.topology.front_ends(core.pool));
    // One that should have it waits for it, and sends nobody in a circle.
    let bare = !placed.contains(&core.config.server);
    placed.into_iter().find(|server| bare && is_heard(core, *server))
}

fn is_heard(core: &Core, server: ServerId) -> bool {
    server != core.config.server && core.way_to(Peer::Server(server)).is_some()
}

/// Groups that this pool serves, as far as is known here: all that have a copy here, and its own.
pub fn groups(core: &Core) -> BTreeSet<GroupId> {
    core.host.groups().into_iter().chain(core.topology.groups_of(core.pool)).collect()
}

/// Whether nobody who can be reached leads a group that this pool serves.
pub fn is_leaderless(core: &Core, group: GroupId) -> bool {
    let ours = core.host.serving(group).is_none_or(|(pool, _)| pool == core.pool);
    ours && !core.host.can_commit(group) && asked_for(core, group).is_none()
}

/// Whether that has been so for longer than it takes to choose another leader.
pub fn is_long_leaderless(core: &Core, group: GroupId) -> bool {
    let since = core.neighbours.leaderless.get(&group);
    since.is_some_and(|since| core.now.mono.saturating_sub(*since) >= neighbours::LEADERLESS_MS)
}

/// Whether the pool's servers are just choosing who leads a group, so that it is worth waiting for.
pub fn is_choosing(core: &Core, group: GroupId) -> bool {
    neighbours::has_several(core) && is_leaderless(core, group) && !is_long_leaderless(core, group)
}

/// The same of a user's group.
pub fn is_being_chosen(core: &Core, user: &Aor) -> bool {
    // First, since it is asked of every request, and one server alone chooses nobody.
    if !neighbours::has_several(core) {
        return false;
    }
    let group = home_of(core, user.as_str()).and_then(|home| group_of(core, home, user.as_str()));
    group.is_some_and(|group| is_choosing(core, group))
}

/// Whether a request has come from the pool that it would be sent to: one of the two does not know yet that the group has moved. It is
/// this one, a follower that hears of it in a moment, for nobody is sent to a pool that does not serve yet.
pub fn would_go_back(core: &Core, arrival: Option<Flow>, user: &Aor) -> bool {
    let from = arrival.filter(|flow| flow.transport == Transport::Peer).map(crate::core::peer_pool);
    neighbours::has_several(core)
        && from.is_some_and(|pool| pool != core.pool)
        && matches!(of_user(core, user), Place::Elsewhere { at, .. } if !core.is_near(at))
}

/// The group that holds a user's guest bindings made at a pool: that pool's own, by the same hash.
pub fn guest_group(core: &Core, pool: PoolId, user: &Aor) -> Option<GroupId> {
    group_of(core, pool, user.as_str())
}

/// Guest bindings of a user that can be seen here: made here, and made at the partner as far as its copies reach.
pub fn guests(core: &Core, user: &Aor) -> Vec<Binding> {
    let pools = [Some(core.pool), core.partner()];
    let mut found: Vec<Binding> = pools
        .into_iter()
        .flatten()
        .filter_map(|pool| guest_group(core, pool, user))
        .flat_map(|group| core.host.scan(group, user.as_str(), Some(records::GUEST)))
        .filter_map(|(_, record)| Binding::from_record(record).ok())
        .collect();
    let start = (user.as_str().to_owned(), Vec::new());
    let local = core.local_guests.range(start..).take_while(|((owner, _), _)| owner == user.as_str());
    found.extend(local.filter(|(_, guest)| guest.until > core.now.mono).map(|(_, guest)| guest.binding.clone()));
    found
}

/// Whether the pool may hold one more binding.
pub fn room_for_bindings(core: &Core) -> bool {
    let own = core.topology.groups_of(core.pool);
    let here = own.iter().filter(|group| core.host.role(**group) == Some(Role::Active)).count();
    let share = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).max(1);
    // Users are spread evenly: the groups that have no copy here hold as many as those that have one.
    let all = core.census.at_most().saturating_mul(share(own.len())) / share(here);
    all < u64::from(core.topology.policies.limits.bindings_per_pool)
}

/// How a binding's flow can be used now (DESIGN §8, "a surviving binding is not a reachable phone").
pub fn reach(core: &Core, binding: &Binding) -> Reach {
    reach_by(core, &binding.flow)
}

/// How a flow can be used now.
pub fn reach_by(core: &Core, owner: &FlowRef) -> Reach {
    // Neither a datagram nor a connection that is still to be made is bound to what is open now.
    let anytime = match owner.flow.transport {
        Transport::Udp => true,
        Transport::Peer => false,
        _ => owner.flow.is_destination(),
    };
    if crate::config::planted!(core.config, ForeignFlowIsOwn) {
        return Reach::Open;
    }
    if owner.server != core.config.server {
        return match core.peer_flow(Peer::Server(owner.server)) {
            Some(_) => Reach::ThroughPeer,
            None if anytime => Reach::Open,
            None => Reach::Stranded,
        };
    }
    if anytime {
        return Reach::Open;
    }
    let ours = owner.boot == core.config.boot;
    if ours && core.streams.contains(&owner.flow.connection) { Reach::Open } else { Reach::Stranded }
}

/// Wakes tasks that watch a user's bindings.
pub fn wake_watchers(core: &mut Core, user: &str) {
    let Some(tasks) = core.watchers.get(user).cloned() else { return };
    for task in tasks {
        core.deliver(task, TaskEvent::BindingsChanged);
    }
}

/// Wakes every task that waits for bindings: a link or a mode has changed, and with it what can be reached.
pub fn wake_all_watchers(core: &mut Core) {
    let tasks: BTreeSet<_> = core.watchers.values().flatten().copied().collect();
    for task in tasks {
        core.deliver(task, TaskEvent::BindingsChanged);
    }
}

/// A next hop that needs no resolver: a URI whose host is an address, or one that no name could help; `None` if a name has to
/// be asked for. The shell's resolver locates by the same machine.
pub fn literal_target(view: &DeploymentView, uri: &[u8]) -> Option<Result<Vec<Flow>, LocateError>> {
    let Ok(uri) = Uri::parse(uri) else { return Some(Err(LocateError::NotFound)) };
    // Servers connect to nobody's WebSocket (RFC 7118 §3), and the link to another pool is no way to an address.
    let connects =
        |listener: &&Listener| matches!(listener.transport, Transport::Udp | Transport::Tcp | Transport::Tls);
    let means = view.listeners.iter().filter(connects).map(|listener| Means::dual(listener.transport));
    match Locator::start_with(&uri, &means.collect::<Vec<_>>()).1 {
        Step::Ask(_) => None,
        Step::Failed => Some(Err(LocateError::NotFound)),
        Step::Done(targets) => Some(Ok(targets.into_iter().map(unbound).collect())),
    }
}

/// A flow to a target, by whichever listener the sender has.
fn unbound(target: Target) -> Flow {
    Flow { transport: target.transport, listener: 0, remote: target.addr, connection: 0 }
}
