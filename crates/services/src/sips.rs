//! The SIPS scheme (RFC 5630; RFC 3261 §26.2.2): what is asked for by it travels encrypted on every hop, or not at all.
//!
//! Owns the rules for requests, bindings and next hops. Does not own how a server of a name is found over TLS
//! (`pairline_sip::target`).

use crate::cx::Cx;
use crate::metrics::Counter;
use crate::proxy::Hop;
use crate::registrar::ask::Ask;
use crate::replies;
use pairline_sip::flow::Flow;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

/// Whether a URI has that scheme.
pub fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"sips:"))
}

/// Whether a request is to travel encrypted: by its Request-URI, and a REGISTER by the address that it registers, too.
pub fn is_asked(request: &Message) -> bool {
    is_sips(request.request_uri()) || (*request.method() == Method::Register && is_sips(request.to().uri))
}

/// Whether a request that is to travel encrypted has done so up to here (RFC 3261 §26.4.4, RFC 5630 §5.1.1); answers where not.
pub fn has_come_safely<C: Cx>(cx: &C, request: &Message, flow: Flow) -> bool {
    if flow.transport.secure() || !is_asked(request) {
        return true;
    }
    cx.count(Counter::Refused);
    replies::refuse(cx, request, 403, "SIPS Needs TLS");
    false
}

/// Whether a REGISTER binds a SIPS contact by a way that is not SIPS throughout: Request-URI, Path and flow (RFC 5630 §5.2). Own
/// servers' Path values are no part of `ask`: what is between them is encrypted.
pub(crate) fn is_bound_openly(request: &Message, ask: &Ask) -> bool {
    let mut kept = ask.contacts.iter().filter(|contact| contact.expires != Some(0));
    kept.any(|contact| is_sips(&contact.uri))
        && !(is_sips(request.request_uri())
            && ask.path.iter().all(|path| is_sips(path))
            && ask.flow.flow.transport.secure())
}

/// Whether a request may take a hop: one with a SIPS Request-URI goes encrypted, to a SIPS contact or to the other pool, and
/// whoever has a SIPS contact is called at it encrypted or not at all (RFC 5630 §5.3: without the exception for the last hop).
pub(crate) fn may_take(request: &Message, hop: &Hop) -> bool {
    let to_sips = hop.uri.as_deref().is_some_and(is_sips);
    if is_sips(request.request_uri()) {
        return hop.flow.transport.secure() && (hop.uri.is_none() || to_sips);
    }
    hop.flow.transport.secure() || !to_sips
}

/// An address of ours with the scheme of a request's Request-URI: what is asked for by SIPS is not sent on by SIP.
pub(crate) fn like(request: &Message, address: &str) -> String {
    match address.strip_prefix("sip:") {
        Some(rest) if is_sips(request.request_uri()) => format!("sips:{rest}"),
        _ => address.to_owned(),
    }
}

/// Our Record-Route in a dialog whose Request-URI is SIPS (RFC 3261 §16.6 step 4). The scheme says what `transport=tls` would.
pub(crate) fn route(value: &str) -> String {
    let value = value.replacen("<sip:", "<sips:", 1);
    value.replacen(";transport=tls", "", 1).replacen(";transport=wss", ";transport=ws", 1)
}
