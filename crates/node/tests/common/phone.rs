//! Phones of a pool's users: they register, send messages and call each other through any server.
//!
//! Owns their requests and what they have got. What must be so is the tests' to say.
#![allow(dead_code)]

use super::pool::Pool;
use bytes::Bytes;
use pairline_node::command::Command;
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply as Answer;
use pairline_sip::request::RequestBuilder;

pub const PASSWORD: &str = "a long password";

/// A client of one user: on datagrams, or on a connection to one server.
pub struct Phone {
    pub user: &'static str,
    pub flow: Flow,
    pub cseq: u32,
}

impl Phone {
    pub fn udp(user: &'static str, host: u8) -> Phone {
        Phone { user, flow: Flow::udp(0, format!("192.0.2.{host}:5060").parse().unwrap()), cseq: 0 }
    }

    pub fn tcp(user: &'static str, host: u8) -> Phone {
        let remote = format!("192.0.2.{host}:40000").parse().unwrap();
        let flow = Flow { transport: Transport::Tcp, listener: 1, remote, connection: u64::from(host) };
        Phone { user, flow, cseq: 0 }
    }

    pub fn request(&mut self, method: &Method, to: &str, lines: &[(&str, &str)]) -> Bytes {
        self.cseq += 1;
        let aor = |user: &str| format!("<sip:{user}@pairline.test>");
        let token = self.flow.transport.via_token();
        let uri =
            if *method == Method::Register { "sip:pairline.test".into() } else { format!("sip:{to}@pairline.test") };
        let via = format!("SIP/2.0/{token} {};branch=z9hG4bK{}{};rport", self.flow.remote, self.user, self.cseq);
        let mut request = RequestBuilder::new(method.clone(), &uri)
            .header("Via", via)
            .header("From", format!("{};tag=f", aor(self.user)))
            .header("To", aor(to))
            .header("Call-ID", format!("{}-{}-{method}", self.user, self.flow.remote))
            .header("CSeq", format!("{} {method}", self.cseq))
            .header("Max-Forwards", "70");
        if *method != Method::Message {
            request = request.header("Contact", format!("<sip:{}@{}>", self.user, self.flow.remote));
        }
        for (name, value) in lines {
            request = request.header(name, value);
        }
        request.build()
    }

    /// What has been sent to this client from an index on.
    pub fn got(&self, pool: &Pool, at: usize, from: usize) -> Vec<Message> {
        let sent = pool.fronts[at].sip[from..].iter().filter(|(flow, _)| flow.remote == self.flow.remote);
        sent.map(|(_, bytes)| Message::parse(bytes.clone()).unwrap()).collect()
    }

    /// Sends a request; its final answer within ten seconds.
    pub fn answer(&self, pool: &mut Pool, at: usize, message: Bytes) -> Message {
        let before = pool.fronts[at].sip.len();
        let cseq = Message::parse(message.clone()).unwrap().cseq().0;
        pool.give(at, Input::Sip { flow: self.flow, message });
        let mut found = None;
        pool.until("an answer", |pool| {
            let all = self.got(pool, at, before);
            found = all.into_iter().find(|m| m.status().is_some_and(|s| s >= 200) && m.cseq().0 == cseq);
            found.is_some()
        });
        found.unwrap()
    }

    /// The same through a challenge.
    pub fn ask(&mut self, pool: &mut Pool, at: usize, method: &Method, to: &str, lines: &[(&str, &str)]) -> Message {
        let message = self.request(method, to, lines);
        let first = self.answer(pool, at, message);
        let (challenge, line) = match first.status() {
            Some(401) => (Name::WwwAuthenticate, "Authorization"),
            Some(407) => (Name::ProxyAuthenticate, "Proxy-Authorization"),
            _ => return first,
        };
        let challenge = Challenge::parse(first.header(challenge).unwrap()).unwrap();
        let uri =
            if *method == Method::Register { "sip:pairline.test".into() } else { format!("sip:{to}@pairline.test") };
        let value = answer(&challenge, self.user, PASSWORD, method.as_str(), &uri, "cn", 1);
        let mut lines = lines.to_vec();
        lines.push((line, &value));
        let message = self.request(method, to, &lines);
        self.answer(pool, at, message)
    }

    /// The same request with the answer to a challenge that it has met.
    pub fn answer_to(&mut self, challenged: &Message, method: &Method, to: &str) -> Bytes {
        self.answer_with(challenged, method, to, &[])
    }

