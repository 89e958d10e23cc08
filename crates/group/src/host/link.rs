//! The links to the partner pool: hellos, questions and canaries, and the way of each frame to its copy.
//!
//! Owns what is said on which link. Which server of the partner a copy speaks to is `partner`'s; connections are the shell's.

use super::{Host, cx, partner_for};
use crate::consensus::{ReplicaId, ReplicaMessage};
use crate::frame::{CopyBody, Frame, GroupHello, Hello};
use crate::ids::{GroupId, LinkId, Millis, PoolId, ServerId};
use crate::instance::{Cx, Instance, replicas};
use crate::io::{Alarm, HostOutput};
use std::collections::{BTreeMap, BTreeSet};

/// A clock this much ahead of the source of group time is alarmed.
const CLOCK_AHEAD: Millis = 5000;
/// Interval at which an unanswered hello is repeated.
const HELLO_AGAIN: Millis = 1000;

impl Host {
    pub(super) fn link_up(&mut self, link: LinkId, (peer, server): (PoolId, ServerId)) {
        self.links.insert(link, (peer, server));
        if peer == self.cfg.pool {
            self.peers.insert(server, link);
            self.even.linked.entry(server).or_insert(self.now.mono);
            self.each(|instance, _| instance.met_server(server));
            self.met(server);
            self.tell_survivals(link);
        } else if Some(peer) == self.partner() {
            self.use_link(server, Some(link));
        }
    }

    pub(super) fn link_down(&mut self, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        if Some(gone.0) == self.partner() && self.partners.get(gone.1).is_some_and(|partner| partner.link == link) {
            // The youngest that is left.
            let other = self.links.iter().rev().find(|(_, to)| **to == gone).map(|(link, _)| *link);
            self.use_link(gone.1, other);
        }
        if self.peers.get(&gone.1) == Some(&link) {
            match self.links.iter().rev().find(|(_, to)| **to == gone) {
                Some((other, _)) => {
                    self.peers.insert(gone.1, *other);
                }
                None => {
                    self.peers.remove(&gone.1);
                    self.even.linked.remove(&gone.1);
                    self.parted(gone.1);
                    self.each(|instance, _| instance.lost_server(gone.1));
                }
            }
        }
    }

    /// Another pool is the partner: its links count, the youngest to each of its servers.
    pub(super) fn choose_links(&mut self) {
        for server in self.partners.servers() {
            self.use_link(server, None);
        }
        let partner = self.partner();
        let links: BTreeMap<ServerId, LinkId> = self
            .links
            .iter()
            .filter(|(_, (pool, _))| Some(*pool) == partner)
            .map(|(link, (_, server))| (*server, *link))
            .collect();
        for (server, link) in links {
            self.use_link(server, Some(link));
        }
    }

    /// A server of the partner is spoken to on this link from now on, or not at all.
    fn use_link(&mut self, server: ServerId, link: Option<LinkId>) {
        if self.partners.get(server).map(|partner| partner.link) == link {
            return;
        }
        let before: Vec<(GroupId, Option<LinkId>)> =
            self.groups.keys().map(|group| (*group, self.partners.link(*group))).collect();
        match link {
            Some(link) => self.partners.up(server, link, self.now.mono),
            None => self.partners.down(server),
        }
        for (group, before) in before {
            if self.partners.link(group) != before {
                self.with(group, |instance, _| instance.unlinked());
            }
        }
        if link.is_some() {
            self.send_whole(server);
            self.ping(server);
        }
    }

    /// A server of the partner shows that it leads a group there: a copy that spoke to another begins anew with it.
    fn shown(&mut self, server: ServerId, group: GroupId) {
        if !self.groups.contains_key(&group) || partner_for(self.partner, group).is_none() {
            return;
        }
        let before = self.partners.link(group);
        self.partners.shown(group, server);
        if self.partners.link(group) != before {
            self.with(group, |instance, cx| {
                instance.unlinked();
                cx.hello.insert(group);
            });
        }
    }

