//! The checkpoint thread: writes what the store thread hands it, so that no change waits for a checkpoint to be acknowledged.
//!
//! Owns the order of checkpoints and of the groups that are given up, and the thread's low priority. What is written when, and what a
//! full or failed disk means, is the store thread's to say.

use crossbeam_channel as channel;
use pairline_group::GroupId;
use pairline_group::io::CheckpointDelta;
use pairline_store::{CheckpointError, CheckpointStore};

/// Work that may wait: the node has one checkpoint written at a time, and gives groups up rarely.
const QUEUE: usize = 64;
/// Whoever waits for an answer comes first; a tenth of a core is left to it even so.
const NICE: i32 = 10;

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// Write a checkpoint; the log before it has been synced.
    Write(u64, Vec<CheckpointDelta>),
    /// Nothing of that group is needed any more; its log is void already.
    Forget(GroupId),
}

/// What became of it; a failed write is given back.
#[derive(Debug)]
pub struct Done {
    /// What was to be done.
    pub work: Work,
    /// How it went.
    pub result: Result<(), CheckpointError>,
}

/// The store thread's side.
#[derive(Debug)]
pub struct Checkpointer {
    work: channel::Sender<Work>,
    done: channel::Receiver<Done>,
    outstanding: usize,
}

/// The thread's side.
#[derive(Debug)]
pub struct Writer {
    store: Box<dyn CheckpointStore>,
    work: channel::Receiver<Work>,
    done: channel::Sender<Done>,
}

/// Both sides; [`Writer::run`] is for a thread.
pub fn pair(store: Box<dyn CheckpointStore>) -> (Checkpointer, Writer) {
    let (work_in, work) = channel::bounded(QUEUE);
    // Never full, as no more than that is handed over before results are looked at: neither side ever waits for the other to take.
    let (done_in, done) = channel::bounded(QUEUE);
    (Checkpointer { work: work_in, done, outstanding: 0 }, Writer { store, work, done: done_in })
}

impl Checkpointer {
    /// Whether results have to be looked at before more is handed over.
    pub fn is_full(&self) -> bool {
        self.outstanding >= QUEUE
    }

    /// Hands work over, in order. Not while it [is full](Checkpointer::is_full).
    pub fn ask(&mut self, work: Work) {
        // Without its thread, which has told its panic, the process is about to end.
        if self.work.send(work).is_ok() {
            self.outstanding += 1;
        }
    }

    /// Ready when something has been done, or the thread is gone: to wait for it beside other things.
    pub fn ready(&self) -> &channel::Receiver<Done> {
        &self.done
    }

    /// Waits for what became of the oldest work; `None` if there is none.
    pub fn wait(&self) -> Option<Done> {
        if self.outstanding == 0 { None } else { self.done.recv().ok() }
    }

    /// A result, had by either way, has been looked at.
    pub fn looked_at(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }
}

impl Writer {
    /// Works until the other side is gone.
    pub fn run(mut self) {
        // Refused where the machine does not allow it: then it is only less considerate.
        let _ = rustix::process::nice(NICE);
        while let Ok(work) = self.work.recv() {
            let result = match &work {
                Work::Write(_, deltas) => self.store.write(deltas),
                Work::Forget(group) => self.store.forget(*group),
            };
            if self.done.send(Done { work, result }).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Work is done in order, also what is still there when the other side ends.

    use super::*;
    use pairline_store::MemoryCheckpoints;

    fn delta(index: u16) -> CheckpointDelta {
        let group = GroupId { pool: pairline_group::PoolId(1), index };
        CheckpointDelta { group, meta: "meta".into(), ..CheckpointDelta::default() }
    }

    #[test]
    fn work_is_done_in_order_and_to_the_end() {
        let store = MemoryCheckpoints::new();
        let (mut asks, writer) = pair(Box::new(store.clone()));
        let thread = std::thread::spawn(move || writer.run());
        assert!(asks.wait().is_none(), "nothing was asked for");
        asks.ask(Work::Write(1, vec![delta(1), delta(2)]));
        asks.ask(Work::Forget(delta(1).group));
        let first = asks.wait().unwrap();
        assert!(matches!((first.work, first.result), (Work::Write(1, _), Ok(()))));
        asks.looked_at();
        let second = asks.wait().unwrap();
        assert!(matches!((second.work, second.result), (Work::Forget(_), Ok(()))));
        asks.looked_at();
        assert!(asks.wait().is_none());
        asks.ask(Work::Write(2, vec![delta(3)]));
        drop(asks);
        thread.join().unwrap();
        let mut store: Box<dyn CheckpointStore> = Box::new(store);
        let groups: Vec<u16> = store.read_all().unwrap().into_iter().map(|(group, _)| group.index).collect();
        assert_eq!(groups, [2, 3]);
    }
}
