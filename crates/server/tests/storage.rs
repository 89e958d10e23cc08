//! The store thread: order of appends and syncs, a full disk, a failed sync, tails.
#![allow(clippy::unwrap_used)]

use super::support;

use bytes::Bytes;
use crossbeam_channel as channel;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint, LogBatch, LogKind, LogRecord};
use pairline_group::tail::Resolution;
use pairline_group::{Body, ChainHash, Entry, Epoch, GroupId, PoolId, Position};
use pairline_node::io::Input;
use pairline_server::shell::checkpoint;
use pairline_server::shell::counters::Counters;
use pairline_server::shell::events::{EventHub, Events};
use pairline_server::shell::inbox::{Outlet, inbox};
use pairline_server::shell::storage::{Request, Storage, StorageFailure};
use pairline_store::checkpoint::AllCheckpoints;
use pairline_store::{
    CheckpointError, CheckpointStore, Corruption, MemoryCheckpoints, MemoryFiles, Store, StoreConfig,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;
use support::{PATIENCE, event};

const GROUP: GroupId = GroupId { pool: PoolId(1), index: 3 };

struct Disk {
    requests: channel::Sender<Request>,
    outlet: Outlet,
    events: Events,
    counters: Arc<Counters>,
    files: MemoryFiles,
    thread: JoinHandle<Result<(), StorageFailure>>,
}

fn batch(n: u64, size: usize) -> LogBatch {
    let payload = Bytes::from(vec![u8::try_from(n % 256).unwrap(); size]);
    let record = LogRecord { group: GROUP, kind: LogKind::Item, term: 1, index: n, payload };
    LogBatch { batch: n, records: vec![record] }
}

fn open(files: &MemoryFiles) -> (Store, Vec<pairline_group::io::RecoveredGroup>) {
    let config = StoreConfig::small("data");
    let checkpoints = Box::new(MemoryCheckpoints::default());
    let (store, recovered, _) = Store::open_with(&config, Arc::new(files.clone()), checkpoints).unwrap();
    (store, recovered)
}

/// Starts the thread; what is in `before` is already queued when it begins.
fn start(files: MemoryFiles, before: Vec<Request>) -> Disk {
    let (store, _) = open(&files);
    start_with(store, files, before)
}

fn start_with(store: Store, files: MemoryFiles, before: Vec<Request>) -> Disk {
    let counters = Arc::new(Counters::default());
    let (inbox, outlet) = inbox(counters.clone());
    let hub = EventHub::default();
    let events = hub.subscribe();
    let (requests, queue) = channel::bounded(4096);
    for request in before {
        requests.send(request).unwrap();
    }
    let (checkpointer, writer) = checkpoint::pair(store.checkpoints);
    std::thread::spawn(move || writer.run());
    let storage = Storage::new((store.log, checkpointer), queue, inbox, hub, counters.clone(), Arc::default());
    let thread = std::thread::spawn(move || storage.run());
    Disk { requests, outlet, events, counters, files, thread }
}

impl Disk {
    fn next(&self) -> Input {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(input) = self.outlet.disk() {
                return input;
            }
            std::thread::yield_now();
        }
        panic!("the store thread did not answer");
    }

    fn synced_through(&self, last: u64) -> Vec<u64> {
        let mut all = Vec::new();
        while all.last() != Some(&last) {
            match self.next() {
                Input::Synced { batch } => all.push(batch),
                other => panic!("unexpected {other:?}"),
            }
        }
        all
    }
}

#[test]
fn what_is_queued_together_is_synced_together_and_answered_in_order() {
    let disk = start(MemoryFiles::new(), (1..=100).map(|n| Request::Append(batch(n, 100))).collect());
    let answers = disk.synced_through(100);
    assert!(answers.is_sorted() && answers.len() <= 2, "one sync for all: {answers:?}");
    assert_eq!(disk.counters.log_batches.load(Ordering::Relaxed), 100);
    disk.requests.send(Request::Close).unwrap();
    disk.thread.join().unwrap().unwrap();
    disk.files.crash(7);
    let (_, recovered) = open(&disk.files);
    assert_eq!(recovered[0].log.len(), 100, "everything answered survives a crash");
}

/// Checkpoints that say when a write begins and wait for leave.
#[derive(Debug)]
struct Gate {
    begins: channel::Sender<()>,
    leave: channel::Receiver<()>,
}

