//! Two baresip phones with the configurations that `up` writes.

use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::{DOMAIN, Deployment};
use std::time::Duration;

/// Time for something that needs no repetition.
const SOON: Duration = Duration::from_secs(15);
/// Time for something that may need repetitions of a lost datagram.
const LATE: Duration = Duration::from_secs(45);

/// Starts the phone of a demo user and waits until it is registered.
pub fn phone(pairline: &Deployment, user: &str, variant: &str) -> Baresip {
    let mut phone = Baresip::start(user, &pairline.baresip_folder(user, variant));
    phone.registered(LATE);
    phone
}

/// The address of a demo user.
pub fn address(user: &str) -> String {
    format!("sip:{user}@{DOMAIN}")
}

/// Calls in both directions, ended by either side, and messages in both directions.
fn all(one: (&mut Baresip, &str), other: (&mut Baresip, &str)) {
    one.0.call(other.0, &address(other.1), SOON);
    one.0.hang_up(other.0, SOON);
    other.0.call(one.0, &address(one.1), SOON);
    one.0.hang_up(other.0, SOON);
    one.0.call(other.0, &address(other.1), SOON);
    other.0.hang_up(one.0, SOON);
    one.0.write(other.0, other.1, "Are you there?", SOON);
    other.0.write(one.0, one.1, "Yes, here.", SOON);
}

/// alice and bob, both at home on east.
pub fn within(pairline: &mut Deployment) {
    let (mut alice, mut bob) = (phone(pairline, "alice", "address"), phone(pairline, "bob", "address"));
    all((&mut alice, "alice"), (&mut bob, "bob"));
    let place = pairline.must(&["user", "where", "alice"]).out;
    assert!(place.contains("east") && place.contains("reachable"), "{place}");
}

/// alice on east and carol on west.
pub fn across(pairline: &mut Deployment) {
    let (mut alice, mut carol) = (phone(pairline, "alice", "address"), phone(pairline, "carol", "address"));
    all((&mut alice, "alice"), (&mut carol, "carol"));
}

/// Two registrations over connections to both pools: a call rings once and works.
pub fn outbound(pairline: &mut Deployment) {
    let (mut bob, mut dave) = (phone(pairline, "bob", "outbound"), phone(pairline, "dave", "outbound"));
    bob.call(&mut dave, &address("dave"), SOON);
    bob.hang_up(&mut dave, SOON);
    dave.call(&mut bob, &address("bob"), SOON);
    bob.hang_up(&mut dave, SOON);
}
