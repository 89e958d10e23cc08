//! Numbers for the names of destinations: a flow has room for a number, and its connection must prove the name.
//!
//! Owns the numbering and its bound. Does not own what is proven (`tls::sip_names`).

use crate::tls::SipPeer;
use pairline_sip::flow::{Flow, NAMED};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Names that are remembered. The number of a forgotten one leads nowhere, and is never given to another name.
const MAX: usize = 65_536;

#[derive(Default)]
struct Numbers {
    last: u64,
    by_name: BTreeMap<String, u64>,
    by_number: BTreeMap<u64, String>,
}

/// Names and their numbers; cheap to clone, all clones share them.
#[derive(Clone, Default)]
pub struct PeerNames(Arc<Mutex<Numbers>>);

impl PeerNames {
    /// The number of a domain, as [`Flow::connection`] carries it.
    pub fn number(&self, domain: &str) -> u64 {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.by_name.get(&domain) {
            return *number;
        }
        if numbers.by_number.len() >= MAX
            && let Some((_, oldest)) = numbers.by_number.pop_first()
        {
            numbers.by_name.remove(&oldest);
        }
        numbers.last += 1;
        let number = NAMED | numbers.last;
        numbers.by_name.insert(domain.clone(), number);
        numbers.by_number.insert(number, domain);
        number
    }

    /// Whom a destination means: the domain of its number, or its address; `None` if the number is forgotten.
    pub fn peer(&self, flow: &Flow) -> Option<SipPeer> {
        if flow.connection & NAMED == 0 {
            return Some(SipPeer::Address(flow.remote.ip()));
        }
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.by_number.get(&flow.connection).cloned().map(SipPeer::Domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pairline_sip::flow::Transport;

    fn flow(connection: u64) -> Flow {
        Flow { transport: Transport::Tls, listener: 1, remote: "192.0.2.1:5061".parse().expect("valid"), connection }
    }

    #[test]
    fn a_name_has_one_number_and_a_forgotten_number_is_nobodys() {
        let names = PeerNames::default();
        let first = names.number("Example.ORG.");
        assert_eq!(names.number("example.org"), first);
        assert!(flow(first).is_destination());
        assert_eq!(names.peer(&flow(first)), Some(SipPeer::Domain("example.org".to_owned())));
        assert_eq!(names.peer(&flow(0)), Some(SipPeer::Address("192.0.2.1".parse().expect("valid"))));
        for n in 0..MAX {
            names.number(&format!("h{n}.example"));
        }
        assert_eq!(names.peer(&flow(first)), None);
        assert_ne!(names.number("example.org"), first);
    }
}
