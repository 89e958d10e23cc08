//! A SIP phone over UDP for process tests: registers, sends messages, calls; answers whatever comes with 200.
#![allow(dead_code)]

use crate::support::{PATIENCE, address};
use pairline_sip::auth;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Between two transmissions of a request (RFC 3261's T1).
const AGAIN: Duration = Duration::from_millis(500);

pub struct Handset {
    pub user: String,
    password: String,
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    replies: Receiver<Message>,
    requests: Receiver<String>,
    number: u32,
    stop: Arc<AtomicBool>,
}

/// What an answered INVITE leaves behind.
pub struct Call {
    from: String,
    to: String,
    id: String,
    routes: Vec<String>,
    target: String,
}

impl Handset {
    pub fn new(user: &str, password: &str) -> Handset {
        let socket = Arc::new(UdpSocket::bind((address(), 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (replied, replies) = sync_channel(1_000);
        let (requested, requests) = sync_channel(1_000);
        let stop = Arc::new(AtomicBool::new(false));
        let (listening, ends) = (socket.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = listening.recv_from(&mut buffer) else { continue };
                let Ok(message) = Message::parse(buffer[..length].to_vec().into()) else { continue };
                if message.status().is_some() {
                    let _ = replied.try_send(message);
                    continue;
                }
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if !text.starts_with("ACK ") {
                    let _ = listening.send_to(ok(&text, listening.local_addr().unwrap()).as_bytes(), from);
                }
                let _ = requested.try_send(text);
            }
        });
        let local = socket.local_addr().unwrap();
        Handset { user: user.into(), password: password.into(), socket, local, replies, requests, number: 0, stop }
    }

    /// Registers at a server; the final status, or nothing in time.
    pub fn register(&mut self, at: SocketAddr, within: Duration) -> Option<u16> {
        let contact = format!("Contact: <sip:{}@{}>\r\nExpires: 20\r\n", self.user, self.local);
        let own = format!("sip:{}@pairline.test", self.user);
        // One Call-ID for all registrations of a phone (RFC 3261 §10.2).
        let id = format!("reg-{}-{}", self.user, self.local.port());
        self.exchange(at, "REGISTER", "sip:pairline.test", (&own, &id), &contact, within).and_then(|r| r.status())
    }

    /// Sends a message through a server; the final status, or nothing in time.
    pub fn message(&mut self, at: SocketAddr, to: &str, text: &str, within: Duration) -> Option<u16> {
        let to = format!("sip:{to}@pairline.test");
        let id = format!("msg-{}-{}-{}", self.user, self.local.port(), self.number);
        let rest = format!("Content-Type: text/plain\r\nX-Test: {text}\r\n");
        self.exchange(at, "MESSAGE", &to.clone(), (&to, &id), &rest, within).and_then(|r| r.status())
    }

    /// Calls somebody through a server and acknowledges.
    pub fn call(&mut self, at: SocketAddr, to: &str) -> Call {
        let uri = format!("sip:{to}@pairline.test");
        let id = format!("call-{}-{}-{}", self.user, self.local.port(), self.number);
        let contact = format!("Contact: <sip:{}@{}>\r\n", self.user, self.local);
        let reply = self.exchange(at, "INVITE", &uri, (&uri, &id), &contact, PATIENCE).expect("an answer");
        assert_eq!(reply.status(), Some(200), "the call through {at}");
        let text = String::from_utf8_lossy(reply.as_bytes()).into_owned();
        let mut routes: Vec<String> = lines(&text, "Record-Route").map(str::to_owned).collect();
        routes.reverse();
        let target = lines(&text, "Contact").next().expect("a contact").trim_matches(['<', '>']).to_owned();
        let to = lines(&text, "To").next().unwrap().to_owned();
        let call = Call { from: self.from(), to, id, routes, target };
        self.number += 1;
        let ack = self.in_dialog(&call, "ACK", self.number - 1);
        self.socket.send_to(ack.as_bytes(), at).unwrap();
        call
    }

    /// Ends a call through a server.
    pub fn bye(&mut self, at: SocketAddr, call: &Call, within: Duration) -> Option<u16> {
        self.number += 1;
        let request = self.in_dialog(call, "BYE", self.number);
        self.transact(at, &request, "BYE", self.number, within).and_then(|reply| reply.status())
    }

    /// The next request that came and fits.
    pub fn next(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let text = self.requests.recv_timeout(left).unwrap_or_else(|_| panic!("{} got no {what}", self.user));
            if text.contains(what) {
                return text;
            }
        }
    }

    fn from(&self) -> String {
        format!("<sip:{}@pairline.test>;tag=t{}", self.user, self.local.port())
    }

    fn in_dialog(&self, call: &Call, method: &str, number: u32) -> String {
        let routes: String = call.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{method}{number}{}\r\n{routes}From: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            call.target, self.local, self.user, call.from, call.to, call.id
        )
    }

    /// A request with one answer to a challenge; `about` is To and Call-ID.
    fn exchange(
        &mut self,
        at: SocketAddr,
        method: &str,
        uri: &str,
        (to, id): (&str, &str),
        rest: &str,
        within: Duration,
    ) -> Option<Message> {
        let until = Instant::now() + within;
        let mut proof = String::new();
        for _ in 0..2 {
            self.number += 1;
            let request = format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{method}{}{}\r\nFrom: {}\r\nTo: <{to}>\r\n\
                 Call-ID: {id}\r\nCSeq: {} {method}\r\nMax-Forwards: 70\r\n{rest}{proof}Content-Length: 0\r\n\r\n",
                self.local,
                self.number,
                self.user,
                self.from(),
                self.number
            );
            let left = until.saturating_duration_since(Instant::now());
            let reply = self.transact(at, &request, method, self.number, left)?;
            let (asked, answers) = match reply.status() {
                Some(401) => (Name::WwwAuthenticate, "Authorization"),
                Some(407) => (Name::ProxyAuthenticate, "Proxy-Authorization"),
                _ => return Some(reply),
            };
            let value = reply.header(asked).unwrap().to_vec();
            let challenge = auth::Challenge::parse(&value).unwrap();
            let answer = auth::answer(&challenge, &self.user, &self.password, method, uri, "c0ffee", 1);
            proof = format!("{answers}: {answer}\r\n");
        }
        None
    }

    /// Sends until a final answer comes.
    fn transact(&self, at: SocketAddr, request: &str, method: &str, number: u32, within: Duration) -> Option<Message> {
        let until = Instant::now() + within;
        let mut send = Instant::now();
        while Instant::now() < until {
            if Instant::now() >= send {
                self.socket.send_to(request.as_bytes(), at).unwrap();
                send = Instant::now() + AGAIN;
            }
            let wait = send.min(until).saturating_duration_since(Instant::now());
            let Ok(reply) = self.replies.recv_timeout(wait) else { continue };
            let text = String::from_utf8_lossy(reply.as_bytes()).into_owned();
            let ours = lines(&text, "CSeq").next() == Some(&format!("{number} {method}"));
            if ours && reply.status().is_some_and(|status| status >= 200) {
                return Some(reply);
            }
        }
        None
    }
}

impl Drop for Handset {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lines<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().take_while(|line| !line.is_empty()).filter_map(move |line| {
        let (have, value) = line.split_once(':')?;
        have.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn ok(request: &str, local: SocketAddr) -> String {
    let mut reply = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
        lines(request, name).for_each(|value| reply.push_str(&format!("{name}: {value}\r\n")));
    }
    let to = lines(request, "To").next().unwrap_or_default();
    let tag = if to.contains(";tag=") { String::new() } else { format!(";tag=a{}", local.port()) };
    reply + &format!("To: {to}{tag}\r\nContact: <sip:phone@{local}>\r\nContent-Length: 0\r\n\r\n")
}
