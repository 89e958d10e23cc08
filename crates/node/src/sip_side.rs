//! SIP messages in and out: from bytes to the transaction layer, from it to tasks.
//!
//! Owns the hand-over between shell, transaction layer and tasks. Knows nothing of registrars or proxies.

use crate::core::{Core, EMERGENCY_TASKS, MAX_TASKS};
use crate::cx::TaskCx;
use crate::executor::TaskId;
use crate::node::Node;
use crate::quick::Refused;
use crate::traffic::Asked;
use bytes::Bytes;
use pairline_services::cx::{Branch, TaskEvent};
use pairline_services::dispatch;
use pairline_services::emergency;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;
use pairline_sip::reply::Reply;
use pairline_sip::transaction::{Output as LayerOutput, Received, ServerTx};
use std::future::Future;
use std::pin::Pin;

/// One whole message arrived.
pub fn received(node: &mut Node, flow: Flow, bytes: Bytes) {
    let shared = node.core();
    let outcome = {
        let mut core = shared.borrow_mut();
        core.count("sip_messages_in");
        if flow.connection != 0 && flow.transport != Transport::Peer {
            core.streams.insert(flow.connection);
        }
        if !crate::admission::takes(&mut core, flow, &bytes) {
            core.traffic.refused(flow.transport, &bytes);
            return;
        }
        match Message::parse(bytes) {
            Ok(message) => {
                let now = core.now.mono;
                core.traffic.received(flow.transport, &message);
                let Some(message) = crate::quick::receive(&mut core, flow, message) else { return };
                // Emergency calls are never refused for what others have taken (DESIGN §8).
                match core.layer.is_full() && is_emergency(&core, &message) {
                    true => core.layer.receive_urgent(now, flow, message),
                    false => core.layer.receive(now, flow, message),
                }
            }
            Err(error) => {
                core.count("sip_messages_malformed");
                if let Some(reply) = error.reply_to(flow.remote) {
                    core.send_sip(flow, reply);
                }
                return;
            }
        }
    };
    match outcome {
        Received::Request { tx, message } => start_task(node, tx, message, flow),
        Received::Ack { message } => node.spawn(move |cx| dispatch::ack(cx, message, flow)),
        Received::StrayResponse { message } => {
            let task = node.anonymous();
            dispatch::stateless(TaskCx::new(shared, task), message, flow);
        }
        Received::Cancel { invite, reason } => {
            let mut core = shared.borrow_mut();
            if let Some(task) = core.server_txs.get(&invite).copied() {
                core.deliver(task, TaskEvent::Cancelled(reason));
            }
        }
        Received::Response { tx, message } => {
            let mut core = shared.borrow_mut();
            match core.client_txs.get(&tx).copied() {
                Some((task, branch)) => core.deliver(task, TaskEvent::Response(branch, message)),
                None => {
                    drop(core);
                    let task = node.anonymous();
                    dispatch::stateless(TaskCx::new(shared, task), message, flow);
                }
            }
        }
        Received::Absorbed => {}
        Received::Refused => shared.borrow_mut().count("sip_requests_refused_full"),
    }
}

/// A request that was to be decided in one step, here or by a neighbour, and could not be, goes on as a task.
pub fn resumed(node: &mut Node, refused: Refused) {
    let Refused { flow, request, asked, admitted } = refused;
    let Ok(message) = Message::parse(request) else { return };
    let received = {
        let shared = node.core();
        let mut core = shared.borrow_mut();
        let now = core.now.mono;
        core.layer.receive(now, flow, message)
    };
    if let Received::Request { tx, message } = received {
        run(node, (tx, asked), message, flow, |cx, message| match admitted {
            true => Box::pin(dispatch::registered(cx, message, flow)),
            false => Box::pin(dispatch::handle(cx, message, flow)),
        });
    }
}

fn is_emergency(core: &Core, message: &Message) -> bool {
    message.is_request() && emergency::is_call(&core.view, message.request_uri())
}

