//! One location in progress: it asks questions, is given answers and a random number, and ends with targets in the order in
//! which to try them. Sends no query.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::order::{by_preference, by_weight, lower};
use super::records::{Answers, Kind, Question};
use crate::flow::Transport;
use crate::uri::{Host, Scheme, Uri};

/// The most targets that one location gives.
pub const MAX_TARGETS: usize = 16;

/// The most questions that one location asks.
pub const MAX_QUESTIONS: usize = 32;

/// A transport that the caller can send on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// The transport.
    pub transport: Transport,
    /// Whether over IPv4.
    pub v4: bool,
    /// Whether over IPv6.
    pub v6: bool,
}

impl Means {
    /// A transport over both families.
    pub fn dual(transport: Transport) -> Means {
        Means { transport, v4: true, v6: true }
    }

    fn reaches(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// Where to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    Addresses { v6: bool },
    Over,
}

/// One location in progress.
#[derive(Clone, Debug)]
pub struct Locator {
    domain: String,
    secure: bool,
    means: Vec<Means>,
    phase: Phase,
    /// The transport for the domain's own addresses, where no SRV record is found.
    fallback: Option<Transport>,
    /// Transports of which the domain says that it does not offer them.
    denied: Vec<Transport>,
    /// SRV names still to be asked, first first, with their transport.
    services: VecDeque<(String, Transport)>,
    /// Hosts still to be resolved; the front one is being asked about.
    hosts: VecDeque<Candidate>,
    targets: Vec<Target>,
    questions: usize,
}

impl Locator {
    /// Begins to locate `uri` with UDP, TCP and TLS as transports, best first for NAPTR-less
    /// domains.
    pub fn start(uri: &Uri<'_>) -> (Locator, Step) {
        Self::start_with(uri, &[Transport::Udp, Transport::Tcp, Transport::Tls].map(Means::dual))
    }

    /// As [`start`](Self::start) with the transports that the caller can send on, in order of
    /// preference. A `sips` URI is only followed over those that are secure (RFC 3261 §26.2.2); a `sip` URI over all.
    pub fn start_with(uri: &Uri<'_>, means: &[Means]) -> (Locator, Step) {
        let secure = uri.scheme == Scheme::Sips;
        let mut locator = Locator {
            domain: String::new(),
            secure,
            means: means.iter().copied().filter(|means| !secure || means.transport.secure()).collect(),
            phase: Phase::Over,
            fallback: None,
            denied: Vec::new(),
            services: VecDeque::new(),
            hosts: VecDeque::new(),
            targets: Vec::new(),
            questions: 0,
        };
        let step = locator.first_step(uri);
        (locator, step)
    }

    fn first_step(&mut self, uri: &Uri<'_>) -> Step {
        if !uri.is_sip() {
            return self.over(Step::Failed);
        }
        // RFC 3263 §4: maddr, if present, is the TARGET.
        let host = match uri.param("maddr") {
            Some(maddr) => crate::uri::parse_host(maddr),
            None => Some(uri.host),
        };
        let named = match uri.param("transport") {
            None => None,
            Some(token) => match self.usable(token) {
                Some(transport) => Some(transport),
                None => return self.over(Step::Failed),
            },
        };
        self.fallback = named.or_else(|| self.usual_transport());
        let (Some(host), Some(transport)) = (host, self.fallback) else {
            return self.over(Step::Failed);
        };
        match host {
            Host::None => self.over(Step::Failed),
            Host::Ip(ip) => {
                self.push_target(transport, ip, uri.port.unwrap_or(transport.default_port()));
                self.finish()
            }
            Host::Name(name) => {
                self.domain = lower(name);
                self.start_name(transport, named.is_some(), uri.port)
            }
        }
    }

    fn start_name(&mut self, transport: Transport, named: bool, port: Option<u16>) -> Step {
        if let Some(port) = port {
            // RFC 3263 §4.2: with a port there is nothing for SRV to say.
            self.hosts.push_back(Candidate { transport, host: self.domain.clone(), port });
            return self.ask_addresses();
        }
        if named {
            self.services.push_back((self.service_name(transport), transport));
            return self.ask_srv();
        }
        self.phase = Phase::Naptr;
        self.ask(self.domain.clone(), Kind::Naptr)
    }

    /// Takes the answer to the last question. `random` decides among equal priorities (RFC 2782).
    pub fn answer(&mut self, answers: Answers, random: u64) -> Step {
        match self.phase {
            Phase::Naptr => self.take_naptr(answers),
            Phase::Srv => self.take_srv(answers, random),
            Phase::Addresses { v6 } => {
                self.take_addresses(answers, v6);
                let v4_too = self.hosts.front().is_some_and(|host| self.means_of(host.transport).is_some_and(|m| m.v4));
                match self.hosts.front() {
                    Some(host) if v6 && v4_too && self.targets.len() < MAX_TARGETS => {
                        let name = host.host.clone();
                        self.phase = Phase::Addresses { v6: false };
                        self.ask(name, Kind::A)
                    }
                    _ => {
                        self.hosts.pop_front();
                        self.ask_addresses()
                    }
                }
            }
            Phase::Over => Step::Failed,
        }
    }

