//! Whether this server knows all users: its copy of the management store is at least as new as the leader's was when it was last in doubt.
//!
//! Owns the doubt and how it is cleared. A server that has just been started, or was away, may lack users that were added meanwhile; one with an empty
//! disk lacks them all. Until it has caught up it says of nobody that there is no such user, for a telephone takes that for a wrong password and
//! may not try again: who leads the store is asked. Where a user is served is `place`'s.

use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::neighbours;
use crate::peer::PeerFrame;
use crate::place;
use pairline_group::{GroupId, Position};
use pairline_services::cx::{Peer, Place};
use pairline_sip::uri::Aor;

/// How long the leader may take to say how far it is, in milliseconds.
const ANSWER_MS: u64 = 1_000;
/// Between two looks at how far this copy is, in milliseconds, and how often before the leader is asked again.
const LOOK_MS: u64 = 20;
const LOOKS: u32 = 250;
/// Longest wait for another leader before it is looked for again, in milliseconds.
const AGAIN_MS: u64 = 500;

/// What is known of that.
#[derive(Debug, Default)]
pub struct Knows {
    /// How often there was doubt, and how often that was cleared.
    doubts: u64,
    cleared: u64,
    /// A task is on its way to clear it.
    asks: bool,
}

impl Knows {
    /// Whether it may lack users.
    pub fn is_in_doubt(&self) -> bool {
        self.cleared < self.doubts
    }

    /// Whether a task is to be started that clears the doubt; it is taken for started.
    pub fn begins(&mut self) -> bool {
        self.is_in_doubt() && !std::mem::replace(&mut self.asks, true)
    }
}

/// This server may have missed something: it has just been started, stood still, or was without a link.
pub fn doubt(core: &mut Core) {
    // A witness knows nobody, and never will.
    if neighbours::has_several(core) && !crate::witness::is_here(core) {
        core.knows.doubts += 1;
    }
}

/// Whether it is worth waiting before anything is said of a user: not known here, which is in doubt, and nobody leads who could be asked.
pub fn waits(core: &Core, user: &Aor) -> bool {
    let unknown = core.knows.is_in_doubt() && place::home_of(core, user.as_str()).is_none();
    unknown && place::asked_for(core, GroupId::CMS).is_none()
}

/// Where a user is served whom this server does not know. Nobody's group: what is read or written there would be another's.
pub fn unknown(core: &Core) -> Place {
    if !core.knows.is_in_doubt() {
        return Place::NoSuchUser;
    }
    match place::asked_for(core, GroupId::CMS) {
        Some(server) => Place::Elsewhere { group: None, at: Peer::Server(server) },
        None => Place::Unavailable { group: None, pool: core.pool },
    }
}

/// Clears the doubt, however long that takes.
pub async fn learn(cx: TaskCx) {
    loop {
        let doubts = cx.with(|core| core.knows.doubts);
        let (leads, known) = cx.with(|core| (core.host.can_commit(GroupId::CMS), knows_what_there_was(core)));
        if known || leads || has_caught_up(&cx).await {
            let more = cx.with(|core| {
                core.knows.cleared = core.knows.cleared.max(doubts);
                core.knows.asks = core.knows.is_in_doubt();
                core.knows.asks
            });
            if !more {
                return;
            }
        }
    }
}

/// Where nobody leads the store for long, what is known here has to do, if anything is: a copy that waits for its first state knows nobody.
fn knows_what_there_was(core: &Core) -> bool {
    place::is_long_leaderless(core, GroupId::CMS) && crate::document::stored(core).is_some()
}

/// Whether this copy has everything that the leader had when it was asked.
async fn has_caught_up(cx: &TaskCx) -> bool {
    let Some(there) = leaders_position(cx).await else {
        let until = cx.with(|core| core.now.mono + AGAIN_MS);
        cx.leader_changed(until).await;
        return false;
    };
    for _ in 0..LOOKS {
        if cx.with(|core| core.host.position(GroupId::CMS).is_some_and(|here| here >= there)) {
            return true;
        }
        cx.sleep(LOOK_MS).await;
    }
    false
}

async fn leaders_position(cx: &TaskCx) -> Option<Position> {
    let (server, link) = cx.with(|core| {
        let server = place::asked_for(core, GroupId::CMS)?;
        Some((server, core.link_to_server(server)?))
    })?;
    let call = cx.start_peer_wait(server, ANSWER_MS);
    cx.with(|core| core.send_on(link, &PeerFrame::Copies { call }));
    let WaitResult::Copies(copies, _) = cx.wait(call).await else { return None };
    copies.into_iter().find(|copy| copy.status.group.is_cms() && copy.leads).map(|copy| copy.status.position)
}
