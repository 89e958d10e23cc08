//! The log on a failing disk: full, erring, rotten, mixed up, or written by a later build.
#![allow(clippy::unwrap_used)]

use super::common;

use common::*;
use pairline_store::files::Fault;
use pairline_store::{Corruption, Log, LogError, LogOpenError, LogRecovery, MemoryFiles};
use std::path::PathBuf;
use std::sync::Arc;

fn segment(number: u64) -> PathBuf {
    folder().join(format!("{number:016x}.log"))
}

fn one(n: u64) -> Vec<pairline_group::io::LogRecord> {
    vec![item(group(1), 1, n, format!("item {n}").as_bytes())]
}

#[test]
fn a_failed_sync_is_final() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    assert_eq!(log.sync().unwrap(), 1);
    log.append(&batch(2, one(2))).unwrap();
    files.arm(Fault::SyncIo, 1);
    assert!(matches!(log.sync(), Err(LogError::Failed(_))));
    assert!(matches!(log.sync(), Err(LogError::Dead(_))));
    assert!(matches!(log.append(&batch(3, one(3))), Err(LogError::Dead(_))));
    assert!(matches!(log.purge(group(1), 1), Err(LogError::Dead(_))));
    assert!(matches!(log.forget(group(1)), Err(LogError::Dead(_))));
    assert!(matches!(log.mark(), Err(LogError::Dead(_))));
    assert!(matches!(log.collect(), Err(LogError::Dead(_))));
    files.crash(9);
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery)[&group(1)].items.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_failed_write_is_final() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    log.sync().unwrap();
    files.arm(Fault::WriteIo, 1);
    assert!(matches!(log.append(&batch(2, one(2))), Err(LogError::Failed(_))));
    assert!(matches!(log.append(&batch(2, one(2))), Err(LogError::Dead(_))));
    files.crash(3);
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery)[&group(1)].items.len(), 1);
}

#[test]
fn a_full_disk_refuses_whole_batches_and_recovers() {
    let config = pairline_store::LogConfig { segment_bytes: 600, ..tiny() };
    let mut refusals = 0;
    for capacity in (700..6000).step_by(37) {
        let files = MemoryFiles::new();
        let (mut log, _) = open(&files, config);
        files.set_capacity(Some(capacity));
        let (mut next, mut accepted) = (1, 0);
        for n in 1..=20_u64 {
            let records: Vec<_> = (next..next + 4).flat_map(one).collect();
            match log.append(&batch(n, records)) {
                Ok(()) => {
                    next += 4;
                    accepted = next - 1;
                    log.sync().unwrap();
                }
                Err(LogError::NoSpace(error)) => {
                    assert!(error.is_no_space());
                    refusals += 1;
                }
                Err(other) => panic!("capacity {capacity}: {other}"),
            }
        }
        // Nothing of a refused batch is there after a restart; and with space again the same log goes on.
        if capacity % 2 == 0 {
            drop(log);
            files.crash(capacity);
            files.set_capacity(None);
            let (_, recovery) = open(&files, config);
            assert!(recovery.corrupt.is_empty());
            let found = recovered(&recovery).get(&group(1)).map_or(0, |g| g.items.len() as u64);
            assert_eq!(found, accepted, "capacity {capacity}");
        } else {
            files.set_capacity(None);
            log.append(&batch(30, one(next))).unwrap();
            log.sync().unwrap();
            files.crash(capacity);
            let (_, recovery) = open(&files, config);
            assert_eq!(recovered(&recovery)[&group(1)].items.len() as u64, next, "capacity {capacity}");
        }
    }
    assert!(refusals > 100, "{refusals}");
}

#[test]
fn an_armed_full_disk_takes_back_half_a_write() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    files.arm(Fault::WriteNoSpace, 1);
    let two: Vec<_> = (2..8).flat_map(one).collect();
    assert!(matches!(log.append(&batch(2, two)), Err(LogError::NoSpace(_))));
    files.crash(5);
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery)[&group(1)].items.len(), 1);
}

