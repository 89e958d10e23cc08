//! Whom the Authorization header of an HTTP request proves: the API asks, the user's serving pool answers.
//!
//! Owns the translation. The verdict is `services::auth`'s; challenging and refusing over HTTP is the server's.

use crate::command::{Problem, Reply};
use crate::cx::TaskCx;
use pairline_services::auth::{HttpVerdict, http_claim, http_digest};
use pairline_services::cx::{Cx, Peer, Place};

/// Who authenticates the user whom a header names, if it is other servers that can be asked.
pub async fn place_of_work(cx: &TaskCx, authorization: Option<&str>) -> Option<Peer> {
    let user = http_claim(&cx.view(), authorization?.as_bytes())?;
    match cx.placed(&user).await {
        Place::Elsewhere { at, .. } => Some(at),
        _ => None,
    }
}

/// Weighs the header of a request with that method and target.
pub async fn execute(cx: &TaskCx, authorization: Option<&str>, method: &str, target: &str) -> Result<Reply, Problem> {
    match http_digest(cx, authorization.map(str::as_bytes), method, target).await {
        HttpVerdict::User(user) => Ok(Reply::Proof { user: Some(user.as_str().to_owned()), challenge: None }),
        HttpVerdict::Challenge(value) => Ok(Reply::Proof { user: None, challenge: Some(value) }),
        HttpVerdict::Unavailable => Err(Problem::new(
            503,
            "authentication-unavailable",
            "nobody can tell now",
            "the pool that knows this user's password cannot be reached",
            "repeat in a few seconds; after the detection interval the partner answers",
        )),
    }
}
