//! Two paired nodes, east and west, with memory disks and a link between them, under virtual time.
//!
//! Owns the shell's part of the contract: a log that is on disk at once, checkpoints, tails with their marks, frames in
//! order, crashes. Decides nothing. `hold` keeps replication back while commands and proposals pass; `withhold_tails` keeps
//! the answer back that a tail is stored.
#![allow(dead_code)]

pub mod lists;
pub mod phone;
pub mod pool;

use bytes::Bytes;
use pairline_group::io::{
    CheckpointDelta, GroupCheckpoint, GroupStatus, LogBatch, LogKind, LogRecord, Now, RecoveredGroup,
};
use pairline_group::tail::Resolution;
use pairline_group::{Entry, GroupId, Key, LinkId, PoolId, Position, Record, ServerId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::event::Event;
use pairline_node::executor::Order;
use pairline_node::io::{Facts, Input, Output, StoredTail};
use pairline_node::peer::PeerFrame;
use pairline_node::{Node, NodeConfig, Secrets};
use pairline_services::settings::Secret;
use pairline_sip::auth::NonceKeys;
use pairline_sip::flow::Flow;
use pairline_topology::Topology;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub const EAST: usize = 0;
pub const WEST: usize = 1;
const START_WALL: u64 = 1_795_000_000_000;
/// Virtual milliseconds between two ticks.
const TICK: u64 = 20;

/// What survives a crash.
#[derive(Default)]
pub struct Disk {
    log: Vec<LogRecord>,
    checkpoints: BTreeMap<GroupId, (Bytes, BTreeMap<Key, Record>)>,
    purged: BTreeMap<GroupId, u64>,
    pub tails: Vec<StoredTail>,
    /// Marks are not stored, as if the process died before.
    pub lose_marks: bool,
    /// No checkpoint reaches the disk.
    pub lose_checkpoints: bool,
    /// There is no room: what is to be appended waits.
    pub full: bool,
    waiting: Vec<LogBatch>,
}

impl Disk {
    fn append(&mut self, batch: LogBatch) {
        self.log.extend(batch.records);
    }

    fn checkpoint(&mut self, groups: Vec<CheckpointDelta>) {
        for delta in groups {
            let (meta, records) = self.checkpoints.entry(delta.group).or_default();
            *meta = delta.meta;
            if delta.clear {
                records.clear();
            }
            for key in delta.deletes {
                records.remove(&key);
            }
            records.extend(delta.puts);
        }
    }

    fn recovered(&self) -> Vec<RecoveredGroup> {
        let mut groups: BTreeMap<GroupId, RecoveredGroup> = BTreeMap::new();
        for (group, (meta, records)) in &self.checkpoints {
            let records = records.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
            let checkpoint = Some(GroupCheckpoint { meta: meta.clone(), records });
            groups.insert(*group, RecoveredGroup { group: *group, checkpoint, log: Vec::new() });
        }
        for record in &self.log {
            let group = record.group;
            let purged = self.purged.get(&group).copied().unwrap_or(0);
            let to = groups.entry(group).or_insert_with(|| RecoveredGroup { group, ..RecoveredGroup::default() });
            match record.kind {
                LogKind::HardState => to.log.retain(|old| old.kind != LogKind::HardState),
                LogKind::Item if record.index <= purged => continue,
                LogKind::Item => to.log.retain(|old| old.kind != LogKind::Item || old.index < record.index),
            }
            to.log.push(record.clone());
        }
        groups.into_values().collect()
    }

    fn purge(&mut self, group: GroupId, through: u64) {
        self.purged.insert(group, through);
    }

    fn store_tail(&mut self, group: GroupId, fork: Position, entries: Vec<Arc<Entry>>) {
        if !self.tails.iter().any(|tail| tail.group == group && tail.fork == fork) {
            let resolutions = vec![Resolution::Open; entries.len()];
            self.tails.push(StoredTail { group, fork, entries, resolutions });
        }
    }

    fn open_tails(&self, pool: PoolId) -> Vec<StoredTail> {
        let asked = |tail: &&StoredTail| tail.group.pool == pool || tail.group.is_cms();
        let open = |tail: &&StoredTail| tail.resolutions.iter().any(|resolution| !resolution.is_settled());
        self.tails.iter().filter(asked).filter(open).cloned().collect()
    }

    /// Nothing of that group is on it any more.
    fn forget(&mut self, group: GroupId) {
        self.log.retain(|record| record.group != group);
        self.checkpoints.remove(&group);
        self.purged.remove(&group);
    }

    fn resolve(&mut self, group: GroupId, fork: Position, resolved: &[(Position, Resolution)]) {
        if self.lose_marks {
            return;
        }
        for tail in self.tails.iter_mut().filter(|tail| tail.group == group && tail.fork == fork) {
            for (position, resolution) in resolved {
                let at = tail.entries.iter().position(|entry| entry.position == *position).unwrap();
                tail.resolutions[at] = *resolution;
            }
        }
    }
}

/// How a node of these tests is set up: the deployment's first server, at its first start.
pub fn config(topology: Topology) -> NodeConfig {
    NodeConfig {
        topology,
        server: ServerId(1),
        boot: 1,
        seed: [5; 32],
        secrets: Secrets { sealing_key: Secret([7; 32]), nonce_keys: NonceKeys::new([9; 32], None) },
        sip: Default::default(),
        order: Order::Fifo,
        limits: pairline_group::Limits::default(),
        version: "0.1.0".to_owned(),
        watch: false,
        #[cfg(feature = "planted")]
        planted: None,
    }
}

/// One server.
#[derive(Default)]
pub struct Site {
    pub node: Option<Node>,
    pub disk: Disk,
    pub events: Vec<Event>,
    /// Its replication frames to the other site are kept back.
    pub hold: bool,
    held: VecDeque<Bytes>,
    /// A stored tail is not answered.
    pub withhold_tails: bool,
    withheld: Vec<GroupId>,
    /// Orders to wake clients.
    pub woken: Vec<pairline_services::push::Wake>,
    /// SIP messages that the server has sent, oldest first.
    pub sip: Vec<(Flow, Bytes)>,
    /// Frames to the other site after which the link is cut.
    pub cut_after: Option<usize>,
    replies: BTreeMap<u64, Result<Reply, Problem>>,
    boot: u64,
    born: u64,
}

/// The pair.
pub struct Pair {
    pub sites: [Site; 2],
    pub now: u64,
    link: Option<LinkId>,
    links: u64,
    requests: u64,
    topology: Topology,
    frames: VecDeque<(usize, Bytes)>,
}

impl Pair {
    /// Both sites up, linked, and every group shipped.
    pub fn steady() -> Pair {
        Pair::with(pairline_topology::demo_topology())
    }

    /// The same with another topology.
    pub fn with(mut topology: Topology) -> Pair {
        for pool in &mut topology.pool {
            pool.routing_groups = 2;
        }
        let mut pair = Pair {
            sites: Default::default(),
            now: 1_000,
            link: None,
            links: 0,
            requests: 0,
            topology,
            frames: VecDeque::new(),
        };
        pair.start(EAST);
        pair.start(WEST);
        pair.connect();
        pair.run(5_000);
        pair
    }

    fn clocks(&self, at: usize) -> Now {
        Now { mono: self.now - self.sites[at].born, wall: START_WALL + self.now }
    }

    pub fn start(&mut self, at: usize) {
        let server = self.topology.server[at].id;
        let site = &mut self.sites[at];
        site.boot += 1;
        site.born = self.now;
        let config = NodeConfig {
            server,
            boot: site.boot,
            seed: [u8::try_from(at).unwrap() + 1; 32],
            order: Order::Seeded(site.boot),
            ..config(self.topology.clone())
        };
        let recovered = site.disk.recovered();
        self.sites[at].node = Some(Node::start_up(config, self.clocks(at), recovered).unwrap());
        let facts = Facts {
            disk_free: 50 << 30,
            disk_total: 100 << 30,
            certificate_days: 300,
            version: "0.1.0".to_owned(),
            log_bytes: 0,
        };
        self.give(at, Input::Facts(facts));
    }

    /// The process dies, and the link with it.
    pub fn crash(&mut self, at: usize) {
        self.sites[at].node = None;
        self.sites[at].held.clear();
        self.sites[at].replies.clear();
        self.cut();
    }

    pub fn connect(&mut self) {
        self.links += 1;
        let link = LinkId(self.links);
        self.link = Some(link);
        for at in [EAST, WEST] {
            let other = self.topology.server[1 - at].clone();
            self.give(at, Input::LinkUp { link, pool: other.pool, server: other.id });
        }
    }

    pub fn cut(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.frames.clear();
        for at in [EAST, WEST] {
            self.sites[at].held.clear();
            self.give(at, Input::LinkDown { link });
        }
    }

    /// Lets the replication frames go that were kept back.
    pub fn release(&mut self, at: usize) {
        self.sites[at].hold = false;
        let held = std::mem::take(&mut self.sites[at].held);
        self.frames.extend(held.into_iter().map(|frame| (1 - at, frame)));
        self.settle();
    }

    /// Says that the tails are stored whose answer was kept back.
    pub fn answer_tails(&mut self, at: usize) {
        self.sites[at].withhold_tails = false;
        for group in std::mem::take(&mut self.sites[at].withheld) {
            self.give(at, Input::TailStored { group });
        }
    }

    /// There is room on the disk again: what has waited is appended.
    pub fn make_room(&mut self, at: usize) {
        self.sites[at].disk.full = false;
        for batch in std::mem::take(&mut self.sites[at].disk.waiting) {
            self.output(at, Output::Append(batch));
        }
        self.give(at, Input::Disk { full: false });
    }

    /// One input, and all that follows at both sites.
    pub fn give(&mut self, at: usize, input: Input) {
        self.take(at, input);
        self.settle();
    }

    fn take(&mut self, at: usize, input: Input) {
        let now = self.clocks(at);
        if let Some(node) = self.sites[at].node.as_mut() {
            node.handle(now, input);
        }
    }

    fn settle(&mut self) {
        loop {
            let mut any = false;
            for at in [EAST, WEST] {
                while let Some(output) = self.sites[at].node.as_mut().and_then(Node::poll) {
                    any = true;
                    self.output(at, output);
                }
            }
            if let Some((at, frame)) = self.frames.pop_front() {
                any = true;
                if let Some(link) = self.link {
                    self.take(at, Input::PeerFrame { link, frame });
                }
            }
            if !any {
                return;
            }
        }
    }

    fn output(&mut self, at: usize, output: Output) {
        let site = &mut self.sites[at];
        match output {
            Output::Append(batch) if site.disk.full => {
                site.disk.waiting.push(batch);
                self.take(at, Input::Disk { full: true });
            }
            Output::Append(batch) => {
                let number = batch.batch;
                site.disk.append(batch);
                self.take(at, Input::Synced { batch: number });
            }
            Output::Checkpoint { id, groups } => {
                if !site.disk.lose_checkpoints {
                    site.disk.checkpoint(groups);
                    self.take(at, Input::CheckpointDone { id });
                }
            }
            Output::Purge { group, through } => site.disk.purge(group, through),
            Output::StoreTail { group, fork, entries } => {
                site.disk.store_tail(group, fork, entries);
                if site.withhold_tails {
                    site.withheld.push(group);
                } else {
                    self.take(at, Input::TailStored { group });
                }
            }
            Output::ReadTails { id, pool } => {
                let tails = site.disk.open_tails(pool);
                self.take(at, Input::Tails { id, tails });
            }
            Output::ResolveTail { group, fork, resolved } => site.disk.resolve(group, fork, &resolved),
            Output::PeerFrame { link, frame } => self.frame(at, link, frame),
            Output::AdminReply { request, reply } => {
                site.replies.insert(request, reply);
            }
            Output::TryFence { id, .. } => {
                let command = Command::FenceAnswer { id, alive: false, fenced: false };
                self.take(at, Input::Admin { request: 0, actor: Actor::Server, command });
            }
            // These tests never end a pairing.
            Output::Forget { group } => panic!("site {at} gives up group {group}"),
            Output::Event(event) => site.events.push(event),
            Output::Resolve { id, .. } => self.take(at, Input::Resolved { id, addresses: Ok(Vec::new()) }),
            Output::Fatal { reason } => panic!("site {at}: {reason}"),
            Output::Sip { flow, message } => site.sip.push((flow, message)),
            Output::Wake(wake) => site.woken.push(wake),
            Output::CloseFlow { .. } | Output::TopologyChanged(_) | Output::Restart => {}
        }
    }

    fn frame(&mut self, from: usize, link: LinkId, frame: Bytes) {
        if Some(link) != self.link {
            return;
        }
        let site = &mut self.sites[from];
        if site.hold && matches!(PeerFrame::decode(&frame), Ok(PeerFrame::Group(_))) {
            site.held.push_back(frame);
            return;
        }
        if !matches!(PeerFrame::decode(&frame), Ok(PeerFrame::Propose { .. })) {
            self.frames.push_back((1 - from, frame));
            return;
        }
        match &mut site.cut_after {
            Some(0) => {
                site.cut_after = None;
                self.cut();
            }
            Some(left) => {
                *left -= 1;
                self.frames.push_back((1 - from, frame));
            }
            None => self.frames.push_back((1 - from, frame)),
        }
    }

    /// Virtual time passes.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += TICK;
            for at in [EAST, WEST] {
                self.give(at, Input::Tick);
            }
        }
    }

    /// A command of the administrator and its answer, which may take virtual time.
    pub fn ask(&mut self, at: usize, command: Command) -> Result<Reply, Problem> {
        self.requests += 1;
        let request = self.requests;
        self.give(at, Input::Admin { request, actor: Actor::Administrator("anna".to_owned()), command });
        for _ in 0..3_000 {
            if let Some(reply) = self.sites[at].replies.remove(&request) {
                return reply;
            }
            self.run(TICK);
        }
        panic!("no answer in a virtual minute");
    }

    /// The same, of a command that must succeed.
    pub fn must(&mut self, at: usize, command: Command) -> Reply {
        self.ask(at, command.clone()).unwrap_or_else(|problem| panic!("{command:?}: {problem:?}"))
    }

    pub fn statuses(&self, at: usize) -> Vec<GroupStatus> {
        let node = self.sites[at].node.as_ref().unwrap();
        node.inspect(|core| core.host.groups().into_iter().filter_map(|group| core.host.group(group)).collect())
    }

    /// Open entries of tails that a site reports, over all groups.
    pub fn open(&self, at: usize) -> u64 {
        self.statuses(at).iter().map(|status| status.tail).sum()
    }

    /// Texts of the events of one name.
    pub fn told(&self, at: usize, name: &str) -> Vec<&str> {
        self.sites[at].events.iter().filter(|event| event.name == name).map(|event| event.text.as_str()).collect()
    }
}
