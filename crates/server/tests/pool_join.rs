//! Real processes: a new machine joins a running pool with a token that works once, and is one of its servers.
#![allow(clippy::unwrap_used)]

use super::people;
use super::processes;

use people::{all_served, change, phones_at, with_phones};
use processes::{Pool, Running};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

/// An invitation that waits: where, and with which token.
struct Invited {
    running: Running,
    address: String,
    token: String,
}

fn invite(pool: &Pool, name: &str) -> Invited {
    let mut running = pool.command(&["server", "invite", name, "--listen", "127.0.0.1:0", "--minutes", "2"]);
    let line = running.line("server join");
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| words[words.iter().position(|w| *w == word).unwrap() + 1].to_owned();
    let (address, token) = (after("join"), after("--token"));
    Invited { running, address, token }
}

fn join(pool: &Pool, folder: &Path, address: &str, token: &str) -> Output {
    pool.command_on(folder, &["server", "join", address, "--token", token]).wait_while(|| {})
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Files below a folder that others than their owner may read, and that are secret.
fn open_secrets(folder: &Path) -> Vec<PathBuf> {
    let secret = ["server.key", "deployment.secret", "admin.token"];
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let mode = entry.metadata().unwrap().permissions().mode();
            match path.is_dir() {
                true => folders.push(path),
                false if secret.iter().any(|name| path.ends_with(name)) && mode & 0o077 != 0 => found.push(path),
                false => {}
            }
        }
    }
    found
}

#[test]
fn a_machine_joins_with_a_token_that_works_once() {
    let (mut pool, mut phones) = with_phones();
    pool.announce(1);
    let name = pool.topology.server[3].name.clone();
    let invited = invite(&pool, &name);
    let folder = pool.machine("new");

    // The token of another invitation: its maker is not the one that is asked, and nothing is left behind.
    let other = invite(&pool, &name);
    let refused = join(&pool, &folder, &invited.address, &other.token);
    assert!(!refused.status.success() && said(&refused).contains("does not answer as the maker"), "{refused:?}");
    // Its secret is not known there either.
    let (secret, maker) = (other.token.split('-').nth(1).unwrap(), invited.token.split('-').nth(2).unwrap());
    let refused = join(&pool, &folder, &invited.address, &format!("j1-{secret}-{maker}"));
    assert!(said(&refused).contains("not the one that is waited for"), "{refused:?}");
    assert!(!folder.exists());
    other.running.end();

    // A folder in which there is something is not touched, and the token is still good.
    let busy = pool.machine("busy");
    std::fs::create_dir(&busy).unwrap();
    std::fs::write(busy.join("mine"), "").unwrap();
    let refused = join(&pool, &busy, &invited.address, &invited.token);
    assert!(said(&refused).contains("is not empty"), "{refused:?}");
    assert_eq!(std::fs::read_dir(&busy).unwrap().count(), 1);

    let joined = join(&pool, &folder, &invited.address, &invited.token);
    assert!(joined.status.success(), "{joined:?}");
    let (well, rest) = invited.running.rest();
    assert!(well && rest.contains(&format!("{name} has joined, on 127.0.0.1")), "{rest}");
    assert!(rest.contains("asked without the token and got nothing"), "{rest}");
    assert_eq!(open_secrets(&folder), Vec::<PathBuf>::new());
    assert!(!folder.join("authority/authority.key").exists(), "the authority's key stays where it was");
    let again = join(&pool, &pool.machine("again"), &invited.address, &invited.token);
    assert!(!again.status.success(), "a token works once");

    let config = folder.join("servers").join(&name).join("server.toml");
    assert!(String::from_utf8_lossy(&joined.stdout).contains(config.to_str().unwrap()), "{joined:?}");
    pool.start_joined(config);
    // From its own folder, as its administrator would look.
    let health = pool.command_on(&folder, &["pool", "health", "--wait", "--timeout", "60"]).wait_while(|| {});
    assert!(health.status.success(), "{health:?}\n{}", pool.logs());
    let view = pool.settled(3);
    assert!(view.pools[0].servers[3].up && view.pools[0].servers[3].copies > 0, "{view:?}");
    let refused = pool.command(&["server", "invite", &name, "--listen", "127.0.0.1:0"]).wait_while(|| {});
    assert!(!refused.status.success() && said(&refused).contains("runs and answers"), "{refused:?}");
    change(&pool, &[3], 1);
    all_served(&pool, &mut phones, &[3, 0], 2);
    // It counts: another one may die.
    pool.kill(1);
    change(&pool, &[3, 0, 2], 2);
}

#[test]
fn a_witness_is_replaced_by_an_invitation_and_gets_no_secret() {
    let mut pool = Pool::witnessed();
    let _phones = phones_at(&pool, 2);
    pool.kill(2);
    let name = pool.topology.server[2].name.clone();
    let invited = invite(&pool, &name);
    let folder = pool.machine("witness");
    let joined = join(&pool, &folder, &invited.address, &invited.token);
    assert!(joined.status.success() && invited.running.rest().0, "{joined:?}");
    for secret in ["deployment.secret", "admin.token", "authority/authority.key"] {
        assert!(!folder.join(secret).exists(), "{secret}");
    }
    assert!(!String::from_utf8_lossy(&joined.stdout).contains("pool health"), "it may ask for nothing: {joined:?}");
    // It would start over, and what is there is all that this machine has.
    let refused = pool.command_on(&folder, &["up", "--fresh"]).wait_while(|| {});
    assert!(said(&refused).contains("is the folder of a server that joined"), "{refused:?}");
    pool.start_elsewhere(2, folder.join("servers").join(&name).join("server.toml"));
    let view = pool.settled(0);
    assert!(view.pools[0].servers[2].witness && view.pools[0].servers[2].up, "{view:?}");
    // It votes: one of the two that hold data may die.
    pool.kill(0);
    change(&pool, &[1], 1);
}

#[test]
fn nobody_is_invited_as_a_server_that_there_is_not() {
    let pool = Pool::start(3);
    let refuse = |args: &[&str]| {
        let output = pool.command(args).wait_while(|| {});
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        said(&output)
    };
    let listen = ["--listen", "127.0.0.1:0"];
    let text = refuse(&[&["server", "invite", "nobody.east"][..], &listen].concat());
    assert!(text.contains("has no server nobody.east"), "{text}");
    let name = pool.topology.server[0].name.clone();
    let text = refuse(&["server", "invite", &name, "--listen", "0.0.0.0:0"]);
    assert!(text.contains("no address that the new machine can reach"), "{text}");
    let text = refuse(&[
        "server",
        "join",
        "127.0.0.1:1",
        "--token",
        "j1-00112233445566778899aabbccddeeff-00112233445566778899aabbccddeeff",
    ]);
    assert!(text.contains("is not empty"), "a deployment's folder is none of a new server: {text}");
    let text = pool.command(&["server", "join", "127.0.0.1:1", "--token", "x"]).wait_while(|| {});
    assert!(said(&text).contains("this is no token of `pairline server invite`"), "{text:?}");
}
