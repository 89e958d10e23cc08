//! Whether the addresses of a deployment are free, before anything is created or started.
//!
//! Owns the look, which binds as the servers do. Sockets are closed again at once; the servers bind them themselves.

use crate::dns::server::{DnsSockets, NotShared};
use crate::net::tcp;
use crate::net::udp::UdpListener;
use pairline_topology::{Server, Topology, Transport};
use std::io;
use std::net::SocketAddr;

/// One address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub address: SocketAddr,
    /// UDP, TCP, or both.
    pub transport: &'static str,
    /// What it is for.
    pub purpose: String,
    /// Why it cannot be used, and what to do.
    pub why: String,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({}): {}", self.transport, self.address, self.purpose, self.why)
    }
}

/// Every address of the topology's servers that cannot be used now.
pub fn taken(topology: &Topology) -> Vec<Taken> {
    topology.server.iter().flat_map(taken_by).collect()
}

fn taken_by(server: &Server) -> Vec<Taken> {
    let mut wanted: Vec<(SocketAddr, &'static str, String)> = Vec::new();
    for listener in &server.listener {
        let transport = if listener.transport == Transport::Udp { "UDP" } else { "TCP" };
        wanted.push((listener.address, transport, format!("SIP of {}", server.name)));
    }
    wanted.push((server.admin, "TCP", format!("admin API of {}", server.name)));
    wanted.push((server.link, "TCP", format!("link of {}", server.name)));
    if let Some(dns) = server.dns {
        wanted.push((dns, DNS, format!("DNS of {}", server.name)));
    }
    wanted
        .into_iter()
        .filter_map(|(address, transport, purpose)| {
            let error = look(address, transport).err()?;
            Some(Taken { address, transport, purpose, why: words(&error) })
        })
        .collect()
}

/// The two transports of a DNS server, bound together.
const DNS: &str = "UDP and TCP";

fn look(address: SocketAddr, transport: &str) -> io::Result<()> {
    match transport {
        "UDP" => UdpListener::bind(0, address).map(drop),
        DNS => DnsSockets::bind(address).map(drop),
        _ => tcp::listen(address).map(drop),
    }
}

fn words(error: &io::Error) -> String {
    if let Some(not_shared) = error.get_ref().and_then(|inner| inner.downcast_ref::<NotShared>()) {
        return not_shared.to_string();
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "in use by another program; stop it (`ss -lntup` names it), or use other addresses with --topology FILE"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use other addresses with --topology FILE".into()
        }
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need privileges".into(),
        _ => error.to_string(),
    }
}
