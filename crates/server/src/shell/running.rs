//! A server that runs: what others need of it, and its end.
//!
//! Owns the threads. Does not own what they do.

use super::handle::NodeHandle;
use super::signals::{Ended, Signals, Threads};
use crate::dns::ZoneView;
use crate::link::Links;
use crate::net::Streams;
use crate::tls::Credentials;
use pairline_topology::{Server, Topology};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// A server that runs. Dropping it stops it.
pub struct RunningServer {
    pub(super) handle: NodeHandle,
    pub(super) signals: Arc<Signals>,
    pub(super) links: Links,
    pub(super) streams: Arc<Streams>,
    pub(super) zone: ZoneView,
    pub(super) credentials: Arc<Credentials>,
    pub(super) server: Server,
    pub(super) renew: Arc<Notify>,
    pub(super) bound: Vec<(String, SocketAddr)>,
    pub(super) threads: Threads,
}

/// Asks a server to stop; cheap to clone.
#[derive(Clone)]
pub struct Stopper(Arc<Signals>);

impl Stopper {
    /// Asks; returns at once. [`RunningServer::wait`] tells when it has ended.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl RunningServer {
    /// Speaks to the node.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// The runtime of links, HTTP and DNS: one thread, so nothing on it may block.
    pub fn runtime(&self) -> &Handle {
        self.threads.runtime()
    }

    /// This server as it runs here, with this machine's overrides.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Certificate, key and authority.
    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Asks for a look at the certificates on disk, whether they have changed or not; returns at once. An event tells what
    /// came of it.
    pub fn reload_certificates(&self) {
        self.renew.notify_one();
    }

    /// The topology in force, as the shell follows it.
    pub fn topology(&self) -> Arc<Topology> {
        self.zone.topology()
    }

    /// Where a listener (by its id), `link` or `dns` is bound.
    pub fn address(&self, what: &str) -> Option<SocketAddr> {
        self.bound.iter().find(|(name, _)| name == what).map(|(_, address)| *address)
    }

    /// Links that are up, and stream connections that are open.
    pub fn connections(&self) -> (usize, usize) {
        (self.links.live().len(), self.streams.len())
    }

    /// Asks the server to stop from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.signals.clone())
    }

    /// Waits until the node has ended, by request or because it had to. Safe to drop at the await.
    pub async fn wait(&self) -> Ended {
        let mut ended = self.signals.ended();
        let found = ended.wait_for(Option::is_some).await;
        found.ok().and_then(|e| e.clone()).unwrap_or(Ended::Stopped)
    }

    /// Stops: no more work is taken, what was begun reaches the disk and (within a quarter of a second) the other pools,
    /// then everything is closed. Blocks until then, so not for use within a runtime.
    pub fn stop(self) -> Ended {
        let signals = self.signals.clone();
        signals.stop();
        self.runtime().block_on(self.wait());
        self.links.stop();
        self.streams.close_all();
        drop(self);
        let ended = signals.ended().borrow().clone();
        match ended.unwrap_or(Ended::Stopped) {
            Ended::Stopped if signals.restarts() => Ended::Restart,
            ended => ended,
        }
    }
}
