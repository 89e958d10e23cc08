//! A pool of three servers, through whole nodes: users are served by whichever server is asked, and go on when one dies, stands still
//! or is cut off.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::pool::Pool;
use pairline_node::command::{Command, Reply};
use pairline_node::io::Input;
use pairline_sip::auth::{Challenge, answer};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::reply::Reply as Answer;
use pairline_sip::request::RequestBuilder;

const PASSWORD: &str = "a long password";

/// A client of one user: on datagrams, or on a connection to one server.
struct Phone {
    user: &'static str,
    flow: Flow,
    cseq: u32,
}

impl Phone {
    fn udp(user: &'static str, host: u8) -> Phone {
        Phone { user, flow: Flow::udp(0, format!("192.0.2.{host}:5060").parse().unwrap()), cseq: 0 }
    }

    fn tcp(user: &'static str, host: u8) -> Phone {
        let remote = format!("192.0.2.{host}:40000").parse().unwrap();
        let flow = Flow { transport: Transport::Tcp, listener: 1, remote, connection: u64::from(host) };
        Phone { user, flow, cseq: 0 }
    }

    fn request(&mut self, method: &Method, to: &str, lines: &[(&str, &str)]) -> Bytes {
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
    fn got(&self, pool: &Pool, at: usize, from: usize) -> Vec<Message> {
        let sent = pool.fronts[at].sip[from..].iter().filter(|(flow, _)| flow.remote == self.flow.remote);
        sent.map(|(_, bytes)| Message::parse(bytes.clone()).unwrap()).collect()
    }

    /// Sends a request; its final answer within ten seconds.
    fn answer(&self, pool: &mut Pool, at: usize, message: Bytes) -> Message {
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
    fn ask(&mut self, pool: &mut Pool, at: usize, method: &Method, to: &str, lines: &[(&str, &str)]) -> Message {
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

    fn register(&mut self, pool: &mut Pool, at: usize) -> Option<u16> {
        let user = self.user;
        self.ask(pool, at, &Method::Register, user, &[("Expires", "600")]).status()
    }
}

fn pool_with(users: &[&str]) -> Pool {
    let mut pool = Pool::of(3);
    for (n, user) in users.iter().enumerate() {
        let (user, password) = ((*user).to_owned(), PASSWORD.to_owned());
        pool.must(n % 3, Command::UserAdd { user, password, display_name: None, pool: Some("east".into()) });
    }
    pool
}

/// A server that does not lead the group of a user.
fn follower(pool: &Pool, user: &str) -> usize {
    let leader = leader(pool, user);
    (leader + 1) % 3
}

fn leader(pool: &Pool, user: &str) -> usize {
    let leaders = pool.leaders(pool.group_of(user));
    assert_eq!(leaders.len(), 1, "one leads");
    leaders[0]
}

/// Accepts the next request to a phone at a server; what came.
fn accept(pool: &mut Pool, phone: &Phone, at: usize, from: usize) -> Message {
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
fn message(pool: &mut Pool, alice: &mut Phone, at: usize, bob: &Phone, bobs: usize) {
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

#[test]
fn whichever_server_is_asked_a_user_is_served_by_the_one_that_leads() {
    let mut pool = pool_with(&["alice", "bob", "carol"]);
    for user in ["alice", "bob", "carol"] {
        for at in 0..3 {
            let mut phone = Phone::udp(user, u8::try_from(at).unwrap() + 10);
            assert_eq!(phone.register(&mut pool, at), Some(200), "{user} at {at}");
        }
        let Reply::Where(found) = pool.must(follower(&pool, user), Command::UserWhere { user: user.into() }) else {
            panic!("no place");
        };
        assert_eq!((found.bindings.len(), found.place.as_str()), (3, "here"), "{user}");
    }
}

#[test]
fn a_message_finds_its_way_from_any_server_to_a_connection_of_another() {
    let mut pool = pool_with(&["alice", "bob"]);
    for bobs in 0..3 {
        let mut bob = Phone::tcp("bob", u8::try_from(bobs).unwrap() + 50);
        assert_eq!(bob.register(&mut pool, bobs), Some(200));
        for at in 0..3 {
            let mut alice = Phone::udp("alice", u8::try_from(at * 3 + bobs).unwrap() + 60);
            message(&mut pool, &mut alice, at, &bob, bobs);
        }
        bob.ask(&mut pool, bobs, &Method::Register, "bob", &[("Expires", "0")]);
    }
}

#[test]
fn when_the_leading_server_dies_its_users_are_served_on() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (dead, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let mut bob = Phone::tcp("bob", 7);
    assert_eq!(bob.register(&mut pool, at), Some(200));
    pool.kill(dead);
    let begun = pool.now;
    let mut alice = Phone::udp("alice", 8);
    message(&mut pool, &mut alice, 3 - dead - at, &bob, at);
    assert!(pool.now - begun < 3_000, "after {} ms", pool.now - begun);
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, at), Some(200));
    pool.start(dead);
    pool.run(2_000);
    message(&mut pool, &mut alice, dead, &bob, at);
}

#[test]
fn a_leading_server_that_stands_still_is_passed_by_and_does_not_answer_from_its_old_state() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (still, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    pool.freeze(still);
    let begun = pool.now;
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, at), Some(200));
    assert!(pool.now - begun < 3_000, "after {} ms", pool.now - begun);
    pool.run(6_000);
    pool.thaw(still);
    assert!(pool.leaders(pool.group_of("bob")).len() <= 1);
    let Reply::Where(found) = pool.must(still, Command::UserWhere { user: "bob".into() }) else { panic!("no place") };
    assert_eq!(found.bindings.len(), 1, "it asks who leads now");
}

#[test]
fn without_a_majority_users_are_served_in_limits_from_what_is_known() {
    let mut pool = pool_with(&["alice", "bob"]);
    let last = 0;
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, last), Some(200));
    pool.kill(1);
    pool.kill(2);
    pool.run(6_000);
    let mut bob = Phone::udp("bob", 9);
    let guest = bob.ask(&mut pool, last, &Method::Register, "bob", &[("Expires", "600")]);
    assert_eq!(guest.status(), Some(200));
    assert!(
        pool.ask(
            last,
            Command::SettingsPut { user: "bob".into(), display_name: Some("Bob".into()), forward_to: None, note: None }
        )
        .is_err()
    );
    pool.start(1);
    pool.run(3_000);
    assert!(leader(&pool, "bob") < 2);
    assert_eq!(Phone::udp("bob", 10).register(&mut pool, 1), Some(200));
}

