//! Calls between phones of a pool: set up through one server, gone on with through others.
//!
//! Owns the dialogs of both ends. A call that both ends know goes on whatever server its requests come to.

use super::phones::{self, Asked, Inside, What};
use super::world::World;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply;
use pairline_sip::request::RequestBuilder;

/// Most calls that stand at one time.
const MOST: usize = 6;

/// One end's view of a dialog.
#[derive(Clone, Debug, Default)]
struct End {
    /// Route values, the first hop first.
    routes: Vec<Vec<u8>>,
    /// The other end's Contact.
    target: String,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its Call-ID.
    pub id: String,
    /// Number of the calling phone.
    pub caller: usize,
    /// Number of the called one.
    pub callee: usize,
    /// The caller's tag.
    pub from_tag: String,
    to_tag: String,
    caller_end: End,
    callee_end: End,
    /// The servers that it was set up through: the caller's, and the one that sent it to the called one.
    servers: [usize; 2],
    /// Both ends have it.
    pub stands: bool,
    /// The ends' connections when it was set up.
    connections: [Option<(usize, u64)>; 2],
}

impl Call {
    fn end(&self, by_caller: bool) -> &End {
        if by_caller { &self.caller_end } else { &self.callee_end }
    }

    /// The server by which one end knows the call.
    pub fn server(&self, by_caller: bool) -> usize {
        self.servers[usize::from(!by_caller)]
    }

    /// The Request-URI of one end's requests.
    pub fn target(&self, by_caller: bool) -> &str {
        &self.end(by_caller).target
    }

    /// The headers of one end's requests.
    pub fn inside(&self, mut request: RequestBuilder, by_caller: bool) -> RequestBuilder {
        for route in &self.end(by_caller).routes {
            request = request.header("Route", route);
        }
        let caller = format!("<sip:u{}@pairline.test>;tag={}", self.caller, self.from_tag);
        let callee = format!("<sip:u{}@pairline.test>;tag={}", self.callee, self.to_tag);
        let (from, to) = if by_caller { (caller, callee) } else { (callee, caller) };
        request.header("From", from).header("To", to).header("Call-ID", &self.id)
    }
}

fn connections(world: &World, caller: usize, callee: usize) -> [Option<(usize, u64)>; 2] {
    [caller, callee].map(|number| world.phones.all[number].connection)
}

/// Calls that stand, both of whose ends are where they were when it was set up. The servers in its routes may have been removed since.
pub fn standing(world: &World) -> Vec<usize> {
    let goes_on = |call: &Call| {
        let same = call.connections == connections(world, call.caller, call.callee);
        let there = call.servers.iter().all(|at| world.is_member(*at));
        call.stands && same && there
    };
    world.phones.calls.iter().filter(|(_, call)| goes_on(call)).map(|(number, _)| *number).collect()
}

/// A phone calls another one.
pub fn begin(world: &mut World, caller: usize, callee: usize) {
    if world.phones.calls.len() >= MOST {
        return;
    }
    let number = usize::try_from(world.phones.fresh()).unwrap_or(0);
    let call = Call {
        id: format!("call-{number}"),
        caller,
        callee,
        from_tag: format!("c{number}"),
        to_tag: format!("d{number}"),
        caller_end: End::default(),
        callee_end: End::default(),
        servers: [0, 0],
        stands: false,
        connections: [None, None],
    };
    world.phones.calls.insert(number, call);
    phones::ask(world, caller, What::Invite(number), None, None);
}

/// One end of a call that stands says something, mostly through a server that the call has not come through.
pub fn go_on(world: &mut World) {
    let standing: Vec<usize> =
        world.phones.calls.iter().filter(|(_, call)| call.stands).map(|(number, _)| *number).collect();
    let Some(number) = world.rng.pick(&standing).copied() else { return };
    let by_caller = world.rng.chance(50);
    let inside = if world.rng.chance(50) { Inside::Bye } else { Inside::Again };
    let Some(call) = world.phones.calls.get_mut(&number) else { return };
    // Nothing is asked of a call while a BYE is under way.
    call.stands &= inside != Inside::Bye;
    let phone = if by_caller { call.caller } else { call.callee };
    let at = call.server(by_caller);
    let other = world.neighbour(at);
    phones::ask(world, phone, What::Inside(number, by_caller, inside), Some(other), None);
}

