//! A deployment whose Record-Routes carry the pools' names, as in production: a call outlives its server's signalling, and another
//! organisation is known to it.

use super::baresip::address;
use super::peer;
use super::start::{USERS, edited};
use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::Deployment;
use pairline_interop::names;
use pairline_interop::program::lacks;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// A baresip over UDP tries the next SRV target 32 s after it asked the dead one.
const NEXT_TARGET: Duration = Duration::from_secs(75);

/// The demo with names instead of addresses, and another organisation that it trusts.
pub fn start(binary: &Path, folder: &Path) -> Deployment {
    let trusting = format!("\npeer = [{}]\n", peer::POLICY);
    let edits = [("advertise = \"address\"", "advertise = \"name\""), ("\npeer = []\n", &trusting)];
    // Where that cannot be done, the cases that need it are skipped.
    let resolv_conf = lacks("tmpfs").is_none().then(|| names::resolv_conf(folder));
    edited(binary, folder, &edits, resolv_conf.as_deref())
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
