//! What the deployment's own names resolve to: NAPTR, SRV, A and AAAA, made from the topology and from which pools live.
//!
//! Owns the order: a pool's own servers, then its partner's; whatever is dead drops behind (DESIGN §7). Owns no socket.

use super::targets::{Target, targets};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NAPTR, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use pairline_group::PoolId;
use pairline_topology::{Topology, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// Seconds that an answer may be kept.
pub const TTL: u32 = 2;

/// Priority of a pool's own servers.
pub const OWN: u16 = 10;
/// Priority of its partner's servers.
pub const PARTNER: u16 = 20;
/// Added for a pool that is not alive: behind everything that is.
const DEAD: u16 = 100;

/// The zone as it is now; shared by the DNS server, the resolver, and whoever learns of changes.
#[derive(Clone, Debug)]
pub struct ZoneView(Arc<RwLock<Zone>>);

/// The zone at one instant.
#[derive(Clone, Debug)]
pub struct Zone {
    topology: Arc<Topology>,
    dead: BTreeSet<PoolId>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Answer, no such name, or none of our business.
    pub code: ResponseCode,
    /// The records asked for.
    pub answers: Vec<Record>,
    /// Addresses of their targets.
    pub additional: Vec<Record>,
    /// The zone's SOA, where there is nothing (RFC 2308).
    pub authority: Vec<Record>,
}

impl ZoneView {
    /// With all pools alive.
    pub fn new(topology: Arc<Topology>) -> ZoneView {
        ZoneView(Arc::new(RwLock::new(Zone { topology, dead: BTreeSet::new() })))
    }

    /// The zone now.
    pub fn now(&self) -> Zone {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The topology in force.
    pub fn topology(&self) -> Arc<Topology> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).topology.clone()
    }

    /// A new topology is in force.
    pub fn set_topology(&self, topology: Arc<Topology>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).topology = topology;
    }

    /// These pools are not alive.
    pub fn set_dead(&self, dead: BTreeSet<PoolId>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).dead = dead;
    }
}

/// Transports that the zone offers, best first, with NAPTR service and SRV label.
const SERVICES: [(Transport, &str, &str); 5] = [
    (Transport::Udp, "SIP+D2U", "_sip._udp"),
    (Transport::Tcp, "SIP+D2T", "_sip._tcp"),
    (Transport::Tls, "SIPS+D2T", "_sips._tcp"),
    (Transport::Wss, "SIPS+D2W", "_sips._ws"),
    (Transport::Ws, "SIP+D2W", "_sip._ws"),
];

fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn records(owner: &str, data: impl IntoIterator<Item = RData>) -> Vec<Record> {
    let Some(owner) = name(owner) else { return Vec::new() };
    data.into_iter().map(|data| Record::from_rdata(owner.clone(), TTL, data)).collect()
}

fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

impl Zone {
    /// Answers one question; `asked` in any case, with or without the final dot.
    pub fn find(&self, asked: &str, kind: RecordType) -> Found {
        let asked = asked.trim_end_matches('.').to_ascii_lowercase();
        let Some(apex) = self.apex_of(&asked) else {
            return Found { code: ResponseCode::Refused, answers: vec![], additional: vec![], authority: vec![] };
        };
        let answers = match kind {
            RecordType::NAPTR => self.naptr(&asked),
            RecordType::SRV => self.srv(&asked),
            RecordType::A | RecordType::AAAA => self.addresses(&asked, kind),
            RecordType::SOA if asked == apex => self.soa(&apex),
            RecordType::NS if asked == apex => self.ns(&apex),
            _ => Vec::new(),
        };
        let additional = answers.iter().flat_map(|r| self.additional(r.data())).collect();
        let authority = if answers.is_empty() { self.soa(&apex) } else { Vec::new() };
        let exists = !answers.is_empty() || self.exists(&asked);
        let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        Found { code, answers, additional, authority }
    }

