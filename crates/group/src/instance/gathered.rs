//! The entry that is being gathered from several small changes of one turn.
//!
//! Owns its bounds and what it takes to give it up again. An entry has fixed costs (consensus, log record, chain hash, shipping,
//! all of it at both pools), and registrations come by the hundred in one turn. Does not own when it is written (`propose`).

use super::{Spec, Wait};
use crate::entry::Effect;
use crate::ids::{Millis, Ticket};
use crate::record::Key;

/// Most effects of a gathered entry.
const EFFECTS: usize = 128;
/// Bytes after which it takes no more.
const BYTES: usize = 64 << 10;

/// Changes that will be one entry.
#[derive(Debug)]
pub(super) struct Gathered {
    /// The group time that all of them have.
    pub(super) time: Millis,
    pub(super) effects: Vec<Effect>,
    pub(super) waiters: Vec<(Ticket, Wait)>,
    /// What the overlay said before of each key, in order.
    pub(super) before: Vec<(Key, Option<Spec>)>,
    bytes: usize,
}

impl Gathered {
    /// Nothing yet, at this group time.
    pub(super) fn at(time: Millis) -> Gathered {
        Gathered { time, effects: Vec::new(), waiters: Vec::new(), before: Vec::new(), bytes: 0 }
    }

    /// Adds an effect; `before` is what the overlay said of its record.
    pub(super) fn add(&mut self, key: Key, before: Option<Spec>, effect: Effect) {
        let value = if let Effect::Put { value, .. } = &effect { value.len() } else { 0 };
        self.bytes += key.owner.len() + key.item.len() + value;
        self.before.push((key, before));
        self.effects.push(effect);
    }

    /// Whether it is to be written before anything more is added.
    pub(super) fn is_full(&self) -> bool {
        self.effects.len() >= EFFECTS || self.bytes >= BYTES
    }
}
