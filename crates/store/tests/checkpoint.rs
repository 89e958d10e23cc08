//! One suite for both checkpoint stores; crashes, full disks and rot for the one with a file.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::{Rng, group, position};
use pairline_group::GroupId;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint};
use pairline_group::record::{Class, Key, Kind, Record};
use pairline_store::checkpoint::{AllCheckpoints, MAX_ATTEMPTS};
use pairline_store::files::Fault;
use pairline_store::{
    CheckpointError, CheckpointStore, FileLayer, MemoryCheckpoints, MemoryFiles, RealFiles, RedbCheckpoints,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn record(seq: u64, value: &[u8]) -> Record {
    let class = if seq.is_multiple_of(3) { Class::Soft { expires: seq * 10 } } else { Class::Durable };
    Record { version: position(2, 1, seq), class, value: Bytes::copy_from_slice(value) }
}

fn key(n: u64) -> Key {
    Key::new(&format!("user{n}@pairline.test"), Kind(1), &n.to_be_bytes())
}

fn delta(g: GroupId, meta: &[u8], puts: Vec<(Key, Record)>, deletes: Vec<Key>) -> CheckpointDelta {
    CheckpointDelta { group: g, meta: Bytes::copy_from_slice(meta), clear: false, puts, deletes }
}

fn path() -> PathBuf {
    PathBuf::from("/data/checkpoint.redb")
}

fn disk() -> MemoryFiles {
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/data")).unwrap();
    files
}

fn open(files: &MemoryFiles) -> RedbCheckpoints {
    let (store, discarded) = RedbCheckpoints::open(Arc::new(files.clone()), path(), 1 << 20).unwrap();
    assert_eq!(discarded, None);
    store
}

fn good(all: AllCheckpoints) -> BTreeMap<GroupId, GroupCheckpoint> {
    all.into_iter().map(|(g, checkpoint)| (g, checkpoint.unwrap())).collect()
}

/// Everything that the port promises.
fn conforms(store: &mut dyn CheckpointStore) {
    assert!(store.read_all().unwrap().is_empty());
    assert!(store.read(group(1)).unwrap().is_none());
    let puts = vec![(key(2), record(2, b"two")), (key(1), record(1, b"one")), (key(3), record(3, b""))];
    let neighbour = delta(group(2), b"neighbour", vec![(key(1), record(1, b"x"))], vec![]);
    store.write(&[delta(group(1), b"meta 1", puts, vec![key(9)]), neighbour.clone()]).unwrap();
    let expected = GroupCheckpoint {
        meta: Bytes::from_static(b"meta 1"),
        records: vec![(key(1), record(1, b"one")), (key(2), record(2, b"two")), (key(3), record(3, b""))],
    };
    assert_eq!(store.read(group(1)).unwrap().unwrap().unwrap(), expected);
    let all = good(store.read_all().unwrap());
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [group(1), group(2)]);
    assert_eq!(all[&group(1)], expected);

    // Replaced, removed, and put again after a removal in the same delta.
    let puts = vec![(key(2), record(20, b"new two")), (key(3), record(30, b"three again"))];
    store.write(&[delta(group(1), b"meta 2", puts, vec![key(1), key(3)])]).unwrap();
    let found = store.read(group(1)).unwrap().unwrap().unwrap();
    assert_eq!(found.meta, "meta 2");
    assert_eq!(found.records, [(key(2), record(20, b"new two")), (key(3), record(30, b"three again"))]);

    let cleared =
        CheckpointDelta { clear: true, ..delta(group(1), b"meta 3", vec![(key(7), record(7, b"seven"))], vec![]) };
    store.write(&[cleared]).unwrap();
    let found = store.read(group(1)).unwrap().unwrap().unwrap();
    assert_eq!(found.records, [(key(7), record(7, b"seven"))]);
    assert_eq!(store.read(group(2)).unwrap().unwrap().unwrap().records, neighbour.puts);

    let long = Key::new(&"x".repeat(513), Kind(1), b"");
    let refused = store.write(&[
        delta(group(2), b"half", vec![(key(5), record(5, b"5"))], vec![]),
        delta(group(1), b"meta 4", vec![(long, record(1, b""))], vec![]),
    ]);
    assert!(matches!(refused, Err(CheckpointError::TooLarge { group: g }) if g == group(1)));
    assert_eq!(store.read(group(2)).unwrap().unwrap().unwrap().meta, "neighbour", "all or nothing");

    let last = GroupId { pool: pairline_group::PoolId(u16::MAX), index: u16::MAX };
    store.write(&[delta(last, b"last", vec![(key(1), record(1, b"l"))], vec![])]).unwrap();
    assert_eq!(store.read(last).unwrap().unwrap().unwrap().records.len(), 1);
    store.forget(last).unwrap();
    store.forget(group(1)).unwrap();
    store.forget(group(1)).unwrap();
    assert_eq!(good(store.read_all().unwrap()).keys().copied().collect::<Vec<_>>(), [group(2)]);
}

