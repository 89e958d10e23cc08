//! Servers that come and go, and disks that were replaced.
//!
//! Owns which groups this server should have a copy of, the asking for them, and the forgetting of those that it is no replica of any more.
//! One server at a time is let in by each leader. A group is begun only where every other server of the pool has said that it has nothing of
//! it, so that a disk that was emptied never votes as if it had not acknowledged anything. Does not own the changes themselves
//! (`instance::moves`), nor who leads where (`led`).

use super::{Host, cx};
use crate::consensus::{ReplicaBody, ReplicaId, ReplicaMessage};
use crate::frame::{Frame, MemberBody};
use crate::ids::{GroupId, LinkId, Millis, ServerId};
use crate::instance::moves::Wanted;
use crate::instance::{Instance, replicas};
use crate::io::{Alarm, HostOutput};
use crate::placement::{self, FrontEnd};
use std::collections::{BTreeMap, BTreeSet};

/// Interval at which a server asks for what it has no copy of.
const ASK: Millis = 500;
/// Disks of one server that can be told apart.
const MOST_DISKS: u64 = 0xffff;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Groups of which servers of this pool have copies, and how one is opened that nobody has yet.
    pub(super) expected: BTreeMap<GroupId, Option<bool>>,
    /// Whether groups that this disk does not have are created here without asking: the pool is as it was when it began.
    pub(super) founds: bool,
    /// When the others were last asked.
    pub(super) asked: Option<Millis>,
    /// Which of them have said that they have nothing of a group, on the links that are up.
    nothing: BTreeMap<GroupId, BTreeSet<ServerId>>,
    /// Numbers of copies of this server that were taken from their group, as far as this process knows.
    gone: BTreeMap<GroupId, ReplicaId>,
    /// Where each group should be, as long as the servers of the pool are the same: every tick asks for it.
    pub(super) placed: BTreeMap<GroupId, Wanted>,
}

impl Moves {
    /// Nothing is known yet.
    pub(super) fn of(founds: bool) -> Moves {
        Moves { founds, ..Moves::default() }
    }
}

impl Host {
    /// Where a group should be.
    fn wanted(&self, group: GroupId) -> Wanted {
        let mut voters: BTreeSet<ServerId> = placement::of(group, &self.cfg.servers).into_iter().collect();
        let all = self.cfg.servers.iter().map(|front| front.server);
        let others = all.filter(|server| group.is_cms() && !voters.contains(server));
        let learners = others.collect();
        voters.extend(self.cfg.witness);
        Wanted { voters, learners, witness: self.cfg.witness }
    }

    /// The servers of the pool are others than before.
    pub(super) fn servers(&mut self, mut servers: Vec<FrontEnd>, witness: Option<ServerId>) {
        servers.sort_unstable();
        servers.dedup();
        let mut before = self.cfg.servers.clone();
        before.sort_unstable();
        if (servers == before && witness == self.cfg.witness) || servers.is_empty() {
            return;
        }
        (self.cfg.servers, self.cfg.witness) = (servers, witness);
        self.moves.placed.clear();
        self.moves.founds = false;
        self.want();
    }

    /// After a start: copies of an earlier disk are no replicas any more, and where a group has other replicas than it began with, none is
    /// created anew.
    pub(super) fn doubt(&mut self) {
        let incarnation = self.cfg.incarnation;
        let of_before =
            |instance: &&Instance| !instance.is_alone() && replicas::incarnation(instance.number()) < incarnation;
        let gone: Vec<GroupId> = self.groups.values().filter(of_before).map(|instance| instance.group).collect();
        gone.into_iter().for_each(|group| self.forget(group));
        // What was told of later ones before this start.
        let latest = self.groups.values().map(|instance| replicas::incarnation(instance.number())).max();
        self.cfg.incarnation = incarnation.max(latest.unwrap_or_default());
        let as_ever = self.groups.values().all(|instance| instance.is_as_founded(&self.cfg));
        self.moves.founds &= as_ever || self.cfg.servers.len() < 2;
    }

