//! Divergent tails on the virtual disk.
//!
//! Owns the translation between the store's tail files and the node's words; what is settled is the store's to say, as it is
//! for the server.

use pairline_group::{Body, Entry, GroupId, Key, OpId, PoolId, Position};
use pairline_node::io::StoredTail;
use pairline_store::Store;
use pairline_store::tails::Resolution;
use std::sync::Arc;

/// Unsettled tails of a pool's groups (the management store's with any).
pub fn read(store: &Store, pool: PoolId) -> Vec<StoredTail> {
    // What a fault made unreadable is the checkers' to find.
    let (tails, _unreadable) = store.log.tails().unsettled(|group| group.pool == pool || group.is_cms());
    let stored = |tail: pairline_store::Tail| StoredTail {
        group: tail.id.group,
        fork: tail.id.fork,
        entries: tail.entries,
        resolutions: tail.resolutions,
    };
    tails.into_iter().map(stored).collect()
}

/// Marks entries of a tail.
pub fn resolve(store: &Store, group: GroupId, fork: Position, resolved: &[(Position, Resolution)]) {
    // A mark that is lost with the disk leaves the entry open: it is offered again, and applied at most once.
    let _unmarked = store.log.tails().resolve_at(group, fork, &resolved.iter().copied().collect()).is_err();
}

/// Entries of all stored tails.
fn entries(store: &Store) -> impl Iterator<Item = Arc<Entry>> {
    let ids = store.log.tails().list().unwrap_or_default();
    ids.into_iter().filter_map(|id| store.log.tails().read(id).ok()).flat_map(|tail| tail.entries)
}

fn keys(entry: &Entry) -> Vec<Key> {
    match &entry.body {
        Body::Effects(effects) => effects.iter().map(|effect| effect.key().clone()).collect(),
        _ => Vec::new(),
    }
}

/// Keys of records that entries without an operation id bring: those that stand for a front of which only the state was left.
pub fn records(store: &Store) -> Vec<Key> {
    entries(store).filter(|entry| entry.op.is_none()).flat_map(|entry| keys(&entry)).collect()
}

/// Keys of all records that entries of tails touch.
pub fn touched(store: &Store) -> Vec<Key> {
    entries(store).flat_map(|entry| keys(&entry)).collect()
}

/// Operation ids of all entries in all stored tails.
pub fn operations(store: &Store) -> Vec<OpId> {
    entries(store).filter_map(|entry| entry.op).collect()
}
