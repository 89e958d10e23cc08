//! Errands of the node that need waiting: resolving next hops, asking whether a server lives, following the topology.
//!
//! Owns their bounds. Does not own the answers' meaning.

use super::counters::Counters;
use super::fence;
use super::inbox::Inbox;
use super::ports::Errand;
use super::push::Gateway;
use crate::dns::{Resolver, ZoneView};
use crate::link::{Links, Peer};
use crate::net::Streams;
use crate::tls::{Credentials, PeerIdentity};
use bytes::Bytes;
use pairline_node::command::{Actor, Command};
use pairline_node::io::Input;
use pairline_topology::Topology;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Locations in progress at one time; more wait in the queue.
const RESOLVING: usize = 128;

/// What errands need.
#[derive(Clone)]
pub struct Upkeep {
    /// The node's input.
    pub inbox: Inbox,
    /// Resolves next hops.
    pub resolver: Resolver,
    /// The DNS zone, which holds the topology in force.
    pub zone: ZoneView,
    /// Links follow the topology.
    pub links: Links,
    /// The bound on stream connections follows it too.
    pub streams: Arc<Streams>,
    /// For asking other servers.
    pub credentials: Arc<Credentials>,
    /// Where orders to wake clients go.
    pub push: Option<Gateway>,
    /// What became of them.
    pub counters: Arc<Counters>,
}

/// The servers that this one is linked with: all others of the deployment (every server follows the management store, and
/// users of any pool are reached through their pool). Only a witness has to do with its own pool and with no other.
pub fn peers(topology: &Topology, me: PeerIdentity) -> Vec<Peer> {
    let alone = topology.server(me.server).is_some_and(pairline_topology::Server::is_witness);
    topology
        .server
        .iter()
        .filter(|s| s.pool == me.pool || !(alone || s.is_witness()))
        .map(|s| Peer { identity: PeerIdentity { pool: s.pool, server: s.id }, address: s.link, name: s.name.clone() })
        .filter(|peer| peer.identity != me)
        .collect()
}

/// Stream connections that a server may have at most.
pub fn most_connections(topology: &Topology) -> usize {
    usize::try_from(topology.policies.limits.connections_per_server).unwrap_or(usize::MAX)
}

impl Upkeep {
    /// Runs errands until the node has ended.
    pub async fn run(self, mut errands: mpsc::Receiver<Errand>) {
        let resolving = Arc::new(Semaphore::new(RESOLVING));
        while let Some(errand) = errands.recv().await {
            match errand {
                Errand::Resolve(id, uri) => {
                    let Ok(place) = resolving.clone().acquire_owned().await else { return };
                    let upkeep = self.clone();
                    tokio::spawn(async move {
                        upkeep.resolve(id, uri).await;
                        drop(place);
                    });
                }
                Errand::Fence(id, admin, order) => {
                    let upkeep = self.clone();
                    tokio::spawn(async move { upkeep.fence(id, admin, &order).await });
                }
                Errand::Wake(wake) => {
                    if let Some(gateway) = &self.push {
                        gateway.post(&wake, &self.counters);
                    }
                }
                Errand::Topology(topology) => self.follow(*topology),
            }
        }
    }

    async fn resolve(&self, id: u64, uri: Bytes) {
        let addresses = self.resolver.locate(&uri).await;
        // If the node has ended, nobody asks any more.
        let _ = self.inbox.control(Input::Resolved { id, addresses }).await;
    }

    async fn fence(&self, id: u64, admin: SocketAddr, order: &Command) {
        let topology = self.zone.topology();
        let server = topology.server.iter().find(|s| s.admin == admin);
        let answer = match server {
            Some(s) => {
                let expected = PeerIdentity { pool: s.pool, server: s.id };
                fence::order(&self.credentials, expected, admin, order).await
            }
            None => fence::Answer::Silence,
        };
        let (alive, fenced) = (answer != fence::Answer::Silence, answer == fence::Answer::Fenced);
        let command = Command::FenceAnswer { id, alive, fenced };
        // As above.
        let _ = self.inbox.control(Input::Admin { request: 0, actor: Actor::Server, command }).await;
    }

    fn follow(&self, topology: Topology) {
        let level = pairline_node::level::in_force(&topology);
        self.links.set_peers(peers(&topology, self.credentials.identity()), level);
        self.streams.set_connections(most_connections(&topology));
        self.zone.set_topology(Arc::new(topology));
    }
}
