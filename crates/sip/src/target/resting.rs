//! Targets that are left alone for a while: those that asked for it, and those that did not answer.
//!
//! Owns the list and its bounds. Does not own which failures put a target on it. Time is an input.

use std::collections::BTreeMap;

use super::locator::Target;
use crate::Millis;
use crate::header::Name;
use crate::message::Message;

/// The most targets that rest at one time; beyond it the one whose rest ends first is forgotten.
pub const MAX_RESTING: usize = 1024;

/// The longest rest, in milliseconds, whatever a target asks for: ten minutes.
pub const MAX_REST_MS: Millis = 600_000;

/// Why a target rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It did not answer, or could not be reached: tried after all others.
    Silent,
    /// It said 503 with Retry-After: not tried before that is over (RFC 3261 §21.5.4).
    Asked,
}

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Resting(BTreeMap<Target, (Millis, Rest)>);

impl Resting {
    /// Lets a target rest for `ms` milliseconds from `now`, at most [`MAX_REST_MS`]. A wish of the target is not cut short by its
    /// silence.
    pub fn put(&mut self, now: Millis, target: Target, why: Rest, ms: Millis) {
        if why == Rest::Silent && self.of(now, &target) == Some(Rest::Asked) {
            return;
        }
        if self.0.len() >= MAX_RESTING && !self.0.contains_key(&target) {
            self.0.retain(|_, (until, _)| *until > now);
            let soonest = self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(target, _)| *target);
            if let Some(soonest) = soonest.filter(|_| self.0.len() >= MAX_RESTING) {
                self.0.remove(&soonest);
            }
        }
        self.0.insert(target, (now.saturating_add(ms.min(MAX_REST_MS)), why));
    }

    /// Why a target rests at `now`; `None` if it does not.
    pub fn of(&self, now: Millis, target: &Target) -> Option<Rest> {
        self.0.get(target).filter(|(until, _)| *until > now).map(|(_, why)| *why)
    }

    /// How many targets are on the list, also those whose rest is over.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The seconds in a response's Retry-After (RFC 3261 §20.33): what stands before a comment or parameters. `None` if there is
/// none, or no number.
pub fn retry_after(response: &Message) -> Option<u32> {
    let value = response.header(Name::RetryAfter)?;
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = value.split_at(digits);
    if !matches!(rest.first(), None | Some(b' ' | b'\t' | b';' | b'(')) {
        return None;
    }
    // More digits than fit are a long time, not none.
    std::str::from_utf8(number).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or(u32::MAX))
}
