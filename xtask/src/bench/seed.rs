//! Import of many users, and seeding of the partner.
//!
//! Owns the course and the figures. When a copy is complete is seen in both servers' metrics: as many records there as at home.

use super::pair::{Pair, Side, now_ms};
use super::samples::Sample;
use super::{Binaries, machine, today, write_report};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Records of east's users and of the management store; links.
const FROM_EAST: [&str; 3] =
    ["pairline_group_records{group=\"1/*\"}", "pairline_group_records{group=\"cms\"}", "pairline_links_up"];
/// Records of all groups.
const ALL: [&str; 1] = ["pairline_group_records"];
/// The design's target for first seeding, in records a second.
const TARGET: f64 = 100_000.0;
/// Longest time for a copy to be complete.
const LIMIT: Duration = Duration::from_secs(300);

/// Options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Users.
    pub users: u32,
    /// Contacts of each user in the second run of seeding; 0 leaves it out.
    pub contacts: u32,
    /// Seed a partner that lost its disk, instead of one that is paired.
    pub disk: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { users: 200_000, contacts: 10, disk: false }
    }
}

/// Users brought in.
#[derive(Debug)]
struct Import {
    contacts: u32,
    seconds: f64,
    records: f64,
}

/// A partner seeded.
#[derive(Debug)]
struct Seeding {
    import: Import,
    /// Until as many records were there as at home.
    seconds: f64,
    /// Until the pair called itself steady; absent if a partner without a disk was seeded.
    steady: Option<f64>,
    /// Processor time of east and of west.
    cpu: (f64, f64),
    equal: String,
}

/// Users brought into a pair.
#[derive(Debug)]
struct Paired {
    import: Import,
    complete: f64,
    steady: f64,
    memory: (f64, f64),
    equal: String,
}

/// Measures and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    let paired = paired(binaries, &folder.join("paired"), options)?;
    println!("paired: {paired:?}");
    let mut seedings = Vec::new();
    let counts = if options.contacts == 0 { vec![0] } else { vec![0, options.contacts] };
    for contacts in counts {
        let folder = folder.join(format!("seed-{contacts}"));
        let seeding = seeding(binaries, &folder, options, contacts)?;
        println!("seeding: {seeding:?}");
        seedings.push(seeding);
    }
    write_report(root, "import.md", &report(options, &paired, &seedings))
}

