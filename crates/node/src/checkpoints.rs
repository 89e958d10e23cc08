//! When a checkpoint is taken: every few seconds a round through all groups, in parts, one at a time, so that neither this thread
//! nor the disk is taken up by one large piece of work while clients wait.
//!
//! Owns the rhythm. What goes into a checkpoint is replication's; how it is written is the store's.

use crate::core::Core;
use crate::io::Output;
use pairline_group::Millis;
use pairline_group::io::{CheckpointDelta, HostInput};

/// Milliseconds between the starts of two rounds.
const INTERVAL_MS: Millis = 5_000;
/// Milliseconds between the end of one part and the start of the next.
const PAUSE_MS: Millis = 20;
/// The same if the part only brought together what is to be written with a later one.
const GATHER_MS: Millis = 5;

/// The part that is being written, and when the next one is due.
#[derive(Debug, Default)]
pub struct Checkpoints {
    running: Option<u64>,
    next: Millis,
    /// When the round that is under way began.
    began: Option<Millis>,
    /// Whether the running part is the last of its round.
    last: bool,
    /// Whether the next round is not to wait for its time.
    soon: bool,
}

/// Time passes.
pub fn tick(core: &mut Core) {
    let now = core.now;
    if core.checkpoints.running.is_some() || now.mono < core.checkpoints.next {
        return;
    }
    let id = core.fresh();
    core.checkpoints.running = Some(id);
    core.checkpoints.began.get_or_insert(now.mono);
    core.host.handle(now, HostInput::Checkpoint { id });
}

/// Something waits for the next round: it begins now, or when the one that is under way is over.
pub fn soon(core: &mut Core) {
    core.checkpoints.next = core.checkpoints.next.min(core.now.mono);
    core.checkpoints.soon = true;
}

/// What is to be written down. `last`: it is the end of a round.
pub fn taken(core: &mut Core, id: u64, groups: Vec<CheckpointDelta>, last: bool) {
    core.checkpoints.last = last;
    if groups.is_empty() {
        // Nothing has changed since what is on disk, or not all of what is to be written has been taken.
        done(core, id);
        if !last {
            core.checkpoints.next = core.now.mono + GATHER_MS;
        }
        return;
    }
    core.out.push_back(Output::Checkpoint { id, groups });
}

/// The store has it on disk.
pub fn done(core: &mut Core, id: u64) {
    let now = core.now;
    let checkpoints = &mut core.checkpoints;
    if checkpoints.running == Some(id) {
        checkpoints.running = None;
        checkpoints.next = now.mono + PAUSE_MS;
        if checkpoints.last {
            let began = checkpoints.began.take().unwrap_or(now.mono);
            let wait = if std::mem::take(&mut checkpoints.soon) { 0 } else { INTERVAL_MS };
            checkpoints.next = checkpoints.next.max(began + wait);
        }
    }
    core.host.handle(now, HostInput::CheckpointDone { id });
}
