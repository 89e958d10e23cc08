//! Digest for the user's HTTP API (RFC 7616): the same passwords and nonces as SIP.
//!
//! Owns the verdict on one Authorization header. Does not own bearer tokens (the server's API does).

use super::{Kept, Who, Worth, challenge_value, named_user, weigh};
use crate::cx::{Cx, Place};
use crate::metrics::Counter;
use crate::settings::DeploymentView;
use pairline_sip::auth::{Algorithm, Credentials};
use pairline_sip::uri::Aor;

/// What an HTTP request's Authorization is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpVerdict {
    /// It comes from this user.
    User(Aor),
    /// Answer 401 with this WWW-Authenticate value.
    Challenge(String),
    /// The user's pool cannot be reached, so nobody can tell: answer 503.
    Unavailable,
}

/// The user whom an Authorization header names, proven or not: the pool that serves that user is to be asked.
pub fn http_claim(view: &DeploymentView, authorization: &[u8]) -> Option<Aor> {
    named_user(&Credentials::parse(authorization).ok()?, &view.default_domain)
}

/// Weighs the Authorization header of an HTTP request with that method and request target. SHA-256 only.
pub async fn http_digest<C: Cx>(cx: &C, authorization: Option<&[u8]>, method: &str, target: &str) -> HttpVerdict {
    let view = cx.view();
    let domain = view.default_domain.clone();
    let again = |stale| {
        cx.count(if stale { Counter::AuthStale } else { Counter::AuthChallenge });
        HttpVerdict::Challenge(challenge_value(
            &view,
            &domain,
            Algorithm::Sha256,
            (stale, false),
            cx.now().wall,
            cx.random(),
        ))
    };
    let credentials = authorization.and_then(|value| Credentials::parse(value).ok());
    let Some(credentials) = credentials else {
        return again(false);
    };
    // HTTP clients send the very target, so it must be the one that is asked for.
    if *credentials.realm != *view.realm(&domain).as_bytes() || *credentials.uri != *target.as_bytes() {
        return again(false);
    }
    let Some(user) = named_user(&credentials, &domain) else {
        return again(false);
    };
    let kept = Kept::of(cx, &user).await;
    if matches!(kept.place, Place::Unavailable { .. }) {
        return HttpVerdict::Unavailable;
    }
    let who = Who { user: &user, kept: &kept };
    match weigh(cx, &credentials, method.as_bytes(), who, Algorithm::Sha256).await {
        Worth::Good => {
            cx.count(Counter::AuthAccepted);
            HttpVerdict::User(user)
        }
        Worth::Stale => again(true),
        Worth::Unread => HttpVerdict::Unavailable,
        Worth::Wrong | Worth::Another => {
            cx.count(Counter::AuthFailed);
            again(false)
        }
    }
}
