//! One pool of several nodes with memory disks and a link between each two, under virtual time.
//!
//! Owns the shell's part of the contract, as for a pair. A server may die, stand still (it gets nothing until it goes on), or be cut
//! off from the others. Decides nothing.
#![allow(dead_code)]

use super::{Disk, config};
use bytes::Bytes;
use pairline_group::io::Now;
use pairline_group::{GroupId, LinkId, PoolId, ServerId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::executor::Order;
use pairline_node::io::{Input, Output};
use pairline_node::view::PoolHealthView;
use pairline_node::{Node, NodeConfig};
use pairline_sip::flow::Flow;
use pairline_topology::{Server, Topology};
use std::collections::{BTreeMap, VecDeque};

const START_WALL: u64 = 1_795_000_000_000;
const TICK: u64 = 20;
/// The pool.
pub const POOL: PoolId = PoolId(1);

/// One server.
#[derive(Default)]
pub struct Front {
    pub node: Option<Node>,
    pub disk: Disk,
    pub sip: Vec<(Flow, Bytes)>,
    pub frozen: bool,
    waiting: Vec<Input>,
    replies: BTreeMap<u64, Result<Reply, Problem>>,
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
        let mut topology = pairline_topology::enterprise_topology();
        let first = topology.server[0].clone();
        topology.server = (1..=servers).map(|n| nth(&first, n)).collect();
        topology.pool[0].routing_groups = 6;
        let mut pool = Pool {
            fronts: (0..servers).map(|_| Front::default()).collect(),
            now: 1_000,
            topology,
            links: BTreeMap::new(),
            last: 0,
            requests: 0,
            frames: VecDeque::new(),
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
        let front = &mut self.fronts[at];
        front.boot += 1;
        front.born = self.now;
        let config = NodeConfig {
            server: self.topology.server[at].id,
            boot: front.boot,
            seed: [u8::try_from(at).unwrap() + 1; 32],
            order: Order::Seeded(front.boot),
            ..config(self.topology.clone())
        };
        let recovered = front.disk.recovered();
        self.fronts[at].node = Some(Node::start_up(config, self.clocks(at), recovered).unwrap());
        for other in 0..self.fronts.len() {
            if other != at && self.fronts[other].node.is_some() {
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
            let server = self.topology.server[to].id;
            self.give(at, Input::LinkUp { link, pool: POOL, server });
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
                self.take(at, Input::Synced { batch: number });
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
                self.frames.push_back((if a == at { b } else { a }, link, frame));
            }
            Output::AdminReply { request, reply } => {
                front.replies.insert(request, reply);
            }
            Output::Resolve { id, .. } => self.take(at, Input::Resolved { id, addresses: Ok(Vec::new()) }),
            Output::Fatal { reason } => panic!("server {at}: {reason}"),
            Output::Sip { flow, message } => front.sip.push((flow, message)),
            _ => {}
        }
    }

    /// Virtual time passes.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += TICK;
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

    /// The group of a user.
    pub fn group_of(&self, user: &str) -> GroupId {
        self.topology.group_of(POOL, &format!("sip:{user}@pairline.test")).unwrap()
    }
}
