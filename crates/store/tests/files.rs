//! One suite for both file layers, and the crash model of the simulated one.
#![allow(clippy::unwrap_used)]

use pairline_store::files::{Fault, OpenMode};
use pairline_store::{FileError, FileLayer, MemoryFiles, RealFiles};
use std::path::{Path, PathBuf};

fn real_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// Everything that the port promises without a crash.
fn conforms(files: &dyn FileLayer, root: &Path) {
    let folder = root.join("a/b");
    assert!(matches!(files.list(&folder), Err(FileError::NotFound { .. })));
    assert!(matches!(files.open(&folder.join("x"), OpenMode::CreateNew), Err(FileError::NotFound { .. })));
    files.create_dir(&folder).unwrap();
    files.create_dir(&folder).unwrap();
    assert!(files.list(&folder).unwrap().is_empty());
    assert_eq!(files.list(root).unwrap(), ["a"]);

    let path = folder.join("x");
    assert!(matches!(files.open(&path, OpenMode::Read), Err(FileError::NotFound { .. })));
    assert!(matches!(files.open(&path, OpenMode::Write), Err(FileError::NotFound { .. })));
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    assert!(matches!(files.open(&path, OpenMode::CreateNew), Err(FileError::AlreadyExists { .. })));
    assert!(file.is_empty().unwrap());
    file.write_at(3, b"defg").unwrap();
    file.append(b"h").unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut all = [9; 8];
    file.read_at(0, &mut all).unwrap();
    assert_eq!(&all, b"\0\0\0defgh");
    assert!(file.read_at(4, &mut all).is_err(), "reading behind the end");
    file.set_len(5).unwrap();
    file.allocate(4096).unwrap();
    assert_eq!(file.len().unwrap(), 4096);
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 4096, "a reservation never shortens");
    file.read_at(0, &mut all).unwrap();
    assert_eq!(&all, b"\0\0\0de\0\0\0");
    file.sync_data().unwrap();
    files.sync_dir(&folder).unwrap();

    files.open(&folder.join("y"), OpenMode::CreateOrWrite).unwrap().append(b"old").unwrap();
    files.rename(&path, &folder.join("y")).unwrap();
    assert_eq!(files.list(&folder).unwrap(), ["y"]);
    let y = files.open(&folder.join("y"), OpenMode::Read).unwrap();
    assert_eq!(y.len().unwrap(), 4096);
    file.write_at(0, b"z").unwrap();
    let mut first = [0];
    y.read_at(0, &mut first).unwrap();
    assert_eq!(&first, b"z", "an open file follows its rename");
    assert!(matches!(files.rename(&path, &folder.join("q")), Err(FileError::NotFound { .. })));
    files.remove(&folder.join("y")).unwrap();
    assert!(matches!(files.remove(&folder.join("y")), Err(FileError::NotFound { .. })));
    y.read_at(0, &mut first).unwrap();

    let lock = files.lock(&folder.join("lock")).unwrap();
    assert!(matches!(files.lock(&folder.join("lock")), Err(FileError::Locked { .. })));
    drop(lock);
    files.lock(&folder.join("lock")).unwrap();
}

#[test]
fn the_real_layer_conforms() {
    let root = real_folder("conforms");
    std::fs::create_dir_all(&root).unwrap();
    conforms(&RealFiles, &root);
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn the_simulated_layer_conforms() {
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/r")).unwrap();
    conforms(&files, Path::new("/r"));
}

#[test]
fn real_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let root = real_folder("private");
    RealFiles.create_dir(&root).unwrap();
    RealFiles.open(&root.join("x"), OpenMode::CreateNew).unwrap();
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(root.join("x")).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_dir_all(&root).unwrap();
}

fn disk() -> (MemoryFiles, PathBuf) {
    let files = MemoryFiles::new();
    files.create_dir(Path::new("/r")).unwrap();
    (files, PathBuf::from("/r/x"))
}

#[test]
fn unsynced_writes_are_kept_dropped_torn_and_reordered() {
    let (mut kept, mut dropped, mut torn, mut reordered) = (0, 0, 0, 0);
    for seed in 1..400 {
        let (files, path) = disk();
        let file = files.open(&path, OpenMode::CreateNew).unwrap();
        file.set_len(8192).unwrap();
        file.sync_data().unwrap();
        files.sync_dir(Path::new("/r")).unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.write_at(4096, &[2; 2048]).unwrap();
        files.crash(seed);
        assert!(matches!(file.len(), Err(FileError::Cut)), "handles do not outlive the power");
        let content = files.content(&path).unwrap();
        let first = content[..2048].iter().filter(|byte| **byte == 1).count();
        let second = content[4096..6144].iter().filter(|byte| **byte == 2).count();
        kept += u32::from(first == 2048);
        dropped += u32::from(first == 0);
        torn += u32::from(first > 0 && first < 2048);
        reordered += u32::from(first == 0 && second == 2048);
    }
    assert!(kept > 100 && dropped > 50 && torn > 50 && reordered > 20, "{kept} {dropped} {torn} {reordered}");
}

