//! The line between the two pools: relays before one pool's servers that can be held, as a congested line is, or cut.
//!
//! Owns the relays, each on a thread of its own, so that a busy drill does not slow the links down. Does not own what passes: it
//! never looks into it. What servers of the pool say to each other by way of a relay is not on the line: that always passes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections of one relay at one time; each other server keeps one, and a new one may come before the old one's end was noticed.
const CONNECTIONS: usize = 32;

/// Bytes that the kernel may keep a direction, and that the relay carries at one time. Small, so that little passes a line
/// that is held.
const BUFFER: usize = 32 * 1024;

/// How long the way to the server behind the line may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// What the line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// Everything.
    All,
    /// Nothing for now: bytes wait.
    Nothing,
    /// It is broken: connections end, new ones are closed at once.
    Broken,
}

/// State of the line. Connections of an older generation are over, whatever the line does now.
#[derive(Clone, Copy, Debug)]
struct State {
    passing: Passing,
    generation: u64,
}

/// A relay: where servers are told to connect, and where the server behind accepts in truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it leads.
    pub behind: SocketAddr,
}

/// What the ends of a relay share.
#[derive(Clone)]
struct Way {
    behind: SocketAddr,
    inside: Arc<BTreeSet<IpAddr>>,
    /// What becomes of connections that cross the line, and of those that do not.
    line: watch::Receiver<State>,
    within: watch::Receiver<State>,
}

/// The line. Dropping it ends the relays.
pub struct Line {
    state: watch::Sender<State>,
    _within: watch::Sender<State>,
}

impl Line {
    /// Relays connections; those that come from an address in `inside` do not cross the line.
    ///
    /// # Errors
    /// An address cannot be bound, or there is no thread or runtime to be had.
    pub fn start(relays: &[Relay], inside: BTreeSet<IpAddr>) -> std::io::Result<Line> {
        let inside = Arc::new(inside);
        let (state, line) = watch::channel(State { passing: Passing::All, generation: 0 });
        let (always, within) = watch::channel(State { passing: Passing::All, generation: 0 });
        for relay in relays {
            let listener = TcpListener::bind(relay.listen)?;
            listener.set_nonblocking(true)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (line, within) = (line.clone(), within.clone());
            let way = Way { behind: relay.behind, inside: Arc::clone(&inside), line, within };
            let serve = move || runtime.block_on(serve(listener, way));
            std::thread::Builder::new().name("line".into()).spawn(serve)?;
        }
        Ok(Line { state, _within: always })
    }

    /// From now on nothing passes in either direction, and nothing is lost yet.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.passing = Passing::Nothing);
    }

    /// What waits on the line is lost, and its connections are over; what connects from now on passes.
    pub fn lose(&self) {
        self.state.send_modify(|state| *state = State { passing: Passing::All, generation: state.generation + 1 });
    }

    /// The line breaks, with all that waits on it.
    pub fn cut(&self) {
        self.state.send_modify(|state| *state = State { passing: Passing::Broken, generation: state.generation + 1 });
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.passing = Passing::All);
    }
}

async fn serve(listener: TcpListener, mut way: Way) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut relays = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((front, from)) if relays.len() < CONNECTIONS => {
                    let changes = if way.inside.contains(&from.ip()) { &way.within } else { &way.line };
                    let state = *changes.borrow();
                    if state.passing != Passing::Broken {
                        relays.spawn(relay(front, way.behind, state.generation, changes.clone()));
                    }
                }
                // One too many is closed; the servers dial again.
                Ok(_) => {}
                // Descriptors may have run out: the next one may find some.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            _ = relays.join_next(), if !relays.is_empty() => {}
            changed = way.line.changed() => if changed.is_err() { return },
        }
    }
}

/// Relays one connection until either end closes it or its generation is over.
async fn relay(front: TcpStream, behind: SocketAddr, generation: u64, changes: watch::Receiver<State>) {
    let Ok(Ok(back)) = tokio::time::timeout(CONNECT, TcpStream::connect(behind)).await else { return };
    for stream in [&front, &back] {
        let socket = socket2::SockRef::from(stream);
        // Each only makes the line narrower or quicker.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        let _ = stream.set_nodelay(true);
    }
    let (front_in, front_out) = tokio::io::split(front);
    let (back_in, back_out) = tokio::io::split(back);
    let mut over = changes.clone();
    tokio::select! {
        // An error means that the line itself is gone.
        _ = over.wait_for(|state| state.generation != generation) => {}
        () = pass(front_in, back_out, generation, changes.clone()) => {}
        () = pass(back_in, front_out, generation, changes) => {}
    }
}

/// One direction. Bytes read while the line is held wait here; those behind them wait in the sender's kernel. None of them
/// passes once the connection's generation is over.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    generation: u64,
    mut changes: watch::Receiver<State>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        let open = changes.wait_for(|state| state.passing != Passing::Nothing || state.generation != generation).await;
        if !open.is_ok_and(|state| state.generation == generation) {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
