//! When a checkpoint is taken: every few seconds, one at a time.
//!
//! Owns the rhythm. What goes into a checkpoint is replication's; how it is written is the store's.

use crate::core::Core;
use pairline_group::Millis;
use pairline_group::io::HostInput;

/// Milliseconds between the end of one checkpoint and the start of the next.
const INTERVAL_MS: Millis = 5_000;

/// The running checkpoint, and when the next one is due.
#[derive(Debug, Default)]
pub struct Checkpoints {
    running: Option<u64>,
    next: Millis,
}

/// Time passes.
pub fn tick(core: &mut Core) {
    let now = core.now;
    if core.checkpoints.running.is_some() || now.mono < core.checkpoints.next {
        return;
    }
    let id = core.fresh();
    core.checkpoints.running = Some(id);
    core.host.handle(now, HostInput::Checkpoint { id });
}

/// The store has it on disk.
pub fn done(core: &mut Core, id: u64) {
    let now = core.now;
    if core.checkpoints.running == Some(id) {
        core.checkpoints.running = None;
        core.checkpoints.next = now.mono + INTERVAL_MS;
    }
    core.host.handle(now, HostInput::CheckpointDone { id });
}
