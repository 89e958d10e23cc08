//! Brief server transactions: of requests that are answered once and soon, by the server itself, with no task of their own.
//!
//! Owns their table: a hash of the key and the answer's bytes, for as long as a repetition may come (Timer J, RFC 3261
//! §17.2.2, counted from the request). A registrar under load holds hundreds of thousands of them; each takes its answer and
//! some seventy bytes. Does not own what is answered.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::key::{self, Class};
use super::layer::{Layer, Output};
use super::servers::response_flow;
use crate::Millis;
use crate::flow::Flow;
use crate::message::Message;
use crate::via::Via;

/// So many brief transactions count as one of the others against the layer's limit.
const PER_SLOT: usize = 4;
/// Added to Timer J, which runs from the answer, since the end is counted from the request; an answer takes less.
const ANSWER: Millis = 2_000;

/// Bytes of one block of kept answers.
const BLOCK: usize = 64 << 10;

/// A brief transaction: the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BriefTx(u128);

/// What a request is that may be answered briefly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brief {
    /// New: to be answered, or handed to [`Layer::receive`] after [`Layer::drop_brief`].
    New(BriefTx),
    /// A repetition; dealt with.
    Absorbed,
    /// No room: nothing was done. [`Layer::receive`] refuses it.
    Full,
}

/// A transaction in its place.
#[derive(Debug)]
struct Slot {
    id: u128,
    /// When it may go.
    end: Millis,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Answered(Flow, Bytes),
    /// Not a transaction any more; its place goes with its time.
    Gone,
}

/// Slots of one block. Full blocks are neither moved nor copied when there are more.
const SLOTS: usize = 256;

/// Slots in order of arrival, each with a number that rises from the first that ever was.
#[derive(Debug, Default)]
struct Ring {
    blocks: VecDeque<Vec<Slot>>,
    /// Number of the first slot of the first block.
    base: u64,
    /// How many slots of the first block are over.
    over: usize,
    /// How many are not.
    len: usize,
}

