//! Where the live records of each group stand, and how much of each segment is still needed.
//!
//! Owns the in-memory index. Reads and writes no file.

use super::error::LogError;
use super::format::TableEntry;
use pairline_group::GroupId;
use std::collections::{BTreeMap, VecDeque};

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u64,
    pub offset: u64,
    /// Length of the whole record.
    pub len: u64,
}

/// One group's live records.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupIndex {
    /// Index of the first item in `items`.
    pub first: u64,
    /// Live items without gaps.
    pub items: VecDeque<Place>,
    pub hard_state: Option<Place>,
    pub purged: u64,
    /// Records written for this group in all.
    pub serial: u64,
    /// Found corrupt at start and not forgotten.
    pub corrupt: bool,
}

impl GroupIndex {
    /// Index of the last item, if there are items.
    pub(super) fn last(&self) -> Option<u64> {
        self.items.len().checked_sub(1).map(|more| self.first + more as u64)
    }

    /// The index that the next item must follow at once, if any: after a purge of everything, the purged one.
    pub(super) fn before_next(&self) -> Option<u64> {
        self.last().or(Some(self.purged).filter(|purged| *purged > 0))
    }

    /// Whether an item may stand at `index`, given the last item (`None`: there are none).
    pub(super) fn check(&self, group: GroupId, index: u64, last: Option<u64>) -> Result<(), LogError> {
        if index <= self.purged {
            return Err(LogError::BelowPurge { group, index, purged: self.purged });
        }
        match last {
            Some(last) if index > last.saturating_add(1) => Err(LogError::Gap { group, index, last }),
            _ => Ok(()),
        }
    }
}

/// What one segment still holds that is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub records: u64,
    pub bytes: u64,
}

/// The index of the whole log.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub groups: BTreeMap<GroupId, GroupIndex>,
    pub live: BTreeMap<u64, Live>,
}

impl Index {
    fn born(&mut self, place: Place) {
        let live = self.live.entry(place.segment).or_default();
        live.records += 1;
        live.bytes += place.len;
    }

    fn dead(&mut self, place: Place) {
        if let Some(live) = self.live.get_mut(&place.segment) {
            live.records = live.records.saturating_sub(1);
            live.bytes = live.bytes.saturating_sub(place.len);
        }
    }

    fn all_dead(&mut self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            self.dead(place);
        }
    }

    /// An item was written: it replaces those at and after its index.
    pub(super) fn item(&mut self, group: GroupId, index: u64, place: Place) {
        let entry = self.groups.entry(group).or_default();
        let keep = index.checked_sub(entry.first).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let replaced: Vec<Place> =
            if keep < entry.items.len() { entry.items.drain(keep..).collect() } else { Vec::new() };
        if entry.items.is_empty() {
            entry.first = index;
        }
        entry.items.push_back(place);
        self.all_dead(replaced);
        self.born(place);
    }

    /// A hard state was written: the one before is no longer needed.
    pub(super) fn hard_state(&mut self, group: GroupId, place: Place) {
        let before = self.groups.entry(group).or_default().hard_state.replace(place);
        self.all_dead(before);
        self.born(place);
    }

    /// Items up to and including `through` are no longer needed.
    pub(super) fn purge(&mut self, group: GroupId, through: u64) {
        let entry = self.groups.entry(group).or_default();
        entry.purged = entry.purged.max(through);
        let count = through.saturating_add(1).saturating_sub(entry.first);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(entry.items.len());
        let gone: Vec<Place> = entry.items.drain(..count).collect();
        entry.first += count as u64;
        self.all_dead(gone);
    }

    /// Nothing of the group is needed.
    pub(super) fn forget(&mut self, group: GroupId) {
        let entry = self.groups.entry(group).or_default();
        let mut gone: Vec<Place> = entry.items.drain(..).collect();
        gone.extend(entry.hard_state.take());
        entry.first = 0;
        entry.purged = 0;
        entry.corrupt = false;
        self.all_dead(gone);
    }

    /// A live record was copied to `to`.
    pub(super) fn moved(&mut self, group: GroupId, item: Option<u64>, to: Place) {
        let Some(entry) = self.groups.get_mut(&group) else {
            return;
        };
        let from = match item {
            None => entry.hard_state.replace(to),
            Some(index) => index
                .checked_sub(entry.first)
                .and_then(|n| usize::try_from(n).ok())
                .and_then(|n| entry.items.get_mut(n))
                .map(|place| std::mem::replace(place, to)),
        };
        if from.is_some() {
            self.all_dead(from);
            self.born(to);
        }
    }

    /// Live records that stand in a segment: group, item index (`None`: the hard state), place.
    pub(super) fn live_in(&self, segment: u64) -> Vec<(GroupId, Option<u64>, Place)> {
        let mut found = Vec::new();
        for (group, entry) in &self.groups {
            for (n, place) in entry.items.iter().enumerate().filter(|(_, place)| place.segment == segment) {
                found.push((*group, Some(entry.first + n as u64), *place));
            }
            if let Some(place) = entry.hard_state.filter(|place| place.segment == segment) {
                found.push((*group, None, place));
            }
        }
        found
    }

    /// Whether any group is corrupt and not forgotten.
    pub(super) fn any_corrupt(&self) -> bool {
        self.groups.values().any(|entry| entry.corrupt)
    }

    /// The table for the next segment.
    pub(super) fn table(&self) -> Vec<TableEntry> {
        self.groups
            .iter()
            .map(|(group, entry)| TableEntry { group: *group, serial: entry.serial, purged: entry.purged })
            .collect()
    }
}