impl CheckpointStore for Gate {
    fn write(&mut self, _: &[CheckpointDelta]) -> Result<(), CheckpointError> {
        self.begins.send(()).unwrap();
        self.leave.recv().unwrap();
        Ok(())
    }

    fn forget(&mut self, _: GroupId) -> Result<(), CheckpointError> {
        Ok(())
    }

    fn read(&mut self, _: GroupId) -> Result<Option<Result<GroupCheckpoint, Corruption>>, CheckpointError> {
        Ok(None)
    }

    fn read_all(&mut self) -> Result<AllCheckpoints, CheckpointError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_checkpoint_is_never_ahead_of_the_log_and_nothing_waits_for_it() {
    let delta = CheckpointDelta { group: GROUP, meta: Bytes::from_static(b"m"), ..CheckpointDelta::default() };
    let requests = vec![
        Request::Append(batch(1, 10)),
        Request::Checkpoint(9, vec![delta]),
        Request::Append(batch(2, 10)),
        Request::Purge(GROUP, 1),
        Request::Append(batch(3, 10)),
    ];
    let (begins, begun) = channel::bounded(1);
    let (leave_in, leave) = channel::bounded(1);
    let (mut store, _) = open(&MemoryFiles::new());
    store.checkpoints = Box::new(Gate { begins, leave });
    let disk = start_with(store, MemoryFiles::new(), requests);
    begun.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(disk.next(), Input::Synced { batch: 1 }), "synced before the checkpoint is written");
    assert_eq!(disk.synced_through(3), vec![2, 3]);
    leave_in.send(()).unwrap();
    assert!(matches!(disk.next(), Input::CheckpointDone { id: 9 }));
    drop(disk.requests);
    disk.thread.join().unwrap().unwrap();
}

