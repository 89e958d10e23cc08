//! The ring of capture files: so many, each so large, the oldest removed for the newest.
//!
//! Owns the files, readable by their owner only, and their bounds. Does not own what a record looks like (`pcap`). A disk that
//! refuses costs the capture, never the server: what cannot be written is counted, and tried again after a while.

use super::pcap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long nothing is tried after the disk refused.
const PAUSE: Duration = Duration::from_secs(30);

/// Beginning and end of the files' names; the number between them rises.
const NAME: (&str, &str) = ("sip-", ".pcap");

/// Bounds of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Files at one time, the one that is written among them.
    pub files: usize,
    /// Bytes of one.
    pub file_bytes: u64,
}

/// The ring.
pub struct Ring {
    folder: PathBuf,
    bounds: Bounds,
    current: Option<Current>,
    next: u64,
    paused: Option<Instant>,
}

struct Current {
    file: BufWriter<File>,
    bytes: u64,
}

impl Ring {
    /// A ring in that folder, which is made if it is not there. Files of earlier starts belong to it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<Ring> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let next = numbers(folder)?.last().map_or(1, |last| last.saturating_add(1));
        let ring = Ring { folder: folder.to_owned(), bounds, current: None, next, paused: None };
        ring.make_room(0)?;
        Ok(ring)
    }

    /// Writes one record. False if the disk refused, now or a moment ago.
    pub fn write(&mut self, record: &[u8]) -> bool {
        if self.paused.is_some_and(|since| since.elapsed() < PAUSE) {
            return false;
        }
        self.paused = None;
        if self.append(record).is_err() {
            self.current = None;
            self.paused = Some(Instant::now());
        }
        self.paused.is_none()
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let length = u64::try_from(record.len()).unwrap_or(u64::MAX);
        let fits = self.current.as_ref().is_some_and(|c| c.bytes.saturating_add(length) <= self.bounds.file_bytes);
        if !fits {
            self.turn()?;
        }
        if let Some(current) = &mut self.current {
            current.file.write_all(record)?;
            current.bytes = current.bytes.saturating_add(length);
        }
        Ok(())
    }

    /// Ends the file that is written and begins the next; the oldest goes first, so that there is never one too many.
    fn turn(&mut self) -> io::Result<()> {
        if let Some(mut full) = self.current.take() {
            full.file.flush()?;
        }
        self.make_room(1)?;
        let path = self.folder.join(format!("{}{:08}{}", NAME.0, self.next, NAME.1));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.next = self.next.saturating_add(1);
        let header = pcap::file_header();
        let bytes = u64::try_from(header.len()).unwrap_or(0);
        let mut file = BufWriter::new(file);
        file.write_all(&header)?;
        self.current = Some(Current { file, bytes });
        Ok(())
    }

    /// Removes the oldest files until that many more may be begun.
    fn make_room(&self, more: usize) -> io::Result<()> {
        let all = numbers(&self.folder)?;
        let keep = self.bounds.files.saturating_sub(more);
        for number in &all[..all.len().saturating_sub(keep)] {
            fs::remove_file(self.folder.join(format!("{}{number:08}{}", NAME.0, NAME.1)))?;
        }
        Ok(())
    }

    /// Hands what was written to the system, so that who reads the file finds whole records.
    pub fn flush(&mut self) {
        if let Some(current) = &mut self.current
            && current.file.flush().is_err()
        {
            self.current = None;
            self.paused = Some(Instant::now());
        }
    }
}

/// Numbers of the files of a ring, in order. What else lies there is nobody's business.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?.parse::<u64>().ok());
        all.extend(number);
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pairline-ring-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sizes(folder: &Path) -> Vec<(u64, u64)> {
        let all = numbers(folder).unwrap();
        all.into_iter().map(|n| (n, fs::metadata(folder.join(format!("sip-{n:08}.pcap"))).unwrap().len())).collect()
    }

    #[test]
    fn files_turn_stay_within_their_bounds_and_are_private() {
        let folder = Folder::new("turn");
        let mut ring = Ring::open(&folder.0, Bounds { files: 3, file_bytes: 24 + 100 }).unwrap();
        for n in 0..10 {
            assert!(ring.write(&[n; 50]));
        }
        ring.flush();
        assert_eq!(sizes(&folder.0), [(3, 124), (4, 124), (5, 124)], "two records a file, the last three files");
        let newest = folder.0.join("sip-00000005.pcap");
        assert_eq!(fs::metadata(&newest).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(&fs::read(&newest).unwrap()[24..74], &[8; 50]);
        fs::write(folder.0.join("notes.txt"), "kept").unwrap();
        let mut again = Ring::open(&folder.0, Bounds { files: 2, file_bytes: 124 }).unwrap();
        assert_eq!(sizes(&folder.0), [(4, 124), (5, 124)], "a smaller ring lets the oldest go");
        assert!(again.write(&[1; 10]));
        again.flush();
        assert_eq!(sizes(&folder.0), [(5, 124), (6, 34)]);
        assert!(folder.0.join("notes.txt").exists());
    }

    #[test]
    fn a_folder_that_is_gone_costs_the_capture_only() {
        let folder = Folder::new("gone");
        let mut ring = Ring::open(&folder.0, Bounds { files: 2, file_bytes: 1_000 }).unwrap();
        fs::remove_dir_all(&folder.0).unwrap();
        assert!(!ring.write(b"record"));
        assert!(!ring.write(b"record"), "nothing is tried for a while");
    }
}
