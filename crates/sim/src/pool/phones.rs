//! Phones of a pool: they register, send messages and call each other, over datagrams and over streams that one server owns, through
//! any server.
//!
//! Owns the phones' transactions and connections. What a call is stands in `calls`; what must hold of bindings, in `bindings`.

use super::bindings::Bindings;
use super::calls::{self, Call};
use super::clients::USERS;
use super::options::GUEST_EXPIRY_S;
use super::world::{Due, World};
use crate::phones::PASSWORD;
use bytes::Bytes;
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply;
use pairline_sip::request::RequestBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

/// First port of the phones.
const FIRST_PORT: u16 = 20_000;
/// The listener for streams, as its place in the topology.
const STREAM_LISTENER: u16 = 1;
/// Silence after which a phone asks another server.
const PATIENCE_MS: u64 = 4_000;
/// How often one request is sent anew, for credentials or to another server.
const TRIES: u32 = 6;

/// One phone.
#[derive(Clone, Debug)]
pub struct Phone {
    /// Its user's name.
    pub user: String,
    /// Whether it registers over a stream.
    pub stream: bool,
    /// The server that owns its connection, and the connection's number.
    pub connection: Option<(usize, u64)>,
    /// Its registrations.
    pub bindings: Bindings,
    cseq: u32,
    /// What registrar and proxy have challenged it with, and how often it has answered that.
    challenges: [Option<(Vec<u8>, u32)>; 2],
    registering: bool,
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A registration, by its number and with its expiry in seconds.
    Register(usize, u64),
    /// A message by its number, to that phone.
    Message(u64, usize),
    /// A call.
    Invite(usize),
    /// A request inside a call, of its caller or not.
    Inside(usize, bool, Inside),
}

/// A request inside a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// re-INVITE.
    Again,
    /// BYE.
    Bye,
}

/// A request of a phone that has no final answer yet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose.
    pub phone: usize,
    /// What.
    pub what: What,
    /// Through which server.
    pub server: usize,
    bytes: Bytes,
    tries: u32,
    began: u64,
    interval: u64,
    provisional: bool,
    /// The probe that it belongs to: it is not sent through another server.
    pub probe: Option<usize>,
}

/// All phones.
#[derive(Default)]
pub struct Phones {
    /// By number, which is their user's too.
    pub all: Vec<Phone>,
    /// Calls by number.
    pub calls: BTreeMap<usize, Call>,
    asked: BTreeMap<u64, Asked>,
    numbers: u64,
    /// Messages that phones have got.
    got: BTreeSet<u64>,
}

impl Phones {
    /// A number that is used once.
    pub fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// A phone for each user; some over streams.
pub fn set_up(world: &mut World) {
    for number in 0..USERS {
        let phone = Phone {
            user: format!("u{number}"),
            stream: number % 3 == 2,
            connection: None,
            bindings: Bindings::default(),
            cseq: 0,
            challenges: [None, None],
            registering: false,
        };
        world.phones.all.push(phone);
        register(world, number);
    }
}

/// The address of a phone.
pub fn remote(number: usize) -> SocketAddr {
    let port = FIRST_PORT.saturating_add(u16::try_from(number).unwrap_or(0));
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port))
}

/// The Contact of a phone.
pub fn contact(world: &World, number: usize) -> String {
    let (user, remote) = (&world.phones.all[number].user, remote(number));
    let transport = if world.phones.all[number].stream { ";transport=tcp" } else { "" };
    format!("sip:{user}@{remote}{transport}")
}

/// One phone acts.
pub fn act(world: &mut World) {
    let number = usize::try_from(world.rng.below(USERS as u64)).unwrap_or(0);
    let other = (number + 1 + usize::try_from(world.rng.below(USERS as u64 - 1)).unwrap_or(0)) % USERS;
    match world.rng.below(100) {
        0..=39 => register(world, number),
        40..=64 => {
            let message = world.phones.fresh();
            ask(world, number, What::Message(message, other), None, None);
        }
        65..=79 => calls::begin(world, number, other),
        _ => calls::go_on(world),
    }
    let pause = world.options.sip_every_ms;
    let wait = world.rng.between(pause / 2 + 1, pause * 2);
    world.after(wait, Due::Phone);
}

