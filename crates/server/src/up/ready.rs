//! Waiting until servers serve.
//!
//! Owns the question and its deadline.

use crate::client::{Access, Prefer, Session};
use pairline_node::command::{Command, Reply};
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a server answers the admin API now, and whether it can serve in full.
pub async fn health(session: &mut Session) -> Option<bool> {
    match session.call(&Command::ServerStatus, &Prefer::Any).await {
        Ok(Reply::Status(status)) => Some(status.healthy),
        _ => None,
    }
}

/// Waits until the only server of `access` answers (and, if `fully`, can serve in full). False if the deadline came first, or
/// `gone` said that the process is dead.
pub async fn wait(access: &Access, fully: bool, limit: Duration, mut gone: impl FnMut() -> bool) -> bool {
    let mut session = Session::with_limit(access.clone(), Duration::from_secs(3));
    let until = Instant::now() + limit;
    while Instant::now() < until && !gone() {
        match health(&mut session).await {
            Some(true) => return true,
            Some(false) if !fully => return true,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    false
}
