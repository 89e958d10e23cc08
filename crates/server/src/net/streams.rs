//! All stream connections of a server: which there are, their write queues, and the limits on them.
//!
//! Owns the table, reuse of connections and budgets. Does not own sockets (`tcp`) or reading (`stream`).

use super::keep_alive::{self, Patience};
use super::peer_names::PeerNames;
use super::sources::{SourceLimits, Sources};
use crate::shell::counters::{Counters, count};
use crate::tls::{SipNames, SipPeer};
use bytes::Bytes;
use pairline_sip::flow::{Flow, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Limits on stream connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections in all, until [`Streams::set_connections`] says otherwise.
    pub connections: usize,
    /// What one source may do. A connection is unproven while no request has been granted on it (no 2xx sent but to OPTIONS and
    /// CANCEL, which need no password).
    pub source: SourceLimits,
    /// Bytes that may arrive on one connection before a request is granted on it.
    pub unproven_bytes: usize,
    /// Largest message in bytes.
    pub message: usize,
    /// A connection on which nothing arrives for so long is closed.
    pub idle: Duration,
    /// The same, while no request has been granted on it.
    pub unproven_idle: Duration,
    /// How much longer than its Flow-Timer a client may be silent on its flow before that is closed (RFC 5626 §4.4); `None`: only
    /// `idle` counts.
    pub flow_grace: Option<Duration>,
    /// Bytes that may wait to be written on one connection.
    pub write_bytes: usize,
    /// A write that makes no progress for so long ends the connection.
    pub write_stall: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Time for the handshakes of TLS and WebSocket, all together.
    pub handshake: Duration,
    /// How often a WebSocket's other end is asked whether it is still there; one that is silent for twice as long is not.
    pub ping: Duration,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            connections: 100_000,
            // Wide enough for an office of thousands behind one address that comes back at one moment.
            source: SourceLimits { all: 50_000, unproven: 4_096, burst: 16 * 1024 * 1024, rate: 2 * 1024 * 1024 },
            unproven_bytes: 256 * 1024,
            message: 64 * 1024,
            idle: Duration::from_secs(15 * 60),
            unproven_idle: Duration::from_secs(32),
            flow_grace: Some(Duration::from_secs(15)),
            write_bytes: 1024 * 1024,
            write_stall: Duration::from_secs(10),
            connect: Duration::from_secs(4),
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(45),
        }
    }
}

/// Messages that may wait to be written on one connection.
const WRITE_MESSAGES: usize = 1024;
/// Connections that may be reachable at one address and port: one for each name that is meant there.
const SAME_REMOTE: usize = 64;
/// Ports of its remote address at which one connection may be found.
const ALIASES: usize = 4;

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
    /// Whether it was accepted, not made.
    pub incoming: bool,
    /// How long its client may be silent.
    pub patience: Patience,
    /// Whom the other end has proven to be, once that is known.
    names: OnceLock<SipNames>,
    /// This server's end of it, once it is made.
    local: OnceLock<SocketAddr>,
    /// The destination as which it was made.
    made_for: Option<u64>,
    /// The destinations as which it was used: its end is told for each of them too.
    used_as: Mutex<BTreeSet<(SocketAddr, u64)>>,
}

impl Shared {
    /// The destinations as which it was used.
    pub fn destinations(&self) -> Vec<Flow> {
        let used = self.used_as.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().map(|(remote, connection)| Flow { remote: *remote, connection: *connection, ..self.flow }).collect()
    }

    /// Whom the other end has proven to be.
    pub fn names(&self) -> Option<&SipNames> {
        self.names.get()
    }

    fn use_as(&self, flow: &Flow) {
        self.used_as.lock().unwrap_or_else(PoisonError::into_inner).insert((flow.remote, flow.connection));
    }

    /// Whether it leads to whom a destination means. Only who has proven it is reached by name (RFC 5923 §7.1); a connection
    /// that is still being made is what it is made for.
    fn leads_to(&self, destination: &Flow, peer: &SipPeer) -> bool {
        destination.transport == Transport::Tcp
            || self.made_for == Some(destination.connection)
            || self.names.get().is_some_and(|names| names.matches(peer))
    }
}

