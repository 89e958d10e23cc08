//! One pool of several servers: set-up, safety phase under faults, healing, probes, last checks.
//!
//! Owns the phases and the conditions that a set of seeds must meet. A seed gives the same outcome and trace each time.

pub mod bindings;
pub mod calls;
pub mod checks;
pub mod clients;
pub mod disks;
pub mod faults;
pub mod members;
pub mod mesh;
pub mod options;
pub mod phones;
pub mod probes;
pub mod register;
pub mod rigs;
pub mod sip;
pub mod world;

use crate::rng::Rng;
use crate::run::Outcome;
use options::Options;
use world::{Due, World};

/// Conditions that a set of seeds must meet, or it has proven nothing.
pub const SOMETIMES: [&str; 41] = [
    "power was lost",
    "a process died",
    "a majority was down",
    "all servers were down",
    "the servers of an upgrade domain were stopped at once",
    "a server was frozen",
    "two servers were cut off from each other",
    "one direction was cut",
    "a server was cut off from all others",
    "the pool fell into two parts",
    "a link came and went",
    "a server died again and again",
    "a disk was full",
    "a sync failed",
    "process ended by a disk fault",
    "a leader died with proposals in flight",
    "a request was forwarded to a leader that died",
    "a frozen leader woke after another was elected",
    "a stream client's owner died",
    "a copy by state transfer was needed",
    "a voter died as it had voted",
    "a leader heard nothing of the one that it had told to lead",
    "a disk was wiped",
    "a leader's disk was wiped",
    "an old disk came back",
    "a server was told that its disk is not the one of before",
    "a server that had lost its disk counts again",
    "a server was added",
    "a server was taken out",
    "a replica was taken from a group",
    "no server might go",
    "a server was drained",
    "a server was restarted in order",
    "a request went on to another server",
    "users were served in limits",
    "a change was repeated",
    "a phone registered",
    "a phone registered in limits",
    "a message was delivered",
    "a call was set up",
    "a call went on at another server",
];

/// How long healing may take before everything must work.
const HEALING_MS: u64 = 14_000;

/// Plants the bug of the run, starts all servers, adds users and phones.
pub fn set_up(world: &mut World) {
    plant(world);
    for at in world.members() {
        world.start(at);
    }
    if world.options.rough_start {
        faults::begin_roughly(world);
    }
    // Of two servers both must agree, which takes some tries.
    let end = world.now + 15_000;
    while world.now < end && !checks::level(world) {
        let next = world.now + 500;
        world.run_until(next);
    }
    // While groups go to where they should be led, some changes are refused.
    if !(0..4).any(|_| clients::set_up(world)) {
        world.fatal.get_or_insert_with(|| "users could not be added".to_owned());
    }
    phones::set_up(world);
    let next = world.now + 1_000;
    world.run_until(next);
}

/// Runs one seed.
pub fn seed(seed: u64, change: impl FnOnce(&mut Options)) -> Outcome {
    let mut rng = Rng::new(seed ^ 0x9001);
    let mut options = Options::drawn(&mut rng);
    change(&mut options);
    let mut world = World::new(rng.draw(), options);
    set_up(&mut world);
    strain(&mut world);
    heal(&mut world);
    finish(seed, world)
}

/// The safety phase: clients, phones and faults.
pub fn strain(world: &mut World) {
    world.strained = true;
    let end = world.now + world.options.safety_ms;
    for due in [Due::Client, Due::Phone, Due::Check] {
        world.after(1, due);
    }
    if world.options.fault_every_ms > 0 {
        let first = world.options.fault_every_ms;
        world.after(first, Due::Fault);
    }
    if world.options.members_every_ms > 0 {
        let first = world.options.members_every_ms;
        world.after(first, Due::Members);
    }
    world.run_until(end);
}

fn plant(_world: &mut World) {
    #[cfg(feature = "planted")]
    if let Some(bug) = crate::planted::current() {
        for server in &mut _world.servers {
            server.planted = Some(bug);
        }
    }
}

/// Heals everything, waits, and tries whether all works.
fn heal(world: &mut World) {
    faults::heal(world);
    let settled = world.now + HEALING_MS;
    world.run_until(settled - 3_000);
    world.quiet = true;
    clients::undrain(world);
    world.run_until(settled);
    if world.is_good() {
        probes::run(world);
    }
    levelled(world);
}

/// Waits until all copies of every group are where they should be, and stand at one position.
pub fn levelled(world: &mut World) {
    // What was committed in the last moment is still under way, and copies may be on their way to where they should be.
    for _ in 0..800 {
        if !world.is_good() || (checks::level(world) && checks::misplaced(world).is_none()) {
            return;
        }
        let next = world.now + 25;
        world.run_until(next);
    }
}

/// Last checks and the outcome.
pub fn finish(seed: u64, mut world: World) -> Outcome {
    if world.is_good() {
        checks::converged(&mut world);
    }
    if world.is_good() {
        clients::kept(&mut world);
        bindings::kept(&mut world);
    }
    let (_, acknowledged, changes) = clients::counts(&world.clients);
    Outcome {
        seed,
        violations: world.history.violations.clone(),
        fatal: world.fatal.clone(),
        trace: world.trace_hash(),
        sometimes: world.sometimes.clone(),
        virtual_ms: world.now,
        changes: (changes, acknowledged),
    }
}
