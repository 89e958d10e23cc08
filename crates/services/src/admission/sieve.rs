//! The sieve: how much of what is new and can wait is looked at at all, while far more comes than can even be refused.
//!
//! Owns the share of each class, corrected once in each window of the rate. An answer costs as much as several looks; beyond a budget
//! for them, what comes is let fall before it costs more, from the least important class on, and the client's repetition is its next
//! chance. Calls are always answered: whoever calls must not wait for a time-out; what is going on is never let fall. Does not own who
//! lets it fall (the server's receiving threads do).

use super::class::Class;

/// Classes.
const CLASSES: usize = Class::ALL.len();
/// Everything.
pub const WHOLE: u16 = 1024;
/// At least so much is looked at, so that it is seen when less comes.
const LEAST: u16 = 8;
/// Classes that are sieved, the last to be let fall first.
const SIEVED: [Class; 6] =
    [Class::Refresh, Class::Message, Class::Subscribe, Class::Register, Class::Other, Class::Again];
/// This part of the rate may be refusals with an answer.
const ANSWERS: u32 = 3;
/// And so many in a window in any case.
const ANSWERED: u32 = 20;

/// By class (`Class as usize`): of [`WHOLE`], how much is looked at.
pub type Shares = [u16; CLASSES];

/// The shares of one server.
#[derive(Clone, Copy, Debug)]
pub struct Sieve {
    shares: Shares,
}

impl Default for Sieve {
    fn default() -> Sieve {
        Sieve { shares: [WHOLE; CLASSES] }
    }
}

impl Sieve {
    /// The shares now.
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// A window is over in which so many requests of each class were admitted and refused, of those that were looked at; `rate`
    /// units may be admitted in one, and what was let through may have stood for too long all the same.
    pub(super) fn close(
        &mut self,
        (overloaded, stands): (bool, bool),
        rate: u32,
        admitted: &[u32; CLASSES],
        refused: &[u32; CLASSES],
    ) {
        let mut answers = (rate / ANSWERS).max(ANSWERED);
        for class in SIEVED.map(|class| class as usize) {
            let (admitted, refused, share) = (admitted[class], refused[class], u32::from(self.shares[class]));
            let answered = refused.min(answers);
            answers -= answered;
            // What repeats what was let fall does not stand with the others.
            let stands = stands && class != Class::Again as usize;
            let next = if overloaded && stands && admitted + refused > 0 {
                share - share / 8
            } else if refused == 0 || !overloaded {
                share * 2 + 64
            } else if refused == answered {
                share + share / 8 + 8
            } else {
                let some = u64::from(admitted + answered).max(1);
                u32::try_from(u64::from(share) * some / u64::from(admitted + refused)).unwrap_or(share)
            };
            self.shares[class] = u16::try_from(next).unwrap_or(WHOLE).clamp(LEAST, WHOLE);
        }
    }

    /// Roughly how many came for each that was looked at, of a class.
    pub(super) fn scaled(&self, class: usize, count: u32) -> u64 {
        u64::from(count) * u64::from(WHOLE) / u64::from(self.shares[class])
    }
}

#[cfg(test)]
mod tests {
    //! The budget goes to the more important classes, and everything is looked at soon after.

    use super::*;

    fn counts(of: &[(Class, u32)]) -> [u32; CLASSES] {
        let mut counts = [0; CLASSES];
        of.iter().for_each(|(class, count)| counts[*class as usize] = *count);
        counts
    }

    #[test]
    fn what_cannot_be_answered_is_let_fall_from_the_least_important_on() {
        let mut sieve = Sieve::default();
        let admitted = counts(&[(Class::Refresh, 300), (Class::Message, 100)]);
        let refused =
            counts(&[(Class::Refresh, 100), (Class::Message, 700), (Class::Other, 500), (Class::Invite, 900)]);
        sieve.close((true, false), 600, &admitted, &refused);
        let share = |class: Class| sieve.shares()[class as usize];
        assert_eq!(share(Class::Refresh), WHOLE, "all of its refusals can be answered");
        assert_eq!(share(Class::Message), WHOLE / 4, "a hundred admitted and a hundred answered, of eight hundred");
        assert_eq!(share(Class::Other), LEAST, "nothing is left for it");
        assert_eq!((share(Class::Invite), share(Class::InDialog)), (WHOLE, WHOLE));
        assert_eq!(sieve.scaled(Class::Message as usize, 200), 800);
    }

    #[test]
    fn a_steady_flood_finds_a_steady_share_and_its_end_is_seen_within_half_a_second() {
        let mut sieve = Sieve::default();
        for _ in 0..50 {
            let seen = 10_000 * u32::from(sieve.shares()[Class::Message as usize]) / u32::from(WHOLE);
            let admitted = seen.min(500);
            sieve.close(
                (true, false),
                600,
                &counts(&[(Class::Message, admitted)]),
                &counts(&[(Class::Message, seen - admitted)]),
            );
        }
        let share = sieve.shares()[Class::Message as usize];
        assert!((65..100).contains(&share), "seven hundred of ten thousand, or a little more: {share}");
        for _ in 0..5 {
            sieve.close((true, false), 600, &counts(&[(Class::Message, 100)]), &[0; CLASSES]);
        }
        assert_eq!(sieve.shares(), [WHOLE; CLASSES]);
    }
}
