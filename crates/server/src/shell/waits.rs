//! How long messages wait between the thread that received them and the node: one histogram a queue; and how many find no room.
//!
//! Owns the counts, written by the node's thread alone and read by whoever asks. Does not own the queues (`inbox`).

use super::lanes::LANES;
use pairline_node::view::Sample;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Upper bounds of the buckets, in microseconds, and in seconds as they are shown.
const BOUNDS: [(u64, &str); 15] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (200, "0.0002"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
];

/// Waits in one queue.
#[derive(Debug, Default)]
pub struct Wait {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
    dropped: AtomicU64,
}

impl Wait {
    /// So many messages were received at one moment, and are taken now.
    pub fn note(&self, since: Instant, messages: usize) {
        self.add(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), messages);
    }

    /// So many messages found no room.
    pub fn drop(&self, messages: usize) {
        self.dropped.fetch_add(u64::try_from(messages).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn add(&self, micros: u64, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.count.fetch_add(messages, Ordering::Relaxed);
        self.sum_us.fetch_add(micros.saturating_mul(messages), Ordering::Relaxed);
        if let Some(at) = BOUNDS.iter().position(|(bound, _)| micros <= *bound) {
            self.buckets[at].fetch_add(messages, Ordering::Relaxed);
        }
    }

    fn samples(&self, queue: &str, all: &mut Vec<Sample>) {
        let mut push = |part: &str, le: Option<&str>, value: f64| {
            let queue = ("queue".to_owned(), queue.to_owned());
            let le = le.map(|le| ("le".to_owned(), le.to_owned()));
            let labels = [Some(queue), le].into_iter().flatten().collect();
            all.push((format!("pairline_queue_wait_seconds{part}"), labels, value));
        };
        let mut running = 0;
        for ((_, le), bucket) in BOUNDS.iter().zip(&self.buckets) {
            running += bucket.load(Ordering::Relaxed);
            push("_bucket", Some(le), as_value(running));
        }
        let count = as_value(self.count.load(Ordering::Relaxed));
        push("_bucket", Some("+Inf"), count);
        push("_sum", None, as_value(self.sum_us.load(Ordering::Relaxed)) / 1e6);
        push("_count", None, count);
        let labels = vec![("queue".to_owned(), queue.to_owned())];
        all.push(("pairline_queue_dropped_total".to_owned(), labels, as_value(self.dropped.load(Ordering::Relaxed))));
    }
}

/// Waits of all queues of messages.
#[derive(Debug, Default)]
pub struct Waits {
    /// Datagrams, by lane.
    pub lanes: [Wait; LANES],
    /// Messages of streams.
    pub streams: Wait,
}

impl Waits {
    /// As metrics.
    pub fn samples(&self) -> Vec<Sample> {
        let mut all = Vec::new();
        for (lane, wait) in ["ongoing", "calls", "rest", "again"].into_iter().zip(&self.lanes) {
            wait.samples(lane, &mut all);
        }
        self.streams.samples("streams", &mut all);
        all
    }
}

/// A count as a metric value: exact below 2^53, the nearest value above.
pub fn as_value(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_cumulative_and_in_seconds() {
        let waits = Waits::default();
        waits.lanes[2].add(50, 30);
        waits.lanes[2].add(51, 2);
        waits.lanes[2].add(3_000_000, 1);
        let all = waits.samples();
        let of = |part: &str, le: Option<&str>| {
            let name = format!("pairline_queue_wait_seconds{part}");
            let fits = |labels: &[(String, String)]| {
                labels[0].1 == "rest" && labels.get(1).map(|(_, value)| value.as_str()) == le
            };
            all.iter().find(|(have, labels, _)| *have == name && fits(labels)).map(|(_, _, value)| *value)
        };
        assert_eq!((of("_bucket", Some("0.00005")), of("_bucket", Some("0.0001"))), (Some(30.0), Some(32.0)));
        assert_eq!((of("_bucket", Some("2")), of("_bucket", Some("+Inf"))), (Some(32.0), Some(33.0)));
        assert_eq!((of("_count", None), of("_sum", None)), (Some(33.0), Some((50.0 * 30.0 + 102.0 + 3e6) / 1e6)));
    }
}
