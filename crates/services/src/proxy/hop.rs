//! Next hops: one place a request can be sent to, and how a binding becomes one.
//!
//! Owns the choice of flow and Route for a binding, the partner and a located URI.

use crate::binding::{Binding, FlowRef};
use crate::cx::{Cx, Peer, Reach};
use crate::forward::{max_peer_hops, peer_hops};
use crate::routes::flow_token;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;
use pairline_sip::target::Rest;
use pairline_sip::uri::{Aor, Host, Scheme, Uri};
use std::net::SocketAddr;

/// Most servers of one name that a request is tried at.
const MAX_SERVERS: usize = 8;

/// One place to send a request to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The flow.
    pub flow: Flow,
    /// New Request-URI; `None`: as it is.
    pub uri: Option<Box<[u8]>>,
    /// Route values to push, outermost first.
    pub routes: Vec<Box<[u8]>>,
    /// Preference in thousandths.
    pub q: u16,
    /// Tried in turn if this one cannot be reached.
    pub alternates: Vec<Hop>,
    /// One of the servers that a name leads to (RFC 3263 §4.3): a 503 or silence, too, mean that the next one is tried.
    pub server: bool,
    /// The user whom it was found for, if that is not the one who was called: call forwarding or a redirection led there.
    pub mapped: Option<Box<Aor>>,
    /// A server of this pool that leads a group: if it cannot be reached, another one will lead, and is asked then.
    pub leads: bool,
    /// A trusted peer, or a place that the policy names: what is known of the caller may be told to it.
    pub trusted: bool,
}

impl Hop {
    /// The same, inside the trust domain.
    pub fn trusted(mut self) -> Hop {
        self.trusted = true;
        self.alternates.iter_mut().for_each(|alternate| alternate.trusted = true);
        self
    }

    /// Notes that it was found for another user than the one who was called. `uri`, the user's or of one device, stands in the
    /// Request-URI where nothing else would.
    pub fn map_to(&mut self, user: &Aor, uri: &[u8]) {
        self.uri.get_or_insert_with(|| uri.into());
        self.mapped = Some(Box::new(user.clone()));
        self.alternates.iter_mut().for_each(|alternate| alternate.map_to(user, uri));
    }

    /// Whether another server of the deployment is asked, which decides itself where the request goes.
    pub fn is_asked(&self) -> bool {
        self.flow.transport == Transport::Peer && self.routes.is_empty()
    }

    /// Whether the other leads to the same device or server by the same way.
    pub fn is_same_way(&self, other: &Hop) -> bool {
        self.flow == other.flow && self.uri == other.uri && self.routes == other.routes
    }

    /// A hop without Routes or alternates.
    pub fn plain(flow: Flow, uri: Option<&[u8]>) -> Hop {
        Hop {
            flow,
            uri: uri.map(Box::from),
            routes: Vec::new(),
            q: 1000,
            alternates: Vec::new(),
            server: false,
            leads: false,
            mapped: None,
            trusted: false,
        }
    }

    /// The first of several, with the others as its alternates.
    pub fn first_of(mut hops: Vec<Hop>) -> Option<Hop> {
        if hops.is_empty() {
            return None;
        }
        let mut first = hops.remove(0);
        first.alternates = hops;
        Some(first)
    }
}

/// A URI as a Route value.
pub fn bracketed(uri: &[u8]) -> Box<[u8]> {
    let mut value = Vec::with_capacity(uri.len() + 2);
    value.push(b'<');
    value.extend_from_slice(uri);
    value.push(b'>');
    value.into()
}

/// Other servers as next hop; `None` if the link is down or the request has made its way between servers often enough.
pub fn to_peer<C: Cx>(cx: &C, request: &Message, at: Peer, uri: Option<&[u8]>) -> Option<Hop> {
    if peer_hops(request) >= max_peer_hops(at) {
        return None;
    }
    Some(Hop { leads: matches!(at, Peer::Server(_)), ..Hop::plain(cx.peer_flow(at)?, uri) })
}

/// A binding as next hop; `None` if it is stranded. One whose flow is gone is tried by the first server of its Path.
pub async fn to_binding<C: Cx>(cx: &C, binding: &Binding) -> Option<Hop> {
    let mut routes: Vec<Box<[u8]>> = binding.path.iter().map(|p| bracketed(p)).collect();
    match cx.reach(binding) {
        Reach::Open => {
            let flow = open_flow(cx, binding)?;
            let contact = Some(&*binding.contact);
            Some(match asked_for(cx, binding) {
                // A client may have named a transport on which nobody can connect to it: where it is not a promise of secrecy, the
                // way that it registered by stays.
                Some(stream) if stream.transport.secure() => {
                    Hop { routes, q: binding.q, ..Hop::plain(stream, contact) }
                }
                Some(stream) => {
                    let fallback = Hop { routes: routes.clone(), q: binding.q, ..Hop::plain(flow, contact) };
                    Hop { routes, q: binding.q, alternates: vec![fallback], ..Hop::plain(stream, contact) }
                }
                None => Hop { routes, q: binding.q, ..Hop::plain(flow, contact) },
            })
        }
        Reach::ThroughPeer => {
            // The owner of a datagram's flow sends where this server would.
            let mut owner = binding.flow;
            if owner.flow.transport == Transport::Udp {
                owner.flow.remote = datagram_target(binding);
                owner.flow = asked_for(cx, binding).unwrap_or(owner.flow);
            }
            let mut hop = to_owner(cx, owner, Some(&binding.contact))?;
            // Should the owner not answer, this server sends the datagram itself.
            if binding.flow.flow.transport == Transport::Udp && binding.flow.pool == cx.view().own.pool {
                let direct = open_flow(cx, binding).map(|flow| Hop::plain(flow, Some(&binding.contact)));
                hop.alternates.extend(direct.map(|direct| Hop { routes: routes.clone(), q: binding.q, ..direct }));
            }
            hop.routes.append(&mut routes);
            Some(Hop { q: binding.q, ..hop })
        }
        Reach::Stranded => {
            let mut hop = located(cx, binding.path.first()?, Some(&binding.contact)).await?;
            for alternate in &mut hop.alternates {
                alternate.routes.clone_from(&routes);
            }
            Some(Hop { routes, q: binding.q, ..hop })
        }
    }
}

