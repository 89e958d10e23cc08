//! Proof that nothing is lost: contacts put before, lists as they were and both copies equal afterwards.
//!
//! Owns the lists that were read before. Where a change in between was meant, the case says so by putting it here as well.

use super::baresip::address;
use pairline_interop::deployment::Deployment;
use pairline_interop::wait::until;
use std::time::Duration;

/// Time for a procedure, a link or a recovery to get both copies in step.
pub const STEADY: &str = "30";
const SOON: Duration = Duration::from_secs(30);
/// A user of each pool.
const USERS: [&str; 2] = ["alice", "carol"];

/// What users have.
pub struct Kept {
    lists: Vec<String>,
}

/// Waits until both directions keep up and both servers see both pools at rest: a pool that came back is heard for its failback
/// interval before it is one again.
pub fn steady(pairline: &Deployment) {
    pairline.must(&["pool", "status", "--wait", "steady", "--timeout", STEADY]);
    let rest = |server, pool| {
        let row = pairline.pool_at(server, pool);
        row["alive"] == true && (row["mode"] == "normal" || row["mode"] == "failed over")
    };
    let all = [("east", "east"), ("east", "west"), ("west", "east"), ("west", "west")];
    until(SOON, "both pools are at rest", || all.iter().all(|(server, pool)| rest(server, pool)).then_some(()));
}

/// Both pools' copies are proven equal.
pub fn equal(pairline: &Deployment) {
    steady(pairline);
    for pool in ["east", "west"] {
        let verified = pairline.must(&["pool", "verify", pool]);
        assert!(verified.out.contains("proven equal"), "{}", verified.out);
    }
}

/// A user's contact list, when it can be read.
pub fn contacts(pairline: &Deployment, user: &str) -> String {
    until(SOON, "contacts can be read", || {
        let said = pairline.cli(&["contact", "list", user]);
        said.success.then_some(said.out)
    })
}

/// Puts a contact that must be accepted.
pub fn put(pairline: &Deployment, user: &str, contact: &str) {
    pairline.must(&["contact", "put", user, &address(contact), "--name", contact, "--group", "kept"]);
}

impl Kept {
    /// Gives a user of each pool a contact of that name and remembers what everybody has.
    pub fn with(pairline: &Deployment, mark: &str) -> Kept {
        USERS.iter().for_each(|user| put(pairline, user, mark));
        Kept { lists: USERS.iter().map(|user| contacts(pairline, user)).collect() }
    }

    /// The lists are as they were, and both copies are equal.
    pub fn still(&self, pairline: &Deployment) {
        for (user, list) in USERS.iter().zip(&self.lists) {
            assert_eq!(contacts(pairline, user), *list, "the contacts of {user} are not what was acknowledged");
        }
        equal(pairline);
    }
}
