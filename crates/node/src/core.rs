//! The node's state that tasks share: one value behind one cell, borrowed briefly and never across a poll.
//!
//! Owns the tables that connect the rooms (tickets, transactions, timers, links). Decides nothing about SIP, replication or
//! failover; those rooms do.

use crate::command::{Problem, Reply};
use crate::config::NodeConfig;
use crate::counts::Counts;
use crate::event::{Event, Level};
use crate::executor::{ReadyQueue, TaskId};
use crate::io::{Facts, Output, StoredTail};
use crate::modes::Modes;
use crate::parcels::Parcels;
use crate::peer::PeerFrame;
use crate::procedures::Procedures;
use crate::rng::Rng;
use crate::traffic::{Asked, Traffic};
use bytes::Bytes;
use pairline_group::host::Host;
use pairline_group::io::{Done, HostInput, Now, Proposal, Refusal};
use pairline_group::{GroupId, Key, LinkId, Millis, PoolId, Position, Record, ServerId, Ticket};
use pairline_services::admission::{Admission, Doors};
use pairline_services::binding::Binding;
use pairline_services::cx::{Branch, LocateError, Peer, TaskEvent};
use pairline_services::settings::DeploymentView;
use pairline_sip::auth::NonceWindow;
use pairline_sip::flow::Flow;
use pairline_sip::target::Resting;
use pairline_sip::transaction::{ClientTx, Layer, ServerTx};
use pairline_topology::Topology;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Most tasks at one time; beyond it new work is refused before any digest is computed (DESIGN §3).
pub const MAX_TASKS: usize = 100_000;

/// Tasks beyond [`MAX_TASKS`] that only emergency calls get.
pub const EMERGENCY_TASKS: usize = 2_000;

/// Most guest bindings kept in memory by a pool that cannot write (it restarted alone).
pub const MAX_LOCAL_GUESTS: usize = 100_000;

/// What a task waits for beyond events.
#[derive(Debug)]
pub enum WaitResult {
    /// A proposal ended.
    Done(Done),
    /// A name was resolved.
    Located(Result<Vec<Flow>, LocateError>),
    /// A command that was sent to the partner was answered.
    Reply(Box<Result<Reply, Problem>>),
    /// A verification ended: position, equality, unequal ranges.
    Verified(Position, bool, Vec<u16>),
    /// Stored tails.
    Tails(Vec<StoredTail>),
    /// Statuses of the other pool's copies.
    Statuses(Vec<pairline_group::io::GroupStatus>),
    /// Copies of another server of this pool, and the procedure that runs there.
    Copies(Vec<crate::copies::Copy>, Option<u128>),
    /// Records of a group that another server leads, or who leads it.
    Records(Result<Vec<(Key, Record)>, Option<ServerId>>),
    /// A sleep is over, or the wait was given up.
    Elapsed,
}

/// State of one live task.
#[derive(Debug)]
pub struct TaskState {
    /// Its id (with generation).
    pub id: TaskId,
    /// The server transaction that it answers.
    pub server_tx: Option<ServerTx>,
    /// The flow that its request came on.
    pub flow: Option<Flow>,
    /// Undelivered events.
    pub events: VecDeque<TaskEvent>,
    /// Results of waits that are over.
    pub results: BTreeMap<u64, WaitResult>,
    /// Its deadline, if set.
    pub deadline: Option<Millis>,
    /// The request that waits for its final answer.
    pub asked: Option<Asked>,
    /// Its client transactions.
    pub branches: Vec<(Branch, ClientTx)>,
    /// Users whose bindings it watches.
    pub watching: Vec<String>,
}

/// Who waits for a ticket of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketOwner {
    /// A task's wait.
    Task(TaskId, u64),
    /// A proposal that came over a link.
    PeerProposal(LinkId, u64),
    /// A handover that the partner's runner asked for.
    PeerHandover(LinkId, u64),
    /// An order that a procedure at another server of this pool gave.
    PeerOrder(LinkId, u64),
    /// A request that is decided in one step.
    Quick(u32),
    /// The runner of a procedure, with its own ticket.
    Runner(Ticket),
    /// Nobody (best effort).
    Nobody,
}

/// One live link.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Pool at its other end.
    pub pool: PoolId,
    /// Server at its other end.
    pub server: ServerId,
    /// When something last came from there (monotonic).
    pub heard: Millis,
    /// A server of this pool from which nothing comes any more, although its connection is open: frozen, or cut off.
    pub silent: bool,
    /// This server has stood still: requests that come before the answer to this call had waited meanwhile.
    pub awaking: Option<u64>,
    /// The last such call of the other end that was answered.
    pub awoken: Option<u64>,
    /// Up to which feature level the other end knows.
    pub level: u16,
}

