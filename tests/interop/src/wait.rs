//! Waiting for a condition that nothing announces.
//!
//! Owns the bounded poll. Where a program says when something happened, wait for its line instead.

use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Looks until `look` gives a value, and gives that.
///
/// # Panics
/// If the time runs out; the message names `what`.
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let ends = Instant::now() + limit;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < ends, "not within {} s: {what}", limit.as_secs());
        thread::sleep(LOOK);
    }
}
