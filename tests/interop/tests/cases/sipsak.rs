//! sipsak: OPTIONS over UDP and TCP, registration with digest, and its parser torture. No floods.

use super::east;
use pairline_interop::deployment::Deployment;
use pairline_interop::program::Program;
use std::process::Command;
use std::time::Duration;

/// Time for any of its runs but the torture.
const SOON: Duration = Duration::from_secs(20);

/// Runs it to its end; whether it got a 200, and all that it printed.
fn sipsak(args: &[&str], limit: Duration) -> (bool, String) {
    let mut program = Program::start("sipsak", Command::new("sipsak").args(args));
    let status = program.finish(limit);
    (status.success(), program.lines(0).join("\n"))
}

/// A server answers for itself, by datagram and by connection.
pub fn options(_: &mut Deployment) {
    let server = format!("sip:{}", east());
    for transport in ["udp", "tcp"] {
        let (good, told) = sipsak(&["-vv", "-E", transport, "-s", &server], SOON);
        assert!(good && told.contains("SIP/2.0 200") && told.contains("Allow:"), "{transport}: {told}");
    }
}

fn usrloc(password: &str, expires: &str) -> (bool, String) {
    let user = format!("sip:alice@{}", east());
    let contact = "sip:alice@127.0.0.1:17301";
    let args = ["-vvv", "-U", "-i", "-C", contact, "-x", expires, "-u", "alice", "-a", password, "-s", &user];
    sipsak(&args, SOON)
}

/// A registration through the challenge, its removal, and a wrong password.
pub fn register(pairline: &mut Deployment) {
    let password = pairline.password("alice");
    let listed = || pairline.must(&["registration", "list", "alice"]).out;
    let (good, told) = usrloc(&password, "60");
    assert!(good && told.contains("401 Unauthorized"), "a challenge, then a 200: {told}");
    assert!(listed().contains("127.0.0.1:17301"), "{}", listed());
    let (good, told) = usrloc(&password, "0");
    assert!(good, "{told}");
    assert!(!listed().contains("17301"), "{}", listed());
    let (good, told) = usrloc("not the password", "60");
    assert!(!good, "{told}");
    assert!(!listed().contains("17301"), "{}", listed());
}

/// Its torture: one request after the other with more and more characters replaced, until one of them gets no answer (a Via may be
/// among what was replaced) or is granted. Whatever it sent, the server serves on.
pub fn trash(_: &mut Deployment) {
    let server = format!("sip:{}", east());
    let (_, told) = sipsak(&["-v", "-R", "-t", "40", "-s", &server], Duration::from_secs(60));
    assert!(told.contains("randomized chars"), "{told}");
    let (good, told) = sipsak(&["-v", "-s", &server], SOON);
    assert!(good, "the server does not serve any more: {told}");
}
