//! Bytes to [`Message`]: the split into lines, the start line, the checks of mandatory headers,
//! and the reply to what cannot be parsed. Strict where two readers could disagree.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::error::{ParseError, ParseErrorKind as Kind};
use crate::header::Name;
use crate::lines::{Line, Lines};
use crate::message::{MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, MAX_TOKEN, Message, Start};
use crate::method::Method;
use crate::name_addr::NameAddr;
use crate::scan;
use crate::uri::Uri;
use crate::values;
use crate::via::{self, Via};

/// Reads one whole message.
pub(crate) fn message(buf: Bytes) -> Result<Message, ParseError> {
    match parse(&buf) {
        Ok((mut message, range)) => {
            message.buf = buf.slice(range);
            Ok(message)
        }
        Err(kind) => Err(ParseError { kind, message: buf }),
    }
}

fn parse(whole: &[u8]) -> Result<(Message, std::ops::Range<usize>), Kind> {
    if whole.len() > MAX_MESSAGE_BYTES {
        return Err(Kind::MessageTooLong);
    }
    // Empty lines before the start line are to be ignored (RFC 3261 §7.5).
    let lead = leading_line_ends(whole);
    let buf = &whole[lead..];
    if buf.is_empty() {
        return Err(Kind::Empty);
    }
    let line_end = logical_line(buf, 0)?;
    let (start, method) = start_line(&buf[..line_end - 2])?;
    let mut table = Lines::new();
    let mut seen = 0u128;
    let body_at = split_headers(buf, line_end, &mut table, &mut seen)?;
    let mut message = Message {
        buf: Bytes::new(),
        lines: table,
        seen,
        start,
        method: method.unwrap_or(Method::Ack),
        cseq: 0,
        body_at: u32::try_from(body_at).map_err(|_| Kind::MessageTooLong)?,
        source: None,
    };
    check(buf, &mut message)?;
    let body_len = content_length(buf, &message, body_at)?;
    Ok((message, lead..lead + body_at + body_len))
}

fn leading_line_ends(buf: &[u8]) -> usize {
    let mut at = 0;
    while buf[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}

/// The position after the CRLF that ends the line at `at`, continuations not included.
pub(crate) fn logical_line(buf: &[u8], at: usize) -> Result<usize, Kind> {
    let mut from = at;
    loop {
        let stop = from + memchr::memchr3(b'\r', b'\n', 0, &buf[from..]).ok_or(Kind::Unterminated)?;
        match buf[stop] {
            b'\r' if buf.get(stop + 1) == Some(&b'\n') => return Ok(stop + 2),
            b'\r' if stop + 1 == buf.len() => return Err(Kind::Unterminated),
            // RFC 3261 §25.1 lets a quoted pair hold NUL.
            0 if stop > at && buf[stop - 1] == b'\\' => from = stop + 1,
            _ => return Err(Kind::ControlByte),
        }
    }
}

/// Splits the header section that begins at `at`; gives the position of the body.
fn split_headers(buf: &[u8], mut at: usize, table: &mut Lines, seen: &mut u128) -> Result<usize, Kind> {
    loop {
        if buf[at..].starts_with(b"\r\n") {
            return Ok(at + 2);
        }
        let mut end = logical_line(buf, at)?;
        while matches!(buf.get(end), Some(b' ' | b'\t')) {
            end = logical_line(buf, end)?;
        }
        if end > MAX_HEADER_BYTES {
            return Err(Kind::HeaderTooLong);
        }
        let line = header_line(buf, at, end)?;
        let bit = line.name.bit();
        if *seen & bit != 0 && line.name.is_single() {
            return Err(Kind::Duplicate(line.name));
        }
        *seen |= bit;
        if !table.push(line) {
            return Err(Kind::TooManyHeaders);
        }
        at = end;
    }
}

/// Reads the header line in `start..end`, its CRLF included.
pub(crate) fn header_line(buf: &[u8], start: usize, end: usize) -> Result<Line, Kind> {
    let text_end = end - 2;
    let name_end = scan::skip_token(&buf[..text_end], start);
    let mut colon = name_end;
    while matches!(buf[colon], b' ' | b'\t') {
        colon += 1;
    }
    if name_end == start || buf[colon] != b':' {
        return Err(Kind::HeaderName);
    }
    let value_at = scan::skip_lws(&buf[..text_end], colon + 1);
    let value_end = value_at + scan::trim_end(&buf[value_at..text_end]).len();
    let name = Name::from_bytes(&buf[start..name_end]);
    Line::new(name, start, name_end, value_at..value_end, end).ok_or(Kind::HeaderTooLong)
}

/// Reads the start line without its CRLF; the method only of a request.
fn start_line(line: &[u8]) -> Result<(Start, Option<Method>), Kind> {
    if line.len() > MAX_HEADER_BYTES {
        return Err(Kind::HeaderTooLong);
    }
    if line.len() >= 8 && line[..4].eq_ignore_ascii_case(b"SIP/") && line[7] == b' ' {
        return status_line(line).map(|start| (start, None));
    }
    let first = memchr::memchr(b' ', line).ok_or(Kind::StartLine)?;
    let last = memchr::memrchr(b' ', line).ok_or(Kind::StartLine)?;
    if first == last {
        return Err(Kind::StartLine);
    }
    let method = Method::from_bytes(&line[..first]).ok_or(Kind::StartLine)?;
    let uri = &line[first + 1..last];
    let version = &line[last + 1..];
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        let looks = version.len() > 4 && version[..4].eq_ignore_ascii_case(b"SIP/");
        return Err(if looks { Kind::Version } else { Kind::StartLine });
    }
    Uri::parse(uri).map_err(|_| Kind::RequestUri)?;
    let span = |at: usize| u32::try_from(at).map_err(|_| Kind::HeaderTooLong);
    let start = Start::Request { uri_at: span(first + 1)?, uri_end: span(last)? };
    Ok((start, Some(method)))
}

