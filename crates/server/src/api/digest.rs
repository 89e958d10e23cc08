//! Users with their own passwords: HTTP Digest (RFC 7616) on the routes that belong to a user.
//!
//! Owns what is asked of the node and what follows from its answer. Does not own the verdict (`pairline_services::auth`), nor
//! passwords: the node asks the pool that serves the user.

use super::auth::{Asked, authorise_user};
use super::handler::{ApiState, run};
use super::problem;
use axum::http::{Uri, header};
use pairline_node::command::{Actor, Command, Problem, Reply};

/// Longest Authorization header that is weighed, in bytes; a longer one counts as none.
const LONGEST_HEADER: usize = 4096;

/// Longest request target that is weighed, in bytes; with a longer one nobody is proven.
const LONGEST_TARGET: usize = 8192;

/// Whom a request proves to come from.
pub enum Proven {
    /// This user, and the route is within its reach.
    By(Actor),
    /// Nobody: answer 401 with this challenge.
    Nobody {
        /// Value of WWW-Authenticate.
        challenge: String,
    },
}

/// Asks the node whom a request proves to come from.
///
/// # Errors
/// 403 if it is a user whom the route does not belong to; 503 if nobody can tell now.
pub async fn prove(state: &ApiState, asked: &Asked<'_>, method: &str, uri: &Uri) -> Result<Proven, Problem> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authorization = asked
        .headers
        .get(header::AUTHORIZATION)
        .filter(|value| value.len() <= LONGEST_HEADER && target.len() <= LONGEST_TARGET)
        .and_then(|value| String::from_utf8(value.as_bytes().to_vec()).ok());
    let target = target.get(..LONGEST_TARGET).unwrap_or(target).to_owned();
    let command = Command::UserProve { authorization, method: method.to_owned(), target };
    match run(state, Actor::Administrator("api".into()), command).await? {
        Reply::Proof { user: Some(user), .. } => authorise_user(asked, user).map(Proven::By),
        Reply::Proof { user: None, challenge: Some(challenge) } => Ok(Proven::Nobody { challenge }),
        _ => Err(problem::problem(
            500,
            "unexpected-reply",
            "Unexpected answer",
            "The node answered something else.",
            "Report it.",
        )),
    }
}
