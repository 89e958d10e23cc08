//! All links of a server: which servers it must be linked with, who dials, and which connection is the current one.
//!
//! Of two servers the one with the lower identity (pool, then server) dials, so there is one connection per pair; a newer
//! one replaces an older one, whose end may not have been noticed yet. Owns the table, budgets and reconnection.

use super::connection::{self, LinkError};
use super::hello::{HelloError, Levels};
use super::throttle::Throttle;
use crate::shell::counters::{Counters, count};
use crate::shell::events::EventHub;
use crate::shell::inbox::Inbox;
use crate::tls::config::CredentialsError;
use crate::tls::verify::Allowed;
use crate::tls::{Credentials, PeerIdentity};
use bytes::Bytes;
use pairline_group::LinkId;
use pairline_node::event::Level;
use pairline_node::io::Input;
use pairline_node::level::HIGHEST;
use pairline_topology::policy_features::LOWEST;
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Frames that may wait to be written on one link.
const QUEUE: usize = 16 * 1024;
/// Bytes that may wait to be written on one link.
const BUDGET: usize = 64 * 1024 * 1024;
/// Bytes read from a link at one time.
const READ: usize = 64 * 1024;
/// Handshakes of accepted connections at one time.
const HANDSHAKES: usize = 64;

/// Intervals of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTimes {
    /// Time to connect.
    pub connect: Duration,
    /// Time for TLS and hello.
    pub handshake: Duration,
    /// First wait before dialling again; doubles, with jitter.
    pub retry_first: Duration,
    /// Longest wait before dialling again.
    pub retry_longest: Duration,
    /// Unacknowledged data ends the connection after this.
    pub dead_after: Duration,
}

impl Default for LinkTimes {
    fn default() -> LinkTimes {
        LinkTimes {
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(2),
            dead_after: Duration::from_secs(5),
        }
    }
}

/// A server to be linked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub identity: PeerIdentity,
    /// Where it accepts links.
    pub address: SocketAddr,
    /// Its name, for events.
    pub name: String,
}

struct Live {
    peer: PeerIdentity,
    queue: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
    end: Arc<Ending>,
}

/// How a link is told to end from outside.
#[derive(Default)]
struct Ending {
    notify: Notify,
    why: Mutex<Option<LinkError>>,
}

impl Ending {
    fn tell(&self, why: LinkError) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.notify.notify_one();
    }

    async fn told(&self) -> LinkError {
        self.notify.notified().await;
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(LinkError::Stopping)
    }
}

struct Dialler {
    address: SocketAddr,
    task: AbortHandle,
}

#[derive(Default)]
struct Table {
    last: u64,
    live: BTreeMap<LinkId, Live>,
    peers: BTreeMap<PeerIdentity, Peer>,
    diallers: BTreeMap<PeerIdentity, Dialler>,
    /// Held while a link to that server is up, so that its end is told before the next one's beginning.
    turns: BTreeMap<PeerIdentity, Arc<tokio::sync::Mutex<()>>>,
    stopping: bool,
}

struct Inner {
    me: PeerIdentity,
    local: IpAddr,
    credentials: Arc<Credentials>,
    allowed: Allowed,
    times: LinkTimes,
    inbox: Inbox,
    events: EventHub,
    counters: Arc<Counters>,
    throttle: Throttle,
    runtime: Handle,
    table: Mutex<Table>,
    /// The feature level that the deployment uses.
    level: AtomicU16,
}

/// The links.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

/// What links need of the server.
pub struct LinkSetup {
    /// This server's certificate, key and authority.
    pub credentials: Arc<Credentials>,
    /// Intervals.
    pub times: LinkTimes,
    /// The node's input.
    pub inbox: Inbox,
    /// Where events go.
    pub events: EventHub,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Where tasks run.
    pub runtime: Handle,
}

impl Links {
    /// Starts accepting. Dials nobody before [`Links::set_peers`].
    ///
    /// # Errors
    /// Credentials that cannot be used, or the runtime's refusal of the socket.
    pub fn start(listener: TcpListener, setup: LinkSetup) -> Result<Links, LinksError> {
        let allowed = Allowed::default();
        let config = setup.credentials.link_server(allowed.clone())?;
        let local = listener.local_addr()?.ip();
        let inner = Inner {
            me: setup.credentials.identity(),
            local,
            credentials: setup.credentials,
            allowed,
            times: setup.times,
            inbox: setup.inbox,
            events: setup.events,
            counters: setup.counters,
            throttle: Throttle::default(),
            runtime: setup.runtime.clone(),
            table: Mutex::default(),
            level: AtomicU16::new(LOWEST),
        };
        let links = Links(Arc::new(inner));
        let _entered = setup.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        setup.runtime.spawn(accept(links.0.clone(), listener, TlsAcceptor::from(config)));
        Ok(links)
    }

