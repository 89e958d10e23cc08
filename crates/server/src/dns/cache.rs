//! A small cache of DNS answers, bounded, by their TTL.
//!
//! Owns keeping and forgetting. Does not own asking.

use pairline_sip::target::{Answers, Kind};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers kept at most; beyond it the cache starts afresh.
const KEPT: usize = 2048;
/// No answer is kept longer.
const LONGEST: Duration = Duration::from_secs(300);
/// "There is none" is kept for at most so long.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(5);

/// The cache.
#[derive(Debug, Default)]
pub struct Cache(Mutex<BTreeMap<(u8, String), (Instant, Answers)>>);

fn key(name: &str, kind: Kind) -> (u8, String) {
    let kind = match kind {
        Kind::Naptr => 0,
        Kind::Srv => 1,
        Kind::A => 2,
        Kind::Aaaa => 3,
    };
    (kind, name.to_owned())
}

impl Cache {
    /// An answer that is still fresh.
    pub fn get(&self, name: &str, kind: Kind) -> Option<Answers> {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answers) = cache.get(&key(name, kind))?;
        (Instant::now() < *until).then(|| answers.clone())
    }

    /// Keeps an answer for its TTL.
    pub fn put(&self, name: &str, kind: Kind, answers: &Answers, ttl: u32) {
        let longest = if matches!(answers, Answers::Missing) { LONGEST_NEGATIVE } else { LONGEST };
        let life = Duration::from_secs(u64::from(ttl)).min(longest);
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= KEPT {
            let now = Instant::now();
            cache.retain(|_, (until, _)| now < *until);
            if cache.len() >= KEPT {
                cache.clear();
            }
        }
        cache.insert(key(name, kind), (Instant::now() + life, answers.clone()));
    }
}
