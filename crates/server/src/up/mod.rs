//! `pairline up`: a deployment on this machine, each server its own process.
//!
//! Owns creating and recognising the data folder, starting and stopping the servers, and the stream of readable lines.
//! Speaks to the servers through the admin API only.

pub mod children;
pub mod clients;
pub mod create;
pub mod greeting;
pub mod layout;
pub mod ports;
pub mod program;
pub mod ready;
pub mod run;
pub mod stream;
pub mod users;

pub use run::{UpError, listen_too, run};

use pairline_topology::{Server, Topology};

/// The short word for a server in lines for people: its pool's name where that says which it is, else its own first label
/// before it (`fe2.east`).
pub fn label(topology: &Topology, server: &Server) -> String {
    let pool = topology.pool_name(server.pool);
    match topology.servers_of(server.pool).len() {
        ..=1 => pool,
        _ => format!("{}.{pool}", server.name.split('.').next().unwrap_or(&server.name)),
    }
}
