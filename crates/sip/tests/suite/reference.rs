//! A second reader of SIP streams and messages: small, slow, written from the grammar of RFC 3261 §25.1 and sharing no line
//! with the crate, which is compared with it. Knows where messages end, whether one is good, and what its fields say.
//!
//! Where the crate is deliberately wider or narrower than the grammar, the rule here says so with the word *house*: those
//! are decisions, and a difference that is none of them is a fault of one of the two.

use std::net::Ipv6Addr;

/// What was cut out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole message.
    Message(Vec<u8>),
    /// A CRLF between messages.
    LineEnd,
}

/// A stream, read as far as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// In order.
    pub pieces: Vec<Piece>,
    /// Nothing behind the last piece can be read.
    pub broken: bool,
    /// Bytes of an unfinished message.
    pub rest: usize,
}

/// A good message, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method of the request line, or the status.
    pub start: Start,
    /// Names as they stand, values without white space at their ends.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// As long as Content-Length says.
    pub body: Vec<u8>,
    /// Number and method.
    pub cseq: (u32, Vec<u8>),
    /// Tags of From and To.
    pub tags: [Option<Vec<u8>>; 2],
    /// Branch of each Via value that has one.
    pub branches: Vec<Vec<u8>>,
    /// URIs of Route and of Contact, of requests only.
    pub uris: [Vec<Vec<u8>>; 2],
}

/// The start line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Method and Request-URI.
    Request(Vec<u8>, Vec<u8>),
    /// Status and reason.
    Response(u16, Vec<u8>),
}

const HEAD_LIMIT: usize = 16 * 1024;
const LINES: usize = 256;
const LONGEST_TOKEN: usize = 1024;
const LONGEST_METHOD: usize = 128;
/// House: repeated, these are refused; they have one value by their grammar, and two readers may take different ones.
const ONCE: [&str; 17] = [
    "from",
    "to",
    "call-id",
    "cseq",
    "max-forwards",
    "content-length",
    "expires",
    "content-type",
    "event",
    "subscription-state",
    "sip-if-match",
    "refer-to",
    "replaces",
    "join",
    "rseq",
    "rack",
    "session-expires",
];
const COMPACT: [(&str, &str); 11] = [
    ("v", "via"),
    ("f", "from"),
    ("t", "to"),
    ("i", "call-id"),
    ("l", "content-length"),
    ("m", "contact"),
    ("c", "content-type"),
    ("o", "event"),
    ("r", "refer-to"),
    ("x", "session-expires"),
    ("k", "supported"),
];

/// Reads a stream whose messages may be `limit` bytes long.
pub fn cut(stream: &[u8], limit: usize) -> Stream {
    let mut out = Stream { pieces: Vec::new(), broken: false, rest: 0 };
    let mut at = 0;
    while at < stream.len() {
        let rest = &stream[at..];
        if rest.starts_with(b"\r\n") {
            out.pieces.push(Piece::LineEnd);
            at += 2;
            continue;
        }
        if rest == b"\r" {
            break;
        }
        if rest[0] == b'\r' || rest[0] == b'\n' {
            out.broken = true;
            return out;
        }
        let most = HEAD_LIMIT.min(limit);
        let Some(head) = head_length(rest, most) else {
            out.broken = rest.len() >= most;
            break;
        };
        let length = match lines(&rest[..head]).and_then(|lines| stated_length(&lines)) {
            Some(length) if head + length <= limit => length,
            _ => {
                out.broken = true;
                return out;
            }
        };
        if rest.len() < head + length {
            break;
        }
        out.pieces.push(Piece::Message(rest[..head + length].to_vec()));
        at += head + length;
    }
    if !out.broken {
        out.rest = stream.len() - at;
    }
    out
}

fn head_length(bytes: &[u8], most: usize) -> Option<usize> {
    (0..bytes.len().min(most)).find(|&i| i + 4 <= most && bytes[i..].starts_with(b"\r\n\r\n")).map(|i| i + 4)
}

