//! One run: set-up, safety phase under faults, healing phase that must converge, last checks.
//!
//! Owns the phases and the outcome. A seed gives the same outcome and trace each time.

use crate::clients;
use crate::history::Violation;
use crate::options::Options;
use crate::rng::Rng;
use crate::world::{Due, World};
use std::collections::BTreeSet;

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Invariants that did not hold.
    pub violations: Vec<Violation>,
    /// A server that could not start, or a set-up that was refused.
    pub fatal: Option<String>,
    /// Hash over everything that was done.
    pub trace: String,
    /// Conditions that were met.
    pub sometimes: BTreeSet<&'static str>,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Changes that clients made, and how many were acknowledged.
    pub changes: (usize, usize),
}

impl Outcome {
    /// Whether nothing was found.
    pub fn clean(&self) -> bool {
        self.violations.is_empty() && self.fatal.is_none()
    }
}

/// Starts both servers and adds the users; true if the pair is in step.
pub fn set_up(world: &mut World) {
    for site in 0..2 {
        world.start(site);
    }
    world.run_until(4_000);
    clients::set_up(world);
    world.run_until(8_000);
    crate::phones::set_up(world);
}

/// Runs one seed.
pub fn seed(seed: u64, change: impl FnOnce(&mut Options)) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut options = Options::drawn(&mut rng);
    change(&mut options);
    let mut world = World::new(rng.draw(), options);
    plant(&mut world);
    set_up(&mut world);
    let end = world.now + world.options.safety_ms;
    world.after(1, Due::Client);
    world.after(1, Due::Check);
    world.after(1, Due::Phone);
    if world.options.fault_every_ms > 0 {
        let first = world.options.fault_every_ms;
        world.after(first, Due::Fault);
    }
    if world.options.operator_every_ms > 0 {
        let first = world.options.operator_every_ms;
        world.after(first, Due::Operator);
    }
    world.run_until(end);
    heal(&mut world);
    finish(seed, world)
}

fn plant(_world: &mut World) {
    #[cfg(feature = "planted")]
    if let Some(bug) = crate::planted::current() {
        for server in &mut _world.servers {
            server.planted = Some(bug);
        }
    }
}

/// Heals everything and waits until the pair has converged, or the time is over.
pub fn heal(world: &mut World) {
    world.healing = true;
    for from in 0..2 {
        let now = world.now;
        world.net.set_cut(from, false, now);
    }
    for site in 0..2 {
        world.servers[site].clean_disk();
        world.room(site);
        crate::faults::mend(world, crate::faults::Mend::Continue(site));
        if world.servers[site].node.is_none() {
            world.start(site);
        }
    }
    world.after(1, Due::Arrival);
    world.after(1, Due::Reconnect);
    world.after(500, Due::Operator);
    let end = world.now + world.options.healing_ms;
    // Clients' last retries need some time of their own.
    let settle = world.now + world.options.healing_ms / 2;
    world.run_until(settle);
    world.quiet = true;
    world.run_until(end);
    crate::operators::nothing_is_stranded(world);
    // Soft records expire to the end; what was committed in the last moment is still under way.
    for _ in 0..40 {
        if crate::copies::level(world) {
            return;
        }
        let next = world.now + 25;
        world.run_until(next);
    }
}

/// Last checks and the outcome.
pub fn finish(seed: u64, mut world: World) -> Outcome {
    if world.fatal.is_none() && world.history.violations.is_empty() {
        crate::checks::converged(&mut world);
    }
    if world.fatal.is_none() && world.history.violations.is_empty() {
        crate::checks::acknowledged(&mut world);
    }
    let acknowledged =
        world.history.changes.iter().filter(|c| c.answer == crate::history::Answer::Acknowledged).count();
    Outcome {
        seed,
        violations: world.history.violations.clone(),
        fatal: world.fatal.clone(),
        trace: world.trace_hash(),
        sometimes: world.sometimes.clone(),
        virtual_ms: world.now,
        changes: (world.history.changes.len(), acknowledged),
    }
}
