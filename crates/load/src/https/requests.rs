//! Requests in open loop over a fixed number of connections.
//!
//! Owns the schedule and the counts. A slow server does not slow the offered rate until every connection waits for it; what a
//! request then waits for its turn is part of its latency.

use super::args::RequestArgs;
use super::connection::{HttpsError, Target};
use super::pattern::Pattern;
use super::way::Way;
use crate::hist::Histogram;
use crate::report::Latency;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most different refusals that are kept with their text.
const REFUSALS: usize = 8;

/// Why requests could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RequestsError {
    /// The first connection failed.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The journal cannot be written.
    #[error("journal: {0}")]
    Journal(#[source] std::io::Error),
    /// A thread broke one of its own rules.
    #[error("a thread of the generator failed")]
    Thread,
}

/// One line of the journal.
#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    /// Number of the request, from 0.
    n: u64,
    user: &'a str,
    server: SocketAddr,
    /// Status; 0: no answer.
    status: u16,
    /// When it was answered, or given up, in milliseconds since 1970.
    at: u64,
    /// Milliseconds since it was sent first.
    took: u64,
    /// How often it was sent.
    tries: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub v: u8,
    /// Requests a second that were due.
    pub offered: f64,
    /// Successful requests a second, of those that were due in the measured time.
    pub rate: f64,
    /// Successful requests.
    pub operations: u64,
    /// Requests without success.
    pub failed: u64,
    /// Answers by status; 0: no answer.
    pub statuses: BTreeMap<u16, u64>,
    /// The first different answers that were no success.
    pub refusals: Vec<String>,
    /// From the time at which a request was due to its successful answer.
    pub latency: Latency,
    /// The longest wait of a request for a free connection, in microseconds.
    pub late_us: f64,
    /// When the measured time began and ended, in milliseconds since 1970.
    pub measured: (f64, f64),
}

#[derive(Default)]
struct Counts {
    good: u64,
    failed: u64,
    statuses: BTreeMap<u16, u64>,
    refusals: Vec<String>,
    latency: Histogram,
    late: u64,
    lines: Vec<u8>,
}

struct Schedule {
    next: AtomicU64,
    start: Instant,
    rate: f64,
    /// Requests before the measurement, and all of them.
    warm: u64,
    all: u64,
}

impl Schedule {
    /// The next request, and when it is due; `None` if that was the last one.
    fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Far below 2^53, where f64 is exact.
        let after = Duration::from_secs_f64(number as f64 / self.rate);
        (number < self.all).then(|| (number, self.start + after))
    }
}

/// Makes the requests.
///
/// # Errors
/// If the server cannot be reached at the start. Later failures are counted.
pub fn run(args: &RequestArgs) -> Result<Report, RequestsError> {
    let first = Target::new(&args.server)?;
    let others = args.or_server.iter().map(|server| first.at(*server));
    let targets: Arc<[Target]> = std::iter::once(first.clone()).chain(others).collect();
    let pattern = Arc::new(Pattern::new(args));
    let mut ways = Vec::new();
    for place in 0..usize::from(args.connections) {
        ways.push(Way::new(&targets, place)?);
    }
    let warm = (args.rate * args.warmup) as u64;
    let all = warm + (args.rate * args.duration) as u64;
    let start = Instant::now() + Duration::from_millis(20);
    let schedule = Arc::new(Schedule { next: AtomicU64::new(0), start, rate: args.rate, warm, all });
    let began = unix_ms() + 20.0 + args.warmup * 1000.0;
    let threads: Vec<_> = ways
        .into_iter()
        .map(|way| {
            let (pattern, schedule) = (Arc::clone(&pattern), Arc::clone(&schedule));
            let (method, journal) = (args.method.clone(), args.journal.is_some());
            thread::spawn(move || work(&pattern, &schedule, &method, journal, way))
        })
        .collect();
    let mut sum = Counts::default();
    for thread in threads {
        merge(&mut sum, thread.join().map_err(|_| RequestsError::Thread)?);
    }
    if let Some(path) = &args.journal {
        std::fs::write(path, &sum.lines).map_err(RequestsError::Journal)?;
    }
    Ok(report(args, sum, (began, unix_ms())))
}

fn work(pattern: &Pattern, schedule: &Schedule, method: &str, journal: bool, mut way: Way) -> Counts {
    let mut counts = Counts::default();
    while let Some((number, due)) = schedule.take() {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        let late = nanos(due.elapsed());
        let (path, body) = pattern.request(number);
        let sent = Instant::now();
        let answer = way.ask(method, &path, &body);
        let took = nanos(due.elapsed());
        if journal {
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            counts.note(number, &pattern.user(number), status, sent.elapsed(), &way);
        }
        if number >= schedule.warm {
            counts.late = counts.late.max(late);
            match answer {
                Ok(answer) => counts.answered(answer.status, took, || String::from_utf8_lossy(&answer.body).into()),
                Err(error) => counts.answered(0, took, || error.to_string()),
            }
        }
    }
    counts
}

impl Counts {
    fn answered(&mut self, status: u16, took: u64, text: impl FnOnce() -> String) {
        *self.statuses.entry(status).or_default() += 1;
        if (200..300).contains(&status) {
            self.good += 1;
            self.latency.record(took);
        } else {
            self.failed += 1;
            self.refuse(&text());
        }
    }

    fn note(&mut self, n: u64, user: &str, status: u16, took: Duration, way: &Way) {
        // Milliseconds since 1970 and of a request are far below 2^64.
        let (at, took) = (unix_ms() as u64, took.as_millis() as u64);
        let line = Line { v: 1, n, user, server: way.server(), status, at, took, tries: way.tries() };
        // Writing numbers and names to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut self.lines, &line);
        self.lines.push(b'\n');
    }

    fn refuse(&mut self, text: &str) {
        let text: String = text.chars().take(300).collect();
        if self.refusals.len() < REFUSALS && !self.refusals.contains(&text) {
            self.refusals.push(text);
        }
    }
}

fn merge(sum: &mut Counts, part: Counts) {
    sum.good += part.good;
    sum.failed += part.failed;
    sum.late = sum.late.max(part.late);
    sum.latency.merge(&part.latency);
    sum.lines.extend_from_slice(&part.lines);
    for (status, count) in part.statuses {
        *sum.statuses.entry(status).or_default() += count;
    }
    part.refusals.iter().for_each(|text| sum.refuse(text));
}

fn report(args: &RequestArgs, counts: Counts, measured: (f64, f64)) -> Report {
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let quantile = |per_mille| micros(counts.latency.quantile(per_mille));
    Report {
        v: 1,
        offered: args.rate,
        rate: counts.good as f64 * 1000.0 / (measured.1 - measured.0).max(1.0),
        operations: counts.good,
        failed: counts.failed,
        latency: Latency {
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            p999: quantile(999),
            max: micros(counts.latency.max()),
        },
        late_us: micros(counts.late),
        statuses: counts.statuses,
        refusals: counts.refusals,
        measured,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock in milliseconds since 1970.
pub(super) fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
