//! One leg of a forked request: a branch to one hop.
//!
//! Owns its timers and what has come back on it. Sends nothing.

use super::history::Entry;
use super::hop::Hop;
use crate::cx::Branch;
use pairline_group::Millis;
use pairline_sip::flow::Flow;

/// 64·T1 of RFC 3261: how long a cancelled leg may still answer.
pub const GIVE_UP_MS: Millis = 32_000;

/// How long a server of a name that has others may be silent before the next one is tried (RFC 3263 §4.3), instead of Timer B
/// or F, which is as long as the caller waits: four transmissions of an INVITE, which a living server answers at once with
/// a 100; five of another request, which has no such answer (RFC 4320 §4.1).
pub const SILENT_INVITE_MS: Millis = 4_000;
/// The same for other requests.
pub const SILENT_OTHER_MS: Millis = 8_000;

/// How long a server that was silent is tried after the others of its name.
pub const SILENT_REST_MS: Millis = 30_000;

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
    /// Monotonic time of Timer C, of giving up after a CANCEL, or of turning to another server; `None` for non-INVITE.
    pub timer: Option<Millis>,
    /// Its timer runs until the first answer: another server waits.
    pub hurried: bool,
    /// Where it goes.
    pub flow: Flow,
    /// Whether that is one of the servers of a name.
    pub server: bool,
    /// Whether that is a server of this pool that leads a group.
    pub leads: bool,
    /// What to try if the hop cannot be reached.
    pub alternates: Vec<Hop>,
    /// Its share of the request's breadth while it is open (RFC 5393 §5.3).
    pub breadth: u16,
    /// Its entry in the request's history (RFC 7044).
    pub history: Option<Entry>,
}

impl Leg {
    /// A leg to a hop, that was just sent. `timer` is Timer C, if it has one.
    pub fn new(branch: Branch, hop: &mut Hop, now: Millis, timer: Option<Millis>) -> Leg {
        let alternates = std::mem::take(&mut hop.alternates);
        let hurried = hop.server && !alternates.is_empty();
        let patience = if timer.is_some() { SILENT_INVITE_MS } else { SILENT_OTHER_MS };
        Leg {
            branch,
            live: true,
            provisional: false,
            rang: false,
            cancelled: false,
            timer: if hurried { Some(now + patience) } else { timer },
            hurried,
            flow: hop.flow,
            server: hop.server,
            leads: hop.leads,
            alternates,
            breadth: 0,
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
