//! Inputs of a host: each is handed to the copies that it concerns.
//!
//! Owns the dispatch and the periodic work. Frames and links are in `link`.

use super::{CHORES, CONSENSUS_TICK, Host, cx, partner_for};
use crate::ids::{GroupId, PoolId, Ticket};
use crate::instance::whole::Taken;
use crate::instance::{Cx, Instance};
use crate::io::{Done, HostInput, HostOutput, Now, Refusal};
use std::ops::Bound;

impl Host {
    /// Takes an input. Its outputs come by [`Host::poll`].
    pub fn handle(&mut self, now: Now, input: HostInput) {
        self.observe(now);
        match &input {
            HostInput::Propose { group, .. } => {
                if self.gathering.last() != Some(group) {
                    self.gathering.push(*group);
                }
            }
            // What other groups gather goes on.
            HostInput::Frame { frame, .. } if frame.group().is_some() => self.close_gathered(frame.group()),
            _ => self.close_gathered(None),
        }
        match input {
            HostInput::Tick => self.tick(),
            HostInput::Propose { ticket, group, proposal } => {
                self.ask(ticket, group, |instance, cx| instance.propose(cx, ticket, proposal));
            }
            HostInput::Synced { batch } => self.synced(batch),
            HostInput::LinkUp { link, peer, server } => self.link_up(link, (peer, server)),
            HostInput::LinkDown { link } => self.link_down(link),
            HostInput::Frame { link, frame } => self.frame(link, frame),
            HostInput::Pair { partner, with_cms } => self.pair(partner, with_cms),
            HostInput::Handover { ticket, group, to, step } => {
                let change = crate::instance::Change::Handover { to };
                self.ask(ticket, group, |instance, cx| instance.change(cx, ticket, step, change));
            }
            HostInput::Promote { ticket, group, step, operator, plan } => {
                let change = crate::instance::Change::Promote { operator, plan };
                self.ask(ticket, group, |instance, cx| instance.change(cx, ticket, step, change));
            }
            HostInput::Fence { ticket, group, epoch, by } => {
                self.ask(ticket, group, |instance, cx| instance.stand_down(cx, ticket, epoch, by));
            }
            HostInput::AssertActive => self.each(|instance, cx| instance.assert_active(cx)),
            HostInput::Verify { group } => self.with(group, |instance, cx| instance.verify(cx)),
            HostInput::Checkpoint { id } => self.checkpoint(id),
            HostInput::CheckpointDone { id } => self.each(|instance, cx| instance.checkpoint_done(cx, id)),
            HostInput::TailStored { group } => self.with(group, |instance, cx| instance.tail_stored(cx)),
            HostInput::Survive { ticket, group, order } => {
                self.ask(ticket, group, |instance, cx| instance.survive(cx, ticket, &order));
            }
            HostInput::Drain { on } => self.drain(on),
            HostInput::Servers { servers, witness } => self.servers(servers, witness),
            HostInput::TailOpen { group, entries } => self.with(group, |instance, _| instance.tail_open(entries)),
        }
    }

    /// Has a copy, or every one, write what it gathered from the proposals before.
    fn close_gathered(&mut self, only: Option<GroupId>) {
        match only {
            Some(group) if !self.gathering.contains(&group) => {}
            Some(group) => {
                self.gathering.retain(|id| *id != group);
                self.close_of(group);
            }
            None => {
                while let Some(id) = self.gathering.pop() {
                    self.close_of(id);
                }
            }
        }
    }

    fn close_of(&mut self, id: GroupId) {
        if let Some(instance) = self.groups.get_mut(&id) {
            instance.close_gathered(&mut cx!(self, id));
        }
    }

