//! Which server leads which group: evenly, as `placement` says, and nothing on a server that is drained.
//!
//! Owns the choice of the next group to pass on, and the asking. One group at a time: the other server is asked, and says yes if it has the
//! copy, follows this leader and is not drained itself; then nothing more is taken in, what is in flight is committed, and it is told to lead.
//! Nobody waits for an outcome that is not known. Does not own the way of the leadership itself (`consensus`).

use super::Host;
use crate::consensus::ReplicaId;
use crate::frame::{Frame, LeadBody};
use crate::ids::{GroupId, Millis, ServerId};
use crate::instance::{Instance, replicas};
use crate::io::HostOutput;
use crate::placement;
use std::collections::{BTreeMap, BTreeSet};

/// How long a server has to be linked, and a group to be led here, before it is passed on for evenness' sake.
const STEADY: Millis = 3_000;
/// Time between two groups that are passed on for evenness' sake.
const PAUSE: Millis = 1_000;
/// Time after which an answer, or what is in flight, is waited for no longer.
const PATIENCE: Millis = 1_000;
/// Time for which a server that has refused, or not answered, is not asked again.
const REFUSED: Millis = 5_000;

/// A group that is being passed on.
#[derive(Clone, Copy, Debug)]
struct Passing {
    group: GroupId,
    to: ReplicaId,
    since: Millis,
}

/// What is known for the choice.
#[derive(Debug, Default)]
pub(super) struct Even {
    /// Who should lead each group.
    wanted: BTreeMap<GroupId, ServerId>,
    /// Since when each server of the pool is linked.
    pub(super) linked: BTreeMap<ServerId, Millis>,
    /// Until when a server is not asked.
    refused: BTreeMap<ServerId, Millis>,
    passing: Option<Passing>,
    /// When the last one was passed on.
    passed: Millis,
    pub(super) drained: bool,
}

impl Host {
    /// Finds anew who should lead each group. Own groups and the partner's each are spread by themselves, so that servers that do not know of
    /// a partner yet agree about the others.
    pub(super) fn want(&mut self) {
        let servers = &self.cfg.servers;
        self.even.wanted.clear();
        if servers.len() < 2 {
            return;
        }
        let pools: BTreeSet<_> = self.groups.keys().map(|group| group.pool).collect();
        for pool in pools {
            let counts = |group: &GroupId| group.pool == pool && !group.is_cms();
            let own = if pool == self.cfg.pool { self.cfg.groups } else { 0 };
            let others = self.partner.filter(|(partner, _)| *partner == pool).map_or(0, |(_, groups)| groups);
            let mut groups: Vec<GroupId> = (0..own.max(others)).map(|index| GroupId { pool, index }).collect();
            groups.retain(counts);
            if pool == GroupId::CMS.pool {
                groups.push(GroupId::CMS);
            }
            self.even.wanted.extend(placement::leaders(&groups, servers));
        }
    }

    /// A server that is drained passes on all that it leads, and takes nothing unless nobody else can.
    pub(super) fn drain(&mut self, on: bool) {
        self.even.drained = on;
        self.even.refused.clear();
        self.each(|instance, _| instance.yields(on));
    }

    /// Whether this server is drained, and how many groups it leads that others could lead.
    pub fn drained(&self) -> (bool, usize) {
        let led = self.groups.values().filter(|instance| instance.leads() && !instance.is_alone()).count();
        (self.even.drained, led)
    }

    /// Carries on with the group that is being passed on, or begins with the next.
    pub(super) fn tick_even(&mut self) {
        if self.cfg.servers.len() < 2 {
            return;
        }
        let now = self.now.mono;
        if let Some(passing) = self.even.passing {
            let leads = self.groups.get(&passing.group).is_some_and(Instance::leads);
            if !leads {
                self.even.passing = None;
                self.even.passed = now;
            } else if now >= passing.since.saturating_add(PATIENCE) {
                self.give_up(passing);
            } else {
                self.with(passing.group, |instance, cx| instance.pass_on(cx));
                return;
            }
        }
        let pause = if self.even.drained { 0 } else { PAUSE };
        if now < self.even.passed.saturating_add(pause) {
            return;
        }
        if let Some((group, to)) = self.next_to_pass() {
            self.even.passing = Some(Passing { group, to, since: now });
            self.lead_frame(group, to, LeadBody::Ask);
        }
    }

    fn give_up(&mut self, passing: Passing) {
        self.even.passing = None;
        self.even.passed = self.now.mono;
        self.even.refused.insert(replicas::server(passing.to), self.now.mono.saturating_add(REFUSED));
        self.with(passing.group, |instance, _| instance.keep());
    }

    /// The first group that another server should lead, and can. Of one that this server should have no copy of any more, any other that
    /// should have one: the one that is meant to lead may be drained, or away.
    fn next_to_pass(&self) -> Option<(GroupId, ReplicaId)> {
        self.groups.values().find_map(|instance| {
            let wanted = self.even.wanted.get(&instance.group).copied();
            let placed = self.moves.placed.get(&instance.group).map(|wanted| &wanted.voters);
            let stays = placed.is_none_or(|placed| placed.contains(&self.cfg.server));
            if stays && !self.even.drained {
                let wanted = wanted.filter(|wanted| *wanted != self.cfg.server)?;
                return Some((instance.group, self.could_lead(instance, wanted)?));
            }
            let replicas = instance.replicas(self.now).into_iter().map(|status| status.server);
            let others = replicas.filter(|server| stays || placed.is_some_and(|placed| placed.contains(server)));
            let to = wanted.into_iter().chain(others).find_map(|server| self.could_lead(instance, server));
            Some((instance.group, to?))
        })
    }

    /// The replica of another server, if it could lead a group that is led here.
    fn could_lead(&self, instance: &Instance, server: ServerId) -> Option<ReplicaId> {
        let now = self.now.mono;
        let ago = if self.even.drained { 0 } else { STEADY };
        let linked = self.even.linked.get(&server).is_some_and(|since| now >= since.saturating_add(ago));
        let asked = self.even.refused.get(&server).is_none_or(|until| now >= *until);
        if server == self.cfg.server || !linked || !asked {
            return None;
        }
        let since = now.saturating_sub(ago);
        instance.could_pass_to(self.now, server, since, self.even.drained)
    }

    fn lead_frame(&mut self, group: GroupId, to: ReplicaId, body: LeadBody) {
        if let Some(link) = self.peers.get(&replicas::server(to)).copied() {
            let from = self.number(group);
            let frame = Frame::Lead { group, from, to, body };
            self.out.push_back(HostOutput::Send { link, frame });
        }
    }

    /// Another server asks whether this one would lead, or answers that.
    pub(super) fn on_lead(&mut self, group: GroupId, from: ReplicaId, body: LeadBody) {
        match body {
            LeadBody::Ask => {
                let follows = |instance: &Instance| instance.may_take(from);
                let yes = !self.even.drained && self.groups.get(&group).is_some_and(follows);
                self.lead_frame(group, from, if yes { LeadBody::Yes } else { LeadBody::No });
            }
            LeadBody::Yes | LeadBody::No => {
                let Some(passing) = self.even.passing.filter(|passing| (passing.group, passing.to) == (group, from))
                else {
                    return;
                };
                if body == LeadBody::No {
                    self.give_up(passing);
                } else {
                    self.with(group, |instance, cx| instance.pass_to(cx, from));
                }
            }
        }
    }
}
