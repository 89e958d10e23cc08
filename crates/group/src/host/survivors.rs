//! Groups that went on with one copy, and copies of before that come back.
//!
//! Owns who is told, and the forgetting of what is void: at once, whatever such a copy thinks of itself, since two of before are a majority by
//! their own account. Does not own the step itself (`instance::survive`).

use super::Host;
use crate::config::planted;
use crate::consensus::ReplicaId;
use crate::ids::{GroupId, LinkId, ServerId};
use crate::instance::{Instance, replicas, survive};
use crate::io::{HostOutput, Standing};
use crate::lineage::LineageItem;

impl Host {
    /// How the copy here stands among those of its group; `None` if there is none, or nothing ever stood in it.
    pub fn standing(&self, group: GroupId) -> Option<Standing> {
        self.groups.get(&group)?.standing(self.now)
    }

    /// A link to another server of the pool is up: it may have copies of before.
    pub(super) fn tell_survivals(&mut self, link: LinkId) {
        for instance in self.groups.values() {
            survive::tell(&mut self.out, link, instance.survival());
        }
    }

    /// Whether a replica is of the generation of the copy here. One of before is told that the group went on without it.
    pub(super) fn is_of_now(&mut self, link: LinkId, group: GroupId, from: ReplicaId) -> bool {
        let Some(instance) = self.groups.get(&group) else { return true };
        let (theirs, ours) = (replicas::generation(from), replicas::generation(instance.number()));
        if theirs < ours && !planted!(self.cfg, OutlivedUntold) {
            survive::tell(&mut self.out, link, instance.survival());
        }
        theirs == ours
    }

    /// A server of the pool has a copy of a group that went on with one survivor.
    pub(super) fn on_survived(
        &mut self,
        server: ServerId,
        group: GroupId,
        replica: ReplicaId,
        lineage: &[LineageItem],
    ) {
        let later = |instance: &Instance| replicas::generation(replica) > replicas::generation(instance.number());
        let void = replicas::server(replica) == server && self.groups.get(&group).is_some_and(later);
        if !void || planted!(self.cfg, OutlivedUntold) {
            return;
        }
        self.with(group, |instance, cx| instance.outlived(cx, lineage));
        self.forget(group);
        self.moves.asked = None;
        self.out.push_back(HostOutput::RoleChanged { group });
    }
}
