//! Admission at the node's door: what a message is weighed with, and what follows from it.
//!
//! Owns the hand-over between inputs and `pairline_services::admission`, which decides, and the events of overload.

use crate::core::{Core, MAX_TASKS};
use crate::event::Level;
use crate::executor::TaskId;
use bytes::Bytes;
use pairline_group::Millis;
use pairline_services::admission::{Admission, Change, Circumstances, Doors, Verdict, Waited};
use pairline_services::{emergency, trust};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::glance;
use pairline_sip::message::Message;
use std::rc::Rc;

/// How long a report to a neighbour holds, in milliseconds.
const REPORT_MS: u64 = 1_000;

/// Whether a message goes on to be parsed; what does not is answered here, or is nothing to answer.
pub fn takes(core: &mut Core, flow: Flow, message: &Bytes) -> bool {
    let view = Rc::clone(&core.view);
    let now = core.now.mono;
    let Core { admission, layer, links, rng, pool, live, verified, doors, .. } = core;
    let around = Circumstances {
        // What comes over a link has found who is to do it: another server would only ask this one again.
        another: flow.transport != Transport::Peer && links.values().any(|link| link.pool == *pool),
        trusted: flow.transport == Transport::Peer
            || verified.get(&flow.connection).is_some_and(|names| !names.is_empty())
            || trust::is_network_of_peer(&view, flow),
        // Other servers of the deployment know themselves what is still to be asked here.
        doors: if flow.transport == Transport::Peer { Doors::Open } else { *doors },
        full: *live >= MAX_TASKS - MAX_TASKS / 16 || layer.is_nearly_full(),
    };
    if view.proxy.neighbours {
        hear(admission, flow, message, around.trusted, now);
    }
    let known = |method: &[u8]| glance::top_via(message).is_some_and(|via| layer.knows(now, method, &via));
    match admission.judge(&view, (flow, message), around, || rng.next_u64(), known) {
        Verdict::Admit => return true,
        Verdict::Absorb => {}
        Verdict::Refuse(Some((to, reply))) => core.send_sip(to, reply),
        Verdict::Refuse(None) => core.count("sip_requests_refused_unanswered"),
    }
    false
}

/// Whether the request of a neighbour's client is taken; else the answer to it. It was let in there, and measured by its source.
///
/// # Errors
/// The refusal; none if it cannot be answered.
pub fn takes_of_neighbour(core: &mut Core, client: Flow, message: &Bytes) -> Result<(), Option<Bytes>> {
    let view = Rc::clone(&core.view);
    let Core { admission, layer, rng, live, .. } = core;
    let around = Circumstances {
        // Whoever is asked, this server decides.
        another: false,
        trusted: true,
        doors: Doors::Open,
        full: *live >= MAX_TASKS - MAX_TASKS / 16 || layer.is_nearly_full(),
    };
    match admission.judge(&view, (client, message), around, || rng.next_u64(), |_| false) {
        Verdict::Admit => Ok(()),
        Verdict::Absorb | Verdict::Refuse(None) => Err(None),
        Verdict::Refuse(Some((_, reply))) => Err(Some(reply)),
    }
}

/// What a neighbour says of overload in the top Via (RFC 7339): that it wants to be told, or how much we are to hold back.
fn hear(admission: &mut Admission, flow: Flow, message: &[u8], trusted: bool, now: Millis) {
    let response = message.starts_with(b"SIP/2.0");
    let concerns = if response { admission.neighbours().has_asked() } else { trusted };
    if !concerns || flow.transport == Transport::Peer {
        return;
    }
    let Some(via) = glance::top_via(message) else { return };
    if response {
        admission.neighbours_mut().reported(now, flow, &via);
    } else {
        admission.neighbours_mut().heard(now, flow, &via);
    }
}

/// A response on its way to a neighbour that wants to be told how much to hold back; any other message as it is.
pub fn told(core: &Core, flow: Flow, message: Bytes) -> Bytes {
    if !core.admission.neighbours().is_told(flow) || !message.starts_with(b"SIP/2.0") {
        return message;
    }
    let wall = core.now.wall;
    let number = format!("{}.{:03}", wall / 1_000, wall % 1_000);
    let loss = core.admission.rate().loss_percent();
    glance::with_report(&message, loss, REPORT_MS, &number).unwrap_or(message)
}

/// Whether a request that is about to be sent offers its receiver to say that it is overloaded (RFC 7339).
pub fn offers(core: &Core, flow: Flow, request: &[u8]) -> bool {
    let may = core.view.proxy.neighbours && flow.transport != Transport::Peer;
    may && glance::top_via(request).is_some_and(|via| via.param("oc").is_some())
}

/// Whether a request that is about to be sent to a neighbour is held back, because it said that it is overloaded. What belongs to
/// a dialog, and emergency calls, are not.
pub fn holds_back(core: &mut Core, task: TaskId, flow: Flow, request: &Message) -> bool {
    if flow.transport == Transport::Peer || request.via().param("oc").is_none() {
        return false;
    }
    let now = core.now.mono;
    core.admission.neighbours_mut().asks(now, flow);
    let random = core.rng.next_u64();
    if request.to().has_param("tag") || !core.admission.neighbours().holds_back(now, flow, random) {
        return false;
    }
    let view = Rc::clone(&core.view);
    let tx = core.state(task).and_then(|state| state.server_tx);
    let came = tx.and_then(|tx| core.layer.request_of(tx));
    !came.is_some_and(|came| emergency::is_call(&view, came.request_uri()))
}

/// The credentials of a task's request were right or wrong.
pub fn weighed(core: &mut Core, task: TaskId, right: bool) {
    let Some(state) = core.state(task) else { return };
    let (Some(tx), Some(flow)) = (state.server_tx, state.flow) else { return };
    if let Some(request) = core.layer.request_of(tx) {
        core.admission.weighed(flow, request.as_bytes(), right);
    }
}

/// What is given from now on had waited for so long.
pub fn waited(core: &mut Core, waited: Waited) {
    let change = core.admission.waited(core.now.mono, waited);
    tell(core, change);
}

/// Time passes.
pub fn tick(core: &mut Core) {
    let change = core.admission.pass(core.now.mono);
    tell(core, change);
}

fn tell(core: &mut Core, change: Option<Change>) {
    match change {
        None => {}
        Some(Change::Began { waited, rate }) => {
            let target = core.admission.rate().policy().target_delay_ms;
            let text = format!(
                "more comes than can be done: requests waited {waited} ms (policies.overload.target_delay_ms is {target}); \
                 {rate} units a second are admitted, the rest is refused with Retry-After, what is new and least urgent first"
            );
            core.event(Level::Warn, "overload-began", text);
        }
        Some(Change::Ended { lasted, refused }) => {
            let seconds = lasted.div_ceil(1_000);
            core.event(
                Level::Info,
                "overload-ended",
                format!("after {seconds} s, in which {refused} requests were refused"),
            );
        }
    }
}
