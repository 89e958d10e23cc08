//! Links between servers: one mutually authenticated TLS 1.3 connection per pair of servers, with frames.
//!
//! Owns dialling, accepting, framing, compression and budgets. Does not own what frames mean (the node).

pub mod connection;
pub mod frame;
pub mod hello;
pub mod links;
pub mod throttle;

pub use links::{LinkTimes, Links, Peer};

/// TLS application protocol of links; another version of the link protocol gets another name.
pub const ALPN: &[u8] = b"pairline-link/1";
