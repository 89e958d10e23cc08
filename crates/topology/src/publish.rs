//! The plan of a publish: what changes, which server does what, and what is refused.
//!
//! Owns the rules between an old document and a new one. The plan is inert and printable; committing the document and
//! carrying out its effects is the server's.

use crate::check::{self, is_host_name};
use crate::diff::{Change, diff, pairs};
use crate::error::ConfigError;
use crate::model::{Edition, Pool, Server, Topology};
use crate::not_yet;
use crate::reader::Findings;
use pairline_group::{GroupId, PoolId, ServerId, placement};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What one server does when the new document reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Does {
    /// Takes the document over as its last good copy; policies hold from then on.
    Apply,
    /// Creates backup instances of the partner's groups and ships its own there; seeding starts by itself.
    Pair {
        /// The partner.
        partner: PoolId,
        /// Routing groups of the partner.
        groups: u16,
        /// Whether the management store takes part.
        with_cms: bool,
    },
    /// Stops shipping and gives up its backup instances of the former partner's groups.
    Unpair {
        /// The former partner.
        partner: PoolId,
    },
    /// Keeps its sockets as they are until it is restarted.
    Restart {
        /// What differs.
        because: String,
    },
    /// Begins to serve: it is new in the document.
    Join,
    /// Is not part of the deployment any more: stops.
    Leave,
}

impl fmt::Display for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Does::Apply => write!(f, "applies the document"),
            Does::Pair { partner, groups, with_cms } => {
                let cms = if *with_cms { " and the management store" } else { "" };
                write!(f, "pairs with pool {}: backup of {groups} groups{cms}, seeding starts", partner.0)
            }
            Does::Unpair { partner } => write!(f, "stops shipping to pool {} and drops its backup", partner.0),
            Does::Restart { because } => write!(f, "needs a restart ({because})"),
            Does::Join => write!(f, "joins once it is started: copies move to it by themselves"),
            Does::Leave => write!(f, "leaves: copies move off it by themselves; stop it"),
        }
    }
}

/// An inert plan: nothing has been done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishPlan {
    /// The revision on which it is based: publish only if that is still the current one.
    pub base_revision: u64,
    /// The document to commit, with its new revision.
    pub document: Topology,
    /// What differs.
    pub changes: Vec<Change>,
    /// Which server does what, by number.
    pub effects: Vec<(ServerId, Does)>,
    /// What is accepted but must be known.
    pub warnings: Vec<String>,
}

impl fmt::Display for PublishPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "publish revision {} (after {})", self.document.revision, self.base_revision)?;
        if self.changes.is_empty() {
            writeln!(f, "  no changes")?;
        }
        self.changes.iter().try_for_each(|c| writeln!(f, "  {c}"))?;
        for (server, does) in &self.effects {
            let name = self.document.server(*server).map_or("(removed)", |s| s.name.as_str());
            writeln!(f, "  server {} {name}: {does}", server.0)?;
        }
        self.warnings.iter().try_for_each(|w| writeln!(f, "  warning: {w}"))
    }
}

/// Plans the publish of `new` in place of `old`.
///
/// # Errors
/// Every broken rule of the new document and every change that cannot be published.
pub fn plan_publish(old: &Topology, new: &Topology) -> Result<PublishPlan, Vec<ConfigError>> {
    let mut f = Findings::new("topology");
    f.extend(check::check("topology", new));
    immutable(&mut f, old, new);
    removals(&mut f, old, new);
    not_yet::changes(&mut f, old, new);
    if !f.is_empty() {
        return Err(f.into_list());
    }
    let mut document = new.clone();
    document.revision = old.revision.saturating_add(1);
    Ok(PublishPlan {
        base_revision: old.revision,
        changes: diff(old, new),
        effects: effects(old, new),
        warnings: warnings(new),
        document,
    })
}

