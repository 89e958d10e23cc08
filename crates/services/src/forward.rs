//! Requests on their way out: the edits that a proxy may make (DESIGN §10), and the loop hash in our branches.
//!
//! Owns what changes between a request received and the same request sent. Does not own where it goes.

use crate::admission::neighbours::OFFER;
use crate::auth;
use crate::back;
use crate::binding::FlowRef;
use crate::cx::{Cx, Peer};
use crate::parts::Parts;
use crate::privacy;
use crate::routes::{self, RouteSet};
use crate::settings::DeploymentView;
use crate::sips;
use crate::trust;
use bytes::Bytes;
use pairline_sip::edit::Edit;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::{Aor, Host, Uri};

/// Beginning of our branches; then `p` (over the peer link) or `d`, the loop hash, a dot and the mark of the way back.
const BRANCH: &str = "z9hG4bKpl";
/// Hops over links that one request may make on its way to another pool (DESIGN §7). The last one, to the owner of a flow, is
/// always free: it leads nowhere else.
const MAX_POOL_HOPS: usize = 2;
/// The same to a server of the own pool: to a server that leads the caller's group, by way of one that only has a copy of it,
/// the same for the callee, and all of it once more in the other pool.
const MAX_SERVER_HOPS: usize = 8;
/// Max-Forwards where a request has none (RFC 3261 §16.6 step 3).
const DEFAULT_HOPS: u8 = 70;

/// Hash of what decides where a request goes (RFC 5393 §4.2), as it arrived at this server.
pub fn loop_hash(view: &DeploymentView, request: &Message, arrival: &Flow) -> [u8; 8] {
    let mut parts = Parts::default();
    let mut part = |bytes: &[u8]| parts.push(bytes);
    part(&view.own.server.0.to_be_bytes());
    part(&[u8::from(arrival.transport == Transport::Peer)]);
    part(request.request_uri());
    part(request.from().param("tag").unwrap_or_default());
    part(request.to().param("tag").unwrap_or_default());
    part(request.call_id());
    part(&request.cseq().0.to_be_bytes());
    for name in [Name::Route, Name::ProxyRequire, Name::ProxyAuthorization] {
        for value in request.headers(name) {
            part(value);
        }
    }
    let mut out = [0_u8; 8];
    out.copy_from_slice(&parts.hash().as_bytes()[..8]);
    out
}

/// Whether this very request has been here before (RFC 3261 §16.3 step 4).
pub fn is_looping(view: &DeploymentView, request: &Message, arrival: &Flow) -> bool {
    // Nearly everything comes from a client, and has not been at any server of ours.
    if !request.vias().any(|via| via.branch().is_some_and(is_our_branch)) {
        return false;
    }
    let hash = routes::hex(&loop_hash(view, request, arrival));
    request.vias().any(|via| {
        let rest = via.branch().and_then(|b| b.strip_prefix(BRANCH.as_bytes()));
        rest.and_then(|r| r.get(1..17)).is_some_and(|h| h == hash.as_bytes())
    })
}

/// Most hops over links that a request may have made that is to go to other servers.
pub fn max_peer_hops(at: Peer) -> usize {
    match at {
        Peer::Pool(_) => MAX_POOL_HOPS,
        Peer::Server(_) => MAX_SERVER_HOPS,
    }
}

/// How many hops over peer links the request has made.
pub fn peer_hops(request: &Message) -> usize {
    let mark = format!("{BRANCH}p");
    request.vias().filter(|via| via.branch().is_some_and(|b| b.starts_with(mark.as_bytes()))).count()
}

/// What happens to the asserted identity (RFC 3325).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asserted {
    /// Came from the partner, who authenticated it: stays.
    Keep,
    /// Authenticated here.
    Set(Aor),
    /// Came from a trusted peer, who says nothing of the caller: the other pool is told that it came from one.
    Vouched,
    /// Nobody vouches.
    Strip,
}

