//! One leg of a forked request: a branch to one hop.
//!
//! Owns its timers and what has come back on it. Sends nothing.

use super::history::Entry;
use super::hop::Hop;
use crate::cx::Branch;
use pairline_group::Millis;

/// 64·T1 of RFC 3261: how long a cancelled leg may still answer.
pub const GIVE_UP_MS: Millis = 32_000;

/// A leg.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Its client transaction.
    pub branch: Branch,
    /// No final response yet.
    pub live: bool,
    /// A provisional response came, also a 100.
    pub provisional: bool,
    /// A provisional response of the device itself came.
    pub rang: bool,
    /// CANCEL was asked for.
    pub cancelled: bool,
    /// Monotonic time of Timer C, or of giving up after a CANCEL; `None` for non-INVITE.
    pub timer: Option<Millis>,
    /// What to try if the hop cannot be reached.
    pub alternates: Vec<Hop>,
    /// Its share of the request's breadth while it is open (RFC 5393 §5.3).
    pub breadth: u16,
    /// Its entry in the request's history (RFC 7044).
    pub history: Option<Entry>,
}

impl Leg {
    /// A leg that was just sent.
    pub fn new(branch: Branch, alternates: Vec<Hop>, timer: Option<Millis>, breadth: u16) -> Leg {
        Leg {
            branch,
            live: true,
            provisional: false,
            rang: false,
            cancelled: false,
            timer,
            alternates,
            breadth,
            history: None,
        }
    }
}

/// The q groups of some hops, highest first; within a group all are tried together (RFC 3261 §16.6).
pub fn by_preference(mut hops: Vec<Hop>) -> Vec<Vec<Hop>> {
    hops.sort_by_key(|hop| std::cmp::Reverse(hop.q));
    let mut groups: Vec<Vec<Hop>> = Vec::new();
    for hop in hops {
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|h| h.q == hop.q) => group.push(hop),
            _ => groups.push(vec![hop]),
        }
    }
    groups
}
