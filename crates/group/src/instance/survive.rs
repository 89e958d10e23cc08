//! The copy that goes on alone where all others of its group are lost, by an administrator's order.
//!
//! Owns when that may be, and the step itself. Everything in this copy's log counts from then on, whether it is known to have been committed or
//! not; the copy becomes the only voter, under a number of a new generation, and the group gets a new epoch if it is served here. All of it
//! is in one checkpoint: until that is on disk this replica says nothing and nothing has happened, and from then on nobody of an earlier
//! generation is heard, nor believed. What the others had beyond it is not known here; the epoch says from where on there may be another
//! history, so that whoever has one (the partner, or a disk that comes back) keeps it as a divergent tail. Does not own whether the others are
//! really lost: nobody can tell but the administrator.

use super::copy::Restoring;
use super::moves::LOST;
use super::{Cx, Instance};
use crate::codec::{self, Item, Stored};
use crate::config::planted;
use crate::consensus::{ConsensusError, LogItem, ReplicaId, members};
use crate::entry::StepRef;
use crate::frame::Frame;
use crate::ids::{LinkId, Position, Ticket};
use crate::io::{Alarm, Done, HostOutput, Now, Refusal, Role, Standing, Survive};
use crate::lineage::{self, LineageItem};
use std::collections::{BTreeSet, VecDeque};

/// Who waits for the end of it.
#[derive(Debug)]
pub(crate) struct Surviving {
    step: StepRef,
    tickets: Vec<Ticket>,
}

impl Instance {
    /// How this copy stands among the others of its group; `None` where nothing is known or ever stood in it, as in a witness.
    pub(crate) fn standing(&self, now: Now) -> Option<Standing> {
        if self.is_blank() || self.is_void() || self.is_witness() {
            return None;
        }
        let members = self.consensus.members();
        let servers = |of: &BTreeSet<ReplicaId>| of.iter().copied().map(members::server).collect();
        let (term, index) = self.consensus.last_item();
        Some(Standing {
            voters: servers(&members.deciding()),
            learners: servers(&members.learners),
            survived: members.generation(),
            last: (term, index),
            doubtful: index.saturating_sub(self.applied.0),
            quiet: now.mono.saturating_sub(self.quiet_since),
            position: self.state.position,
            time: self.state.time,
        })
    }

    /// The order to go on alone; answered when this copy leads, which is after everything is on disk.
    pub(crate) fn survive(&mut self, cx: &mut Cx<'_>, ticket: Ticket, order: &Survive) {
        if let Some(surviving) = self.surviving.as_mut().filter(|surviving| surviving.step == order.step) {
            surviving.tickets.push(ticket);
            return;
        }
        if let Some(at) = self.state.steps.look(&order.step) {
            cx.done(ticket, self.group, Done::Committed(at));
            return;
        }
        let gone_on = self.may_survive(cx.now).and_then(|()| self.go_on_alone(cx, order));
        match gone_on {
            Ok(()) => self.surviving = Some(Surviving { step: order.step, tickets: vec![ticket] }),
            Err(refusal) => cx.done(ticket, self.group, Done::Refused(refusal)),
        }
    }

    fn may_survive(&self, now: Now) -> Result<(), Refusal> {
        let not_now = |reason: &str| Err(Refusal::NotNow(reason.into()));
        let quiet = now.mono.saturating_sub(self.quiet_since);
        match () {
            () if self.stopped.is_some() => Err(Refusal::Stopped(self.stopped.clone().unwrap_or_default())),
            () if self.surviving.is_some() => not_now("this copy is about to go on alone by another order"),
            () if self.is_witness() => not_now("a witness holds no data"),
            () if self.is_blank() || self.is_void() => not_now("nothing ever stood in this copy"),
            () if self.copy_in.is_some() || self.restoring.is_some() => not_now("this copy takes over another's state"),
            () if self.was_removed() => not_now("this copy was taken from the group"),
            () if self.is_alone() || self.consensus.is_elected() => not_now("this copy leads the group"),
            () if quiet < LOST => Err(Refusal::NotNow(format!("a leader was heard {quiet} ms ago").into())),
            () => Ok(()),
        }
    }

    fn go_on_alone(&mut self, cx: &mut Cx<'_>, order: &Survive) -> Result<(), Refusal> {
        let broken = |error: ConsensusError| Refusal::NotNow(error.to_string().into());
        let next = self.consensus.survivor(self.group).map_err(broken)?;
        let next = next.ok_or_else(|| Refusal::NotNow("the group went on alone too often".into()))?;
        let doubtful = self.consensus.doubtful().map_err(broken)?;
        self.ends(cx);
        let (known, last) = (self.state.position, self.consensus.last());
        self.commit_doubtful(cx, doubtful);
        if let Some(reason) = &self.stopped {
            return Err(Refusal::Stopped(reason.clone()));
        }
        let shared = self.shared(cx, known, order.partner);
        let at = (last + 1, next.term());
        self.consensus = next;
        // What the replica of before waits for, and whom it spoke to, is nothing to the one of now.
        self.unsynced.clear();
        (self.led, self.passing, self.overheard) = (None, None, None);
        self.asked.clear();
        self.applied = at;
        self.changed = true;
        self.forget_whole();
        self.rehead();
        self.restoring = Some(Restoring::of_survivor(at, planted!(cx.cfg, SurvivorNotDurable)));
        if self.role() == Role::Active {
            let entry = self.promote_entry(cx, (&order.operator, &order.plan), order.step, shared);
            self.entry(cx, at, Stored::new(entry), Vec::new());
            self.appended = true;
            self.source.acked = self.source.acked.map(|acked| acked.min(shared.seq));
        }
        self.tell_role(cx);
        Ok(())
    }

