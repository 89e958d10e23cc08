//! Asking a command of the deployment: which server first, which next, and what an answer means.
//!
//! Owns the order of servers and the rule that nothing is sent twice whose effect is unknown. Does not own connections.

use super::access::{Access, Endpoint};
use super::connection::{Connection, ConnectionError};
use crate::api::problem::ProblemBody;
use bytes::Bytes;
use pairline_node::command::{Command, Problem, Reply};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(130);

/// HTTP status by which a server says that another one is to be asked.
const MISDIRECTED: u16 = 421;

/// Which server is asked first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// In the order of the topology.
    #[default]
    Any,
    /// A server of this pool.
    Pool(String),
    /// A server of this pool's partner.
    PartnerOf(String),
    /// A server of this pool and no other: the question is about that server.
    Only(String),
}

/// Why a command had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A server refused, with the reason and what to do.
    #[error("{0}")]
    Refused(Problem),
    /// No server could be reached; nothing happened.
    #[error("no server answers")]
    Unreachable(Vec<(String, String)>),
    /// It was sent and the answer is missing: it may have taken effect.
    #[error("{address}: {why}; the command may have taken effect, repeating it is harmless")]
    Unknown {
        /// Which server.
        address: String,
        /// What happened.
        why: String,
    },
    /// A server answered something that is not an answer.
    #[error("{address} answered something unexpected: {why}")]
    Unexpected {
        /// Which server.
        address: String,
        /// What.
        why: String,
    },
}

/// Asks commands, keeping one connection a server.
pub struct Session {
    access: Access,
    open: BTreeMap<String, Connection>,
    limit: Duration,
}

impl Session {
    /// A session with nothing open yet.
    pub fn new(access: Access) -> Session {
        Session { access, open: BTreeMap::new(), limit: ANSWER }
    }

    /// The same with another limit for answers.
    pub fn with_limit(access: Access, limit: Duration) -> Session {
        Session { access, open: BTreeMap::new(), limit }
    }

    /// Servers in the order in which they are asked.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.access.endpoints
    }

    /// Asks one command. Servers that cannot be reached, or that point elsewhere, are passed over; whatever was sent and
    /// not answered is not sent again.
    pub async fn call(&mut self, command: &Command, prefer: &Prefer) -> Result<Reply, CallError> {
        let body = serde_json::to_vec(command)
            .map(Bytes::from)
            .map_err(|error| CallError::Unexpected { address: "this command".into(), why: error.to_string() })?;
        let mut silent = Vec::new();
        let mut pointed_on = None;
        for endpoint in order(&self.access.endpoints, prefer) {
            match self.post(&endpoint.address, body.clone()).await {
                Ok((200, answer)) => return read_reply(&endpoint.address, &answer),
                Ok((status, answer)) => {
                    let problem = read_problem(&endpoint.address, status, &answer)?;
                    if status != MISDIRECTED {
                        return Err(CallError::Refused(problem));
                    }
                    pointed_on = Some(problem);
                }
                Err(error) if error.nothing_sent() => silent.push((endpoint.address.clone(), error.to_string())),
                Err(error) => return Err(CallError::Unknown { address: endpoint.address, why: error.to_string() }),
            }
        }
        Err(pointed_on.map_or(CallError::Unreachable(silent), CallError::Refused))
    }

    /// Issues a user's token.
    pub async fn user_token(&mut self, user: &str, hours: u32) -> Result<Reply, CallError> {
        let path = format!("/api/v1/users/{}/token", crate::api::params::encode(user));
        let body = Bytes::from(format!("{{\"hours\":{hours}}}"));
        let mut silent = Vec::new();
        for endpoint in self.access.endpoints.clone() {
            match self.post_to(&endpoint.address, &path, body.clone()).await {
                Ok((200, answer)) => return read_reply(&endpoint.address, &answer),
                Ok((status, answer)) => {
                    return Err(CallError::Refused(read_problem(&endpoint.address, status, &answer)?));
                }
                Err(error) => silent.push((endpoint.address, error.to_string())),
            }
        }
        Err(CallError::Unreachable(silent))
    }

    /// Whether the process behind an address lives.
    pub async fn alive(&mut self, address: &str) -> bool {
        let token = self.access.token.clone();
        let Ok(connection) = self.connection(address).await else { return false };
        let answer = connection.get("/health", &token, Duration::from_secs(2)).await;
        if answer.is_err() {
            self.open.remove(address);
        }
        matches!(answer, Ok((200, _)))
    }

    async fn post(&mut self, address: &str, body: Bytes) -> Result<(u16, Bytes), ConnectionError> {
        self.post_to(address, "/api/v1/command", body).await
    }

    async fn post_to(&mut self, address: &str, path: &str, body: Bytes) -> Result<(u16, Bytes), ConnectionError> {
        let (token, limit) = (self.access.token.clone(), self.limit);
        let mut answer = self.connection(address).await?.post(path, &token, body.clone(), limit).await;
        if answer.as_ref().is_err_and(ConnectionError::nothing_sent) {
            // The kept connection had gone stale; a fresh one tells whether the server lives.
            self.open.remove(address);
            answer = self.connection(address).await?.post(path, &token, body, limit).await;
        }
        if answer.is_err() {
            self.open.remove(address);
        }
        answer
    }

    async fn connection(&mut self, address: &str) -> Result<&mut Connection, ConnectionError> {
        if self.open.get(address).is_some_and(|connection| !connection.usable()) {
            self.open.remove(address);
        }
        if !self.open.contains_key(address) {
            let connection = Connection::open(address, self.access.tls.clone()).await?;
            self.open.insert(address.to_owned(), connection);
        }
        self.open.get_mut(address).ok_or_else(|| ConnectionError::NotConnected("no connection".into()))
    }
}

/// The servers in the order in which they are asked; stable among equals.
pub fn order(endpoints: &[Endpoint], prefer: &Prefer) -> Vec<Endpoint> {
    let mut all = endpoints.to_vec();
    match prefer {
        Prefer::Any => {}
        Prefer::Pool(name) => all.sort_by_key(|e| e.pool.as_deref() != Some(short(name))),
        Prefer::PartnerOf(name) => all.sort_by_key(|e| e.partner.as_deref() != Some(short(name))),
        Prefer::Only(name) => all.retain(|e| e.pool.is_none() || e.pool.as_deref() == Some(short(name))),
    }
    all
}

/// The short name of a pool that may be written as FQDN.
fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn read_reply(address: &str, answer: &[u8]) -> Result<Reply, CallError> {
    serde_json::from_slice(answer)
        .map_err(|error| CallError::Unexpected { address: address.to_owned(), why: error.to_string() })
}

pub(super) fn read_problem(address: &str, status: u16, answer: &[u8]) -> Result<Problem, CallError> {
    serde_json::from_slice::<ProblemBody>(answer)
        .map(ProblemBody::problem)
        .map_err(|_| CallError::Unexpected { address: address.to_owned(), why: format!("HTTP status {status}") })
}
