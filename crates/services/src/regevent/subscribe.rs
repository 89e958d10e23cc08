//! SUBSCRIBE of the registration event package: made, refreshed, asked once, ended (RFC 6665 §4.2.1, RFC 3680 §4).
//!
//! Owns the answers to it and what it writes.

use super::{PACKAGE, bindings, document, everything, has_numbers, is_written, notice, subscriptions, write};
use crate::auth::{self, Kept, Realm, Who};
use crate::binding::FlowRef;
use crate::cx::{Cx, Place};
use crate::forward::Asserted;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::records::{derive, subscription_key};
use crate::replies;
use crate::routes::{MAX_ROUTES, hex};
use crate::subscription::{BLOCK, Subscription};
use crate::watching::Told;
use notice::{Notice, Standing};
use pairline_group::io::{Done, Proposal, Refusal, Write};
use pairline_group::{GroupId, Position};
use pairline_sip::flow::Flow;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::params::Params;
use pairline_sip::reply::Reply;
use pairline_sip::uri::Aor;

/// Seconds granted where the subscriber asks for none, and at most (RFC 3680 §4.4).
const LONGEST_S: u32 = 3_761;
/// Shortest subscription in seconds; shorter ones are answered 423.
const SHORTEST_S: u32 = 60;
/// Most subscriptions to one user.
const MAX_SUBSCRIPTIONS: usize = 8;
/// Longest record in bytes: what a dialog may bring along.
const MAX_RECORD: usize = 4_096;

fn refuse<C: Cx>(cx: &C, request: &Message, status: u16, reason: &str) {
    cx.count(Counter::SubscribeRefused);
    replies::refuse(cx, request, status, reason);
}

/// The one who asks, proven and allowed to watch the user; `None` after an answer.
async fn watcher<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor) -> Option<Aor> {
    let view = cx.view();
    let Whose::User(watcher) = classify(&view, request.from().uri) else {
        refuse(cx, request, 403, "Subscriber Of Another Domain");
        return None;
    };
    if !auth::may_be_proven(&view, request, flow, Realm::Registrar, watcher.domain()) {
        auth::challenge(cx, request, flow, Realm::Registrar, watcher.domain(), false);
        return None;
    }
    let kept = Kept::of(cx, &watcher).await;
    if !auth::authenticate(cx, request, flow, Realm::Registrar, Who { user: &watcher, kept: &kept }).await {
        return None;
    }
    // The same answer whether the user exists or not.
    if watcher != *user && !view.registrar.watchers.contains(&watcher) {
        refuse(cx, request, 403, "Not Allowed To Watch");
        return None;
    }
    Some(watcher)
}

/// What the pool that serves the watched user is told of the one who asks: who has proven it by certificate, or nothing where
/// credentials are offered, which it is to weigh. `None`: it is answered where it arrives.
pub async fn is_weighed_there<C: Cx>(cx: &C, request: &Message, flow: Flow) -> Option<Asserted> {
    let view = cx.view();
    let Whose::User(watcher) = classify(&view, request.from().uri) else { return None };
    if !auth::may_be_proven(&view, request, flow, Realm::Registrar, watcher.domain()) {
        return None;
    }
    let kept = Kept::of(cx, &watcher).await;
    if auth::is_vouched_for(cx, request, flow, Who { user: &watcher, kept: &kept }) {
        return Some(Asserted::Set(watcher));
    }
    let offered = auth::are_offered(&view, request, Realm::Registrar, watcher.domain());
    (offered && !auth::names_another(&view, request, Realm::Registrar, &watcher)).then_some(Asserted::Strip)
}

