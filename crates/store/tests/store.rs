//! The whole store: folder, lock, log, checkpoint and tails together.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::*;
use pairline_group::GroupId;
use pairline_group::io::{CheckpointDelta, RecoveredGroup};
use pairline_group::record::{Class, Key, Kind, Record};
use pairline_store::folder::inspect;
use pairline_store::{
    Corruption, FileLayer, FolderError, MemoryCheckpoints, MemoryFiles, OpenError, OpenReport, RealFiles, Store,
    StoreConfig,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn config() -> StoreConfig {
    StoreConfig::small("/srv/data")
}

fn open(files: &MemoryFiles) -> (Store, Vec<RecoveredGroup>, OpenReport) {
    files.create_dir(Path::new("/srv")).unwrap();
    Store::open(&config(), Arc::new(files.clone())).unwrap()
}

fn delta(g: GroupId, meta: &'static [u8], n: u64) -> CheckpointDelta {
    let record =
        Record { version: position(1, 1, n), class: Class::Durable, value: Bytes::copy_from_slice(&n.to_be_bytes()) };
    let puts = vec![(Key::new("user", Kind(1), &n.to_be_bytes()), record)];
    CheckpointDelta { group: g, meta: Bytes::from_static(meta), puts, ..CheckpointDelta::default() }
}

/// One life: append, sync, checkpoint, purge, tail, and what the next start gives back.
fn lives(config: &StoreConfig, files: Arc<dyn FileLayer>, between: impl Fn()) {
    let (mut store, groups, report) = Store::open(config, files.clone()).unwrap();
    assert!(groups.is_empty() && report.created && report.corrupt.is_empty());
    assert!(matches!(Store::open(config, files.clone()), Err(OpenError::Folder(FolderError::InUse { .. }))));
    for n in 1..=10 {
        store.log.append(&batch(n, vec![item(group(1), 1, n, b"one"), item(group(2), 1, n, b"two")])).unwrap();
    }
    store.log.append(&batch(11, vec![hard_state(group(1), b"vote")])).unwrap();
    assert_eq!(store.log.sync().unwrap(), 11);
    store.checkpoints.write(&[delta(group(1), b"at 6", 6), delta(group(3), b"only here", 1)]).unwrap();
    store.log.purge(group(1), 6).unwrap();
    store.log.collect().unwrap();
    store.log.idle().unwrap();
    let tail = store.log.store_tail(group(2), position(2, 2, 5), &[Arc::new(entry(5))]).unwrap();
    assert!(store.log.group_log_bytes(group(1)) > 0 && store.log.log_stats().live_records == 15);
    drop(store);
    between();

    let (mut store, groups, report) = Store::open(config, files.clone()).unwrap();
    assert!(!report.created && report.corrupt.is_empty() && report.checkpoint_discarded.is_none());
    assert_eq!(groups.iter().map(|g| g.group).collect::<Vec<_>>(), [group(1), group(2), group(3)]);
    let indices: Vec<u64> = groups[0].log.iter().map(|record| record.index).collect();
    assert_eq!(indices, [7, 8, 9, 10, 0], "items, then the hard state");
    let checkpoint = groups[0].checkpoint.as_ref().unwrap();
    assert_eq!((checkpoint.meta.as_ref(), checkpoint.records.len()), (&b"at 6"[..], 1));
    assert_eq!((groups[1].checkpoint.is_none(), groups[1].log.len()), (true, 10));
    assert_eq!(groups[2].log.len(), 0);
    assert_eq!(store.log.tails().list().unwrap(), [tail]);
    assert_eq!(store.checkpoints.read(group(3)).unwrap().unwrap().unwrap().meta, "only here");
    store.forget(group(2)).unwrap();
    store.log.append(&batch(1, vec![item(group(1), 2, 11, b"more")])).unwrap();
    store.log.close().unwrap();
    between();

    let (_, groups, report) = Store::open(config, files).unwrap();
    assert_eq!(groups.iter().map(|g| g.group).collect::<Vec<_>>(), [group(1), group(3)]);
    assert_eq!(groups[0].log.len(), 6);
    assert!(report.corrupt.is_empty());
    between();
}

#[test]
fn lives_on_a_simulated_disk() {
    for seed in [0, 1, 2, 3] {
        let files = MemoryFiles::new();
        files.create_dir(Path::new("/srv")).unwrap();
        lives(&config(), Arc::new(files.clone()), || files.crash(seed));
    }
}

#[test]
fn lives_on_a_real_disk() {
    let root: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("store-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    lives(&StoreConfig::small(root.join("data")), Arc::new(RealFiles), || {});
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn lives_with_checkpoints_in_memory() {
    let (files, checkpoints) = (MemoryFiles::new(), MemoryCheckpoints::new());
    files.create_dir(Path::new("/srv")).unwrap();
    let start = || Store::open_with(&config(), Arc::new(files.clone()), Box::new(checkpoints.clone())).unwrap();
    let (mut store, ..) = start();
    store.log.append(&batch(1, vec![item(group(1), 1, 1, b"one"), item(group(1), 1, 2, b"two")])).unwrap();
    store.log.sync().unwrap();
    store.checkpoints.write(&[delta(group(1), b"at 1", 1)]).unwrap();
    store.log.purge(group(1), 1).unwrap();
    files.crash(0);
    let (_store, groups, report) = start();
    assert!(report.corrupt.is_empty());
    assert_eq!(groups[0].checkpoint.as_ref().unwrap().meta, "at 1");
    assert_eq!(groups[0].log.len(), 2, "a purge that was not synced is repeated, no harm done");
}

#[test]
fn a_foreign_folder_is_refused_and_untouched() {
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/srv/data")).unwrap();
    let path = Path::new("/srv/data/photo.jpg");
    files.open(path, pairline_store::files::OpenMode::CreateNew).unwrap().append(b"jpeg").unwrap();
    let before = files.operations();
    let error = Store::open(&config(), Arc::new(files.clone())).unwrap_err();
    assert!(matches!(error, OpenError::Folder(FolderError::Foreign { .. })));
    assert_eq!(error.to_string(), "/srv/data is not empty and not a Pairline data folder; nothing was changed");
    assert_eq!(files.operations(), before);
    assert_eq!(files.paths(), [path]);

    // A format file of someone else's.
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/srv/data")).unwrap();
    let path = Path::new("/srv/data/format");
    files.open(path, pairline_store::files::OpenMode::CreateNew).unwrap().append(b"mp3").unwrap();
    assert!(matches!(
        Store::open(&config(), Arc::new(files.clone())),
        Err(OpenError::Folder(FolderError::Foreign { .. }))
    ));
    assert_eq!(files.paths(), [path]);
}

#[test]
fn a_newer_folder_is_refused_and_untouched() {
    let files = MemoryFiles::new();
    drop(open(&files));
    files.tamper(Path::new("/srv/data/format"), |bytes| *bytes = b"pairline-store 2\n".to_vec());
    let before = files.operations();
    let error = Store::open(&config(), Arc::new(files.clone())).unwrap_err();
    assert!(matches!(error, OpenError::Folder(FolderError::Newer { found: 2, supported: 1, .. })), "{error}");
    assert_eq!(files.operations(), before);
    assert!(matches!(inspect(&files, Path::new("/srv/data")), Err(FolderError::Newer { .. })));
}

#[test]
fn a_start_that_was_cut_anywhere_starts_again() {
    for cut in 1..120 {
        for seed in [0, 5, 6] {
            let files = MemoryFiles::new();
            files.create_dir(Path::new("/srv")).unwrap();
            files.cut_after(cut);
            let opened = Store::open(&config(), Arc::new(files.clone()));
            let finished = opened.is_ok();
            drop(opened);
            files.crash(seed);
            let (_, groups, report) = Store::open(&config(), Arc::new(files.clone()))
                .unwrap_or_else(|error| panic!("cut at {cut}, seed {seed}: {error:?}"));
            assert!(groups.is_empty() && report.corrupt.is_empty() && report.checkpoint_discarded.is_none());
            assert!(!finished || cut > 10);
        }
    }
}

#[test]
fn a_purged_group_without_its_checkpoint_is_named() {
    let files = MemoryFiles::new();
    let (mut store, ..) = open(&files);
    for n in 1..=3 {
        store.log.append(&batch(n, vec![item(group(1), 1, n, b"one"), item(group(2), 1, n, b"two")])).unwrap();
    }
    store.log.sync().unwrap();
    store.checkpoints.write(&[delta(group(1), b"at 2", 2)]).unwrap();
    store.log.purge(group(1), 2).unwrap();
    store.log.close().unwrap();
    files.tamper(Path::new("/srv/data/checkpoint.redb"), |bytes| bytes.fill(0));
    let (mut store, groups, report) = open(&files);
    assert!(report.checkpoint_discarded.is_some());
    assert_eq!(report.corrupt, [(group(1), Corruption::CheckpointLost { purged: 2 })]);
    assert_eq!(groups.iter().map(|g| g.group).collect::<Vec<_>>(), [group(2)], "the other one needs no checkpoint");
    assert!(store.log.append(&batch(1, vec![item(group(1), 1, 4, b"")])).is_err());
    store.forget(group(1)).unwrap();
    store.log.append(&batch(1, vec![item(group(1), 1, 1, b"anew")])).unwrap();
    store.log.close().unwrap();
    let (_, groups, report) = open(&files);
    assert!(report.corrupt.is_empty());
    assert_eq!(groups[0].log.len(), 1);
}

#[test]
fn a_group_half_forgotten_is_forgotten_at_the_next_start() {
    let files = MemoryFiles::new();
    let checkpoints = pairline_store::MemoryCheckpoints::new();
    let open_both = || {
        let config = StoreConfig::small("/srv/data");
        Store::open_with(&config, std::sync::Arc::new(files.clone()), Box::new(checkpoints.clone())).unwrap()
    };
    let (mut store, ..) = open_both();
    store.log.append(&batch(1, vec![item(group(1), 1, 1, b"one"), item(group(2), 1, 1, b"two")])).unwrap();
    store.log.sync().unwrap();
    store.checkpoints.write(&[delta(group(1), b"at 1", 1)]).unwrap();
    store.log.purge(group(1), 1).unwrap();
    let before = checkpoints.image();
    store.forget(group(1)).unwrap();
    store.log.close().unwrap();
    // The power went after the log's half.
    checkpoints.restore(&before);
    let (mut store, groups, report) = open_both();
    assert!(report.corrupt.is_empty(), "{:?}", report.corrupt);
    assert_eq!(groups.iter().map(|g| g.group).collect::<Vec<_>>(), [group(2)]);
    assert!(store.checkpoints.read(group(1)).unwrap().is_none());
    store.log.append(&batch(1, vec![item(group(1), 1, 1, b"anew")])).unwrap();
    store.log.close().unwrap();
    let (_, groups, _) = open_both();
    assert_eq!(groups.len(), 2);
}

#[test]
fn a_full_disk_still_opens() {
    let files = MemoryFiles::new();
    let (mut store, ..) = open(&files);
    store.log.append(&batch(1, vec![item(group(1), 1, 1, b"one")])).unwrap();
    store.log.close().unwrap();
    files.set_capacity(Some(files.used() + 4096));
    let (mut store, groups, _) = open(&files);
    assert_eq!(groups[0].log.len(), 1);
    let big = vec![item(group(1), 1, 2, &[0; 100_000])];
    assert!(matches!(store.log.append(&batch(1, big.clone())), Err(pairline_store::LogError::NoSpace(_))));
    files.set_capacity(None);
    store.log.append(&batch(1, big)).unwrap();
    assert_eq!(store.log.sync().unwrap(), 1);
}
