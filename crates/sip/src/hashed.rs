//! Tables whose keys are hashes already.
//!
//! Owns their hasher, which is the same in every process.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by 128-bit hashes that nobody can choose. Never iterated but to remove, so its order cannot leak into behaviour.
pub type Hashed<V> = HashMap<u128, V, BuildHasherDefault<AsItIs>>;

/// Takes a key's own bits.
#[derive(Clone, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
