//! One virtual server: a node, its disk, its clocks, and the shell between them.
//!
//! Owns what a real shell does (append, sync, checkpoint, tails) on a simulated disk under virtual time. Draws nothing:
//! the world decides when it crashes and how long a sync takes.

use bytes::Bytes;
use pairline_group::codec::entry_in_item;
use pairline_group::io::{LogBatch, LogKind, Now};
use pairline_group::{Entry, GroupId, LinkId, OpId, PoolId, ServerId};
use pairline_node::executor::Order;
use pairline_node::io::{Input, Output, StoredTail};
use pairline_node::{Node, NodeConfig, Secrets};
use pairline_services::settings::Secret;
use pairline_sip::auth::NonceKeys;
use pairline_sip::flow::Flow;
use pairline_store::files::DiskImage;
use pairline_store::{LogError, MemoryCheckpoints, MemoryFiles, Store, StoreConfig};
use pairline_topology::Topology;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Wall clock at virtual time 0: a date, so that numbers look real.
pub const WALL_START: u64 = 1_795_000_000_000;

/// What a server's step leaves for the world.
#[derive(Debug)]
pub enum Effect {
    /// Sync the disk after its latency, then tell the node.
    Sync {
        /// Last appended batch.
        batch: u64,
    },
    /// Tell the node that the checkpoint is durable.
    Checkpointed {
        /// Which.
        id: u64,
    },
    /// A frame for the other site.
    Frame {
        /// On which connection.
        link: LinkId,
        /// Its bytes.
        frame: Bytes,
    },
    /// A command's answer.
    Reply {
        /// Which.
        request: u64,
        /// Its answer.
        reply: Result<pairline_node::command::Reply, pairline_node::command::Problem>,
    },
    /// The node orders the other site to stand down, outside the link.
    Fence {
        /// Echoed.
        id: u64,
        /// The server that is meant, by the address of its admin API.
        admin: std::net::SocketAddr,
        /// The order to stand down.
        order: pairline_node::command::Command,
    },
    /// A SIP message for a phone.
    Sip {
        /// Where to.
        flow: Flow,
        /// Its bytes.
        message: Bytes,
    },
    /// An event for the trace.
    Event(pairline_node::event::Event),
    /// The process ends (disk failure, wrong state).
    Dies {
        /// Why.
        reason: String,
    },
    /// A document is in force that is another one than before.
    Document(Box<Topology>),
    /// More input for the node, at once.
    Again(Input),
}

/// One server.
pub struct Server {
    /// Which site (0 or 1).
    pub site: usize,
    /// Its pool.
    pub pool: PoolId,
    /// Its id.
    pub id: ServerId,
    /// The node; `None` while it is down.
    pub node: Option<Node>,
    /// Its disk.
    pub files: MemoryFiles,
    /// Its checkpoint database.
    pub checkpoints: MemoryCheckpoints,
    store: Option<Store>,
    /// Starts so far.
    pub boot: u64,
    started_at: u64,
    /// Wall clock offset in milliseconds.
    pub offset_ms: i64,
    /// Clock drift in parts per million.
    pub drift_ppm: i64,
    /// Paused (SIGSTOP): nothing is delivered.
    pub paused: bool,
    /// The connection that its node believes in.
    pub link: Option<LinkId>,
    /// Entries in the log at the last start, for the oracle: some were applied in no life before.
    pub recovered: Vec<(GroupId, Arc<Entry>)>,
    /// Frames that arrived while it was paused.
    pub paused_frames: Vec<(LinkId, Bytes)>,
    /// Appends that a full disk holds up, oldest first.
    stuck: VecDeque<LogBatch>,
    /// Whether it is noted which operations are on its disk.
    pub notes_operations: bool,
    /// Operations in the log that are not synced, and those that are or were.
    unsynced: Vec<OpId>,
    on_disk: BTreeSet<OpId>,
    /// Seed of the run.
    pub seed: u64,
    /// Bounds of its replication.
    pub limits: pairline_group::Limits,
    /// A planted bug.
    #[cfg(feature = "planted")]
    pub planted: Option<pairline_group::planted::Planted>,
}

