//! Orders to stand down that a pool's servers were given by their admin APIs: which are out, and what they come to together.
//!
//! Owns the count. One server that carried the order out is enough, since it passes it on to those that lead.

use pairline_group::Ticket;
use pairline_resilience::journal::FenceOutcome;
use std::collections::BTreeMap;

/// The orders that are out.
#[derive(Debug, Default)]
pub struct FenceTries {
    out: BTreeMap<u64, Ticket>,
    /// A server that answers and refuses says more than one that is silent.
    refused: bool,
}

impl FenceTries {
    /// A server was asked.
    pub fn asked(&mut self, id: u64, ticket: Ticket) {
        if !self.out.values().any(|other| *other == ticket) {
            // Those of an earlier run are nobody's any more.
            self.out.clear();
            self.refused = false;
        }
        self.out.insert(id, ticket);
    }

    /// It answered, or did not; what that makes of the whole, once it is known.
    pub fn answered(&mut self, id: u64, outcome: FenceOutcome) -> Option<(Ticket, FenceOutcome)> {
        let ticket = self.out.remove(&id)?;
        self.refused |= outcome == FenceOutcome::Refused;
        if outcome == FenceOutcome::Fenced {
            self.out.clear();
            return Some((ticket, outcome));
        }
        let all = if self.refused { FenceOutcome::Refused } else { FenceOutcome::NoAnswer };
        self.out.is_empty().then_some((ticket, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FenceOutcome::{Fenced, NoAnswer, Refused};

    fn tries() -> FenceTries {
        let mut tries = FenceTries::default();
        (1..=3).for_each(|id| tries.asked(id, Ticket(7)));
        tries
    }

    #[test]
    fn one_that_does_it_is_enough_and_all_silent_is_no_answer() {
        let mut one = tries();
        assert_eq!(one.answered(1, NoAnswer), None);
        assert_eq!(one.answered(2, Fenced), Some((Ticket(7), Fenced)));
        assert_eq!(one.answered(3, NoAnswer), None, "nobody waits for it");
        let mut none = tries();
        assert_eq!((none.answered(1, NoAnswer), none.answered(2, NoAnswer)), (None, None));
        assert_eq!(none.answered(3, NoAnswer), Some((Ticket(7), NoAnswer)));
    }

    #[test]
    fn a_refusal_counts_and_an_earlier_run_does_not() {
        let mut tries = tries();
        assert_eq!(tries.answered(2, Refused), None);
        tries.asked(4, Ticket(8));
        assert_eq!(tries.answered(1, Fenced), None, "of an earlier run");
        assert_eq!(tries.answered(4, NoAnswer), Some((Ticket(8), NoAnswer)));
    }
}
