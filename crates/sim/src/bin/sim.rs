//! The simulator's command line: `ci-pairs` and `ci-pools` (the two halves of the regular run), `seeds FROM COUNT`, `replay SEED`,
//! `crashes [pairs]`, `planted [COUNT [RANGES]]`; for one pool of several servers `pool FROM COUNT`, `pool-replay SEED`, `pool-planted [COUNT [RANGES]]`; for two paired pools of several servers `site FROM COUNT`,
//! `site-replay SEED`, `site-planted [COUNT [RANGES]]`.
//!
//! Owns printing and exit codes. Wall-clock time is read here only, to state the speed.

use pairline_sim::SOMETIMES;
use pairline_sim::found;
use pairline_sim::options::CrashAt;
use pairline_sim::run::{self, Outcome};
use pairline_sim::sweep::{self, Script};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

/// The server's: a simulated world makes and drops small values all the time. Seen to take some six parts of a hundred off a run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds among which each planted bug of a pair of servers must show itself in the regular run.
const PAIR_PLANTED: u64 = 150;

/// The same of one pool of several.
const POOL_PLANTED: u64 = 150;

/// The same of two pools.
const SITE_PLANTED: u64 = 150;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let good = match args.first().map(String::as_str) {
        // What `./test` runs, in two halves side by side.
        Some("ci-pairs") => timed(|| {
            again(&PAIRS, found::PAIRS)
                & sweep_seeds(&PAIRS, 1, number(1, 1_000), true)
                & crashes(false)
                & caught(PAIR_PLANTED, Kind::Pair)
        }),
        Some("ci-pools") => timed(|| {
            again(&POOLS, found::POOLS)
                & again(&SITES, found::SITES)
                & sweep_seeds(&POOLS, 1, number(1, 350), true)
                & caught(POOL_PLANTED, Kind::Pool)
                & sweep_seeds(&SITES, 1, number(2, 170), true)
                & caught(SITE_PLANTED, Kind::Site)
        }),
        Some("seeds") => sweep_seeds(&PAIRS, number(1, 1), number(2, 100), false),
        Some("replay") => replay(number(1, 1)),
        Some("pool") => sweep_seeds(&POOLS, number(1, 1), number(2, 100), false),
        Some("pool-replay") => pool_replay(number(1, 1)),
        Some("site") => sweep_seeds(&SITES, number(1, 1), number(2, 100), false),
        Some("site-replay") => site_replay(number(1, 1)),
        Some("crashes") => crashes(args.get(1).is_some_and(|word| word == "pairs")),
        Some("planted") => planted(number(1, PAIR_PLANTED), Kind::Any, number(2, RANGES)),
        Some("pool-planted") => planted(number(1, POOL_PLANTED), Kind::Pool, number(2, RANGES)),
        Some("site-planted") => planted(number(1, SITE_PLANTED), Kind::Site, number(2, RANGES)),
        Some("plant") => plant(number(1, 0), number(2, 1), number(3, 1)),
        _ => {
            eprintln!(
                "usage: sim ci-pairs [COUNT] | ci-pools [POOL [SITE]] | seeds FROM COUNT | replay SEED | crashes [pairs] | planted [COUNT [RANGES]] | pool FROM COUNT | pool-replay SEED | pool-planted [COUNT [RANGES]] | site FROM COUNT | site-replay SEED | site-planted [COUNT [RANGES]]"
            );
            return ExitCode::from(2);
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs something and says how long that took.
fn timed(run: impl FnOnce() -> bool) -> bool {
    let started = Instant::now();
    let good = run();
    println!("{:.0} s", started.elapsed().as_secs_f64());
    good
}

/// Which planted bugs are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All.
    Any,
    /// Those of pairs of servers.
    Pair,
    /// Those of one pool of several servers.
    Pool,
    /// Those of two.
    Site,
}

/// A kind of world: how a seed of it is run, how it is replayed, and what its seeds must meet.
struct Family {
    run: fn(u64) -> Outcome,
    replay: &'static str,
    sometimes: &'static [&'static str],
}

/// Two pools of one server each.
const PAIRS: Family = Family { run: |seed| run::seed(seed, |_| {}), replay: "replay", sometimes: &SOMETIMES };

/// One pool of several servers.
const POOLS: Family = Family {
    run: |seed| pairline_sim::pool::seed(seed, |_| {}),
    replay: "pool-replay",
    sometimes: &pairline_sim::pool::SOMETIMES,
};