    /// The groups to be exchanged are others than before: both sides say anew how these stand.
    pub(super) fn hello_anew(&mut self) {
        for server in self.partners.servers() {
            self.partners.get_mut(server).into_iter().for_each(|partner| partner.hello_seen = 0);
            self.send_whole(server);
        }
    }

    /// Says to one server how all copies stand that are led here.
    fn send_whole(&mut self, server: ServerId) {
        if self.partners.count() == 1 {
            self.hello.clear();
        }
        let now = self.now.mono;
        let Some(partner) = self.partners.get_mut(server) else { return };
        partner.hello_asked = now;
        let ask = partner.hello_seen == 0;
        let all = self.groups.keys().copied().collect();
        self.send_hello(server, &all, true, ask);
    }

    /// Says to all servers of the partner how those copies stand whose standing changed.
    pub(super) fn tell_changes(&mut self) {
        let changed = std::mem::take(&mut self.hello);
        if changed.is_empty() {
            return;
        }
        // Where leaders change, who begins to lead, or finds another there, has to be told how the other side stands.
        let several = self.cfg.servers.len() > 1 || self.partners.count() > 1;
        let unsure = |group| self.groups.get(group).is_some_and(|instance: &Instance| instance.peer.is_none());
        let ask = several && changed.iter().any(unsure);
        for server in self.partners.servers() {
            self.send_hello(server, &changed, false, ask);
        }
    }

    /// Says to one server how these copies stand, as far as they are led here.
    fn send_hello(&mut self, server: ServerId, named: &BTreeSet<GroupId>, whole: bool, ask: bool) {
        let Some(link) = self.partners.get(server).map(|partner| partner.link) else { return };
        let told = self
            .groups
            .values()
            .filter(|instance| partner_for(self.partner, instance.group).is_some() && instance.speaks(self.now))
            .filter(|instance| named.contains(&instance.group));
        let mut groups = Vec::new();
        for instance in told {
            if let Some(position) = instance.underway() {
                let frame = Frame::Underway { group: instance.group, position };
                self.out.push_back(HostOutput::Send { link, frame });
            }
            groups.push(instance.hello(&cx!(self, instance.group)));
        }
        if groups.is_empty() && !whole && self.cfg.servers.len() > 1 {
            return;
        }
        self.hello_number += 1;
        let hello = Hello {
            pool: self.cfg.pool,
            server: self.cfg.server,
            incarnation: self.cfg.incarnation,
            number: self.hello_number,
            whole,
            ask,
            groups,
        };
        self.out.push_back(HostOutput::Send { link, frame: Frame::Hello(hello) });
    }

    /// What a replica on another server of this pool says: only for itself.
    fn replica(&mut self, link: LinkId, group: GroupId, message: ReplicaMessage) {
        if self.is_of_pool(link, message.from) && self.is_of_now(link, group, message.from) {
            self.come(group, &message);
            self.with(group, |instance, cx| instance.hear(cx, message));
            self.renounce_outdated(group);
        }
    }

    fn copy(&mut self, link: LinkId, group: GroupId, (from, to): (ReplicaId, ReplicaId), body: CopyBody) {
        if self.is_of_pool(link, from) && to == self.number(group) {
            self.with(group, |instance, cx| instance.on_copy(cx, from, body));
        }
    }

    /// The number of this server's replica of a group.
    pub(super) fn number(&self, group: GroupId) -> ReplicaId {
        self.groups.get(&group).map_or_else(|| replicas::own(&self.cfg), Instance::number)
    }

    /// Whether a link leads to the server of a replica in this pool.
    fn is_of_pool(&self, link: LinkId, from: ReplicaId) -> bool {
        self.links.get(&link) == Some(&(self.cfg.pool, replicas::server(from)))
    }

    fn ping(&mut self, server: ServerId) {
        let stamp = self.now.mono;
        let Some(partner) = self.partners.get_mut(server) else { return };
        partner.pinged = stamp;
        self.out.push_back(HostOutput::Send { link: partner.link, frame: Frame::Ping { stamp } });
    }

