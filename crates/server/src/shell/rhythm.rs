//! How often the node's thread turns while many frames come from other servers: each wake-up of a thread costs as much as some requests, and what
//! comes within a short while shares one, here and at everybody who is answered. And how many of them it takes at a time: each may hold, or ask
//! for, a piece of a copy, and clients wait behind it.
//!
//! Owns the rule. Reads no clock; the node's thread says what time it is and what it took. Clients alone are `pace`'s: seen to cost more, not
//! less, where they wait twice.

use std::time::{Duration, Instant};

/// Turns begin so far apart then.
const BEAT: Duration = Duration::from_millis(1);
/// So long a time is looked at.
const SPAN: Duration = Duration::from_millis(4);
/// So many frames in [`SPAN`] are many: fewer are seldom together. A paired pool of one server gets one or two for a whole turn of its clients, and
/// what another server's replicas say in one of its turns is one.
const MANY: usize = 6;
/// Frames that are handled together, at most and at least.
const TOGETHER: (usize, usize) = (64, 4);
/// Frames that took longer were too many, those that took less than a quarter of it too few.
const SHARE: Duration = Duration::from_millis(4);

/// The state of the rule.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// When the present span began, and how many frames were taken in it.
    span: (Instant, usize),
    /// Whether there were many in the span before.
    many: bool,
    /// How many are handled together now.
    together: usize,
    /// Whether there were as many as that in the last turn: more of them may wait.
    full: bool,
}

impl Rhythm {
    /// Without frames.
    pub fn new(now: Instant) -> Rhythm {
        Rhythm { span: (now, 0), many: false, together: TOGETHER.0, full: false }
    }

    /// How many frames are to be handled together.
    pub fn together(&self) -> usize {
        self.together
    }

    /// So many frames were handled together in the present turn, which took so long.
    pub fn took(&mut self, frames: usize, long: Duration) {
        self.span.1 += frames;
        self.full = frames >= self.together;
        let (most, least) = TOGETHER;
        if long > SHARE {
            self.together = (self.together / 2).max(least);
        } else if long < SHARE / 4 {
            self.together = (self.together * 2).min(most);
        }
    }

    /// A turn ends that began then: when the next may begin, if many frames come.
    pub fn turn(&mut self, began: Instant) -> Option<Instant> {
        if began >= self.span.0 + SPAN {
            self.many = self.span.1 >= MANY && began < self.span.0 + SPAN * 2;
            self.span = (began, 0);
        }
        // Nobody waits for a beat where what came before it is not done.
        (!self.full && (self.many || self.span.1 >= MANY)).then(|| began + BEAT)
    }
}

#[cfg(test)]
mod tests {
    //! The rule, with a clock by hand.

    use super::*;

    const FAST: Duration = Duration::from_micros(100);

    #[test]
    fn frames_that_take_long_are_handled_a_few_at_a_time() {
        let mut rhythm = Rhythm::new(Instant::now());
        let handled = |rhythm: &mut Rhythm, each: Duration| {
            let frames = rhythm.together();
            rhythm.took(frames, each * u32::try_from(frames).expect("few"));
            frames
        };
        let pieces = Duration::from_millis(1);
        let taken: Vec<usize> = (0..7).map(|_| handled(&mut rhythm, pieces)).collect();
        assert_eq!(taken, [64, 32, 16, 8, 4, 4, 4]);
        let small = Duration::from_micros(10);
        let taken: Vec<usize> = (0..6).map(|_| handled(&mut rhythm, small)).collect();
        assert_eq!(taken, [4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn there_is_no_pause_while_more_may_wait_than_was_taken() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        rhythm.took(rhythm.together(), FAST);
        assert_eq!(rhythm.turn(start), None);
        rhythm.took(MANY, FAST);
        assert_eq!(rhythm.turn(start), Some(start + BEAT), "all that came was taken");
    }

    #[test]
    fn turns_are_apart_while_many_frames_come_and_as_they_come_otherwise() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let mut rhythm = Rhythm::new(start);
        rhythm.took(MANY - 1, FAST);
        assert_eq!(rhythm.turn(at(100)), None, "few");
        rhythm.took(1, FAST);
        assert_eq!(rhythm.turn(at(200)), Some(at(1_200)));
        assert_eq!(rhythm.turn(at(4_300)), Some(at(5_300)), "as in the span before");
        rhythm.took(3, FAST);
        assert_eq!(rhythm.turn(at(8_400)), None, "few came since");
        rhythm.took(MANY, FAST);
        assert_eq!(rhythm.turn(at(8_500)), Some(at(9_500)));
        assert_eq!(rhythm.turn(at(90_000)), None, "that is long ago");
    }
}
