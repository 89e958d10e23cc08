//! Counts of stream connections by transport and reason.
//!
//! Owns the reasons and their words in metrics. Does not own how metrics are shown.

use pairline_sip::flow::Transport;
use std::sync::atomic::{AtomicU64, Ordering};

/// Transports that are counted, in the order of the tables.
const TRANSPORTS: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

/// Why a connection never became one that carries SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A limit on connections.
    Limit,
    /// Too slow.
    Timeout,
    /// The other end closed it.
    Closed,
    /// What arrived is not TLS, or TLS that is not spoken here.
    NotTls,
    /// A certificate is missing, not believed, or somebody else's.
    Certificate,
    /// What arrived is not the opening of a WebSocket.
    NotWebSocket,
    /// The WebSocket is not for SIP.
    Subprotocol,
    /// The page that opens it is of another origin.
    Origin,
    /// No connection could be made.
    Unreachable,
}

const FAILURES: [(Failure, &str); 9] = [
    (Failure::Limit, "limit"),
    (Failure::Timeout, "timeout"),
    (Failure::Closed, "closed"),
    (Failure::NotTls, "not-tls"),
    (Failure::Certificate, "certificate"),
    (Failure::NotWebSocket, "not-websocket"),
    (Failure::Subprotocol, "subprotocol"),
    (Failure::Origin, "origin"),
    (Failure::Unreachable, "unreachable"),
];

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the peer, the network, or us.
    Closed,
    /// Nothing arrived for the idle limit.
    Idle,
    /// The peer had promised to be heard of, and was not.
    Silent,
    /// What arrived is not framed SIP.
    Malformed,
    /// More arrived than anybody may send who has been granted nothing.
    TooMuch,
    /// The peer does not read.
    Stalled,
    /// The node has ended.
    Stopping,
}

const ENDS: [(End, &str); 7] = [
    (End::Closed, "closed"),
    (End::Idle, "idle"),
    (End::Silent, "silent"),
    (End::Malformed, "malformed"),
    (End::TooMuch, "too-much"),
    (End::Stalled, "stalled"),
    (End::Stopping, "stopping"),
];

/// One metric sample: name, labels, value.
pub type Labelled = (&'static str, Vec<(&'static str, &'static str)>, u64);

#[derive(Debug, Default)]
struct Row {
    accepted: AtomicU64,
    made: AtomicU64,
    open: AtomicU64,
    failed: [AtomicU64; FAILURES.len()],
    ended: [AtomicU64; ENDS.len()],
}

/// The counts.
#[derive(Debug, Default)]
pub struct Tally([Row; TRANSPORTS.len()]);

impl Tally {
    fn row(&self, transport: Transport) -> Option<&Row> {
        TRANSPORTS.iter().position(|known| *known == transport).map(|at| &self.0[at])
    }

    /// A connection carries SIP from now on; `incoming` if it was accepted.
    pub fn opened(&self, transport: Transport, incoming: bool) {
        let Some(row) = self.row(transport) else { return };
        if incoming { &row.accepted } else { &row.made }.fetch_add(1, Ordering::Relaxed);
        row.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that carried SIP has ended.
    pub fn ended(&self, transport: Transport, why: End) {
        let (Some(row), Some(at)) = (self.row(transport), ENDS.iter().position(|(end, _)| *end == why)) else { return };
        row.ended[at].fetch_add(1, Ordering::Relaxed);
        row.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection never carried SIP.
    pub fn failed(&self, transport: Transport, why: Failure) {
        let at = FAILURES.iter().position(|(failure, _)| *failure == why);
        if let (Some(row), Some(at)) = (self.row(transport), at) {
            row.failed[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every count.
    pub fn samples(&self) -> Vec<Labelled> {
        let mut all = Vec::new();
        for (transport, row) in TRANSPORTS.iter().zip(&self.0) {
            let word = ("transport", transport.via_token());
            all.push(("pairline_connections", vec![word], row.open.load(Ordering::Relaxed)));
            let mut push = |name, label, count: &AtomicU64| {
                all.push((name, vec![word, label], count.load(Ordering::Relaxed)));
            };
            push("pairline_connections_opened_total", ("direction", "in"), &row.accepted);
            push("pairline_connections_opened_total", ("direction", "out"), &row.made);
            for ((_, reason), count) in FAILURES.iter().zip(&row.failed) {
                push("pairline_handshakes_failed_total", ("reason", reason), count);
            }
            for ((_, reason), count) in ENDS.iter().zip(&row.ended) {
                push("pairline_connections_closed_total", ("reason", reason), count);
            }
        }
        all
    }
}