#[test]
fn a_crash_is_a_function_of_its_seed() {
    let run = |seed| {
        let (files, path) = disk();
        let file = files.open(&path, OpenMode::CreateNew).unwrap();
        files.sync_dir(Path::new("/r")).unwrap();
        for n in 0..20_u8 {
            file.append(&vec![n; 700]).unwrap();
        }
        files.crash(seed);
        files.content(&path)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
    assert_eq!(run(0), Some(Vec::new()), "seed 0: nothing unsynced survives");
}

#[test]
fn names_need_a_directory_sync() {
    let (files, path) = disk();
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    file.append(b"data").unwrap();
    file.sync_data().unwrap();
    files.crash(0);
    assert!(files.paths().is_empty(), "a synced file without a synced name is lost");

    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    file.append(b"data").unwrap();
    file.sync_data().unwrap();
    files.sync_dir(Path::new("/r")).unwrap();
    files.rename(&path, Path::new("/r/y")).unwrap();
    files.remove(Path::new("/r/y")).unwrap();
    files.crash(0);
    assert_eq!(files.paths(), std::slice::from_ref(&path), "neither rename nor removal was synced");
    assert_eq!(files.content(&path).unwrap(), b"data");
}

#[test]
fn faults_strike_once_at_their_turn() {
    let (files, path) = disk();
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    files.sync_dir(Path::new("/r")).unwrap();
    files.arm(Fault::WriteIo, 2);
    file.append(b"one").unwrap();
    assert!(matches!(file.append(b"two"), Err(FileError::Io { .. })));
    file.append(b"three").unwrap();
    files.arm(Fault::SyncIo, 1);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    files.crash(0);
    assert_eq!(files.content(&path).unwrap(), b"", "a good sync after a failed one does not bring the data back");

    let file = files.open(&path, OpenMode::Write).unwrap();
    files.set_capacity(Some(4));
    let error = file.append(b"123456").unwrap_err();
    assert!(error.is_no_space());
    assert_eq!(file.len().unwrap(), 4, "a full disk takes what fits");
    assert_eq!(files.used(), 4);
    files.set_capacity(None);
    file.append(b"56").unwrap();
    files.arm(Fault::ReadIo, 1);
    assert!(file.read_at(0, &mut [0]).is_err());
    file.read_at(0, &mut [0]).unwrap();
}

#[test]
fn a_cut_stops_everything_until_the_crash() {
    let (files, path) = disk();
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    files.sync_dir(Path::new("/r")).unwrap();
    files.cut_after(2);
    file.append(b"one").unwrap();
    assert!(matches!(file.sync_data(), Err(FileError::Cut)));
    assert!(matches!(file.append(b"two"), Err(FileError::Cut)));
    assert!(matches!(files.list(Path::new("/r")), Err(FileError::Cut)));
    assert!(matches!(files.open(&path, OpenMode::Read), Err(FileError::Cut)));
    files.crash(0);
    assert_eq!(files.content(&path).unwrap(), b"");
    files.open(&path, OpenMode::Write).unwrap().append(b"again").unwrap();
}

#[test]
fn images_are_put_back_whole() {
    let (files, path) = disk();
    let file = files.open(&path, OpenMode::CreateNew).unwrap();
    file.append(b"old").unwrap();
    file.sync_data().unwrap();
    files.sync_dir(Path::new("/r")).unwrap();
    file.append(b" unsynced").unwrap();
    let image = files.image();
    file.sync_data().unwrap();
    files.open(Path::new("/r/later"), OpenMode::CreateNew).unwrap();
    files.restore(&image);
    assert_eq!(files.paths(), std::slice::from_ref(&path));
    assert_eq!(files.content(&path).unwrap(), b"old");
    assert!(file.append(b"x").is_err());
}

/// A file of the log is as any other to whoever writes it from front to back, on a file system that takes writes past the cache and
/// on one that may not.
#[test]
fn a_log_file_holds_what_was_written_one_behind_the_other() {
    let shm = Path::new("/dev/shm").join(format!("pairline-files-{}", std::process::id()));
    for root in [real_folder("log"), shm] {
        RealFiles.create_dir(&root).unwrap();
        let path = root.join("x");
        let file = RealFiles.open(&path, OpenMode::CreateLog).unwrap();
        assert!(matches!(RealFiles.open(&path, OpenMode::CreateLog), Err(FileError::AlreadyExists { .. })));
        file.allocate(4 << 20).unwrap();
        let mut expected = Vec::new();
        let mut seed = 1_u64;
        while expected.len() < 2_500_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = usize::try_from(seed >> 33).unwrap() % 9000;
            let piece: Vec<u8> = (0..len).map(|at| (at + expected.len()).to_le_bytes()[0] | 1).collect();
            file.write_at(expected.len() as u64, &piece).unwrap();
            expected.extend_from_slice(&piece);
            if seed.is_multiple_of(5) {
                file.sync_data().unwrap();
            }
        }
        assert_eq!(file.len().unwrap(), 4 << 20, "zeros written ahead stay within what was reserved");
        let mut all = vec![9; 4 << 20];
        file.read_at(0, &mut all).unwrap();
        assert!(all.starts_with(&expected), "what was written");
        assert!(all[expected.len()..].iter().all(|byte| *byte == 0), "zeros behind it");

        // Taken back to the middle of a block and written on, as after a full disk.
        let kept = expected.len() - 5000;
        file.set_len(kept as u64).unwrap();
        file.write_at(kept as u64, b"more").unwrap();
        let mut last = [0; 14];
        file.read_at(kept as u64 - 10, &mut last).unwrap();
        assert_eq!(last[..10], expected[kept - 10..kept]);
        assert_eq!(&last[10..], b"more");
        drop(file);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