#[test]
fn holes_and_sizes_are_refused_before_anything_is_written() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    let before = files.operations();
    assert!(matches!(log.append(&batch(2, one(3))), Err(LogError::Gap { index: 3, last: 1, .. })));
    let mixed = [one(2), one(4)].concat();
    assert!(matches!(log.append(&batch(2, mixed)), Err(LogError::Gap { index: 4, last: 2, .. })));
    assert!(matches!(log.append(&batch(2, one(0))), Err(LogError::BelowPurge { index: 0, .. })));
    let big = vec![item(group(1), 1, 2, &vec![0; 8 * 1024 * 1024 + 1])];
    assert!(matches!(log.append(&batch(2, big)), Err(LogError::TooLarge { .. })));
    assert_eq!(files.operations(), before);
    log.purge(group(1), 5).unwrap();
    assert!(matches!(log.append(&batch(2, one(5))), Err(LogError::BelowPurge { index: 5, purged: 5, .. })));
    assert!(matches!(log.append(&batch(2, one(7))), Err(LogError::Gap { index: 7, last: 5, .. })));
    log.append(&batch(2, one(6))).unwrap();
    assert_eq!(log.last_index(group(1)), Some(6));
}

#[test]
fn the_largest_record_and_a_batch_longer_than_a_segment_fit() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, vec![item(group(1), 1, 1, &vec![7; 8 * 1024 * 1024])])).unwrap();
    log.append(&batch(2, one(2))).unwrap();
    log.sync().unwrap();
    files.crash(0);
    let (_, recovery) = open(&files, tiny());
    let found = recovered(&recovery);
    assert_eq!(found[&group(1)].items[&1].1.len(), 8 * 1024 * 1024);
    assert_eq!(found[&group(1)].items.len(), 2);
}

#[test]
fn idle_data_is_moved_so_that_old_segments_go() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, vec![item(group(9), 1, 1, b"idle"), hard_state(group(9), b"idle state")])).unwrap();
    for n in 1..=2000 {
        log.append(&batch(n, one(n))).unwrap();
        log.sync().unwrap();
        if n % 50 == 0 {
            log.purge(group(1), n - 5).unwrap();
            log.collect().unwrap();
        }
    }
    let stats = log.stats();
    assert!(stats.segments <= 5, "{stats:?}");
    assert!(!files.paths().contains(&segment(1)), "the first segment must have gone");
    files.crash(1);
    let (log, recovery) = open(&files, tiny());
    let found = recovered(&recovery);
    assert_eq!(found[&group(9)].items[&1].1, "idle");
    assert_eq!(found[&group(9)].hard_state.as_ref().unwrap(), "idle state");
    assert_eq!(found[&group(1)].items.keys().copied().collect::<Vec<_>>(), [1996, 1997, 1998, 1999, 2000]);
    assert_eq!(found[&group(1)].purged, 1995);
    assert!(log.group_bytes(group(1)) > 0);
}

/// A log of several segments, closed cleanly, with what it must hold. Payloads hold bytes of real records, as bait.
fn sample() -> (MemoryFiles, common::Model) {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    let mut model = common::Model::new();
    let (mut rng, mut next) = (Rng(77), [1_u64; 3]);
    for n in 0..70_u64 {
        let g = usize::try_from(rng.below(3)).unwrap();
        let bait = files.content(&segment(1)).unwrap()[..160].to_vec();
        let record =
            item(group(u16::try_from(g).unwrap()), 2, next[g], &bait[..usize::try_from(rng.below(160)).unwrap()]);
        next[g] += 1;
        log.append(&batch(n + 1, vec![record.clone()])).unwrap();
        apply(&mut model, &Change::Record(record));
        log.sync().unwrap();
    }
    log.mark().unwrap();
    log.sync().unwrap();
    assert_eq!(log.stats().segments, 4);
    files.kill();
    (files, model)
}

/// No group may come back with other content than was synced; a group that lost something must be named.
fn never_wrong(recovery: &LogRecovery, model: &common::Model, what: &str) -> usize {
    let found = recovered(recovery);
    for (g, expected) in model {
        match recovery.corrupt.get(g) {
            Some(_) => assert!(!found.contains_key(g), "{what}: a corrupt group must not be recovered"),
            None => assert_eq!(found.get(g), Some(expected), "{what}: group {g}"),
        }
    }
    recovery.corrupt.len()
}

