//! What procedures want of one group, done by the server of this pool that leads it.
//!
//! Owns the way there and back: a procedure runs at one server, and each group may be led by another. What an order does is
//! replication's; who gives it, and when, is the procedure's.

use crate::core::{Core, TicketOwner, WaitResult};
use crate::cx::TaskCx;
use crate::node::Node;
use crate::peer::PeerFrame;
use crate::place;
use bytes::Bytes;
use pairline_group::codec::{decode_entry, encode_entry};
use pairline_group::io::{Done, HostInput, Refusal};
use pairline_group::{Body, Entry, Epoch, GroupId, LinkId, Millis, PoolId, StepRef, Ticket};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How long an order may take with all waiting for a leader, in milliseconds: within what a procedure waits for an answer.
pub const ORDER_MS: Millis = 2_000;

/// Pause before another try where the servers do not agree who leads, in milliseconds.
const PAUSE_MS: Millis = 40;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Append `Promote`.
    Promote {
        /// The procedure's step.
        step: StepRef,
        /// Who ordered it, for the entry.
        operator: Box<str>,
        /// The journal's first record (only for `cms`), else empty.
        plan: Bytes,
    },
    /// Append `Handover`.
    Handover {
        /// Who serves next.
        to: PoolId,
        /// The procedure's step.
        step: StepRef,
    },
    /// Stop serving.
    Fence {
        /// The epoch up to which it is meant.
        epoch: Epoch,
        /// The pool that asks.
        by: PoolId,
    },
}

impl Order {
    fn input(self, ticket: Ticket, group: GroupId) -> HostInput {
        match self {
            Order::Promote { step, operator, plan } => HostInput::Promote { ticket, group, step, operator, plan },
            Order::Handover { to, step } => HostInput::Handover { ticket, group, to, step },
            Order::Fence { epoch, by } => HostInput::Fence { ticket, group, epoch, by },
        }
    }
}

/// Gives an order to the copy here; whoever owns the ticket learns how it ended.
pub fn here(core: &mut Core, owner: TicketOwner, group: GroupId, order: Order) {
    let ticket = Ticket(core.fresh());
    core.tickets.insert(ticket, owner);
    let now = core.now;
    core.host.handle(now, order.input(ticket, group));
}

/// Gives an order to whoever leads the group in this pool, and waits for the end of it: for a leader, too, while one is being chosen.
pub async fn at_leader(cx: &TaskCx, group: GroupId, order: Order) -> Done {
    let until = cx.with(|core| core.now.mono) + ORDER_MS;
    loop {
        let left = cx.with(|core| until.saturating_sub(core.now.mono));
        let there = cx.with(|core| if core.is_led_here(group) { None } else { place::asked_for(core, group) });
        let done = match there {
            Some(server) => {
                let Some(link) = cx.with(|core| core.link_to_server(server)) else { return unreached() };
                let call = cx.start_peer_wait(server, left.max(1));
                cx.with(|core| core.send_on(link, &PeerFrame::Order { call, group, order: order.clone() }));
                match cx.wait(call).await {
                    WaitResult::Done(done) => done,
                    _ => Done::Refused(Refusal::OutcomeUnknown),
                }
            }
            None if cx.with(|core| core.is_led_here(group) || !crate::neighbours::has_several(core)) => {
                let wait = cx.start_wait(left.max(1));
                cx.with(|core| here(core, TicketOwner::Task(cx.task(), wait), group, order.clone()));
                match cx.wait(wait).await {
                    WaitResult::Done(done) => done,
                    _ => Done::Refused(Refusal::OutcomeUnknown),
                }
            }
            None if left == 0 => return unreached(),
            None => {
                cx.leader_changed(until).await;
                continue;
            }
        };
        match done {
            Done::Refused(Refusal::NotLeader(_) | Refusal::NoSuchGroup) if left > 0 => cx.sleep(PAUSE_MS).await,
            done => return done,
        }
    }
}

fn unreached() -> Done {
    Done::Refused(Refusal::NotNow("no server of the pool that can be reached leads the group".into()))
}

/// An order of another server of this pool: carried out if the group is led here.
pub fn ordered(core: &mut Core, link: LinkId, call: u64, group: GroupId, order: Order) {
    if !core.is_led_here(group) {
        let refusal = Refusal::NotLeader(core.host.leader(group));
        core.send_on(link, &PeerFrame::Ordered { call, done: Done::Refused(refusal) });
        return;
    }
    here(core, TicketOwner::PeerOrder(link, call), group, order);
}

/// The partner's procedure asks for a handover: whoever leads the group makes it.
pub fn hand_over(node: &mut Node, link: LinkId, call: u64, group: GroupId, step: StepRef) {
    let shared = node.core();
    let Some(to) = shared.borrow().links.get(&link).map(|link| link.pool) else { return };
    {
        let mut core = shared.borrow_mut();
        if let Err(refusal) = crate::procedures::may_hand_over(&core, &step) {
            core.send_on(link, &PeerFrame::HandedOver { call, done: Done::Refused(refusal) });
            return;
        }
        let own = crate::config::planted!(core.config, HandoverByFollower) || core.is_led_here(group);
        if own || !crate::neighbours::has_several(&core) {
            return here(&mut core, TicketOwner::PeerHandover(link, call), group, Order::Handover { to, step });
        }
    }
    node.spawn(move |cx| async move {
        let done = at_leader(&cx, group, Order::Handover { to, step }).await;
        cx.with(|core| core.answer_on(link, &PeerFrame::HandedOver { call, done }));
    });
}

/// An entry of a step was applied here: the server at which the procedure runs may have no copy of the group.
pub fn step_applied(core: &mut Core, group: GroupId, entry: &Arc<Entry>) {
    let moves = matches!(entry.body, Body::Handover(_) | Body::Promote(_));
    if entry.step.is_some() && moves && core.host.leads(group) && crate::neighbours::has_several(core) {
        let entry = encode_entry(entry);
        core.tell_pool(core.pool, &PeerFrame::Stepped { group, entry });
    }
}

/// The same at another server of this pool.
pub fn stepped(core: &mut Core, group: GroupId, entry: &[u8]) {
    if core.host.role(group).is_some() {
        return;
    }
    match decode_entry(entry) {
        Ok(entry) => crate::procedures::applied(core, group, &Arc::new(entry)),
        Err(_) => core.count("peer_frames_refused"),
    }
}
