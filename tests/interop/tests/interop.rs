//! Real SIP programs against real Pairline processes: the list of cases.
//!
//! Owns the order. The cases are in `cases`, one file a subject; the order matters where one case kills a server that the next
//! ones see come back.

mod cases;

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

fn groups() -> Vec<Group> {
    const SIPP: &[&str] = &["sipp"];
    const BARESIP: &[&str] = &["baresip"];
    let case = |name, needs, run| Case { name, needs, run };
    let demo = Group {
        name: "demo",
        start: cases::start::demo,
        cases: vec![
            case("up says what runs where", &[], cases::start::greeting),
            case("both directions get steady and equal", &[], cases::start::steady),
            case("a second up on the same folder is refused", &[], cases::start::second_up),
            case("sipp registers over udp", SIPP, cases::sipp::register_udp),
            case("sipp registers over tcp", SIPP, cases::sipp::register_tcp),
            case("sipp with a wrong password is not let in", SIPP, cases::sipp::wrong_password),
            case("sipp messages over udp within a pool", SIPP, cases::sipp::message_udp),
            case("sipp messages over tcp across pools", SIPP, cases::sipp::message_tcp),
            case("sipp calls over udp within a pool", SIPP, cases::sipp::call_udp),
            case("sipp calls over tcp across pools", SIPP, cases::sipp::call_tcp),
            case("garbage datagrams are survived", &[], cases::hostile::datagrams),
            case("a stream may be cut anywhere", &[], cases::hostile::cut_stream),
            case("oversized and malformed streams are closed", &[], cases::hostile::bad_streams),
            case("an unknown user and a wrong password look the same", &[], cases::hostile::enumeration),
            case("baresip calls within a pool, both directions", BARESIP, cases::baresip::within),
            case("baresip calls and writes across pools, both directions", BARESIP, cases::baresip::across),
            case("baresip over two tcp flows", BARESIP, cases::baresip::outbound),
            case("a planned failover and failback under a call", BARESIP, cases::site::planned),
            case("a lost site: resiliency mode, disaster failover, failback", BARESIP, cases::site::lost),
        ],
    };
    let named = Group {
        name: "named",
        start: cases::named::start,
        cases: vec![case("a call is ended after its server has died", BARESIP, cases::named::dead_server)],
    };
    vec![demo, named]
}
