//! The start of a server's capture: its consumers as configured, its threads, and what the rest of the server needs of it.
//!
//! Owns that composition and the metrics. Does not own the configuration's form (`pairline_topology`).

use super::hep::Agent;
use super::mirror::{self, Counts};
use super::places::Places;
use super::ring::{Bounds, Ring};
use super::tap::{self, Shared, Tap};
use super::traces::{TraceAnswer, TraceError, TraceOrder, Traces};
use super::worker::{Worker, Written};
use crate::shell::signals::Threads;
use crate::shell::waits::as_value;
use pairline_node::view::Sample;
use pairline_topology::CaptureConfig;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The folder of capture files in the data folder.
const FOLDER: &str = "capture";

/// Who gets what is captured, besides traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumers {
    /// As configured.
    pub config: CaptureConfig,
    /// The collector's key, read from its file.
    pub key: Option<Vec<u8>>,
}

/// What the capture needs of the server.
pub struct CaptureParts<'a> {
    /// Consumers.
    pub consumers: &'a Consumers,
    /// The data folder.
    pub data: &'a Path,
    /// This server's name and number.
    pub server: (&'a str, u32),
}

/// The capture of a running server: cheap to clone.
#[derive(Clone)]
pub struct Capture {
    traces: Arc<Traces>,
    shared: Arc<Shared>,
    mirror: Arc<Counts>,
    written: Arc<Written>,
}

impl Capture {
    /// A capture, its tap, and the thread's work that begins once addresses are known.
    ///
    /// # Errors
    /// The folder of files cannot be had, or no socket.
    pub fn prepare(parts: &CaptureParts<'_>, threads: &mut Threads) -> io::Result<(Capture, Tap, Pending)> {
        let config = &parts.consumers.config;
        let (counts, written) = (Arc::new(Counts::default()), Arc::new(Written::default()));
        let ring = match config.pcap {
            true => {
                let bounds = Bounds {
                    files: usize::from(config.pcap_files),
                    file_bytes: u64::from(config.pcap_file_mib) * 1024 * 1024,
                };
                Some(Ring::open(&parts.data.join(FOLDER), bounds)?)
            }
            false => None,
        };
        let mut mirror = None;
        if let Some(collector) = config.hep {
            let (sender, sending) = mirror::mirror(collector, config.hep_tcp, counts.clone())?;
            threads.add("mirror", move || sending.run())?;
            let id = config.hep_id.unwrap_or(parts.server.1);
            mirror = Some((sender, Agent { id, key: parts.consumers.key.clone(), node: parts.server.0.to_owned() }));
        }
        let shared = Arc::new(Shared::default());
        let (tap, drain) = tap::tap(&shared);
        let always = ring.is_some() || mirror.is_some();
        let traces = Arc::new(Traces::new(parts.server.0.to_owned(), shared.clone(), always));
        let capture = Capture { traces: traces.clone(), shared, mirror: counts, written: written.clone() };
        let bodies = config.bodies;
        let pending: Pending =
            Box::new(move |places| Worker { drain, places, bodies, mirror, ring, written, traces }.run());
        Ok((capture, tap, pending))
    }

    /// Carries an order about a trace out.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn trace(&self, order: &TraceOrder) -> Result<TraceAnswer, TraceError> {
        self.traces.order(order)
    }

    /// What was captured and what was not, as metrics.
    pub fn samples(&self) -> Vec<Sample> {
        let of = |name: &str, result: &str, count: &AtomicU64| {
            let labels = vec![("result".to_owned(), result.to_owned())];
            (name.to_owned(), labels, as_value(count.load(Ordering::Relaxed)))
        };
        let running = u64::try_from(self.traces.running()).unwrap_or(u64::MAX);
        vec![
            of("pairline_capture_messages_total", "captured", &self.shared.captured),
            of("pairline_capture_messages_total", "dropped", &self.shared.dropped),
            of("pairline_capture_hep_packets_total", "sent", &self.mirror.sent),
            of("pairline_capture_hep_packets_total", "failed", &self.mirror.failed),
            of("pairline_capture_hep_packets_total", "dropped", &self.mirror.dropped),
            of("pairline_capture_pcap_records_total", "written", &self.written.records),
            of("pairline_capture_pcap_records_total", "failed", &self.written.failed),
            ("pairline_traces_running".to_owned(), Vec::new(), as_value(running)),
        ]
    }
}

/// The capture thread's work, which waits for the addresses of listeners, connections and links.
pub type Pending = Box<dyn FnOnce(Places) + Send>;
