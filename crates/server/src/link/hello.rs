//! The first frame in each direction: who speaks, which version of the protocol, and which feature levels.
//!
//! Owns its wire form (version 1, frozen by a test; what was added to its end stands behind what older builds read). The identity in it must be the certificate's; it is there so that a
//! mismatch is named rather than guessed.

use crate::tls::PeerIdentity;
use pairline_group::{PoolId, ServerId};
use pairline_topology::policy_features::LOWEST;

/// Version of the link protocol that this build speaks.
pub const VERSION: u8 = 1;
const MAGIC: &[u8; 4] = b"PLNK";
/// Length of the frame.
pub const LENGTH: usize = 15;
/// Length of what builds wrote that knew of no feature levels; they know the lowest.
const WITHOUT_LEVELS: usize = 11;

/// The feature levels that a server can work at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The one that its deployment uses: what is below it is not understood everywhere.
    pub lowest: u16,
    /// The highest that its build knows.
    pub highest: u16,
}

/// Why the other end's hello is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a hello.
    #[error("the peer does not speak the link protocol")]
    NotHello,
    /// Another version.
    #[error("the peer speaks version {0} of the link protocol, this build speaks {VERSION}")]
    Version(u8),
    /// No feature level is known to both.
    #[error("the peer's build knows feature levels up to {}, and the deployment uses {} here: put the newer program in its place there", .theirs.highest, .ours.lowest)]
    Older {
        /// This server's.
        ours: Levels,
        /// The peer's.
        theirs: Levels,
    },
    /// The same, the other way round.
    #[error("the peer's deployment uses feature level {}, and this build knows up to {}: put the newer program in its place here", .theirs.lowest, .ours.highest)]
    Newer {
        /// This server's.
        ours: Levels,
        /// The peer's.
        theirs: Levels,
    },
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
pub fn encode(me: PeerIdentity, levels: Levels) -> [u8; LENGTH] {
    let mut hello = [0_u8; LENGTH];
    hello[..4].copy_from_slice(MAGIC);
    hello[4] = VERSION;
    hello[5..7].copy_from_slice(&me.pool.0.to_be_bytes());
    hello[7..11].copy_from_slice(&me.server.0.to_be_bytes());
    hello[11..13].copy_from_slice(&levels.lowest.to_be_bytes());
    hello[13..].copy_from_slice(&levels.highest.to_be_bytes());
    hello
}

/// Checks the other end's hello against its certificate, and its levels against ours; gives the highest that it knows.
///
/// # Errors
/// [`HelloError`].
pub fn check(hello: &[u8], certified: PeerIdentity, ours: Levels) -> Result<u16, HelloError> {
    if hello.len() < 5 || !hello.starts_with(MAGIC) {
        return Err(HelloError::NotHello);
    }
    if hello[4] != VERSION {
        return Err(HelloError::Version(hello[4]));
    }
    let (body, levels): (&[u8], &[u8]) = match hello.len() {
        LENGTH | WITHOUT_LEVELS => hello.split_at(WITHOUT_LEVELS),
        _ => return Err(HelloError::NotHello),
    };
    let said = PeerIdentity {
        pool: PoolId(u16::from_be_bytes([body[5], body[6]])),
        server: ServerId(u32::from_be_bytes([body[7], body[8], body[9], body[10]])),
    };
    if said != certified {
        return Err(HelloError::Identity { said, certified });
    }
    let theirs = match levels {
        [a, b, c, d] => Levels { lowest: u16::from_be_bytes([*a, *b]), highest: u16::from_be_bytes([*c, *d]) },
        _ => Levels { lowest: LOWEST, highest: LOWEST },
    };
    if theirs.highest < ours.lowest {
        return Err(HelloError::Older { ours, theirs });
    }
    if ours.highest < theirs.lowest {
        return Err(HelloError::Newer { ours, theirs });
    }
    Ok(theirs.highest)
}

#[cfg(test)]
mod tests {
    //! Levels that have nothing in common are told by both; what is no hello is none. The wire form is frozen in `tests/links.rs`.

    use super::*;

    const ME: PeerIdentity = PeerIdentity { pool: PoolId(2), server: ServerId(0x0102_0304) };
    const ONE: Levels = Levels { lowest: 1, highest: 1 };

    #[test]
    fn a_build_that_knew_of_no_levels_knows_the_lowest() {
        let old = &encode(ME, ONE)[..11];
        assert_eq!(check(old, ME, Levels { lowest: 1, highest: 2 }), Ok(1));
        assert!(matches!(check(old, ME, Levels { lowest: 2, highest: 2 }), Err(HelloError::Older { .. })));
    }

    #[test]
    fn two_builds_work_together_until_the_newer_level_is_in_force() {
        let (older, newer) = (ONE, Levels { lowest: 1, highest: 2 });
        assert_eq!(check(&encode(ME, newer), ME, older), Ok(2));
        assert_eq!(check(&encode(ME, older), ME, newer), Ok(1));
        let raised = Levels { lowest: 2, highest: 2 };
        let told = check(&encode(ME, raised), ME, older).unwrap_err();
        assert!(told.to_string().contains("uses feature level 2, and this build knows up to 1"), "{told}");
        let told = check(&encode(ME, older), ME, raised).unwrap_err();
        assert!(told.to_string().contains("knows feature levels up to 1, and the deployment uses 2"), "{told}");
    }

    #[test]
    fn anything_else_is_no_hello() {
        let hello = encode(ME, ONE);
        assert_eq!(check(&hello[..14], ME, ONE), Err(HelloError::NotHello));
        assert_eq!(check(b"GET / HTTP/1.1\r\n", ME, ONE), Err(HelloError::NotHello));
        let other = PeerIdentity { server: ServerId(9), ..ME };
        assert!(matches!(check(&hello, other, ONE), Err(HelloError::Identity { .. })));
        let version = [b"PLNK\x07".as_slice(), &hello[5..]].concat();
        assert_eq!(check(&version, ME, ONE), Err(HelloError::Version(7)));
    }
}
