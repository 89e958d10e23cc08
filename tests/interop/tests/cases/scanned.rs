//! Scanners: svmap, svwar and svcrack of sipvicious, at a deployment that offers them the one algorithm they know, as some policy may.

use super::commands::metric;
use super::start::{edited, password};
use super::{east, west};
use pairline_interop::deployment::Deployment;
use pairline_interop::phone::Phone;
use pairline_interop::sipvicious::{Found, Scan, Telltale};
use pairline_interop::wait::until;
use std::borrow::Borrow;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Users, of either pool.
const KNOWN: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Names that nobody has.
const UNKNOWN: [&str; 4] = ["mallory", "admin", "100", "1000"];
/// What svmap and svwar ask with.
const METHODS: [&str; 3] = ["REGISTER", "INVITE", "OPTIONS"];
/// Requests that one source may send without proving anything, and that may come from there in the name of one who has: at once, and
/// a second. All scanners together are one source.
const BURST: usize = 500;
const PER_SECOND: usize = 20;
/// What one source would have to ask for before it came to the right word; it is limited long before.
const WORDS: usize = 5_000;
/// What svcrack says at the end of its list.
const TRIED_ALL: &str = "no more passwords";
const SOON: Duration = Duration::from_secs(30);

/// The demo, with MD5 for the scanner's User-Agent and with a limit of sources that it meets.
pub fn start(binary: &Path, folder: &Path) -> Deployment {
    let bound = |name: &str, value: usize| format!("{name} = {value}\n");
    let edits = [
        ("user_agent = \"sipsak\"", "user_agent = \"friendly-scanner\"".to_owned()),
        ("source_burst = 20000\n", bound("source_burst", BURST)),
        ("source_per_s = 2000\n", bound("source_per_s", PER_SECOND)),
        ("identity_burst = 2000\n", bound("identity_burst", BURST)),
        ("identity_per_s = 500\n", bound("identity_per_s", PER_SECOND)),
    ];
    edited(binary, folder, &edits.each_ref().map(|(from, to)| (*from, to.as_str())), None)
}

/// A file with one word a line: beside the data folder, in which no password may lie open.
fn file<W: Borrow<str>>(pairline: &Deployment, name: &str, words: &[W]) -> PathBuf {
    let path = pairline.folder().with_file_name(name);
    fs::write(&path, words.join("\n") + "\n").expect("the folder can be written");
    path
}

/// Of a range of ports the one that takes SIP over UDP, at both pools; no server says what it is.
pub fn svmap(_: &mut Deployment) {
    let wanted = [east(), west()].map(|server| (server.to_string(), "unknown".to_owned()));
    let scans = METHODS.map(|method| (method, Scan::svmap(method, "5058-5066", &["127.0.1.1", "127.0.2.1"])));
    for (method, scan) in scans {
        let found = scan.found();
        let mut rows = found.rows.clone();
        rows.sort();
        assert_eq!(rows, wanted, "{method}: {}", found.text);
    }
}

/// By each method svwar finds who exists at a server that tells; here it gives up, and where it is forced, it finds nobody: users of
/// either pool and names that nobody has are answered alike.
pub fn svwar(pairline: &mut Deployment) {
    let names = [KNOWN, UNKNOWN].concat();
    let all = file(pairline, "names", &names);
    let alone = |name: &&str| file(pairline, &format!("name-{name}"), &[*name]);
    let alone: Vec<PathBuf> = names.iter().map(alone).collect();
    let telltale = Telltale::start(&KNOWN);
    let scans = METHODS.map(|method| {
        // At the first answer that is like an unknown name's it ends, so each name is tried by one of its own.
        let forced: Vec<Scan> = alone.iter().map(|file| Scan::svwar(east(), method, file, true)).collect();
        let plain = |server| Scan::svwar(server, method, &all, false);
        (method, plain(telltale.address()), plain(east()), forced)
    });
    for (method, told, asked, forced) in scans {
        let told = told.found();
        let mut found: Vec<&str> = told.rows.iter().map(|(name, _)| name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, KNOWN, "{method} at a server that tells: {}", told.text);
        let asked = asked.found();
        assert!(asked.rows.is_empty() && asked.text.contains("Set --force"), "{method}: {}", asked.text);
        alike(method, names.iter().copied().zip(forced.into_iter().map(Scan::found)).collect());
    }
}

