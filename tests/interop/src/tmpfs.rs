//! A small file system in memory that can be filled, for what a full disk does to a server.
//!
//! Owns the mount: it is taken away when the value is dropped, even if files in it are still open.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the file that fills it.
const BALLAST: &str = "ballast";

/// One mounted tmpfs.
pub struct Tmpfs {
    place: PathBuf,
}

/// Why none can be mounted here, if so.
pub fn lacks() -> Option<String> {
    let place = std::env::temp_dir().join(format!("pairline-interop-{}-mount", std::process::id()));
    let mounted = fs::create_dir_all(&place).is_ok() && Tmpfs::try_mount(&place, 1).is_some();
    // An empty folder that stays behind harms nobody.
    let _ = fs::remove_dir(&place);
    (!mounted).then(|| "a tmpfs cannot be mounted (that needs root)".to_owned())
}

impl Tmpfs {
    fn try_mount(place: &Path, mebibytes: u32) -> Option<Tmpfs> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tmpfs"]).arg(place);
        let done = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        done.then(|| Tmpfs { place: place.to_owned() })
    }

    /// Mounts one over a folder and copies what lay there into it.
    ///
    /// # Panics
    /// If that fails.
    pub fn over(place: &Path, mebibytes: u32) -> Tmpfs {
        let beside = place.with_extension("before");
        fs::rename(place, &beside).expect("the folder can be renamed");
        fs::create_dir(place).expect("its place is free then");
        let mounted = Self::try_mount(place, mebibytes).expect("a tmpfs can be mounted: it was tried before");
        let copied = Command::new("cp").arg("-a").arg(format!("{}/.", beside.display())).arg(place).status();
        assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", beside.display());
        fs::remove_dir_all(&beside).expect("what was copied can be removed");
        mounted
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// If it does not get full.
    pub fn fill(&self) {
        let mut file = File::create(self.place.join(BALLAST)).expect("a file can be made");
        let chunk = vec![0; 64 * 1024];
        for size in [chunk.len(), 4096, 1] {
            for _ in 0..100_000 {
                match file.write_all(&chunk[..size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the tmpfs cannot be filled: {error}"),
                }
            }
        }
        let more = file.write_all(&chunk);
        assert!(more.is_err_and(|error| error.kind() == ErrorKind::StorageFull), "the tmpfs does not get full");
    }

    /// Makes room again.
    ///
    /// # Panics
    /// If the file cannot be removed.
    pub fn make_room(&self) {
        fs::remove_file(self.place.join(BALLAST)).expect("the file that fills it is there");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server that still runs keeps its open files. What cannot be taken away stays until the machine's end.
        let _ = Command::new("umount").arg("-l").arg(&self.place).stderr(Stdio::null()).status();
    }
}
