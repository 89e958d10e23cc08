//! The contract between one node and its shell (the server, or the simulator): inputs in, outputs out.
//!
//! Owns the types of that contract. Decides nothing.

use crate::command::{Actor, Command, Problem, Reply};
use bytes::Bytes;
use pairline_group::io::{CheckpointDelta, LogBatch};
use pairline_group::tail::Resolution;
use pairline_group::{Entry, GroupId, LinkId, PoolId, Position, ServerId};
use pairline_services::admission::Waited;
use pairline_sip::flow::Flow;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the shell tells the node. Every call carries both clocks (`Node::handle(now, input)`).
#[derive(Debug)]
pub enum Input {
    /// Time passes. At least every 20 ms, and once after each batch of other inputs.
    Tick,
    /// One whole SIP message: a datagram, or a framed message of a stream.
    Sip {
        /// Where it came from.
        flow: Flow,
        /// Its bytes.
        message: Bytes,
    },
    /// The SIP messages that are given from now on, until this is said again, had waited in the shell's queues for so long at most.
    /// Where a shell has no queues it need not say so.
    Waited(Waited),
    /// The SIP messages that are given from now on, until this or [`Input::Waited`] is said again, came so long ago.
    Age {
        /// Milliseconds.
        ms: u64,
        /// Whether they repeat what the shell let fall.
        again: bool,
    },
    /// Who opened a stream connection has proven by a certificate to be these SIP domains (RFC 5922 §7.1). Comes before
    /// anything that it sends.
    FlowVerified {
        /// Which connection.
        flow: Flow,
        /// The domains, lower case; none if its certificate names only addresses.
        names: Vec<String>,
    },
    /// A stream connection ended, or could not be made.
    FlowClosed {
        /// Which one (`connection` set), or the flow of the failed send.
        flow: Flow,
    },
    /// A mutually authenticated link to another server is up.
    LinkUp {
        /// The new connection.
        link: LinkId,
        /// Pool of its other end, from the certificate.
        pool: PoolId,
        /// Server of its other end, from the certificate.
        server: ServerId,
    },
    /// Up to which feature level the server at the other end knows; comes once after `LinkUp`.
    LinkLevel {
        /// Which connection.
        link: LinkId,
        /// The level.
        highest: u16,
    },
    /// Another server of the deployment says that this feature level is in force, and refuses a link with less.
    LevelInForce {
        /// The level.
        level: u16,
    },
    /// That link is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// One frame of a link (bounded by the shell to 16 MiB).
    PeerFrame {
        /// Which link.
        link: LinkId,
        /// Encoded [`crate::peer::PeerFrame`].
        frame: Bytes,
    },
    /// The log is on disk up to this batch.
    Synced {
        /// Cumulative batch number.
        batch: u64,
    },
    /// That checkpoint is durable.
    CheckpointDone {
        /// Which.
        id: u64,
    },
    /// The divergent tail of that group is durable.
    TailStored {
        /// Which group.
        group: GroupId,
    },
    /// Answer to [`Output::ReadTails`].
    Tails {
        /// The request.
        id: u64,
        /// Every stored tail of the groups asked for in which an entry waits for a decision.
        tails: Vec<StoredTail>,
    },
    /// Answer to [`Output::Resolve`].
    Resolved {
        /// The request.
        id: u64,
        /// Addresses in order of preference; empty if none; `Err(())` if the resolver did not answer in time.
        addresses: Result<Vec<Flow>, ResolveFailed>,
    },
    /// A command of the admin API.
    Admin {
        /// Echoed in the reply.
        request: u64,
        /// Who asks.
        actor: Actor,
        /// What.
        command: Command,
    },
    /// The disk is full: what is under way is acknowledged when there is room again, and nothing new is taken; or there is
    /// room again.
    Disk {
        /// Whether it is full.
        full: bool,
    },
    /// This process is about to end, once what is under way is answered ([`crate::Node::under_way`]): nothing new is taken.
    Ending,
    /// What only the shell can see; sent at start and every few seconds.
    Facts(Facts),
}

/// A resolver that did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveFailed;

