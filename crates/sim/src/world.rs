//! The virtual world: time, two servers, the network between them, clients, operators and chance.
//!
//! Owns the event queue and the step from one event to the next. What a fault, a client or an operator does stands in
//! files of their own; whether what happened was right is the checkers' matter.

use crate::history::{Answer, History};
use crate::net::{GIVE_UP_MS, Network};
use crate::options::Options;
use crate::rng::Rng;
use crate::server::{Effect, Server};
use bytes::Bytes;
use pairline_group::{LinkId, PoolId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::io::{Facts, Input};
use pairline_topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

/// Longest time between two ticks of a node.
const TICK_MS: u64 = 50;

/// What is due at a time.
#[derive(Clone, Debug)]
pub enum Due {
    /// A node's tick, for one start of the process.
    Tick(usize, u64),
    /// Frames arrive.
    Arrival,
    /// A sync ends, for one start of the process.
    Synced(usize, u64, u64),
    /// A checkpoint is durable, for one start.
    Checkpointed(usize, u64, u64),
    /// The sites try to connect.
    Reconnect,
    /// A side gives its connection up if nothing has passed since.
    GiveUp(usize, LinkId),
    /// A fault.
    Fault,
    /// A fault ends.
    Mend(crate::faults::Mend),
    /// A client's change.
    Client,
    /// A phone's registration.
    Phone,
    /// An operator's command.
    Operator,
    /// Checkers look.
    Check,
}

/// A command under way.
#[derive(Clone, Debug)]
pub enum Pending {
    /// A client's change, by its number in the history.
    Change(usize),
    /// The same change again, after it was acknowledged.
    Repeat,
    /// An operator's command.
    Operator(Command),
    /// A command of a script: its answer is kept, and nothing follows from it by chance.
    Script(Command),
    /// The other site's order to stand down, with that site's number for it.
    Fence(u64),
    /// Set-up.
    SetUp,
}

/// The world.
pub struct World {
    /// Virtual milliseconds.
    pub now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Due>,
    /// Both servers.
    pub servers: Vec<Server>,
    /// The network.
    pub net: Network,
    /// Chance.
    pub rng: Rng,
    /// What happened.
    pub history: History,
    /// The deployment.
    pub topology: Topology,
    /// The mix.
    pub options: Options,
    /// Conditions that were met.
    pub sometimes: BTreeSet<&'static str>,
    /// Commands under way: request → what.
    pub pending: BTreeMap<u64, (usize, Pending)>,
    next_request: u64,
    trace: blake3::Hasher,
    /// Healing: no new faults, operators only finish what is open.
    pub healing: bool,
    /// End of healing: clients and operators are silent, so that both copies can stand at one position.
    pub quiet: bool,
    /// Answers to operators' commands, newest last, for scripts.
    pub answers: Vec<(Command, Result<Reply, Problem>)>,
    /// Disk images kept for "an old disk comes back".
    pub images: crate::faults::Images,
    /// What was seen of the copies.
    pub copies: crate::copies::Copies,
    /// The phones.
    pub phones: Vec<crate::phones::Phone>,
    /// Frames of each direction that may arrive again.
    pub replays: [crate::replays::Replays; 2],
    /// Inputs of each server since a procedure began (crash sweep).
    pub inputs: [u64; 2],
    /// Since when both sites have served a group in full and heard each other.
    pub both_active: BTreeMap<pairline_group::GroupId, u64>,
    /// Operations lost by right (a disk was replaced by an older image of itself before they were shipped).
    pub excused: BTreeSet<pairline_group::OpId>,
    /// Operations on the surviving histories, gathered at the end.
    pub applied: BTreeSet<pairline_group::OpId>,
    /// Operations in stored tails, gathered at the end.
    pub in_tails: BTreeSet<pairline_group::OpId>,
    /// Whether the admin APIs reach each other while the link is cut.
    pub admin_open: bool,
    /// Records of which stored tails have the state and not the operation, gathered at the end.
    pub tail_records: BTreeSet<pairline_group::Key>,
    /// Users of the run.
    pub users: Vec<String>,
    next_op: u64,
    /// Both sites' nodes failed to start: why.
    pub fatal: Option<String>,
}

impl World {
    /// A world for a seed; both servers are started.
    pub fn new(seed: u64, options: Options) -> World {
        let mut rng = Rng::new(seed);
        let topology = crate::options::topology();
        let ids: Vec<(PoolId, pairline_group::ServerId)> =
            topology.server.iter().map(|server| (server.pool, server.id)).collect();
        let servers = ids
            .iter()
            .enumerate()
            .map(|(site, (pool, id))| Server::new(site, *pool, *id, rng.draw(), options.limits()))
            .collect();
        let mut world = World {
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            servers,
            net: Network::new(options.delay_ms),
            rng,
            history: History::default(),
            topology,
            options,
            sometimes: BTreeSet::new(),
            pending: BTreeMap::new(),
            next_request: 0,
            trace: blake3::Hasher::new(),
            healing: false,
            quiet: false,
            answers: Vec::new(),
            images: crate::faults::Images::default(),
            copies: crate::copies::Copies::default(),
            phones: Vec::new(),
            replays: Default::default(),
            inputs: [0, 0],
            both_active: BTreeMap::new(),
            excused: BTreeSet::new(),
            applied: BTreeSet::new(),
            in_tails: BTreeSet::new(),
            tail_records: BTreeSet::new(),
            admin_open: false,
            users: Vec::new(),
            next_op: 0,
            fatal: None,
        };
        if world.options.clocks {
            for site in 0..2 {
                world.servers[site].offset_ms = i64::try_from(world.rng.below(8_000)).unwrap_or(0) - 4_000;
                world.servers[site].drift_ppm = i64::try_from(world.rng.below(600)).unwrap_or(0) - 300;
            }
        }
        world
    }

    /// Puts something into the queue.
    pub fn after(&mut self, millis: u64, due: Due) {
        self.sequence += 1;
        self.queue.insert((self.now + millis, self.sequence), due);
    }

    /// Starts the process of a site.
    pub fn start(&mut self, site: usize) {
        let topology = self.topology.clone();
        match self.servers[site].start(&topology, self.now) {
            Ok(effects) => {
                let pool = self.servers[site].pool;
                for (group, entry) in std::mem::take(&mut self.servers[site].recovered) {
                    self.history.applied(pool, group, &entry, self.now);
                }
                crate::copies::started(self, site);
                self.effects(site, effects);
                let boot = self.servers[site].boot;
                self.give(site, Input::Facts(facts()));
                self.after(1, Due::Tick(site, boot));
                self.after(1, Due::Reconnect);
            }
            Err(why) => {
                self.note("start-failed", &why);
                self.fatal = Some(format!("site {site}: {why}"));
            }
        }
    }

    /// Stops the process of a site; the other side notices at once, or by silence.
    pub fn stop(&mut self, site: usize, power: bool) {
        if self.servers[site].node.is_none() {
            return;
        }
        crate::copies::stopping(self, site);
        let seed = if power { self.rng.draw() } else { 0 };
        self.servers[site].stop(power, seed);
        self.note("stopped", &format!("site {site}, power {power}"));
        self.net.drop_end(site);
        if let Some(link) = self.net.connection.and_then(|connection| connection.ends[1 - site]) {
            let notice = if power || !self.net.whole() { GIVE_UP_MS } else { 1 };
            self.after(notice, Due::GiveUp(1 - site, link));
        }
        let lost: Vec<u64> =
            self.pending.iter().filter(|(_, (at, _))| *at == site).map(|(request, _)| *request).collect();
        for request in lost {
            self.pending.remove(&request);
        }
    }

    /// Gives a node one input and does what follows.
    pub fn give(&mut self, site: usize, input: Input) {
        self.give_together(site, vec![input]);
    }

    /// Gives a node what it finds together, as its thread does with what has arrived meanwhile, and does what follows.
    pub fn give_together(&mut self, site: usize, inputs: Vec<Input>) {
        if !self.servers[site].runs() {
            return;
        }
        self.inputs[site] += 1;
        if self.crash_point(site) {
            return;
        }
        let effects = self.servers[site].handle(self.now, inputs);
        self.collect(site);
        self.effects(site, effects);
    }

    /// The disk of a site has room again.
    pub fn room(&mut self, site: usize) {
        let effects = self.servers[site].room();
        if !effects.is_empty() {
            self.met("a full disk was waited out");
            self.effects(site, effects);
        }
    }

    /// Crash sweep: whether the server dies now instead of taking its input.
    fn crash_point(&mut self, site: usize) -> bool {
        let Some(at) = self.options.crash_at else { return false };
        if at.site != site || self.inputs[site] != at.nth {
            return false;
        }
        self.options.crash_at =
            at.again.map(|(site, nth)| crate::options::CrashAt { site, nth: self.inputs[site] + nth, again: None });
        self.met("a server died in the middle of a procedure");
        self.stop(site, true);
        self.after(700, Due::Mend(crate::faults::Mend::Start(site)));
        true
    }

    /// A command to a site; the answer comes back by its number.
    pub fn command(&mut self, site: usize, command: Command, what: Pending) {
        if !self.servers[site].runs() {
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        self.pending.insert(request, (site, what));
        self.give(site, Input::Admin { request, actor: Actor::Administrator("operator".to_owned()), command });
    }

    /// A number for a client's operation.
    pub fn fresh_op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
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

    fn happen(&mut self, due: Due) {
        match due {
            // What a disk finishes while the process is frozen waits for it.
            Due::Synced(site, ..) | Due::Checkpointed(site, ..) if self.servers[site].paused => self.after(20, due),
            Due::Tick(site, boot) => {
                if self.servers[site].boot == boot && self.servers[site].node.is_some() {
                    self.give(site, Input::Tick);
                    self.after(self.next_tick(site), Due::Tick(site, boot));
                }
            }
            Due::Arrival => self.arrivals(),
            Due::Synced(site, boot, batch) => {
                if self.servers[site].boot == boot {
                    let effects = self.servers[site].sync(batch);
                    self.effects(site, effects);
                }
            }
            Due::Checkpointed(site, boot, id) => {
                if self.servers[site].boot == boot {
                    self.give(site, Input::CheckpointDone { id });
                }
            }
            Due::Reconnect => self.reconnect(),
            Due::GiveUp(site, link) => self.give_up(site, link),
            Due::Fault => crate::faults::strike(self),
            Due::Mend(what) => crate::faults::mend(self, what),
            Due::Client | Due::Operator | Due::Phone if self.quiet => {}
            Due::Phone => crate::phones::act(self),
            Due::Client => crate::clients::change(self),
            Due::Operator => crate::operators::act(self),
            Due::Check => {
                crate::checks::look(self);
                crate::copies::look(self);
                self.after(250, Due::Check);
            }
        }
    }

    fn next_tick(&self, site: usize) -> u64 {
        let server = &self.servers[site];
        let mono = server.clocks(self.now).mono;
        let wanted = server.node.as_ref().and_then(pairline_node::Node::next_timeout);
        wanted.map_or(TICK_MS, |at| at.saturating_sub(mono)).clamp(1, TICK_MS)
    }

    fn collect(&mut self, site: usize) {
        let pool = self.servers[site].pool;
        let applied = self.servers[site].node.as_mut().map(pairline_node::Node::take_watched).unwrap_or_default();
        for (group, entry) in applied {
            self.trace.update(&entry.position.seq.to_le_bytes());
            crate::copies::applied(self, site, group, &entry);
            self.history.applied(pool, group, &entry, self.now);
        }
    }

    fn effects(&mut self, site: usize, effects: Vec<Effect>) {
        self.collect(site);
        let boot = self.servers[site].boot;
        for effect in effects {
            match effect {
                Effect::Sync { batch } => {
                    let latency = self.rng.between(0, self.options.sync_ms);
                    self.after(latency, Due::Synced(site, boot, batch));
                }
                Effect::Checkpointed { id } => self.after(20, Due::Checkpointed(site, boot, id)),
                Effect::Frame { link, frame } => self.send(site, link, frame),
                // A pair knows its two servers by itself.
                Effect::Document(_) => {}
                Effect::Sip { flow, message } => crate::phones::received(self, site, flow, message),
                Effect::Reply { request, reply } => self.answered(request, reply),
                Effect::Fence { id, order, .. } => self.fence(site, id, order),
                Effect::Event(event) => {
                    if event.name == "seeded" {
                        self.met("a copy was seeded");
                    }
                    self.note(event.name, &format!("site {site}: {}", event.text));
                }
                Effect::Dies { reason } => {
                    self.note("dies", &format!("site {site}: {reason}"));
                    self.met("process ended by a disk fault");
                    self.stop(site, false);
                    return;
                }
                Effect::Again(input) => self.give(site, input),
            }
        }
    }

    /// An order to stand down goes to the other site's admin API, if that can be reached.
    fn fence(&mut self, site: usize, id: u64, order: Command) {
        let other = 1 - site;
        if !self.servers[other].runs() || !(self.net.whole() || self.admin_open) {
            self.fenced(site, id, false, false);
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        self.pending.insert(request, (other, Pending::Fence(id)));
        self.give(other, Input::Admin { request, actor: Actor::User(String::new()), command: order });
    }

    fn fenced(&mut self, site: usize, id: u64, alive: bool, fenced: bool) {
        let command = Command::FenceAnswer { id, alive, fenced };
        self.give(site, Input::Admin { request: 0, actor: Actor::Server, command });
    }

    fn send(&mut self, site: usize, link: LinkId, frame: Bytes) {
        let again = crate::replays::sent(self, site, link, &frame);
        self.net.send(site, link, frame, self.now);
        for frame in again {
            self.net.send(site, link, frame, self.now);
        }
        let wait = self.net.directions[site].delay;
        self.after(wait, Due::Arrival);
    }

    fn arrivals(&mut self) {
        let mut together: [Vec<Input>; 2] = Default::default();
        loop {
            while let Some((site, link, frame)) = self.net.arrived(self.now) {
                if self.servers[site].paused {
                    // The kernel of a stopped process still takes bytes; they wait for it.
                    self.servers[site].paused_frames.push((link, frame));
                    continue;
                }
                crate::copies::heard(self, site);
                together[site].push(Input::PeerFrame { link, frame });
            }
            if together.iter().all(Vec::is_empty) {
                return;
            }
            for (site, frames) in together.iter_mut().enumerate() {
                self.arrived(site, std::mem::take(frames));
            }
        }
    }

    /// Frames that arrived at one instant: together, or now and then one after the other.
    fn arrived(&mut self, site: usize, frames: Vec<Input>) {
        match frames.len() {
            0 => {}
            n if n > 1 && self.rng.chance(75) => {
                self.met("frames were handled together");
                self.give_together(site, frames);
            }
            _ => frames.into_iter().for_each(|frame| self.give(site, frame)),
        }
    }

    fn reconnect(&mut self) {
        let ready = self.servers.iter().all(Server::runs) && self.net.whole();
        if self.net.connection.is_none() && ready {
            if let Some(ends) = self.net.connect() {
                for (site, end) in ends.into_iter().enumerate() {
                    self.give_up_lost(site);
                    self.servers[site].link = Some(end);
                    let (pool, server) = (self.servers[1 - site].pool, self.servers[1 - site].id);
                    self.give(site, Input::LinkUp { link: end, pool, server });
                }
            }
        } else if self.net.connection.is_none() {
            let again = self.rng.between(100, 600);
            self.after(again, Due::Reconnect);
        }
    }

    fn give_up(&mut self, site: usize, link: LinkId) {
        let held = self.net.connection.is_some_and(|connection| connection.ends[site] == Some(link));
        if !held {
            return;
        }
        let other_there = self.net.connection.is_some_and(|connection| connection.ends[1 - site].is_some());
        if other_there && self.net.whole() && !self.servers[1 - site].paused {
            return;
        }
        self.net.drop_end(site);
        self.give_up_lost(site);
        if let Some(other) = self.net.connection.and_then(|connection| connection.ends[1 - site]) {
            self.after(GIVE_UP_MS, Due::GiveUp(1 - site, other));
        }
        self.after(200, Due::Reconnect);
    }

    /// A server that was frozen finds that the other side has given its connection up.
    pub fn give_up_lost(&mut self, site: usize) {
        let lost = self.servers[site].link.take();
        if let Some(link) = lost {
            self.give(site, Input::LinkDown { link });
        }
    }

    fn answered(&mut self, request: u64, reply: Result<Reply, Problem>) {
        let Some((site, what)) = self.pending.remove(&request) else { return };
        let text = match &reply {
            Ok(_) => "ok".to_owned(),
            Err(problem) => problem.kind.clone(),
        };
        self.note("answered", &format!("site {site}: {request}: {text}"));
        match what {
            Pending::Repeat => {}
            Pending::Change(number) => {
                let answer = &mut self.history.changes[number].answer;
                *answer = match &reply {
                    Ok(_) => Answer::Acknowledged,
                    // What was acknowledged once stays so.
                    Err(_) if *answer == Answer::Acknowledged => Answer::Acknowledged,
                    Err(problem) if crate::clients::unknown(problem) => Answer::Unknown,
                    Err(_) => Answer::Refused,
                };
                if reply.is_err() {
                    self.met("a change was refused");
                }
            }
            Pending::Operator(command) => {
                crate::operators::answered(self, site, &command, &reply);
                self.answers.push((command, reply));
            }
            Pending::Fence(id) => self.fenced(1 - site, id, true, reply.is_ok()),
            Pending::Script(command) => self.answers.push((command, reply)),
            Pending::SetUp => {
                if let Err(problem) = reply {
                    self.fatal = Some(format!("set-up refused: {problem}"));
                }
            }
        }
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
