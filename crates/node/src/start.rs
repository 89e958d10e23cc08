//! The start of a node: from configuration and what the disk gave back to a running composition.
//!
//! Owns the order of start-up. Does not own recovery itself; that is replication's.

use crate::config::NodeConfig;
use crate::core::{Core, TicketOwner};
use crate::event::Level;
use crate::executor::ReadyQueue;
use crate::io::Facts;
use crate::modes::Modes;
use crate::parcels::Parcels;
use crate::procedures::Procedures;
use crate::publish;
use crate::rng::Rng;
use pairline_group::GroupId;
use pairline_group::io::{Now, Proposal, RecoveredGroup, Write, WriteClass};
use pairline_group::{Host, HostConfig, Others, RecoverError};
use pairline_services::admission::{Admission, Doors};
use pairline_sip::auth::NonceWindow;
use pairline_sip::target::Resting;
use pairline_sip::transaction::{Layer, Timers};
use pairline_topology::stored;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Nonces whose counts are remembered at one time.
const NONCE_WINDOW: usize = 200_000;

/// Builds the shared state.
pub fn core(config: NodeConfig, now: Now, recovered: Vec<RecoveredGroup>) -> Result<Core, RecoverError> {
    let server = config.topology.server(config.server).expect("the shell checked that the server is in its topology");
    let pool = server.pool;
    let host = host(&config, pool, now, recovered)?;
    let topology = Rc::new(config.topology.clone());
    let modes = Modes::new(&topology, (!server.is_witness()).then_some(pool), now);
    let mut rng = Rng::new(config.seed);
    let transactions = topology.policies.limits.transactions_per_server;
    let layer = Layer::with_seed(Timers::default(), transactions as usize, rng.next_u64());
    let admission = Admission::new(topology.policies.overload.clone(), tables_seed(&config));
    Ok(Core {
        now,
        view: Rc::new(publish::view(&config, &topology)),
        document: crate::document::Source::Files,
        document_unfit: false,
        pool,
        host,
        layer,
        rng,
        out: VecDeque::new(),
        parcels: Parcels::default(),
        ready: ReadyQueue::new(config.order),
        states: Vec::new(),
        live: 0,
        tickets: BTreeMap::new(),
        next_id: 0,
        timers: BTreeMap::new(),
        deadlines: BTreeSet::new(),
        server_txs: BTreeMap::new(),
        client_txs: BTreeMap::new(),
        waits: BTreeMap::new(),
        forwarded: BTreeMap::new(),
        neighbours: crate::neighbours::Neighbours::default(),
        knows: crate::knows::Knows::default(),
        links: BTreeMap::new(),
        watchers: BTreeMap::new(),
        watching: pairline_services::watching::Table::default(),
        to_tell: VecDeque::new(),
        woken: crate::wakes::Wakes::default(),
        verifying: BTreeMap::new(),
        unequal: BTreeSet::new(),
        streams: BTreeSet::new(),
        verified: BTreeMap::new(),
        local_guests: BTreeMap::new(),
        doors: Doors::Open,
        admission,
        resting: Resting::default(),
        nonces: NonceWindow::new(NONCE_WINDOW),
        modes,
        recount: crate::admin::Recount::default(),
        disk_full: false,
        checkpoints: crate::checkpoints::Checkpoints::default(),
        watched: config.watch.then(Vec::new),
        procedures: Procedures::default(),
        facts: Facts::default(),
        counters: Default::default(),
        traffic: crate::traffic::Traffic::default(),
        quicks: crate::quick::Quicks::default(),
        onward: crate::onward::Onward::default(),
        alarms: VecDeque::new(),
        commit_started: BTreeMap::new(),
        commit_latency: crate::figures::Latencies::default(),
        census: crate::figures::Census::default(),
        stand_ins: crate::stand_ins::StandIns::default(),
        topology,
        config,
    })
}

/// A secret for tables that strangers write to; the numbers that are drawn later do not depend on it.
fn tables_seed(config: &NodeConfig) -> u64 {
    let mut seed = [0_u8; 8];
    seed.copy_from_slice(&config.seed[24..]);
    u64::from_le_bytes(seed)
}

fn host(
    config: &NodeConfig,
    pool: pairline_group::PoolId,
    now: Now,
    recovered: Vec<RecoveredGroup>,
) -> Result<Host, RecoverError> {
    let groups = config.topology.pool(pool).map_or(1, |pool| pool.routing_groups);
    let mut seed = [0_u8; 8];
    seed.copy_from_slice(&config.seed[..8]);
    let servers = config.topology.front_ends(pool);
    let host = HostConfig {
        pool,
        server: config.server,
        // Whether the pool is new, or this server's disk is, the others know.
        joins: servers.len() > 1,
        servers,
        witness: config.topology.witness_of(pool).map(|server| server.id),
        incarnation: 1,
        seed: u64::from_le_bytes(seed),
        groups,
        cms_home: config.topology.deployment.management_store == pool,
        others: others(&config.topology, pool),
        limits: config.limits.clone(),
        #[cfg(feature = "planted")]
        planted: config.planted,
    };
    if recovered.is_empty() { Ok(Host::new(host, now)) } else { Host::recover(host, now, recovered) }
}

/// Whom a server of this pool has to ask after a start.
fn others(topology: &pairline_topology::Topology, pool: pairline_group::PoolId) -> Others {
    match (topology.partner(pool), topology.follows_cms_with(pool)) {
        (Some(_), _) => Others::Partner,
        (None, Some(_)) => Others::Followers,
        (None, None) => Others::None,
    }
}

/// What a node does first: the topology that it followed last, the pairing, the interrupted procedure.
pub fn first_steps(core: &mut Core) {
    crate::document::follow(core);
    crate::stand_ins::renew(core);
    publish::pair(core);
    crate::knows::doubt(core);
    let name = core.topology.pool_name(core.pool);
    let what = if crate::witness::is_here(core) { "witness" } else { "server" };
    core.event(Level::Info, "started", format!("{what} of pool {name} is up, start {}", core.config.boot));
}

/// The first server of a deployment puts the topology of its files into the management store.
pub fn ensure_topology_stored(core: &mut Core) {
    if core.document.is_published()
        || core.procedures.topology_proposed
        || core.disk_full
        || !core.host.can_commit(GroupId::CMS)
    {
        return;
    }
    let key = stored::topology_key();
    if core.host.get(GroupId::CMS, &key).is_some() {
        return;
    }
    core.procedures.topology_proposed = true;
    let value = stored::encode_topology(&core.topology);
    let proposal = Proposal {
        reads: vec![(key.clone(), None)],
        writes: vec![Write::Put { key, class: WriteClass::Durable, value }],
        ..Proposal::default()
    };
    core.propose(TicketOwner::Nobody, GroupId::CMS, proposal);
}
