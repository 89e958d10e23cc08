//! `pairline pool restart`: one server after the other, each only while the pool can do without it.
//!
//! Owns the order, the gates and their deadlines. Draining and restarting are the servers'. When this program ends on the way, the
//! server that was drained is taken back by `pairline server undrain`, or by its restart.

use super::render_health;
use crate::client::{Access, CallError, Prefer, Session};
use pairline_node::command::{Command, Reply};
use pairline_node::view::StatusView;
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a pool may take to be healthy before a server is touched, and after.
const HEALTHY: Duration = Duration::from_secs(120);
/// How long a server may take to be back.
const BACK: Duration = Duration::from_secs(60);
/// How long one server may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(3);

/// Why a rolling restart stops. Servers that were restarted before are fine; no other was touched.
#[derive(Debug, thiserror::Error)]
pub enum RollingError {
    /// No such pool, or one that cannot do without a server.
    #[error("pool {pool} {why}")]
    Pool {
        /// Which.
        pool: String,
        /// Why not.
        why: &'static str,
    },
    /// The pool did not become healthy.
    #[error("pool {pool} is not healthy after {} s, so no further server is touched; see `pairline pool health {pool}`", HEALTHY.as_secs())]
    NotHealthy {
        /// Which.
        pool: String,
    },
    /// A server did not come back.
    #[error("{server} did not come back within {} s; look at its log. No other server was touched", BACK.as_secs())]
    NotBack {
        /// Which.
        server: String,
    },
    /// A server refused, or none answered.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Restarts every server of a pool; `told` gets a line per step.
pub async fn restart(
    access: &Access,
    pool: &str,
    deadline: u64,
    mut told: impl FnMut(&str),
) -> Result<(), RollingError> {
    let mut session = Session::new(access.clone());
    let servers: Vec<String> =
        access.of_pool(pool).into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    match servers.len() {
        0 => return Err(RollingError::Pool { pool: pool.to_owned(), why: "is not in the topology" }),
        1 | 2 => {
            let why = "cannot do without one of its servers: restart them by their service manager, at an hour that suits its users";
            return Err(RollingError::Pool { pool: pool.to_owned(), why });
        }
        _ => {}
    }
    for (number, server) in servers.iter().enumerate() {
        let of = format!("{} of {}", number + 1, servers.len());
        healthy(&mut session, pool).await?;
        told(&format!("{server} ({of}): drained"));
        let drain = Command::ServerDrain { server: server.clone(), seconds: deadline };
        session.call(&drain, &Prefer::Pool(pool.to_owned())).await?;
        let before = status(access, server).await.map(|status| status.start);
        let order = Command::ServerRestart { server: server.clone() };
        session.call(&order, &Prefer::Pool(pool.to_owned())).await?;
        let took = back(access, server, before).await?;
        told(&format!("{server} ({of}): back after {:.1} s", took.as_secs_f64()));
    }
    healthy(&mut session, pool).await?;
    told("every server was restarted; the pool is healthy");
    Ok(())
}

/// Waits until nothing is missing in the pool.
async fn healthy(session: &mut Session, pool: &str) -> Result<(), RollingError> {
    let until = Instant::now() + HEALTHY;
    let command = Command::PoolHealth { pool: Some(pool.to_owned()), part: false };
    while Instant::now() < until {
        match session.call(&command, &Prefer::Pool(pool.to_owned())).await {
            Ok(Reply::Health(view)) if render_health::exit_code(&view) == 0 => return Ok(()),
            Ok(_) | Err(CallError::Unreachable(_) | CallError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RollingError::NotHealthy { pool: pool.to_owned() })
}

/// What a server says of itself, if it answers.
async fn status(access: &Access, server: &str) -> Option<StatusView> {
    let mut session = Session::with_limit(access.only_server(server), ANSWER);
    match session.call(&Command::ServerStatus, &Prefer::Any).await {
        Ok(Reply::Status(status)) => Some(status),
        _ => None,
    }
}

/// Waits until another process of the server answers; how long that took.
async fn back(access: &Access, server: &str, before: Option<u64>) -> Result<Duration, RollingError> {
    let begun = Instant::now();
    while begun.elapsed() < BACK {
        if status(access, server).await.is_some_and(|now| Some(now.start) != before) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RollingError::NotBack { server: server.to_owned() })
}