fn status_line(line: &[u8]) -> Result<Start, Kind> {
    if !line[..7].eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(Kind::Version);
    }
    let code = line.get(8..11).ok_or(Kind::Status)?;
    let status = scan::parse_u16(code).ok_or(Kind::Status)?;
    if !(100..700).contains(&status) {
        return Err(Kind::Status);
    }
    let reason_at = match line.get(11) {
        None => 11,
        Some(b' ') => 12,
        Some(_) => return Err(Kind::Status),
    };
    Ok(Start::Response { status, reason_at, reason_end: u32::try_from(line.len()).map_err(|_| Kind::HeaderTooLong)? })
}

/// Checks the mandatory headers, and in requests all that routing relies on.
fn check(buf: &[u8], message: &mut Message) -> Result<(), Kind> {
    const MANDATORY: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
    for name in MANDATORY {
        if message.seen & name.bit() == 0 {
            return Err(Kind::Missing(name));
        }
    }
    let request = matches!(message.start, Start::Request { .. });
    let mut cseq = None;
    for line in message.lines.as_slice() {
        let value = &buf[line.value_range()];
        let good = match line.name {
            Name::Via => values::elements(value).all(via_ok),
            Name::From | Name::To => tagged_ok(value),
            Name::CallId => call_id_ok(value),
            Name::CSeq => {
                cseq = parse_cseq(value);
                cseq.is_some()
            }
            Name::MaxForwards => scan::parse_u16(value).is_some_and(|hops| hops <= 255),
            Name::Route | Name::RecordRoute | Name::Path if request => {
                values::elements(value).all(|addr| NameAddr::parse(addr).is_ok())
            }
            Name::Contact if request => {
                value == b"*" || values::elements(value).all(|addr| NameAddr::parse(addr).is_ok())
            }
            _ => true,
        };
        if !good {
            return Err(Kind::Malformed(line.name));
        }
    }
    let (number, method) = cseq.ok_or(Kind::Missing(Name::CSeq))?;
    if !request {
        message.method = Method::from_bytes(method).ok_or(Kind::Malformed(Name::CSeq))?;
    } else if method != message.method.as_str().as_bytes() {
        return Err(Kind::MethodMismatch);
    }
    message.cseq = number;
    Ok(())
}

fn via_ok(element: &[u8]) -> bool {
    Via::parse(element).is_ok_and(|via| via.branch().is_none_or(|b| b.len() <= MAX_TOKEN))
}

/// From or To: well-formed, with one tag at most, which is neither empty nor too long.
fn tagged_ok(value: &[u8]) -> bool {
    let (mut tags, mut fits) = (0, true);
    let addr = NameAddr::parse_with(value, |param| {
        if param.name.eq_ignore_ascii_case(b"tag") {
            tags += 1;
            fits &= (1..=MAX_TOKEN).contains(&param.value().len());
        }
    });
    addr.is_ok() && tags <= 1 && fits
}

fn call_id_ok(value: &[u8]) -> bool {
    (1..=MAX_TOKEN).contains(&value.len()) && value.iter().all(|&b| b > b' ' && b != 0x7f)
}

/// `1*DIGIT LWS Method`.
fn parse_cseq(value: &[u8]) -> Option<(u32, &[u8])> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = scan::parse_u32(&value[..digits])?;
    let method_at = scan::skip_lws(value, digits);
    let method = &value[method_at..];
    (method_at > digits && scan::is_token(method)).then_some((number, method))
}

