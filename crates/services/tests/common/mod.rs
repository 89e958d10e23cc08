//! A capability trait in memory: groups as maps, branches as lists, time by hand.
#![allow(dead_code, clippy::unwrap_used)]

pub mod glance;
pub mod sip;

use bytes::Bytes;
use pairline_group::io::{Done, Now, Proposal, Refusal, Write, WriteClass};
use pairline_group::{Class, Epoch, GroupId, Key, Kind, PoolId, Position, Record, ServerId};
use pairline_services::binding::Binding;
use pairline_services::cx::{Branch, Cx, LocateError, Peer, Place, Reach, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_services::records::{Credential, credential_key};
use pairline_services::settings::*;
use pairline_sip::auth::{Algorithm, NonceKeys};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;
use pairline_sip::target::{Rest, Resting};
use pairline_sip::uri::{Aor, Uri};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub const EAST: PoolId = PoolId(1);
pub const WEST: PoolId = PoolId(2);
pub const WALL: u64 = 1_700_000_000_000;

/// What the fake keeps.
pub struct World {
    pub mono: u64,
    pub random: u64,
    pub view: Rc<DeploymentView>,
    pub places: BTreeMap<String, Place>,
    pub records: BTreeMap<(GroupId, Key), Record>,
    pub seq: u64,
    pub ops: BTreeSet<(GroupId, u128, u64)>,
    pub commits: Vec<(GroupId, Proposal)>,
    /// Answers that the next commits get instead of being applied.
    pub refusals: VecDeque<Refusal>,
    pub guests: BTreeMap<String, Vec<Binding>>,
    pub guests_full: bool,
    pub bindings_full: bool,
    pub responses: Vec<(u16, Message)>,
    /// How many of the answers are not kept.
    pub once: usize,
    pub sent: Vec<(Branch, Flow, Message)>,
    pub cancelled: Vec<Branch>,
    /// Reasons of those CANCELs.
    pub reasons: Vec<Option<String>>,
    pub stateless: Vec<(Flow, Bytes)>,
    pub events: VecDeque<TaskEvent>,
    pub deadline: Option<u64>,
    pub watched: BTreeSet<String>,
    pub stranded: BTreeSet<u64>,
    pub peer_up: bool,
    /// That of the link to other servers.
    pub peer_connection: u64,
    /// Flows of this pool's servers count as its own.
    pub own_pool: PoolId,
    pub names: BTreeMap<Vec<u8>, Vec<Flow>>,
    pub resting: Resting,
    /// Names that the other ends of connections have proven.
    pub proven: BTreeMap<u64, Rc<[String]>>,
    pub nonces: BTreeSet<(u128, u32)>,
    pub woken: Vec<pairline_services::push::Wake>,
    pub watching: pairline_services::watching::Table,
    pub counters: BTreeMap<Counter, u64>,
    /// HA1s that the one-step decision has opened.
    pub opened: pairline_services::auth::Opened,
    /// Every await is pending once before it goes on.
    pub slow: bool,
}

/// The fake capability.
#[derive(Clone)]
pub struct Fake(pub Rc<RefCell<World>>);

pub fn flow(transport: Transport, remote: &str, connection: u64) -> Flow {
    let listener = match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        _ => 9,
    };
    Flow { transport, listener, remote: remote.parse().unwrap(), connection }
}

pub fn udp(remote: &str) -> Flow {
    flow(Transport::Udp, remote, 0)
}

pub fn peer_flow() -> Flow {
    flow(Transport::Peer, "127.0.2.1:7000", 77)
}

pub fn aor(text: &str) -> Aor {
    Aor::parse(text).unwrap()
}