impl Ring {
    /// Adds one; its number.
    fn push(&mut self, slot: Slot) -> u64 {
        self.len += 1;
        let before: usize = self.blocks.len().saturating_sub(1) * SLOTS;
        match self.blocks.back_mut().filter(|block| block.len() < SLOTS) {
            Some(block) => {
                block.push(slot);
                self.base + number(before + block.len() - 1)
            }
            None => {
                let full = self.blocks.len() * SLOTS;
                let mut block = Vec::with_capacity(SLOTS);
                block.push(slot);
                self.blocks.push_back(block);
                self.base + number(full)
            }
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Slot> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.blocks.get_mut(at / SLOTS)?.get_mut(at % SLOTS)
    }

    /// Takes the state of one; the newest leaves its place at once.
    fn take(&mut self, number: u64) -> Option<State> {
        let newest = self.base + self::number(self.over + self.len).saturating_sub(1);
        let state = std::mem::replace(&mut self.get_mut(number)?.state, State::Gone);
        if number == newest && self.blocks.back_mut().is_some_and(|block| block.pop().is_some()) {
            self.len -= 1;
            if self.blocks.len() > 1 && self.blocks.back().is_some_and(Vec::is_empty) {
                self.blocks.pop_back();
            }
        }
        Some(state)
    }

    fn front(&self) -> Option<&Slot> {
        self.blocks.front()?.get(self.over)
    }

    /// Takes the oldest; what it was, and its id.
    fn pop(&mut self) -> Option<(u128, State)> {
        let slot = self.blocks.front_mut()?.get_mut(self.over)?;
        let taken = (slot.id, std::mem::replace(&mut slot.state, State::Gone));
        self.over += 1;
        self.len -= 1;
        if self.over == SLOTS {
            self.blocks.pop_front();
            self.base += number(SLOTS);
            self.over = 0;
        }
        Some(taken)
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The keys are hashes already.
#[derive(Default)]
struct Plain(u64);

impl Hasher for Plain {
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

/// All brief transactions of a layer. The map is never iterated, so its order cannot leak into behaviour.
#[derive(Debug, Default)]
pub(super) struct Briefs {
    /// The number of each, by the halves of its hash.
    numbers: HashMap<[u64; 2], u64, BuildHasherDefault<Plain>>,
    ring: Ring,
    /// Where answers are kept, one behind the other; a block goes with the last of its answers.
    block: BytesMut,
}

impl Briefs {
    /// What they count for against the limit on transactions.
    pub(super) fn weight(&self) -> usize {
        self.ring.len / PER_SLOT
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// A copy that takes its own length and no more.
    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if self.block.capacity() - self.block.len() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK.max(bytes.len()));
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }

    pub(super) fn next_end(&self) -> Option<Millis> {
        self.ring.front().map(|slot| slot.end)
    }

    /// Lets those go that are due; returns the bytes that their answers held.
    pub(super) fn expire(&mut self, now: Millis) -> usize {
        let mut freed = 0;
        while self.ring.front().is_some_and(|slot| slot.end <= now) {
            let Some((id, state)) = self.ring.pop() else { break };
            if let State::Answered(_, bytes) = &state {
                freed += bytes.len();
            }
            if !matches!(state, State::Gone) {
                self.numbers.remove(&halves(id));
            }
        }
        freed
    }

    fn find(&mut self, id: u128) -> Option<&mut Slot> {
        let number = self.numbers.get(&halves(id))?;
        self.ring.get_mut(*number)
    }

    /// Ends one before its time; what it was.
    fn forget(&mut self, id: u128) -> Option<State> {
        let number = self.numbers.remove(&halves(id))?;
        self.ring.take(number)
    }
}

fn halves(id: u128) -> [u64; 2] {
    let bytes = id.to_le_bytes();
    let (first, second) = bytes.split_at(8);
    let half = |part: &[u8]| part.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    [half(first), half(second)]
}

impl Layer {
    /// Takes a request other than INVITE, ACK and CANCEL, whose source is noted. Only the same request again is found here; a
    /// CANCEL of it means nothing (RFC 3261 §9.2).
    pub fn receive_brief(&mut self, now: Millis, message: &Message) -> Brief {
        key::server(&mut self.scratch, message, Class::Own);
        if let Some(&id) = self.server_keys.get(self.scratch.as_slice()) {
            self.repeat_request(now, id);
            return Brief::Absorbed;
        }
        let id = hash(&self.scratch);
        if let Some(slot) = self.briefs.find(id) {
            if let State::Answered(flow, bytes) = &slot.state {
                let output = Output::Transmit { flow: *flow, bytes: bytes.clone() };
                self.outputs.push_back(output);
            }
            return Brief::Absorbed;
        }
        if self.is_full() {
            return Brief::Full;
        }
        let end = now.saturating_add(self.timers.patience()).saturating_add(ANSWER);
        let number = self.briefs.ring.push(Slot { id, end, state: State::Open });
        self.briefs.numbers.insert(halves(id), number);
        Brief::New(BriefTx(id))
    }

    /// Gives the final answer to `request`. It is kept for repetitions where the transport may lose it.
    pub fn answer_brief(&mut self, tx: BriefTx, flow: Flow, bytes: Bytes) {
        if flow.transport.reliable() {
            self.briefs.forget(tx.0);
            return self.transmit(flow, bytes);
        }
        let kept = self.briefs.keep(&bytes);
        if let Some(slot) = self.briefs.find(tx.0) {
            slot.state = State::Answered(flow, kept.clone());
            self.held += kept.len();
        }
        self.transmit(flow, kept);
    }

    /// Forgets a transaction that is answered without being kept, or handed to another path.
    pub fn drop_brief(&mut self, tx: BriefTx) {
        if let Some(State::Answered(_, bytes)) = self.briefs.forget(tx.0) {
            self.held -= bytes.len();
        }
    }

    /// Whether a request with that method and top Via has a transaction here, so that this one repeats it. An RFC 2543 element's
    /// is not found.
    pub fn knows(&mut self, method: &[u8], via: &Via<'_>) -> bool {
        key::server_at(&mut self.scratch, method, via)
            && (self.server_keys.contains_key(self.scratch.as_slice())
                || self.briefs.numbers.contains_key(&halves(hash(&self.scratch))))
    }

    /// Where the answer to a request goes that came on `flow` (RFC 3261 §18.2.2, RFC 3581 §4).
    pub fn answer_flow(flow: Flow, request: &Message) -> Flow {
        response_flow(flow, request)
    }
}

fn hash(key: &[u8]) -> u128 {
    let digest = Sha256::digest(key);
    let mut id = [0_u8; 16];
    id.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(id)
}
