//! Divergent tails: durable, whole or not there, never overwritten.
#![allow(clippy::unwrap_used)]

use super::common;

use common::{entry, group, position};
use pairline_group::entry::{Body, Entry, Handover, Promote};
use pairline_group::ids::{Epoch, PoolId};
use pairline_store::files::Fault;
use pairline_store::{FileLayer, MemoryFiles, RealFiles, Resolution, TailError, TailId, Tails};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn entries(n: u64) -> Vec<Arc<Entry>> {
    (11..11 + n).map(|seq| Arc::new(entry(seq))).collect()
}

fn open(files: Arc<dyn FileLayer>, root: &Path) -> Tails {
    files.create_dir(root).unwrap();
    Tails::open(files, root.join("tails")).unwrap()
}

fn disk() -> (MemoryFiles, Tails) {
    let files = MemoryFiles::new();
    let tails = open(Arc::new(files.clone()), Path::new("/data"));
    (files, tails)
}

/// What both layers must do.
fn conforms(tails: &Tails) {
    assert!(tails.list().unwrap().is_empty());
    let fork = position(2, 2, 11);
    let id = tails.store(group(1), fork, &entries(3)).unwrap();
    assert_eq!(id, TailId { group: group(1), fork, copy: 0 });
    assert_eq!(tails.store(group(1), fork, &entries(3)).unwrap(), id, "the same again is no change");
    let other = tails.store(group(1), fork, &entries(2)).unwrap();
    assert_eq!(other.copy, 1, "other content at the same fork is kept beside it");
    let empty = tails.store(group(0), position(2, 2, 1), &[]).unwrap();
    assert_eq!(tails.list().unwrap(), [empty, id, other]);

    let info = tails.info(id).unwrap();
    assert_eq!((info.entries, info.unsettled), (3, 3));
    let tail = tails.read(id).unwrap();
    assert_eq!(tail.entries, entries(3));
    assert_eq!(tail.resolutions, [Resolution::Open; 3]);
    assert_eq!(tail.digest, info.digest);
    assert!(tails.read(empty).unwrap().entries.is_empty());

    let at = |seq| position(1, 1, seq);
    let applied = Resolution::Applied(Some(position(2, 2, 15)));
    tails.resolve(id, &[(at(11), applied), (at(12), Resolution::Conflict)]).unwrap();
    tails.resolve(id, &[(at(13), Resolution::Discarded)]).unwrap();
    assert_eq!(tails.read(id).unwrap().resolutions, [applied, Resolution::Conflict, Resolution::Discarded]);
    assert_eq!(tails.info(id).unwrap().unsettled, 1);
    let (open, failed) = tails.unsettled(|group| group == id.group);
    assert_eq!(open.iter().map(|tail| tail.id).collect::<Vec<_>>(), [id, other], "a conflict waits for a person");
    assert!(failed.is_empty() && tails.unsettled(|group| group != id.group).0.is_empty());
    tails.resolve(id, &[(at(12), Resolution::GivenUp)]).unwrap();
    assert_eq!(tails.info(id).unwrap().unsettled, 0);
    assert_eq!(tails.unsettled(|_| true).0.len(), 1, "what is settled is not read");
    let missing = tails.resolve(id, &[(at(14), Resolution::Applied(None))]);
    assert!(matches!(missing, Err(TailError::NoSuchEntry { entries: 3, .. })));
    assert_eq!(tails.info(other).unwrap().unsettled, 2, "marks belong to one tail");
    let everywhere = [(at(12), Resolution::Skipped(Some(at(9)))), (at(99), Resolution::Applied(None))].into();
    tails.resolve_at(group(1), fork, &everywhere).unwrap();
    assert_eq!(tails.read(id).unwrap().resolutions[1], Resolution::Skipped(Some(at(9))));
    assert_eq!(tails.read(other).unwrap().resolutions, [Resolution::Open, Resolution::Skipped(Some(at(9)))]);
    let nowhere = TailId { copy: 9, ..id };
    assert!(matches!(tails.read(nowhere), Err(TailError::NotFound(found)) if found == nowhere));
    assert!(matches!(tails.info(nowhere), Err(TailError::NotFound(_))));
}

#[test]
fn the_simulated_disk_conforms() {
    let (files, tails) = disk();
    conforms(&tails);
    let listed = tails.list().unwrap();
    files.crash(0);
    assert_eq!(tails.list().unwrap(), listed, "all of it was durable");
    assert_eq!(tails.info(listed[1]).unwrap().unsettled, 0);
}

