//! The witness of a pool of two, at the node: a server that votes in all of its pool's groups, and holds and serves nothing.
//!
//! Owns what such a server does not do. How it learns of a new document is `publish`'s; votes, and why nothing is lost by them, are
//! replication's.

use crate::command::{Command, Problem};
use crate::core::Core;
use pairline_group::ServerId;

/// Whether this server is its pool's witness.
pub fn is_here(core: &Core) -> bool {
    is(core, core.config.server)
}

/// Whether a server is a witness.
pub fn is(core: &Core, server: ServerId) -> bool {
    core.topology.server(server).is_some_and(pairline_topology::Server::is_witness)
}

/// Refuses what a witness does not do, with who does.
pub fn admits(core: &Core, command: &Command) -> Result<(), Problem> {
    let of_servers = matches!(
        command,
        Command::PoolHealth { .. }
            | Command::ServerStatus
            | Command::ServerDrain { .. }
            | Command::ServerUndrain { .. }
            | Command::ServerRestart { .. }
            | Command::TopologyShow
            | Command::FenceAnswer { .. }
    );
    if of_servers || !is_here(core) {
        return Ok(());
    }
    let front_ends: Vec<&str> = core.topology.servers_of(core.pool).iter().map(|s| s.name.as_str()).collect();
    Err(Problem::new(
        409,
        "witness",
        "this server is a witness",
        "a witness votes in its pool's groups, and has neither users nor copies",
        format!("ask a Front End with --server: {}", front_ends.join(" or ")),
    ))
}
