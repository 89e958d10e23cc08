//! One pool of several nodes, or two paired ones, with memory disks and a link between each two, under virtual time.
//!
//! Owns the shell's part of the contract, as for a pair. A server may die, stand still (it gets nothing until it goes on), or be cut
//! off from the others. Decides nothing.
#![allow(dead_code)]

use super::{Disk, config};
use bytes::Bytes;
use pairline_group::io::{GroupStatus, Now, Role};
use pairline_group::{GroupId, LinkId, PoolId, ServerId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::executor::Order;
use pairline_node::io::{Facts, Input, Output};
use pairline_node::view::PoolHealthView;
use pairline_node::{Node, NodeConfig};
use pairline_resilience::journal::{self, Procedure};
use pairline_sip::flow::Flow;
use pairline_topology::{Server, Topology, demo};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

const START_WALL: u64 = 1_795_000_000_000;
const TICK: u64 = 20;
/// The pool, or the first of two.
pub const POOL: PoolId = PoolId(1);
/// The second of two.
pub const WEST: PoolId = PoolId(2);

/// One server.
#[derive(Default)]
pub struct Front {
    pub node: Option<Node>,
    pub disk: Disk,
    pub sip: Vec<(Flow, Bytes)>,
    pub frozen: bool,
    waiting: Vec<Input>,
    pub replies: BTreeMap<u64, Result<Reply, Problem>>,
    /// What it told its administrator, oldest first: names of events.
    pub told: Vec<&'static str>,
    boot: u64,
    born: u64,
}

/// The pool.
pub struct Pool {
    pub fronts: Vec<Front>,
    pub now: u64,
    topology: Topology,
    /// Live links by their two ends, the lower one first.
    links: BTreeMap<(usize, usize), LinkId>,
    last: u64,
    requests: u64,
    frames: VecDeque<(usize, LinkId, Bytes)>,
    /// Orders to stand down that were given by an admin API: who asked, and under which number.
    fences: BTreeMap<u64, (usize, u64)>,
    /// Servers that no admin API reaches, and that reach none.
    pub isolated: BTreeSet<usize>,
    /// No link between the pools comes up.
    parted: bool,
    /// How long a sync takes.
    pub disk_ms: u64,
    syncs: VecDeque<(u64, usize, u64, u64)>,
    /// Frames that servers have sent each other, oldest first.
    pub seen: Vec<Bytes>,
}

/// The n-th server of a pool, like its first.
fn nth(first: &Server, n: usize) -> Server {
    let mut server = first.clone();
    server.id = ServerId(u32::try_from(n).unwrap());
    server.name = format!("fe{n}.east.pairline.test");
    let ip = format!("127.0.1.{n}").parse().unwrap();
    server.admin.set_ip(ip);
    server.link.set_ip(ip);
    server.dns.iter_mut().for_each(|dns| dns.set_ip(ip));
    server.listener.iter_mut().for_each(|listener| listener.address.set_ip(ip));
    server
}

impl Pool {
    /// A server that the document has from the next publish on; to be started.
    pub fn add(&mut self) -> usize {
        let server = nth(&self.topology.server[0], self.fronts.len() + 1);
        self.topology.server.push(server);
        self.fronts.push(Front::default());
        self.fronts.len() - 1
    }

    /// Changes the document, before it is published.
    pub fn change(&mut self, change: impl FnOnce(&mut Topology)) {
        change(&mut self.topology);
    }

    /// The document without a server.
    pub fn without(&self, at: usize) -> Topology {
        let mut topology = self.topology.clone();
        topology.server.remove(at);
        topology
    }

    /// Publishes a document through a server.
    pub fn publish(&mut self, at: usize, topology: &Topology) -> Result<Reply, Problem> {
        let document = pairline_topology::to_toml(&Topology { revision: 0, ..topology.clone() });
        self.ask(at, Command::TopologyPublish { document, dry_run: false })
    }

    /// The present document.
    pub fn topology(&self) -> Topology {
        self.topology.clone()
    }

    /// A server's process ends, and its disk is emptied.
    pub fn wipe(&mut self, at: usize) {
        self.kill(at);
        self.fronts[at].disk = Disk::default();
    }

    /// Servers begin with the document that is in force at a server, as the deployment's folder has it.
    pub fn keep_document(&mut self, at: usize) {
        let node = self.fronts[at].node.as_ref().unwrap();
        self.topology = node.inspect(|core| (*core.topology).clone());
    }

    /// The pool's health as a server sees it.
    pub fn health(&mut self, at: usize) -> PoolHealthView {
        match self.must(at, Command::PoolHealth { pool: None, part: false }) {
            Reply::Health(mut view) => view.pools.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the pool is healthy as a server sees it.
    pub fn healthy(&mut self, at: usize) -> PoolHealthView {
        for _ in 0..100 {
            let view = self.health(at);
            if view.state == "healthy" {
                return view;
            }
            self.run(500);
        }
        panic!("not healthy: {:#?}", self.health(at));
    }

    /// So many servers, up, linked, and every group led.
    pub fn of(servers: usize) -> Pool {
        Pool::with(servers, |_| {})
    }

    /// The same with a topology that is changed before the start.
    pub fn with(servers: usize, change: impl FnOnce(&mut Topology)) -> Pool {
        Pool::at(&[(POOL, "east", servers)], change)
    }

    /// Two paired pools with so many servers each: east's first, then west's.
    pub fn paired(servers: usize) -> Pool {
        let mut pair = Pool::at(&[(POOL, "east", servers), (WEST, "west", servers)], |_| {});
        pair.run(5_000);
        pair
    }

    /// Two servers and a witness, the last.
    pub fn witnessed() -> Pool {
        Pool::with(2, |topology| *topology = demo::with_witnesses(topology.clone()))
    }

    /// Two paired pools of two servers: east's, west's, then the witness of each.
    pub fn paired_with_witnesses() -> Pool {
        let witnessed = |topology: &mut Topology| *topology = demo::with_witnesses(topology.clone());
        let mut pair = Pool::at(&[(POOL, "east", 2), (WEST, "west", 2)], witnessed);
        pair.run(5_000);
        pair
    }

    /// Whether two servers have to do with each other: a witness only with its own pool.
    fn link(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.topology.server[a], &self.topology.server[b]);
        a.pool == b.pool || !(a.is_witness() || b.is_witness())
    }

    fn at(pools: &[(PoolId, &str, usize)], change: impl FnOnce(&mut Topology)) -> Pool {
        let address = |pool: PoolId, n: usize| format!("127.0.{}.{n}", pool.0).parse().unwrap();
        let places: Vec<(PoolId, &str, Vec<IpAddr>)> =
            pools.iter().map(|(id, name, n)| (*id, *name, (1..=*n).map(|n| address(*id, n)).collect())).collect();
        let mut topology = demo::enterprise(&places, 5060);
        topology.pool.iter_mut().for_each(|pool| pool.routing_groups = 6);
        change(&mut topology);
        let servers = topology.server.len();
        let mut pool = Pool {
            fronts: (0..servers).map(|_| Front::default()).collect(),
            now: 1_000,
            topology,
            links: BTreeMap::new(),
            last: 0,
            requests: 0,
            frames: VecDeque::new(),
            fences: BTreeMap::new(),
            isolated: BTreeSet::new(),
            parted: false,
            disk_ms: 0,
            syncs: VecDeque::new(),
            seen: Vec::new(),
        };
        (0..servers).for_each(|at| pool.start(at));
        pool.run(3_000);
        pool
    }

    fn clocks(&self, at: usize) -> Now {
        Now { mono: self.now - self.fronts[at].born, wall: START_WALL + self.now }
    }

    /// Starts a server from its disk and links it with all that live.
    pub fn start(&mut self, at: usize) {
        let topology = self.topology.clone();
        self.start_with(at, &topology);
    }

    /// The same, with another document on its disk than the others began with.
    pub fn start_with(&mut self, at: usize, topology: &Topology) {
        let front = &mut self.fronts[at];
        front.boot += 1;
        front.born = self.now;
        let config = NodeConfig {
            server: self.topology.server[at].id,
            boot: front.boot,
            seed: [u8::try_from(at).unwrap() + 1; 32],
            order: Order::Seeded(front.boot),
            ..config(topology.clone())
        };
        let recovered = front.disk.recovered();
        self.fronts[at].node = Some(Node::start_up(config, self.clocks(at), recovered).unwrap());
        let facts = Facts {
            disk_free: 50 << 30,
            disk_total: 100 << 30,
            certificate_days: 300,
            version: "0.1.0".to_owned(),
            log_bytes: 0,
        };
        self.give(at, Input::Facts(facts));
        for other in 0..self.fronts.len() {
            let parted = self.parted && self.topology.server[other].pool != self.topology.server[at].pool;
            if other != at && self.link(at, other) && self.fronts[other].node.is_some() && !parted {
                self.connect(at, other);
            }
        }
    }

    /// A server's process ends, and its links with it.
    pub fn kill(&mut self, at: usize) {
        self.fronts[at].node = None;
        self.fronts[at].waiting.clear();
        for other in 0..self.fronts.len() {
            self.cut(at, other);
        }
    }

    /// A server stands still; nobody is told.
    pub fn freeze(&mut self, at: usize) {
        self.fronts[at].frozen = true;
    }

    /// It goes on, with all that has come meanwhile.
    pub fn thaw(&mut self, at: usize) {
        self.fronts[at].frozen = false;
        for input in std::mem::take(&mut self.fronts[at].waiting) {
            self.give(at, input);
        }
    }

    pub fn connect(&mut self, a: usize, b: usize) {
        self.last += 1;
        let link = LinkId(self.last);
        self.links.insert((a.min(b), a.max(b)), link);
        for (at, to) in [(a, b), (b, a)] {
            let other = self.topology.server[to].clone();
            self.give(at, Input::LinkUp { link, pool: other.pool, server: other.id });
        }
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        let Some(link) = self.links.remove(&(a.min(b), a.max(b))) else { return };
        self.frames.retain(|(_, on, _)| *on != link);
        for at in [a, b] {
            self.give(at, Input::LinkDown { link });
        }
    }

    /// One input, and all that follows everywhere.
    pub fn give(&mut self, at: usize, input: Input) {
        self.take(at, input);
        self.settle();
    }

    /// Inputs of one turn, and all that follows everywhere.
    pub fn give_together(&mut self, at: usize, inputs: Vec<Input>) {
        self.now += 4;
        let now = self.clocks(at);
        self.fronts[at].node.as_mut().unwrap().handle_all(now, inputs);
        self.settle();
        self.give(at, Input::Tick);
    }

    /// One input, and all that follows everywhere; how often that server asked for memory for it, until it had nothing more to say.
    pub fn give_counted(&mut self, at: usize, input: Input) -> u64 {
        let now = self.clocks(at);
        let node = self.fronts[at].node.as_mut().unwrap();
        let mut outputs = Vec::with_capacity(64);
        let counted = allocation_counter::measure(|| {
            node.handle(now, input);
            outputs.extend(std::iter::from_fn(|| node.poll()));
        });
        for output in outputs {
            self.output(at, output);
        }
        self.settle();
        counted.count_total
    }

    /// A frame of one server arrives at another, and all that follows.
    pub fn frame(&mut self, from: usize, to: usize, frame: Bytes) {
        let link = self.links[&(from.min(to), from.max(to))];
        self.give(to, Input::PeerFrame { link, frame });
    }

    fn take(&mut self, at: usize, input: Input) {
        let now = self.clocks(at);
        let front = &mut self.fronts[at];
        match front.node.as_mut() {
            Some(_) if front.frozen && matches!(input, Input::Tick) => {}
            Some(_) if front.frozen => front.waiting.push(input),
            Some(node) => node.handle(now, input),
            None => {}
        }
    }

    fn settle(&mut self) {
        loop {
            let mut any = false;
            for at in 0..self.fronts.len() {
                while let Some(output) = self.fronts[at].node.as_mut().and_then(Node::poll) {
                    any = true;
                    self.output(at, output);
                }
            }
            if let Some((to, link, frame)) = self.frames.pop_front() {
                any = true;
                self.take(to, Input::PeerFrame { link, frame });
            }
            if !any {
                return;
            }
        }
    }

    fn output(&mut self, at: usize, output: Output) {
        let front = &mut self.fronts[at];
        match output {
            Output::Append(batch) => {
                let number = batch.batch;
                front.disk.append(batch);
                match self.disk_ms {
                    0 => self.take(at, Input::Synced { batch: number }),
                    late => self.syncs.push_back((self.now + late, at, front.boot, number)),
                }
            }
            Output::Checkpoint { id, groups } => {
                front.disk.checkpoint(groups);
                self.take(at, Input::CheckpointDone { id });
            }
            Output::Purge { group, through } => front.disk.purge(group, through),
            Output::Forget { group } => front.disk.forget(group),
            Output::PeerFrame { link, frame } => {
                let ends = self.links.iter().find(|(_, live)| **live == link).map(|(ends, _)| *ends);
                let Some((a, b)) = ends else { return };
                self.seen.push(frame.clone());
                self.frames.push_back((if a == at { b } else { a }, link, frame));
            }
            Output::AdminReply { request, reply } => match self.fences.remove(&request) {
                Some((by, id)) => {
                    let command = Command::FenceAnswer { id, alive: true, fenced: reply.is_ok() };
                    self.take(by, Input::Admin { request: 0, actor: Actor::Server, command });
                }
                None => {
                    front.replies.insert(request, reply);
                }
            },
            Output::StoreTail { group, fork, entries } => {
                front.disk.store_tail(group, fork, entries);
                self.take(at, Input::TailStored { group });
            }
            Output::ReadTails { id, pool } => {
                let tails = front.disk.open_tails(pool);
                self.take(at, Input::Tails { id, tails });
            }
            Output::ResolveTail { group, fork, resolved } => front.disk.resolve(group, fork, &resolved),
            Output::TryFence { id, admin, order } => self.fence(at, id, admin, order),
            Output::Resolve { id, .. } => self.take(at, Input::Resolved { id, addresses: Ok(Vec::new()) }),
            Output::Fatal { reason } => panic!("server {at}: {reason}"),
            Output::Sip { flow, message } => front.sip.push((flow, message)),
            Output::Event(event) => front.told.push(event.name),
            _ => {}
        }
    }

    /// An order to stand down reaches the server with that address, if it runs; the answer comes when it comes.
    fn fence(&mut self, by: usize, id: u64, admin: SocketAddr, order: Command) {
        let to = self.topology.server.iter().position(|server| server.admin == admin).unwrap();
        let cut = self.isolated.contains(&to) || self.isolated.contains(&by);
        if self.fronts[to].node.is_none() || self.fronts[to].frozen || cut {
            let command = Command::FenceAnswer { id, alive: false, fenced: false };
            return self.take(by, Input::Admin { request: 0, actor: Actor::Server, command });
        }
        self.requests += 1;
        let request = self.requests;
        self.fences.insert(request, (by, id));
        self.take(to, Input::Admin { request, actor: Actor::Administrator("the order".to_owned()), command: order });
    }

    /// All links between the two pools go, in both directions.
    pub fn part(&mut self) {
        self.parted = true;
        let of = |at: usize| self.topology.server[at].pool;
        let between: Vec<(usize, usize)> = self.links.keys().copied().filter(|(a, b)| of(*a) != of(*b)).collect();
        between.into_iter().for_each(|(a, b)| self.cut(a, b));
    }

    /// They come back between all servers that run.
    pub fn join(&mut self) {
        self.parted = false;
        let of = |at: usize| self.topology.server[at].pool;
        let all: Vec<(usize, usize)> = (0..self.fronts.len())
            .flat_map(|a| (0..a).map(move |b| (b, a)))
            .filter(|(a, b)| of(*a) != of(*b) && self.link(*a, *b))
            .collect();
        for (a, b) in all {
            if self.fronts[a].node.is_some() && self.fronts[b].node.is_some() {
                self.connect(a, b);
            }
        }
    }

    /// Virtual time passes.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += TICK;
            while self.syncs.front().is_some_and(|(due, ..)| *due <= self.now) {
                let Some((_, at, boot, batch)) = self.syncs.pop_front() else { break };
                if self.fronts[at].boot == boot {
                    self.give(at, Input::Synced { batch });
                }
            }
            (0..self.fronts.len()).for_each(|at| self.give(at, Input::Tick));
        }
    }

    /// Runs until that is so; how many milliseconds that took.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&mut Pool) -> bool) -> u64 {
        let begun = self.now;
        while !so(self) {
            assert!(self.now - begun < 20_000, "not within 20 virtual seconds: {what}");
            self.run(TICK);
        }
        self.now - begun
    }

    /// A command of the administrator and its answer.
    pub fn ask(&mut self, at: usize, command: Command) -> Result<Reply, Problem> {
        self.requests += 1;
        let request = self.requests;
        self.give(at, Input::Admin { request, actor: Actor::Administrator("anna".to_owned()), command });
        for _ in 0..3_000 {
            if let Some(reply) = self.fronts[at].replies.remove(&request) {
                return reply;
            }
            self.run(TICK);
        }
        panic!("no answer in a virtual minute");
    }

    /// A command whose answer nobody waits for; under which number it will be in the server's replies.
    pub fn begin(&mut self, at: usize, command: Command) -> u64 {
        self.requests += 1;
        let (request, actor) = (self.requests, Actor::Administrator("anna".to_owned()));
        self.give(at, Input::Admin { request, actor, command });
        request
    }

    /// Whether the journal at a server has a procedure in that state.
    pub fn stored(&self, at: usize, state: &str) -> bool {
        let node = self.fronts[at].node.as_ref().unwrap();
        node.inspect(|core| {
            let records = core.host.scan(GroupId::CMS, journal::OWNER, Some(journal::KIND_PROCEDURE));
            let mut all = records.filter_map(|(_, record)| Procedure::decode(&record.value).ok());
            all.any(|procedure| format!("{:?}", procedure.state).to_ascii_lowercase().starts_with(state))
        })
    }

    /// The same, of a command that must succeed.
    pub fn must(&mut self, at: usize, command: Command) -> Reply {
        self.ask(at, command.clone()).unwrap_or_else(|problem| panic!("{command:?}: {problem:?}"))
    }

    /// Which servers say that they lead a group.
    pub fn leaders(&self, group: GroupId) -> Vec<usize> {
        let leads = |at: &usize| {
            let node = self.fronts[*at].node.as_ref();
            node.is_some_and(|node| node.inspect(|core| core.host.can_commit(group)))
        };
        (0..self.fronts.len()).filter(leads).collect()
    }

    /// How a group's copies stand at the servers that lead it, one in each pool.
    pub fn led(&self, group: GroupId) -> Vec<(usize, GroupStatus)> {
        let status = |at: usize| {
            let node = self.fronts[at].node.as_ref().filter(|_| !self.fronts[at].frozen)?;
            node.inspect(|core| core.host.group(group).filter(|_| core.host.leads(group))).map(|status| (at, status))
        };
        (0..self.fronts.len()).filter_map(status).collect()
    }

    /// All groups of both pools.
    pub fn all_groups(&self) -> Vec<GroupId> {
        let pools = self.topology.pool.iter().flat_map(|pool| self.topology.groups_of(pool.id));
        pools.chain([GroupId::CMS]).collect()
    }

    /// Whether every group is active at a pool, led, and the copy there has been confirmed.
    pub fn serves(&self, pool: PoolId, groups: &[GroupId]) -> bool {
        groups.iter().all(|group| {
            let led = self.led(*group);
            let here = |(at, status): &(usize, GroupStatus)| {
                self.topology.server[*at].pool == pool && status.role == Role::Active && status.confirmed
            };
            led.iter().filter(|one| here(one)).count() == 1
        })
    }

    /// The group of a user at home in a pool.
    pub fn group_at(&self, home: PoolId, user: &str) -> GroupId {
        self.topology.group_of(home, &format!("sip:{user}@pairline.test")).unwrap()
    }

    /// The group of a user of the first pool.
    pub fn group_of(&self, user: &str) -> GroupId {
        self.group_at(POOL, user)
    }
}