pub fn view() -> DeploymentView {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let listener = |id, transport, record_route: &str| Listener {
        id,
        transport,
        addr: address("127.0.1.1:5060"),
        via: "127.0.1.1:5060".into(),
        record_route: record_route.into(),
    };
    DeploymentView {
        domains: vec![Domain { name: "pairline.test".into(), realm: "pairline.test".into() }],
        default_domain: "pairline.test".into(),
        own: OwnNames {
            pool: EAST,
            server: ServerId(11),
            boot: 1,
            server_name: "fe1.east.pairline.test".into(),
            pool_name: "east.pairline.test".into(),
            addresses: vec![address("127.0.1.1:5060")],
        },
        partner: Some(PoolNames {
            pool: WEST,
            names: vec!["west.pairline.test".into()],
            addresses: vec![address("127.0.2.1:5060")],
        }),
        others: vec![],
        pools: vec![
            PoolInfo { id: EAST, name: "east".into(), groups: 4 },
            PoolInfo { id: WEST, name: "west".into(), groups: 4 },
        ],
        listeners: vec![
            listener(1, Transport::Udp, "127.0.1.1:5060"),
            listener(2, Transport::Tcp, "127.0.1.1:5060;transport=tcp"),
            listener(9, Transport::Peer, "127.0.1.1:5060"),
        ],
        registrar: RegistrarPolicy { max_bindings: 3, ..RegistrarPolicy::default() },
        proxy: ProxyPolicy::default(),
        trust: TrustPolicy::default(),
        push: Default::default(),
        max_contacts: 3,
        auth_rules: vec![AuthRule { listener: None, user_agent: "baresip".into(), algorithm: Algorithm::Md5 }],
        stored_algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
        nonce_keys: NonceKeys::new([7; 32], None),
        nonce_life_ms: 60_000,
        sealing_key: Secret([9; 32]),
    }
}

impl Fake {
    /// A world with the users alice and bob at east, carol at west; all passwords are `secret`.
    pub fn new() -> Fake {
        let fake = Fake(Rc::new(RefCell::new(World {
            mono: 1_000,
            random: 0,
            view: Rc::new(view()),
            places: BTreeMap::new(),
            records: BTreeMap::new(),
            seq: 0,
            ops: BTreeSet::new(),
            commits: Vec::new(),
            refusals: VecDeque::new(),
            guests: BTreeMap::new(),
            guests_full: false,
            bindings_full: false,
            responses: Vec::new(),
            once: 0,
            sent: Vec::new(),
            cancelled: Vec::new(),
            reasons: Vec::new(),
            stateless: Vec::new(),
            events: VecDeque::new(),
            deadline: None,
            watched: BTreeSet::new(),
            stranded: BTreeSet::new(),
            peer_up: true,
            peer_connection: peer_flow().connection,
            own_pool: EAST,
            names: BTreeMap::new(),
            resting: Resting::default(),
            proven: BTreeMap::new(),
            nonces: BTreeSet::new(),
            woken: Vec::new(),
            watching: Default::default(),
            counters: BTreeMap::new(),
            opened: Default::default(),
            slow: false,
        })));
        for name in ["alice", "bob", "dave"] {
            let user = aor(&format!("sip:{name}@pairline.test"));
            let group = group_of(EAST, &user);
            fake.set_place(&user, Place::Here { group });
            fake.set_password(&user, group);
        }
        let carol = aor("sip:carol@pairline.test");
        fake.set_place(&carol, Place::Elsewhere { group: Some(group_of(WEST, &carol)), at: Peer::Pool(WEST) });
        fake.set_password(&carol, group_of(WEST, &carol));
        fake
    }

    pub fn edit_view(&self, change: impl FnOnce(&mut DeploymentView)) {
        let mut world = self.0.borrow_mut();
        let mut view = (*world.view).clone();
        change(&mut view);
        world.view = Rc::new(view);
    }

    pub fn set_place(&self, user: &Aor, place: Place) {
        self.0.borrow_mut().places.insert(user.as_str().to_owned(), place);
    }

