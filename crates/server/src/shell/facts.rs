//! Facts of the machine that only the shell can see, told to the node at start and every few seconds.
//!
//! Owns measuring them. Does not own what follows from them.

use super::clock::wall_seconds;
use super::inbox::Inbox;
use crate::tls::Certified;
use pairline_node::io::{Facts, Input};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Measures.
#[derive(Clone)]
pub struct FactFinder {
    folder: PathBuf,
    certificates: Vec<Arc<Certified>>,
    log_bytes: Arc<AtomicU64>,
}

/// Bytes of the file system of a folder that a server may still write, and those with what is written: as `df` reckons its per cents,
/// so that neither what is kept for root nor what a shared disk promises to others counts as used. Zero for both where the system does not say.
pub fn disk_room(folder: &Path) -> (u64, u64) {
    rustix::fs::statvfs(folder).map_or((0, 0), |fs| room((fs.f_blocks, fs.f_bfree, fs.f_bavail), fs.f_frsize))
}

/// The same of a file system's blocks: all, the free ones, and those of them that others than root may write.
fn room((all, free, available): (u64, u64, u64), block: u64) -> (u64, u64) {
    let used = all.saturating_sub(free);
    (available.saturating_mul(block), available.saturating_add(used).saturating_mul(block))
}

impl FactFinder {
    /// For a server with that data folder, those certificates (at least one) and log.
    pub fn new(folder: PathBuf, certificates: Vec<Arc<Certified>>, log_bytes: Arc<AtomicU64>) -> FactFinder {
        FactFinder { folder, certificates, log_bytes }
    }

    /// The facts now.
    pub fn find(&self) -> Facts {
        let (disk_free, disk_total) = disk_room(&self.folder);
        let now = wall_seconds();
        Facts {
            disk_free,
            disk_total,
            // Of the one that expires first.
            certificate_days: self.certificates.iter().map(|c| c.days_left(now)).min().unwrap_or(i64::MIN),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
        }
    }

    /// Tells the node now and then again and again, until it has ended.
    pub async fn tell_for_ever(self, inbox: Inbox, every: Duration) {
        let mut times = tokio::time::interval(every);
        times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            if inbox.control(Input::Facts(self.find())).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Which part of a disk is free.

    use super::room;

    #[test]
    fn what_is_kept_for_root_is_neither_free_nor_used() {
        // Two thirds are kept: of what is left nearly all is free.
        assert_eq!(room((660, 628, 206), 4_096), (206 * 4_096, 238 * 4_096));
        assert_eq!(room((100, 10, 10), 1), (10, 100));
        assert_eq!(room((100, 0, 0), 1), (0, 100), "full");
    }
}
