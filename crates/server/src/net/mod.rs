//! SIP transports: datagrams in batches, streams with framing and limits.
//!
//! Owns sockets and what happens to bytes before the node sees them. Knows nothing of SIP beyond framing.

pub mod accept;
pub mod context;
pub mod dial;
pub mod mmsg;
pub mod peer_names;
mod sources;
pub mod stream;
pub mod streams;
pub mod tally;
pub mod tcp;
pub mod udp;

pub use context::Context;
pub use streams::{StreamLimits, Streams};
