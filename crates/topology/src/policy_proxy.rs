//! Policies of the proxy: redirects, history, breadth, trusted peers, emergency services.
//!
//! Owns types, defaults and what a pattern matches. Does not own what is done with a request.

use crate::model::Transport;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What the proxy does where RFC 3261 leaves the choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPolicy {
    /// A 3xx of a device.
    pub redirects: Redirects,
    /// History-Info (RFC 7044).
    pub history_info: HistoryInfo,
    /// Branches that one request may have at the same time downstream, where it says nothing smaller (RFC 5393 §5.3); 1 to 1000.
    pub max_breadth: u16,
}

impl Default for ProxyPolicy {
    fn default() -> Self {
        ProxyPolicy { redirects: Redirects::Pass, history_info: HistoryInfo::Asked, max_breadth: 60 }
    }
}

/// What becomes of a redirection (RFC 3261 §16.7 step 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redirects {
    /// The caller gets it.
    Pass,
    /// Users of the deployment that it names are tried; the caller gets it if it names none.
    Follow,
}

/// When History-Info is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryInfo {
    /// Never; what is in a request stays.
    Off,
    /// For requests with `Supported: histinfo`.
    Asked,
    /// Always.
    Always,
}

/// Peers outside the deployment whose word is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustPolicy {
    /// Whether a certificate that names a user (`sip:user@domain` among its alternative names) stands for that user's password.
    pub user_certificates: bool,
    /// Tried in order; at most 256.
    pub peer: Vec<TrustedPeer>,
}

/// A peer: a gateway, a session border controller, the proxy of another organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedPeer {
    /// For people and logs; unique.
    pub name: String,
    /// It is known by a name in the certificate that it proved (TLS, WSS).
    pub certificate: Option<String>,
    /// It is known by its source address.
    pub network: Vec<Network>,
    /// Transports over which the address alone is believed. Whoever can send datagrams can write any source: `udp` only on
    /// networks that drop foreign ones.
    pub transport: Vec<Transport>,
    /// Requests to these foreign domains go to it.
    pub domain: Vec<String>,
    /// Where it is (a SIP URI), if requests go to it.
    pub next_hop: Option<String>,
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address, nor an address with a prefix length")]
pub struct NotANetwork;

impl Network {
    /// Whether the address is in it. An IPv4 address in an IPv6 one counts as the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => same_prefix(&net.octets(), &ip.octets(), self.prefix),
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_prefix(&net.octets(), &ip.octets(), self.prefix),
            _ => false,
        }
    }
}

fn same_prefix(a: &[u8], b: &[u8], prefix: u8) -> bool {
    let whole = usize::from(prefix / 8);
    let rest = u32::from(prefix % 8);
    let last = |bytes: &[u8]| bytes.get(whole).map_or(0, |byte| u16::from(*byte) >> (8 - rest));
    a[..whole] == b[..whole] && (rest == 0 || last(a) == last(b))
}

impl std::str::FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| NotANetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix > longest { Err(NotANetwork) } else { Ok(Network { address, prefix }) }
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Network, NotANetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Where emergency calls go (RFC 5031).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyPolicy {
    /// Whether a caller who has not proven who it is is served; `false` asks for credentials first.
    pub unauthenticated: bool,
    /// The first that matches decides; at most 256.
    pub route: Vec<EmergencyRoute>,
}

impl Default for EmergencyPolicy {
    fn default() -> Self {
        EmergencyPolicy { unauthenticated: true, route: Vec::new() }
    }
}

/// One row of the emergency table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyRoute {
    /// A service URN, which stands for its sub-services too (`urn:service:sos`), or a number as it is dialled (`112`).
    pub pattern: String,
    /// A SIP URI: a user of the deployment, or a next hop.
    pub to: String,
}

impl EmergencyRoute {
    /// Whether the pattern is a service URN, not a number.
    pub fn is_urn(&self) -> bool {
        self.pattern.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("urn:"))
    }
}
