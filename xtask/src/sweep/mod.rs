//! `cargo xtask sweep`: simulator seeds that no run has visited before, on all cores, and what they found.
//!
//! Owns building the simulator, which seeds are run, and running them. What a seed does is `sim`'s; what the runs gave is `tally`'s. `./test` runs
//! the same seeds every time, so that a failure is the change's; what those never meet is met here.

mod tally;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tally::{Family, Part, Tally};

/// Seeds that each day has for itself, from midnight UTC.
const OF_A_DAY: u64 = 100_000;

/// Seconds after which the seeds of one process are taken to hang: in any case, and for each.
const HANGS: (u64, u64) = (300, 30);

/// What is to be run.
#[derive(Debug)]
struct Wish {
    /// Seeds of each family.
    counts: [u64; 3],
    from: u64,
    jobs: usize,
    /// What an earlier run built is good enough.
    built: bool,
}

/// Runs `cargo xtask sweep [--pairs N] [--pools N] [--sites N] [--from SEED] [--jobs N] [--built]`.
///
/// # Errors
/// A line that says what could not be had, or how many seeds found something.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<(), String> {
    let wish = wish(args, today()?)?;
    let binary = binary(root);
    if !wish.built {
        build(root)?;
    }
    let begun = Instant::now();
    let parts = parts(&wish);
    let all = parts.iter().map(|part| part.count).sum();
    let queue = Mutex::new(parts);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| work(&binary, &queue, &tally, all));
        }
    });
    let tally = tally.into_inner().map_err(|_| "a part of the sweep ended in a panic".to_owned())?;
    tally::write(root, &tally, (wish.from, wish.jobs), begun.elapsed())?;
    match tally.failed() {
        0 => Ok(()),
        failed => Err(format!("{failed} seeds found something; docs/results/sweep.md says how to replay them")),
    }
}

/// The first seed of this day.
fn today() -> Result<u64, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| format!("the clock: {e}"))?;
    Ok(since.as_secs() / 86_400 * OF_A_DAY)
}

fn wish(args: &[&str], today: u64) -> Result<Wish, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wish = Wish { counts: [4_000, 12_000, 4_000], from: today, jobs, built: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if *arg == "--built" {
            wish.built = true;
            continue;
        }
        let mut number = || {
            let number = rest.next().and_then(|text| text.parse::<u64>().ok()).filter(|n| *n < u64::MAX / 2);
            number.ok_or_else(|| format!("{arg} needs a number"))
        };
        match *arg {
            "--pairs" => wish.counts[0] = number()?,
            "--pools" => wish.counts[1] = number()?,
            "--sites" => wish.counts[2] = number()?,
            "--from" => wish.from = number()?,
            "--jobs" => {
                wish.jobs = usize::try_from(number()?).ok().filter(|n| *n > 0).ok_or("--jobs needs one or more")?
            }
            _ => return Err(format!("unknown argument {arg} (--pairs, --pools, --sites, --from, --jobs, --built)")),
        }
    }
    Ok(wish)
}

/// Everything in parts, the longest first.
fn parts(wish: &Wish) -> VecDeque<Part> {
    let of = |family: Family| {
        let (count, size) = (wish.counts[family as usize], family.part());
        let starts = (0..count.div_ceil(size)).map(move |nth| nth * size);
        starts.map(move |start| Part { family, from: wish.from + start, count: size.min(count - start) })
    };
    [Family::Sites, Family::Pools, Family::Pairs].into_iter().flat_map(of).collect()
}

fn binary(root: &Path) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    folder.join("quick/sim")
}

fn build(root: &Path) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments =
        ["build", "--profile", "quick", "--package", "pairline-sim", "--bin", "sim", "--features", "planted"];
    let status = Command::new(cargo).args(arguments).current_dir(root).status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err("the simulator could not be built".to_owned()) }
}

/// Runs part after part at the lowest priority, until there are no more.
fn work(binary: &Path, queue: &Mutex<VecDeque<Part>>, tally: &Mutex<Tally>, all: u64) {
    loop {
        let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
        let Some(part) = next else { return };
        let (from, count) = (part.from.to_string(), part.count.to_string());
        let command = Command::new("timeout")
            .args([&(HANGS.0 + HANGS.1 * part.count).to_string(), "nice", "-n", "19"])
            .arg(binary)
            .args([part.family.word(), &from, &count])
            .stdin(Stdio::null())
            .output();
        let Ok(mut tally) = tally.lock() else { return };
        let again = match command {
            Ok(output) => {
                tally.add(&part, &String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => tally.add(&part, "", &format!("{}: {error}", binary.display())),
        };
        println!("sweep: {} of {all} seeds, {} found something", tally.done(), tally.failed());
        drop(tally);
        if let Ok(mut queue) = queue.lock() {
            again.into_iter().rev().for_each(|part| queue.push_front(part));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Each seed is run once.
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_parts_are_all_seeds_of_all_families_once() {
        let wish = wish(&["--pairs", "1001", "--pools", "0", "--sites", "7", "--from", "500"], 9).unwrap();
        let parts = parts(&wish);
        let of = |family: Family| parts.iter().filter(move |part| part.family as usize == family as usize);
        let seeds: Vec<u64> = of(Family::Pairs).flat_map(|part| part.from..part.from + part.count).collect();
        assert_eq!(seeds, (500..1_501).collect::<Vec<_>>());
        assert_eq!(of(Family::Pools).count(), 0);
        assert_eq!(of(Family::Sites).map(|part| part.count).sum::<u64>(), 7);
    }

    #[test]
    fn without_a_first_seed_it_is_the_days() {
        assert_eq!(wish(&[], 2_078_500_000).unwrap().from, 2_078_500_000);
        for wrong in [&["--pools"][..], &["--pools", "many"], &["--jobs", "0"], &["--seeds", "1"]] {
            assert!(wish(wrong, 0).is_err(), "{wrong:?}");
        }
    }
}
