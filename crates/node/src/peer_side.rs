//! Frames of a link: to replication, to the transaction layer, to waiting tasks.
//!
//! Owns the routing of peer frames. Trusts the link's identity, not its content: a malformed frame is counted and dropped.

use crate::admin::Passed;
use crate::command::{Actor, Command, Problem, Reply};
use crate::core::{Core, Link, TicketOwner, WaitResult, peer_flow_of};
use crate::event::Level;
use crate::executor::TaskId;
use crate::io::Output;
use crate::node::Node;
use crate::peer::{self, PeerFrame};
use bytes::Bytes;
use pairline_group::io::{Done, HostInput, Proposal};
use pairline_group::{GroupId, LinkId, PoolId, ServerId};
use pairline_topology::policy_features::LOWEST;

/// A link is up.
pub fn up(core: &mut Core, link: LinkId, pool: PoolId, server: ServerId) {
    let now = core.now;
    core.links.insert(
        link,
        Link { pool, server, heard: now.mono, silent: false, awaking: None, awoken: None, level: LOWEST },
    );
    let name = name_of(core, pool, server);
    core.event(Level::Info, "link-up", format!("link to {name} is up"));
    core.host.handle(now, HostInput::LinkUp { link, peer: pool, server });
    core.layer.transport_restored(now.mono, peer_flow_of(pool, server));
    if pool == core.pool {
        crate::document::tell(core, server);
        return crate::neighbours::linked(core);
    }
    crate::modes::link_changed(core, pool);
    crate::procedures::link_changed(core, true);
    crate::neighbours::changed(core);
}

/// A link is gone.
pub fn down(core: &mut Core, link: LinkId) {
    let Some(gone) = core.links.remove(&link) else { return };
    let name = name_of(core, gone.pool, gone.server);
    core.event(Level::Warn, "link-down", format!("link to {name} is down"));
    let now = core.now;
    core.host.handle(now, HostInput::LinkDown { link });
    crate::host_side::link_down(core, link);
    if core.link_to_server(gone.server).is_none() {
        server_lost(core, gone.pool, gone.server);
    }
    if gone.pool == core.pool {
        return crate::neighbours::changed(core);
    }
    crate::modes::link_changed(core, gone.pool);
    crate::procedures::link_changed(core, core.link_to(gone.pool).is_some());
    crate::neighbours::changed(core);
}

/// Nothing that was sent to a server will be answered: requests fail at once, and who waits for an answer learns that none will
/// come. The outcome of a forwarded proposal is then unknown.
pub fn server_lost(core: &mut Core, pool: PoolId, server: ServerId) {
    core.layer.transport_failed(core.now.mono, peer_flow_of(pool, server));
    let lost: Vec<(u64, TaskId)> =
        core.forwarded.iter().filter(|(_, (_, at))| *at == server).map(|(wait, (task, _))| (*wait, *task)).collect();
    for (wait, task) in lost {
        core.forwarded.remove(&wait);
        core.waits.remove(&wait);
        core.resolve(task, wait, WaitResult::Elapsed);
    }
    crate::onward::lost(core, server);
}

fn name_of(core: &Core, pool: PoolId, server: ServerId) -> String {
    match core.topology.server(server) {
        Some(server) if pool == core.pool => format!("server {}", server.name),
        _ => format!("pool {}", core.topology.pool_name(pool)),
    }
}