/// A guest binding kept in memory.
#[derive(Clone, Debug)]
pub struct LocalGuest {
    /// The binding.
    pub binding: Binding,
    /// Monotonic end.
    pub until: Millis,
}

/// The shared state.
pub struct Core {
    /// Both clocks at the start of this call.
    pub now: Now,
    /// What the node was started with.
    pub config: NodeConfig,
    /// Topology in force.
    pub topology: Rc<Topology>,
    /// Where it comes from.
    pub document: crate::document::Source,
    /// What is there now cannot be gone by: it does not have this server, or cannot be read. The one before stays in force.
    pub document_unfit: bool,
    /// What services see of it.
    pub view: Rc<DeploymentView>,
    /// Own pool.
    pub pool: PoolId,
    /// Replication.
    pub host: Host,
    /// SIP transactions.
    pub layer: Layer,
    /// Random numbers.
    pub rng: Rng,
    /// Outputs not yet taken.
    pub out: VecDeque<Output>,
    /// What replication says in this turn.
    pub parcels: Parcels,
    /// Tasks to poll.
    pub ready: ReadyQueue,
    /// States of live tasks by slot.
    pub states: Vec<Option<TaskState>>,
    /// How many there are.
    pub live: usize,
    /// Requests that are decided in one step.
    pub quicks: crate::quick::Quicks,
    /// Requests that a neighbour decides in one step.
    pub onward: crate::onward::Onward,
    /// Waits on the host.
    pub tickets: BTreeMap<Ticket, TicketOwner>,
    /// Next ticket, wait or call number.
    pub next_id: u64,
    /// Timers of waits: (when, number) → task and wait.
    pub timers: BTreeMap<(Millis, u64), (TaskId, u64)>,
    /// Deadlines of tasks.
    pub deadlines: BTreeSet<(Millis, TaskId)>,
    /// Server transaction → task.
    pub server_txs: BTreeMap<ServerTx, TaskId>,
    /// Client transaction → task and branch.
    pub client_txs: BTreeMap<ClientTx, (TaskId, Branch)>,
    /// Waits by number that the shell or a peer answers.
    pub waits: BTreeMap<u64, TaskId>,
    /// Waits on another server's answer; they end when its last link goes, or when it falls silent.
    pub forwarded: BTreeMap<u64, (TaskId, ServerId)>,
    /// The other servers of the pool.
    pub neighbours: crate::neighbours::Neighbours,
    /// Whether all users are known here.
    pub knows: crate::knows::Knows,
    /// Live links.
    pub links: BTreeMap<LinkId, Link>,
    /// Who watches a user's bindings.
    pub watchers: BTreeMap<String, Vec<TaskId>>,
    /// What subscribers to users served here were told.
    pub watching: pairline_services::watching::Table,
    /// When each client was last ordered to be woken.
    pub woken: crate::wakes::Wakes,
    /// Users whose subscribers are to be told that something has changed.
    pub to_tell: VecDeque<String>,
    /// Who waits for a verification of a group.
    pub verifying: BTreeMap<GroupId, Vec<(TaskId, u64)>>,
    /// Groups whose last verification found a difference.
    pub unequal: BTreeSet<GroupId>,
    /// Open stream connections.
    pub streams: BTreeSet<u64>,
    /// SIP domains that the other ends of stream connections have proven to be.
    pub verified: BTreeMap<u64, Rc<[String]>>,
    /// Guest bindings of a pool that cannot write.
    pub local_guests: BTreeMap<(String, Vec<u8>), LocalGuest>,
    /// What is taken at all, by a server that is about to end.
    pub doors: Doors,
    /// What is let in while more comes than can be done.
    pub admission: Admission,
    /// Servers of others that are left alone for a while.
    pub resting: Resting,
    /// Used nonce counts.
    pub nonces: NonceWindow,
    /// Pools' modes.
    pub modes: Modes,
    /// The reading of how much of the stored tails is open.
    pub recount: crate::admin::Recount,
    /// The shell said that the disk is full.
    pub disk_full: bool,
    /// When checkpoints are taken.
    pub checkpoints: crate::checkpoints::Checkpoints,
    /// The running procedure.
    pub procedures: Procedures,
    /// Applied entries, if somebody looks on (the simulator's checkers).
    pub watched: Option<Vec<(GroupId, std::sync::Arc<pairline_group::Entry>)>>,
    /// Last facts of the machine.
    pub facts: Facts,
    /// Counters of services by their number.
    pub counters: Counts,
    /// SIP messages by what they are.
    pub traffic: Traffic,
    /// Open alarms, newest last, bounded.
    pub alarms: VecDeque<(Millis, String)>,
    /// Commit latency: monotonic start of proposals in flight.
    pub commit_started: BTreeMap<Ticket, Millis>,
    /// Commit latencies.
    pub commit_latency: crate::figures::Latencies,
    /// Count of bindings.
    pub census: crate::figures::Census,
    /// Who stands in for names that nobody has.
    pub stand_ins: crate::stand_ins::StandIns,
}