/// Two paired pools of several servers.
const SITES: Family = Family {
    run: |seed| pairline_sim::site::seed(seed, |_| {}),
    replay: "site-replay",
    sometimes: &pairline_sim::site::SOMETIMES,
};

/// Seeds that found something once.
fn again(family: &Family, seeds: &[u64]) -> bool {
    let outcomes = seeds.iter().map(|seed| (family.run)(*seed));
    let failed =
        outcomes.filter(|outcome| !outcome.clean()).map(|outcome| print_failure(&outcome, family.replay)).count();
    println!("{} seeds that found something once: {} passed, {failed} failed", seeds.len(), seeds.len() - failed);
    failed == 0
}

fn sweep_seeds(family: &Family, from: u64, count: u64, all_conditions: bool) -> bool {
    let started = Instant::now();
    let (mut failed, mut virtual_ms, mut changes, mut acknowledged) = (0_u64, 0_u64, 0_usize, 0_usize);
    let mut met: BTreeSet<&'static str> = BTreeSet::new();
    for seed in from..from + count {
        let outcome = (family.run)(seed);
        virtual_ms += outcome.virtual_ms;
        changes += outcome.changes.0;
        acknowledged += outcome.changes.1;
        met.extend(outcome.sometimes.iter().copied());
        if !outcome.clean() {
            failed += 1;
            print_failure(&outcome, family.replay);
        }
        if seed % 97 == 0 && (family.run)(seed).trace != outcome.trace {
            failed += 1;
            println!("seed {seed}: two runs have different traces");
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let simulated = std::time::Duration::from_millis(virtual_ms).as_secs_f64();
    println!(
        "{count} seeds, {failed} failed; {simulated:.0} virtual seconds in {elapsed:.1} s ({:.0}x); {changes} changes, {acknowledged} acknowledged",
        simulated / elapsed.max(0.001)
    );
    let missing: Vec<&&str> = family.sometimes.iter().filter(|what| !met.contains(*what)).collect();
    if !missing.is_empty() {
        println!("conditions that were never met: {missing:?}");
    }
    println!("{} passed, {failed} failed", count - failed.min(count));
    failed == 0 && (missing.is_empty() || !all_conditions)
}

fn print_failure(outcome: &Outcome, replay: &str) {
    println!("seed {} (replay with `sim {replay} {}`):", outcome.seed, outcome.seed);
    if let Some(fatal) = &outcome.fatal {
        println!("  {fatal}");
    }
    for violation in &outcome.violations {
        println!("  invariant {}: {}", violation.invariant, violation.what);
    }
}

fn replay(seed: u64) -> bool {
    let outcome = run::seed(seed, |options| {
        options.verbose = true;
        println!("{options:?}");
    });
    replayed(&outcome, "replay")
}

fn replayed(outcome: &Outcome, word: &str) -> bool {
    print_failure(outcome, word);
    println!("trace {}, {} virtual ms, clean: {}", outcome.trace, outcome.virtual_ms, outcome.clean());
    outcome.clean()
}

/// Shows a run in which every event is printed.
fn verbose(options: &mut pairline_sim::pool::options::Options) {
    options.verbose = true;
    println!("{options:?}");
}

fn pool_replay(seed: u64) -> bool {
    replayed(&pairline_sim::pool::seed(seed, verbose), "pool-replay")
}

fn site_replay(seed: u64) -> bool {
    replayed(&pairline_sim::site::seed(seed, verbose), "site-replay")
}

fn crashes(pairs: bool) -> bool {
    let mut good = true;
    for script in Script::ALL {
        if let Err(why) = sweep::undisturbed(script) {
            println!("{script:?}: fails without any crash: {why}");
            good = false;
            continue;
        }
        let points = sweep::points(script);
        let (mut runs, mut failed) = (0_u64, 0_u64);
        for (site, most) in points.into_iter().enumerate() {
            for nth in 1..=most {
                let seconds: Vec<Option<(usize, u64)>> = if pairs {
                    [None].into_iter().chain((1..40).step_by(3).map(|later| Some((site, later)))).collect()
                } else {
                    vec![None]
                };
                for again in seconds {
                    let outcome = sweep::crash(script, CrashAt { site, nth, again });
                    runs += 1;
                    if !outcome.clean() {
                        failed += 1;
                        println!("{script:?}: crash of site {site} at input {nth} (again {again:?}):");
                        print_failure(&outcome, "replay");
                    }
                }
            }
        }
        println!("{script:?}: {} passed, {failed} failed", runs - failed);
        good &= failed == 0;
    }
    good
}

/// Disjoint ranges of seeds in which each planted bug is looked for, unless fewer are asked for.
const RANGES: u64 = 3;

/// Whether each planted bug of a kind is caught: by the seed that showed it once, or by one of so many.
#[cfg(feature = "planted")]
fn caught(count: u64, kind: Kind) -> bool {
    let mut good = true;
    println!("planted bug | caught by seed, of {count} or the one that showed it before");
    for bug in reachable(kind) {
        let known = pairline_sim::planted::shown_by(bug).filter(|seed| first_caught(bug, seed - 1, 1).is_some());
        let by = known.or_else(|| first_caught(bug, 0, count));
        println!("{bug:?} | {}", by.map_or_else(|| "NONE".to_owned(), |seed| seed.to_string()));
        good &= by.is_some();
    }
    good
}

/// The planted bugs of a kind that its worlds can show. Of the others the reason is printed.
#[cfg(feature = "planted")]
fn reachable(kind: Kind) -> Vec<pairline_group::planted::Planted> {
    use pairline_sim::planted;
    let wanted = |bug: &_| match kind {
        Kind::Any => true,
        Kind::Pair => !planted::is_of_pool(*bug) && !planted::is_of_site(*bug),
        Kind::Pool => planted::is_of_pool(*bug),
        Kind::Site => planted::is_of_site(*bug),
    };
    let (hidden, shown): (Vec<_>, Vec<_>) =
        planted::all().into_iter().filter(wanted).partition(|bug| planted::unreachable(*bug).is_some());
    for bug in hidden {
        println!("{bug:?} | not reachable from outside | - | {}", planted::unreachable(bug).unwrap_or_default());
    }
    shown
}

/// Looks for planted bugs in so many ranges of so many seeds.
#[cfg(feature = "planted")]
fn planted(count: u64, kind: Kind, ranges: u64) -> bool {
    let mut good = true;
    println!("planted bug | caught | first seed | median seeds to catch, over {ranges} disjoint ranges of {count}");
    for bug in reachable(kind) {
        let mut needed: Vec<Option<u64>> = (0..ranges).map(|range| first_caught(bug, range * count, count)).collect();
        let first = needed.iter().enumerate().find_map(|(range, nth)| nth.map(|nth| range as u64 * count + nth));
        needed.sort_by_key(|nth| nth.unwrap_or(u64::MAX));
        let caught = needed.iter().flatten().count();
        let median = needed[needed.len() / 2].map_or_else(|| format!("over {count}"), |nth| nth.to_string());
        let word = if caught > 0 { "yes" } else { "NO" };
        let first = first.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        println!("{bug:?} | {word}, in {caught} of {ranges} ranges | {first} | {median}");
        good &= caught > 0;
    }
    good
}

/// The place of the first seed of a range that shows a bug. A process of its own runs them: some bugs end it.
#[cfg(feature = "planted")]
fn first_caught(bug: pairline_group::planted::Planted, after: u64, count: u64) -> Option<u64> {
    let place = pairline_sim::planted::all().iter().position(|one| *one == bug)?;
    let mut command = std::process::Command::new(std::env::current_exe().ok()?);
    command.args(["plant", &place.to_string(), &(after + 1).to_string(), &count.to_string()]);
    let output = command.stderr(std::process::Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last: u64 = text.lines().last()?.parse().ok()?;
    (!output.status.success()).then_some(last - after)
}

/// Runs seeds with a bug, each named before it is run, until one shows it: by what is found, or by the end of the process.
#[cfg(feature = "planted")]
fn plant(place: u64, from: u64, count: u64) -> bool {
    let bug = usize::try_from(place).ok().and_then(|place| pairline_sim::planted::all().get(place).copied());
    let Some(bug) = bug else { return true };
    pairline_sim::planted::plant(Some(bug));
    (from..from + count).all(|seed| {
        println!("{seed}");
        pairline_sim::planted::seed(bug, seed).clean()
    })
}

#[cfg(not(feature = "planted"))]
fn planted(_count: u64, kind: Kind, _ranges: u64) -> bool {
    eprintln!("built without planted bugs: use `cargo run --release -p pairline-sim --features planted -- planted`");
    // What was not built in is not asked of a build without it.
    kind != Kind::Any
}

#[cfg(not(feature = "planted"))]
fn caught(count: u64, kind: Kind) -> bool {
    planted(count, kind, RANGES)
}

#[cfg(not(feature = "planted"))]
fn plant(_place: u64, _from: u64, _count: u64) -> bool {
    false
}
