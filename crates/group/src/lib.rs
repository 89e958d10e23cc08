//! The unit of replication: groups of records with one log each, and the six things a group can do
//! (replicate, ship, follow, archive, verify, promote).
//!
//! Owns records, entries, positions, epochs, consensus inside a pool, shipping between paired pools,
//! digests, handover, promotion and fencing. Never contains SIP, sockets, files, clocks, randomness,
//! or any idea of what a record means.

pub mod codec;
pub mod config;
mod consensus;
mod dedup;
mod digest;
pub mod entry;
pub mod frame;
pub mod host;
pub mod ids;
mod instance;
pub mod io;
pub mod lineage;
pub mod placement;
#[cfg(feature = "planted")]
pub mod planted;
pub mod record;
mod retained;
mod shadow;
mod ship;
mod state;
pub mod tail;
mod views;

pub use config::{HostConfig, Limits, Others};
pub use consensus::{ReplicaBody, ReplicaId, ReplicaItem, ReplicaMessage};
pub use entry::{Body, ChainHash, Effect, Entry, Handover, OpId, Promote, StepRef};
pub use host::{Host, RecoverError};
pub use ids::{Epoch, GroupId, LinkId, Millis, PoolId, Position, ServerId, Ticket};
pub use io::{HostInput, HostOutput};
pub use lineage::LineageItem;
pub use record::{Class, Key, Kind, Record};
