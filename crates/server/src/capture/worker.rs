//! The capture thread: takes what the tap saw, fills its secrets, and gives it to whoever wants it.
//!
//! Owns the order: addresses and secrets first, then mirror, files and traces. Does not own any of them.

use super::fields::Fields;
use super::hep::{self, Agent, Packet};
use super::mirror::Mirror;
use super::pcap;
use super::places::Places;
use super::redact::redact;
use super::ring::Ring;
use super::tap::{Drain, Seen};
use super::traces::Traces;
use pairline_sip::flow::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of records of capture files.
#[derive(Debug, Default)]
pub struct Written {
    /// Written.
    pub records: AtomicU64,
    /// Not, because the disk refused.
    pub failed: AtomicU64,
}

/// Everything that the thread needs.
pub struct Worker {
    /// From the tap.
    pub drain: Drain,
    /// Addresses.
    pub places: Places,
    /// Whether bodies stay readable.
    pub bodies: bool,
    /// The mirror, with what all its packets say.
    pub mirror: Option<(Mirror, Agent)>,
    /// The ring of files.
    pub ring: Option<Ring>,
    /// What became of its records.
    pub written: Arc<Written>,
    /// Traces.
    pub traces: Arc<Traces>,
}

impl Worker {
    /// Works until the tap is gone.
    pub fn run(mut self) {
        while let Some(seen) = self.drain.next() {
            self.take(&seen);
            while let Some(seen) = self.drain.waiting() {
                self.take(&seen);
            }
            // Nothing waits: whoever looks into the newest file finds everything.
            if let Some(ring) = &mut self.ring {
                ring.flush();
            }
        }
    }

    fn take(&mut self, seen: &Seen) {
        // Keep-alives of the transport are no messages.
        if seen.message.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return;
        }
        let fields = Fields::of(&seen.message);
        let traced = self.traces.want(&seen.message, &fields);
        if !traced && self.mirror.is_none() && self.ring.is_none() {
            return;
        }
        let ends = self.places.ends(seen);
        let text = redact(&seen.message, self.bodies);
        let (source, destination) = ends.directed(seen.way);
        if let Some((mirror, agent)) = &self.mirror {
            let packet = Packet {
                at_us: seen.at_us,
                source,
                destination,
                datagram: seen.flow.transport == Transport::Udp,
                correlation: fields.call_id(&seen.message),
                message: &text,
            };
            mirror.send(hep::encode(agent, &packet));
        }
        if let Some(ring) = &mut self.ring {
            let done = ring.write(&pcap::record(seen.at_us, source, destination, &text));
            let count = if done { &self.written.records } else { &self.written.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
        if traced {
            self.traces.offer(seen, &fields, &ends, &text);
        }
    }
}
