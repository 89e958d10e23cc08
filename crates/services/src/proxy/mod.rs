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
pub use originate::{End, Own, originate};

use crate::cx::{Cx, Place};
use crate::forward::Asserted;
use crate::ident::Whose;
use crate::metrics::Counter;
use crate::push;
use crate::replies;
use crate::routes::RouteSet;
use caller::Caller;
use fork::{Fork, Job};
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;
use targets::Found;

/// Handles one request outside a dialog whose Request-URI is a user, an emergency service, or not ours.
pub async fn handle<C: Cx>(cx: C, request: Message, flow: Flow, routes: RouteSet, whose: Whose) {
    if whose == Whose::Emergency {
        return emergency(&cx, &request, flow, &routes).await;
    }
    let (asserted, consumed) = match caller::identify(&cx, &request, flow).await {
        Caller::Known { asserted, consumed } => (asserted, consumed),
        Caller::ServedBy { pool, user, proven } => {
            let stranger = (!proven).then_some(&user);
            return to_serving_pool(&cx, &request, flow, &routes, pool, stranger).await;
        }
        Caller::Answered => return,
    };
    let Whose::User(user) = whose else {
        cx.count(Counter::Refused);
        return replies::refuse(&cx, &request, 403, "No Route To That Domain");
    };
    if routes.next.is_some() {
        cx.count(Counter::Refused);
        return replies::refuse(&cx, &request, 403, "Preloaded Route Not Allowed");
    }
    let job =
        Job { request: &request, arrival: flow, routes: &routes, asserted: &asserted, consumed, record_route: true };
    to_user(&cx, job, user).await;
}

/// Sends a request to a user of ours, wherever that user is.
async fn to_user<C: Cx>(cx: &C, job: Job<'_>, user: Aor) {
    let request = job.request;
    let invite = *request.method() == Method::Invite;
    // Before the first look, so that no binding slips in between.
    if invite {
        replies::trying(cx, request);
        cx.watch_bindings(&user);
    }
    let waking = wake(cx, request, &user).await;
    match targets::find(cx, request, &user).await {
        Found::Hops(hops) if waking => Fork::waking(cx, job, user).run(hops).await,
        Found::Stranded(_) if waking => Fork::waking(cx, job, user).run(Vec::new()).await,
        Found::Hops(hops) => {
            cx.count(Counter::ProxyForked);
            Fork::new(cx, job, hold_for(invite, &user)).run(hops).await;
        }
        Found::Stranded(user) if invite => {
            cx.count(Counter::ProxyHeld);
            cx.watch_bindings(&user);
            Fork::new(cx, job, Some(user)).run(Vec::new()).await;
        }
        Found::Stranded(_) => replies::unavailable(cx, request, "No Device Reachable"),
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

/// Orders the waking of a user's sleeping devices (RFC 8599), where the deployment has a gateway for that.
async fn wake<C: Cx>(cx: &C, request: &Message, user: &Aor) -> bool {
    if cx.view().push.providers.is_empty() || !matches!(request.method(), Method::Invite | Method::Message) {
        return false;
    }
    let Place::Here { group } = cx.place(user) else {
        return false;
    };
    cx.watch_bindings(user);
    let bindings = targets::read_bindings(cx, group, user).await;
    let device = crate::gruu::Target::of(&cx.view().sealing_key, request.request_uri());
    let meant: Vec<_> = bindings.into_iter().filter(|b| device.as_ref().is_none_or(|d| d.admits(b))).collect();
    let waking = push::wake(cx, request, &meant);
    if waking {
        cx.count(Counter::ProxyWaking);
    }
    waking
}

fn hold_for(invite: bool, user: &Aor) -> Option<Aor> {
    invite.then(|| user.clone())
}

/// A caller whom the other pool serves: that pool authenticates, so the request goes there as it is. A stranger, who only says
/// who it is, sees nothing of that until the other pool has answered.
pub async fn to_serving_pool<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    routes: &RouteSet,
    pool: pairline_group::PoolId,
    stranger: Option<&Aor>,
) {
    let Some(peer) = hop::to_peer(cx, request, pool, None) else {
        return replies::try_later(cx, request, "Serving Pool Not Reachable");
    };
    if stranger.is_none() {
        replies::trying(cx, request);
    }
    cx.count(Counter::ProxyPeer);
    let asserted = Asserted::Strip;
    let job = Job { request, arrival: flow, routes, asserted: &asserted, consumed: false, record_route: true };
    Fork::new(cx, job, None).of_stranger(stranger).run(vec![peer]).await;
}

/// Emergency calls (RFC 5031): never refused for who calls or in which mode this pool is.
async fn emergency<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet) {
    cx.count(Counter::Emergency);
    let view = cx.view();
    let Some(target) = view.proxy.emergency.as_deref() else {
        return replies::refuse(cx, request, 404, "No Emergency Service Configured");
    };
    let asserted = match caller::asserted_by_peer(request, flow) {
        true => Asserted::Keep,
        false => Asserted::Strip,
    };
    let job = Job { request, arrival: flow, routes, asserted: &asserted, consumed: false, record_route: true };
    match crate::ident::classify(&view, target.as_bytes()) {
        Whose::User(user) => to_user(cx, job, user).await,
        _ => {
            replies::trying(cx, request);
            match hop::located(cx, target.as_bytes(), Some(target.as_bytes())).await {
                Some(hop) => Fork::new(cx, job, None).run(vec![hop]).await,
                None => replies::try_later(cx, request, "Emergency Service Not Reachable"),
            }
        }
    }
}
