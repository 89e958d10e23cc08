//! What a run is made of: sizes and fault rates, most of them drawn from the seed (a swarm: each seed is another mix).
//!
//! Owns the drawing. Knows nothing of how a fault is done.

use crate::rng::Rng;
use pairline_group::Limits;
use pairline_topology::Topology;

/// One run's mix.
#[derive(Clone, Debug)]
pub struct Options {
    /// Virtual milliseconds of the safety phase.
    pub safety_ms: u64,
    /// Virtual milliseconds that healing may take.
    pub healing_ms: u64,
    /// One-way delay of the network.
    pub delay_ms: u64,
    /// Milliseconds between clients' changes.
    pub change_every_ms: u64,
    /// Mean milliseconds between faults; 0 = none.
    pub fault_every_ms: u64,
    /// Mean milliseconds between operators' commands; 0 = none.
    pub operator_every_ms: u64,
    /// Longest sync in milliseconds.
    pub sync_ms: u64,
    /// Whether power may go (else only processes die).
    pub power_loss: bool,
    /// Whether an old image of a disk may be put back.
    pub old_disk: bool,
    /// Milliseconds between phones' registrations.
    pub register_every_ms: u64,
    /// Replication frames of 1,000 after which an older one arrives again.
    pub replay_permille: u64,
    /// Whether a disk may be replaced by an empty one.
    pub wipe: bool,
    /// Whether operators end the pairing and begin it again.
    pub parting: bool,
    /// Entries kept after they were acknowledged.
    pub history_entries: usize,
    /// Entries kept for a partner that has not acknowledged them.
    pub retain_entries: usize,
    /// Whether clocks are off.
    pub clocks: bool,
    /// Whether operators may use disaster failover.
    pub disaster: bool,
    /// Print every event.
    pub verbose: bool,
    /// Fixed script: crash a server at the n-th durable step of a procedure (crash sweep), instead of drawn faults.
    pub crash_at: Option<CrashAt>,
}

/// A crash at a counted point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashAt {
    /// Which site.
    pub site: usize,
    /// At its n-th input after the procedure began.
    pub nth: u64,
    /// A second crash of this site at that many inputs after its restart.
    pub again: Option<(usize, u64)>,
}

impl Options {
    /// The mix of a seed.
    pub fn drawn(rng: &mut Rng) -> Options {
        let disaster = rng.chance(60);
        // Of a pool without a partner there is one copy: a disk that goes takes it along, by right.
        let parting = rng.chance(15);
        // Past the cap a copy is seeded anew; what only a tail could bring home is kept whole.
        let retain_entries = if disaster || rng.chance(60) { 4_000 } else { 24 };
        Options {
            safety_ms: rng.between(30_000, 70_000),
            healing_ms: 60_000,
            delay_ms: *rng.pick(&[1, 5, 25, 60]).unwrap_or(&5),
            change_every_ms: rng.between(40, 300),
            fault_every_ms: if rng.chance(10) { 0 } else { rng.between(1_500, 9_000) },
            operator_every_ms: if rng.chance(20) { 0 } else { rng.between(4_000, 15_000) },
            sync_ms: *rng.pick(&[1, 4, 20, 120]).unwrap_or(&4),
            power_loss: rng.chance(70),
            old_disk: !parting && rng.chance(35),
            clocks: rng.chance(50),
            wipe: rng.chance(30),
            parting,
            history_entries: *rng.pick(&[2, 8, 64]).unwrap_or(&64),
            retain_entries,
            disaster,
            register_every_ms: rng.between(300, 1_500),
            replay_permille: *rng.pick(&[0, 0, 10, 60]).unwrap_or(&0),
            verbose: false,
            crash_at: None,
        }
    }

    /// Replication limits of a run: small, so that their edges are met.
    pub fn limits(&self) -> Limits {
        Limits {
            retain_entries: self.retain_entries,
            history_entries: self.history_entries,
            dedup_window: 16,
            dedup_sessions: 64,
            ..Limits::default()
        }
    }

    /// No faults and no operators; the script does the rest.
    pub fn quiet() -> Options {
        Options {
            safety_ms: 0,
            healing_ms: 60_000,
            delay_ms: 5,
            change_every_ms: 100,
            fault_every_ms: 0,
            operator_every_ms: 0,
            sync_ms: 4,
            power_loss: true,
            old_disk: false,
            wipe: false,
            parting: false,
            history_entries: 64,
            retain_entries: 4_000,
            clocks: false,
            disaster: false,
            register_every_ms: 1_000,
            replay_permille: 0,
            verbose: false,
            crash_at: None,
        }
    }
}

/// Makes a run one in which power goes while much waits for slow disks.
pub fn with_slow_disks(options: &mut Options) {
    options.power_loss = true;
    options.sync_ms = 120;
    options.change_every_ms = 40;
    options.fault_every_ms = 1_500;
}

/// The deployment of a run: the demo's two pools with few groups.
pub fn topology() -> Topology {
    let mut topology = pairline_topology::demo_topology();
    let registration = &mut topology.policies.registration;
    registration.min_expiry_s = 10;
    registration.max_expiry_s = 60;
    for pool in &mut topology.pool {
        pool.routing_groups = 3;
    }
    topology
}