/// Half of the users on each pool of a pair that ships meanwhile.
fn paired(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Paired, String> {
    println!("import into a pair");
    let pair = Pair::start(binaries, folder, Duration::ZERO)?;
    let (east, west) = (pair.sample(Side::East, &ALL)?, pair.sample(Side::West, &ALL)?);
    let seconds = pair.import(options.users, 0, &["east", "west"])?;
    let (ended, began) = (now_ms(), Instant::now());
    pair.steady()?;
    let steady = began.elapsed().as_secs_f64();
    let records = pair.look(Side::East, &ALL)?.figure(0).sum;
    let complete = [east.end()?, west.end()?]
        .iter()
        .map(|samples| first_with(samples, records, ended))
        .collect::<Result<Vec<f64>, String>>()?;
    let complete = complete.into_iter().fold(0.0, f64::max);
    let equal = format!("{} of east's groups, {} of west's", pair.verify(Side::East)?, pair.verify(Side::West)?);
    let memory = (pair.memory(Side::East), pair.memory(Side::West));
    Ok(Paired { import: Import { contacts: 0, seconds, records }, complete, steady, memory, equal })
}

/// Seconds from `since` to the first sample with so many records; 0 if they were there before.
fn first_with(samples: &[Sample], records: f64, since: f64) -> Result<f64, String> {
    let there = |sample: &&Sample| sample.figures.first().is_some_and(|figure| figure.sum >= records);
    let found = samples.iter().find(there).ok_or("no sample has all records")?;
    Ok(((found.at - since) / 1000.0).max(0.0))
}

/// All users on east; then its partner is seeded.
fn seeding(binaries: &Binaries, folder: &Path, options: &Options, contacts: u32) -> Result<Seeding, String> {
    println!("seeding, {contacts} contacts each");
    let mut pair = Pair::start(binaries, folder, Duration::ZERO)?;
    if !options.disk {
        pair.cli(&["pool", "unpair", "east", "west"])?;
    }
    let seconds = pair.import(options.users, contacts, &["east"])?;
    if options.disk {
        pair.steady()?;
        pair.lose_west()?;
    }
    let records = held(&pair.look(Side::East, &FROM_EAST)?);
    let west_cpu = if options.disk { 0.0 } else { pair.cpu(Side::West) };
    let east_cpu = pair.cpu(Side::East);
    let west = pair.sample(Side::West, &FROM_EAST)?;
    let (began, since) = (now_ms(), Instant::now());
    let steady = if options.disk {
        pair.start_server(Side::West)?;
        None
    } else {
        pair.cli(&["pool", "pair", "east", "west"])?;
        pair.steady()?;
        Some(since.elapsed().as_secs_f64())
    };
    while pair.look(Side::West, &FROM_EAST).map_or(true, |sample| held(&sample) < records) {
        if since.elapsed() > LIMIT {
            return Err(format!("the copy is not complete after {} s", LIMIT.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let cpu = (pair.cpu(Side::East) - east_cpu, pair.cpu(Side::West) - west_cpu);
    let samples = west.end()?;
    let seconds_seeding = seeded(&samples, records, began)?;
    let import = Import { contacts, seconds, records };
    Ok(Seeding { import, seconds: seconds_seeding, steady, cpu, equal: pair.verify(Side::East)? })
}

/// Records of a sample that east ships.
fn held(sample: &Sample) -> f64 {
    sample.figure(0).sum + sample.figure(1).sum
}

/// Seconds from the beginning until all records were there. A server that was started anew has to find its partner first, which
/// is no part of seeding: its time counts from the last sample without a link.
fn seeded(samples: &[Sample], records: f64, began: f64) -> Result<f64, String> {
    let linked = samples.iter().position(|sample| sample.figure(2).sum > 0.0).ok_or("no sample has a link")?;
    let before = linked.checked_sub(1).and_then(|index| samples.get(index)).map_or(began, |sample| sample.at);
    let complete = samples.iter().find(|sample| held(sample) >= records).ok_or("no sample has all records")?;
    Ok((complete.at - before.max(began)) / 1000.0)
}

fn report(options: &Options, paired: &Paired, seedings: &[Seeding]) -> String {
    let mut text = format!("# Importing {} users, and seeding the partner\n\n", options.users);
    let disk = if options.disk { " --disk" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench seed --users {} --contacts {}{disk}` on {}, {}. Both servers, the client and the samplers share this \
         machine; fresh pairs with the demo's policies.\n\n\
         ## Import into a pair\n\n\
         `pairline user import` with half of the users at home on each pool: directory entry, credential and settings of each are committed \
         with fsync on their pool and shipped to the other.\n",
        options.users,
        options.contacts,
        machine(),
        today()
    );
    let users = f64::from(options.users);
    let Import { seconds, records, .. } = &paired.import;
    let _ = writeln!(
        text,
        "| | |\n|---|---|\n| import | {seconds:.1} s: {:.0} users/s, {:.0} records/s |\n| records | {records:.0} |\n\
         | all records on both sides, after the import's end | {:.2} s |\n| `pool status --wait steady`, after the import's end | {:.2} s |\n\
         | resident memory, both populations in each server | east {:.0} MiB, west {:.0} MiB |\n| `pool verify` | equal: {} |\n",
        users / seconds,
        records / seconds,
        paired.complete,
        paired.steady,
        paired.memory.0,
        paired.memory.1,
        paired.equal
    );
    text.push_str("## First seeding\n\n");
    text.push_str(if options.disk {
        "All users are at home on east. When everything had been imported and shipped, west's server was ended and started again with an \
         empty disk; the time counts from its link with east until it had as many records of east's groups and of the management store as \
         east (metrics, every 20 ms). Seeding by `pool pair` is not measured in this run.\n\n"
    } else {
        "The pools were unpaired, all users imported at home on east, and the pools paired again; the time counts from `pool pair` until \
         west had as many records of east's groups and of the management store as east (metrics, every 20 ms).\n\n"
    });
    text.push_str(
        "| contacts each | import | users/s | records/s | records | seeding | records/s | steady | CPU east, west | `pool verify east` |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for Seeding { import, seconds, steady, cpu, equal } in seedings {
        let steady = steady.map_or("–".to_owned(), |seconds| format!("{seconds:.2} s"));
        let _ = writeln!(
            text,
            "| {} | {:.1} s | {:.0} | {:.0} | {:.0} | {seconds:.2} s | {:.0} | {steady} | {:.1} s, {:.1} s | {equal} |",
            import.contacts,
            import.seconds,
            users / import.seconds,
            import.records / import.seconds,
            import.records,
            import.records / seconds,
            cpu.0,
            cpu.1
        );
    }
    let slowest = seedings.iter().map(|s| s.import.records / s.seconds).fold(f64::INFINITY, f64::min);
    let met = if slowest > TARGET { "met" } else { "missed" };
    let _ = writeln!(text, "\nThe design's target for first seeding is more than {TARGET:.0} records a second: {met}.");
    text
}

#[cfg(test)]
mod tests {
    //! When a copy is complete, and what the report makes of it.

    use super::*;
    use crate::bench::samples::Sum;

    #[test]
    fn the_first_whole_sample_counts() {
        let sample = |at, sum| Sample { at, figures: vec![Sum { count: 1, sum, max: sum }] };
        let samples = [sample(1000.0, 5.0), sample(1500.0, 10.0), sample(2000.0, 10.0)];
        assert_eq!(first_with(&samples, 10.0, 1000.0), Ok(0.5));
        assert_eq!(first_with(&samples, 10.0, 1800.0), Ok(0.0));
        assert!(first_with(&samples, 11.0, 0.0).is_err());
    }

    #[test]
    fn seeding_counts_from_the_last_sample_without_a_link() {
        let sample = |at, figures: &[f64]| {
            let figures = figures.iter().map(|sum| Sum { count: 1, sum: *sum, max: *sum }).collect();
            Sample { at, figures }
        };
        let early = [sample(900.0, &[]), sample(1000.0, &[0.0, 0.0, 0.0]), sample(1100.0, &[1.0, 0.0, 1.0])];
        let samples = [&early[..], &[sample(1500.0, &[9.0, 1.0, 1.0])]].concat();
        assert_eq!(seeded(&samples, 10.0, 800.0), Ok(0.5));
        assert_eq!(seeded(&samples, 10.0, 1050.0), Ok(0.45));
        assert!(seeded(&early, 10.0, 800.0).is_err());
        assert!(seeded(&early[..2], 0.0, 800.0).is_err());
    }

    #[test]
    fn one_slow_seeding_misses_the_target() {
        let import = |contacts| Import { contacts, seconds: 2.0, records: 600_000.0 };
        let seeding = |contacts, seconds| Seeding {
            import: import(contacts),
            seconds,
            steady: Some(seconds),
            cpu: (1.0, 1.0),
            equal: "33 of 33".into(),
        };
        let paired = Paired { import: import(0), complete: 0.0, steady: 0.1, memory: (1.0, 1.0), equal: "all".into() };
        let options = Options { users: 200_000, contacts: 10, disk: false };
        let fast = report(&options, &paired, &[seeding(0, 3.0)]);
        assert!(fast.contains("3.00 s | 200000 |") && fast.contains("records a second: met."), "{fast}");
        assert!(report(&options, &paired, &[seeding(0, 3.0), seeding(10, 6.5)]).contains("a second: missed."));
    }
}
