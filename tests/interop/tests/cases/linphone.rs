//! Two Linphones with the configurations that `up` writes, over every transport that it speaks.

use super::baresip::address;
use pairline_interop::deployment::Deployment;
use pairline_interop::linphone::Linphone;
use std::fs;
use std::time::Duration;

/// Time for something that needs no repetition.
const SOON: Duration = Duration::from_secs(15);

/// Starts the Linphone of a demo user over a transport and waits until it is registered.
fn phone(pairline: &Deployment, user: &str, transport: &str) -> Linphone {
    let folder = pairline.folder().join("clients").join(user).join("linphone");
    let rc = fs::read_to_string(folder.join("address/linphonerc")).expect("`up` writes one");
    let rc = rc.replace(";transport=udp", &format!(";transport={transport}"));
    let mut phone = Linphone::start(user, &folder.join(transport), &rc);
    phone.registered(SOON);
    phone
}

/// Calls in both directions, ended by either side, and messages in both directions.
fn all(one: (&mut Linphone, &str), other: (&mut Linphone, &str)) {
    one.0.call(other.0, &address(other.1), SOON);
    one.0.hang_up(other.0, SOON);
    other.0.call(one.0, &address(one.1), SOON);
    one.0.hang_up(other.0, SOON);
    one.0.write(other.0, &address(other.1), "Are you there?", SOON);
    other.0.write(one.0, &address(one.1), "Yes, here.", SOON);
}

/// alice and bob, both at home on east, by datagrams. They authenticate with SHA-256.
pub fn udp(pairline: &mut Deployment) {
    let (mut alice, mut bob) = (phone(pairline, "alice", "udp"), phone(pairline, "bob", "udp"));
    all((&mut alice, "alice"), (&mut bob, "bob"));
}

/// alice on east and carol on west, over connections.
pub fn tcp(pairline: &mut Deployment) {
    let (mut alice, mut carol) = (phone(pairline, "alice", "tcp"), phone(pairline, "carol", "tcp"));
    all((&mut alice, "alice"), (&mut carol, "carol"));
}