/// The server that owns a flow as next hop, with the Route that names the flow; `None` if it cannot be reached. Not counted as a hop
/// between servers: the owner of a flow delivers on it or answers 430, it never sends on.
pub fn to_owner<C: Cx>(cx: &C, owner: FlowRef, uri: Option<&[u8]>) -> Option<Hop> {
    let view = cx.view();
    let token = flow_token(&view.sealing_key, &owner);
    let host = match &view.partner {
        Some(partner) if partner.pool == owner.pool => peer_host(partner),
        _ => view.own.pool_name.clone(),
    };
    let route = format!("<sip:{token}@{host};lr>").into_bytes();
    Some(Hop { routes: vec![route.into()], ..Hop::plain(cx.peer_flow(Peer::Server(owner.server))?, uri) })
}

fn peer_host(partner: &crate::settings::PoolNames) -> String {
    match (partner.addresses.first(), partner.names.first()) {
        (Some(address), _) => address.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => "invalid".to_owned(),
    }
}

/// Where a datagram for a binding goes: to the contact's own port if the contact names the address that the REGISTER came
/// from (RFC 3261 §16.6 step 7); else a NAT or a proxy is between, or the client keeps a flow (RFC 5626), and only its source is
/// reached.
fn datagram_target(binding: &Binding) -> SocketAddr {
    let source = binding.flow.flow.remote;
    let direct = binding.reg_id.is_none() && binding.path.is_empty();
    let contact = Uri::parse(&binding.contact).ok().filter(|uri| uri.is_sip() && direct && !uri.has_param("ob"));
    match contact {
        Some(uri) if uri.host == Host::Ip(source.ip()) => SocketAddr::new(source.ip(), uri.port.unwrap_or(5060)),
        _ => source,
    }
}

/// The stream that a contact asks for which was registered by datagram (RFC 3261 §18.1.1: the transport in a URI is the one to
/// be used): to the contact's own port. Only where nothing is between the client and here, since nobody connects through
/// a NAT, and never to an address that the REGISTER did not come from.
fn asked_for<C: Cx>(cx: &C, binding: &Binding) -> Option<Flow> {
    let source = binding.flow.flow;
    let contact = Uri::parse(&binding.contact).ok().filter(|uri| uri.host == Host::Ip(source.remote.ip()))?;
    let direct = binding.reg_id.is_none() && binding.path.is_empty() && !contact.has_param("ob");
    if source.transport != Transport::Udp || !direct {
        return None;
    }
    let transport = match contact.param("transport").map(Transport::from_token) {
        Some(Some(Transport::Tcp)) | None if contact.scheme == Scheme::Sips => Transport::Tls,
        Some(Some(named @ (Transport::Tcp | Transport::Tls))) => named,
        _ => return None,
    };
    let view = cx.view();
    let remote = SocketAddr::new(source.remote.ip(), contact.port.unwrap_or(transport.default_port()));
    let listener = view.listeners.iter().find(|l| l.transport == transport && l.addr.is_ipv6() == remote.is_ipv6())?;
    Some(Flow { transport, listener: listener.id, remote, connection: 0 })
}

/// The flow of a binding that this server can use. A datagram goes out by an own listener, whoever received the REGISTER.
fn open_flow<C: Cx>(cx: &C, binding: &Binding) -> Option<Flow> {
    let view = cx.view();
    let flow = binding.flow.flow;
    if flow.transport != Transport::Udp {
        return Some(flow);
    }
    let remote = datagram_target(binding);
    if binding.flow.server == view.own.server {
        return Some(Flow { remote, ..flow });
    }
    let listener = view.udp_listener(remote.is_ipv6())?;
    Some(Flow { transport: Transport::Udp, listener: listener.id, remote, connection: 0 })
}

/// A URI as next hop, located by RFC 3263; its further addresses become alternates. Those that were silent lately come last.
pub async fn located<C: Cx>(cx: &C, uri: &[u8], request_uri: Option<&[u8]>) -> Option<Hop> {
    let flows = cx.locate(uri).await.ok()?;
    let server = |flow| Hop { server: true, ..Hop::plain(own_listener(cx, flow), request_uri) };
    let mut hops: Vec<Hop> = flows.into_iter().take(MAX_SERVERS).map(server).collect();
    hops.sort_by_key(|hop| cx.rests(hop.flow) == Some(Rest::Silent));
    Hop::first_of(hops)
}

/// The same flow by a listener that exists here, since whoever located it need not know ours.
pub fn own_listener<C: Cx>(cx: &C, flow: Flow) -> Flow {
    let view = cx.view();
    let fits =
        |l: &&crate::settings::Listener| l.transport == flow.transport && l.addr.is_ipv6() == flow.remote.is_ipv6();
    let known = view.listeners.iter().filter(fits).any(|l| l.id == flow.listener);
    match view.listeners.iter().find(fits) {
        Some(listener) if !known => Flow { listener: listener.id, ..flow },
        _ => flow,
    }
}
