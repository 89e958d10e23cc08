//! The demonstration's deployment: two sites, two paired Standard Edition pools, everything on loopback addresses.
//!
//! Owns its names, addresses and short intervals. Users and certificates are made elsewhere.

use crate::model::{
    Advertise, BackEndMethod, DEFAULT_ROUTING_GROUPS, Deployment, Edition, Listener, Pairing, Platform, Pool, Server,
    Site, Topology, Transport,
};
use crate::policy::{Algorithm, AuthPolicy, AuthRule, Policies, RegistrationPolicy, ResiliencePolicy};
use pairline_group::{PoolId, ServerId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Number of the pool *east*.
pub const EAST: PoolId = PoolId(1);
/// Number of the pool *west*.
pub const WEST: PoolId = PoolId(2);
/// The demonstration's SIP domain.
pub const DOMAIN: &str = "pairline.test";
/// User agents that abort on anything but an MD5 challenge.
const MD5_ONLY: [&str; 4] = ["baresip v0", "baresip v1", "SIPp", "Kamailio"];

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
        site: ["east", "west"].map(|name| Site { name: name.to_owned(), description: None }).to_vec(),
        pool: vec![pool(EAST, "east"), pool(WEST, "west")],
        server: vec![server(1, EAST, "east", east, sip_port), server(2, WEST, "west", west, sip_port)],
        pairing: vec![Pairing { a: EAST, b: WEST, accept_unsupported: None }],
        policies: policies(),
    }
}

fn pool(id: PoolId, name: &str) -> Pool {
    Pool {
        id,
        name: name.to_owned(),
        fqdn: format!("{name}.{DOMAIN}"),
        site: name.to_owned(),
        edition: Edition::Standard,
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
        name: format!("fe1.{name}.{DOMAIN}"),
        pool,
        admin: SocketAddr::new(ip, 7443),
        link: SocketAddr::new(ip, 7444),
        dns: Some(SocketAddr::new(ip, 5353)),
        listener: vec![
            listener("udp", Transport::Udp, sip_port),
            listener("tcp", Transport::Tcp, sip_port),
            listener("tls", Transport::Tls, sip_port.saturating_add(1)),
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
        authentication: AuthPolicy { rule: MD5_ONLY.iter().map(md5).collect(), ..AuthPolicy::default() },
        ..Policies::default()
    }
}
