//! The servers of the partner pool that are linked, and to which of them each copy speaks.
//!
//! Owns the choice: of several links to one server the youngest, and of several servers the one that last showed that it leads the partner's
//! copy of the group. Does not own what is said.

use crate::ids::{GroupId, LinkId, Millis, ServerId};
use std::collections::BTreeMap;

/// A linked server of the partner pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partner {
    /// The youngest link to it.
    pub(super) link: LinkId,
    /// When it was last heard.
    pub(super) heard: Millis,
    /// Number of the last hello that came; 0 before the first.
    pub(super) hello_seen: u64,
    /// When a whole hello was last sent.
    pub(super) hello_asked: Millis,
    /// When it was last pinged.
    pub(super) pinged: Millis,
}

/// Those that are linked.
#[derive(Debug, Default)]
pub(super) struct Partners {
    linked: BTreeMap<ServerId, Partner>,
    /// Who last showed that it leads the partner's copy.
    leaders: BTreeMap<GroupId, ServerId>,
}

impl Partners {
    /// The server to which a copy speaks: who leads there; where only one is linked, that one.
    pub(super) fn server(&self, group: GroupId) -> Option<ServerId> {
        let shown = self.leaders.get(&group).copied().filter(|server| self.linked.contains_key(server));
        let only = || self.linked.keys().next().copied().filter(|_| self.linked.len() == 1);
        shown.or_else(only)
    }

    /// The link on which a copy speaks.
    pub(super) fn link(&self, group: GroupId) -> Option<LinkId> {
        self.server(group).and_then(|server| self.linked.get(&server)).map(|partner| partner.link)
    }

    /// Takes note of a link to a server.
    pub(super) fn up(&mut self, server: ServerId, link: LinkId, now: Millis) {
        self.linked.insert(server, Partner { link, heard: now, hello_seen: 0, hello_asked: 0, pinged: 0 });
    }

    /// No link to a server is left.
    pub(super) fn down(&mut self, server: ServerId) {
        self.linked.remove(&server);
        self.leaders.retain(|_, leader| *leader != server);
    }

    /// A server shows that it leads the partner's copy of a group.
    pub(super) fn shown(&mut self, group: GroupId, server: ServerId) {
        self.leaders.insert(group, server);
    }

    pub(super) fn get(&self, server: ServerId) -> Option<&Partner> {
        self.linked.get(&server)
    }

    pub(super) fn get_mut(&mut self, server: ServerId) -> Option<&mut Partner> {
        self.linked.get_mut(&server)
    }

    /// Those that are linked.
    pub(super) fn servers(&self) -> Vec<ServerId> {
        self.linked.keys().copied().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.linked.len()
    }

    /// Whether any server was heard since.
    pub(super) fn heard_since(&self, then: Millis) -> bool {
        self.linked.values().any(|partner| partner.heard >= then)
    }
}