struct Entry {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Bytes>,
    /// Addresses at which it is found.
    remotes: Vec<SocketAddr>,
}

#[derive(Default)]
struct Table {
    /// Most connections.
    most: usize,
    last: u64,
    by_id: BTreeMap<u64, Entry>,
    by_remote: BTreeMap<(Transport, SocketAddr), Vec<u64>>,
    sources: Sources,
}

/// The table.
pub struct Streams {
    limits: StreamLimits,
    names: PeerNames,
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
    /// A connection has to be made, to that peer; the message is the first in its queue.
    Connect(Place, SipPeer),
}

impl Streams {
    /// An empty table; destinations are named by those numbers.
    pub fn new(limits: StreamLimits, names: PeerNames, counters: Arc<Counters>) -> Streams {
        let table = Table { most: limits.connections, ..Table::default() };
        Streams { limits, names, counters, table: Mutex::new(table) }
    }

    /// The limits.
    pub fn limits(&self) -> &StreamLimits {
        &self.limits
    }

    /// From now on so many connections are the most. Those that there are stay.
    pub fn set_connections(&self, most: usize) {
        self.lock().most = most;
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
        if table.by_id.len() >= table.most {
            return None;
        }
        if !table.sources.take(remote.ip(), &self.limits.source, Instant::now()) {
            return None;
        }
        Some(table.insert(Flow { transport, listener, remote, connection: 0 }, None))
    }

    /// Queues a message on its connection, or on one that leads to its destination, or asks for a new one.
    pub fn send(&self, flow: &Flow, message: Bytes) -> Sent {
        let mut table = self.lock();
        let id = if flow.is_destination() {
            let Some(peer) = self.names.peer(flow) else { return Sent::Gone };
            match table.leading_to(flow, &peer) {
                Some(id) => id,
                None => return self.connect(&mut table, flow, peer, message),
            }
        } else if table.by_id.contains_key(&flow.connection) {
            flow.connection
        } else {
            return Sent::Gone;
        };
        table.prove(id, &message);
        if self.limits.flow_grace.is_some() {
            table.pace(id, &message);
        }
        if table.push(id, message, self.limits.write_bytes) {
            return Sent::Queued;
        }
        count(&self.counters.stream_over_budget);
        if let Some(entry) = table.by_id.get(&id) {
            entry.shared.abort.notify_one();
        }
        Sent::OverBudget
    }

    /// Nobody connects to a WebSocket client (RFC 7118 §5.1).
    fn connect(&self, table: &mut Table, flow: &Flow, peer: SipPeer, message: Bytes) -> Sent {
        let can = matches!(flow.transport, Transport::Tcp | Transport::Tls);
        if !can || table.by_id.len() >= table.most {
            return Sent::Gone;
        }
        let place = table.insert(*flow, Some(flow.connection));
        place.shared.use_as(flow);
        table.push(place.shared.flow.connection, message, self.limits.write_bytes);
        Sent::Connect(place, peer)
    }

    /// The other end of a connection has proven who it is.
    pub fn identify(&self, place: &Shared, names: SipNames) {
        // Told once, after the handshake.
        let _ = place.names.set(names);
    }

    /// A connection has that address at this end.
    pub fn is_at(&self, place: &Shared, local: SocketAddr) {
        // Told once, when it is there.
        let _ = place.local.set(local);
    }

    /// This server's end of the connection that a flow names or leads to, if it is made.
    pub fn local_end(&self, flow: &Flow) -> Option<SocketAddr> {
        let table = self.lock();
        let id = match flow.is_destination() {
            true => *table.by_remote.get(&(flow.transport, flow.remote))?.first()?,
            false => flow.connection,
        };
        table.by_id.get(&id)?.shared.local.get().copied()
    }

    /// A connection leads to that port of its remote address as well (RFC 5923 §5): its peer, whose name is proven, said so.
    pub fn alias(&self, place: &Shared, port: u16) {
        if place.names.get().is_none_or(SipNames::is_empty) {
            return;
        }
        let remote = SocketAddr::new(place.flow.remote.ip(), port);
        self.lock().find_at(place.flow.connection, remote);
    }

