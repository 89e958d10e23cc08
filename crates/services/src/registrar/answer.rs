//! The 200 to a REGISTER (RFC 3261 §10.3 step 8).
//!
//! Owns its Contact, Path, Require, Flow-Timer, Feature-Caps and Warning headers.

use super::ask::Ask;
use super::outbound;
use crate::binding::Binding;
use crate::cx::Cx;
use crate::gruu;
use crate::replies::SUPPORTED;
use crate::settings::DeploymentView;
use bytes::Bytes;
use pairline_group::Millis;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::reply::Reply;
use pairline_sip::uri::Aor;
use std::io::Write as _;

/// One Contact value with what was granted.
fn contact(binding: &Binding, wall: Millis) -> Vec<u8> {
    let mut value = Vec::with_capacity(binding.contact.len() + binding.params.len() + 24);
    value.push(b'<');
    value.extend_from_slice(&binding.contact);
    value.push(b'>');
    value.extend_from_slice(&binding.params);
    if binding.q < 1000 {
        // Writing to a Vec cannot fail.
        let _ = write!(value, ";q=0.{:03}", binding.q);
    }
    let _ = write!(value, ";expires={}", binding.seconds_left(wall));
    value
}

/// The GRUUs of a binding's device as parameters of its Contact (RFC 5627 §5.2).
fn gruus(view: &DeploymentView, wall: Millis, user: &Aor, binding: &Binding, value: &mut Vec<u8>) {
    let temporary = gruu::temporary(&view.sealing_key, user, binding, wall);
    for (name, gruu) in [("pub-gruu", gruu::public(user, binding)), ("temp-gruu", temporary)] {
        if let Some(gruu) = gruu {
            value.extend_from_slice(format!(";{name}=\"{gruu}\"").as_bytes());
        }
    }
}

/// Answers with the present state. `warning` is the text of a Warning header for limited mode.
pub fn ok<C: Cx>(cx: &C, request: &Message, user: &Aor, ask: &Ask, bindings: &[Binding], warning: Option<&str>) {
    cx.respond(200, reply(&cx.view(), cx.now().wall, request, user, ask, bindings, warning));
}

/// The answer as [`ok`] gives it.
pub fn reply(
    view: &DeploymentView,
    wall: Millis,
    request: &Message,
    user: &Aor,
    ask: &Ask,
    bindings: &[Binding],
    warning: Option<&str>,
) -> Bytes {
    let with_gruus = bindings.iter().any(|b| b.instance.is_some()) && request.supported("gruu");
    let with_flows = outbound::is_asked(request, ask);
    let mut reply = Reply::to(request, 200);
    for binding in bindings {
        let mut value = contact(binding, wall);
        if with_gruus {
            gruus(view, wall, user, binding, &mut value);
        }
        reply = reply.header("Contact", value);
    }
    if !view.push.providers.is_empty()
        && let Ok(Some(caps)) = view.push.answer(ask.contacts.iter().map(|contact| &*contact.uri))
    {
        reply = reply.header("Feature-Caps", caps);
    }
    for path in request.headers(Name::Path) {
        reply = reply.header("Path", path);
    }
    if with_flows {
        reply = reply.header("Require", b"outbound");
        if let Some(seconds) = outbound::flow_timer(&view.registrar, ask) {
            reply = reply.header("Flow-Timer", seconds.to_string());
        }
    }
    if request.has(Name::Path) || with_flows || with_gruus {
        reply = reply.header("Supported", SUPPORTED);
    }
    if let Some(text) = warning {
        reply = reply.header("Warning", format!("399 {} \"{text}\"", view.own.server_name).as_bytes());
    }
    reply.build()
}