impl Server {
    /// A server with an empty disk, not started.
    pub fn new(site: usize, pool: PoolId, id: ServerId, seed: u64, limits: pairline_group::Limits) -> Server {
        Server {
            site,
            pool,
            id,
            node: None,
            files: MemoryFiles::new(),
            checkpoints: MemoryCheckpoints::new(),
            store: None,
            boot: 0,
            started_at: 0,
            offset_ms: 0,
            drift_ppm: 0,
            paused: false,
            link: None,
            recovered: Vec::new(),
            paused_frames: Vec::new(),
            stuck: VecDeque::new(),
            notes_operations: false,
            unsynced: Vec::new(),
            on_disk: BTreeSet::new(),
            seed,
            limits,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// Both clocks of this server at a virtual time.
    pub fn clocks(&self, now: u64) -> Now {
        let elapsed = i64::try_from(now.saturating_sub(self.started_at)).unwrap_or(i64::MAX);
        let drifted = elapsed + elapsed / 1_000 * self.drift_ppm / 1_000;
        let since_start = i64::try_from(now).unwrap_or(i64::MAX);
        let wall = i64::try_from(WALL_START).unwrap_or(0)
            + since_start
            + since_start / 1_000 * self.drift_ppm / 1_000
            + self.offset_ms;
        Now { mono: u64::try_from(drifted.max(0)).unwrap_or(0), wall: u64::try_from(wall.max(0)).unwrap_or(0) }
    }

    /// Starts the process on what the disk holds.
    pub fn start(&mut self, topology: &Topology, now: u64) -> Result<Vec<Effect>, String> {
        self.boot += 1;
        self.started_at = now;
        self.paused = false;
        self.paused_frames.clear();
        self.stuck.clear();
        self.unsynced.clear();
        self.link = None;
        let mut config = StoreConfig::small("/data");
        // Without spare segments a log that goes on needs room, so that a full disk is noticed.
        (config.log.segment_bytes, config.log.keep_segments) = (16 * 1024, 0);
        let files: Arc<dyn pairline_store::FileLayer> = Arc::new(self.files.clone());
        let checkpoints = Box::new(self.checkpoints.clone());
        let (store, recovered, report) =
            Store::open_with(&config, files, checkpoints).map_err(|error| format!("store does not open: {error}"))?;
        if let Some((group, why)) = report.corrupt.first() {
            return Err(format!("group {group} is corrupt after a crash: {why:?}"));
        }
        self.store = Some(store);
        self.recovered = recovered
            .iter()
            .flat_map(|group| group.log.iter().map(|record| (group.group, record)))
            .filter(|(_, record)| record.kind == LogKind::Item)
            .filter_map(|(group, record)| Some((group, Arc::new(entry_in_item(&record.payload)?))))
            .collect();
        if self.notes_operations {
            self.on_disk.extend(self.recovered.iter().filter_map(|(_, entry)| entry.op));
        }
        let mut seed = [0_u8; 32];
        seed[..8].copy_from_slice(&(self.seed ^ (self.boot << 8) ^ self.site as u64).to_le_bytes());
        let config = NodeConfig {
            topology: topology.clone(),
            server: self.id,
            boot: self.boot,
            seed,
            secrets: Secrets { sealing_key: Secret([7; 32]), nonce_keys: NonceKeys::new([9; 32], None) },
            sip: Default::default(),
            order: Order::Seeded(self.seed ^ self.boot),
            limits: self.limits.clone(),
            version: "0.1.0".to_owned(),
            watch: true,
            #[cfg(feature = "planted")]
            planted: self.planted,
        };
        let node = Node::start_up(config, self.clocks(now), recovered)
            .map_err(|error| format!("node does not recover: {error}"))?;
        self.node = Some(node);
        Ok(self.drain())
    }

    /// The machine loses its power (`seed` decides what unsynced writes leave behind) or only the process dies.
    pub fn stop(&mut self, power: bool, seed: u64) {
        self.node = None;
        self.store = None;
        if power {
            self.files.crash(seed);
        } else {
            self.files.kill();
        }
    }

    /// What is on its disk now, as far as it is synced.
    pub fn image(&self) -> (DiskImage, MemoryCheckpoints) {
        (self.files.image(), self.checkpoints.image())
    }

    /// Puts that back, in the place of what is there. The process does not run.
    pub fn restore(&mut self, (files, checkpoints): &(DiskImage, MemoryCheckpoints)) {
        self.files.restore(files);
        self.checkpoints.restore(checkpoints);
    }

    /// Another disk is there, with nothing on it. The process does not run.
    pub fn empty_disk(&mut self) {
        self.restore(&(MemoryFiles::new().image(), MemoryCheckpoints::new()));
    }

    /// Whether the process runs and is not paused.
    pub fn runs(&self) -> bool {
        self.node.is_some() && !self.paused
    }

    /// Inputs that the process finds together, and what follows from them.
    pub fn handle(&mut self, now: u64, inputs: Vec<Input>) -> Vec<Effect> {
        let clocks = self.clocks(now);
        let Some(node) = self.node.as_mut() else { return Vec::new() };
        node.handle_all(clocks, inputs);
        self.drain()
    }

    /// Syncs what was appended; the answer goes to the node as the next input.
    pub fn sync(&mut self, batch: u64) -> Vec<Effect> {
        let Some(store) = self.store.as_mut() else { return Vec::new() };
        match store.log.sync() {
            Ok(_) => {
                self.on_disk.extend(self.unsynced.drain(..));
                vec![Effect::Again(Input::Synced { batch })]
            }
            Err(error) => vec![Effect::Dies { reason: format!("sync failed: {error}") }],
        }
    }

    /// Lifts a limit of the disk: a full disk that was cleaned up.
    pub fn clean_disk(&mut self) {
        self.files.set_capacity(None);
        self.files.disarm();
    }

    /// There is room on the disk again: what has waited is appended, and the node is told. Nothing if nothing has waited.
    pub fn room(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.node.is_none() || self.stuck.is_empty() {
            return effects;
        }
        for batch in std::mem::take(&mut self.stuck) {
            self.append(batch, &mut effects);
        }
        if self.stuck.is_empty() {
            effects.push(Effect::Again(Input::Disk { full: false }));
        }
        effects
    }

    /// Appends, or keeps what a full disk has no room for and tells the node.
    fn append(&mut self, batch: LogBatch, effects: &mut Vec<Effect>) {
        if !self.stuck.is_empty() {
            return self.stuck.push_back(batch);
        }
        let Some(store) = self.store.as_mut() else { return };
        match store.log.append(&batch) {
            Ok(()) if self.notes_operations => {
                let items = batch.records.iter().filter(|record| record.kind == LogKind::Item);
                self.unsynced.extend(items.filter_map(|record| entry_in_item(&record.payload)?.op));
                effects.push(Effect::Sync { batch: batch.batch });
            }
            Ok(()) => effects.push(Effect::Sync { batch: batch.batch }),
            Err(LogError::NoSpace(_)) => {
                self.stuck.push_back(batch);
                effects.push(Effect::Again(Input::Disk { full: true }));
            }
            Err(error) => effects.push(Effect::Dies { reason: format!("append failed: {error}") }),
        }
    }

    fn drain(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(output) = self.node.as_mut().and_then(Node::poll) {
            self.output(output, &mut effects);
        }
        effects
    }

    fn output(&mut self, output: Output, effects: &mut Vec<Effect>) {
        if let Output::Append(batch) = output {
            return self.append(batch, effects);
        }
        let Some(store) = self.store.as_mut() else { return };
        match output {
            Output::Checkpoint { id, groups } => {
                // A checkpoint may only cover what the log has durably.
                let written = store
                    .log
                    .sync()
                    .map_err(|e| e.to_string())
                    .and_then(|_| store.checkpoints.write(&groups).map_err(|e| e.to_string()));
                match written {
                    Ok(()) => effects.push(Effect::Checkpointed { id }),
                    Err(error) => effects.push(Effect::Dies { reason: format!("checkpoint failed: {error}") }),
                }
            }
            Output::Forget { group } => {
                if let Err(error) = store.forget(group) {
                    effects.push(Effect::Dies { reason: format!("group {group} not forgotten: {error}") });
                }
            }
            Output::Purge { group, through } => {
                // A later purge of the group says it all.
                if let Err(error) = store.log.purge(group, through)
                    && !matches!(error, LogError::NoSpace(_))
                {
                    effects.push(Effect::Dies { reason: format!("purge failed: {error}") });
                }
            }
            Output::StoreTail { group, fork, entries } => match store.log.store_tail(group, fork, &entries) {
                Ok(_) => effects.push(Effect::Again(Input::TailStored { group })),
                Err(error) => effects.push(Effect::Dies { reason: format!("tail not stored: {error}") }),
            },
            Output::ReadTails { id, pool } => {
                let tails = self.tails(pool);
                effects.push(Effect::Again(Input::Tails { id, tails }));
            }
            Output::ResolveTail { group, fork, resolved } => crate::tails::resolve(store, group, fork, &resolved),
            Output::PeerFrame { link, frame } => effects.push(Effect::Frame { link, frame }),
            Output::AdminReply { request, reply } => effects.push(Effect::Reply { request, reply }),
            Output::TryFence { id, admin, order } => effects.push(Effect::Fence { id, admin, order }),
            Output::Event(event) => effects.push(Effect::Event(event)),
            Output::Fatal { reason } => effects.push(Effect::Dies { reason }),
            Output::Resolve { id, .. } => {
                effects.push(Effect::Again(Input::Resolved { id, addresses: Ok(Vec::new()) }));
            }
            Output::Sip { flow, message } => effects.push(Effect::Sip { flow, message }),
            Output::TopologyChanged(document) => effects.push(Effect::Document(document)),
            // Nobody orders a restart here: servers die and come back by faults.
            Output::Append(_) | Output::CloseFlow { .. } | Output::Wake(_) | Output::Restart => {}
        }
    }

    /// Whether the entry of an operation is or was in what is synced of its log.
    pub fn has_on_disk(&self, op: &OpId) -> bool {
        self.on_disk.contains(op)
    }

    /// Stored divergent tails of the groups of a pool.
    pub fn tails(&mut self, pool: PoolId) -> Vec<StoredTail> {
        self.store.as_ref().map(|store| crate::tails::read(store, pool)).unwrap_or_default()
    }

    /// Records of which stored tails have the state and not the operation.
    pub fn tail_records(&mut self) -> Vec<pairline_group::Key> {
        self.store.as_ref().map(crate::tails::records).unwrap_or_default()
    }

    /// All records that entries in stored tails touch.
    pub fn tail_touched(&mut self) -> Vec<pairline_group::Key> {
        self.store.as_ref().map(crate::tails::touched).unwrap_or_default()
    }

    /// Operation ids of all entries in stored tails.
    pub fn tail_operations(&mut self) -> Vec<pairline_group::OpId> {
        self.store.as_ref().map(crate::tails::operations).unwrap_or_default()
    }
}
