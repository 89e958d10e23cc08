//! Moving a pool: planned under a call, and after the loss of its site.

use super::baresip::{address, phone};
use pairline_interop::baresip::Baresip;
use pairline_interop::deployment::Deployment;
use pairline_interop::wait::until;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
/// A baresip over UDP tries the second SRV target 32 s after the first stopped answering, at its next refresh.
const NEXT_TARGET: Duration = Duration::from_secs(120);
const PROCEDURE: &str = "120";

fn steady(pairline: &Deployment) {
    pairline.must(&["pool", "status", "--wait", "steady", "--timeout", PROCEDURE]);
}

fn equal(pairline: &Deployment, pool: &str) {
    let verified = pairline.must(&["pool", "verify", pool]);
    assert!(verified.out.contains("proven equal"), "{}", verified.out);
}

/// The list as it is read; until a lost pool is noticed (the detection interval) nobody can answer for its users.
fn contacts(pairline: &Deployment, user: &str) -> String {
    until(SOON, "contacts can be read", || {
        let said = pairline.cli(&["contact", "list", user]);
        said.success.then_some(said.out)
    })
}

/// Whether alice can be given a contact now; what was said.
fn put(pairline: &Deployment, contact: &str) -> (bool, String) {
    let said = pairline.cli(&["contact", "put", "alice", &address(contact), "--name", contact, "--group", "interop"]);
    (said.success, said.all())
}

/// East is moved to west and back while a call between its users is up; the call goes on and can be ended, new calls work in between.
pub fn planned(pairline: &mut Deployment) {
    steady(pairline);
    let (mut alice, mut bob) = (phone(pairline, "alice", "address"), phone(pairline, "bob", "address"));
    alice.call(&mut bob, &address("bob"), SOON);
    pairline.must(&["pool", "failover", "east", "--dry-run"]);
    pairline.must(&["pool", "failover", "east", "--force", "--reason", "interop"]);
    let (done, said) = put(pairline, "planned");
    assert!(done, "a contact cannot be changed after the failover: {said}");
    alice.hang_up(&mut bob, SOON);
    bob.call(&mut alice, &address("alice"), SOON);
    bob.hang_up(&mut alice, SOON);
    steady(pairline);
    pairline.must(&["pool", "failback", "east", "--reason", "interop"]);
    assert!(contacts(pairline, "alice").contains("planned"));
    alice.call(&mut bob, &address("bob"), SOON);
    alice.hang_up(&mut bob, SOON);
    steady(pairline);
    equal(pairline, "east");
}

/// East dies. Its user registers with west by SRV and calls; contacts are readable and not changeable; the disaster failover gives
/// full service; east comes back fenced; failback; both copies equal and everything acknowledged is there.
pub fn lost(pairline: &mut Deployment) {
    steady(pairline);
    let (done, said) = put(pairline, "before");
    assert!(done, "{said}");
    pairline.must(&["pool", "sync", "east"]);
    let (mut alice, mut carol) = (phone(pairline, "alice", "srv"), phone(pairline, "carol", "address"));
    alice.call(&mut carol, &address("carol"), SOON);
    alice.hang_up(&mut carol, SOON);
    pairline.kill("east");
    until(Duration::from_secs(60), "changes for users of the dead pool are refused", || {
        (!put(pairline, "refused").0).then_some(())
    });
    assert!(contacts(pairline, "alice").contains("before"), "contacts cannot be read in resiliency mode");
    moved(pairline, &mut alice);
    carol.call(&mut alice, &address("alice"), Duration::from_secs(40));
    carol.hang_up(&mut alice, SOON);
    alice.call(&mut carol, &address("carol"), Duration::from_secs(60));
    carol.hang_up(&mut alice, SOON);
    let refused = pairline.cli(&["pool", "failover", "east"]);
    assert!(!refused.success, "a planned failover of a dead pool: {}", refused.all());
    pairline.must(&["pool", "failover", "east", "--disaster", "--dry-run"]);
    pairline.must(&["pool", "failover", "east", "--disaster", "--confirm", "--reason", "interop"]);
    assert!(contacts(pairline, "alice").contains("before"), "acknowledged and shipped, and not there");
    let (done, said) = put(pairline, "after");
    assert!(done, "{said}");
    carol.call(&mut alice, &address("alice"), SOON);
    carol.hang_up(&mut alice, SOON);
    pairline.start_again("east");
    steady(pairline);
    pairline.must(&["pool", "divergence", "east"]);
    pairline.must(&["pool", "failback", "east", "--reason", "interop"]);
    for contact in ["before", "after"] {
        assert!(contacts(pairline, "alice").contains(contact), "{contact} is lost");
    }
    assert!(!contacts(pairline, "alice").contains("refused"), "a refused change is there");
    steady(pairline);
    equal(pairline, "east");
    let (done, said) = put(pairline, "home");
    assert!(done, "{said}");
}

/// Waits until west has a registration of the phone, which notices by itself.
fn moved(pairline: &Deployment, phone: &mut Baresip) {
    until(NEXT_TARGET, "alice is registered at west", || {
        let place = pairline.cli(&["user", "where", "alice", "--json"]);
        (place.success && place.out.contains("127.0.0.1:15070")).then_some(())
    });
    phone.registered(NEXT_TARGET);
}
