//! `pairline preflight dns`: the records to create, and whether the embedded DNS and the system's resolver have them.
//!
//! Owns the list. Asks no server of another domain.

use super::dns_query::{Answer, Kind, query};
use super::{PreflightError, published};
use crate::cli::run::{out, pretty};
use crate::cli::table::table;
use crate::client::Access;
use crate::dns::targets::targets;
use crate::dns::zone::{OWN, PARTNER};
use pairline_topology::{Topology, Transport};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// One record to create.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Record {
    /// Owner name, without the final dot.
    pub name: String,
    /// `SRV`, `A` or `AAAA`.
    pub kind: String,
    /// Its data, as in a zone file.
    pub data: String,
    /// Why it is needed.
    pub why: String,
}

/// Every record that the deployment needs, in order.
pub fn records(topology: &Topology) -> Vec<Record> {
    let mut all = Vec::new();
    for domain in &topology.deployment.domains {
        for pool in &topology.pool {
            srv(&mut all, topology, domain, pool.id, OWN, "clients of the domain find any pool");
        }
    }
    for pool in &topology.pool {
        srv(&mut all, topology, &pool.fqdn, pool.id, OWN, "requests to the pool's name reach it");
        if let Some(partner) = topology.partner(pool.id) {
            srv(&mut all, topology, &pool.fqdn, partner.id, PARTNER, "and its partner when it is lost");
        }
    }
    for server in &topology.server {
        let pool = topology.pool(server.pool);
        for (number, target) in targets(server).into_iter().enumerate() {
            for ip in &target.addresses {
                let why = if number == 0 {
                    "the server's name"
                } else {
                    "another address of the server, with ports of its own"
                };
                all.push(address_record(&target.name, *ip, why));
                if let (0, Some(pool)) = (number, pool) {
                    all.push(address_record(&pool.fqdn, *ip, "clients that cannot do SRV"));
                }
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn srv(all: &mut Vec<Record>, topology: &Topology, name: &str, pool: pairline_group::PoolId, priority: u16, why: &str) {
    for target in topology.servers_of(pool).into_iter().flat_map(targets) {
        for (transport, port) in &target.ports {
            let prefix = match transport {
                Transport::Udp => "_sip._udp",
                Transport::Tcp => "_sip._tcp",
                Transport::Tls => "_sips._tcp",
                Transport::Ws => "_sip._ws",
                Transport::Wss => "_sips._ws",
            };
            all.push(Record {
                name: format!("{prefix}.{name}"),
                kind: "SRV".into(),
                data: format!("{priority} 50 {port} {}.", target.name),
                why: why.into(),
            });
        }
    }
}

fn address_record(name: &str, ip: IpAddr, why: &str) -> Record {
    let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
    Record { name: name.to_owned(), kind: kind.into(), data: ip.to_string(), why: why.into() }
}

/// Prints the records and looks at every DNS server of the deployment; true if each that answers has names for the domain.
pub async fn dns(access: &Access, json: bool) -> Result<bool, PreflightError> {
    let topology = published(access).await?;
    let records = records(&topology);
    let mut looks = Vec::new();
    for (who, server) in dns_servers(&topology) {
        for name in srv_names(&records) {
            let answer = query(server, &name, Kind::Srv).await;
            looks.push((who.clone(), name, answer));
        }
    }
    let good = looks.iter().all(|(_, _, answer)| !matches!(answer, Answer::Empty(_)));
    if json {
        let looks: Vec<_> = looks
            .iter()
            .map(|(who, name, a)| serde_json::json!({ "server": who, "name": name, "answer": a.words() }))
            .collect();
        out(&pretty(&serde_json::json!({ "records": records, "looks": looks, "good": good })));
        return Ok(good);
    }
    let rows: Vec<Vec<String>> =
        records.iter().map(|r| vec![format!("{}.", r.name), r.kind.clone(), r.data.clone(), r.why.clone()]).collect();
    out("Create these records (TTL 30 s or less, so that a lost pool is forgotten soon):\n\n");
    out(&table(&["NAME", "TYPE", "DATA", "WHY"], &rows));
    if !looks.is_empty() {
        out("\nAsked just now:\n");
        let rows: Vec<Vec<String>> = looks.into_iter().map(|(who, name, a)| vec![who, name, a.words()]).collect();
        out(&table(&["DNS SERVER", "NAME", "ANSWER"], &rows));
    }
    Ok(good)
}

fn srv_names(records: &[Record]) -> Vec<String> {
    let mut names: Vec<String> = records.iter().filter(|r| r.kind == "SRV").map(|r| r.name.clone()).collect();
    names.dedup();
    names
}

/// The deployment's own DNS servers, and the system's first resolver.
fn dns_servers(topology: &Topology) -> Vec<(String, SocketAddr)> {
    let own = topology.server.iter().filter_map(|server| Some((format!("{} (own)", server.name), server.dns?)));
    let system = std::fs::read_to_string("/etc/resolv.conf")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok()))
        .map(|ip| ("system resolver".to_owned(), SocketAddr::new(ip, 53)));
    own.chain(system).collect()
}
