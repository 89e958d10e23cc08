//! What this build cannot do yet with pools of several servers, and therefore refuses.
//!
//! Owns these refusals and nothing that stays: the file goes away with [`check`]'s and [`changes`]' two calls once the management store is
//! followed by pools of several servers and copies move between servers. None of them can be overridden.

use crate::model::{Edition, Pool, Topology};
use crate::reader::Findings;
use pairline_group::ServerId;
use pairline_group::placement::COPIES;

/// What a document may not say yet.
pub(crate) fn check(f: &mut Findings, t: &Topology) {
    for (n, pool) in t.pool.iter().enumerate() {
        let servers = t.servers_of(pool.id).len();
        if servers > COPIES {
            let problem = format!(
                "{} would have {servers} servers; the management store is copied to three of them yet",
                pool.name
            );
            f.add(format!("pool[{n}]"), problem, "use three servers; this cannot be overridden");
        }
    }
    // Pools that are not paired follow the management store from one server to one server.
    let alone = |pool: &&Pool| pool.edition == Edition::Enterprise && t.pool.len() > 1 && t.partner(pool.id).is_none();
    if let Some(pool) = t.pool.iter().find(alone) {
        let problem = format!(
            "{} is an Enterprise pool, which cannot share the management store with a pool that it is not paired with yet",
            pool.name
        );
        f.add("pool", problem, "pair it, or make it the deployment's only pool; this cannot be overridden");
    }
    if let Some(pool) = t.pool.iter().find(|p| p.edition == Edition::Enterprise).filter(|_| t.pool.len() > 2) {
        let problem =
            format!("{} is an Enterprise pool, which shares the management store with its partner only", pool.name);
        f.add("pool", problem, "use at most two pools in the deployment; this cannot be overridden");
    }
}

/// Which changes of a document cannot be carried out yet.
pub(crate) fn changes(f: &mut Findings, old: &Topology, new: &Topology) {
    for pool in new.pool.iter().filter(|pool| old.pool(pool.id).is_some()) {
        let ids = |t: &Topology| t.servers_of(pool.id).iter().map(|s| s.id).collect::<Vec<ServerId>>();
        let (before, after) = (ids(old), ids(new));
        let names = |of: &[ServerId], t: &Topology, but: &[ServerId]| {
            let names: Vec<&str> = of
                .iter()
                .filter(|id| !but.contains(id))
                .filter_map(|id| t.server(*id))
                .map(|s| s.name.as_str())
                .collect();
            names.join(", ")
        };
        let at = || format!("pool {}", pool.name);
        let (come, gone) = (names(&after, new, &before), names(&before, old, &after));
        if !come.is_empty() {
            let problem =
                format!("would get {come}; copies are placed when the pool is created and cannot move to it yet");
            f.add(at(), problem, "keep the pool's servers, or create the pool anew with all of them");
        }
        if !gone.is_empty() {
            let problem =
                format!("would lose {gone}; copies are placed when the pool is created and cannot move off it yet");
            f.add(at(), problem, "keep the server in the document; the pool goes on while it is down");
        }
    }
}
