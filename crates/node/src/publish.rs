//! A topology in force: what services see of it, and what replication is told.
//!
//! Owns that translation. Which document is in force is `document`'s; rules of what may be published are topology's.

use crate::config::NodeConfig;
use crate::core::Core;
use crate::event::Level;
use crate::io::Output;
use pairline_group::PoolId;
use pairline_group::io::HostInput;
use pairline_services::settings::{
    AuthRule, DeploymentView, Domain, Listener, OwnNames, PoolInfo, PoolNames, ProxyPolicy, RegistrarPolicy,
};
use pairline_sip::auth::Algorithm;
use pairline_sip::flow::Transport;
use pairline_topology::Topology;
use pairline_topology::model::{Advertise, Server};
use pairline_topology::policy::{Algorithm as PolicyAlgorithm, Policies};
use pairline_topology::policy_proxy::Redirects;
use std::rc::Rc;

/// The same and the witness, as replication is told.
fn members(topology: &Topology, pool: PoolId) -> HostInput {
    let witness = topology.witness_of(pool).map(|server| server.id);
    HostInput::Servers { servers: topology.front_ends(pool), witness }
}

/// This server is not part of the deployment any more: its groups move off it, and it goes on as it was until it is stopped.
fn taken_out(core: &mut Core, topology: &Topology) {
    let text = format!("revision {} of the topology does not have this server: stop it", topology.revision);
    core.alarm("server-removed", text);
    let now = core.now;
    core.host.handle(now, members(topology, core.pool));
}

/// Goes by another topology from now on. One that does not have this server is not gone by: false.
pub fn enforce(core: &mut Core, topology: Topology) -> bool {
    if crate::level::ends(core, crate::level::in_force(&topology)) {
        return false;
    }
    if topology.server(core.config.server).is_none() {
        taken_out(core, &topology);
        return false;
    }
    let changed = *core.topology != topology;
    core.topology = Rc::new(topology);
    core.view = Rc::new(view(&core.config, &core.topology));
    core.admission.set_policy(&core.topology.policies.overload);
    core.layer.set_max_transactions(core.topology.policies.limits.transactions_per_server as usize);
    let now = core.now;
    core.host.handle(now, members(&core.topology, core.pool));
    pair(core);
    crate::neighbours::changed(core);
    crate::modes::policy_changed(core);
    if changed {
        let text = format!("topology revision {} is in force", core.topology.revision);
        core.event(Level::Info, "topology-changed", text);
        core.out.push_back(Output::TopologyChanged(Box::new((*core.topology).clone())));
        #[cfg(feature = "next")]
        crate::next::greet_all(core);
    }
    true
}

/// Tells replication who the partner is. Pools that are not paired still exchange the management store: one has it, the
/// other follows.
pub fn pair(core: &mut Core) {
    let partner = core.partner();
    let groups = partner.and_then(|pool| core.topology.pool(pool)).map_or(0, |pool| pool.routing_groups);
    let follows = core.topology.follows_cms_with(core.pool);
    let with_cms = core.topology.holds_cms(core.pool) || follows.is_some();
    let now = core.now;
    let partner = partner.or(follows).map(|pool| (pool, groups));
    core.host.handle(now, HostInput::Pair { partner, with_cms });
}

/// What services see of a topology.
pub fn view(config: &NodeConfig, topology: &Topology) -> DeploymentView {
    let server = topology.server(config.server).expect("checked at start: the server is in its topology");
    let policies = &topology.policies;
    DeploymentView {
        domains: topology
            .deployment
            .domains
            .iter()
            .map(|name| Domain { name: name.clone(), realm: name.clone() })
            .collect(),
        default_domain: topology.default_domain().to_owned(),
        own: own_names(config, topology, server),
        partner: topology.partner(server.pool).map(|pool| pool_names(topology, pool.id)),
        others: others(topology, server.pool),
        pools: topology
            .pool
            .iter()
            .map(|pool| PoolInfo { id: pool.id, name: pool.name.clone(), groups: pool.routing_groups })
            .collect(),
        listeners: listeners(topology, server),
        registrar: RegistrarPolicy { watchers: config.sip.watchers.clone(), ..registrar(policies) },
        proxy: ProxyPolicy {
            hold_ms: u64::from(policies.registration.stranded_hold_s) * 1_000,
            follow_redirects: policies.proxy.redirects == Redirects::Follow,
            history_info: policies.proxy.history_info,
            max_breadth: policies.proxy.max_breadth,
            emergency: policies.emergency.clone(),
            neighbours: policies.overload.neighbours,
            ..ProxyPolicy::default()
        },
        trust: policies.trust.clone(),
        push: config.sip.push.clone(),
        max_contacts: usize::from(policies.registration.max_contacts),
        auth_rules: auth_rules(policies, server),
        stored_algorithms: policies.authentication.algorithms().into_iter().map(algorithm).collect(),
        nonce_keys: config.secrets.nonce_keys.clone(),
        nonce_life_ms: u64::from(policies.authentication.nonce_lifetime_s) * 1_000,
        sealing_key: config.secrets.sealing_key.clone(),
    }
}