/// The logical lines of a head that ends with an empty line, that line left out; `None` if a line end or NUL is astray.
fn lines(head: &[u8]) -> Option<Vec<Vec<u8>>> {
    for (i, &b) in head.iter().enumerate() {
        let good = match b {
            b'\r' => head.get(i + 1) == Some(&b'\n'),
            b'\n' => i > 0 && head[i - 1] == b'\r',
            // A quoted pair may hold it.
            0 => i > 0 && head[i - 1] == b'\\',
            _ => true,
        };
        if !good {
            return None;
        }
    }
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut rest = head;
    while !rest.is_empty() && rest != b"\r\n" {
        let end = (0..rest.len()).find(|&i| rest[i..].starts_with(b"\r\n"))?;
        let line = &rest[..end];
        let folded = lines.len() > 1 && matches!(line.first(), Some(b' ' | b'\t'));
        match lines.last_mut() {
            Some(last) if folded => {
                last.extend_from_slice(b"\r\n");
                last.extend_from_slice(line);
            }
            _ => lines.push(line.to_vec()),
        }
        rest = &rest[end + 2..];
    }
    Some(lines)
}

fn stated_length(lines: &[Vec<u8>]) -> Option<usize> {
    let mut found = lines.iter().skip(1).filter_map(|line| header(line)).filter(|(name, _)| is(name, "content-length"));
    let (_, value) = found.next()?;
    if found.next().is_some() {
        return None;
    }
    number(&value).and_then(|n| usize::try_from(n).ok())
}

fn number(text: &[u8]) -> Option<u32> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if all_digits { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

fn is_token_char(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_char(b))
}

fn blank(b: u8) -> bool {
    b" \t\r\n".contains(&b)
}

fn trim(mut text: &[u8]) -> &[u8] {
    while text.first().is_some_and(|&b| blank(b)) {
        text = &text[1..];
    }
    while text.last().is_some_and(|&b| blank(b)) {
        text = &text[..text.len() - 1];
    }
    text
}

/// `header-name *( SP / HTAB ) ":" value`.
fn header(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let colon = line.iter().position(|&b| b == b':')?;
    let mut name = &line[..colon];
    while name.last().is_some_and(|b| b" \t".contains(b)) {
        name = &name[..name.len() - 1];
    }
    is_token(name).then(|| (name.to_vec(), trim(&line[colon + 1..]).to_vec()))
}

fn long_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    COMPACT.iter().find(|(short, _)| *short == name).map_or(name.clone(), |(_, long)| (*long).to_owned())
}

fn is(name: &[u8], long: &str) -> bool {
    long_name(name) == long
}

/// Reads one whole message: a datagram, or a piece of a stream.
pub fn read(message: &[u8]) -> Option<Seen> {
    let mut message = message;
    while message.starts_with(b"\r\n") {
        message = &message[2..];
    }
    let head = head_length(message, message.len())?;
    // House: the header section, its last empty line not counted, is at most 16 KiB.
    if head - 2 > HEAD_LIMIT {
        return None;
    }
    let lines = lines(&message[..head])?;
    let headers = lines.iter().skip(1).map(|line| header(line)).collect::<Option<Vec<_>>>()?;
    if headers.len() > LINES {
        return None;
    }
    for name in ONCE {
        if headers.iter().filter(|(n, _)| is(n, name)).count() > 1 {
            return None;
        }
    }
    let start = start_line(lines.first()?)?;
    let one = |name: &str| headers.iter().find(|(n, _)| is(n, name)).map(|(_, value)| value.as_slice());
    let cseq = cseq(one("cseq")?)?;
    match &start {
        Start::Request(method, _) if *method != cseq.1 => return None,
        _ => {}
    }
    let call_id = one("call-id")?;
    // House: any visible characters, not only words with one "@".
    let visible = call_id.iter().all(|&b| b > b' ' && b != 0x7f);
    if call_id.is_empty() || call_id.len() > LONGEST_TOKEN || !visible {
        return None;
    }
    // House: 0 to 255, not more.
    if one("max-forwards").is_some_and(|hops| number(hops).is_none_or(|n| n > 255)) {
        return None;
    }
    let tags = [tag(one("from")?)?, tag(one("to")?)?];
    let branches = branches(&headers)?;
    let uris = if matches!(start, Start::Request(..)) { checked_uris(&headers)? } else { [Vec::new(), Vec::new()] };
    let there = &message[head..];
    let length = match one("content-length") {
        Some(value) => usize::try_from(number(value)?).ok()?,
        None => there.len(),
    };
    let body = there.get(..length)?.to_vec();
    Some(Seen { start, headers, body, cseq, tags, branches, uris })
}

