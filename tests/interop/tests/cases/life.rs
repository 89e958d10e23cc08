//! The life of `up`: what it refuses to touch, Ctrl-C, a second start, starting over.

use super::kept::{Kept, equal, put, steady};
use pairline_interop::deployment::{Deployment, Said};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every file below a folder: mode and content. The servers' own data is left out: it changes while they run.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read").flatten() {
            let path = entry.path();
            let meta = entry.metadata().expect("the entry is there");
            if meta.is_file() {
                found.insert(path.clone(), (meta.permissions().mode(), fs::read(&path).expect("the file can be read")));
            } else if !path.ends_with("data") {
                open.push(path);
            }
        }
    }
    found
}

/// A copy of the deployment's folder without the servers' data.
fn copy(pairline: &Deployment, name: &str) -> PathBuf {
    let place = pairline.folder().with_file_name(name);
    for (path, (mode, content)) in everything(pairline.folder()) {
        let below = path.strip_prefix(pairline.folder()).expect("it was found below the folder");
        let new = place.join(below);
        fs::create_dir_all(new.parent().unwrap_or(&place)).expect("the folder can be made");
        fs::write(&new, content).expect("the file can be written");
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("its mode can be set");
    }
    place
}

fn refused(said: &Said, parts: &[&str]) {
    assert!(!said.success, "`up` ran: {}", said.all());
    for part in parts {
        assert!(said.err.contains(part), "`{part}` is missing in: {}", said.all());
    }
}

/// Ports in use are named; neither a new folder nor one that `--fresh` would replace is touched, and the deployment that holds the
/// ports goes on.
pub fn ports_in_use(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "portsinuse");
    let new = pairline.folder().with_file_name("never-made");
    let named = [
        "nothing was touched",
        "UDP 127.0.1.1:5060 (SIP of fe1.east",
        "TCP 127.0.2.1:5060",
        "127.0.1.1:5353",
        "in use",
    ];
    refused(&pairline.cli_in(&new, &["up"], ""), &named);
    assert!(!new.exists(), "a folder was made for a deployment that cannot start");
    let old = copy(pairline, "older");
    let before = everything(&old);
    refused(&pairline.cli_in(&old, &["up"], ""), &named);
    refused(&pairline.cli_in(&old, &["up", "--fresh"], ""), &named);
    assert!(everything(&old) == before, "the folder was touched");
    kept.still(pairline);
}

/// A folder that is not one of Pairline's, or one of a newer build, is refused with and without `--fresh`, and stays as it was.
pub fn foreign_folders(pairline: &mut Deployment) {
    let foreign = pairline.folder().with_file_name("foreign");
    fs::create_dir_all(foreign.join("photos")).expect("the folder can be made");
    fs::write(foreign.join("photos/cat.txt"), "a cat").expect("the folder can be written");
    let newer = copy(pairline, "newer");
    let marker = newer.join("deployment.json");
    let text = fs::read_to_string(&marker).expect("a deployment has its marker");
    let changed = text.replace("\"format\": 1", "\"format\": 99");
    assert_ne!(text, changed, "the marker says its format");
    fs::write(&marker, changed).expect("the folder can be written");
    let file = pairline.folder().with_file_name("a-file");
    fs::write(&file, "no folder at all").expect("the file can be written");
    let cases: [(&Path, &[&str]); 3] = [
        (&foreign, &["not a data folder of Pairline", "nothing was touched", "--data"]),
        (&newer, &["data format 99", "nothing was touched", "newer build"]),
        (&file, &["not a data folder of Pairline", "nothing was touched"]),
    ];
    for (folder, parts) in cases {
        let before = if folder.is_dir() { everything(folder) } else { BTreeMap::new() };
        for options in [&["up"][..], &["up", "--fresh"]] {
            refused(&pairline.cli_in(folder, options, ""), parts);
        }
        assert!(!folder.is_dir() || everything(folder) == before, "{} was touched", folder.display());
    }
    assert_eq!(fs::read_to_string(&file).expect("the file is there"), "no folder at all");
}

/// Ctrl-C stops both servers cleanly; nobody is left; the next `up` finds users, passwords and contacts again.
pub fn second_start(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "secondstart");
    let password = pairline.password("alice");
    let mark = pairline.up().mark();
    assert!(pairline.interrupt(), "Ctrl-C does not stop it cleanly: {}", pairline.up().tail(20));
    let said = pairline.up().lines(mark).join("\n");
    for part in ["stopping", "east stopped", "west stopped"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
    assert!(!said.contains("killed"), "{said}");
    for pool in ["east", "west"] {
        assert_eq!(pairline.server_pid(pool), None, "the server of {pool} outlived `up`");
    }
    let nobody = pairline.cli(&["user", "list"]);
    assert!(!nobody.success && nobody.err.contains("no server answers"), "{}", nobody.all());
    pairline.up_again(&[]);
    pairline.up().expect_line(0, Duration::from_secs(10), "found the data of an earlier start");
    let text = pairline.up().tail(usize::MAX);
    assert!(text.contains(&password), "{text}");
    assert_eq!(pairline.password("alice"), password);
    kept.still(pairline);
}

/// `--fresh` starts over: new passwords, new users, nothing of what was.
pub fn fresh(pairline: &mut Deployment) {
    steady(pairline);
    put(pairline, "alice", "beforefresh");
    pairline.must(&["user", "add", "erika", "--password", "soon-forgotten"]);
    let password = pairline.password("alice");
    pairline.keep_secret(&password);
    assert!(pairline.interrupt(), "Ctrl-C does not stop it cleanly");
    pairline.up_again(&["--fresh"]);
    steady(pairline);
    assert_ne!(pairline.password("alice"), password, "the old password is still the one");
    let list = pairline.must(&["contact", "list", "alice"]).out;
    assert!(!list.contains("beforefresh") && list.contains("sip:bob@pairline.test"), "{list}");
    assert!(!pairline.cli(&["user", "show", "erika"]).success, "a user of the old deployment is there");
    let procedures = pairline.must(&["procedure", "list"]).out;
    assert!(procedures.contains("no procedures"), "{procedures}");
    equal(pairline);
}
