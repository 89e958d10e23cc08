//! Locating servers (RFC 3263) as a pure machine: it asks questions, is given answers and a random
//! number, and ends with targets in the order in which to try them. Sends no query.

use std::net::{IpAddr, SocketAddr};

use crate::flow::Transport;
use crate::uri::{Host, Scheme, Uri};

/// The most targets that one location gives.
pub const MAX_TARGETS: usize = 16;

/// The most questions that one location asks.
pub const MAX_QUESTIONS: usize = 32;

/// What is asked of the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NAPTR (RFC 3403).
    Naptr,
    /// SRV (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name, without a trailing dot, in lower case.
    pub name: String,
    /// The record type.
    pub kind: Kind,
}

/// A NAPTR record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Lower is first.
    pub order: u16,
    /// Lower is first within an order.
    pub preference: u16,
    /// The flags; only `s` is followed.
    pub flags: String,
    /// The service, such as `SIP+D2U`.
    pub service: String,
    /// The name of the SRV records.
    pub replacement: String,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower is first.
    pub priority: u16,
    /// Share among equal priorities.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: String,
}

/// The answer to the last question; empty or `Missing` when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// To a NAPTR question.
    Naptr(Vec<Naptr>),
    /// To an SRV question.
    Srv(Vec<Srv>),
    /// To an A or AAAA question.
    Addresses(Vec<IpAddr>),
    /// No such name or record, or the query failed.
    Missing,
}

/// Where to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The transport.
    pub transport: Transport,
    /// The address and port.
    pub addr: SocketAddr,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look this up and call [`Locator::answer`].
    Ask(Question),
    /// Try these in order; never empty.
    Done(Vec<Target>),
    /// There is no way to this URI.
    Failed,
}

/// A host whose addresses are wanted.
#[derive(Clone, Debug)]
struct Candidate {
    transport: Transport,
    host: String,
    port: u16,
}

#[derive(Clone, Debug)]
enum Phase {
    Naptr,
    Srv,
    A,
    Aaaa,
    Over,
}

/// One location in progress.
#[derive(Clone, Debug)]
pub struct Locator {
    domain: String,
    secure: bool,
    supported: Vec<Transport>,
    phase: Phase,
    /// SRV names still to be asked, first first, with their transport.
    services: std::collections::VecDeque<(String, Transport)>,
    /// Hosts still to be resolved; the front one is being asked about.
    hosts: std::collections::VecDeque<Candidate>,
    targets: Vec<Target>,
    questions: usize,
}

impl Locator {
    /// Begins to locate `uri` with UDP, TCP and TLS as transports, best first for NAPTR-less
    /// domains.
    pub fn start(uri: &Uri<'_>) -> (Locator, Step) {
        Self::start_with(uri, &[Transport::Udp, Transport::Tcp, Transport::Tls])
    }

    /// As [`start`](Self::start) with the transports that the caller can send on, in order of
    /// preference.
    pub fn start_with(uri: &Uri<'_>, supported: &[Transport]) -> (Locator, Step) {
        let secure = uri.scheme == Scheme::Sips;
        let mut locator = Locator {
            domain: String::new(),
            secure,
            supported: supported.iter().copied().filter(|transport| !secure || transport.secure()).collect(),
            phase: Phase::Over,
            services: std::collections::VecDeque::new(),
            hosts: std::collections::VecDeque::new(),
            targets: Vec::new(),
            questions: 0,
        };
        let step = locator.first_step(uri);
        (locator, step)
    }

    fn first_step(&mut self, uri: &Uri<'_>) -> Step {
        if !uri.is_sip() || self.supported.is_empty() {
            return self.over(Step::Failed);
        }
        // RFC 3263 §4: maddr, if present, is the TARGET.
        let host = match uri.param("maddr") {
            Some(maddr) => match crate::uri::parse_host(maddr) {
                Some(host) => host,
                None => return self.over(Step::Failed),
            },
            None => uri.host,
        };
        let explicit = match uri.param("transport") {
            None => None,
            Some(token) => match self.usable(token) {
                Some(transport) => Some(transport),
                None => return self.over(Step::Failed),
            },
        };
        match host {
            Host::None => self.over(Step::Failed),
            Host::Ip(ip) => {
                let Some(transport) = explicit.or_else(|| self.default_transport()) else {
                    return self.over(Step::Failed);
                };
                let port = uri.port.unwrap_or(transport.default_port());
                self.targets.push(Target { transport, addr: SocketAddr::new(ip, port) });
                self.finish()
            }
            // RFC 6761 §6.4: never asked for. Clients that cannot be connected to name themselves so (RFC 7118 §5.2.1).
            Host::Name(name) if is_invalid(name) => self.over(Step::Failed),
            Host::Name(name) => {
                self.domain = lower(name);
                self.start_name(explicit, uri.port)
            }
        }
    }

