//! What can be told from the bytes of a message without parsing it, and the refusal of a request from nothing but its bytes.
//!
//! Owns one pass over the lines of the head: enough to weigh a request before anything is spent on it. Does not own what is
//! refused, and checks nothing: what is not refused is parsed as ever. Nothing here is kept, so a refusal takes no transaction;
//! its To tag begins with [`REFUSED_TAG`], by which the ACK that answers it is known.

use bytes::Bytes;

use crate::flow::Flow;
use crate::scan;
use crate::values;
use crate::via::{self, Via};

/// Header lines that are looked at; a message with more is refused where its line would have decided.
const MAX_LINES: usize = 128;
/// Via lines that a refusal copies; a request that came through more gets no answer.
const MAX_VIAS: usize = 32;
/// How the To tag of a refusal begins.
pub const REFUSED_TAG: &[u8] = b"busy-pl.";

/// A message at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance<'a> {
    /// The method; empty for a response, and for what is not SIP.
    pub method: &'a [u8],
    /// The Request-URI.
    pub uri: &'a [u8],
    /// The tag of To, empty if it has none.
    pub to_tag: &'a [u8],
    /// The value of the first Authorization or Proxy-Authorization.
    pub credentials: Option<&'a [u8]>,
}

impl<'a> Glance<'a> {
    /// Looks at a message.
    pub fn of(bytes: &'a [u8]) -> Glance<'a> {
        let mut lines = Lines { rest: bytes, left: MAX_LINES };
        let mut seen = Glance::default();
        let Some(first) = lines.next() else { return seen };
        if first.starts_with(b"SIP/") {
            return seen;
        }
        let Some(method_end) = memchr::memchr(b' ', first) else { return seen };
        let rest = &first[method_end + 1..];
        let Some(uri_end) = memchr::memchr(b' ', rest) else { return seen };
        seen.method = &first[..method_end];
        seen.uri = &rest[..uri_end];
        let registers = seen.method == b"REGISTER";
        for line in lines {
            match line.first().map(|b| b | 0x20) {
                Some(b't') if !registers => {
                    if let Some(value) = value_of(line, b"to", b"t") {
                        seen.to_tag = tag(value);
                    }
                }
                Some(b'a' | b'p') if seen.credentials.is_none() => {
                    let own = value_of(line, b"authorization", b"");
                    seen.credentials = own.or_else(|| value_of(line, b"proxy-authorization", b""));
                    // Of a REGISTER nothing else is asked.
                    if registers && seen.credentials.is_some() {
                        return seen;
                    }
                }
                _ => {}
            }
        }
        seen
    }

    /// Whether it, the glance of this message, is the ACK of a refusal made here: absorbed, since no transaction waits for it. The ACK of a
    /// refusal that another server made and this one passed on has the branch of a request of its sender's, which that server has not seen.
    pub fn acknowledges_refusal(&self, message: &[u8]) -> bool {
        let tag = self.to_tag.strip_prefix(REFUSED_TAG).filter(|_| self.method == b"ACK");
        let of_request = || {
            let parts = Parts::of(message)?;
            let (range, _) = values::element_at(parts.vias[0], 0);
            let mut own = Vec::with_capacity(16);
            crate::reply::write_hex(&mut own, refused_as(&parts, &Via::parse(&parts.vias[0][range]).ok()?));
            Some(own)
        };
        tag.is_some_and(|tag| of_request().is_some_and(|own| own == tag))
    }
}

/// The lines of a head, folded ones joined with what they continue; ends at the empty line.
struct Lines<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let mut end = memchr::memchr(b'\n', self.rest)?;
        if matches!(self.rest.first(), Some(b'\r' | b'\n')) && end <= 1 {
            return None;
        }
        while matches!(self.rest.get(end + 1), Some(b' ' | b'\t')) {
            end += 1 + memchr::memchr(b'\n', &self.rest[end + 1..])?;
        }
        let line = self.rest[..end].strip_suffix(b"\r").unwrap_or(&self.rest[..end]);
        self.rest = &self.rest[end + 1..];
        Some(line)
    }
}

/// The value of a line if it is that header, by its name or by its compact form.
fn value_of<'a>(line: &'a [u8], name: &[u8], compact: &[u8]) -> Option<&'a [u8]> {
    let short = !compact.is_empty() && line.len() > 1 && !scan::is_token_byte(line[1]);
    let length = if short { compact.len() } else { name.len() };
    let (head, rest) = line.split_at_checked(length)?;
    if !head.eq_ignore_ascii_case(if short { compact } else { name }) {
        return None;
    }
    let colon = scan::skip_lws(rest, 0);
    (rest.get(colon) == Some(&b':')).then(|| scan::trim(&rest[colon + 1..]))
}

