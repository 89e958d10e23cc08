//! Rules for the upgrade domains of a pool.
//!
//! Owns which pools may have some, and how many there have to be. Where copies are placed by them is replication's.

use crate::model::{Server, Topology};
use crate::reader::Findings;
use std::collections::BTreeSet;

/// Upgrade domains of a pool of which each group needs one for each of its copies.
const LEAST: usize = pairline_group::placement::COPIES;

/// Every broken rule.
pub(crate) fn check(f: &mut Findings, t: &Topology) {
    for (n, _) in t.server.iter().enumerate().filter(|(_, s)| s.is_witness() && s.upgrade_domain.is_some()) {
        let remedy = "remove the key: a pool of two is not restarted by domains";
        f.add(format!("server[{n}].upgrade_domain"), "a witness has no upgrade domain", remedy);
    }
    for pool in &t.pool {
        let servers = t.servers_of(pool.id);
        let domains: BTreeSet<u16> = servers.iter().filter_map(|server| server.upgrade_domain).collect();
        let without = servers.iter().find(|server| server.upgrade_domain.is_none());
        let at = |server: &Server| {
            let n = t.server.iter().position(|other| other.id == server.id).unwrap_or_default();
            format!("server[{n}].upgrade_domain")
        };
        let (Some(first), false) = (servers.first(), domains.is_empty()) else { continue };
        if let Some(without) = without {
            let problem = format!("is missing, and other servers of pool {} have one", pool.name);
            f.add(at(without), problem, "give each Front End of the pool an upgrade domain, or none");
        } else if domains.len() < LEAST {
            let problem = format!("pool {} has {} upgrade domains", pool.name, domains.len());
            let remedy = format!("use {LEAST} or more, so that each copy of a group is in another, or none");
            f.add(at(first), problem, remedy);
        }
    }
}
