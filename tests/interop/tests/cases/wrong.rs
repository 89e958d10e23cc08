//! What an administrator may do wrong: a clear answer each, and nothing is touched.

use super::kept::{Kept, steady};
use super::{east, raw_serves};
use pairline_interop::deployment::{Deployment, Said};
use pairline_interop::phone::Phone;
use pairline_interop::program::Program;
use pairline_interop::raw;
use std::time::Duration;

/// Time for a procedure.
const PROCEDURE: Duration = Duration::from_secs(60);

fn refused(said: &Said, parts: &[&str]) {
    assert!(!said.success, "it was done: {}", said.all());
    for part in parts {
        assert!(said.err.contains(part), "`{part}` is missing in: {}", said.all());
    }
}

/// A stream may end anywhere in a message: nothing comes of the part, and the server goes on.
pub fn closed_stream(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "closedstream");
    let pid = pairline.server_pid("east");
    let mut phone = Phone::new("alice", east(), 17_301);
    let challenge = phone.challenge();
    let credentials = phone.credentials(&challenge, &pairline.password("alice"));
    let register = phone.message("TCP", &credentials);
    let with_body = raw::request("OPTIONS", "sip:pairline.test", "TCP 127.0.0.1:9", "closedbody", "")
        .replace("Content-Length: 0\r\n\r\n", "Content-Length: 400\r\n\r\nhalf a body");
    let mut parts: Vec<&str> = [
        "REGI",
        "REGISTER sip:pairline.test SIP/2.0",
        "REGISTER sip:pairline.test SIP/2.0\r\n",
        "REGISTER sip:pairline.test SIP/2.0\r\nVia: SIP/2.0/TCP 127",
        &register[..register.len() / 2],
        &register[..register.len() - 2],
        &register[..register.len() - 1],
        &with_body,
    ]
    .to_vec();
    let whole = format!("{with_body}{}", "x".repeat(300));
    parts.push(&whole);
    for (number, part) in parts.iter().enumerate() {
        let mut stream = raw::connect(east());
        raw::pour(&mut stream, part.as_bytes());
        drop(stream);
        raw_serves(east(), &format!("afterpart{number}"));
    }
    let listed = pairline.must(&["registration", "list", "alice"]).out;
    assert!(!listed.contains("17301"), "a part of a REGISTER was taken for a whole one: {listed}");
    assert_eq!(pairline.server_pid("east"), pid, "east was replaced: it must have died");
    kept.still(pairline);
}

/// A nonce that this server never gave, one that was changed and one that was used: the digest is right, so the answer says
/// `stale=true` with a new nonce, and that one works. A wrong digest is never called stale.
pub fn forged_nonce(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "forgednonce");
    let password = pairline.password("alice");
    let mut phone = Phone::new("alice", east(), 17_311);
    let given = phone.challenge();
    let changed = {
        let mut nonce = given.nonce.clone().into_bytes();
        let middle = nonce.len() / 2;
        nonce[middle] = if nonce[middle] == b'a' { b'b' } else { b'a' };
        String::from_utf8(nonce).expect("a nonce is text")
    };
    for nonce in ["0123456789abcdef0123456789abcdef".to_owned(), "x".to_owned(), changed] {
        let mut forged = given.clone();
        forged.nonce = nonce;
        let right = phone.register(&phone.credentials(&forged, &password));
        let again = stale(&right, &forged.nonce);
        let wrong = phone.register(&phone.credentials(&forged, "not the password"));
        assert!(wrong.starts_with("SIP/2.0 401 ") && !wrong.contains("stale"), "{wrong}");
        let listed = pairline.must(&["registration", "list", "alice"]).out;
        assert!(!listed.contains("17311"), "a forged nonce was accepted: {listed}");
        assert!(again.nonce.len() > 20, "{again:?}");
    }
    let credentials = phone.credentials(&given, &password);
    let told = phone.register(&credentials);
    assert!(told.starts_with("SIP/2.0 200 "), "{told}");
    let repeated = phone.register(&credentials);
    let fresh = stale(&repeated, &given.nonce);
    let told = phone.register(&phone.credentials(&fresh, &password));
    assert!(told.starts_with("SIP/2.0 200 "), "the nonce that came with stale=true is not good: {told}");
    pairline.must(&["registration", "drop", "alice"]);
    kept.still(pairline);
}

