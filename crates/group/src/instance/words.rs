//! What leaders have said of how far they were, on this copy's clock: what it knows of the age of an entry that another wrote.
//!
//! Owns the moments before which an entry cannot have been there. When it was applied here says nothing of that: this copy may have been away, or
//! behind. Does not own what the lag is (`status`).

use crate::ids::{Epoch, Millis};
use std::collections::VecDeque;

/// Most that are remembered. With fewer an age is only taken for greater than it may be.
const MOST: usize = 64;

/// What was said in one epoch, oldest first, further and further.
#[derive(Debug, Default)]
pub(super) struct Words {
    epoch: Option<Epoch>,
    /// When, at the earliest, it was said, and how far the leader was.
    said: VecDeque<(Millis, u64)>,
}

impl Words {
    /// A leader was at `last`, and no further, at some time after this clock showed `asked`. What comes before `acked` is of no interest any more.
    pub(super) fn heard(&mut self, epoch: Epoch, (asked, last): (Millis, u64), acked: Option<u64>) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.said.clear();
        }
        match self.said.back_mut() {
            Some((at, known)) if *known == last => *at = asked.max(*at),
            // Of before: nobody leads who lacks what was committed.
            Some((_, known)) if *known > last => {}
            _ => self.said.push_back((asked, last)),
        }
        while self.said.get(1).is_some_and(|(_, last)| acked.is_some_and(|acked| *last <= acked)) {
            self.said.pop_front();
        }
        if self.said.len() > MOST {
            self.said.remove(1);
        }
    }

    /// The latest time at which nobody can have had an entry after this one; `None` if nothing is known of it.
    pub(super) fn before(&self, epoch: Epoch, seq: u64) -> Option<Millis> {
        let said = self.said.iter().rev().filter(|_| self.epoch == Some(epoch));
        said.filter(|(_, last)| *last <= seq).map(|(at, _)| *at).next()
    }
}

#[cfg(test)]
mod tests {
    //! No entry is taken for younger than it can be.

    use super::*;
    use crate::ids::PoolId;

    const EPOCH: Epoch = Epoch { number: 3, granted_by: PoolId(1) };

    #[test]
    fn an_entry_is_as_old_at_most_as_the_last_word_of_a_leader_without_it() {
        let mut words = Words::default();
        assert_eq!(words.before(EPOCH, 7), None);
        for (asked, last) in [(100, 5), (200, 5), (300, 7), (400, 9), (350, 8)] {
            words.heard(EPOCH, (asked, last), Some(5));
        }
        let before: Vec<_> = (4..=10).map(|seq| words.before(EPOCH, seq)).collect();
        assert_eq!(before, [None, Some(200), Some(200), Some(300), Some(300), Some(400), Some(400)]);
        // What the partner has said to have is asked for no more.
        words.heard(EPOCH, (500, 9), Some(8));
        assert_eq!((words.before(EPOCH, 6), words.before(EPOCH, 8)), (None, Some(300)));
    }

    #[test]
    fn what_was_said_in_another_epoch_does_not_count() {
        let mut words = Words::default();
        words.heard(EPOCH, (100, 5), None);
        let next = Epoch { number: 4, ..EPOCH };
        assert_eq!(words.before(next, 6), None);
        words.heard(next, (200, 7), None);
        assert_eq!((words.before(next, 6), words.before(next, 7), words.before(EPOCH, 6)), (None, Some(200), None));
    }

    #[test]
    fn many_words_are_bounded_and_what_is_left_makes_nothing_younger() {
        let mut words = Words::default();
        for n in 0..10_000 {
            words.heard(EPOCH, (n * 10, n), Some(0));
        }
        assert_eq!(words.said.len(), MOST);
        for seq in 0..10_000 {
            assert!(words.before(EPOCH, seq).is_some_and(|at| at <= seq * 10), "{seq}");
        }
    }
}
