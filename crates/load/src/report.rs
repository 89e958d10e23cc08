//! The result of a run.
//!
//! Owns its fields, for machines as JSON and for people as text.

use crate::engine::{Counts, SLICE, Slice, StepCounts};
use crate::hist::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The result of a run. Version 1 of the format.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the format.
    pub v: u8,
    /// `register`, `message`, `call`, `drill-traffic`, `mix` or `avalanche`.
    pub traffic: &'static str,
    /// `udp`, `tcp`, `tls` or `wss`.
    pub transport: &'static str,
    /// Users.
    pub users: u32,
    /// Seconds measured.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// The same by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Operations that succeeded, a second.
    pub rate: f64,
    /// Operations that failed.
    pub failed: u64,
    /// Of these: without a final answer in time.
    pub timeouts: u64,
    /// Of these: because a connection was lost or could not be made.
    pub disconnected: u64,
    /// Requests sent again.
    pub retransmissions: u64,
    /// Requests that reached the other side.
    pub received: u64,
    /// Final responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Latency of operations that succeeded.
    pub latency: Latency,
    /// What the server used, if its processes were named.
    pub server: Option<Cost>,
    /// Processor time of the generator per operation, in microseconds.
    pub generator_cpu_us: f64,
    /// Acknowledged operations that are missing in the journal because it could not be written.
    pub journal_missing: u64,
    /// Users whose first registration failed, by status (0: no answer).
    pub unregistered: BTreeMap<u16, u64>,
    /// By step, where the load has steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// By slice of time, where the load has a course.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<SliceReport>,
    /// When dropped clients were back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
}

/// One step of the load.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Operations that were due in it.
    pub offered: u64,
    /// Those that succeeded, by kind.
    pub succeeded: BTreeMap<&'static str, u64>,
    /// Those refused with 500 or 503.
    pub refused: u64,
    /// The rest.
    pub failed: u64,
    /// From the time at which an INVITE was due to its 200, in microseconds.
    pub invites: Latency,
    /// Microseconds from the time at which an INVITE was sent first to its 200: without what the generator itself was late.
    pub answered: Latency,
    /// Microseconds from one look at the sockets to the next: so long the generator leaves a message lying at most.
    pub rounds: Latency,
}

/// Slices of the time, one value each.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SliceReport {
    /// Length of one, in milliseconds.
    pub ms: u64,
    /// Requests sent, repetitions among them.
    pub sent: Vec<u64>,
    /// Operations that were due.
    pub offered: Vec<u64>,
    /// Of these: succeeded.
    pub succeeded: Vec<u64>,
    /// Of these: refused.
    pub refused: Vec<u64>,
    /// Of these: failed otherwise.
    pub failed: Vec<u64>,
}

/// When dropped clients were back.
#[derive(Clone, Debug, Serialize)]
pub struct Back {
    /// How many.
    pub clients: u64,
    /// Tries of all.
    pub tries: u64,
    /// Microseconds since they were dropped.
    pub after: Latency,
}

impl Latency {
    fn of(histogram: &Histogram) -> Latency {
        let quantile = |per_mille| histogram.quantile(per_mille) as f64 / 1000.0;
        Latency {
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            p999: quantile(999),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

impl SliceReport {
    fn of(slices: &[Slice]) -> SliceReport {
        let each = |value: fn(&Slice) -> u64| slices.iter().map(value).collect();
        SliceReport {
            ms: SLICE / 1_000_000,
            sent: each(|s| s.sent),
            offered: each(|s| s.offered),
            succeeded: each(|s| s.succeeded),
            refused: each(|s| s.refused),
            failed: each(|s| s.failed),
        }
    }
}

impl From<&StepCounts> for StepReport {
    fn from(step: &StepCounts) -> StepReport {
        StepReport {
            offered: step.offered,
            succeeded: step.succeeded.clone(),
            refused: step.refused,
            failed: step.failed,
            invites: Latency::of(&step.invites),
            answered: Latency::of(&step.answered),
            rounds: Latency::of(&step.rounds),
        }
    }
}

/// Latency in microseconds; at most 1/32 too high.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the operations were not slower.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// What the server used in the measured time.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Processor time in microseconds per operation that succeeded.
    pub cpu_us_per_operation: f64,
    /// What of it was in the kernel.
    pub kernel_us_per_operation: f64,
    /// Processor time in seconds per second.
    pub cores: f64,
    /// Memory at the end, in bytes.
    pub memory: u64,
    /// The same for each process that was named, with its children.
    pub processes: Vec<ProcessCost>,
}

/// What one process of the server used.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessCost {
    /// Its process id.
    pub pid: u32,
    /// Processor time in microseconds per operation of the run.
    pub cpu_us_per_operation: f64,
    /// What of it was in the kernel.
    pub kernel_us_per_operation: f64,
    /// Memory at the end, in bytes.
    pub memory: u64,
}

/// What the run itself measured besides the threads' counts.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Seconds.
    pub seconds: f64,
    /// Of each process of the server: id, processor time in nanoseconds and what of it was in the kernel, memory at the end in bytes.
    pub server: Vec<(u32, (u64, u64), u64)>,
    /// The generator's processor time in nanoseconds.
    pub generator: u64,
}

