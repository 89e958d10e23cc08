//! The requests that there are most of, many of them in a turn, as a server under load has them: that all are answered; and what they take, for a
//! tool that counts instructions (`cargo xtask bench instructions`). It counts what is below [`counted`], and divides by what is printed.

use super::common::phone::PASSWORD;
use super::common::pool::Pool;
use bytes::Bytes;
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::Flow;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::reply::Reply;

/// Users; a callee is this many places behind its caller.
const USERS: usize = 96;
const BEHIND: usize = 7;
/// Operations in one turn.
const TOGETHER: usize = 48;
/// Turns before the first that counts: tables have their size then.
const WARM: usize = 8;

/// Turns that count, which the tool raises: the only way to tell a test from outside.
#[allow(clippy::disallowed_methods)]
fn turns() -> usize {
    std::env::var("PAIRLINE_TURNS").map_or(4, |turns| turns.parse().unwrap())
}

/// What is counted: the node has these inputs, and all that follows.
#[inline(never)]
fn counted(pool: &mut Pool, inputs: Vec<Input>) {
    pool.give_together(0, inputs);
}

fn flow(user: usize) -> Flow {
    Flow::udp(0, format!("192.0.2.{}:{}", user % 8, 20_000 + user).parse().unwrap())
}

/// The value of credentials for a challenge that was met before, used for the n-th time.
fn proof(user: usize, met: &[u8], method: &str, uri: &str, times: u32) -> String {
    let met = Challenge::parse(met).unwrap();
    answer(&met, &format!("u{user:05}"), PASSWORD, method, uri, "0a4f113b", times)
}

fn register(user: usize, times: u32, met: Option<&[u8]>) -> Input {
    let uri = "sip:pairline.test";
    let proof = met.map(|met| format!("Authorization: {}\r\n", proof(user, met, "REGISTER", uri, times)));
    let remote = flow(user).remote;
    let text = format!(
        "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};branch=z9hG4bKr{user:x}-{times:x};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:u{user:05}@pairline.test>;tag=f{user:x}\r\nTo: <sip:u{user:05}@pairline.test>\r\nCall-ID: r{user:05}@{}\r\n\
         CSeq: {} REGISTER\r\nContact: <sip:u{user:05}@{remote}>\r\nExpires: 600\r\nUser-Agent: a telephone\r\n{}Content-Length: 0\r\n\r\n",
        remote.ip(),
        times + 1,
        proof.unwrap_or_default(),
    );
    Input::Sip { flow: flow(user), message: Bytes::from(text) }
}

fn request(method: &str, user: usize, times: u32, met: Option<&[u8]>) -> Input {
    let uri = format!("sip:u{:05}@pairline.test", (user + BEHIND) % USERS);
    let proof = met.map(|met| format!("Proxy-Authorization: {}\r\n", proof(user, met, method, &uri, times)));
    let remote = flow(user).remote;
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};branch=z9hG4bKm{user:x}-{times:x};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:u{user:05}@pairline.test>;tag=m{user:x}\r\nTo: <{uri}>\r\nCall-ID: m{user:05}-{times}@{}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:u{user:05}@{remote}>\r\nUser-Agent: a telephone\r\n{}Content-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world",
        remote.ip(),
        proof.unwrap_or_default(),
    );
    Input::Sip { flow: flow(user), message: Bytes::from(text) }
}

/// An answer of whoever was sent a request on a flow.
fn reply(flow: Flow, bytes: &Bytes, status: u16) -> Input {
    let request = Message::parse(bytes.clone()).unwrap();
    let mut reply = Reply::to(&request, status).to_tag("callee");
    if bytes.starts_with(b"INVITE") {
        reply = reply.header("Record-Route", request.header(Name::RecordRoute).unwrap());
        reply = reply.header("Contact", format!("<sip:callee@{}>", flow.remote).as_bytes());
    }
    Input::Sip { flow, message: reply.build() }
}

/// A request of a caller within the dialog that a 200 has opened.
fn in_dialog(method: &str, cseq: u32, flow: Flow, ok: &Bytes) -> Input {
    let ok = Message::parse(ok.clone()).unwrap();
    let text = |name| String::from_utf8_lossy(ok.header(name).unwrap()).into_owned();
    let (contact, remote) = (ok.contacts().next().unwrap(), flow.remote);
    let message = format!(
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {remote};branch=z9hG4bK{method}-{};rport\r\nMax-Forwards: 70\r\nRoute: {}\r\nFrom: {}\r\n\
         To: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
        String::from_utf8_lossy(contact.uri),
        text(Name::CallId),
        text(Name::RecordRoute),
        text(Name::From),
        text(Name::To),
        text(Name::CallId),
    );
    Input::Sip { flow, message: Bytes::from(message) }
}

/// A pool of one server whose users are registered, and the challenges of a method that they have met.
struct Crowd {
    pool: Pool,
    met: Vec<Vec<u8>>,
    next: usize,
    times: u32,
}

