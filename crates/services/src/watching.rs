//! What the subscribers of users served here were told last, and which of their next numbers are free: in memory only.
//!
//! Owns that table and whose turn it is to tell. A server that lacks an entry (it was started, or took the user over) takes
//! new numbers and tells everything. Does not own the subscriptions (`subscription`) nor what is told (`regevent`).

use crate::binding::Binding;
use crate::subscription::Subscription;
use std::collections::{BTreeMap, BTreeSet};

/// What one subscriber was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its subscription, as it was then.
    pub subscription: Subscription,
    /// The next CSeq to use; beyond `subscription.reserved` a block has to be reserved first.
    pub next: u32,
    /// The bindings that it knows of; `None`: it has to be told everything.
    pub shown: Option<Vec<Binding>>,
}

#[derive(Clone, Debug, Default)]
struct Watched {
    /// Somebody is telling the subscribers.
    telling: bool,
    /// Something has changed since that began.
    changed: bool,
    told: BTreeMap<[u8; 16], Told>,
    /// Bindings that an administrator has removed.
    dropped: BTreeSet<[u8; 16]>,
}

/// The table. Users have an entry while somebody watches them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    users: BTreeMap<String, Watched>,
}

impl Table {
    /// Whether nobody is watched: the usual case, and a cheap question.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Watched users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// A subscription to this user exists. True if that is news.
    pub fn watch(&mut self, user: &str) -> bool {
        if self.users.contains_key(user) {
            return false;
        }
        self.users.insert(user.to_owned(), Watched::default());
        true
    }

    /// The user's bindings or subscriptions have changed. True if somebody has to begin to tell the subscribers; whoever is at
    /// it goes on.
    pub fn change(&mut self, user: &str) -> bool {
        let Some(watched) = self.users.get_mut(user) else {
            return false;
        };
        watched.changed = watched.telling;
        !std::mem::replace(&mut watched.telling, true)
    }

    /// Who told the subscribers has done so: true if there is more to tell, else it is over.
    pub fn again(&mut self, user: &str) -> bool {
        let Some(watched) = self.users.get_mut(user) else {
            return false;
        };
        watched.telling = std::mem::take(&mut watched.changed);
        let again = watched.telling;
        if !again && watched.told.is_empty() {
            self.users.remove(user);
        }
        again
    }

    /// Forgets what a user's subscribers were told: another server tells them now.
    pub fn forget(&mut self, user: &str) {
        if let Some(watched) = self.users.get_mut(user) {
            watched.told.clear();
            watched.dropped.clear();
        }
    }

    /// A subscription as it is stored now; where there is no entry, or one of before somebody else took numbers, one with
    /// these numbers is made.
    pub fn keep(&mut self, user: &str, subscription: &Subscription, first: u32) -> &mut Told {
        let watched = self.users.entry(user.to_owned()).or_default();
        let fresh = || Told { subscription: subscription.clone(), next: first, shown: None };
        let told = watched.told.entry(subscription.id).or_insert_with(fresh);
        if told.next < first && told.subscription.reserved != subscription.reserved {
            told.next = first;
        }
        told.subscription = subscription.clone();
        told
    }

    /// The entry of one subscription.
    pub fn told(&mut self, user: &str, id: &[u8; 16]) -> Option<&mut Told> {
        self.users.get_mut(user)?.told.get_mut(id)
    }

    /// Removes the entry of one subscription.
    pub fn end(&mut self, user: &str, id: &[u8; 16]) -> Option<Told> {
        self.users.get_mut(user)?.told.remove(id)
    }

    /// Removes and gives back the entries of a user whose subscriptions are not among `live`.
    pub fn ended(&mut self, user: &str, live: &[[u8; 16]]) -> Vec<Told> {
        let Some(watched) = self.users.get_mut(user) else {
            return Vec::new();
        };
        let gone: Vec<[u8; 16]> = watched.told.keys().filter(|id| !live.contains(id)).copied().collect();
        gone.iter().filter_map(|id| watched.told.remove(id)).collect()
    }

    /// An administrator removes a binding of this user: its subscribers are told so.
    pub fn drop_binding(&mut self, user: &str, id: [u8; 16]) {
        if let Some(watched) = self.users.get_mut(user) {
            watched.dropped.insert(id);
        }
    }

    /// The bindings that an administrator has removed since the last call.
    pub fn take_dropped(&mut self, user: &str) -> BTreeSet<[u8; 16]> {
        self.users.get_mut(user).map(|watched| std::mem::take(&mut watched.dropped)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn one_tells_and_goes_on_while_something_changes() {
        let mut table = Table::default();
        assert!(!table.change("a"), "nobody watches");
        assert!(table.watch("a") && !table.watch("a"));
        assert!(table.change("a"), "the first one begins");
        assert!(!table.change("a"), "the second one is seen by the first");
        assert!(table.again("a"));
        assert!(!table.again("a"));
        assert!(table.is_empty(), "nobody was told anything: no entry stays");
    }
}
