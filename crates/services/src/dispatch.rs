//! The one entry for SIP: every new server transaction, and what has none.
//!
//! Owns the sanity checks of RFC 3261 §16.3 and the choice of who handles a request. Handles nothing itself.

use crate::access;
use crate::back;
use crate::cx::{Cx, Peer};
use crate::emergency;
use crate::events;
use crate::forward;
use crate::ident::{Whose, classify};
use crate::messaging;
use crate::metrics::Counter;
use crate::proxy;
use crate::registrar;
use crate::replies;
use crate::routes::{self, MAX_ROUTES, RouteSet};
use crate::sips;
use bytes::Bytes;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

/// Handles one request that opened a server transaction, until its final answer and the end of its branches.
///
/// The request stands in this future alone, the others borrow it, and what is rare is boxed: as much memory as a task is large is copied
/// and touched for each request.
// An `async fn` has its arguments twice: as such, and as variables.
#[allow(clippy::manual_async_fn)]
pub fn handle<C: Cx>(cx: C, request: Message, flow: Flow) -> impl Future<Output = ()> {
    async move {
        if !is_sane(&cx, &request, flow) {
            return;
        }
        let routes = read_routes(&cx, &request);
        if let Some(token) = routes.token {
            return proxy::deliver(&cx, &request, flow, &routes, token).await;
        }
        if request.to().has_param("tag") && routes.marked && !events::is_ours(&cx, &request, &routes) {
            if access::admit_in_dialog(&cx, &request, flow) {
                proxy::dialog::pass(&cx, &request, flow, &routes).await;
            }
            return;
        }
        let whose = aimed_at(&cx, &request);
        match whose {
            Whose::Scheme => return replies::refuse(&cx, &request, 416, "Unsupported URI Scheme"),
            Whose::Malformed => return replies::refuse(&cx, &request, 400, "Malformed Request-URI"),
            _ => {}
        }
        let Some(entry) = access::admit(&cx, &request, flow, &whose) else { return };
        match (request.method(), &whose) {
            (Method::Register, _) => Box::pin(registrar::handle(&cx, &request, flow, &routes)).await,
            (Method::Options, Whose::Server) => replies::options(&cx, &request),
            (Method::Subscribe, _) => Box::pin(events::subscribe(&cx, &request, flow, &routes, whose)).await,
            (Method::Notify, _) => events::bad_event(&cx, &request),
            (Method::Message, _) if !is_fit(&cx, &request) => {}
            _ => proxy::handle(&cx, &request, flow, &routes, whose, entry).await,
        }
    }
}

/// Whose the Request-URI is, numbers of emergency services among them.
fn aimed_at<C: Cx>(cx: &C, request: &Message) -> Whose {
    let view = cx.view();
    let uri = request.request_uri();
    emergency::aim(&view, uri, classify(&view, uri))
}

/// Whether a MESSAGE may go on; answers what may not.
fn is_fit<C: Cx>(cx: &C, request: &Message) -> bool {
    match messaging::check(request, cx.view().proxy.max_message) {
        Ok(()) => true,
        Err(unfit) => {
            replies::refuse(cx, request, unfit.status, unfit.reason);
            false
        }
    }
}

fn read_routes<C: Cx>(cx: &C, request: &Message) -> RouteSet {
    let view = cx.view();
    let partner_up = view.partner.as_ref().is_some_and(|p| cx.peer_flow(Peer::Pool(p.pool)).is_some());
    routes::read(&view, request, partner_up)
}

/// Goes on with a REGISTER that [`registrar::quick`] has decided and that could not be written as it was: its sender is known.
pub async fn registered<C: Cx>(cx: C, request: Message, flow: Flow) {
    let routes = read_routes(&cx, &request);
    registrar::admitted(&cx, &request, flow, &routes).await;
}

/// RFC 3261 §16.3; answers what fails.
fn is_sane<C: Cx>(cx: &C, request: &Message, flow: Flow) -> bool {
    match request.method() {
        Method::Ack => return false,
        // The transaction layer answers a CANCEL that matches; this one does not.
        Method::Cancel => {
            replies::refuse(cx, request, 481, "No Such Transaction");
            return false;
        }
        _ => {}
    }
    if !sips::has_come_safely(cx, request, flow) {
        return false;
    }
    if request.max_forwards() == Some(0) {
        cx.count(Counter::TooManyHops);
        let own = *request.method() == Method::Options;
        if own {
            replies::options(cx, request);
        } else {
            replies::refuse(cx, request, 483, "Too Many Hops");
        }
        return false;
    }
    if request.has(Name::ProxyRequire) {
        replies::bad_extension(cx, request, request.option_tags(Name::ProxyRequire));
        return false;
    }
    if request.routes().nth(MAX_ROUTES).is_some() {
        replies::refuse(cx, request, 400, "Too Many Routes");
        return false;
    }
    if forward::is_looping(&cx.view(), request, &flow) {
        cx.count(Counter::LoopDetected);
        replies::refuse(cx, request, 482, "Loop Detected");
        return false;
    }
    true
}

/// The ACK of a 2xx, whose next hop may be a name that must be resolved first. Everything that [`stateless`] does, but able
/// to wait.
pub async fn ack<C: Cx>(cx: C, message: Message, flow: Flow) {
    if message.max_forwards() == Some(0) {
        cx.count(Counter::TooManyHops);
        return;
    }
    let routes = read_routes(&cx, &message);
    // Without the dialog's mark this server is no relay; a token is only believed on the peer link.
    match routes.token {
        Some(_) if flow.transport != Transport::Peer => cx.count(Counter::Refused),
        Some(token) => proxy::dialog::ack_on(&cx, &message, flow, &routes, token.flow),
        None if routes.marked => proxy::dialog::ack(&cx, &message, flow, &routes).await,
        None => cx.count(Counter::Refused),
    }
}

/// Forwards what has no transaction: the ACK of a 2xx, and repeated 2xx of an INVITE whose task is over. Never waits: an ACK
/// whose next hop is a name that is not known at once is dropped and counted (use [`ack`] in a task for those).
pub fn stateless<C: Cx>(cx: C, message: Message, flow: Flow) {
    if !message.is_request() {
        return response(&cx, &message, flow);
    }
    if *message.method() != Method::Ack {
        return;
    }
    let counting = cx.clone();
    let future = pin!(ack(cx, message, flow));
    if future.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        counting.count(Counter::Refused);
    }
}

/// A response outside transactions goes where the next Via says (RFC 3261 §16.7 step 9, §18.2.2).
fn response<C: Cx>(cx: &C, message: &Message, flow: Flow) {
    // Anything but a 2xx of an INVITE is repeated by nobody and answered by its transaction.
    if !matches!(message.status(), Some(200..=299)) || *message.cseq().1 != Method::Invite {
        return;
    }
    let mut vias = message.vias();
    let (Some(ours), Some(next)) = (vias.next(), vias.next()) else {
        return;
    };
    let Some(to) = back::way(cx, &ours, &next, flow) else {
        cx.count(Counter::Refused);
        return;
    };
    cx.count(Counter::Stateless);
    let bytes: Bytes = forward::response_back(message);
    cx.send_stateless(to, bytes);
}
