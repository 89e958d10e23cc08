//! Changes of serving pool: `Handover` by an active copy, `Promote` by a backup copy.
//!
//! Owns when either may be appended: after everything in flight is applied, once per step. Does not own the order of steps
//! of a procedure over groups and pools; that is the rooms' above.

use super::{Cx, Instance, Wait};
use crate::codec::{Fence, Item, Stored};
use crate::config::planted;
use crate::entry::{Body, Entry, Handover, Promote, StepRef};
use crate::ids::{Epoch, PoolId, Position, Ticket};
use crate::io::{Done, Refusal, Role};
use bytes::Bytes;

/// What is to be appended.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Handover { to: PoolId },
    Promote { operator: Box<str>, plan: Bytes },
}

/// A change of serving pool under way.
#[derive(Clone, Debug)]
pub(crate) struct Procedure {
    pub(crate) step: StepRef,
    pub(crate) change: Change,
    pub(crate) tickets: Vec<Ticket>,
    appended: bool,
}

impl Procedure {
    /// What a proposal is told meanwhile.
    pub(crate) fn refusal(&self) -> Refusal {
        match &self.change {
            Change::Handover { to } => Refusal::HandingOver(*to),
            Change::Promote { .. } => Refusal::NotNow("a promotion is under way".into()),
        }
    }
}

impl Instance {
    /// Asks for a change of serving pool; the answer comes by its ticket.
    pub(crate) fn change(&mut self, cx: &mut Cx<'_>, ticket: Ticket, step: StepRef, change: Change) {
        if let Some(at) = self.state.steps.look(&step) {
            cx.done(ticket, self.group, Done::Committed(at));
            return;
        }
        if let Some(procedure) = self.procedure.as_mut().filter(|procedure| procedure.step == step) {
            procedure.tickets.push(ticket);
            return;
        }
        if let Err(refusal) = self.may_change(cx, &change) {
            cx.done(ticket, self.group, Done::Refused(refusal));
            return;
        }
        if matches!(change, Change::Promote { .. }) && self.shadow.is_some() {
            self.append(Item::SeedAbort, Vec::new());
        }
        self.procedure = Some(Procedure { step, change, tickets: vec![ticket], appended: false });
        self.advance_procedure(cx);
    }

    fn may_change(&self, cx: &Cx<'_>, change: &Change) -> Result<(), Refusal> {
        let not_now = |reason: &str| Err(Refusal::NotNow(reason.into()));
        if let Some(reason) = &self.stopped {
            return Err(Refusal::Stopped(reason.clone()));
        }
        if let Some(procedure) = &self.procedure {
            return Err(procedure.refusal());
        }
        if !self.consensus.leads() || self.passing.is_some() {
            return Err(Refusal::Busy);
        }
        let (pool, epoch) = self.serving().unwrap_or_default();
        match (change, self.role()) {
            (Change::Handover { to }, Role::Active) => {
                if !self.confirmed {
                    return Err(Refusal::Unconfirmed);
                }
                if cx.partner != Some(*to) {
                    return not_now("the target is not the partner");
                }
                self.may_ship(cx)
            }
            (Change::Handover { .. }, Role::Backup | Role::Fenced) => Err(Refusal::NotActive(epoch, pool)),
            // Another procedure's step has done it, which this one need not: whoever orders it has what it wants.
            (Change::Promote { .. }, Role::Active) if self.confirmed => Err(Refusal::Moved(epoch, pool)),
            (Change::Promote { .. }, Role::Active) => not_now("active here, and not confirmed"),
            (Change::Promote { .. }, Role::Backup | Role::Fenced) if self.state.position.seq == 0 => {
                not_now("this copy was never seeded")
            }
            // A fenced copy is promoted where the pool that fenced it is lost before this one followed it. Nothing is
            // re-based by that: what this copy committed last stays its history, whether stored as a tail or not.
            (Change::Promote { .. }, Role::Backup | Role::Fenced) => Ok(()),
        }
    }

    /// Stops serving because the partner is about to promote its copy: nothing more is committed here that it could miss.
    pub(crate) fn stand_down(&mut self, cx: &mut Cx<'_>, ticket: Ticket, known: Epoch, by: PoolId) {
        if self.role() != Role::Active {
            cx.done(ticket, self.group, Done::NoChange(self.state.position));
            return;
        }
        let Some(fence) = self
            .may_stand_down(cx, known, by)
            .map_err(|refusal| {
                cx.done(ticket, self.group, Done::Refused(refusal));
            })
            .ok()
        else {
            return;
        };
        if !self.append(Item::Fence(fence), vec![(ticket, Wait::Committed)]) {
            cx.done(ticket, self.group, Done::Refused(Refusal::Busy));
            return;
        }
        self.set_fence(fence);
        self.tell_role(cx);
    }