/// Facts of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Free bytes where the data folder is.
    pub disk_free: u64,
    /// Bytes of that file system that are used, with those that are free.
    pub disk_total: u64,
    /// Days until this server's certificate expires (negative: expired).
    pub certificate_days: i64,
    /// Version of this build.
    pub version: String,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
}

/// One stored divergent tail.
#[derive(Clone, Debug)]
pub struct StoredTail {
    /// Which group.
    pub group: GroupId,
    /// Where the histories part.
    pub fork: Position,
    /// All its entries, oldest first.
    pub entries: Vec<Arc<Entry>>,
    /// What became of each.
    pub resolutions: Vec<Resolution>,
}

/// What the node tells the shell.
#[derive(Debug)]
pub enum Output {
    /// Send one SIP message. For a stream's destination ([`Flow::is_destination`]): reuse a connection that leads there, or
    /// connect.
    Sip {
        /// Where to.
        flow: Flow,
        /// Its bytes.
        message: Bytes,
    },
    /// Close a stream connection (paced moves of clients, abuse).
    CloseFlow {
        /// Which.
        flow: Flow,
    },
    /// Send one frame on a link; dropped without harm if the link is gone.
    PeerFrame {
        /// Which link.
        link: LinkId,
        /// Encoded frame.
        frame: Bytes,
    },
    /// Append and sync in order; answer [`Input::Synced`]. Several batches may share one sync.
    Append(LogBatch),
    /// Write a checkpoint in one transaction; answer [`Input::CheckpointDone`].
    Checkpoint {
        /// Its id.
        id: u64,
        /// Its content.
        groups: Vec<CheckpointDelta>,
    },
    /// No copy of this group is kept here any more: log and checkpoint of it may go.
    Forget {
        /// Which group.
        group: GroupId,
    },
    /// Log records of this group up to this index may go.
    Purge {
        /// Which group.
        group: GroupId,
        /// Consensus index.
        through: u64,
    },
    /// Store a divergent tail durably; answer [`Input::TailStored`].
    StoreTail {
        /// Which group.
        group: GroupId,
        /// Where the histories part.
        fork: Position,
        /// Its entries.
        entries: Vec<Arc<Entry>>,
    },
    /// Read the stored tails that are not settled; answer [`Input::Tails`].
    ReadTails {
        /// Echoed.
        id: u64,
        /// Home pool whose groups are meant, besides the management store's.
        pool: PoolId,
    },
    /// Mark tail entries with what became of them, in all tails of that group and fork; durable, no answer.
    ResolveTail {
        /// Which group.
        group: GroupId,
        /// Which tail.
        fork: Position,
        /// Position and what became of it.
        resolved: Vec<(Position, Resolution)>,
    },
    /// Resolve a next hop by RFC 3263 (bounded to 2 s by the shell); answer [`Input::Resolved`].
    Resolve {
        /// Echoed.
        id: u64,
        /// SIP or SIPS URI whose host is a name.
        uri: Bytes,
    },
    /// Give a server the order to stand down by its admin API, outside the link (fencing); the answer comes as
    /// [`Input::Admin`] `Command::FenceAnswer`.
    TryFence {
        /// Echoed in `FenceAnswer`.
        id: u64,
        /// Its admin API.
        admin: SocketAddr,
        /// The order.
        order: Command,
    },
    /// Post an order to wake a client to the push gateway; no answer, dropped where there is none or no room.
    Wake(pairline_services::push::Wake),
    /// Answer to a command.
    AdminReply {
        /// The request.
        request: u64,
        /// The answer.
        reply: Result<Reply, Problem>,
    },
    /// Something that happened, for the log and for `up`'s stream of readable lines.
    Event(crate::event::Event),
    /// The topology that is in force changed (publish, pair, unpair): the shell adjusts links and listeners.
    TopologyChanged(Box<pairline_topology::Topology>),
    /// The process ends in order and starts again, from the program that is installed now.
    Restart,
    /// The node found itself wrong or its disk failed: the process must end now.
    Fatal {
        /// Why.
        reason: String,
    },
}
