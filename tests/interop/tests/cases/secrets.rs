//! What must stay secret: modes of files, and what the servers' logs do not hold.

use pairline_interop::deployment::{DOMAIN, Deployment};
use pairline_interop::digest::{Algorithm, ha1};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// Files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read").flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    let meta = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    meta.permissions().mode() & 0o777
}

/// Passwords of demo users, as far as this deployment has any.
fn passwords(pairline: &Deployment) -> Vec<(&'static str, String)> {
    let known = |user: &&str| pairline.folder().join("clients").join(user).join("password").is_file();
    USERS.into_iter().filter(known).map(|user| (user, pairline.password(user))).collect()
}

/// Keys, passwords, client configurations, token and the servers' data can be read by their owner only; no other file holds a
/// password.
pub fn modes(pairline: &mut Deployment) {
    let folder = pairline.folder();
    let mut private: Vec<PathBuf> =
        ["admin.token", "deployment.secret", "authority/authority.key"].map(|name| folder.join(name)).to_vec();
    for user in USERS {
        private.push(folder.join("clients").join(user).join("password"));
        for variant in ["address", "srv", "outbound"] {
            private.push(pairline.baresip_folder(user, variant).join("accounts"));
        }
        for variant in ["address", "outbound"] {
            private.push(folder.join("clients").join(user).join("linphone").join(variant).join("linphonerc"));
        }
    }
    for pool in ["east", "west"] {
        private.push(pairline.server_config(pool).with_file_name("server.key"));
        private.extend(files(&pairline.server_config(pool).with_file_name("data")));
    }
    for path in &private {
        assert_eq!(mode(path), 0o600, "{} has mode {:o}", path.display(), mode(path));
    }
    let passwords = passwords(pairline);
    assert_eq!(passwords.len(), USERS.len());
    for path in files(folder).into_iter().filter(|path| mode(path) & 0o077 != 0) {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("the file can be read")).into_owned();
        let told = passwords.iter().find(|(_, password)| text.contains(password));
        assert!(told.is_none(), "{} can be read by others and holds a password", path.display());
        assert!(!text.contains("PRIVATE KEY"), "{} can be read by others and holds a key", path.display());
    }
    assert_eq!(mode(folder), 0o700, "others may look into the data folder");
}

/// Everything that no log may hold, and what it is.
fn secrets(pairline: &Deployment) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut known = passwords(pairline);
    known.extend(pairline.secrets().iter().map(|secret| ("somebody", secret.clone())));
    for (user, password) in known {
        for algorithm in Algorithm::ALL {
            let value = ha1(algorithm, user, DOMAIN, &password);
            all.push((format!("HA1 ({}) of {user}", algorithm.token()), value));
        }
        all.push((format!("password of {user}"), password));
    }
    let read = |name: &str| fs::read_to_string(pairline.folder().join(name)).expect("the folder has its secrets");
    all.push(("the administrator's token".to_owned(), read("admin.token").trim().to_owned()));
    for part in read("deployment.secret").split(['"', '\'']).filter(|part| part.len() >= 32) {
        all.push(("the deployment's secret".to_owned(), part.to_owned()));
    }
    for path in files(pairline.folder()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "key")) {
        let text = fs::read_to_string(&path).expect("a key is text");
        let lines = text.lines().filter(|line| !line.starts_with("-----") && line.len() >= 32);
        all.extend(lines.map(|line| (path.display().to_string(), line.to_owned())));
    }
    all
}

/// No line of any server holds a password, an HA1, a token or a part of a key.
pub fn logs(pairline: &mut Deployment) {
    let secrets = secrets(pairline);
    assert!(secrets.iter().any(|(what, _)| what.contains("token")) && secrets.len() > 5, "the secrets are not found");
    let lines = pairline.server_lines();
    assert!(lines.len() > 5, "the servers have said nothing: {lines:?}");
    for line in &lines {
        let told = secrets.iter().find(|(_, secret)| line.contains(secret.as_str()));
        assert!(told.is_none(), "the log tells {}: {line}", told.map(|(what, _)| what.as_str()).unwrap_or_default());
    }
}
