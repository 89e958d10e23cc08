//! The 200 to a REGISTER (RFC 3261 §10.3 step 8).
//!
//! Owns its Contact, Path and Warning headers.

use crate::binding::Binding;
use crate::cx::Cx;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::reply::Reply;

/// One Contact value with what was granted.
fn contact(binding: &Binding, wall: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(binding.contact.len() + binding.params.len() + 24);
    value.push(b'<');
    value.extend_from_slice(&binding.contact);
    value.push(b'>');
    value.extend_from_slice(&binding.params);
    if binding.q < 1000 {
        value.extend_from_slice(format!(";q=0.{:03}", binding.q).as_bytes());
    }
    value.extend_from_slice(format!(";expires={}", binding.seconds_left(wall)).as_bytes());
    value
}

/// Answers with the present state. `warning` is the text of a Warning header for limited mode.
pub fn ok<C: Cx>(cx: &C, request: &Message, bindings: &[Binding], warning: Option<&str>) {
    let wall = cx.now().wall;
    let mut reply = Reply::to(request, 200);
    for binding in bindings {
        reply = reply.header("Contact", contact(binding, wall));
    }
    for path in request.headers(Name::Path) {
        reply = reply.header("Path", path);
    }
    if request.has(Name::Path) {
        reply = reply.header("Supported", b"path");
    }
    if let Some(text) = warning {
        let view = cx.view();
        reply = reply.header("Warning", format!("399 {} \"{text}\"", view.own.server_name).as_bytes());
    }
    cx.respond(200, reply.build());
}
