//! The edge of this pool: a request that a server of ours sends to a client over a flow that this server owns.
//!
//! Owns delivery by flow token (RFC 5626 §5.3). The token proves that this deployment wrote it; the peer link proves who
//! uses it.

use super::fork::{Fork, Job};
use super::hop::{self, Hop};
use crate::binding::{Binding, FlowRef};
use crate::cx::{Cx, Reach};
use crate::forward::Asserted;
use crate::metrics::Counter;
use crate::replies;
use crate::routes::RouteSet;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;

/// Sends the request on over the flow that its Route names, or answers 430 if that is gone.
pub async fn deliver<C: Cx>(cx: &C, request: &Message, flow: Flow, routes: &RouteSet, token: FlowRef) {
    if flow.transport != Transport::Peer {
        cx.count(Counter::Refused);
        return replies::refuse(cx, request, 403, "Flow Token Not Allowed Here");
    }
    if cx.reach(&probe(token)) != Reach::Open {
        cx.count(Counter::BindingStranded);
        return replies::refuse(cx, request, 430, "Flow Failed");
    }
    replies::trying(cx, request);
    let asserted = Asserted::Keep;
    let job = Job { request, arrival: flow, routes, asserted: &asserted, consumed: false, record_route: true };
    Fork::new(cx, job, None).run(vec![Hop::plain(hop::own_listener(cx, token.flow), None)]).await;
}

/// A binding that has nothing but a flow, to ask how that can be used.
pub(super) fn probe(flow: FlowRef) -> Binding {
    Binding {
        id: [0; 16],
        contact: Box::default(),
        params: Box::default(),
        q: 1000,
        call_id: Box::default(),
        cseq: 0,
        granted: 0,
        expires: 0,
        refreshed: 0,
        since: 0,
        path: Vec::new(),
        instance: None,
        reg_id: None,
        flow,
        user_agent: Box::default(),
        op: [0; 16],
    }
}
