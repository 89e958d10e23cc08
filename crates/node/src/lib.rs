//! One deterministic node: the pure rooms composed into a value that eats inputs and emits outputs.
//!
//! Owns the composition, the executor for services and the translation between commands and the rooms. Has no rules of
//! replication, failover or SIP of its own; no I/O, no clock, no tokio.

pub mod admin;
mod admission;
pub mod checkpoints;
pub mod command;
pub mod config;
pub mod copies;
pub mod core;
pub mod counts;
pub mod cx;
pub mod document;
pub mod event;
pub mod executor;
mod fence_tries;
pub mod figures;
mod host_side;
pub mod io;
pub mod knows;
pub mod level;
pub mod modes;
pub mod neighbours;
#[cfg(feature = "next")]
mod next;
mod node;
pub mod onward;
pub mod orders;
pub mod parcels;
pub mod peer;
mod peer_side;
pub mod place;
mod population;
mod problem;
pub mod procedures;
pub mod publish;
pub mod quick;
mod reads;
mod rng;
mod sign_in;
mod sip_side;
mod stand_ins;
mod start;
mod subscribers;
mod traces;
pub mod traffic;
pub mod view;
pub mod wakes;
mod witness;

pub use config::{NodeConfig, Secrets};
pub use node::Node;
