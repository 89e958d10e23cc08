//! What procedures left in the groups' logs: entries that name a step, and the journal records made again from them.
//!
//! Owns the memory of such entries, from the log at start and as they are applied. What a record says is `resilience`'s.

use crate::core::Core;
use pairline_group::codec::entry_in_item;
use pairline_group::io::{LogKind, RecoveredGroup};
use pairline_group::{Body, Entry, GroupId};
use pairline_resilience::journal::{self, Procedure};
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries remembered; the oldest go. A procedure leaves one per group, so the last ones are always whole.
const MOST: usize = 4_096;

/// Entries of steps, oldest first.
#[derive(Default)]
pub struct Traces(VecDeque<(GroupId, Arc<Entry>)>);

impl Traces {
    /// Those in the log that a disk gave back: the journal's first record may have been lost with a crash.
    pub fn of(recovered: &[RecoveredGroup]) -> Traces {
        let mut traces = Traces::default();
        for group in recovered {
            let items = group.log.iter().filter(|record| record.kind == LogKind::Item);
            for entry in items.filter_map(|record| entry_in_item(&record.payload)) {
                traces.note(group.group, &Arc::new(entry));
            }
        }
        traces
    }

    /// Takes an entry that was applied, if it is a step's change of serving pool.
    pub fn note(&mut self, group: GroupId, entry: &Arc<Entry>) {
        if entry.step.is_none() || !matches!(entry.body, Body::Handover(_) | Body::Promote(_)) {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((group, Arc::clone(entry)));
    }
}

/// Records made again of procedures whose journal began with the promotion of the management store. One counts only while
/// the store is in the very epoch that it granted: whatever came later has a journal of its own.
pub fn procedures(core: &Core) -> Vec<Procedure> {
    let Some(store) = core.host.group(GroupId::CMS) else { return Vec::new() };
    let entries = || core.procedures.traces.0.iter().map(|(group, entry)| (*group, entry.as_ref()));
    let granted = |entry: &Entry| matches!(&entry.body, Body::Promote(promote) if promote.epoch == store.epoch);
    let begun = entries().filter(|(group, entry)| group.is_cms() && granted(entry));
    let first = begun.filter_map(|(_, entry)| journal::from_promotion(entry));
    first.map(|procedure| journal::rebuild(procedure, entries())).collect()
}
