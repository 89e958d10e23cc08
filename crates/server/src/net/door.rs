//! The door of a UDP listener: which calls that find no room are told so, and what else was let fall.
//!
//! Owns the memory of calls that were let in: what may repeat one of them is not answered here, since its answer is on its way and must be the
//! only one. And of what was let fall without an answer, so that its repetitions do not go before what comes for the first time. Whether there
//! is room is `shell::lanes`' affair.

use super::memory::Memory;
use bytes::Bytes;
use pairline_sip::flow::Flow;
use pairline_sip::glance;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Instant;

/// Seconds after which who is refused here may come again: at least, and spread over so many.
const RETRY_AFTER: (u64, u64) = (2, 8);
/// Bits of each half of the memory of calls: with 10,000 calls a second at most one in 25 of the others is taken for a repetition, and let
/// fall where there is no room.
const CALLS: u64 = 1 << 22;
/// The same of what was let fall: with 60,000 a second one in 40 of the others, which then come after the rest. From 130,000 a second on it tells
/// nothing, and is not asked.
const FALLEN: u64 = 1 << 25;

/// One listener's.
pub struct Door {
    keys: RandomState,
    calls: Memory,
    fallen: Memory,
    /// Calls that came for the first time, of this receive.
    fresh: Vec<u64>,
    /// Refusals so far; spreads the time after which they may come again.
    refused: u64,
}

impl Door {
    /// Nobody has come yet.
    pub fn new(now: Instant) -> Door {
        let (calls, fallen) = (Memory::new(CALLS, now), Memory::new(FALLEN, now));
        Door { keys: RandomState::new(), calls, fallen, fresh: Vec::new(), refused: 0 }
    }

    /// A receive begins.
    pub fn begin(&mut self, now: Instant) {
        self.fresh.clear();
        self.calls.pass(now);
        self.fallen.pass(now);
    }

    /// A call is to be let in, if there is room.
    pub fn comes(&mut self, from: SocketAddr, call: &[u8]) {
        let Some(hash) = self.hash(from, call) else { return };
        if !self.calls.has(hash) {
            self.fresh.push(hash);
        }
        self.calls.add(hash);
    }

    /// A request is let fall: it will be repeated.
    pub fn lets_fall(&mut self, from: SocketAddr, request: &[u8]) {
        if let Some(hash) = self.hash(from, request) {
            self.fallen.add(hash);
        }
    }

    /// Whether a request repeats one that was let fall.
    pub fn let_fall(&self, from: SocketAddr, request: &[u8]) -> bool {
        self.fallen.tells() && self.hash(from, request).is_some_and(|hash| self.fallen.has(hash))
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
    fn hash(&self, from: SocketAddr, request: &[u8]) -> Option<u64> {
        Some(self.keys.hash_one((from, glance::top_via(request)?.raw())))
    }
}

#[cfg(test)]
mod tests {
    //! Who finds no room is told once; who was let in is not told anything by the door.

    use super::*;
    use std::time::Duration;

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

    #[test]
    fn what_was_let_fall_is_known_when_it_comes_again() {
        let now = Instant::now();
        let mut door = Door::new(now);
        assert!(!door.let_fall(flow().remote, &call(1)));
        door.lets_fall(flow().remote, &call(1));
        assert!(door.let_fall(flow().remote, &call(1)) && !door.let_fall(flow().remote, &call(2)));
        let elsewhere = "192.0.2.2:5060".parse().unwrap();
        assert!(!door.let_fall(elsewhere, &call(1)), "another client's");
        door.begin(now + Duration::from_secs(100));
        door.begin(now + Duration::from_secs(200));
        assert!(!door.let_fall(flow().remote, &call(1)));
    }
}
