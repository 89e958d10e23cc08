//! What one input may cost: processor time and memory, both measured, the worst of both written down.
//!
//! Owns the bounds and the report. An input that breaks a bound is a finding, like one that panics.

use crate::targets::Target;
use rustix::time::{clock_gettime, ClockId};
use std::cell::Cell;

/// Processor time that one input may take, in microseconds.
const SLOWEST_US: i64 = 5_000;
/// How often a slow input is tried again: what interrupts a thread can also be charged to it.
const AGAIN: usize = 4;

thread_local! {
    static WORST: Cell<(i64, u64)> = const { Cell::new((0, 0)) };
}

/// Microseconds of processor time of this thread.
fn cpu_us() -> i64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Time in microseconds and the most memory held, in bytes.
fn measure(target: &Target, data: &[u8]) -> (i64, u64) {
    let began = cpu_us();
    let memory = allocation_counter::measure(|| (target.run)(data));
    (cpu_us() - began, memory.bytes_max)
}

/// Runs one input.
pub fn run(target: &Target, data: &[u8]) {
    let (mut time, memory) = measure(target, data);
    let (slowest, most) = WORST.get();
    if time > slowest.min(SLOWEST_US) {
        for _ in 0..AGAIN {
            time = time.min(measure(target, data).0);
        }
    }
    assert!(time <= SLOWEST_US, "{}: an input of {} bytes took {time} us", target.name, data.len());
    let allowed = target.memory_base + target.memory_per_byte * data.len() as u64;
    assert!(memory <= allowed, "{}: an input of {} bytes took {memory} bytes of memory", target.name, data.len());
    if time > slowest || memory > most {
        WORST.set((time.max(slowest), memory.max(most)));
        report(WORST.get());
    }
}

/// Written whenever there is a new worst, which soon is seldom.
fn report((time, memory): (i64, u64)) {
    if let Some(path) = std::env::var_os("FUZZ_REPORT") {
        std::fs::write(path, format!("slowest_us {time}\nmost_bytes {memory}\n")).expect("the report can be written");
    }
}
