//! Ready-made configurations of standard clients (baresip, Linphone) without sound card.
//!
//! Owns their text. Four variants: `address` (the address of one server of the pool), `srv` (finds its pool by SRV in the
//! deployment's own DNS), `outbound` (a second registration at the partner, or without one at another server of the pool), `tls`
//! (as `address`, over TLS, believing the deployment's authority).
//! Linphone's file cannot name a DNS server (only its library's caller can), so it could not find the demo's domain: it has no
//! `srv`; `tls` is baresip's only.

use pairline_group::PoolId;
use pairline_topology::{Server, Topology, Transport};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Names of the variants.
pub const VARIANTS: [&str; 4] = ["address", "srv", "outbound", "tls"];
/// Those that linphone has as well.
const LINPHONE: [&str; 2] = ["address", "outbound"];

/// First SIP port of the clients; each takes ten (the next one is its TLS port).
const FIRST_PORT: u16 = 15_060;

/// What the configurations of one user are made from.
pub struct ClientFiles<'a> {
    user: &'a str,
    display: &'a str,
    password: &'a str,
    domain: &'a str,
    home: Option<SocketAddr>,
    second: Option<SocketAddr>,
    secure: Option<SocketAddr>,
    authority: &'a Path,
    dns: Vec<SocketAddr>,
    others: Vec<String>,
    index: usize,
}

impl<'a> ClientFiles<'a> {
    /// For a user of a pool; `index` keeps the ports of several users apart, `authority` is the deployment's certificate.
    pub fn new(
        topology: &'a Topology,
        authority: &'a Path,
        home: PoolId,
        user: &'a str,
        display: &'a str,
        password: &'a str,
        index: usize,
    ) -> ClientFiles<'a> {
        // The users of a pool begin at its servers in turn.
        let nth = |pool: PoolId, n: usize| {
            let servers = topology.servers_of(pool);
            servers.get(n % servers.len().max(1)).copied()
        };
        let alone = topology.servers_of(home).len() < 2;
        let partner = topology.partner(home).map(|pool| pool.id);
        let own = nth(home, index);
        let second = match partner {
            Some(partner) => nth(partner, index),
            None => nth(home, index + 1).filter(|_| !alone),
        };
        let others =
            ["alice", "bob", "carol", "dave"].iter().filter(|name| **name != user).map(|n| (*n).to_owned()).collect();
        ClientFiles {
            user,
            display,
            password,
            domain: topology.default_domain(),
            home: own.and_then(sip_address),
            second: second.and_then(sip_address),
            secure: own.and_then(tls_address),
            authority,
            dns: name_servers(topology, home),
            others,
            index,
        }
    }

    /// Every file: path within the user's folder, and content.
    pub fn all(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for (number, variant) in VARIANTS.into_iter().enumerate() {
            if variant == "tls" && self.secure.is_none() {
                continue;
            }
            let port = self.port(number);
            let folder = PathBuf::from("baresip").join(variant);
            files.push((folder.join("config"), self.baresip_config(variant, port)));
            files.push((folder.join("accounts"), self.baresip_account(variant)));
            files.push((folder.join("contacts"), self.baresip_contacts()));
            if LINPHONE.contains(&variant) {
                files.push((PathBuf::from("linphone").join(variant).join("linphonerc"), self.linphone(variant, port)));
            }
        }
        files
    }

    fn port(&self, variant: usize) -> u16 {
        let offset = (self.index * VARIANTS.len() + variant) * 10;
        FIRST_PORT.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX))
    }

    fn baresip_config(&self, variant: &str, port: u16) -> String {
        let mut text = baresip_base(port, port + 5);
        if variant == "srv" {
            for dns in &self.dns {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "dns_server\t\t{dns}");
            }
        }
        if variant == "tls" {
            // As above.
            let _ = writeln!(text, "sip_cafile\t\t{}\nsip_verify_server\tyes", self.authority.display());
        }
        text
    }

    fn baresip_account(&self, variant: &str) -> String {
        let base = format!(
            "\"{}\" <sip:{}@{}>;auth_user={};auth_pass={};answermode=auto;regint=60",
            self.display, self.user, self.domain, self.user, self.password
        );
        let proxy = |number: &str, address: Option<SocketAddr>, transport: &str| {
            address.map(|a| format!(";outbound{number}=\"sip:{a};transport={transport}\"")).unwrap_or_default()
        };
        match variant {
            "srv" => format!("{base}\n"),
            "outbound" => {
                format!("{base};sipnat=outbound{}{}\n", proxy("1", self.home, "tcp"), proxy("2", self.second, "tcp"))
            }
            "tls" => format!("{base}{}\n", proxy("", self.secure, "tls")),
            _ => format!("{base}{}\n", proxy("", self.home, "udp")),
        }
    }

    fn baresip_contacts(&self) -> String {
        self.others.iter().fold(String::new(), |mut text, name| {
            let _ = writeln!(text, "\"{name}\" <sip:{name}@{}>", self.domain);
            text
        })
    }

    fn linphone(&self, variant: &str, port: u16) -> String {
        let identity = format!("\"{}\" <sip:{}@{}>", self.display, self.user, self.domain);
        let transport = if variant == "outbound" { "tcp" } else { "udp" };
        let address = |address: Option<SocketAddr>| match address {
            None => format!("<sip:{};transport={transport}>", self.domain),
            Some(address) => format!("<sip:{address};transport={transport}>"),
        };
        let mut text = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port={port}\nsip_tls_port=0\nguess_hostname=1\ndefault_proxy=0\nregister_only_when_network_is_up=0\n\n\
             [sound]\nplayback_dev_id=ANY: silent\nringer_dev_id=ANY: silent\ncapture_dev_id=ANY: silent\n\n\
             [video]\nenabled=0\n\n[net]\nmtu=1300\n\n\
             [auth_info_0]\nusername={}\npasswd={}\nrealm={}\ndomain={}\n\n",
            self.user, self.password, self.domain, self.domain
        );
        let mut proxies = vec![address(self.home)];
        if variant == "outbound" {
            proxies.push(address(self.second));
        }
        for (number, proxy) in proxies.iter().enumerate() {
            let _ = write!(
                text,
                "[proxy_{number}]\nreg_proxy={proxy}\nreg_route={proxy}\nreg_identity={identity}\nrealm={}\n\
                 reg_expires=60\nreg_sendregister=1\npublish=0\n\n",
                self.domain
            );
        }
        text
    }
}

