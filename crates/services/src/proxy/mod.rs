//! The stateful proxy (RFC 3261 §16): callers authenticated, targets found, branches forked, one answer chosen.
//!
//! Owns the way of every request that is neither REGISTER nor for the server itself. Does not own bindings' making
//! (`registrar`) nor digests (`auth`).

mod best;
mod breadth;
mod caller;
pub mod dialog;
mod edge;
mod fork;
mod history;
mod hop;
mod leg;
mod originate;
mod redirect;
mod targets;

pub use edge::deliver;
pub use hop::Hop;
pub use originate::{End, Own, originate};

use crate::access::{Entry, Verdict};
use crate::auth;
use crate::cx::{Cx, Peer};
use crate::emergency;
use crate::forward::Asserted;
use crate::ident::Whose;
use crate::metrics::Counter;
use crate::privacy;
use crate::replies;
use crate::routes::RouteSet;
use crate::trust;
use caller::Caller;
pub use fork::Went;
use fork::{Fork, Job};
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;
use targets::Found;

/// How often a request is sent to whoever leads a group before its sender is told to come back: a pool chooses another server in
/// a second or two.
pub(crate) const ATTEMPTS: usize = 4;

/// Handles one request outside a dialog whose Request-URI is a user, an emergency service, or not ours.
pub async fn handle<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, whose: Whose, entry: Entry) {
    // Nobody here can hide what a proxy must not touch; whoever insists is told so (RFC 3323 §4.2).
    let insists = whose != Whose::Emergency && privacy::asks(request, &["critical"]);
    if insists && privacy::asks(request, &["user", "header", "session"]) {
        cx.count(Counter::Refused);
        return replies::refuse(cx, request, 500, "Privacy Not Provided");
    }
    let proven = entry.with_digest();
    let Some((asserted, consumed)) = caller_of(cx, request, flow, routes, entry).await else { return };
    if consumed && let Verdict::Refuse(status) = proven {
        cx.count(Counter::Refused);
        return replies::refuse(cx, request, status, "Not Allowed");
    }
    let job = Job { request, arrival: flow, routes, asserted: &asserted, consumed, record_route: true };
    match whose {
        // Boxed: what is rare takes no room in the task of each request.
        Whose::Emergency => Box::pin(emergency(cx, job)).await,
        _ if routes.next.is_some() => {
            cx.count(Counter::Refused);
            replies::refuse(cx, request, 403, "Preloaded Route Not Allowed");
        }
        Whose::User(user) => to_user(cx, job, user).await,
        _ => to_outside(cx, job).await,
    }
}

/// What the request says of its caller from here on, and whether our credentials in it are used up; `None` after an answer, or
/// after other servers have decided.
async fn caller_of<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    routes: &RouteSet,
    entry: Entry,
) -> Option<(Asserted, bool)> {
    for _ in 0..ATTEMPTS {
        match caller::identify(cx, request, flow, entry.clone()).await {
            Caller::Known { asserted, consumed } => return Some((asserted, consumed)),
            Caller::ServedBy { at, user, proven } => {
                let told = ((!proven).then_some(&user), &Asserted::Strip);
                if to_serving_servers(cx, request, flow, routes, at, told).await == Went::Answered {
                    return None;
                }
            }
            Caller::Answered => return None,
        }
    }
    replies::try_later(cx, request, "Serving Server Not Reachable");
    None
}

/// Sends a request for another domain to the peer that takes it. Without one there is no way: this is no open relay.
async fn to_outside<C: Cx>(cx: &C, job: Job<'_>) {
    let view = cx.view();
    let Some(next) = trust::route(&view, job.request.request_uri()).and_then(|peer| peer.next_hop.as_deref()) else {
        cx.count(Counter::Refused);
        return replies::refuse(cx, job.request, 403, "No Route To That Domain");
    };
    replies::trying(cx, job.request);
    match hop::located(cx, next.as_bytes(), None).await {
        Some(hop) => Fork::new(cx, job, None).run(vec![hop.trusted()]).await,
        None => replies::try_later(cx, job.request, "Peer Not Reachable"),
    }
}

/// Sends a request to a user of ours, wherever that user is.
async fn to_user<C: Cx>(cx: &C, job: Job<'_>, user: Aor) {
    if *job.request.method() == Method::Invite {
        replies::trying(cx, job.request);
    }
    // Before the first look, so that no binding slips in between.
    if waits(job.request) {
        cx.watch_bindings(&user);
    }
    for _ in 0..ATTEMPTS {
        if to_user_now(cx, job, &user).await == Went::Answered {
            return;
        }
    }
    replies::try_later(cx, job.request, "Serving Server Not Reachable");
}

