//! The registration event package (RFC 3680): who may watch a user's registrations, and what the watchers are told.
//!
//! Owns the package's rules from SUBSCRIBE to the document. A user may watch itself, and so may those whom the deployment
//! names. Does not own the way of a NOTIFY (`proxy`) nor the order of the two (`events`).

mod changes;
mod document;
mod notice;
mod subscribe;

pub use notice::{Notice, Standing};
pub use subscribe::{is_weighed_there, subscribe};

use crate::binding::Binding;
use crate::cx::{Cx, Place};
use crate::metrics::Counter;
use crate::records::{BINDING, SUBSCRIPTION, subscription_key};
use crate::subscription::{BLOCK, Subscription};
use crate::watching::Told;
use document::Registration;
use pairline_group::io::{Done, Proposal, Write, WriteClass};
use pairline_group::{GroupId, Millis, Position};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// Name of the package.
pub const PACKAGE: &str = "reg";

/// How a NOTIFY ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// With this final status.
    Final(u16),
    /// Nobody answered.
    Silent,
    /// There is no way to the subscriber now.
    Unreached,
}

/// The package that an Event header names, without its parameters.
fn event_package(request: &Message) -> &[u8] {
    let value = request.header(Name::Event).unwrap_or_default();
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether a request is of this package.
pub fn is_asked(request: &Message) -> bool {
    event_package(request).eq_ignore_ascii_case(PACKAGE.as_bytes())
}

/// A user's bindings that have not ended.
async fn bindings<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Vec<Binding> {
    let wall = cx.now().wall;
    let mut found = Vec::new();
    for (_, record) in cx.read_all(group, user.as_str(), Some(BINDING)).await {
        match Binding::from_record(&record) {
            Ok(binding) if binding.expires > wall => found.push(binding),
            Ok(_) => {}
            Err(_) => cx.count(Counter::RecordUnreadable),
        }
    }
    found
}

/// The subscriptions to a user that have not ended, with the versions of their records.
async fn subscriptions<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Vec<(Subscription, Position)> {
    let wall = cx.now().wall;
    let mut found = Vec::new();
    for (_, record) in cx.read_all(group, user.as_str(), Some(SUBSCRIPTION)).await {
        match Subscription::from_record(&record) {
            Ok(subscription) if subscription.expires > wall => found.push((subscription, record.version)),
            Ok(_) => {}
            Err(_) => cx.count(Counter::RecordUnreadable),
        }
    }
    found
}

fn is_written(done: &Done) -> bool {
    matches!(done, Done::Committed(_) | Done::Duplicate(_) | Done::NoChange(_))
}

/// Writes a subscription in place of the version that was read.
async fn write<C: Cx>(cx: &C, group: GroupId, user: &Aor, subscription: &Subscription, read: Option<Position>) -> Done {
    let key = subscription_key(user.as_str(), &subscription.id);
    let lives = subscription.expires.saturating_sub(cx.now().wall).max(1);
    let put = Write::Put { key: key.clone(), class: WriteClass::Soft { lives }, value: subscription.encode() };
    cx.commit(group, Proposal { reads: vec![(key, read)], writes: vec![put], ..Proposal::default() }).await
}

/// Whether this server has numbers for a subscription that nobody else may use.
fn has_numbers<C: Cx>(cx: &C, user: &Aor, subscription: &Subscription) -> bool {
    cx.watching(|table| {
        let told = table.told(user.as_str(), &subscription.id);
        told.is_some_and(|t| t.subscription.reserved == subscription.reserved && t.next <= subscription.reserved)
    })
}

/// Takes a block of numbers; `None` if it could not be written.
async fn reserve<C: Cx>(
    cx: &C,
    group: GroupId,
    user: &Aor,
    old: &Subscription,
    version: Position,
) -> Option<Subscription> {
    let fresh = Subscription { reserved: old.reserved.saturating_add(BLOCK), ..old.clone() };
    let written = is_written(&write(cx, group, user, &fresh, Some(version)).await);
    written.then(|| {
        cx.watching(|table| table.keep(user.as_str(), &fresh, old.reserved + 1).shown = None);
        fresh
    })
}

/// A notification with everything; `told` knows afterwards that it was.
fn everything(user: &Aor, told: &mut Told, bindings: Vec<Binding>, standing: Standing, wall: Millis) -> Notice {
    let state = if bindings.is_empty() { Registration::Init } else { Registration::Active };
    let contacts = changes::all(&bindings);
    let notice = numbered(told, standing, |version| document::write(user, version, true, state, &contacts, wall), user);
    told.shown = Some(bindings);
    notice
}

/// Takes the next number. The document's version is the CSeq less one: both rise by one with each notification, and a new
/// block is a gap in both, after which everything is told.
fn numbered(told: &mut Told, standing: Standing, body: impl FnOnce(u32) -> String, user: &Aor) -> Notice {
    let cseq = told.next;
    told.next += 1;
    let body = body(cseq - 1);
    Notice { user: user.clone(), subscription: told.subscription.clone(), cseq, standing, body }
}

/// What the subscribers of a user have to be told now.
pub async fn due<C: Cx>(cx: &C, user: &Aor) -> Vec<Notice> {
    match cx.place(user) {
        Place::Here { group } => of_group(cx, group, user).await,
        Place::NoSuchUser => over(cx, user, &[]),
        // Whoever serves the user goes on with the dialogs.
        _ => {
            cx.watching(|table| table.forget(user.as_str()));
            Vec::new()
        }
    }
}

/// The last notifications of subscriptions that are not among `live` any more.
fn over<C: Cx>(cx: &C, user: &Aor, live: &[[u8; 16]]) -> Vec<Notice> {
    let ended = cx.watching(|table| table.ended(user.as_str(), live));
    let wall = cx.now().wall;
    let mut notices = Vec::new();
    for mut told in ended.into_iter().filter(|told| told.next <= told.subscription.reserved) {
        let reason = if told.subscription.expires <= wall { "timeout" } else { "noresource" };
        let shown = told.shown.take().unwrap_or_default();
        let kept: Vec<Binding> = shown.into_iter().filter(|b| reason == "timeout" && b.expires > wall).collect();
        notices.push(everything(user, &mut told, kept, Standing::Terminated(reason), wall));
    }
    notices
}

async fn of_group<C: Cx>(cx: &C, group: GroupId, user: &Aor) -> Vec<Notice> {
    let subscriptions = subscriptions(cx, group, user).await;
    let live: Vec<[u8; 16]> = subscriptions.iter().map(|(subscription, _)| subscription.id).collect();
    let mut notices = over(cx, user, &live);
    let mut ready = Vec::with_capacity(subscriptions.len());
    for (subscription, version) in subscriptions {
        let subscription = match has_numbers(cx, user, &subscription) {
            true => Some(subscription),
            // Not written: another SUBSCRIBE was faster and tells, or another server serves the user now.
            false => reserve(cx, group, user, &subscription, version).await,
        };
        ready.extend(subscription);
    }
    // Read last, so that what is told is not older than what was told before.
    let bindings = bindings(cx, group, user).await;
    let dropped = cx.watching(|table| table.take_dropped(user.as_str()));
    let wall = cx.now().wall;
    for subscription in ready {
        notices.extend(cx.watching(|table| {
            let told = table.keep(user.as_str(), &subscription, subscription.reserved + 1);
            let Some(shown) = told.shown.take() else {
                return Some(everything(user, told, bindings.clone(), Standing::Active, wall));
            };
            let changes = changes::between(&shown, &bindings, &dropped, wall);
            told.shown = Some(bindings.clone());
            let state = if bindings.is_empty() { Registration::Terminated } else { Registration::Active };
            let tell = !changes.is_empty() && told.next <= told.subscription.reserved;
            let body = |version| document::write(user, version, false, state, &changes, wall);
            tell.then(|| numbered(told, Standing::Active, body, user))
        }));
    }
    notices
}

/// Draws the conclusion from how a NOTIFY ended: a dialog that the subscriber does not know is over, and one that could not be
/// reached is told everything when it can be.
pub async fn conclude<C: Cx>(cx: &C, notice: &Notice, sent: Sent) {
    let (user, id) = (notice.user.as_str(), &notice.subscription.id);
    match sent {
        Sent::Final(200..=299) => cx.count(Counter::NotifySent),
        _ if notice.standing != Standing::Active => cx.count(Counter::NotifyFailed),
        Sent::Unreached | Sent::Final(500 | 503) => {
            cx.count(Counter::NotifyFailed);
            cx.watching(|table| {
                if let Some(told) = table.told(user, id) {
                    told.shown = None;
                }
            });
        }
        Sent::Final(_) | Sent::Silent => {
            cx.count(Counter::NotifyFailed);
            cx.count(Counter::SubscriptionLost);
            cx.watching(|table| table.end(user, id));
            if let Place::Here { group } = cx.place(&notice.user) {
                let writes = vec![Write::Delete { key: subscription_key(user, id) }];
                // Should it fail, the next NOTIFY ends the same way.
                let _ = cx.commit(group, Proposal { writes, ..Proposal::default() }).await;
            }
        }
    }
}
