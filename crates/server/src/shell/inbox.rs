//! The node's input: bounded queues by source, in order of priority, and the wake-up of the node's thread.
//!
//! Owns the overflow rules of inputs (DESIGN §3): disk completions wait and are never dropped, streams and links wait and
//! so pause reading, datagrams are dropped and counted. Does not own what the node does with them.

use super::counters::{Counters, add};
use super::lanes::{Datagrams, Lane, LanesIn, LanesOut, Place, Sorted, lanes};
use crossbeam_channel as channel;
use pairline_node::io::Input;
use pairline_services::admission::sieve::Shares;
use pairline_topology::policy_proxy::EmergencyRoute;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Completions of the disk that may wait; the store thread waits when they are full, so it is only a buffer.
const DISK: usize = 4096;
/// Commands, link changes, answers of resolvers.
const CONTROL: usize = 1024;
/// Messages of streams (each at most 64 KiB).
const STREAMS: usize = 2048;
/// Frames of links; their bytes have a budget of their own.
const PEERS: usize = 1024;
/// Bytes of link frames that may wait, in KiB.
const PEER_KIB: usize = 64 * 1024;

/// For what the node looks by itself within a few milliseconds, and is not to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rest {
    /// Nothing.
    Awake,
    /// Clients' messages.
    Clients,
    /// Everything but a stop.
    All,
}

/// The sending side; one clone per source.
#[derive(Clone)]
pub struct Inbox {
    disk: channel::Sender<Input>,
    control: mpsc::Sender<Input>,
    streams: mpsc::Sender<(Instant, Input)>,
    peers: mpsc::Sender<(Input, OwnedSemaphorePermit)>,
    peer_budget: Arc<Semaphore>,
    datagrams: LanesIn,
    resting: Arc<AtomicU8>,
    node: Arc<OnceLock<Thread>>,
    counters: Arc<Counters>,
}

/// The receiving side, owned by the node's thread.
pub struct Outlet {
    disk: channel::Receiver<Input>,
    control: mpsc::Receiver<Input>,
    streams: mpsc::Receiver<(Instant, Input)>,
    /// The first message of a stream, once it was looked at.
    first_stream: Option<(Instant, Input)>,
    peers: mpsc::Receiver<(Input, OwnedSemaphorePermit)>,
    datagrams: LanesOut,
    /// For what the node looks by itself soon, and is not to be woken.
    resting: Arc<AtomicU8>,
    node: Arc<OnceLock<Thread>>,
    counters: Arc<Counters>,
}

/// The node has ended; nothing can be given to it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping")]
pub struct Ended;

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("too many commands are waiting")]
    Full,
    /// The node has ended.
    #[error("the server is stopping")]
    Ended,
}

/// A new pair of both sides.
pub fn inbox(counters: Arc<Counters>) -> (Inbox, Outlet) {
    let (disk_in, disk) = channel::bounded(DISK);
    let (control_in, control) = mpsc::channel(CONTROL);
    let (streams_in, streams) = mpsc::channel(STREAMS);
    let (peers_in, peers) = mpsc::channel(PEERS);
    let (datagrams_in, datagrams) = lanes();
    let resting = Arc::new(AtomicU8::new(Rest::Awake as u8));
    let node = Arc::new(OnceLock::new());
    let inbox = Inbox {
        disk: disk_in,
        control: control_in,
        streams: streams_in,
        peers: peers_in,
        peer_budget: Arc::new(Semaphore::new(PEER_KIB)),
        datagrams: datagrams_in,
        resting: resting.clone(),
        node: node.clone(),
        counters: counters.clone(),
    };
    let first_stream = None;
    (inbox, Outlet { disk, control, streams, first_stream, peers, datagrams, resting, node, counters })
}

impl Inbox {
    fn unpark(&self) {
        if let Some(thread) = self.node.get() {
            thread.unpark();
        }
    }

    /// Wakes the node, unless it looks for everything soon anyway.
    fn wake(&self) {
        if !self.rests(Rest::All) {
            self.unpark();
        }
    }

    /// Wakes the node for a client's message, unless it looks for them soon anyway.
    pub fn wake_for_client(&self) {
        if !self.is_resting() {
            self.unpark();
        }
    }

    /// Whether the node is under load and looks for clients' messages by itself soon.
    pub fn is_resting(&self) -> bool {
        self.rests(Rest::Clients)
    }

    fn rests(&self, rest: Rest) -> bool {
        // Either this sees that it does not rest any more, or it sees the message that was queued before.
        fence(Ordering::SeqCst);
        self.resting.load(Ordering::Relaxed) >= rest as u8
    }