/// The seconds granted; `None` after an answer.
fn granted<C: Cx>(cx: &C, request: &Message) -> Option<u32> {
    let wish = match request.header(Name::Expires) {
        Some(_) => request.expires().unwrap_or(LONGEST_S),
        None => LONGEST_S,
    };
    if wish > 0 && wish < SHORTEST_S {
        cx.count(Counter::SubscribeRefused);
        let shortest = SHORTEST_S.to_string();
        replies::refuse_with(cx, request, 423, "Interval Too Brief", &[("Min-Expires", &shortest)]);
        return None;
    }
    let takes = |range: &[u8]| {
        let range = range.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        [document::TYPE, "application/*", "*/*"].iter().any(|known| range.eq_ignore_ascii_case(known.as_bytes()))
    };
    if request.has(Name::Accept) && !request.elements(Name::Accept).any(takes) {
        cx.count(Counter::SubscribeRefused);
        replies::refuse_with(cx, request, 406, "Not Acceptable", &[("Accept", document::TYPE)]);
        return None;
    }
    Some(wish.min(LONGEST_S))
}

/// Our tag of a dialog: the same on every server, so that a SUBSCRIBE that is sent again elsewhere makes no second dialog.
fn local_tag<C: Cx>(cx: &C, request: &Message) -> Box<[u8]> {
    let mut hasher = blake3::Hasher::new_keyed(&derive(&cx.view().sealing_key, b"subscription tag"));
    hasher.update(request.call_id());
    hasher.update(&[0]);
    hasher.update(request.from().tag().unwrap_or_default());
    hex(&hasher.finalize().as_bytes()[..8]).into_bytes().into()
}

/// The dialog that a SUBSCRIBE opens; `None` after an answer.
fn opened<C: Cx>(cx: &C, request: &Message, flow: Flow, watcher: &Aor, local_tag: &[u8]) -> Option<Subscription> {
    let own = cx.view().own.clone();
    let Some(contact) = request.contacts().next() else {
        refuse(cx, request, 400, "Contact Missing");
        return None;
    };
    let remote_tag = request.from().tag().unwrap_or_default();
    let event = Params::parse(request.header(Name::Event).and_then(event_params).unwrap_or_default());
    let subscription = Subscription {
        id: Subscription::id_for(request.call_id(), local_tag, remote_tag),
        package: PACKAGE.as_bytes().into(),
        event_id: event.ok().and_then(|params| params.get("id")).map(Box::from),
        subscriber: watcher.as_str().into(),
        call_id: request.call_id().into(),
        local_tag: local_tag.into(),
        remote_tag: remote_tag.into(),
        local_uri: request.to().uri.into(),
        remote_uri: request.from().uri.into(),
        target: contact.uri.into(),
        routes: request.record_routes().map(|route| route.uri.into()).collect(),
        remote_cseq: request.cseq().0,
        reserved: BLOCK,
        expires: 0,
        flow: FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow },
    };
    if subscription.routes.len() > MAX_ROUTES || subscription.encode().len() > MAX_RECORD {
        refuse(cx, request, 400, "Dialog Too Large");
        return None;
    }
    Some(subscription)
}

fn event_params(value: &[u8]) -> Option<&[u8]> {
    value.iter().position(|b| *b == b';').map(|at| &value[at..])
}

/// What a SUBSCRIBE makes of its dialog.
struct Step {
    subscription: Subscription,
    /// The version that is replaced.
    read: Option<Position>,
    /// The first number to use where this server has none.
    first: u32,
}

