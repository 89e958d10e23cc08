//! Rules between the parts of a topology document.
//!
//! Owns what makes a document acceptable: unique names and numbers, references that resolve, policy values that fit each
//! other, and the pairing rules. Bounds of single values are the reader's; changes from an older document `publish`'s.

use crate::error::ConfigError;
use crate::model::{Edition, Pairing, Pool, Topology, Transport};
use crate::not_yet;
use crate::policy::Policies;
use crate::reader::{Findings, MAX_STRING};
use pairline_group::PoolId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Checks a document that was built or changed by program.
///
/// # Errors
/// Every broken rule, with `topology` as the file's name.
pub fn validate(topology: &Topology) -> Result<(), Vec<ConfigError>> {
    let found = check("topology", topology);
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Every broken rule.
pub(crate) fn check(file: &str, t: &Topology) -> Vec<ConfigError> {
    let mut f = Findings::new(file);
    deployment(&mut f, t);
    sites_and_pools(&mut f, t);
    servers(&mut f, t);
    crate::check_witness::check(&mut f, t);
    crate::check_domains::check(&mut f, t);
    addresses(&mut f, t);
    policies(&mut f, &t.policies);
    crate::check_proxy::trust(&mut f, t);
    crate::check_proxy::emergency(&mut f, t);
    for (n, pairing) in t.pairing.iter().enumerate() {
        pair(&mut f, t, n, pairing);
    }
    one_pairing_each(&mut f, t);
    not_yet::check(&mut f, t);
    f.into_list()
}

pub(crate) fn unique<'n>(f: &mut Findings, family: &str, key: &str, values: impl Iterator<Item = &'n str>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (n, value) in values.enumerate() {
        if let Some(first) = seen.insert(value.to_ascii_lowercase(), n) {
            let at = format!("{family}[{n}].{key}");
            f.add(at, format!("\"{value}\" is already that of {family}[{first}]"), "give it one of its own");
        }
    }
}

/// Whether this is a host name of letters, digits, `-` and dots (RFC 1123), at most 253 long.
pub(crate) fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn deployment(f: &mut Findings, t: &Topology) {
    let d = &t.deployment;
    let id_ok = (1..=64).contains(&d.id.len()) && d.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !id_ok {
        f.add("deployment.id", format!("\"{}\" is not usable", d.id), "1 to 64 letters, digits and -");
    }
    if d.domains.is_empty() {
        f.add("deployment.domains", "names no SIP domain", "write for example domains = [\"example.org\"]");
    }
    for (n, domain) in d.domains.iter().enumerate() {
        if !is_host_name(domain) {
            f.add(format!("deployment.domains[{n}]"), format!("\"{domain}\" is not a domain"), "write a DNS name");
        }
        if d.domains.iter().take(n).any(|other| other.eq_ignore_ascii_case(domain)) {
            f.add(format!("deployment.domains[{n}]"), format!("\"{domain}\" is named twice"), "remove one");
        }
    }
    if t.pool(d.management_store).is_none() {
        f.add("deployment.management_store", "names no pool of this document", "write the name of a pool");
    }
}

fn sites_and_pools(f: &mut Findings, t: &Topology) {
    unique(f, "site", "name", t.site.iter().map(|s| s.name.as_str()));
    unique(f, "pool", "name", t.pool.iter().map(|p| p.name.as_str()));
    unique(f, "pool", "fqdn", t.pool.iter().map(|p| p.fqdn.as_str()));
    if t.pool.is_empty() {
        f.add("pool", "there is none", "write at least one [[pool]]");
    }
    for (n, pool) in t.pool.iter().enumerate() {
        let at = |key: &str| format!("pool[{n}].{key}");
        if pool.id == PoolId(0) || t.pool.iter().take(n).any(|p| p.id == pool.id) {
            f.add(at("id"), format!("{} is taken", pool.id.0), "give it a number of its own, from 1");
        }
        if !is_host_name(&pool.fqdn) {
            f.add(at("fqdn"), format!("\"{}\" is not a host name", pool.fqdn), "write a DNS name");
        }
        if !t.site.iter().any(|s| s.name == pool.site) {
            f.add(at("site"), format!("\"{}\" is not a site", pool.site), "write the name of a [[site]]");
        }
        if t.is_domain(&pool.fqdn) {
            f.add(at("fqdn"), "equals a SIP domain", "pool names are independent of SIP domains: choose another name");
        }
        let servers = t.servers_of(pool.id).len();
        let fits = match pool.edition {
            Edition::Standard => servers == 1,
            Edition::Enterprise => (2..=16).contains(&servers),
        };
        if !fits {
            let want = if pool.edition == Edition::Standard { "exactly 1" } else { "2 to 16" };
            f.add(at("edition"), format!("has {servers} servers"), format!("this edition has {want}"));
        }
    }
}

