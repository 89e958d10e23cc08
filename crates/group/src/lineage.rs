//! Lineages: who served a group from which entry on, and where two histories part.
//!
//! Owns the comparison. Decides nothing; `ship::reconcile` does.

use crate::ids::{Epoch, PoolId};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// One epoch of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageItem {
    /// The epoch.
    pub epoch: Epoch,
    /// Sequence of the first entry that may be written in it.
    pub first: u64,
    /// The pool that serves in it.
    pub pool: PoolId,
}

/// How a copy's history stands to another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Order of the head epochs, ours to theirs.
    pub(crate) order: Ordering,
    /// First sequence that the lineages do not share; `u64::MAX` if they are equal.
    pub(crate) fork: u64,
    /// Whether equal head epochs stand on different histories: never by right.
    pub(crate) torn: bool,
}

/// The head epoch; the default one for an empty lineage.
pub(crate) fn head(lineage: &[LineageItem]) -> Epoch {
    lineage.last().map(|item| item.epoch).unwrap_or_default()
}

/// Compares two lineages.
pub(crate) fn relate(ours: &[LineageItem], theirs: &[LineageItem]) -> Relation {
    let common = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let next = |lineage: &[LineageItem]| lineage.get(common).map_or(u64::MAX, |item| item.first);
    let fork = next(ours).min(next(theirs));
    let order = head(ours).cmp(&head(theirs));
    Relation { order, fork, torn: order == Ordering::Equal && fork != u64::MAX }
}

/// A lineage is sound if epochs rise, first sequences do not fall, and it is not absurdly long.
pub(crate) fn sound(lineage: &[LineageItem]) -> bool {
    lineage.len() <= 65_536
        && lineage.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].first <= pair[1].first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64, pool: u16, first: u64) -> LineageItem {
        LineageItem { epoch: Epoch { number, granted_by: PoolId(pool) }, first, pool: PoolId(pool) }
    }

    #[test]
    fn fork_is_the_first_sequence_that_is_not_shared() {
        let base = [item(1, 1, 1)];
        let promoted = [item(1, 1, 1), item(2, 2, 51)];
        let other = [item(1, 1, 1), item(2, 1, 81)];
        assert_eq!(relate(&base, &promoted), Relation { order: Ordering::Less, fork: 51, torn: false });
        assert_eq!(relate(&promoted, &other), Relation { order: Ordering::Greater, fork: 51, torn: false });
        assert_eq!(relate(&base, &base), Relation { order: Ordering::Equal, fork: u64::MAX, torn: false });
        assert_eq!(relate(&[], &base), Relation { order: Ordering::Less, fork: 1, torn: false });
        assert!(relate(&[item(1, 1, 1)], &[item(1, 1, 2)]).torn);
    }
}
