//! SIP messages counted as they pass: requests by method, direction and transport, responses by method, direction and status, and
//! how long requests wait for their final answers.
//!
//! Owns the counts, in plain numbers of fixed places: counting neither allocates nor locks, and no label comes from a stranger.
//! Does not own how they are shown (`admin::status`, the server's `/metrics`).

use pairline_group::Millis;
use pairline_sip::flow::Transport;
use pairline_sip::kind::kind_of;
use pairline_sip::message::Message;
use pairline_sip::method::Method;

/// Labels of methods; every method that is not among them is `other`.
pub const METHODS: [&str; 15] = [
    "REGISTER",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "MESSAGE",
    "INFO",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "UPDATE",
    "PRACK",
    "other",
];

const OTHER: usize = METHODS.len() - 1;

/// Labels of transports; `link` is the link to another pool.
const TRANSPORTS: [(&str, Transport); 6] = [
    ("UDP", Transport::Udp),
    ("TCP", Transport::Tcp),
    ("TLS", Transport::Tls),
    ("WS", Transport::Ws),
    ("WSS", Transport::Wss),
    ("link", Transport::Peer),
];

/// Statuses that are counted each; others count in their class.
const CODES: [u16; 57] = [
    100, 180, 181, 182, 183, 199, 200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404, 405, 406, 407, 408,
    410, 412, 413, 414, 415, 416, 420, 421, 422, 423, 424, 428, 429, 430, 433, 436, 437, 438, 439, 440, 469, 480, 481,
    482, 483, 484, 485, 486, 487, 488, 489, 491, 493, 494,
];

/// The same of the classes 5 and 6.
const CODES_HIGH: [u16; 15] = [500, 501, 502, 503, 504, 505, 513, 555, 580, 600, 603, 604, 606, 607, 608];

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

const PLACES: usize = CODES.len() + CODES_HIGH.len() + CLASSES.len();

/// Upper bounds of the buckets of the time to a final answer, in milliseconds, the step of the node's clock. A call rings for
/// minutes.
pub const ANSWER_BOUNDS_MS: [Millis; 15] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 180_000];

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It came.
    In,
    /// It was sent.
    Out,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Way::In => "in",
            Way::Out => "out",
        }
    }
}

/// When a request came, and its method's place: until its final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    at: Millis,
    method: usize,
}

impl Asked {
    /// A request that came at that (monotonic) time.
    pub fn new(at: Millis, method: &Method) -> Asked {
        Asked { at, method: place_of(method) }
    }

    /// Whether it is a call.
    pub fn is_invite(self) -> bool {
        self.method == place_of(&Method::Invite)
    }
}

/// Times to the final answer of one method.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    buckets: [u64; ANSWER_BOUNDS_MS.len()],
    count: u64,
    sum_ms: u64,
}

#[derive(Clone, Debug)]
struct Counts {
    requests: [[u64; TRANSPORTS.len()]; METHODS.len()],
    responses: [[u64; PLACES]; METHODS.len()],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { requests: Default::default(), responses: [[0; PLACES]; METHODS.len()] }
    }
}

impl Counts {
    /// Counts a message by one look at it.
    fn add(&mut self, transport: Transport, message: &[u8]) {
        let Some(seen) = kind_of(message) else { return };
        let method = place_of_name(seen.method);
        match seen.status {
            Some(status) => self.responses[method][place_of_status(status)] += 1,
            None => self.requests[method][place_of_transport(transport)] += 1,
        }
    }
}

/// The counts of one server since its start.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    // Some twenty kilobytes each.
    came: Box<Counts>,
    went: Box<Counts>,
    answers: [Answers; METHODS.len()],
}

/// One count with its labels.
pub struct Count {
    /// Metric.
    pub name: &'static str,
    /// Labels.
    pub labels: Vec<(&'static str, String)>,
    /// How many; of the sum of a histogram, milliseconds.
    pub count: u64,
}

impl Traffic {
    /// A message came, and could be read.
    pub fn received(&mut self, transport: Transport, message: &Message) {
        let method = place_of(message.method());
        match message.status() {
            Some(status) => self.came.responses[method][place_of_status(status)] += 1,
            None => self.came.requests[method][place_of_transport(transport)] += 1,
        }
    }

