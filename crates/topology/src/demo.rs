//! The demonstration's deployments, everything on loopback addresses: two sites with two paired pools, of Standard Edition or Enterprise.
//!
//! Owns its names, addresses and short intervals. Users and certificates are made elsewhere.

use crate::model::{
    Advertise, BackEndMethod, DEFAULT_ROUTING_GROUPS, Deployment, Edition, Listener, Pairing, Platform, Pool, Server,
    ServerRole, Site, Topology, Transport,
};
use crate::policy::{Algorithm, AuthPolicy, AuthRule, Policies, ProcedurePolicy, RegistrationPolicy, ResiliencePolicy};
use pairline_group::{PoolId, ServerId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Number of the pool *east*.
pub const EAST: PoolId = PoolId(1);
/// Number of the pool *west*.
pub const WEST: PoolId = PoolId(2);
/// The demonstration's SIP domain.
pub const DOMAIN: &str = "pairline.test";
/// User agents that abort on anything but an MD5 challenge.
const MD5_ONLY: [&str; 7] = ["baresip v0", "baresip v1", "SIPp", "Kamailio", "sipsak", "SIP.js", "JsSIP"];

/// The deployment that `pairline up` creates: east on 127.0.1.1, west on 127.0.2.1.
pub fn demo_topology() -> Topology {
    two_pools(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1)), IpAddr::V4(Ipv4Addr::new(127, 0, 2, 1)), 5060)
}

/// The same with other addresses and another SIP port, for tests and for a phone on the network.
pub fn two_pools(east: IpAddr, west: IpAddr, sip_port: u16) -> Topology {
    Topology {
        revision: 1,
        deployment: Deployment {
            name: "Pairline demonstration".to_owned(),
            id: "demo".to_owned(),
            domains: vec![DOMAIN.to_owned()],
            management_store: EAST,
        },
        site: vec![site("east"), site("west")],
        pool: vec![pool(EAST, "east", Edition::Standard), pool(WEST, "west", Edition::Standard)],
        server: vec![server(1, EAST, "fe1.east", east, sip_port), server(2, WEST, "fe1.west", west, sip_port)],
        pairing: vec![Pairing { a: EAST, b: WEST, accept_unsupported: None }],
        policies: policies(),
    }
}

/// Front Ends of each pool of [`enterprise_topology`].
const FRONT_ENDS: u8 = 3;

/// The deployment that `pairline up --enterprise` creates: two sites with three Front Ends each, east on 127.0.1.1 to 127.0.1.3, west on
/// 127.0.2.1 to 127.0.2.3.
pub fn enterprise_topology() -> Topology {
    enterprise_of(FRONT_ENDS)
}

/// The same with so many Front Ends in each pool.
pub fn enterprise_of(servers: u8) -> Topology {
    let address = |third, n| IpAddr::V4(Ipv4Addr::new(127, 0, third, n));
    let site = |third| (1..=servers).map(|n| address(third, n)).collect();
    enterprise(&[(EAST, "east", site(1)), (WEST, "west", site(2))], 5060)
}

/// The same with other addresses and another SIP port, for tests. Pools are paired two by two, in their order.
pub fn enterprise(pools: &[(PoolId, &str, Vec<IpAddr>)], sip_port: u16) -> Topology {
    let mut topology = two_pools(IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST), sip_port);
    topology.site = pools.iter().map(|(_, name, _)| site(name)).collect();
    topology.pool = pools.iter().map(|(id, name, _)| pool(*id, name, Edition::Enterprise)).collect();
    topology.pairing =
        pools.chunks_exact(2).map(|pair| Pairing { a: pair[0].0, b: pair[1].0, accept_unsupported: None }).collect();
    let places = pools.iter().flat_map(|(pool, name, all)| (1..).zip(all).map(move |(n, ip)| (*pool, *name, n, *ip)));
    topology.server = (1..)
        .zip(places)
        .map(|(id, (pool, name, n, ip))| server(id, pool, &format!("fe{n}.{name}"), ip, sip_port))
        .collect();
    topology
}

/// Gives each pool of two a witness: one machine more of the same site, the next address, no SIP. Their numbers follow those of the Front
/// Ends.
pub fn with_witnesses(mut topology: Topology) -> Topology {
    let pools: Vec<(PoolId, String)> = topology.pool.iter().map(|pool| (pool.id, pool.name.clone())).collect();
    for (pool, name) in pools {
        let next = topology.server.iter().map(|server| server.id.0).max().unwrap_or(0) + 1;
        let [_, last] = topology.servers_of(pool)[..] else { continue };
        let IpAddr::V4(last) = last.link.ip() else { continue };
        let [a, b, c, d] = last.octets();
        let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d.saturating_add(1)));
        let like = server(next, pool, &format!("witness.{name}"), ip, 5060);
        topology.server.push(Server { role: ServerRole::Witness, dns: None, listener: Vec::new(), ..like });
    }
    topology
}

fn site(name: &str) -> Site {
    Site { name: name.to_owned(), description: None }
}

fn pool(id: PoolId, name: &str, edition: Edition) -> Pool {
    Pool {
        id,
        name: name.to_owned(),
        fqdn: format!("{name}.{DOMAIN}"),
        site: name.to_owned(),
        edition,
        routing_groups: DEFAULT_ROUTING_GROUPS,
        platform: Platform::Virtual,
        base_os: "linux".to_owned(),
        back_end: BackEndMethod::None,
        version: None,
        capacity_users: None,
    }
}

fn server(id: u32, pool: PoolId, name: &str, ip: IpAddr, sip_port: u16) -> Server {
    let listener = |id: &str, transport, port| Listener {
        id: id.to_owned(),
        transport,
        address: SocketAddr::new(ip, port),
        advertise: Advertise::Address,
        advertise_address: None,
    };
    Server {
        id: ServerId(id),
        name: format!("{name}.{DOMAIN}"),
        pool,
        role: ServerRole::FrontEnd,
        upgrade_domain: None,
        admin: SocketAddr::new(ip, 7443),
        link: SocketAddr::new(ip, 7444),
        dns: Some(SocketAddr::new(ip, 5353)),
        listener: vec![
            listener("udp", Transport::Udp, sip_port),
            listener("tcp", Transport::Tcp, sip_port),
            listener("tls", Transport::Tls, sip_port.saturating_add(1)),
            listener("wss", Transport::Wss, 8443),
            listener("ws", Transport::Ws, sip_port.saturating_add(6)),
        ],
    }
}

fn policies() -> Policies {
    let md5 =
        |prefix: &&str| AuthRule { listener: None, user_agent: Some((*prefix).to_owned()), algorithm: Algorithm::Md5 };
    Policies {
        registration: RegistrationPolicy {
            min_expiry_s: 20,
            default_expiry_s: 20,
            max_expiry_s: 20,
            guest_expiry_s: 20,
            ..RegistrationPolicy::default()
        },
        resilience: ResiliencePolicy {
            voice_failover: true,
            heartbeat_ms: 250,
            detection_ms: 2_000,
            failback_ms: 2_000,
        },
        // The disk is that of whoever tries it out: mostly full, and all that is asked is that there is room at all.
        procedure: ProcedurePolicy { min_free_disk_percent: 1, ..ProcedurePolicy::default() },
        authentication: AuthPolicy { rule: MD5_ONLY.iter().map(md5).collect(), ..AuthPolicy::default() },
        ..Policies::default()
    }
}