/// The value of the tag parameter of a From or To; empty if there is none. Only what follows the address is looked at.
fn tag(value: &[u8]) -> &[u8] {
    let after = memchr::memrchr(b'>', value).map_or(0, |at| at + 1);
    let mut rest = &value[after..];
    while let Some(semicolon) = memchr::memchr(b';', rest) {
        rest = &rest[semicolon + 1..];
        let name = scan::skip_lws(rest, 0);
        let parameter = &rest[name..];
        if parameter.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(b"tag")) {
            let equals = scan::skip_lws(parameter, 3);
            if parameter.get(equals) == Some(&b'=') {
                let start = scan::skip_lws(parameter, equals + 1);
                return &parameter[start..scan::skip_token(parameter, start)];
            }
        }
    }
    b""
}

/// The user name in the value of an Authorization header, as it stands.
pub fn username(credentials: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"username=\"";
    // Nearly everybody writes it first.
    let rest = match credentials.strip_prefix(b"Digest ").and_then(|rest| rest.strip_prefix(NAME)) {
        Some(rest) => rest,
        None => &credentials[memchr::memmem::find(credentials, NAME)? + NAME.len()..],
    };
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

/// What a refusal is made of.
#[derive(Debug, Default)]
struct Parts<'a> {
    vias: Vec<&'a [u8]>,
    from: &'a [u8],
    to: &'a [u8],
    call_id: &'a [u8],
    cseq: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(request: &'a [u8]) -> Option<Parts<'a>> {
        let mut parts = Parts { vias: Vec::with_capacity(4), ..Parts::default() };
        let lines = Lines { rest: request, left: MAX_LINES };
        for line in lines.skip(1) {
            let place = match line.first().map(|b| b | 0x20) {
                Some(b'v') => {
                    if let Some(value) = value_of(line, b"via", b"v") {
                        parts.vias.push(value);
                    }
                    continue;
                }
                Some(b'f') => (value_of(line, b"from", b"f"), &mut parts.from),
                Some(b't') => (value_of(line, b"to", b"t"), &mut parts.to),
                Some(b'i') => (value_of(line, b"i", b""), &mut parts.call_id),
                Some(b'c') => match value_of(line, b"call-id", b"") {
                    Some(value) => (Some(value), &mut parts.call_id),
                    None => (value_of(line, b"cseq", b""), &mut parts.cseq),
                },
                _ => continue,
            };
            if let (Some(value), place) = place {
                *place = value;
            }
        }
        let whole =
            !parts.from.is_empty() && !parts.to.is_empty() && !parts.call_id.is_empty() && !parts.cseq.is_empty();
        (whole && !parts.vias.is_empty() && parts.vias.len() <= MAX_VIAS).then_some(parts)
    }
}

/// The top Via of a message, if it has one that can be read.
pub fn top_via(message: &[u8]) -> Option<Via<'_>> {
    let lines = Lines { rest: message, left: MAX_LINES };
    let value = lines.skip(1).find_map(|line| value_of(line, b"via", b"v"))?;
    let (range, _) = values::element_at(value, 0);
    Via::parse(&value[range]).ok()
}

/// A response with a report of overload in its top Via, in place of the offer that stands there (RFC 7339 §4): the part of what is
/// new that is to be held back, for how long, and the report's number. `None` if there was no offer.
pub fn with_report(response: &[u8], loss_percent: u8, validity_ms: u64, number: &str) -> Option<Bytes> {
    const OWN: [&[u8]; 4] = [b"oc", b"oc-algo", b"oc-validity", b"oc-seq"];
    let mut lines = Lines { rest: response, left: MAX_LINES };
    lines.next()?;
    let (start, value) = loop {
        let from = response.len() - lines.rest.len();
        let line = lines.next()?;
        if let Some(value) = value_of(line, b"via", b"v") {
            let colon = memchr::memchr(b':', line)? + 1;
            break (from + scan::skip_lws(line, colon.min(line.len())), value);
        }
    };
    let (range, _) = values::element_at(value, 0);
    let top = Via::parse(&value[range.clone()]).ok()?;
    top.param("oc").filter(|value| value.is_empty())?;
    let params = top.params.raw();
    let mut out = Vec::with_capacity(response.len() + 96);
    out.extend_from_slice(&response[..start + range.start]);
    out.extend_from_slice(&top.raw()[..top.raw().len() - params.len()]);
    let mut at = 0;
    for param in top.params.iter() {
        if OWN.iter().any(|own| param.name.eq_ignore_ascii_case(own)) {
            out.extend_from_slice(&params[at..param.start]);
            at = param.end;
        }
    }
    out.extend_from_slice(&params[at..]);
    out.extend_from_slice(b";oc=");
    crate::write::decimal(&mut out, u64::from(loss_percent));
    out.extend_from_slice(b";oc-algo=\"loss\";oc-validity=");
    crate::write::decimal(&mut out, validity_ms);
    out.extend_from_slice(b";oc-seq=");
    out.extend_from_slice(number.as_bytes());
    out.extend_from_slice(&response[start + range.end..]);
    Some(Bytes::from(out))
}

