//! Where the node's outputs go.
//!
//! Owns the dispatch and the overflow rules of outputs (DESIGN §3). Never waits: what cannot go out now is kept (disk),
//! dropped and counted (datagrams), or costs its connection (streams, links).

use super::counters::Counters;
use super::events::EventHub;
use super::handle::Waiting;
use super::signals::Signals;
use super::storage::Request;
use crate::link::Links;
use crate::net::dial::Dialler;
use crate::net::mmsg::BATCH;
use crate::net::udp::UdpListeners;
use bytes::Bytes;
use crossbeam_channel as channel;
use pairline_group::LinkId;
use pairline_group::io::LogBatch;
use pairline_node::command::{Actor, Command};
use pairline_node::io::{Input, Output, ResolveFailed};
use pairline_services::push::Wake;
use pairline_sip::flow::{Flow, Transport};
use pairline_topology::Topology;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Bytes that may wait for the store thread before the node takes no more work in.
const DISK_BACKLOG: usize = 64 * 1024 * 1024;

/// Work for the runtime that the node asks for.
#[derive(Debug)]
pub enum Errand {
    /// Resolve a next hop.
    Resolve(u64, Bytes),
    /// Order a server by its admin API to stand down.
    Fence(u64, SocketAddr, Box<Command>),
    /// Post an order to the push gateway.
    Wake(Wake),
    /// The topology in force.
    Topology(Box<Topology>),
}

/// Where outputs go.
pub struct Ports {
    /// Datagrams.
    pub udp: Arc<UdpListeners>,
    /// Streams.
    pub streams: Dialler,
    /// Links.
    pub links: Links,
    /// The store thread.
    pub disk: channel::Sender<Request>,
    /// The runtime's errands.
    pub errands: mpsc::Sender<Errand>,
    /// Answers of commands.
    pub waiting: Arc<Waiting>,
    /// Events.
    pub events: EventHub,
    /// Counters.
    pub counters: Arc<Counters>,
    /// What the threads tell each other.
    pub signals: Arc<Signals>,
}

/// The node's outputs on their way.
pub struct Outgoing {
    ports: Ports,
    datagrams: BTreeMap<u16, Vec<(SocketAddr, Bytes)>>,
    frames: Vec<(LinkId, Bytes)>,
    backlog: VecDeque<Request>,
    backlog_bytes: usize,
    /// Inputs that arise from outputs: flows that are gone, errands that nobody can take.
    echo: VecDeque<Input>,
    last_append: u64,
    last_topology: Option<Box<Topology>>,
}

impl Outgoing {
    /// With nothing on its way.
    pub fn new(ports: Ports) -> Outgoing {
        Outgoing {
            ports,
            datagrams: BTreeMap::new(),
            frames: Vec::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            echo: VecDeque::new(),
            last_append: 0,
            last_topology: None,
        }
    }

    /// Whether the store thread is so far behind that the node must take no more work in.
    pub fn congested(&self) -> bool {
        self.backlog_bytes > DISK_BACKLOG
    }

    /// Number of the last batch handed out for appending.
    pub fn last_append(&self) -> u64 {
        self.last_append
    }

    /// An input that arose from an output.
    pub fn echo(&mut self) -> Option<Input> {
        self.echo.pop_front()
    }

    /// Whether anything waits that only time or another thread can move.
    pub fn is_waiting(&self) -> bool {
        !self.backlog.is_empty() || self.last_topology.is_some()
    }

    /// Whether any other server is linked.
    pub fn is_linked(&self) -> bool {
        !self.ports.links.live().is_empty()
    }