    /// Sets the servers to be linked with: dials new ones, ends links with those that are gone. `level` is the feature level that is in force
    /// from now on, for links to come: those that are up were made by servers that know it.
    pub fn set_peers(&self, peers: Vec<Peer>, level: u16) {
        let inner = &self.0;
        inner.level.store(level, Ordering::Relaxed);
        let peers: BTreeMap<PeerIdentity, Peer> =
            peers.into_iter().filter(|p| p.identity != inner.me).map(|p| (p.identity, p)).collect();
        inner.allowed.set(peers.keys().copied().collect());
        let mut table = inner.lock();
        table.diallers.retain(|identity, dialler| {
            let keep = peers.get(identity).is_some_and(|p| p.address == dialler.address);
            if !keep {
                dialler.task.abort();
            }
            keep
        });
        for live in table.live.values().filter(|l| !peers.contains_key(&l.peer)) {
            live.end.tell(LinkError::Removed);
        }
        for peer in peers.values().filter(|p| inner.me < p.identity) {
            if !table.stopping && !table.diallers.contains_key(&peer.identity) {
                let task = inner.runtime.spawn(dial_for_ever(inner.clone(), peer.clone())).abort_handle();
                table.diallers.insert(peer.identity, Dialler { address: peer.address, task });
            }
        }
        table.peers = peers;
    }

    /// Queues frames; one whose link is gone is dropped. A peer that does not read loses its link: everything on it can be
    /// resumed, memory cannot. Never waits.
    pub fn send_all(&self, frames: impl IntoIterator<Item = (LinkId, Bytes)>) {
        let table = self.0.lock();
        for (link, frame) in frames {
            let Some(live) = table.live.get(&link) else { continue };
            let length = frame.len();
            let queued = live.queued.fetch_add(length, Ordering::Relaxed) + length;
            if queued > BUDGET || live.queue.try_send(frame).is_err() {
                live.end.tell(LinkError::OverBudget);
            }
        }
    }

    /// The server at the other end of a link that is up.
    pub fn peer(&self, link: LinkId) -> Option<Peer> {
        let table = self.0.lock();
        table.live.get(&link).and_then(|live| table.peers.get(&live.peer)).cloned()
    }

    /// Links that are up.
    pub fn live(&self) -> Vec<(LinkId, PeerIdentity)> {
        self.0.lock().live.iter().map(|(id, live)| (*id, live.peer)).collect()
    }

    /// Ends all links and dials no more.
    pub fn stop(&self) {
        let mut table = self.0.lock();
        table.stopping = true;
        for dialler in std::mem::take(&mut table.diallers).into_values() {
            dialler.task.abort();
        }
        for live in table.live.values() {
            live.end.tell(LinkError::Stopping);
        }
    }
}

/// Why links cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// The socket.
    #[error("link listener: {0}")]
    Io(#[from] io::Error),
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn levels(&self) -> Levels {
        Levels { lowest: self.level.load(Ordering::Relaxed), highest: HIGHEST }
    }

    fn name_of(&self, peer: PeerIdentity) -> String {
        self.lock().peers.get(&peer).map_or_else(|| peer.to_string(), |p| p.name.clone())
    }

    /// A server of the deployment that refuses this build says so to the node: its copies may not be what they were.
    async fn outlived(&self, error: &LinkError) {
        if let LinkError::Hello(HelloError::Newer { theirs, .. }) = error {
            // If the node has ended, nobody needs to know.
            let _ = self.inbox.control(Input::LevelInForce { level: theirs.lowest }).await;
        }
    }

    fn complain(&self, about: &str, who: &str, error: &LinkError) {
        if error.is_rejection() {
            count(&self.counters.link_rejected);
        }
        let text = error.to_string();
        if self.throttle.allows(about, &text) {
            let (level, name) =
                if error.is_rejection() { (Level::Warn, "link-rejected") } else { (Level::Info, "link-unreachable") };
            self.events.emit(level, name, format!("link with {who}: {text}"));
        }
    }
}

async fn dial_for_ever(inner: Arc<Inner>, peer: Peer) {
    let mut wait = inner.times.retry_first;
    loop {
        match dial(&inner, &peer).await {
            Ok((stream, highest)) => {
                inner.throttle.settle(&peer.name);
                wait = inner.times.retry_first;
                run(&inner, stream, peer.identity, highest).await;
            }
            Err(error) => {
                inner.complain(&peer.name, &peer.name, &error);
                inner.outlived(&error).await;
            }
        }
        // Half the wait for certain, the other half by chance, so that servers do not dial in step.
        let random = crate::tls::random_u64().unwrap_or(0) % 1000;
        let half = wait / 2;
        tokio::time::sleep(half + half.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1000.0)).await;
        wait = (wait * 2).min(inner.times.retry_longest);
    }
}

