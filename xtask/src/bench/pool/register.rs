//! REGISTER at a pool of three Front Ends, alone and paired with another, beside two Kamailio nodes that replicate to each other.
//!
//! Owns the order of the measurements and their part of the report. Servers are started anew for each repeat.

use super::super::load::{self, Figures};
use super::super::rows::Rows;
use super::super::{Binaries, kamailio};
use super::Options;
use super::dmq::Nodes;
use super::front_ends::{FrontEnds, Shape};
use super::network::{Network, SERVERS};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// The rows.
const NODES: &str = "Kamailio, two nodes with dmq_usrloc";
const POOL: &str = "Pairline, pool of three, not paired";
const PAIRED: &str = "Pairline, pool of three, paired with another of three";
const BOTH: &str = "the same, with the three of the partner";
/// Routing groups, as by default.
const GROUPS: u32 = 32;
/// Of so many users one is looked for at the other node; odd, so that both nodes are asked.
const SAMPLE: usize = 101;

/// Part of the report, for people and machines.
pub(crate) type Part = (String, Value);

/// Measures and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Part, String> {
    kamailio::install()?;
    let mut rows = Rows::default();
    let mut known = 0;
    for repeat in 1..=options.repeats {
        println!("register: repeat {repeat} of {}", options.repeats);
        known = theirs(binaries, folder, options, &mut rows)?;
        alone(binaries, folder, options, &mut rows)?;
        paired(binaries, folder, options, &mut rows)?;
    }
    Ok(report(options, &rows, known))
}

fn theirs(binaries: &Binaries, folder: &Path, options: &Options, rows: &mut Rows) -> Result<u32, String> {
    let nodes = Nodes::start(folder, options.server_core)?;
    let second = nodes.addresses[1].to_string();
    let load = options.load();
    let measure = |more: &[&str]| {
        let more = [&["--server", &second, "--digest"], more].concat();
        load::run(binaries, &load, nodes.addresses[0], &nodes.pids(), &more)
    };
    // Two users first: nodes that have not found each other yet have nobody to tell.
    measure(&["--users", "2", "--once"])?;
    nodes.replicated(1..=2)?;
    measure(&["--once"])?;
    nodes.replicated((1..=options.users).step_by(SAMPLE))?;
    let figures = measure(&[])?;
    rows.add(NODES, figures);
    nodes.replicated((1..=options.users).step_by(SAMPLE))
}

fn alone(binaries: &Binaries, folder: &Path, options: &Options, rows: &mut Rows) -> Result<(), String> {
    let core = Some(options.server_core);
    let pool = FrontEnds::start(binaries, &folder.join("pool"), Network::loopback(), Shape::alone(GROUPS), core)?;
    rows.add(POOL, ours(binaries, options, &pool)?);
    pool.healthy().map(drop)
}

fn paired(binaries: &Binaries, folder: &Path, options: &Options, rows: &mut Rows) -> Result<(), String> {
    let core = Some(options.server_core);
    let pool = FrontEnds::start(binaries, &folder.join("paired"), Network::loopback(), Shape::paired(GROUPS), core)?;
    let figures = ours(binaries, options, &pool)?;
    let own = &figures.each[..SERVERS];
    let (cpu, kernel) = (own.iter().map(|each| each.0).sum(), own.iter().map(|each| each.1).sum());
    rows.add(PAIRED, Figures { cpu, kernel, ..figures });
    rows.add(BOTH, figures);
    pool.healthy()?;
    // What was shipped has arrived.
    pool.steady()
}

/// What registrations at all servers of a pool cost its processes, and its partner's if it has one.
fn ours(binaries: &Binaries, options: &Options, pool: &FrontEnds) -> Result<Figures, String> {
    pool.import(options.users)?;
    let others = [pool.sip(1)?.to_string(), pool.sip(SERVERS - 1)?.to_string()];
    let (pids, load) = (pool.pids(), options.load());
    let measure = |more: &[&str]| {
        let common = ["--server", &others[0], "--server", &others[1], "--digest", "--user-agent", "SIPp"];
        load::run(binaries, &load, pool.sip(0)?, &pids, &[&common, more].concat())
    };
    measure(&["--once"])?;
    measure(&[])
}

fn report(options: &Options, rows: &Rows, known: u32) -> Part {
    let mut text = String::from("## REGISTER beside two Kamailio nodes\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Digest MD5, nonce reused, requests spread over all servers, 100 outstanding; {} users, {} s each, servers in turn, medians of {} \
         repeats. All servers of a side on one core, the generator on the other. Kamailio: {}, `-x tlsf -X tlsf`, two nodes with `dmq` and \
         `dmq_usrloc`, in memory; {known} of {known} users that were looked for were known at the node that they had not registered with. \
         Pairline: three Front Ends, {GROUPS} routing groups, each registration synced to disk on a majority of three before its 200, and shipped \
         where the pool is paired. Processor time is that of all processes of a side together; a partner's, which has three copies of its \
         own on their disks, is on the same core and counted in the last row only.\n",
        options.users,
        options.seconds,
        options.repeats,
        kamailio::version(),
    );
    text.push_str("| | registrations/s | CPU µs each, all processes | of it in the kernel | p99 ms | ratio |\n|---|---|---|---|---|---|\n");
    for name in [NODES, POOL, PAIRED, BOTH] {
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2} |",
            rows.of(name, |f| f.rate),
            rows.of(name, |f| f.cpu),
            rows.of(name, |f| f.kernel),
            rows.of(name, |f| f.p99 / 1000.0),
            rows.ratio(name, NODES)
        );
    }
    let runs: Value = serde_json::from_str(&rows.json(&options.load())).unwrap_or_default();
    let ratio = rows.ratio(PAIRED, NODES);
    let verdict = if ratio <= 1.0 { "met" } else { "missed" };
    let _ = writeln!(
        text,
        "\nTarget: the three together, synced to disk and shipped, at or below Kamailio's. {verdict}: ratio {ratio:.2}."
    );
    (text, json!({"ratio": ratio, "rows": runs["runs"]}))
}

#[cfg(test)]
mod tests {
    //! The report's arithmetic.

    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let mut rows = Rows::default();
        for (name, values) in [(PAIRED, [30.0, 10.0, 20.0]), (NODES, [40.0, 1000.0, 5.0]), (POOL, [8.0; 3])] {
            values
                .into_iter()
                .for_each(|cpu| rows.add(name, Figures { cpu, kernel: cpu / 4.0, rate: 7.0, ..Figures::default() }));
        }
        let (text, json) = report(&Options::default(), &rows, 200);
        assert!(text.contains(&format!("| {PAIRED} | 7 | 20.0 | 5.0 | 0.0 | 0.50 |")), "{text}");
        assert!(text.contains(&format!("| {POOL} | 7 | 8.0 | 2.0 | 0.0 | 0.20 |")), "{text}");
        assert!(text.contains("met: ratio 0.50"), "{text}");
        assert_eq!(json["ratio"].as_f64(), Some(0.5));
    }
}
