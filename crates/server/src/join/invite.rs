//! The side that has the deployment's authority: one invitation, until it was taken or its time is over.
//!
//! Owns what is handed out, and that this happens once. Nothing is written here, and no running server knows of it: an invitation that
//! ends leaves nothing behind.

use super::pinned::{self, PinnedError};
use super::{Ask, Given, JOIN, JOINED, Token, VERSION};
use crate::api::handler::Peer;
use crate::api::problem;
use crate::api::serve::{ApiError, bind, serve_routes};
use crate::tls::files;
use crate::tls::{Authority, CertificateNames};
use crate::up::create::{self, CreateError};
use crate::up::layout::Layout;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, Response, header};
use axum::routing::post;
use axum::{Json, Router};
use pairline_node::command::Problem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Largest request, in bytes.
const REQUEST: usize = 64 * 1024;

/// What happened that is not shown yet; more wrong tokens than that at once are not shown one by one.
const EVENTS: usize = 64;

/// Wrong tokens that are shown one by one, each from whom: whoever sends thousands is not to fill the terminal.
const SHOWN: usize = 20;

/// How long a machine that was given everything has to write it down.
const WRITING: Duration = Duration::from_secs(60);

/// Why nobody was invited, or nobody came.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The folder has no authority, or the topology no such server.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// There is such a server, and it runs.
    #[error(
        "{0} runs and answers: nobody is invited in its place. If another machine is to become this server, stop it first"
    )]
    Runs(String),
    /// The address is none that another machine could ask.
    #[error(
        "{0} is no address that the new machine can reach: give one of this machine's, as in --listen 192.0.2.10:5079"
    )]
    Unreachable(SocketAddr),
    /// The address cannot be listened on.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No TLS.
    #[error(transparent)]
    Pinned(#[from] PinnedError),
    /// Nobody came.
    #[error("nobody came within {0} min; the token does not work any more. Invite again when the machine is ready")]
    Nobody(u64),
    /// Somebody came, and did not say that it could write down what it got.
    #[error(
        "{0} was given everything and did not say that it has it: look there, and invite again if its `server join` failed"
    )]
    Silent(SocketAddr),
}

/// Everything that is handed out but the certificate.
struct Offer {
    authority: Authority,
    names: CertificateNames,
    server: String,
    topology: String,
    secret: Option<String>,
    admin_token: Option<String>,
}

/// What happened.
enum Event {
    Wrong(SocketAddr),
    Given(SocketAddr),
    Joined,
}

/// One invitation while it waits.
struct Invitation {
    token: Token,
    offer: Mutex<Option<Offer>>,
    events: mpsc::Sender<Event>,
}

/// What is to be shown of an invitation.
pub enum Told<'a> {
    /// Its token, and where to ask.
    Waits(&'a Token, SocketAddr),
    /// Somebody had no token, or another one; of those that follow the last one that is told, nothing more is.
    Wrong {
        /// Who.
        from: SocketAddr,
        /// Whether no other is told of.
        last: bool,
    },
    /// Somebody was given everything.
    Given(SocketAddr),
}