    /// Groups led here whose replicas are not yet where they should be.
    pub fn moves(&self) -> usize {
        let differs = |instance: &&Instance| instance.differs(self.now, &self.wanted(instance.group));
        self.groups.values().filter(differs).count()
    }

    /// Lets in, promotes and removes, where this server leads; asks for what it should have.
    pub(super) fn tick_moves(&mut self) {
        let now = self.now;
        let mut placed = std::mem::take(&mut self.moves.placed);
        placed.retain(|group, _| self.groups.contains_key(group));
        for group in self.groups.keys() {
            placed.entry(*group).or_insert_with(|| self.wanted(*group));
        }
        let lets_in = |(group, wanted)| self.groups.get(group).is_some_and(|instance| instance.lets_in(now, wanted));
        let mut busy = placed.iter().any(lets_in);
        for (group, wanted) in &placed {
            self.with(*group, |instance, cx| {
                instance.note_quiet(now);
                busy |= instance.move_on(cx, wanted, !busy);
            });
        }
        self.moves.placed = placed;
        self.tick_led();
        if self.moves.asked.is_some_and(|asked| now.mono < asked.saturating_add(ASK)) {
            return;
        }
        self.moves.asked = Some(now.mono);
        let incarnation = self.cfg.incarnation;
        for group in self.moves.expected.keys().copied().collect::<Vec<_>>() {
            let body = match self.groups.get(&group) {
                Some(instance) if instance.seeks(now) => {
                    MemberBody::Ask { replica: instance.number(), incarnation, blank: instance.is_blank() }
                }
                None if replicas::has(&self.cfg, group) => MemberBody::Ask { replica: 0, incarnation, blank: true },
                _ => continue,
            };
            for link in self.peers.values() {
                self.out.push_back(HostOutput::Send { link: *link, frame: Frame::Member { group, body } });
            }
        }
    }

    /// This server is no replica of a group any more: it ends what waits there, and lets everything go.
    fn remove(&mut self, group: GroupId) {
        if let Some(instance) = self.groups.get(&group) {
            self.moves.gone.insert(group, instance.number());
        }
        self.with(group, |instance, cx| instance.ends(cx));
        self.forget(group);
        self.out.push_back(HostOutput::Alarm(Alarm::ReplicaRemoved { group }));
        self.out.push_back(HostOutput::RoleChanged { group });
    }

    /// The leader knows this copy to have had what it does not have: an older state of the disk was put back. Under its number it might
    /// vote as if it had not acknowledged that, so it lets everything go, and comes in anew.
    pub(super) fn renounce_outdated(&mut self, group: GroupId) {
        let Some(instance) = self.groups.get(&group).filter(|instance| instance.is_outdated()) else { return };
        let incarnation = replicas::incarnation(instance.number());
        self.with(group, |instance, cx| instance.ends(cx));
        self.forget(group);
        self.comes_anew(group, incarnation);
        self.out.push_back(HostOutput::RoleChanged { group });
    }

