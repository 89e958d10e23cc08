//! What the next feature level brings. So far only that servers say so to each other: it is what the tests with two builds look for.
//!
//! Owns the frame's use. Compiled with the feature `next` alone; it becomes a part of every build with the first real thing of that level.

use crate::core::Core;
use crate::event::Level;
use crate::level;
use crate::peer::PeerFrame;
use pairline_group::{LinkId, PoolId};

/// Tells the other end of a link, if the level is in force.
pub fn greet(core: &mut Core, link: LinkId) {
    if level::in_force(&core.topology) >= level::HIGHEST {
        core.send_on(link, &PeerFrame::AtLevel { level: level::HIGHEST });
    }
}

/// Tells all others: the level has just come into force.
pub fn greet_all(core: &mut Core) {
    let links: Vec<LinkId> = core.links.keys().copied().collect();
    links.into_iter().for_each(|link| greet(core, link));
}

/// Another server has told.
pub fn greeted(core: &mut Core, pool: PoolId, level: u16) {
    core.event(Level::Info, "at-level", format!("a server of pool {} works at feature level {level}", pool.0));
}
