//! What a run of a pool, or of two, is made of: how many servers, their network and disks, what goes wrong and how often.
//!
//! Owns the drawing and the topology. Knows nothing of how a fault is done; what is drawn for two pools stands in `site`.

use crate::rng::Rng;
use pairline_group::{Limits, PoolId};
use pairline_topology::{Topology, demo};
use std::net::{IpAddr, Ipv4Addr};

/// What a registration is granted that only the server that took it knows: no phone asks for so little.
pub const GUEST_EXPIRY_S: u32 = 20;

/// How many servers a pool has at the beginning, in as many seeds as each is named.
const SIZES: [usize; 10] = [3, 3, 3, 3, 3, 3, 3, 2, 2, 5];

/// One run's mix.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers of each pool at the beginning; with two of them, these are paired.
    pub servers: Vec<usize>,
    /// Servers of each pool that may come later.
    pub spares: usize,
    /// Mean milliseconds between documents that are published; 0 = none.
    pub members_every_ms: u64,
    /// Whether disks are lost.
    pub disks: bool,
    /// Routing groups.
    pub groups: u16,
    /// Virtual milliseconds of the safety phase.
    pub safety_ms: u64,
    /// Shortest one-way delay between servers, and by how much a frame may take longer.
    pub delay_ms: (u64, u64),
    /// The same between servers of different pools.
    pub wide_ms: (u64, u64),
    /// Mean milliseconds between clients' commands.
    pub change_every_ms: u64,
    /// Mean milliseconds between phones' requests.
    pub sip_every_ms: u64,
    /// Mean milliseconds between faults; 0 = none.
    pub fault_every_ms: u64,
    /// Mean milliseconds between operators' commands; 0 = none.
    pub operator_every_ms: u64,
    /// Whether operators fail over without the source's help.
    pub disaster: bool,
    /// Entries kept after the other pool has acknowledged them.
    pub history_entries: usize,
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
    /// Whether servers are cut off from each other while their groups are opened.
    pub rough_start: bool,
    /// Print every event.
    pub verbose: bool,
}

impl Options {
    /// The mix of a seed.
    pub fn drawn(rng: &mut Rng) -> Options {
        let servers = *rng.pick(&SIZES).unwrap_or(&3);
        // Each server more makes a run slower.
        let spares = if servers < 5 && rng.chance(35) { 2 } else { 0 };
        Options {
            servers: vec![servers],
            spares,
            members_every_ms: if spares > 0 { rng.between(3_000, 9_000) } else { 0 },
            disks: rng.chance(50),
            groups: *rng.pick(&[1, 2, 3]).unwrap_or(&2),
            safety_ms: rng.between(25_000, 55_000),
            delay_ms: (*rng.pick(&[1, 1, 4, 15]).unwrap_or(&1), *rng.pick(&[0, 2, 10, 60]).unwrap_or(&2)),
            wide_ms: (0, 0),
            change_every_ms: rng.between(30, 200),
            sip_every_ms: rng.between(60, 400),
            fault_every_ms: if rng.chance(8) { 0 } else { rng.between(800, 6_000) },
            operator_every_ms: 0,
            disaster: false,
            history_entries: Limits::default().history_entries,
            sync_ms: *rng.pick(&[1, 4, 20, 120]).unwrap_or(&4),
            give_up_ms: *rng.pick(&[1_500, 5_000, 20_000]).unwrap_or(&1_500),
            power_loss: rng.chance(75),
            clocks: rng.chance(60),
            mass: rng.chance(40),
            replica_items: *rng.pick(&[4, 8, 64, 4_096]).unwrap_or(&64),
            loss_percent: *rng.pick(&[0, 0, 5]).unwrap_or(&0),
            rough_start: false,
            verbose: false,
        }
    }

    /// Whether the five servers of the pool are in three upgrade domains: in every other seed that has so many. Not drawn, so that all other
    /// seeds stay what they were.
    pub fn in_domains(&self) -> bool {
        self.servers == [5] && self.members_every_ms == 0 && self.safety_ms.is_multiple_of(2)
    }

    /// Replication limits of a run: small, so that their edges are met.
    pub fn limits(&self) -> Limits {
        Limits {
            replica_items: self.replica_items,
            history_entries: self.history_entries,
            dedup_window: 16,
            dedup_sessions: 64,
            seed_chunk: 400,
            ..Limits::default()
        }
    }
}

/// Makes a run one in which servers come and go all the time.
pub fn with_members(options: &mut Options) {
    options.servers = vec![3];
    options.spares = 2;
    options.members_every_ms = 3_000;
}

/// Makes a run one in which some servers only follow the management store, and much goes wrong.
pub fn with_learners(options: &mut Options) {
    options.servers = vec![5];
    options.spares = 0;
    options.members_every_ms = 0;
    options.fault_every_ms = 800;
}

/// The deployment with all servers that there ever are: one pool, paired with none, or two that are paired.
pub fn topology(options: &Options) -> Topology {
    let names = [(demo::EAST, "east"), (demo::WEST, "west")];
    let address = |pool: PoolId, n: usize| {
        let [_, third] = pool.0.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(127, 0, third, u8::try_from(n).unwrap_or(u8::MAX)))
    };
    let places: Vec<(PoolId, &str, Vec<IpAddr>)> = names
        .into_iter()
        .zip(&options.servers)
        .map(|((pool, name), servers)| {
            (pool, name, (1..=*servers + options.spares).map(|n| address(pool, n)).collect())
        })
        .collect();
    let mut topology = demo::enterprise(&places, 5060);
    let registration = &mut topology.policies.registration;
    registration.min_expiry_s = 20;
    registration.max_expiry_s = 60;
    registration.guest_expiry_s = GUEST_EXPIRY_S;
    for pool in &mut topology.pool {
        pool.routing_groups = options.groups;
    }
    if options.in_domains() {
        for (server, domain) in topology.server.iter_mut().zip([1, 2, 3, 1, 2]) {
            server.upgrade_domain = Some(domain);
        }
    }
    topology
}
