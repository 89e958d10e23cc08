//! The node's random numbers: one seeded generator, so that a run can be repeated.
//!
//! Owns the generator. Unpredictability in production comes from the seed, which the shell draws from the system.

/// Seeded generator (ChaCha-free: BLAKE3 in counter mode, 64 bits at a time, so that outputs do not reveal the state).
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u8; 32],
    counter: u64,
    block: [u8; 64],
    used: usize,
}

impl Rng {
    /// A generator for a seed of 32 bytes.
    pub fn new(seed: [u8; 32]) -> Rng {
        Rng { key: seed, counter: 0, block: [0; 64], used: 64 }
    }

    /// Next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        if self.used >= self.block.len() {
            let mut hasher = blake3::Hasher::new_keyed(&self.key);
            hasher.update(&self.counter.to_le_bytes());
            hasher.finalize_xof().fill(&mut self.block);
            self.counter += 1;
            self.used = 0;
        }
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// Next 128 random bits.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// One step of SplitMix64, for choices that need no secrecy (the simulator's task order).
pub fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
