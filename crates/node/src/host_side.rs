//! Replication's outputs: to the shell, to peers, and to whoever waits for them.
//!
//! Owns the routing of the host's outputs. Decides nothing about replication.

use crate::core::{Core, TicketOwner, WaitResult};
use crate::event::Level;
use crate::io::Output;
use crate::peer::PeerFrame;
use pairline_group::io::{Alarm, Done, HostOutput, Refusal};
use pairline_group::{Body, Effect, Entry, GroupId, LinkId, Ticket};
use pairline_services::records;
use pairline_topology::stored;

/// Takes what the host wants done; true if there was anything.
pub fn pump(core: &mut Core) -> bool {
    let mut any = false;
    while let Some(output) = core.host.poll() {
        any = true;
        handle(core, output);
    }
    any
}

fn handle(core: &mut Core, output: HostOutput) {
    match output {
        HostOutput::Append(batch) => core.out.push_back(Output::Append(batch)),
        HostOutput::Send { link, frame } => {
            let now = core.parcels.add(link, &frame);
            core.out.extend(now.map(|frame| Output::PeerFrame { link, frame }));
        }
        HostOutput::Done { ticket, done, .. } => finished(core, ticket, done),
        HostOutput::Applied { group, entry } => {
            if let Some(watched) = &mut core.watched {
                watched.push((group, std::sync::Arc::clone(&entry)));
            }
            crate::procedures::applied(core, group, &entry);
            crate::orders::step_applied(core, group, &entry);
            crate::population::noted(core, group, &entry);
            crate::stand_ins::noted(core, group, &entry);
            applied(core, group, &entry);
        }
        HostOutput::Swapped { group } => swapped(core, group),
        HostOutput::RoleChanged { group } => role_changed(core, group),
        HostOutput::StoreTail { group, fork, entries } => {
            core.out.push_back(Output::StoreTail { group, fork, entries });
        }
        HostOutput::Checkpoint { id, groups, round } => crate::checkpoints::taken(core, id, groups, round),
        HostOutput::Forget { group } => core.out.push_back(Output::Forget { group }),
        HostOutput::Purge { group, through } => core.out.push_back(Output::Purge { group, through }),
        HostOutput::Verified { group, position, equal, ranges } => {
            if equal {
                core.unequal.remove(&group);
            } else {
                core.unequal.insert(group);
                core.alarm(
                    "copies-differ",
                    format!("group {group}: the copies differ at {position} in {} ranges", ranges.len()),
                );
            }
            for (task, wait) in core.verifying.remove(&group).unwrap_or_default() {
                core.resolve(task, wait, WaitResult::Verified(position, equal, ranges.clone()));
            }
        }
        HostOutput::Alarm(alarm) => raise(core, &alarm),
    }
}

/// A request to the host ended: whoever waits for it learns how.
pub fn finished(core: &mut Core, ticket: Ticket, done: Done) {
    if let Some(started) = core.commit_started.remove(&ticket)
        && matches!(done, Done::Committed(_))
    {
        core.commit_latency.note(core.now.mono.saturating_sub(started));
    }
    match core.tickets.remove(&ticket) {
        Some(TicketOwner::Task(task, wait)) => core.resolve(task, wait, WaitResult::Done(done)),
        Some(TicketOwner::Quick(slot)) => crate::quick::done(core, slot, &done),
        Some(TicketOwner::PeerProposal(link, ticket)) => core.answer_on(link, &PeerFrame::Proposed { ticket, done }),
        Some(TicketOwner::PeerHandover(link, call)) => core.answer_on(link, &PeerFrame::HandedOver { call, done }),
        Some(TicketOwner::PeerOrder(link, call)) => core.answer_on(link, &PeerFrame::Ordered { call, done }),
        Some(TicketOwner::Runner(ticket)) => crate::procedures::answered(core, ticket, done),
        Some(TicketOwner::Nobody) | None => {}
    }
}

/// The disk is full, or no more. Whoever waits for a change that is on its way to a full disk learns it at once: there may be
/// no room for hours. The change itself stays queued and may still be made, so that repeating it must be harmless, as it is.
/// The runner of procedures goes on waiting: it has nobody to tell.
pub fn disk(core: &mut Core, full: bool) {
    core.disk_full = full;
    if !full {
        return;
    }
    let caught: Vec<Ticket> = core
        .commit_started
        .keys()
        .filter(|ticket| !matches!(core.tickets.get(ticket), Some(TicketOwner::Runner(_)) | None))
        .copied()
        .collect();
    for ticket in caught {
        finished(core, ticket, Done::Refused(Refusal::DiskFull));
    }
}

fn applied(core: &mut Core, group: GroupId, entry: &Entry) {
    match &entry.body {
        Body::Effects(effects) => {
            for effect in effects {
                touched(core, group, effect);
            }
        }
        Body::Handover(handover) => {
            let text = format!("group {group}: handover to pool {} in epoch {}", handover.to.0, handover.epoch);
            core.event(Level::Debug, "handover", text);
        }
        Body::Promote(promote) => {
            let text = format!("group {group}: promoted in epoch {} at {}", promote.epoch, promote.recovery_point);
            core.event(Level::Debug, "promoted", text);
        }
        Body::Expire(keys) => {
            for key in keys {
                crate::subscribers::changed(core, group, key, false);
            }
        }
        Body::Open { .. } => {}
    }
}