    /// A message came, and was refused before it was read.
    pub fn refused(&mut self, transport: Transport, message: &[u8]) {
        self.came.add(transport, message);
    }

    /// A whole message was sent.
    pub fn sent(&mut self, transport: Transport, message: &[u8]) {
        self.went.add(transport, message);
    }

    /// A request was given its final answer.
    pub fn answered(&mut self, asked: Asked, now: Millis) {
        let took = now.saturating_sub(asked.at);
        let answers = &mut self.answers[asked.method];
        answers.count += 1;
        answers.sum_ms = answers.sum_ms.saturating_add(took);
        if let Some(at) = ANSWER_BOUNDS_MS.iter().position(|bound| took <= *bound) {
            answers.buckets[at] += 1;
        }
    }

    /// Every count that is not 0.
    pub fn counts(&self) -> Vec<Count> {
        let mut all = Vec::new();
        for (way, counts) in [(Way::In, &self.came), (Way::Out, &self.went)] {
            requests(&mut all, way, counts);
            responses(&mut all, way, counts);
        }
        for (method, answers) in METHODS.iter().zip(&self.answers).filter(|(_, answers)| answers.count > 0) {
            let labels = |le: Option<String>| {
                let method = ("method", (*method).to_owned());
                [Some(method), le.map(|le| ("le", le))].into_iter().flatten().collect()
            };
            let mut push = |name, le, count| all.push(Count { name, labels: labels(le), count });
            let mut running = 0;
            for (bound, bucket) in ANSWER_BOUNDS_MS.iter().zip(&answers.buckets) {
                running += bucket;
                push("pairline_request_latency_seconds_bucket", Some(seconds(*bound)), running);
            }
            push("pairline_request_latency_seconds_bucket", Some("+Inf".to_owned()), answers.count);
            push("pairline_request_latency_seconds_sum", None, answers.sum_ms);
            push("pairline_request_latency_seconds_count", None, answers.count);
        }
        all
    }
}

fn requests(all: &mut Vec<Count>, way: Way, counts: &Counts) {
    for (method, row) in METHODS.iter().zip(&counts.requests) {
        for ((transport, _), count) in TRANSPORTS.iter().zip(row).filter(|(_, count)| **count > 0) {
            let labels = [("method", *method), ("direction", way.label()), ("transport", *transport)]
                .map(|(k, v)| (k, v.to_owned()));
            all.push(Count { name: "pairline_sip_requests_total", labels: labels.into(), count: *count });
        }
    }
}

fn responses(all: &mut Vec<Count>, way: Way, counts: &Counts) {
    for (method, row) in METHODS.iter().zip(&counts.responses) {
        for (place, count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
            let labels =
                vec![("method", (*method).to_owned()), ("direction", way.label().to_owned()), ("code", code_at(place))];
            all.push(Count { name: "pairline_sip_responses_total", labels, count: *count });
        }
    }
}

/// Milliseconds in seconds, as Prometheus writes a bound.
fn seconds(millis: Millis) -> String {
    match (millis / 1_000, millis % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}

fn place_of(method: &Method) -> usize {
    match method {
        Method::Register => 0,
        Method::Invite => 1,
        Method::Ack => 2,
        Method::Bye => 3,
        Method::Cancel => 4,
        Method::Options => 5,
        Method::Message => 6,
        Method::Info => 7,
        Method::Refer => 8,
        Method::Subscribe => 9,
        Method::Notify => 10,
        Method::Publish => 11,
        Method::Update => 12,
        Method::Prack => 13,
        Method::Extension(_) => OTHER,
    }
}

fn place_of_name(method: &[u8]) -> usize {
    METHODS[..OTHER].iter().position(|known| known.as_bytes() == method).unwrap_or(OTHER)
}

fn place_of_transport(transport: Transport) -> usize {
    TRANSPORTS.iter().position(|(_, known)| *known == transport).unwrap_or(0)
}

fn place_of_status(status: u16) -> usize {
    let class = CODES.len() + CODES_HIGH.len();
    match CODES.binary_search(&status) {
        Ok(at) => at,
        Err(_) => match CODES_HIGH.binary_search(&status) {
            Ok(at) => CODES.len() + at,
            Err(_) => class + usize::from((status / 100).clamp(1, 6) - 1),
        },
    }
}

fn code_at(place: usize) -> String {
    let class = CODES.len() + CODES_HIGH.len();
    match CODES.iter().chain(&CODES_HIGH).nth(place) {
        Some(code) => code.to_string(),
        None => CLASSES[(place - class).min(CLASSES.len() - 1)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn found(traffic: &Traffic, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        let fits = |count: &Count| count.labels.iter().map(|(k, v)| (*k, v.as_str())).eq(labels.iter().copied());
        traffic.counts().into_iter().find(|count| count.name == name && fits(count)).map(|count| count.count)
    }

    fn request(method: &str) -> Bytes {
        let text = format!(
            "{method} sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a.example.org;branch=z9hG4bKa\r\nFrom: <sip:a@example.org>;tag=1\r\n\
             To: <sip:b@example.org>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
        );
        Bytes::from(text)
    }

    #[test]
    fn every_place_has_its_own_label_and_is_found_again() {
        let labels: std::collections::BTreeSet<String> = (0..PLACES).map(code_at).collect();
        assert_eq!(labels.len(), PLACES);
        for status in 100..700 {
            let label = code_at(place_of_status(status));
            assert!(label == status.to_string() || label == format!("{}xx", status / 100), "{status}: {label}");
        }
        for (at, name) in METHODS[..OTHER].iter().enumerate() {
            assert_eq!(Method::from_bytes(name.as_bytes()).as_ref().map(place_of), Some(at));
            assert_eq!(place_of_name(name.as_bytes()), at);
        }
        assert_eq!(place_of_name(b"register"), OTHER, "methods are compared with their case");
    }

    #[test]
    fn messages_are_counted_by_what_they_are_and_strangers_make_no_labels() {
        let mut traffic = Traffic::default();
        for method in ["INVITE", "PROPFIND", "X-1", "X-2"] {
            traffic.received(Transport::Tls, &Message::parse(request(method)).unwrap());
            traffic.sent(Transport::Peer, &request(method));
        }
        traffic.sent(Transport::Udp, b"SIP/2.0 499 So\r\nCSeq: 1 INVITE\r\n\r\n");
        traffic.sent(Transport::Udp, b"SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE\r\n\r\n");
        traffic.sent(Transport::Udp, b"\r\n");
        traffic.refused(Transport::Wss, &request("SUBSCRIBE"));
        let requests = |method, direction, transport| {
            let labels = [("method", method), ("direction", direction), ("transport", transport)];
            found(&traffic, "pairline_sip_requests_total", &labels)
        };
        assert_eq!(requests("INVITE", "in", "TLS"), Some(1));
        assert_eq!(requests("other", "in", "TLS"), Some(3));
        assert_eq!(requests("other", "out", "link"), Some(3));
        assert_eq!(requests("SUBSCRIBE", "in", "WSS"), Some(1));
        assert_eq!(requests("INVITE", "in", "UDP"), None, "what is 0 is not shown");
        let responses = |code| {
            let labels = [("method", "INVITE"), ("direction", "out"), ("code", code)];
            found(&traffic, "pairline_sip_responses_total", &labels)
        };
        assert_eq!((responses("180"), responses("4xx"), responses("499")), (Some(1), Some(1), None));
    }

    #[test]
    fn times_to_the_answer_are_cumulative() {
        let mut traffic = Traffic::default();
        for now in [100, 100, 101, 350, 200_101] {
            traffic.answered(Asked::new(100, &Method::Invite), now);
        }
        let bucket =
            |le| found(&traffic, "pairline_request_latency_seconds_bucket", &[("method", "INVITE"), ("le", le)]);
        assert_eq!((bucket("0.001"), bucket("0.2"), bucket("0.5")), (Some(3), Some(3), Some(4)));
        assert_eq!((bucket("180"), bucket("+Inf")), (Some(4), Some(5)));
        let of = |name| found(&traffic, name, &[("method", "INVITE")]);
        assert_eq!(of("pairline_request_latency_seconds_sum"), Some(251 + 200_001));
        assert_eq!(of("pairline_request_latency_seconds_count"), Some(5));
    }

    #[test]
    fn bounds_are_written_in_seconds() {
        let written: Vec<String> = [0, 1, 20, 500, 1_000, 2_500, 180_000].into_iter().map(seconds).collect();
        assert_eq!(written, ["0", "0.001", "0.02", "0.5", "1", "2.5", "180"]);
    }
}
