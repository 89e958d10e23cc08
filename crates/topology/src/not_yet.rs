//! What this build cannot do yet with pools of several servers, and therefore refuses.
//!
//! Owns these refusals and nothing that stays: the file goes away with [`check`]'s and [`changes`]' two calls once pools of several
//! servers ship to each other, and one of one server can become one of several. None of them can be overridden.

use crate::model::{Edition, Topology};
use crate::reader::Findings;

/// What a document may not say yet.
pub(crate) fn check(f: &mut Findings, t: &Topology) {
    for (n, pairing) in t.pairing.iter().enumerate() {
        for pool in [pairing.a, pairing.b] {
            let servers = t.servers_of(pool).len();
            if servers > 1 {
                let problem = format!(
                    "{} has {servers} servers; only pools of one server ship to each other yet",
                    t.pool_name(pool)
                );
                f.add(format!("pairing[{n}]"), problem, "leave the pairing out; this cannot be overridden");
            }
        }
    }
    // The management store is followed from one server by one server.
    if let Some(pool) = t.pool.iter().find(|p| p.edition == Edition::Enterprise).filter(|_| t.pool.len() > 1) {
        let problem = format!(
            "{} is an Enterprise pool, which cannot share the management store with another pool yet",
            pool.name
        );
        f.add(
            "pool",
            problem,
            "make it the deployment's only pool, or use Standard Edition pools; this cannot be overridden",
        );
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