    fn take_naptr(&mut self, answers: Answers) -> Step {
        let records = match answers {
            Answers::Naptr(records) => records,
            _ => Vec::new(),
        };
        self.services = by_preference(records, |transport| self.means_of(transport).is_some()).into();
        if let Some((_, transport)) = self.services.front() {
            self.fallback = Some(*transport);
        } else {
            // RFC 3263 §4.1: without NAPTR, SRV for each transport that we have. One that is secure serves `sip` as well, so a
            // domain that offers nothing else is found too.
            for means in self.means.clone() {
                self.services.push_back((self.service_name(means.transport), means.transport));
            }
        }
        self.ask_srv()
    }

    fn take_srv(&mut self, answers: Answers, random: u64) -> Step {
        let Some((_, transport)) = self.services.pop_front() else {
            return self.over(Step::Failed);
        };
        if let Answers::Srv(records) = answers {
            if records.iter().any(super::records::Srv::is_denial) {
                self.denied.push(transport);
            }
            let offered = records.into_iter().filter(|record| !record.is_denial() && record.port != 0).collect();
            for record in by_weight(offered, random) {
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
            // RFC 3263 §4.2: no SRV at all, so the addresses of the domain itself, unless it said that it does not want that.
            let Some(transport) = self.fallback.filter(|transport| !self.denied.contains(transport)) else {
                return self.over(Step::Failed);
            };
            self.hosts.push_back(Candidate { transport, host: self.domain.clone(), port: transport.default_port() });
        }
        self.ask_addresses()
    }

    fn take_addresses(&mut self, answers: Answers, v6: bool) {
        let (Some(candidate), Answers::Addresses(addresses)) = (self.hosts.front().cloned(), answers) else {
            return;
        };
        for ip in addresses.into_iter().filter(|ip| ip.is_ipv6() == v6) {
            self.push_target(candidate.transport, ip, candidate.port);
        }
    }

    /// Adds a target, if it is one that a message can be sent to from here and room for it is left.
    fn push_target(&mut self, transport: Transport, ip: IpAddr, port: u16) {
        let target = Target { transport, addr: SocketAddr::new(ip, port) };
        let reached = self.means_of(transport).is_some_and(|means| means.reaches(ip));
        if reached && is_one_host(ip) && self.targets.len() < MAX_TARGETS && !self.targets.contains(&target) {
            self.targets.push(target);
        }
    }

    fn ask_srv(&mut self) -> Step {
        self.phase = Phase::Srv;
        match self.services.front() {
            Some((name, _)) => self.ask(name.clone(), Kind::Srv),
            None => self.ask_addresses(),
        }
    }

    /// Asks about the front host; hosts that are addresses need no question. IPv6 goes first where both can be sent (RFC 7984 §4,
    /// RFC 6724 §2.1).
    fn ask_addresses(&mut self) -> Step {
        while let Some(candidate) = self.hosts.front().cloned() {
            if self.targets.len() >= MAX_TARGETS {
                break;
            }
            if let Some(Host::Ip(ip)) = crate::uri::parse_host(candidate.host.as_bytes()) {
                self.push_target(candidate.transport, ip, candidate.port);
                self.hosts.pop_front();
                continue;
            }
            let Some(means) = self.means_of(candidate.transport).filter(|means| means.v4 || means.v6) else {
                self.hosts.pop_front();
                continue;
            };
            self.phase = Phase::Addresses { v6: means.v6 };
            return self.ask(candidate.host, if means.v6 { Kind::Aaaa } else { Kind::A });
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

    fn means_of(&self, transport: Transport) -> Option<Means> {
        self.means.iter().copied().find(|means| means.transport == transport)
    }

    /// The transport for an explicit `transport` parameter; `sips` over TCP is TLS.
    fn usable(&self, token: &[u8]) -> Option<Transport> {
        let named = Transport::from_token(token)?;
        let transport = match (self.secure, named) {
            (true, Transport::Tcp) => Transport::Tls,
            (true, Transport::Ws) => Transport::Wss,
            (_, named) => named,
        };
        self.means_of(transport).map(|means| means.transport)
    }

    /// RFC 3263 §4.1: UDP for sip, TLS for sips; else the best that the caller has.
    fn usual_transport(&self) -> Option<Transport> {
        let wanted = if self.secure { Transport::Tls } else { Transport::Udp };
        self.means_of(wanted).or(self.means.first().copied()).map(|means| means.transport)
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

/// Whether an address can be one host's: the DNS of a stranger must not make us send to everybody, or to nobody.
fn is_one_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    }
}
