//! Reading SIP messages: the start line, header lines, and the mark in our own branches.
//!
//! Owns the scan. It is lenient: what a server under test sends wrong shows as a failed operation, not here.

/// Our branches begin with this; then the slot, its generation and the run, in hexadecimal with points between them.
pub const BRANCH: &[u8] = b"z9hG4bKpl";

/// Status of a response, `None` for a request or anything else.
pub fn status(message: &[u8]) -> Option<u16> {
    let digits = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The words beside the status of a response.
pub fn reason(message: &[u8]) -> String {
    let line = message.split(|b| *b == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line.get(12..).unwrap_or_default()).trim().to_owned()
}

/// Method and Request-URI of a request.
pub fn request_line(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = message.split(|b| *b == b'\r').next()?;
    let mut parts = line.split(|b| *b == b' ');
    let (method, uri, version) = (parts.next()?, parts.next()?, parts.next()?);
    (version == b"SIP/2.0" && !method.is_empty()).then_some((method, uri))
}

/// Slot, generation and run in the first branch of ours.
pub fn branch(message: &[u8]) -> Option<(u32, u32, u64)> {
    let at = find(message, BRANCH)? + BRANCH.len();
    let rest = &message[at..message.len().min(at + 36)];
    let (slot, rest) = hex(rest)?;
    let (generation, rest) = hex(rest.strip_prefix(b".")?)?;
    let (run, _) = hex(rest.strip_prefix(b".")?)?;
    Some((slot.try_into().ok()?, generation.try_into().ok()?, run))
}

/// Seconds that a 200 to REGISTER grants to its first contact.
pub fn granted(message: &[u8]) -> Option<u64> {
    let contact = header(message, "contact", "m")?;
    let at = find(contact, b";expires=")? + b";expires=".len();
    number(&contact[at..])
}

/// The number with which a value begins.
pub fn number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

/// Values of the header lines with this name or compact form, in order, trimmed.
pub fn headers<'a>(message: &'a [u8], name: &'static str, compact: &'static str) -> impl Iterator<Item = &'a [u8]> {
    lines(message).filter_map(move |line| {
        let colon = line.iter().position(|b| *b == b':')?;
        let found = line[..colon].trim_ascii();
        let same = found.eq_ignore_ascii_case(name.as_bytes())
            || (!compact.is_empty() && found.eq_ignore_ascii_case(compact.as_bytes()));
        same.then(|| line[colon + 1..].trim_ascii())
    })
}

/// The first of them.
pub fn header<'a>(message: &'a [u8], name: &'static str, compact: &'static str) -> Option<&'a [u8]> {
    headers(message, name, compact).next()
}

/// The header lines, without the start line and the body.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    message
        .split(|b| *b == b'\n')
        .skip(1)
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

/// Length of the first whole message in a stream's bytes; `None` if more is needed. Leading line breaks are `skip`ped by the
/// caller (see [`leading_breaks`]).
pub fn framed(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let length = header(&bytes[..head], "content-length", "l")?;
    let body: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    (bytes.len() >= head + body).then_some(head + body)
}

/// Keep-alive line breaks before a message.
pub fn leading_breaks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| **b == b'\r' || **b == b'\n').count()
}

/// The URI in a name-addr or addr-spec.
pub fn uri(value: &[u8]) -> &[u8] {
    if let Some(open) = value.iter().position(|b| *b == b'<') {
        let rest = &value[open + 1..];
        return &rest[..rest.iter().position(|b| *b == b'>').unwrap_or(rest.len())];
    }
    &value[..value.iter().position(|b| *b == b';').unwrap_or(value.len())]
}

/// Host and port of a SIP URI whose host is an address.
pub fn address(uri: &[u8]) -> Option<std::net::SocketAddr> {
    let text = std::str::from_utf8(uri).ok()?;
    let rest = text.strip_prefix("sip:")?;
    let rest = rest.split([';', '?']).next()?;
    let host = rest.rsplit('@').next()?;
    host.parse().ok().or_else(|| Some(std::net::SocketAddr::new(host.parse().ok()?, 5060)))
}

/// Position of `needle` in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|b| *b == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn hex(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    Some((u64::from_str_radix(text, 16).ok()?, &bytes[length..]))
}