/// One request to be sent, as differences to the one received.
#[derive(Clone, Debug)]
pub struct Sending<'a> {
    /// As received.
    pub request: &'a Message,
    /// Where it came from.
    pub arrival: Flow,
    /// Where it goes.
    pub hop: Flow,
    /// Its Route set as read.
    pub routes: &'a RouteSet,
    /// New Request-URI.
    pub uri: Option<&'a [u8]>,
    /// Route values to put on top, outermost first.
    pub push_routes: &'a [Box<[u8]>],
    /// Record-Route this dialog.
    pub record_route: bool,
    /// Path value to add (REGISTER).
    pub path: Option<&'a str>,
    /// Asserted identity.
    pub asserted: &'a Asserted,
    /// The proxy's credentials in it are consumed.
    pub consumed: bool,
    /// What only some requests carry.
    pub extra: Extra<'a>,
}

/// Headers that only some requests are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Max-Breadth (RFC 5393).
    pub max_breadth: Option<u16>,
    /// A value to add to History-Info (RFC 7044).
    pub history: Option<&'a str>,
    /// The next hop belongs to the trust domain (RFC 3325 §2.3).
    pub trusted: bool,
}

/// Whether a request opens a dialog that must come back through us.
pub fn opens_dialog(request: &Message) -> bool {
    matches!(request.method(), Method::Invite | Method::Subscribe | Method::Refer) && !request.to().has_param("tag")
}

fn branch<C: Cx>(cx: &C, sending: &Sending<'_>, hash: &[u8; 8]) -> String {
    let way = if sending.hop.transport == Transport::Peer { 'p' } else { 'd' };
    let mut text = String::with_capacity(112);
    text.push_str(BRANCH);
    text.push(way);
    routes::push_hex(&mut text, hash);
    text.push('.');
    back::mark(&mut text, &cx.view(), &sending.request.via(), &sending.arrival, cx.random());
    text
}

/// What `format!` would give, in one piece of memory that is large enough as a rule: it is written for each request.
pub(crate) fn written(room: usize, what: std::fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(room);
    // Writing to a String cannot fail.
    let _ = std::fmt::Write::write_fmt(&mut text, what);
    text
}

/// The Via value of a request that leaves over `hop`.
pub fn via_value(view: &DeploymentView, hop: &Flow, branch: &str) -> String {
    let host = view.listener(hop.listener, hop.transport).map_or("invalid", |l| l.via.as_str());
    let rport = if hop.transport == Transport::Udp { ";rport" } else { "" };
    written(192, format_args!("SIP/2.0/{} {host};branch={branch}{rport}", hop.transport.via_token()))
}

/// The flow to one side of a dialog, if that side is not sure to be reached by its contact: a stream, whose contact need not
/// listen, or datagrams through a NAT or of a client that keeps its flow (RFC 5626 §5.3).
fn kept_flow(view: &DeploymentView, flow: &Flow, contact: &[u8], any_port: bool) -> Option<FlowRef> {
    let direct = match flow.transport {
        Transport::Udp => Uri::parse(contact).is_ok_and(|uri| {
            let same_port = uri.port.unwrap_or(5060) == flow.remote.port();
            uri.host == Host::Ip(flow.remote.ip()) && (same_port || any_port) && !uri.has_param("ob")
        }),
        _ => flow.is_destination(),
    };
    let own = &view.own;
    (!direct).then_some(FlowRef { pool: own.pool, server: own.server, boot: own.boot, flow: *flow })
}

/// Record-Route values in the order in which they are pushed: the caller's side, then the callee's if it differs (RFC 5658).
/// A side over the peer link needs none of its own: the partner finds us by any of our names.
fn record_routes(view: &DeploymentView, sending: &Sending<'_>) -> Vec<String> {
    let request = sending.request;
    let caller = request.contacts().next().map_or(&b""[..], |contact| contact.uri);
    let callee = sending.uri.unwrap_or(request.request_uri());
    let mut sides = Vec::with_capacity(2);
    for (flow, contact, any_port) in [(&sending.arrival, caller, true), (&sending.hop, callee, false)] {
        if flow.transport == Transport::Peer {
            continue;
        }
        if let Some(listener) = view.listener(flow.listener, flow.transport) {
            let kept = kept_flow(view, flow, contact, any_port);
            let value = routes::record_route(&view.sealing_key, listener, request.call_id(), kept.as_ref());
            let secure = sips::is_sips(request.request_uri()) && flow.transport.secure();
            let value = if secure { sips::route(&value) } else { value };
            if sides.last() != Some(&value) {
                sides.push(value);
            }
        }
    }
    if sides.is_empty()
        && let Some(listener) = view.listeners.first()
    {
        sides.push(routes::record_route(&view.sealing_key, listener, request.call_id(), None));
    }
    sides
}

