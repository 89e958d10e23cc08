//! REGISTER of a user whom the other pool serves: sent on with a Path, credentials intact (DESIGN §8, RFC 3327).
//!
//! Owns that one hop. The serving pool authenticates and decides.

use crate::binding::FlowRef;
use crate::cx::{Cx, TaskEvent};
use crate::forward::{self, Asserted, Extra, Sending};
use crate::metrics::Counter;
use crate::replies;
use crate::routes::{RouteSet, path_value};
use pairline_group::PoolId;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;

/// Sends the request to the serving pool and its answer back.
pub async fn relay<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, pool: PoolId) {
    let view = cx.view();
    let hop = cx.peer_flow(pool).filter(|_| forward::peer_hops(request) < forward::MAX_PEER_HOPS);
    let Some(hop) = hop else {
        return replies::try_later(cx, request, "Serving Pool Not Reachable");
    };
    let own = &view.own;
    let client = FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow };
    let path = path_value(&view, &client);
    let sending = Sending {
        request,
        arrival: flow,
        hop,
        routes,
        uri: None,
        push_routes: &[],
        record_route: false,
        path: path.as_deref(),
        asserted: &Asserted::Strip,
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
                    ..200 => {}
                    401 => return cx.respond_once(status, forward::response_back(&response)),
                    _ => return cx.respond(status, forward::response_back(&response)),
                }
            }
            TaskEvent::Timeout(_) | TaskEvent::TransportError(_) => {
                return replies::try_later(cx, request, "Serving Pool Did Not Answer");
            }
            _ => {}
        }
    }
}
