//! One simulated user: signs in and stays so, calls, sends messages, answers what comes.
//!
//! Owns registration and the loop. Calls are in `calls`. A client knows the servers of its home pool, then those of the
//! partner, as from SRV records, and goes to the next when one fails it. On TCP it notices a broken connection and signs in at
//! the next at once, with jitter; on UDP it notices a dead server only when a refresh is not answered.

use super::board::{At, Board, Side, Ticket, What};
use super::calls::Calls;
use super::draft::{Draft, Known, Sender};
use super::wire::{Came, Wire};
use bytes::Bytes;
use pairline_sip::{ClientTx, Layer, Message, Method, Output, Received, Timers, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Transactions of one user at one time.
const TRANSACTIONS: usize = 64;

/// Longest pause between two tries to sign in, in milliseconds.
const LONGEST_PAUSE: u64 = 4_000;

/// Most that a client waits before it tries the next server of the same pool, in milliseconds.
const JITTER: u64 = 200;

/// Expiry that is asked for, in seconds; the server grants less.
const ASKED: u32 = 600;

/// Who a simulated user is.
#[derive(Clone, Debug)]
pub struct Persona {
    /// Its number in the swarm.
    pub number: usize,
    /// Name without domain.
    pub user: String,
    /// Password.
    pub password: String,
    /// SIP domain.
    pub domain: String,
    /// Home pool.
    pub home: Side,
    /// The servers that it knows, in the order in which it tries them; at least one.
    pub targets: Vec<(At, SocketAddr)>,
    /// Names itself by its GRUU inside dialogs (RFC 5627), and repeats a BYE over its next connection: its calls outlive the
    /// connection.
    pub roams: bool,
    /// UDP or TCP.
    pub transport: Transport,
}

impl Persona {
    /// Address of record.
    pub fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }
}

/// What a user is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Call another user and hang up after so many milliseconds.
    Call {
        /// Number in the swarm.
        callee: usize,
        /// Address of record.
        to: String,
        /// How long the call lasts once it is answered.
        hold: u64,
        /// Told how it went.
        done: Option<oneshot::Sender<Result<(), String>>>,
    },
    /// Begin anew, at the first server of the list, as a client that is started again.
    Anew,
    /// Send a message.
    Message {
        /// Number in the swarm.
        callee: usize,
        /// Address of record.
        to: String,
        /// Told how it went.
        done: Option<oneshot::Sender<Result<(), String>>>,
    },
}

/// Why a transaction was opened.
pub enum Purpose {
    /// To sign in.
    Register,
    /// An INVITE of a call.
    Invite(String),
    /// A BYE of a call.
    Bye(String),
    /// A MESSAGE.
    Message(Option<oneshot::Sender<Result<(), String>>>),
}

/// A request on its way.
pub struct Pending {
    /// Its text.
    pub draft: Draft,
    /// Why.
    pub purpose: Purpose,
    /// Challenges answered so far.
    pub challenged: u8,
    /// The stage that it counts for.
    pub ticket: Ticket,
}

/// The user's task.
pub struct Agent {
    /// Who it is.
    pub who: Persona,
    /// Shared counts.
    pub board: Arc<Board>,
    /// Its calls.
    pub calls: Calls,
    layer: Layer,
    wire: Wire,
    /// Which of its servers it uses.
    target: usize,
    gruu: Option<String>,
    pending: BTreeMap<ClientTx, Pending>,
    known: [Option<Known>; 2],
    random: u64,
    connections: u64,
    register: Registration,
}

/// State of signing in.
struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    due: u64,
    failures: u32,
    in_flight: bool,
}

impl Agent {
    /// A user that signs in after `delay` milliseconds.
    pub fn new(who: Persona, board: Arc<Board>, seed: u64, delay: u64) -> Agent {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let register = Registration {
            call_id: format!("reg-{}-{seed:x}", who.user),
            tag: format!("r{seed:x}"),
            cseq: 0,
            due: board.now() + delay,
            failures: 0,
            in_flight: false,
        };
        Agent {
            target: 0,
            gruu: None,
            who,
            board,
            calls: Calls::default(),
            layer: Layer::new(Timers::default(), TRANSACTIONS),
            wire: Wire::None,
            pending: BTreeMap::new(),
            known: [None, None],
            random,
            connections: 0,
            register,
        }
    }