/// The challenge of an answer that calls a nonce stale and gives another one.
fn stale(answer: &str, nonce: &str) -> pairline_interop::digest::Challenge {
    assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
    let challenge = pairline_interop::digest::Challenge::of(answer);
    assert!(challenge.stale, "the digest was right, so only the nonce is at fault: {answer}");
    assert_ne!(challenge.nonce, nonce);
    challenge
}

/// Commands for a pool that is not there name those that are.
pub fn pool_name(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "poolname");
    let commands: [&[&str]; 9] = [
        &["pool", "verify", "nowhere"],
        &["pool", "sync", "nowhere"],
        &["pool", "failover", "nowhere"],
        &["pool", "failover", "nowhere", "--disaster", "--confirm", "--force"],
        &["pool", "failback", "nowhere"],
        &["pool", "divergence", "nowhere"],
        &["pool", "pair", "east", "nowhere"],
        &["pool", "unpair", "nowhere", "west"],
        &["user", "add", "somebody", "--pool", "nowhere", "--password", "irrelevant"],
    ];
    for command in commands {
        let said = pairline.cli(command);
        refused(&said, &["nowhere", "east, west"]);
        let json = pairline.cli(&[&["--json"], command].concat());
        assert!(!json.success, "{}", json.all());
        assert_eq!(json.json()["status"], 404, "{}", json.out);
    }
    refused(&pairline.cli(&["procedure", "resume", "ffff"]), &["no procedure", "procedure list"]);
    kept.still(pairline);
}

/// Giving up what a healthy pool has not shipped needs to be wanted.
pub fn healthy_disaster(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "healthy");
    for confirm in [&["--reason", "interop"][..], &["--confirm"][..]] {
        let command = [&["pool", "failover", "east", "--disaster"], confirm].concat();
        refused(&pairline.cli(&command), &["east answers", "planned procedure", "--force"]);
    }
    for server in ["east", "west"] {
        assert_eq!(pairline.pool_at(server, "east")["serving_own"], 32);
        assert_eq!(pairline.pool_at(server, "east")["mode"], "normal");
    }
    kept.still(pairline);
}

fn ended(program: &mut Program) -> (bool, String) {
    let status = program.finish(PROCEDURE);
    (status.success(), program.tail(usize::MAX))
}

/// Ids of procedures that are done, newest first.
fn done(pairline: &Deployment) -> usize {
    let list = pairline.must(&["procedure", "list", "--json"]).json();
    let all = list["procedures"].as_array().cloned().unwrap_or_default();
    assert!(all.iter().all(|procedure| procedure["state"] == "done"), "{list}");
    all.len()
}

/// Two administrators, two servers, one moment: one failover happens, the other is told why it does not.
pub fn two_failovers(pairline: &mut Deployment) {
    steady(pairline);
    let kept = Kept::with(pairline, "twofailovers");
    let before = done(pairline);
    let start = |server: &str, reason: &str| {
        let server = Deployment::admin(server);
        pairline.start_cli(&["--server", server, "pool", "failover", "east", "--reason", reason])
    };
    let (mut one, mut other) = (start("east", "one"), start("west", "other"));
    let (one, other) = (ended(&mut one), ended(&mut other));
    assert!(one.0 != other.0, "not exactly one of two was done:\n{}\n---\n{}", one.1, other.1);
    let loser = if one.0 { other.1 } else { one.1 };
    let late = loser.contains("serves nothing that would move");
    let meanwhile = loser.contains("has not ended") || loser.contains("runs here now");
    assert!(late || meanwhile, "refused without the reason: {loser}");
    assert!(loser.contains("procedure") || loser.contains("pool status"), "refused without remedy: {loser}");
    assert_eq!(done(pairline), before + 1);
    for server in ["east", "west"] {
        assert_eq!(pairline.pool_at(server, "west")["serving_own"], 32, "as seen by {server}");
    }
    assert_eq!(pairline.pool_at("west", "west")["serving_partner"], 32);
    assert_eq!(pairline.pool_at("east", "east")["serving_own"], 0);
    kept.still(pairline);
    refused(&pairline.cli(&["pool", "failover", "east"]), &["serves nothing that would move"]);
    pairline.must(&["pool", "failback", "east", "--reason", "interop"]);
    assert_eq!(pairline.pool_at("east", "east")["serving_own"], 32);
    kept.still(pairline);
}
