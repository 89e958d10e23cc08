//! REGISTER: refreshes without and with digest, and first registrations with memory per user; Pairline and Kamailio in turn.
//!
//! Owns the order of the measurements and the report. A server is started anew for each repeat, so that no run profits from the
//! one before.

use super::kamailio::{self, Kamailio};
use super::load;
use super::pairline::Pairline;
use super::rows::{KAMAILIO_DIGEST, KAMAILIO_PLAIN, OURS_MD5, OURS_SHA, OURS_TLS, OURS_WSS, Rows, median};
use super::{Binaries, Options, machine};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// What is measured, in the order of the report; the arguments of `pairline-load`.
const KAMAILIO_FRESH: &str = "Kamailio, digest MD5, challenged each time";
const OURS_FRESH: &str = "Pairline, digest MD5, challenged each time";
const OURS_ALONE: &str = "Pairline, pool not paired, digest MD5, nonce reused";
const KAMAILIO_FIRST: &str = "Kamailio, first registration, no authentication";
const OURS_FIRST: &str = "Pairline, first registration, digest SHA-256";

/// Measures everything and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    let mut rows = Rows::default();
    let mut memory: Vec<(f64, f64)> = Vec::new();
    for repeat in 1..=options.repeats {
        println!("repeat {repeat} of {}", options.repeats);
        kamailio_plain(binaries, folder, options, &mut rows, &mut memory)?;
        kamailio_digest(binaries, folder, options, &mut rows)?;
        ours(binaries, folder, options, &mut rows, &mut memory)?;
        ours_alone(binaries, folder, options, &mut rows)?;
    }
    let text = report(options, &rows, &memory);
    let results = root.join("docs/results");
    std::fs::create_dir_all(&results).map_err(|e| e.to_string())?;
    std::fs::write(results.join("register.md"), &text).map_err(|e| e.to_string())?;
    std::fs::write(results.join("register.json"), rows.json(options)).map_err(|e| e.to_string())?;
    println!("{text}");
    Ok(())
}

fn kamailio_plain(
    binaries: &Binaries,
    folder: &Path,
    options: &Options,
    rows: &mut Rows,
    memory: &mut Vec<(f64, f64)>,
) -> Result<(), String> {
    let server = Kamailio::start(folder, options.server_core, false)?;
    let measure = |more: &[&str]| load::run(binaries, options, server.address, &server.pids(), more);
    let empty = measure(&["--users", "2", "--duration", "0.2", "--warmup", "0"])?.memory;
    let first = measure(&["--once"])?;
    memory.push(((first.memory - empty) / f64::from(options.users), f64::NAN));
    rows.add(KAMAILIO_FIRST, first);
    rows.add(KAMAILIO_PLAIN, measure(&[])?);
    Ok(())
}

fn kamailio_digest(binaries: &Binaries, folder: &Path, options: &Options, rows: &mut Rows) -> Result<(), String> {
    let server = Kamailio::start(folder, options.server_core, true)?;
    let measure = |more: &[&str]| load::run(binaries, options, server.address, &server.pids(), more);
    rows.add(KAMAILIO_DIGEST, measure(&["--digest"])?);
    rows.add(KAMAILIO_FRESH, measure(&["--digest", "--fresh-nonce"])?);
    Ok(())
}

fn ours(
    binaries: &Binaries,
    folder: &Path,
    options: &Options,
    rows: &mut Rows,
    memory: &mut [(f64, f64)],
) -> Result<(), String> {
    let server = Pairline::start(&binaries.pairline, folder, options.server_core, options.users)?;
    let pids = server.pids()?;
    let measure = |more: &[&str]| load::run(binaries, options, server.address, &pids, more);
    let before = measure(&["--digest", "--users", "2", "--duration", "0.2", "--warmup", "0"])?.memory_first;
    let first = measure(&["--digest", "--once"])?;
    server.settle()?;
    if let Some(last) = memory.last_mut() {
        last.1 = (first.memory_first - before) / f64::from(options.users);
    }
    rows.add(OURS_FIRST, first);
    rows.add(OURS_SHA, measure(&["--digest"])?);
    server.settle()?;
    // The demo's policy sends only an MD5 challenge to this user agent.
    rows.add(OURS_MD5, measure(&["--digest", "--user-agent", "SIPp"])?);
    server.settle()?;
    rows.add(OURS_FRESH, measure(&["--digest", "--fresh-nonce", "--user-agent", "SIPp"])?);
    let authority = server.authority();
    for (name, transport, port) in [(OURS_TLS, "tls", 5061), (OURS_WSS, "wss", 8443)] {
        server.settle()?;
        let address = SocketAddr::new(server.address.ip(), port);
        let more = ["--digest", "--transport", transport, "--authority", &authority];
        rows.add(name, load::run(binaries, options, address, &pids, &more)?);
    }
    Ok(())
}