fn start_line(line: &[u8]) -> Option<Start> {
    let text: Vec<&[u8]> = line.splitn(3, |&b| b == b' ').collect();
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        if !text[0].eq_ignore_ascii_case(b"SIP/2.0") || text.len() < 2 || text[1].len() != 3 {
            return None;
        }
        let status = u16::try_from(number(text[1])?).ok().filter(|s| (100..700).contains(s))?;
        // House: the space before an empty reason may be missing.
        return Some(Start::Response(status, text.get(2).unwrap_or(&&b""[..]).to_vec()));
    }
    let [method, uri, version] = text[..] else {
        return None;
    };
    let good = is_token(method) && method.len() <= LONGEST_METHOD && version.eq_ignore_ascii_case(b"SIP/2.0");
    (good && uri_is_good(uri)).then(|| Start::Request(method.to_vec(), uri.to_vec()))
}

fn cseq(value: &[u8]) -> Option<(u32, Vec<u8>)> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let method = trim(&value[digits..]);
    let apart = value.get(digits).is_some_and(|&b| blank(b));
    let good = apart && is_token(method) && method.len() <= LONGEST_METHOD;
    good.then(|| Some((number(&value[..digits])?, method.to_vec())))?
}

/// `scheme ":" something` without a character that no URI has. House: bytes above 0x7f pass, escapes need not be right
/// outside the user part.
fn any_uri(uri: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = uri.iter().position(|&b| b == b':')?;
    let (scheme, rest) = (&uri[..colon], &uri[colon + 1..]);
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    let good = scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(fits) && !rest.is_empty();
    let clean = uri.iter().all(|&b| b > b' ' && b != 0x7f && !b"\"<>".contains(&b));
    (good && clean).then_some((scheme, rest))
}

/// A Request-URI: sip and sips by their grammar, any other scheme as it comes.
pub fn uri_is_good(uri: &[u8]) -> bool {
    let Some((scheme, rest)) = any_uri(uri) else {
        return false;
    };
    let named = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    let parameters_good = |list: &[u8]| list.split(|&b| b == b';').skip(1).all(|p| !p.is_empty() && p[0] != b'=');
    if named("tel") {
        return parameters_good(rest);
    }
    if !named("sip") && !named("sips") {
        return true;
    }
    let parts: Vec<&[u8]> = rest.split(|&b| b == b'@').collect();
    let after = match parts[..] {
        [host] => host,
        [user, host] if !user.is_empty() && user[0] != b':' && escapes_good(user) => host,
        _ => return false,
    };
    let (front, _headers) = split_once(after, b'?');
    let (address, parameters) = match front.first() {
        Some(b'[') => match front.iter().position(|&b| b == b']') {
            Some(close) => {
                let end = close + front[close..].iter().position(|&b| b == b';').unwrap_or(front.len() - close);
                (&front[..end], &front[end..])
            }
            None => return false,
        },
        _ => {
            let end = front.iter().position(|&b| b == b';').unwrap_or(front.len());
            (&front[..end], &front[end..])
        }
    };
    host_port_is_good(address) && parameters_good(parameters)
}

fn escapes_good(text: &[u8]) -> bool {
    let at = (0..text.len()).filter(|&i| text[i] == b'%');
    at.into_iter().all(|i| text.len() > i + 2 && text[i + 1..i + 3].iter().all(u8::is_ascii_hexdigit))
}

