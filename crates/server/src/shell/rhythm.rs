//! How often the node's thread turns while many frames come from other servers: each wake-up of a thread costs as much as some requests, and what
//! comes within a short while shares one, here and at everybody who is answered.
//!
//! Owns the rule. Reads no clock; the node's thread says what time it is and what it took. Clients alone are `pace`'s: seen to cost more, not
//! less, where they wait twice.

use std::time::{Duration, Instant};

/// Turns begin so far apart then.
const BEAT: Duration = Duration::from_millis(1);
/// So long a time is looked at.
const SPAN: Duration = Duration::from_millis(4);
/// So many frames in [`SPAN`] are many: fewer are seldom together. A paired pool of one server gets one or two for a whole turn of its clients.
const MANY: usize = 16;

/// The state of the rule.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// When the present span began, and how many frames were taken in it.
    span: (Instant, usize),
    /// Whether there were many in the span before.
    many: bool,
}

impl Rhythm {
    /// Without frames.
    pub fn new(now: Instant) -> Rhythm {
        Rhythm { span: (now, 0), many: false }
    }

    /// So many frames were taken in the present turn.
    pub fn took(&mut self, frames: usize) {
        self.span.1 += frames;
    }

    /// A turn ends that began then: when the next may begin, if many frames come.
    pub fn turn(&mut self, began: Instant) -> Option<Instant> {
        if began >= self.span.0 + SPAN {
            self.many = self.span.1 >= MANY && began < self.span.0 + SPAN * 2;
            self.span = (began, 0);
        }
        (self.many || self.span.1 >= MANY).then(|| began + BEAT)
    }
}

#[cfg(test)]
mod tests {
    //! The rule, with a clock by hand.

    use super::*;

    #[test]
    fn turns_are_apart_while_many_frames_come_and_as_they_come_otherwise() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut rhythm = Rhythm::new(start);
        rhythm.took(MANY - 1);
        assert_eq!(rhythm.turn(at(100)), None, "few");
        rhythm.took(1);
        assert_eq!(rhythm.turn(at(200)), Some(at(1_200)));
        assert_eq!(rhythm.turn(at(4_300)), Some(at(5_300)), "as in the span before");
        rhythm.took(3);
        assert_eq!(rhythm.turn(at(8_400)), None, "few came since");
        rhythm.took(MANY);
        assert_eq!(rhythm.turn(at(8_500)), Some(at(9_500)));
        assert_eq!(rhythm.turn(at(90_000)), None, "that is long ago");
    }
}