/// Decides; `None` after an answer.
async fn step<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor, group: GroupId, watcher: &Aor) -> Option<Step> {
    let in_dialog = request.to().tag();
    let tag = in_dialog.map_or_else(|| local_tag(cx, request), Box::from);
    let fresh = opened(cx, request, flow, watcher, &tag)?;
    let existing = subscriptions(cx, group, user).await;
    let Some((old, version)) = existing.iter().find(|(known, _)| known.id == fresh.id) else {
        if in_dialog.is_some() {
            refuse(cx, request, 481, "Subscription Does Not Exist");
            return None;
        }
        if existing.len() >= MAX_SUBSCRIPTIONS {
            refuse(cx, request, 403, "Too Many Subscriptions");
            return None;
        }
        return Some(Step { subscription: fresh, read: None, first: 1 });
    };
    if old.subscriber != fresh.subscriber {
        refuse(cx, request, 481, "Subscription Does Not Exist");
        return None;
    }
    if request.cseq().0 <= old.remote_cseq {
        refuse(cx, request, 500, "SUBSCRIBE Out Of Order");
        return None;
    }
    let (reserved, first) = match has_numbers(cx, user, old) {
        true => (old.reserved, old.reserved + 1),
        false => (old.reserved.saturating_add(BLOCK), old.reserved + 1),
    };
    // A request inside the dialog brings no new route set (RFC 3261 §12.2).
    let routes = if in_dialog.is_some() { old.routes.clone() } else { fresh.routes.clone() };
    let event_id = old.event_id.clone();
    Some(Step { subscription: Subscription { routes, event_id, reserved, ..fresh }, read: Some(*version), first })
}

fn accept<C: Cx>(cx: &C, request: &Message, flow: Flow, subscription: &Subscription, seconds: u32) {
    let view = cx.view();
    let tag = String::from_utf8_lossy(&subscription.local_tag).into_owned();
    let at = view.listener(flow.listener, flow.transport).map_or("invalid", |l| l.record_route.as_str());
    let reply = Reply::to(request, 200).to_tag(&tag);
    let reply = reply.header("Contact", format!("<sip:{at}>")).header("Expires", seconds.to_string());
    cx.count(Counter::SubscribeAccepted);
    cx.respond(200, reply.build());
}

/// Handles one SUBSCRIBE to a user who should be served here. What is to be told the subscriber follows its answer.
pub async fn subscribe<C: Cx>(cx: &C, request: &Message, flow: Flow, user: &Aor) -> Option<Notice> {
    let watcher = watcher(cx, request, flow, user).await?;
    let group = match cx.placed(user).await {
        Place::Here { group } => group,
        Place::NoSuchUser => {
            refuse(cx, request, 404, "Not Found");
            return None;
        }
        _ => {
            replies::try_later(cx, request, "Subscriptions Not Possible Now");
            return None;
        }
    };
    let seconds = granted(cx, request)?;
    // One retry: a conflict means that numbers were taken, or another SUBSCRIBE was faster.
    for _ in 0..2 {
        let mut step = step(cx, request, flow, user, group, &watcher).await?;
        step.subscription.expires = cx.now().wall + u64::from(seconds) * 1000;
        let done = match (seconds, step.read) {
            (0, None) => None,
            (0, Some(version)) => {
                let key = subscription_key(user.as_str(), &step.subscription.id);
                let (reads, writes) = (vec![(key.clone(), Some(version))], vec![Write::Delete { key }]);
                Some(cx.commit(group, Proposal { reads, writes, ..Proposal::default() }).await)
            }
            _ => Some(write(cx, group, user, &step.subscription, step.read).await),
        };
        match done {
            Some(Done::Refused(Refusal::Conflict(_))) => continue,
            Some(done) if !is_written(&done) => break,
            _ => {}
        }
        accept(cx, request, flow, &step.subscription, seconds);
        let bindings = bindings(cx, group, user).await;
        let wall = cx.now().wall;
        return Some(cx.watching(|table| match seconds {
            0 => {
                let fresh = Told { subscription: step.subscription.clone(), next: step.first, shown: None };
                let mut told = table.end(user.as_str(), &step.subscription.id).unwrap_or(fresh);
                told.subscription = step.subscription;
                everything(user, &mut told, bindings, Standing::Terminated("timeout"), wall)
            }
            _ => {
                let told = table.keep(user.as_str(), &step.subscription, step.first);
                everything(user, told, bindings, Standing::Active, wall)
            }
        }));
    }
    replies::try_later(cx, request, "Subscription Not Stored");
    None
}
