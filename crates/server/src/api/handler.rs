//! From an HTTP request to a command and back: one handler for every route of the table.
//!
//! Owns routing, size limits, deadlines and the order authorise → audit → command. Does not own sockets (`serve`).

use super::auth::{Asked, audit_words, authorise};
use super::digest::{self, Proven};
use super::metrics;
use super::openapi;
use super::params::{Params, decode_query};
use super::port::CommandPort;
use super::problem::{self, bad_request, timed_out};
use super::routes::{Access, Action, ROUTES, Route, Verb};
use super::token::Tokens;
use super::traces;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, RawPathParams, Request};
use axum::http::{HeaderValue, Response, header};
use axum::routing::{MethodFilter, MethodRouter, on};
use pairline_node::command::{Actor, Command, Problem, Reply};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest request body in bytes. An import's client cuts its batches by it.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// How long a command may take, in seconds. Procedures answer when they have started, not when they end.
const COMMAND_SECONDS: u64 = 120;

/// What every request needs.
pub struct ApiState {
    /// The node.
    pub port: Arc<dyn CommandPort>,
    /// Tokens.
    pub tokens: Tokens,
    /// This server's name, for `/health`.
    pub server: String,
}

/// The peer of a connection, as an extension of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The router of the whole table. `Extension<Peer>` must be set by the listener.
pub fn router(state: Arc<ApiState>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let state = Arc::clone(&state);
        let method: MethodRouter =
            on(filter(route.verb), move |Extension(peer): Extension<Peer>, path: RawPathParams, request: Request| {
                let state = Arc::clone(&state);
                async move { handle(&state, route, peer, &path, request).await }
            });
        router = router.route(route.path, method);
    }
    router.fallback(|| async {
        problem::response(&problem::problem(
            404,
            "no-such-route",
            "No such route",
            "The API has no such path or method.",
            "See /openapi.json.",
        ))
    })
}

fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Put => MethodFilter::PUT,
        Verb::Patch => MethodFilter::PATCH,
        Verb::Delete => MethodFilter::DELETE,
    }
}

async fn handle(state: &ApiState, route: &Route, peer: Peer, path: &RawPathParams, request: Request) -> Response<Body> {
    match answer(state, route, peer, path, request).await {
        Ok(response) => response,
        Err(problem) => problem::response(&problem),
    }
}

async fn answer(
    state: &ApiState,
    route: &Route,
    peer: Peer,
    path: &RawPathParams,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let mut params = Params::default();
    params.path.extend(path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    params.query = decode_query(request.uri().query().unwrap_or_default())
        .ok_or_else(|| bad_request("The query string cannot be decoded."))?;
    let asked = Asked {
        access: route.access,
        headers: request.headers(),
        local: peer.0.ip().is_loopback(),
        subject: params.path.get("user").map(String::as_str),
        wall_seconds: wall_seconds(),
    };
    // Before the body is read: a stranger costs no memory.
    let actor = match authorise(&state.tokens, &asked) {
        Err(refused) if refused.status == 401 && route.access == Access::Owner => {
            match digest::prove(state, &asked, request.method().as_str(), request.uri()).await? {
                Proven::By(actor) => actor,
                Proven::Nobody { challenge } => return Ok(problem::challenge(&refused, &challenge)),
            }
        }
        other => other?,
    };
    if !route.body.is_empty() {
        params.body = read_body(request.into_body(), route.body.iter().any(|field| field.required)).await?;
    }
    match route.action {
        Action::Command(make) => json_reply(&run(state, actor, make(&params)?).await?),
        Action::AnyCommand => {
            let command: Command = serde_json::from_value(Value::Object(params.body))
                .map_err(|error| bad_request(format!("The command cannot be read: {error}.")))?;
            if let Command::UserImport { rows } = &command {
                super::build::check_rows(rows)?;
            }
            json_reply(&run(state, actor, command).await?)
        }
        Action::Trace(make) => {
            let order = make(&params)?;
            traces::audit(&actor, &order);
            json_of(&state.port.trace(&order).map_err(traces::refused)?)
        }
        Action::UserToken => user_token(state, &actor, &params).await,
        Action::OpenApi => json_response(&openapi::document()),
        Action::Health => json_response(&json!({ "status": "alive", "server": state.server })),
        Action::Metrics => metrics_response(state).await,
    }
}

pub(super) async fn run(state: &ApiState, actor: Actor, command: Command) -> Result<Reply, Problem> {
    if let Some((what, on)) = audit_words(&command) {
        let who = match &actor {
            Actor::Administrator(name) => name.as_str(),
            Actor::User(user) => user.as_str(),
            Actor::Server => "server",
        };
        crate::logging::audit(who, what, &on);
    }
    let answer = state.port.command(actor, command);
    match tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS), answer).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(COMMAND_SECONDS)),
    }
}

async fn user_token(state: &ApiState, actor: &Actor, params: &Params) -> Result<Response<Body>, Problem> {
    let hours: u64 = params.get("hours")?.unwrap_or(24);
    if !(1..=8760).contains(&hours) {
        return Err(bad_request("`hours` must be a number from 1 to 8760."));
    }
    let user = params.path("user")?;
    crate::logging::audit("administrator", "user-token", &user);
    // Asked of the node first, so that no token is issued for a user that does not exist, and with the canonical address.
    let reply = run(state, actor.clone(), Command::UserShow { user }).await?;
    let Reply::Users { users, .. } = reply else {
        return Err(problem::problem(
            500,
            "unexpected-reply",
            "Unexpected answer",
            "The node answered something else.",
            "Report it.",
        ));
    };
    let user = users.into_iter().next().map(|view| view.user).ok_or_else(|| {
        problem::problem(
            404,
            "no-such-user",
            "No such user",
            "The deployment has no such user.",
            "See `pairline user list`.",
        )
    })?;
    let until = wall_seconds().saturating_add(hours.saturating_mul(3600));
    json_reply(&Reply::Text { text: state.tokens.issue(&user, until) })
}

async fn metrics_response(state: &ApiState) -> Result<Response<Body>, Problem> {
    let actor = Actor::Administrator("metrics".into());
    let Reply::Status(status) = run(state, actor, Command::ServerStatus).await? else {
        return Err(problem::problem(
            500,
            "unexpected-reply",
            "Unexpected answer",
            "The node answered something else.",
            "Report it.",
        ));
    };
    let mut response = Response::new(Body::from(metrics::render(&status)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(response)
}

async fn read_body(body: Body, required: bool) -> Result<serde_json::Map<String, Value>, Problem> {
    let bytes = to_bytes(body, BODY_LIMIT).await.map_err(|_| {
        problem::problem(
            413,
            "too-large",
            "The request is too large",
            format!("A body has at most {BODY_LIMIT} bytes."),
            "Send fewer rows a call.",
        )
    })?;
    if bytes.is_empty() && !required {
        return Ok(serde_json::Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|error| bad_request(format!("The body is not a JSON object: {error}.")))
}

fn json_reply(reply: &Reply) -> Result<Response<Body>, Problem> {
    json_of(reply)
}

fn json_of(answer: &impl serde::Serialize) -> Result<Response<Body>, Problem> {
    let value = serde_json::to_value(answer).map_err(|error| {
        problem::problem(500, "unprintable-reply", "The answer cannot be written", error.to_string(), "Report it.")
    })?;
    json_response(&value)
}

fn json_response(value: &Value) -> Result<Response<Body>, Problem> {
    let mut response = Response::new(Body::from(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
