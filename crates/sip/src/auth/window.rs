//! The replay window: which nonce counts have been used with which nonce. Bounded.

use std::collections::BTreeMap;

use super::nonce::id_from;
use crate::Millis;

/// How far behind the highest count a late one is still accepted.
const SPAN: u32 = 64;

/// What a nonce count is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NcVerdict {
    /// Not used before.
    Ok,
    /// Used before, or too old to know: to be answered with `stale=true`.
    Replayed,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    highest: u32,
    /// Bit n: `highest - n` was used.
    used: u64,
}

/// The windows of the nonces in use. When full, the nonce that was issued first is forgotten and
/// counts as replayed from then on, together with all older ones.
#[derive(Debug)]
pub struct NonceWindow {
    nonces: BTreeMap<u128, Counts>,
    capacity: usize,
    forgotten: Option<u128>,
}

impl NonceWindow {
    /// A window for at most `capacity` nonces (at least one).
    pub fn new(capacity: usize) -> NonceWindow {
        NonceWindow { nonces: BTreeMap::new(), capacity: capacity.max(1), forgotten: None }
    }

    /// Notes the use of count `nc` with a nonce that was found fresh.
    pub fn accept(&mut self, nonce_id: u128, nc: u32) -> NcVerdict {
        if nc == 0 || self.forgotten.is_some_and(|last| nonce_id <= last) {
            return NcVerdict::Replayed;
        }
        if let Some(counts) = self.nonces.get_mut(&nonce_id) {
            return counts.accept(nc);
        }
        self.nonces.insert(nonce_id, Counts { highest: nc, used: 1 });
        if self.nonces.len() > self.capacity
            && let Some((oldest, _)) = self.nonces.pop_first()
        {
            self.forgotten = Some(oldest);
        }
        NcVerdict::Ok
    }

    /// Forgets nonces that were issued before a wall time, when none of them is fresh any more: they count as replayed.
    pub fn expire(&mut self, issued_before: Millis) {
        let first = id_from(issued_before);
        while let Some(entry) = self.nonces.first_entry().filter(|entry| *entry.key() < first) {
            let (id, _) = entry.remove_entry();
            self.forgotten = self.forgotten.max(Some(id));
        }
    }

    /// Nonces that are remembered.
    pub fn len(&self) -> usize {
        self.nonces.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.nonces.is_empty()
    }
}

impl Counts {
    fn accept(&mut self, nc: u32) -> NcVerdict {
        if nc > self.highest {
            let shift = nc - self.highest;
            self.used = if shift >= SPAN { 0 } else { self.used << shift };
            self.used |= 1;
            self.highest = nc;
            return NcVerdict::Ok;
        }
        let behind = self.highest - nc;
        if behind >= SPAN || self.used & (1 << behind) != 0 {
            return NcVerdict::Replayed;
        }
        self.used |= 1 << behind;
        NcVerdict::Ok
    }
}
