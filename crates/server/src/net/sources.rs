//! Connections by the address that they come from, and the limits on them.
//!
//! Owns the count per address. Does not own the connections (`streams`).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections of one address.
#[derive(Default)]
struct Source {
    all: usize,
    unproven: usize,
}

/// All addresses with connections.
#[derive(Default)]
pub struct Sources(BTreeMap<IpAddr, Source>);

impl Sources {
    /// Counts one more, unproven, unless there are `all` or `unproven` already; false then.
    pub fn take(&mut self, ip: IpAddr, all: usize, unproven: usize) -> bool {
        let source = self.0.entry(ip).or_default();
        if source.all >= all || source.unproven >= unproven {
            return false;
        }
        source.all += 1;
        source.unproven += 1;
        true
    }

    /// One of them has been granted something.
    pub fn prove(&mut self, ip: IpAddr) {
        if let Some(source) = self.0.get_mut(&ip) {
            source.unproven = source.unproven.saturating_sub(1);
        }
    }

    /// One has ended.
    pub fn give_back(&mut self, ip: IpAddr, proven: bool) {
        let Some(source) = self.0.get_mut(&ip) else { return };
        source.all = source.all.saturating_sub(1);
        if !proven {
            source.unproven = source.unproven.saturating_sub(1);
        }
        if source.all == 0 {
            self.0.remove(&ip);
        }
    }
}
