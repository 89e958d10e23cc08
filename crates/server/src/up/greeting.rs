//! What `up` says once everything runs: what runs where, who may sign in, what to try next.
//!
//! Owns the words.

use super::layout::Layout;
use super::program::quoted;
use super::users::DemoUser;
use pairline_topology::{Edition, Pool, Server, Topology, warnings};
use std::fmt::Write;

/// What the greeting is made from.
pub struct Greeting<'a> {
    /// How this program is called at a prompt.
    pub program: String,
    /// The data folder.
    pub layout: &'a Layout,
    /// What runs.
    pub topology: &'a Topology,
    /// The demo's users.
    pub users: &'a [DemoUser],
    /// Those of them that could not be added, and why.
    pub missing: &'a [(String, String)],
    /// Servers' names and their process ids.
    pub processes: &'a [(&'a str, u32)],
    /// The address of `--listen`.
    pub listen: Option<std::net::IpAddr>,
}

impl Greeting<'_> {
    /// The whole text.
    pub fn text(&self) -> String {
        let topology = self.topology;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{} is up; SIP domain {}\n", topology.deployment.name, topology.default_domain());
        for pool in &topology.pool {
            self.pool_text(&mut text, pool);
        }
        for warning in warnings(topology) {
            let _ = writeln!(text, "\n  note: {warning}");
        }
        text.push_str(&self.users_text());
        if let Some(address) = self.listen {
            let _ = writeln!(
                text,
                "\n  phones on the network: registrar {address}, port 5060 ({}), domain {}",
                self.first_pool(),
                topology.default_domain()
            );
        }
        text.push_str(&self.try_next());
        text
    }

    fn pool_text(&self, text: &mut String, pool: &Pool) {
        let here = self.topology.deployment.management_store == pool.id;
        let store = if here { "; management store created here" } else { "" };
        let servers = self.topology.servers_of(pool.id);
        let several = servers.len() > 1;
        if several {
            // As everywhere here: writing to a string cannot fail.
            let _ = writeln!(text, "  {:<8} {}, {} Front Ends{store}", pool.name, pool.fqdn, servers.len());
        }
        for server in servers {
            let process = self.processes.iter().find(|(name, _)| several && *name == server.name);
            let process = process.map(|(_, id)| format!(" (process {id})")).unwrap_or_default();
            let (mark, store) = if several { ("", "") } else { (pool.name.as_str(), store) };
            let _ = writeln!(text, "  {mark:<8} {}{process}{store}", server.name);
            server_text(text, server);
        }
        if let Some(witness) = self.topology.witness_of(pool.id) {
            let process = self.processes.iter().find(|(name, _)| *name == witness.name);
            let process = process.map(|(_, id)| format!(" (process {id})")).unwrap_or_default();
            let _ = writeln!(text, "           {}{process}: the witness; votes, and holds no data", witness.name);
            let _ = writeln!(text, "           admin API https://{}", witness.admin);
        }
    }

    /// Users that can sign in, with their passwords; and those that are not there, without.
    fn users_text(&self) -> String {
        let mut text = String::new();
        let mut there = self.there().peekable();
        if there.peek().is_some() {
            let _ = writeln!(text, "\n  user     home     password          client configurations");
        }
        for user in there {
            let folder = self.layout.client(&user.name);
            let _ = writeln!(text, "  {:<8} {:<8} {:<17} {}/", user.name, user.pool, user.password, folder.display());
        }
        for (name, reason) in self.missing {
            let _ = writeln!(text, "\n  NOT added: {name}: {reason}");
        }
        if !self.missing.is_empty() {
            text.push_str("  The next `up` on this folder tries again.\n");
        }
        text
    }

    fn there(&self) -> impl Iterator<Item = &DemoUser> {
        self.users.iter().filter(|user| self.missing.iter().all(|(name, _)| *name != user.name))
    }

    fn first_pool(&self) -> String {
        self.topology.pool.first().map(|pool| pool.name.clone()).unwrap_or_default()
    }

    fn try_next(&self) -> String {
        let (pool, program) = (self.first_pool(), &self.program);
        let data = match self.layout.root().file_name() {
            Some(name) if name == "pairline-data" => String::new(),
            _ => format!(" --data {}", quoted(self.layout.root())),
        };
        let mut text = String::from("\nTry next, in another terminal:\n");
        let mut there = self.there();
        if let (Some(one), Some(other)) = (there.next(), there.next()) {
            let folder = |user: &DemoUser| quoted(&self.layout.client(&user.name).join("baresip/srv"));
            let _ = writeln!(text, "  baresip -f {}", folder(one));
            let domain = self.topology.default_domain();
            let _ = writeln!(text, "  baresip -f {} -e '/dial sip:{}@{domain}'", folder(other), one.name);
            let _ = writeln!(text, "  {program}{data} user where {}", one.name);
        }
        let enterprise = self.topology.pool.iter().any(|pool| pool.edition == Edition::Enterprise);
        if enterprise {
            let _ = writeln!(text, "  {program}{data} pool health");
            let first = self.topology.pool.first().map(|pool| self.topology.servers_of(pool.id)).unwrap_or_default();
            let victim = first.last().and_then(|last| self.processes.iter().find(|(name, _)| *name == last.name));
            if let Some((_, process)) = victim {
                let _ = writeln!(text, "  kill -9 {process}        # a Front End dies; the others go on");
                let _ = writeln!(text, "  {program}{data} pool health");
            }
        }
        let paired = [
            "pool status --wait steady".to_owned(),
            format!("pool verify {pool}"),
            format!("pool failover {pool} --dry-run"),
            format!("pool failover {pool} --reason rehearsing"),
            format!("pool failback {pool}"),
            "procedure list".to_owned(),
            if enterprise { "drill --enterprise".to_owned() } else { "drill".to_owned() },
        ];
        for command in paired.iter().filter(|_| !self.topology.pairing.is_empty()) {
            let _ = writeln!(text, "  {program}{data} {command}");
        }
        text.push_str("\nCtrl-C stops everything. One line per event follows.\n");
        text
    }
}

fn server_text(text: &mut String, server: &Server) {
    let sip: Vec<String> = server.listener.iter().map(|l| format!("{} {}", l.address, word(l.transport))).collect();
    let _ = writeln!(text, "           SIP {}", sip.join(", "));
    let dns = server.dns.map(|dns| format!("; DNS {dns}")).unwrap_or_default();
    let _ = writeln!(text, "           admin API https://{}{dns}", server.admin);
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
