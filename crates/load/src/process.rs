//! Processor time and memory of processes, and pinning of threads.
//!
//! Owns what is read from `/proc`. Linux only.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs;
use std::io;

/// Processor time used so far by `pids` and their children that live, in nanoseconds.
///
/// Read from the scheduler's own account of each thread (`task/*/schedstat`), which is exact; where the kernel has none, from
/// `stat` in ticks of 10 ms. Time of threads that ended between two readings is lost.
///
/// # Errors
/// If one of the processes does not exist or cannot be read.
pub fn cpu_nanos(pids: &[u32]) -> io::Result<u64> {
    let mut total = 0;
    for pid in with_children(pids) {
        match threads_nanos(pid) {
            Ok(nanos) => total += nanos,
            Err(error) if error.kind() == io::ErrorKind::NotFound => total += ticks_nanos(pid)?,
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// What a process and its children that live have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Processor time in nanoseconds, as [`cpu_nanos`] has it.
    pub nanos: u64,
    /// Ticks of the system's clock that met them in their own code, and in the kernel's.
    ticks: (u64, u64),
}

impl Used {
    /// Of a process, so far.
    ///
    /// # Errors
    /// If it does not exist or cannot be read.
    pub fn by(pid: u32) -> io::Result<Self> {
        let mut ticks = (0, 0);
        for pid in with_children(&[pid]) {
            let (user, kernel) = ticks_of(pid)?;
            ticks = (ticks.0 + user, ticks.1 + kernel);
        }
        Ok(Self { nanos: cpu_nanos(&[pid])?, ticks })
    }

    /// Processor time since then in nanoseconds: all of it, and what of it was in the kernel.
    ///
    /// The whole is exact; how it is divided is sampled by the system's clock, so of a second it is right to a hundredth or two.
    pub fn since(&self, before: &Self) -> (u64, u64) {
        let nanos = self.nanos.saturating_sub(before.nanos);
        let [user, kernel] = [(self.ticks.0, before.ticks.0), (self.ticks.1, before.ticks.1)]
            .map(|(now, then)| now.saturating_sub(then));
        let kernel = u128::from(nanos) * u128::from(kernel) / u128::from((user + kernel).max(1));
        (nanos, u64::try_from(kernel).unwrap_or(nanos))
    }
}

/// Resident memory of `pids` and their children without what they share, in bytes.
///
/// # Errors
/// If one of the processes does not exist or cannot be read.
pub fn memory_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut total = 0;
    for pid in with_children(pids) {
        // Proportional share: pages that several processes map are counted once in the sum.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| io::Error::other("no Pss in smaps_rollup"))?;
        total += kib * 1024;
    }
    Ok(total)
}

/// `pids` and all their living descendants, each once.
fn with_children(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
                if !all.contains(&child) {
                    all.push(child);
                }
            }
        }
    }
    all
}

fn threads_nanos(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // The thread ended since the folder was read.
            Err(error) if error.raw_os_error() == Some(3) => continue,
            Err(error) => return Err(error),
        };
        total += text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

fn ticks_nanos(pid: u32) -> io::Result<u64> {
    let (user, kernel) = ticks_of(pid)?;
    Ok((user + kernel) * 10_000_000)
}

/// Ticks in a process's own code and in the kernel's.
fn ticks_of(pid: u32) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything: fields are counted after its end.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    Ok((ticks(11), ticks(12)))
}

/// Pins the calling thread to one core.
///
/// # Errors
/// If the machine has no such core, or the process may not use it.
pub fn pin(core: u16) -> io::Result<()> {
    if usize::from(core) >= CpuSet::MAX_CPU {
        return Err(io::Error::other("no such core"));
    }
    let mut set = CpuSet::new();
    set.set(usize::from(core));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    //! The test's own process is what is read.

    use super::*;

    #[test]
    fn own_processor_time_grows_with_work() {
        let own = [std::process::id()];
        let before = cpu_nanos(&own).unwrap();
        let mut sum = 0u64;
        while cpu_nanos(&own).unwrap() < before + 20_000_000 {
            sum = std::hint::black_box((0..100_000u64).fold(sum, |a, b| a ^ b.wrapping_mul(a | 1)));
        }
        assert!(memory_bytes(&own).unwrap() > 100_000);
    }

    #[test]
    fn what_was_used_is_divided_as_the_ticks_are() {
        let before = Used { nanos: 1_000, ticks: (10, 20) };
        let now = Used { nanos: 9_000, ticks: (16, 22) };
        assert_eq!(now.since(&before), (8_000, 2_000));
        // No tick met it.
        assert_eq!(Used { nanos: 9_000, ..before }.since(&before), (8_000, 0));
        let own = Used::by(std::process::id()).unwrap();
        assert!(own.nanos > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_nanos(&[u32::MAX]).is_err() && Used::by(u32::MAX).is_err());
        assert!(memory_bytes(&[u32::MAX]).is_err());
    }
}
