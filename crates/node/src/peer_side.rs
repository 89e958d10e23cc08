//! Frames of a link: to replication, to the transaction layer, to waiting tasks.
//!
//! Owns the routing of peer frames. Trusts the link's identity, not its content: a malformed frame is counted and dropped.

use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, Link, TicketOwner, WaitResult, peer_flow_of};
use crate::event::Level;
use crate::io::Output;
use crate::node::Node;
use crate::peer::{self, PeerFrame};
use bytes::Bytes;
use pairline_group::io::{Done, HostInput};
use pairline_group::{LinkId, PoolId, ServerId, Ticket};

/// A link is up.
pub fn up(core: &mut Core, link: LinkId, pool: PoolId, server: ServerId) {
    core.links.insert(link, Link { pool, server });
    let name = core.topology.pool_name(pool);
    core.event(Level::Info, "link-up", format!("link to pool {name} is up"));
    let now = core.now;
    core.host.handle(now, HostInput::LinkUp { link, peer: pool, server });
    core.layer.transport_restored(now.mono, peer_flow_of(pool));
    crate::modes::link_changed(core, pool);
    crate::procedures::link_changed(core, true);
}

/// A link is gone.
pub fn down(core: &mut Core, link: LinkId) {
    let Some(gone) = core.links.remove(&link) else { return };
    let name = core.topology.pool_name(gone.pool);
    core.event(Level::Warn, "link-down", format!("link to pool {name} is down"));
    let now = core.now;
    core.host.handle(now, HostInput::LinkDown { link });
    if core.link_to(gone.pool).is_none() {
        core.layer.transport_failed(now.mono, peer_flow_of(gone.pool));
    }
    crate::host_side::link_down(core, link, gone.pool);
    crate::modes::link_changed(core, gone.pool);
    crate::procedures::link_changed(core, core.link_to(gone.pool).is_some());
}

/// One frame.
pub fn frame(node: &mut Node, link: LinkId, bytes: &Bytes) {
    let shared = node.core();
    let pool = {
        let core = shared.borrow();
        let Some(known) = core.links.get(&link) else { return };
        known.pool
    };
    if let Some(frames) = peer::groups_in(bytes) {
        let mut core = shared.borrow_mut();
        for one in frames {
            match one {
                Ok(one) => replication(&mut core, link, pool, one),
                Err(error) => refused(&mut core, pool, "frame", &error),
            }
        }
        return;
    }
    let decoded = match PeerFrame::decode(bytes) {
        Ok(frame) => frame,
        Err(error) => return refused(&mut shared.borrow_mut(), pool, "frame", &error),
    };
    match decoded {
        PeerFrame::Sip(message) => crate::sip_side::received(node, peer_flow_of(pool), message),
        PeerFrame::Command { call, actor, command } => run_command(node, link, call, actor, &command),
        other => handle(&mut shared.borrow_mut(), link, pool, other),
    }
}

fn refused(core: &mut Core, pool: PoolId, what: &str, error: &dyn std::error::Error) {
    core.count("peer_frames_refused");
    core.event(Level::Warn, "peer-frame-refused", format!("{what} from pool {}: {error}", pool.0));
}

fn replication(core: &mut Core, link: LinkId, pool: PoolId, bytes: &[u8]) {
    match pairline_group::frame::decode(bytes) {
        Ok(frame) => {
            let now = core.now;
            core.host.handle(now, HostInput::Frame { link, frame });
        }
        Err(error) => refused(core, pool, "replication frame", &error),
    }
}

fn handle(core: &mut Core, link: LinkId, pool: PoolId, frame: PeerFrame) {
    let now = core.now;
    match frame {
        PeerFrame::Group(bytes) => replication(core, link, pool, &bytes),
        PeerFrame::Heartbeat(bytes) => crate::modes::heartbeat(core, pool, &bytes),
        PeerFrame::Propose { ticket, group, proposal } => {
            core.propose(TicketOwner::PeerProposal(link, ticket), group, proposal);
        }
        PeerFrame::Proposed { ticket, done } => {
            if let Some(task) = core.waits.remove(&ticket) {
                core.forwarded.remove(&ticket);
                core.resolve(task, ticket, WaitResult::Done(done));
            }
        }
        PeerFrame::CommandReply { call, reply } => {
            if let Some(task) = core.waits.remove(&call) {
                core.forwarded.remove(&call);
                let reply = serde_json::from_slice::<Result<Reply, Problem>>(&reply);
                let reply = reply.unwrap_or_else(|_| Err(Problem::bad_peer_answer()));
                core.resolve(task, call, WaitResult::Reply(Box::new(reply)));
            }
        }
        PeerFrame::Handover { call, group, step } => {
            if let Err(refusal) = crate::procedures::may_hand_over(core, &step) {
                let frame = PeerFrame::HandedOver { call, done: Done::Refused(refusal) };
                core.out.push_back(Output::PeerFrame { link, frame: frame.encode() });
                return;
            }
            let ticket = Ticket(core.fresh());
            core.tickets.insert(ticket, TicketOwner::PeerHandover(link, call));
            core.host.handle(now, HostInput::Handover { ticket, group, to: pool, step });
        }
        PeerFrame::HandedOver { call, done } => crate::procedures::handed_over(core, call, done),
        PeerFrame::Look { call } => {
            let statuses = crate::modes::statuses(core);
            core.out.push_back(Output::PeerFrame { link, frame: PeerFrame::Looked { call, statuses }.encode() });
        }
        PeerFrame::Looked { call, statuses } => {
            if let Some(task) = core.waits.remove(&call) {
                core.forwarded.remove(&call);
                core.resolve(task, call, WaitResult::Statuses(statuses));
            }
        }
        PeerFrame::Mode { pool, event } => crate::procedures::mode_from_peer(core, pool, event),
        // Taken before, or no frame that is sent as such.
        PeerFrame::Sip(_) | PeerFrame::Command { .. } | PeerFrame::Groups => {}
    }
}

/// A command that the partner passed on: it runs here as a task and is answered over the same link.
fn run_command(node: &mut Node, link: LinkId, call: u64, actor: Actor, command: &Bytes) {
    let shared = node.core();
    let Ok(command) = serde_json::from_slice::<Command>(command) else {
        shared.borrow_mut().count("peer_frames_refused");
        return;
    };
    node.spawn(move |cx| async move {
        let reply = crate::admin::execute(&cx, actor, command, true).await;
        let reply = Bytes::from(serde_json::to_vec(&reply).unwrap_or_default());
        let frame = PeerFrame::CommandReply { call, reply }.encode();
        cx.with(|core| {
            if core.links.contains_key(&link) {
                core.out.push_back(Output::PeerFrame { link, frame });
            }
        });
    });
}
