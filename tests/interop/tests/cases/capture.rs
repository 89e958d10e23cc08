//! What happened to a call: the administrator's trace of one user, and the capture files that a server keeps.

use super::{east, west};
use pairline_interop::deployment::Deployment;
use pairline_interop::program::{Program, lacks};
use pairline_interop::sipp::{Sipp, finish};
use pairline_interop::wait::until;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// The demo whose servers keep capture files.
pub fn start(binary: &Path, folder: &Path) -> Deployment {
    let mut deployment = Deployment::start(binary, &folder.join("data"), &[]);
    assert!(deployment.interrupt(), "the demo did not stop when asked");
    for pool in ["east", "west"] {
        let config = fs::OpenOptions::new().append(true).open(deployment.server_config(pool));
        let text = "\n[capture]\npcap = true\npcap_files = 3\npcap_file_mib = 1\n";
        config.and_then(|mut file| file.write_all(text.as_bytes())).expect("the configuration can be written");
    }
    deployment.up_again(&[]);
    deployment
}

fn register(pairline: &Deployment, user: &str, server: SocketAddr, port: u16, contact: &str) {
    let mut sipp = Sipp::new("register", server, port);
    sipp.keys = vec![("user", user.to_owned()), ("contact", contact.to_owned()), ("expires", "300".to_owned())];
    sipp.user = Some((user, pairline.password(user)));
    sipp.run(pairline.folder());
}

/// One call with a re-INVITE from alice at east to carol at west.
fn call(pairline: &Deployment, port: u16) {
    register(pairline, "carol", west(), port, &format!("sip:carol@127.0.0.1:{}", port + 1));
    let mut listening = Sipp::new("call_uas", west(), port + 1).start(pairline.folder());
    let mut calling = Sipp::new("call_uac", east(), port + 2);
    calling.keys = vec![("user", "alice".to_owned()), ("other", "carol".to_owned())];
    calling.user = Some(("alice", pairline.password("alice")));
    calling.run(pairline.folder());
    finish(&mut listening);
}

/// Starts a trace and waits until both servers trace.
pub fn trace(pairline: &Deployment, args: &[&str]) -> Program {
    let tracing = pairline.start_cli(&[&["trace", "user"], args].concat());
    for server in ["fe1.east", "fe1.west"] {
        tracing.expect_line(0, SOON, &format!("traced at {server}"));
    }
    tracing
}

/// Ctrl-C ends a trace; it says what it has seen. What it said.
pub fn told(tracing: &mut Program) -> Vec<String> {
    assert!(tracing.interrupt(), "the trace did not end when asked");
    assert!(tracing.ended().is_some_and(|status| status.success()), "{}", tracing.tail(40));
    tracing.lines(0)
}

/// The administrator follows a call of alice across both servers, and reads it as a ladder.
pub fn ladder(pairline: &mut Deployment) {
    let mut tracing = trace(pairline, &["alice", "--seconds", "120"]);
    call(pairline, 17_600);
    let lines = told(&mut tracing);
    let at = |from: usize, words: &[&str]| {
        let found = lines.iter().skip(from).position(|line| words.iter().all(|word| line.contains(word)));
        from + found.unwrap_or_else(|| panic!("no line with {words:?} after line {from}:\n{}", lines.join("\n")))
    };
    let head = at(0, &["127.0.0.1:17602", "fe1.east", "fe1.west", "127.0.0.1:17601"]);
    let asked = at(head, &["INVITE SDP", ">", "UDP"]);
    let refused = at(asked, &["407 ", "<"]);
    let through = at(refused, &["INVITE SDP", ">", "link"]);
    let ringing = at(through, &["180 ", "<", "UDP"]);
    let taken = at(ringing, &["200 ", "(INVITE) SDP", "<", "link"]);
    let ended = at(taken, &["BYE", "UDP"]);
    at(ended, &["200 ", "(BYE)"]);
    at(0, &["fe1.east", "clock", "within"]);
    assert!(!lines.iter().any(|line| line.contains("REGISTER")), "carol's registration is not alice's");
}