fn touched(core: &mut Core, group: GroupId, effect: &Effect) {
    let key = effect.key();
    if key.kind == records::BINDING || key.kind == records::GUEST {
        crate::figures::binding_changed(core, group, effect);
        if !core.watchers.is_empty() {
            let owner = key.owner.clone();
            crate::place::wake_watchers(core, &owner);
        }
        crate::subscribers::changed(core, group, key, true);
    } else if key.kind == records::SUBSCRIPTION {
        crate::subscribers::changed(core, group, key, matches!(effect, Effect::Put { .. }));
    } else if group.is_cms() && key.kind == stored::KIND_TOPOLOGY {
        crate::document::follow(core);
    }
}

fn swapped(core: &mut Core, group: GroupId) {
    core.event(Level::Info, "seeded", format!("group {group}: the copy here was replaced by a complete, newer one"));
    if group.is_cms() {
        core.modes.population.replaced();
        crate::stand_ins::replaced(core);
        crate::document::follow_replaced(core);
    }
}

fn role_changed(core: &mut Core, group: GroupId) {
    if let Some(status) = core.host.group(group) {
        let confirmed = if status.confirmed { "" } else { ", not confirmed" };
        let text = format!(
            "group {group}: {:?}{confirmed}, epoch {}, served by pool {}",
            status.role, status.epoch, status.serving.0
        );
        core.event(Level::Debug, "role-changed", text);
    }
    crate::modes::mark_changed(core);
    crate::neighbours::changed(core);
    crate::figures::role_changed(core);
    crate::procedures::role_changed(core, group);
}

fn raise(core: &mut Core, alarm: &Alarm) {
    if let Alarm::HandoverRefused { group, reason } = alarm {
        crate::procedures::handover_refused(core, *group, reason);
        let frame = PeerFrame::HandoverRefused { group: *group, reason: reason.to_string() };
        core.tell_pool(core.pool, &frame);
    }
    let (name, text) = describe(alarm);
    core.alarm(name, text);
}

fn describe(alarm: &Alarm) -> (&'static str, String) {
    match alarm {
        Alarm::ClockAhead { group, by } => {
            ("clock-ahead", format!("group {group}: a clock is {by} ms ahead; check time synchronisation"))
        }
        Alarm::ReseedNeeded { group } => (
            "reseed-needed",
            format!(
                "group {group}: the log reached its cap before the partner had everything; it is seeded anew when the link is up"
            ),
        ),
        Alarm::DiskLostData { group, had, partner } => (
            "disk-lost-data",
            format!(
                "group {group}: this disk had lost acknowledged data (had {had}, partner {partner}); it was pulled back"
            ),
        ),
        Alarm::ChainBroken { group, at } => (
            "chain-broken",
            format!(
                "group {group}: the copies differ at {at}; shipping has stopped, choose with `pairline pool divergence`"
            ),
        ),
        Alarm::GroupStopped { group, reason } => ("group-stopped", format!("group {group}: stopped: {reason}")),
        Alarm::HandoverRefused { group, reason } => ("handover-refused", format!("group {group}: {reason}")),
        Alarm::DivergentTail { group, entries } => (
            "divergent-tail",
            format!("group {group}: {entries} entries were never shipped and are kept; see `pairline pool divergence`"),
        ),
        Alarm::ReplicaRemoved { group } => {
            ("replica-removed", format!("group {group}: this server is no replica any more; its copy is forgotten"))
        }
        Alarm::OldDisk { group, incarnation } => (
            "old-disk",
            format!(
                "group {group}: the other servers remember disk {incarnation} of this server, and this one is empty or older: what is on \
                 it does not count, and this server takes copies anew as disk {}",
                incarnation + 1
            ),
        ),
        Alarm::Outlived { group, had, tail } => (
            "copy-outlived",
            format!(
                "group {group}: it was recovered from another server's copy while this server was away; this server's copy (at {had}) is void \
                 and taken anew. {tail} changes that only it had are kept, see `pairline pool divergence`"
            ),
        ),
        Alarm::TailFrontLost { group, entries, made } => (
            "tail-front-lost",
            format!(
                "group {group}: the first {entries} entries of the divergent tail had been let go by the log's cap; {made} entries \
                 made from the copy's state stand for them. What they deleted, and what was written over, is not known"
            ),
        ),
    }
}

/// A link went away: nobody there waits for answers any more.
pub fn link_down(core: &mut Core, link: LinkId) {
    let waits = |owner: &TicketOwner| match owner {
        TicketOwner::PeerProposal(on, _) | TicketOwner::PeerHandover(on, _) | TicketOwner::PeerOrder(on, _) => {
            *on == link
        }
        _ => false,
    };
    core.tickets.retain(|_, owner| !waits(owner));
}