    pub fn set_password(&self, user: &Aor, group: GroupId) {
        let algorithms = [Algorithm::Sha256, Algorithm::Md5];
        let credential = Credential::from_password(&algorithms, user.user(), user.domain(), "secret");
        let value = credential.seal(&self.0.borrow().view.sealing_key, user.as_str(), 1);
        self.put(group, credential_key(user.as_str()), Class::Durable, value);
    }

    pub fn put(&self, group: GroupId, key: Key, class: Class, value: Bytes) {
        let mut world = self.0.borrow_mut();
        world.seq += 1;
        let version = Position { epoch: Epoch::default(), seq: world.seq };
        world.records.insert((group, key), Record { version, class, value });
    }

    pub fn count_of(&self, counter: Counter) -> u64 {
        self.0.borrow().counters.get(&counter).copied().unwrap_or(0)
    }

    pub fn bindings(&self, user: &str) -> Vec<Binding> {
        let world = self.0.borrow();
        let of_user = world
            .records
            .iter()
            .filter(|((_, key), _)| &*key.owner == user && key.kind == pairline_services::records::BINDING);
        of_user.map(|(_, record)| Binding::from_record(record).unwrap()).collect()
    }

    fn write(&self, group: GroupId, proposal: &Proposal) -> Done {
        let mut world = self.0.borrow_mut();
        if let Some(op) = proposal.op
            && !world.ops.insert((group, op.session, op.counter))
        {
            return Done::Duplicate(Position::default());
        }
        for (key, expected) in &proposal.reads {
            let found = world.records.get(&(group, key.clone())).map(|r| r.version);
            if found != *expected {
                return Done::Refused(Refusal::Conflict(key.clone()));
            }
        }
        world.seq += 1;
        let version = Position { epoch: Epoch::default(), seq: world.seq };
        let wall = WALL + world.mono;
        for write in &proposal.writes {
            match write {
                Write::Put { key, class, value } => {
                    let class = match class {
                        WriteClass::Durable => Class::Durable,
                        WriteClass::Soft { lives } => Class::Soft { expires: wall + lives },
                    };
                    world.records.insert((group, key.clone()), Record { version, class, value: value.clone() });
                }
                Write::Delete { key } => {
                    world.records.remove(&(group, key.clone()));
                }
            }
        }
        Done::Committed(version)
    }

    async fn pause(&self) {
        if !self.0.borrow().slow {
            return;
        }
        let mut first = true;
        poll_fn(move |_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
    }
}

pub fn group_of(pool: PoolId, user: &Aor) -> GroupId {
    GroupId::of_user(pool, 4, user.as_str())
}

/// The next name in alphabetical order, round and round.
pub fn stand_in(places: &BTreeMap<String, Place>, user: &Aor) -> Option<(Aor, Place)> {
    let (name, place) = places.range(user.as_str().to_owned()..).next().or_else(|| places.first_key_value())?;
    (name != user.as_str()).then(|| (aor(name), place.clone()))
}

impl Cx for Fake {
    fn now(&self) -> Now {
        let mono = self.0.borrow().mono;
        Now { mono, wall: WALL + mono }
    }

    fn random(&self) -> u64 {
        let mut world = self.0.borrow_mut();
        world.random += 1;
        world.random
    }

    fn view(&self) -> Rc<DeploymentView> {
        Rc::clone(&self.0.borrow().view)
    }

    fn place(&self, user: &Aor) -> Place {
        self.0.borrow().places.get(user.as_str()).cloned().unwrap_or(Place::NoSuchUser)
    }

    async fn placed(&self, user: &Aor) -> Place {
        self.place(user)
    }

    fn stand_in(&self, user: &Aor) -> Option<(Aor, Place)> {
        stand_in(&self.0.borrow().places, user)
    }

    async fn read(&self, group: GroupId, key: &Key) -> Option<Record> {
        self.pause().await;
        self.glance(group, key)
    }

    fn glance(&self, group: GroupId, key: &Key) -> Option<Record> {
        self.0.borrow().records.get(&(group, key.clone())).cloned()
    }

