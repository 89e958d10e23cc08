//! Trusted peers: who they are on the wire, and which requests go to them.
//!
//! Owns the match of a flow with the policy. Does not own what a peer may do (`access`).

use crate::cx::Cx;
use crate::settings::DeploymentView;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::uri::{Aor, Host, Uri};
use pairline_topology::model::Transport as Named;
use pairline_topology::policy_proxy::TrustedPeer;

/// Via parameter by which a request over the link between pools says that it came from a trusted peer of the other pool.
pub const VOUCHED_PARAM: &str = "vouched";

/// Whether the other pool vouches for the caller: it authenticated it, or a peer of its did, and it says so inside the mutually
/// authenticated link.
pub fn by_partner(request: &Message, flow: Flow) -> bool {
    flow.transport == Transport::Peer
        && (request.has(Name::PAssertedIdentity) || request.via().param(VOUCHED_PARAM).is_some())
}

fn is_tls(flow: Flow) -> bool {
    matches!(flow.transport, Transport::Tls | Transport::Wss)
}

fn named(transport: Transport) -> Option<Named> {
    Some(match transport {
        Transport::Udp => Named::Udp,
        Transport::Tcp => Named::Tcp,
        Transport::Tls => Named::Tls,
        Transport::Ws => Named::Ws,
        Transport::Wss => Named::Wss,
        Transport::Peer => return None,
    })
}

/// The trusted peer at the other end of a flow: by the name that it proved, or by its address over a transport where policy
/// believes that.
pub fn peer<'v, C: Cx>(cx: &C, view: &'v DeploymentView, flow: Flow) -> Option<&'v TrustedPeer> {
    if view.trust.peer.is_empty() {
        return None;
    }
    let transport = named(flow.transport)?;
    let names = if is_tls(flow) { Some(cx.proven_names(flow)) } else { None };
    let proved = |name: &str| names.as_ref().is_some_and(|all| all.iter().any(|have| have.eq_ignore_ascii_case(name)));
    let at = |peer: &TrustedPeer| {
        peer.transport.contains(&transport) && peer.network.iter().any(|net| net.contains(flow.remote.ip()))
    };
    // Who is to be known by a certificate is not known by an address.
    view.trust.peer.iter().find(|peer| match &peer.certificate {
        Some(name) => proved(name) && (peer.network.is_empty() || at(peer)),
        None => at(peer),
    })
}

/// Whether a flow comes from the network of a peer, over a transport where policy believes that.
pub fn is_network_of_peer(view: &DeploymentView, flow: Flow) -> bool {
    let Some(transport) = named(flow.transport) else { return false };
    let at = |peer: &TrustedPeer| {
        peer.transport.contains(&transport) && peer.network.iter().any(|net| net.contains(flow.remote.ip()))
    };
    view.trust.peer.iter().any(at)
}

/// Whether a user may be known by a certificate over that flow.
pub fn takes_certificates(view: &DeploymentView, flow: Flow) -> bool {
    view.trust.user_certificates && is_tls(flow)
}

/// Whether the certificate at the other end of a flow names that user, and policy takes it.
pub fn is_user<C: Cx>(cx: &C, view: &DeploymentView, flow: Flow, user: &Aor) -> bool {
    let wanted = user.as_str().strip_prefix("sip:").unwrap_or(user.as_str());
    takes_certificates(view, flow) && cx.proven_names(flow).iter().any(|have| have == wanted)
}

/// Whether the other pool says, inside the mutually authenticated link, that it has proven a request to come from that user.
pub fn partner_names(request: &Message, flow: Flow, user: &Aor) -> bool {
    let mut asserted = request.addresses(Name::PAssertedIdentity);
    flow.transport == Transport::Peer
        && asserted.any(|value| value.parse_uri().ok().and_then(|uri| uri.aor()).is_some_and(|named| named == *user))
}

/// The peer that requests for a foreign domain go to.
pub fn route<'v>(view: &'v DeploymentView, uri: &[u8]) -> Option<&'v TrustedPeer> {
    if view.trust.peer.is_empty() {
        return None;
    }
    let uri = Uri::parse(uri).ok()?;
    let Host::Name(host) = uri.host else { return None };
    let takes = |peer: &&TrustedPeer| peer.domain.iter().any(|domain| domain.as_bytes().eq_ignore_ascii_case(host));
    view.trust.peer.iter().filter(|peer| peer.next_hop.is_some()).find(takes)
}