/// For no name svwar found anything, and what it did not understand had one shape.
fn alike(method: &str, found: Vec<(&str, Found)>) {
    let shape = found[0].1.unexplained();
    assert!(shape.len() == 1 && shape[0].starts_with("SIP/2.0 40"), "{method}: {}", found[0].1.text);
    for (name, found) in &found {
        assert!(found.rows.is_empty(), "{method} {name}: {}", found.text);
        assert_eq!(found.unexplained(), shape, "{method} {name}");
    }
}

/// A wordlist without alice's password finds nothing; with it, svcrack does what it is for, so it would have been found before.
pub fn svcrack(pairline: &mut Deployment) {
    let secret = password(pairline, "alice");
    let mut words: Vec<String> = (1_000..1_050).map(|n: u32| n.to_string()).collect();
    let without = file(pairline, "wrong-words", &words);
    words.insert(25, secret.clone());
    let with = file(pairline, "right-words", &words);
    let [wrong, right] = [without, with].map(|words| Scan::svcrack(east(), "alice", &words)).map(Scan::found);
    assert!(wrong.rows.is_empty() && wrong.text.contains(TRIED_ALL), "{}", wrong.text);
    assert_eq!(right.rows, [("alice".to_owned(), secret)], "{}", right.text);
    // It registers where it says it is.
    assert!(pairline.must(&["registration", "list", "alice"]).out.contains("sip:123@1.1.1.1"));
    pairline.must(&["registration", "drop", "alice"]);
}

/// The right word at the end of a long list is never reached: the source is refused long before, or, where a phone of the user has
/// signed in from the same address, the user at that address; and svcrack gives up. Meanwhile the users sign in from elsewhere.
/// At the other pool, where nothing was scanned for yet.
pub fn limited(pairline: &mut Deployment) {
    let phone = |user: &str, port, source| {
        let mut phone = Phone::new(user, west(), port);
        phone.source = IpAddr::from(source);
        assert_eq!(phone.sign_in(&password(pairline, user)), "SIP/2.0 200 OK", "{user}");
    };
    phone("dave", 17_790, [127, 0, 0, 1]);
    let limited = |by: &str| metric(pairline, "west", &format!("pairline_admission_limited_total{{by=\"{by}\"}}"));
    let scans = [("carol", "source"), ("dave", "identity")].map(|(user, by)| {
        assert!(limited(by) < 1.0, "nobody was limited before");
        let words: Vec<String> = (0..WORDS).map(|n| n.to_string()).chain([password(pairline, user)]).collect();
        (user, by, Scan::svcrack(west(), user, &file(pairline, &format!("words-{user}"), &words)))
    });
    for (port, (user, by, scan)) in (17_791..).zip(scans) {
        until(SOON, "it is limited", || (limited(by) > 0.0).then_some(()));
        phone(user, port, [127, 0, 0, 9]);
        let scan = scan.found();
        assert!(scan.rows.is_empty() && !scan.text.contains(TRIED_ALL), "{user}: {}", scan.text);
        // What it got last was no 401 but a 500.
        assert!(scan.text.contains("We got an unknown response"), "{user}: {}", scan.text);
        let listed = pairline.must(&["registration", "list", user]).out;
        assert!(!listed.contains("1.1.1.1"), "{listed}");
    }
}

/// Without a policy that offers MD5, svcrack cannot even try.
pub fn sha256(pairline: &mut Deployment) {
    let words = file(pairline, "the-word", &[pairline.password("alice")]);
    let found = Scan::svcrack(east(), "alice", &words).found();
    assert!(found.rows.is_empty() && found.text.contains("Unknown algorithm: sha-256"), "{}", found.text);
}
