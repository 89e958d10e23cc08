//! REGISTERs of clients of this server whose group a neighbour leads: handed over as they came, decided there in one step, answered
//! from here.
//!
//! Owns what is on its way to neighbours, and both ends of the hand-over. What a neighbour does not decide so, or does not answer,
//! goes on here as a task, from its beginning. Decides nothing about registrations; `pairline_services::registrar::quick` does.

use crate::core::Core;
use crate::peer::PeerFrame;
use crate::quick::{self, Waiting};
use bytes::Bytes;
use pairline_group::{LinkId, Millis, ServerId};
use pairline_services::binding::FlowRef;
use pairline_services::cx::Peer;
use pairline_services::metrics::Counter;
use pairline_services::registrar::quick::Origin;
use pairline_sip::auth::Algorithm;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use std::collections::BTreeMap;

/// Most requests that are on their way to neighbours; further ones become tasks.
const MOST: usize = 20_000;
/// How long one is, in milliseconds: then its client's repetition is a new one.
const PATIENCE_MS: Millis = 2_000;
/// Longest request that is handed over, and longest answer, in bytes.
const LONGEST: usize = 16 * 1024;

/// A request on its way.
#[derive(Debug)]
struct Sent {
    to: ServerId,
    until: Millis,
    waiting: Waiting,
}

/// What is on its way, by the number of the call: the oldest first.
#[derive(Debug, Default)]
pub struct Onward {
    sent: BTreeMap<u64, Sent>,
}

impl Onward {
    /// Requests on their way.
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }
}

/// Hands a request over; false if that cannot be done now, with nothing done.
pub fn send(core: &mut Core, to: ServerId, algorithm: Algorithm, waiting: Waiting) -> bool {
    let near = core.is_near(Peer::Server(to));
    let Some((link, _)) = core.way_to(Peer::Server(to)).filter(|_| near) else { return false };
    if core.onward.len() >= MOST || waiting.request.len() > LONGEST {
        return false;
    }
    let call = core.fresh();
    let frame = PeerFrame::Register {
        call,
        client: Origin::here(&core.view, waiting.came).client.to_bytes().into(),
        algorithm: algorithm.as_str().to_owned(),
        message: waiting.request.clone(),
    };
    core.count(Counter::RegisterRelayed.name());
    core.send_on(link, &frame);
    let until = core.now.mono + PATIENCE_MS;
    core.onward.sent.insert(call, Sent { to, until, waiting });
    true
}

/// A neighbour hands a request of one of its clients over.
pub fn asked(core: &mut Core, (link, call): (LinkId, u64), client: &[u8], algorithm: &str, message: Bytes) {
    if crate::neighbours::has_waited(core, link, &message) {
        return;
    }
    let Some(origin) = origin(core, link, client, algorithm).filter(|_| message.len() <= LONGEST) else {
        core.count("peer_frames_refused");
        return answer(core, link, call, None);
    };
    match decide(core, (link, call), origin, message) {
        Ok(None) => {}
        Ok(Some(response)) => answer(core, link, call, Some(response)),
        Err(quick::NotDecided) => answer(core, link, call, None),
    }
}

/// The flow of a client, which must be one of the server at the other end of the link.
fn origin(core: &Core, link: LinkId, client: &[u8], algorithm: &str) -> Option<Origin> {
    let from = core.links.get(&link)?;
    let client = FlowRef::from_bytes(client)?;
    let own = client.pool == core.pool && client.server == from.server && client.flow.transport != Transport::Peer;
    let algorithm = Algorithm::from_token(algorithm.as_bytes())?;
    own.then_some(Origin { client, algorithm: Some(algorithm) })
}

fn decide(
    core: &mut Core,
    call: (LinkId, u64),
    origin: Origin,
    message: Bytes,
) -> Result<Option<Bytes>, quick::NotDecided> {
    match crate::admission::takes_of_neighbour(core, origin.client.flow, &message) {
        Ok(()) => {}
        Err(Some(refusal)) => return Ok(Some(refusal)),
        Err(None) => return Err(quick::NotDecided),
    }
    let Ok(mut message) = Message::parse(message) else { return Err(quick::NotDecided) };
    message.set_source(origin.client.flow.remote);
    quick::for_neighbour(core, call, &message, origin)
}

/// Tells a neighbour the answer to its client; none: the neighbour is to go another way.
pub fn answer(core: &mut Core, link: LinkId, call: u64, response: Option<Bytes>) {
    if core.links.contains_key(&link) {
        core.send_on(link, &PeerFrame::Registered { call, response });
    }
}

/// A neighbour has answered.
pub fn answered(core: &mut Core, link: LinkId, call: u64, response: Option<Bytes>) {
    let from = core.links.get(&link).map(|link| link.server);
    if core.onward.sent.get(&call).is_none_or(|sent| Some(sent.to) != from) {
        return;
    }
    let Some(Sent { waiting, .. }) = core.onward.sent.remove(&call) else { return };
    let parsed = response.filter(|bytes| bytes.len() <= LONGEST).and_then(|bytes| Message::parse(bytes).ok());
    let Some((response, status)) = parsed.and_then(|message| message.status().map(|status| (message, status))) else {
        return quick::give_back(core, waiting);
    };
    weigh(core, waiting.came, &waiting.request, &response, status);
    core.traffic.answered(waiting.asked, core.now.mono);
    core.layer.answer_brief(waiting.tx, waiting.goes, response.as_bytes().clone());
}

/// What the answer says of the credentials counts where their source is measured.
fn weigh(core: &mut Core, flow: Flow, request: &[u8], response: &Message, status: u16) {
    let stale = || {
        let value = response.header(Name::WwwAuthenticate).unwrap_or_default();
        value.windows(10).any(|part| part.eq_ignore_ascii_case(b"stale=true"))
    };
    match status {
        200 => core.admission.weighed(flow, request, true),
        401 if !stale() => core.admission.weighed(flow, request, false),
        _ => {}
    }
}

/// A neighbour will not answer any more: what it was asked goes on as tasks, which ask whoever leads next.
pub fn lost(core: &mut Core, server: ServerId) {
    let (lost, kept) = std::mem::take(&mut core.onward.sent).into_iter().partition(|(_, sent)| sent.to == server);
    core.onward.sent = kept;
    let lost: BTreeMap<u64, Sent> = lost;
    for sent in lost.into_values() {
        quick::give_back(core, sent.waiting);
    }
}

/// Time passes: what was not answered is forgotten, and its client's repetition is taken anew.
pub fn tick(core: &mut Core) {
    let now = core.now.mono;
    while let Some(oldest) = core.onward.sent.first_entry().filter(|oldest| oldest.get().until <= now) {
        let sent = oldest.remove();
        core.layer.drop_brief(sent.waiting.tx);
        core.count("registers_handed_over_in_vain");
    }
}