async fn dial(inner: &Inner, peer: &Peer) -> Result<(TlsStream<TcpStream>, u16), LinkError> {
    let connecting = connect(peer.address, inner.local);
    let tcp = tokio::time::timeout(inner.times.connect, connecting)
        .await
        .map_err(|_| LinkError::Connect(io::ErrorKind::TimedOut.into()))?
        .map_err(LinkError::Connect)?;
    connection::watch(&tcp, inner.times.dead_after);
    let config = inner.credentials.link_client(peer.identity).map_err(|e| LinkError::Tls(e.to_string()))?;
    let handshake = async {
        let name = ServerName::IpAddress(peer.address.ip().into());
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(connection::tls_error)?;
        let mut stream = TlsStream::Client(stream);
        let highest = connection::greet(&mut stream, inner.me, peer.identity, inner.levels()).await?;
        Ok((stream, highest))
    };
    tokio::time::timeout(inner.times.handshake, handshake).await.map_err(|_| LinkError::Slow)?
}

async fn connect(remote: SocketAddr, local: IpAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !local.is_unspecified() && local.is_ipv4() == remote.is_ipv4() {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(remote).await
}

async fn accept(inner: Arc<Inner>, listener: tokio::net::TcpListener, acceptor: TlsAcceptor) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, from)) => {
                let (inner, acceptor) = (inner.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let welcomed = tokio::time::timeout(inner.times.handshake, welcome(&inner, tcp, &acceptor)).await;
                    drop(permit);
                    match welcomed.unwrap_or(Err(LinkError::Slow)) {
                        Ok((stream, peer, highest)) => run(&inner, stream, peer, highest).await,
                        Err(error) => {
                            let about = from.ip().to_string();
                            inner.complain(&about, &format!("{from} (it connected to us)"), &error);
                            inner.outlived(&error).await;
                        }
                    }
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn welcome(
    inner: &Inner,
    tcp: TcpStream,
    acceptor: &TlsAcceptor,
) -> Result<(TlsStream<TcpStream>, PeerIdentity, u16), LinkError> {
    connection::watch(&tcp, inner.times.dead_after);
    let stream = acceptor.accept(tcp).await.map_err(connection::tls_error)?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
    let certificate = certificate.ok_or_else(|| LinkError::Tls("the peer presented no certificate".to_owned()))?;
    let peer = PeerIdentity::of_certificate(certificate).map_err(|e| LinkError::Tls(e.to_string()))?;
    let mut stream = TlsStream::Server(stream);
    let highest = connection::greet(&mut stream, inner.me, peer, inner.levels()).await?;
    Ok((stream, peer, highest))
}

/// Makes the link the current one of its server, runs it, and tells the node of both.
async fn run(inner: &Inner, stream: TlsStream<TcpStream>, peer: PeerIdentity, highest: u16) {
    let turn = {
        let mut table = inner.lock();
        for older in table.live.values().filter(|l| l.peer == peer) {
            older.end.tell(LinkError::Replaced);
        }
        table.turns.entry(peer).or_default().clone()
    };
    let _turn = turn.lock().await;
    let (queue_in, queue) = mpsc::channel(QUEUE);
    let queued = Arc::new(AtomicUsize::new(0));
    let end = Arc::new(Ending::default());
    let link = {
        let mut table = inner.lock();
        if table.stopping || !table.peers.contains_key(&peer) {
            return;
        }
        table.last += 1;
        let link = LinkId(table.last);
        table.live.insert(link, Live { peer, queue: queue_in, queued: queued.clone(), end: end.clone() });
        link
    };
    count(&inner.counters.link_up);
    let name = inner.name_of(peer);
    inner.events.emit(Level::Info, "link-up", format!("link with {name} is up"));
    let up = Input::LinkUp { link, pool: peer.pool, server: peer.server };
    let mut why = LinkError::Stopping;
    let level = Input::LinkLevel { link, highest };
    if inner.inbox.peer(up, 0).await.is_ok() && inner.inbox.peer(level, 0).await.is_ok() {
        let (reader, writer) = tokio::io::split(stream);
        let reader = tokio::io::BufReader::with_capacity(READ, reader);
        why = tokio::select! {
            why = connection::read(reader, link, &inner.inbox, &inner.counters) => why,
            why = connection::write(writer, queue, &queued, &inner.counters) => why,
            why = end.told() => why,
        };
    }
    inner.lock().live.remove(&link);
    if matches!(why, LinkError::OverBudget) {
        count(&inner.counters.link_over_budget);
    }
    if why.is_rejection() {
        count(&inner.counters.link_rejected);
    }
    inner.events.emit(Level::Warn, "link-down", format!("link with {name} is down: {why}"));
    // If the node has ended, nobody needs to know.
    let _ = inner.inbox.peer(Input::LinkDown { link }, 0).await;
}