    fn may_stand_down(&self, cx: &Cx<'_>, known: Epoch, by: PoolId) -> Result<Fence, Refusal> {
        if let Some(reason) = &self.stopped {
            return Err(Refusal::Stopped(reason.clone()));
        }
        if let Some(procedure) = &self.procedure {
            return Err(procedure.refusal());
        }
        if cx.partner != Some(by) {
            return Err(Refusal::NotNow("only the partner's procedure may ask".into()));
        }
        let epoch = self.state.epoch();
        if epoch > known {
            return Err(Refusal::NotActive(epoch, self.own));
        }
        // Above what is served here and below whatever is granted next, so that the true grant, with the place where the
        // histories part, takes its place when it is heard of.
        let epoch = epoch.stood_down();
        let fork = self.head.position.seq.max(self.state.position.seq).saturating_add(1);
        Ok(Fence { epoch, pool: by, fork, tail_stored: false })
    }

    fn may_ship(&self, cx: &Cx<'_>) -> Result<(), Refusal> {
        if cx.link.is_some() && self.source.ships() {
            Ok(())
        } else {
            Err(Refusal::NotNow("the partner does not receive this group now".into()))
        }
    }

    /// Appends the entry once nothing is in flight.
    pub(crate) fn advance_procedure(&mut self, cx: &mut Cx<'_>) {
        let Some(procedure) = self.procedure.clone().filter(|procedure| !procedure.appended) else {
            return;
        };
        if !self.flight.is_empty() {
            return;
        }
        if let Err(refusal) = self.still_may(cx, &procedure.change) {
            self.procedure = None;
            for ticket in procedure.tickets {
                cx.done(ticket, self.group, Done::Refused(refusal.clone()));
            }
            return;
        }
        self.rehead();
        let entry = match &procedure.change {
            Change::Handover { to } => self.handover_entry(cx, *to, procedure.step),
            Change::Promote { operator, plan } => {
                self.promote_entry(cx, (operator, plan), procedure.step, self.state.position)
            }
        };
        if self.write(entry, Vec::new()).is_ok()
            && let Some(procedure) = &mut self.procedure
        {
            procedure.appended = true;
        }
    }

    fn still_may(&self, cx: &Cx<'_>, change: &Change) -> Result<(), Refusal> {
        let (pool, epoch) = self.serving().unwrap_or_default();
        match (change, self.role()) {
            (Change::Handover { .. }, Role::Active) => self.may_ship(cx),
            (Change::Promote { .. }, Role::Backup | Role::Fenced) => Ok(()),
            _ => Err(Refusal::NotActive(epoch, pool)),
        }
    }

    fn handover_entry(&self, cx: &Cx<'_>, to: PoolId, step: StepRef) -> Entry {
        let number = self.state.epoch().max(self.heard).number.saturating_add(1);
        let handover =
            Handover { to, epoch: Epoch { number, granted_by: self.own }, digest: self.state.digest.total() };
        Entry {
            position: Position { epoch: self.state.epoch(), seq: self.state.position.seq.saturating_add(1) },
            prev: self.state.chain,
            time: self.state.time.max(cx.now.wall),
            op: None,
            step: Some(step),
            body: Body::Handover(handover),
        }
    }

    /// The entry by which this pool takes the group's next epoch: all up to the recovery point is the history of whoever served before, too.
    pub(super) fn promote_entry(
        &self,
        cx: &Cx<'_>,
        (operator, plan): (&str, &Bytes),
        step: StepRef,
        recovery_point: Position,
    ) -> Entry {
        let known = self.state.epoch().max(self.heard);
        // The source may have granted known + 1 by a handover that never arrived here. The promotion is the later order and
        // must win, so it skips a number where the order of pools would let the lost grant win.
        let source = self.serving().map(|(pool, _)| pool).unwrap_or_default();
        let step_up = if self.own > source || source == self.own { 1 } else { 2 };
        let number = known.number.saturating_add(step_up);
        let mut epoch = Epoch { number, granted_by: self.own };
        if planted!(cx.cfg, PromoteSameEpoch) {
            epoch = Epoch { number: known.number, granted_by: PoolId(known.granted_by.0.max(self.own.0)) };
        }
        let time = self.state.time.max(cx.now.wall);
        let gap = time.saturating_sub(self.state.time.max(self.sink.known_time));
        let mut soft_extension = gap.min(cx.cfg.limits.soft_extension);
        if planted!(cx.cfg, SoftExtensionForgotten) {
            soft_extension = 0;
        }
        let promote = Promote { epoch, recovery_point, soft_extension, operator: operator.into(), plan: plan.clone() };
        Entry {
            position: Position { epoch, seq: self.state.position.seq.saturating_add(1) },
            prev: self.state.chain,
            time,
            op: None,
            step: Some(step),
            body: Body::Promote(promote),
        }
    }

    /// Answers the tickets of a change that has been applied.
    pub(crate) fn procedure_applied(&mut self, cx: &mut Cx<'_>, stored: &Stored) {
        let Some(procedure) = self.procedure.take() else {
            return;
        };
        if matches!(stored.entry.body, Body::Promote(_)) && self.role() == Role::Active {
            // What it wanted from the pool that serves no more.
            self.sink.wants_seed = false;
            self.sink.tail_out = false;
        }
        let done = if stored.entry.step == Some(procedure.step) {
            Done::Committed(stored.entry.position)
        } else {
            let (pool, epoch) = self.serving().unwrap_or_default();
            Done::Refused(Refusal::NotActive(epoch, pool))
        };
        for ticket in procedure.tickets {
            cx.done(ticket, self.group, done.clone());
        }
    }
}
