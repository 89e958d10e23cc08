//! Traces: one user's messages of the last moments, kept in memory for the administrator who asked for them.
//!
//! Owns who is traced, for how long, and the bounded memory of what was seen. A trace ends by itself: after its time, and when nobody
//! reads it any more. Does not own matching (`watched`) nor how a trace is asked for (the API).

use super::fields::Fields;
use super::places::Ends;
use super::tap::{Seen, Shared, wall_us};
use super::watched::Watched;
use pairline_node::traffic::Way;
use pairline_sip::flow::Transport;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Traces at one time.
const TRACES: usize = 8;
/// Longest time of one, in seconds.
pub const LONGEST_S: u32 = 3_600;
/// Bytes that one trace keeps.
const KEPT_BYTES: usize = 8 * 1024 * 1024;
/// Messages that one trace keeps.
const KEPT: usize = 16 * 1024;
/// Calls that one trace follows; the oldest are forgotten.
const CALLS: usize = 4 * 1024;
/// Messages that one reading gives.
const READ: usize = 500;
/// Bytes after which a reading ends.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// A trace that nobody reads for so long is over.
const UNREAD: Duration = Duration::from_secs(30);
/// How long what was seen may be fetched after a trace's time.
const AFTER: Duration = Duration::from_secs(30);

