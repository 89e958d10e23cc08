//! The tap: where the node's thread lets captured messages go by, on their way in and out.
//!
//! Owns the one place where every message passes and the queue behind it. Off, it costs a branch; on, a share of the message's bytes
//! and a place in the queue. Never waits: what the queue has no room for is counted and not captured.

use crossbeam_channel as channel;
use pairline_group::LinkId;
use pairline_node::io::{Input, Output};
use pairline_node::peer::sip_in;
use pairline_node::traffic::Way;
use pairline_sip::flow::{Flow, Transport};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Messages that may wait to be captured.
const QUEUE: usize = 8 * 1024;
/// Their bytes.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// One message that went by.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Wall-clock microseconds at which the node took it in or gave it out.
    pub at_us: u64,
    /// Which way.
    pub way: Way,
    /// Its flow; of a message inside a link only the transport counts.
    pub flow: Flow,
    /// The link that it came or goes by.
    pub link: Option<LinkId>,
    /// Its bytes.
    pub message: bytes::Bytes,
}

/// What tap, worker and those who switch it share.
#[derive(Debug, Default)]
pub struct Shared {
    on: AtomicBool,
    waiting: AtomicUsize,
    /// Messages that were captured.
    pub captured: AtomicU64,
    /// Messages that were not, for want of room.
    pub dropped: AtomicU64,
}

impl Shared {
    /// Switches the tap.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }
}

/// The node's side.
pub struct Tap {
    shared: Arc<Shared>,
    queue: channel::Sender<Seen>,
}

/// The worker's side; it ends with the tap.
pub struct Drain {
    shared: Arc<Shared>,
    queue: channel::Receiver<Seen>,
}

/// A tap that is off, and its other end.
pub fn tap(shared: &Arc<Shared>) -> (Tap, Drain) {
    let (sender, receiver) = channel::bounded(QUEUE);
    (Tap { shared: shared.clone(), queue: sender }, Drain { shared: shared.clone(), queue: receiver })
}

impl Tap {
    /// Whether anybody wants to see messages.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    /// Something that the node is about to be given.
    pub fn input(&self, input: &Input) {
        match input {
            Input::Sip { flow, message } => self.put(Way::In, *flow, None, message.clone()),
            Input::PeerFrame { link, frame } => self.inside(Way::In, *link, frame),
            _ => {}
        }
    }

    /// Something that the node wants done.
    pub fn output(&self, output: &Output) {
        match output {
            Output::Sip { flow, message } => self.put(Way::Out, *flow, None, message.clone()),
            Output::PeerFrame { link, frame } => self.inside(Way::Out, *link, frame),
            _ => {}
        }
    }

    fn inside(&self, way: Way, link: LinkId, frame: &bytes::Bytes) {
        if let Some(message) = sip_in(frame) {
            let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            let flow = Flow { transport: Transport::Peer, listener: 0, remote: nowhere, connection: 0 };
            self.put(way, flow, Some(link), message);
        }
    }

    fn put(&self, way: Way, flow: Flow, link: Option<LinkId>, message: bytes::Bytes) {
        let length = message.len();
        let seen = Seen { at_us: wall_us(), way, flow, link, message };
        let room = self.shared.waiting.load(Ordering::Relaxed).saturating_add(length) <= QUEUE_BYTES;
        self.shared.waiting.fetch_add(length, Ordering::Relaxed);
        if !room || self.queue.try_send(seen).is_err() {
            self.shared.waiting.fetch_sub(length, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drain {
    /// The next message; waits for it. `None` once the tap is gone and everything was taken.
    pub fn next(&self) -> Option<Seen> {
        self.queue.recv().ok().map(|seen| self.taken(seen))
    }

    /// The next message, if one waits.
    pub fn waiting(&self) -> Option<Seen> {
        self.queue.try_recv().ok().map(|seen| self.taken(seen))
    }

    fn taken(&self, seen: Seen) -> Seen {
        self.shared.waiting.fetch_sub(seen.message.len(), Ordering::Relaxed);
        self.shared.captured.fetch_add(1, Ordering::Relaxed);
        seen
    }
}

/// Wall-clock microseconds.
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pairline_node::peer::PeerFrame;

    fn message(bytes: usize) -> Output {
        let flow = Flow::udp(1, "192.0.2.1:5060".parse().unwrap());
        Output::Sip { flow, message: Bytes::from(vec![b'a'; bytes]) }
    }

    #[test]
    fn messages_of_flows_and_of_links_are_seen_and_nothing_else() {
        let shared = Arc::new(Shared::default());
        let (tap, drain) = tap(&shared);
        assert!(!tap.is_on());
        shared.switch(true);
        assert!(tap.is_on());
        let flow = Flow::udp(1, "192.0.2.1:5060".parse().unwrap());
        tap.input(&Input::Sip { flow, message: Bytes::from_static(b"one") });
        tap.input(&Input::Tick);
        tap.output(&Output::PeerFrame { link: LinkId(7), frame: PeerFrame::Look { call: 1 }.encode() });
        tap.output(&Output::PeerFrame { link: LinkId(7), frame: PeerFrame::Sip(Bytes::from_static(b"two")).encode() });
        let seen = [drain.next().unwrap(), drain.next().unwrap()];
        assert_eq!((seen[0].way, seen[0].flow, &seen[0].message[..]), (Way::In, flow, &b"one"[..]));
        assert_eq!((seen[1].way, seen[1].link, &seen[1].message[..]), (Way::Out, Some(LinkId(7)), &b"two"[..]));
        assert_eq!(seen[1].flow.transport, Transport::Peer);
        assert!(drain.waiting().is_none());
        assert_eq!(shared.captured.load(Ordering::Relaxed), 2);
        drop(tap);
        assert!(drain.next().is_none(), "it ends with the tap");
    }

    #[test]
    fn a_full_queue_drops_and_counts_by_number_and_by_bytes() {
        let shared = Arc::new(Shared::default());
        let (tap, drain) = tap(&shared);
        (0..QUEUE + 3).for_each(|_| tap.output(&message(1)));
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 3);
        while drain.waiting().is_some() {}
        tap.output(&message(QUEUE_BYTES));
        tap.output(&message(1));
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 4);
        assert_eq!(drain.waiting().map(|seen| seen.message.len()), Some(QUEUE_BYTES));
        tap.output(&message(1));
        assert_eq!(drain.waiting().map(|seen| seen.message.len()), Some(1), "there is room again");
    }
}
