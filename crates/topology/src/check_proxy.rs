//! Rules between the parts of a topology document that are about trusted peers and emergency services.
//!
//! Owns what makes those policies acceptable. Bounds of single values are the reader's.

use crate::check::{is_host_name, unique};
use crate::model::{Topology, Transport};
use crate::reader::Findings;

/// Most peers, and most rows of the emergency table: both are looked through for a request.
const MAX_ROWS: usize = 256;

/// A SIP or SIPS URI as far as a document can tell: scheme, then something without blanks.
fn is_sip_uri(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("sip:").or_else(|| lower.strip_prefix("sips:"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.bytes().any(|b| b <= b' ' || matches!(b, b'<' | b'>' | b'"')))
}

/// Trusted peers: known by something, told apart by name, and reached if requests go to them.
pub(crate) fn trust(f: &mut Findings, t: &Topology) {
    let peers = &t.policies.trust.peer;
    unique(f, "policies.trust.peer", "name", peers.iter().map(|p| p.name.as_str()));
    if peers.len() > MAX_ROWS {
        f.add("policies.trust.peer", format!("has {} members", peers.len()), format!("at most {MAX_ROWS}"));
    }
    for (n, peer) in peers.iter().enumerate() {
        let at = |key: &str| format!("policies.trust.peer[{n}].{key}");
        if peer.certificate.is_none() && peer.network.is_empty() {
            f.add(at("network"), "is missing, and so is certificate", "say by which of the two the peer is known");
        }
        if peer.transport.iter().any(|t| matches!(t, Transport::Ws | Transport::Wss)) {
            f.add(at("transport"), "names a WebSocket transport", "browsers share addresses: write udp, tcp or tls");
        }
        for (m, domain) in peer.domain.iter().enumerate() {
            if !is_host_name(domain) {
                f.add(at(&format!("domain[{m}]")), format!("\"{domain}\" is not a domain"), "write a DNS name");
            }
            if t.is_domain(domain) {
                f.add(at(&format!("domain[{m}]")), format!("\"{domain}\" is a domain of this deployment"), "remove it");
            }
        }
        match &peer.next_hop {
            None if !peer.domain.is_empty() => {
                f.add(at("next_hop"), "is missing", "write where the domain's requests go: \"sip:192.0.2.1:5060\"");
            }
            Some(uri) if !is_sip_uri(uri) => {
                f.add(at("next_hop"), format!("\"{uri}\" is not a SIP URI"), "write \"sip:192.0.2.1:5060\"");
            }
            _ => {}
        }
    }
}

/// The emergency table: patterns that can match, targets that can be reached.
pub(crate) fn emergency(f: &mut Findings, t: &Topology) {
    let routes = &t.policies.emergency.route;
    unique(f, "policies.emergency.route", "pattern", routes.iter().map(|r| r.pattern.as_str()));
    if routes.len() > MAX_ROWS {
        f.add("policies.emergency.route", format!("has {} members", routes.len()), format!("at most {MAX_ROWS}"));
    }
    for (n, route) in routes.iter().enumerate() {
        let at = |key: &str| format!("policies.emergency.route[{n}].{key}");
        let lower = route.pattern.to_ascii_lowercase();
        let urn = lower == "urn:service:sos" || lower.starts_with("urn:service:sos.");
        let number = route.pattern.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'*' | b'#'));
        if !urn && (!number || route.pattern.len() > 32) {
            let remedy = "write urn:service:sos, a sub-service of it, or a number such as 112";
            f.add(at("pattern"), format!("\"{}\" is neither", route.pattern), remedy);
        }
        if !is_sip_uri(&route.to) {
            f.add(at("to"), format!("\"{}\" is not a SIP URI", route.to), "write \"sip:desk@example.org\"");
        }
    }
}