    fn start_name(&mut self, explicit: Option<Transport>, port: Option<u16>) -> Step {
        match (explicit, port) {
            (_, Some(port)) => {
                let Some(transport) = explicit.or_else(|| self.default_transport()) else {
                    return self.over(Step::Failed);
                };
                self.hosts.push_back(Candidate { transport, host: self.domain.clone(), port });
                self.ask_addresses()
            }
            (Some(transport), None) => {
                self.services.push_back((self.service_name(transport), transport));
                self.ask_srv()
            }
            (None, None) => {
                self.phase = Phase::Naptr;
                self.ask(self.domain.clone(), Kind::Naptr)
            }
        }
    }

    /// Takes the answer to the last question. `random` decides among equal priorities (RFC 2782).
    pub fn answer(&mut self, answers: Answers, random: u64) -> Step {
        match self.phase {
            Phase::Naptr => self.take_naptr(answers),
            Phase::Srv => self.take_srv(answers, random),
            Phase::A => {
                self.take_addresses(answers, false);
                self.phase = Phase::Aaaa;
                match self.hosts.front() {
                    Some(candidate) if self.targets.len() < MAX_TARGETS => {
                        let name = candidate.host.clone();
                        self.ask(name, Kind::Aaaa)
                    }
                    _ => self.finish(),
                }
            }
            Phase::Aaaa => {
                self.take_addresses(answers, true);
                self.hosts.pop_front();
                self.ask_addresses()
            }
            Phase::Over => Step::Failed,
        }
    }

    fn take_naptr(&mut self, answers: Answers) -> Step {
        let mut records = match answers {
            Answers::Naptr(records) => records,
            _ => Vec::new(),
        };
        records.truncate(64);
        records.sort_by_key(|record| (record.order, record.preference));
        for record in records {
            let Some(transport) = naptr_transport(&record.service) else {
                continue;
            };
            if record.flags.eq_ignore_ascii_case("s")
                && self.supported.contains(&transport)
                && (!self.secure || transport.secure())
            {
                let name = lower(record.replacement.trim_end_matches('.').as_bytes());
                self.services.push_back((name, transport));
            }
        }
        if self.services.is_empty() {
            // RFC 3263 §4.1: without NAPTR, SRV for each supported transport.
            for transport in self.supported.clone() {
                self.services.push_back((self.service_name(transport), transport));
            }
        }
        self.ask_srv()
    }

    fn take_srv(&mut self, answers: Answers, random: u64) -> Step {
        let Some((_, transport)) = self.services.pop_front() else {
            return self.over(Step::Failed);
        };
        if let Answers::Srv(mut records) = answers {
            records.truncate(64);
            // RFC 2782: a single record with target "." means that the service is not there.
            records.retain(|record| record.target != "." && !record.target.is_empty());
            for record in order_srv(records, random) {
                if self.hosts.len() >= MAX_TARGETS {
                    break;
                }
                self.hosts.push_back(Candidate {
                    transport,
                    host: lower(record.target.trim_end_matches('.').as_bytes()),
                    port: record.port,
                });
            }
        }
        if !self.services.is_empty() {
            return self.ask_srv();
        }
        if self.hosts.is_empty() {
            // RFC 3263 §4.2: no SRV at all, so the addresses of the domain itself.
            let Some(transport) = self.default_transport() else {
                return self.over(Step::Failed);
            };
            self.hosts.push_back(Candidate { transport, host: self.domain.clone(), port: transport.default_port() });
        }
        self.ask_addresses()
    }

