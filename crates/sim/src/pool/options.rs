//! What a run of a pool is made of: how many servers, their network and disks, what goes wrong and how often.
//!
//! Owns the drawing and the pool's topology. Knows nothing of how a fault is done.

use crate::rng::Rng;
use pairline_group::{Limits, ServerId};
use pairline_topology::{Edition, Topology};
use std::net::{IpAddr, Ipv4Addr};

/// What a registration is granted that only the server that took it knows: no phone asks for so little.
pub const GUEST_EXPIRY_S: u32 = 12;

/// One run's mix.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers of the pool.
    pub servers: usize,
    /// Routing groups.
    pub groups: u16,
    /// Virtual milliseconds of the safety phase.
    pub safety_ms: u64,
    /// Shortest one-way delay between servers, and by how much a frame may take longer.
    pub delay_ms: (u64, u64),
    /// Mean milliseconds between clients' commands.
    pub change_every_ms: u64,
    /// Mean milliseconds between phones' requests.
    pub sip_every_ms: u64,
    /// Mean milliseconds between faults; 0 = none.
    pub fault_every_ms: u64,
    /// Longest sync in milliseconds.
    pub sync_ms: u64,
    /// Silence after which an end of a connection is given up.
    pub give_up_ms: u64,
    /// Whether power may go (else only processes die).
    pub power_loss: bool,
    /// Whether clocks are off and drift.
    pub clocks: bool,
    /// Whether a majority may be away at one time.
    pub mass: bool,
    /// Items of the log that stay in memory for servers that are behind.
    pub replica_items: u64,
    /// Datagrams of 100 that are lost.
    pub loss_percent: u64,
    /// Print every event.
    pub verbose: bool,
}

impl Options {
    /// The mix of a seed.
    pub fn drawn(rng: &mut Rng) -> Options {
        let servers = *rng.pick(&[3, 3, 3, 3, 2]).unwrap_or(&3);
        Options {
            servers,
            groups: *rng.pick(&[1, 2, 3]).unwrap_or(&2),
            safety_ms: rng.between(25_000, 55_000),
            delay_ms: (*rng.pick(&[1, 1, 4, 15]).unwrap_or(&1), *rng.pick(&[0, 2, 10, 60]).unwrap_or(&2)),
            change_every_ms: rng.between(30, 200),
            sip_every_ms: rng.between(60, 400),
            fault_every_ms: if rng.chance(8) { 0 } else { rng.between(800, 6_000) },
            sync_ms: *rng.pick(&[1, 4, 20, 120]).unwrap_or(&4),
            give_up_ms: *rng.pick(&[1_500, 5_000, 20_000]).unwrap_or(&1_500),
            power_loss: rng.chance(75),
            clocks: rng.chance(60),
            mass: rng.chance(40),
            replica_items: *rng.pick(&[4, 8, 64, 4_096]).unwrap_or(&64),
            loss_percent: *rng.pick(&[0, 0, 5]).unwrap_or(&0),
            verbose: false,
        }
    }

    /// Replication limits of a run: small, so that their edges are met.
    pub fn limits(&self) -> Limits {
        Limits {
            replica_items: self.replica_items,
            dedup_window: 16,
            dedup_sessions: 64,
            seed_chunk: 400,
            ..Limits::default()
        }
    }

    /// How many servers may be away at one time so that every group still has a majority.
    pub fn minority(&self) -> usize {
        // Of five servers each group has three; two that go may be two of the same three.
        usize::from(self.servers > 2)
    }
}

/// The deployment: one pool of so many servers, paired with none.
pub fn topology(options: &Options) -> Topology {
    let mut topology = crate::options::topology();
    topology.pairing.clear();
    topology.policies.registration.guest_expiry_s = GUEST_EXPIRY_S;
    topology.site.truncate(1);
    topology.pool.truncate(1);
    let first = topology.server.swap_remove(0);
    topology.server = (1..=options.servers)
        .map(|number| {
            let mut server = first.clone();
            let low = u8::try_from(number).unwrap_or(u8::MAX);
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, low));
            server.id = ServerId(u32::from(low));
            server.name = format!("fe{number}.east.pairline.test");
            server.admin.set_ip(address);
            server.link.set_ip(address);
            server.listener.iter_mut().for_each(|listener| listener.address.set_ip(address));
            server
        })
        .collect();
    for pool in &mut topology.pool {
        pool.edition = Edition::Enterprise;
        pool.routing_groups = options.groups;
    }
    topology
}
