//! Servers of a pool that die, freeze and are cut off under load, one after the other.
//!
//! Owns the course of the rounds. The load, the arithmetic and the report are others'.

use super::super::Binaries;
use super::super::pair::now_ms;
use super::Options;
use super::faults_report::report;
use super::front_ends::{FrontEnds, Shape};
use super::journal::{self, Calls, Failures, Lost, Served, Window};
use super::network::{Network, SERVERS};
use super::register::Part;
use super::traffic::{CHANGED, Load, Rates, Traffic};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Routing groups, as by default.
pub(crate) const GROUPS: u32 = 32;
/// Seconds of load before a fault, while it lasts, and after it.
const BEFORE: u32 = 10;
const LASTS: u32 = 10;
const AFTER: u32 = 6;
/// Milliseconds that a call lasts: those of a fault's moment end while it lasts.
pub(crate) const HOLD: u32 = 8_000;

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// kill -9, and a start with its data later.
    Kill,
    /// SIGSTOP, SIGCONT later.
    Freeze,
    /// Its cable is pulled, and put in again later.
    Cut,
}

impl Fault {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9",
            Fault::Freeze => "SIGSTOP",
            Fault::Cut => "network cut",
        }
    }
}

/// What one round gave.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// From 1.
    pub number: u32,
    /// What was done.
    pub fault: Fault,
    /// To which server, by its place from 0.
    pub victim: usize,
    /// Successes a second before it, by kind.
    pub rates: BTreeMap<&'static str, f64>,
    /// By group.
    pub served: BTreeMap<String, Served>,
    /// Failures at the others.
    pub failures: Failures,
    /// Calls.
    pub calls: Calls,
    /// Acknowledged changes that are not there.
    pub changes: Lost,
    /// The same of bindings.
    pub bindings: Lost,
    /// REGISTERs that were taken as those of guests, by server.
    pub guests: BTreeMap<SocketAddr, u32>,
    /// Acknowledgements that do not say what they acknowledge.
    pub unsaid: Vec<String>,
    /// Seconds from the repair until the pool was healthy.
    pub healthy: f64,
}

/// Plays all rounds and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Part, String> {
    let mut pool =
        FrontEnds::start(binaries, &folder.join("faults"), Network::with_cables(), Shape::alone(GROUPS), None)?;
    pool.import(options.users)?;
    let groups: BTreeMap<String, String> = pool
        .read(0, "/api/v1/users/{user}/where", options.users)?
        .into_iter()
        .map(|(user, _, body)| (user, body["group"].as_str().unwrap_or_default().to_owned()))
        .collect();
    let why_not = pool.network.why_not().map(str::to_owned);
    let mut faults = vec![Fault::Kill, Fault::Freeze];
    faults.extend(why_not.is_none().then_some(Fault::Cut));
    let mut rounds = Vec::new();
    let mut stopped = None;
    for number in 1..=options.rounds * faults.len() as u32 {
        let fault = faults[(number as usize - 1) % faults.len()];
        let victim = (number as usize - 1) / faults.len() % SERVERS;
        match play(binaries, folder, &mut pool, &groups, options, (number, fault, victim)) {
            Ok(round) => {
                println!("{}", super::faults_report::line(&round));
                rounds.push(round);
            }
            Err(error) => {
                let error = format!("round {number} ({}, fe{}): {error}", fault.name(), victim + 1);
                println!("  {error}");
                stopped = Some(error);
                break;
            }
        }
    }
    let part =
        report(options, &rounds, groups.values().collect::<std::collections::BTreeSet<_>>().len(), why_not, stopped);
    Ok(part)
}

fn play(
    binaries: &Binaries,
    folder: &Path,
    pool: &mut FrontEnds,
    groups: &BTreeMap<String, String>,
    options: &Options,
    (number, fault, victim): (u32, Fault, usize),
) -> Result<Round, String> {
    let own = folder.join(format!("round-{number}"));
    std::fs::create_dir_all(&own).map_err(|e| format!("{}: {e}", own.display()))?;
    let (rates, seconds) = (Rates::of(options.load_percent), BEFORE + LASTS + AFTER);
    let load = Load { users: options.users, rates, seconds, goes_on: false };
    let mut traffic = Traffic::start(binaries, pool, &own, number, load)?;
    let began = now();
    traffic.pass(BEFORE)?;
    let hit = now();
    strike(pool, fault, victim)?;
    let passed = traffic.pass(LASTS);
    let repaired = now();
    // Whatever the load does: a server that stays frozen would be in everybody's way.
    repair(pool, fault, victim)?;
    passed?;
    let healthy = pool.healthy()?;
    let (lines, changes, _) = traffic.end()?;
    pool.healthy()?;
    // One that was well; the next one in each round.
    let survivor = (victim + 1 + number as usize % (SERVERS - 1)) % SERVERS;
    let window = Window { hit, repaired, victim: pool.sip(victim)? };
    let lists = pool.read(survivor, "/api/v1/users/{user}/contacts", CHANGED.min(options.users))?;
    let bindings = pool.read(survivor, "/api/v1/users/{user}/registrations", options.users)?;
    let round = Round {
        number,
        fault,
        victim,
        rates: journal::rates(&lines, &changes, began, hit),
        served: journal::served(&lines, groups, &window),
        failures: journal::failures(&lines, &window),
        calls: journal::calls(&lines, &window),
        changes: journal::lost_changes(number, &changes, &lists),
        bindings: journal::lost_bindings(&journal::bindings(&lines), &bindings),
        guests: journal::guests(&lines),
        unsaid: journal::unsaid(&lines, &window),
        healthy,
    };
    let calm = round.changes.count + round.bindings.count == 0 && round.calls.broken.is_empty();
    if calm && round.unsaid.is_empty() {
        // What nobody needs to look into is not kept: twenty rounds are a gigabyte.
        let _ = std::fs::remove_dir_all(&own);
    }
    Ok(round)
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    // Milliseconds since 1970 are whole numbers far below 2^53.
    now_ms() as u64
}

fn strike(pool: &mut FrontEnds, fault: Fault, victim: usize) -> Result<(), String> {
    match fault {
        Fault::Kill => {
            pool.kill(victim);
            Ok(())
        }
        Fault::Freeze => pool.signal(victim, "STOP"),
        Fault::Cut => pool.network.cut(victim),
    }
}

fn repair(pool: &mut FrontEnds, fault: Fault, victim: usize) -> Result<(), String> {
    match fault {
        Fault::Kill => pool.start_server(victim),
        Fault::Freeze => pool.signal(victim, "CONT"),
        Fault::Cut => pool.network.heal(victim),
    }
}
