//! Tells the DNS who lives: pools as the node sees them, servers by their links.
//!
//! Owns asking the node and the links at an interval. Does not own the verdict.

use super::handle::NodeHandle;
use crate::dns::ZoneView;
use crate::link::Links;
use crate::tls::PeerIdentity;
use pairline_group::{PoolId, ServerId};
use pairline_node::command::{Actor, Command, Reply};
use pairline_topology::Server;
use std::collections::BTreeSet;
use std::time::Duration;

/// Asks again and again and gives the zone the answer. A node that does not answer changes nothing.
pub async fn follow(handle: NodeHandle, links: Links, me: ServerId, zone: ZoneView, every: Duration) {
    let mut times = tokio::time::interval(every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let linked: BTreeSet<PeerIdentity> = links.live().into_iter().map(|(_, peer)| peer).collect();
        let heard = |s: &Server| s.id == me || linked.contains(&PeerIdentity { pool: s.pool, server: s.id });
        let topology = zone.topology();
        // Of a pool with one server the node knows more than the link.
        let one_of_several = |s: &&Server| topology.servers_of(s.pool).len() > 1;
        zone.set_silent(topology.server.iter().filter(one_of_several).filter(|s| !heard(s)).map(|s| s.id).collect());
        let Ok(Reply::Pools(view)) = handle.command(Actor::Server, Command::PoolStatus).await else { continue };
        let dead: BTreeSet<PoolId> = view
            .pools
            .iter()
            .filter(|pool| !pool.alive)
            .filter_map(|pool| topology.pool_named(&pool.name).map(|p| p.id))
            .collect();
        zone.set_dead(dead);
    }
}
