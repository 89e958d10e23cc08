//! A set of hashes that forgets: what has come before, in a few bits each.
//!
//! Owns the bits and their age. May have a hash that was not added, never lacks one that was added lately. What is remembered, and what follows
//! from it, is `door`'s affair.

use std::time::{Duration, Instant};

/// How long a hash is remembered, at least, and at most twice as long: a client repeats for 32 s (64 × T1, RFC 3261 §17.1.1.2).
const REMEMBERED: Duration = Duration::from_secs(32);

/// With one in so many of its bits set a half is full: one in sixteen of all other hashes seems to be in it.
const FILLED: usize = 4;

/// The set: two halves, of which the older is forgotten as a whole.
pub struct Memory {
    young: Half,
    old: Half,
    since: Instant,
}

impl Memory {
    /// Nothing has come yet; `bits` for each half, a power of two from 64 on.
    pub fn new(bits: u64, now: Instant) -> Memory {
        Memory { young: Half::new(bits), old: Half::new(bits), since: now }
    }

    /// Time passes.
    pub fn pass(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= REMEMBERED {
            self.since = now;
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }

    /// Whether what it says of a hash tells anything: something is remembered, and not so much that a good part of all hashes has its bits, as
    /// in a flood.
    pub fn tells(&self) -> bool {
        let halves = [&self.young, &self.old];
        halves.iter().any(|half| half.set > 0) && halves.iter().all(|half| half.set * FILLED <= half.words.len() * 64)
    }

    /// Whether it has been added, or something with the same bits.
    pub fn has(&self, hash: u64) -> bool {
        self.young.has(hash) || self.old.has(hash)
    }

    /// Remembers it from now on.
    pub fn add(&mut self, hash: u64) {
        self.young.add(hash);
    }
}

/// A set of hashes of which two bits each are kept.
struct Half {
    words: Vec<u64>,
    /// Bits that are set.
    set: usize,
}

impl Half {
    fn new(bits: u64) -> Half {
        Half { words: vec![0; usize::try_from(bits / 64).unwrap_or_default().max(1)], set: 0 }
    }

    fn bits(&self, hash: u64) -> [(usize, u64); 2] {
        let words = self.words.len();
        [hash, hash >> 32].map(|part| {
            let word = usize::try_from((part & u64::from(u32::MAX)) / 64).unwrap_or_default();
            (word % words, 1 << (part % 64))
        })
    }

    fn has(&self, hash: u64) -> bool {
        self.bits(hash).iter().all(|(word, bit)| self.words[*word] & bit != 0)
    }

    fn add(&mut self, hash: u64) {
        for (word, bit) in self.bits(hash) {
            self.set += usize::from(self.words[word] & bit == 0);
            self.words[word] |= bit;
        }
    }

    fn clear(&mut self) {
        // Pages that nothing was written to are none of this process yet.
        if std::mem::take(&mut self.set) > 0 {
            self.words.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    //! What was added is known for as long as it may be repeated, and not for ever; hardly anything else is.

    use super::*;
    use std::hash::{BuildHasher as _, RandomState};

    #[test]
    fn what_was_added_is_known_for_as_long_as_it_may_be_repeated() {
        let (now, mut memory) = (Instant::now(), Memory::new(1 << 16, Instant::now()));
        assert!(!memory.tells() && !memory.has(1));
        memory.pass(now + Duration::from_secs(31));
        memory.add(1);
        memory.pass(now + Duration::from_secs(33));
        assert!(memory.has(1), "from one half to the other");
        memory.pass(now + Duration::from_secs(60));
        assert!(memory.has(1) && memory.tells());
        memory.pass(now + Duration::from_secs(66));
        assert!(!memory.has(1) && !memory.tells());
    }

    #[test]
    fn a_flood_fills_it_until_it_tells_nothing_and_it_empties_again() {
        let (now, keys) = (Instant::now(), RandomState::new());
        let mut memory = Memory::new(1 << 12, now);
        (0..10).for_each(|_| memory.add(keys.hash_one(0)));
        assert!(memory.tells(), "one that is added again takes no more room");
        (0..2_000).for_each(|n| memory.add(keys.hash_one(n)));
        assert!(!memory.tells() && memory.has(keys.hash_one(0)));
        memory.pass(now + Duration::from_secs(33));
        assert!(!memory.tells(), "the older half is as full");
        memory.pass(now + Duration::from_secs(66));
        memory.add(keys.hash_one(0));
        assert!(memory.tells());
    }

    #[test]
    fn few_others_are_taken_for_what_was_added() {
        let (keys, mut memory) = (RandomState::new(), Memory::new(1 << 20, Instant::now()));
        (0..20_000).for_each(|n| memory.add(keys.hash_one(n)));
        assert!((0..20_000).all(|n| memory.has(keys.hash_one(n))));
        let wrong = (20_000..120_000).filter(|n| memory.has(keys.hash_one(n))).count();
        assert!(wrong < 500, "about one in seven hundred is expected: {wrong}");
    }
}
