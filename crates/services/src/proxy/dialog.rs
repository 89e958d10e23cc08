//! Requests inside a dialog: passed along their Route set, byte-exact, without asking who sends them.
//!
//! Owns their next hop. The mark in our Record-Route says that the dialog came through here; without it a request is
//! treated like any other.

use super::edge::probe;
use super::fork::{Fork, Job};
use super::hop::{self, Hop};
use super::targets::{self, Found};
use crate::cx::{Cx, Peer, Reach};
use crate::forward::{self, Asserted, Extra, Sending};
use crate::gruu;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::replies;
use crate::routes::RouteSet;
use crate::sips;
use crate::trust;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::uri::{Aor, Host, Uri};

/// The flow to the far end, if our own Route names one that can be used (RFC 5626 §5.3.2), here or at the server of this pool that
/// owns it. The flow that a request came on is its sender's own, unless the Request-URI is at the same end of it: several users of
/// one connection, who call each other.
fn kept<C: Cx>(cx: &C, request: &Message, arrival: Flow, routes: &RouteSet) -> Option<Hop> {
    let kept = routes.flow.filter(|_| routes.next.is_none())?;
    let here = kept.server == cx.view().own.server;
    if here && kept.flow == arrival && !is_at(request.request_uri(), arrival) {
        return None;
    }
    match cx.reach(&probe(kept)) {
        Reach::Open => Some(Hop::plain(hop::own_listener(cx, kept.flow), None)),
        Reach::ThroughPeer => hop::to_owner(cx, kept, None),
        Reach::Stranded => None,
    }
}

/// Whether a URI names the far end of a flow by its address and port.
fn is_at(uri: &[u8], flow: Flow) -> bool {
    Uri::parse(uri).is_ok_and(|uri| {
        uri.is_sip()
            && uri.host == Host::Ip(flow.remote.ip())
            && uri.port.unwrap_or(flow.transport.default_port()) == flow.remote.port()
    })
}

/// Where a request with that Route set goes: the next Route, else its Request-URI.
async fn next_hop<C: Cx>(cx: &C, request: &Message, routes: &RouteSet) -> Option<Hop> {
    let view = cx.view();
    if routes.next_is_partner
        && let Some(partner) = &view.partner
        && let Some(peer) = hop::to_peer(cx, request, Peer::Pool(partner.pool), None)
    {
        return Some(peer);
    }
    let uri = routes.next.as_deref().unwrap_or(request.request_uri());
    hop::located(cx, uri, None).await
}

/// What a peer says of a caller stays; what anybody else says goes.
fn asserted<C: Cx>(cx: &C, request: &Message, flow: Flow) -> Asserted {
    let believed = flow.transport == Transport::Peer
        || (request.has(Name::PAssertedIdentity) && trust::peer(cx, &cx.view(), flow).is_some());
    if believed { Asserted::Keep } else { Asserted::Strip }
}

/// Passes a request on inside its dialog. Nearly all go where their Route says; what others need is boxed, so that it takes no room in the
/// task of each.
pub async fn pass<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet) {
    cx.count(Counter::ProxyInDialog);
    let asserted = asserted(cx, request, flow);
    let job = Job { request, arrival: flow, routes, asserted: &asserted, consumed: false, record_route: false };
    if let Some(mut hop) = kept(cx, request, flow, routes) {
        replies::trying(cx, request);
        let mut hold = None;
        if hop.flow.transport == Transport::Peer
            && hop.alternates.is_empty()
            && let Some(user) = gruu_of(cx, request, routes)
        {
            // The owner may have lost the flow since, by a restart: a device that has come back, or is about to, is found by its GRUU.
            hold = super::waits(request).then_some(user);
            hold.iter().for_each(|user| cx.watch_bindings(user));
            hop.alternates.extend(Box::pin(device(cx, request, routes)).await);
        }
        let comes_back = to_user(cx, request).filter(|_| hop.flow.transport == Transport::Peer);
        return Fork::new(cx, job, hold).of_device(comes_back).run(vec![hop]).await;
    }
    // A remote target that is an address of record of ours goes to that user's devices.
    if routes.next.is_none()
        && let Whose::User(user) = classify(&cx.view(), request.request_uri())
    {
        return Box::pin(super::to_user(cx, job, user)).await;
    }
    replies::trying(cx, request);
    let mut hop = Box::pin(came_back(cx, request, flow, routes)).await;
    if hop.is_none() {
        hop = Box::pin(next_hop(cx, request, routes)).await;
    }
    let Some(hop) = hop else {
        return replies::refuse(cx, request, 480, "Next Hop Not Found");
    };
    Fork::new(cx, job, None).run(vec![hop]).await;
}