impl Core {
    /// A number that is used once: tickets, waits, calls.
    pub fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Emits an event.
    pub fn event(&mut self, level: Level, name: &'static str, text: impl Into<String>) {
        self.out.push_back(Output::Event(Event { level, name, text: text.into() }));
    }

    /// Remembers an alarm (bounded) and emits it.
    pub fn alarm(&mut self, name: &'static str, text: String) {
        if self.alarms.len() >= 100 {
            self.alarms.pop_front();
        }
        self.alarms.push_back((self.now.wall, text.clone()));
        self.event(Level::Error, name, text);
    }

    /// Counts something.
    pub fn count(&mut self, name: &'static str) {
        self.counters.add(name);
    }

    /// A task's request is on its way as a transaction.
    pub fn sends(&mut self, task: TaskId, branch: Branch, tx: ClientTx) {
        self.client_txs.insert(tx, (task, branch));
        if let Some(state) = self.state(task) {
            state.branches.push((branch, tx));
        }
    }

    /// State of a live task.
    pub fn state(&mut self, task: TaskId) -> Option<&mut TaskState> {
        self.states.get_mut(task.slot()).and_then(Option::as_mut).filter(|state| state.id == task)
    }

    /// Registers a new task's state.
    pub fn add_state(&mut self, task: TaskId, server_tx: Option<ServerTx>, flow: Option<Flow>) {
        if self.states.len() <= task.slot() {
            self.states.resize_with(task.slot() + 1, || None);
        }
        if let Some(tx) = server_tx {
            self.server_txs.insert(tx, task);
        }
        self.live += 1;
        self.states[task.slot()] = Some(TaskState {
            id: task,
            server_tx,
            flow,
            events: VecDeque::new(),
            results: BTreeMap::new(),
            deadline: None,
            asked: None,
            branches: Vec::new(),
            watching: Vec::new(),
        });
    }

    /// Forgets an ended task: its deadline, watches and transactions.
    pub fn remove_state(&mut self, task: TaskId) {
        let Some(state) = self.states.get_mut(task.slot()).and_then(Option::take) else { return };
        self.live -= 1;
        if let Some(at) = state.deadline {
            self.deadlines.remove(&(at, task));
        }
        let now = self.now.mono;
        if let Some(tx) = state.server_tx {
            self.server_txs.remove(&tx);
            self.layer.release_server(now, tx);
        }
        for (_, tx) in &state.branches {
            self.client_txs.remove(tx);
            self.layer.release_client(now, *tx);
        }
        for user in &state.watching {
            if let Some(tasks) = self.watchers.get_mut(user) {
                tasks.retain(|other| *other != task);
                if tasks.is_empty() {
                    self.watchers.remove(user);
                }
            }
        }
    }

    /// Delivers an event to a task and wakes it.
    pub fn deliver(&mut self, task: TaskId, event: TaskEvent) {
        if let Some(state) = self.state(task) {
            state.events.push_back(event);
            self.ready.wake(task);
        }
    }

    /// Ends a wait and wakes its task.
    pub fn resolve(&mut self, task: TaskId, wait: u64, result: WaitResult) {
        if let Some(state) = self.state(task) {
            state.results.insert(wait, result);
            self.ready.wake(task);
        }
    }

    /// Starts a wait that ends as `Elapsed` after a time, unless something ends it before.
    pub fn wait_until(&mut self, task: TaskId, at: Millis) -> u64 {
        let wait = self.fresh();
        self.timers.insert((at, wait), (task, wait));
        wait
    }

    /// Sends a proposal to the own host for a task.
    pub fn propose(&mut self, owner: TicketOwner, group: GroupId, proposal: Proposal) -> Ticket {
        let ticket = Ticket(self.fresh());
        self.tickets.insert(ticket, owner);
        if self.disk_full && self.host.can_commit(group) {
            // It could not be acknowledged before there is room; where another pool serves, that one may have some.
            crate::host_side::finished(self, ticket, Done::Refused(Refusal::DiskFull));
            return ticket;
        }
        self.commit_started.insert(ticket, self.now.mono);
        self.host.handle(self.now, HostInput::Propose { ticket, group, proposal });
        ticket
    }

    /// The request of a task was given its final answer.
    pub fn answered(&mut self, task: TaskId) {
        if let Some(asked) = self.state(task).and_then(|state| state.asked.take()) {
            self.traffic.answered(asked, self.now.mono);
        }
    }

    /// The link to a pool, if one is up: one to a server that is heard goes before others, younger ones before older ones.
    pub fn link_to(&self, pool: PoolId) -> Option<LinkId> {
        let serves = |link: &Link| link.pool == pool && !crate::witness::is(self, link.server);
        let of_pool = || self.links.iter().rev().filter(|(_, link)| serves(link));
        of_pool().find(|(_, link)| !link.silent).or_else(|| of_pool().next()).map(|(id, _)| *id)
    }

