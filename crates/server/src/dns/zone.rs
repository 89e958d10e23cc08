//! What the deployment's own names resolve to: NAPTR, SRV, A and AAAA, made from the topology and from who lives.
//!
//! Owns the order: a pool's own servers, all alike, then its partner's; whatever is dead drops behind (DESIGN §7). Owns no socket.

use super::targets::{Target, targets};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NAPTR, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use pairline_group::{PoolId, ServerId};
use pairline_topology::{Server, Topology, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// Seconds that an answer may be kept.
pub const TTL: u32 = 2;

/// Priority of a pool's own servers.
pub const OWN: u16 = 10;
/// Priority of its partner's servers.
pub const PARTNER: u16 = 20;
/// Added for a server that is not alive, or whose pool is not: behind everything that is.
const DEAD: u16 = 100;

/// The zone as it is now; shared by the DNS server, the resolver, and whoever learns of changes.
#[derive(Clone, Debug)]
pub struct ZoneView(Arc<RwLock<Zone>>);

/// The zone at one instant.
#[derive(Clone, Debug)]
pub struct Zone {
    topology: Arc<Topology>,
    dead: BTreeSet<PoolId>,
    silent: BTreeSet<ServerId>,
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
    /// With everything alive.
    pub fn new(topology: Arc<Topology>) -> ZoneView {
        ZoneView(Arc::new(RwLock::new(Zone { topology, dead: BTreeSet::new(), silent: BTreeSet::new() })))
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

    /// These servers are not heard, whatever their pools are.
    pub fn set_silent(&self, silent: BTreeSet<ServerId>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).silent = silent;
    }
}

/// Transports that a zone can offer, best first, with NAPTR service and SRV label.
pub const SERVICES: [(Transport, &str, &str); 5] = [
    (Transport::Udp, "SIP+D2U", "_sip._udp"),
    (Transport::Tcp, "SIP+D2T", "_sip._tcp"),
    (Transport::Tls, "SIPS+D2T", "_sips._tcp"),
    (Transport::Wss, "SIPS+D2W", "_sips._ws"),
    (Transport::Ws, "SIP+D2W", "_sip._ws"),
];
/// All services stand in one order: a client that cannot use the first, or does not reach it, may use the next (RFC 3403 §4.1).
const NAPTR_ORDER: u16 = 10;

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

/// The NAPTR record by which `owner` offers a transport; `None` if its name cannot stand in the DNS.
pub fn naptr_data(transport: Transport, owner: &str) -> Option<RData> {
    let ((_, service, label), preference) =
        SERVICES.iter().zip((10_u16..).step_by(10)).find(|((of, _, _), _)| *of == transport)?;
    let (flags, service) = (b"s".as_slice().into(), service.as_bytes().into());
    let target = name(&format!("{label}.{owner}"))?;
    Some(RData::NAPTR(NAPTR::new(NAPTR_ORDER, preference, flags, service, Box::default(), target)))
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

    /// Servers that serve this name, with their priorities: for a SIP domain all alike, for a pool its own and its partner's.
    fn servers_of(&self, base: &str) -> Vec<(u16, &Server)> {
        let t = &self.topology;
        let pools: Vec<(u16, PoolId)> = if t.is_domain(base) {
            t.pool.iter().map(|p| (OWN, p.id)).collect()
        } else if let Some(pool) = t.pool.iter().find(|p| p.fqdn.eq_ignore_ascii_case(base)) {
            let partner = t.partner(pool.id).map(|p| (PARTNER, p.id));
            std::iter::once((OWN, pool.id)).chain(partner).collect()
        } else {
            return Vec::new();
        };
        let all =
            pools.into_iter().flat_map(|(priority, pool)| t.servers_of(pool).into_iter().map(move |s| (priority, s)));
        let mut all: Vec<(u16, &Server)> =
            all.map(|(p, s)| if self.lives(s) { (p, s) } else { (p + DEAD, s) }).collect();
        all.sort_by_key(|(priority, server)| (*priority, server.pool, server.id));
        all
    }

    fn lives(&self, server: &Server) -> bool {
        !self.dead.contains(&server.pool) && !self.silent.contains(&server.id)
    }

    fn naptr(&self, asked: &str) -> Vec<Record> {
        let offered = SERVICES.iter().filter(|(_, _, label)| self.offers(&format!("{label}.{asked}")));
        records(asked, offered.filter_map(|(transport, _, _)| naptr_data(*transport, asked)))
    }

    fn srv(&self, asked: &str) -> Vec<Record> {
        let service = SERVICES.iter().find_map(|(transport, _, label)| {
            let base = asked.strip_prefix(label)?.strip_prefix('.')?;
            Some((*transport, base))
        });
        let Some((transport, base)) = service else { return Vec::new() };
        let mut data = Vec::new();
        for (priority, server) in self.servers_of(base) {
            for target in targets(server) {
                let host = name(&target.name);
                let ports = target.ports_of(transport);
                data.extend(ports.filter_map(|port| Some(RData::SRV(SRV::new(priority, 50, port, host.clone()?)))));
            }
        }
        records(asked, data)
    }

    /// The target of that name.
    fn target(&self, asked: &str) -> Option<Target> {
        self.topology.server.iter().flat_map(targets).find(|target| target.name == asked)
    }

    /// Addresses of a target; for a domain or a pool those of the best of its servers that live, as A records have no order, and
    /// only the servers' first ones, since whoever asks for no SRV record knows no port either.
    fn addresses(&self, asked: &str, kind: RecordType) -> Vec<Record> {
        let ips: BTreeSet<IpAddr> = match self.target(asked) {
            Some(target) => target.addresses.into_iter().collect(),
            None => {
                let servers = self.servers_of(asked);
                let best = servers.first().map(|(priority, _)| *priority);
                servers
                    .iter()
                    .filter(|(priority, _)| Some(*priority) == best)
                    .filter_map(|(_, server)| targets(server).into_iter().next())
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
