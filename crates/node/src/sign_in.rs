//! Users signing in again after a procedure has moved them: how many, and how soon.
//!
//! Owns the watch over the groups that the last procedure moved here. What the figures mean is the report's.

use crate::core::Core;
use pairline_group::{Body, Effect, Entry, GroupId, Millis};
use pairline_resilience::plan::Plan;
use pairline_resilience::report::SignIn;
use pairline_services::binding::Binding;
use pairline_services::records;
use std::collections::BTreeSet;

/// How long users are counted after the start of a procedure, in milliseconds: longer than any registration lasts.
const WATCH_MS: Millis = 3_600_000;

/// Most users that are counted.
const MOST: usize = 1_000_000;

/// The watch over one procedure.
#[derive(Default)]
pub struct SignIns {
    procedure: u128,
    started: Millis,
    groups: BTreeSet<GroupId>,
    /// Users that have signed in, by a hash of their name.
    users: BTreeSet<u64>,
    /// When each did, in milliseconds from the start; in order.
    times: Vec<Millis>,
}

impl SignIns {
    /// Watches the groups of a procedure that begins at this wall clock; the one before is forgotten.
    pub fn of(plan: &Plan, started: Millis) -> SignIns {
        SignIns { procedure: plan.id, started, groups: plan.groups().into_iter().collect(), ..SignIns::default() }
    }

    /// The figures of a procedure, if it is the one that is watched.
    pub fn figures(&self, procedure: u128) -> SignIn {
        let times: &[Millis] = if procedure == self.procedure { &self.times } else { &[] };
        let within = |percent: usize| {
            let count = times.len().saturating_mul(percent).div_ceil(100);
            times.get(count.max(1) - 1).copied()
        };
        SignIn { users: times.len(), first: times.first().copied(), half: within(50), p95: within(95), p99: within(99) }
    }
}

/// An entry was applied here: a binding that a client made at this pool counts, the first of each user.
pub fn applied(core: &mut Core, group: GroupId, entry: &Entry) {
    let (pool, wall) = (core.pool, core.now.wall);
    let watch = &mut core.procedures.sign_ins;
    let Body::Effects(effects) = &entry.body else { return };
    let elapsed = wall.saturating_sub(watch.started);
    if !watch.groups.contains(&group) || elapsed > WATCH_MS || watch.times.len() >= MOST {
        return;
    }
    for effect in effects {
        let Effect::Put { key, value, .. } = effect else { continue };
        let here = || Binding::decode(value).is_ok_and(|binding| binding.flow.pool == pool);
        if key.kind == records::BINDING && here() && watch.users.insert(name_hash(&key.owner)) {
            // The wall clock may step back; the order of the figures does not.
            let last = watch.times.last().copied().unwrap_or(0);
            watch.times.push(elapsed.max(last));
        }
    }
}

fn name_hash(name: &str) -> u64 {
    let mut first = [0_u8; 8];
    first.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}
