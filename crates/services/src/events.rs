//! Event packages: who answers a SUBSCRIBE, and notifications on their way.
//!
//! Owns the order of the two: a package (`regevent`) says what is to be told, the proxy brings it there, and the package
//! learns how that ended. Does not own what is told nor the way.

use crate::auth::Kept;
use crate::cx::{Cx, Place, TaskEvent};
use crate::forward::Asserted;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::proxy::{self, Own, Went};
use crate::regevent::{self, Notice, PACKAGE};
use crate::replies;
use crate::routes::RouteSet;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;

/// Least pause between two notifications of the same subscribers, in milliseconds (RFC 3680 §4.10).
const PAUSE_MS: u64 = 5_000;

/// 489 with the packages that are spoken: RFC 6665 §4.2.1.2 wants it, never silence.
pub fn bad_event<C: Cx>(cx: &C, request: &Message) {
    cx.count(Counter::Refused);
    replies::refuse_with(cx, request, 489, "Bad Event", &[("Allow", replies::ALLOW), ("Allow-Events", PACKAGE)]);
}

/// Whether a SUBSCRIBE is for this deployment itself: inside a dialog that it has opened, whichever server did.
pub fn is_ours<C: Cx>(cx: &C, request: &Message, routes: &RouteSet) -> bool {
    *request.method() == Method::Subscribe
        && routes.next.is_none()
        && classify(&cx.view(), request.request_uri()) == Whose::Server
}

/// Handles a SUBSCRIBE for a user, or inside a dialog with this deployment.
pub async fn subscribe<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, whose: Whose) {
    if !regevent::is_asked(request) {
        return bad_event(cx, request);
    }
    // In a dialog the Request-URI is ours, and To still says who is watched.
    let watched = match whose {
        Whose::Server if request.to().has_param("tag") => classify(&cx.view(), request.to().uri),
        other => other,
    };
    let Whose::User(user) = watched else {
        return replies::refuse(cx, request, 404, "No User Named");
    };
    // Nobody who offers nothing learns where a name is served, nor that it is nobody's.
    if let Some(asserted) = regevent::is_weighed_there(cx, request, flow).await {
        for _ in 0..proxy::ATTEMPTS {
            let kept = Kept::of(cx, &user).await;
            kept.even_out(cx, &user);
            let Place::Elsewhere { at, .. } = kept.place else { break };
            let stranger = (asserted == Asserted::Strip).then_some(&user);
            let told = (stranger, &asserted);
            if proxy::to_serving_servers(cx, request, flow, routes, at, told).await == Went::Answered {
                return;
            }
        }
    }
    if let Some(notice) = regevent::subscribe(cx, request, flow, &user).await {
        tell(cx, vec![notice]).await;
    }
}

/// Sends notifications and waits until each has ended.
async fn tell<C: Cx>(cx: &C, notices: Vec<Notice>) {
    let wall = cx.now().wall;
    let requests = notices.iter().map(|notice| Own {
        method: Method::Notify,
        target: &notice.subscription.target,
        routes: &notice.subscription.routes,
        flow: notice.subscription.flow,
        party: &notice.subscription.subscriber,
        headers: notice.headers(wall),
        body: (notice.content_type(), notice.body.as_bytes()),
    });
    let ends = proxy::originate(cx, requests.collect()).await;
    for (notice, end) in notices.iter().zip(ends) {
        let sent = match end {
            proxy::End::Final(status) => regevent::Sent::Final(status),
            proxy::End::Silent => regevent::Sent::Silent,
            proxy::End::Unreached => regevent::Sent::Unreached,
        };
        regevent::conclude(cx, notice, sent).await;
    }
}

/// Tells the subscribers of a user what has changed, until nothing has. Started by whoever sees a change
/// ([`crate::watching::Table::change`]).
pub async fn changed<C: Cx>(cx: C, user: Aor) {
    loop {
        let notices = regevent::due(&cx, &user).await;
        if !notices.is_empty() {
            tell(&cx, notices).await;
            cx.set_deadline(Some(cx.now().mono + PAUSE_MS));
            while !matches!(cx.event().await, TaskEvent::Deadline) {}
        }
        if !cx.watching(|table| table.again(user.as_str())) {
            return;
        }
    }
}
