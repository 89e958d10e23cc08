//! The document of the registration event package: `application/reginfo+xml` (RFC 3680 §5, RFC 5628 for GRUUs).
//!
//! Owns its text. Does not own which bindings are in it (`changes`).

use super::changes::Change;
use crate::gruu;
use crate::routes::hex;
use pairline_group::Millis;
use pairline_sip::params::Params;
use pairline_sip::uri::Aor;
use std::fmt::Write as _;

/// MIME type.
pub const TYPE: &str = "application/reginfo+xml";

/// Text between tags or in an attribute: what XML forbids becomes U+FFFD.
fn text(out: &mut String, bytes: &[u8]) {
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

fn attribute(out: &mut String, name: &str, bytes: &[u8]) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    text(out, bytes);
    out.push('"');
}

fn short_hash(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hex(&hasher.finalize().as_bytes()[..8])
}

fn contact(out: &mut String, user: &Aor, change: &Change<'_>, wall: Millis) {
    let binding = change.binding;
    out.push_str("<contact");
    attribute(out, "id", short_hash(&[&binding.id, &binding.contact]).as_bytes());
    attribute(out, "state", if change.event.is_active() { b"active" } else { b"terminated" });
    attribute(out, "event", change.event.word().as_bytes());
    let _ = write!(out, " duration-registered=\"{}\"", wall.saturating_sub(binding.since) / 1000);
    if change.event.is_active() {
        let _ = write!(out, " expires=\"{}\"", binding.seconds_left(wall));
    }
    let _ = write!(out, " q=\"{}.{:03}\"", binding.q / 1000, binding.q % 1000);
    attribute(out, "callid", &binding.call_id);
    let _ = write!(out, " cseq=\"{}\"><uri>", binding.cseq);
    text(out, &binding.contact);
    out.push_str("</uri>");
    for param in Params::parse(&binding.params).into_iter().flat_map(|params| params.iter()) {
        out.push_str("<unknown-param");
        attribute(out, "name", param.name);
        out.push('>');
        text(out, param.raw_value.unwrap_or_default());
        out.push_str("</unknown-param>");
    }
    if change.event.is_active()
        && let Some(public) = gruu::public(user, binding)
    {
        out.push_str("<gr:pub-gruu");
        attribute(out, "uri", public.as_bytes());
        out.push_str("/>");
    }
    out.push_str("</contact>\n");
}

/// State of the whole registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Nobody is registered, and nobody was a moment ago.
    Init,
    /// Somebody is registered.
    Active,
    /// The last one has gone.
    Terminated,
}

/// Writes the document. `version` rises by one with each that one subscriber gets; `full`: the contacts are all there are.
pub fn write(
    user: &Aor,
    version: u32,
    full: bool,
    state: Registration,
    contacts: &[Change<'_>],
    wall: Millis,
) -> String {
    let mut out = String::with_capacity(400 + contacts.len() * 400);
    out.push_str("<?xml version=\"1.0\"?>\n<reginfo xmlns=\"urn:ietf:params:xml:ns:reginfo\"");
    out.push_str(" xmlns:gr=\"urn:ietf:params:xml:ns:gruuinfo\"");
    let _ = writeln!(out, " version=\"{version}\" state=\"{}\">", if full { "full" } else { "partial" });
    out.push_str("<registration");
    attribute(&mut out, "aor", user.as_str().as_bytes());
    attribute(&mut out, "id", short_hash(&[user.as_str().as_bytes()]).as_bytes());
    let word = match state {
        Registration::Init => "init",
        Registration::Active => "active",
        Registration::Terminated => "terminated",
    };
    let _ = writeln!(out, " state=\"{word}\">");
    for change in contacts {
        contact(&mut out, user, change, wall);
    }
    out.push_str("</registration>\n</reginfo>\n");
    out
}
