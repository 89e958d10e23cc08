//! URIs: SIP and SIPS in parts, tel and others as a scheme and the rest; comparison and the
//! canonical address of record. Nothing is decoded until it has to be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::scan;

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel` (RFC 3966)
    Tel,
    /// Any other, as it stands.
    Other(&'a [u8]),
}

/// The host part of a URI or Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name, as it stands.
    Name(&'a [u8]),
    /// An address; IPv6 comes from a bracketed reference.
    Ip(IpAddr),
    /// The scheme has no host (tel and unknown schemes).
    None,
}

/// Why bytes are no usable URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme, or characters that a scheme cannot have.
    #[error("no valid URI scheme")]
    Scheme,
    /// White space, control characters, quotes or angle brackets.
    #[error("a character that no URI may contain")]
    Character,
    /// The user or password is empty where it must not be, or has a bad escape or a second `@`.
    #[error("malformed user part")]
    User,
    /// The host is missing or is neither name, IPv4 address nor IPv6 reference.
    #[error("malformed host")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("malformed port")]
    Port,
    /// A parameter without a name.
    #[error("malformed URI parameter")]
    Parameter,
}

/// A URI in parts; all slices are as they stand, escapes kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    raw: &'a [u8],
    /// The scheme.
    pub scheme: Scheme<'a>,
    /// The user of sip and sips; the number of tel.
    pub user: Option<&'a [u8]>,
    /// The password, which RFC 3261 advises against.
    pub password: Option<&'a [u8]>,
    /// The host.
    pub host: Host<'a>,
    /// The port, if given.
    pub port: Option<u16>,
    params: &'a [u8],
    /// The headers after `?`, without it.
    pub headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI. Schemes other than sip, sips and tel give only scheme and raw bytes.
    pub fn parse(raw: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let colon = memchr::memchr(b':', raw).ok_or(UriError::Scheme)?;
        let scheme = parse_scheme(&raw[..colon])?;
        let rest = &raw[colon + 1..];
        if rest.is_empty() {
            return Err(UriError::Host);
        }
        if !scan::is_uri_text(raw) {
            return Err(UriError::Character);
        }
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(raw, scheme, rest),
            Scheme::Tel => {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                check_params(&rest[end..])?;
                Ok(Uri { user: Some(&rest[..end]), params: &rest[end..], ..Self::opaque(raw, scheme) })
            }
            Scheme::Other(_) => Ok(Self::opaque(raw, scheme)),
        }
    }

    fn opaque(raw: &'a [u8], scheme: Scheme<'a>) -> Uri<'a> {
        Uri { raw, scheme, user: None, password: None, host: Host::None, port: None, params: b"", headers: None }
    }

    fn parse_sip(raw: &'a [u8], scheme: Scheme<'a>, rest: &'a [u8]) -> Result<Self, UriError> {
        let (user, password, after) = split_userinfo(rest)?;
        let host_end = if after.first() == Some(&b'[') {
            1 + memchr::memchr(b']', after).ok_or(UriError::Host)?
        } else {
            after.iter().position(|b| matches!(b, b':' | b';' | b'?')).unwrap_or(after.len())
        };
        let host = parse_host(&after[..host_end]).ok_or(UriError::Host)?;
        let mut tail = &after[host_end..];
        let mut port = None;
        if let Some((b':', digits)) = tail.split_first() {
            let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            port = Some(scan::parse_u16(&digits[..length]).filter(|&p| p != 0).ok_or(UriError::Port)?);
            tail = &digits[length..];
        }
        let (params, headers) = match memchr::memchr(b'?', tail) {
            Some(mark) => (&tail[..mark], Some(&tail[mark + 1..])),
            None => (tail, None),
        };
        if !params.is_empty() && params[0] != b';' {
            return Err(if port.is_some() { UriError::Port } else { UriError::Host });
        }
        check_params(params)?;
        Ok(Uri { raw, scheme, user, password, host, port, params, headers })
    }

    /// The whole URI.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the scheme is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The URI parameters in order, as name and value (empty without `=`).
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.params.split(|&b| b == b';').skip(1).map(|param| match memchr::memchr(b'=', param) {
            Some(equals) => (&param[..equals], &param[equals + 1..]),
            None => (param, &b""[..]),
        })
    }

    /// The value of a URI parameter, empty if it has none; names compare without regard to case.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Whether a URI parameter is present.
    pub fn has_param(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// The headers after `?`, as name and value.
    pub fn header_fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.headers.unwrap_or_default().split(|&b| b == b'&').filter(|field| !field.is_empty()).map(|field| {
            match memchr::memchr(b'=', field) {
                Some(equals) => (&field[..equals], &field[equals + 1..]),
                None => (field, &b""[..]),
            }
        })
    }

    /// Comparison by RFC 3261 §19.1.4; other schemes compare by their bytes after the scheme.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        // Whatever the rules make of a parameter that stands twice, a URI equals itself.
        if self.raw == other.raw {
            return true;
        }
        if !self.is_sip() || !other.is_sip() {
            return self.raw.eq_ignore_ascii_case(other.raw);
        }
        let scheme = matches!(self.scheme, Scheme::Sips) == matches!(other.scheme, Scheme::Sips);
        scheme
            && self.port == other.port
            && same_host(self.host, other.host)
            && same_escaped(self.user, other.user, false)
            && same_escaped(self.password, other.password, false)
            && self.params_match(other)
            && other.params_match(self)
            && self.headers_match(other)
    }

    /// Every parameter here that must appear in both does, and common ones have equal values.
    fn params_match(&self, other: &Uri<'_>) -> bool {
        const IN_BOTH: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
        self.params().all(|(name, value)| match other.params().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, theirs)) => same_escaped(Some(value), Some(theirs), true),
            None => !IN_BOTH.iter().any(|must| must.eq_ignore_ascii_case(name)),
        })
    }

    fn headers_match(&self, other: &Uri<'_>) -> bool {
        let all_found = |a: &Uri<'_>, b: &Uri<'_>| {
            a.header_fields().all(|(name, value)| {
                b.header_fields()
                    .any(|(n, v)| n.eq_ignore_ascii_case(name) && same_escaped(Some(v), Some(value), false))
            })
        };
        all_found(self, other) && all_found(other, self)
    }

    /// The canonical address of record; `None` without a user or for schemes other than sip(s).
    pub fn aor(&self) -> Option<Aor> {
        if !self.is_sip() {
            return None;
        }
        let user = self.user?;
        let mut text = String::with_capacity(8 + user.len() + 32);
        text.push_str("sip:");
        push_canonical_user(&mut text, user);
        let at = text.len();
        text.push('@');
        match self.host {
            Host::Name(name) => text.extend(name.iter().map(|b| char::from(b.to_ascii_lowercase()))),
            Host::Ip(IpAddr::V4(ip)) => text.push_str(&ip.to_string()),
            Host::Ip(IpAddr::V6(ip)) => {
                text.push('[');
                text.push_str(&ip.to_string());
                text.push(']');
            }
            Host::None => return None,
        }
        Some(Aor { text, at })
    }
}

/// An address of record: `sip:user@domain`, canonical, ASCII only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aor {
    text: String,
    at: usize,
}

impl Aor {
    /// Reads `sip:user@domain` or any SIP URI with a user into its canonical form.
    pub fn parse(text: &str) -> Option<Aor> {
        Uri::parse(text.as_bytes()).ok()?.aor()
    }

    /// The user, escaped where it has to be.
    pub fn user(&self) -> &str {
        &self.text["sip:".len()..self.at]
    }

    /// The domain in lower case.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Aor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_scheme(scheme: &[u8]) -> Result<Scheme<'_>, UriError> {
    if scheme.eq_ignore_ascii_case(b"sip") {
        return Ok(Scheme::Sip);
    }
    if scheme.eq_ignore_ascii_case(b"sips") {
        return Ok(Scheme::Sips);
    }
    if scheme.eq_ignore_ascii_case(b"tel") {
        return Ok(Scheme::Tel);
    }
    let ok = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if ok { Ok(Scheme::Other(scheme)) } else { Err(UriError::Scheme) }
}

type Userinfo<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [u8]);

fn split_userinfo(rest: &[u8]) -> Result<Userinfo<'_>, UriError> {
    // Neither host, parameters nor headers may hold a raw `@`, so the only one ends the userinfo.
    let Some(at) = memchr::memchr(b'@', rest) else {
        return Ok((None, None, rest));
    };
    let (info, after) = (&rest[..at], &rest[at + 1..]);
    if memchr::memchr(b'@', after).is_some() {
        return Err(UriError::User);
    }
    let (user, password) = match memchr::memchr(b':', info) {
        Some(colon) => (&info[..colon], Some(&info[colon + 1..])),
        None => (info, None),
    };
    if user.is_empty() || !escapes_ok(info) {
        return Err(UriError::User);
    }
    Ok((Some(user), password, after))
}

fn escapes_ok(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'%', bytes)
        .all(|at| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

fn check_params(params: &[u8]) -> Result<(), UriError> {
    let bad = params.split(|&b| b == b';').skip(1).any(|param| param.is_empty() || param[0] == b'=');
    if bad { Err(UriError::Parameter) } else { Ok(()) }
}

/// Reads a host: bracketed IPv6, dotted IPv4, or a name.
pub(crate) fn parse_host(host: &[u8]) -> Option<Host<'_>> {
    match host.first()? {
        b'[' => {
            let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
            parse_v6(inner)
        }
        _ if memchr::memchr(b':', host).is_some() => parse_v6(host),
        first if first.is_ascii_digit() => match parse_v4(host) {
            Some(ip) => Some(Host::Ip(IpAddr::V4(ip))),
            None => parse_host_name(host),
        },
        _ => parse_host_name(host),
    }
}

fn parse_v6(text: &[u8]) -> Option<Host<'static>> {
    let text = std::str::from_utf8(text).ok()?;
    let ip: Ipv6Addr = text.parse().ok().or_else(|| three_colons(text))?;
    Some(Host::Ip(IpAddr::V6(ip)))
}

/// The grammar of RFC 3261 wants a third colon between `::` and an IPv4 address; RFC 5118 §4.10: both must be tolerated.
fn three_colons(text: &str) -> Option<Ipv6Addr> {
    let (before, v4) = text.split_once(":::")?;
    parse_v4(v4.as_bytes())?;
    format!("{before}::{v4}").parse().ok()
}

fn parse_host_name(host: &[u8]) -> Option<Host<'_>> {
    let ok = host.len() <= 255 && host.iter().all(|&b| scan::is_host_byte(b));
    ok.then_some(Host::Name(host))
}

fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut count = 0;
    for part in text.split(|&b| b == b'.') {
        if count == 4 || part.len() > 3 {
            return None;
        }
        octets[count] = scan::parse_u16(part).and_then(|n| u8::try_from(n).ok())?;
        count += 1;
    }
    (count == 4).then(|| Ipv4Addr::from(octets))
}

fn same_host(a: Host<'_>, b: Host<'_>) -> bool {
    match (a, b) {
        (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
        (Host::Ip(a), Host::Ip(b)) => a == b,
        (Host::None, Host::None) => true,
        _ => false,
    }
}

/// Whether two optional parts are equal once escapes of unreserved characters are undone.
fn same_escaped(a: Option<&[u8]>, b: Option<&[u8]>, fold_case: bool) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let fold = |c: Unit| if fold_case { c.folded() } else { c };
            Units(a).map(fold).eq(Units(b).map(fold))
        }
        _ => false,
    }
}

/// A character of an escaped part: a plain byte, or an escape that must stay one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Plain(u8),
    Escaped(u8),
}

impl Unit {
    fn folded(self) -> Unit {
        match self {
            Unit::Plain(b) => Unit::Plain(b.to_ascii_lowercase()),
            escaped => escaped,
        }
    }
}

struct Units<'a>(&'a [u8]);

impl Iterator for Units<'_> {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        let (&first, rest) = self.0.split_first()?;
        if first == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (scan::hex_value(*high), scan::hex_value(*low))
        {
            self.0 = after;
            let byte = high * 16 + low;
            return Some(if may_be_plain(byte) { Unit::Plain(byte) } else { Unit::Escaped(byte) });
        }
        self.0 = rest;
        Some(if may_be_plain(first) || is_user_reserved(first) { Unit::Plain(first) } else { Unit::Escaped(first) })
    }
}

/// `unreserved` (RFC 3261 §25.1): an escape of it means the same as the character.
fn may_be_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')')
}

/// Reserved characters that may stand plain; escaped they mean something else.
fn is_user_reserved(byte: u8) -> bool {
    matches!(byte, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' | b':' | b'[' | b']')
}

fn push_canonical_user(text: &mut String, user: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for unit in Units(user) {
        match unit {
            Unit::Plain(byte) => text.push(char::from(byte)),
            Unit::Escaped(byte) => {
                text.push('%');
                text.push(char::from(HEX[usize::from(byte >> 4)]));
                text.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}
