//! A pool of servers, or two that are paired, under virtual time: links that can be cut, disks that lose what was not synced, replication frames in their order.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use crate::common::Disk;
use bytes::Bytes;
use pairline_group::frame::{self, Frame};
use pairline_group::io::{Alarm, Done, Now, Proposal, Survive, Write, WriteClass};
use pairline_group::placement::FrontEnd;
use pairline_group::{
    Entry, GroupId, Host, HostConfig, HostInput, HostOutput, Key, Kind, LinkId, Millis, Others, PoolId, Position,
    ReplicaId, ReplicaMessage, ServerId, StepRef, Ticket,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub const GROUP: GroupId = GroupId { pool: PoolId(1), index: 0 };
const START_WALL: Millis = 1_700_000_000_000;

/// One server.
pub struct Member {
    pub cfg: HostConfig,
    pub host: Option<Host>,
    pub disk: Disk,
    pub auto_sync: bool,
    pub done: BTreeMap<Ticket, Done>,
    pub alarms: Vec<Alarm>,
    pub applied: Vec<(GroupId, Arc<Entry>)>,
    /// How often its state was replaced by another's.
    pub swapped: usize,
    /// Entries of tails that were stored.
    pub tails: Vec<Arc<Entry>>,
    pub verified: Vec<bool>,
    /// How often it was told that something about who leads or serves has changed.
    pub changes: usize,
    born: Millis,
    /// It never hears that a checkpoint is on disk.
    pub deaf: bool,
    /// Its checkpoint has parts that are to come.
    in_round: bool,
    /// It stands still: what comes waits.
    frozen: bool,
    inbox: VecDeque<HostInput>,
}

/// Numbers drawn from a seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % n
    }
}

/// The pool.
pub struct Pool {
    pub members: Vec<Member>,
    pub now: Millis,
    cut: BTreeSet<usize>,
    /// No link between the pools.
    pub apart: bool,
    links: BTreeMap<(usize, usize), LinkId>,
    numbers: u64,
    queue: VecDeque<(usize, usize, Bytes)>,
    tickets: u64,
    /// Frames wait until they are delivered by name.
    pub delay: bool,
}

pub fn key(name: &str) -> Key {
    Key::new(name, Kind(1), b"")
}

