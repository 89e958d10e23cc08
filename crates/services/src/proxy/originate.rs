//! Requests of this deployment's own inside a dialog (NOTIFY): the way to the other party, and how they ended.
//!
//! Owns the use of a dialog's route set, target and flow. Does not own what is sent.

use super::edge::probe;
use super::hop::{self, Hop};
use super::targets;
use crate::binding::{Binding, FlowRef};
use crate::cx::{Branch, Cx, Peer, TaskEvent};
use crate::forward::via_value;
use crate::ident::{HostIs, host_is};
use crate::routes::{is_marked, read_flow_token};
use pairline_sip::method::Method;
use pairline_sip::request::RequestBuilder;
use pairline_sip::uri::{Aor, Uri};

/// Beginning of the branches of such requests; not one of those that relayed requests have.
const BRANCH: &str = "z9hG4bKown";

/// One request to be sent.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    /// Its method.
    pub method: Method,
    /// The remote target: Request-URI.
    pub target: &'a [u8],
    /// The dialog's route set: URIs, nearest to us first.
    pub routes: &'a [Box<[u8]>],
    /// The flow on which the dialog was opened.
    pub flow: FlowRef,
    /// Address of the other party: a binding of that user with the same contact is a way, too.
    pub party: &'a str,
    /// Headers but Via, Route, Max-Forwards and Contact.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// Type and bytes of the body.
    pub body: (&'static str, &'a [u8]),
}

impl Own<'_> {
    fn call_id(&self) -> &[u8] {
        self.headers.iter().find(|(name, _)| *name == "Call-ID").map_or(b"", |(_, value)| value)
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this final status.
    Final(u16),
    /// No answer in time.
    Silent,
    /// No way there, or the way broke.
    Unreached,
}

/// Sends all requests at once and waits until each has ended; the ends are in the order of the requests.
pub async fn originate<C: Cx>(cx: &C, requests: Vec<Own<'_>>) -> Vec<End> {
    let mut running: Vec<Result<Branch, End>> = Vec::with_capacity(requests.len());
    for request in &requests {
        running.push(match way(cx, request).await {
            Some(hop) => Ok(send(cx, request, &hop)),
            None => Err(End::Unreached),
        });
    }
    while running.iter().any(Result::is_ok) {
        let (branch, end) = match cx.event().await {
            TaskEvent::Response(branch, response) => match response.status() {
                Some(status @ 200..) => (branch, End::Final(status)),
                _ => continue,
            },
            TaskEvent::Timeout(branch) => (branch, End::Silent),
            TaskEvent::TransportError(branch) => (branch, End::Unreached),
            _ => continue,
        };
        for slot in running.iter_mut().filter(|slot| **slot == Ok(branch)) {
            // 430: the flow's owner says that the flow is gone (RFC 5626 §5.3).
            *slot = Err(if end == End::Final(430) { End::Unreached } else { end });
        }
    }
    running.into_iter().filter_map(Result::err).collect()
}

fn send<C: Cx>(cx: &C, own: &Own<'_>, hop: &Hop) -> Branch {
    let view = cx.view();
    let branch = format!("{BRANCH}{:016x}{:016x}", cx.random(), cx.random());
    let mut request = RequestBuilder::new(own.method.clone(), own.target)
        .header("Via", via_value(&view, &hop.flow, &branch))
        .header("Max-Forwards", "70");
    for route in &hop.routes {
        request = request.header("Route", route);
    }
    for (name, value) in &own.headers {
        request = request.header(name, value);
    }
    let listener = view.listener(hop.flow.listener, hop.flow.transport);
    let at = listener.map_or("invalid", |l| l.record_route.as_str());
    let request = request.header("Contact", format!("<sip:{at}>")).body(own.body.0, own.body.1);
    cx.forward(hop.flow, request.build())
}

/// The next hop by the route set; what of it leads to this server itself is gone through here.
async fn way<C: Cx>(cx: &C, own: &Own<'_>) -> Option<Hop> {
    let view = cx.view();
    let mut routes = own.routes;
    let mut flow = own.flow;
    while let Some((first, rest)) = routes.split_first() {
        let uri = Uri::parse(first).ok()?;
        let partner = view.partner.as_ref().and_then(|partner| cx.peer_flow(Peer::Pool(partner.pool)));
        match (host_is(&view, &uri), partner) {
            (HostIs::Other, _) => break,
            // One that is marked names a server that has been removed since: what it led to is led to from here.
            (HostIs::Foreign, _) if !is_marked(&view.sealing_key, own.call_id(), &uri) => break,
            (HostIs::Partner, Some(peer)) => {
                return Some(Hop { routes: bracketed(routes), ..Hop::plain(peer, None) });
            }
            // A partner that is away is stood in for.
            _ => flow = uri.user.and_then(|user| read_flow_token(&view.sealing_key, user)).unwrap_or(flow),
        }
        routes = rest;
    }
    if let Some(first) = routes.first() {
        let located = hop::located(cx, first, None).await?;
        return Some(Hop { routes: bracketed(routes), ..located });
    }
    // As for a binding: past no NAT, and to a flow that the client keeps.
    let keeps = Uri::parse(own.target).is_ok_and(|uri| uri.has_param("ob"));
    let dialog = Binding { contact: own.target.into(), reg_id: keeps.then_some(1), ..probe(flow) };
    if let Some(hop) = hop::to_binding(cx, &dialog).await {
        return Some(hop);
    }
    // The flow of the dialog is gone: a binding of the same contact may have another.
    targets::by_contact(cx, &Aor::parse(own.party)?, own.target).await
}

fn bracketed(routes: &[Box<[u8]>]) -> Vec<Box<[u8]>> {
    routes.iter().map(|route| hop::bracketed(route)).collect()
}
