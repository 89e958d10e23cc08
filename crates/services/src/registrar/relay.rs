//! REGISTER of a user whom other servers serve (another pool, or the server of this pool that leads the group): sent on with a
//! Path, credentials intact, or with the identity that a certificate has proven here (DESIGN §8, RFC 3327).
//!
//! Owns that one hop. The serving pool authenticates and decides.

use crate::binding::FlowRef;
use crate::cx::{Cx, Peer, TaskEvent};
use crate::forward::{self, Asserted, Extra, Sending};
use crate::metrics::Counter;
use crate::routes::{RouteSet, path_value};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;

/// The serving pool could not be asked, or did not answer; nobody has been told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreached(pub &'static str);

/// Sends the request to the serving pool and its answer back. Who is `proven` to send it is said inside the link.
///
/// # Errors
/// [`Unreached`]. What the sender may learn of that depends on who it is.
pub async fn send<C: Cx>(
    cx: &C,
    request: &Message,
    flow: Flow,
    routes: &RouteSet,
    at: Peer,
    proven: &Asserted,
) -> Result<(), Unreached> {
    let view = cx.view();
    let hop = cx.peer_flow(at).filter(|_| forward::peer_hops(request) < forward::max_peer_hops(at));
    let Some(hop) = hop else {
        return Err(Unreached("Serving Pool Not Reachable"));
    };
    let own = &view.own;
    let client = FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow };
    // What came over a link has the Path of the server that owns the client's flow; the way in between is none to the client.
    let path = path_value(&view, &client).filter(|_| flow.transport != Transport::Peer);
    let sending = Sending {
        request,
        arrival: flow,
        hop,
        routes,
        uri: None,
        push_routes: &[],
        record_route: false,
        path: path.as_deref(),
        asserted: proven,
        consumed: false,
        extra: Extra::default(),
    };
    cx.count(Counter::RegisterRelayed);
    let bytes = forward::build(cx, &view, &sending);
    cx.forward(hop, bytes);
    loop {
        match cx.event().await {
            TaskEvent::Response(_, response) => {
                let status = response.status().unwrap_or(500);
                match status {
                    ..200 => continue,
                    401 => cx.respond_once(status, forward::response_back(&response)),
                    _ => cx.respond(status, forward::response_back(&response)),
                }
                return Ok(());
            }
            TaskEvent::Timeout(_) | TaskEvent::TransportError(_) => {
                return Err(Unreached("Serving Pool Did Not Answer"));
            }
            _ => {}
        }
    }
}
