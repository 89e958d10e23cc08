//! Both clocks of the process, read in one place.
//!
//! Owns reading them. Does not own what they mean.

use pairline_group::io::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic one at zero.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both, now.
    pub fn now(&self) -> Now {
        Now { mono: millis(self.start.elapsed().as_millis()), wall: wall_millis() }
    }
}

fn millis(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Wall-clock milliseconds since 1970; 0 for a clock before it.
pub fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| millis(d.as_millis()))
}

/// Wall-clock seconds since 1970, for certificates.
pub fn wall_seconds() -> i64 {
    i64::try_from(wall_millis() / 1000).unwrap_or(i64::MAX)
}