    /// Everything that stands in the log counts. Changes of the replicas in it do not: there are none but this one. Nor does a seed whose end
    /// may be missing, and what was to follow it.
    fn commit_doubtful(&mut self, cx: &mut Cx<'_>, items: Vec<LogItem>) {
        self.orphans |= self.shadow.take().is_some();
        for item in items {
            match codec::decode_item(&item.payload) {
                Ok(Item::SeedStart(_)) => self.orphans = true,
                Ok(Item::Change(_) | Item::Seed(_) | Item::SeedAbort | Item::Swap(_) | Item::Noop | Item::Restored) => {
                }
                Ok(Item::Entry(_) | Item::Fence(_) | Item::TailStored(_)) => self.committed(cx, item),
                // The library's own, which are empty.
                Err(_) if item.payload.is_empty() => {}
                Ok(Item::Bare) => self.stop(cx, &format!("log item {} is here without its content", item.index)),
                Err(error) => self.stop(cx, &format!("log item {}: {error}", item.index)),
            }
        }
        self.orphans = false;
    }

    /// Up to where no other history is possible: what was known to be committed, or all, if the partner's copy goes no further or stands on this
    /// copy's own history.
    fn shared(&self, cx: &Cx<'_>, known: Position, partner: Option<(Position, [u8; 32])>) -> Position {
        let same = partner.is_some_and(|there| self.history.contains(&there)) || planted!(cx.cfg, SurvivorSharesAll);
        if same { self.state.position } else { known }
    }

    /// The state is on disk: this copy leads.
    pub(super) fn survived(&mut self, cx: &mut Cx<'_>) {
        if let Err(error) = self.consensus.begin() {
            self.stop(cx, &error.to_string());
            return;
        }
        self.led_since = cx.now.mono;
        self.unlinked();
        self.sink.led_anew();
        if self.opening {
            self.open(cx);
        }
        cx.hello.insert(self.group);
        let frame = self.survival();
        cx.peers.values().for_each(|link| tell(cx.out, *link, frame.clone()));
    }

    /// Answers the order, once this copy leads.
    pub(super) fn answer_survival(&mut self, cx: &mut Cx<'_>) {
        let leads = self.restoring.is_none() && self.consensus.leads();
        for ticket in self.surviving.take_if(|_| leads).into_iter().flat_map(|surviving| surviving.tickets) {
            cx.done(ticket, self.group, Done::Committed(self.state.position));
        }
    }

    /// The tickets of an order that cannot be carried out any more.
    pub(super) fn end_survival(&mut self) -> Vec<Ticket> {
        self.surviving.take().map(|surviving| surviving.tickets).unwrap_or_default()
    }

    /// What others of the pool have to know of a group that went on alone: by that a copy of an earlier generation is void. A witness cannot
    /// say where the histories part, and leaves it to those that can.
    pub(crate) fn survival(&self) -> Option<Frame> {
        let says = self.consensus.members().generation() > 0 && self.restoring.is_none() && !self.is_witness();
        says.then(|| Frame::Survived {
            group: self.group,
            replica: self.consensus.replica(),
            lineage: self.state.lineage.clone(),
        })
    }

    /// The group went on without this copy, which is about to be forgotten. What it has beyond is handed out to be kept, as far as it serves
    /// here, whether known to be committed or not: others may have been told that it was done.
    pub(crate) fn outlived(&mut self, cx: &mut Cx<'_>, lineage: &[LineageItem]) {
        self.ends(cx);
        let had = self.state.position;
        self.take_doubtful(cx);
        let fork = lineage::relate(&self.state.lineage, lineage).fork;
        let served = self.state.serving().is_some_and(|(pool, _)| pool == self.own);
        let entries = if served && self.state.position.seq >= fork { self.tail_from(fork) } else { Vec::new() };
        let tail = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if tail > 0 {
            let fork = Position { epoch: lineage::head(lineage), seq: fork };
            cx.out.push_back(HostOutput::StoreTail { group: self.group, fork, entries });
        }
        cx.alarm(Alarm::Outlived { group: self.group, had, tail });
    }

    /// Takes what stands in the log into a state that nobody will see: a copy that has just started does not even know who serves.
    fn take_doubtful(&mut self, cx: &Cx<'_>) {
        let rules = cx.rules();
        for item in self.consensus.doubtful().unwrap_or_default() {
            let Ok(Item::Entry(stored)) = codec::decode_item(&item.payload) else { continue };
            if self.state.apply(&stored, &rules, &mut |_| {}).is_ok() {
                self.retained.push(stored, item.index, None);
            }
        }
    }
}

/// Tells one server of the pool.
pub(crate) fn tell(out: &mut VecDeque<HostOutput>, link: LinkId, frame: Option<Frame>) {
    out.extend(frame.map(|frame| HostOutput::Send { link, frame }));
}