    pub(super) fn tick_link(&mut self) {
        for server in self.partners.servers() {
            let Some(partner) = self.partners.get(server).copied() else { continue };
            if self.now.mono >= partner.pinged.saturating_add(self.cfg.limits.ping) {
                self.ping(server);
            }
            if partner.hello_seen == 0 && self.now.mono >= partner.hello_asked.saturating_add(HELLO_AGAIN) {
                self.send_whole(server);
            }
        }
    }

    /// A frame arrived.
    pub(super) fn frame(&mut self, link: LinkId, frame: Frame) {
        let Some((pool, server)) = self.links.get(&link).copied() else { return };
        match frame {
            Frame::Replica { group, message } => self.replica(link, group, *message),
            Frame::Copy { group, from, to, body } => self.copy(link, group, (from, to), body),
            Frame::Lead { group, from, to, body } => {
                if self.is_of_pool(link, from) && to == self.number(group) {
                    self.on_lead(group, from, body);
                }
            }
            Frame::Member { group, body } if pool == self.cfg.pool => self.on_member(link, server, group, body),
            Frame::Leads { groups } if pool == self.cfg.pool => self.on_led(server, groups),
            Frame::Survived { group, replica, lineage } if pool == self.cfg.pool => {
                self.on_survived(server, group, replica, &lineage);
            }
            frame if Some(pool) != self.partner() || frame.check().is_err() => {}
            frame => {
                // The two sides may prefer different ones of several connections: what the partner says counts on each.
                let Some(partner) = self.partners.get_mut(server) else { return };
                partner.heard = self.now.mono;
                self.of_partner(link, server, frame);
            }
        }
    }

    /// A server of the partner says something.
    fn of_partner(&mut self, link: LinkId, server: ServerId, frame: Frame) {
        match frame {
            Frame::Hello(hello) => self.on_hello(server, hello),
            Frame::Ping { stamp } => self.on_ping(link, stamp),
            // An answer to a question that this process never asked says nothing about the time since.
            Frame::Canary { echo, .. } if self.partners.get(server).is_none_or(|partner| echo > partner.pinged) => {}
            Frame::Canary { echo, wall, groups } => {
                self.watch_clock(echo, wall);
                for item in groups {
                    self.shown(server, item.group);
                    self.exchange(server, item.group, |instance, cx| instance.on_canary(cx, echo, item));
                }
            }
            Frame::Leads { groups } => groups.into_iter().for_each(|group| self.shown(server, group)),
            Frame::Entries { group, entries } => {
                self.exchange(server, group, |instance, cx| instance.on_entries(cx, entries))
            }
            Frame::Ack { group, position, chain, credit } => {
                self.exchange(server, group, |instance, cx| instance.on_ack(cx, position, chain, credit));
            }
            Frame::Pull { group, position, chain } => {
                self.exchange(server, group, |instance, cx| instance.on_pull(cx, position, chain));
            }
            Frame::Underway { group, position } => {
                self.exchange(server, group, |instance, _| instance.on_underway(position));
            }
            Frame::Broken { group, at } => {
                self.exchange(server, group, |instance, cx| instance.break_chain(cx, at, false))
            }
            Frame::SeedOffer { group, offer } => {
                self.exchange(server, group, |instance, cx| instance.on_seed_offer(cx, offer))
            }
            Frame::SeedWant { group, seed, ranges } => {
                self.exchange(server, group, |instance, cx| instance.on_seed_want(cx, seed, &ranges));
            }
            Frame::SeedChunk { group, chunk } => {
                self.exchange(server, group, |instance, _| instance.on_seed_chunk(chunk))
            }
            Frame::SeedAck { group, seed, chunks, seq } => {
                self.exchange(server, group, |instance, cx| instance.on_seed_ack(cx, seed, chunks, seq));
            }
            Frame::SeedEnd { group, seed, position, digest } => {
                self.exchange(server, group, |instance, cx| instance.on_seed_end(cx, seed, position, digest));
            }
            Frame::Verify { group, position, digest, ranges } => {
                self.exchange(server, group, |instance, cx| instance.on_verify(cx, position, digest, ranges));
            }
            Frame::VerifyAsk { group } => self.exchange(server, group, |instance, cx| instance.send_verify(cx)),
            Frame::VerifyResult { group, position, equal, ranges } => {
                self.exchange(server, group, |instance, cx| instance.on_verify_result(cx, position, equal, ranges));
            }
            // Said within a pool.
            Frame::Replica { .. }
            | Frame::Copy { .. }
            | Frame::Lead { .. }
            | Frame::Member { .. }
            | Frame::Survived { .. } => {}
        }
    }