    /// The link to a server, if one is up.
    pub fn link_to_server(&self, server: ServerId) -> Option<LinkId> {
        self.links.iter().rev().find(|(_, link)| link.server == server).map(|(id, _)| *id)
    }

    /// The link to other servers, if one is up.
    pub fn link_at(&self, at: Peer) -> Option<(LinkId, Link)> {
        let id = match at {
            Peer::Pool(pool) => self.link_to(pool),
            Peer::Server(server) => self.link_to_server(server),
        };
        id.and_then(|id| self.links.get_key_value(&id)).map(|(id, link)| (*id, *link))
    }

    /// The same, if they are heard on it.
    pub fn way_to(&self, at: Peer) -> Option<(LinkId, Link)> {
        let hears = |pool| pool == self.pool || self.modes.hears(pool, self.now.mono);
        self.link_at(at).filter(|(_, link)| !link.silent && hears(link.pool))
    }

    /// The paired pool.
    pub fn partner(&self) -> Option<PoolId> {
        self.topology.partner(self.pool).map(|pool| pool.id)
    }

    /// Sends a frame to a pool; false if no link is up.
    pub fn send_peer(&mut self, pool: PoolId, frame: &PeerFrame) -> bool {
        let Some(link) = self.link_to(pool) else { return false };
        self.send_on(link, frame);
        true
    }

    /// Sends a frame to a server; false if no link is up.
    pub fn send_server(&mut self, server: ServerId, frame: &PeerFrame) -> bool {
        let Some(link) = self.link_to_server(server) else { return false };
        self.send_on(link, frame);
        true
    }

    /// Sends a frame on a link.
    pub fn send_on(&mut self, link: LinkId, frame: &PeerFrame) {
        self.out.push_back(Output::PeerFrame { link, frame: frame.encode() });
    }

    /// Answers on a link, unless it has gone meanwhile.
    pub fn answer_on(&mut self, link: LinkId, frame: &PeerFrame) {
        if self.links.contains_key(&link) {
            self.send_on(link, frame);
        }
    }

    /// Sends a frame to every linked server of a pool.
    pub fn tell_pool(&mut self, pool: PoolId, frame: &PeerFrame) {
        let to = self.servers_linked(pool);
        to.into_values().for_each(|link| self.send_on(link, frame));
    }

    /// The linked servers of a pool, each with its youngest link.
    pub fn servers_linked(&self, pool: PoolId) -> BTreeMap<ServerId, LinkId> {
        let serves = |link: &Link| link.pool == pool && !crate::witness::is(self, link.server);
        self.links.iter().filter(|(_, link)| serves(link)).map(|(id, link)| (link.server, *id)).collect()
    }

    /// Whether those are other servers of this pool.
    pub fn is_near(&self, at: Peer) -> bool {
        match at {
            Peer::Pool(pool) => pool == self.pool,
            Peer::Server(server) => self.topology.server(server).is_some_and(|server| server.pool == self.pool),
        }
    }

    /// Whether this server leads its pool's copies of a group.
    pub fn is_led_here(&self, group: GroupId) -> bool {
        self.host.leads(group)
    }

    /// Sends a SIP message where its flow leads: to the shell, or to the partner inside the link.
    pub fn send_sip(&mut self, flow: Flow, message: Bytes) {
        self.traffic.sent(flow.transport, &message);
        if flow.transport != pairline_sip::flow::Transport::Peer {
            let message = crate::admission::told(self, flow, message);
            self.out.push_back(Output::Sip { flow, message });
            return;
        }
        if !self.send_server(peer_server(flow), &PeerFrame::Sip(message)) {
            self.layer.transport_failed(self.now.mono, flow);
        }
    }

    /// The flow that stands for the link to other servers, while it is up and they are heard.
    pub fn peer_flow(&self, at: Peer) -> Option<Flow> {
        self.way_to(at).map(|(_, link)| peer_flow_of(link.pool, link.server))
    }
}

/// The flow that stands for the link to a server; it names the server, not the connection, so that an answer may take a new one.
pub fn peer_flow_of(pool: PoolId, server: ServerId) -> Flow {
    Flow {
        transport: pairline_sip::flow::Transport::Peer,
        listener: u16::MAX,
        remote: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), pool.0),
        connection: u64::from(server.0),
    }
}

/// The server of a peer flow.
pub fn peer_server(flow: Flow) -> ServerId {
    ServerId(u32::try_from(flow.connection).unwrap_or(u32::MAX))
}

/// The pool of a peer flow.
pub fn peer_pool(flow: Flow) -> PoolId {
    PoolId(flow.remote.port())
}