/// A phone registers, if it is not about to.
pub fn register(world: &mut World, number: usize) {
    if std::mem::replace(&mut world.phones.all[number].registering, true) {
        return;
    }
    let expires = *world.rng.pick(&[30, 60, 60]).unwrap_or(&60);
    let now = world.now;
    let which = world.phones.all[number].bindings.sent(now, expires * 1_000);
    ask(world, number, What::Register(which, expires), None, None);
}

/// The server through which a phone sends: the owner of its stream, which it makes if it has none; for datagrams the one that is wished for,
/// or any.
fn way(world: &mut World, number: usize, wish: Option<usize>) -> Option<usize> {
    if !world.phones.all[number].stream {
        return Some(wish.unwrap_or_else(|| world.any_server()));
    }
    if world.phones.all[number].connection.is_none() {
        let up: Vec<usize> = world.members().into_iter().filter(|at| world.servers[*at].node.is_some()).collect();
        let at = world.rng.pick(&up).copied()?;
        let connection = world.phones.fresh() + 1;
        world.phones.all[number].connection = Some((at, connection));
    }
    world.phones.all[number].connection.map(|(at, _)| at)
}

/// The flow of a phone as its server sees it.
fn flow(world: &World, number: usize) -> Flow {
    match world.phones.all[number].connection {
        Some((_, connection)) => {
            Flow { transport: Transport::Tcp, listener: STREAM_LISTENER, remote: remote(number), connection }
        }
        None => Flow::udp(0, remote(number)),
    }
}

/// A phone sends bytes to a server.
pub fn send(world: &mut World, number: usize, server: usize, bytes: Bytes) {
    let stream = world.phones.all[number].stream;
    if !stream && world.rng.below(100) < world.options.loss_percent {
        return;
    }
    let flow = flow(world, number);
    // A stream keeps its order.
    let delay = if stream { 4 } else { world.rng.between(1, 8) };
    world.after(delay, Due::ToServer(server, flow, bytes));
}

/// A phone asks something, through a server that is wished for if it may choose.
pub fn ask(world: &mut World, number: usize, what: What, wish: Option<usize>, probe: Option<usize>) {
    ask_again(world, number, what, wish, (0, probe));
}

fn ask_again(world: &mut World, number: usize, what: What, wish: Option<usize>, (tries, probe): (u32, Option<usize>)) {
    let Some(server) = way(world, number, wish) else {
        return ended(world, number, what, 0, probe);
    };
    let id = world.phones.fresh();
    let Some(bytes) = request(world, number, what, id) else { return };
    let interval = if world.phones.all[number].stream { PATIENCE_MS } else { 500 };
    world.note("phone", &format!("{number} asks {server}: {id} {what:?}"));
    let now = world.now;
    let asked = Asked {
        phone: number,
        what,
        server,
        bytes: bytes.clone(),
        tries,
        began: now,
        interval,
        provisional: false,
        probe,
    };
    world.phones.asked.insert(id, asked);
    send(world, number, server, bytes);
    world.after(interval, Due::Unanswered(id));
}

