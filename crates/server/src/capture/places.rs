//! From a flow or a link to addresses and names: between whom a captured message went.
//!
//! Owns the look-up. Does not own listeners, connections or links, which it asks.

use super::tap::Seen;
use crate::link::Links;
use crate::net::Streams;
use pairline_node::traffic::Way;
use pairline_sip::flow::Transport;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Both ends of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// This server's address.
    pub local: SocketAddr,
    /// The other's.
    pub remote: SocketAddr,
    /// The other's name, where it is a server of the deployment.
    pub server: Option<String>,
}

impl Ends {
    /// Source and destination.
    pub fn directed(&self, way: Way) -> (SocketAddr, SocketAddr) {
        match way {
            Way::In => (self.remote, self.local),
            Way::Out => (self.local, self.remote),
        }
    }
}

/// Who knows addresses.
pub struct Places {
    /// Addresses of listeners by their numbers.
    pub listeners: BTreeMap<u16, SocketAddr>,
    /// Where this server accepts links.
    pub link: SocketAddr,
    /// Connections.
    pub streams: Arc<Streams>,
    /// Links.
    pub links: Links,
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Places {
    /// Both ends of a message. Of a link: where both servers accept links. Of a connection that is still being made, or is gone: the
    /// listener's.
    pub fn ends(&self, seen: &Seen) -> Ends {
        if let Some(link) = seen.link {
            let peer = self.links.peer(link);
            let remote = peer.as_ref().map_or(NOWHERE, |peer| peer.address);
            return Ends { local: self.link, remote, server: peer.map(|peer| peer.name) };
        }
        let flow = &seen.flow;
        let listener = self.listeners.get(&flow.listener).copied();
        let found = if flow.transport == Transport::Udp { None } else { self.streams.local_end(flow) };
        let local = found.or(listener).unwrap_or(NOWHERE);
        Ends { local, remote: flow.remote, server: None }
    }
}
