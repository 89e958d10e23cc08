//! Tells the DNS which pools live, as the node sees them.
//!
//! Owns asking the node at an interval. Does not own the verdict.

use super::handle::NodeHandle;
use crate::dns::ZoneView;
use pairline_group::PoolId;
use pairline_node::command::{Actor, Command, Reply};
use std::collections::BTreeSet;
use std::time::Duration;

/// Asks again and again and gives the zone the answer. A node that does not answer changes nothing.
pub async fn follow(handle: NodeHandle, zone: ZoneView, every: Duration) {
    let mut times = tokio::time::interval(every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let Ok(Reply::Pools(view)) = handle.command(Actor::Server, Command::PoolStatus).await else { continue };
        let topology = zone.topology();
        let dead: BTreeSet<PoolId> = view
            .pools
            .iter()
            .filter(|pool| !pool.alive)
            .filter_map(|pool| topology.pool_named(&pool.name).map(|p| p.id))
            .collect();
        zone.set_dead(dead);
    }
}
