//! The store thread: appends in order, one sync for all that is queued, checkpoints, tails.
//!
//! Owns the store while the server runs, and what a full or failed disk means: full = nothing is acknowledged and it is
//! tried again; failed = the process ends. Decides nothing about groups.

use super::counters::{Counters, count};
use super::events::EventHub;
use super::inbox::Inbox;
use crossbeam_channel as channel;
use pairline_group::io::{CheckpointDelta, LogBatch};
use pairline_group::{Entry, GroupId, PoolId, Position};
use pairline_node::event::Level;
use pairline_node::io::{Input, StoredTail};
use pairline_store::tails::Resolution;
use pairline_store::{CheckpointError, LogError, Store, TailError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Requests that may wait in the queue; more wait with the node's thread, which then takes no more work in.
pub const QUEUE: usize = 512;
/// Appends that share one sync at most.
const TOGETHER: usize = 256;
/// With nothing to do for so long, the log is marked as synced.
const IDLE: Duration = Duration::from_millis(100);
/// With a full disk, how often it is tried again.
const RETRY: Duration = Duration::from_millis(250);
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
    /// Read the open entries of stored tails; answered with `Tails`.
    ReadTails(u64, PoolId),
    /// Remember what became of entries.
    ResolveTail(GroupId, Position, Vec<(Position, Box<str>)>),
    /// Make everything durable and end.
    Close,
}