/// The user of a remote target that is a GRUU of ours.
fn gruu_of<C: Cx>(cx: &C, request: &Message, routes: &RouteSet) -> Option<Aor> {
    let view = cx.view();
    gruu::Target::of(&view.sealing_key, request.request_uri()).filter(|_| routes.next.is_none())?;
    match classify(&view, request.request_uri()) {
        Whose::User(user) => Some(user),
        _ => None,
    }
}

/// The device that such a remote target means (RFC 5627 §5.3).
async fn device<C: Cx>(cx: &C, request: &Message, routes: &RouteSet) -> Option<Hop> {
    let user = gruu_of(cx, request, routes)?;
    match targets::find(cx, request, &user).await {
        Found::Hops(hops) => hops.into_iter().next(),
        _ => None,
    }
}

/// The user of ours to whom a request goes.
fn to_user<C: Cx>(cx: &C, request: &Message) -> Option<Aor> {
    match classify(&cx.view(), request.to().uri) {
        Whose::User(user) => Some(user),
        _ => None,
    }
}

/// The device at the far end, if our own Route names a flow to it that is gone from here: it may have registered the same contact on
/// another since.
async fn came_back<C: Cx>(cx: &C, request: &Message, arrival: Flow, routes: &RouteSet) -> Option<Hop> {
    let kept = routes.flow.filter(|_| routes.next.is_none())?;
    let own = kept.flow == arrival && kept.server == cx.view().own.server;
    if own || cx.reach(&probe(kept)) != Reach::Stranded {
        return None;
    }
    targets::by_contact(cx, &to_user(cx, request)?, request.request_uri()).await
}

/// Passes the ACK of a 2xx on (RFC 3261 §16.11): it has no transaction.
pub async fn ack<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet) {
    let mut hop = kept(cx, request, flow, routes);
    if hop.is_none() {
        hop = Box::pin(device(cx, request, routes)).await;
    }
    if hop.is_none() {
        hop = Box::pin(came_back(cx, request, flow, routes)).await;
    }
    if hop.is_none() {
        hop = Box::pin(next_hop(cx, request, routes)).await;
    }
    if let Some(hop) = hop {
        send_ack(cx, request, flow, routes, &hop);
    }
}

/// Sends such an ACK over a flow that is known.
pub fn ack_on<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, hop: Flow) {
    send_ack(cx, request, flow, routes, &Hop::plain(hop, None));
}

fn send_ack<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, hop: &Hop) {
    if !sips::may_take(request, hop) {
        return cx.count(Counter::Refused);
    }
    let view = cx.view();
    let asserted = asserted(cx, request, flow);
    let sending = Sending {
        request,
        arrival: flow,
        hop: hop.flow,
        routes,
        uri: hop.uri.as_deref(),
        push_routes: &hop.routes,
        record_route: false,
        path: None,
        asserted: &asserted,
        consumed: false,
        extra: Extra::default(),
    };
    let bytes = forward::build(cx, &view, &sending);
    cx.count(Counter::Stateless);
    cx.send_stateless(hop.flow, bytes);
}
