//! The difference between two topology documents, for people and for the plan of a publish.
//!
//! Owns the list of changes. What they cause is `publish`'s.

use crate::model::Topology;
use crate::parse::tree;
use pairline_group::{PoolId, ServerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use toml::Value;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A site that was not there before.
    SiteAdded(String),
    /// A site is gone.
    SiteRemoved(String),
    /// A pool that was not there before.
    PoolAdded(PoolId, String),
    /// A pool is gone.
    PoolRemoved(PoolId, String),
    /// A server that was not there before.
    ServerAdded(ServerId, String),
    /// A server is gone.
    ServerRemoved(ServerId, String),
    /// Two pools are paired now.
    Paired(PoolId, PoolId),
    /// Two pools are not paired any more.
    Unpaired(PoolId, PoolId),
    /// A value differs.
    Value {
        /// Where: dotted, members of lists by their number or name (`pool[1].fqdn`, `policies.resilience.detection_ms`).
        key: String,
        /// What it was, empty if it was not there.
        from: String,
        /// What it is, empty if it is gone.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::SiteAdded(name) => write!(f, "+ site {name}"),
            Change::SiteRemoved(name) => write!(f, "- site {name}"),
            Change::PoolAdded(id, name) => write!(f, "+ pool {name} ({})", id.0),
            Change::PoolRemoved(id, name) => write!(f, "- pool {name} ({})", id.0),
            Change::ServerAdded(id, name) => write!(f, "+ server {name} ({})", id.0),
            Change::ServerRemoved(id, name) => write!(f, "- server {name} ({})", id.0),
            Change::Paired(a, b) => write!(f, "+ pairing of pools {} and {}", a.0, b.0),
            Change::Unpaired(a, b) => write!(f, "- pairing of pools {} and {}", a.0, b.0),
            Change::Value { key, from, to } if from.is_empty() => write!(f, "+ {key} = {to}"),
            Change::Value { key, from, to } if to.is_empty() => write!(f, "- {key} (was {from})"),
            Change::Value { key, from, to } => write!(f, "~ {key}: {from} -> {to}"),
        }
    }
}

/// Every change from `old` to `new`, in a stable order. The revision is not one.
pub fn diff(old: &Topology, new: &Topology) -> Vec<Change> {
    let mut changes = Vec::new();
    members(&mut changes, &sites(old), &sites(new), |_, n| Change::SiteAdded(n), |_, n| Change::SiteRemoved(n));
    members(&mut changes, &pools(old), &pools(new), Change::PoolAdded, Change::PoolRemoved);
    members(&mut changes, &servers(old), &servers(new), Change::ServerAdded, Change::ServerRemoved);
    let (before, after) = (pairs(old), pairs(new));
    members(&mut changes, &before, &after, |(a, b), _| Change::Paired(a, b), |(a, b), _| Change::Unpaired(a, b));
    values(&mut changes, &flat(old), &flat(new));
    changes
}

fn sites(t: &Topology) -> BTreeMap<String, String> {
    t.site.iter().map(|s| (s.name.clone(), s.name.clone())).collect()
}

fn pools(t: &Topology) -> BTreeMap<PoolId, String> {
    t.pool.iter().map(|p| (p.id, p.name.clone())).collect()
}

fn servers(t: &Topology) -> BTreeMap<ServerId, String> {
    t.server.iter().map(|s| (s.id, s.name.clone())).collect()
}

/// Pairings in an order that does not depend on who is written first.
pub(crate) fn pairs(t: &Topology) -> BTreeMap<(PoolId, PoolId), String> {
    t.pairing.iter().map(|p| ((p.a.min(p.b), p.a.max(p.b)), String::new())).collect()
}

fn members<K: Ord + Clone>(
    changes: &mut Vec<Change>,
    old: &BTreeMap<K, String>,
    new: &BTreeMap<K, String>,
    added: impl Fn(K, String) -> Change,
    removed: impl Fn(K, String) -> Change,
) {
    let gone = old.iter().filter(|(k, _)| !new.contains_key(*k));
    changes.extend(gone.map(|(k, name)| removed(k.clone(), name.clone())));
    let come = new.iter().filter(|(k, _)| !old.contains_key(*k));
    changes.extend(come.map(|(k, name)| added(k.clone(), name.clone())));
}

fn values(changes: &mut Vec<Change>, old: &BTreeMap<String, Leaf>, new: &BTreeMap<String, Leaf>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (from, to) = (old.get(key), new.get(key));
        // A member that came or went as a whole was told already.
        let whole = [from, to].iter().flatten().any(|leaf| {
            let side = |map: &BTreeMap<String, Leaf>| map.values().any(|l| l.member == leaf.member);
            leaf.member.is_some() && side(old) != side(new)
        });
        let text = |leaf: Option<&Leaf>| leaf.map(|l| l.text.clone()).unwrap_or_default();
        if !whole && text(from) != text(to) {
            changes.push(Change::Value { key: key.clone(), from: text(from), to: text(to) });
        }
    }
}

/// A plain value, and the list member in which it stands.
struct Leaf {
    text: String,
    member: Option<String>,
}

fn flat(t: &Topology) -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    for (key, value) in tree(t).iter().filter(|(k, _)| k.as_str() != "revision") {
        flatten(&mut leaves, key, value, None);
    }
    leaves
}

fn flatten(leaves: &mut BTreeMap<String, Leaf>, path: &str, value: &Value, member: Option<&str>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(leaves, &format!("{path}.{key}"), value, member);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (n, item) in items.iter().enumerate() {
                let path = format!("{path}[{}]", label(item, n));
                let top = member.map_or_else(|| path.clone(), str::to_owned);
                flatten(leaves, &path, item, Some(&top));
            }
        }
        // An empty list has no members to tell of.
        Value::Array(items) if items.is_empty() => {}
        plain => {
            leaves.insert(path.to_owned(), Leaf { text: plain.to_string(), member: member.map(str::to_owned) });
        }
    }
}

/// What names a list member across documents: its id, its name, its pair, else its number.
fn label(item: &Value, n: usize) -> String {
    let text = |key: &str| item.get(key).map(|v| v.to_string().trim_matches('"').to_owned());
    match (text("id"), text("name"), text("a"), text("b")) {
        (Some(id), ..) => id,
        (None, Some(name), ..) => name,
        (None, None, Some(a), Some(b)) => format!("{}-{}", a.clone().min(b.clone()), a.max(b)),
        _ => n.to_string(),
    }
}
