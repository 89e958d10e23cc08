//! The log under power cuts: whatever was synced is there, nothing else but whole later records, never a hole.
#![allow(clippy::unwrap_used)]

use super::common;

use common::*;
use pairline_store::{Log, MemoryFiles};
use std::sync::Arc;

/// How far a run came before the power went.
struct Run {
    synced: usize,
    attempted: usize,
    finished: bool,
}

fn run(files: &MemoryFiles, trace: &[Call]) -> Run {
    let mut run = Run { synced: 0, attempted: 0, finished: false };
    let Ok((mut log, _)) = Log::open(Arc::new(files.clone()), folder(), tiny()) else { return run };
    for (n, call) in trace.iter().enumerate() {
        run.attempted += call.changes().len();
        match call.run(&mut log, n as u64 + 1) {
            Ok(true) => run.synced = run.attempted,
            Ok(false) => {}
            Err(_) => return run,
        }
    }
    run.finished = true;
    run
}

/// Recovers and says which prefix of the changes it is.
fn check(files: &MemoryFiles, models: &[common::Model], run: &Run, what: &str) -> usize {
    let (log, recovery) = open(files, tiny());
    assert_eq!(recovery.corrupt.len(), 0, "{what}: {:?}", recovery.corrupt);
    let found = recovered(&recovery);
    let prefix = (run.synced..=run.attempted).find(|n| trimmed(&models[*n]) == found);
    drop(log);
    prefix.unwrap_or_else(|| panic!("{what}: not a prefix between {} and {}: {found:#?}", run.synced, run.attempted))
}

/// Cuts at every write (and sync, and directory change) of a trace.
fn sweep(trace: &[Call], seeds: &[u64]) -> (u64, u64) {
    let models = models(trace);
    let (mut cuts, mut beyond) = (0, 0);
    for nth in 1.. {
        let mut finished = false;
        for seed in seeds {
            let files = MemoryFiles::new();
            files.cut_after(nth);
            let done = run(&files, trace);
            finished = done.finished;
            files.crash(seed.wrapping_mul(nth));
            let what = format!("cut at operation {nth}, seed {seed}");
            let prefix = check(&files, &models, &done, &what);
            beyond += u64::from(prefix > done.synced);
            // A second start finds the same: the first one settled it.
            files.crash(nth);
            let settled = Run { synced: prefix, attempted: prefix, finished: true };
            check(&files, &models, &settled, &what);
        }
        if finished {
            break;
        }
        cuts += 1;
    }
    (cuts, beyond)
}

#[test]
fn cut_at_every_write_of_a_thousand_operations() {
    let trace = trace(1, 1000);
    let (cuts, beyond) = sweep(&trace, &[1]);
    assert!(cuts > 1000, "the trace must reach the disk: {cuts} operations");
    assert!(beyond > 10, "some whole records behind the last sync must survive: {beyond}");
}

#[test]
fn cut_at_every_write_with_nothing_unsynced_surviving() {
    let trace = trace(2, 250);
    let (cuts, beyond) = sweep(&trace, &[0]);
    assert!(cuts > 200);
    // Only what a cut inside `collect` had already synced.
    assert!(beyond < cuts / 4, "{beyond} of {cuts}");
}

#[test]
fn cut_at_every_write_with_many_outcomes() {
    let (cuts, _) = sweep(&trace(3, 120), &[3, 5, 7, 11, 13, 17]);
    assert!(cuts > 100);
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    let trace = trace(4, 160);
    let models = models(&trace);
    for crash_at in [40_u64, 77, 120, 151] {
        for second in 1..12 {
            let files = MemoryFiles::new();
            files.cut_after(crash_at);
            let mut done = run(&files, &trace);
            files.crash(crash_at + second);
            files.cut_after(second);
            let again = Log::open(Arc::new(files.clone()), folder(), tiny());
            if let Ok((_, recovery)) = again {
                let found = recovered(&recovery);
                done.synced = (done.synced..=done.attempted).find(|n| trimmed(&models[*n]) == found).unwrap();
                done.attempted = done.synced;
            }
            files.crash(second * 31);
            check(&files, &models, &done, &format!("cut at {crash_at}, then at {second} of the recovery"));
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_written() {
    let trace = trace(5, 300);
    let models = models(&trace);
    let files = MemoryFiles::new();
    let done = run(&files, &trace);
    assert!(done.finished);
    files.kill();
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery), trimmed(models.last().unwrap()));
    // And recovery itself made it durable.
    files.crash(0);
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery), trimmed(models.last().unwrap()));
}

#[test]
fn many_lives_each_cut_short() {
    for seed in 1..30 {
        let files = MemoryFiles::new();
        let (mut rng, mut model) = (Rng(seed), common::Model::new());
        for life in 0..12 {
            let (mut log, recovery) = open(&files, tiny());
            assert!(recovery.corrupt.is_empty(), "seed {seed}, life {life}: {:?}", recovery.corrupt);
            assert_eq!(recovered(&recovery), trimmed(&model), "seed {seed}, life {life}");
            for n in 0..rng.below(60) {
                let g = group(u16::try_from(rng.below(3)).unwrap());
                let known = model.entry(g).or_default();
                let last = known.items.keys().next_back().copied().unwrap_or(known.purged);
                let record = item(g, life, last + 1, &rng.next().to_le_bytes());
                log.append(&batch(n + 1, vec![record.clone()])).unwrap();
                apply(&mut model, &Change::Record(record));
                if rng.below(4) == 0 {
                    log.purge(g, last).unwrap();
                    apply(&mut model, &Change::Purge(g, last));
                }
                log.sync().unwrap();
                if rng.below(6) == 0 {
                    log.collect().unwrap();
                }
            }
            // Unsynced at the end of this life, so it may or may not be there.
            let mut doubtful = Vec::new();
            if rng.below(2) == 0 {
                doubtful.push(hard_state(group(7), &rng.next().to_le_bytes()));
                log.append(&batch(1000, doubtful.clone())).unwrap();
            }
            drop(log);
            files.crash(rng.next());
            let (_, recovery) = open(&files, tiny());
            let found = recovered(&recovery);
            for record in doubtful {
                if found.get(&group(7)).is_some_and(|g| g.hard_state.as_ref() == Some(&record.payload)) {
                    apply(&mut model, &Change::Record(record));
                }
            }
        }
    }
}