fn servers(f: &mut Findings, t: &Topology) {
    unique(f, "server", "name", t.server.iter().map(|s| s.name.as_str()));
    for (n, server) in t.server.iter().enumerate() {
        let at = |key: &str| format!("server[{n}].{key}");
        if server.id.0 == 0 || t.server.iter().take(n).any(|s| s.id == server.id) {
            f.add(at("id"), format!("{} is taken", server.id.0), "give it a number of its own, from 1");
        }
        if !is_host_name(&server.name) {
            f.add(at("name"), format!("\"{}\" is not a host name", server.name), "write a DNS name");
        }
        if t.pool(server.pool).is_none() {
            f.add(at("pool"), "names no pool of this document", "write the name of a pool");
        }
        if server.listener.is_empty() && !server.is_witness() {
            f.add(at("listener"), "there is none", "write at least one [[server.listener]]");
        }
        for (m, l) in server.listener.iter().enumerate() {
            if server.listener.iter().take(m).any(|o| o.id == l.id) {
                f.add(at(&format!("listener[{m}].id")), format!("\"{}\" is taken", l.id), "give it one of its own");
            }
            if l.address.port() == 0 {
                f.add(at(&format!("listener[{m}].address")), "has port 0", "write a port");
            }
        }
    }
    for (n, rule) in t.policies.authentication.rule.iter().enumerate() {
        let Some(id) = &rule.listener else { continue };
        if !t.server.iter().flat_map(|s| &s.listener).any(|l| &l.id == id) {
            let at = format!("policies.authentication.rule[{n}].listener");
            f.add(at, format!("\"{id}\" is not a listener"), "write the id of a listener, or leave it out");
        }
    }
}

/// No two sockets of the same kind on one address.
fn addresses(f: &mut Findings, t: &Topology) {
    let mut seen: BTreeMap<(bool, SocketAddr), String> = BTreeMap::new();
    for (n, s) in t.server.iter().enumerate() {
        let mut all =
            vec![(false, s.admin, format!("server[{n}].admin")), (false, s.link, format!("server[{n}].link"))];
        all.extend(s.dns.map(|a| (true, a, format!("server[{n}].dns"))));
        for (m, l) in s.listener.iter().enumerate() {
            all.push((l.transport == Transport::Udp, l.address, format!("server[{n}].listener[{m}].address")));
        }
        for (udp, address, key) in all {
            if let Some(first) = seen.get(&(udp, address)) {
                f.add(key, format!("{address} is already used by {first}"), "give it an address or port of its own");
            } else {
                seen.insert((udp, address), key);
            }
        }
    }
}

fn policies(f: &mut Findings, p: &Policies) {
    let r = &p.registration;
    if r.min_expiry_s > r.default_expiry_s || r.default_expiry_s > r.max_expiry_s {
        let have = format!("{} / {} / {}", r.min_expiry_s, r.default_expiry_s, r.max_expiry_s);
        f.add("policies.registration", format!("min / default / max expiry are {have}"), "order them rising");
    }
    let least = p.resilience.heartbeat_ms.saturating_mul(3);
    for (key, value) in [("detection_ms", p.resilience.detection_ms), ("failback_ms", p.resilience.failback_ms)] {
        if value < least {
            let at = format!("policies.resilience.{key}");
            f.add(at, format!("{value} is less than three heartbeats"), format!("write at least {least}"));
        }
    }
    crate::policy_overload::check(f, &p.overload);
    if p.authentication.rule.len() > 64 {
        f.add("policies.authentication.rule", "has more than 64 members", "merge rules");
    }
}

/// Differences between two pools that are refused unless accepted with a reason.
pub(crate) fn unsupported(a: &Pool, b: &Pool) -> Vec<String> {
    let mut all = Vec::new();
    let mut differ = |what: &str, x: String, y: String| {
        if x != y {
            all.push(format!("{what} differs ({x} and {y})"));
        }
    };
    differ("edition", format!("{:?}", a.edition), format!("{:?}", b.edition));
    differ("Back End method", format!("{:?}", a.back_end), format!("{:?}", b.back_end));
    differ("platform", format!("{:?}", a.platform), format!("{:?}", b.platform));
    differ("base operating system", a.base_os.to_ascii_lowercase(), b.base_os.to_ascii_lowercase());
    if let (Some(x), Some(y)) = (&a.version, &b.version) {
        differ("version", x.clone(), y.clone());
    }
    all
}

fn pair(f: &mut Findings, t: &Topology, n: usize, pairing: &Pairing) {
    let at = format!("pairing[{n}]");
    if pairing.a == pairing.b {
        f.add(&at, "pairs a pool with itself", "name two pools");
        return;
    }
    let (Some(a), Some(b)) = (t.pool(pairing.a), t.pool(pairing.b)) else {
        f.add(&at, "names a pool that is not in this document", "name two pools");
        return;
    };
    if a.site == b.site {
        let problem = format!("{} and {} are both in site {}", a.name, b.name, a.site);
        f.add(&at, problem, "pair pools of different sites; this cannot be overridden");
    }
    let reason = pairing.accept_unsupported.as_deref().map(str::trim);
    if reason == Some("") {
        f.add(format!("{at}.accept_unsupported"), "gives no reason", "write why, or leave it out");
    }
    if reason.is_some_and(|r| r.len() > MAX_STRING) {
        f.add(format!("{at}.accept_unsupported"), "is too long", format!("at most {MAX_STRING} bytes"));
    }
    let accepted = reason.is_some_and(|r| !r.is_empty());
    for difference in unsupported(a, b).into_iter().filter(|_| !accepted) {
        f.add(&at, difference, "make them alike, or record accept_unsupported = \"reason\"");
    }
}

/// 1:1: no pool in two pairings. Symmetry is in the form: a pairing names both.
fn one_pairing_each(f: &mut Findings, t: &Topology) {
    let mut seen: BTreeMap<PoolId, usize> = BTreeMap::new();
    for (n, pairing) in t.pairing.iter().enumerate() {
        for pool in [pairing.a, pairing.b] {
            if let Some(first) = seen.get(&pool).filter(|first| **first != n) {
                let problem = format!("{} is already paired by pairing[{first}]", t.pool_name(pool));
                f.add(format!("pairing[{n}]"), problem, "a pool has one partner; this cannot be overridden");
            } else {
                seen.insert(pool, n);
            }
        }
    }
}
