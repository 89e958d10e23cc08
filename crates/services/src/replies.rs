//! Answers that this server makes itself.
//!
//! Owns their form: reason, Retry-After with jitter, Allow. Does not own why they are given.

use crate::cx::Cx;
use crate::metrics::Counter;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply;

/// Methods that this server handles or passes on.
pub const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, INFO, REFER, UPDATE, PRACK, SUBSCRIBE, NOTIFY";
/// Extensions that this server knows: Path (RFC 3327), flows (RFC 5626), addresses of devices (RFC 5627).
pub const EXTENSIONS: [&str; 3] = ["path", "outbound", "gruu"];
/// The same as a Supported header's value.
pub const SUPPORTED: &str = "path, outbound, gruu";

/// A final answer without body.
pub fn refuse<C: Cx>(cx: &C, request: &Message, status: u16, reason: &str) {
    cx.respond(status, Reply::to(request, status).reason(reason).build());
}

/// A final answer with headers.
pub fn refuse_with<C: Cx>(cx: &C, request: &Message, status: u16, reason: &str, headers: &[(&str, &str)]) {
    let mut reply = Reply::to(request, status).reason(reason);
    for (name, value) in headers {
        reply = reply.header(name, value.as_bytes());
    }
    cx.respond(status, reply.build());
}

/// Most extensions that are named as not supported: an answer must not grow with what strangers write.
const MAX_NAMED: usize = 32;

/// 420 that names extensions which are not supported (RFC 3261 §8.2.2.3, §16.3), the first [`MAX_NAMED`] of them.
pub fn bad_extension<'a, C: Cx>(cx: &C, request: &Message, unknown: impl Iterator<Item = &'a [u8]>) {
    let named: Vec<&[u8]> = unknown.take(MAX_NAMED).collect();
    let reply = Reply::to(request, 420).reason("Bad Extension").header("Unsupported", named.join(&b", "[..]));
    cx.respond(420, reply.build());
}

/// Seconds for Retry-After: between `base` and twice that, so that clients do not come back together.
pub fn jittered<C: Cx>(cx: &C, base: u64) -> u64 {
    base + cx.random() % (base + 1)
}

/// Nobody who could serve can be reached now: 500 with jittered Retry-After, never a 503 that tips load elsewhere
/// (DESIGN invariant 11).
pub fn try_later<C: Cx>(cx: &C, request: &Message, reason: &str) {
    cx.count(Counter::Unavailable);
    let seconds = jittered(cx, 5).to_string();
    refuse_with(cx, request, 500, reason, &[("Retry-After", &seconds)]);
}

/// The user is not reachable now.
pub fn unavailable<C: Cx>(cx: &C, request: &Message, reason: &str) {
    let seconds = jittered(cx, 10).to_string();
    refuse_with(cx, request, 480, reason, &[("Retry-After", &seconds)]);
}

/// OPTIONS to the server itself (RFC 3261 §11.2).
pub fn options<C: Cx>(cx: &C, request: &Message) {
    let headers = [("Allow", ALLOW), ("Supported", SUPPORTED), ("Accept", "application/sdp"), ("Allow-Events", "reg")];
    refuse_with(cx, request, 200, "OK", &headers);
}

/// 100 for an INVITE, so that the caller stops repeating it.
pub fn trying<C: Cx>(cx: &C, request: &Message) {
    if *request.method() == Method::Invite {
        cx.respond(100, Reply::to(request, 100).build());
    }
}