fn split_once(text: &[u8], mark: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&b| b == mark) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// `host [ ":" port ]`. House: a name may have underscores and be any string of letters, digits, dots and dashes.
fn host_port_is_good(text: &[u8]) -> bool {
    let (host, port) = match text.iter().position(|&b| b == b']') {
        Some(close) if text.first() == Some(&b'[') => (&text[..=close], &text[close + 1..]),
        _ => {
            let end = text.iter().position(|&b| b == b':').unwrap_or(text.len());
            (&text[..end], &text[end..])
        }
    };
    let port_good = port.is_empty() || (port[0] == b':' && number(&port[1..]).is_some_and(|p| (1..65536).contains(&p)));
    host_is_good(host) && port_good
}

fn host_is_good(host: &[u8]) -> bool {
    if host.first() == Some(&b'[') {
        let inner = host[1..].strip_suffix(b"]").and_then(|inner| std::str::from_utf8(inner).ok());
        return inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok() || is_of_old_grammar(inner));
    }
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
    (1..=255).contains(&host.len()) && host.iter().all(fits)
}

/// RFC 5118 §4.10: between `::` and an IPv4 address there may be a third colon.
fn is_of_old_grammar(inner: &str) -> bool {
    let Some(at) = inner.find(":::") else {
        return false;
    };
    let v4 = &inner[at + 3..];
    // Leading zeros are house.
    let octets: Vec<Option<u32>> =
        v4.split('.').map(|o| if o.len() > 3 { None } else { number(o.as_bytes()) }).collect();
    let v4_good = octets.len() == 4 && octets.iter().all(|o| o.is_some_and(|o| o < 256));
    v4_good && inner.replacen(":::", "::", 1).parse::<Ipv6Addr>().is_ok()
}

/// The elements of a comma-separated value: commas in quotes and in angle brackets do not count.
pub fn elements(value: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut current) = (Vec::new(), Vec::new());
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for &b in value {
        if quoted {
            current.push(b);
            quoted = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            continue;
        }
        match b {
            b',' if !angle => {
                out.push(trim(&current).to_vec());
                current.clear();
                continue;
            }
            b'"' if !angle => quoted = true,
            b'<' => angle = true,
            b'>' => angle = false,
            _ => {}
        }
        current.push(b);
    }
    out.push(trim(&current).to_vec());
    out
}

/// The end of the quoted string at the beginning of `text`.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

type Parameter = (Vec<u8>, Option<Vec<u8>>);

/// `*( SEMI generic-param )`. House: a value outside quotes may hold any visible character but `"<>;,`, or nothing.
fn parameters(text: &[u8]) -> Option<Vec<Parameter>> {
    let mut out = Vec::new();
    let mut rest = trim(text);
    while !rest.is_empty() {
        rest = trim(rest.strip_prefix(b";")?);
        let name = rest.iter().take_while(|&&b| is_token_char(b)).count();
        if name == 0 {
            return None;
        }
        let (name, after) = rest.split_at(name);
        let Some(value) = trim(after).strip_prefix(b"=") else {
            out.push((name.to_vec(), None));
            rest = trim(after);
            continue;
        };
        let value = trim(value);
        let length = match value.first() {
            Some(b'"') => quoted(value)?,
            _ => value.iter().take_while(|&&b| b > b' ' && b != 0x7f && !b"\"<>;,".contains(&b)).count(),
        };
        out.push((name.to_vec(), Some(value[..length].to_vec())));
        rest = &value[length..];
        let unquoted = value.first() != Some(&b'"');
        if unquoted && rest.first().is_some_and(|&b| b != b';' && !blank(b)) {
            return None;
        }
        rest = trim(rest);
    }
    Some(out)
}