/// The bytes of a request.
fn request(world: &mut World, number: usize, what: What, id: u64) -> Option<Bytes> {
    let remote = remote(number);
    let own = contact(world, number);
    let transport = if world.phones.all[number].stream { "TCP" } else { "UDP" };
    let via = format!("SIP/2.0/{transport} {remote};branch=z9hG4bKsim{id};rport");
    let phone = &mut world.phones.all[number];
    phone.cseq += 1;
    let cseq = phone.cseq;
    let user = format!("<sip:{}@pairline.test>", phone.user);
    let start = |method: Method, uri: &str| {
        let cseq = format!("{cseq} {}", method.as_str());
        RequestBuilder::new(method, uri).header("Via", &via).header("Max-Forwards", "70").header("CSeq", cseq)
    };
    let built = match what {
        What::Register(which, expires) => start(Method::Register, "sip:pairline.test")
            .header("From", format!("{user};tag=f{number}"))
            .header("To", &user)
            .header("Call-ID", format!("phone-{number}"))
            .header("User-Agent", format!("sim/{which}"))
            .header("Contact", format!("<{own}>;expires={expires}")),
        What::Message(message, to) => start(Method::Message, &format!("sip:u{to}@pairline.test"))
            .header("From", format!("{user};tag=m{message}"))
            .header("To", format!("<sip:u{to}@pairline.test>"))
            .header("Call-ID", format!("message-{message}"))
            .body("text/plain", message.to_string()),
        What::Invite(call) => {
            let call = world.phones.calls.get(&call)?;
            start(Method::Invite, &format!("sip:u{}@pairline.test", call.callee))
                .header("From", format!("{user};tag={}", call.from_tag))
                .header("To", format!("<sip:u{}@pairline.test>", call.callee))
                .header("Call-ID", &call.id)
                .header("Contact", format!("<{own}>"))
        }
        What::Inside(call, by_caller, inside) => {
            let call = world.phones.calls.get(&call)?;
            let method = if inside == Inside::Bye { Method::Bye } else { Method::Invite };
            call.inside(start(method, call.target(by_caller)), by_caller).header("Contact", format!("<{own}>"))
        }
    };
    Some(with_credentials(&mut world.phones.all[number], what, built).build())
}

/// Adds credentials, if the phone knows a challenge.
fn with_credentials(phone: &mut Phone, what: What, request: RequestBuilder) -> RequestBuilder {
    let (at, header, method, uri) = match what {
        What::Register(..) => (0, "Authorization", "REGISTER", "sip:pairline.test".to_owned()),
        What::Message(_, to) => (1, "Proxy-Authorization", "MESSAGE", format!("sip:u{to}@pairline.test")),
        What::Invite(_) => (1, "Proxy-Authorization", "INVITE", "sip:pairline.test".to_owned()),
        What::Inside(..) => return request,
    };
    let user = phone.user.clone();
    let Some((challenge, count)) = &mut phone.challenges[at] else { return request };
    let Ok(challenge) = Challenge::parse(challenge) else { return request };
    *count += 1;
    let line = answer(&challenge, &user, PASSWORD, method, &uri, "cn", *count);
    request.header(header, line)
}

/// A phone looks at a request that has no final answer.
pub fn unanswered(world: &mut World, id: u64) {
    let now = world.now;
    let Some(asked) = world.phones.asked.get_mut(&id) else { return };
    let (number, server, waited) = (asked.phone, asked.server, now - asked.began);
    let invite = matches!(asked.what, What::Invite(_));
    if waited >= if asked.provisional && invite { 40_000 } else { 36_000 } {
        return give_up(world, id, 0);
    }
    if waited >= PATIENCE_MS && !asked.provisional && asked.probe.is_none() {
        if asked.tries >= TRIES {
            return give_up(world, id, 0);
        }
        return elsewhere(world, id);
    }
    asked.interval = (asked.interval * 2).min(4_000);
    let (interval, again) = (asked.interval, (!asked.provisional).then(|| asked.bytes.clone()));
    if let Some(bytes) = again.filter(|_| !world.phones.all[number].stream) {
        send(world, number, server, bytes);
    }
    world.after(interval, Due::Unanswered(id));
}

fn give_up(world: &mut World, id: u64, status: u16) {
    if let Some(asked) = world.phones.asked.remove(&id) {
        ended(world, asked.phone, asked.what, status, asked.probe);
    }
}

/// The same request through another server; a stream is made anew.
fn elsewhere(world: &mut World, id: u64) {
    let Some(asked) = world.phones.asked.remove(&id) else { return };
    let number = asked.phone;
    if let Some((at, _)) = world.phones.all[number].connection {
        let flow = flow(world, number);
        world.after(4, Due::StreamEnds(at, flow));
        hang_up(world, number);
    }
    // A call that may have been heard is not made twice.
    if matches!(asked.what, What::Invite(_)) {
        return ended(world, number, asked.what, 0, asked.probe);
    }
    let next = world.server_after(asked.server);
    ask_again(world, number, asked.what, Some(next), (asked.tries + 1, asked.probe));
}

