//! All stream connections of a server: which there are, their write queues, and the limits on them.
//!
//! Owns the table, reuse of connections and budgets. Does not own sockets (`tcp`) or reading (`stream`).

use crate::shell::counters::{Counters, count};
use bytes::Bytes;
use pairline_sip::flow::{Flow, Transport};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// Limits on stream connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub per_source: usize,
    /// Connections from one address on which no request has been granted yet (no 2xx sent but to OPTIONS and CANCEL, which
    /// need no password).
    pub unproven_per_source: usize,
    /// Largest message in bytes.
    pub message: usize,
    /// A connection on which nothing arrives for so long is closed.
    pub idle: Duration,
    /// The same, while no request has been granted on it.
    pub unproven_idle: Duration,
    /// Bytes that may wait to be written on one connection.
    pub write_bytes: usize,
    /// A write that makes no progress for so long ends the connection.
    pub write_stall: Duration,
    /// Time to connect.
    pub connect: Duration,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            connections: 100_000,
            per_source: 50_000,
            unproven_per_source: 4_096,
            message: 64 * 1024,
            idle: Duration::from_secs(15 * 60),
            unproven_idle: Duration::from_secs(32),
            write_bytes: 1024 * 1024,
            write_stall: Duration::from_secs(10),
            connect: Duration::from_secs(4),
        }
    }
}

/// Messages that may wait to be written on one connection.
const WRITE_MESSAGES: usize = 1024;

/// One connection as the table and its task share it.
#[derive(Debug)]
pub struct Shared {
    /// Its flow, with its number.
    pub flow: Flow,
    /// Bytes waiting to be written.
    pub queued: AtomicUsize,
    /// A request was granted on it.
    pub proven: AtomicBool,
    /// Tells its task to end at once.
    pub abort: Notify,
    /// It was used for a message to "whatever connection goes there": its end is told for that flow too.
    pub by_address: AtomicBool,
    incoming: bool,
}

struct Entry {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Bytes>,
}

#[derive(Default)]
struct Source {
    all: usize,
    unproven: usize,
}

#[derive(Default)]
struct Table {
    last: u64,
    by_id: BTreeMap<u64, Entry>,
    by_remote: BTreeMap<(Transport, SocketAddr), u64>,
    sources: BTreeMap<IpAddr, Source>,
}

/// The table.
pub struct Streams {
    limits: StreamLimits,
    counters: Arc<Counters>,
    table: Mutex<Table>,
}

/// A connection's place in the table; its task keeps it and gives it back with [`Streams::remove`].
pub struct Place {
    /// Shared with the table.
    pub shared: Arc<Shared>,
    /// What is to be written. It ends when the connection is closed in good order.
    pub queue: mpsc::Receiver<Bytes>,
}

/// What became of a message.
pub enum Sent {
    /// It waits to be written.
    Queued,
    /// There is no such connection any more.
    Gone,
    /// The connection's budget was used up; it is being closed.
    OverBudget,
    /// A connection has to be made; the message is the first in its queue.
    Connect(Place),
}

