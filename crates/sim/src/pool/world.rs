//! The virtual world of one pool of several servers, or of two that are paired: time, servers, the network between them, clients, phones
//! and chance.
//!
//! Owns the event queue and the step from one event to the next. What a fault, a client or a phone does stands in files of their own;
//! whether what happened was right is the checkers' matter.

use super::clients::{Clients, Pending};
use super::disks::Disks;
use super::faults::Mend;
use super::members::Members;
use super::mesh::Mesh;
use super::options::Options;
use super::phones::Phones;
use super::rigs::Rigs;
use super::sip::Sip;
use super::{checks, clients, disks, faults, members, phones, rigs, sip};
use crate::history::History;
use crate::rng::Rng;
use crate::server::{Effect, Server};
use crate::site::{self, Pair};
use bytes::Bytes;
use pairline_group::{GroupId, LinkId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::event::Event;
use pairline_node::io::{Facts, Input};
use pairline_sip::flow::Flow;
use pairline_topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time between two ticks of a node.
const TICK_MS: u64 = 50;

/// Most that waits for a frozen process: the kernel's buffers.
const BUFFERED: usize = 4_000;

/// What is due at a time.
#[derive(Clone, Debug)]
pub enum Due {
    /// A node's tick, for one start of the process.
    Tick(usize, u64),
    /// Frames arrive, from one server at another.
    Arrival(usize, usize),
    /// A sync ends, for one start of the process.
    Synced(usize, u64, u64),
    /// A checkpoint is durable, for one start.
    Checkpointed(usize, u64, u64),
    /// Two servers try to connect.
    Connect(usize, usize),
    /// A server gives its end of a connection up, if nothing passes.
    GiveUp(usize, usize, LinkId),
    /// A SIP message arrives at a server.
    ToServer(usize, Flow, Bytes),
    /// A server's stream connection ends.
    StreamEnds(usize, Flow),
    /// A SIP message of a server arrives at a phone.
    ToPhone(usize, Flow, Bytes),
    /// A phone looks at a request that has no answer yet.
    Unanswered(u64),
    /// A phone finds its connection gone.
    PhoneLost(usize, u64),
    /// A fault.
    Fault,
    /// A fault ends.
    Mend(Mend),
    /// A client's command.
    Client,
    /// A phone's request.
    Phone,
    /// An operator's command.
    Operator,
    /// A document is published.
    Members,
    /// Checkers look.
    Check,
}

/// The world.
pub struct World {
    /// Virtual milliseconds.
    pub now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Due>,
    /// The servers, pool by pool.
    pub servers: Vec<Server>,
    /// The pool of each, as its place in the topology.
    pub side: Vec<usize>,
    /// What arrived at each server while it was frozen.
    waiting: Vec<Vec<Input>>,
    /// The network between them.
    pub mesh: Mesh,
    /// Directions that are slow, and by how many milliseconds.
    pub slow: BTreeMap<(usize, usize), u64>,
    /// Disks that are slow: the longest sync.
    pub slow_disks: BTreeMap<usize, u64>,
    /// Chance.
    pub rng: Rng,
    /// Entries that were applied, and what does not hold.
    pub history: History,
    /// The deployment.
    pub topology: Topology,
    /// The mix.
    pub options: Options,
    /// Conditions that were met.
    pub sometimes: BTreeSet<&'static str>,
    /// Commands under way: request → server and what.
    pub pending: BTreeMap<u64, (usize, Pending)>,
    next_request: u64,
    trace: blake3::Hasher,
    /// All was set up: faults may strike.
    pub strained: bool,
    /// No new faults.
    pub healing: bool,
    /// Clients and phones do nothing by chance any more.
    pub quiet: bool,
    /// Administrators' clients, and what they were told.
    pub clients: Clients,
    /// The phones.
    pub phones: Phones,
    /// What was seen of requests between servers.
    pub sip: Sip,
    /// What was seen of the copies.
    pub copies: checks::Copies,
    /// The servers that there are, and what each knows of the others.
    pub members: Members,
    /// Disks that were lost.
    pub disks: Disks,
    /// Moments that are waited for.
    pub rigs: Rigs,
    /// What there is only with two pools.
    pub pair: Pair,
    /// A server that could not start: why.
    pub fatal: Option<String>,
}

impl World {
    /// A world for a seed; nothing is started.
    pub fn new(seed: u64, options: Options) -> World {
        let mut rng = Rng::new(seed);
        let (members, topology) = Members::of(&options);
        let servers: Vec<Server> = members
            .all
            .iter()
            .enumerate()
            .map(|(at, server)| Server::new(at, server.pool, server.id, rng.draw(), options.limits()))
            .collect();
        let place = |server: &Server| topology.pool.iter().position(|pool| pool.id == server.pool);
        let side = servers.iter().map(|server| place(server).unwrap_or(0)).collect();
        let mut world = World {
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            waiting: servers.iter().map(|_| Vec::new()).collect(),
            mesh: Mesh::new(servers.len()),
            slow: BTreeMap::new(),
            slow_disks: BTreeMap::new(),
            side,
            servers,
            rng,
            history: History::default(),
            topology,
            options,
            sometimes: BTreeSet::new(),
            pending: BTreeMap::new(),
            next_request: 0,
            trace: blake3::Hasher::new(),
            strained: false,
            healing: false,
            quiet: false,
            clients: Clients::default(),
            phones: Phones::default(),
            sip: Sip::default(),
            copies: checks::Copies::default(),
            members,
            disks: Disks::default(),
            rigs: Rigs::default(),
            pair: Pair::default(),
            fatal: None,
        };
        for server in &mut world.servers {
            server.notes_operations = true;
            if world.options.clocks {
                server.offset_ms = i64::try_from(world.rng.below(4_000)).unwrap_or(0) - 2_000;
                server.drift_ppm = i64::try_from(world.rng.below(600)).unwrap_or(0) - 300;
            }
        }
        world
    }

    /// Number of all servers that there ever are.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Whether a server is in the document in force.
    pub fn is_member(&self, at: usize) -> bool {
        self.topology.server(self.servers[at].id).is_some()
    }

    /// The servers of the document in force.
    pub fn members(&self) -> Vec<usize> {
        (0..self.size()).filter(|at| self.is_member(*at)).collect()
    }

    /// One of them, by chance.
    pub fn any_server(&mut self) -> usize {
        let members = self.members();
        self.rng.pick(&members).copied().unwrap_or(0)
    }

    /// The one after a server, which may have gone itself.
    pub fn server_after(&self, at: usize) -> usize {
        let members = self.members();
        members.iter().find(|other| **other > at).or(members.first()).copied().unwrap_or(at)
    }

    /// The servers of a pool.
    pub fn pool(&self, pool: usize) -> Vec<usize> {
        (0..self.size()).filter(|at| self.side[*at] == pool && self.is_member(*at)).collect()
    }

    /// Whether two servers are others of the same upgrade domain.
    pub fn share_domain(&self, one: usize, other: usize) -> bool {
        let domain = |at: usize| self.topology.server(self.servers[at].id).and_then(|server| server.upgrade_domain);
        one != other && domain(one).is_some() && domain(one) == domain(other)
    }

    /// The next server of the same pool.
    pub fn neighbour(&self, at: usize) -> usize {
        let servers = self.pool(self.side[at]);
        let after = servers.iter().find(|other| **other > at).or(servers.first());
        after.copied().unwrap_or(at)
    }

    /// Whether there are two pools.
    pub fn is_paired(&self) -> bool {
        self.options.servers.len() > 1
    }

    /// A number that grows with each call: what came before what.
    pub fn step(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Puts something into the queue.
    pub fn after(&mut self, millis: u64, due: Due) {
        let step = self.step();
        self.queue.insert((self.now + millis, step), due);
    }

    /// Starts the process of a server.
    pub fn start(&mut self, at: usize) {
        let topology = self.topology.clone();
        match self.servers[at].start(&topology, self.now) {
            Ok(effects) => {
                self.waiting[at].clear();
                self.note("started", &format!("server {at}"));
                self.members.started(at, &topology);
                checks::started(self, at);
                self.effects(at, effects);
                let boot = self.servers[at].boot;
                self.give(at, vec![Input::Facts(facts())]);
                self.after(1, Due::Tick(at, boot));
                for other in (0..self.size()).filter(|other| *other != at) {
                    self.passes(at, other);
                }
            }
            Err(why) => {
                self.note("start-failed", &why);
                self.fatal = Some(format!("server {at}: {why}"));
            }
        }
    }

    /// Stops the process of a server; the others notice at once, or by silence.
    pub fn stop(&mut self, at: usize, power: bool) {
        if self.servers[at].node.is_none() {
            return;
        }
        checks::stopping(self, at);
        let seed = if power { self.rng.draw() } else { 0 };
        self.servers[at].stop(power, seed);
        self.waiting[at].clear();
        self.note("stopped", &format!("server {at}, power {power}"));
        for other in (0..self.size()).filter(|other| *other != at) {
            self.mesh.drop_end(at, other);
            if let Some(link) = self.mesh.end(other, at) {
                let notice = if power || !self.mesh.whole(at, other) { self.options.give_up_ms } else { 1 };
                self.after(notice, Due::GiveUp(other, at, link));
            }
        }
        phones::server_stopped(self, at, power);
        self.pending.retain(|_, (of, _)| *of != at);
    }

    /// Gives a server what it finds together, and does what follows. What arrives at a frozen one waits.
    pub fn give(&mut self, at: usize, inputs: Vec<Input>) {
        if self.servers[at].paused {
            let room = BUFFERED.saturating_sub(self.waiting[at].len());
            return self.waiting[at].extend(inputs.into_iter().take(room));
        }
        if self.servers[at].node.is_none() {
            return;
        }
        let effects = self.servers[at].handle(self.now, inputs);
        self.collect(at);
        let others = checks::one_commits(self, at);
        self.effects(at, effects);
        for (other, effects) in others {
            self.effects(other, effects);
        }
    }

    /// A server goes on after it was frozen: what has waited comes at once or in turn, and its timers before or after it.
    pub fn wake(&mut self, at: usize) {
        if !std::mem::take(&mut self.servers[at].paused) {
            return;
        }
        self.note("woken", &format!("server {at}"));
        let mut inputs = std::mem::take(&mut self.waiting[at]);
        match self.rng.below(3) {
            0 => inputs.insert(0, Input::Tick),
            1 => inputs.push(Input::Tick),
            // What clients ask is found before what other servers say.
            _ => inputs.sort_by_key(|input| matches!(input, Input::PeerFrame { .. } | Input::LinkDown { .. })),
        }
        if self.rng.chance(50) {
            self.give(at, inputs);
        } else {
            inputs.into_iter().for_each(|input| self.give(at, vec![input]));
        }
    }

    /// A command to a server; the answer comes back by its number.
    pub fn command(&mut self, at: usize, command: Command, what: Pending) {
        self.command_of(Actor::Administrator("operator".to_owned()), at, command, what);
    }

    /// A command of somebody to a server.
    pub fn command_of(&mut self, actor: Actor, at: usize, command: Command, what: Pending) {
        if self.servers[at].node.is_none() {
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        self.note("asked", &format!("server {at}: {request}: {what:?}"));
        self.pending.insert(request, (at, what));
        self.give(at, vec![Input::Admin { request, actor, command }]);
    }

    /// Whether nothing was found.
    pub fn is_good(&self) -> bool {
        self.fatal.is_none() && self.history.violations.is_empty()
    }

    /// Runs until a virtual time, or until something is wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.history.violations.is_empty() && self.fatal.is_none() {
            let Some((&(at, _), _)) = self.queue.first_key_value() else { break };
            if at > end {
                break;
            }
            let Some(((at, _), due)) = self.queue.pop_first() else { break };
            self.now = at;
            self.happen(due);
        }
        self.now = self.now.max(end);
    }

    /// Hash over everything that was done: equal for equal seeds.
    pub fn trace_hash(&self) -> String {
        self.trace.finalize().to_hex().as_str()[..16].to_owned()
    }

    /// Writes a line into the trace.
    pub fn note(&mut self, name: &str, text: &str) {
        self.trace.update(&self.now.to_le_bytes());
        self.trace.update(name.as_bytes());
        self.trace.update(text.as_bytes());
        if self.options.verbose {
            println!("{:>9} {name}: {text}", self.now);
        }
    }

    /// A condition was met.
    pub fn met(&mut self, what: &'static str) {
        self.sometimes.insert(what);
    }

    /// All groups of the pool.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut all = vec![GroupId::CMS];
        all.extend(self.topology.pool.iter().flat_map(|pool| self.topology.groups_of(pool.id)));
        all
    }

    fn happen(&mut self, due: Due) {
        match due {
            // What a disk finishes while the process is frozen waits for it.
            Due::Synced(at, ..) | Due::Checkpointed(at, ..) if self.servers[at].paused => self.after(20, due),
            Due::Tick(at, boot) => {
                if self.servers[at].boot == boot && self.servers[at].node.is_some() {
                    if !self.servers[at].paused {
                        self.give(at, vec![Input::Tick]);
                    }
                    self.after(self.next_tick(at), Due::Tick(at, boot));
                }
            }
            Due::Arrival(from, to) => self.arrivals(from, to),
            Due::Synced(at, boot, batch) => {
                if self.servers[at].boot == boot {
                    let effects = self.servers[at].sync(batch);
                    self.effects(at, effects);
                }
            }
            Due::Checkpointed(at, boot, id) => {
                if self.servers[at].boot == boot {
                    self.give(at, vec![Input::CheckpointDone { id }]);
                }
            }
            Due::Connect(a, b) => self.connect(a, b),
            Due::GiveUp(at, other, link) => self.give_up(at, other, link),
            Due::ToServer(at, flow, message) => self.give(at, vec![Input::Sip { flow, message }]),
            Due::StreamEnds(at, flow) => self.give(at, vec![Input::FlowClosed { flow }]),
            Due::ToPhone(at, flow, message) => phones::received(self, at, flow, message),
            Due::Unanswered(id) => phones::unanswered(self, id),
            Due::PhoneLost(number, connection) => phones::lost(self, number, connection),
            Due::Fault if self.is_paired() => site::faults::strike(self),
            Due::Fault => faults::strike(self),
            Due::Mend(what) => faults::mend(self, what),
            Due::Client | Due::Phone | Due::Operator | Due::Members if self.quiet => {}
            Due::Members => members::act(self),
            Due::Operator => site::operators::act(self),
            Due::Client => clients::act(self),
            Due::Phone => phones::act(self),
            Due::Check => {
                members::follow(self);
                disks::look(self);
                checks::look(self);
                if self.is_paired() {
                    site::checks::look(self);
                }
                self.after(250, Due::Check);
            }
        }
    }

    fn next_tick(&self, at: usize) -> u64 {
        let server = &self.servers[at];
        let mono = server.clocks(self.now).mono;
        let wanted = server.node.as_ref().and_then(pairline_node::Node::next_timeout);
        wanted.map_or(TICK_MS, |at| at.saturating_sub(mono)).clamp(1, TICK_MS)
    }

    fn collect(&mut self, at: usize) {
        let pool = self.servers[at].pool;
        let applied = self.servers[at].node.as_mut().map(pairline_node::Node::take_watched).unwrap_or_default();
        for (group, entry) in applied {
            self.trace.update(&entry.position.seq.to_le_bytes());
            self.history.applied(pool, group, &entry, self.now);
            if self.is_paired() {
                site::epochs::applied(self, at, group, &entry);
            }
        }
    }

    fn effects(&mut self, at: usize, effects: Vec<Effect>) {
        self.collect(at);
        let boot = self.servers[at].boot;
        for effect in effects {
            if self.servers[at].boot != boot || self.servers[at].node.is_none() {
                return;
            }
            match effect {
                Effect::Sync { batch } => {
                    let longest = self.slow_disks.get(&at).copied().unwrap_or(self.options.sync_ms);
                    let latency = self.rng.between(0, longest);
                    self.after(latency, Due::Synced(at, boot, batch));
                }
                Effect::Checkpointed { id } => {
                    self.after(20, Due::Checkpointed(at, boot, id));
                    rigs::checkpointed(self, at);
                }
                Effect::Frame { link, frame } => self.send(at, link, frame),
                Effect::Sip { flow, message } => {
                    sip::told(self, at, &message);
                    let delay = self.rng.between(1, 8);
                    self.after(delay, Due::ToPhone(at, flow, message));
                }
                Effect::Reply { request, reply } => self.answered(request, &reply),
                Effect::Document(document) => members::adopted(self, at, *document),
                Effect::Fence { id, admin, order } => site::fence(self, at, id, admin, order),
                Effect::Event(event) => self.event(at, &event),
                Effect::Dies { reason } => {
                    self.note("dies", &format!("server {at}: {reason}"));
                    self.met("process ended by a disk fault");
                    return self.stop(at, false);
                }
                Effect::Again(input) => self.give(at, vec![input]),
            }
        }
    }

    /// A server says that something has happened.
    fn event(&mut self, at: usize, event: &Event) {
        match event.name {
            "seeded" => {
                self.met("a copy by state transfer was needed");
                faults::copied(self, at);
            }
            "old-disk" => disks::told(self, at),
            "replica-removed" => self.met("a replica was taken from a group"),
            "procedure-taken-over" => self.met("a procedure was taken over"),
            "group-stopped" => self.history.violate(3, format!("server {at}: {}", event.text)),
            _ => {}
        }
        self.note(event.name, &format!("server {at}: {}", event.text));
    }

    /// The disk of a server has room again.
    pub fn room(&mut self, at: usize) {
        let effects = self.servers[at].room();
        self.effects(at, effects);
    }

    fn send(&mut self, at: usize, link: LinkId, frame: Bytes) {
        sip::sent(self, at, &frame);
        let Some(to) = self.mesh.other_end(at, link) else { return };
        let (least, more) = if self.side[at] == self.side[to] { self.options.delay_ms } else { self.options.wide_ms };
        let slow = self.slow.get(&(at, to)).copied().unwrap_or(0);
        let arrival = self.now + least + slow + self.rng.below(more + 1);
        if let Some((to, arrival)) = self.mesh.send(at, link, frame.clone(), arrival) {
            self.after(arrival - self.now, Due::Arrival(at, to));
            rigs::sent(self, (at, to), &frame, arrival);
        }
    }

    fn arrivals(&mut self, from: usize, to: usize) {
        let frames = self.mesh.arrived(from, to, self.now);
        let inputs: Vec<Input> = frames.into_iter().map(|(link, frame)| Input::PeerFrame { link, frame }).collect();
        match inputs.len() {
            0 => {}
            n if n > 1 && self.rng.chance(75) => self.give(to, inputs),
            _ => inputs.into_iter().for_each(|input| self.give(to, vec![input])),
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        if self.mesh.connected(a, b) {
            return;
        }
        if !self.members.know_each_other(a, b) {
            return;
        }
        if self.servers[a].runs() && self.servers[b].runs() && self.mesh.whole(a, b) {
            let links = self.mesh.connect(a, b);
            for (at, other, link) in [(a, b, links[0]), (b, a, links[1])] {
                let (pool, server) = (self.servers[other].pool, self.servers[other].id);
                self.give(at, vec![Input::LinkUp { link, pool, server }]);
            }
        } else if self.servers[a].node.is_some() && self.servers[b].node.is_some() {
            let again = self.rng.between(100, 600);
            self.after(again, Due::Connect(a, b));
        }
    }

    fn give_up(&mut self, at: usize, other: usize, link: LinkId) {
        if self.mesh.end(at, other) != Some(link) {
            return;
        }
        if self.servers[at].paused {
            return self.after(20, Due::GiveUp(at, other, link));
        }
        let there = self.mesh.end(other, at);
        if there.is_some() && self.mesh.whole(at, other) && !self.servers[other].paused {
            return;
        }
        self.mesh.drop_end(at, other);
        self.give(at, vec![Input::LinkDown { link }]);
        if let Some(there) = there {
            // A reset reaches the other end if its direction passes.
            let notice = if self.mesh.is_cut(at, other) { self.options.give_up_ms } else { 2 };
            self.after(notice, Due::GiveUp(other, at, there));
        }
        self.after(200, Due::Connect(at.min(other), at.max(other)));
    }

    /// Two servers can hear each other, or could for all that is known: an end that was left over is reset, and they connect.
    pub fn passes(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            if let Some(link) = self.mesh.end(at, other).filter(|_| self.mesh.end(other, at).is_none()) {
                self.after(2, Due::GiveUp(at, other, link));
            }
        }
        self.after(1, Due::Connect(a.min(b), a.max(b)));
    }

    /// Every end of a connection of these two is given up unless something passes by then.
    pub fn will_give_up(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            if let Some(link) = self.mesh.end(at, other) {
                let wait = self.options.give_up_ms + self.rng.below(400);
                self.after(wait, Due::GiveUp(at, other, link));
            }
        }
    }

    fn answered(&mut self, request: u64, reply: &Result<Reply, Problem>) {
        let Some((at, what)) = self.pending.remove(&request) else { return };
        let text = match reply {
            Ok(_) => "ok".to_owned(),
            Err(problem) => format!("{}: {}", problem.kind, problem.detail),
        };
        self.note("answered", &format!("server {at}: {request}: {text}"));
        clients::answered(self, at, what, reply);
    }
}

fn facts() -> Facts {
    Facts {
        disk_free: 50 << 30,
        disk_total: 100 << 30,
        certificate_days: 300,
        version: "0.1.0".to_owned(),
        log_bytes: 0,
    }
}
