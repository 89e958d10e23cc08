//! Real SIP programs against real Pairline processes: the list of cases.
//!
//! Owns the order. The cases are in `cases`, one file a subject; the order matters where one case kills a server that the next
//! ones see come back.

mod cases;

use pairline_interop::deployment::Deployment;
use pairline_interop::suite::{self, Case, Group};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-')).map(String::as_str);
    if suite::run(&groups(), filter) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every group's last case looks at what its servers have said until then.
const NO_SECRET: &str = "no secret in what the servers said";
const NOTHING: &[&str] = &[];

const fn case(name: &'static str, needs: &'static [&'static str], run: fn(&mut Deployment)) -> Case {
    Case { name, needs, run }
}

fn groups() -> Vec<Group> {
    vec![
        Group { name: "demo", start: cases::start::demo, cases: demo() },
        Group { name: "procedures", start: cases::start::demo, cases: procedures() },
        Group { name: "pairing", start: cases::start::demo, cases: pairing() },
        Group { name: "afar", start: cases::start::demo, cases: pairing_from_afar() },
        Group { name: "unpaired", start: cases::start::demo, cases: unpaired() },
        Group { name: "life", start: cases::start::demo, cases: life() },
        Group { name: "disk", start: cases::disk::start, cases: disk() },
        Group { name: "named", start: cases::named::start, cases: named() },
        Group { name: "scanned", start: cases::scanned::start, cases: scanned() },
        Group { name: "capture", start: cases::capture::start, cases: capture() },
    ]
}

/// What leaves the deployment as it was, then the loss of a site with real phones.
fn demo() -> Vec<Case> {
    const BARESIP: &[&str] = &["baresip"];
    const CURL: &[&str] = &["curl"];
    const SIPSAK: &[&str] = &["sipsak"];
    const LINPHONE: &[&str] = &["linphone-daemon"];
    const BY_NAME: &[&str] = &["linphone-daemon", "dnsmasq", "unshare", "tmpfs"];
    const BROWSER: &[&str] = &["node", "chromium", "browser"];
    const KAMAILIO: &[&str] = &["baresip", "kamailio"];
    const WEB: &[&str] = &["baresip", "openssl"];
    let mut all = vec![
        case("up says what runs where", NOTHING, cases::start::greeting),
        case("both directions get steady and equal", NOTHING, cases::start::steady),
        case("a second up on the same folder is refused", NOTHING, cases::start::second_up),
        case("ports in use are named and nothing is touched", NOTHING, cases::life::ports_in_use),
        case("foreign and newer folders are left alone", NOTHING, cases::life::foreign_folders),
        case("files with secrets are their owner's only", NOTHING, cases::secrets::modes),
        case("a user from its adding to its removal", NOTHING, cases::commands::user_life),
        case("settings are shown as they were set", NOTHING, cases::commands::settings),
        case("registrations are listed and dropped", NOTHING, cases::commands::registrations),
        case("a user's token reaches its own data only", CURL, cases::commands::own_token),
        case("a user's password reaches its own data only", CURL, cases::commands::own_digest),
        case("preflight dns prints the very records", NOTHING, cases::commands::preflight_dns),
        case("preflight cert and clients", NOTHING, cases::commands::preflight_cert_and_clients),
        case("a wrong pool name is answered with the right ones", NOTHING, cases::wrong::pool_name),
    ];
    all.extend(sipp());
    all.extend([
        case("sipsak asks over udp and tcp", SIPSAK, cases::sipsak::options),
        case("sipsak registers, and not with a wrong password", SIPSAK, cases::sipsak::register),
        case("svcrack has no answer to sha-256", &["svcrack"], cases::scanned::sha256),
        case("sipsak's torture is survived", SIPSAK, cases::sipsak::trash),
        case("transports: openssl agrees on tls and on every name", &["openssl"], cases::transports::openssl),
        case("transports: baresip over tls, within a pool and across pools", BARESIP, cases::transports::baresip),
        case("transports: a browser over a websocket is called", BARESIP, cases::transports::websocket),
        case("transports: a browser over a secure websocket is called", WEB, cases::transports::secure_websocket),
        case("transports: stun is answered on the sip port", NOTHING, cases::transports::stun),
        case("transports: a hangup renews certificates and ends nothing", NOTHING, cases::transports::renewal),
        case("garbage datagrams are survived", NOTHING, cases::hostile::datagrams),
        case("a stream may be cut anywhere", NOTHING, cases::hostile::cut_stream),
        case("a stream may end in the middle of a message", NOTHING, cases::wrong::closed_stream),
        case("oversized and malformed streams are closed", NOTHING, cases::hostile::bad_streams),
        case("an unknown user and a wrong password look the same", NOTHING, cases::hostile::enumeration),
        case("one user's password tells nothing of other names", NOTHING, cases::hostile::another_name),
        case("a forged, changed or used nonce is stale", NOTHING, cases::wrong::forged_nonce),
        case("baresip calls within a pool, both directions", BARESIP, cases::baresip::within),
        case("baresip calls and writes across pools, both directions", BARESIP, cases::baresip::across),
        case("baresip over two tcp flows", BARESIP, cases::baresip::outbound),
        case("linphone calls and writes over udp within a pool", LINPHONE, cases::linphone::udp),
        case("linphone calls and writes over tcp across pools", LINPHONE, cases::linphone::tcp),
        case("linphone over tls, found by srv, its name proven", BY_NAME, cases::linphone::tls),
        case("baresip behind kamailio: path and record-route", KAMAILIO, cases::outbound_proxy::datagrams),
        case("baresip behind kamailio: its connection is kept", KAMAILIO, cases::outbound_proxy::flows),
        case("sip.js and jssip in a browser, within a pool", BROWSER, cases::browser::within),
        case("sip.js and jssip in a browser, across pools", BROWSER, cases::browser::across),
        case("a planned failover and failback under a call", BARESIP, cases::site::planned),
        case("a lost site: resiliency mode, disaster failover, failback", BARESIP, cases::site::lost),
        case(NO_SECRET, NOTHING, cases::secrets::logs),
    ]);
    all
}

/// SIPp as phones.
fn sipp() -> Vec<Case> {
    const SIPP: &[&str] = &["sipp"];
    const SIPP_TLS: &[&str] = &["sipp", "socat"];
    vec![
        case("sipp registers over udp", SIPP, cases::sipp::register_udp),
        case("sipp registers over tcp", SIPP, cases::sipp::register_tcp),
        case("sipp with a wrong password is not let in", SIPP, cases::sipp::wrong_password),
        case("sipp messages over udp within a pool", SIPP, cases::sipp::message_udp),
        case("sipp messages over tcp across pools", SIPP, cases::sipp::message_tcp),
        case("sipp messages over tcp on both sides", SIPP, cases::sipp::message_tcp_both),
        case("sipp calls over udp within a pool", SIPP, cases::sipp::call_udp),
        case("sipp calls over tcp across pools", SIPP, cases::sipp::call_tcp),
        case("sipp calls over tcp on both sides", SIPP, cases::sipp::call_tcp_both),
        case("sipp is called over tcp as its contact asks", SIPP, cases::sipp::call_contact_tcp),
        case("sipp registers over tls", SIPP_TLS, cases::sipp::register_tls),
        case("sipp messages over tls on both sides", SIPP_TLS, cases::sipp::message_tls),
        case("sipp calls over tls on both sides", SIPP_TLS, cases::sipp::call_tls),
    ]
}

/// Where groups and the management store are moved, and servers die meanwhile.
fn procedures() -> Vec<Case> {
    vec![
        case("the management store moves to its standby and back", NOTHING, cases::pairing::management),
        case("a healthy pool is not given up unasked", NOTHING, cases::wrong::healthy_disaster),
        case("of two failovers at once one is refused", NOTHING, cases::wrong::two_failovers),
        case("servers killed in a failover lose nothing", NOTHING, cases::kill::in_failover),
        case("servers killed in a failback lose nothing", NOTHING, cases::kill::in_failback),
        case(NO_SECRET, NOTHING, cases::secrets::logs),
    ]
}

/// Unpairing and pairing: groups of their own, because what fails here leaves no pair behind.
fn pairing() -> Vec<Case> {
    vec![
        case("pools with data are unpaired and paired again", NOTHING, cases::pairing::again),
        case(NO_SECRET, NOTHING, cases::secrets::logs),
    ]
}

fn pairing_from_afar() -> Vec<Case> {
    vec![case("pairing again with the management store at the other pool", NOTHING, cases::pairing::again_from_afar)]
}

fn unpaired() -> Vec<Case> {
    vec![case("a verification without a partner says so at once", NOTHING, cases::pairing::verify_alone)]
}

/// Starts and stops of the whole deployment.
fn life() -> Vec<Case> {
    vec![
        case("ctrl-c stops cleanly and a second up finds the data", NOTHING, cases::life::second_start),
        case("a cold start alone waits for the partner", NOTHING, cases::kill::cold_until_return),
        case("a cold start alone goes on by the administrator's word", NOTHING, cases::kill::cold_until_word),
        case("fresh starts over", NOTHING, cases::life::fresh),
        case(NO_SECRET, NOTHING, cases::secrets::logs),
    ]
}

/// One server on a file system that gets full.
fn disk() -> Vec<Case> {
    const TMPFS: &[&str] = &["tmpfs"];
    vec![
        case("a full disk refuses changes and loses nothing", TMPFS, cases::disk::full),
        case("a server starts again after its disk was full", TMPFS, cases::disk::restarted),
        case("no secret in what a server with a full disk said", TMPFS, cases::secrets::logs),
    ]
}

/// What scanners find.
fn scanned() -> Vec<Case> {
    vec![
        case("svmap finds the sip port and no product", &["svmap"], cases::scanned::svmap),
        case("svwar tells nobody from anybody", &["svwar"], cases::scanned::svwar),
        case(
            "svcrack with wrong words finds nothing, with the right one it does",
            &["svcrack"],
            cases::scanned::svcrack,
        ),
        case("svcrack is limited before it comes to the right words", &["svcrack", "curl"], cases::scanned::limited),
        case("no secret in what was said of scanners", NOTHING, cases::secrets::logs),
    ]
}

/// What happened to a call.
fn capture() -> Vec<Case> {
    const SIPP: &[&str] = &["sipp"];
    vec![
        case("a call across pools is traced as a ladder", SIPP, cases::capture::ladder),
        case("a trace is followed, read by machines, and the administrator's alone", SIPP, cases::capture::follow),
        case("capture files hold a call without secrets, and tcpdump reads them", SIPP, cases::capture::pcap),
        case("a trace names the server that is away", SIPP, cases::capture::one_away),
        case("no secret in what was said of captures", SIPP, cases::secrets::logs),
    ]
}

/// Record-Routes by name.
fn named() -> Vec<Case> {
    const BARESIP: &[&str] = &["baresip"];
    const PEER: &[&str] = &["baresip", "kamailio", "dnsmasq", "unshare", "tmpfs"];
    vec![
        case("kamailio as another organisation, both directions", PEER, cases::peer::both_ways),
        case("a call is ended after its server has died", BARESIP, cases::named::dead_server),
        case("no secret in what was said of a dead server", BARESIP, cases::secrets::logs),
    ]
}
