//! One request for each user, as fast as answers come.
//!
//! Owns the sharing of users among connections, and the lines. What the answers say is the reader's.

use super::args::ReadArgs;
use super::connection::{Connection, HttpsError, Target};
use super::pattern::Pattern;
use super::requests::unix_ms;
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Most tries for one user; a connection that broke is made anew.
const TRIES: u32 = 3;

/// Why not everybody was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The arguments name something that cannot be used, or there is no answer.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The lines cannot be written.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
    /// A thread broke one of its own rules.
    #[error("a thread of the reader failed")]
    Thread,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Version of this format.
    pub v: u8,
    /// The user.
    pub user: String,
    /// When the answer was there, in milliseconds since 1970.
    pub at: f64,
    /// Its status.
    pub status: u16,
    /// Its body; null if that is no JSON.
    pub body: Value,
}

/// Reads all users.
///
/// # Errors
/// Files that cannot be used, a user without an answer, or output that cannot be written.
pub fn run(args: &ReadArgs, out: &mut impl Write) -> Result<(), ReadingError> {
    let target = Arc::new(Target::new(&args.server)?);
    let pattern = Arc::new(Pattern::reading(args));
    let next = Arc::new(AtomicU64::new(0));
    let users = u64::from(args.users);
    let threads: Vec<_> = (0..args.connections)
        .map(|_| {
            let (target, pattern, next) = (Arc::clone(&target), Arc::clone(&pattern), Arc::clone(&next));
            thread::spawn(move || read(&target, &pattern, &next, users))
        })
        .collect();
    for thread in threads {
        for line in thread.join().map_err(|_| ReadingError::Thread)?? {
            serde_json::to_writer(&mut *out, &line).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(out.flush()?)
}

fn read(target: &Target, pattern: &Pattern, next: &AtomicU64, users: u64) -> Result<Vec<Line>, HttpsError> {
    let mut lines = Vec::new();
    let mut connection = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= users {
            return Ok(lines);
        }
        let (path, _) = pattern.request(number);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let mut ask = || {
                let mut open = connection.take().map_or_else(|| Connection::open(target), Ok)?;
                let answer = open.exchange(target, "GET", &path, "")?;
                connection = Some(open);
                Ok::<_, HttpsError>(answer)
            };
            match ask() {
                Ok(answer) => break answer,
                Err(error) if tries >= TRIES => return Err(error),
                Err(_) => {}
            }
        };
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        lines.push(Line { v: 1, user: pattern.user(number), at: unix_ms(), status: answer.status, body });
    }
}