/// Sends a request to where the user is now.
async fn to_user_now<C: Cx>(cx: &C, job: Job<'_>, user: &Aor) -> Went {
    let request = job.request;
    match targets::find_and_wake(cx, request, user).await {
        Found::Waking(user, hops) => {
            cx.count(Counter::ProxyWaking);
            Fork::waking(cx, job, user).run(hops).await;
        }
        Found::Hops(hops) => {
            cx.count(Counter::ProxyForked);
            return Fork::new(cx, job, waits(request).then(|| user.clone())).attempt(hops).await;
        }
        Found::Stranded(user) if waits(request) => {
            cx.count(Counter::ProxyHeld);
            cx.watch_bindings(&user);
            Fork::new(cx, job, Some(user)).run(Vec::new()).await;
        }
        // Nobody can tell the device later that the call is over.
        Found::Unavailable if *request.method() == Method::Bye && waits(request) => return Went::Gone,
        other => refuse_unfound(cx, request, &other),
    }
    Went::Answered
}

/// The answer where there is no way to a user.
fn refuse_unfound<C: Cx>(cx: &C, request: &Message, found: &Found) {
    match found {
        Found::Hops(_) | Found::Waking(..) | Found::Stranded(_) => {
            replies::unavailable(cx, request, "No Device Reachable");
        }
        Found::NotSecure => {
            // RFC 5630 §5.3.
            let warning = format!("380 {} \"SIPS Not Allowed\"", cx.view().own.server_name);
            replies::refuse_with(cx, request, 480, "No Device Reachable Securely", &[("Warning", &warning)]);
        }
        Found::NotRegistered => replies::refuse(cx, request, 480, "Not Registered"),
        Found::NoSuchUser => replies::refuse(cx, request, 404, "Not Found"),
        Found::Unavailable => {
            cx.count(Counter::Unavailable);
            replies::unavailable(cx, request, "Serving Pool Not Reachable");
        }
        Found::ForwardLoop => {
            cx.count(Counter::LoopDetected);
            replies::refuse(cx, request, 480, "Call Forwarding Loop");
        }
    }
}

/// Whether a request waits for a device that is about to come back: a call, and the end of one, which nobody can tell the device later.
fn waits(request: &Message) -> bool {
    match request.method() {
        Method::Invite => true,
        Method::Bye => request.to().has_param("tag"),
        _ => false,
    }
}

/// A caller whom other servers serve: they authenticate, so the request goes there as it is. A stranger, who only says who it
/// is, sees nothing of that until they have answered; who has proven it is named inside the link.
pub async fn to_serving_servers<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    routes: &RouteSet,
    at: Peer,
    (stranger, asserted): (Option<&Aor>, &Asserted),
) -> Went {
    let Some(peer) = hop::to_peer(cx, request, at, None) else {
        // Sent to and fro between servers too often, which is news for no stranger.
        match stranger {
            Some(user) => auth::challenge(cx, request, flow, auth::realm_of(request), user.domain(), false),
            None => replies::try_later(cx, request, "Serving Pool Not Reachable"),
        }
        return Went::Answered;
    };
    if stranger.is_none() {
        replies::trying(cx, request);
    }
    cx.count(Counter::ProxyPeer);
    let job = Job { request, arrival: flow, routes, asserted, consumed: false, record_route: true };
    Fork::new(cx, job, None).of_stranger(stranger).attempt(vec![peer]).await
}

/// Emergency calls (RFC 5031): never refused in which mode this pool is.
async fn emergency<C: Cx>(cx: &C, job: Job<'_>) {
    let request = job.request;
    cx.count(Counter::Emergency);
    let view = cx.view();
    let Some(target) = emergency::route(&view, request.request_uri()).map(|row| row.to.as_str()) else {
        cx.count(Counter::EmergencyUnrouted);
        return replies::refuse(cx, request, 404, "No Emergency Service Configured");
    };
    // The table says where it goes, and no Route of the caller's.
    let routes = RouteSet { own: request.routes().count(), ..RouteSet::default() };
    let job = Job { routes: &routes, ..job };
    match crate::ident::classify(&view, target.as_bytes()) {
        Whose::User(user) => to_user(cx, job, user).await,
        _ => {
            replies::trying(cx, request);
            match hop::located(cx, target.as_bytes(), Some(target.as_bytes())).await {
                Some(hop) => Fork::new(cx, job, None).run(vec![hop.trusted()]).await,
                None => replies::try_later(cx, request, "Emergency Service Not Reachable"),
            }
        }
    }
}