    /// That with further header lines.
    pub fn answer_with(&mut self, challenged: &Message, method: &Method, to: &str, more: &[(&str, &str)]) -> Bytes {
        let (header, line) = match challenged.status() {
            Some(401) => (Name::WwwAuthenticate, "Authorization"),
            _ => (Name::ProxyAuthenticate, "Proxy-Authorization"),
        };
        let challenge = Challenge::parse(challenged.header(header).unwrap()).unwrap();
        let uri = match *method {
            Method::Register => "sip:pairline.test".to_owned(),
            _ => format!("sip:{to}@pairline.test"),
        };
        let value = answer(&challenge, self.user, PASSWORD, method.as_str(), &uri, "cn", 1);
        let mut lines = more.to_vec();
        lines.push((line, &value));
        self.request(method, to, &lines)
    }

    pub fn register(&mut self, pool: &mut Pool, at: usize) -> Option<u16> {
        let user = self.user;
        self.ask(pool, at, &Method::Register, user, &[("Expires", "600")]).status()
    }
}

pub fn pool_with(users: &[&str]) -> Pool {
    with_users(Pool::of(3), users)
}

/// Adds users to a pool.
pub fn with_users(mut pool: Pool, users: &[&str]) -> Pool {
    for (n, user) in users.iter().enumerate() {
        let (user, password) = ((*user).to_owned(), PASSWORD.to_owned());
        pool.must(n % 3, Command::UserAdd { user, password, display_name: None, pool: Some("east".into()) });
    }
    pool
}

/// A server that does not lead the group of a user.
pub fn follower(pool: &Pool, user: &str) -> usize {
    let leader = leader(pool, user);
    (leader + 1) % 3
}

pub fn leader(pool: &Pool, user: &str) -> usize {
    let leaders = pool.leaders(pool.group_of(user));
    assert_eq!(leaders.len(), 1, "one leads");
    leaders[0]
}

/// Accepts the next request to a phone at a server; what came.
pub fn accept(pool: &mut Pool, phone: &Phone, at: usize, from: usize) -> Message {
    let mut came = None;
    pool.until("a request", |pool| {
        came = phone.got(pool, at, from).into_iter().find(Message::is_request);
        came.is_some()
    });
    let came = came.unwrap();
    pool.give(at, Input::Sip { flow: phone.flow, message: Answer::to(&came, 200).build() });
    came
}

/// Alice, wherever she is asked for, sends bob a message by a server; it reaches him at that other one.
pub fn message(pool: &mut Pool, alice: &mut Phone, at: usize, bob: &Phone, bobs: usize) {
    let before = pool.fronts[bobs].sip.len();
    let message = alice.request(&Method::Message, bob.user, &[]);
    let challenged = alice.answer(pool, at, message);
    assert_eq!(challenged.status(), Some(407));
    let challenge = Challenge::parse(challenged.header(Name::ProxyAuthenticate).unwrap()).unwrap();
    let uri = format!("sip:{}@pairline.test", bob.user);
    let value = answer(&challenge, alice.user, PASSWORD, "MESSAGE", &uri, "cn", 1);
    let again = alice.request(&Method::Message, bob.user, &[("Proxy-Authorization", &value)]);
    let (from, cseq) = (pool.fronts[at].sip.len(), alice.cseq);
    pool.give(at, Input::Sip { flow: alice.flow, message: again });
    accept(pool, bob, bobs, before);
    let mut status = None;
    pool.until("an answer", |pool| {
        let all = alice.got(pool, at, from);
        status = all.iter().find(|m| !m.is_request() && m.cseq().0 == cseq).and_then(Message::status);
        status.is_some_and(|status| status >= 200)
    });
    assert_eq!(status, Some(200));
}

/// A call of two phones, as the caller sees it.
pub struct Call {
    /// Route set and tag of the far end, for either side.
    pub caller: Dialog,
    pub callee: Dialog,
}

/// What one side of a call puts into its requests.
#[derive(Clone)]
pub struct Dialog {
    pub call_id: String,
    pub routes: Vec<String>,
    pub target: String,
    pub from: String,
    pub to: String,
    pub cseq: u32,
}

impl Dialog {
    pub fn request(&mut self, method: &Method, phone: &Phone, branch: &str) -> Bytes {
        self.cseq += 1;
        let token = phone.flow.transport.via_token();
        let via =
            format!("SIP/2.0/{token} {};branch=z9hG4bKd{}{branch}{};rport", phone.flow.remote, phone.user, self.cseq);
        let mut request = RequestBuilder::new(method.clone(), &self.target)
            .header("Via", via)
            .header("From", &self.from)
            .header("To", &self.to)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} {method}", self.cseq))
            .header("Max-Forwards", "70");
        for route in &self.routes {
            request = request.header("Route", route);
        }
        request.build()
    }
}

