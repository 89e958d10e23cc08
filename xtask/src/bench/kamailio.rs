//! Kamailio as the yardstick.
//!
//! Owns its configuration and its start: with the TLSF allocators, because the one that Debian starts it with is two to four times
//! slower.

use super::server::{self, Server};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian has its modules.
pub(crate) const MODULES: &str = "/usr/lib/x86_64-linux-gnu/kamailio/modules/";

/// Registrar in memory, no replication; `AUTH` asks for a digest with the user's name as its password, `RELAY` makes it a stateful
/// proxy between its users that stays in the way of calls.
const CONFIG: &str = r##"#!KAMAILIO
debug=-1
log_stderror=yes
children=2
auto_aliases=no
alias="pairline.test"
listen=udp:ADDRESS
mpath="MODULES"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
#!ifdef RELAY
loadmodule "tm.so"
loadmodule "rr.so"
#!endif
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "hash_size", 14)
modparam("auth", "nonce_expire", 3600)
modparam("auth", "qop", "auth")
request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (method == "REGISTER") {
#!ifdef AUTH
    if (!pv_www_authenticate("pairline.test", "$fU", "0")) { www_challenge("pairline.test", "1"); exit; }
#!endif
    save("location"); exit;
  }
#!ifdef RELAY
  if (method == "OPTIONS") { sl_send_reply("200", "OK"); exit; }
  if (loose_route()) { t_relay(); exit; }
  if (method == "ACK" || method == "CANCEL") { if (t_check_trans()) { t_relay(); } exit; }
#!ifdef AUTH
  if (!pv_proxy_authenticate("pairline.test", "$fU", "0")) { proxy_challenge("pairline.test", "1"); exit; }
  consume_credentials();
#!endif
  if (method == "INVITE") { record_route(); }
  if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
  t_relay();
  exit;
#!endif
  sl_send_reply("404", "Not here");
}
"##;

/// A running Kamailio.
#[derive(Debug)]
pub(crate) struct Kamailio {
    server: Server,
    pub address: SocketAddr,
}

/// Installs the Debian package if it is missing and that is possible. No service is started.
pub(crate) fn install() -> Result<(), String> {
    if super::installed("kamailio") {
        return Ok(());
    }
    println!("installing the Debian package kamailio (its service is not started)");
    let status = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends", "kamailio"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(
            "kamailio is missing and cannot be installed (as root: apt-get install --no-install-recommends kamailio)"
                .to_owned(),
        ),
    }
}

/// Its version.
pub(crate) fn version() -> String {
    let output = Command::new(program()).arg("-v").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").replace("version: ", "")
}

/// Where Debian has it.
pub(crate) fn program() -> PathBuf {
    PathBuf::from("/usr/sbin/kamailio")
}

impl Kamailio {
    /// Starts it on a free port of loopback.
    pub(crate) fn start(folder: &Path, core: u32, digest: bool) -> Result<Self, String> {
        Self::start_as(folder, core, digest, &[])
    }

    /// The same as a proxy between its users.
    pub(crate) fn start_proxy(folder: &Path, core: u32, digest: bool) -> Result<Self, String> {
        Self::start_as(folder, core, digest, &["RELAY"])
    }

    fn start_as(folder: &Path, core: u32, digest: bool, defines: &[&str]) -> Result<Self, String> {
        let address = server::free_address()?;
        let config = folder.join("kamailio.cfg");
        let text = CONFIG.replace("ADDRESS", &address.to_string()).replace("MODULES", MODULES);
        std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let mut args: Vec<String> =
            ["-DD", "-E", "-x", "tlsf", "-X", "tlsf", "-m", "2048", "-M", "16"].map(str::to_owned).into();
        args.extend([
            "-f".to_owned(),
            path("kamailio.cfg"),
            "-Y".to_owned(),
            path(""),
            "-P".to_owned(),
            path("kamailio.pid"),
        ]);
        for define in defines.iter().chain(digest.then_some(&"AUTH")) {
            args.extend(["-A".to_owned(), (*define).to_owned()]);
        }
        let server = Server::start(core, &program(), &args, &folder.join("kamailio.log"))?;
        server::answers(address, Duration::from_secs(20))?;
        Ok(Self { server, address })
    }

    /// Its processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        vec![self.server.pid()]
    }
}