    /// Bytes arrived on a connection that has been granted nothing: how long nothing more is read from it.
    pub fn charge(&self, place: &Shared, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.lock().sources.charge(place.flow.remote.ip(), bytes, &self.limits.source, Instant::now())
    }

    /// Closes a connection once what waits is written.
    pub fn close(&self, flow: &Flow) {
        self.lock().take(flow.connection, &self.limits.source);
    }

    /// Closes all.
    pub fn close_all(&self) {
        let mut table = self.lock();
        let ids: Vec<u64> = table.by_id.keys().copied().collect();
        for id in ids {
            if let Some(entry) = table.take(id, &self.limits.source) {
                entry.shared.abort.notify_one();
            }
        }
    }

    /// Gives a place back; by the connection's task, at its end.
    pub fn remove(&self, place: &Shared) {
        self.lock().take(place.flow.connection, &self.limits.source);
    }
}

/// Whether a message that is sent grants what needed a password: a 2xx to anything but OPTIONS and CANCEL.
fn grants(message: &[u8]) -> bool {
    if !message.starts_with(b"SIP/2.0 2") {
        return false;
    }
    keep_alive::method(message).is_some_and(|method| !matches!(method, b"OPTIONS" | b"CANCEL"))
}

impl Table {
    /// A new connection; `made_for` is the number of its destination if it is to be made.
    fn insert(&mut self, flow: Flow, made_for: Option<u64>) -> Place {
        self.last += 1;
        let flow = Flow { connection: self.last, ..flow };
        let (queue_in, queue) = mpsc::channel(WRITE_MESSAGES);
        let shared = Arc::new(Shared {
            flow,
            queued: AtomicUsize::new(0),
            proven: AtomicBool::new(made_for.is_some()),
            abort: Notify::new(),
            incoming: made_for.is_none(),
            patience: Patience::default(),
            names: OnceLock::new(),
            local: OnceLock::new(),
            made_for,
            used_as: Mutex::default(),
        });
        self.by_id.insert(self.last, Entry { shared: shared.clone(), queue: queue_in, remotes: Vec::new() });
        // Whoever connects over TLS is found only by what it proves; a WebSocket only by its own number.
        if flow.transport == Transport::Tcp || made_for.is_some() {
            self.find_at(flow.connection, flow.remote);
        }
        Place { shared, queue }
    }

    /// From now on the connection is found at that address; the newest is found first.
    fn find_at(&mut self, id: u64, remote: SocketAddr) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        if entry.remotes.contains(&remote) || entry.remotes.len() >= ALIASES {
            return;
        }
        entry.remotes.push(remote);
        let there = self.by_remote.entry((entry.shared.flow.transport, remote)).or_default();
        there.insert(0, id);
        there.truncate(SAME_REMOTE);
    }

    fn leading_to(&self, flow: &Flow, peer: &SipPeer) -> Option<u64> {
        let there = self.by_remote.get(&(flow.transport, flow.remote))?;
        let entry = there.iter().filter_map(|id| self.by_id.get(id)).find(|entry| entry.shared.leads_to(flow, peer))?;
        entry.shared.use_as(flow);
        Some(entry.shared.flow.connection)
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
        self.sources.prove(shared.flow.remote.ip());
    }

    /// Notes what a message tells the client of a connection about its keep-alives.
    fn pace(&self, id: u64, message: &[u8]) {
        if let Some(entry) = self.by_id.get(&id).filter(|entry| entry.shared.incoming) {
            entry.shared.patience.note(message);
        }
    }

    fn take(&mut self, id: u64, limits: &SourceLimits) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        let shared = &entry.shared;
        for remote in &entry.remotes {
            let key = (shared.flow.transport, *remote);
            if let Some(there) = self.by_remote.get_mut(&key) {
                there.retain(|other| *other != id);
                if there.is_empty() {
                    self.by_remote.remove(&key);
                }
            }
        }
        if shared.incoming {
            let proven = shared.proven.load(Ordering::Relaxed);
            self.sources.give_back(shared.flow.remote.ip(), proven, limits, Instant::now());
        }
        Some(entry)
    }
}