#[test]
fn a_flipped_bit_never_goes_unnoticed() {
    let (files, model) = sample();
    let image = files.image();
    let (mut cases, mut spoiled, mut named) = (0_u64, 0_u64, 0_u64);
    for path in files.paths() {
        let len = files.content(&path).unwrap().len();
        for at in (0..len).step_by(5) {
            files.restore(&image);
            files.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            let what = format!("bit at {at} of {}", path.display());
            let Ok((_, recovery)) = Log::open(Arc::new(files.clone()), folder(), tiny()) else {
                // The version field itself, flipped to a later one.
                assert!(at < 10, "{what}: must open");
                continue;
            };
            let corrupt = never_wrong(&recovery, &model, &what) as u64;
            (cases, spoiled, named) = (cases + 1, spoiled + u64::from(corrupt > 0), named + corrupt);
        }
    }
    assert!(cases > 1500 && spoiled > cases / 3, "{spoiled} of {cases}");
    // Damage is pinned on the group that it hit, nearly always.
    assert!(named < spoiled * 5 / 4, "{named} groups for {spoiled} damages");
}

#[test]
fn a_wiped_stretch_never_goes_unnoticed() {
    let (files, model) = sample();
    let image = files.image();
    for path in files.paths() {
        files.restore(&image);
        let content = files.content(&path).unwrap();
        // A stretch that takes the very last mark with it is a torn write to any reader; only a partner can know better.
        let end = content.iter().rposition(|byte| *byte != 0).unwrap();
        let end = if path == segment(4) { end - 80 } else { content.len() };
        for at in (0..end - 512).step_by(64) {
            for fill in [0, 0xA5] {
                files.restore(&image);
                files.tamper(&path, |bytes| bytes[at..at + 512].fill(fill));
                let Ok((_, recovery)) = Log::open(Arc::new(files.clone()), folder(), tiny()) else {
                    panic!("a wiped block is no later format")
                };
                never_wrong(&recovery, &model, &format!("512 bytes of {fill} at {at} of {}", path.display()));
            }
        }
    }
}

#[test]
fn lost_cut_and_exchanged_segments_are_noticed() {
    let (files, model) = sample();
    let image = files.image();
    let content = files.content(&segment(1)).unwrap();
    files.tamper(&segment(2), |bytes| *bytes = content.clone());
    let (_, recovery) = open(&files, tiny());
    assert!(never_wrong(&recovery, &model, "segment 1 in place of 2") > 0);

    for keep in (0..content.len()).step_by(101) {
        files.restore(&image);
        files.tamper(&segment(1), |bytes| bytes.truncate(keep));
        let (_, recovery) = open(&files, tiny());
        assert!(never_wrong(&recovery, &model, &format!("segment 1 cut at {keep}")) > 0);
    }

    files.restore(&image);
    use pairline_store::FileLayer;
    files.remove(&segment(2)).unwrap();
    let (_, recovery) = open(&files, tiny());
    assert!(never_wrong(&recovery, &model, "segment 2 removed") > 0);
}

#[test]
fn a_corrupt_group_stands_alone_and_can_begin_anew() {
    let (files, model) = sample();
    files.tamper(&segment(1), |bytes| {
        // The first record of the first segment: header of 56 bytes, record header of 48.
        bytes[56 + 50] ^= 1;
    });
    let (mut log, recovery) = open(&files, tiny());
    let (spoilt, reason) = recovery.corrupt.iter().next().map(|(g, r)| (*g, r.clone())).unwrap();
    assert_eq!(recovery.corrupt.len(), 1);
    assert_eq!(reason, Corruption::Damaged { segment: 1, offset: 56 });
    never_wrong(&recovery, &model, "one record");

    assert!(matches!(log.append(&batch(1, vec![item(spoilt, 1, 1, b"")])), Err(LogError::Corrupt(g)) if g == spoilt));
    assert!(matches!(log.purge(spoilt, 3), Err(LogError::Corrupt(_))));
    log.collect().unwrap();
    assert!(files.paths().contains(&segment(1)), "nothing is deleted while a group is corrupt");
    drop(log);
    files.crash(0);
    let (mut log, recovery) = open(&files, tiny());
    assert!(recovery.corrupt.contains_key(&spoilt), "it stays corrupt until it is forgotten");

    log.forget(spoilt).unwrap();
    log.append(&batch(1, vec![item(spoilt, 5, 1, b"anew")])).unwrap();
    log.sync().unwrap();
    files.crash(0);
    let (mut log, recovery) = open(&files, tiny());
    assert!(recovery.corrupt.is_empty(), "{:?}", recovery.corrupt);
    assert_eq!(recovered(&recovery)[&spoilt].items.len(), 1);
    for g in (0..3).map(group).filter(|g| *g != spoilt) {
        log.purge(g, model[&g].items.len() as u64).unwrap();
    }
    log.collect().unwrap();
    assert!(!files.paths().contains(&segment(1)), "the damaged segment goes once nobody needs it");
}