/// Waits until one machine has become that server of the published topology. Returns from where it came.
///
/// # Errors
/// [`InviteError`]; then the token does not work any more.
pub async fn invite(
    layout: &Layout,
    published: &str,
    server: &str,
    listen: SocketAddr,
    minutes: u64,
    mut told: impl FnMut(Told<'_>),
) -> Result<SocketAddr, InviteError> {
    let offer = offer(layout, published, server)?;
    let listener = bind(listen).await?;
    let listen = listener.local_addr().map_err(ApiError::from)?;
    let (tls, token) = pinned::server()?;
    let (events, mut happened) = mpsc::channel(EVENTS);
    let state = Arc::new(Invitation { token: token.clone(), offer: Mutex::new(Some(offer)), events });
    // Ends with this function, and every connection with it.
    let (_stop, stopping) = watch::channel(false);
    let app = routes(state);
    let serving = serve_routes(listener, tls, app, stopping);
    told(Told::Waits(&token, listen));
    let (mut given, mut wrong) = (None, 0);
    let waits = async {
        let mut until = tokio::time::Instant::now() + Duration::from_secs(minutes * 60);
        loop {
            match tokio::time::timeout_at(until, happened.recv()).await {
                Ok(Some(Event::Wrong(from))) => {
                    wrong += 1;
                    if wrong <= SHOWN {
                        told(Told::Wrong { from, last: wrong == SHOWN });
                    }
                }
                Ok(Some(Event::Given(from))) => {
                    given = Some(from);
                    until = tokio::time::Instant::now() + WRITING;
                    told(Told::Given(from));
                }
                Ok(Some(Event::Joined)) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
    };
    let joined = tokio::select! {
        joined = waits => joined,
        ended = serving => ended.map(|()| false)?,
    };
    match given {
        Some(from) if joined => Ok(from),
        Some(from) => Err(InviteError::Silent(from)),
        None => Err(InviteError::Nobody(minutes)),
    }
}

/// Reads all that is handed out before anybody is invited.
fn offer(layout: &Layout, published: &str, name: &str) -> Result<Offer, CreateError> {
    let topology = pairline_topology::parse("the published topology", published).map_err(CreateError::Topology)?;
    let known = topology.server.iter().find(|server| server.name == name);
    let server = known.ok_or_else(|| CreateError::NoSuchServer(name.to_owned()))?;
    if !layout.authority_key().exists() {
        return Err(CreateError::NoAuthority(layout.authority_key()));
    }
    // A witness opens nothing, and is to be a machine from which nothing can be taken.
    let text = |path: std::path::PathBuf| -> Result<Option<String>, CreateError> {
        if server.is_witness() {
            return Ok(None);
        }
        String::from_utf8(files::read_private(&path)?).map(Some).map_err(|_| CreateError::NotText(path))
    };
    Ok(Offer {
        authority: Authority::load(&layout.authority())?,
        names: create::certificate_names(&topology, server),
        server: name.to_owned(),
        topology: published.to_owned(),
        secret: text(layout.secret())?,
        admin_token: text(layout.admin_token())?,
    })
}

fn routes(state: Arc<Invitation>) -> Router {
    Router::new()
        .route(JOIN, post(join))
        .route(JOINED, post(joined))
        .layer(DefaultBodyLimit::max(REQUEST))
        .with_state(state)
}

impl Invitation {
    /// Whether whoever asks has the token.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        bearer.and_then(|value| value.strip_prefix("Bearer ")).is_some_and(|secret| self.token.has_secret(secret))
    }

    /// Hands everything out, if that was not done before.
    fn give(&self, ask: &Ask) -> Result<Given, Problem> {
        if ask.version != VERSION {
            return Err(refused("The other machine has another version of Pairline."));
        }
        let mut offer = self.offer.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = offer.take().ok_or_else(used)?;
        match ready.authority.certify(&ready.names, &ask.request) {
            Ok(certificate) => Ok(Given {
                version: VERSION,
                server: ready.server,
                topology: ready.topology,
                certificate,
                authority: ready.authority.certificate_pem().to_owned(),
                secret: ready.secret,
                admin_token: ready.admin_token,
            }),
            Err(error) => {
                // Nothing was handed out: whoever has the token may try again.
                *offer = Some(ready);
                Err(refused(&format!("No certificate for this request: {error}.")))
            }
        }
    }
}

fn refused(detail: &str) -> Problem {
    let remedy = "Install the same version on both machines, and join again: the token still works.";
    problem::problem(400, "bad-request", "The request cannot be used", detail, remedy)
}

fn used() -> Problem {
    problem::problem(
        409,
        "token-used",
        "The token was used",
        "A machine was given everything with this token, which works once.",
        "If that was not this machine, replace the deployment's secrets. Else invite again.",
    )
}

async fn join(
    State(invitation): State<Arc<Invitation>>,
    Extension(Peer(from)): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<Ask>, axum::extract::rejection::JsonRejection>,
) -> Response<Body> {
    if !invitation.knows(&headers) {
        // Where nobody reads them fast enough, that many come is shown by those that are.
        let _ = invitation.events.try_send(Event::Wrong(from));
        return problem::response(&problem::unauthorised());
    }
    let given = body.map_err(|error| refused(&error.body_text())).and_then(|Json(ask)| invitation.give(&ask));
    match given {
        Ok(given) => {
            // Its end is waited for as long as this side is there.
            let _ = invitation.events.send(Event::Given(from)).await;
            axum::response::IntoResponse::into_response(Json(given))
        }
        Err(problem) => problem::response(&problem),
    }
}

async fn joined(State(invitation): State<Arc<Invitation>>, headers: HeaderMap) -> Response<Body> {
    let given = invitation.offer.lock().unwrap_or_else(PoisonError::into_inner).is_none();
    if !invitation.knows(&headers) || !given {
        return problem::response(&problem::unauthorised());
    }
    let _ = invitation.events.send(Event::Joined).await;
    Response::new(Body::empty())
}