/// What follows [`REFUSED_TAG`] in the refusal of a request, in hexadecimal: from what its ACK has in common with it (RFC 3261 §17.1.1.3).
fn refused_as(parts: &Parts, top: &Via) -> u64 {
    scan::mix_hash(&[parts.call_id, top.branch().unwrap_or_default()])
}

/// The refusal of a request that came on `flow`, and where it goes: status, reason and further header lines, each with its line
/// end, which the caller vouches for. `None` if the request is not whole enough to be answered, or is an ACK.
pub fn refusal(request: &[u8], flow: Flow, status: u16, reason: &str, more: &[u8]) -> Option<(Flow, Bytes)> {
    if request.starts_with(b"ACK ") || request.starts_with(b"SIP/") {
        return None;
    }
    let parts = Parts::of(request)?;
    let (range, _) = values::element_at(parts.vias[0], 0);
    let top = Via::parse(&parts.vias[0][range.clone()]).ok()?;
    let mut out = Vec::with_capacity(256 + request.len().min(1024) + more.len());
    crate::reply::write_status_line(&mut out, status, reason);
    out.extend_from_slice(b"Via: ");
    let (received, rport) = top.fix_for(flow.remote);
    via::write_fixed(&top, received, rport, &mut out);
    out.extend_from_slice(&parts.vias[0][range.end..]);
    for line in &parts.vias[1..] {
        out.extend_from_slice(b"\r\nVia: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\r\nFrom: ");
    out.extend_from_slice(parts.from);
    out.extend_from_slice(b"\r\nTo: ");
    out.extend_from_slice(parts.to);
    if tag(parts.to).is_empty() {
        out.extend_from_slice(b";tag=");
        out.extend_from_slice(REFUSED_TAG);
        crate::reply::write_hex(&mut out, refused_as(&parts, &top));
    }
    out.extend_from_slice(b"\r\nCall-ID: ");
    out.extend_from_slice(parts.call_id);
    out.extend_from_slice(b"\r\nCSeq: ");
    out.extend_from_slice(parts.cseq);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(more);
    crate::reply::finish(&mut out, b"");
    Some((crate::transaction::way_back(flow, &top), Bytes::from(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:bob@b.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKx;rport\r\n\
        v: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKy\r\nMax-Forwards: 70\r\nf: <sip:a@b.test>;tag=1\r\nTo: \"x;tag=no\" <sip:bob@b.test;tag=no>\r\n\
        Call-ID: c1\r\nCSeq: 7 INVITE\r\nContent-Length: 3\r\n\r\nTo:";

    fn flow() -> Flow {
        Flow::udp(1, "192.0.2.1:5061".parse().expect("valid"))
    }

    #[test]
    fn a_request_is_known_by_method_tag_and_credentials() {
        let seen = Glance::of(INVITE);
        assert_eq!(
            (seen.method, seen.uri, seen.to_tag, seen.credentials),
            (&b"INVITE"[..], &b"sip:bob@b.test"[..], &b""[..], None)
        );
        let bye = b"BYE sip:x SIP/2.0\r\nt: <sip:bob@b.test>\r\n ;x=1\r\n\t; TAG = ab \r\nProxy-authorization : Digest u\r\n\r\n";
        let seen = Glance::of(bye);
        assert_eq!((seen.to_tag, seen.credentials), (&b"ab"[..], Some(&b"Digest u"[..])));
        assert_eq!(username(b"Digest nc=1, username=\"bob\", x=\"\""), Some(&b"bob"[..]));
        assert_eq!((username(b"Digest username=\"bob"), username(b"")), (None, None));
        let register = b"REGISTER sip:b.test SIP/2.0\nAccept: x\nAllow: y\nAUTHORIZATION:Digest z\n\n";
        assert_eq!(Glance::of(register).credentials, Some(&b"Digest z"[..]));
        assert_eq!(Glance::of(b"SIP/2.0 200 OK\r\nTo: <sip:x>;tag=1\r\n\r\n"), Glance::default());
        for hostile in [
            &b""[..],
            b"\r\n\r\n",
            b"INVITE",
            b"INVITE x",
            b"INVITE x SIP/2.0\r\nTo",
            b"a b c\r\nTo:;tag",
            b"a b c\r\nt\r\n\r\n",
        ] {
            Glance::of(hostile);
            assert!(refusal(hostile, flow(), 500, "Busy", b"").is_none());
            assert!(top_via(hostile).is_none());
        }
    }

    #[test]
    fn the_body_and_the_address_are_not_looked_at() {
        let text =
            b"MESSAGE sip:x SIP/2.0\r\nTo: <sip:bob@b.test>\r\n\r\nTo: <sip:x>;tag=body\r\nAuthorization: Digest q\r\n";
        assert_eq!((Glance::of(text).to_tag, Glance::of(text).credentials), (&b""[..], None));
    }

    #[test]
    fn a_refusal_is_a_whole_answer_that_its_ack_is_known_by() {
        let (to, reply) = refusal(INVITE, flow(), 500, "Busy", b"Retry-After: 3\r\n").expect("whole");
        assert_eq!(to, flow());
        let parsed = crate::message::Message::parse(reply.clone()).expect("well formed");
        assert_eq!(parsed.status(), Some(500));
        let vias: Vec<_> = parsed.vias().map(|via| String::from_utf8_lossy(via.raw()).into_owned()).collect();
        assert_eq!(vias[0], "SIP/2.0/UDP 192.0.2.9:5070;branch=z9hG4bKx;rport=5061;received=192.0.2.1");
        assert_eq!(vias[1], "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKy");
        let invite = crate::message::Message::parse(Bytes::from_static(INVITE)).expect("well formed");
        assert_eq!((parsed.call_id(), parsed.cseq().0), (invite.call_id(), 7));
        let ack = crate::reply::Reply::ack_for(&invite, &parsed);
        assert!(Glance::of(&ack).acknowledges_refusal(&ack));
        assert!(refusal(&ack, flow(), 500, "Busy", b"").is_none(), "ACKs are never answered");
        let again = refusal(INVITE, flow(), 500, "Busy", b"Retry-After: 3\r\n").expect("whole");
        assert_eq!(again.1, reply, "a repetition gets the same tag");
    }

    #[test]
    fn the_ack_of_a_refusal_that_was_passed_on_is_not_taken_for_that_of_one_made_here() {
        let (_, reply) = refusal(INVITE, flow(), 500, "Busy", b"").expect("whole");
        let there = crate::message::Message::parse(reply).expect("well formed");
        // What the caller had sent: its ACK has the tag that was passed on, and the branch of its own request.
        let text = String::from_utf8_lossy(INVITE);
        for (of, with) in [("branch=z9hG4bKx", "branch=z9hG4bKcaller"), ("Call-ID: c1", "Call-ID: c2")] {
            let sent = crate::message::Message::parse(Bytes::from(text.replace(of, with))).expect("well formed");
            let ack = crate::reply::Reply::ack_for(&sent, &there);
            assert!(Glance::of(&ack).to_tag.starts_with(REFUSED_TAG));
            assert!(!Glance::of(&ack).acknowledges_refusal(&ack), "{of}");
        }
    }

    #[test]
    fn a_report_takes_the_place_of_the_offer_and_nothing_else_changes() {
        let text = "SIP/2.0 200 OK\r\nFrom: x\r\nVia:  SIP/2.0/TLS a.test;oc;branch=z9hG4bKq;oc-algo=\"loss,rate\";rport=1 , SIP/2.0/UDP b.test;oc\r\n\r\nbody";
        let told = with_report(text.as_bytes(), 20, 500, "17.25").expect("an offer");
        let wanted = text.replace(
            ";oc;branch=z9hG4bKq;oc-algo=\"loss,rate\";rport=1",
            ";branch=z9hG4bKq;rport=1;oc=20;oc-algo=\"loss\";oc-validity=500;oc-seq=17.25",
        );
        assert_eq!(String::from_utf8_lossy(&told), wanted);
        assert!(with_report(&told, 20, 500, "18").is_none(), "once");
        assert!(with_report(text.replace(";oc", ";x").as_bytes(), 20, 500, "18").is_none());
        assert!(with_report(b"SIP/2.0 200 OK\r\n\r\n", 20, 500, "18").is_none());
    }

    #[test]
    fn an_answer_without_rport_goes_to_the_port_of_the_via() {
        let request = String::from_utf8_lossy(INVITE).replace(";rport", "");
        let (to, _) = refusal(request.as_bytes(), flow(), 500, "Busy", b"").expect("whole");
        assert_eq!(to.remote.to_string(), "192.0.2.1:5070");
    }
}
