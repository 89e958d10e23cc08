//! Keeps a repeated complaint from filling the log: the same text about the same thing is told once in a while.
//!
//! Owns that decision, bounded. Does not own the texts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same complaint is kept back.
const QUIET: Duration = Duration::from_secs(60);
/// Things remembered; beyond it all are forgotten, which at worst repeats a line.
const REMEMBERED: usize = 256;

/// What was said last about each thing.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<BTreeMap<String, (String, Instant)>>);

impl Throttle {
    /// Whether to say it: the text is new for this thing, or the last time is long enough ago.
    pub fn allows(&self, about: &str, text: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.get(about).is_some_and(|(last, at)| last == text && now.duration_since(*at) < QUIET) {
            return false;
        }
        if said.len() >= REMEMBERED && !said.contains_key(about) {
            said.clear();
        }
        said.insert(about.to_owned(), (text.to_owned(), now));
        true
    }

    /// Forgets what was said about a thing: its fault is over.
    pub fn settle(&self, about: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(about);
    }
}