pub fn put(name: &str, value: &str) -> Write {
    Write::Put { key: key(name), class: WriteClass::Durable, value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn ends(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Member {
    /// One with an empty disk, not started.
    fn of(cfg: HostConfig) -> Member {
        Member {
            cfg,
            host: None,
            disk: Disk::default(),
            auto_sync: true,
            done: BTreeMap::new(),
            alarms: Vec::new(),
            applied: Vec::new(),
            swapped: 0,
            tails: Vec::new(),
            verified: Vec::new(),
            changes: 0,
            born: 0,
            deaf: false,
            in_round: false,
            frozen: false,
            inbox: VecDeque::new(),
        }
    }
}

impl Pool {
    /// So many fresh servers, all linked.
    pub fn new(servers: u32, seed: u64) -> Pool {
        Pool::with(servers, seed, |_| {})
    }

    /// The same with something changed in each configuration.
    pub fn with(servers: u32, seed: u64, change: impl Fn(&mut HostConfig)) -> Pool {
        Pool::of(&[servers], seed, change)
    }

    /// Two fresh servers and a witness, the last, all linked.
    pub fn witnessed(seed: u64, change: impl Fn(&mut HostConfig)) -> Pool {
        Pool::with(3, seed, |cfg| {
            cfg.witness = cfg.servers.pop().map(|front| front.server);
            change(cfg);
        })
    }

    /// Two paired pools of so many servers each.
    pub fn paired(servers: [u32; 2], seed: u64, change: impl Fn(&mut HostConfig)) -> Pool {
        Pool::of(&servers, seed, |cfg| {
            cfg.others = Others::Partner;
            change(cfg);
        })
    }

    fn of(pools: &[u32], seed: u64, change: impl Fn(&mut HostConfig)) -> Pool {
        let numbers = |(pool, servers): (u16, &u32)| {
            let first = u32::from(pool - 1) * 100;
            (pool, (first + 1..=first + servers).map(ServerId).collect::<Vec<_>>())
        };
        let all: Vec<(u16, Vec<ServerId>)> = (1..).zip(pools).map(numbers).collect();
        let each = all.iter().flat_map(|(pool, servers)| servers.iter().map(move |server| (*pool, server, servers)));
        let member = |(pool, server, servers): (u16, &ServerId, &Vec<ServerId>)| {
            let mut cfg = HostConfig::new(PoolId(pool), *server);
            (cfg.groups, cfg.seed) = (1, seed);
            cfg.servers = servers.iter().map(|server| (*server).into()).collect();
            change(&mut cfg);
            Member::of(cfg)
        };
        let mut pool = Pool {
            members: each.map(member).collect(),
            now: 1_000,
            cut: BTreeSet::new(),
            apart: false,
            links: BTreeMap::new(),
            numbers: 0,
            queue: VecDeque::new(),
            tickets: 0,
            delay: false,
        };
        for at in 0..pool.members.len() {
            pool.start(at);
        }
        pool
    }

    fn clock(&self, at: usize) -> Now {
        Now { mono: self.now - self.members[at].born, wall: START_WALL + self.now }
    }

    fn start(&mut self, at: usize) {
        self.members[at].born = self.now;
        let cfg = self.members[at].cfg.clone();
        let groups = self.members[at].disk.recovered();
        let host = if groups.is_empty() {
            Host::new(cfg, self.clock(at))
        } else {
            Host::recover(cfg, self.clock(at), groups).expect("the disk is sound")
        };
        self.members[at].host = Some(host);
        if self.members[at].cfg.others == Others::Partner {
            let PoolId(own) = self.members[at].cfg.pool;
            self.input(at, HostInput::Pair { partner: Some((PoolId(3 - own), 1)), with_cms: false });
        }
        self.connect(at);
        self.settle();
    }

    /// Links a server with all that run and are not cut off.
    fn connect(&mut self, at: usize) {
        for other in 0..self.members.len() {
            let far = self.apart && self.pool_of(at) != self.pool_of(other);
            let linked = self.links.contains_key(&ends(at, other));
            let apart = far || linked || other == at || self.cut.contains(&at) || self.cut.contains(&other);
            if apart || self.members[at].host.is_none() || self.members[other].host.is_none() {
                continue;
            }
            self.numbers += 1;
            let link = LinkId(self.numbers);
            self.links.insert(ends(at, other), link);
            for (here, there) in [(at, other), (other, at)] {
                let HostConfig { pool: peer, server, .. } = self.members[there].cfg;
                self.input(here, HostInput::LinkUp { link, peer, server });
            }
        }
    }

    pub fn pool_of(&self, at: usize) -> u16 {
        self.members[at].cfg.pool.0
    }

    /// Cuts the pools from each other, or links them again.
    pub fn part(&mut self, apart: bool) {
        self.apart = apart;
        if apart {
            let far = |(a, b): &(usize, usize)| self.pool_of(*a) != self.pool_of(*b);
            let gone = self.links.keys().copied().filter(far).collect();
            self.unlink(gone);
        }
        (0..self.members.len()).for_each(|at| self.connect(at));
    }

    fn disconnect(&mut self, at: usize) {
        let gone = self.links.keys().copied().filter(|(a, b)| *a == at || *b == at).collect();
        self.unlink(gone);
    }

    fn unlink(&mut self, gone: Vec<(usize, usize)>) {
        for (a, b) in gone {
            let link = self.links.remove(&(a, b)).unwrap();
            self.queue.retain(|(from, to, _)| ends(*from, *to) != (a, b));
            for end in [a, b] {
                self.input(end, HostInput::LinkDown { link });
            }
        }
    }

    /// The link between two servers.
    pub fn link(&self, a: usize, b: usize) -> LinkId {
        self.links[&ends(a, b)]
    }

    /// Whether there is one.
    pub fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains_key(&ends(a, b))
    }

    /// The number of a server's replicas.
    pub fn replica(&self, at: usize) -> ReplicaId {
        let cfg = &self.members[at].cfg;
        u64::from(cfg.witness == Some(cfg.server)) << 63 | u64::from(cfg.server.0) << 16 | cfg.incarnation
    }

    /// Cuts the link between two servers.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.unlink(vec![ends(a, b)]);
    }

    /// Cuts a server off from all others.
    pub fn isolate(&mut self, at: usize) {
        self.disconnect(at);
        self.cut.insert(at);
    }

    /// Links it again.
    pub fn rejoin(&mut self, at: usize) {
        self.cut.remove(&at);
        self.connect(at);
    }

    /// Kills a server: of its unsynced batches the first `keep` survive, and for an odd number half of the next one.
    pub fn crash(&mut self, at: usize, keep: usize) {
        self.members[at].host = None;
        (self.members[at].frozen, self.members[at].inbox) = (false, VecDeque::new());
        self.members[at].deaf = false;
        self.disconnect(at);
        self.members[at].disk.crash(keep);
    }

    /// Starts a killed server from its disk.
    pub fn restart(&mut self, at: usize) {
        self.start(at);
    }

    /// A killed server gets an empty disk.
    pub fn wipe(&mut self, at: usize) {
        self.members[at].disk = Disk::default();
        self.members[at].cfg.incarnation += 1;
    }

    /// A killed server gets an empty disk, and has the number of its first.
    pub fn empty(&mut self, at: usize) {
        self.members[at].disk = Disk::default();
        (self.members[at].cfg.incarnation, self.members[at].cfg.joins) = (1, true);
    }

    /// A server that comes to the first pool; the others have to be told.
    pub fn add(&mut self) -> usize {
        self.add_as(false)
    }

    /// The same, as a witness or not.
    pub fn add_as(&mut self, witness: bool) -> usize {
        let mut cfg = self.members[0].cfg.clone();
        cfg.server = ServerId(u32::try_from(self.members.len()).unwrap() + 1);
        (cfg.joins, cfg.incarnation) = (true, 1);
        if witness {
            cfg.witness = Some(cfg.server)
        } else {
            cfg.servers.push(cfg.server.into())
        };
        self.members.push(Member::of(cfg));
        self.start(self.members.len() - 1);
        self.members.len() - 1
    }

    /// All are told that these are the servers of the pool.
    pub fn servers(&mut self, of: &[usize]) {
        self.servers_with(of, None);
    }

    /// The same, with a witness.
    pub fn servers_with(&mut self, of: &[usize], witness: Option<usize>) {
        let servers: Vec<FrontEnd> = of.iter().map(|at| self.members[*at].cfg.server.into()).collect();
        let witness = witness.map(|at| self.members[at].cfg.server);
        for at in 0..self.members.len() {
            self.members[at].cfg.servers.clone_from(&servers);
            self.members[at].cfg.witness = witness;
            self.input(at, HostInput::Servers { servers: servers.clone(), witness });
        }
        self.settle();
    }

    /// Servers with a copy of the group.
    pub fn with_copy(&self) -> Vec<usize> {
        let has = |at: &usize| self.members[*at].host.as_ref().is_some_and(|host| host.group(GROUP).is_some());
        (0..self.members.len()).filter(has).collect()
    }

    /// Servers whose replicas vote, and those whose only follow, as the leader knows.
    pub fn replicas(&self) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let leader = self.leader().expect("a leader");
        let at = |server| self.members.iter().position(|member| member.cfg.server == server).unwrap();
        let all = self.host(leader).replicas(GROUP);
        let (voters, learners): (Vec<_>, Vec<_>) = all.into_iter().partition(|status| status.voter);
        let places =
            |of: Vec<pairline_group::io::ReplicaStatus>| of.into_iter().map(|status| at(status.server)).collect();
        (places(voters), places(learners))
    }

    pub fn host(&self, at: usize) -> &Host {
        self.members[at].host.as_ref().expect("the server is up")
    }

    /// Stops a process; its links stay up, and what comes on them waits.
    pub fn freeze(&mut self, at: usize) {
        self.members[at].frozen = self.members[at].host.is_some();
    }

    pub fn is_frozen(&self, at: usize) -> bool {
        self.members[at].frozen
    }

    /// It goes on: it looks at the clock, and has not taken anything in yet.
    pub fn thaw(&mut self, at: usize) {
        self.members[at].frozen = false;
        let now = self.clock(at);
        self.members[at].host.iter_mut().for_each(|host| host.observe(now));
    }

    /// What came while it stood still.
    pub fn catch_up(&mut self, at: usize) {
        while let Some(input) = self.members[at].inbox.pop_front() {
            self.input(at, input);
        }
    }

    pub fn input(&mut self, at: usize, input: HostInput) {
        if self.members[at].frozen {
            if !matches!(input, HostInput::Tick) {
                self.members[at].inbox.push_back(input);
            }
            return;
        }
        let now = self.clock(at);
        if let Some(host) = self.members[at].host.as_mut() {
            host.handle(now, input);
        }
    }

    fn drain(&mut self, at: usize) -> bool {
        let mut any = false;
        if self.members[at].frozen {
            return false;
        }
        while let Some(output) = self.members[at].host.as_mut().and_then(Host::poll) {
            any = true;
            self.output(at, output);
        }
        any
    }

    fn output(&mut self, at: usize, output: HostOutput) {
        let member = &mut self.members[at];
        match output {
            HostOutput::Append(batch) => {
                member.disk.append(batch);
                if member.auto_sync {
                    self.sync(at);
                }
            }
            HostOutput::Send { link, frame } => {
                let ends = self.links.iter().find(|(_, known)| **known == link).map(|(ends, _)| *ends);
                if let Some((a, b)) = ends {
                    self.queue.push_back((at, a + b - at, frame::encode(&frame)));
                }
            }
            HostOutput::Done { ticket, done, .. } => {
                assert!(member.done.insert(ticket, done).is_none(), "answered twice: {ticket:?}");
            }
            HostOutput::Applied { group, entry } => member.applied.push((group, entry)),
            HostOutput::Alarm(alarm) => member.alarms.push(alarm),
            HostOutput::Checkpoint { id, groups, round } => {
                member.in_round = !round;
                member.disk.checkpoint(groups);
                if !member.deaf {
                    self.input(at, HostInput::CheckpointDone { id });
                }
            }
            HostOutput::Purge { group, through } => member.disk.purge(group, through),
            HostOutput::Swapped { .. } => member.swapped += 1,
            HostOutput::RoleChanged { .. } => member.changes += 1,
            HostOutput::StoreTail { group, entries, .. } => {
                member.tails.extend(entries);
                self.input(at, HostInput::TailStored { group });
            }
            HostOutput::Verified { equal, .. } => member.verified.push(equal),
            HostOutput::Forget { group } => {
                member.disk.forget(group);
                // An empty disk is not a new one any more.
                member.cfg.joins = true;
            }
        }
    }

    /// Has one server write a checkpoint of everything.
    pub fn checkpoint(&mut self, at: usize) {
        for _ in 0..10_000 {
            self.part_of_checkpoint(at);
            if !self.members[at].in_round {
                return;
            }
        }
        panic!("the checkpoint of server {at} has no end");
    }

    /// Has one server take the next part of a checkpoint, or write it if that was the last.
    pub fn part_of_checkpoint(&mut self, at: usize) {
        self.numbers += 1;
        self.input(at, HostInput::Checkpoint { id: self.numbers });
        self.settle();
    }

    /// Time passes, and each second every server writes its checkpoint: what was copied counts once it is on disk.
    pub fn live(&mut self, millis: Millis) {
        for _ in 0..millis / 1_000 {
            self.run(1_000);
            let up: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].host.is_some()).collect();
            up.into_iter().for_each(|at| self.checkpoint(at));
        }
        self.run(200);
    }

    /// Syncs everything that one server has appended.
    pub fn sync(&mut self, at: usize) {
        while let Some(batch) = self.members[at].disk.sync_one() {
            self.input(at, HostInput::Synced { batch });
        }
    }

    /// Runs until nothing more happens without the passing of time.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut any = false;
            for at in 0..self.members.len() {
                any |= self.drain(at);
            }
            any |= !self.delay && self.deliver(0);
            if !any {
                return;
            }
        }
        panic!("the hosts never come to rest");
    }

    /// Delivers the first frame of the link that the frame at this place of the queue is on; whether there was one.
    pub fn deliver(&mut self, place: usize) -> bool {
        let Some((from, to, _)) = self.queue.get(place) else { return false };
        let link = (*from, *to);
        let first = self.queue.iter().position(|(from, to, _)| (*from, *to) == link).unwrap();
        let (from, to, bytes) = self.queue.remove(first).unwrap();
        let frame: Frame = frame::decode(&bytes).expect("a sent frame decodes");
        if let Some(link) = self.links.get(&ends(from, to)).copied() {
            self.input(to, HostInput::Frame { link, frame });
        }
        true
    }

    /// Delivers what waits between two servers.
    pub fn deliver_between(&mut self, a: usize, b: usize) {
        while let Some(place) = self.queue.iter().position(|(from, to, _)| ends(*from, *to) == ends(a, b)) {
            self.deliver(place);
        }
    }

    /// What replicas say to each other and has not arrived.
    pub fn said(&self) -> Vec<ReplicaMessage> {
        let frames = self.queue.iter().map(|(.., bytes)| frame::decode(bytes).unwrap());
        frames
            .filter_map(|frame| if let Frame::Replica { message, .. } = frame { Some(*message) } else { None })
            .collect()
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Syncs the oldest batch that one server has appended.
    pub fn sync_one(&mut self, at: usize) {
        if let Some(batch) = self.members[at].disk.sync_one() {
            self.input(at, HostInput::Synced { batch });
        }
    }

    /// Lets time pass in steps of 50 ms.
    pub fn run(&mut self, millis: Millis) {
        let end = self.now + millis;
        self.settle();
        while self.now < end {
            self.now += 50;
            for at in 0..self.members.len() {
                self.input(at, HostInput::Tick);
            }
            self.settle();
        }
    }

    /// The same in steps of 10 ms, in which the servers do not tick together.
    pub fn run_unevenly(&mut self, millis: Millis) {
        let end = self.now + millis;
        self.settle();
        while self.now < end {
            self.now += 10;
            for (at, phase) in (0..self.members.len()).zip((0..).step_by(20)) {
                if (self.now + phase).is_multiple_of(50) {
                    self.input(at, HostInput::Tick);
                }
            }
            self.settle();
        }
    }

    /// The server that takes changes now.
    pub fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.members[*at].host.as_ref().is_some_and(|host| host.can_commit(GROUP));
        let reached = |at: &usize| !self.cut.contains(at) && !self.members[*at].frozen;
        (0..self.members.len()).filter(reached).find(leads)
    }

    /// The server that leads the group's copy in a pool.
    pub fn leads(&self, pool: u16) -> Option<usize> {
        let leads = |at: &usize| self.members[*at].host.as_ref().is_some_and(|host| host.leads(GROUP));
        (0..self.members.len()).filter(|at| self.pool_of(*at) == pool && !self.members[*at].frozen).find(leads)
    }

    /// Asks the leader of a pool's copy for a change of serving pool; its answer.
    pub fn change(&mut self, at: usize, promote: bool, procedure: u128) -> Option<Done> {
        self.tickets += 1;
        let (ticket, group, step) = (Ticket(self.tickets), GROUP, StepRef { procedure, step: 1 });
        let to = PoolId(3 - self.pool_of(at));
        let input = if promote {
            HostInput::Promote { ticket, group, step, operator: "anna".into(), plan: Bytes::new() }
        } else {
            HostInput::Handover { ticket, group, to, step }
        };
        self.input(at, input);
        self.settle();
        self.answer_to(at, ticket)
    }

    /// Orders a server's copy to go on alone.
    pub fn survive(&mut self, at: usize, procedure: u128, partner: Option<(Position, [u8; 32])>) -> Ticket {
        self.tickets += 1;
        let (ticket, step) = (Ticket(self.tickets), StepRef { procedure, step: 1 });
        let order = Survive { step, operator: "anna".into(), plan: Bytes::from_static(b"two disks burnt"), partner };
        self.input(at, HostInput::Survive { ticket, group: GROUP, order });
        self.settle();
        ticket
    }

    /// The same, until it is done.
    pub fn survived(&mut self, at: usize, procedure: u128) -> Position {
        let ticket = self.survive(at, procedure, None);
        self.checkpoint(at);
        self.run(100);
        match self.answer_to(at, ticket) {
            Some(Done::Committed(position)) => position,
            other => panic!("it does not go on alone: {other:?}"),
        }
    }

    pub fn propose(&mut self, at: usize, proposal: Proposal) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(at, HostInput::Propose { ticket, group: GROUP, proposal });
        ticket
    }

    pub fn answer_to(&self, at: usize, ticket: Ticket) -> Option<Done> {
        self.members[at].done.get(&ticket).cloned()
    }

    pub fn answer(&mut self, at: usize, proposal: Proposal) -> Done {
        let ticket = self.propose(at, proposal);
        self.settle();
        self.answer_to(at, ticket).expect("an answer")
    }

    pub fn commit(&mut self, at: usize, writes: Vec<Write>) -> Done {
        self.answer(at, Proposal { writes, ..Proposal::default() })
    }

    /// Writes one record; it must be committed.
    pub fn committed(&mut self, at: usize, name: &str, value: &str) -> Position {
        match self.commit(at, vec![put(name, value)]) {
            Done::Committed(position) => position,
            other => panic!("not committed: {other:?}"),
        }
    }

    pub fn value(&self, at: usize, name: &str) -> Option<String> {
        let record = self.host(at).get(GROUP, &key(name))?;
        Some(String::from_utf8_lossy(&record.value).into_owned())
    }

    /// All copies of the group are equal.
    pub fn assert_equal(&self) {
        let standing = |member: &Member| {
            let status = member.host.as_ref()?.group(GROUP)?;
            Some((status.position, status.digest, status.records))
        };
        let all: Vec<_> = self.members.iter().filter_map(standing).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    }
}
