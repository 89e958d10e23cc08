//! SIP transports: datagrams in batches, streams with framing and limits.
//!
//! Owns sockets and what happens to bytes before the node sees them. Knows nothing of SIP beyond framing.

pub mod accept;
mod allowance;
pub mod context;
pub mod dial;
mod door;
pub mod keep_alive;
mod memory;
pub mod mmsg;
pub mod origins;
pub mod peer_names;
pub mod sources;
pub mod stream;
pub mod streams;
pub mod tally;
pub mod tcp;
pub mod udp;
mod upgrade;
mod websocket;

pub use context::Context;
pub use streams::{StreamLimits, Streams};