fn immutable(f: &mut Findings, old: &Topology, new: &Topology) {
    if new.revision != 0 && new.revision != old.revision {
        let problem = format!("is {}, the current one is {}", new.revision, old.revision);
        f.add("revision", problem, "fetch the current document, repeat the change, publish again");
    }
    if old.deployment.id != new.deployment.id {
        f.add("deployment.id", "cannot change", format!("keep \"{}\"", old.deployment.id));
    }
    if old.default_domain() != new.default_domain() {
        let remedy = format!("keep \"{}\" first; add others after it", old.default_domain());
        f.add("deployment.domains[0]", "the default domain is the realm of its users and cannot change", remedy);
    }
    if old.deployment.management_store != new.deployment.management_store {
        let remedy = "use `pairline management failover`; a document does not move it";
        f.add("deployment.management_store", "cannot be moved by a publish", remedy);
    }
    for pool in &new.pool {
        let Some(before) = old.pool(pool.id) else {
            continue;
        };
        let at = |key: &str| format!("pool {}.{key}", pool.name);
        if before.routing_groups != pool.routing_groups {
            f.add(at("routing_groups"), "is fixed when the pool is created", format!("keep {}", before.routing_groups));
        }
        if before.name != pool.name {
            let remedy = format!("give the new pool a new number; {} stays {}", pool.id.0, before.name);
            f.add(at("id"), format!("was the number of pool {}", before.name), remedy);
        }
        if before.site != pool.site {
            f.add(at("site"), "a pool does not move between sites", "create a pool in the other site");
        }
        if !is_host_name(&pool.fqdn) || !before.fqdn.eq_ignore_ascii_case(&pool.fqdn) {
            f.add(at("fqdn"), "the pool's name stands in certificates and routes", format!("keep {}", before.fqdn));
        }
    }
    for server in &new.server {
        let Some(before) = old.server(server.id) else { continue };
        if before.pool != server.pool {
            let at = format!("server {}.pool", server.name);
            f.add(at, "a server does not change its pool", "give the server a new number");
        }
        if before.role != server.role {
            let at = format!("server {}.role", server.name);
            f.add(at, "a server does not change its role", "give the server a new number, and an empty data folder");
        }
    }
}

fn removals(f: &mut Findings, old: &Topology, new: &Topology) {
    for pool in old.pool.iter().filter(|p| new.pool(p.id).is_none()) {
        if old.partner(pool.id).is_some() {
            let remedy = "publish the document without the pairing first";
            f.add(format!("pool {}", pool.name), "is still paired and cannot be removed", remedy);
        }
    }
    // Who is gone from the document is cut off at once; what is left has to have a majority of each group.
    for pool in new.pool.iter().filter(|pool| old.pool(pool.id).is_some()) {
        let without = without_majority(old, new, pool.id);
        if without > 0 {
            let gone = old.voters_of(pool.id).iter().filter(|server| new.server(server.id).is_none()).count();
            let problem =
                format!("would lose {gone} of its servers at once, and with them a majority of {without} groups");
            let remedy =
                "remove one of three or more at a time, and wait until `pairline pool health` is healthy again";
            f.add(format!("pool {}", pool.name), problem, remedy);
        }
    }
    // A pair is changed in two publishes, so that at no time two partners claim the same backup.
    for pool in &new.pool {
        if let (Some(before), Some(after)) = (old.partner(pool.id), new.partner(pool.id))
            && before.id != after.id
        {
            let at = format!("pool {}", pool.name);
            f.add(at, format!("is paired with {} now", before.name), "unpair in one publish, pair in the next");
        }
    }
}

/// Groups with copies in a pool of which too few would be left there.
fn without_majority(old: &Topology, new: &Topology, pool: PoolId) -> usize {
    let servers = old.front_ends(pool);
    let witness = old.witness_of(pool).map(|server| server.id);
    let mut groups = old.groups_of(pool);
    groups.extend(old.partner(pool).map(|partner| old.groups_of(partner.id)).unwrap_or_default());
    groups.push(GroupId::CMS);
    let loses = |group: &GroupId| {
        let mut copies = placement::of(*group, &servers);
        copies.extend(witness);
        let left = copies.iter().filter(|server| new.server(**server).is_some()).count();
        left < copies.len() / 2 + 1
    };
    groups.into_iter().filter(loses).count()
}

