//! Waiting on the command line: for a procedure's end, and for a steady pair.
//!
//! Owns polling and its deadlines. The procedure itself runs in the servers and goes on when the command line goes away.

use super::render_pool;
use crate::client::{CallError, Prefer, Session};
use pairline_node::command::{Command, Reply};
use pairline_node::view::{PoolsView, ProcedureView};
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a procedure is watched.
const PROCEDURE: Duration = Duration::from_secs(900);

/// Watches a procedure until it is done, stopped or aborted, or the watch ends (it then goes on by itself).
/// `told` is called at each change.
pub async fn follow(
    session: &mut Session,
    started: ProcedureView,
    prefer: &Prefer,
    mut told: impl FnMut(&ProcedureView),
) -> Result<ProcedureView, CallError> {
    let until = Instant::now() + PROCEDURE;
    let mut last = started;
    told(&last);
    while last.state == "running" && Instant::now() < until {
        tokio::time::sleep(PAUSE).await;
        let view = match session.call(&Command::ProcedureShow { id: last.id.clone() }, prefer).await {
            Ok(Reply::Procedure(view)) => view,
            Ok(_) => continue,
            // A server on the way out or coming back: the journal is asked again, elsewhere if need be.
            Err(CallError::Unreachable(_) | CallError::Unknown { .. }) => continue,
            Err(CallError::Refused(problem)) if matches!(problem.status, 404 | 503 | 504) => continue,
            Err(error) => return Err(error),
        };
        if view.state != last.state || view.steps != last.steps || view.stopped != last.stopped {
            told(&view);
        }
        last = view;
    }
    Ok(last)
}

/// Waits until every server that can be reached sees a steady pair; the last status either way.
pub async fn wait_steady(
    session: &mut Session,
    limit: Duration,
    mut told: impl FnMut(&PoolsView),
) -> Result<(PoolsView, bool), CallError> {
    let until = Instant::now() + limit;
    let mut pools: Vec<String> = session.endpoints().iter().filter_map(|e| e.pool.clone()).collect();
    // Servers of one pool stand beside each other.
    pools.dedup();
    loop {
        let mut all = true;
        let mut seen = None;
        let mut failed = None;
        let questions: Vec<Prefer> =
            if pools.is_empty() { vec![Prefer::Any] } else { pools.iter().cloned().map(Prefer::Only).collect() };
        for prefer in &questions {
            match session.call(&Command::PoolStatus, prefer).await {
                Ok(Reply::Pools(view)) => {
                    all &= render_pool::steady(&view);
                    told(&view);
                    seen = Some(view);
                }
                Ok(_) => all = false,
                Err(error) => {
                    all = false;
                    failed = Some(error);
                }
            }
        }
        match (seen, failed) {
            (Some(view), _) if all => return Ok((view, true)),
            (Some(view), _) if unpaired(&view) => return Ok((view, false)),
            (Some(view), _) if Instant::now() >= until => return Ok((view, false)),
            (None, Some(error)) if Instant::now() >= until => return Err(error),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether there is nothing that could ever be steady.
pub fn unpaired(view: &PoolsView) -> bool {
    view.pools.iter().all(|pool| pool.partner.is_none())
}