/// The length of the body: Content-Length if given, else all that is there (datagrams).
fn content_length(buf: &[u8], message: &Message, body_at: usize) -> Result<usize, Kind> {
    let there = buf.len() - body_at;
    let Some(line) = message.line(Name::ContentLength) else {
        return Ok(there);
    };
    let said = scan::parse_u32(&buf[line.value_range()])
        .and_then(|length| usize::try_from(length).ok())
        .ok_or(Kind::Malformed(Name::ContentLength))?;
    if said > there {
        return Err(Kind::Truncated);
    }
    Ok(said)
}

/// What a reply copies, searched for leniently in bytes that did not parse.
#[derive(Default)]
struct Salvage<'a> {
    vias: Vec<&'a [u8]>,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    call_id: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
}

/// The reply owed for a request that was refused with `kind`: as much of what a reply copies as is there, as it came. Without
/// a sender in the top Via, or without CSeq, there is none: no client could tell what it answers (RFC 3261 §17.1.3).
pub(crate) fn refusal(whole: &[u8], kind: Kind, remote: Option<SocketAddr>) -> Option<Bytes> {
    let buf = &whole[leading_line_ends(whole)..];
    let start_end = logical_line(buf, 0).ok()?;
    let method_end = scan::skip_token(buf, 0);
    let method = &buf[..method_end];
    if method == b"ACK" || buf.get(method_end) != Some(&b' ') || method.is_empty() {
        return None;
    }
    let found = salvage(buf, start_end);
    let top = Via::salvaged(values::elements(found.vias.first()?).next()?)?;
    let cseq = found.cseq.filter(|value| copied(value))?;
    let call_id = found.call_id.filter(|value| copied(value));

    let mut out = Vec::with_capacity(512);
    crate::reply::write_status_line(&mut out, kind.status(), &refusal_reason(kind));
    let mut top_fixed = Vec::with_capacity(top.raw().len() + 64);
    match remote.map(|remote| top.fix_for(remote)) {
        Some((received, rport)) => via::write_fixed(&top, received, rport, &mut top_fixed),
        None => top_fixed.extend_from_slice(top.raw()),
    }
    crate::write::header(&mut out, b"Via", &top_fixed);
    for (at, line) in found.vias.iter().enumerate() {
        let others = values::elements(line).skip(usize::from(at == 0));
        for element in others.filter(|element| Via::salvaged(element).is_some()) {
            crate::write::header(&mut out, b"Via", element);
        }
    }
    if let Some(from) = found.from {
        crate::write::header(&mut out, b"From", from);
    }
    if let Some(to) = found.to {
        out.extend_from_slice(b"To: ");
        crate::write::value(&mut out, to);
        if NameAddr::parse(to).is_ok_and(|addr| addr.tag().is_none()) {
            let tag = scan::mix_hash(&[call_id.unwrap_or_default(), top.branch().unwrap_or_default()]);
            out.extend_from_slice(format!(";tag={tag:016x}").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(call_id) = call_id {
        crate::write::header(&mut out, b"Call-ID", call_id);
    }
    crate::write::header(&mut out, b"CSeq", cseq);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    Some(Bytes::from(out))
}

/// Whether a Call-ID or CSeq that need not be well-formed is copied into a refusal.
fn copied(value: &[u8]) -> bool {
    (1..=MAX_TOKEN).contains(&value.len())
}

fn refusal_reason(kind: Kind) -> String {
    let phrase = crate::status::default_reason(kind.status());
    match kind {
        Kind::Version | Kind::MessageTooLong => phrase.to_owned(),
        _ => format!("{phrase} ({kind})"),
    }
}

fn salvage(buf: &[u8], mut at: usize) -> Salvage<'_> {
    let mut found = Salvage::default();
    let limit = buf.len().min(MAX_HEADER_BYTES);
    let mut lines = 0;
    while at < limit && lines < crate::lines::MAX_HEADERS && !buf[at..].starts_with(b"\r\n") {
        lines += 1;
        let Ok(mut end) = logical_line(buf, at) else {
            // The rest of a broken line up to the next LF tells nothing; look behind it.
            match memchr::memchr(b'\n', &buf[at..]) {
                Some(lf) => at += lf + 1,
                None => break,
            }
            continue;
        };
        while matches!(buf.get(end), Some(b' ' | b'\t')) {
            match logical_line(buf, end) {
                Ok(next) => end = next,
                Err(_) => return found,
            }
        }
        if let Ok(line) = header_line(buf, at, end) {
            let value = &buf[line.value_range()];
            let slot = match line.name {
                Name::Via => {
                    found.vias.push(value);
                    None
                }
                Name::From => Some(&mut found.from),
                Name::To => Some(&mut found.to),
                Name::CallId => Some(&mut found.call_id),
                Name::CSeq => Some(&mut found.cseq),
                _ => None,
            };
            if let Some(slot) = slot {
                slot.get_or_insert(value);
            }
        }
        at = end;
    }
    found
}