    async fn read_all(&self, group: GroupId, owner: &str, kind: Option<Kind>) -> Vec<(Key, Record)> {
        self.pause().await;
        let world = self.0.borrow();
        let of_owner = world
            .records
            .iter()
            .filter(|((g, key), _)| *g == group && &*key.owner == owner && kind.is_none_or(|k| key.kind == k));
        of_owner.map(|((_, key), record)| (key.clone(), record.clone())).collect()
    }

    async fn commit(&self, group: GroupId, proposal: Proposal) -> Done {
        self.pause().await;
        self.0.borrow_mut().commits.push((group, proposal.clone()));
        let refusal = self.0.borrow_mut().refusals.pop_front();
        let done = match refusal {
            Some(refusal) => Done::Refused(refusal),
            None => self.write(group, &proposal),
        };
        self.pause().await;
        done
    }

    fn guests(&self, user: &Aor) -> Vec<Binding> {
        self.0.borrow().guests.get(user.as_str()).cloned().unwrap_or_default()
    }

    fn room_for_bindings(&self) -> bool {
        !self.0.borrow().bindings_full
    }

    async fn put_guest(&self, user: &Aor, binding: Binding, lives_ms: u64) -> bool {
        self.pause().await;
        let mut world = self.0.borrow_mut();
        if world.guests_full {
            return false;
        }
        let guests = world.guests.entry(user.as_str().to_owned()).or_default();
        guests.retain(|g| g.id != binding.id);
        if lives_ms > 0 {
            guests.push(binding);
        }
        true
    }

    fn respond(&self, status: u16, reply: Bytes) {
        let message = Message::parse(reply).unwrap();
        assert_eq!(message.status(), Some(status));
        self.0.borrow_mut().responses.push((status, message));
    }

    fn respond_once(&self, status: u16, reply: Bytes) {
        self.respond(status, reply);
        self.0.borrow_mut().once += 1;
    }

    fn forward(&self, flow: Flow, request: Bytes) -> Branch {
        let message = Message::parse(request).unwrap();
        let mut world = self.0.borrow_mut();
        let branch = Branch(world.sent.len() as u64 + 1);
        world.sent.push((branch, flow, message));
        branch
    }

    fn cancel(&self, branch: Branch, reason: Option<&str>) {
        let mut world = self.0.borrow_mut();
        world.cancelled.push(branch);
        world.reasons.push(reason.map(str::to_owned));
    }

    fn send_stateless(&self, flow: Flow, message: Bytes) {
        self.0.borrow_mut().stateless.push((flow, message));
    }

    async fn event(&self) -> TaskEvent {
        poll_fn(|_| match self.0.borrow_mut().events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        })
        .await
    }

    fn set_deadline(&self, at_mono: Option<u64>) {
        self.0.borrow_mut().deadline = at_mono;
    }

    fn watch_bindings(&self, user: &Aor) {
        self.0.borrow_mut().watched.insert(user.as_str().to_owned());
    }

    fn reach(&self, binding: &Binding) -> Reach {
        let world = self.0.borrow();
        if world.stranded.contains(&binding.flow.flow.connection) {
            Reach::Stranded
        } else if binding.flow.pool != world.own_pool {
            if world.peer_up { Reach::ThroughPeer } else { Reach::Stranded }
        } else {
            Reach::Open
        }
    }

    fn peer_flow(&self, _: Peer) -> Option<Flow> {
        let fake = self.0.borrow();
        fake.peer_up.then(|| Flow { connection: fake.peer_connection, ..peer_flow() })
    }

    fn proven_names(&self, flow: Flow) -> Rc<[String]> {
        self.0.borrow().proven.get(&flow.connection).cloned().unwrap_or_default()
    }

