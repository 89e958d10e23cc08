//! Timers of the transactions under way.
//!
//! Owns queues of one fixed delay each, so that setting and firing cost nothing but a push and a pop. A timer is not removed: its
//! generation tells whether it is still meant.

use std::collections::VecDeque;

/// Delays of the queues in nanoseconds: retransmissions of RFC 3261 §17.1 (T1 doubling up to T2).
const RESEND: [u64; 4] = [500_000_000, 1_000_000_000, 2_000_000_000, 4_000_000_000];

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Send again, for the n-th time (0-based).
    Resend(u8),
    /// Give up.
    GiveUp,
    /// End of the time between ACK and BYE.
    Hold,
}

/// A timer that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// What it is for.
    pub timer: Timer,
    /// Whose.
    pub slot: u32,
    /// Meant only if the slot still has this generation.
    pub generation: u32,
}

/// All timers of one thread.
#[derive(Debug)]
pub struct Timers {
    queues: [VecDeque<(u64, u8, u32, u32)>; 6],
    delays: [u64; 6],
}

impl Timers {
    /// With these delays, in nanoseconds.
    pub fn new(give_up: u64, hold: u64) -> Self {
        let delays = [RESEND[0], RESEND[1], RESEND[2], RESEND[3], give_up, hold];
        Self { queues: Default::default(), delays }
    }

    /// Sets a timer.
    pub fn set(&mut self, now: u64, timer: Timer, slot: u32, generation: u32) {
        let (queue, count) = match timer {
            Timer::Resend(count) => (usize::from(count).min(RESEND.len() - 1), count),
            Timer::GiveUp => (4, 0),
            Timer::Hold => (5, 0),
        };
        self.queues[queue].push_back((now + self.delays[queue], count, slot, generation));
    }

    /// The next timer that is due.
    pub fn fire(&mut self, now: u64) -> Option<Fired> {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if queue.front().is_some_and(|(due, ..)| *due <= now)
                && let Some((_, count, slot, generation)) = queue.pop_front()
            {
                let timer = match index {
                    4 => Timer::GiveUp,
                    5 => Timer::Hold,
                    _ => Timer::Resend(count),
                };
                return Some(Fired { timer, slot, generation });
            }
        }
        None
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<u64> {
        self.queues.iter().filter_map(|queue| queue.front().map(|(due, ..)| *due)).min()
    }
}

#[cfg(test)]
mod tests {
    //! Timers fire in order of their queues, when due, and not before.

    use super::*;

    #[test]
    fn each_fires_when_due() {
        let mut timers = Timers::new(32_000_000_000, 5_000_000);
        timers.set(0, Timer::Resend(0), 1, 10);
        timers.set(0, Timer::GiveUp, 1, 10);
        timers.set(0, Timer::Hold, 2, 20);
        timers.set(0, Timer::Resend(9), 3, 30);
        assert_eq!(timers.due(), Some(5_000_000));
        assert_eq!(timers.fire(4_999_999), None);
        assert_eq!(timers.fire(5_000_000), Some(Fired { timer: Timer::Hold, slot: 2, generation: 20 }));
        assert_eq!(timers.fire(500_000_000).map(|f| f.timer), Some(Timer::Resend(0)));
        assert_eq!(timers.fire(3_999_999_999), None);
        assert_eq!(timers.fire(4_000_000_000).map(|f| f.timer), Some(Timer::Resend(9)));
        assert_eq!(timers.fire(u64::MAX).map(|f| f.timer), Some(Timer::GiveUp));
        assert_eq!((timers.fire(u64::MAX), timers.due()), (None, None));
    }
}
