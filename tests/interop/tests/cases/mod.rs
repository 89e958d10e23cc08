//! The cases, one file a subject.

pub mod baresip;
pub mod browser;
pub mod capture;
pub mod commands;
pub mod disk;
pub mod hostile;
pub mod kept;
pub mod kill;
pub mod life;
pub mod linphone;
pub mod named;
pub mod outbound_proxy;
pub mod pairing;
pub mod peer;
pub mod scanned;
pub mod secrets;
pub mod sipp;
pub mod sipsak;
pub mod site;
pub mod start;
pub mod transports;
pub mod wrong;

pub use hostile::serves as raw_serves;

use std::net::SocketAddr;

/// SIP of pool *east* in the demo.
pub fn east() -> SocketAddr {
    SocketAddr::from(([127, 0, 1, 1], 5060))
}

/// SIP of pool *west* in the demo.
pub fn west() -> SocketAddr {
    SocketAddr::from(([127, 0, 2, 1], 5060))
}

/// SIP over TLS of the same pool.
pub fn tls(pool: SocketAddr) -> SocketAddr {
    SocketAddr::new(pool.ip(), pool.port() + 1)
}