    /// A completion of the disk: waits for room, never drops. Blocks; for the store's thread only.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn disk(&self, input: Input) -> Result<(), Ended> {
        self.disk.send(input).map_err(|_| Ended)?;
        self.wake();
        Ok(())
    }

    /// A command, if there is room.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn try_control(&self, input: Input) -> Result<(), Refused> {
        self.control.try_send(input).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => Refused::Full,
            mpsc::error::TrySendError::Closed(_) => Refused::Ended,
        })?;
        self.wake();
        Ok(())
    }

    /// Something that must not be lost (a link's end, a flow's end): waits for room.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn control(&self, input: Input) -> Result<(), Ended> {
        self.control.send(input).await.map_err(|_| Ended)?;
        self.wake();
        Ok(())
    }

    /// A message of a stream: waits for room, and the stream is not read meanwhile.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn stream(&self, input: Input) -> Result<(), Ended> {
        self.streams.send((Instant::now(), input)).await.map_err(|_| Ended)?;
        self.wake_for_client();
        Ok(())
    }

    /// An input of a link, of that many bytes: waits for room, and the link is not read meanwhile. `LinkUp` and `LinkDown`
    /// go the same way, so that they keep their order with the frames.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn peer(&self, input: Input, bytes: usize) -> Result<(), Ended> {
        let kib = u32::try_from((bytes / 1024 + 1).min(PEER_KIB)).unwrap_or(1);
        let permit = self.peer_budget.clone().acquire_many_owned(kib).await.map_err(|_| Ended)?;
        self.peers.send((input, permit)).await.map_err(|_| Ended)?;
        self.wake();
        Ok(())
    }

    /// What becomes of a datagram, with this table of emergency services; `again` says whether it repeats one that was let fall.
    pub fn place(&self, message: &[u8], emergency: &[EmergencyRoute], again: impl FnOnce() -> bool) -> Place {
        self.datagrams.place(message, emergency, again)
    }

    /// Datagrams of one receive, each into its lane; the node is not woken. Those for which there is no room are counted and given back: who
    /// calls is to be told. Never waits.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn datagrams(&self, sorted: Sorted) -> Result<Sorted, Ended> {
        let left = self.datagrams.put(sorted)?;
        for (wait, left) in self.counters.waits.lanes.iter().zip(&left).filter(|(_, left)| !left.is_empty()) {
            add(&self.counters.udp_dropped, left.len());
            wait.drop(left.len());
        }
        Ok(left)
    }

    /// Wakes the node's thread (a stop was asked for).
    pub fn nudge(&self) {
        self.unpark();
    }
}

impl Outlet {
    /// Binds the wake-up to the calling thread; call once, on the node's thread.
    pub fn bind_thread(&self) {
        // A second call finds it set, to the same thread.
        let _ = self.node.set(std::thread::current());
    }

    /// The next completion of the disk.
    pub fn disk(&self) -> Option<Input> {
        self.disk.try_recv().ok()
    }

    /// The next command or change.
    pub fn control(&mut self) -> Option<Input> {
        self.control.try_recv().ok()
    }

    /// The next input of a link; the permit is its place in the budget, to be dropped once it is handled.
    pub fn peer(&mut self) -> Option<(Input, OwnedSemaphorePermit)> {
        self.peers.try_recv().ok()
    }

    /// The next message of a stream, and when it came.
    pub fn stream(&mut self) -> Option<(Instant, Input)> {
        self.oldest_stream()?;
        let (came, input) = self.first_stream.take()?;
        self.counters.waits.streams.note(came, 1);
        Some((came, input))
    }

    /// When the oldest message of a stream came.
    pub fn oldest_stream(&mut self) -> Option<Instant> {
        if self.first_stream.is_none() {
            self.first_stream = self.streams.try_recv().ok();
        }
        self.first_stream.as_ref().map(|(came, _)| *came)
    }

    /// Says what does not wake the node: it looks for that by itself within a few milliseconds.
    pub fn rest(&self, rest: Rest) {
        self.resting.store(rest as u8, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// How many messages of streams and batches of datagrams wait.
    pub fn waiting(&self) -> usize {
        self.streams.len() + usize::from(self.first_stream.is_some()) + self.datagrams.waiting()
    }

    /// When the oldest datagram of a lane came.
    pub fn oldest(&mut self, lane: Lane) -> Option<Instant> {
        self.datagrams.oldest(lane)
    }

    /// When the youngest datagram of a lane came.
    pub fn youngest(&mut self, lane: Lane) -> Option<Instant> {
        self.datagrams.youngest(lane)
    }

    /// From now on these shares of what is new are let through, by class.
    pub fn set_shares(&self, shares: &Shares) {
        self.datagrams.set_shares(shares);
    }

    /// The next datagrams of a lane, and when they came.
    pub fn datagrams(&mut self, lane: Lane) -> Option<(Instant, Datagrams)> {
        let (came, batch) = self.datagrams.take(lane, Instant::now())?;
        self.counters.waits.lanes[lane as usize].note(came, batch.len());
        Some((came, batch))
    }
}