impl Report {
    /// From the counts of all threads.
    pub fn new(traffic: &'static str, transport: &'static str, users: u32, counts: Counts, measured: Measured) -> Self {
        let operations = counts.operations;
        // Counts of one run are far below 2^53, where f64 is exact.
        let each = |nanos: u64| {
            if operations == 0 { 0.0 } else { nanos as f64 / 1000.0 / operations as f64 }
        };
        let curve = &counts.curve;
        let back = (curve.tries > 0).then(|| Back {
            clients: curve.back.count(),
            tries: curve.tries,
            after: Latency::of(&curve.back),
        });
        let with_course = curve.tries > 0 || !curve.steps.is_empty();
        Self {
            v: 1,
            traffic,
            transport,
            users,
            seconds: measured.seconds,
            operations,
            rate: operations as f64 / measured.seconds.max(1e-9),
            failed: counts.failed,
            timeouts: counts.timeouts,
            disconnected: counts.disconnected,
            retransmissions: counts.retransmissions,
            received: counts.received,
            latency: Latency::of(&counts.latency),
            steps: curve.steps.iter().map(StepReport::from).collect(),
            slices: with_course.then(|| SliceReport::of(&curve.slices)),
            back,
            server: (!measured.server.is_empty()).then(|| {
                let nanos = measured.server.iter().map(|(_, (nanos, _), _)| nanos).sum();
                let process = |&(pid, (nanos, kernel), memory): &(u32, (u64, u64), u64)| ProcessCost {
                    pid,
                    cpu_us_per_operation: each(nanos),
                    kernel_us_per_operation: each(kernel),
                    memory,
                };
                Cost {
                    cpu_us_per_operation: each(nanos),
                    kernel_us_per_operation: each(measured.server.iter().map(|(_, (_, kernel), _)| kernel).sum()),
                    cores: nanos as f64 / 1e9 / measured.seconds.max(1e-9),
                    memory: measured.server.iter().map(|(_, _, memory)| memory).sum(),
                    processes: measured.server.iter().map(process).collect(),
                }
            }),
            generator_cpu_us: each(measured.generator),
            journal_missing: counts.unwritten,
            kinds: counts.kinds,
            statuses: counts.statuses,
            unregistered: counts.unregistered,
        }
    }

    /// As one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report has only numbers, fixed names and string keys")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} over {}, {} users, {:.1} s", self.traffic, self.transport, self.users, self.seconds)?;
        writeln!(f, "  operations    {} ({:.0}/s), {} failed", self.operations, self.rate, self.failed)?;
        if self.kinds.len() > 1 {
            let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            writeln!(f, "  of which      {}", kinds.join(", "))?;
        }
        if self.failed > 0 {
            writeln!(f, "  failures      {} without answer, {} disconnected", self.timeouts, self.disconnected)?;
        }
        let statuses: Vec<String> = self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        writeln!(f, "  responses     {}; {} requests sent again", statuses.join(", "), self.retransmissions)?;
        let l = &self.latency;
        writeln!(
            f,
            "  latency       p50 {:.0} µs, p90 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
            l.p50, l.p90, l.p99, l.p999, l.max
        )?;
        if let Some(cost) = &self.server {
            let mib = cost.memory as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "  server        {:.2} µs of processor time per operation ({:.2} of it in the kernel), {:.2} cores, {mib:.1} MiB",
                cost.cpu_us_per_operation, cost.kernel_us_per_operation, cost.cores
            )?;
        }
        writeln!(f, "  generator     {:.2} µs of processor time per operation", self.generator_cpu_us)?;
        for (index, step) in self.steps.iter().enumerate() {
            let done: u64 = step.succeeded.values().sum();
            writeln!(
                f,
                "  step {index:<8} {} offered, {done} succeeded, {} refused, {} failed; INVITE p99 {:.1} ms, {:.1} ms since it was sent",
                step.offered,
                step.refused,
                step.failed,
                step.invites.p99 / 1000.0,
                step.answered.p99 / 1000.0
            )?;
        }
        if let Some(back) = &self.back {
            let l = &back.after;
            writeln!(
                f,
                "  back          {} clients in {} tries; p50 {:.2} s, p99 {:.2}, all {:.2}",
                back.clients,
                back.tries,
                l.p50 / 1e6,
                l.p99 / 1e6,
                l.max / 1e6
            )?;
        }
        if !self.unregistered.is_empty() {
            writeln!(f, "  unregistered  {:?} (status: users; 0 is no answer)", self.unregistered)?;
        }
        Ok(())
    }
}
