//! What every stream connection needs.
//!
//! Owns nothing of it: everything here is shared.

use super::streams::Streams;
use crate::link::throttle::Throttle;
use crate::shell::counters::Counters;
use crate::shell::events::EventHub;
use crate::shell::inbox::Inbox;
use crate::tls::SipTls;
use std::sync::Arc;

/// What every stream connection needs; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The table.
    pub streams: Arc<Streams>,
    /// TLS.
    pub tls: Arc<SipTls>,
    /// The node's input.
    pub inbox: Inbox,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Events.
    pub events: EventHub,
    /// Keeps events of one kind about one peer apart in time.
    pub throttle: Arc<Throttle>,
}
