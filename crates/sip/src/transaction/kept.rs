//! What is kept of requests whose transactions are over, so that the same request again is answered alike (Timer J, RFC 3261 §17.2.2)
//! or absorbed (Timer L, RFC 6026 §7.1).
//!
//! Owns the answers' bytes, which lie in blocks in the order in which they were given: a server that relays ten thousand messages a
//! second has given some hundred megabytes of them in half a minute, and each in memory of its own would be as many pieces that come back
//! cold. Has no timers, and is bounded by forgetting the oldest: whoever repeats a request after that is served again, which is
//! better than that somebody else is not served at all. Does not own what is kept.

use super::key::Key;
use crate::Millis;
use crate::flow::Flow;
use crate::hashed::Hashed;
use bytes::Bytes;
use std::collections::VecDeque;

/// Room for answers, on average of all that may be kept.
const BYTES_EACH: usize = 512;
/// Size of a block, in bytes; an answer that is larger has one of its own.
const BLOCK: usize = 64 * 1024;

/// One of them.
#[derive(Debug)]
struct Entry {
    key: Key,
    flow: Flow,
    end: Millis,
    /// The number of the block, and where in it the answer lies.
    block: u64,
    from: u32,
    length: u32,
}

/// All of a layer's.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Numbers of entries.
    numbers: Hashed<u64>,
    /// Oldest first, which end first.
    entries: VecDeque<Entry>,
    /// The number of the oldest entry, and of the oldest block.
    first: u64,
    first_block: u64,
    blocks: VecDeque<Vec<u8>>,
    /// A block that nobody needs, so that a server at work uses the same memory again.
    spare: Option<Vec<u8>>,
    bytes: usize,
}

impl Kept {
    /// Keeps an answer, or none where repetitions are absorbed, until `end`, which is no earlier than that of any before. At most
    /// `most` are kept.
    pub(super) fn keep(&mut self, key: Key, flow: Flow, answer: Option<&[u8]>, end: Millis, most: usize) {
        let answer = answer.unwrap_or_default();
        let room = most.saturating_mul(BYTES_EACH);
        while !self.entries.is_empty() && (self.entries.len() >= most || self.bytes + answer.len() > room) {
            self.forget_oldest();
        }
        let (block, from) = self.write(answer);
        self.bytes += answer.len();
        self.numbers.insert(key, self.first + self.entries.len() as u64);
        // Offsets within a block, and lengths of SIP messages, are far below 2^32.
        self.entries.push_back(Entry { key, flow, end, block, from: from as u32, length: answer.len() as u32 });
    }

    /// What the same request again is to be given: nothing if it is not kept, and else where the answer goes, and the answer unless the
    /// repetition is to be absorbed.
    pub(super) fn find(&self, key: Key, now: Millis) -> Option<(Flow, Option<Bytes>)> {
        let entry = self.entry(key).filter(|entry| entry.end > now)?;
        let block = self.blocks.get(usize::try_from(entry.block - self.first_block).ok()?)?;
        let answer = block.get(entry.from as usize..)?.get(..entry.length as usize)?;
        Some((entry.flow, (!answer.is_empty()).then(|| Bytes::copy_from_slice(answer))))
    }