fn reversed(message: &Message) -> Vec<Vec<u8>> {
    let mut routes: Vec<Vec<u8>> = message.elements(Name::RecordRoute).map(<[u8]>::to_vec).collect();
    routes.reverse();
    routes
}

fn contact_of(message: &Message) -> String {
    let uri = message.addresses(Name::Contact).next().map(|contact| contact.uri.to_vec());
    uri.and_then(|uri| String::from_utf8(uri).ok()).unwrap_or_default()
}

/// A phone's INVITE was answered 200: it says that it has heard.
pub fn acknowledge(world: &mut World, asked: &Asked, message: &Message) {
    let (number, by_caller) = match asked.what {
        What::Invite(number) => (number, true),
        What::Inside(number, by_caller, _) => (number, by_caller),
        _ => return,
    };
    let connections = world.phones.calls.get(&number).map(|call| connections(world, call.caller, call.callee));
    let Some(call) = world.phones.calls.get_mut(&number) else { return };
    if matches!(asked.what, What::Invite(_)) {
        call.caller_end = End { routes: reversed(message), target: contact_of(message) };
        call.servers[0] = asked.server;
        call.stands = true;
        call.connections = connections.unwrap_or_default();
    }
    let id = world.phones.fresh();
    let remote = phones::remote(asked.phone);
    let transport = if world.phones.all[asked.phone].stream { "TCP" } else { "UDP" };
    let Some(call) = world.phones.calls.get(&number) else { return };
    let request = RequestBuilder::new(Method::Ack, call.target(by_caller))
        .header("Via", format!("SIP/2.0/{transport} {remote};branch=z9hG4bKsim{id};rport"))
        .header("Max-Forwards", "70")
        .header("CSeq", format!("{} ACK", message.cseq().0));
    let bytes = call.inside(request, by_caller).build();
    phones::send(world, asked.phone, asked.server, bytes);
}

/// A request of a call has ended.
pub fn ended(world: &mut World, number: usize, what: What, status: u16) {
    match what {
        What::Invite(_) if status == 200 => world.met("a call was set up"),
        What::Invite(_) | What::Inside(_, _, Inside::Bye) => {
            if status == 200 {
                world.met("a call went on at another server");
            }
            world.phones.calls.remove(&number);
        }
        _ => {}
    }
}

/// A server asks a phone something about a call.
pub fn requested(world: &mut World, phone: usize, at: usize, message: &Message) {
    let id = std::str::from_utf8(message.call_id()).ok().and_then(|id| id.strip_prefix("call-")?.parse::<usize>().ok());
    let own = phones::contact(world, phone);
    let invite = *message.method() == Method::Invite;
    let known = id.and_then(|id| world.phones.calls.get_mut(&id));
    let Some(call) = known else {
        let status = if invite && !message.to().has_param("tag") { 486 } else { 481 };
        return phones::send(world, phone, at, Reply::to(message, status).build());
    };
    if invite && !message.to().has_param("tag") {
        let routes = message.elements(Name::RecordRoute).map(<[u8]>::to_vec).collect();
        call.callee_end = End { routes, target: contact_of(message) };
        call.servers[1] = at;
    }
    let tag = call.to_tag.clone();
    if invite && !message.to().has_param("tag") && world.rng.chance(60) {
        let rings = Reply::to(message, 180).to_tag(&tag).header("Contact", format!("<{own}>")).build();
        phones::send(world, phone, at, rings);
        if world.rng.chance(30) {
            // It goes on ringing: the answer comes with the next sight of the request, or never.
            return;
        }
    }
    let reply = Reply::to(message, 200).to_tag(&tag).header("Contact", format!("<{own}>")).build();
    phones::send(world, phone, at, reply);
}