/// One message of a traced user, as one server saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Rises by one; where one is missing, there was no room.
    pub number: u64,
    /// Wall-clock microseconds of the server.
    pub at_us: u64,
    /// `in` or `out`.
    pub direction: String,
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS`, or `link` between two pools.
    pub transport: String,
    /// The server's address.
    pub local: String,
    /// The other end's.
    pub remote: String,
    /// The other end's name, where it is a server of the deployment.
    pub server: Option<String>,
    /// The message, with its secrets filled.
    pub message: String,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceOrder {
    /// Begin to trace a user.
    Start {
        /// Who: `name`, `name@domain` or `sip:name@domain`.
        user: String,
        /// For how many seconds, 1 to [`LONGEST_S`].
        seconds: u32,
    },
    /// Give what was seen after a number.
    Read {
        /// Which trace.
        id: u64,
        /// The last number that is known already; 0 for none.
        after: u64,
    },
    /// End a trace and forget it.
    Stop {
        /// Which.
        id: u64,
    },
}

/// The answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trace", rename_all = "kebab-case")]
pub enum TraceAnswer {
    /// It has begun.
    Started {
        /// Its number on this server.
        id: u64,
        /// Name of the server.
        server: String,
        /// The server's clock, in microseconds.
        now_us: u64,
    },
    /// What was seen.
    Messages {
        /// The server's clock, in microseconds.
        now_us: u64,
        /// Messages in order, at most 500.
        messages: Vec<Traced>,
        /// Whether more wait than are given here.
        more: bool,
        /// Messages that there was no room for, of this trace and before the capture, since it began.
        lost: u64,
        /// Whether new messages still come.
        running: bool,
    },
    /// It has ended.
    Stopped,
}

/// Why a trace is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The text names no user.
    #[error("the user cannot be read; write `name` or `name@domain`")]
    User,
    /// A time out of bounds.
    #[error("a trace lasts 1 to {LONGEST_S} seconds")]
    Seconds,
    /// As many run as may.
    #[error("{TRACES} traces run on this server already; wait until one has ended")]
    TooMany,
    /// It is over, or never was.
    #[error("there is no such trace on this server; it may have ended")]
    Unknown,
}

struct Trace {
    id: u64,
    watched: Watched,
    until: Instant,
    read: Instant,
    calls: BTreeSet<Vec<u8>>,
    calls_in_order: VecDeque<Vec<u8>>,
    kept: VecDeque<Traced>,
    kept_bytes: usize,
    last: u64,
    lost: u64,
    /// What the tap had dropped when it began.
    dropped_before: u64,
}

/// All traces of a server.
pub struct Traces {
    server: String,
    shared: Arc<Shared>,
    /// Whether the tap stays on without a trace.
    always: bool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    all: Vec<Trace>,
}

impl Traces {
    /// None yet, of the server of that name; `always`: the tap is for others too.
    pub fn new(server: String, shared: Arc<Shared>, always: bool) -> Traces {
        shared.switch(always);
        Traces { server, shared, always, table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn order(&self, order: &TraceOrder) -> Result<TraceAnswer, TraceError> {
        let now = Instant::now();
        let mut table = self.lock();
        table.expire(now);
        let answer = match order {
            TraceOrder::Start { user, seconds } => self.start(&mut table, user, *seconds, now),
            TraceOrder::Read { id, after } => {
                let dropped = self.dropped();
                let trace = table.all.iter_mut().find(|trace| trace.id == *id).ok_or(TraceError::Unknown);
                trace.map(|trace| trace.read(*after, now, dropped))
            }
            TraceOrder::Stop { id } => {
                let before = table.all.len();
                table.all.retain(|trace| trace.id != *id);
                if table.all.len() < before { Ok(TraceAnswer::Stopped) } else { Err(TraceError::Unknown) }
            }
        };
        self.switch(&table, now);
        answer
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn start(&self, table: &mut Table, user: &str, seconds: u32, now: Instant) -> Result<TraceAnswer, TraceError> {
        let watched = Watched::parse(user).ok_or(TraceError::User)?;
        if !(1..=LONGEST_S).contains(&seconds) {
            return Err(TraceError::Seconds);
        }
        if table.all.len() >= TRACES {
            return Err(TraceError::TooMany);
        }
        table.last_id += 1;
        let id = table.last_id;
        table.all.push(Trace {
            id,
            watched,
            until: now + Duration::from_secs(u64::from(seconds)),
            read: now,
            calls: BTreeSet::new(),
            calls_in_order: VecDeque::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            last: 0,
            lost: 0,
            dropped_before: self.dropped(),
        });
        Ok(TraceAnswer::Started { id, server: self.server.clone(), now_us: wall_us() })
    }

    fn switch(&self, table: &Table, now: Instant) {
        self.shared.switch(self.always || table.all.iter().any(|trace| trace.is_running(now)));
    }

    /// Whether any trace wants a captured message. Traces that are over are let go by the way, and the tap with the last of them.
    pub fn want(&self, message: &[u8], fields: &Fields) -> bool {
        let now = Instant::now();
        let mut table = self.lock();
        table.expire(now);
        self.switch(&table, now);
        table.all.iter_mut().any(|trace| trace.is_running(now) && trace.wants(message, fields))
    }

    /// Offers a captured message to every trace; `text` is the message with its secrets filled.
    pub fn offer(&self, seen: &Seen, fields: &Fields, ends: &Ends, text: &[u8]) {
        let now = Instant::now();
        let mut table = self.lock();
        for trace in table.all.iter_mut().filter(|trace| trace.is_running(now)) {
            if trace.wants(&seen.message, fields) {
                trace.keep(seen, ends, text);
            }
        }
    }

    /// Traces that run now.
    pub fn running(&self) -> usize {
        let now = Instant::now();
        self.lock().all.iter().filter(|trace| trace.is_running(now)).count()
    }
}

impl Table {
    fn expire(&mut self, now: Instant) {
        self.all.retain(|trace| now < trace.until + AFTER && now < trace.read + UNREAD);
    }
}

impl Trace {
    fn is_running(&self, now: Instant) -> bool {
        now < self.until && now < self.read + UNREAD
    }

    /// Whether the message names the user or belongs to a call that did.
    fn wants(&mut self, message: &[u8], fields: &Fields) -> bool {
        let call = fields.call_id(message);
        let known = self.calls.contains(call);
        let wanted = known || self.watched.is_named_in(message, fields);
        if wanted && !known && !call.is_empty() {
            if self.calls_in_order.len() >= CALLS
                && let Some(oldest) = self.calls_in_order.pop_front()
            {
                self.calls.remove(&oldest);
            }
            self.calls.insert(call.to_vec());
            self.calls_in_order.push_back(call.to_vec());
        }
        wanted
    }

    fn keep(&mut self, seen: &Seen, ends: &Ends, text: &[u8]) {
        self.last += 1;
        let transport = if seen.flow.transport == Transport::Peer { "link" } else { seen.flow.transport.via_token() };
        let traced = Traced {
            number: self.last,
            at_us: seen.at_us,
            direction: if seen.way == Way::In { "in" } else { "out" }.to_owned(),
            transport: transport.to_owned(),
            local: ends.local.to_string(),
            remote: ends.remote.to_string(),
            server: ends.server.clone(),
            message: String::from_utf8_lossy(text).into_owned(),
        };
        self.kept_bytes += traced.message.len();
        self.kept.push_back(traced);
        while self.kept.len() > KEPT || self.kept_bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.message.len();
            self.lost += 1;
        }
    }

    /// What was read before is let go.
    fn read(&mut self, after: u64, now: Instant, dropped: u64) -> TraceAnswer {
        self.read = now;
        while self.kept.front().is_some_and(|traced| traced.number <= after) {
            if let Some(known) = self.kept.pop_front() {
                self.kept_bytes -= known.message.len();
            }
        }
        let mut bytes = 0;
        let fits = |traced: &&Traced| {
            let fits = bytes < READ_BYTES;
            bytes += traced.message.len();
            fits
        };
        let messages: Vec<Traced> = self.kept.iter().take(READ).take_while(fits).cloned().collect();
        TraceAnswer::Messages {
            now_us: wall_us(),
            more: messages.len() < self.kept.len(),
            messages,
            lost: self.lost + dropped.saturating_sub(self.dropped_before),
            running: self.is_running(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pairline_sip::flow::Flow;
    use std::net::SocketAddr;

    fn traces(always: bool) -> (Traces, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Traces::new("fe1".to_owned(), shared.clone(), always), shared)
    }

    fn is_on(shared: &Arc<Shared>) -> bool {
        super::super::tap::tap(shared).0.is_on()
    }

    fn offer(traces: &Traces, text: &str) {
        let remote: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let message = Bytes::copy_from_slice(text.as_bytes());
        let seen = Seen { at_us: 1, way: Way::In, flow: Flow::udp(1, remote), link: None, message };
        let ends = Ends { local: "192.0.2.9:5060".parse().unwrap(), remote, server: None };
        let fields = Fields::of(text.as_bytes());
        if traces.want(&seen.message, &fields) {
            traces.offer(&seen, &fields, &ends, text.as_bytes());
        }
    }

    fn start(traces: &Traces, user: &str) -> u64 {
        match traces.order(&TraceOrder::Start { user: user.to_owned(), seconds: 60 }) {
            Ok(TraceAnswer::Started { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn read(traces: &Traces, id: u64, after: u64) -> (Vec<(u64, String)>, bool, u64) {
        match traces.order(&TraceOrder::Read { id, after }) {
            Ok(TraceAnswer::Messages { messages, more, lost, .. }) => {
                let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
                (messages.iter().map(|m| (m.number, first(&m.message))).collect(), more, lost)
            }
            other => panic!("{other:?}"),
        }
    }

    const INVITE: &str = "INVITE sip:bob@x SIP/2.0\r\nFrom: <sip:alice@x>\r\nCall-ID: 1\r\n\r\n";

    #[test]
    fn a_trace_follows_a_user_and_its_calls_and_the_tap_is_on_meanwhile() {
        let (traces, shared) = traces(false);
        assert!(!is_on(&shared));
        let id = start(&traces, "alice");
        assert!(is_on(&shared));
        offer(&traces, INVITE);
        offer(&traces, "SIP/2.0 180 Ringing\r\nCall-ID: 1\r\n\r\n");
        offer(&traces, "SIP/2.0 180 Ringing\r\nCall-ID: 2\r\n\r\n");
        let both = [(1, "INVITE sip:bob@x SIP/2.0".to_owned()), (2, "SIP/2.0 180 Ringing".to_owned())];
        assert_eq!(read(&traces, id, 0), (both.to_vec(), false, 0));
        assert_eq!(read(&traces, id, 1).0, both[1..].to_vec());
        assert!(read(&traces, id, 2).0.is_empty());
        assert_eq!(traces.order(&TraceOrder::Stop { id }), Ok(TraceAnswer::Stopped));
        assert!(!is_on(&shared));
        assert_eq!(traces.order(&TraceOrder::Read { id, after: 0 }), Err(TraceError::Unknown));
    }

    #[test]
    fn the_tap_stays_on_for_others() {
        let (traces, shared) = traces(true);
        let id = start(&traces, "alice");
        assert_eq!(traces.order(&TraceOrder::Stop { id }), Ok(TraceAnswer::Stopped));
        assert!(is_on(&shared));
    }

    #[test]
    fn traces_are_few_and_bounded_in_time() {
        let (traces, _) = traces(false);
        (0..TRACES).for_each(|_| {
            start(&traces, "alice");
        });
        let order = |user: &str, seconds| traces.order(&TraceOrder::Start { user: user.to_owned(), seconds });
        assert_eq!(order("bob", 1), Err(TraceError::TooMany));
        assert_eq!(
            (order("bob", 0), order("bob", LONGEST_S + 1)),
            (Err(TraceError::Seconds), Err(TraceError::Seconds))
        );
        assert_eq!(order("b b", 1), Err(TraceError::User));
    }

    #[test]
    fn a_trace_ends_after_its_time_and_when_nobody_reads_it() {
        let (traces, shared) = traces(false);
        let id = start(&traces, "alice");
        let earlier = Instant::now().checked_sub(UNREAD).unwrap();
        traces.lock().all[0].read = earlier;
        offer(&traces, INVITE);
        assert!(!is_on(&shared));
        assert_eq!(traces.order(&TraceOrder::Read { id, after: 0 }), Err(TraceError::Unknown));
        let id = start(&traces, "alice");
        offer(&traces, INVITE);
        traces.lock().all[0].until = Instant::now();
        offer(&traces, INVITE);
        assert!(!is_on(&shared), "nothing is added after its time");
        assert_eq!(read(&traces, id, 0).0.len(), 1, "what was seen may still be fetched");
        traces.lock().all[0].until = Instant::now().checked_sub(AFTER).unwrap();
        assert_eq!(traces.order(&TraceOrder::Read { id, after: 0 }), Err(TraceError::Unknown));
    }

    #[test]
    fn memory_is_bounded_and_what_is_lost_is_counted() {
        let (traces, _) = traces(false);
        let id = start(&traces, "alice");
        let body = "x".repeat(KEPT_BYTES / 4);
        (0..6).for_each(|_| offer(&traces, &format!("{INVITE}{body}")));
        let (kept, more, lost) = read(&traces, id, 0);
        assert_eq!((kept[0].0, kept.len(), more, lost), (4, 1, true, 3));
        assert_eq!(read(&traces, id, 4).0[0].0, 5);
        let id = start(&traces, "alice");
        (0..CALLS + 2).for_each(|n| offer(&traces, &INVITE.replace("Call-ID: 1", &format!("Call-ID: {n}"))));
        let table = traces.lock();
        let trace = table.all.iter().find(|trace| trace.id == id).unwrap();
        assert_eq!((trace.calls.len(), trace.calls_in_order.len()), (CALLS, CALLS));
    }
}