impl Request {
    /// Bytes that it holds, roughly.
    pub fn weight(&self) -> usize {
        match self {
            Request::Append(batch) => batch.records.iter().map(|r| r.payload.len() + 64).sum(),
            Request::Checkpoint(_, deltas) => deltas.iter().map(|d| d.meta.len() + d.puts.len() * 256).sum(),
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
    /// A group could not be forgotten.
    #[error("forgetting a group: {0}")]
    Forget(#[from] pairline_store::ForgetError),
    /// The tails.
    #[error("divergent tail: {}: {}", .0, source_text(.0))]
    Tail(#[from] TailError),
}

fn source_text(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| "no further cause known".to_owned(), ToString::to_string)
}

/// The store thread's state.
pub struct Storage {
    store: Store,
    requests: channel::Receiver<Request>,
    inbox: Inbox,
    events: EventHub,
    counters: Arc<Counters>,
    log_bytes: Arc<AtomicU64>,
    /// Appends that a full disk holds up, oldest first.
    stuck: VecDeque<LogBatch>,
    /// A checkpoint that a full disk holds up.
    stuck_checkpoint: Option<(u64, Vec<CheckpointDelta>)>,
    full: bool,
    unsynced: bool,
    purged: u32,
    closing: bool,
}

impl Storage {
    /// Around an open store.
    pub fn new(
        store: Store,
        requests: channel::Receiver<Request>,
        inbox: Inbox,
        events: EventHub,
        counters: Arc<Counters>,
        log_bytes: Arc<AtomicU64>,
    ) -> Storage {
        Storage {
            store,
            requests,
            inbox,
            events,
            counters,
            log_bytes,
            stuck: VecDeque::new(),
            stuck_checkpoint: None,
            full: false,
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
            match self.requests.recv_timeout(wait) {
                Ok(request) => self.serve(request)?,
                Err(channel::RecvTimeoutError::Timeout) => self.idle()?,
                Err(channel::RecvTimeoutError::Disconnected) => self.closing = true,
            }
            if self.full {
                self.retry()?;
            }
        }
        self.sync()?;
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
        // Behind a full disk batches of the group may still wait; the next start asks for the same again.
        if self.stuck.is_empty() && self.stuck_checkpoint.is_none() {
            self.store.forget(group)?;
        }
        Ok(())
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
            Request::Checkpoint(id, groups) => self.checkpoint(id, groups)?,
            Request::Forget(group) => self.forget(group)?,
            Request::Purge(group, through) => {
                match self.store.purge(group, through) {
                    // With a full disk the space is freed by a later purge or collection.
                    Err(LogError::NoSpace(_)) => self.disk_full("the log cannot be purged"),
                    done => done?,
                }
                self.unsynced_purge();
            }
            Request::StoreTail(group, fork, entries) => match self.store.store_tail(group, fork, &entries) {
                Ok(_) => self.tell(Input::TailStored { group }),
                // Re-basing waits until the tail is durable; it is asked for again after a restart.
                Err(TailError::Files(e)) if e.is_no_space() => self.disk_full("a divergent tail cannot be stored"),
                Err(error) => return Err(error.into()),
            },
            Request::ReadTails(id, pool) => {
                let tails = self.read_tails(pool);
                self.tell(Input::Tails { id, tails });
            }
            Request::ResolveTail(group, fork, resolved) => self.resolve(group, fork, &resolved),
            Request::Close => self.closing = true,
        }
        Ok(())
    }

    fn unsynced_purge(&mut self) {
        self.purged += 1;
    }

    fn checkpoint(&mut self, id: u64, groups: Vec<CheckpointDelta>) -> Result<(), StorageFailure> {
        match self.store.checkpoint(&groups) {
            Ok(()) => {
                count(&self.counters.checkpoints);
                self.tell(Input::CheckpointDone { id });
                Ok(())
            }
            Err(CheckpointError::NoSpace(_)) => {
                self.stuck_checkpoint = Some((id, groups));
                self.disk_full("the checkpoint cannot be written");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn disk_full(&mut self, what: &str) {
        if !self.full {
            self.full = true;
            self.events.emit(
                Level::Error,
                "disk-full",
                format!("the disk is full: {what}; nothing is acknowledged until there is space"),
            );
        }
    }

    fn retry(&mut self) -> Result<(), StorageFailure> {
        if let Some((id, groups)) = self.stuck_checkpoint.take() {
            self.checkpoint(id, groups)?;
        }
        if self.purged > 0 {
            self.collect()?;
        }
        let waiting = std::mem::take(&mut self.stuck);
        for batch in waiting {
            self.append(batch)?;
        }
        self.sync()?;
        if self.stuck.is_empty() && self.stuck_checkpoint.is_none() {
            self.full = false;
            self.events.emit(Level::Info, "disk-space", "there is space on the disk again; changes are taken");
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

    fn collect(&mut self) -> Result<(), StorageFailure> {
        self.purged = 0;
        match self.store.collect() {
            Err(LogError::NoSpace(_)) => {}
            done => done?,
        }
        self.log_bytes.store(self.store.log_stats().bytes, Ordering::Relaxed);
        Ok(())
    }

    fn tell(&self, input: Input) {
        // Without a node nobody waits for it.
        let _ = self.inbox.disk(input);
    }

    fn complain(&self, what: &str, error: &TailError) {
        self.events.emit(Level::Error, "tail-unreadable", format!("{what}: {error}"));
    }

    fn read_tails(&self, pool: PoolId) -> Vec<StoredTail> {
        let tails = self.store.tails();
        let ids = tails.list().unwrap_or_else(|e| {
            self.complain("the divergent tails cannot be listed", &e);
            Vec::new()
        });
        let mut found = Vec::new();
        for id in ids.into_iter().filter(|id| id.group.pool == pool || id.group.is_cms()) {
            match tails.read(id) {
                Ok(tail) => {
                    let open = tail.entries.into_iter().zip(tail.resolutions);
                    let entries = open.filter(|(_, r)| *r == Resolution::Open).map(|(e, _)| e).collect();
                    found.push(StoredTail { group: id.group, fork: id.fork, entries });
                }
                Err(e) => self.complain("a divergent tail cannot be read", &e),
            }
        }
        found
    }

    fn resolve(&self, group: GroupId, fork: Position, resolved: &[(Position, Box<str>)]) {
        let tails = self.store.tails();
        let ids = tails.list().unwrap_or_default();
        for id in ids.into_iter().filter(|id| id.group == group && id.fork == fork) {
            let Ok(tail) = tails.read(id) else { continue };
            let marks: Vec<(Position, Resolution)> = resolved
                .iter()
                .filter(|(position, _)| tail.entries.iter().any(|e| e.position == *position))
                .map(|(position, outcome)| (*position, resolution(outcome)))
                .collect();
            if marks.is_empty() {
                continue;
            }
            if let Err(e) = tails.resolve(id, &marks) {
                self.complain("what became of a divergent tail's entries cannot be stored", &e);
            }
        }
    }
}

fn resolution(word: &str) -> Resolution {
    [Resolution::Applied, Resolution::Skipped, Resolution::Conflict, Resolution::Discarded]
        .into_iter()
        .find(|r| r.as_str() == word)
        .unwrap_or(Resolution::Open)
}