    /// Lets one copy act.
    pub(super) fn with(&mut self, group: GroupId, act: impl FnOnce(&mut Instance, &mut Cx<'_>)) {
        if let Some(instance) = self.groups.get_mut(&group) {
            act(instance, &mut cx!(self, group));
            self.touched.insert(group);
        }
    }

    /// Lets every copy act.
    pub(super) fn each(&mut self, mut act: impl FnMut(&mut Instance, &mut Cx<'_>)) {
        for (id, instance) in &mut self.groups {
            act(instance, &mut cx!(self, *id));
            self.touched.insert(*id);
        }
    }

    fn ask(&mut self, ticket: Ticket, group: GroupId, act: impl FnOnce(&mut Instance, &mut Cx<'_>)) {
        if self.groups.contains_key(&group) {
            self.with(group, act);
        } else {
            self.out.push_back(HostOutput::Done { ticket, group, done: Done::Refused(Refusal::NoSuchGroup) });
        }
    }

    fn synced(&mut self, batch: u64) {
        while let Some((number, _)) = self.awaiting.front() {
            if *number > batch {
                return;
            }
            let Some((number, writers)) = self.awaiting.pop_front() else {
                return;
            };
            for id in writers {
                if let Some(instance) = self.groups.get_mut(&id) {
                    instance.synced(number);
                    self.touched.insert(id);
                }
            }
        }
    }

    fn tick(&mut self) {
        let mono = self.now.mono;
        if mono >= self.ticked.saturating_add(CONSENSUS_TICK) {
            // One tick at most: in a pause of this process no leader was silent, and none of its promises ran out.
            let late = mono - self.ticked >= 2 * CONSENSUS_TICK;
            self.ticked = if late { mono } else { self.ticked + CONSENSUS_TICK };
            self.each(|instance, cx| instance.tick_consensus(cx));
        }
        if mono < self.chores.saturating_add(CHORES) {
            return;
        }
        self.chores = mono;
        for (id, instance) in &mut self.groups {
            let mut cx = cx!(self, *id);
            instance.hurry(cx.now);
            instance.open_if_due(&mut cx);
            instance.expire(&mut cx);
            instance.trim(&mut cx);
            instance.tick_copies(&mut cx);
            instance.tick_source(&mut cx);
            instance.tick_sink(&mut cx);
            instance.advance_procedure(&mut cx);
            self.touched.insert(*id);
        }
        self.tick_link();
        self.tick_even();
        self.tick_moves();
    }

    /// Takes the copies in turn, from the one behind that which was last, until so many of their records have changed that writing
    /// them down is a piece of work; or to the end of the round. One of which there is more has the next turn too.
    fn checkpoint(&mut self, id: u64) {
        self.settle();
        let mut last = self.checkpointed;
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut groups, mut records, mut more) = (Vec::new(), 0, false);
        for (group, instance) in self.groups.range_mut((from, Bound::Unbounded)) {
            if records >= self.cfg.limits.checkpoint_records {
                break;
            }
            match instance.checkpoint(&self.cfg, id) {
                Taken::Nothing => {}
                Taken::Delta(delta) => {
                    records += delta.puts.len() + delta.deletes.len();
                    groups.push(delta);
                }
                Taken::Piece => {
                    more = true;
                    break;
                }
            }
            last = Some(*group);
        }
        let round = !more && last >= self.groups.keys().next_back().copied();
        self.checkpointed = if round { None } else { last };
        self.out.push_back(HostOutput::Checkpoint { id, groups, round });
    }

    fn pair(&mut self, partner: Option<(PoolId, u16)>, with_cms: bool) {
        self.drop_foreign(partner);
        if let Some((pool, groups)) = partner {
            for index in 0..groups {
                self.create(GroupId { pool, index }, None);
            }
        }
        if with_cms {
            self.create(GroupId::CMS, None);
        }
        if self.partner != partner {
            let before = std::mem::replace(&mut self.partner, partner);
            self.each(|instance, _| {
                if partner_for(before, instance.group) != partner_for(partner, instance.group) {
                    instance.unpaired();
                }
            });
            if before.map(|(pool, _)| pool) == partner.map(|(pool, _)| pool) {
                // The same link goes on, for more groups or for fewer: both sides say anew how these stand.
                self.hello_anew();
            } else {
                self.choose_links();
            }
        }
        self.want();
        if partner.is_none_or(|(_, groups)| groups == 0) && self.recovered {
            // There is nobody to ask: an unpaired pool's own log decides.
            self.each(|instance, cx| instance.assert_active(cx));
        }
    }

    /// Copies of a pool that is no longer the partner are dropped: nobody keeps them up to date any more.
    fn drop_foreign(&mut self, partner: Option<(PoolId, u16)>) {
        let own = self.cfg.pool;
        let kept = |id: &GroupId| {
            id.is_cms() || id.pool == own || partner.is_some_and(|(pool, groups)| id.pool == pool && id.index < groups)
        };
        let gone: Vec<GroupId> = self.groups.keys().filter(|id| !kept(id)).copied().collect();
        self.moves.expected.retain(|id, _| kept(id));
        for group in gone {
            self.forget(group);
        }
    }

    /// Starts seeds that are due, as many at once as the limit allows.
    pub(super) fn start_seeds(&mut self) {
        let running = self.groups.values().filter(|instance| instance.source.seed.is_some()).count();
        let mut room = self.cfg.limits.seeds.max(1).saturating_sub(running);
        for instance in self.groups.values_mut().filter(|instance| instance.source.seed_due) {
            if room == 0 {
                return;
            }
            room -= 1;
            let group = instance.group;
            instance.start_seed(&mut cx!(self, group));
        }
    }
}
