//! Traces in the API: orders from requests, their audit, and their answers.
//!
//! Owns the mapping and the words of refusals. Does not own traces (`capture`). A server's own matter: the node never hears of it, and
//! whoever traces a deployment asks each of its servers.

use super::params::Params;
use super::problem::{bad_request, problem};
use crate::capture::{TraceError, TraceOrder};
use pairline_node::command::{Actor, Problem};

/// How long a trace lasts if nothing is said, in seconds.
const SECONDS: u32 = 60;

type Built = Result<TraceOrder, Problem>;

/// `POST /traces`.
pub fn start(p: &Params) -> Built {
    Ok(TraceOrder::Start { user: p.need("user")?, seconds: p.get("seconds")?.unwrap_or(SECONDS) })
}

/// `GET /traces/{id}`.
pub fn read(p: &Params) -> Built {
    let after = p.query("after").unwrap_or_else(|| "0".to_owned());
    let after = after.parse().map_err(|_| bad_request("`after` must be the number of a message."))?;
    Ok(TraceOrder::Read { id: id(p)?, after })
}

/// `DELETE /traces/{id}`.
pub fn stop(p: &Params) -> Built {
    Ok(TraceOrder::Stop { id: id(p)? })
}

fn id(p: &Params) -> Result<u64, Problem> {
    p.path("id")?.parse().map_err(|_| bad_request("A trace has a number for its name."))
}

/// Writes the audit record of an order; reading on is part of what was begun.
pub fn audit(actor: &Actor, order: &TraceOrder) {
    let who = match actor {
        Actor::Administrator(name) => name.as_str(),
        Actor::User(user) => user.as_str(),
        Actor::Server => "server",
    };
    match order {
        TraceOrder::Start { user, seconds } => {
            crate::logging::audit(who, "trace-start", &format!("{user} seconds={seconds}"));
        }
        TraceOrder::Stop { id } => crate::logging::audit(who, "trace-stop", &id.to_string()),
        TraceOrder::Read { .. } => {}
    }
}

/// What a refused order is answered.
pub fn refused(error: TraceError) -> Problem {
    let (status, kind, title, remedy) = match error {
        TraceError::User | TraceError::Seconds => return bad_request(format!("{error}.")),
        TraceError::TooMany => (503, "too-many-traces", "Too many traces", "Wait until one has ended."),
        TraceError::Unknown => {
            (404, "no-such-trace", "No such trace", "Start it again with `pairline trace user NAME`.")
        }
    };
    problem(status, kind, title, format!("{error}."), remedy)
}
