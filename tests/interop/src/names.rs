//! The DNS of two organisations: dnsmasq serves the other one's names and asks the deployment's own servers for theirs.
//!
//! Owns the process, and the way to make one program use it: a mount namespace with another `resolv.conf` in it. Nothing of the
//! machine changes.

use crate::program::Program;
use crate::wait::until;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where it answers.
pub const SERVER: &str = "127.0.4.1";

/// Records of `peer.test`: over TCP a first server that is dead, then one that lives; over UDP that one alone.
const PEER: [&str; 8] = [
    "--local=/peer.test/",
    "--naptr-record=peer.test,10,10,s,SIP+D2T,,_sip._tcp.peer.test",
    "--naptr-record=peer.test,10,20,s,SIP+D2U,,_sip._udp.peer.test",
    "--srv-host=_sip._tcp.peer.test,dead.peer.test,5060,10,50",
    "--srv-host=_sip._tcp.peer.test,sip.peer.test,5060,20,50",
    "--srv-host=_sip._udp.peer.test,sip.peer.test,5060,10,50",
    "--host-record=sip.peer.test,127.0.4.2",
    "--host-record=dead.peer.test,127.0.4.3",
];

/// Starts it and waits until it answers.
///
/// # Panics
/// If it does not.
pub fn start() -> Program {
    let mut command = Command::new("dnsmasq");
    command.args(["--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root", "--pid-file="]);
    command.args(["--bind-interfaces", "--port=53", &format!("--listen-address={SERVER}"), "--log-queries"]).args(PEER);
    command.args(["--server=/pairline.test/127.0.1.1#5353", "--server=/pairline.test/127.0.2.1#5353"]);
    let program = Program::start("dnsmasq", &mut command);
    let at: SocketAddr = format!("{SERVER}:53").parse().expect("an address and a port");
    until(Duration::from_secs(10), "dnsmasq listens", || TcpStream::connect(at).ok());
    program
}

/// A `resolv.conf` in `folder` that names it.
///
/// # Panics
/// If it cannot be written.
pub fn resolv_conf(folder: &Path) -> PathBuf {
    let file = folder.join("resolv.conf");
    fs::create_dir_all(folder).expect("the folder can be made");
    fs::write(&file, format!("nameserver {SERVER}\n")).expect("the folder can be written");
    file
}

/// The same program with that `resolv.conf` in place of the machine's.
pub fn resolving(command: &Command, resolv_conf: &Path) -> Command {
    let mut within = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    within.args(["--mount", "sh", "-c", script]).arg(resolv_conf).arg(command.get_program()).args(command.get_args());
    within
}
