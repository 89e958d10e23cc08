//! What has become of a user's bindings since a subscriber was told (RFC 3680 §3.7).
//!
//! Owns the comparison and its words. A refresh alone is nothing to tell: the contact stays active until it is said to have
//! ended.

use crate::binding::Binding;
use pairline_group::Millis;
use std::collections::BTreeSet;

/// Why a contact is in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Newly registered.
    Registered,
    /// Refreshed since.
    Refreshed,
    /// Its expiry was brought forward.
    Shortened,
    /// It ended by itself.
    Expired,
    /// The client has signed off, or has another contact now.
    Unregistered,
    /// An administrator has removed it: the client should register anew.
    Deactivated,
}

impl Event {
    /// The word in the document.
    pub fn word(self) -> &'static str {
        match self {
            Event::Registered => "registered",
            Event::Refreshed => "refreshed",
            Event::Shortened => "shortened",
            Event::Expired => "expired",
            Event::Unregistered => "unregistered",
            Event::Deactivated => "deactivated",
        }
    }

    /// Whether the contact is there.
    pub fn is_active(self) -> bool {
        matches!(self, Event::Registered | Event::Refreshed | Event::Shortened)
    }
}

/// A binding and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// As it is, or was.
    pub binding: &'a Binding,
    /// What became of it.
    pub event: Event,
}

/// All bindings, for full state.
pub fn all(bindings: &[Binding]) -> Vec<Change<'_>> {
    let event = |b: &Binding| if b.refreshed > b.since { Event::Refreshed } else { Event::Registered };
    bindings.iter().map(|binding| Change { binding, event: event(binding) }).collect()
}

fn same(a: &Binding, b: &Binding) -> bool {
    a.id == b.id && a.contact == b.contact
}

/// What is different from what was shown. `dropped`: what an administrator has removed.
pub fn between<'a>(
    shown: &'a [Binding],
    bindings: &'a [Binding],
    dropped: &BTreeSet<[u8; 16]>,
    wall: Millis,
) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for old in shown.iter().filter(|old| !bindings.iter().any(|new| same(old, new))) {
        let event = match old {
            _ if dropped.contains(&old.id) => Event::Deactivated,
            _ if old.expires <= wall => Event::Expired,
            _ => Event::Unregistered,
        };
        changes.push(Change { binding: old, event });
    }
    for binding in bindings {
        match shown.iter().find(|old| same(old, binding)) {
            None => changes.push(Change { binding, event: Event::Registered }),
            Some(old) if binding.expires < old.expires => changes.push(Change { binding, event: Event::Shortened }),
            Some(_) => {}
        }
    }
    changes
}
