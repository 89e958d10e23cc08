//! Max-Breadth (RFC 5393 §5): how many branches of one request may be open downstream at the same time.
//!
//! Owns the arithmetic. Does not own which hops are tried (`fork`).

use pairline_sip::header::Name;
use pairline_sip::message::Message;

/// The breadth that a request came with; the policy's where it names none, no number, or more.
pub fn incoming(request: &Message, policy: u16) -> u16 {
    if !request.has(Name::MaxBreadth) {
        return policy;
    }
    let digits = request.header(Name::MaxBreadth).and_then(|value| std::str::from_utf8(value).ok());
    digits.and_then(|value| value.trim().parse().ok()).unwrap_or(policy).min(policy)
}

/// What each of up to `branches` branches gets of the `left` breadth, the first one the remainder too. Shorter than `branches`
/// where it does not go round: the others are tried once these have ended (§5.3.3.1).
pub fn shares(left: u16, branches: usize) -> impl Iterator<Item = u16> {
    let count = u16::try_from(branches).unwrap_or(u16::MAX).min(left);
    let each = left.checked_div(count).unwrap_or(0);
    let first = each + left.checked_rem(count).unwrap_or(0);
    (0..count).map(move |n| if n == 0 { first } else { each })
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn the_sum_of_all_shares_never_exceeds_what_is_left() {
        for (left, branches) in [(60, 1), (60, 7), (3, 3), (2, 5), (1, 1), (0, 3), (60, 0)] {
            let all: Vec<u16> = shares(left, branches).collect();
            let expected = branches.min(usize::from(left));
            assert_eq!(all.len(), expected, "{left} over {branches}");
            let sum: u16 = all.iter().sum();
            assert_eq!(sum, if expected == 0 { 0 } else { left });
            assert!(all.iter().all(|share| *share >= 1));
        }
    }
}
