//! Divergent tails on the virtual disk.
//!
//! Owns the translation between the store's tail files and the node's words.

use pairline_group::{GroupId, PoolId, Position};
use pairline_node::io::StoredTail;
use pairline_store::Store;
use pairline_store::tails::Resolution;

/// Open entries of the stored tails of a pool's groups (the management store's with its home).
pub fn read(store: &Store, pool: PoolId) -> Vec<StoredTail> {
    let ids = store.tails().list().unwrap_or_default();
    let tails = ids.into_iter().filter(|id| id.group.pool == pool || id.group.is_cms());
    tails
        .filter_map(|id| store.tails().read(id).ok())
        .map(|tail| {
            let open = tail.entries.iter().zip(&tail.resolutions).filter(|(_, resolution)| !resolution.is_settled());
            StoredTail {
                group: tail.id.group,
                fork: tail.id.fork,
                entries: open.map(|(entry, _)| entry.clone()).collect(),
            }
        })
        .collect()
}

/// Marks entries of a tail.
pub fn resolve(store: &Store, group: GroupId, fork: Position, resolved: &[(Position, Box<str>)]) {
    for id in store.tails().list().unwrap_or_default().into_iter().filter(|id| id.group == group && id.fork == fork) {
        let Ok(tail) = store.tails().read(id) else { continue };
        let here = |position: &Position| tail.entries.iter().any(|entry| entry.position == *position);
        let marks: Vec<(Position, Resolution)> = resolved
            .iter()
            .filter(|(position, _)| here(position))
            .map(|(position, word)| (*position, resolution(word)))
            .collect();
        // A mark that is lost with the disk leaves the entry open: it is offered again, and applied at most once.
        let _unmarked = store.tails().resolve(id, &marks).is_err();
    }
}

fn resolution(word: &str) -> Resolution {
    match word {
        "applied" => Resolution::Applied,
        "skipped" => Resolution::Skipped,
        "conflict" => Resolution::Conflict,
        "discarded" => Resolution::Discarded,
        _ => Resolution::Open,
    }
}

/// Operation ids of all entries in all stored tails.
pub fn operations(store: &Store) -> Vec<pairline_group::OpId> {
    let ids = store.tails().list().unwrap_or_default();
    let tails = ids.into_iter().filter_map(|id| store.tails().read(id).ok());
    tails.flat_map(|tail| tail.entries).filter_map(|entry| entry.op).collect()
}