    fn on_hello(&mut self, server: ServerId, hello: Hello) {
        let pool = self.partner();
        let Some(partner) = self.partners.get_mut(server) else { return };
        let early = !hello.whole && partner.hello_seen == 0;
        if Some(hello.pool) != pool || hello.number <= partner.hello_seen || early {
            return;
        }
        partner.hello_seen = hello.number;
        let whole = hello.whole;
        let named: BTreeSet<GroupId> = hello.groups.iter().map(|group| group.group).collect();
        for group in hello.groups {
            self.shown(server, group.group);
            self.overhear(&group);
            self.exchange(server, group.group, |instance, cx| instance.on_hello(cx, group, whole));
        }
        if hello.ask && whole {
            self.send_whole(server);
        } else if hello.ask {
            self.send_hello(server, &named, false, false);
        }
    }

    /// Lets a copy that another server leads know how the other pool's stands.
    fn overhear(&mut self, hello: &GroupHello) {
        let follows = self.groups.get(&hello.group).is_some_and(Instance::follows);
        if follows && partner_for(self.partner, hello.group).is_some() {
            self.with(hello.group, |instance, cx| instance.overhear_hello(cx, hello));
        }
    }

    /// Lets a copy act on what the other pool's leader says of it, if it is exchanged with that pool at all.
    fn exchange(&mut self, server: ServerId, group: GroupId, act: impl FnOnce(&mut Instance, &mut Cx<'_>)) {
        let leads = self.groups.get(&group).is_some_and(|instance| !instance.follows());
        if leads && partner_for(self.partner, group).is_some() && self.partners.server(group) == Some(server) {
            self.with(group, act);
        }
    }

    fn on_ping(&mut self, link: LinkId, stamp: Millis) {
        let groups = self
            .groups
            .values()
            .filter(|instance| partner_for(self.partner, instance.group).is_some())
            .filter_map(|instance| instance.canary(&cx!(self, instance.group)))
            .collect();
        let frame = Frame::Canary { echo: stamp, wall: self.now.wall, groups };
        self.out.push_back(HostOutput::Send { link, frame });
        if self.cfg.servers.len() == 1 {
            return;
        }
        let led = self.groups.values().filter(|instance| instance.speaks(self.now)).map(|instance| instance.group);
        let groups: Vec<GroupId> = led.filter(|group| partner_for(self.partner, *group).is_some()).collect();
        if !groups.is_empty() {
            self.out.push_back(HostOutput::Send { link, frame: Frame::Leads { groups } });
        }
    }

    /// Compares this clock with the partner's, less the time that the answer may have taken.
    fn watch_clock(&mut self, echo: Millis, wall: Millis) {
        let trip = self.now.mono.saturating_sub(echo);
        let ahead = self.now.wall.saturating_sub(wall).saturating_sub(trip);
        if ahead <= CLOCK_AHEAD {
            self.clock_told = false;
        } else if !self.clock_told {
            self.clock_told = true;
            let group = self.groups.keys().copied().find(|id| id.pool == self.cfg.pool).unwrap_or(GroupId::CMS);
            self.out.push_back(HostOutput::Alarm(Alarm::ClockAhead { group, by: ahead }));
        }
    }
}
