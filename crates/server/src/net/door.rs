//! The door of a UDP listener: which calls that find no room are told so.
//!
//! Owns the memory of calls that were let in: what may repeat one of them is not answered here, since its answer is on its way and must be the
//! only one. Whether there is room is `shell::lanes`' affair.

use bytes::Bytes;
use pairline_sip::flow::Flow;
use pairline_sip::glance;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Seconds after which who is refused here may come again: at least, and spread over so many.
const RETRY_AFTER: (u64, u64) = (2, 8);
/// How long a call that was let in is remembered, at least, and at most twice as long: a client repeats for 32 s (64 × T1, RFC 3261
/// §17.1.1.2).
const REMEMBERED: Duration = Duration::from_secs(32);
/// Bits of each half of the memory: with 10,000 calls a second at most one in 25 of the others is taken for a repetition, and let
/// fall where there is no room.
const BITS: u64 = 1 << 22;

/// One listener's.
pub struct Door {
    keys: RandomState,
    young: Half,
    old: Half,
    since: Instant,
    /// Calls that came for the first time, of this receive.
    fresh: Vec<u64>,
    /// Refusals so far; spreads the time after which they may come again.
    refused: u64,
}

impl Door {
    /// Nobody has come yet.
    pub fn new(now: Instant) -> Door {
        let (young, old) = (Half::new(), Half::new());
        Door { keys: RandomState::new(), young, old, since: now, fresh: Vec::new(), refused: 0 }
    }

    /// A receive begins.
    pub fn begin(&mut self, now: Instant) {
        self.fresh.clear();
        if now.saturating_duration_since(self.since) >= REMEMBERED {
            self.since = now;
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }

    /// A call is to be let in, if there is room.
    pub fn comes(&mut self, from: SocketAddr, call: &[u8]) {
        let Some(hash) = self.hash(from, call) else { return };
        if !self.young.has(hash) && !self.old.has(hash) {
            self.fresh.push(hash);
        }
        self.young.add(hash);
    }

    /// There was no room for a call of this receive: the refusal, and where it goes; nothing for what may repeat one that was let in.
    pub fn turns_back(&mut self, flow: Flow, call: &[u8]) -> Option<(SocketAddr, Bytes)> {
        let hash = self.hash(flow.remote, call)?;
        if !self.fresh.contains(&hash) {
            return None;
        }
        self.refused += 1;
        let header = format!("Retry-After: {}\r\n", RETRY_AFTER.0 + self.refused % RETRY_AFTER.1);
        let (to, answer) = glance::refusal(call, flow, 500, "Server Busy", header.as_bytes())?;
        Some((to.remote, answer))
    }

    /// By the source and the top Via, which a repetition has unchanged (RFC 3261 §17.1.1.2). `None` if it cannot be answered.
    fn hash(&self, from: SocketAddr, call: &[u8]) -> Option<u64> {
        Some(self.keys.hash_one((from, glance::top_via(call)?.raw())))
    }
}

/// A set of hashes of which two bits each are kept: may have one that was not added, never lacks one that was.
struct Half {
    words: Vec<u64>,
    empty: bool,
}

impl Half {
    fn new() -> Half {
        Half { words: vec![0; usize::try_from(BITS / 64).unwrap_or_default()], empty: true }
    }

    fn bits(hash: u64) -> [(usize, u64); 2] {
        [hash, hash >> 32].map(|part| {
            let bit = part % BITS;
            (usize::try_from(bit / 64).unwrap_or_default(), 1 << (bit % 64))
        })
    }

    fn has(&self, hash: u64) -> bool {
        Self::bits(hash).iter().all(|(word, bit)| self.words[*word] & bit != 0)
    }

    fn add(&mut self, hash: u64) {
        self.empty = false;
        for (word, bit) in Self::bits(hash) {
            self.words[word] |= bit;
        }
    }

    fn clear(&mut self) {
        // Pages that nothing was written to are none of this process yet.
        if !std::mem::replace(&mut self.empty, true) {
            self.words.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Who finds no room is told once; who was let in is not told anything by the door.

    use super::*;

    fn call(branch: usize) -> Vec<u8> {
        format!(
            "INVITE sip:bob@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch};rport\r\nFrom: <sip:a@x>;tag=1\r\nTo: \
             <sip:bob@x>\r\nCall-ID: {branch}\r\nCSeq: 1 INVITE\r\n\r\n"
        )
        .into_bytes()
    }

    fn flow() -> Flow {
        Flow::udp(0, "192.0.2.1:5060".parse().unwrap())
    }

    #[test]
    fn a_call_that_finds_no_room_is_told_when_to_come_again() {
        let mut door = Door::new(Instant::now());
        door.comes(flow().remote, &call(1));
        let (to, answer) = door.turns_back(flow(), &call(1)).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(to, flow().remote);
        assert!(answer.starts_with("SIP/2.0 500 Server Busy\r\n") && answer.contains("\r\nRetry-After: "), "{answer}");
        door.comes(flow().remote, b"INVITE without anything\r\n\r\n");
        assert!(door.turns_back(flow(), b"INVITE without anything\r\n\r\n").is_none());
    }

    #[test]
    fn what_repeats_a_call_is_not_refused_for_as_long_as_it_may_be_repeated() {
        let now = Instant::now();
        let mut door = Door::new(now);
        door.comes(flow().remote, &call(1));
        let mut again = |seconds, branch| {
            door.begin(now + Duration::from_secs(seconds));
            door.comes(flow().remote, &call(branch));
            door.turns_back(flow(), &call(branch)).is_some()
        };
        assert!(!again(1, 1) && again(1, 2), "another call is told");
        assert!(!again(31, 1) && !again(33, 1), "remembered, from one half to the other");
        assert!(!again(90, 1), "it came again in between");
        assert!(again(200, 3));
        assert!(again(300, 1), "nobody repeats it any more");
    }
}
