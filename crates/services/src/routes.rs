//! Our own Route values: how they are written, recognised and trusted.
//!
//! Owns the dialog mark, the flow token and the reading of a request's Route set. A Route is only believed if its mark is
//! right: To-tag and Route alone would make every server of ours an open relay.

use crate::binding::FlowRef;
use crate::ident::{HostIs, host_is};
use crate::records::derive;
use crate::settings::{DeploymentView, Listener, Secret};
use pairline_sip::message::Message;
use pairline_sip::uri::Uri;

/// URI parameter with the dialog mark.
const MARK: &str = "pl";
/// First character of a flow token's user part; the second is the version.
const TOKEN_PREFIX: &str = "f1-";
const TOKEN_MAC: usize = 12;
/// Most Route values that are read; more is refused by the sanity check of the dispatcher.
pub const MAX_ROUTES: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    out
}

/// The same behind a text.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(HEX[usize::from(digit)])));
}

/// Reads lower- or upper-case hexadecimal.
pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?)).collect()
}

/// Compares without stopping at the first difference.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0_u8, |d, (x, y)| d | (x ^ y)) == 0
}

/// The mark that a dialog's Record-Route carries: a keyed hash of its Call-ID, and of the flow token if it has one, so that
/// a token opens a flow inside its own dialog only.
pub fn dialog_mark(key: &Secret, call_id: &[u8], token: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_keyed(&derive(key, b"dialog mark"));
    hasher.update(call_id);
    if !token.is_empty() {
        hasher.update(&[0]);
        hasher.update(token);
    }
    hex(&hasher.finalize().as_bytes()[..8])
}

/// Our Record-Route for one side of a dialog, with the flow to that side if only that reaches it (RFC 5626 §5.3.1).
pub fn record_route(key: &Secret, listener: &Listener, call_id: &[u8], flow: Option<&FlowRef>) -> String {
    let token = flow.map(|flow| flow_token(key, flow)).unwrap_or_default();
    let mark = dialog_mark(key, call_id, token.as_bytes());
    let at = if token.is_empty() { "" } else { "@" };
    format!("<sip:{token}{at}{};lr;{MARK}={mark}>", listener.record_route)
}

/// Whether a server of this deployment wrote that Record-Route, for the dialog of that Call-ID.
pub fn is_marked(key: &Secret, call_id: &[u8], uri: &Uri<'_>) -> bool {
    uri.param(MARK).is_some_and(|found| same(found, dialog_mark(key, call_id, uri.user.unwrap_or_default()).as_bytes()))
}

/// The user part of a Path or Route that names a flow of one server (RFC 5626 §5.2).
pub fn flow_token(key: &Secret, flow: &FlowRef) -> String {
    let body = flow.to_bytes();
    let mac = blake3::keyed_hash(&derive(key, b"flow token"), &body);
    format!("{TOKEN_PREFIX}{}{}", hex(&mac.as_bytes()[..TOKEN_MAC]), hex(&body))
}

/// Reads a flow token; `None` if it is none or its seal is wrong.
pub fn read_flow_token(key: &Secret, user: &[u8]) -> Option<FlowRef> {
    let text = user.strip_prefix(TOKEN_PREFIX.as_bytes())?;
    let bytes = unhex(text)?;
    let (mac, body) = bytes.split_at_checked(TOKEN_MAC)?;
    let right = blake3::keyed_hash(&derive(key, b"flow token"), body);
    same(mac, &right.as_bytes()[..TOKEN_MAC]).then(|| FlowRef::from_bytes(body)).flatten()
}

/// The Path (and later Route) URI that leads to a flow of this server, and says that it is kept (`ob`, RFC 5626 §5.1).
pub fn path_value(view: &DeploymentView, flow: &FlowRef) -> Option<String> {
    let listener = view.listener(flow.flow.listener, flow.flow.transport)?;
    Some(format!("<sip:{}@{};lr;ob>", flow_token(&view.sealing_key, flow), listener.via))
}

/// What the Route set of a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSet {
    /// How many values at the top are ours and go.
    pub own: usize,
    /// One of them carries this dialog's mark.
    pub marked: bool,
    /// A flow of a server of ours that the request must be delivered on.
    pub token: Option<FlowRef>,
    /// The flow that the last of our marked values names: the one to the far end.
    pub flow: Option<FlowRef>,
    /// The next hop's URI, if a Route is left.
    pub next: Option<Box<[u8]>>,
    /// The next hop is the partner.
    pub next_is_partner: bool,
}

/// Reads the Route set. A value that names nobody we know counts as ours if its mark is right. With `partner_up` false the partner's values count as ours: its calls go on here (DESIGN §7).
pub fn read(view: &DeploymentView, request: &Message, partner_up: bool) -> RouteSet {
    let mut set = RouteSet::default();
    for route in request.routes().take(MAX_ROUTES) {
        let Ok(uri) = Uri::parse(route.uri) else {
            break;
        };
        let host = host_is(view, &uri);
        let token = uri.user.and_then(|user| read_flow_token(&view.sealing_key, user));
        let marked = is_marked(&view.sealing_key, request.call_id(), &uri);
        let ours = match host {
            HostIs::Own | HostIs::Domain => true,
            HostIs::Partner => !partner_up,
            HostIs::Other => false,
            // A server that has been removed since: its calls go on at those that are left.
            HostIs::Foreign => marked,
        };
        if !ours || set.token.is_some() {
            set.next = Some(route.uri.into());
            set.next_is_partner = host == HostIs::Partner;
            break;
        }
        set.own += 1;
        if marked {
            set.marked = true;
            set.flow = token;
        } else {
            set.token = token;
        }
    }
    set
}