impl Crowd {
    fn new(method: &str) -> Crowd {
        let mut pool = Pool::with(1, |topology| topology.pool[0].routing_groups = 32);
        for user in 0..USERS {
            let (user, password) = (format!("u{user:05}"), PASSWORD.to_owned());
            pool.must(0, Command::UserAdd { user, password, display_name: None, pool: Some("east".into()) });
        }
        let mut crowd = Crowd { pool, met: Vec::new(), next: 0, times: 1 };
        let met = (0..USERS).map(|user| crowd.challenged(register(user, 0, None), Name::WwwAuthenticate)).collect();
        crowd.met = met;
        if method != "REGISTER" {
            (0..USERS / TOGETHER)
                .for_each(|_| drop(crowd.turn(false, |user, times, met| register(user, times, Some(met)))));
            let met = |user| crowd.challenged(request(method, user, 0, None), Name::ProxyAuthenticate);
            crowd.met = (0..USERS).map(met).collect();
            crowd.times = 1;
        }
        crowd
    }

    fn challenged(&mut self, input: Input, by: Name) -> Vec<u8> {
        self.pool.give(0, input);
        let (_, last) = self.pool.fronts[0].sip.last().unwrap();
        Message::parse(last.clone()).unwrap().header(by).unwrap().to_vec()
    }

    /// The next users send something in one turn; what was sent because of it.
    fn turn(&mut self, counts: bool, make: impl Fn(usize, u32, &[u8]) -> Input) -> Vec<(Flow, Bytes)> {
        let users = self.next..self.next + TOGETHER;
        let inputs = users.map(|user| make(user, self.times, &self.met[user])).collect();
        self.next += TOGETHER;
        if self.next == USERS {
            (self.next, self.times) = (0, self.times + 1);
        }
        self.give(counts, inputs)
    }

    fn give(&mut self, counts: bool, inputs: Vec<Input>) -> Vec<(Flow, Bytes)> {
        self.pool.fronts[0].sip.clear();
        match counts {
            true => counted(&mut self.pool, inputs),
            false => self.pool.give_together(0, inputs),
        }
        std::mem::take(&mut self.pool.fronts[0].sip)
    }
}

/// What of that begins so.
fn begins<'a>(sent: &'a [(Flow, Bytes)], with: &'a str) -> impl Iterator<Item = &'a (Flow, Bytes)> {
    sent.iter().filter(move |(_, bytes)| bytes.starts_with(with.as_bytes()))
}

/// Runs an operation in turns, and prints how many of them counted.
fn run(mut operation: impl FnMut(bool)) {
    (0..WARM).for_each(|_| operation(false));
    (0..turns()).for_each(|_| operation(true));
    println!("counted {}", turns() * TOGETHER);
}

#[test]
fn registers() {
    let mut crowd = Crowd::new("REGISTER");
    run(|counts| {
        let sent = crowd.turn(counts, |user, times, met| register(user, times, Some(met)));
        assert_eq!(begins(&sent, "SIP/2.0 200").count(), TOGETHER);
    });
}

#[test]
fn messages() {
    let mut crowd = Crowd::new("MESSAGE");
    run(|counts| {
        let sent = crowd.turn(counts, |user, times, met| request("MESSAGE", user, times, Some(met)));
        let answers: Vec<Input> = begins(&sent, "MESSAGE").map(|(flow, bytes)| reply(*flow, bytes, 200)).collect();
        assert_eq!(answers.len(), TOGETHER);
        assert_eq!(begins(&crowd.give(counts, answers), "SIP/2.0 200").count(), TOGETHER);
    });
}

#[test]
fn calls() {
    let mut crowd = Crowd::new("INVITE");
    run(|counts| {
        let sent = crowd.turn(counts, |user, times, met| request("INVITE", user, times, Some(met)));
        let ring = |(flow, bytes): &(Flow, Bytes)| [reply(*flow, bytes, 180), reply(*flow, bytes, 200)];
        let rung = crowd.give(counts, begins(&sent, "INVITE").flat_map(ring).collect());
        assert_eq!(begins(&rung, "SIP/2.0 180").count(), TOGETHER);
        let ok: Vec<_> = begins(&rung, "SIP/2.0 200").collect();
        assert_eq!(ok.len(), TOGETHER);
        let ends = |(flow, ok): &&(Flow, Bytes)| [in_dialog("ACK", 1, *flow, ok), in_dialog("BYE", 2, *flow, ok)];
        let sent = crowd.give(counts, ok.iter().flat_map(ends).collect());
        assert_eq!(begins(&sent, "ACK").count(), TOGETHER);
        let over = begins(&sent, "BYE").map(|(flow, bytes)| reply(*flow, bytes, 200)).collect();
        assert_eq!(begins(&crowd.give(counts, over), "SIP/2.0 200").count(), TOGETHER);
    });
}
