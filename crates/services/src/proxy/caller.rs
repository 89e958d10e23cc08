//! Who sends a request outside a dialog, and who vouches for it.
//!
//! Owns the way from what is proven to what the request says of its caller from here on. Does not own what a proof is worth
//! (`access`) nor digests (`auth`).

use super::hop;
use crate::access::{Entry, Origin, Proof};
use crate::auth::{self, Kept, Realm, Who};
use crate::cx::{Cx, Peer, Place};
use crate::forward::Asserted;
use crate::metrics::Counter;
use crate::replies;
use pairline_sip::flow::Flow;
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
    /// Other servers serve the caller and must authenticate it.
    ServedBy {
        /// Which.
        at: Peer,
        /// Who the caller says it is.
        user: Aor,
        /// It knows that user's password, by the copy that is here.
        proven: bool,
    },
    /// Refused or challenged; the answer is on its way.
    Answered,
}

/// What a request says of a caller for whom nobody asked for credentials.
pub fn unasked<C: Cx>(cx: &C, request: &Message, entry: &Entry) -> Asserted {
    match (&entry.proof, &entry.origin) {
        (Proof::Peer, _) if request.has(Name::PAssertedIdentity) => Asserted::Keep,
        (Proof::Peer, _) => Asserted::Vouched,
        (Proof::Certificate, Origin::Own(user)) if cx.place(user) != Place::NoSuchUser => Asserted::Set(user.clone()),
        _ => Asserted::Strip,
    }
}

/// The user that the request claims to come from; `None` after an answer.
fn claimed<C: Cx>(cx: &C, request: &Message, flow: Flow, origin: Origin) -> Option<Aor> {
    let view = cx.view();
    match origin {
        Origin::Own(user) => return Some(user),
        // RFC 3323: the name is hidden, the credentials are not.
        Origin::Anonymous => match auth::claimed_user(&view, request) {
            Some(user) => return Some(user),
            None => auth::challenge(cx, request, flow, Realm::Proxy, &view.default_domain, false),
        },
        Origin::Outside | Origin::Unread => {
            cx.count(Counter::Refused);
            replies::refuse(cx, request, 403, "Caller Of Another Domain");
        }
    }
    None
}

/// Finds out who calls, challenges where that is not proven.
pub async fn identify<C: Cx>(cx: &C, request: &Message, flow: Flow, entry: Entry) -> Caller {
    if !entry.challenge {
        let asserted = unasked(cx, request, &entry);
        if entry.proof == Proof::Certificate && asserted == Asserted::Strip {
            cx.count(Counter::Refused);
            replies::refuse(cx, request, 403, "No Such Caller");
            return Caller::Answered;
        }
        return Caller::Known { asserted, consumed: false };
    }
    let Some(user) = claimed(cx, request, flow, entry.origin) else {
        return Caller::Answered;
    };
    let view = cx.view();
    let offered = auth::credentials_for(request, Realm::Proxy, view.realm(user.domain()));
    if offered.is_none() && !auth::may_be_proven(&view, request, flow, Realm::Proxy, user.domain()) {
        auth::challenge(cx, request, flow, Realm::Proxy, user.domain(), false);
        return Caller::Answered;
    }
    let kept = Kept::of(cx, &user).await;
    let who = Who { user: &user, kept: &kept };
    let reachable = match kept.place {
        Place::NoSuchUser | Place::Here { .. } | Place::Resiliency { .. } => true,
        Place::Elsewhere { .. } if offered.is_none() => {
            // Asking the other pool first would take a time that nobody else's challenge takes.
            auth::challenge(cx, request, flow, Realm::Proxy, user.domain(), false);
            return Caller::Answered;
        }
        // Weighed here, whoever serves the user: the answer says nothing of that then.
        Place::Elsewhere { .. } if auth::names_another(&view, request, Realm::Proxy, &user) => true,
        Place::Elsewhere { at, .. } if hop::to_peer(cx, request, at, None).is_some() => {
            let proven = auth::knows_password(cx, request, flow, Realm::Proxy, who);
            return Caller::ServedBy { at, user, proven };
        }
        Place::Elsewhere { .. } | Place::Unavailable { .. } => false,
    };
    if !auth::authenticate_by(cx, request, flow, Realm::Proxy, who, offered).await {
        return Caller::Answered;
    }
    // Only told to who has proven to be that user: strangers learn from it who exists.
    if !reachable {
        replies::try_later(cx, request, "Caller's Pool Not Reachable");
        return Caller::Answered;
    }
    note_preferred(cx, request, &user);
    Caller::Known { asserted: Asserted::Set(user), consumed: true }
}

/// A P-Preferred-Identity chooses among the identities of a user (RFC 3325 §9.2). Here each has one, which is asserted whatever
/// is preferred; a wish for somebody else's is counted.
fn note_preferred<C: Cx>(cx: &C, request: &Message, user: &Aor) {
    if request.has(Name::PPreferredIdentity)
        && request
            .addresses(Name::PPreferredIdentity)
            .any(|wish| wish.parse_uri().ok().and_then(|uri| uri.aor()).is_none_or(|wished| wished != *user))
    {
        cx.count(Counter::AuthMismatch);
    }
}