/// The same while it happens, and for machines; whoever is no administrator is refused.
pub fn follow(pairline: &mut Deployment) {
    let tracing = trace(pairline, &["carol", "--follow", "--seconds", "120"]);
    register(pairline, "carol", west(), 17_610, "sip:carol@127.0.0.1:17611");
    tracing.expect_line(0, SOON, "200 OK (REGISTER)");
    drop(tracing);
    let mut tracing = trace(pairline, &["carol", "--seconds", "120", "--json"]);
    register(pairline, "carol", west(), 17_612, "sip:carol@127.0.0.1:17611");
    let lines = told(&mut tracing);
    // What is said beside it stands at the beginning of its lines.
    let text: String = lines.iter().filter(|line| line.starts_with(['{', '}', ' '])).map(String::as_str).collect();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(value["servers"].as_array().map(Vec::len), Some(2), "{value}");
    let words: Vec<&str> =
        value["messages"].as_array().into_iter().flatten().filter_map(|m| m["words"].as_str()).collect();
    assert_eq!(words, ["REGISTER", "401 Unauthorized (REGISTER)", "REGISTER", "200 OK (REGISTER)"]);
    let answered = value["messages"][2]["message"]["message"].as_str().unwrap_or_default();
    assert!(answered.contains("response=\"xxxxxxxx") && !answered.contains(&pairline.password("carol")), "{answered}");
    let token = pairline.folder().join("carol.token");
    fs::write(&token, pairline.must(&["user", "token", "carol"]).out).expect("the folder can be written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    let said = pairline.cli(&["trace", "user", "carol", "--seconds", "5", "--token-file", &token.to_string_lossy()]);
    assert!(!said.success && said.err.contains("Not allowed"), "{}", said.all());
}

/// A server that is away is named, and what the other sees is shown all the same.
pub fn one_away(pairline: &mut Deployment) {
    pairline.kill("west");
    let mut tracing = pairline.start_cli(&["trace", "user", "alice", "--seconds", "120"]);
    tracing.expect_line(0, SOON, "traced at fe1.east");
    tracing.expect_line(0, SOON, "127.0.2.1:7443 does not answer");
    register(pairline, "alice", east(), 17_620, "sip:alice@127.0.0.1:17621");
    let lines = told(&mut tracing);
    assert!(lines.iter().any(|line| line.contains("200 OK (REGISTER)")), "{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line.starts_with("127.0.2.1:7443: not traced: ")), "{}", lines.join("\n"));
    pairline.start_again("west");
}

fn files(pairline: &Deployment, pool: &str) -> Vec<PathBuf> {
    let folder = pairline.server_config(pool).with_file_name("data").join("capture");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// A server's capture files hold a call, without what a password could be guessed from; tcpdump reads them.
pub fn pcap(pairline: &mut Deployment) {
    call(pairline, 17_630);
    for pool in ["east", "west"] {
        let text = until(SOON, "the call is in the file", || {
            let newest = files(pairline, pool).pop()?;
            let text = String::from_utf8_lossy(&fs::read(newest).ok()?).into_owned();
            text.contains("CSeq: 4 BYE").then_some(text)
        });
        assert!(text.contains("INVITE sip:carol@") && text.contains("m=audio"), "descriptions stay readable");
        let answers: Vec<&str> = text.split("response=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(answers.iter().all(|answer| answer.bytes().all(|b| b == b'x')), "{answers:?}");
        assert!(pool == "west" || !answers.is_empty(), "alice was challenged");
        for file in files(pairline, pool) {
            let mode = fs::metadata(&file).expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
    if let Some(why) = lacks("tcpdump") {
        println!("skipped: capture files read by tcpdump: {why}");
        return;
    }
    let newest = files(pairline, "east").pop().expect("a file");
    let output = Command::new("tcpdump").args(["-Z", "root", "-nn", "-vv", "-r"]).arg(newest).output();
    let output = output.expect("tcpdump is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("127.0.0.1.17632 > 127.0.1.1.5060") && text.contains("INVITE sip:carol@"), "{text:.2000}");
    assert!(text.contains("udp sum ok") && !text.contains("bad "), "every sum adds up: {text:.2000}");
}
