//! When the next operation is due, in open loop.
//!
//! Owns the schedule: fixed steps from a start, never "now plus a step", so that a slow server does not slow the offered load.

/// A schedule of operations at a fixed rate.
#[derive(Clone, Debug)]
pub struct Pacer {
    step: f64,
    start: u64,
    count: u64,
}

impl Pacer {
    /// `rate` operations a second from `now` (nanoseconds) on; none at all if the rate is 0.
    pub fn new(rate: f64, now: u64) -> Self {
        let step = if rate > 0.0 { 1e9 / rate } else { f64::INFINITY };
        Self { step, start: now, count: 0 }
    }

    /// The time at which the next operation is due, `None` if never.
    pub fn due(&self) -> Option<u64> {
        // A schedule of days at millions a second stays below 2^53, where f64 is exact enough.
        self.step.is_finite().then(|| self.start + (self.step * self.count as f64) as u64)
    }

    /// Takes the next operation if it is due; gives the time at which it was.
    pub fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.due().filter(|due| *due <= now)?;
        self.count += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    //! The schedule does not drift and does not forget.

    use super::*;

    #[test]
    fn a_late_caller_catches_up_on_the_same_schedule() {
        let mut pacer = Pacer::new(1000.0, 5_000_000);
        assert_eq!(pacer.take(4_999_999), None);
        assert_eq!(pacer.take(5_000_000), Some(5_000_000));
        let mut due = Vec::new();
        while let Some(at) = pacer.take(8_500_000) {
            due.push(at);
        }
        assert_eq!(due, [6_000_000, 7_000_000, 8_000_000]);
        assert_eq!(pacer.due(), Some(9_000_000));
        assert_eq!(Pacer::new(0.0, 0).take(u64::MAX), None);
    }
}
