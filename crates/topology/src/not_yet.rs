//! What this build cannot do yet with pools of several servers, and therefore refuses.
//!
//! Owns these refusals and nothing that stays: the file goes away with [`check`]'s and [`changes`]' two calls once the management store is
//! followed by pools of several servers, and a pool of one server can become one of several. None of them can be overridden.

use crate::model::{Edition, Pool, Topology};
use crate::reader::Findings;

/// What a document may not say yet.
pub(crate) fn check(f: &mut Findings, t: &Topology) {
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
    for pool in &new.pool {
        let (before, after) = (old.servers_of(pool.id).len(), new.servers_of(pool.id).len());
        if before == 1 && after > 1 {
            // Started with an empty disk and a document of before, its server would begin the pool anew, and ask nobody.
            let remedy = "create a pool of several servers, and move the users there";
            f.add(format!("pool {}", pool.name), "has one server and cannot get others yet", remedy);
        }
    }
}
