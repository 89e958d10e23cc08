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

#[derive(Debug)]
enum Slot {
    Open,
    Answered(Flow, Bytes),
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
    slots: HashMap<u128, Slot, BuildHasherDefault<Plain>>,
    /// When each may go, in order of arrival. One that has gone before is passed over.
    ends: VecDeque<(Millis, u128)>,
    /// Where answers are kept, one behind the other; a block goes with the last of its answers.
    block: BytesMut,
}

impl Briefs {
    /// What they count for against the limit on transactions.
    pub(super) fn weight(&self) -> usize {
        self.ends.len().max(self.slots.len()) / PER_SLOT
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
        self.ends.front().map(|(when, _)| *when)
    }

    /// Lets those go that are due; returns the bytes that their answers held.
    pub(super) fn expire(&mut self, now: Millis) -> usize {
        let mut freed = 0;
        while let Some((_, id)) = self.ends.front().copied().filter(|(when, _)| *when <= now) {
            self.ends.pop_front();
            if let Some(Slot::Answered(_, bytes)) = self.slots.remove(&id) {
                freed += bytes.len();
            }
        }
        freed
    }
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
        match self.briefs.slots.get(&id) {
            Some(Slot::Open) => return Brief::Absorbed,
            Some(Slot::Answered(flow, bytes)) => {
                let output = Output::Transmit { flow: *flow, bytes: bytes.clone() };
                self.outputs.push_back(output);
                return Brief::Absorbed;
            }
            None => {}
        }
        if self.is_full() {
            return Brief::Full;
        }
        self.briefs.slots.insert(id, Slot::Open);
        self.briefs.ends.push_back((now.saturating_add(self.timers.patience()).saturating_add(ANSWER), id));
        Brief::New(BriefTx(id))
    }

    /// Gives the final answer to `request`. It is kept for repetitions where the transport may lose it.
    pub fn answer_brief(&mut self, tx: BriefTx, flow: Flow, bytes: Bytes) {
        if flow.transport.reliable() {
            self.briefs.slots.remove(&tx.0);
            return self.transmit(flow, bytes);
        }
        let kept = self.briefs.keep(&bytes);
        if let Some(slot) = self.briefs.slots.get_mut(&tx.0) {
            self.held += kept.len();
            *slot = Slot::Answered(flow, kept.clone());
        }
        self.transmit(flow, kept);
    }

    /// Forgets a transaction that is answered without being kept, or handed to another path.
    pub fn drop_brief(&mut self, tx: BriefTx) {
        if let Some(Slot::Answered(_, bytes)) = self.briefs.slots.remove(&tx.0) {
            self.held -= bytes.len();
        }
    }

    /// Whether a request with that method and top Via has a transaction here, so that this one repeats it. An RFC 2543 element's
    /// is not found.
    pub fn knows(&mut self, method: &[u8], via: &Via<'_>) -> bool {
        key::server_at(&mut self.scratch, method, via)
            && (self.server_keys.contains_key(self.scratch.as_slice())
                || self.briefs.slots.contains_key(&hash(&self.scratch)))
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