/// One frame.
pub fn frame(node: &mut Node, link: LinkId, bytes: &Bytes) {
    let shared = node.core();
    let (pool, server) = {
        let mut core = shared.borrow_mut();
        let now = core.now.mono;
        let Some(known) = core.links.get_mut(&link) else { return };
        known.heard = now;
        (known.pool, known.server)
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
        PeerFrame::Sip(message) if crate::neighbours::has_waited(&mut shared.borrow_mut(), link, &message) => {}
        PeerFrame::Sip(message) => crate::sip_side::received(node, peer_flow_of(pool, server), message),
        PeerFrame::Command { call, actor, command } => run_command(node, link, call, actor, &command),
        PeerFrame::Look { call } => crate::copies::looked_at(node, link, call),
        PeerFrame::Handover { call, group, step } => crate::orders::hand_over(node, link, call, group, step),
        PeerFrame::Propose { ticket, group, proposal } => propose(node, link, ticket, group, proposal),
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

/// What only servers of one pool say to each other; gives back anything else.
fn inside(core: &mut Core, link: LinkId, frame: PeerFrame) -> Option<PeerFrame> {
    match frame {
        PeerFrame::Read { call, group, owner, kind } => {
            let found = crate::reads::answer(core, group, &owner, kind);
            core.send_on(link, &PeerFrame::Records { call, found });
        }
        PeerFrame::Register { call, client, algorithm, message } => {
            crate::onward::asked(core, (link, call), &client, &algorithm, message);
        }
        PeerFrame::Registered { call, response } => crate::onward::answered(core, link, call, response),
        PeerFrame::Order { call, group, order } => crate::orders::ordered(core, link, call, group, order),
        PeerFrame::Stepped { group, entry } => crate::orders::stepped(core, group, &entry),
        PeerFrame::HandoverRefused { group, reason } => crate::procedures::handover_refused(core, group, &reason),
        PeerFrame::Document { value, at } => crate::document::told(core, &value, at),
        PeerFrame::Copies { call } => {
            let (copies, runs) = (crate::copies::own(core), crate::copies::runs(core));
            core.send_on(link, &PeerFrame::HasCopies { call, copies, runs });
        }
        other => return Some(other),
    }
    None
}

fn handle(core: &mut Core, link: LinkId, pool: PoolId, frame: PeerFrame) {
    let own = pool == core.pool;
    let Some(frame) = (if own { inside(core, link, frame) } else { Some(frame) }) else { return };
    match frame {
        #[cfg(feature = "next")]
        PeerFrame::AtLevel { level } => crate::next::greeted(core, pool, level),
        PeerFrame::Group(bytes) => replication(core, link, pool, &bytes),
        PeerFrame::Heartbeat(bytes) => {
            let Some(from) = core.links.get(&link).map(|link| (link.pool, link.server)) else { return };
            crate::modes::heartbeat(core, from, &bytes);
        }
        PeerFrame::Proposed { ticket: call, done } | PeerFrame::Ordered { call, done } => {
            ended(core, call, WaitResult::Done(done));
        }
        PeerFrame::CommandReply { call, reply } => {
            let reply = serde_json::from_slice::<Result<Reply, Problem>>(&reply);
            let reply = reply.unwrap_or_else(|_| Err(Problem::bad_peer_answer()));
            ended(core, call, WaitResult::Reply(Box::new(reply)));
        }
        PeerFrame::HandedOver { call, done } => crate::procedures::handed_over(core, call, done),
        PeerFrame::Looked { call, statuses } => ended(core, call, WaitResult::Statuses(statuses)),
        PeerFrame::HasCopies { call, copies, runs } => ended(core, call, WaitResult::Copies(copies, runs)),
        PeerFrame::Records { call, found } => ended(core, call, WaitResult::Records(found)),
        PeerFrame::Awake { call } => crate::neighbours::asks(core, link, call),
        PeerFrame::Known { call } => crate::neighbours::awake(core, link, call),
        PeerFrame::Mode { pool, event } => crate::procedures::mode_from_peer(core, pool, event),
        // Taken before, nothing that another pool may ask, or no frame that is sent as such.
        PeerFrame::Sip(_)
        | PeerFrame::Command { .. }
        | PeerFrame::Look { .. }
        | PeerFrame::Handover { .. }
        | PeerFrame::Propose { .. }
        | PeerFrame::Groups
        | PeerFrame::Alive
        | PeerFrame::Order { .. }
        | PeerFrame::Stepped { .. }
        | PeerFrame::HandoverRefused { .. }
        | PeerFrame::Copies { .. }
        | PeerFrame::Document { .. }
        | PeerFrame::Register { .. }
        | PeerFrame::Registered { .. }
        | PeerFrame::Read { .. } => {}
    }
}

/// What another server was asked is answered.
fn ended(core: &mut Core, call: u64, result: WaitResult) {
    if let Some(task) = core.waits.remove(&call) {
        core.forwarded.remove(&call);
        core.resolve(task, call, result);
    }
}

/// A change that another server passes on. What another pool passes on to any server of this one, goes on to whoever leads the group;
/// never back, and within the pool only once.
fn propose(node: &mut Node, link: LinkId, ticket: u64, group: GroupId, proposal: Proposal) {
    let shared = node.core();
    {
        let mut core = shared.borrow_mut();
        if crate::config::planted!(core.config, AckOnArrival) {
            let done = Done::Committed(core.host.position(group).unwrap_or_default());
            core.send_on(link, &PeerFrame::Proposed { ticket, done });
        }
        let within = core.links.get(&link).is_some_and(|from| from.pool == core.pool);
        if within || core.host.can_commit(group) || !crate::place::is_for_this_pool(&core, group) {
            core.propose(TicketOwner::PeerProposal(link, ticket), group, proposal);
            return;
        }
    }
    node.spawn(move |cx| async move {
        let done = cx.commit_within(group, proposal).await;
        cx.with(|core| core.answer_on(link, &PeerFrame::Proposed { ticket, done }));
    });
}

/// A command that another server passed on: it runs here as a task and is answered over the same link.
fn run_command(node: &mut Node, link: LinkId, call: u64, actor: Actor, command: &Bytes) {
    let shared = node.core();
    let Ok(command) = serde_json::from_slice::<Command>(command) else {
        shared.borrow_mut().count("peer_frames_refused");
        return;
    };
    let from = shared.borrow().links.get(&link).map(|link| link.pool);
    let passed = if from == Some(shared.borrow().pool) { Passed::ByServer } else { Passed::ByPool };
    node.spawn(move |cx| async move {
        let reply = crate::admin::execute(&cx, actor, command, passed).await;
        let reply = Bytes::from(serde_json::to_vec(&reply).unwrap_or_default());
        let frame = PeerFrame::CommandReply { call, reply }.encode();
        cx.with(|core| {
            if core.links.contains_key(&link) {
                core.out.push_back(Output::PeerFrame { link, frame });
            }
        });
    });
}
