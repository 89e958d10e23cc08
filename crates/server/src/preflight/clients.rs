//! `pairline preflight clients`: how clients are set, and what each way costs when a pool is lost.
//!
//! Owns the words. The times follow from the published policy.

use super::{PreflightError, published};
use crate::cli::run::{out, pretty};
use crate::client::Access;
use crate::up::clients::sip_address;
use crate::up::label;
use pairline_topology::Topology;
use serde_json::json;

/// Seconds that a UDP client waits for a dead target before it tries the next (64 × T1, RFC 3261 §17.1.2.2).
const TIMER_F: u32 = 32;

/// One way to set a client.
struct Way {
    name: &'static str,
    set: String,
    back: String,
}

/// Prints the ways; always true.
pub async fn clients(access: &Access, as_json: bool) -> Result<bool, PreflightError> {
    let topology = published(access).await?;
    let ways = ways(&topology);
    if as_json {
        let ways: Vec<_> = ways.iter().map(|w| json!({ "way": w.name, "set": w.set, "back": w.back })).collect();
        out(&pretty(&json!({ "domain": topology.default_domain(), "ways": ways })));
        return Ok(true);
    }
    out(&format!(
        "Domain and realm: {0}. User name: the part before @. Registrar: {0}.\n\n",
        topology.default_domain()
    ));
    for way in ways {
        out(&format!("{}\n  set:   {}\n  after a loss: {}\n\n", way.name, way.set, way.back));
    }
    Ok(true)
}

fn ways(topology: &Topology) -> Vec<Way> {
    let expiry = topology.policies.registration.max_expiry_s;
    let domain = topology.default_domain();
    let proxies: Vec<String> = topology
        .server
        .iter()
        .filter_map(|server| Some(format!("{} = {}", label(topology, server), sip_address(server)?)))
        .collect();
    let several = topology.pool.iter().any(|pool| topology.servers_of(pool.id).len() > 1);
    let two = if several { "two Front Ends of the pool" } else { "both pools" };
    let dns: Vec<String> = topology.server.iter().filter_map(|server| server.dns).map(|dns| dns.to_string()).collect();
    let servers = if dns.is_empty() { String::new() } else { format!("; DNS servers {}", dns.join(", ")) };
    vec![
        Way {
            name: "two registrations (best)",
            set: format!("outbound proxies at {two} ({}), SIP outbound (RFC 5626), TCP or TLS", proxies.join(", ")),
            back: "at once: the other registration is in place".into(),
        },
        Way {
            name: "TCP or TLS, by SRV",
            set: format!("no outbound proxy, transport TCP or TLS, server {domain}{servers}"),
            back: "seconds: the broken connection is noticed, the next SRV target is tried".into(),
        },
        Way {
            name: "UDP, by SRV",
            set: format!("no outbound proxy, transport UDP, server {domain}{servers}"),
            back: format!(
                "at most {} s: the granted expiry ({expiry} s) and {TIMER_F} s until the next target",
                expiry + TIMER_F
            ),
        },
        Way {
            name: "one address",
            set: format!("outbound proxy at one server ({})", proxies.join(" or ")),
            back: "not before that server is back: for tests only".into(),
        },
    ]
}
