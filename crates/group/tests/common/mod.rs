//! Two hosts with memory disks and a link between them, under virtual time.
//!
//! Owns the shell's part of the contract: logs that are synced on demand, crashes that keep a synced prefix, checkpoints, and
//! frames that pass through their encoding. Decides nothing about replication.
#![allow(dead_code)]

mod disk;

use bytes::Bytes;
use pairline_group::frame::{self, Frame};
use pairline_group::io::{Alarm, Done, GroupStatus, Now, Proposal, Refusal, Role, Write, WriteClass};
use pairline_group::{
    Entry, GroupId, Host, HostConfig, HostInput, HostOutput, Key, Kind, LinkId, Millis, OpId, Others, PoolId, Position,
    ServerId, StepRef, Ticket,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use disk::Disk;

pub const EAST: usize = 0;
pub const WEST: usize = 1;
pub const GROUP: GroupId = GroupId { pool: PoolId(1), index: 0 };
const START_WALL: Millis = 1_700_000_000_000;

/// One server.
pub struct Server {
    pub cfg: HostConfig,
    pub host: Option<Host>,
    pub disk: Disk,
    pub auto_sync: bool,
    pub done: BTreeMap<Ticket, Done>,
    pub alarms: Vec<Alarm>,
    pub applied: Vec<(GroupId, Arc<Entry>)>,
    pub tails: Vec<(GroupId, Position, Vec<Arc<Entry>>)>,
    pub store_tails: bool,
    pub swapped: u64,
    pub verified: Vec<(GroupId, Position, bool, Vec<u16>)>,
    pub batches: u64,
    pub purges: u64,
    pub forgotten: Vec<GroupId>,
    /// A checkpoint is on the disk, and the host is not told yet.
    pub hold_checkpoints: bool,
    pub held: Vec<u64>,
    /// The groups of each checkpoint, and whether it ended a round.
    pub checkpoints: Vec<(Vec<GroupId>, bool)>,
    born: Millis,
    clock_skew: Millis,
}

/// Two paired servers.
pub struct World {
    pub servers: Vec<Server>,
    pub now: Millis,
    pub link: Option<LinkId>,
    links: u64,
    tickets: u64,
    queues: [VecDeque<Bytes>; 2],
    /// Every n-th frame is sent twice; every m-th is put before the one ahead of it; every k-th is lost.
    pub duplicate: u64,
    pub reorder: u64,
    pub lose: u64,
    frames: u64,
    pub delay: bool,
    /// Position and chain hash of the last acknowledgement for the group, by sender.
    pub acks: [Option<(Position, pairline_group::ChainHash)>; 2],
}

pub fn config(pool: u16) -> HostConfig {
    let mut cfg = HostConfig::new(PoolId(pool), ServerId(u32::from(pool)));
    cfg.groups = 1;
    cfg.seed = 7;
    cfg.cms_home = pool == 1;
    cfg
}

pub fn key(name: &str) -> Key {
    Key::new(name, Kind(7), b"")
}

pub fn put(name: &str, value: &str) -> Write {
    Write::Put { key: key(name), class: WriteClass::Durable, value: Bytes::copy_from_slice(value.as_bytes()) }
}

pub fn soft(name: &str, value: &str, lives: Millis) -> Write {
    Write::Put { key: key(name), class: WriteClass::Soft { lives }, value: Bytes::copy_from_slice(value.as_bytes()) }
}

pub fn step(procedure: u128, step: u32) -> StepRef {
    StepRef { procedure, step }
}

pub fn op(session: u128, counter: u64) -> OpId {
    OpId { session, counter }
}

pub fn refusal(done: &Done) -> &Refusal {
    match done {
        Done::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn committed(done: &Done) -> Position {
    match done {
        Done::Committed(at) => *at,
        other => panic!("not committed: {other:?}"),
    }
}

impl Server {
    fn new(cfg: HostConfig) -> Server {
        Server {
            cfg,
            host: None,
            disk: Disk::default(),
            auto_sync: true,
            done: BTreeMap::new(),
            alarms: Vec::new(),
            applied: Vec::new(),
            tails: Vec::new(),
            store_tails: true,
            swapped: 0,
            verified: Vec::new(),
            batches: 0,
            purges: 0,
            forgotten: Vec::new(),
            hold_checkpoints: false,
            held: Vec::new(),
            checkpoints: Vec::new(),
            born: 0,
            clock_skew: 0,
        }
    }
}

impl World {
    /// Two fresh servers, paired and linked.
    pub fn paired() -> World {
        let asks = |pool| HostConfig { others: Others::Partner, ..config(pool) };
        let mut world = World::apart(asks(1), asks(2));
        world.pair();
        world.connect();
        world.run(1000);
        world
    }

    /// Two fresh servers that do not know each other.
    pub fn apart(east: HostConfig, west: HostConfig) -> World {
        let mut world = World {
            servers: vec![Server::new(east), Server::new(west)],
            now: 1000,
            link: None,
            links: 0,
            tickets: 0,
            queues: Default::default(),
            duplicate: 0,
            reorder: 0,
            lose: 0,
            frames: 0,
            delay: false,
            acks: [None; 2],
        };
        for at in [EAST, WEST] {
            let cfg = world.servers[at].cfg.clone();
            world.servers[at].born = world.now;
            world.servers[at].host = Some(Host::new(cfg, world.clock(at)));
        }
        world.settle();
        world
    }

    pub fn pair(&mut self) {
        for at in [EAST, WEST] {
            self.pair_one(at);
        }
        self.settle();
    }

    pub fn pair_one(&mut self, at: usize) {
        let partner = self.servers[1 - at].cfg.clone();
        self.input(at, HostInput::Pair { partner: Some((partner.pool, partner.groups)), with_cms: true });
    }

    pub fn clock(&self, at: usize) -> Now {
        let server = &self.servers[at];
        Now { mono: self.now - server.born, wall: START_WALL + self.now + server.clock_skew }
    }

    pub fn skew(&mut self, at: usize, by: Millis) {
        self.servers[at].clock_skew = by;
    }

    pub fn host(&self, at: usize) -> &Host {
        self.servers[at].host.as_ref().expect("the server is up")
    }

    pub fn status(&self, at: usize) -> GroupStatus {
        self.host(at).group(GROUP).expect("the group is there")
    }

    pub fn input(&mut self, at: usize, input: HostInput) {
        let now = self.clock(at);
        if let Some(host) = self.servers[at].host.as_mut() {
            host.handle(now, input);
        }
    }

    pub fn connect(&mut self) {
        self.cut();
        self.links += 1;
        let link = LinkId(self.links);
        self.link = Some(link);
        for at in [EAST, WEST] {
            let HostConfig { pool: peer, server, .. } = self.servers[1 - at].cfg;
            self.input(at, HostInput::LinkUp { link, peer, server });
        }
    }

    pub fn cut(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.queues = Default::default();
        for at in [EAST, WEST] {
            self.input(at, HostInput::LinkDown { link });
        }
    }

    /// Kills a server: of its unsynced batches the first `keep` survive, and for an odd number half of the next one.
    pub fn crash(&mut self, at: usize, keep: usize) {
        self.servers[at].host = None;
        self.servers[at].disk.crash(keep);
        self.cut();
    }

    /// Starts a killed server from its disk.
    pub fn restart(&mut self, at: usize) {
        self.servers[at].born = self.now;
        let cfg = self.servers[at].cfg.clone();
        let groups = self.servers[at].disk.recovered();
        let host = if groups.is_empty() {
            Host::new(cfg, self.clock(at))
        } else {
            Host::recover(cfg, self.clock(at), groups).expect("the disk is sound")
        };
        self.servers[at].host = Some(host);
        self.pair_one(at);
        self.settle();
    }

    /// Kills a server and starts it from another disk, linked again.
    pub fn restart_from(&mut self, at: usize, disk: Disk) {
        self.crash(at, 0);
        self.servers[at].disk = disk;
        self.restart(at);
        self.connect();
    }

    /// Takes all outputs of one server; returns whether there were any.
    fn drain(&mut self, at: usize) -> bool {
        let mut any = false;
        while let Some(output) = self.servers[at].host.as_mut().and_then(Host::poll) {
            any = true;
            self.output(at, output);
        }
        any
    }

    fn output(&mut self, at: usize, output: HostOutput) {
        let server = &mut self.servers[at];
        match output {
            HostOutput::Append(batch) => {
                server.batches += 1;
                server.disk.append(batch);
                if server.auto_sync {
                    self.sync(at);
                }
            }
            HostOutput::Send { link, frame } => {
                if Some(link) == self.link {
                    self.send(at, &frame);
                }
            }
            HostOutput::Done { ticket, done, .. } => {
                assert!(server.done.insert(ticket, done).is_none(), "answered twice: {ticket:?}");
            }
            HostOutput::Applied { group, entry } => server.applied.push((group, entry)),
            HostOutput::Swapped { .. } => server.swapped += 1,
            HostOutput::RoleChanged { .. } => {}
            HostOutput::StoreTail { group, fork, entries } => {
                server.tails.push((group, fork, entries));
                if server.store_tails {
                    self.input(at, HostInput::TailStored { group });
                }
            }
            HostOutput::Checkpoint { id, groups, round } => {
                server.checkpoints.push((groups.iter().map(|delta| delta.group).collect(), round));
                server.disk.checkpoint(groups);
                if server.hold_checkpoints {
                    server.held.push(id);
                } else {
                    self.input(at, HostInput::CheckpointDone { id });
                }
            }
            HostOutput::Forget { group } => {
                server.disk.forget(group);
                server.forgotten.push(group);
            }
            HostOutput::Purge { group, through } => {
                server.purges += 1;
                server.disk.purge(group, through);
            }
            HostOutput::Verified { group, position, equal, ranges } => {
                server.verified.push((group, position, equal, ranges));
            }
            HostOutput::Alarm(alarm) => server.alarms.push(alarm),
        }
    }

    fn send(&mut self, from: usize, frame: &Frame) {
        self.frames += 1;
        if let Frame::Ack { group: GROUP, position, chain, .. } = frame {
            self.acks[from] = Some((*position, *chain));
        }
        let every = |n: u64, frames: u64| n > 0 && frames.is_multiple_of(n);
        if every(self.lose, self.frames) {
            return;
        }
        let bytes = frame::encode(frame);
        let queue = &mut self.queues[from];
        queue.push_back(bytes.clone());
        if every(self.duplicate, self.frames) {
            queue.push_back(bytes);
        }
        if every(self.reorder, self.frames) && queue.len() >= 2 {
            let last = queue.len() - 1;
            queue.swap(last, last - 1);
        }
    }

    /// Syncs everything that one server has appended.
    pub fn sync(&mut self, at: usize) {
        while self.servers[at].disk.unsynced.front().is_some() {
            self.sync_one(at);
        }
    }

    /// Syncs the oldest unsynced batch of one server.
    pub fn sync_one(&mut self, at: usize) {
        if let Some(batch) = self.servers[at].disk.sync_one() {
            self.input(at, HostInput::Synced { batch });
        }
    }

    /// Runs until nothing more happens without the passing of time.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut any = self.drain(EAST) | self.drain(WEST);
            if let (Some(link), false) = (self.link, self.delay) {
                for from in [EAST, WEST] {
                    if let Some(bytes) = self.queues[from].pop_front() {
                        any = true;
                        let frame = frame::decode(&bytes).expect("a sent frame decodes");
                        self.input(1 - from, HostInput::Frame { link, frame });
                    }
                }
            }
            if !any {
                return;
            }
        }
        panic!("the hosts never come to rest");
    }

    /// Lets time pass in steps of 50 ms.
    pub fn run(&mut self, millis: Millis) {
        let end = self.now + millis;
        self.settle();
        while self.now < end {
            self.now += 50;
            for at in [EAST, WEST] {
                self.input(at, HostInput::Tick);
            }
            self.settle();
        }
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Proposes without waiting for the answer.
    pub fn propose(&mut self, at: usize, proposal: Proposal) -> Ticket {
        let ticket = self.ticket();
        self.input(at, HostInput::Propose { ticket, group: GROUP, proposal });
        ticket
    }

    /// Proposes writes and returns the answer.
    pub fn commit(&mut self, at: usize, writes: Vec<Write>) -> Done {
        self.answer(at, Proposal { writes, ..Proposal::default() })
    }

    pub fn answer(&mut self, at: usize, proposal: Proposal) -> Done {
        let ticket = self.propose(at, proposal);
        self.settle();
        self.servers[at].done.get(&ticket).cloned().expect("an answer")
    }

    pub fn handover(&mut self, from: usize, procedure: u128) -> Done {
        let ticket = self.ticket();
        let to = self.servers[1 - from].cfg.pool;
        self.input(from, HostInput::Handover { ticket, group: GROUP, to, step: step(procedure, 1) });
        self.settle();
        self.servers[from].done.get(&ticket).cloned().expect("an answer")
    }

    pub fn promote(&mut self, at: usize, procedure: u128) -> Done {
        let ticket = self.ticket();
        let input = HostInput::Promote {
            ticket,
            group: GROUP,
            step: step(procedure, 1),
            operator: "anna".into(),
            plan: Bytes::new(),
        };
        self.input(at, input);
        self.settle();
        self.servers[at].done.get(&ticket).cloned().expect("an answer")
    }

    /// Hands a frame to a server as if its partner had sent it.
    pub fn forge(&mut self, at: usize, frame: Frame) {
        let link = self.link.expect("a link");
        self.input(at, HostInput::Frame { link, frame });
        self.settle();
    }

    /// A handover to `at` that follows its last acknowledgement and names a digest that is not its own.
    pub fn forge_handover(&mut self, at: usize) {
        let (last, prev) = self.acks[at].expect("an acknowledgement");
        let to = self.servers[at].cfg.pool;
        let epoch = pairline_group::Epoch { number: last.epoch.number + 1, granted_by: self.servers[1 - at].cfg.pool };
        let entry = Entry {
            position: Position { seq: last.seq + 1, ..last },
            prev,
            time: self.clock(at).wall,
            op: None,
            step: Some(step(77, 1)),
            body: pairline_group::Body::Handover(pairline_group::Handover { to, epoch, digest: [1; 32] }),
        };
        let entries = vec![pairline_group::codec::encode_entry(&entry)];
        self.forge(at, Frame::Entries { group: GROUP, entries });
    }

    /// A seed of an empty state at the first position.
    pub fn forge_old_seed(&mut self, at: usize) {
        let lineage = self.host(at).lineage(GROUP).to_vec();
        let position = Position { epoch: lineage[0].epoch, seq: 1 };
        let offer = pairline_group::codec::SeedOffer {
            seed: 5,
            position,
            chain: pairline_group::ChainHash([3; 32]),
            time: 1,
            lineage,
            ranges: vec![[0; 32]; 256],
            dedup: Default::default(),
            steps: Default::default(),
            records: 0,
        };
        self.forge(at, Frame::SeedOffer { group: GROUP, offer: Arc::new(offer) });
        self.forge(at, Frame::SeedEnd { group: GROUP, seed: 5, position, digest: [0; 32] });
    }

    pub fn checkpoint(&mut self, at: usize, id: u64) {
        self.input(at, HostInput::Checkpoint { id });
        self.settle();
    }

    pub fn value(&self, at: usize, name: &str) -> Option<String> {
        let record = self.host(at).get(GROUP, &key(name))?;
        Some(String::from_utf8_lossy(&record.value).into_owned())
    }

    pub fn role(&self, at: usize) -> Role {
        self.host(at).role(GROUP).expect("the group is there")
    }

    /// Both copies stand at one position with one digest.
    pub fn assert_equal(&self) {
        let (east, west) = (self.status(EAST), self.status(WEST));
        assert_eq!(east.position, west.position, "positions");
        assert_eq!(east.digest, west.digest, "digests");
        assert_eq!(self.host(EAST).lineage(GROUP), self.host(WEST).lineage(GROUP), "lineages");
    }
}

impl World {
    /// Delivers at most this many frames in each direction.
    pub fn step_frames(&mut self, most: usize) {
        for _ in 0..most {
            self.drain(EAST);
            self.drain(WEST);
            let Some(link) = self.link else { return };
            for from in [EAST, WEST] {
                if let Some(bytes) = self.queues[from].pop_front() {
                    let frame = frame::decode(&bytes).expect("a sent frame decodes");
                    self.input(1 - from, HostInput::Frame { link, frame });
                }
            }
        }
        self.drain(EAST);
        self.drain(WEST);
    }
}
