//! Rules for the witness of a pool.
//!
//! Owns which pools may have one, how many, and what a witness is not. What a pool survives with and without one is `publish`'s to say.

use crate::model::Topology;
use crate::reader::Findings;

/// Every broken rule.
pub(crate) fn check(f: &mut Findings, t: &Topology) {
    for (n, server) in t.server.iter().enumerate().filter(|(_, server)| server.is_witness()) {
        let at = |key: &str| format!("server[{n}].{key}");
        let pool = t.pool_name(server.pool);
        if t.server.iter().take(n).any(|other| other.is_witness() && other.pool == server.pool) {
            let problem = format!("is a second witness of pool {pool}");
            f.add(at("role"), problem, "a pool of two has one witness, which makes three votes: remove one");
        }
        match t.servers_of(server.pool).len() {
            2 => {}
            0 | 1 => {
                let problem = format!("is a witness of pool {pool}, which does not have two Front Ends");
                f.add(
                    at("role"),
                    problem,
                    "a witness holds no data and replaces no Front End: remove it, or add Front Ends",
                );
            }
            more => {
                let problem = format!("is a witness of pool {pool}, which has {more} Front Ends");
                let remedy = "three or more Front Ends survive the loss of one by themselves: remove the witness in the \
                              publish that adds the third, and stop it once `pairline pool health` is healthy";
                f.add(at("role"), problem, remedy);
            }
        }
        if !server.listener.is_empty() {
            f.add(at("listener"), "a witness serves no SIP", "remove its listeners");
        }
        if server.dns.is_some() {
            f.add(at("dns"), "a witness serves no DNS", "remove the key, and serve it on the Front Ends");
        }
    }
}
