//! Frozen samples of every stored format: this build writes them byte for byte, and reads what was written once.
//!
//! A changed sample is a changed format: raise its version and add a new sample beside the old one. Run with
//! `PAIRLINE_GOLDEN=write` to write samples that are not there yet.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::*;
use pairline_group::ids::{Epoch, GroupId, PoolId, Position};
use pairline_group::io::CheckpointDelta;
use pairline_group::record::{Class, Key, Kind, Record};
use pairline_store::files::OpenMode;
use pairline_store::{
    CheckpointStore, FileLayer, LogConfig, MemoryFiles, RealFiles, RedbCheckpoints, Resolution, Store, StoreConfig,
    TailId, Tails,
};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const GROUPS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("groups");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");

fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("PAIRLINE_GOLDEN").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(frozen == written, "{name}: this build writes other bytes than the frozen sample");
    frozen
}

fn put(files: &MemoryFiles, path: &Path, bytes: &[u8]) {
    files.create_dir(path.parent().unwrap()).unwrap();
    files.open(path, OpenMode::CreateNew).unwrap().append(bytes).unwrap();
}

#[test]
fn log_segments() {
    let config = LogConfig { segment_bytes: 512, ..tiny() };
    let files = MemoryFiles::new();
    let (mut log, _) = open(&files, config);
    log.append(&batch(1, vec![item(group(1), 3, 1, b"first"), hard_state(group(1), b"state")])).unwrap();
    log.sync().unwrap();
    log.append(&batch(2, vec![item(group(2), 3, 1, b"x"), item(group(1), 4, 2, b"second")])).unwrap();
    log.purge(group(1), 1).unwrap();
    log.forget(group(2)).unwrap();
    log.sync().unwrap();
    log.append(&batch(3, vec![item(group(1), 4, 3, b"in the second segment")])).unwrap();
    log.sync().unwrap();
    log.mark().unwrap();
    let again = MemoryFiles::new();
    for number in [1, 2] {
        let name = format!("{number:016x}.log");
        let frozen = golden(&format!("log-segment-{number}-v1.bin"), &files.content(&folder().join(&name)).unwrap());
        put(&again, &folder().join(&name), &frozen);
    }
    let (_, recovery) = open(&again, config);
    assert!(recovery.corrupt.is_empty());
    let found = recovered(&recovery);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [group(1)]);
    assert_eq!(found[&group(1)].purged, 1);
    assert_eq!(found[&group(1)].items[&2], (4, Bytes::from_static(b"second")));
    assert_eq!(found[&group(1)].items[&3], (4, Bytes::from_static(b"in the second segment")));
    assert_eq!(found[&group(1)].hard_state.as_ref().unwrap(), "state");
}