    /// Whether it is kept.
    pub(super) fn has(&self, key: Key, now: Millis) -> bool {
        self.entry(key).is_some_and(|entry| entry.end > now)
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Millis) {
        while self.entries.front().is_some_and(|oldest| oldest.end <= now) {
            self.forget_oldest();
        }
        if self.entries.is_empty() {
            *self = Kept { first: self.first, ..Kept::default() };
        }
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of their answers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn entry(&self, key: Key) -> Option<&Entry> {
        let number = self.numbers.get(&key)?;
        self.entries.get(usize::try_from(number - self.first).ok()?)
    }

    /// Writes an answer behind the others: the block, and where in it.
    fn write(&mut self, answer: &[u8]) -> (u64, usize) {
        if self.blocks.back().is_none_or(|block| block.len() + answer.len() > BLOCK) {
            let block = self.spare.take().unwrap_or_else(|| Vec::with_capacity(BLOCK));
            self.blocks.push_back(block);
        }
        let number = self.first_block + self.blocks.len() as u64 - 1;
        let Some(block) = self.blocks.back_mut() else { return (number, 0) };
        let from = block.len();
        block.extend_from_slice(answer);
        (number, from)
    }

    /// The oldest goes, and with it the blocks that only older ones needed.
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        if self.numbers.get(&oldest.key) == Some(&self.first) {
            self.numbers.remove(&oldest.key);
        }
        self.first += 1;
        self.bytes -= oldest.length as usize;
        let needed = self.entries.front().map_or(oldest.block, |next| next.block);
        while self.first_block < needed {
            self.first_block += 1;
            self.spare = self.blocks.pop_front().filter(|block| block.capacity() <= BLOCK);
            if let Some(spare) = &mut self.spare {
                spare.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, BYTES_EACH, Kept};
    use crate::flow::Flow;

    fn flow(n: u128) -> Flow {
        Flow::udp(u16::try_from(n % 7).unwrap(), "192.0.2.1:5060".parse().unwrap())
    }

    /// An answer of its own, some of them larger than a block and some none.
    fn answer(n: u128) -> Option<Vec<u8>> {
        let length = match n % 11 {
            0 => 0,
            1 => BLOCK + usize::try_from(n).unwrap(),
            _ => usize::try_from(n * 37 % 900).unwrap() + 1,
        };
        (length > 0).then(|| n.to_le_bytes().into_iter().cycle().take(length).collect())
    }

    fn assert_kept(kept: &Kept, now: u64, numbers: std::ops::Range<u128>, of: u128) {
        for n in 0..of {
            let found = kept.find(n, now).map(|(flow, answer)| (flow, answer.map(|bytes| bytes.to_vec())));
            assert_eq!(found, numbers.contains(&n).then(|| (flow(n), answer(n))), "{n} at {now}");
            assert_eq!(kept.has(n, now), found.is_some());
        }
    }

    #[test]
    fn each_is_found_with_its_own_answer_until_its_end() {
        let mut kept = Kept::default();
        for n in 0..200_u128 {
            kept.keep(n, flow(n), answer(n).as_deref(), 1_000 + u64::try_from(n).unwrap(), 10_000);
        }
        assert_eq!(kept.bytes(), (0..200).filter_map(answer).map(|a| a.len()).sum::<usize>());
        for (now, first) in [(0, 0), (1_000, 1), (1_063, 64), (1_198, 199)] {
            // Whether or not it was told the time.
            assert_kept(&kept, now, first..200, 201);
            kept.expire(now);
            assert_kept(&kept, now, first..200, 201);
            assert_eq!(kept.len() as u128, 200 - first);
        }
        kept.expire(1_199);
        assert_eq!((kept.len(), kept.bytes(), kept.blocks.len(), kept.numbers.len()), (0, 0, 0, 0));
        kept.keep(5, flow(5), answer(5).as_deref(), 3_000, 10_000);
        assert_kept(&kept, 2_000, 5..6, 201);
    }

    #[test]
    fn neither_number_nor_bytes_pass_their_bound_and_memory_is_used_again() {
        let (mut kept, small) = (Kept::default(), vec![7; BYTES_EACH / 2]);
        for n in 0..10_000_u128 {
            kept.keep(n, flow(n), Some(&small), 1_000, 600);
            assert!(kept.blocks.len() <= 600 * BYTES_EACH / BLOCK + 2, "{} blocks", kept.blocks.len());
        }
        assert_eq!((kept.len(), kept.numbers.len()), (600, 600));
        assert!(kept.has(9_400, 0) && !kept.has(9_399, 0));
        let large = vec![7; BYTES_EACH * 200];
        for n in 10_000..10_010_u128 {
            kept.keep(n, flow(n), Some(&large), 1_000, 600);
            assert!(kept.bytes() <= 600 * BYTES_EACH);
        }
        assert_eq!(kept.len(), 3);
        // One that is larger than all of the room is kept alone.
        kept.keep(1, flow(1), Some(&vec![7; BYTES_EACH * 601]), 1_000, 600);
        assert_eq!((kept.len(), kept.has(1, 0)), (1, true));
    }

    #[test]
    fn the_same_key_again_is_the_later_one() {
        let mut kept = Kept::default();
        kept.keep(3, flow(0), Some(b"old"), 10, 100);
        kept.keep(4, flow(0), Some(b"other"), 15, 100);
        kept.keep(3, flow(0), Some(b"new"), 20, 100);
        kept.expire(10);
        assert_eq!(kept.find(3, 10), Some((flow(0), Some("new".into()))));
        kept.expire(15);
        assert!(kept.has(3, 15));
    }
}
