//! Who leads which group of the pool, also of those that have no copy here.
//!
//! Owns what servers of a pool tell each other of it: at once when it changes, and again after a while, since a link that is too full lets
//! frames fall. Where a copy takes part here it knows better. Does not own leading.

use super::Host;
use crate::frame::Frame;
use crate::ids::{GroupId, Millis, ServerId};
use crate::io::HostOutput;
use std::collections::{BTreeMap, BTreeSet};

/// Interval at which it is told again.
const AGAIN: Millis = 1_000;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Led {
    leaders: BTreeMap<GroupId, ServerId>,
    own: BTreeSet<GroupId>,
    told: Millis,
}

impl Led {
    /// A server is not linked any more.
    pub(super) fn gone(&mut self, server: ServerId) {
        self.leaders.retain(|_, leader| *leader != server);
    }

    /// Who says that it leads a group.
    pub(super) fn leader(&self, group: GroupId) -> Option<ServerId> {
        self.leaders.get(&group).copied()
    }
}

impl Host {
    /// Groups that are led here.
    fn led_here(&self) -> BTreeSet<GroupId> {
        self.groups.values().filter(|instance| instance.leads_now(self.now)).map(|instance| instance.group).collect()
    }

    /// Tells the others, if it has changed or was long ago.
    pub(super) fn tick_led(&mut self) {
        let now = self.now.mono;
        if self.peers.is_empty() {
            return;
        }
        let led = self.led_here();
        if led == self.led.own && now < self.led.told.saturating_add(AGAIN) {
            return;
        }
        (self.led.own, self.led.told) = (led, now);
        self.peers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|server| self.tell_led(server));
    }

    /// Tells one of them.
    pub(super) fn tell_led(&mut self, server: ServerId) {
        let Some(link) = self.peers.get(&server).copied() else { return };
        let groups = self.led_here().into_iter().collect();
        self.out.push_back(HostOutput::Send { link, frame: Frame::Leads { groups } });
    }

    /// A server of the pool says which groups it leads: these and no others.
    pub(super) fn on_led(&mut self, server: ServerId, groups: Vec<GroupId>) {
        let groups: BTreeSet<GroupId> = groups.into_iter().collect();
        let leaders = &mut self.led.leaders;
        let before = leaders.len();
        leaders.retain(|group, leader| *leader != server || groups.contains(group));
        let mut changed = leaders.len() != before;
        for group in &groups {
            changed |= leaders.insert(*group, server) != Some(server);
        }
        if changed {
            groups
                .into_iter()
                .filter(|group| !self.groups.contains_key(group))
                .for_each(|group| self.out.push_back(HostOutput::RoleChanged { group }));
        }
    }
}