pub fn texts<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

/// Sets a call up from a phone at one server to one at another.
pub fn call(pool: &mut Pool, (alice, at): (&mut Phone, usize), (bob, bobs): (&Phone, usize)) -> Call {
    let first = alice.request(&Method::Invite, bob.user, &[]);
    let challenged = alice.answer(pool, at, first);
    let challenge = Challenge::parse(challenged.header(Name::ProxyAuthenticate).unwrap()).unwrap();
    let uri = format!("sip:{}@pairline.test", bob.user);
    let value = answer(&challenge, alice.user, PASSWORD, "INVITE", &uri, "cn", 1);
    let invite = alice.request(&Method::Invite, bob.user, &[("Proxy-Authorization", &value)]);
    let (before, from) = (pool.fronts[bobs].sip.len(), pool.fronts[at].sip.len());
    let (cseq, flow) = (alice.cseq, alice.flow);
    pool.give(at, Input::Sip { flow, message: invite });
    let mut came = None;
    pool.until("the INVITE", |pool| {
        came = bob.got(pool, bobs, before).into_iter().find(|m| m.is_request() && *m.method() == Method::Invite);
        came.is_some()
    });
    let came = came.unwrap();
    let contact = format!("<sip:{}@{}>", bob.user, bob.flow.remote);
    let ok = Answer::to(&came, 200).to_tag("b").header("Contact", contact);
    pool.give(bobs, Input::Sip { flow: bob.flow, message: ok.build() });
    let mut answered = None;
    pool.until("the 200", |pool| {
        answered = alice.got(pool, at, from).into_iter().find(|m| m.status() == Some(200) && m.cseq().0 == cseq);
        answered.is_some()
    });
    let answered = answered.unwrap();
    let mut routes = texts(answered.headers(Name::RecordRoute));
    let target = |m: &Message| String::from_utf8(m.contacts().next().unwrap().uri.to_vec()).unwrap();
    let header = |m: &Message, name| String::from_utf8(m.header(name).unwrap().to_vec()).unwrap();
    let callee = Dialog {
        call_id: header(&came, Name::CallId),
        routes: texts(came.headers(Name::RecordRoute)),
        target: target(&came),
        from: format!("{};tag=b", header(&came, Name::To)),
        to: header(&came, Name::From),
        cseq: 100,
    };
    routes.reverse();
    let caller = Dialog {
        routes,
        target: target(&answered),
        from: header(&answered, Name::From),
        to: header(&answered, Name::To),
        cseq: 10,
        ..callee.clone()
    };
    let mut call = Call { caller, callee };
    call.caller.cseq = cseq - 1;
    let ack = call.caller.request(&Method::Ack, alice, "a");
    call.caller.cseq = 10;
    let before = pool.fronts[bobs].sip.len();
    pool.give(at, Input::Sip { flow, message: ack });
    pool.until("the ACK", |pool| {
        bob.got(pool, bobs, before).iter().any(|m| m.is_request() && *m.method() == Method::Ack)
    });
    call
}

/// One side sends a request of the call by a server; the other accepts it at its own.
pub fn in_call(
    pool: &mut Pool,
    method: &Method,
    dialog: &mut Dialog,
    (from, at): (&Phone, usize),
    (to, tos): (&Phone, usize),
) {
    let before = pool.fronts[tos].sip.len();
    let request = dialog.request(method, from, &at.to_string());
    let sent = pool.fronts[at].sip.len();
    pool.give(at, Input::Sip { flow: from.flow, message: request });
    let came = accept(pool, to, tos, before);
    assert_eq!(came.method(), method);
    let cseq = dialog.cseq;
    let ok = |m: &Message| m.status() == Some(200) && m.cseq().0 == cseq;
    pool.until("the answer", |pool| from.got(pool, at, sent).iter().any(ok));
}

pub fn drain(server: usize) -> Command {
    Command::ServerDrain { server: format!("fe{}.east.pairline.test", server + 1), seconds: 20 }
}

/// How many groups a server leads.
pub fn led(pool: &Pool, at: usize) -> usize {
    pool.fronts[at]
        .node
        .as_ref()
        .unwrap()
        .inspect(|core| core.host.groups().into_iter().filter(|group| core.host.leads(*group)).count())
}