    /// Lets a copy go.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.groups.remove(&group);
        self.touched.remove(&group);
        self.hello.remove(&group);
        self.out.push_back(HostOutput::Forget { group });
    }

    /// A server of this pool says something of who is a replica of a group.
    pub(super) fn on_member(&mut self, link: LinkId, from: ServerId, group: GroupId, body: MemberBody) {
        match body {
            MemberBody::Ask { replica, .. } if replica != 0 && !self.is_of_now(link, group, replica) => {}
            MemberBody::Ask { replica, incarnation, blank } => {
                // Where somebody leads there is something, whoever has it.
                let led = self.led.leader(group).is_some();
                let nothing = !led && self.groups.get(&group).is_none_or(Instance::is_void);
                let answer = match self.groups.get_mut(&group) {
                    _ if nothing => (replica == 0).then_some(MemberBody::Nothing),
                    Some(instance) => instance.asked(&mut cx!(self, group), from, (replica, incarnation, blank)),
                    None => None,
                };
                self.touched.insert(group);
                if let Some(body) = answer {
                    self.out.push_back(HostOutput::Send { link, frame: Frame::Member { group, body } });
                }
            }
            MemberBody::Nothing => self.on_nothing(from, group),
            MemberBody::Gone { replica } => {
                let own = self.groups.get(&group).is_some_and(|instance| instance.number() == replica);
                if own && self.groups.get(&group).is_some_and(|instance| instance.seeks(self.now)) {
                    self.remove(group);
                }
            }
            MemberBody::Old { incarnation } => {
                self.on_old(group, incarnation);
            }
        }
    }

    /// The others remember this disk's number, or a later one, and there is nothing on it: it comes in under one that was never used.
    fn on_old(&mut self, group: GroupId, incarnation: u64) {
        if let Some(instance) = self.groups.get(&group) {
            if !instance.is_blank() || replicas::incarnation(instance.number()) > incarnation {
                return;
            }
            self.forget(group);
        }
        self.comes_anew(group, incarnation);
    }

    /// What is asked from now on is asked as another disk than that.
    fn comes_anew(&mut self, group: GroupId, incarnation: u64) {
        self.moves.asked = None;
        if (self.cfg.incarnation..MOST_DISKS).contains(&incarnation) {
            self.cfg.incarnation = incarnation + 1;
            self.out.push_back(HostOutput::Alarm(Alarm::OldDisk { group, incarnation }));
        }
    }

    /// Another server has nothing of a group. If all others have said so, nobody has ever acknowledged anything of it.
    fn on_nothing(&mut self, from: ServerId, group: GroupId) {
        let led = self.led.leader(group).is_some();
        if led || self.groups.contains_key(&group) || !self.moves.expected.contains_key(&group) {
            return;
        }
        let said = self.moves.nothing.entry(group).or_default();
        said.insert(from);
        let all = self.cfg.other_servers().all(|server| said.contains(&server));
        if all
            && self.cfg.incarnation == 1
            && replicas::first_members(&self.cfg, group).contains(replicas::own(&self.cfg))
        {
            self.found(group);
        }
    }

    /// Groups that this server should have a copy of, and of which it does not have anything yet.
    pub fn awaited(&self) -> usize {
        let here = |group: &GroupId| self.groups.get(group).is_some_and(|instance| !instance.is_blank());
        self.moves.expected.keys().filter(|group| replicas::has(&self.cfg, **group) && !here(group)).count()
    }

    /// A link to another server of the pool is up: it is asked at once.
    pub(super) fn met(&mut self, server: ServerId) {
        self.moves.asked = None;
        self.tell_led(server);
    }

    /// No link to another server of the pool is left: what it said may not be so any more.
    pub(super) fn parted(&mut self, server: ServerId) {
        self.moves.nothing.values_mut().for_each(|said| {
            said.remove(&server);
        });
        self.led.gone(server);
    }

    /// A leader speaks to a replica that this server does not have yet: an empty copy is created under that number.
    pub(super) fn come(&mut self, group: GroupId, message: &ReplicaMessage) {
        let leads = matches!(message.body, ReplicaBody::Heartbeat { .. } | ReplicaBody::Append { .. });
        if self.groups.contains_key(&group) || !leads || !self.moves.expected.contains_key(&group) {
            return;
        }
        let to: ReplicaId = message.to;
        let own = replicas::server(to) == self.cfg.server && replicas::is_witness(to) == self.cfg.is_witness();
        if !own || replicas::incarnation(to) != self.cfg.incarnation {
            return;
        }
        // Who leads no more may not have heard that this number is gone: an empty copy under it would be taken for a disk that was lost.
        if self.moves.gone.get(&group) == Some(&to) {
            return;
        }
        let Ok(mut instance) = Instance::blank(&self.cfg, group, to, self.now) else { return };
        instance.yields(self.even.drained);
        // Where there is a partner, the leader says with its heartbeats whether its authority is confirmed.
        instance.confirmed = !self.is_paired();
        self.groups.insert(group, instance);
        self.moves.asked = None;
        self.want();
    }
}