impl Streams {
    /// An empty table.
    pub fn new(limits: StreamLimits, counters: Arc<Counters>) -> Streams {
        Streams { limits, counters, table: Mutex::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &StreamLimits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A place for an accepted connection, if the limits allow one more from there.
    pub fn accept(&self, transport: Transport, listener: u16, remote: SocketAddr) -> Option<Place> {
        let mut table = self.lock();
        if table.by_id.len() >= self.limits.connections {
            return None;
        }
        let source = table.sources.entry(remote.ip()).or_default();
        if source.all >= self.limits.per_source || source.unproven >= self.limits.unproven_per_source {
            return None;
        }
        source.all += 1;
        source.unproven += 1;
        Some(table.insert(transport, listener, remote, true))
    }

    /// Queues a message on its connection, or on one that goes to its address, or asks for a new one.
    pub fn send(&self, flow: &Flow, message: Bytes) -> Sent {
        let mut table = self.lock();
        let id = match flow.connection {
            0 => table.by_remote.get(&(flow.transport, flow.remote)).copied(),
            id if table.by_id.contains_key(&id) => Some(id),
            _ => return Sent::Gone,
        };
        let Some(id) = id else {
            if table.by_id.len() >= self.limits.connections {
                return Sent::Gone;
            }
            let place = table.insert(flow.transport, flow.listener, flow.remote, false);
            place.shared.by_address.store(true, Ordering::Relaxed);
            let id = place.shared.flow.connection;
            table.push(id, message, self.limits.write_bytes);
            return Sent::Connect(place);
        };
        if flow.connection == 0
            && let Some(entry) = table.by_id.get(&id)
        {
            entry.shared.by_address.store(true, Ordering::Relaxed);
        }
        table.prove(id, &message);
        if table.push(id, message, self.limits.write_bytes) {
            return Sent::Queued;
        }
        count(&self.counters.stream_over_budget);
        if let Some(entry) = table.by_id.get(&id) {
            entry.shared.abort.notify_one();
        }
        Sent::OverBudget
    }

    /// Closes a connection once what waits is written.
    pub fn close(&self, flow: &Flow) {
        self.lock().take(flow.connection);
    }

    /// Closes all.
    pub fn close_all(&self) {
        let mut table = self.lock();
        let ids: Vec<u64> = table.by_id.keys().copied().collect();
        for id in ids {
            if let Some(entry) = table.take(id) {
                entry.shared.abort.notify_one();
            }
        }
    }

    /// Gives a place back; by the connection's task, at its end.
    pub fn remove(&self, place: &Shared) {
        self.lock().take(place.flow.connection);
    }
}

/// Whether a message that is sent grants what needed a password: a 2xx to anything but OPTIONS and CANCEL.
fn grants(message: &[u8]) -> bool {
    if !message.starts_with(b"SIP/2.0 2") {
        return false;
    }
    let cseq = message
        .split(|b| *b == b'\n')
        .take_while(|line| line.len() > 1)
        .find_map(|line| line.get(5..).filter(|_| line[..5].eq_ignore_ascii_case(b"CSeq:")));
    let method = cseq.and_then(|value| value.trim_ascii().rsplit(u8::is_ascii_whitespace).next());
    method.is_some_and(|method| !matches!(method, b"OPTIONS" | b"CANCEL"))
}

impl Table {
    fn insert(&mut self, transport: Transport, listener: u16, remote: SocketAddr, incoming: bool) -> Place {
        self.last += 1;
        let flow = Flow { transport, listener, remote, connection: self.last };
        let (queue_in, queue) = mpsc::channel(WRITE_MESSAGES);
        let shared = Arc::new(Shared {
            flow,
            queued: AtomicUsize::new(0),
            proven: AtomicBool::new(!incoming),
            abort: Notify::new(),
            by_address: AtomicBool::new(false),
            incoming,
        });
        self.by_id.insert(self.last, Entry { shared: shared.clone(), queue: queue_in });
        self.by_remote.insert((transport, remote), self.last);
        Place { shared, queue }
    }

    fn push(&mut self, id: u64, message: Bytes, budget: usize) -> bool {
        let Some(entry) = self.by_id.get(&id) else { return false };
        let length = message.len();
        if entry.shared.queued.load(Ordering::Relaxed).saturating_add(length) > budget {
            return false;
        }
        entry.shared.queued.fetch_add(length, Ordering::Relaxed);
        entry.queue.try_send(message).is_ok()
    }

    fn prove(&mut self, id: u64, message: &[u8]) {
        let Some(entry) = self.by_id.get(&id) else { return };
        let shared = &entry.shared;
        if shared.proven.load(Ordering::Relaxed) || !grants(message) {
            return;
        }
        shared.proven.store(true, Ordering::Relaxed);
        if let Some(source) = self.sources.get_mut(&shared.flow.remote.ip()) {
            source.unproven = source.unproven.saturating_sub(1);
        }
    }

    fn take(&mut self, id: u64) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        let shared = &entry.shared;
        let key = (shared.flow.transport, shared.flow.remote);
        if self.by_remote.get(&key) == Some(&id) {
            self.by_remote.remove(&key);
        }
        if shared.incoming
            && let Some(source) = self.sources.get_mut(&shared.flow.remote.ip())
        {
            source.all = source.all.saturating_sub(1);
            if !shared.proven.load(Ordering::Relaxed) {
                source.unproven = source.unproven.saturating_sub(1);
            }
            if source.all == 0 {
                self.sources.remove(&shared.flow.remote.ip());
            }
        }
        Some(entry)
    }
}