    async fn locate(&self, uri: &[u8]) -> Result<Vec<Flow>, LocateError> {
        let parsed = Uri::parse(uri).map_err(|_| LocateError::NotFound)?;
        if let pairline_sip::uri::Host::Ip(ip) = parsed.host {
            let tcp = parsed.param("transport").is_some_and(|t| t.eq_ignore_ascii_case(b"tcp"));
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            let remote = SocketAddr::new(ip, parsed.port.unwrap_or(5060));
            return Ok(vec![Flow { transport, listener: 0, remote, connection: 0 }]);
        }
        self.pause().await;
        self.0.borrow().names.get(uri).cloned().ok_or(LocateError::NotFound)
    }

    fn rest(&self, target: Flow, why: Rest, ms: u64) {
        let mut world = self.0.borrow_mut();
        let now = world.mono;
        world.resting.put(now, target.into(), why, ms);
    }

    fn rests(&self, target: Flow) -> Option<Rest> {
        let world = self.0.borrow();
        world.resting.of(world.mono, &target.into())
    }

    fn nonce_count(&self, nonce_id: u128, nc: u32) -> bool {
        self.0.borrow_mut().nonces.insert((nonce_id, nc))
    }

    fn with_opened<R>(&self, f: impl FnOnce(&mut pairline_services::auth::Opened) -> R) -> R {
        f(&mut self.0.borrow_mut().opened)
    }

    fn wake(&self, wake: pairline_services::push::Wake) {
        self.0.borrow_mut().woken.push(wake);
    }

    fn watching<R>(&self, f: impl FnOnce(&mut pairline_services::watching::Table) -> R) -> R {
        f(&mut self.0.borrow_mut().watching)
    }

    fn count(&self, what: Counter) {
        *self.0.borrow_mut().counters.entry(what).or_default() += 1;
    }
}

/// A running task.
pub struct Task {
    pub fake: Fake,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Task {
    /// Starts handling a request.
    pub fn start(fake: &Fake, request: Message, flow: Flow) -> Task {
        let foreseen = glance::foresee(fake, &request, flow);
        let future = pairline_services::dispatch::handle(fake.clone(), request, flow);
        let mut task = Task { fake: fake.clone(), future: Some(Box::pin(future)) };
        task.poll();
        if let Some(foreseen) = foreseen {
            glance::compare(fake, foreseen);
        }
        task
    }

    /// Starts something else.
    pub fn run(fake: &Fake, future: impl Future<Output = ()> + 'static) -> Task {
        let mut task = Task { fake: fake.clone(), future: Some(Box::pin(future)) };
        task.poll();
        task
    }

    /// Polls once; true while the task runs.
    pub fn poll(&mut self) -> bool {
        if let Some(future) = &mut self.future
            && future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            self.future = None;
        }
        self.future.is_some()
    }

    pub fn is_running(&self) -> bool {
        self.future.is_some()
    }

    pub fn deliver(&mut self, event: TaskEvent) {
        self.fake.0.borrow_mut().events.push_back(event);
        self.poll();
    }

    /// Lets time pass; a deadline that is met is delivered.
    pub fn advance(&mut self, ms: u64) {
        let due = {
            let mut world = self.fake.0.borrow_mut();
            world.mono += ms;
            world.deadline.is_some_and(|at| at <= world.mono)
        };
        if due {
            self.deliver(TaskEvent::Deadline);
        }
    }

    /// A response to the n-th forwarded request (from 0), made as a device would.
    pub fn respond(&mut self, index: usize, status: u16, headers: &[(&str, &str)]) {
        let (branch, _, request) = self.fake.0.borrow().sent[index].clone();
        let mut reply = pairline_sip::reply::Reply::to(&request, status);
        let tag = format!("device{index}");
        reply = reply.to_tag(&tag);
        for (name, value) in headers {
            reply = reply.header(name, value);
        }
        let response = Message::parse(reply.build()).unwrap();
        self.deliver(TaskEvent::Response(branch, response));
    }

    pub fn branch(&self, index: usize) -> Branch {
        self.fake.0.borrow().sent[index].0
    }
}

/// Runs a future that never has to wait.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future waits"),
    }
}
