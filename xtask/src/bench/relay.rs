//! Messages and whole calls between users of one server: Pairline and Kamailio in turn.
//!
//! Owns the order of the measurements and the report. All users are registered before each measurement; servers are started anew
//! for each repeat.

use super::kamailio::{self, Kamailio};
use super::load::{self, Figures};
use super::pairline::Pairline;
use super::{Binaries, Options, machine, today};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

const KAMAILIO_PLAIN: &str = "Kamailio, no authentication";
const KAMAILIO_DIGEST: &str = "Kamailio, digest MD5, nonce reused";
const OURS_MD5: &str = "Pairline, digest MD5, nonce reused";
const OURS_SHA: &str = "Pairline, digest SHA-256, nonce reused";
const OURS_TLS: &str = "Pairline over TLS, digest SHA-256, nonce reused";
const OURS_WSS: &str = "Pairline over WSS, digest SHA-256, nonce reused";
const ROWS: [&str; 6] = [KAMAILIO_PLAIN, KAMAILIO_DIGEST, OURS_MD5, OURS_SHA, OURS_TLS, OURS_WSS];

type Samples = BTreeMap<&'static str, Vec<Figures>>;

/// Measures `message` or `call` and writes the report.
pub(crate) fn run(
    root: &Path,
    kind: &'static str,
    binaries: &Binaries,
    folder: &Path,
    options: &Options,
) -> Result<(), String> {
    let mut samples = Samples::new();
    for repeat in 1..=options.repeats {
        println!("repeat {repeat} of {}", options.repeats);
        for (name, digest) in [(KAMAILIO_PLAIN, false), (KAMAILIO_DIGEST, true)] {
            let server = Kamailio::start_proxy(folder, options.server_core, digest)?;
            let more: &[&str] = if digest { &["--digest"] } else { &[] };
            add(&mut samples, name, load::run_as(kind, binaries, options, server.address, &server.pids(), more)?);
        }
        // A fresh pair each: what the phones of a run before have left registered would be rung as well.
        let start = || Pairline::start(&binaries.pairline, folder, options.server_core, options.users);
        // The demo's policy sends only an MD5 challenge to this user agent.
        for (name, more) in [(OURS_MD5, &["--digest", "--user-agent", "SIPp"][..]), (OURS_SHA, &["--digest"])] {
            let server = start()?;
            add(&mut samples, name, load::run_as(kind, binaries, options, server.address, &server.pids()?, more)?);
        }
        for (name, transport, port) in [(OURS_TLS, "tls", 5061), (OURS_WSS, "wss", 8443)] {
            let server = start()?;
            let authority = server.authority();
            let address = SocketAddr::new(server.address.ip(), port);
            let more = ["--digest", "--transport", transport, "--authority", &authority];
            add(&mut samples, name, load::run_as(kind, binaries, options, address, &server.pids()?, &more)?);
        }
    }
    super::write_report(root, &format!("{kind}.json"), &machine_report(options, &samples))?;
    super::write_report(root, &format!("{kind}.md"), &report(kind, options, &samples))
}

fn add(samples: &mut Samples, name: &'static str, figures: Figures) {
    println!("  {name}: {:.2} µs, {:.0}/s", figures.cpu, figures.rate);
    samples.entry(name).or_default().push(figures);
}

/// The middle of what the repeats gave.
fn of(samples: &Samples, name: &str, value: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.get(name).into_iter().flatten().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

fn report(kind: &str, options: &Options, samples: &Samples) -> String {
    let title = if kind == "call" { "Whole calls" } else { "MESSAGE relay" };
    let mut text = format!(
        "# {title}, Pairline beside Kamailio\n\n\
         Made by `cargo xtask bench {kind} --users {} --seconds {} --repeats {}` on {}, {}.\n\n\
         {} Over UDP where nothing else is said (TLS and WSS: four connections, each shared by many users), both users at home on the same \
         server. Each server alone on one core, the generator \
         (`pairline-load`, 100 outstanding in closed loop) on another; {} users, all registered before; servers in turn, medians of {} \
         repeats. Kamailio: {}, started with `-x tlsf -X tlsf`, location in memory, relayed by its transaction module. Pairline: two \
         paired pools on the one core; processor time is that of both processes (the serving one alone in the next column). It has \
         no way to relay without authentication.\n\n\
         | | CPU µs each | serving process alone | a second | p99 ms |\n|---|---|---|---|---|\n",
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
    for name in ROWS {
        let value = |f: fn(&Figures) -> f64| of(samples, name, f);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {:.1} | {:.0} | {:.1} |",
            value(|f| f.cpu),
            value(|f| f.cpu_first),
            value(|f| f.rate),
            value(|f| f.p99 / 1000.0)
        );
    }
    let ratio = |ours: &str, theirs: &str| of(samples, ours, |f| f.cpu) / of(samples, theirs, |f| f.cpu);
    let _ = writeln!(
        text,
        "\nRatio with digest on both: {:.2}. Ratio of ours with digest to Kamailio without authentication: {:.2}.",
        ratio(OURS_MD5, KAMAILIO_DIGEST),
        ratio(OURS_MD5, KAMAILIO_PLAIN)
    );
    text
}

fn machine_report(options: &Options, samples: &Samples) -> String {
    let cases: serde_json::Map<String, serde_json::Value> = samples
        .iter()
        .map(|(name, all)| {
            let runs = all
                .iter()
                .map(|f| json!({"cpu_us": f.cpu, "cpu_us_serving": f.cpu_first, "rate": f.rate, "p99_us": f.p99}));
            ((*name).to_owned(), json!(runs.collect::<Vec<_>>()))
        })
        .collect();
    let all = json!({"v": 1, "users": options.users, "seconds": options.seconds, "machine": machine(), "runs": cases});
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    //! The report's arithmetic.

    use super::*;

    #[test]
    fn ratios_are_those_of_the_medians() {
        let figures = |cpu| Figures { cpu, ..Figures::default() };
        let mut samples = Samples::new();
        samples.insert(OURS_MD5, [90.0, 30.0, 60.0].map(figures).into());
        samples.insert(KAMAILIO_DIGEST, [40.0, 1000.0, 5.0].map(figures).into());
        samples.insert(KAMAILIO_PLAIN, [20.0, 20.0, 1.0].map(figures).into());
        let options = Options { users: 10, seconds: 1, repeats: 3, server_core: 0, load_core: 1 };
        let text = report("call", &options, &samples);
        assert!(text.contains("digest on both: 1.50.") && text.contains("without authentication: 3.00."), "{text}");
    }
}