    /// Names at which something stands: SIP domains, pools, servers.
    fn bases(&self) -> impl Iterator<Item = String> + '_ {
        let t = &self.topology;
        let names =
            t.deployment.domains.iter().chain(t.pool.iter().map(|p| &p.fqdn)).chain(t.server.iter().map(|s| &s.name));
        names.map(|n| n.to_ascii_lowercase())
    }

    /// The shortest of our names that this name is, or is under.
    fn apex_of(&self, asked: &str) -> Option<String> {
        let covers = |base: &String| {
            asked.strip_suffix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.bases().filter(covers).min_by_key(String::len)
    }

    fn exists(&self, asked: &str) -> bool {
        let under = format!(".{asked}");
        let services = self.bases().flat_map(|b| SERVICES.map(|(_, _, label)| format!("{label}.{b}")));
        self.bases().any(|b| b == asked || b.ends_with(&under))
            || self.target(asked).is_some()
            || services.into_iter().any(|s| (s == asked || s.ends_with(&under)) && self.offers(&s))
    }

    fn offers(&self, service: &str) -> bool {
        !self.srv(service).is_empty()
    }

    /// Pools that serve this name, with their priorities: for a SIP domain all alike, for a pool itself and its partner.
    fn pools_of(&self, base: &str) -> Vec<(u16, PoolId)> {
        let t = &self.topology;
        let mut pools: Vec<(u16, PoolId)> = if t.is_domain(base) {
            t.pool.iter().map(|p| (OWN, p.id)).collect()
        } else if let Some(pool) = t.pool.iter().find(|p| p.fqdn.eq_ignore_ascii_case(base)) {
            let partner = t.partner(pool.id).map(|p| (PARTNER, p.id));
            std::iter::once((OWN, pool.id)).chain(partner).collect()
        } else {
            return Vec::new();
        };
        for (priority, pool) in &mut pools {
            if self.dead.contains(pool) {
                *priority += DEAD;
            }
        }
        pools.sort_unstable();
        pools
    }

    fn naptr(&self, asked: &str) -> Vec<Record> {
        let order = [10_u16, 20, 30, 40, 50];
        let offered = SERVICES.iter().zip(order).filter_map(|((_, service, label), order)| {
            let target = format!("{label}.{asked}");
            if !self.offers(&target) {
                return None;
            }
            let (flags, service) = (b"s".as_slice().into(), service.as_bytes().into());
            Some(RData::NAPTR(NAPTR::new(order, 50, flags, service, Box::default(), name(&target)?)))
        });
        records(asked, offered.collect::<Vec<_>>())
    }

    fn srv(&self, asked: &str) -> Vec<Record> {
        let service = SERVICES.iter().find_map(|(transport, _, label)| {
            let base = asked.strip_prefix(label)?.strip_prefix('.')?;
            Some((*transport, base))
        });
        let Some((transport, base)) = service else { return Vec::new() };
        let mut data = Vec::new();
        for (priority, pool) in self.pools_of(base) {
            for server in self.topology.servers_of(pool) {
                for target in targets(server) {
                    let host = name(&target.name);
                    let ports = target.ports_of(transport);
                    data.extend(ports.filter_map(|port| Some(RData::SRV(SRV::new(priority, 50, port, host.clone()?)))));
                }
            }
        }
        records(asked, data)
    }

    /// The target of that name.
    fn target(&self, asked: &str) -> Option<Target> {
        self.topology.server.iter().flat_map(targets).find(|target| target.name == asked)
    }

    /// Addresses of a target; for a domain or a pool those of the first of its pools that live, as A records have no order, and
    /// only the servers' first ones, since whoever asks for no SRV record knows no port either.
    fn addresses(&self, asked: &str, kind: RecordType) -> Vec<Record> {
        let ips: BTreeSet<IpAddr> = match self.target(asked) {
            Some(target) => target.addresses.into_iter().collect(),
            None => {
                let pools = self.pools_of(asked);
                let best = pools.first().map(|(priority, _)| *priority);
                pools
                    .iter()
                    .filter(|(priority, _)| Some(*priority) == best)
                    .flat_map(|(_, pool)| self.topology.servers_of(*pool))
                    .filter_map(|server| targets(server).into_iter().next())
                    .flat_map(|target| target.addresses)
                    .collect()
            }
        };
        let wanted = ips.into_iter().filter(|ip| ip.is_ipv4() == (kind == RecordType::A));
        records(asked, wanted.map(address_data))
    }

    fn additional(&self, data: &RData) -> Vec<Record> {
        let RData::SRV(srv) = data else { return Vec::new() };
        let target = srv.target().to_ascii().to_ascii_lowercase();
        let target = target.trim_end_matches('.');
        [RecordType::A, RecordType::AAAA].into_iter().flat_map(|kind| self.addresses(target, kind)).collect()
    }

    fn ns(&self, apex: &str) -> Vec<Record> {
        let serving = self.topology.server.iter().filter(|s| s.dns.is_some());
        records(apex, serving.filter_map(|s| Some(RData::NS(NS(name(&s.name)?)))).collect::<Vec<_>>())
    }

    fn soa(&self, apex: &str) -> Vec<Record> {
        let primary = self.topology.server.iter().find(|s| s.dns.is_some()).or(self.topology.server.first());
        let serial = u32::try_from(self.topology.revision % u64::from(u32::MAX)).unwrap_or(0);
        let data = primary.and_then(|s| name(&s.name)).zip(name(&format!("hostmaster.{apex}")));
        let data = data.map(|(m, r)| RData::SOA(SOA::new(m, r, serial, 60, 10, 600, TTL)));
        records(apex, data)
    }
}
