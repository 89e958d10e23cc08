//! The link to the partner: hellos, questions and canaries, and the way of each frame to its copy.
//!
//! Owns which link counts and whether it is live. Does not own connections.

use super::{Host, cx, partner_for};
use crate::consensus::{ReplicaId, ReplicaMessage};
use crate::frame::{CopyBody, Frame, Hello};
use crate::ids::{GroupId, LinkId, Millis, PoolId, ServerId};
use crate::instance::{Cx, Instance, replicas};
use crate::io::{Alarm, HostOutput};

/// A clock this much ahead of the source of group time is alarmed.
const CLOCK_AHEAD: Millis = 5000;
/// Interval at which an unanswered hello is repeated.
const HELLO_AGAIN: Millis = 1000;

impl Host {
    pub(super) fn link_up(&mut self, link: LinkId, (peer, server): (PoolId, ServerId)) {
        self.links.insert(link, (peer, server));
        if peer == self.cfg.pool {
            self.peers.insert(server, link);
        } else if Some(peer) == self.partner() {
            self.use_link(Some(link));
        }
    }

    pub(super) fn link_down(&mut self, link: LinkId) {
        let Some(gone) = self.links.remove(&link) else { return };
        if self.link == Some(link) {
            self.choose_link();
        }
        if self.peers.get(&gone.1) == Some(&link) {
            match self.links.iter().rev().find(|(_, to)| **to == gone) {
                Some((other, _)) => {
                    self.peers.insert(gone.1, *other);
                }
                None => {
                    self.peers.remove(&gone.1);
                    self.each(|instance, _| instance.lost_server(gone.1));
                }
            }
        }
    }

    /// The youngest link to the partner counts.
    pub(super) fn choose_link(&mut self) {
        let partner = self.partner();
        let link = self.links.iter().rev().find(|(_, (peer, _))| Some(*peer) == partner).map(|(link, _)| *link);
        self.use_link(link);
    }

    fn use_link(&mut self, link: Option<LinkId>) {
        if self.link == link {
            return;
        }
        self.link = link;
        self.heard = None;
        self.hello_seen = 0;
        self.each(|instance, _| instance.unlinked());
        if link.is_some() {
            self.heard = Some(self.now.mono);
            self.send_hello(true);
            self.ping();
        }
    }

    /// Says how copies stand: all of them, or those whose standing changed.
    pub(super) fn send_hello(&mut self, whole: bool) {
        let changed = std::mem::take(&mut self.hello);
        let Some(link) = self.link else { return };
        if !whole && changed.is_empty() {
            return;
        }
        let told = self
            .groups
            .values()
            .filter(|instance| partner_for(self.partner, instance.group).is_some() && !instance.follows())
            .filter(|instance| whole || changed.contains(&instance.group));
        let mut groups = Vec::new();
        for instance in told {
            if let Some(position) = instance.underway() {
                let frame = Frame::Underway { group: instance.group, position };
                self.out.push_back(HostOutput::Send { link, frame });
            }
            groups.push(instance.hello(&cx!(self, instance.group)));
        }
        if whole {
            self.hello_asked = self.now.mono;
        }
        self.hello_number += 1;
        let ask = whole && self.hello_seen == 0;
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
        if self.is_of_pool(link, message.from) {
            self.with(group, |instance, cx| instance.hear(cx, message));
        }
    }

    fn copy(&mut self, link: LinkId, group: GroupId, (from, to): (ReplicaId, ReplicaId), body: CopyBody) {
        if self.is_of_pool(link, from) && to == replicas::own(&self.cfg) {
            self.with(group, |instance, cx| instance.on_copy(cx, from, body));
        }
    }

    /// Whether a link leads to the server of a replica in this pool.
    fn is_of_pool(&self, link: LinkId, from: ReplicaId) -> bool {
        self.links.get(&link) == Some(&(self.cfg.pool, replicas::server(from)))
    }

    fn ping(&mut self) {
        self.pinged = self.now.mono;
        if let Some(link) = self.link {
            self.out.push_back(HostOutput::Send { link, frame: Frame::Ping { stamp: self.now.mono } });
        }
    }

