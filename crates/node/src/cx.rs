//! The capabilities of a task: the node's implementation of the services' `Cx`.
//!
//! Owns how a wait is represented (a numbered result in the task's state). Knows no service.

use crate::core::{Core, LocalGuest, MAX_LOCAL_GUESTS, TicketOwner, WaitResult, peer_pool};
use crate::executor::TaskId;
use crate::io::Output;
use crate::peer::PeerFrame;
use bytes::Bytes;
use pairline_group::io::{Done, HostInput, Now, Proposal, Refusal, Write, WriteClass};
use pairline_group::{GroupId, Key, Kind, PoolId, Position, Record, ServerId, Ticket};
use pairline_services::auth::Opened;
use pairline_services::binding::Binding;
use pairline_services::cx::{Branch, Cx, LocateError, Peer, Place, Reach, TaskEvent};
use pairline_services::push::Wake;
use pairline_services::settings::DeploymentView;
use pairline_services::{metrics::Counter, records};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::target::Rest;
use pairline_sip::uri::Aor;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// How long a change is carried after a group that is just moving (DESIGN §8: parked, bounded, ≤ 3 s).
const PARK_MS: u64 = 3_000;

/// Pause between two tries of a parked change.
const PARK_RETRY_MS: u64 = 40;

/// How often, and in which milliseconds, a copy is looked at that is a moment behind.
const CATCH_UP_TRIES: usize = 50;
const CATCH_UP_PAUSE_MS: u64 = 10;

/// A task's handle on the node.
#[derive(Clone)]
pub struct TaskCx {
    core: Rc<RefCell<Core>>,
    task: TaskId,
}

impl TaskCx {
    /// The handle of a task.
    pub fn new(core: Rc<RefCell<Core>>, task: TaskId) -> TaskCx {
        TaskCx { core, task }
    }

