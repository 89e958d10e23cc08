//! Two Kamailio nodes that tell each other of every registration (`dmq`, `dmq_usrloc`).
//!
//! Owns their configuration and start, and the look at whether a registration is known at a node.

use super::super::kamailio;
use super::super::server::{self, Server};
use super::network::Network;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for the nodes to find each other, and for a registration to reach the other node.
const REPLICATED: Duration = Duration::from_secs(30);
/// Between two looks; also how long an answer is waited for.
const LOOK: Duration = Duration::from_millis(200);

/// Registrar in memory with digest, the user's name as its password. An OPTIONS for a user is answered as its location is known.
const CONFIG: &str = r##"#!KAMAILIO
debug=-1
log_stderror=yes
children=2
auto_aliases=no
alias="pairline.test"
listen=udp:ADDRESS
mpath="MODULES"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "dmq.so"
loadmodule "dmq_usrloc.so"
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "hash_size", 14)
modparam("auth", "nonce_expire", 3600)
modparam("auth", "qop", "auth")
modparam("dmq", "server_address", "sip:ADDRESS")
modparam("dmq", "notification_address", "sip:OTHER")
modparam("dmq", "num_workers", 2)
modparam("dmq_usrloc", "enable", 1)
modparam("dmq_usrloc", "sync", 1)
request_route {
  if (method == "KDMQ") { dmq_handle_message(); exit; }
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (method == "REGISTER") {
    if (!pv_www_authenticate("pairline.test", "$fU", "0")) { www_challenge("pairline.test", "1"); exit; }
    save("location"); exit;
  }
  if (method == "OPTIONS" && $rU != $null) {
    if (lookup("location")) { sl_send_reply("200", "Known"); } else { sl_send_reply("404", "Not known"); }
    exit;
  }
  sl_send_reply("404", "Not here");
}
"##;

/// The two running nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    servers: Vec<Server>,
    /// Where they take SIP.
    pub addresses: [SocketAddr; 2],
}

impl Nodes {
    /// Starts both on free ports of loopback, on one core.
    pub(crate) fn start(folder: &Path, core: u32) -> Result<Self, String> {
        let prefix = ["taskset", "-c", &core.to_string()].map(str::to_owned);
        // Both are held while they are looked for, so that they differ.
        let free = || UdpSocket::bind("127.0.0.1:0").map_err(|e| e.to_string());
        let held = [free()?, free()?];
        let address = |of: &UdpSocket| of.local_addr().map_err(|e| e.to_string());
        let addresses = [address(&held[0])?, address(&held[1])?];
        drop(held);
        Self::at(folder, addresses, |_| prefix.to_vec())
    }

    /// Starts each behind a cable of its own.
    pub(crate) fn start_behind(folder: &Path, network: &Network) -> Result<Self, String> {
        let address = |server| format!("{}:5060", network.address(server)).parse().map_err(|e| format!("{e}"));
        Self::at(folder, [address(0)?, address(1)?], |server| network.prefix(server))
    }

    fn at(folder: &Path, addresses: [SocketAddr; 2], prefix: impl Fn(usize) -> Vec<String>) -> Result<Self, String> {
        let mut servers = Vec::new();
        for (at, other) in [(0, 1), (1, 0)] {
            let own = folder.join(format!("node{}", at + 1));
            std::fs::create_dir_all(&own).map_err(|e| format!("{}: {e}", own.display()))?;
            let text = CONFIG
                .replace("ADDRESS", &addresses[at].to_string())
                .replace("OTHER", &addresses[other].to_string())
                .replace("MODULES", kamailio::MODULES);
            let config = own.join("kamailio.cfg");
            std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
            let mut words = prefix(at);
            words.push(kamailio::program().to_string_lossy().into_owned());
            words.extend(arguments(&own));
            let program = words.remove(0);
            servers.push(Server::start_anywhere(Path::new(&program), &words, &own.join("kamailio.log"))?);
        }
        for address in addresses {
            server::answers(address, Duration::from_secs(20))?;
        }
        Ok(Self { servers, addresses })
    }

    /// Their processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(Server::pid).collect()
    }

    /// Waits until these users, each registered at the node of its number modulo two, are known at the other one.
    pub(crate) fn replicated(&self, users: impl Iterator<Item = u32>) -> Result<u32, String> {
        let socket = looking()?;
        let ends = Instant::now() + REPLICATED;
        let mut count = 0;
        for user in users {
            let other = self.addresses[(user as usize + 1) % 2];
            while !knows(&socket, other, user)? {
                if Instant::now() >= ends {
                    return Err(format!("u{user:05} is not known at the other node: {count} were"));
                }
                std::thread::sleep(LOOK / 10);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Those of these users that a node does not know, by their numbers. Each is asked for some times, for a datagram may be lost.
    pub(crate) fn unknown(&self, node: usize, users: impl Iterator<Item = u32>) -> Result<Vec<u32>, String> {
        let socket = looking()?;
        let mut unknown = Vec::new();
        for user in users {
            let mut known = false;
            for _ in 0..3 {
                known = known || knows(&socket, self.addresses[node], user)?;
            }
            unknown.extend((!known).then_some(user));
        }
        Ok(unknown)
    }
}

fn arguments(own: &Path) -> Vec<String> {
    let path = |name: &str| own.join(name).to_string_lossy().into_owned();
    let mut all: Vec<String> =
        ["-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "2048", "-M", "16"].map(str::to_owned).into();
    for (name, value) in [("-f", "kamailio.cfg"), ("-Y", ""), ("-P", "kamailio.pid")] {
        all.extend([name.to_owned(), path(value)]);
    }
    all
}

/// From where nodes are asked, wherever they are.
fn looking() -> Result<UdpSocket, String> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(LOOK)).map_err(|e| e.to_string())?;
    Ok(socket)
}

/// Whether a node knows where a user is; asked again by the caller if it does not answer.
fn knows(socket: &UdpSocket, node: SocketAddr, user: u32) -> Result<bool, String> {
    let own = socket.local_addr().map_err(|e| e.to_string())?;
    let text = format!(
        "OPTIONS sip:u{user:05}@pairline.test SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKknows{user}\r\nMax-Forwards: 70\r\n\
         From: <sip:bench@pairline.test>;tag=b\r\nTo: <sip:u{user:05}@pairline.test>\r\nCall-ID: knows{user}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    // A datagram that is refused or not answered says that it is not known yet.
    let _ = socket.send_to(text.as_bytes(), node);
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap_or(0);
    Ok(buffer[..length].starts_with(b"SIP/2.0 200"))
}