    fn take_addresses(&mut self, answers: Answers, v6: bool) {
        let (Some(candidate), Answers::Addresses(addresses)) = (self.hosts.front(), answers) else {
            return;
        };
        for ip in addresses {
            let target = Target { transport: candidate.transport, addr: SocketAddr::new(ip, candidate.port) };
            if ip.is_ipv6() == v6 && self.targets.len() < MAX_TARGETS && !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
    }

    fn ask_srv(&mut self) -> Step {
        self.phase = Phase::Srv;
        match self.services.front() {
            Some((name, _)) => self.ask(name.clone(), Kind::Srv),
            None => self.ask_addresses(),
        }
    }

    /// Asks about the front host; hosts that are addresses need no question.
    fn ask_addresses(&mut self) -> Step {
        while let Some(candidate) = self.hosts.front() {
            if self.targets.len() >= MAX_TARGETS {
                break;
            }
            if let Some(Host::Ip(ip)) = crate::uri::parse_host(candidate.host.as_bytes()) {
                self.targets.push(Target { transport: candidate.transport, addr: SocketAddr::new(ip, candidate.port) });
                self.hosts.pop_front();
                continue;
            }
            let name = candidate.host.clone();
            self.phase = Phase::A;
            return self.ask(name, Kind::A);
        }
        self.finish()
    }

    fn ask(&mut self, name: String, kind: Kind) -> Step {
        self.questions += 1;
        if self.questions > MAX_QUESTIONS {
            return self.finish();
        }
        Step::Ask(Question { name, kind })
    }

    fn finish(&mut self) -> Step {
        let targets = std::mem::take(&mut self.targets);
        self.over(if targets.is_empty() { Step::Failed } else { Step::Done(targets) })
    }

    fn over(&mut self, step: Step) -> Step {
        self.phase = Phase::Over;
        step
    }

    /// The transport for an explicit `transport` parameter; `sips` over TCP is TLS.
    fn usable(&self, token: &[u8]) -> Option<Transport> {
        let named = Transport::from_token(token)?;
        let transport = match (self.secure, named) {
            (true, Transport::Tcp) => Transport::Tls,
            (true, Transport::Ws) => Transport::Wss,
            (_, named) => named,
        };
        self.supported.contains(&transport).then_some(transport)
    }

    /// RFC 3263 §4.1: UDP for sip, TLS for sips; else the best that the caller has.
    fn default_transport(&self) -> Option<Transport> {
        let wanted = if self.secure { Transport::Tls } else { Transport::Udp };
        if self.supported.contains(&wanted) { Some(wanted) } else { self.supported.first().copied() }
    }

    fn service_name(&self, transport: Transport) -> String {
        let label = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls | Transport::Peer => "_sips._tcp",
            Transport::Ws => "_sip._ws",
            Transport::Wss => "_sips._ws",
        };
        format!("{label}.{}", self.domain)
    }
}

fn is_invalid(name: &[u8]) -> bool {
    let name = lower(name);
    let name = name.trim_end_matches('.');
    name == "invalid" || name.ends_with(".invalid")
}

fn naptr_transport(service: &str) -> Option<Transport> {
    const SERVICES: [(&str, Transport); 5] = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    SERVICES.into_iter().find(|(name, _)| service.eq_ignore_ascii_case(name)).map(|(_, transport)| transport)
}

/// The order of RFC 2782: by priority, and within one by weighted choice.
fn order_srv(mut records: Vec<Srv>, mut random: u64) -> Vec<Srv> {
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let equal = records.iter().take_while(|record| record.priority == priority).count();
        let sum: u64 = records[..equal].iter().map(|r| u64::from(r.weight)).sum();
        random = next_random(random);
        let mut pick = random % (sum + 1);
        let index = records[..equal]
            .iter()
            .position(|record| match pick.checked_sub(u64::from(record.weight)) {
                Some(rest) if rest > 0 => {
                    pick = rest;
                    false
                }
                _ => true,
            })
            .unwrap_or(0);
        ordered.push(records.remove(index));
    }
    ordered
}

/// One step of a 64-bit generator, so that a single random input serves several choices.
fn next_random(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn lower(name: &[u8]) -> String {
    name.iter().map(|b| char::from(b.to_ascii_lowercase())).collect()
}