fn effects(old: &Topology, new: &Topology) -> Vec<(ServerId, Does)> {
    let mut all = Vec::new();
    let (before, after) = (pairs(old), pairs(new));
    for server in &new.server {
        let known = old.server(server.id);
        all.push((server.id, if known.is_some() { Does::Apply } else { Does::Join }));
        // Copies move by upgrade domains while all serve.
        let moved = Server { upgrade_domain: known.and_then(|known| known.upgrade_domain), ..server.clone() };
        if known.is_some_and(|known| *known != moved) {
            all.push((server.id, Does::Restart { because: "its addresses or names differ".to_owned() }));
        }
        let own = |list: &[(PoolId, PoolId)]| {
            list.iter().find_map(|(a, b)| match server.pool {
                p if p == *a => Some(*b),
                p if p == *b => Some(*a),
                _ => None,
            })
        };
        let gone: Vec<_> = before.keys().filter(|k| !after.contains_key(k)).copied().collect();
        let come: Vec<_> = after.keys().filter(|k| !before.contains_key(k)).copied().collect();
        all.extend(own(&gone).map(|partner| (server.id, Does::Unpair { partner })));
        all.extend(own(&come).and_then(|p| new.pool(p)).map(|p| (server.id, pair_effect(new, server.pool, p))));
    }
    let left = old.server.iter().filter(|s| new.server(s.id).is_none());
    all.extend(left.map(|s| (s.id, Does::Leave)));
    all.sort_by_key(|(id, _)| *id);
    all
}

fn pair_effect(new: &Topology, pool: PoolId, partner: &Pool) -> Does {
    Does::Pair { partner: partner.id, groups: partner.routing_groups, with_cms: new.holds_cms(pool) }
}

/// What a document says that is accepted and must be known.
pub fn warnings(new: &Topology) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(new.pool.iter().filter_map(|pool| survives(new, pool)));
    let owner = new.deployment.management_store;
    if new.partner(owner).is_none() {
        all.push(format!("pool {} holds the management store and is not paired", new.pool_name(owner)));
    }
    for pairing in &new.pairing {
        if let (Some(reason), Some(a), Some(b)) =
            (&pairing.accept_unsupported, new.pool(pairing.a), new.pool(pairing.b))
        {
            let differences = check::unsupported(a, b);
            if !differences.is_empty() {
                let what = differences.join("; ");
                all.push(format!("{} and {} are paired unsupported: {what}. Accepted: {reason}", a.name, b.name));
            }
        }
    }
    all
}

/// What an Enterprise pool survives, where that is not what one would think.
fn survives(t: &Topology, pool: &Pool) -> Option<String> {
    let name = &pool.name;
    match (pool.edition, t.servers_of(pool.id).len()) {
        (Edition::Enterprise, 2) if t.witness_of(pool.id).is_some() => None,
        (Edition::Enterprise, 2) => Some(format!(
            "pool {name} has two servers and does not survive the loss of either: a majority of two is two. A witness (a \
             server with role = \"witness\", on any small machine) or a third server makes it survive any one"
        )),
        (Edition::Enterprise, servers @ 4..)
            if t.servers_of(pool.id).iter().any(|server| server.upgrade_domain.is_some()) =>
        {
            Some(format!(
                "pool {name} survives all servers of any one upgrade domain: its {servers} servers share the load, but the loss of two \
                 in different domains at once stops the groups that have copies on both"
            ))
        }
        (Edition::Enterprise, servers @ 4..) => Some(format!(
            "pool {name} survives any one server of each group's three: its {servers} servers share the load, but the loss of two \
             at once stops the groups that have copies on both"
        )),
        _ => None,
    }
}