/// Whether one more task may start for a request.
fn has_room(node: &Node, core: &Core, message: &Message) -> bool {
    let live = node.live_tasks();
    live < MAX_TASKS || (live < MAX_TASKS + EMERGENCY_TASKS && is_emergency(core, message))
}

fn start_task(node: &mut Node, tx: ServerTx, message: Message, flow: Flow) {
    let asked = Asked::new(node.core().borrow().now.mono, message.method());
    run(node, (tx, asked), message, flow, |cx, message| Box::pin(dispatch::handle(cx, message, flow)));
}

/// Starts the task of a server transaction.
fn run(
    node: &mut Node,
    (tx, asked): (ServerTx, Asked),
    message: Message,
    flow: Flow,
    make: impl FnOnce(TaskCx, Message) -> Pin<Box<dyn Future<Output = ()>>>,
) {
    let shared = node.core();
    if !has_room(node, &shared.borrow(), &message) {
        let mut core = shared.borrow_mut();
        core.count("sip_requests_refused_full");
        let spread = core.rng.next_u64() % 20;
        let reply = Reply::to(&message, 500).header("Retry-After", (10 + spread).to_string()).build();
        let now = core.now.mono;
        if core.layer.respond(now, tx, 500, reply).is_err() {
            core.count("sip_responses_without_transaction");
        }
        return;
    }
    let task = node.reserve();
    {
        let mut core = shared.borrow_mut();
        core.add_state(task, Some(tx), Some(flow));
        if let Some(state) = core.state(task) {
            state.asked = Some(asked);
        }
    }
    let cx = TaskCx::new(shared, task);
    node.start(task, make(cx, message));
}

/// Sends a task's request that has to be read for it.
pub fn send_parsed(core: &mut Core, task: TaskId, branch: Branch, flow: Flow, request: Bytes) {
    match Message::parse(request) {
        Ok(message) if crate::admission::holds_back(core, task, flow, &message) => {
            core.count("sip_requests_held_back");
            let seconds = (1 + core.rng.next_u64() % 4).to_string();
            let refusal = Reply::to(&message, 500).reason("Server Busy").header("Retry-After", seconds).build();
            let event = Message::parse(refusal)
                .map_or(TaskEvent::TransportError(branch), |refusal| TaskEvent::Response(branch, refusal));
            core.deliver(task, event);
        }
        Ok(message) => {
            let tx = core.layer.request(core.now.mono, flow, message);
            core.sends(task, branch, tx);
        }
        Err(_) => {
            core.count("sip_requests_not_well_formed_after_edit");
            core.deliver(task, TaskEvent::TransportError(branch));
        }
    }
}

/// Takes what the transaction layer wants done; true if there was anything.
pub fn pump(core: &mut Core) -> bool {
    let mut any = false;
    while let Some(output) = core.layer.poll() {
        any = true;
        match output {
            LayerOutput::Transmit { flow, bytes } => core.send_sip(flow, bytes),
            LayerOutput::Timeout { tx } => {
                if let Some((task, branch)) = core.client_txs.get(&tx).copied() {
                    core.deliver(task, TaskEvent::Timeout(branch));
                }
            }
            LayerOutput::TransportError { tx } => {
                if let Some((task, branch)) = core.client_txs.get(&tx).copied() {
                    core.deliver(task, TaskEvent::TransportError(branch));
                }
            }
            LayerOutput::ServerDone { tx } => {
                core.server_txs.remove(&tx);
            }
            LayerOutput::ClientDone { tx } => {
                core.client_txs.remove(&tx);
            }
        }
    }
    any
}

/// Who opened a stream connection has proven these names.
pub fn flow_verified(core: &mut Core, flow: Flow, names: Vec<String>) {
    core.verified.insert(flow.connection, names.into());
}

/// A stream connection ended.
pub fn flow_closed(core: &mut Core, flow: Flow) {
    core.streams.remove(&flow.connection);
    core.verified.remove(&flow.connection);
    let now = core.now.mono;
    core.layer.transport_failed(now, flow);
}