/// A server takes nothing new: the next one is asked (RFC 3263 §4.3), and a stream is made there.
fn refused(world: &mut World, asked: &Asked) {
    let number = asked.phone;
    let next = world.server_after(asked.server);
    if world.phones.all[number].stream {
        if let Some((at, _)) = world.phones.all[number].connection {
            let flow = flow(world, number);
            world.after(4, Due::StreamEnds(at, flow));
        }
        let connection = world.phones.fresh() + 1;
        let there = world.servers[next].node.is_some().then_some((next, connection));
        world.phones.all[number].connection = there;
        if !matches!(asked.what, What::Register(..)) {
            register(world, number);
        }
    }
    ask_again(world, number, asked.what, Some(next), (asked.tries + 1, asked.probe));
}

/// The connection of a phone is gone: what it asked on it is asked on another.
fn hang_up(world: &mut World, number: usize) {
    world.phones.all[number].connection = None;
    let lost: Vec<u64> =
        world.phones.asked.iter().filter(|(_, asked)| asked.phone == number).map(|(id, _)| *id).collect();
    for id in lost {
        let Some(asked) = world.phones.asked.remove(&id) else { continue };
        if asked.tries >= TRIES || matches!(asked.what, What::Invite(_)) {
            ended(world, number, asked.what, 0, asked.probe);
        } else {
            ask_again(world, number, asked.what, None, (asked.tries + 1, asked.probe));
        }
    }
    register(world, number);
}

/// A phone finds its connection gone.
pub fn lost(world: &mut World, number: usize, connection: u64) {
    if world.phones.all[number].connection.is_some_and(|(_, own)| own == connection) {
        hang_up(world, number);
    }
}

/// A server stopped: those who had a connection to it notice at once, or when it is silent.
pub fn server_stopped(world: &mut World, at: usize, power: bool) {
    for number in 0..world.phones.all.len() {
        if let Some((_, connection)) = world.phones.all[number].connection.filter(|(owner, _)| *owner == at) {
            world.met("a stream client's owner died");
            let notice = if power { world.rng.between(1_000, 5_000) } else { 1 };
            world.after(notice, Due::PhoneLost(number, connection));
        }
    }
}

/// A message of a server for the address of another server: where no link is the way, as inside calls that went to and fro between pools.
fn between_servers(world: &mut World, from: usize, to: Flow, bytes: Bytes) -> bool {
    let has =
        |server: &pairline_topology::model::Server| server.listener.first().is_some_and(|l| l.address == to.remote);
    let Some(at) = world.members.all.iter().position(has) else { return false };
    let own = world.members.all[from].listener.first().map(|listener| listener.address);
    if let Some(own) = own.filter(|_| !world.mesh.is_cut(from, at)) {
        let flow = match to.transport {
            Transport::Udp => Flow::udp(0, own),
            // The connection that was made for it: one for each two servers.
            transport => Flow { transport, listener: STREAM_LISTENER, remote: own, connection: 1 << 40 },
        };
        world.give(at, vec![Input::Sip { flow, message: bytes }]);
    }
    true
}

/// A SIP message of a server for a phone.
pub fn received(world: &mut World, at: usize, to: Flow, bytes: Bytes) {
    if between_servers(world, at, to, bytes.clone()) {
        return;
    }
    let Some(number) = to.remote.port().checked_sub(FIRST_PORT).map(usize::from) else { return };
    if number >= world.phones.all.len() {
        return;
    }
    let own = world.phones.all[number].connection;
    if to.transport != Transport::Udp && own != Some((at, to.connection)) {
        // Nobody listens there, or not any more.
        return world.after(4, Due::StreamEnds(at, to));
    }
    let Ok(message) = Message::parse(bytes) else {
        return world.history.violate(10, "a server sent a malformed SIP message".to_owned());
    };
    if message.is_request() {
        return requested(world, number, at, &message);
    }
    let id = message.via().branch().and_then(|branch| std::str::from_utf8(branch.strip_prefix(b"z9hG4bKsim")?).ok());
    if let Some(id) = id.and_then(|id| id.parse().ok()) {
        responded(world, id, &message);
    }
}

