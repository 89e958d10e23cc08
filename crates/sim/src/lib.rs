//! The simulator: real nodes under virtual time, network and disks, with faults drawn from a seed.
//!
//! Owns the virtual world, the faults, the workload, the oracle with its checkers, the crash sweep and the planted bugs.
//! Never contains tokio, real sockets, files or clocks; a seed replays exactly.

pub mod checks;
pub mod clients;
pub mod copies;
pub mod faults;
pub mod found;
pub mod history;
pub mod net;
pub mod operators;
pub mod options;
pub mod phones;
#[cfg(feature = "planted")]
pub mod planted;
pub mod pool;
pub mod replays;
pub mod rng;
pub mod run;
pub mod server;
pub mod site;
pub mod sweep;
pub mod tails;
pub mod world;

/// Conditions that a set of seeds must meet, or it has proven nothing.
pub const SOMETIMES: [&str; 35] = [
    "power was lost",
    "a process died",
    "both sites were down",
    "the sites were cut off from each other",
    "one direction was cut",
    "a server was frozen",
    "a disk was full",
    "a full disk was waited out",
    "a sync failed",
    "an old disk came back",
    "process ended by a disk fault",
    "a change was refused",
    "a change was repeated",
    "an acknowledged change was repeated",
    "an active got an old disk",
    "a phone registered",
    "registrations shared an entry",
    "frames were handled together",
    "a frame arrived again",
    "a seed arrived again",
    "a promotion extended soft records",
    "a backup was behind",
    "copies were proven equal",
    "a planned failover was started",
    "a disaster failover was started",
    "a failback was started",
    "the management store was moved",
    "a command was refused by preflight",
    "a procedure was resumed or aborted",
    "a disk was wiped",
    "the pools parted",
    "the pools were paired again",
    "a command was given twice",
    "a divergent tail was applied",
    "a copy was seeded",
];
