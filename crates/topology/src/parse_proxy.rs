//! The part of the policies' text that is about the proxy: its choices, trusted peers, emergency services.
//!
//! Owns bounds and forms of single values. Rules between values are in `check`.

use crate::model::Transport;
use crate::parse::TRANSPORTS;
use crate::policy_proxy::{
    EmergencyPolicy, EmergencyRoute, HistoryInfo, Network, ProxyPolicy, Redirects, TrustPolicy, TrustedPeer,
};
use crate::reader::{Findings, Section};

const REDIRECTS: &[(&str, Redirects)] = &[("pass", Redirects::Pass), ("follow", Redirects::Follow)];
const HISTORY: &[(&str, HistoryInfo)] =
    &[("off", HistoryInfo::Off), ("asked", HistoryInfo::Asked), ("always", HistoryInfo::Always)];

/// Reads `[policies.proxy]`.
pub(crate) fn proxy(mut s: Section<'_>, f: &mut Findings) -> ProxyPolicy {
    let d = ProxyPolicy::default();
    let policy = ProxyPolicy {
        redirects: s.word(f, "redirects", REDIRECTS, d.redirects),
        history_info: s.word(f, "history_info", HISTORY, d.history_info),
        max_breadth: s.number(f, "max_breadth", d.max_breadth, 1, 1_000),
    };
    s.done(f);
    policy
}

/// Reads `[[policies.trust.peer]]`.
pub(crate) fn trust(mut s: Section<'_>, f: &mut Findings) -> TrustPolicy {
    let user_certificates = s.flag(f, "user_certificates", false);
    let mut peer = Vec::new();
    for mut p in s.list(f, "peer") {
        let network = networks(&mut p, f);
        peer.push(TrustedPeer {
            name: p.text(f, "name", "gateway"),
            certificate: p.opt_text(f, "certificate"),
            network,
            transport: transports(&mut p, f),
            domain: p.texts(f, "domain"),
            next_hop: p.opt_text(f, "next_hop"),
        });
        p.done(f);
    }
    s.done(f);
    TrustPolicy { user_certificates, peer }
}

fn networks(p: &mut Section<'_>, f: &mut Findings) -> Vec<Network> {
    let mut all = Vec::new();
    for (n, text) in p.texts(f, "network").iter().enumerate() {
        match text.parse() {
            Ok(network) => all.push(network),
            Err(error) => {
                let at = p.at(&format!("network[{n}]"));
                f.add(at, format!("\"{text}\" is {error}"), "write for example \"192.0.2.0/24\"");
            }
        }
    }
    all
}

/// TCP and TLS unless said otherwise: there a source address is proven by the handshake.
fn transports(p: &mut Section<'_>, f: &mut Findings) -> Vec<Transport> {
    if !p.has("transport") {
        return vec![Transport::Tcp, Transport::Tls];
    }
    let mut all = Vec::new();
    for (n, text) in p.texts(f, "transport").iter().enumerate() {
        match TRANSPORTS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            Some((_, transport)) => all.push(*transport),
            None => {
                let words: Vec<&str> = TRANSPORTS.iter().map(|(word, _)| *word).collect();
                let at = p.at(&format!("transport[{n}]"));
                f.add(at, format!("\"{text}\" is no transport"), format!("write one of: {}", words.join(", ")));
            }
        }
    }
    all
}

/// Reads `[policies.emergency]`.
pub(crate) fn emergency(mut s: Section<'_>, f: &mut Findings) -> EmergencyPolicy {
    let d = EmergencyPolicy::default();
    let unauthenticated = s.flag(f, "unauthenticated", d.unauthenticated);
    let mut route = Vec::new();
    for mut r in s.list(f, "route") {
        route.push(EmergencyRoute {
            pattern: r.text(f, "pattern", "urn:service:sos"),
            to: r.text(f, "to", "sip:desk@example.org"),
        });
        r.done(f);
    }
    s.done(f);
    EmergencyPolicy { unauthenticated, route }
}
