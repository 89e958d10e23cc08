//! Orders to wake clients, thinned out: a caller who sends much to a sleeping client must not cost a push each.
//!
//! Owns how often one client is ordered to be woken. Does not own who sleeps (the services do).

use pairline_group::Millis;
use pairline_services::push::Wake;
use std::collections::BTreeMap;

/// Between two orders for one client, in milliseconds.
const PAUSE_MS: Millis = 3_000;
/// Most clients that are remembered; with so many in a few seconds the oldest are forgotten.
const MOST: usize = 20_000;

/// When each client was last ordered to be woken, by a hash of its name.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    last: BTreeMap<[u8; 16], Millis>,
}

impl Wakes {
    /// Whether this order is to go out now; if so, it counts. `now` is monotonic.
    pub fn is_due(&mut self, wake: &Wake, now: Millis) -> bool {
        let mut hasher = blake3::Hasher::new();
        for part in [&wake.provider, &wake.param, &wake.prid] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        let mut name = [0_u8; 16];
        name.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        if self.last.get(&name).is_some_and(|at| now < at + PAUSE_MS) {
            return false;
        }
        if self.last.len() >= MOST {
            self.last.retain(|_, at| now < *at + PAUSE_MS);
        }
        if self.last.len() >= MOST {
            self.last.clear();
        }
        self.last.insert(name, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, PAUSE_MS, Wakes};
    use pairline_services::push::Wake;

    fn wake(prid: &str) -> Wake {
        Wake { provider: "apns".into(), param: String::new(), prid: prid.into(), method: "INVITE".into() }
    }

    #[test]
    fn one_order_for_one_client_in_a_while_and_no_end_of_memory() {
        let mut wakes = Wakes::default();
        assert!(wakes.is_due(&wake("a"), 10));
        assert!(!wakes.is_due(&wake("a"), 10 + PAUSE_MS - 1));
        assert!(wakes.is_due(&wake("b"), 11));
        assert!(wakes.is_due(&wake("a"), 10 + PAUSE_MS));
        for n in 0..=MOST {
            assert!(wakes.is_due(&wake(&n.to_string()), 20));
        }
        assert!(wakes.last.len() <= MOST);
    }
}