#[test]
fn the_real_disk_conforms() {
    let root: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tails-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    conforms(&open(Arc::new(RealFiles), &root));
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_power_cut_leaves_no_half_tail_and_loses_none_that_was_stored() {
    for cut in 1..30 {
        for seed in [0, 3, 8, 21] {
            let (files, tails) = disk();
            let first = tails.store(group(1), position(2, 2, 11), &entries(2)).unwrap();
            files.cut_after(cut);
            let second = tails.store(group(2), position(2, 2, 11), &entries(4));
            let marked = second
                .as_ref()
                .is_ok_and(|id| tails.resolve(*id, &[(position(1, 1, 12), Resolution::Applied(None))]).is_ok());
            files.crash(seed);
            let listed = tails.list().unwrap();
            assert!(listed.contains(&first));
            if let Ok(second) = second {
                assert!(listed.contains(&second), "cut at {cut}: a stored tail is gone");
                let open = tails.info(second).unwrap().unsettled;
                assert!(open == 3 || (open == 4 && !marked), "cut at {cut}: {open} open, marked {marked}");
            }
            for id in listed {
                assert_eq!(tails.read(id).unwrap().entries.len(), if id == first { 2 } else { 4 }, "cut at {cut}");
            }
            let again = tails.store(group(2), position(2, 2, 11), &entries(4)).unwrap();
            assert_eq!(again.copy, 0, "storing again after a crash settles on the same name");
        }
    }
}

#[test]
fn failing_disks_are_errors() {
    for fault in [Fault::WriteIo, Fault::WriteNoSpace, Fault::SyncIo] {
        let (files, tails) = disk();
        files.arm(fault, 1);
        assert!(matches!(tails.store(group(1), position(2, 2, 11), &entries(2)), Err(TailError::Files(_))));
        assert!(tails.list().unwrap().is_empty());
        files.disarm();
        tails.store(group(1), position(2, 2, 11), &entries(2)).unwrap();
        assert_eq!(files.paths().len(), 1, "nothing half done is left: {:?}", files.paths());
    }
}

#[test]
fn rot_is_an_error_and_the_file_is_kept() {
    let (files, tails) = disk();
    let id = tails.store(group(1), position(2, 2, 11), &entries(3)).unwrap();
    tails.resolve(id, &[(position(1, 1, 11), Resolution::Applied(None))]).unwrap();
    let image = files.image();
    for path in files.paths() {
        for at in 0..files.content(&path).unwrap().len() {
            files.restore(&image);
            files.tamper(&path, |bytes| bytes[at] ^= 0x10);
            match tails.read(id) {
                Err(TailError::Damaged { .. }) => {}
                Err(TailError::Newer { .. }) => assert_eq!(at, 7),
                other => panic!("byte {at} of {}: {other:?}", path.display()),
            }
        }
        files.restore(&image);
        for keep in 0..files.content(&path).unwrap().len() {
            files.restore(&image);
            files.tamper(&path, |bytes| bytes.truncate(keep));
            assert!(matches!(tails.read(id), Err(TailError::Damaged { .. })));
            assert!(matches!(tails.info(id), Err(TailError::Damaged { .. })));
        }
    }
    files.restore(&image);
    let path = files.paths().into_iter().find(|path| path.extension().unwrap() == "tail").unwrap();
    files.tamper(&path, |bytes| bytes[100] ^= 1);
    let before = files.content(&path).unwrap();
    assert_eq!(tails.store(group(1), position(2, 2, 11), &entries(3)).unwrap().copy, 1);
    assert_eq!(files.content(&path).unwrap(), before, "a damaged file is not written over");
}

#[test]
fn foreign_files_are_not_tails() {
    let (files, tails) = disk();
    for name in ["x.tail", "1-1-1.1-1.tail", "01-1-1.1-1-0.tail", "1-1-1.1-1-0.tail.tmp", "notes.txt"] {
        let path = Path::new("/data/tails").join(name);
        files.open(&path, pairline_store::files::OpenMode::CreateNew).unwrap();
    }
    assert!(tails.list().unwrap().is_empty());
}

#[test]
fn an_export_names_everything() {
    let (_, tails) = disk();
    let mut all = entries(1);
    let with = |seq, body| Arc::new(Entry { body, ..entry(seq) });
    all.push(with(12, Body::Open { pool: PoolId(4) }));
    let epoch = Epoch { number: 3, granted_by: PoolId(1) };
    all.push(with(13, Body::Handover(Handover { to: PoolId(2), epoch, digest: [0xAB; 32] })));
    all.push(with(
        14,
        Body::Promote(Promote {
            epoch,
            recovery_point: position(2, 2, 9),
            soft_extension: 600_000,
            operator: "anna \"the\" admin".into(),
            plan: bytes::Bytes::from_static(b"\x01plan"),
        }),
    ));
    all.push(with(15, Body::Expire(vec![pairline_group::Key::new("carol", pairline_group::Kind(5), b"i")])));
    let id = tails.store(group(1), position(2, 2, 11), &all).unwrap();
    tails.resolve(id, &[(position(1, 1, 11), Resolution::Conflict)]).unwrap();
    let text = tails.export(id).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["group"], "1/1");
    assert_eq!(lines[0]["entries"], 5);
    assert_eq!(lines[1]["resolution"], "conflict");
    assert_eq!(lines[1]["body"]["effects"][0]["put"]["owner"], "alice@pairline.test");
    assert_eq!(lines[1]["body"]["effects"][0]["value"], "0176616c7565");
    assert_eq!(lines[1]["body"]["effects"][1]["delete"]["owner"], "bob@pairline.test");
    assert_eq!(lines[2]["body"]["open"], 4);
    assert_eq!(lines[3]["body"]["handover"]["epoch"], "3.1");
    assert_eq!(lines[4]["body"]["promote"]["operator"], "anna \"the\" admin");
    assert_eq!(lines[5]["body"]["expire"][0]["owner"], "carol");
}
