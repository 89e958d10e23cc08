//! `pairline pool health`: how pools are, once or until they are well.
//!
//! Owns the asking, the waiting and its bar. Does not own wording and exit code (`render_health`).

use super::render_health;
use crate::client::{CallError, Prefer, Session};
use indicatif::{ProgressBar, ProgressStyle};
use pairline_node::command::{Command, Reply};
use pairline_node::view::HealthView;
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// How pools are now.
///
/// # Errors
/// [`CallError`].
pub async fn ask(session: &mut Session, pool: Option<&str>) -> Result<Reply, CallError> {
    let prefer = pool.map_or(Prefer::Any, |pool| Prefer::Pool(pool.to_owned()));
    session.call(&Command::PoolHealth { pool: pool.map(str::to_owned), part: false }, &prefer).await
}

/// Asks until the pools are healthy or the time is over; the last answer. Nobody's answer is waited for like a better one.
///
/// # Errors
/// [`CallError`], also where nobody answered the last question.
pub async fn wait(
    session: &mut Session,
    pool: Option<&str>,
    timeout: Duration,
    shown: bool,
) -> Result<Reply, CallError> {
    let until = Instant::now() + timeout;
    let bar = progress(shown);
    let last = loop {
        let answer = ask(session, pool).await;
        match &answer {
            Ok(Reply::Health(view)) if render_health::exit_code(view) == 0 => break answer,
            Ok(Reply::Health(view)) => show(&bar, view),
            Ok(_) | Err(CallError::Unreachable(_) | CallError::Unknown { .. }) => {}
            Err(_) => break answer,
        }
        if Instant::now() + PAUSE >= until {
            break answer;
        }
        tokio::time::sleep(PAUSE).await;
    };
    bar.finish_and_clear();
    last
}

fn progress(shown: bool) -> ProgressBar {
    let bar = if shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} copies, {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, view: &HealthView) {
    let (copies, of) = copies(view);
    bar.set_length(of);
    bar.set_position(copies);
    let next = view.pools.iter().flat_map(|pool| pool.next.first()).next();
    bar.set_message(next.cloned().unwrap_or_default());
}

/// Copies that are where they should be, and how many there should be, of all servers.
pub fn copies(view: &HealthView) -> (u64, u64) {
    let servers = view.pools.iter().flat_map(|pool| &pool.servers);
    servers.fold((0, 0), |(copies, of), server| (copies + server.copies as u64, of + server.of_copies as u64))
}
