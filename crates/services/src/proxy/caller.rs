//! Who sends a request outside a dialog, and who vouches for it.
//!
//! Owns the table caller × transport × credentials. Does not own digests (`auth`).

use super::hop;
use crate::auth::{self, Realm, Who};
use crate::cx::{Cx, Place};
use crate::forward::Asserted;
use crate::ident::{Whose, classify};
use crate::metrics::Counter;
use crate::replies;
use pairline_group::PoolId;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::uri::Aor;

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Known.
    Known {
        /// What the request says of it from here on.
        asserted: Asserted,
        /// Our credentials in the request were used up.
        consumed: bool,
    },
    /// The other pool serves the caller and must authenticate it.
    ServedBy {
        /// Which.
        pool: PoolId,
        /// Who the caller says it is.
        user: Aor,
        /// It knows that user's password, by the copy that is here.
        proven: bool,
    },
    /// Refused or challenged; the answer is on its way.
    Answered,
}

/// Whether the partner vouches for the caller: it authenticated it, and says so inside the mutually authenticated link.
pub fn asserted_by_peer(request: &Message, flow: Flow) -> bool {
    flow.transport == Transport::Peer && request.has(Name::PAssertedIdentity)
}

fn is_anonymous(uri: &[u8]) -> bool {
    let lower = uri.to_ascii_lowercase();
    lower.ends_with(b"@anonymous.invalid") || lower == b"sip:anonymous.invalid"
}

/// The user that the request claims to come from; `None` after an answer.
fn claimed<C: Cx>(cx: &C, request: &Message, flow: Flow) -> Option<Aor> {
    let view = cx.view();
    let from = request.from();
    match classify(&view, from.uri) {
        Whose::User(user) => return Some(user),
        // RFC 3323: the name is hidden, the credentials are not.
        Whose::Foreign if is_anonymous(from.uri) => match auth::claimed_user(&view, request) {
            Some(user) => return Some(user),
            None => auth::challenge(cx, request, flow, Realm::Proxy, &view.default_domain, false),
        },
        Whose::Malformed => replies::refuse(cx, request, 400, "Malformed From"),
        _ => {
            cx.count(Counter::Refused);
            replies::refuse(cx, request, 403, "Caller Of Another Domain");
        }
    }
    None
}

/// Finds out who calls, challenges where that is not proven.
pub async fn identify<C: Cx>(cx: &C, request: &Message, flow: Flow) -> Caller {
    if asserted_by_peer(request, flow) {
        return Caller::Known { asserted: Asserted::Keep, consumed: false };
    }
    let Some(user) = claimed(cx, request, flow) else {
        return Caller::Answered;
    };
    let (group, reachable) = match cx.place(&user) {
        Place::NoSuchUser => (None, true),
        Place::Here { group } | Place::Resiliency { group } => (Some(group), true),
        Place::Elsewhere { .. } if !auth::are_offered(&cx.view(), request, Realm::Proxy, user.domain()) => {
            // Asking the other pool first would take a time that nobody else's challenge takes.
            auth::challenge(cx, request, flow, Realm::Proxy, user.domain(), false);
            return Caller::Answered;
        }
        Place::Elsewhere { group, pool } if hop::to_peer(cx, request, pool, None).is_none() => (Some(group), false),
        Place::Elsewhere { group, pool } => {
            let who = Who { user: &user, group: Some(group) };
            let proven = auth::knows_password(cx, request, flow, Realm::Proxy, who).await;
            return Caller::ServedBy { pool, user, proven };
        }
        Place::Unavailable { group, .. } => (Some(group), false),
    };
    let who = Who { user: &user, group };
    if !auth::authenticate(cx, request, flow, Realm::Proxy, who).await {
        return Caller::Answered;
    }
    // Only told to who has proven to be that user: strangers learn from it who exists.
    if !reachable {
        replies::try_later(cx, request, "Caller's Pool Not Reachable");
        return Caller::Answered;
    }
    Caller::Known { asserted: Asserted::Set(user), consumed: true }
}
