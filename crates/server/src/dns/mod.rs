//! The embedded DNS for demonstrations, and the resolver of next hops.
//!
//! Owns names to addresses in both directions of asking. Does not own which names a deployment has (the topology) nor the
//! choice among answers (RFC 3263 in `pairline_sip`).

pub mod cache;
pub mod client;
pub mod resolver;
pub mod server;
pub mod targets;
pub mod zone;

pub use resolver::Resolver;
pub use zone::ZoneView;
