//! Brief server transactions: of requests that are answered once and soon, by the server itself, with no task of their own.
//!
//! Owns their table: a hash of each one's key, from the request to its answer. The answer is not kept: whoever answers so gives the
//! same answer when the same request comes again, as a registrar does, which knows the operation that its binding stands at. So a
//! registrar under load need not hold the answers of half a minute (Timer J, RFC 3261 §17.2.2). Does not own what is answered.

use bytes::Bytes;

use super::key::{Class, Key};
use super::layer::{Layer, Output};
use super::servers::response_flow;
use crate::Millis;
use crate::flow::Flow;
use crate::hashed::Hashed;
use crate::message::Message;
use crate::via::Via;

/// So many brief transactions count as one of the others against the layer's limit.
const PER_SLOT: usize = 4;
/// Time after which one that was never answered is forgotten: the client has given up (Timer F).
const PATIENCE: Millis = 34_000;
/// Between two looks for such ones.
const LOOK: Millis = 1_000;

/// A brief transaction: the hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BriefTx(Key);

/// What a request is that may be answered briefly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brief {
    /// To be answered, or handed to [`Layer::receive`] after [`Layer::drop_brief`].
    New(BriefTx),
    /// A repetition of one that waits for its answer; dealt with.
    Absorbed,
    /// No room: nothing was done. [`Layer::receive`] refuses it.
    Full,
}

/// All brief transactions of a layer.
#[derive(Debug, Default)]
pub(super) struct Briefs {
    /// When each may be forgotten.
    open: Hashed<Millis>,
    looked: Millis,
}

impl Briefs {
    /// What they count for against the limit on transactions.
    pub(super) fn weight(&self) -> usize {
        self.open.len() / PER_SLOT
    }

    /// How many wait for their answer.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Forgets those that nobody answers any more.
    pub(super) fn expire(&mut self, now: Millis) {
        if now >= self.looked.saturating_add(LOOK) {
            self.looked = now;
            self.open.retain(|_, end| *end > now);
        }
    }
}

impl Layer {
    /// Takes a request other than INVITE, ACK and CANCEL, whose source is noted. Only the same request again is found here; a
    /// CANCEL of it means nothing (RFC 3261 §9.2).
    pub fn receive_brief(&mut self, now: Millis, message: &Message) -> Brief {
        let key = self.keys.server(message, Class::Own);
        if self.repeats(now, key) || self.briefs.open.contains_key(&key) {
            return Brief::Absorbed;
        }
        if self.is_full() {
            return Brief::Full;
        }
        self.briefs.open.insert(key, now.saturating_add(PATIENCE));
        Brief::New(BriefTx(key))
    }

    /// Gives the final answer to a request, and forgets it: the same request again is a new one, to be answered alike.
    pub fn answer_brief(&mut self, tx: BriefTx, flow: Flow, bytes: Bytes) {
        self.drop_brief(tx);
        self.outputs.push_back(Output::Transmit { flow, bytes });
    }

    /// Forgets a transaction that is answered elsewhere.
    pub fn drop_brief(&mut self, tx: BriefTx) {
        self.briefs.open.remove(&tx.0);
    }

    /// Whether a request with that method and top Via has a transaction here, so that this one repeats it. An RFC 2543 element's
    /// is not found.
    pub fn knows(&mut self, now: Millis, method: &[u8], via: &Via<'_>) -> bool {
        self.keys.server_at(method, via).is_some_and(|key| {
            self.server_keys.contains_key(&key) || self.briefs.open.contains_key(&key) || self.kept.has(key, now)
        })
    }

    /// Where the answer to a request goes that came on `flow` (RFC 3261 §18.2.2, RFC 3581 §4).
    pub fn answer_flow(flow: Flow, request: &Message) -> Flow {
        response_flow(flow, request)
    }
}