/// A call of two phones, as the caller sees it.
struct Call {
    /// Route set and tag of the far end, for either side.
    caller: Dialog,
    callee: Dialog,
}

/// What one side of a call puts into its requests.
#[derive(Clone)]
struct Dialog {
    call_id: String,
    routes: Vec<String>,
    target: String,
    from: String,
    to: String,
    cseq: u32,
}

impl Dialog {
    fn request(&mut self, method: &Method, phone: &Phone, branch: &str) -> Bytes {
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

fn texts<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

/// Sets a call up from a phone at one server to one at another.
fn call(pool: &mut Pool, (alice, at): (&mut Phone, usize), (bob, bobs): (&Phone, usize)) -> Call {
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
fn in_call(
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

#[test]
fn a_call_goes_on_whichever_other_server_dies() {
    // Bob keeps a connection to his server; alice is on datagrams, so that any server reaches her.
    for dead in 0..3 {
        let mut pool = pool_with(&["alice", "bob"]);
        let bobs = (dead + 1) % 3;
        let third = (dead + 2) % 3;
        let (mut alice, mut bob) = (Phone::udp("alice", 8), Phone::tcp("bob", 7));
        assert_eq!((alice.register(&mut pool, dead), bob.register(&mut pool, bobs)), (Some(200), Some(200)));
        let mut call = call(&mut pool, (&mut alice, dead), (&bob, bobs));
        pool.kill(dead);
        in_call(&mut pool, &Method::Update, &mut call.caller, (&alice, third), (&bob, bobs));
        in_call(&mut pool, &Method::Update, &mut call.callee, (&bob, bobs), (&alice, bobs));
        in_call(&mut pool, &Method::Bye, &mut call.caller, (&alice, third), (&bob, bobs));
    }
}

#[test]
fn a_call_between_two_connections_goes_on_when_the_server_between_dies() {
    let mut pool = pool_with(&["alice", "bob"]);
    let dead = leader(&pool, "bob");
    let (a, b) = ((dead + 1) % 3, (dead + 2) % 3);
    let (mut alice, mut bob) = (Phone::tcp("alice", 8), Phone::tcp("bob", 7));
    assert_eq!((alice.register(&mut pool, a), bob.register(&mut pool, b)), (Some(200), Some(200)));
    let mut call = call(&mut pool, (&mut alice, a), (&bob, b));
    pool.kill(dead);
    in_call(&mut pool, &Method::Update, &mut call.caller, (&alice, a), (&bob, b));
    in_call(&mut pool, &Method::Bye, &mut call.callee, (&bob, b), (&alice, a));
}

fn drain(server: usize) -> Command {
    Command::ServerDrain { server: format!("fe{}.east.pairline.test", server + 1), seconds: 20 }
}

/// How many groups a server leads.
fn led(pool: &Pool, at: usize) -> usize {
    pool.fronts[at]
        .node
        .as_ref()
        .unwrap()
        .inspect(|core| core.host.groups().into_iter().filter(|group| core.host.leads(*group)).count())
}

#[test]
fn a_drained_server_leads_nothing_and_serves_on_until_it_is_stopped() {
    let mut pool = pool_with(&["alice", "bob"]);
    pool.until("it leads something", |pool| led(pool, 0) > 0);
    pool.must(2, drain(0));
    assert_eq!(led(&pool, 0), 0);
    assert_eq!(Phone::udp("bob", 9).register(&mut pool, 0), Some(200), "by way of who leads");
    pool.run(10_000);
    assert_eq!(led(&pool, 0), 0, "it takes none back by itself");
    let restart = pool.ask(1, Command::ServerRestart { server: "fe2.east.pairline.test".into() }).unwrap_err();
    assert_eq!(restart.kind, "not-drained");
    pool.must(0, Command::ServerUndrain { server: "fe1.east.pairline.test".into() });
    pool.until("it leads again", |pool| led(pool, 0) > 0);
}

#[test]
fn a_server_that_the_pool_cannot_do_without_is_not_drained() {
    let mut pool = pool_with(&["alice"]);
    pool.kill(2);
    pool.run(3_000);
    let before = led(&pool, 0);
    let problem = pool.ask(1, drain(0)).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (409, "cannot-drain"));
    assert!(problem.detail.contains("fe3.east.pairline.test does not answer"), "{}", problem.detail);
    assert_eq!(led(&pool, 0), before, "nothing has changed");
    let unknown = pool.ask(0, Command::ServerDrain { server: "fe9".into(), seconds: 5 }).unwrap_err();
    assert_eq!(unknown.kind, "no-such-server");
}

#[test]
fn a_call_that_waited_while_a_server_stood_still_does_not_ring_when_it_goes_on() {
    let mut pool = pool_with(&["alice", "bob"]);
    let (still, at) = (leader(&pool, "bob"), follower(&pool, "bob"));
    let other = 3 - still - at;
    let mut bob = Phone::tcp("bob", 7);
    assert_eq!(bob.register(&mut pool, at), Some(200));
    // The server that leads bob's group stands still; the call goes there first, and then by who leads next.
    let mut alice = Phone::udp("alice", 8);
    assert_eq!(alice.register(&mut pool, other), Some(200));
    pool.freeze(still);
    let before = pool.fronts[at].sip.len();
    call(&mut pool, (&mut alice, other), (&bob, at));
    pool.run(8_000);
    pool.thaw(still);
    pool.run(3_000);
    let invites = bob.got(&pool, at, before);
    let invites = invites.iter().filter(|m| m.is_request() && *m.method() == Method::Invite).count();
    assert_eq!(invites, 1, "bob is called once");
    message(&mut pool, &mut alice, still, &bob, at);
}

#[test]
fn a_server_that_finds_the_others_again_waits_for_who_leads_instead_of_taking_guests() {
    let mut pool = pool_with(&["bob"]);
    let alone = follower(&pool, "bob");
    let others = [(alone + 1) % 3, (alone + 2) % 3];
    others.iter().for_each(|other| pool.cut(alone, *other));
    pool.run(8_000);
    let register = |pool: &mut Pool, host| {
        let mut phone = Phone::udp("bob", host);
        let granted = phone.ask(pool, alone, &Method::Register, "bob", &[("Expires", "600")]);
        assert_eq!(granted.status(), Some(200));
    };
    let guests = |pool: &mut Pool| match pool.must(alone, Command::UserWhere { user: "bob".into() }) {
        Reply::Where(found) => found.bindings.iter().filter(|binding| binding.guest).count(),
        other => panic!("{other:?}"),
    };
    register(&mut pool, 9);
    assert_eq!(guests(&mut pool), 1, "alone it serves in limits");
    others.iter().for_each(|other| pool.connect(alone, *other));
    register(&mut pool, 10);
    let Reply::Where(found) = pool.must(others[0], Command::UserWhere { user: "bob".into() }) else {
        panic!("no place")
    };
    assert!(found.bindings.iter().any(|b| !b.guest && b.flow.contains("192.0.2.10")), "{found:?}");
}