/// The name servers of a client: one of its own pool, one of the partner's if there is one, then more of its own; three at most. A client asks them in this order and
/// waits for each that is dead, baresip 0.5, 1, 2 and then 4 s, for each name that it looks up: a list that begins with all
/// servers of one site makes the loss of that site long. Three is what resolvers know at most (resolv.conf(5), `MAXNS`), and that
/// they stand in different networks is what RFC 2182 §3.1 asks for.
pub fn name_servers(topology: &Topology, home: PoolId) -> Vec<SocketAddr> {
    let of = |pool: PoolId| topology.servers_of(pool).into_iter().filter_map(|server| server.dns);
    let mut own = of(home);
    let first = own.next();
    let partners = topology.partner(home).and_then(|pool| of(pool.id).next());
    first.into_iter().chain(partners).chain(own).take(3).collect()
}

/// The address of a server's first UDP listener, or of its first listener.
pub fn sip_address(server: &Server) -> Option<SocketAddr> {
    let udp = server.listener.iter().find(|listener| listener.transport == Transport::Udp);
    udp.or(server.listener.first()).map(|listener| listener.advertise_address.unwrap_or(listener.address))
}

/// The address of a server's first TLS listener.
fn tls_address(server: &Server) -> Option<SocketAddr> {
    let tls = server.listener.iter().find(|listener| listener.transport == Transport::Tls);
    tls.map(|listener| listener.advertise_address.unwrap_or(listener.address))
}

/// A baresip configuration without sound card or terminal: audio is bridged to itself, commands come over TCP.
pub fn baresip_base(port: u16, control: u16) -> String {
    let lines = [
        ("poll_method", "epoll".to_owned()),
        ("sip_listen", format!("127.0.0.1:{port}")),
        ("call_local_timeout", "120".to_owned()),
        ("call_max_calls", "4".to_owned()),
        ("audio_player", "aubridge,loop".to_owned()),
        ("audio_source", "aubridge,loop".to_owned()),
        ("audio_alert", "aubridge,alert".to_owned()),
        ("audio_level", "no".to_owned()),
        ("rtp_stats", "no".to_owned()),
        ("module_path", "/usr/lib/baresip/modules".to_owned()),
        ("module", "g711.so".to_owned()),
        ("module", "aubridge.so".to_owned()),
        ("module_tmp", "uuid.so".to_owned()),
        ("module_tmp", "account.so".to_owned()),
        ("module_app", "contact.so".to_owned()),
        ("module_app", "menu.so".to_owned()),
        ("module_app", "ctrl_tcp.so".to_owned()),
        ("ctrl_tcp_listen", format!("127.0.0.1:{control}")),
        ("ringback_disabled", "yes".to_owned()),
    ];
    let mut text =
        String::from("# Made by `pairline up`: no sound card, no terminal; commands over TCP (ctrl_tcp_listen).\n");
    for (key, value) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}\t\t{value}");
    }
    text
}