fn sample_checkpoint() -> CheckpointDelta {
    let durable = Record { version: position(2, 1, 7), class: Class::Durable, value: Bytes::from_static(b"\x01v") };
    let soft = Record { version: position(3, 2, 8), class: Class::Soft { expires: 99 }, value: Bytes::new() };
    CheckpointDelta {
        group: group(5),
        meta: Bytes::from_static(b"\x01meta"),
        puts: vec![(Key::new("a\0b", Kind(3), b"item"), durable), (Key::new("anna", Kind(258), b""), soft)],
        ..CheckpointDelta::default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn checkpoint_rows() {
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("golden-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    RealFiles.create_dir(&folder).unwrap();
    let at = folder.join("checkpoint.redb");
    let (mut store, _) = RedbCheckpoints::open(Arc::new(RealFiles), at.clone(), 1 << 20).unwrap();
    store.write(&[sample_checkpoint()]).unwrap();
    let expected = store.read_all().unwrap();
    drop(store);

    let database = redb::Database::open(&at).unwrap();
    let transaction = database.begin_read().unwrap();
    let mut text = String::new();
    for row in transaction.open_table(META).unwrap().iter().unwrap() {
        let (key, value) = row.unwrap();
        writeln!(text, "meta {} {}", key.value(), value.value()).unwrap();
    }
    for (name, table) in [("groups", GROUPS), ("records", RECORDS)] {
        for row in transaction.open_table(table).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            writeln!(text, "{name} {} {}", hex(key.value()), hex(value.value())).unwrap();
        }
    }
    drop((transaction, database));
    let frozen = String::from_utf8(golden("checkpoint-rows-v1.txt", text.as_bytes())).unwrap();

    // A database built from the frozen rows alone reads as the same checkpoint.
    std::fs::remove_file(&at).unwrap();
    let database = redb::Database::create(&at).unwrap();
    let transaction = database.begin_write().unwrap();
    for line in frozen.lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        match parts[0] {
            "meta" => {
                transaction.open_table(META).unwrap().insert(parts[1], parts[2].parse::<u32>().unwrap()).unwrap();
            }
            name => {
                let table = if name == "groups" { GROUPS } else { RECORDS };
                let (key, value) = (unhex(parts[1]), unhex(parts[2]));
                transaction.open_table(table).unwrap().insert(key.as_slice(), value.as_slice()).unwrap();
            }
        }
    }
    transaction.commit().unwrap();
    drop(database);
    let (mut store, discarded) = RedbCheckpoints::open(Arc::new(RealFiles), at, 1 << 20).unwrap();
    assert_eq!(discarded, None);
    let found = store.read_all().unwrap();
    assert_eq!(found, expected);
    assert_eq!(found[0].1.as_ref().unwrap().records.len(), 2);
    drop(store);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn tails_at(files: &MemoryFiles) -> Tails {
    files.create_dir(Path::new("/data")).unwrap();
    Tails::open(Arc::new(files.clone()), PathBuf::from("/data/tails")).unwrap()
}

const TAIL: TailId = TailId { group: GroupId { pool: PoolId(1), index: 5 }, fork: FORK, copy: 0 };
const FORK: Position = Position { epoch: Epoch { number: 2, granted_by: PoolId(2) }, seq: 11 };

#[test]
fn tail_and_marks_files() {
    let files = MemoryFiles::new();
    let entries: Vec<_> = (11..19).map(|seq| Arc::new(entry(seq))).collect();
    let id = tails_at(&files).store(TAIL.group, FORK, &entries[..2]).unwrap();
    assert_eq!(id, TAIL);
    let again = MemoryFiles::new();
    let path = PathBuf::from("/data/tails/1-5-2.2-11-0.tail");
    put(&again, &path, &golden("tail-v1.bin", &files.content(&path).unwrap()));
    assert_eq!(tails_at(&again).read(TAIL).unwrap().entries, entries[..2]);

    let all = [
        Resolution::Open,
        Resolution::Applied(None),
        Resolution::Applied(Some(position(3, 1, 1 << 40))),
        Resolution::Skipped(None),
        Resolution::Skipped(Some(position(2, 2, 12))),
        Resolution::Conflict,
        Resolution::Discarded,
        Resolution::GivenUp,
    ];
    let files = MemoryFiles::new();
    let tails = tails_at(&files);
    tails.store(TAIL.group, FORK, &entries).unwrap();
    let marks: Vec<_> = entries.iter().map(|entry| entry.position).zip(all).collect();
    tails.resolve(TAIL, &marks).unwrap();
    let path = PathBuf::from("/data/tails/1-5-2.2-11-0.marks");
    let frozen = golden("marks-v2.bin", &files.content(&path).unwrap());
    files.tamper(&path, |bytes| *bytes = frozen.clone());
    assert_eq!(tails.read(TAIL).unwrap().resolutions, all);
}

/// Marks as an earlier build wrote them: one byte an entry, no positions.
#[test]
fn marks_of_version_1_are_read_and_written_anew() {
    let files = MemoryFiles::new();
    let tails = tails_at(&files);
    tails.store(TAIL.group, FORK, &[Arc::new(entry(11)), Arc::new(entry(12))]).unwrap();
    let frozen = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/marks-v1.bin")).unwrap();
    put(&files, Path::new("/data/tails/1-5-2.2-11-0.marks"), &frozen);
    assert_eq!(tails.read(TAIL).unwrap().resolutions, [Resolution::Open, Resolution::Conflict]);
    let applied = Resolution::Applied(Some(position(2, 2, 14)));
    tails.resolve(TAIL, &[(position(1, 1, 11), applied)]).unwrap();
    assert_eq!(tails.read(TAIL).unwrap().resolutions, [applied, Resolution::Conflict]);
}

#[test]
fn format_file() {
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/srv")).unwrap();
    let config = StoreConfig::small("/srv/data");
    drop(Store::open(&config, Arc::new(files.clone())).unwrap());
    let frozen = golden("format-v1.txt", &files.content(Path::new("/srv/data/format")).unwrap());
    let again = MemoryFiles::new();
    put(&again, Path::new("/srv/data/format"), &frozen);
    let (_, _, report) = Store::open(&config, Arc::new(again)).unwrap();
    assert!(!report.created, "a folder with a format file of ours is ours");
}