    pub(super) fn tick_link(&mut self) {
        if self.link.is_none() {
            return;
        }
        if self.now.mono >= self.pinged.saturating_add(self.cfg.limits.ping) {
            self.ping();
        }
        if self.hello_seen == 0 && self.now.mono >= self.hello_asked.saturating_add(HELLO_AGAIN) {
            self.send_hello(true);
        }
    }

    pub(super) fn frame(&mut self, link: LinkId, frame: Frame) {
        if !matches!(frame, Frame::Replica { .. } | Frame::Copy { .. }) {
            // The two sides may prefer different ones of several connections: what the partner says counts on each.
            let partner = self.partner();
            let other = self.links.get(&link).map(|(pool, _)| *pool) != partner;
            if self.link.is_none() || other || frame.check().is_err() {
                return;
            }
            self.heard = Some(self.now.mono);
        }
        match frame {
            Frame::Hello(hello) => self.on_hello(hello),
            Frame::Ping { stamp } => self.on_ping(link, stamp),
            // An answer to a question that this process never asked says nothing about the time since.
            Frame::Canary { echo, .. } if echo > self.pinged => {}
            Frame::Canary { echo, wall, groups } => {
                self.watch_clock(echo, wall);
                for item in groups {
                    self.exchange(item.group, |instance, cx| instance.on_canary(cx, echo, item));
                }
            }
            Frame::Entries { group, entries } => self.exchange(group, |instance, cx| instance.on_entries(cx, entries)),
            Frame::Ack { group, position, chain, credit } => {
                self.exchange(group, |instance, cx| instance.on_ack(cx, position, chain, credit));
            }
            Frame::Pull { group, position, chain } => {
                self.exchange(group, |instance, cx| instance.on_pull(cx, position, chain));
            }
            Frame::Underway { group, position } => {
                self.exchange(group, |instance, _| instance.on_underway(position));
            }
            Frame::Broken { group, at } => self.exchange(group, |instance, cx| instance.break_chain(cx, at, false)),
            Frame::SeedOffer { group, offer } => self.exchange(group, |instance, cx| instance.on_seed_offer(cx, offer)),
            Frame::SeedWant { group, seed, ranges } => {
                self.exchange(group, |instance, cx| instance.on_seed_want(cx, seed, &ranges));
            }
            Frame::SeedChunk { group, chunk } => self.exchange(group, |instance, _| instance.on_seed_chunk(chunk)),
            Frame::SeedAck { group, seed, chunks, seq } => {
                self.exchange(group, |instance, cx| instance.on_seed_ack(cx, seed, chunks, seq));
            }
            Frame::SeedEnd { group, seed, position, digest } => {
                self.exchange(group, |instance, cx| instance.on_seed_end(cx, seed, position, digest));
            }
            Frame::Verify { group, position, digest, ranges } => {
                self.exchange(group, |instance, cx| instance.on_verify(cx, position, digest, ranges));
            }
            Frame::VerifyAsk { group } => self.exchange(group, |instance, cx| instance.send_verify(cx)),
            Frame::VerifyResult { group, position, equal, ranges } => {
                self.exchange(group, |instance, cx| instance.on_verify_result(cx, position, equal, ranges));
            }
            Frame::Replica { group, message } => self.replica(link, group, *message),
            Frame::Copy { group, from, to, body } => self.copy(link, group, (from, to), body),
        }
    }

    fn on_hello(&mut self, hello: Hello) {
        if Some(hello.pool) != self.partner() || hello.number <= self.hello_seen {
            return;
        }
        if !hello.whole && self.hello_seen == 0 {
            return;
        }
        self.hello_seen = hello.number;
        let whole = hello.whole;
        for group in hello.groups {
            self.exchange(group.group, |instance, cx| instance.on_hello(cx, group, whole));
        }
        if hello.ask {
            self.send_hello(true);
        }
    }

    /// Lets a copy act on what the other pool says of it, if it is exchanged with that pool at all.
    fn exchange(&mut self, group: GroupId, act: impl FnOnce(&mut Instance, &mut Cx<'_>)) {
        let leads = self.groups.get(&group).is_some_and(|instance| !instance.follows());
        if leads && partner_for(self.partner, group).is_some() {
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