/// URI and parameters of `name-addr / addr-spec` with parameters. House: an unquoted display name may hold anything but
/// quotes, angle brackets and semicolons.
pub fn address(text: &[u8]) -> Option<(Vec<u8>, Vec<Parameter>)> {
    let text = trim(text);
    let after_name = match text.first()? {
        b'"' => {
            let end = quoted(text)?;
            let rest = trim(&text[end..]);
            if rest.first() != Some(&b'<') {
                return None;
            }
            rest
        }
        _ => {
            let stop = text.iter().position(|b| b"<;\"".contains(b)).unwrap_or(text.len());
            if text.get(stop) != Some(&b'<') {
                let uri = trim(&text[..stop]);
                // RFC 3261 §20: with a comma, semicolon or question mark the brackets are needed.
                let plain = any_uri(uri).is_some() && !uri.iter().any(|b| b",?".contains(b));
                return if plain { Some((uri.to_vec(), parameters(&text[stop..])?)) } else { None };
            }
            &text[stop..]
        }
    };
    let close = after_name.iter().position(|&b| b == b'>')?;
    let uri = &after_name[1..close];
    any_uri(uri)?;
    Some((uri.to_vec(), parameters(&after_name[close + 1..])?))
}

/// The tag of From or To: at most one, not empty, not too long.
fn tag(value: &[u8]) -> Option<Option<Vec<u8>>> {
    let (_, parameters) = address(value)?;
    let mut tags = parameters.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"tag"));
    let Some((_, tag)) = tags.next() else {
        return Some(None);
    };
    let tag = unquoted(&tag?).to_vec();
    let good = tags.next().is_none() && (1..=LONGEST_TOKEN).contains(&tag.len());
    good.then_some(Some(tag))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

fn branches(headers: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<Vec<u8>>> {
    let vias: Vec<_> = headers.iter().filter(|(name, _)| is(name, "via")).flat_map(|(_, v)| elements(v)).collect();
    if vias.is_empty() {
        return None;
    }
    let mut branches = Vec::new();
    for via in vias {
        let found = via_parameters(&via)?.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(b"branch"));
        if let Some((_, Some(branch))) = found {
            let branch = unquoted(&branch).to_vec();
            if branch.len() > LONGEST_TOKEN {
                return None;
            }
            if !branch.is_empty() {
                branches.push(branch);
            }
        }
    }
    Some(branches)
}

/// `sent-protocol LWS sent-by *( SEMI via-params )`, for SIP/2.0 only.
pub fn via_parameters(via: &[u8]) -> Option<Vec<Parameter>> {
    let mut rest = trim(via);
    for (part, last) in [("SIP", false), ("2.0", false), ("", true)] {
        let length = rest.iter().take_while(|&&b| is_token_char(b)).count();
        let word = &rest[..length];
        if word.is_empty() || !(part.is_empty() || word.eq_ignore_ascii_case(part.as_bytes())) {
            return None;
        }
        let after = &rest[length..];
        if last {
            if !after.first().is_some_and(|&b| blank(b)) {
                return None;
            }
            rest = trim(after);
        } else {
            rest = trim(trim(after).strip_prefix(b"/")?);
        }
    }
    let host = match rest.first()? {
        b'[' => rest.iter().position(|&b| b == b']')? + 1,
        _ => rest.iter().take_while(|&&b| b.is_ascii_alphanumeric() || b"-._".contains(&b)).count(),
    };
    if !host_is_good(&rest[..host]) {
        return None;
    }
    let mut rest = trim(&rest[host..]);
    if let Some(port) = rest.strip_prefix(b":") {
        let port = trim(port);
        let digits = port.iter().take_while(|b| b.is_ascii_digit()).count();
        number(&port[..digits]).filter(|p| (1..65536).contains(p))?;
        rest = &port[digits..];
    }
    parameters(rest)
}

/// The URIs of Route and Contact; in requests every value of Contact, Route, Record-Route and Path is an address.
fn checked_uris(headers: &[(Vec<u8>, Vec<u8>)]) -> Option<[Vec<Vec<u8>>; 2]> {
    let mut out = [Vec::new(), Vec::new()];
    for (name, value) in headers {
        let name = long_name(name);
        if !["contact", "route", "record-route", "path"].contains(&name.as_str()) {
            continue;
        }
        if name == "contact" && value == b"*" {
            continue;
        }
        for element in elements(value) {
            let (uri, _) = address(&element)?;
            match name.as_str() {
                "route" => out[0].push(uri),
                "contact" => out[1].push(uri),
                _ => {}
            }
        }
    }
    Some(out)
}
