//! `pairline user import`: a whole file in one call of the command, in batches, with a bar.
//!
//! Owns batching, retries and the count. Does not own the file's form (`import_csv`).

use crate::api::handler::BODY_LIMIT;
use crate::client::{Access, CallError, Prefer, Session};
use indicatif::{ProgressBar, ProgressStyle};
use pairline_node::command::{Command, ImportRow, Reply};
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Batches on their way at one time.
const IN_FLIGHT: usize = 4;

/// How often one batch is tried while the servers are busy or away.
const TRIES: u32 = 30;

/// Bytes of rows in one batch; what a request has beside its rows is far less than what is left.
const BATCH_BYTES: usize = BODY_LIMIT - 4096;

/// Refusals that are kept for the report.
const REFUSALS: usize = 1_000;

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Imported {
    /// Users that are there now and were not before.
    pub added: u64,
    /// Users that were there already.
    pub unchanged: u64,
    /// Rows refused, all of them counted.
    pub refused: u64,
    /// The first refusals: user and reason.
    pub refusals: Vec<(String, String)>,
    /// Milliseconds.
    pub took_ms: u64,
}

/// Imports rows. Repeating an import that was interrupted is harmless: rows that are there are left as they are.
pub async fn run(access: Access, rows: Vec<ImportRow>, batch: usize, bar: bool) -> Result<Imported, CallError> {
    let started = Instant::now();
    let progress = progress_bar(u64::try_from(rows.len()).unwrap_or(u64::MAX), bar);
    let queue = Arc::new(Mutex::new(batches(rows, batch)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        workers.spawn(worker(Session::new(access.clone()), Arc::clone(&queue), progress.clone()));
    }
    let mut sum = Imported::default();
    let mut failed = None;
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(Ok(part)) => sum = merge(sum, part),
            Ok(Err(error)) => failed = Some(error),
            Err(error) => {
                failed = Some(CallError::Unexpected { address: "an import worker".into(), why: error.to_string() });
            }
        }
    }
    progress.finish_and_clear();
    sum.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    failed.map_or(Ok(sum), Err)
}

fn progress_bar(rows: u64, shown: bool) -> ProgressBar {
    let bar = if shown { ProgressBar::new(rows) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} users, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Rows in batches of one home pool each, so that each goes to the pool that commits it; none has more rows than `size`, nor
/// more bytes than a request may have.
pub fn batches(mut rows: Vec<ImportRow>, size: usize) -> VecDeque<Vec<ImportRow>> {
    rows.sort_by(|a, b| a.pool.cmp(&b.pool));
    let mut all: VecDeque<Vec<ImportRow>> = VecDeque::new();
    let mut filled = 0;
    for row in rows {
        let bytes = bytes_of(&row);
        let fits = |last: &Vec<ImportRow>| {
            last.len() < size
                && filled + bytes <= BATCH_BYTES
                && last.first().is_some_and(|first| first.pool == row.pool)
        };
        match all.back_mut().filter(|last| fits(last)) {
            Some(last) => {
                last.push(row);
                filled += bytes;
            }
            None => {
                all.push_back(vec![row]);
                filled = bytes;
            }
        }
    }
    all
}

/// What a row takes in a request, with its comma.
fn bytes_of(row: &ImportRow) -> usize {
    serde_json::to_vec(row).map_or(BATCH_BYTES, |text| text.len() + 1)
}

async fn worker(
    mut session: Session,
    queue: Arc<Mutex<VecDeque<Vec<ImportRow>>>>,
    progress: ProgressBar,
) -> Result<Imported, CallError> {
    let mut sum = Imported::default();
    loop {
        let next = queue.lock().map_or(None, |mut queue| queue.pop_front());
        let Some(rows) = next else { return Ok(sum) };
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let prefer = rows.first().and_then(|row| row.pool.clone()).map_or(Prefer::Any, Prefer::Pool);
        match batch_of(&mut session, rows, &prefer).await {
            Ok(part) => sum = merge(sum, part),
            Err(error) => {
                // The others stop after their batch; what is imported stays.
                if let Ok(mut queue) = queue.lock() {
                    queue.clear();
                }
                return Err(error);
            }
        }
        progress.inc(count);
    }
}

/// One batch; rows that a passing obstacle stopped are given again.
async fn batch_of(session: &mut Session, mut rows: Vec<ImportRow>, prefer: &Prefer) -> Result<Imported, CallError> {
    let mut sum = Imported::default();
    for again in 1..=TRIES {
        let (part, unfinished) = send(session, Command::UserImport { rows: rows.clone() }, prefer).await?;
        sum = merge(sum, part);
        let numbers: BTreeSet<usize> = unfinished.into_iter().filter_map(|number| number.try_into().ok()).collect();
        rows = rows.into_iter().enumerate().filter(|(at, _)| numbers.contains(at)).map(|(_, row)| row).collect();
        if rows.is_empty() {
            return Ok(sum);
        }
        pause(again).await;
    }
    let left = rows.into_iter().map(|row| (row.user, "its pool stayed busy or away; repeat the import".to_owned()));
    let refusals: Vec<(String, String)> = left.collect();
    let refused = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
    Ok(merge(sum, Imported { refused, refusals, ..Imported::default() }))
}

async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(tries.min(10)) * 100)).await;
}

async fn send(session: &mut Session, command: Command, prefer: &Prefer) -> Result<(Imported, Vec<u32>), CallError> {
    let mut tries = 0;
    loop {
        let error = match session.call(&command, prefer).await {
            Ok(Reply::Imported { added, unchanged, refused, refused_count, unfinished }) => {
                let part = Imported { added, unchanged, refused: refused_count, refusals: refused, took_ms: 0 };
                return Ok((part, unfinished));
            }
            Ok(other) => {
                return Err(CallError::Unexpected { address: "the server".into(), why: format!("{other:?}") });
            }
            Err(error) => error,
        };
        tries += 1;
        let again = match &error {
            CallError::Refused(problem) => matches!(problem.status, 429 | 503 | 504),
            CallError::Unknown { .. } | CallError::Unreachable(_) => true,
            CallError::Unexpected { .. } => false,
        };
        if !again || tries >= TRIES {
            return Err(error);
        }
        pause(tries).await;
    }
}

fn merge(mut sum: Imported, part: Imported) -> Imported {
    sum.added += part.added;
    sum.unchanged += part.unchanged;
    sum.refused += part.refused;
    let room = REFUSALS.saturating_sub(sum.refusals.len());
    sum.refusals.extend(part.refusals.into_iter().take(room));
    sum
}
