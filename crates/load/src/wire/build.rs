//! Writing SIP requests and replies.
//!
//! Owns the bytes. What to send, and when, is the engine's.

use super::scan;
use std::io::Write as _;
use std::net::SocketAddr;

/// What a request is made of. Values are whole header values, without names and line breaks.
#[derive(Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Request-URI.
    pub uri: &'a [u8],
    /// Transport token of the Via.
    pub transport: &'static str,
    /// Our address, for the Via.
    pub local: SocketAddr,
    /// Slot and generation, for the branch.
    pub branch: (u32, u32),
    /// Tells this run's branches from those that a server still knows of an earlier run from the same port.
    pub run: u64,
    /// From.
    pub from: &'a [u8],
    /// To.
    pub to: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// CSeq number.
    pub cseq: u32,
    /// Route values in order.
    pub routes: &'a [Vec<u8>],
    /// Contact.
    pub contact: Option<&'a [u8]>,
    /// Expires.
    pub expires: Option<u32>,
    /// Name and value of the header that answers a challenge.
    pub credentials: Option<(&'static str, &'a str)>,
    /// User-Agent.
    pub user_agent: &'a str,
    /// Content type and body.
    pub body: Option<(&'static str, &'a [u8])>,
}

/// Writes the request to `out`, which is cleared first.
pub fn request(out: &mut Vec<u8>, request: &Request<'_>) {
    out.clear();
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.uri);
    out.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
    out.extend_from_slice(request.transport.as_bytes());
    // Writing to a Vec cannot fail.
    let _ = write!(out, " {};rport;branch=", request.local);
    out.extend_from_slice(scan::BRANCH);
    let _ = write!(out, "{:x}.{:x}.{:x}", request.branch.0, request.branch.1, request.run);
    out.extend_from_slice(b"\r\nMax-Forwards: 70\r\n");
    for route in request.routes {
        line(out, "Route", route);
    }
    line(out, "From", request.from);
    line(out, "To", request.to);
    line(out, "Call-ID", request.call_id);
    let _ = write!(out, "CSeq: {} {}\r\n", request.cseq, request.method);
    if let Some(contact) = request.contact {
        line(out, "Contact", contact);
    }
    if let Some(expires) = request.expires {
        let _ = write!(out, "Expires: {expires}\r\n");
    }
    if let Some((name, value)) = request.credentials {
        line(out, name, value.as_bytes());
    }
    line(out, "User-Agent", request.user_agent.as_bytes());
    end(out, request.body);
}

/// Writes a reply to `request`: Vias, From, To (with `tag` if it has none), Call-ID, CSeq and Record-Routes are copied.
pub fn reply(
    out: &mut Vec<u8>,
    request: &[u8],
    status: (u16, &str),
    tag: u64,
    contact: Option<&[u8]>,
    body: Option<(&'static str, &[u8])>,
) {
    out.clear();
    let _ = write!(out, "SIP/2.0 {} {}\r\n", status.0, status.1);
    for copied in scan::lines(request) {
        let name = copied.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
        let is = |long: &str, compact: &str| {
            name.eq_ignore_ascii_case(long.as_bytes())
                || (!compact.is_empty() && name.eq_ignore_ascii_case(compact.as_bytes()))
        };
        if is("to", "t") {
            out.extend_from_slice(copied);
            if scan::find(copied, b";tag=").is_none() {
                let _ = write!(out, ";tag=pl{tag:x}");
            }
            out.extend_from_slice(b"\r\n");
        } else if is("via", "v") || is("from", "f") || is("call-id", "i") || is("cseq", "") || is("record-route", "") {
            out.extend_from_slice(copied);
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some(contact) = contact {
        line(out, "Contact", contact);
    }
    end(out, body);
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn end(out: &mut Vec<u8>, body: Option<(&'static str, &[u8])>) {
    match body {
        Some((kind, body)) => {
            line(out, "Content-Type", kind.as_bytes());
            let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
            out.extend_from_slice(body);
        }
        None => out.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
    }
}
