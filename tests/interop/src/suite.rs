//! The runner: cases in order on one deployment, a line for each, and a count at the end.
//!
//! Owns order, counting and the folder. A case that panics has failed; the others go on.

use crate::deployment::{Deployment, binary};
use crate::program::lacks;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Programs without which it is skipped; `tmpfs`: the right to mount one.
    pub needs: &'static [&'static str],
    /// What it does; it panics if something is wrong.
    pub run: fn(&mut Deployment),
}

/// Cases that share one deployment.
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// Starts the deployment: binary, and a new folder for whatever the group needs.
    pub start: fn(&Path, &Path) -> Deployment,
    /// Cases in order.
    pub cases: Vec<Case>,
}

#[derive(Default)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Runs the cases whose own or whose group's name contains `filter`. True if nothing failed.
pub fn run(groups: &[Group], filter: Option<&str>) -> bool {
    let mut count = Count::default();
    match binary() {
        Ok(binary) => {
            for group in groups {
                run_group(group, &binary, filter, &mut count);
            }
        }
        Err(why) => {
            println!("skipped: all: {why}; `./test interop` builds it");
            count.skipped += 1;
        }
    }
    println!("interop: {} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    count.failed == 0
}

fn run_group(group: &Group, binary: &Path, filter: Option<&str>, count: &mut Count) {
    let mut cases = Vec::new();
    let wanted = |case: &&Case| filter.is_none_or(|f| case.name.contains(f) || group.name.contains(f));
    for case in group.cases.iter().filter(wanted) {
        match case.needs.iter().find_map(|need| lacks(need)) {
            Some(why) => {
                println!("skipped: {}: {why}", case.name);
                count.skipped += 1;
            }
            None => cases.push(*case),
        }
    }
    if cases.is_empty() {
        return;
    }
    let folder = folder(group.name);
    let started = catch_unwind(|| (group.start)(binary, &folder));
    let Ok(mut deployment) = started else {
        println!("FAILED: {}: the deployment did not start", group.name);
        // Each case would have been one.
        count.failed += cases.len() as u32;
        return;
    };
    let before = count.failed;
    for case in cases {
        let started = Instant::now();
        let good = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut deployment))).is_ok();
        println!("{} {} ({:.1} s)", if good { "ok    " } else { "FAILED" }, case.name, started.elapsed().as_secs_f64());
        if good { count.passed += 1 } else { count.failed += 1 }
    }
    if count.failed > before {
        println!("{}\ndata folder kept: {}", deployment.last_lines(), folder.display());
    }
    if deployment.stop() {
        count.passed += 1;
    } else {
        println!("FAILED: {}: it did not stop when asked", group.name);
        count.failed += 1;
    }
    if count.failed == before {
        // A folder that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// A new folder for one group.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pairline-interop-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the system's folder for temporary files can be written");
    folder
}
