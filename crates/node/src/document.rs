//! Which document is in force here: the deployment's files at start, what the copy of the management store here has ever after, and what a
//! neighbour tells while that copy is behind.
//!
//! Owns the choice. A server that was away while others came may have no link with the one that leads the store now, because its own document
//! does not name it; so it hears of a newer document from any server of its pool. What a document means here is `publish`'s.

use crate::core::Core;
use crate::peer::PeerFrame;
use crate::publish;
use bytes::Bytes;
use pairline_group::{GroupId, Position, ServerId};
use pairline_topology::stored;
use std::collections::BTreeSet;

/// Where the document in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The deployment's files: nothing of what was published is known here.
    Files,
    /// A neighbour, which told what the store had at this position. It counts until the copy here has come as far.
    Told(Position),
    /// The copy of the store here, in which it was written at this position.
    Stored(Position),
}

impl Source {
    /// Whether it was published, as far as is known here.
    pub fn is_published(self) -> bool {
        self != Source::Files
    }
}

/// The document that the local copy of the management store has; there is none in a copy that waits for its first state.
pub fn stored(core: &Core) -> Option<(Bytes, Position)> {
    core.host.get(GroupId::CMS, &stored::topology_key()).map(|record| (record.value.clone(), record.version))
}

/// Time passes: the copy here may have come as far as what was told, without another document.
pub fn tick(core: &mut Core) {
    if matches!(core.document, Source::Told(_)) {
        follow(core);
    }
}

/// The copy of the management store here has another document.
pub fn follow(core: &mut Core) {
    take_stored(core, least(core));
}

/// The copy of the management store here was replaced by another: what this server had published in between is not a part of the history
/// that survived, so the document there counts even if its revision is lower.
pub fn follow_replaced(core: &mut Core) {
    take_stored(core, 0);
}

/// The lowest revision that is taken. What this server was started with may be newer than a copy that is behind: an older one would cut it off
/// from servers that have come since, and from its own copies if it was taken out and is back.
fn least(core: &Core) -> u64 {
    if core.document.is_published() { 0 } else { core.config.topology.revision }
}

fn take_stored(core: &mut Core, least: u64) {
    let Some((value, version)) = stored(core) else { return };
    let behind = matches!(core.document, Source::Told(at) if core.host.position(GroupId::CMS) < Some(at));
    // The same position is the same document: none is ever used again with other content.
    if !behind && core.document != Source::Stored(version) {
        take(core, &value, Source::Stored(version), least);
    }
}

/// Another server of this pool tells of the document that the store has at a position, or had when it was told itself.
pub fn told(core: &mut Core, value: &[u8], at: Position) {
    let here = stored(core).and_then(|_| core.host.position(GroupId::CMS));
    let known = match core.document {
        Source::Told(before) => here.max(Some(before)),
        Source::Files | Source::Stored(_) => here,
    };
    if Some(at) <= known {
        return;
    }
    take(core, value, Source::Told(at), least(core));
}

/// Takes a document that is at least of this revision.
fn take(core: &mut Core, value: &[u8], source: Source, least: u64) {
    let topology = match stored::decode_topology(value) {
        Ok(topology) if topology.revision < least => return,
        Ok(topology) => topology,
        Err(error) => return unreadable(core, source, &error),
    };
    if core.document.is_published() && !core.document_unfit && *core.topology == topology {
        // What the copy here has needs nobody's word that it is still so.
        if !matches!((core.document, source), (Source::Stored(_), Source::Told(_))) {
            core.document = source;
        }
        return;
    }
    let before = voters(core);
    core.document = source;
    core.document_unfit = !publish::enforce(core, topology);
    if core.document_unfit {
        return;
    }
    if matches!(source, Source::Told(_)) {
        // Whoever was asked before this how far the store goes may not have had that document then.
        crate::knows::doubt(core);
    }
    for server in before.union(&voters(core)) {
        tell(core, *server);
    }
}

fn unreadable(core: &mut Core, source: Source, error: &stored::StoredError) {
    core.alarm("topology-refused", format!("the published topology cannot be read here: {error}"));
    if matches!(source, Source::Stored(_)) {
        core.document = source;
        core.document_unfit = true;
    }
}

/// All servers of this pool, with its witness.
fn voters(core: &Core) -> BTreeSet<ServerId> {
    core.topology.voters_of(core.pool).iter().map(|server| server.id).collect()
}

/// Tells a server of this pool of the document in force. One whose copy of the management store is behind, or that has none as a witness, may not
/// be able to follow the store; and who leads it may be a server that only the new document names.
pub fn tell(core: &mut Core, server: ServerId) {
    let at = match core.document {
        _ if core.document_unfit => return,
        Source::Told(at) => at,
        // Of a copy that has another by now nothing is said until that is in force.
        Source::Stored(version) if stored(core).is_some_and(|(_, newest)| newest == version) => {
            core.host.position(GroupId::CMS).unwrap_or(version)
        }
        Source::Stored(_) | Source::Files => return,
    };
    let value = stored::encode_topology(&core.topology);
    core.send_server(server, &PeerFrame::Document { value, at });
}
