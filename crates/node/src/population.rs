//! How many users each pool is the home of, counted in the copy of the directory here.
//!
//! Owns the count. It follows the directory entry by entry and counts anew only where that does not tell: after a start, a
//! seed or a removal.

use crate::core::Core;
use pairline_group::{Body, Effect, Entry, GroupId, Millis, PoolId};
use pairline_topology::directory::DirectoryEntry;
use pairline_topology::stored::KIND_DIRECTORY;
use std::collections::BTreeMap;

/// Pause between two counts that nobody asked for, in milliseconds: each looks at every record of the store.
const PAUSE_MS: Millis = 30_000;

/// Users by home pool.
#[derive(Default)]
pub struct Population {
    homes: BTreeMap<PoolId, u32>,
    /// Whether `homes` follows the directory.
    follows: bool,
    counted: Option<Millis>,
}

impl Population {
    /// Users of a pool, as last counted.
    pub fn of(&self, pool: PoolId) -> Option<u32> {
        self.counted.map(|_| self.homes.get(&pool).copied().unwrap_or(0))
    }

    /// The directory was replaced.
    pub fn replaced(&mut self) {
        self.follows = false;
    }
}

/// An entry was applied here.
pub fn noted(core: &mut Core, group: GroupId, entry: &Entry) {
    let (true, Body::Effects(effects)) = (group.is_cms(), &entry.body) else { return };
    let population = &mut core.modes.population;
    if !population.follows {
        return;
    }
    for effect in effects.iter().filter(|effect| effect.key().kind == KIND_DIRECTORY) {
        match effect {
            // A home never changes: an entry that was there before says nothing new.
            Effect::Put { based_on: Some(_), .. } => {}
            Effect::Put { value, .. } => match DirectoryEntry::decode(value) {
                Ok(entry) => *population.homes.entry(entry.home).or_insert(0) += 1,
                Err(_) => population.follows = false,
            },
            // Whose home it was is gone with the record.
            Effect::Delete { .. } => population.follows = false,
        }
    }
}

/// Counts anew if the count does not follow: `now` at once, else not more often than every half minute.
pub fn refresh(core: &mut Core, now: bool) {
    let population = &core.modes.population;
    let recent = population.counted.is_some_and(|at| core.now.mono < at.saturating_add(PAUSE_MS));
    if population.follows || (recent && !now) {
        return;
    }
    let mut homes = BTreeMap::new();
    let entries = core.host.scan_all(GroupId::CMS).filter(|(key, _)| key.kind == KIND_DIRECTORY);
    for entry in entries.filter_map(|(_, record)| DirectoryEntry::decode(&record.value).ok()) {
        *homes.entry(entry.home).or_insert(0_u32) += 1;
    }
    core.modes.population = Population { homes, follows: true, counted: Some(core.now.mono) };
}
