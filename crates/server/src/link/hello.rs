//! The first frame in each direction: who speaks, and which version of the protocol.
//!
//! Owns its wire form (version 1, frozen by a test). The identity in it must be the certificate's; it is there so that a
//! mismatch is named rather than guessed.

use crate::tls::PeerIdentity;
use pairline_group::{PoolId, ServerId};

/// Version of the link protocol that this build speaks.
pub const VERSION: u8 = 1;
const MAGIC: &[u8; 4] = b"PLNK";
/// Length of the frame.
pub const LENGTH: usize = 11;

/// Why the other end's hello is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a hello.
    #[error("the peer does not speak the link protocol")]
    NotHello,
    /// Another version.
    #[error("the peer speaks version {0} of the link protocol, this build speaks {VERSION}")]
    Version(u8),
    /// It names somebody else than its certificate.
    #[error("the peer says that it is pool {} server {}, its certificate says pool {} server {}", .said.pool.0, .said.server.0, .certified.pool.0, .certified.server.0)]
    Identity {
        /// What the hello says.
        said: PeerIdentity,
        /// What the certificate says.
        certified: PeerIdentity,
    },
}

/// Our hello.
pub fn encode(me: PeerIdentity) -> [u8; LENGTH] {
    let mut hello = [0_u8; LENGTH];
    hello[..4].copy_from_slice(MAGIC);
    hello[4] = VERSION;
    hello[5..7].copy_from_slice(&me.pool.0.to_be_bytes());
    hello[7..].copy_from_slice(&me.server.0.to_be_bytes());
    hello
}

/// Checks the other end's hello against its certificate.
///
/// # Errors
/// [`HelloError`].
pub fn check(hello: &[u8], certified: PeerIdentity) -> Result<(), HelloError> {
    if hello.len() < 5 || !hello.starts_with(MAGIC) {
        return Err(HelloError::NotHello);
    }
    if hello[4] != VERSION {
        return Err(HelloError::Version(hello[4]));
    }
    let body: &[u8; LENGTH] = hello.try_into().map_err(|_| HelloError::NotHello)?;
    let said = PeerIdentity {
        pool: PoolId(u16::from_be_bytes([body[5], body[6]])),
        server: ServerId(u32::from_be_bytes([body[7], body[8], body[9], body[10]])),
    };
    if said == certified { Ok(()) } else { Err(HelloError::Identity { said, certified }) }
}
