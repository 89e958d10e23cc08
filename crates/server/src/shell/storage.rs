//! The store thread: appends in order, one sync for all that is queued, tails; checkpoints are handed on to a thread of their own.
//!
//! Owns the log while the server runs, and what a full or failed disk means: full = nothing is acknowledged, the node is
//! told, and it is tried again; failed = the process ends. Decides nothing about groups.

use super::checkpoint::{Checkpointer, Done, Work};
use super::counters::{Counters, count};
use super::events::EventHub;
use super::inbox::Inbox;
use crossbeam_channel as channel;
use pairline_group::io::{CheckpointDelta, LogBatch};
use pairline_group::{Entry, GroupId, PoolId, Position};
use pairline_node::event::Level;
use pairline_node::io::{Input, StoredTail};
use pairline_store::tails::Resolution;
use pairline_store::{CheckpointError, LogError, LogStore, Tail, TailError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Requests that may wait in the queue; more wait with the node's thread, which then takes no more work in.
pub const QUEUE: usize = 512;
/// Appends that share one sync at most.
const TOGETHER: usize = 256;
/// Most records of batches that are made one.
const JOINED: usize = 1_024;
/// With nothing to do for so long, the log is marked as synced.
const IDLE: Duration = Duration::from_millis(100);
/// With a full disk, how often it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Other requests that a full disk may hold up: a purge and a tail for each group, one checkpoint, and marks of tails.
const HELD: usize = 4096;
/// Purges after which the log's space is freed even under load.
const PURGES: u32 = 256;

/// What the store thread is asked for.
#[derive(Debug)]
pub enum Request {
    /// Append and sync; answered with `Synced`.
    Append(LogBatch),
    /// Write a checkpoint; answered with `CheckpointDone`.
    Checkpoint(u64, Vec<CheckpointDelta>),
    /// Nothing of that group is needed here any more.
    Forget(GroupId),
    /// Records of that group up to that index may go.
    Purge(GroupId, u64),
    /// Store a divergent tail; answered with `TailStored`.
    StoreTail(GroupId, Position, Vec<Arc<Entry>>),
    /// Read the stored tails that are not settled; answered with `Tails`.
    ReadTails(u64, PoolId),
    /// Remember what became of entries.
    ResolveTail(GroupId, Position, Vec<(Position, Resolution)>),
    /// Make everything durable and end.
    Close,
}

impl Request {
    /// Takes a batch into this one, which goes right before it; gives back what cannot be taken in.
    pub fn join(&mut self, later: Request) -> Option<Request> {
        match (self, later) {
            (Request::Append(before), Request::Append(mut batch))
                if before.records.len() + batch.records.len() <= JOINED =>
            {
                before.batch = batch.batch;
                before.records.append(&mut batch.records);
                None
            }
            (_, later) => Some(later),
        }
    }

    /// Bytes that it holds, roughly.
    pub fn weight(&self) -> usize {
        match self {
            Request::Append(batch) => batch.records.iter().map(|r| r.payload.len() + 64).sum(),
            Request::Checkpoint(_, deltas) => deltas.iter().map(|d| d.meta.len() + d.puts.len() * 256).sum(),
            Request::ResolveTail(_, _, resolved) => 64 + resolved.len() * 64,
            _ => 64,
        }
    }
}

/// Why the store thread ended the process.
#[derive(Debug, thiserror::Error)]
pub enum StorageFailure {
    /// The log.
    #[error("log: {}: {}", .0, source_text(.0))]
    Log(#[from] LogError),
    /// The checkpoint.
    #[error("checkpoint: {}: {}", .0, source_text(.0))]
    Checkpoint(#[from] CheckpointError),
    /// The tails.
    #[error("divergent tail: {}: {}", .0, source_text(.0))]
    Tail(#[from] TailError),
}

fn source_text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| "no further cause known".to_owned(), ToString::to_string)
}

/// The store thread's state.
pub struct Storage {
    store: LogStore,
    checkpointer: Checkpointer,
    requests: channel::Receiver<Request>,
    inbox: Inbox,
    events: EventHub,
    counters: Arc<Counters>,
    log_bytes: Arc<AtomicU64>,
    /// Appends that a full disk holds up, oldest first.
    stuck: VecDeque<LogBatch>,
    /// Everything else that a full disk holds up, oldest first.
    held: VecDeque<Request>,
    full: bool,
    /// With a full disk: when it is tried again.
    retry_at: Instant,
    unsynced: bool,
    purged: u32,
    closing: bool,
}

impl Storage {
    /// Around an open log, and whoever writes checkpoints.
    pub fn new(
        (store, checkpointer): (LogStore, Checkpointer),
        requests: channel::Receiver<Request>,
        inbox: Inbox,
        events: EventHub,
        counters: Arc<Counters>,
        log_bytes: Arc<AtomicU64>,
    ) -> Storage {
        Storage {
            store,
            checkpointer,
            requests,
            inbox,
            events,
            counters,
            log_bytes,
            stuck: VecDeque::new(),
            held: VecDeque::new(),
            full: false,
            retry_at: Instant::now(),
            unsynced: false,
            purged: 0,
            closing: false,
        }
    }

    /// Serves requests until asked to close, or until the node is gone.
    ///
    /// # Errors
    /// [`StorageFailure`]: what is on disk is no longer known, the process must end.
    pub fn run(mut self) -> Result<(), StorageFailure> {
        while !self.closing {
            let wait = if self.full { RETRY } else { IDLE };
            channel::select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.serve(request)?,
                    Err(channel::RecvError) => self.closing = true,
                },
                recv(self.checkpointer.ready()) -> done => match done {
                    Ok(done) => self.checkpointed(done)?,
                    Err(channel::RecvError) => self.closing = true,
                },
                default(wait) => self.idle()?,
            }
            if self.full && self.retry_at <= Instant::now() {
                self.retry()?;
            }
        }
        self.sync()?;
        self.await_checkpoints()?;
        Ok(self.store.close()?)
    }

    fn serve(&mut self, first: Request) -> Result<(), StorageFailure> {
        let mut next = Some(first);
        for _ in 0..TOGETHER {
            match next.take() {
                Some(Request::Append(batch)) => self.append(batch)?,
                Some(other) => {
                    // A checkpoint must not be ahead of the log's sync, and whoever waits for the appends waits no longer.
                    self.sync()?;
                    self.other(other)?;
                }
                None => break,
            }
            next = if self.closing { None } else { self.requests.try_recv().ok() };
        }
        self.sync()?;
        if let Some(left) = next {
            self.serve_one(left)?;
        }
        if self.purged >= PURGES {
            self.collect()?;
        }
        Ok(())
    }

    fn serve_one(&mut self, request: Request) -> Result<(), StorageFailure> {
        match request {
            Request::Append(batch) => self.append(batch)?,
            other => self.other(other)?,
        }
        self.sync()
    }

    fn forget(&mut self, group: GroupId) -> Result<(), StorageFailure> {
        // Batches of the group that wait for space come first, so that none of them stands behind its end.
        let waits = !self.stuck.is_empty();
        match if waits { Ok(()) } else { self.store.forget(group) } {
            Ok(()) if !waits => self.hand_on(Work::Forget(group))?,
            Ok(()) | Err(LogError::NoSpace(_)) => self.not_given_up(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Not made up for: the next start finds the group there and gives it up again.
    fn not_given_up(&mut self) {
        self.disk_full("a group that is not kept here any more cannot be given up");
    }

    fn append(&mut self, batch: LogBatch) -> Result<(), StorageFailure> {
        if !self.stuck.is_empty() {
            self.stuck.push_back(batch);
            return Ok(());
        }
        match self.store.append(&batch) {
            Ok(()) => {
                count(&self.counters.log_batches);
                self.unsynced = true;
                Ok(())
            }
            Err(LogError::NoSpace(_)) => {
                self.stuck.push_back(batch);
                self.disk_full("the log cannot grow");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        if !self.unsynced {
            return Ok(());
        }
        let start = Instant::now();
        let batch = self.store.sync()?;
        self.unsynced = false;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        count(&self.counters.log_syncs);
        self.counters.log_sync_time.fetch_add(micros, Ordering::Relaxed);
        self.counters.log_sync_longest.fetch_max(micros, Ordering::Relaxed);
        self.log_bytes.store(self.store.log_stats().bytes, Ordering::Relaxed);
        self.tell(Input::Synced { batch });
        Ok(())
    }

    fn other(&mut self, request: Request) -> Result<(), StorageFailure> {
        match request {
            Request::Append(batch) => self.append(batch)?,
            Request::Checkpoint(id, groups) => self.hand_on(Work::Write(id, groups))?,
            Request::Forget(group) => self.forget(group)?,
            Request::Purge(group, through) => match self.store.purge(group, through) {
                Err(LogError::NoSpace(_)) => {
                    // A later purge of the group says it all.
                    self.held.retain(|held| !matches!(held, Request::Purge(of, _) if *of == group));
                    self.hold(Request::Purge(group, through), "the log cannot be purged");
                }
                done => {
                    done?;
                    self.purged += 1;
                }
            },
            Request::StoreTail(group, fork, entries) => match self.store.store_tail(group, fork, &entries) {
                Ok(_) => self.tell(Input::TailStored { group }),
                // Re-basing waits until the tail is durable.
                Err(TailError::Files(e)) if e.is_no_space() => {
                    self.hold(Request::StoreTail(group, fork, entries), "a divergent tail cannot be stored");
                }
                Err(error) => return Err(error.into()),
            },
            Request::ReadTails(id, pool) => {
                let tails = self.read_tails(pool);
                self.tell(Input::Tails { id, tails });
            }
            Request::ResolveTail(group, fork, resolved) => self.resolve(group, fork, resolved),
            Request::Close => self.closing = true,
        }
        Ok(())
    }

    /// Hands work to the checkpoint thread; while it has as much as it takes, its results are looked at first.
    fn hand_on(&mut self, work: Work) -> Result<(), StorageFailure> {
        while self.checkpointer.is_full() {
            let Some(done) = self.checkpointer.wait() else { break };
            self.checkpointed(done)?;
        }
        self.checkpointer.ask(work);
        Ok(())
    }

    /// What the checkpoint thread was asked for is done, or is not.
    fn checkpointed(&mut self, done: Done) -> Result<(), StorageFailure> {
        self.checkpointer.looked_at();
        match (done.result, done.work) {
            (Ok(()), Work::Write(id, _)) => {
                count(&self.counters.checkpoints);
                self.tell(Input::CheckpointDone { id });
            }
            (Ok(()), Work::Forget(_)) => {}
            (Err(CheckpointError::NoSpace(_)), Work::Write(id, groups)) => {
                self.hold(Request::Checkpoint(id, groups), "the checkpoint cannot be written");
            }
            (Err(CheckpointError::NoSpace(_)), Work::Forget(_)) => self.not_given_up(),
            (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }

    fn await_checkpoints(&mut self) -> Result<(), StorageFailure> {
        while let Some(done) = self.checkpointer.wait() {
            self.checkpointed(done)?;
        }
        Ok(())
    }

    /// Keeps a request until there is room.
    fn hold(&mut self, request: Request, what: &str) {
        self.disk_full(what);
        if self.held.len() < HELD {
            self.held.push_back(request);
        } else {
            // Only marks of tails can come in such numbers; without its mark an entry is offered again.
            self.events.emit(Level::Error, "disk-full", format!("{what}, and too much waits for it: given up"));
        }
    }

    fn disk_full(&mut self, what: &str) {
        self.retry_at = Instant::now() + RETRY;
        if !self.full {
            self.full = true;
            self.tell(Input::Disk { full: true });
            self.events.emit(
                Level::Error,
                "disk-full",
                format!("the disk is full: {what}; nothing is acknowledged until there is space"),
            );
        }
    }

    /// Tries again all that waits: first what may free space.
    fn retry(&mut self) -> Result<(), StorageFailure> {
        for held in std::mem::take(&mut self.held) {
            self.other(held)?;
        }
        // Whether there is room again is known when these are written.
        self.await_checkpoints()?;
        let collected = self.purged == 0 || self.collect()?;
        let waiting = std::mem::take(&mut self.stuck);
        for batch in waiting {
            self.append(batch)?;
        }
        self.sync()?;
        if self.stuck.is_empty() && self.held.is_empty() && collected {
            self.full = false;
            self.tell(Input::Disk { full: false });
            self.events.emit(Level::Info, "disk-space", "there is space on the disk again; changes are taken");
        } else {
            self.retry_at = Instant::now() + RETRY;
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), StorageFailure> {
        if self.purged > 0 {
            self.collect()?;
        }
        match self.store.idle() {
            Err(LogError::NoSpace(_)) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Frees the log's space; false if there was none left to do it with, so that it is due again.
    fn collect(&mut self) -> Result<bool, StorageFailure> {
        let done = match self.store.collect() {
            Err(LogError::NoSpace(_)) => false,
            done => {
                done?;
                self.purged = 0;
                true
            }
        };
        self.log_bytes.store(self.store.log_stats().bytes, Ordering::Relaxed);
        Ok(done)
    }

    fn tell(&self, input: Input) {
        // Without a node nobody waits for it.
        let _ = self.inbox.disk(input);
    }

    fn complain(&self, what: &str, error: &TailError) {
        self.events.emit(Level::Error, "tail-unreadable", format!("{what}: {error}"));
    }

    fn read_tails(&self, pool: PoolId) -> Vec<StoredTail> {
        let (tails, failed) = self.store.tails().unsettled(|group| group.pool == pool || group.is_cms());
        for error in &failed {
            self.complain("a divergent tail cannot be read", error);
        }
        let stored = |Tail { id, entries, resolutions, .. }: Tail| StoredTail {
            group: id.group,
            fork: id.fork,
            entries,
            resolutions,
        };
        tails.into_iter().map(stored).collect()
    }

    fn resolve(&mut self, group: GroupId, fork: Position, resolved: Vec<(Position, Resolution)>) {
        let marks: BTreeMap<Position, Resolution> = resolved.iter().copied().collect();
        match self.store.tails().resolve_at(group, fork, &marks) {
            Ok(()) => {}
            Err(TailError::Files(e)) if e.is_no_space() => {
                let what = "what became of a divergent tail's entries cannot be stored";
                self.hold(Request::ResolveTail(group, fork, resolved), what);
            }
            Err(e) => self.complain("what became of a divergent tail's entries cannot be stored", &e),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Batches that follow each other are one, in order, within bounds.

    use super::*;
    use bytes::Bytes;
    use pairline_group::io::{LogKind, LogRecord};

    fn batch(number: u64, records: usize) -> Request {
        let group = GroupId { pool: PoolId(1), index: 0 };
        let record = |index: usize| LogRecord {
            group,
            kind: LogKind::Item,
            term: number,
            index: index as u64,
            payload: Bytes::from_static(b"12"),
        };
        Request::Append(LogBatch { batch: number, records: (0..records).map(record).collect() })
    }

    #[test]
    fn a_batch_takes_in_the_next_and_has_its_number() {
        let mut first = batch(7, 2);
        assert!(first.join(batch(8, 1)).is_none());
        let Request::Append(joined) = &first else { panic!("{first:?}") };
        assert_eq!(joined.batch, 8, "once it is synced, both are");
        assert_eq!(
            joined.records.iter().map(|record| (record.term, record.index)).collect::<Vec<_>>(),
            [(7, 0), (7, 1), (8, 0)]
        );
        assert_eq!(first.weight(), batch(7, 2).weight() + batch(8, 1).weight());
    }

    #[test]
    fn what_is_no_batch_or_too_much_goes_behind_it() {
        let mut first = batch(1, JOINED - 1);
        assert!(matches!(first.join(batch(2, 2)), Some(Request::Append(LogBatch { batch: 2, .. }))));
        assert!(first.join(batch(2, 1)).is_none());
        let mut purge = Request::Purge(GroupId { pool: PoolId(1), index: 0 }, 3);
        assert!(purge.join(batch(3, 1)).is_some());
        assert!(matches!(first.join(purge), Some(Request::Purge(..))));
    }
}
