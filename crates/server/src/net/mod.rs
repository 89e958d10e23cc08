//! SIP transports: datagrams in batches, streams with framing and limits.
//!
//! Owns sockets and what happens to bytes before the node sees them. Knows nothing of SIP beyond framing.

pub mod mmsg;
pub mod stream;
pub mod streams;
pub mod tcp;
pub mod udp;

pub use streams::{StreamLimits, Streams};