fn own_names(config: &NodeConfig, topology: &Topology, server: &Server) -> OwnNames {
    OwnNames {
        pool: server.pool,
        server: server.id,
        boot: config.boot,
        server_name: server.name.to_ascii_lowercase(),
        pool_name: topology.pool(server.pool).map(|pool| pool.fqdn.to_ascii_lowercase()).unwrap_or_default(),
        addresses: addresses(topology, server.pool),
    }
}

fn addresses(topology: &Topology, pool: PoolId) -> Vec<std::net::SocketAddr> {
    topology
        .servers_of(pool)
        .iter()
        .flat_map(|server| server.listener.iter())
        .flat_map(|listener| [Some(listener.address), listener.advertise_address])
        .flatten()
        .collect()
}

fn pool_names(topology: &Topology, pool: PoolId) -> PoolNames {
    let mut names: Vec<String> =
        topology.servers_of(pool).iter().map(|server| server.name.to_ascii_lowercase()).collect();
    names.extend(topology.pool(pool).map(|pool| pool.fqdn.to_ascii_lowercase()));
    PoolNames { pool, names, addresses: addresses(topology, pool) }
}

fn others(topology: &Topology, own: PoolId) -> Vec<PoolNames> {
    let partner = topology.partner(own).map(|pool| pool.id);
    let others = topology.pool.iter().map(|pool| pool.id).filter(|pool| *pool != own && Some(*pool) != partner);
    others.map(|pool| pool_names(topology, pool)).collect()
}

fn listeners(topology: &Topology, server: &Server) -> Vec<Listener> {
    let pool_name = topology.pool(server.pool).map(|pool| pool.fqdn.to_ascii_lowercase()).unwrap_or_default();
    let mut all: Vec<Listener> = server
        .listener
        .iter()
        .zip(1_u16..)
        .map(|(listener, id)| {
            let transport = transport(listener.transport);
            let shown = listener.advertise_address.unwrap_or(listener.address).to_string();
            let record_route = match listener.advertise {
                Advertise::Address => shown.clone(),
                Advertise::Name => pool_name.clone(),
            };
            let record_route = match transport {
                Transport::Udp => record_route,
                other => format!("{record_route};transport={}", other.uri_param()),
            };
            Listener { id, transport, addr: listener.address, via: shown, record_route }
        })
        .collect();
    if let Some(first) = all.first().cloned() {
        let peer = Listener { id: u16::MAX, transport: Transport::Peer, ..first };
        all.push(peer);
    }
    all
}

fn transport(of: pairline_topology::model::Transport) -> Transport {
    use pairline_topology::model::Transport as T;
    match of {
        T::Udp => Transport::Udp,
        T::Tcp => Transport::Tcp,
        T::Tls => Transport::Tls,
        T::Ws => Transport::Ws,
        T::Wss => Transport::Wss,
    }
}

fn registrar(policies: &Policies) -> RegistrarPolicy {
    let registration = &policies.registration;
    RegistrarPolicy {
        min_s: registration.min_expiry_s,
        default_s: registration.default_expiry_s,
        max_s: registration.max_expiry_s,
        // RFC 3261 §10.3 step 7: too short is refused with the minimum; too long is lowered (DESIGN §12).
        refuse_brief: true,
        max_bindings: usize::from(registration.max_endpoints_per_user),
        guest_max_s: registration.guest_expiry_s.min(120),
        spread_percent: policies.overload.expiry_spread_percent,
        ..RegistrarPolicy::default()
    }
}

fn auth_rules(policies: &Policies, server: &Server) -> Vec<AuthRule> {
    let mut rules: Vec<AuthRule> = policies
        .authentication
        .rule
        .iter()
        .filter_map(|rule| {
            // A rule for a listener of other servers only: without the condition it would hold for everybody here.
            let listener = match &rule.listener {
                Some(name) => Some(server.listener.iter().zip(1_u16..).find(|(l, _)| l.id == *name).map(|(_, id)| id)?),
                None => None,
            };
            let user_agent = rule.user_agent.clone().unwrap_or_default();
            Some(AuthRule { listener, user_agent, algorithm: algorithm(rule.algorithm) })
        })
        .collect();
    let fallback = algorithm(policies.authentication.default_algorithm);
    rules.push(AuthRule { listener: None, user_agent: String::new(), algorithm: fallback });
    rules
}

fn algorithm(of: PolicyAlgorithm) -> Algorithm {
    match of {
        PolicyAlgorithm::Md5 => Algorithm::Md5,
        PolicyAlgorithm::Sha256 => Algorithm::Sha256,
        PolicyAlgorithm::Sha512_256 => Algorithm::Sha512_256,
    }
}
