//! When clients have their next turn while there is load: what they change meanwhile shares entries, writes, syncs, frames and the
//! wake-ups of threads, here and at the partner, which are paid once a turn and not once a request.
//!
//! Owns the rule. Reads no clock; the node's thread says what time it is and what happened.

use std::time::{Duration, Instant};

/// Under load clients have one turn in so long a time.
const SHORT: Duration = Duration::from_millis(2);
/// Under much load.
const LONG: Duration = Duration::from_millis(4);
/// So many messages in [`SHORT`] are load: with fewer nothing is gained by having them wait.
const LOAD: usize = 4;
/// So many are much.
const MUCH: usize = 24;
/// After a sync, whose answers have gone out, what they bring in comes within so long.
const GATHER: Duration = Duration::from_micros(500);
/// How much longer clients wait for a sync that is under way.
const SYNC: Duration = Duration::from_millis(2);

/// The state of the rule.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the present span began, and how many messages were handled in its turns that changed something.
    span: (Instant, usize),
    /// When clients' turn is next at the earliest, while there is load.
    next: Option<Instant>,
    /// When the disk last had everything.
    synced: Instant,
}

impl Pace {
    /// Without load.
    pub fn new(now: Instant) -> Pace {
        Pace { span: (now, 0), next: None, synced: now }
    }

    /// Everything that was appended is on the disk.
    pub fn synced(&mut self, now: Instant) {
        self.synced = now;
    }

    /// Clients had a turn with so many messages. `wrote`: their turn before changed something. What goes through and is not written
    /// down gains nothing by waiting.
    pub fn turn(&mut self, began: Instant, messages: usize, wrote: bool) {
        if messages == 0 {
            return;
        }
        if began >= self.span.0 + SHORT {
            self.span = (began, 0);
        }
        self.span.1 += if wrote { messages } else { 0 };
        self.next = match self.span.1 {
            _ if !wrote => None,
            MUCH.. => Some(self.span.0 + LONG),
            LOAD.. => Some(self.span.0 + SHORT),
            _ => None,
        };
    }

    /// Until when clients wait; `None` if they do not. `writing`: something is on its way to the disk.
    pub fn until(&self, now: Instant, writing: bool) -> Option<Instant> {
        let next = self.next?;
        let until = if writing { next + SYNC } else { next.max((self.synced + GATHER).min(next + SYNC)) };
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    //! The rule, with a clock by hand.

    use super::*;

    fn at(start: Instant, micros: u64) -> Instant {
        start + Duration::from_micros(micros)
    }

    #[test]
    fn few_messages_and_messages_that_write_nothing_never_wait() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.turn(at(start, 3_000), 3, true);
        assert_eq!(pace.until(at(start, 3_001), true), None);
        pace.turn(at(start, 6_000), 100, false);
        assert_eq!(pace.until(at(start, 6_001), true), None);
    }

    #[test]
    fn under_load_the_next_turn_begins_a_span_later_and_under_much_load_two() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.turn(at(start, 3_000), 4, true);
        assert_eq!(pace.until(at(start, 3_100), false), Some(at(start, 5_000)));
        assert_eq!(pace.until(at(start, 5_000), false), None);
        pace.turn(at(start, 5_000), 30, true);
        assert_eq!(pace.until(at(start, 5_100), false), Some(at(start, 9_000)));
        // A look that found nothing changes nothing.
        pace.turn(at(start, 9_001), 0, true);
        assert_eq!(pace.until(at(start, 8_999), false), Some(at(start, 9_000)));
    }

    #[test]
    fn it_waits_a_little_for_the_disk_and_for_what_its_answers_bring() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.turn(at(start, 3_000), 10, true);
        assert_eq!(pace.until(at(start, 5_500), true), Some(at(start, 7_000)), "the disk is slow");
        assert_eq!(pace.until(at(start, 7_000), true), None, "but not for ever");
        pace.synced(at(start, 5_600));
        assert_eq!(pace.until(at(start, 5_700), false), Some(at(start, 6_100)));
        assert_eq!(pace.until(at(start, 6_100), false), None);
        pace.synced(at(start, 6_900));
        assert_eq!(pace.until(at(start, 6_950), false), Some(at(start, 7_000)), "never longer than for the disk");
    }
}