/// Builds the bytes to send.
pub fn build<C: Cx>(cx: &C, view: &DeploymentView, sending: &Sending<'_>) -> Bytes {
    let request = sending.request;
    let mut edit = Edit::new(request);
    if let Some(uri) = sending.uri {
        edit.request_uri(uri);
    }
    let (received, rport) = request.via().fix_for(sending.arrival.remote);
    edit.fix_top_via(received, rport);
    let hash = loop_hash(view, request, &sending.arrival);
    let mut via = via_value(view, &sending.hop, &branch(cx, sending, &hash));
    if sending.hop.transport == Transport::Peer {
        let algorithm = auth::algorithm_for(view, request, sending.arrival);
        via = format!("{via};{}={}", auth::ALGORITHM_PARAM, algorithm.as_str());
        if *sending.asserted == Asserted::Vouched {
            via = format!("{via};{}", trust::VOUCHED_PARAM);
        }
    }
    if sending.extra.trusted && view.proxy.neighbours && sending.hop.transport != Transport::Peer {
        via.push_str(OFFER);
    }
    edit.push_via(via.as_bytes());
    for _ in 0..sending.routes.own {
        edit.pop_route();
    }
    for route in sending.push_routes.iter().rev() {
        edit.push_route(route);
    }
    edit.set_max_forwards(request.max_forwards().unwrap_or(DEFAULT_HOPS).saturating_sub(1));
    if sending.record_route {
        for value in record_routes(view, sending) {
            edit.push_record_route(value.as_bytes());
        }
    }
    if let Some(path) = sending.path {
        edit.push_path(path.as_bytes());
    }
    if let Some(breadth) = sending.extra.max_breadth {
        edit.set_max_breadth(breadth);
    }
    if let Some(history) = sending.extra.history {
        edit.append(Name::HistoryInfo, history.as_bytes());
    }
    edit_identity(&mut edit, sending);
    if sending.consumed {
        for index in auth::own_credentials(view, request) {
            edit.remove_line(Name::ProxyAuthorization, index);
        }
    }
    edit.finish()
}

fn edit_identity(edit: &mut Edit<'_>, sending: &Sending<'_>) {
    let to_device = sending.hop.transport != Transport::Peer && !sending.extra.trusted;
    let private = privacy::asks(sending.request, &["id"]);
    match sending.asserted {
        Asserted::Keep if !(to_device && private) => {}
        Asserted::Set(aor) if !(to_device && private) => {
            edit.set(Name::PAssertedIdentity, written(64, format_args!("<{}>", aor.as_str())).as_bytes());
        }
        _ => {
            edit.remove(Name::PAssertedIdentity);
        }
    }
    edit.remove(Name::PPreferredIdentity);
    // What phones showed as the caller before there was P-Asserted-Identity, and some still do.
    if *sending.asserted != Asserted::Keep && sending.request.has(Name::Other) {
        edit.remove_named("Remote-Party-ID");
    }
}

/// The bytes of a response passed back: our Via gone, the rest untouched.
pub fn response_back(response: &Message) -> Bytes {
    let mut edit = Edit::new(response);
    edit.pop_via();
    edit.finish()
}

/// Whether a branch was made by a server of ours.
pub fn is_our_branch(branch: &[u8]) -> bool {
    branch.starts_with(BRANCH.as_bytes())
}

/// Whether a branch was made by a server of ours for a hop over the peer link.
pub fn is_peer_branch(branch: &[u8]) -> bool {
    branch.strip_prefix(BRANCH.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'p'))
}