    /// Lives until the orders end.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            self.flush().await;
            let wake = [self.layer.next_timeout(), Some(self.due()), self.calls.next()].into_iter().flatten().min();
            let wake = wake.unwrap_or(u64::MAX).min(self.board.now() + 60_000);
            let sleep = tokio::time::sleep_until(self.board.instant(wake));
            tokio::select! {
                came = self.wire.receive() => match came {
                    Came::Message(bytes, from) => self.received(bytes, from),
                    Came::Closed => self.broken(),
                },
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = sleep => {}
            }
            let now = self.board.now();
            self.layer.on_time(now);
            self.on_time(now).await;
        }
    }

    fn due(&self) -> u64 {
        if self.register.in_flight { u64::MAX } else { self.register.due }
    }

    /// Bits of the user's own generator (xorshift64*).
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn remote(&self) -> SocketAddr {
        self.who.targets.get(self.target).map_or(super::arena::NOWHERE, |(_, address)| *address)
    }

    fn at(&self) -> Option<At> {
        self.who.targets.get(self.target).map(|(at, _)| *at)
    }

    /// The next server of the list is used from now on; whether it is of another pool.
    fn next_target(&mut self) -> bool {
        let before = self.at().map(|at| at.side);
        self.target = (self.target + 1) % self.who.targets.len().max(1);
        self.at().map(|at| at.side) != before
    }

    /// The Contact of its dialogs: it stands for this client wherever it is signed in, if it can.
    pub fn contact(&self) -> String {
        match &self.gruu {
            Some(gruu) => format!("<{gruu}>"),
            None => self.place(),
        }
    }

    /// The Contact under which this client can be reached now.
    fn place(&self) -> String {
        let transport = self.who.transport.uri_param();
        match self.wire.local() {
            Some(local) => format!("<sip:{}@{local};transport={transport}>", self.who.user),
            None => format!("<sip:{}@127.0.0.1:9;transport={transport}>", self.who.user),
        }
    }

    async fn on_time(&mut self, now: u64) {
        if now >= self.due() {
            self.sign_in().await;
        }
        for call in self.calls.due(now) {
            self.hang_up(call);
        }
        for call in self.calls.unanswered(now) {
            self.ended(&call, Err("no final answer".into()));
        }
        for bytes in self.calls.repeat(now) {
            let remote = self.remote();
            self.wire.send(remote, &bytes).await;
        }
    }

    /// Sends a REGISTER, over a new connection if need be.
    async fn sign_in(&mut self) {
        self.register.in_flight = true;
        if !self.wire.is_open() {
            self.connections += 1;
            let opened = match self.who.transport {
                Transport::Udp => Wire::udp().await,
                _ => Wire::tcp(self.remote(), self.connections).await,
            };
            match opened {
                Ok(wire) => self.wire = wire,
                Err(error) => {
                    let ticket = self.board.begin(What::Register, &[self.who.number]);
                    self.board.end(ticket, What::Register, Err(format!("connect: {}", error.kind())));
                    self.retry_elsewhere(0);
                    return;
                }
            }
        }
        self.register.cseq += 1;
        let instance = format!("\"<urn:uuid:00000000-0000-4000-8000-{:012x}>\"", self.who.number);
        let draft = Draft {
            method: Method::Register,
            uri: format!("sip:{}", self.who.domain),
            from: format!("<{}>;tag={}", self.who.aor(), self.register.tag),
            to: format!("<{}>", self.who.aor()),
            call_id: self.register.call_id.clone(),
            cseq: self.register.cseq,
            routes: Vec::new(),
            headers: vec![
                ("Contact", format!("{};+sip.instance={instance}", self.place())),
                ("Expires", ASKED.to_string()),
                ("Supported", if self.who.roams { "path, outbound, gruu" } else { "path, outbound" }.into()),
            ],
            body: None,
        };
        let ticket = self.board.begin(What::Register, &[self.who.number]);
        self.send(Pending { draft, purpose: Purpose::Register, challenged: 0, ticket });
    }

    /// Opens a transaction for a request.
    pub fn send(&mut self, mut pending: Pending) {
        let proxied = usize::from(pending.draft.method != Method::Register);
        let branch = format!("z9hG4bK{:x}{:x}", self.random(), self.random());
        let cnonce = format!("{:x}", self.random());
        let Some(local) = self.wire.local() else {
            self.failed(pending, "no connection".into());
            return;
        };
        let sender = Sender {
            user: &self.who.user,
            password: &self.who.password,
            local,
            transport: self.who.transport.via_token(),
            branch: &branch,
            cnonce: &cnonce,
        };
        let bytes = pending.draft.build(&sender, self.known[proxied].as_mut());
        match Message::parse(bytes) {
            Ok(message) => {
                let flow = self.wire.flow(self.remote());
                if let Purpose::Invite(call) = &pending.purpose {
                    self.calls.sent(call, message.clone());
                }
                let tx = self.layer.request(self.board.now(), flow, message);
                pending.challenged += u8::from(self.known[proxied].is_some());
                self.pending.insert(tx, pending);
            }
            Err(_) => self.failed(pending, "request cannot be built".into()),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Anew => self.anew(),
            Order::Call { callee, to, hold, done } => self.call(callee, to, hold, done),
            Order::Message { callee, to, done } => {
                let call_id = format!("m{:x}{:x}", self.random(), self.random());
                let draft = Draft {
                    method: Method::Message,
                    uri: to.clone(),
                    from: format!("<{}>;tag={:x}", self.who.aor(), self.random()),
                    to: format!("<{to}>"),
                    call_id,
                    cseq: 1,
                    routes: Vec::new(),
                    headers: Vec::new(),
                    body: Some(("text/plain", "drill")),
                };
                let ticket = self.board.begin(What::Message, &[self.who.number, callee]);
                self.send(Pending { draft, purpose: Purpose::Message(done), challenged: 0, ticket });
            }
        }
    }

    fn received(&mut self, bytes: Bytes, from: SocketAddr) {
        let Ok(message) = Message::parse(bytes) else { return };
        let (now, flow) = (self.board.now(), self.wire.flow(from));
        match self.layer.receive(now, flow, message) {
            Received::Request { tx, message } => {
                for (status, reply) in self.answer(&message) {
                    // A transaction that is over needs no answer.
                    let _ = self.layer.respond(now, tx, status, reply);
                }
            }
            Received::Ack { message } => self.calls.acknowledged(&message),
            Received::Response { tx, message } => self.response(tx, &message),
            Received::Cancel { .. } | Received::StrayResponse { .. } | Received::Absorbed | Received::Refused => {}
        }
    }

    fn response(&mut self, tx: ClientTx, message: &Message) {
        let status = message.status().unwrap_or(0);
        if status < 200 {
            return;
        }
        let Some(mut pending) = self.pending.remove(&tx) else {
            // A repeated 2xx to an INVITE: its ACK is due again (RFC 3261 §13.2.2.4).
            if let Some(ack) = self.acknowledge_again(message) {
                self.stateless(ack);
            }
            return;
        };
        if matches!(status, 401 | 407) && pending.challenged < 2 {
            let proxied = usize::from(pending.draft.method != Method::Register);
            self.known[proxied] = Known::of(message);
            if self.known[proxied].is_some() {
                pending.draft.cseq += 1;
                if let Purpose::Register = pending.purpose {
                    self.register.cseq = pending.draft.cseq;
                }
                self.send(pending);
                return;
            }
        }
        if !(200..300).contains(&status) {
            let pause = message
                .header_named("Retry-After")
                .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
            let why = format!("{status} {}", super::draft::text(message.reason()));
            self.failed_after(pending, why, pause.unwrap_or(0));
            return;
        }
        let Pending { purpose, ticket, .. } = pending;
        match purpose {
            Purpose::Register => {
                self.board.end(ticket, What::Register, Ok(()));
                self.signed_in(message);
            }
            Purpose::Message(done) => {
                self.board.end(ticket, What::Message, Ok(()));
                tell(done, Ok(()));
            }
            Purpose::Invite(call) => {
                if let Some(ack) = self.answered(&call, message) {
                    self.stateless(ack);
                }
            }
            Purpose::Bye(call) => self.ended(&call, Ok(())),
        }
    }

    fn signed_in(&mut self, message: &Message) {
        let granted =
            message.contacts().filter_map(|contact| contact.expires()).min().or(message.expires()).unwrap_or(ASKED);
        if let Some(at) = self.at() {
            self.board.signed_in(self.who.number, at, granted);
        }
        let gruu = message.contacts().find_map(|contact| pub_gruu(contact.raw()));
        self.gruu = gruu.filter(|_| self.who.roams);
        // Refreshed after 75 to 90 % of what was granted, so that the swarm does not march in step.
        let share = 75 + self.random() % 16;
        self.register.due = self.board.now() + u64::from(granted) * 10 * share;
        self.register.failures = 0;
        self.register.in_flight = false;
    }

    /// A request that failed for good.
    pub fn failed(&mut self, pending: Pending, why: String) {
        self.failed_after(pending, why, 0);
    }

    fn failed_after(&mut self, pending: Pending, why: String, retry_after: u64) {
        let Pending { purpose, ticket, .. } = pending;
        match purpose {
            Purpose::Register => {
                self.board.end(ticket, What::Register, Err(why));
                self.retry_elsewhere(retry_after);
            }
            Purpose::Message(done) => {
                self.board.end(ticket, What::Message, Err(why.clone()));
                tell(done, Err(why));
            }
            Purpose::Invite(call) => self.ended(&call, Err(why)),
            Purpose::Bye(call) => self.bye_failed(&call, &why),
        }
    }

    /// The next try goes to the next server: of the same pool at once, with a little jitter; of the other pool after a pause that
    /// grows (RFC 5626 §4.5, with a short base).
    fn retry_elsewhere(&mut self, retry_after_seconds: u64) {
        if self.who.transport != Transport::Udp {
            self.wire = Wire::None;
        }
        self.register.in_flight = false;
        if !self.next_target() && retry_after_seconds == 0 {
            self.register.due = self.board.now() + self.random() % JITTER;
            return;
        }
        self.register.failures = (self.register.failures + 1).min(6);
        let most = (250_u64 << self.register.failures).min(LONGEST_PAUSE);
        let pause = (most / 2 + self.random() % (most / 2 + 1)).max((retry_after_seconds * 1_000).min(LONGEST_PAUSE));
        self.register.due = self.board.now() + pause;
    }

    /// The connection is gone: sign in at the next server at once, with a little jitter.
    fn broken(&mut self) {
        let flow = self.wire.flow(self.remote());
        self.wire = Wire::None;
        self.board.lost(self.who.number);
        self.next_target();
        self.register.in_flight = false;
        self.register.due = self.board.now() + self.random() % JITTER;
        self.layer.transport_failed(self.board.now(), flow);
    }

    /// What it was trying is given up, its connection closed.
    fn anew(&mut self) {
        let (registering, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(_, pending)| matches!(pending.purpose, Purpose::Register));
        self.pending = others.into_iter().collect();
        for (_, pending) in registering {
            self.board.end(pending.ticket, What::Register, Err("begun anew".into()));
        }
        if self.who.transport != Transport::Udp {
            self.broken();
        }
        self.target = 0;
        self.register.failures = 0;
        self.register.in_flight = false;
        self.register.due = self.board.now() + self.random() % JITTER;
    }

    fn stateless(&mut self, bytes: Bytes) {
        self.calls.outbox.push(bytes);
    }

    /// Hands everything that is due to the socket.
    async fn flush(&mut self) {
        let remote = self.remote();
        for bytes in std::mem::take(&mut self.calls.outbox) {
            self.wire.send(remote, &bytes).await;
        }
        while let Some(output) = self.layer.poll() {
            match output {
                Output::Transmit { flow, bytes } => {
                    let target = if flow.transport == Transport::Udp { flow.remote } else { remote };
                    if !self.wire.send(target, &bytes).await && self.wire.is_open() {
                        self.broken();
                    }
                }
                Output::Timeout { tx } => self.gave_up(tx, "no answer"),
                Output::TransportError { tx } => self.gave_up(tx, "connection lost"),
                Output::ServerDone { .. } | Output::ClientDone { .. } => {}
            }
        }
    }

    fn gave_up(&mut self, tx: ClientTx, why: &str) {
        let Some(pending) = self.pending.remove(&tx) else { return };
        if matches!(pending.purpose, Purpose::Register) && !self.wire.is_open() {
            // `broken` has chosen the next try already.
            self.board.end(pending.ticket, What::Register, Err(why.to_owned()));
            self.register.in_flight = false;
            return;
        }
        self.failed(pending, why.to_owned());
    }
}

/// The public GRUU in a Contact of a registration's answer.
fn pub_gruu(contact: &[u8]) -> Option<String> {
    let text = super::draft::text(contact);
    let (_, value) = text.split_once("pub-gruu=\"")?;
    Some(value.split_once('"')?.0.to_owned())
}

/// Tells whoever waits.
pub fn tell(done: Option<oneshot::Sender<Result<(), String>>>, result: Result<(), String>) {
    if let Some(done) = done {
        // Whoever asked may have stopped waiting.
        let _ = done.send(result);
    }
}
