//! The Via header: one element, its parts, and what a server adds to it on receipt.

use std::net::{IpAddr, SocketAddr};

use crate::params::{Params, SyntaxError};
use crate::scan;
use crate::uri::{Host, parse_host};

/// The prefix of branches that are unique across space and time (RFC 3261 §8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    raw: &'a [u8],
    /// The transport token as it stands.
    pub transport: &'a [u8],
    /// The sent-by host as it stands, brackets of an IPv6 reference included.
    pub host: &'a [u8],
    /// The sent-by port.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Reads one element. Only `SIP/2.0` is accepted as protocol.
    pub fn parse(raw: &'a [u8]) -> Result<Via<'a>, SyntaxError> {
        Self::read(raw, true)
    }

    /// Reads an element that was checked when its message was parsed: only finds the parts.
    pub(crate) fn trusted(raw: &'a [u8]) -> Option<Via<'a>> {
        Self::read(raw, false).ok()
    }

    /// Finds the parts of an element that need not be well-formed, nor of SIP/2.0: for the refusal of its request, which is to
    /// reach the sender all the same (RFC 4475 §3.1.2.1, §3.1.2.16).
    pub(crate) fn salvaged(raw: &'a [u8]) -> Option<Via<'a>> {
        Self::read(raw, false).ok()
    }

    fn read(raw: &'a [u8], check: bool) -> Result<Via<'a>, SyntaxError> {
        let raw = scan::trim(raw);
        let transport_at = protocol_end(raw, check)?;
        let transport_end = scan::skip_token(raw, transport_at);
        let host_at = scan::skip_lws(raw, transport_end);
        if transport_end == transport_at || host_at == transport_end {
            return Err(SyntaxError { at: transport_end });
        }
        let host_end = sent_by_host_end(raw, host_at).ok_or(SyntaxError { at: host_at })?;
        let host = &raw[host_at..host_end];
        if check && parse_host(host).is_none() {
            return Err(SyntaxError { at: host_at });
        }
        let mut at = scan::skip_lws(raw, host_end);
        let mut port = None;
        if raw.get(at) == Some(&b':') {
            let port_at = scan::skip_lws(raw, at + 1);
            let digits = raw[port_at..].iter().take_while(|b| b.is_ascii_digit()).count();
            at = port_at + digits;
            port = Some(scan::parse_u16(&raw[port_at..at]).filter(|&p| p != 0).ok_or(SyntaxError { at: port_at })?);
        }
        let params = if check {
            Params::parse(&raw[at..]).map_err(|e| SyntaxError { at: at + e.at })?
        } else {
            Params::trusted(&raw[at..])
        };
        Ok(Via { raw, transport: &raw[transport_at..transport_end], host, port, params })
    }

    /// The whole element.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// A parameter's value without quotes; empty for a parameter without value.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// The branch, if there is one that is not empty.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.param("branch").filter(|branch| !branch.is_empty())
    }

    /// Whether the branch begins with the magic cookie and has something after it: such a branch
    /// identifies a transaction (RFC 3261 §17.2.3). The bare cookie does not.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len() && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// The address in `received`; `None` if absent or no address.
    pub fn received(&self) -> Option<IpAddr> {
        match parse_host(self.param("received")?)? {
            Host::Ip(address) => Some(address),
            _ => None,
        }
    }

    /// Whether `rport` is present, with or without a value (RFC 3581 §3).
    pub fn wants_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// The value of `rport`.
    pub fn rport(&self) -> Option<u16> {
        scan::parse_u16(self.param("rport")?)
    }

    /// The `maddr` parameter as it stands.
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.param("maddr")
    }

    /// The `ttl` parameter.
    pub fn ttl(&self) -> Option<u8> {
        scan::parse_u16(self.param("ttl")?).and_then(|ttl| u8::try_from(ttl).ok())
    }

    /// The sent-by host, as a name or an address.
    pub fn sent_by(&self) -> Host<'a> {
        parse_host(self.host).unwrap_or(Host::Name(self.host))
    }

    /// What a server that received the request from `remote` adds to its top Via: `received` if
    /// the sent-by is not that address or `rport` was asked for (RFC 3261 §18.2.1, RFC 3581 §4),
    /// and the port if `rport` was asked for. The arguments of `Edit::fix_top_via`.
    pub fn fix_for(&self, remote: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        let wants = self.wants_rport();
        let ip = remote.ip().to_canonical();
        let same = self.sent_by() == Host::Ip(ip);
        ((wants || !same || self.params.has("received")).then_some(ip), wants.then_some(remote.port()))
    }
}

/// Writes `via` with `received` and `rport` set; everything else stays byte for byte. A port is
/// written only where the Via has an `rport` parameter.
pub(crate) fn write_fixed(via: &Via<'_>, received: Option<IpAddr>, rport: Option<u16>, out: &mut Vec<u8>) {
    let params = via.params.raw();
    out.extend_from_slice(&via.raw[..via.raw.len() - params.len()]);
    let mut at = 0;
    for param in via.params.iter() {
        if received.is_some() && param.name.eq_ignore_ascii_case(b"received") {
            out.extend_from_slice(&params[at..param.start]);
            at = param.end;
        } else if let Some(port) = rport.filter(|_| param.name.eq_ignore_ascii_case(b"rport")) {
            out.extend_from_slice(&params[at..param.start]);
            out.extend_from_slice(b";rport=");
            crate::write::decimal(out, u64::from(port));
            at = param.end;
        }
    }
    out.extend_from_slice(&params[at..]);
    if let Some(ip) = received {
        out.extend_from_slice(b";received=");
        crate::write::ip(out, ip);
    }
}

/// The position of the transport token: after `SIP/2.0/`, white space around the slashes allowed; unchecked, after any version.
fn protocol_end(raw: &[u8], check: bool) -> Result<usize, SyntaxError> {
    if raw.starts_with(b"SIP/2.0/") {
        return Ok(scan::skip_lws(raw, 8));
    }
    let name_end = scan::skip_token(raw, 0);
    if !raw[..name_end].eq_ignore_ascii_case(b"SIP") {
        return Err(SyntaxError { at: 0 });
    }
    let version_at = after_slash(raw, name_end)?;
    let version_end = scan::skip_token(raw, version_at);
    if check && &raw[version_at..version_end] != b"2.0" {
        return Err(SyntaxError { at: version_at });
    }
    after_slash(raw, version_end)
}

fn after_slash(raw: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let slash = scan::skip_lws(raw, at);
    if raw.get(slash) != Some(&b'/') {
        return Err(SyntaxError { at: slash });
    }
    Ok(scan::skip_lws(raw, slash + 1))
}

fn sent_by_host_end(raw: &[u8], at: usize) -> Option<usize> {
    if raw.get(at) == Some(&b'[') {
        return memchr::memchr(b']', &raw[at..]).map(|close| at + close + 1);
    }
    let length = raw[at..].iter().take_while(|&&b| scan::is_host_byte(b)).count();
    (length > 0).then_some(at + length)
}
