//! A small cache of DNS answers, also of "there is none", by their TTL; bounded in number and bytes.
//!
//! Owns keeping and forgetting. Does not own asking, nor the clock.

use pairline_sip::target::{Answers, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers kept at most; beyond it those that end soonest go first.
pub const KEPT: usize = 2048;
/// Bytes kept at most, counted generously.
pub const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// No answer is kept longer.
pub const LONGEST: Duration = Duration::from_secs(300);
/// "There is none" is kept for at most so long (RFC 2308 §5 allows hours; a domain that has just been set up should not wait).
pub const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

type Key = (Kind, String);

#[derive(Debug)]
struct Entry {
    until: Instant,
    bytes: usize,
    answers: Answers,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: BTreeMap<Key, Entry>,
    by_end: BTreeSet<(Instant, Key)>,
    bytes: usize,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Kept>);

impl Cache {
    /// An answer that is still fresh at `now`.
    pub fn get(&self, now: Instant, name: &str, kind: Kind) -> Option<Answers> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.by_key.get(&(kind, name.to_owned()))?;
        (now < entry.until).then(|| entry.answers.clone())
    }

    /// Keeps an answer for its TTL in seconds, if that is not 0.
    pub fn put(&self, now: Instant, name: &str, kind: Kind, answers: &Answers, ttl: u32) {
        let longest = if matches!(answers, Answers::Missing) { LONGEST_NEGATIVE } else { LONGEST };
        let life = Duration::from_secs(u64::from(ttl)).min(longest);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, name.to_owned());
        kept.remove(&key);
        if life.is_zero() {
            return;
        }
        let (until, bytes) = (now + life, weight(name, answers));
        while kept.by_key.len() >= KEPT || kept.bytes.saturating_add(bytes) > KEPT_BYTES {
            let Some((_, soonest)) = kept.by_end.first().cloned() else { return };
            kept.remove(&soonest);
        }
        kept.bytes += bytes;
        kept.by_end.insert((until, key.clone()));
        kept.by_key.insert(key, Entry { until, bytes, answers: answers.clone() });
    }

    /// Answers and bytes that are kept now.
    pub fn size(&self) -> (usize, usize) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.by_key.len(), kept.bytes)
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.by_end.remove(&(entry.until, key.clone()));
            self.bytes -= entry.bytes;
        }
    }
}

/// What an answer takes, about: its strings and a fixed part each for it and its records.
fn weight(name: &str, answers: &Answers) -> usize {
    const EACH: usize = 128;
    let records: usize = match answers {
        Answers::Naptr(list) => list.iter().map(|r| EACH + r.flags.len() + r.service.len() + r.replacement.len()).sum(),
        Answers::Srv(list) => list.iter().map(|r| EACH + r.target.len()).sum(),
        Answers::Addresses(list) => list.len() * 32,
        Answers::Missing => 0,
    };
    2 * EACH + 2 * name.len() + records
}
