//! Names under which a server's addresses stand in SRV records, so that every pair of name and port is somebody's listener.
//!
//! Owns the choice of names, for the zone and for `pairline preflight dns` alike. Does not own records.

use pairline_topology::{Listener, Server, Transport};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// A name for one address of a server, or for one of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Lower-case host name, without the final dot.
    pub name: String,
    /// What it resolves to; each of them listens on every port of the target.
    pub addresses: Vec<IpAddr>,
    /// Ports by transport.
    pub ports: BTreeSet<(Transport, u16)>,
}

impl Target {
    /// Its ports of one transport, in order.
    pub fn ports_of(&self, transport: Transport) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().filter(move |(of, _)| *of == transport).map(|(_, port)| *port)
    }
}

/// The targets of a server. The first has the server's own name and the address of its first listener, with the first address
/// of the other family if that has the same ports; every other address has a name of its own under the server's.
pub fn targets(server: &Server) -> Vec<Target> {
    let mut all: Vec<Target> = Vec::new();
    for address in server.listener.iter().map(told).filter(|address| !address.ip().is_unspecified()) {
        let ip = address.ip();
        if all.iter().any(|target| target.addresses.contains(&ip)) {
            continue;
        }
        let ports = ports_at(server, ip);
        match all.first_mut() {
            None => all.push(Target { name: server.name.to_ascii_lowercase(), addresses: vec![ip], ports }),
            Some(first)
                if first.addresses.len() == 1
                    && first.addresses[0].is_ipv4() != ip.is_ipv4()
                    && first.ports == ports =>
            {
                first.addresses.push(ip);
            }
            Some(_) => all.push(Target { name: own_name(server, ip), addresses: vec![ip], ports }),
        }
    }
    all
}

/// Where a listener is reached, as told to others.
fn told(listener: &Listener) -> SocketAddr {
    listener.advertise_address.unwrap_or(listener.address)
}

fn ports_at(server: &Server, ip: IpAddr) -> BTreeSet<(Transport, u16)> {
    let there = server.listener.iter().filter(|listener| told(listener).ip() == ip);
    there.map(|listener| (listener.transport, told(listener).port())).collect()
}

fn own_name(server: &Server, ip: IpAddr) -> String {
    let label = match ip {
        IpAddr::V4(ip) => ip.octets().map(|part| part.to_string()).join("-"),
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
    };
    format!("ip-{label}.{}", server.name.to_ascii_lowercase())
}
