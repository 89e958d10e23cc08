//! Asking one server about a trace: unlike a command, which any server may answer, a trace is each server's own.
//!
//! Owns the three requests and the times between which each answer was made. Does not own what is done with messages.

use super::access::Access;
use super::call::{CallError, read_problem};
use super::connection::{Connection, ConnectionError};
use crate::capture::TraceAnswer;
use bytes::Bytes;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest wait for an answer: what is slower is as good as away.
const ANSWER: Duration = Duration::from_secs(3);

const PATH: &str = "/api/v1/traces";

/// An answer, with this machine's clock in microseconds before the question and after the answer.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The answer.
    pub answer: TraceAnswer,
    /// Before.
    pub asked_us: u64,
    /// After.
    pub got_us: u64,
}

/// One server that is asked.
pub struct TraceClient {
    access: Access,
    address: String,
    open: Option<Connection>,
}

enum Ask<'a> {
    Start { user: &'a str, seconds: u32 },
    Read { id: u64, after: u64 },
    Stop { id: u64 },
}

impl TraceClient {
    /// For the server at that address.
    pub fn new(access: Access, address: String) -> TraceClient {
        TraceClient { access, address, open: None }
    }

    /// Begins a trace.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn start(&mut self, user: &str, seconds: u32) -> Result<Timed, CallError> {
        self.ask(&Ask::Start { user, seconds }).await
    }

    /// Fetches what was seen after a number.
    ///
    /// # Errors
    /// As [`TraceClient::start`].
    pub async fn read(&mut self, id: u64, after: u64) -> Result<Timed, CallError> {
        self.ask(&Ask::Read { id, after }).await
    }

    /// Ends a trace.
    ///
    /// # Errors
    /// As [`TraceClient::start`].
    pub async fn stop(&mut self, id: u64) -> Result<Timed, CallError> {
        self.ask(&Ask::Stop { id }).await
    }

    async fn ask(&mut self, ask: &Ask<'_>) -> Result<Timed, CallError> {
        let asked_us = wall_us();
        let (status, body) = match self.exchange(ask).await {
            Ok(answered) => answered,
            Err(error) => {
                self.open = None;
                return Err(CallError::Unreachable(vec![(self.address.clone(), error.to_string())]));
            }
        };
        let got_us = wall_us();
        if status != 200 {
            return Err(CallError::Refused(read_problem(&self.address, status, &body)?));
        }
        let unexpected = |why: String| CallError::Unexpected { address: self.address.clone(), why };
        let answer = serde_json::from_slice(&body).map_err(|error| unexpected(error.to_string()))?;
        Ok(Timed { answer, asked_us, got_us })
    }

    async fn exchange(&mut self, ask: &Ask<'_>) -> Result<(u16, Bytes), ConnectionError> {
        if self.open.as_ref().is_none_or(|connection| !connection.usable()) {
            self.open = Some(Connection::open(&self.address, self.access.tls.clone()).await?);
        }
        let Some(connection) = &mut self.open else {
            return Err(ConnectionError::NotConnected("no connection".into()));
        };
        let token = &self.access.token;
        match ask {
            Ask::Start { user, seconds } => {
                let body = json!({ "user": user, "seconds": seconds }).to_string();
                connection.post(PATH, token, body.into(), ANSWER).await
            }
            Ask::Read { id, after } => connection.get(&format!("{PATH}/{id}?after={after}"), token, ANSWER).await,
            Ask::Stop { id } => connection.delete(&format!("{PATH}/{id}"), token, ANSWER).await,
        }
    }
}

/// This machine's clock, in microseconds.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