fn responded(world: &mut World, id: u64, message: &Message) {
    let status = message.status().unwrap_or(0);
    let Some(asked) = world.phones.asked.get_mut(&id) else { return };
    if status < 200 {
        asked.provisional = true;
        return;
    }
    let Some(asked) = world.phones.asked.remove(&id) else { return };
    world.note("phone", &format!("{} got {status}: {id}", asked.phone));
    if asked.what.is_invite() {
        match status {
            200..300 => calls::acknowledge(world, &asked, message),
            _ => acknowledge_failure(world, &asked, message),
        }
    }
    if matches!(status, 401 | 407) && asked.tries < TRIES {
        let (at, header) = if status == 401 { (0, "WWW-Authenticate") } else { (1, "Proxy-Authenticate") };
        let challenge = message.header_named(header).map(|value| (value.to_vec(), 0));
        world.phones.all[asked.phone].challenges[at] = challenge;
        return ask_again(world, asked.phone, asked.what, Some(asked.server), (asked.tries + 1, asked.probe));
    }
    let new = !matches!(asked.what, What::Inside(..));
    if status == 503 && new && asked.probe.is_none() && asked.tries < TRIES {
        world.met("a request went on to another server");
        return refused(world, &asked);
    }
    if matches!(asked.what, What::Register(..)) && status == 200 && is_guest(message) {
        // In limits it is known to the server that took it, as long as that lives: nothing is promised.
        world.met("a phone registered in limits");
        world.phones.all[asked.phone].registering = false;
        if let Some(probe) = asked.probe {
            super::probes::ended(world, probe, 0);
        }
        return;
    }
    if let (What::Register(which, _), Some(seconds)) = (asked.what, granted(message)) {
        world.phones.all[asked.phone].bindings.granted(which, u64::from(seconds) * 1_000);
    }
    ended(world, asked.phone, asked.what, status, asked.probe);
}

/// The longest expiry in seconds that a 200 grants.
fn granted(message: &Message) -> Option<u32> {
    let granted = message
        .addresses(Name::Contact)
        .filter_map(|contact| std::str::from_utf8(contact.param("expires")?).ok()?.parse().ok());
    granted.max()
}

/// Whether a 200 grants no more than what is granted in limits.
fn is_guest(message: &Message) -> bool {
    granted(message).is_none_or(|most| most <= GUEST_EXPIRY_S)
}

fn acknowledge_failure(world: &mut World, asked: &Asked, message: &Message) {
    if let Ok(invite) = Message::parse(asked.bytes.clone()) {
        send(world, asked.phone, asked.server, Reply::ack_for(&invite, message));
    }
}

impl What {
    fn is_invite(self) -> bool {
        matches!(self, What::Invite(_) | What::Inside(_, _, Inside::Again))
    }
}

/// A request has its final answer, or will have none (status 0).
fn ended(world: &mut World, number: usize, what: What, status: u16, probe: Option<usize>) {
    let step = world.step();
    match what {
        What::Register(which, _) => {
            world.phones.all[number].registering = false;
            if status == 200 {
                world.phones.all[number].bindings.acknowledged(which, step);
                world.met("a phone registered");
            }
        }
        What::Message(message, _) if status == 200 && !world.phones.got.contains(&message) => {
            world.history.violate(14, format!("message {message} was answered 200 and nobody has got it"));
        }
        What::Message(..) => {
            if status == 200 {
                world.met("a message was delivered");
            }
        }
        What::Invite(call) | What::Inside(call, ..) => calls::ended(world, call, what, status),
    }
    if let Some(probe) = probe {
        super::probes::ended(world, probe, status);
    }
}

/// A server asks a phone something.
fn requested(world: &mut World, number: usize, at: usize, message: &Message) {
    world.note("phone", &format!("{number} is asked by {at}: {}", message.method().as_str()));
    let reply = match message.method() {
        Method::Ack => return,
        Method::Message => {
            if let Some(id) = std::str::from_utf8(message.body()).ok().and_then(|body| body.parse().ok()) {
                world.phones.got.insert(id);
            }
            Reply::to(message, 200).build()
        }
        Method::Invite | Method::Bye => return calls::requested(world, number, at, message),
        _ => Reply::to(message, 200).build(),
    };
    send(world, number, at, reply);
}
