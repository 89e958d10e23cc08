//! Messages and whole calls between users of one server: Pairline and Kamailio in turn.
//!
//! Owns the order of the measurements and the report. All users are registered before each measurement; servers are started anew
//! for each repeat.

use super::kamailio::{self, Kamailio};
use super::load;
use super::pairline::Pairline;
use super::rows::{KAMAILIO_DIGEST, KAMAILIO_PLAIN, OURS_MD5, OURS_SHA, OURS_TLS, OURS_WSS, Rows};
use super::{Binaries, Options, machine, today};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Seconds of the same traffic before what is measured: longer than a server keeps a transaction (Timer J, 32 s), so that as many end as begin, and
/// than the registrations before take to their checkpoint.
const WARMUP: &str = "40";
/// What the demo's policies have smaller: registrations last through a measurement.
const LASTING: [(&str, u32); 2] = [("max_expiry_s", 3_600), ("default_expiry_s", 600)];
/// What a relay may cost, in parts of Kamailio's.
const TARGET: f64 = 0.6;

const ROWS: [&str; 6] = [KAMAILIO_PLAIN, KAMAILIO_DIGEST, OURS_MD5, OURS_SHA, OURS_TLS, OURS_WSS];

/// Measures `message` or `call` and writes the report.
pub(crate) fn run(
    root: &Path,
    kind: &'static str,
    binaries: &Binaries,
    folder: &Path,
    options: &Options,
) -> Result<(), String> {
    let mut rows = Rows::default();
    let measure = |address: SocketAddr, pids: &[u32], more: &[&str]| {
        load::run_as(kind, binaries, options, address, pids, &[&["--warmup", WARMUP], more].concat())
    };
    for repeat in 1..=options.repeats {
        println!("repeat {repeat} of {}", options.repeats);
        for (name, digest) in [(KAMAILIO_PLAIN, false), (KAMAILIO_DIGEST, true)] {
            let server = Kamailio::start_proxy(folder, options.server_core, digest)?;
            rows.add(name, measure(server.address, &server.pids(), if digest { &["--digest"] } else { &[] })?);
        }
        // A fresh pair each: what the phones of a run before have left registered would be rung as well.
        let start = || {
            let pair = Pairline::start(&binaries.pairline, folder, options.server_core, options.users)?;
            pair.publish(folder, &LASTING).map(|()| pair)
        };
        // The demo's policy sends only an MD5 challenge to this user agent.
        for (name, more) in [(OURS_MD5, &["--digest", "--user-agent", "SIPp"][..]), (OURS_SHA, &["--digest"])] {
            let server = start()?;
            rows.add(name, measure(server.address, &server.pids()?, more)?);
        }
        for (name, transport, port) in [(OURS_TLS, "tls", 5061), (OURS_WSS, "wss", 8443)] {
            let server = start()?;
            let authority = server.authority();
            let address = SocketAddr::new(server.address.ip(), port);
            let more = ["--digest", "--transport", transport, "--authority", &authority];
            rows.add(name, measure(address, &server.pids()?, &more)?);
        }
    }
    super::write_report(root, &format!("{kind}.json"), &rows.json(options))?;
    super::write_report(root, &format!("{kind}.md"), &report(kind, options, &rows))
}

fn what(kind: &str) -> &'static str {
    match kind {
        "call" => {
            "An operation is a whole call: INVITE, 180 and 200, ACK, BYE, 200, each through the server, which stays in the way by \
             Record-Route."
        }
        _ => "An operation is a MESSAGE from one registered user to another and its 200 back.",
    }
}

fn report(kind: &str, options: &Options, rows: &Rows) -> String {
    let title = if kind == "call" { "Whole calls" } else { "MESSAGE relay" };
    let mut text = format!(
        "# {title}, Pairline beside Kamailio\n\n\
         Made by `cargo xtask bench {kind} --users {} --seconds {} --repeats {}` on {}, {}.\n\n\
         {} Over UDP where nothing else is said (TLS and WSS: four connections, each shared by many users), both users at home on the same \
         server. Each server alone on one core, the generator \
         (`pairline-load`, 100 outstanding in closed loop) on another; {} users, all registered before, and {WARMUP} s of the same traffic before \
         each measurement; servers in turn, medians of {} repeats. Kamailio: {}, started with `-x tlsf -X tlsf`, location in memory, relayed by its transaction module. Pairline: two \
         paired pools on the one core; processor time is that of both processes (the serving one alone in the next column). It has \
         no way to relay without authentication.\n\n",
        options.users,
        options.seconds,
        options.repeats,
        machine(),
        today(),
        what(kind),
        options.users,
        options.repeats,
        kamailio::version()
    );
    text.push_str(&rows.table("a second", &ROWS));
    let _ = writeln!(
        text,
        "\nRatio with digest on both: {:.2}. Ratio of ours with digest to Kamailio without authentication: {:.2}.",
        rows.ratio(OURS_MD5, KAMAILIO_DIGEST),
        rows.ratio(OURS_MD5, KAMAILIO_PLAIN)
    );
    let _ = writeln!(
        text,
        "\nThe target is 0.6 of Kamailio's with a digest, {:.1} µs. The kernel's own work for our sockets leaves {:.1} µs of it for everything \
         else; that is now {:.1} µs, and Kamailio's is {:.1} µs.",
        rows.of(KAMAILIO_DIGEST, |f| f.cpu) * TARGET,
        rows.left(OURS_MD5, KAMAILIO_DIGEST, TARGET),
        rows.of(OURS_MD5, |f| f.cpu - f.kernel),
        rows.of(KAMAILIO_DIGEST, |f| f.cpu - f.kernel)
    );
    text
}

#[cfg(test)]
mod tests {
    //! The report's arithmetic.

    use super::super::load::Figures;
    use super::*;

    #[test]
    fn ratios_are_those_of_the_medians() {
        let mut rows = Rows::default();
        for (name, cpu, kernel) in [(OURS_MD5, 60.0, 14.0), (KAMAILIO_DIGEST, 40.0, 9.0), (KAMAILIO_PLAIN, 20.0, 0.0)] {
            rows.add(name, Figures { cpu, kernel, ..Figures::default() });
        }
        let options = Options { users: 10, seconds: 1, repeats: 3, server_core: 0, load_core: 1 };
        let text = report("call", &options, &rows);
        assert!(text.contains("digest on both: 1.50.") && text.contains("without authentication: 3.00."), "{text}");
        let left = "24.0 µs. The kernel's own work for our sockets leaves 10.0 µs of it for everything else; that is now 46.0 µs, and \
                    Kamailio's is 31.0 µs.";
        assert!(text.contains(left), "{text}");
    }
}
