//! Starting: what `up` says, and that both pools reach a steady pair.

use pairline_interop::deployment::{DOMAIN, Deployment};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The demo's users and their homes.
pub const USERS: [(&str, &str); 4] = [("alice", "east"), ("bob", "east"), ("carol", "west"), ("dave", "west")];

/// The demo as `up` makes it.
pub fn demo(binary: &Path, folder: &Path) -> Deployment {
    Deployment::start(binary, &folder.join("data"), &[])
}

/// Takes topology and client configurations of a demo, and starts the same users with another text of the topology: each first text of
/// `edits` is replaced by the second.
pub fn edited(binary: &Path, folder: &Path, edits: &[(&str, &str)], resolv_conf: Option<&Path>) -> Deployment {
    let mut demo = Deployment::start(binary, &folder.join("demo"), &[]);
    assert!(demo.stop(), "the demo did not stop when asked");
    let mut text = fs::read_to_string(demo.folder().join("topology.toml")).expect("a deployment has its topology");
    for (from, to) in edits {
        assert!(text.contains(from), "the demo's topology has no `{from}`:\n{text}");
        text = text.replace(from, to);
    }
    let topology = folder.join("edited.toml");
    fs::write(&topology, text).expect("the folder can be written");
    let options = ["--topology", &topology.to_string_lossy()];
    let mut deployment = Deployment::start_resolving(binary, &folder.join("data"), &options, resolv_conf);
    for (user, pool) in USERS {
        deployment.keep_secret(&demo.password(user));
        deployment.must(&["user", "add", user, "--pool", pool, "--password", &demo.password(user)]);
    }
    deployment.must(&["pool", "status", "--wait", "steady", "--timeout", "60"]);
    deployment
}

/// The password of a user of an edited demo.
pub fn password(deployment: &Deployment, user: &str) -> String {
    let root = deployment.folder().parent().expect("data lies in the group's folder");
    let path = root.join("demo/clients").join(user).join("password");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// The greeting names addresses, users and commands; client configurations and passwords lie where it says.
pub fn greeting(pairline: &mut Deployment) {
    let text = pairline.up().tail(usize::MAX);
    for part in ["127.0.1.1:5060 UDP", "127.0.2.1:5060 TCP", "pool failover east", "drill", DOMAIN] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    for user in ["alice", "bob", "carol", "dave"] {
        let password = pairline.password(user);
        assert!(text.contains(user) && text.contains(&password), "{user} is missing in:\n{text}");
        for variant in ["address", "srv", "outbound", "tls"] {
            assert!(pairline.baresip_folder(user, variant).join("accounts").is_file(), "{user} {variant}");
        }
        let shown = pairline.must(&["user", "show", user]);
        assert!(shown.out.contains(user), "{}", shown.out);
    }
    let wrong = pairline.cli(&["user", "show", "nobody"]);
    assert!(!wrong.success, "a user that does not exist is shown: {}", wrong.out);
}

/// `pool status --wait steady` ends, and `pool verify` proves both pools' copies equal.
pub fn steady(pairline: &mut Deployment) {
    pairline.must(&["pool", "status", "--wait", "steady", "--timeout", "60"]);
    for pool in ["east", "west"] {
        let verified = pairline.must(&["pool", "verify", pool]);
        assert!(verified.out.contains("proven equal"), "{}", verified.out);
    }
}

/// The folder is locked and the ports are taken: the second `up` says so and touches nothing.
pub fn second_up(pairline: &mut Deployment) {
    let before = pairline.must(&["user", "list"]).out;
    let second = pairline.cli(&["up"]);
    assert!(!second.success, "a second up runs: {}", second.out);
    assert!(second.err.contains("another `pairline up` runs"), "{}", second.err);
    let fresh = pairline.cli(&["up", "--fresh"]);
    assert!(!fresh.success, "a second up starts over: {}", fresh.out);
    assert_eq!(pairline.must(&["user", "list"]).out, before);
    pairline.must(&["pool", "status", "--wait", "steady", "--timeout", &Duration::from_secs(30).as_secs().to_string()]);
}