    /// Sends one output on its way, most of them with the next [`Outgoing::flush`]. An error is the node's own verdict that the process must end.
    ///
    /// # Errors
    /// The node's reason.
    pub fn dispatch(&mut self, output: Output) -> Result<(), String> {
        match output {
            Output::Sip { flow, message } => self.sip(flow, message),
            Output::CloseFlow { flow } => self.ports.streams.close(&flow),
            Output::PeerFrame { link, frame } => self.frames.push((link, frame)),
            Output::Append(batch) => self.append(batch),
            Output::Checkpoint { id, groups } => self.store(Request::Checkpoint(id, groups)),
            Output::Forget { group } => self.store(Request::Forget(group)),
            Output::Purge { group, through } => self.store(Request::Purge(group, through)),
            Output::StoreTail { group, fork, entries } => self.store(Request::StoreTail(group, fork, entries)),
            Output::ReadTails { id, pool } => self.store(Request::ReadTails(id, pool)),
            Output::ResolveTail { group, fork, resolved } => self.store(Request::ResolveTail(group, fork, resolved)),
            Output::Resolve { id, uri } => {
                if self.ports.errands.try_send(Errand::Resolve(id, uri)).is_err() {
                    self.echo.push_back(Input::Resolved { id, addresses: Err(ResolveFailed) });
                }
            }
            Output::TryFence { id, admin, order } => {
                if self.ports.errands.try_send(Errand::Fence(id, admin, Box::new(order))).is_err() {
                    let command = Command::FenceAnswer { id, alive: false, fenced: false };
                    self.echo.push_back(Input::Admin { request: 0, actor: Actor::Server, command });
                }
            }
            Output::Wake(wake) => {
                if self.ports.errands.try_send(Errand::Wake(wake)).is_err() {
                    self.ports.counters.push_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Output::AdminReply { request, reply } => self.ports.waiting.answer(request, reply),
            Output::Event(event) => self.ports.events.publish(event),
            Output::TopologyChanged(topology) => self.last_topology = Some(topology),
            Output::Restart => self.ports.signals.restart(),
            Output::Fatal { reason } => return Err(reason),
        }
        Ok(())
    }

    /// Moves what waits: the disk's backlog, frames, datagrams in batches, the newest topology. The disk and the other servers have the longest
    /// to go, and each of them is woken once for all of it.
    pub fn flush(&mut self) {
        self.flush_disk();
        if !self.frames.is_empty() {
            self.ports.links.send_all(self.frames.drain(..));
        }
        self.flush_datagrams();
        if let Some(topology) = self.last_topology.take()
            && let Err(mpsc::error::TrySendError::Full(Errand::Topology(back))) =
                self.ports.errands.try_send(Errand::Topology(topology))
        {
            self.last_topology = Some(back);
        }
    }

    fn sip(&mut self, flow: Flow, message: Bytes) {
        match flow.transport {
            Transport::Udp => match self.ports.udp.for_flow(&flow) {
                Some(listener) => {
                    let index = listener.listener();
                    let batch = self.datagrams.entry(index).or_default();
                    batch.push((flow.remote, message));
                    if batch.len() >= BATCH {
                        self.flush_datagrams();
                    }
                }
                None => self.echo.push_back(Input::FlowClosed { flow }),
            },
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                if let Some(gone) = self.ports.streams.send(flow, message) {
                    self.echo.push_back(Input::FlowClosed { flow: gone });
                }
            }
            // Links carry frames of their own; the node never sends bare SIP there.
            Transport::Peer => self.echo.push_back(Input::FlowClosed { flow }),
        }
    }

    fn flush_datagrams(&mut self) {
        for (index, batch) in &mut self.datagrams {
            if batch.is_empty() {
                continue;
            }
            let Some(listener) = self.ports.udp.iter().find(|l| l.listener() == *index) else { continue };
            for remote in listener.send_all(batch, &self.ports.counters) {
                self.echo.push_back(Input::FlowClosed { flow: Flow::udp(*index, remote) });
            }
        }
    }

    fn store(&mut self, request: Request) {
        self.backlog_bytes += request.weight();
        self.backlog.push_back(request);
    }

    /// Batches of one turn go to the log as one: its thread begins with what it is given first, and the rest would wait for another sync.
    fn append(&mut self, batch: LogBatch) {
        self.last_append = self.last_append.max(batch.batch);
        let request = Request::Append(batch);
        self.backlog_bytes += request.weight();
        let left = match self.backlog.back_mut() {
            Some(before) => before.join(request),
            None => Some(request),
        };
        self.backlog.extend(left);
    }

    fn flush_disk(&mut self) {
        while let Some(request) = self.backlog.pop_front() {
            let weight = request.weight();
            match self.ports.disk.try_send(request) {
                Ok(()) => self.backlog_bytes = self.backlog_bytes.saturating_sub(weight),
                Err(channel::TrySendError::Full(back)) => {
                    self.backlog.push_front(back);
                    return;
                }
                // The store thread has ended the process, or is about to.
                Err(channel::TrySendError::Disconnected(_)) => {
                    self.backlog_bytes = self.backlog_bytes.saturating_sub(weight);
                }
            }
        }
    }

    /// Asks the store thread to make everything durable and to end; waits for room in its queue.
    pub fn close_disk(&mut self) {
        while let Some(request) = self.backlog.pop_front() {
            if self.ports.disk.send(request).is_err() {
                return;
            }
        }
        // Without a store thread there is nothing to close.
        let _ = self.ports.disk.send(Request::Close);
    }
}
