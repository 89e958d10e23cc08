//! The cases, one file a subject.

pub mod baresip;
pub mod hostile;
pub mod named;
pub mod sipp;
pub mod site;
pub mod start;

use std::net::SocketAddr;

/// SIP of pool *east* in the demo.
pub fn east() -> SocketAddr {
    SocketAddr::from(([127, 0, 1, 1], 5060))
}

/// SIP of pool *west* in the demo.
pub fn west() -> SocketAddr {
    SocketAddr::from(([127, 0, 2, 1], 5060))
}
