//! A deployment whose Record-Routes carry the pools' names, as in production: a call outlives its server's signalling, and another
//! organisation is known to it.

use super::baresip::address;
use super::peer;
use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::Deployment;
use pairline_interop::names;
use pairline_interop::program::lacks;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const USERS: [(&str, &str); 4] = [("alice", "east"), ("bob", "east"), ("carol", "west"), ("dave", "west")];
const SOON: Duration = Duration::from_secs(20);
/// A baresip over UDP tries the next SRV target 32 s after it asked the dead one.
const NEXT_TARGET: Duration = Duration::from_secs(75);

/// Takes topology and client configurations of a demo, and starts the same with names instead of addresses.
pub fn start(binary: &Path, folder: &Path) -> Deployment {
    let mut demo = Deployment::start(binary, &folder.join("demo"), &[]);
    assert!(demo.stop(), "the demo did not stop when asked");
    let text = fs::read_to_string(demo.folder().join("topology.toml")).expect("a deployment has its topology");
    let named = text.replace("advertise = \"address\"", "advertise = \"name\"");
    assert_ne!(named, text, "the demo's topology says how listeners are advertised");
    let topology = folder.join("named.toml");
    let trusting = named.replace("\npeer = []\n", &format!("\npeer = [{}]\n", peer::POLICY));
    assert_ne!(trusting, named, "the demo's topology trusts nobody");
    fs::write(&topology, trusting).expect("the folder can be written");
    let topology = topology.to_string_lossy().into_owned();
    // Where that cannot be done, the cases that need it are skipped.
    let resolv_conf = lacks("tmpfs").is_none().then(|| names::resolv_conf(folder));
    let (data, options) = (folder.join("data"), ["--topology", &topology]);
    let mut deployment = Deployment::start_resolving(binary, &data, &options, resolv_conf.as_deref());
    for (user, pool) in USERS {
        deployment.keep_secret(&demo.password(user));
        deployment.must(&["user", "add", user, "--pool", pool, "--password", &demo.password(user)]);
    }
    deployment.must(&["pool", "status", "--wait", "steady", "--timeout", "60"]);
    deployment
}

/// The phone of a user of the demo, by SRV.
fn phone(deployment: &Deployment, user: &str) -> Baresip {
    let root: PathBuf = deployment.folder().parent().expect("data lies in the group's folder").join("demo");
    let mut phone = Baresip::start(user, &root.join("clients").join(user).join("baresip/srv"));
    phone.registered(SOON);
    phone
}

/// Two calls between the pools; east dies; one call is ended from west, the other by the phone that was on east.
pub fn dead_server(deployment: &mut Deployment) {
    let [mut alice, mut bob, mut carol, mut dave] = USERS.map(|(user, _)| phone(deployment, user));
    alice.call(&mut carol, &address("carol"), SOON);
    dave.call(&mut bob, &address("bob"), SOON);
    deployment.kill("east");
    carol.hang_up(&mut alice, NEXT_TARGET);
    bob.hang_up(&mut dave, NEXT_TARGET);
}