#[test]
fn a_torn_tail_is_dropped_silently_and_counted() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    log.sync().unwrap();
    log.append(&batch(2, one(2))).unwrap();
    files.kill();
    let path = segment(1);
    // Half of the last record reached the disk.
    let len = files.content(&path).unwrap().iter().rposition(|b| *b != 0).unwrap();
    files.tamper(&path, |bytes| bytes[len - 2..].fill(0));
    let (_, recovery) = open(&files, tiny());
    assert!(recovery.corrupt.is_empty());
    assert_eq!(recovered(&recovery)[&group(1)].items.len(), 1);
    assert!(recovery.torn_bytes > 40, "{}", recovery.torn_bytes);
}

#[test]
fn a_later_format_is_refused_untouched() {
    let (files, _) = sample();
    let untouched = |files: &MemoryFiles, before: &[Vec<u8>]| {
        let now: Vec<_> = files.paths().iter().map(|path| files.content(path).unwrap()).collect();
        assert_eq!(now, before);
    };
    let image = files.image();
    files.tamper(&segment(2), |bytes| bytes[8] = 2);
    let before: Vec<_> = files.paths().iter().map(|path| files.content(path).unwrap()).collect();
    let error = Log::open(Arc::new(files.clone()), folder(), tiny()).unwrap_err();
    assert!(matches!(&error, LogOpenError::Newer { found: 2, supported: 1, path } if *path == segment(2)), "{error}");
    assert!(error.to_string().contains("log format 2; this build reads up to 1"), "{error}");
    untouched(&files, &before);

    // A record of a later version, correctly sealed: checksum over place, first 4 bytes, and bytes 8 to 48.
    files.restore(&image);
    files.tamper(&segment(1), |bytes| {
        bytes[56 + 8] = 3;
        let mut crc = crc32c::crc32c(&1_u64.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &56_u64.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &bytes[56..60]);
        crc = crc32c::crc32c_append(crc, &bytes[64..104]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let before: Vec<_> = files.paths().iter().map(|path| files.content(path).unwrap()).collect();
    let error = Log::open(Arc::new(files.clone()), folder(), tiny()).unwrap_err();
    assert!(matches!(error, LogOpenError::Newer { found: 3, .. }));
    untouched(&files, &before);
}

#[test]
fn a_read_error_at_start_is_an_error_not_a_loss() {
    let (files, model) = sample();
    for nth in 1..6 {
        files.arm(Fault::ReadIo, nth);
        let opened = Log::open(Arc::new(files.clone()), folder(), tiny());
        assert!(matches!(opened, Err(LogOpenError::Files(_))) || nth > 4);
        files.kill();
    }
    let (_, recovery) = open(&files, tiny());
    assert_eq!(never_wrong(&recovery, &model, "after read errors"), 0);
}

#[test]
fn wiped_and_old_disks_are_what_they_are() {
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, tiny());
    log.append(&batch(1, one(1))).unwrap();
    log.sync().unwrap();
    let old = files.image();
    log.append(&batch(2, one(2))).unwrap();
    log.sync().unwrap();
    files.restore(&old);
    assert!(log.append(&batch(3, one(3))).is_err(), "a handle to another disk is dead");
    let (_, recovery) = open(&files, tiny());
    assert_eq!(recovered(&recovery)[&group(1)].items.len(), 1);
    files.restore(&pairline_store::files::DiskImage::default());
    let (_, recovery) = open(&files, tiny());
    assert!(recovered(&recovery).is_empty() && recovery.corrupt.is_empty());
}