#[test]
fn any_number_of_groups_is_given_up_without_a_standstill() {
    // A pool may have 4,096 groups, and unpairing gives them all up at once.
    let forgets = (0..1_000).map(|index| Request::Forget(GroupId { index, ..GROUP }));
    let requests = forgets.chain([Request::Append(batch(1, 10))]).collect();
    let disk = start(MemoryFiles::new(), requests);
    assert_eq!(disk.synced_through(1), vec![1]);
    disk.requests.send(Request::Close).unwrap();
    disk.thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_says_so_and_goes_on_when_there_is_space() {
    let files = MemoryFiles::new();
    let mut disk = start(files.clone(), vec![Request::Append(batch(1, 100))]);
    disk.synced_through(1);
    files.set_capacity(Some(files.used()));
    for n in 2..=5 {
        disk.requests.send(Request::Append(batch(n, 200_000))).unwrap();
    }
    let text = event(&mut disk.events, "disk-full").await;
    assert!(text.contains("nothing is acknowledged"), "{text}");
    assert!(matches!(disk.next(), Input::Disk { full: true }), "the node is told");
    assert!(disk.outlet.disk().is_none());
    files.set_capacity(None);
    event(&mut disk.events, "disk-space").await;
    assert_eq!(*disk.synced_through(5).last().unwrap(), 5);
    assert!(matches!(disk.next(), Input::Disk { full: false }));
    disk.requests.send(Request::Close).unwrap();
    disk.thread.join().unwrap().unwrap();
    let (_, recovered) = open(&files);
    let indices: Vec<u64> = recovered[0].log.iter().map(|r| r.index).collect();
    assert_eq!(indices, [1, 2, 3, 4, 5], "in order, none lost, none twice");
}

#[test]
fn a_failed_sync_ends_the_thread_and_acknowledges_nothing() {
    let files = MemoryFiles::new();
    let disk = start(files.clone(), vec![Request::Append(batch(1, 100))]);
    disk.synced_through(1);
    files.arm(pairline_store::files::Fault::SyncIo, 1);
    disk.requests.send(Request::Append(batch(2, 100))).unwrap();
    let failure = disk.thread.join().unwrap().unwrap_err();
    assert!(failure.to_string().contains("the log's disk failed"), "{failure}");
    assert!(disk.outlet.disk().is_none(), "no acknowledgement");
}

fn entry(seq: u64) -> Arc<Entry> {
    let position = Position { epoch: Epoch { number: 1, granted_by: PoolId(1) }, seq };
    let body = Body::Expire(vec![]);
    Arc::new(Entry { position, prev: ChainHash::default(), time: 5, op: None, step: None, body })
}

#[test]
fn tails_are_stored_read_and_resolved() {
    let fork = entry(4).position;
    let entries = vec![entry(4), entry(5), entry(6)];
    let applied = Resolution::Applied(Some(entry(9).position));
    let resolved = vec![(entry(4).position, applied), (entry(6).position, Resolution::Conflict)];
    let settled = vec![(entry(5).position, Resolution::Discarded), (entry(6).position, Resolution::GivenUp)];
    let requests = vec![
        Request::StoreTail(GROUP, fork, entries),
        Request::ReadTails(1, PoolId(1)),
        Request::ResolveTail(GROUP, fork, resolved),
        Request::ReadTails(2, PoolId(1)),
        Request::ReadTails(3, PoolId(2)),
        Request::ResolveTail(GROUP, fork, settled),
        Request::ReadTails(4, PoolId(1)),
    ];
    let disk = start(MemoryFiles::new(), requests);
    assert!(matches!(disk.next(), Input::TailStored { group } if group == GROUP));
    let open_entries = |input: Input| match input {
        Input::Tails { id, tails } => {
            let entries = tails.iter().flat_map(|t| t.entries.iter().zip(&t.resolutions));
            (id, entries.filter(|(_, r)| !r.is_settled()).map(|(e, _)| e.position.seq).collect::<Vec<_>>())
        }
        other => panic!("unexpected {other:?}"),
    };
    assert_eq!(open_entries(disk.next()), (1, vec![4, 5, 6]));
    assert_eq!(open_entries(disk.next()), (2, vec![5, 6]), "a conflict stays");
    assert_eq!(open_entries(disk.next()), (3, vec![]));
    assert_eq!(open_entries(disk.next()), (4, vec![]));
    drop(disk.requests);
    disk.thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_tail_that_finds_the_disk_full_is_stored_when_there_is_room() {
    let files = MemoryFiles::new();
    let mut disk = start(files.clone(), vec![Request::Append(batch(1, 100))]);
    disk.synced_through(1);
    files.set_capacity(Some(files.used()));
    disk.requests.send(Request::StoreTail(GROUP, entry(4).position, vec![entry(4), entry(5)])).unwrap();
    assert!(matches!(disk.next(), Input::Disk { full: true }));
    event(&mut disk.events, "disk-full").await;
    // While nothing has changed, nothing is announced: the next answer is that to a question.
    disk.requests.send(Request::ReadTails(1, PoolId(1))).unwrap();
    assert!(matches!(disk.next(), Input::Tails { id: 1, tails } if tails.is_empty()));
    files.set_capacity(None);
    assert!(matches!(disk.next(), Input::TailStored { group } if group == GROUP));
    assert!(matches!(disk.next(), Input::Disk { full: false }));
    event(&mut disk.events, "disk-space").await;
    // Marks that find no room are not lost, either.
    files.set_capacity(Some(files.used()));
    let marks = vec![(entry(4).position, Resolution::Skipped(None)), (entry(5).position, Resolution::Discarded)];
    disk.requests.send(Request::ResolveTail(GROUP, entry(4).position, marks)).unwrap();
    assert!(matches!(disk.next(), Input::Disk { full: true }));
    files.set_capacity(None);
    assert!(matches!(disk.next(), Input::Disk { full: false }));
    disk.requests.send(Request::ReadTails(2, PoolId(1))).unwrap();
    assert!(matches!(disk.next(), Input::Tails { id: 2, tails } if tails.is_empty()), "settled");
    disk.requests.send(Request::Close).unwrap();
    disk.thread.join().unwrap().unwrap();
}

#[test]
fn a_purge_under_load_does_not_stop_the_answers() {
    let mut requests = Vec::new();
    for n in 1..=600_u64 {
        requests.push(Request::Append(batch(n, 50)));
        if n % 2 == 0 {
            requests.push(Request::Purge(GROUP, n / 2));
        }
    }
    let disk = start(MemoryFiles::new(), requests);
    assert_eq!(*disk.synced_through(600).last().unwrap(), 600);
    disk.requests.send(Request::Close).unwrap();
    disk.thread.join().unwrap().unwrap();
}
