//! What `up` says once everything runs: what runs where, who may sign in, what to try next.
//!
//! Owns the words.

use super::layout::Layout;
use super::users::DemoUser;
use pairline_topology::Topology;
use std::fmt::Write;

/// The whole greeting.
pub fn text(layout: &Layout, topology: &Topology, users: &[DemoUser], listen: Option<std::net::IpAddr>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{} is up; SIP domain {}\n", topology.deployment.name, topology.default_domain());
    for server in &topology.server {
        let pool = topology.pool_name(server.pool);
        let sip: Vec<String> = server.listener.iter().map(|l| format!("{} {}", l.address, word(l.transport))).collect();
        let store =
            if topology.deployment.management_store == server.pool { "; management store created here" } else { "" };
        let _ = writeln!(text, "  {pool:<8} {}{store}", server.name);
        let _ = writeln!(text, "           SIP {}", sip.join(", "));
        let dns = server.dns.map(|dns| format!("; DNS {dns}")).unwrap_or_default();
        let _ = writeln!(text, "           admin API https://{}{dns}", server.admin);
    }
    if !users.is_empty() {
        let _ = writeln!(text, "\n  user     home     password          client configurations");
        for user in users {
            let folder = layout.client(&user.name);
            let _ = writeln!(text, "  {:<8} {:<8} {:<17} {}/", user.name, user.pool, user.password, folder.display());
        }
    }
    if let Some(address) = listen {
        let _ = writeln!(
            text,
            "\n  phones on the network: registrar {address}, port 5060 ({}), domain {}",
            first(topology),
            topology.default_domain()
        );
    }
    text.push_str(&try_next(layout, topology, users));
    text
}

fn first(topology: &Topology) -> String {
    topology.pool.first().map(|pool| pool.name.clone()).unwrap_or_default()
}

fn word(transport: pairline_topology::Transport) -> &'static str {
    match transport {
        pairline_topology::Transport::Udp => "UDP",
        pairline_topology::Transport::Tcp => "TCP",
        pairline_topology::Transport::Tls => "TLS",
        pairline_topology::Transport::Ws => "WS",
        pairline_topology::Transport::Wss => "WSS",
    }
}

fn try_next(layout: &Layout, topology: &Topology, users: &[DemoUser]) -> String {
    let pool = first(topology);
    let data = match layout.root().file_name() {
        Some(name) if name == "pairline-data" => String::new(),
        _ => format!(" --data {}", layout.root().display()),
    };
    let mut text = String::from("\nTry next, in another terminal:\n");
    if let (Some(one), Some(other)) = (users.first(), users.get(1)) {
        let _ = writeln!(text, "  baresip -f {}/baresip/address", layout.client(&one.name).display());
        let _ = writeln!(
            text,
            "  baresip -f {}/baresip/address -e '/dial sip:{}@{}'",
            layout.client(&other.name).display(),
            one.name,
            topology.default_domain()
        );
        let _ = writeln!(text, "  pairline{data} user where {}", one.name);
    }
    for command in [
        "pool status --wait steady".to_owned(),
        format!("pool verify {pool}"),
        format!("pool failover {pool} --dry-run"),
        format!("pool failover {pool} --force --reason rehearsing"),
        format!("pool failback {pool}"),
        "procedure list".to_owned(),
        "drill".to_owned(),
    ] {
        let _ = writeln!(text, "  pairline{data} {command}");
    }
    text.push_str("\nCtrl-C stops everything. One line per event follows.\n");
    text
}