/// What the partner costs is the difference: here is none, and registrations are committed to disk all the same.
fn ours_alone(binaries: &Binaries, folder: &Path, options: &Options, rows: &mut Rows) -> Result<(), String> {
    let server = Pairline::start_alone(&binaries.pairline, folder, options.server_core, options.users)?;
    let pids = server.pids()?;
    let measure = |more: &[&str]| load::run(binaries, options, server.address, &pids, more);
    measure(&["--digest", "--once", "--user-agent", "SIPp"])?;
    rows.add(OURS_ALONE, measure(&["--digest", "--user-agent", "SIPp"])?);
    Ok(())
}

fn report(options: &Options, rows: &Rows, memory: &[(f64, f64)]) -> String {
    let mut text = String::from("# REGISTER, Pairline beside Kamailio\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench register --users {} --seconds {} --repeats {}` on {}.\n\n\
         Each server alone on one core, the generator (`pairline-load`, 100 outstanding) on another; {} users; servers in turn, medians of {} \
         repeats. Kamailio: {}, started with `-x tlsf -X tlsf`, registrar in memory, no replication. Pairline: two paired \
         pools on the one core, each registration committed to disk on one and shipped to the other; processor time is that of both \
         processes (the serving one alone in the next column).\n",
        options.users,
        options.seconds,
        options.repeats,
        machine(),
        options.users,
        options.repeats,
        kamailio::version()
    );
    text.push_str(&rows.table(
        "registrations/s",
        &[
            KAMAILIO_PLAIN,
            KAMAILIO_DIGEST,
            OURS_ALONE,
            OURS_MD5,
            OURS_SHA,
            OURS_TLS,
            OURS_WSS,
            KAMAILIO_FRESH,
            OURS_FRESH,
            KAMAILIO_FIRST,
            OURS_FIRST,
        ],
    ));
    let _ = writeln!(
        text,
        "\nRatio with digest, nonce reused: {:.2}; of a pool that is not paired, which commits to disk and ships nothing: {:.2}. Ratio \
         challenged each time: {:.2}.",
        rows.ratio(OURS_MD5, KAMAILIO_DIGEST),
        rows.ratio(OURS_ALONE, KAMAILIO_DIGEST),
        rows.ratio(OURS_FRESH, KAMAILIO_FRESH)
    );
    let _ = writeln!(
        text,
        "\nThe target with digest, disk and shipping is Kamailio's with a digest, {:.1} µs. What the kernel does for our sockets and disks, \
         {:.1} µs for both pools and {:.1} for one that is not paired, leaves {:.1} and {:.1} µs of it for everything else; that is now {:.1} and \
         {:.1} µs, and Kamailio's is {:.1} µs.",
        rows.of(KAMAILIO_DIGEST, |f| f.cpu),
        rows.of(OURS_MD5, |f| f.kernel),
        rows.of(OURS_ALONE, |f| f.kernel),
        rows.left(OURS_MD5, KAMAILIO_DIGEST, 1.0),
        rows.left(OURS_ALONE, KAMAILIO_DIGEST, 1.0),
        rows.of(OURS_MD5, |f| f.cpu - f.kernel),
        rows.of(OURS_ALONE, |f| f.cpu - f.kernel),
        rows.of(KAMAILIO_DIGEST, |f| f.cpu - f.kernel)
    );
    let kib = |pick: fn(&(f64, f64)) -> f64| median(memory.iter().map(pick).collect()) / 1024.0;
    let _ = writeln!(
        text,
        "\nMemory per registered user (growth of the proportional set from two registered users to all): Kamailio {:.2} KiB, Pairline's serving \
         process {:.2} KiB.",
        kib(|m| m.0),
        kib(|m| m.1)
    );
    text
}

#[cfg(test)]
mod tests {
    //! The report's arithmetic.

    use super::super::load::Figures;
    use super::*;

    #[test]
    fn medians_and_ratios_come_from_the_samples() {
        let mut rows = Rows::default();
        for (name, values) in
            [(OURS_MD5, [30.0, 10.0, 20.0]), (KAMAILIO_DIGEST, [40.0, 1000.0, 5.0]), (OURS_ALONE, [8.0; 3])]
        {
            values.into_iter().for_each(|cpu| rows.add(name, Figures { cpu, kernel: cpu / 4.0, ..Figures::default() }));
        }
        let options = Options { users: 10, seconds: 1, repeats: 3, server_core: 0, load_core: 1 };
        let text = report(&options, &rows, &[(1024.0, 512.0)]);
        assert!(text.contains("nonce reused: 0.50; "), "{text}");
        assert!(
            text.contains("leaves 35.0 and 38.0 µs of it for everything else; that is now 15.0 and 6.0 µs"),
            "{text}"
        );
        assert!(text.contains("Kamailio 1.00 KiB, Pairline's serving process 0.50 KiB"), "{text}");
    }
}
