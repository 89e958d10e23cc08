//! The unit of replication: groups of records with one log each, and the six things a group can do
//! (replicate, ship, follow, archive, verify, promote).
//!
//! Owns records, entries, positions, epochs, consensus inside a pool, shipping between paired pools,
//! digests, handover, promotion and fencing. Never contains SIP, sockets, files, clocks, randomness,
//! or any idea of what a record means.

pub mod entry;
pub mod ids;
pub mod io;
pub mod record;

pub use entry::{Body, ChainHash, Effect, Entry, Handover, OpId, Promote, StepRef};
pub use ids::{Epoch, GroupId, LinkId, Millis, PoolId, Position, ServerId, Ticket};
pub use io::{HostInput, HostOutput};
pub use record::{Class, Key, Kind, Record};
