//! HA1s that were opened lately, so that the cipher is not asked again for a credential that has not changed.
//!
//! Owns the table and its bound. A credential is known by its record's version, so a new password is never answered with an old
//! HA1. Does not own the credential (`records`).

use pairline_group::{GroupId, Position};
use pairline_sip::auth::Algorithm;
use pairline_sip::hashed::Hashed;

/// Most users; then all are forgotten.
const MOST: usize = 1 << 18;

/// What was opened of one credential.
#[derive(Clone)]
struct Known {
    group: GroupId,
    version: Position,
    algorithm: Algorithm,
    ha1: Box<[u8]>,
}

/// The table. Printed without its secrets.
#[derive(Clone, Default)]
pub struct Opened {
    users: Hashed<Known>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("users", &self.users.len()).finish()
    }
}

/// A user's place: a hash that nobody can find a second user for.
fn place(user: &str) -> u128 {
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&blake3::hash(user.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

impl Opened {
    /// The HA1 of a user whose credential has this version.
    pub fn get(&self, user: &str, group: GroupId, version: Position, algorithm: Algorithm) -> Option<&[u8]> {
        let known = self.users.get(&place(user))?;
        let same = known.group == group && known.version == version && known.algorithm == algorithm;
        same.then_some(&*known.ha1)
    }

    /// Remembers one.
    pub fn put(&mut self, user: &str, group: GroupId, version: Position, algorithm: Algorithm, ha1: &[u8]) {
        if self.users.len() >= MOST {
            self.users.clear();
        }
        self.users.insert(place(user), Known { group, version, algorithm, ha1: ha1.into() });
    }
}