    /// Looks at or changes the node's state; never across an await.
    pub fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        f(&mut self.core.borrow_mut())
    }

    /// Waits for the result of a numbered wait.
    pub async fn wait(&self, wait: u64) -> WaitResult {
        poll_fn(|_| {
            let mut core = self.core.borrow_mut();
            match core.state(self.task).and_then(|state| state.results.remove(&wait)) {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Waits for a time.
    pub async fn sleep(&self, millis: u64) {
        let wait = self.with(|core| {
            let at = core.now.mono + millis;
            core.wait_until(self.task, at)
        });
        self.wait(wait).await;
    }

    /// Starts a wait with a number that something else will end, at the latest after `millis`.
    pub fn start_wait(&self, millis: u64) -> u64 {
        self.with(|core| {
            let at = core.now.mono + millis;
            let wait = core.wait_until(self.task, at);
            core.waits.insert(wait, self.task);
            wait
        })
    }

    /// The same for an answer of another server: it ends as `Elapsed` when the last link to it goes, too.
    pub fn start_peer_wait(&self, server: ServerId, millis: u64) -> u64 {
        let wait = self.start_wait(millis);
        self.with(|core| core.forwarded.insert(wait, (self.task, server)));
        wait
    }

    /// The task's id.
    pub fn task(&self) -> TaskId {
        self.task
    }

    async fn commit_here(&self, group: GroupId, proposal: Proposal) -> Done {
        let limit = self.with(|core| core.topology.policies.limits.commits_in_flight as usize);
        if self.with(|core| core.commit_started.len()) >= limit {
            return Done::Refused(Refusal::Busy);
        }
        let wait = self.with(|core| {
            let wait = core.fresh();
            core.propose(TicketOwner::Task(self.task, wait), group, proposal);
            wait
        });
        match self.wait(wait).await {
            WaitResult::Done(done) => done,
            _ => Done::Refused(Refusal::Busy),
        }
    }

    /// Removes a guest binding wherever it was made: in this pool, in its memory, or in the other pool, which is asked to.
    async fn remove_guest(&self, user: &Aor, id: &[u8; 16]) -> bool {
        let found = self.with(|core| {
            core.local_guests.remove(&(user.as_str().to_owned(), id.to_vec()));
            let home = crate::place::home_of(core, user.as_str()).unwrap_or_default();
            let key = records::guest_key(user.as_str(), home, id);
            let pools = [Some(core.pool), core.partner()].into_iter().flatten();
            let groups = pools.filter_map(|pool| crate::place::guest_group(core, pool, user));
            let found = groups.filter(|group| core.host.get(*group, &key).is_some());
            found.map(|group| (group, key.clone())).collect::<Vec<_>>()
        });
        let mut gone = true;
        for (group, key) in found {
            let proposal = Proposal { writes: vec![Write::Delete { key }], ..Proposal::default() };
            gone &= !matches!(self.commit(group, proposal).await, Done::Refused(_));
        }
        gone
    }

    /// Waits a moment until the copy here, if there is one, has what was committed elsewhere: who changes something through a server
    /// finds it there.
    async fn caught_up(&self, group: GroupId, position: Position) {
        for _ in 0..CATCH_UP_TRIES {
            let behind = |core: &mut Core| core.host.position(group).is_some_and(|here| here < position);
            if !self.with(behind) {
                return;
            }
            self.sleep(CATCH_UP_PAUSE_MS).await;
        }
    }

    /// Waits until another server leads some group, or other servers are heard; at the latest until that time.
    pub async fn leader_changed(&self, until: u64) {
        let wait = self.with(|core| crate::neighbours::wait(core, self.task, until));
        self.wait(wait).await;
        self.with(|core| crate::neighbours::waited(core, wait));
    }

    /// Commits what another pool passed on to this one: here, or at whichever server of this pool leads the group, and nowhere else.
    pub async fn commit_within(&self, group: GroupId, proposal: Proposal) -> Done {
        let until = self.with(|core| core.now.mono + PARK_MS);
        loop {
            let left = self.with(|core| until.saturating_sub(core.now.mono));
            let there = self.with(|core| crate::place::asked_for(core, group));
            let done = match there {
                Some(server) if !self.with(|core| core.host.can_commit(group)) => {
                    self.commit_there(Peer::Server(server), group, proposal.clone(), left.max(1)).await
                }
                _ => self.commit_here(group, proposal.clone()).await,
            };
            match &done {
                Done::Refused(Refusal::NotLeader(_) | Refusal::NoSuchGroup) if left > 0 => {
                    match there {
                        Some(_) => self.sleep(PARK_RETRY_MS).await,
                        None => self.leader_changed(until).await,
                    };
                }
                _ => return done,
            }
        }
    }

    async fn commit_there(&self, at: Peer, group: GroupId, proposal: Proposal, patience: u64) -> Done {
        let Some((link, to)) = self.with(|core| core.way_to(at)) else {
            return Done::Refused(Refusal::NotNow("the link to the serving server is down".into()));
        };
        let wait = self.start_peer_wait(to.server, patience);
        self.with(|core| core.send_on(link, &PeerFrame::Propose { ticket: wait, group, proposal }));
        match self.wait(wait).await {
            WaitResult::Done(done) => done,
            _ => Done::Refused(Refusal::OutcomeUnknown),
        }
    }
}

/// Who else may serve a group: the server of this pool that leads it; or the other pool, the one that serves it as far as is known
/// here, else the partner.
fn elsewhere(core: &Core, group: GroupId) -> Option<Peer> {
    if let Place::Elsewhere { at, .. } = crate::place::of_group(core, group) {
        return Some(at);
    }
    let pool = core.host.serving(group).map(|(pool, _)| pool).filter(|pool| *pool != core.pool);
    pool.or_else(|| core.partner()).map(Peer::Pool)
}

/// Who serves a group of which there is no copy here, as a server of this pool says that has one.
fn told_of(core: &Core, refusal: &Refusal) -> Option<Peer> {
    match refusal {
        Refusal::NotActive(_, pool) if *pool != core.pool => Some(Peer::Pool(*pool)),
        _ => None,
    }
}

/// Whether another server may answer what was refused here.
fn moved(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotActive(..)
            | Refusal::HandingOver(_)
            | Refusal::Unconfirmed
            | Refusal::NoSuchGroup
            | Refusal::NotLeader(_)
    )
}

impl Cx for TaskCx {
    #[cfg(feature = "planted")]
    fn is_planted(&self, what: pairline_group::planted::Planted) -> bool {
        self.core.borrow().config.planted == Some(what)
    }

    fn now(&self) -> Now {
        self.core.borrow().now
    }

    fn random(&self) -> u64 {
        self.core.borrow_mut().rng.next_u64()
    }

    fn view(&self) -> Rc<DeploymentView> {
        Rc::clone(&self.core.borrow().view)
    }

    fn place(&self, user: &Aor) -> Place {
        crate::place::of_user(&self.core.borrow(), user)
    }

    async fn placed(&self, user: &Aor) -> Place {
        let until = self.with(|core| core.now.mono + PARK_MS);
        let waits = |core: &Core| crate::place::is_being_chosen(core, user) || crate::knows::waits(core, user);
        while self.with(|core| core.now.mono < until && waits(core)) {
            self.leader_changed(until).await;
        }
        let arrival = self.with(|core| core.state(self.task).and_then(|state| state.flow));
        while self.with(|core| core.now.mono < until && crate::place::would_go_back(core, arrival, user)) {
            self.sleep(PARK_RETRY_MS).await;
        }
        self.place(user)
    }

    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)> {
        crate::stand_ins::of(&self.core.borrow(), user)
    }

    async fn read(&self, group: GroupId, key: &Key) -> Option<Record> {
        if self.with(|core| crate::reads::is_here(core, group)) {
            return self.glance(group, key);
        }
        let found = crate::reads::records(self, group, &key.owner, Some(key.kind)).await;
        found.into_iter().find(|(other, _)| other == key).map(|(_, record)| record)
    }

    fn glance(&self, group: GroupId, key: &Key) -> Option<Record> {
        self.core.borrow().host.get(group, key).cloned()
    }

    async fn read_all(&self, group: GroupId, owner: &str, kind: Option<Kind>) -> Vec<(Key, Record)> {
        match self.with(|core| crate::reads::is_here(core, group)) {
            true => self.with(|core| crate::reads::local(core, group, owner, kind)),
            false => crate::reads::records(self, group, owner, kind).await,
        }
    }

    async fn commit(&self, group: GroupId, proposal: Proposal) -> Done {
        let until = self.with(|core| core.now.mono + PARK_MS);
        let mut hint = None;
        loop {
            let done = self.commit_here(group, proposal.clone()).await;
            let Done::Refused(refusal) = &done else { return done };
            if !moved(refusal) {
                return done;
            }
            // All tries together stay within the bound, the last one's wait included.
            let left = self.with(|core| until.saturating_sub(core.now.mono));
            let way = |at: &Peer| self.with(|core| core.way_to(*at).is_some());
            let there = hint.take().filter(way).or_else(|| self.with(|core| elsewhere(core, group)).filter(way));
            let Some(at) = there else {
                let waits = match refusal {
                    Refusal::NotLeader(_) => true,
                    Refusal::NoSuchGroup => self.with(|core| group.pool == core.pool),
                    _ => false,
                };
                if left > 0 && waits {
                    self.leader_changed(until).await;
                    continue;
                }
                return done;
            };
            if left == 0 {
                return done;
            }
            let done = self.commit_there(at, group, proposal.clone(), left).await;
            match &done {
                Done::Refused(refusal) if moved(refusal) && self.with(|core| core.now.mono < until) => {
                    hint = self.with(|core| told_of(core, refusal)).filter(|other| *other != at);
                    if hint.is_none() {
                        self.sleep(PARK_RETRY_MS).await;
                    }
                }
                Done::Committed(position) | Done::Duplicate(position)
                    if group.is_cms() || self.with(|core| crate::place::is_for_this_pool(core, group)) =>
                {
                    // Of the management store every pool has a copy: who was added through this one is known to it at once.
                    self.caught_up(group, *position).await;
                    return done;
                }
                _ => return done,
            }
        }
    }

    fn guests(&self, user: &Aor) -> Vec<Binding> {
        crate::place::guests(&self.core.borrow(), user)
    }

    fn room_for_bindings(&self) -> bool {
        crate::place::room_for_bindings(&self.core.borrow())
    }

    async fn put_guest(&self, user: &Aor, binding: Binding, lives_ms: u64) -> bool {
        let item = binding.id;
        if lives_ms == 0 {
            return self.remove_guest(user, &item).await;
        }
        // Where all servers of the pool know of it, if any of them can write it down, or will in a moment.
        let group = self.with(|core| {
            let group = crate::place::guest_group(core, core.pool, user)?;
            let near = matches!(crate::place::of_group(core, group), Place::Elsewhere { at, .. } if core.is_near(at));
            let writable = core.host.can_commit(group) || near || crate::place::is_choosing(core, group);
            writable.then_some(group)
        });
        if let Some(group) = group {
            let home = self.with(|core| crate::place::home_of(core, user.as_str())).unwrap_or_default();
            let key = records::guest_key(user.as_str(), home, &item);
            let write = Write::Put { key, class: WriteClass::Soft { lives: lives_ms }, value: binding.encode() };
            let proposal = Proposal { writes: vec![write], ..Proposal::default() };
            match self.commit_within(group, proposal).await {
                // Nobody leads after all: this server alone knows of it, which is better than nothing.
                Done::Refused(Refusal::NotLeader(_)) => {}
                done => return !matches!(done, Done::Refused(_)),
            }
        }
        self.with(|core| {
            let key = (user.as_str().to_owned(), item.to_vec());
            let until = core.now.mono + lives_ms;
            if core.local_guests.len() >= MAX_LOCAL_GUESTS && !core.local_guests.contains_key(&key) {
                return false;
            }
            core.local_guests.insert(key, LocalGuest { binding, until });
            crate::place::wake_watchers(core, user.as_str());
            true
        })
    }

    fn respond(&self, status: u16, reply: Bytes) {
        self.with(|core| {
            let now = core.now.mono;
            let Some(tx) = core.state(self.task).and_then(|state| state.server_tx) else { return };
            if core.layer.respond(now, tx, status, reply).is_err() {
                core.count("sip_responses_without_transaction");
            } else if status >= 200 {
                core.answered(self.task);
            }
        });
    }

    fn respond_once(&self, _status: u16, reply: Bytes) {
        self.with(|core| {
            let Some(tx) = core.state(self.task).and_then(|state| state.server_tx) else { return };
            if core.layer.respond_once(tx, reply).is_err() {
                core.count("sip_responses_without_transaction");
            } else {
                core.answered(self.task);
            }
        });
    }

    fn forward(&self, flow: Flow, request: Bytes) -> Branch {
        self.with(|core| {
            let branch = Branch(core.fresh());
            // What is well-formed stays so in an edit, and is not read again but where more than its top Via is needed.
            let made = match crate::admission::offers(core, flow, &request) {
                true => None,
                false => core.layer.request_made(core.now.mono, flow, request.clone()),
            };
            match made {
                Some(tx) => core.sends(self.task, branch, tx),
                None => crate::sip_side::send_parsed(core, self.task, branch, flow, request),
            }
            branch
        })
    }

    fn cancel(&self, branch: Branch, reason: Option<&str>) {
        self.with(|core| {
            let now = core.now.mono;
            let tx = core
                .state(self.task)
                .and_then(|state| state.branches.iter().find(|(b, _)| *b == branch).map(|(_, tx)| *tx));
            match (tx, reason) {
                (Some(tx), Some(reason)) => core.layer.cancel_because(now, tx, reason),
                (Some(tx), None) => core.layer.cancel(now, tx),
                (None, _) => {}
            }
        });
    }

    fn send_stateless(&self, flow: Flow, message: Bytes) {
        self.with(|core| core.send_sip(flow, message));
    }

    async fn event(&self) -> TaskEvent {
        poll_fn(|_| {
            let mut core = self.core.borrow_mut();
            match core.state(self.task).and_then(|state| state.events.pop_front()) {
                Some(event) => Poll::Ready(event),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn set_deadline(&self, at_mono: Option<u64>) {
        self.with(|core| {
            let Some(state) = core.state(self.task) else { return };
            let before = std::mem::replace(&mut state.deadline, at_mono);
            if let Some(at) = before {
                core.deadlines.remove(&(at, self.task));
            }
            if let Some(at) = at_mono {
                core.deadlines.insert((at, self.task));
            }
        });
    }

    fn watch_bindings(&self, user: &Aor) {
        self.with(|core| {
            let name = user.as_str().to_owned();
            core.watchers.entry(name.clone()).or_default().push(self.task);
            if let Some(state) = core.state(self.task) {
                state.watching.push(name);
            }
        });
    }

    fn reach(&self, binding: &Binding) -> Reach {
        crate::place::reach(&self.core.borrow(), binding)
    }

    fn peer_flow(&self, at: Peer) -> Option<Flow> {
        self.core.borrow().peer_flow(at)
    }

    fn proven_names(&self, flow: Flow) -> Rc<[String]> {
        self.core.borrow().verified.get(&flow.connection).cloned().unwrap_or_default()
    }

    async fn locate(&self, uri: &[u8]) -> Result<Vec<Flow>, LocateError> {
        if let Some(found) = crate::place::literal_target(&self.view(), uri) {
            return found;
        }
        let wait = self.start_wait(2_500);
        self.with(|core| core.out.push_back(Output::Resolve { id: wait, uri: Bytes::copy_from_slice(uri) }));
        match self.wait(wait).await {
            WaitResult::Located(result) => result,
            _ => Err(LocateError::Timeout),
        }
    }

    fn rest(&self, target: Flow, why: Rest, ms: u64) {
        self.with(|core| {
            let now = core.now.mono;
            core.resting.put(now, target.into(), why, ms);
        });
    }

    fn rests(&self, target: Flow) -> Option<Rest> {
        self.with(|core| core.resting.of(core.now.mono, &target.into()))
    }

    fn nonce_count(&self, nonce_id: u128, nc: u32) -> bool {
        self.with(|core| core.nonces.accept(nonce_id, nc) == pairline_sip::auth::NcVerdict::Ok)
    }

    fn with_opened<R>(&self, f: impl FnOnce(&mut Opened) -> R) -> R {
        self.with(|core| f(&mut core.quicks.opened))
    }

    fn wake(&self, wake: Wake) {
        self.with(|core| {
            if core.woken.is_due(&wake, core.now.mono) {
                core.out.push_back(Output::Wake(wake));
            }
        });
    }

    fn watching<R>(&self, f: impl FnOnce(&mut pairline_services::watching::Table) -> R) -> R {
        f(&mut self.core.borrow_mut().watching)
    }

    fn count(&self, what: Counter) {
        let mut core = self.core.borrow_mut();
        core.count(what.name());
        if matches!(what, Counter::AuthAccepted | Counter::AuthFailed) {
            crate::admission::weighed(&mut core, self.task, what == Counter::AuthAccepted);
        }
        if what == Counter::EmergencyUnrouted {
            let text = "an emergency call was refused: the policy names nowhere to send it (policies.emergency.route)";
            core.event(crate::event::Level::Error, "emergency-unrouted", text);
        }
    }
}

/// Asks the own host for something with a ticket, for a task.
pub async fn ask_host(cx: &TaskCx, make: impl FnOnce(Ticket) -> HostInput) -> Done {
    let wait = cx.with(|core| {
        let wait = core.fresh();
        let ticket = Ticket(core.fresh());
        core.tickets.insert(ticket, TicketOwner::Task(cx.task(), wait));
        let now = core.now;
        core.host.handle(now, make(ticket));
        wait
    });
    match cx.wait(wait).await {
        WaitResult::Done(done) => done,
        _ => Done::Refused(Refusal::Busy),
    }
}

/// Whether a flow leads to another pool.
pub fn is_peer(flow: &Flow) -> Option<PoolId> {
    (flow.transport == Transport::Peer).then(|| peer_pool(*flow))
}
