//! Feature levels: what this build knows, what the deployment uses, and when that may be raised.
//!
//! Owns these rules. What is new at a level asks [`in_force`] before it is said to another server or written down. Servers whose builds have
//! no level in common have no link (the shell's hello), so that neither hears what it does not know.

use crate::command::Problem;
use crate::core::Core;
use crate::io::Output;
use pairline_group::{LinkId, ServerId};
use pairline_topology::policy_features::LOWEST;
use pairline_topology::{Server, Topology};
use std::collections::BTreeMap;

/// The highest level that this build knows.
pub const HIGHEST: u16 = if cfg!(feature = "next") { LOWEST + 1 } else { LOWEST };

/// The level that the deployment uses.
pub fn in_force(topology: &Topology) -> u16 {
    topology.policies.features.level
}

/// The server at the other end of a link knows levels up to this one.
pub fn told(core: &mut Core, link: LinkId, highest: u16) {
    if let Some(link) = core.links.get_mut(&link) {
        link.level = highest;
    }
    #[cfg(feature = "next")]
    crate::next::greet(core, link);
}

/// The deployment uses this level: with one that it does not know this build must not go on. True if so.
pub fn ends(core: &mut Core, level: u16) -> bool {
    if let Some(reason) = beyond(level) {
        core.out.push_back(Output::Fatal { reason });
        return true;
    }
    false
}

fn beyond(level: u16) -> Option<String> {
    (level > HIGHEST).then(|| {
        format!("the deployment uses feature level {level}, and this build knows up to {HIGHEST}: put the newer program in its place again")
    })
}

/// Whether the level of a new document may take the place of the present one.
///
/// # Errors
/// It would be lowered, or a server of the deployment does not know it, or does not answer.
pub fn may_follow(core: &Core, new: &Topology) -> Result<(), Problem> {
    let (old, wanted) = (in_force(&core.topology), in_force(new));
    if wanted == old {
        return Ok(());
    }
    if wanted < old {
        return Err(Problem::new(
            409,
            "feature-level",
            "the feature level is never lowered",
            format!("it is {old}, and what was written since may not be read at {wanted}"),
            format!("keep level = {old} in [policies.features]"),
        ));
    }
    let mut known: BTreeMap<ServerId, u16> =
        core.links.values().filter(|link| !link.silent).map(|link| (link.server, link.level)).collect();
    known.insert(core.config.server, HIGHEST);
    let knows = |server: ServerId| known.get(&server).is_some_and(|level| *level >= wanted);
    // The other pool's witness has no link with this one; its own Front Ends let it in only with a level that they use.
    let far = |server: &Server| server.is_witness() && server.pool != core.pool;
    let others = new.server.iter().filter(|server| !far(server) && !knows(server.id));
    let words = others.map(|server| match known.get(&server.id) {
        Some(level) => format!("{} knows up to {level}", server.name),
        None => format!("{} does not answer", server.name),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        409,
        "feature-level",
        "not every server knows that feature level",
        format!("level {wanted} is not known everywhere: {}", words.join(", ")),
        "put the newer program on every server (`pairline pool restart`), and publish again when all are up",
    ))
}