#[test]
fn the_memory_store_conforms() {
    let mut store = MemoryCheckpoints::new();
    let old = store.image();
    conforms(&mut store.clone());
    assert_eq!(store.read_all().unwrap().len(), 1);
    store.restore(&old);
    assert!(store.read_all().unwrap().is_empty());
}

#[test]
fn the_database_conforms_on_a_simulated_disk() {
    let files = disk();
    conforms(&mut open(&files));
    files.crash(4);
    assert_eq!(good(open(&files).read_all().unwrap()).len(), 1);
}

#[test]
fn the_database_conforms_on_a_real_disk() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("checkpoint-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    RealFiles.create_dir(&folder).unwrap();
    let at = folder.join("checkpoint.redb");
    let (mut store, _) = RedbCheckpoints::open(Arc::new(RealFiles), at.clone(), 1 << 20).unwrap();
    conforms(&mut store);
    drop(store);
    let (mut store, discarded) = RedbCheckpoints::open(Arc::new(RealFiles), at, 1 << 20).unwrap();
    assert_eq!(discarded, None);
    assert_eq!(good(store.read_all().unwrap()).len(), 1);
    drop(store);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The n-th of a series of checkpoints, each over two groups.
fn nth(n: u64, rng: &mut Rng) -> Vec<CheckpointDelta> {
    (1..3)
        .map(|g| {
            let puts = (0..10).map(|_| (key(rng.below(40)), record(n, &n.to_be_bytes()))).collect::<BTreeMap<_, _>>();
            let deletes = (0..3).map(|_| key(rng.below(40))).filter(|key| !puts.contains_key(key)).collect();
            let clear = rng.below(6) == 0;
            CheckpointDelta { clear, ..delta(group(g), &n.to_be_bytes(), puts.into_iter().collect(), deletes) }
        })
        .collect()
}

#[test]
fn a_power_cut_leaves_the_last_whole_checkpoint() {
    for cut in (1..220).step_by(3) {
        let files = disk();
        let mut model = MemoryCheckpoints::new();
        let mut states = vec![good(model.read_all().unwrap())];
        files.cut_after(cut);
        let opened = RedbCheckpoints::open(Arc::new(files.clone()), path(), 1 << 20);
        let mut durable = 0;
        if let Ok((mut store, _)) = opened {
            let mut rng = Rng(cut);
            for n in 1..12 {
                let deltas = nth(n, &mut rng);
                model.write(&deltas).unwrap();
                states.push(good(model.read_all().unwrap()));
                if store.write(&deltas).is_err() {
                    break;
                }
                durable = states.len() - 1;
            }
        }
        files.crash(cut * 7 + 1);
        let found = good(open(&files).read_all().unwrap());
        assert!(
            states[durable..].contains(&found),
            "cut at {cut}: not the last durable checkpoint ({durable}) nor the next"
        );
    }
}

#[test]
fn a_full_disk_keeps_the_old_checkpoint_and_heals() {
    let files = disk();
    let mut store = open(&files);
    store.write(&[delta(group(1), b"good", vec![(key(1), record(1, b"one"))], vec![])]).unwrap();
    files.set_capacity(Some(files.used()));
    let big = vec![(key(2), record(2, &vec![5; 8 * 1024 * 1024]))];
    let mut refused = false;
    for n in 0..3 {
        let error = store.write(&[delta(group(1), &[n], big.clone(), vec![])]).unwrap_err();
        refused |= matches!(error, CheckpointError::NoSpace(_));
    }
    assert!(refused);
    assert_eq!(store.read(group(1)).unwrap().unwrap().unwrap().meta, "good");
    files.set_capacity(None);
    store.write(&[delta(group(1), b"better", big, vec![])]).unwrap();
    files.crash(0);
    let found = open(&files).read(group(1)).unwrap().unwrap().unwrap();
    assert_eq!((found.meta.as_ref(), found.records.len()), (&b"better"[..], 2));
}

#[test]
fn a_failed_sync_is_final() {
    let files = disk();
    let mut store = open(&files);
    store.write(&[delta(group(1), b"good", vec![], vec![])]).unwrap();
    files.arm(Fault::SyncIo, 1);
    assert!(matches!(store.write(&[delta(group(1), b"bad", vec![], vec![])]), Err(CheckpointError::Dead)));
    assert!(matches!(store.write(&[delta(group(1), b"bad", vec![], vec![])]), Err(CheckpointError::Dead)));
    assert!(matches!(store.read(group(1)), Err(CheckpointError::Dead)));
    drop(store);
    files.crash(0);
    assert_eq!(open(&files).read(group(1)).unwrap().unwrap().unwrap().meta, "good");
}

/// Opens as a process does that is started again whenever it dies of a panic.
fn open_over_starts(
    files: &MemoryFiles,
) -> Result<(RedbCheckpoints, Option<pairline_store::checkpoint::Unopenable>), CheckpointError> {
    for _ in 0..MAX_ATTEMPTS {
        let again = files.clone();
        let opened = std::panic::catch_unwind(move || RedbCheckpoints::open(Arc::new(again), path(), 1 << 20));
        match opened {
            Ok(opened) => return opened,
            Err(_) => files.kill(),
        }
    }
    RedbCheckpoints::open(Arc::new(files.clone()), path(), 1 << 20)
}

#[test]
fn rot_is_never_read_as_data() {
    let files = disk();
    let mut store = open(&files);
    let puts: Vec<_> = (0..200).map(|n| (key(n), record(n, &n.to_be_bytes()))).collect();
    store.write(&[delta(group(1), b"meta", puts.clone(), vec![]), delta(group(2), b"other", puts, vec![])]).unwrap();
    let expected = good(store.read_all().unwrap());
    drop(store);
    files.kill();
    let image = files.image();
    let len = files.content(&path()).unwrap().len();
    let (mut discarded_once, mut rng) = (0, Rng(3));
    for n in 0..300 {
        files.restore(&image);
        let at = if n < 120 { n * 3 } else { usize::try_from(rng.below(len as u64)).unwrap() };
        files.tamper(&path(), |bytes| bytes[at] ^= 0x41);
        match open_over_starts(&files) {
            Ok((mut store, discarded)) => {
                discarded_once += u32::from(discarded.is_some());
                for (g, found) in store.read_all().unwrap() {
                    if let Ok(found) = found {
                        assert_eq!(found, expected[&g], "byte {at}");
                    }
                }
                if discarded.is_none() {
                    assert_eq!(store.read_all().unwrap().len(), 2, "byte {at}");
                }
            }
            Err(error) => assert!(matches!(error, CheckpointError::Newer { .. }), "byte {at}: {error:?}"),
        }
    }
    assert!(discarded_once > 20, "{discarded_once}");
}

#[test]
fn an_unusable_file_is_set_aside_not_deleted() {
    for content in [b"".to_vec(), b"not a database".to_vec(), vec![0; 100_000]] {
        let files = disk();
        drop(open(&files));
        files.tamper(&path(), |bytes| *bytes = content.clone());
        let (mut store, discarded) = RedbCheckpoints::open(Arc::new(files.clone()), path(), 1 << 20).unwrap();
        let discarded = discarded.unwrap();
        assert!(!discarded.reason.is_empty());
        assert_eq!(files.content(&discarded.kept_as).unwrap(), content);
        assert!(store.read_all().unwrap().is_empty());
        store.write(&[delta(group(1), b"new", vec![], vec![])]).unwrap();
        drop(store);
        files.crash(0);
        assert_eq!(open(&files).read_all().unwrap().len(), 1);
    }
}

#[test]
fn a_disk_error_at_opening_does_not_discard_anything() {
    let files = disk();
    let mut store = open(&files);
    store.write(&[delta(group(1), b"good", vec![], vec![])]).unwrap();
    drop(store);
    let mut errors = 0;
    for nth in 1..8 {
        files.arm(Fault::ReadIo, nth);
        if let Err(error) = RedbCheckpoints::open(Arc::new(files.clone()), path(), 1 << 20) {
            assert!(matches!(error, CheckpointError::Database(_)), "{error:?}");
            errors += 1;
        }
        files.kill();
        assert_eq!(open(&files).read(group(1)).unwrap().unwrap().unwrap().meta, "good", "read {nth}");
    }
    assert!(errors > 0);
}

#[test]
fn a_later_format_is_refused_untouched() {
    const META: redb::TableDefinition<'_, &str, u32> = redb::TableDefinition::new("meta");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("checkpoint-newer-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    RealFiles.create_dir(&folder).unwrap();
    let at = folder.join("checkpoint.redb");
    drop(RedbCheckpoints::open(Arc::new(RealFiles), at.clone(), 1 << 20).unwrap());
    let database = redb::Database::create(&at).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = RedbCheckpoints::open(Arc::new(RealFiles), at.clone(), 1 << 20).unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { found: 2, supported: 1, .. }), "{error:?}");
    assert!(at.exists() && !at.with_extension("unusable").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}
