//! The sieve of the receiving threads: lets fall what the node has no time to refuse.
//!
//! Owns the counting. Which share of each class is let through is the node's to say (`pairline_services::admission::sieve`).

use pairline_services::admission::Class;
use pairline_services::admission::sieve::{Shares, WHOLE};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Shared by those who let through and the one who says how much.
#[derive(Clone, Debug)]
pub struct Sieve(Arc<[Share; Class::ALL.len()]>);

#[derive(Debug)]
struct Share {
    /// Of [`WHOLE`].
    through: AtomicU16,
    /// What has come so far, in parts of one that is let through.
    sum: AtomicU32,
}

impl Default for Sieve {
    fn default() -> Sieve {
        let share = || Share { through: AtomicU16::new(WHOLE), sum: AtomicU32::new(0) };
        Sieve(Arc::new(std::array::from_fn(|_| share())))
    }
}

impl Sieve {
    /// From now on these shares are let through.
    pub fn set(&self, shares: &Shares) {
        for (share, new) in self.0.iter().zip(shares) {
            share.through.store(*new, Ordering::Relaxed);
        }
    }

    /// Whether one of this class is let through: evenly spread, so that a repetition has a chance of its own.
    pub fn lets_through(&self, class: Class) -> bool {
        let share = &self.0[class as usize];
        let part = share.through.load(Ordering::Relaxed);
        if part >= WHOLE {
            return true;
        }
        let whole = u32::from(WHOLE);
        let before = share.sum.fetch_add(u32::from(part), Ordering::Relaxed);
        before / whole != before.wrapping_add(u32::from(part)) / whole
    }
}

#[cfg(test)]
mod tests {
    //! As much as is said goes through.

    use super::*;

    #[test]
    fn a_share_of_each_class_goes_through() {
        let sieve = Sieve::default();
        let count = |class| (0..1_000).filter(|_| sieve.lets_through(class)).count();
        assert_eq!(count(Class::Message), 1_000);
        let mut shares = [WHOLE; Class::ALL.len()];
        shares[Class::Message as usize] = WHOLE / 4;
        sieve.set(&shares);
        assert_eq!((count(Class::Message), count(Class::Invite)), (250, 1_000));
        sieve.set(&[WHOLE; Class::ALL.len()]);
        assert_eq!(count(Class::Message), 1_000);
    }
}
