//! Shipping between the two copies of a group in paired pools. It is symmetric: whichever copy is ahead by right is the
//! source, the other the sink.
//!
//! Owns cursors, credit and seeds of both sides. What follows from how the partner stands is in `reconcile`; the source's
//! work in `source` and `seed`, the sink's in `sink`. Does not own links.

mod reconcile;
mod seed;
mod sink;
mod source;
mod verify;

use crate::codec::SeedOffer;
use crate::entry::ChainHash;
use crate::ids::{Millis, Position};
use crate::record::Key;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Silence after which a source sends unacknowledged entries again.
const STALL: Millis = 2000;
/// Silence after which a seed is begun anew.
const SEED_STALL: Millis = 6000;

/// A seed on its way out.
#[derive(Debug)]
pub(crate) struct SeedOut {
    pub(crate) id: u64,
    /// Where it began.
    pub(crate) start: Position,
    /// Ranges that the receiver lacks, once it has said so.
    wanted: Option<BTreeSet<u16>>,
    /// Last key that was looked at.
    cursor: Option<Key>,
    all_chunks: bool,
    sent: u64,
    acked: u64,
    /// Sequence of the last entry sent after the chunks, and of the last one acknowledged.
    entries_sent: u64,
    entries_acked: u64,
    ended: bool,
    /// Records sent.
    pub(crate) records: u64,
    /// Records there are.
    pub(crate) of: u64,
    progress: Millis,
}

/// The source's side of shipping one group.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Sequence of the last entry sent; `None` while nothing is shipped.
    sent: Option<u64>,
    /// Sequence up to which the partner's current copy is known to have everything.
    pub(crate) acked: Option<u64>,
    credit: u64,
    /// The histories differ where they must not.
    pub(crate) broken: bool,
    broken_told: bool,
    /// The partner, active and behind, asked for its own entries back.
    pulled: bool,
    pub(crate) seed: Option<SeedOut>,
    pub(crate) seed_due: bool,
    seeds: u64,
    progress: Millis,
    asked: bool,
}

impl Source {
    /// Whether the partner receives entries as they arise.
    pub(crate) fn ships(&self) -> bool {
        self.sent.is_some() && self.acked.is_some() && !self.broken && self.seed.is_none() && !self.seed_due
    }

    /// Entries that the partner lacks had to go.
    pub(crate) fn overrun(&mut self) {
        self.sent = None;
        self.acked = None;
        self.seed = None;
        self.seed_due = true;
    }

    /// Another pool serves from here: a running seed would carry the old epoch.
    pub(crate) fn epoch_changed(&mut self) {
        self.seed = None;
        self.seed_due = false;
    }

    /// The link is gone; what the partner was known to have stays known.
    fn unlinked(&mut self) {
        self.sent = None;
        self.seed = None;
        self.seed_due = false;
        self.pulled = false;
        self.asked = false;
    }
}

/// A seed on its way in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeedIn {
    id: u64,
    next: u64,
}

/// A place in a history: numbers alone do not tell one branch from another.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: Position,
    chain: ChainHash,
    digest: [u8; 32],
}

/// The sink's side of shipping one group.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) seed: Option<SeedIn>,
    /// The youngest seed that was offered on this link: an older offer is a late repetition of a frame.
    offered: u64,
    /// An offer that came before this copy could take it: taken as soon as it can.
    early: Option<Arc<SeedOffer>>,
    pub(crate) import_error: bool,
    pub(crate) wants_seed: bool,
    /// An unconfirmed active waits for its own entries up to here.
    pub(crate) pulling: Option<u64>,
    /// The partner has more than this copy, which led when it was last heard by a majority: whether that is lost here, or another has led
    /// since, is not known yet.
    pub(crate) unsure: bool,
    /// The last entry that the partner has taken, if it has not applied it yet.
    underway: Option<Position>,
    pub(crate) ack_due: bool,
    /// On this clock: when the partner was asked the question whose answer this copy has caught up with.
    pub(crate) lag_base: Option<Millis>,
    /// Canaries that this copy has not caught up with: where the source stood, and when it was asked.
    canaries: VecDeque<(Place, Millis)>,
    /// The furthest position that the source is known to have.
    pub(crate) known: Option<Position>,
    pub(crate) known_bytes: u64,
    /// Latest group time at which the source was heard.
    pub(crate) known_time: Millis,
    resync: Option<(u64, Millis)>,
    nudged: Millis,
    /// A comparison to be made when this copy stands there.
    verify: Option<(Position, [u8; 32], Vec<[u8; 32]>)>,
    verify_asked: bool,
    /// The entries after the fork were handed out to be stored.
    pub(crate) tail_out: bool,
}

impl Sink {
    /// The link is gone, and with it what was under way on it.
    pub(crate) fn unlinked(&mut self) {
        self.seed = None;
        self.offered = 0;
        self.early = None;
        self.underway = None;
    }

    /// This copy begins to lead.
    pub(crate) fn led_anew(&mut self) {
        self.tail_out = false;
        self.pulling = None;
        self.verify_asked = false;
    }

    /// A shadow copy became the current one.
    pub(crate) fn swapped(&mut self, _now: Millis) {
        self.seed = None;
        self.wants_seed = false;
        self.import_error = false;
        self.tail_out = false;
        self.ack_due = true;
    }
}
