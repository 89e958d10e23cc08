//! What a stranger can learn of who exists, from the answers alone: nothing. svwar and svcrack ask for every name by REGISTER,
//! INVITE and OPTIONS, and compare.
//!
//! Owns the comparison: status, header names, their order and their sizes. How long an answer takes is measured against a
//! running server (`cargo xtask bench enumeration`).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, last};
use common::{Fake, Task, WEST, aor, flow, group_of, peer_flow};
use pairline_services::cx::{Place, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_sip::flow::Transport;
use pairline_sip::message::Message;

const METHODS: [&str; 9] =
    ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "BYE", "REFER", "PUBLISH", "FANCY"];

/// What a method needs beside, to be more than refused at once.
fn needs(method: &str) -> &'static [&'static str] {
    match method {
        "MESSAGE" => &["Content-Type: text/plain"],
        "SUBSCRIBE" => &["Event: reg", "Contact: <sip:e@127.0.0.1:5070>"],
        _ => &[],
    }
}

/// What is known of a name, and what becomes of a request of its; all names are five letters long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nobody.
    Nobody,
    /// Nobody, and who stands in is served by the other pool.
    Stranger,
    /// Served here.
    Here,
    /// Served by the other pool.
    Elsewhere,
    /// Served by the other pool, which the link does not reach just now.
    LinkDown,
    /// Served by the other pool, which does not answer.
    Silent,
    /// The other pool is known to be away, and there is a readable copy.
    Resiliency,
    /// The other pool is known to be away.
    Unavailable,
}

use Known::{Elsewhere, Here, LinkDown, Nobody, Resiliency, Silent, Stranger, Unavailable};

const ALL: [Known; 8] = [Nobody, Stranger, Here, Elsewhere, LinkDown, Silent, Resiliency, Unavailable];

impl Known {
    fn name(self) -> &'static str {
        match self {
            Nobody => "zelda",
            // Carol is the next one in the alphabet.
            Stranger => "brian",
            Here => "alice",
            _ => "carol",
        }
    }

    fn world(self) -> Fake {
        let fake = Fake::new();
        let carol = aor("sip:carol@pairline.test");
        let group = group_of(WEST, &carol);
        match self {
            Resiliency => fake.set_place(&carol, Place::Resiliency { group }),
            Unavailable => fake.set_place(&carol, Place::Unavailable { group: Some(group), pool: WEST }),
            LinkDown => fake.0.borrow_mut().peer_up = false,
            _ => {}
        }
        fake
    }
}

/// Status and headers with their sizes; what is random has a fixed size.
type Shape = (u16, Vec<(String, usize)>);

fn shape(reply: &Message) -> Shape {
    let lines = reply.headers_raw().map(|(_, name, value)| (String::from_utf8_lossy(name).into_owned(), value.len()));
    (reply.status().unwrap(), lines.collect())
}

/// The other pool's server, asked over the link: there the user is at home.
fn west(request: &Message) -> Message {
    let west = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    west.edit_view(|view| view.own.pool = WEST);
    west.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
    let task = Task::start(&west, request.clone(), peer_flow());
    assert!(!task.is_running(), "answered at once");
    last(&west).1
}

/// The final answer to a request, with all that it takes to get it.
fn answer(known: Known, fake: &Fake, phone: &Client, method: &str, uri: &str, extra: &[&str]) -> Message {
    let body = if method == "MESSAGE" { "hi" } else { "" };
    let lines = [extra, needs(method)].concat();
    let mut request = phone.message(method, uri, &format!("<{uri}>"), &lines, body);
    request.set_source(phone.flow.remote);
    let before = fake.0.borrow().responses.len();
    let mut task = Task::start(fake, request, phone.flow);
    if task.is_running() {
        let (branch, hop, sent) = fake.0.borrow().sent.last().unwrap().clone();
        assert_eq!(hop.transport, Transport::Peer, "asked is the other pool and nobody else");
        match known {
            Silent => task.deliver(TaskEvent::Timeout(branch)),
            _ => task.deliver(TaskEvent::Response(branch, west(&sent))),
        }
        assert!(!task.is_running());
    }
    let (status, reply) = last(fake);
    if matches!(status, 401 | 407) {
        assert_eq!(fake.0.borrow().responses.len(), before + 1, "{method} {known:?}: no 100 before it either");
    }
    reply
}

/// The name asks for itself, as the scanners do, or for somebody else.
fn uri(method: &str, to: &str) -> String {
    if method == "REGISTER" { format!("sip:{to}@pairline.test;x=y") } else { format!("sip:{to}@pairline.test") }
}

#[test]
fn without_credentials_all_names_look_the_same_and_are_answered_here() {
    for method in METHODS {
        for transport in [Transport::Udp, Transport::Tcp] {
            let ask = |known: Known, to: &str| {
                let fake = known.world();
                let mut phone = client(known.name());
                phone.call_id = "same".into();
                phone.flow = flow(transport, "127.0.0.1:7001", u64::from(transport == Transport::Tcp));
                let reply = answer(known, &fake, &phone, method, &uri(method, to), &[]);
                assert!(
                    fake.0.borrow().sent.is_empty(),
                    "{method} {known:?}: nobody else is asked, so it takes no longer"
                );
                (shape(&reply), fake.0.borrow().once, fake.count_of(Counter::AuthChallenge))
            };
            let nobody = ask(Nobody, "zelda");
            for known in ALL {
                assert_eq!(ask(known, known.name()), nobody, "{method} by {known:?}");
            }
            // The name in the request is that of the called user.
            let called = |to: &str| ask(Here, to).0;
            if method != "REGISTER" {
                assert_eq!(called("alice"), called("zelda"), "{method} to alice");
                assert_eq!(called("carol"), called("zelda"), "{method} to carol");
            }
        }
    }
}

/// The challenge that a name gets, answered with a password.
fn guessed(known: Known, method: &str, password: &'static str) -> (Shape, u64) {
    guessed_with(known, method, password, &[])
}

/// The same with more lines in both requests.
fn guessed_with(known: Known, method: &str, password: &'static str, lines: &[&str]) -> (Shape, u64) {
    let fake = known.world();
    let mut phone = client(known.name());
    phone.call_id = "same".into();
    phone.password = password;
    let uri = uri(method, known.name());
    let challenge = answer(known, &fake, &phone, method, &uri, lines);
    let (header, name) = match challenge.status() {
        Some(401) => (challenge.header_named("WWW-Authenticate"), "Authorization"),
        Some(407) => (challenge.header_named("Proxy-Authenticate"), "Proxy-Authorization"),
        // Not asked for a password at all: what the test above compares.
        _ => return (shape(&challenge), 0),
    };
    phone.cseq += 1;
    let line = phone.authorization(header.unwrap(), name, method, &uri, 1);
    let reply = answer(known, &fake, &phone, method, &uri, &[&[&*line], lines].concat());
    (shape(&reply), fake.count_of(Counter::AuthAccepted))
}

/// Alice's or zelda's credentials in a request that comes from another name, which is also the one in To.
fn with_credentials_of(name: &'static str, known: Known, method: &str, password: &'static str) -> Shape {
    let fake = known.world();
    let from = match known {
        // Another one than alice.
        Here => "sip:bobby@pairline.test",
        Nobody => "sip:zelda@pairline.test",
        Stranger => "sip:brian@pairline.test",
        _ => "sip:carol@pairline.test",
    };
    if known == Here {
        let bobby = aor("sip:bobby@pairline.test");
        fake.set_place(&bobby, Place::Here { group: group_of(common::EAST, &bobby) });
        fake.set_password(&bobby, group_of(common::EAST, &bobby));
    }
    let mut phone = client(name);
    phone.call_id = "same".into();
    phone.password = password;
    phone.from = Some(from);
    let uri = if method == "REGISTER" { format!("{from};x=y") } else { from.to_owned() };
    let header = if matches!(method, "REGISTER" | "SUBSCRIBE") { "Authorization" } else { "Proxy-Authorization" };
    let nonce = pairline_sip::auth::issue_nonce(&common::view().nonce_keys, common::WALL + 1_000, 7);
    let challenge = format!("Digest realm=\"pairline.test\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"");
    let line = phone.authorization(challenge.as_bytes(), header, method, &uri, 1);
    let reply = answer(known, &fake, &phone, method, &uri, &[&line]);
    assert!(fake.0.borrow().sent.is_empty(), "{method} {known:?}: weighed where it arrives");
    assert_eq!(fake.count_of(Counter::AuthAccepted), 0);
    shape(&reply)
}

/// Whoever has one user's password does not learn by it which other names exist, nor where they are served.
#[test]
fn credentials_of_one_user_tell_nothing_of_another() {
    for method in ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "FANCY"] {
        let right = with_credentials_of("alice", Nobody, method, "secret");
        assert_eq!(right.0, 403, "{method}: whose password it is learns what is wrong");
        let wrong = with_credentials_of("alice", Nobody, method, "guess!");
        let nobodys = with_credentials_of("yorik", Nobody, method, "secret");
        let challenge = if matches!(method, "REGISTER" | "SUBSCRIBE") { 401 } else { 407 };
        assert_eq!((wrong.0, nobodys.0), (challenge, challenge), "{method}");
        for known in ALL {
            assert_eq!(with_credentials_of("alice", known, method, "secret"), right, "{method} from {known:?}");
            assert_eq!(with_credentials_of("alice", known, method, "guess!"), wrong, "{method} from {known:?}");
            assert_eq!(with_credentials_of("yorik", known, method, "secret"), nobodys, "{method} from {known:?}");
        }
    }
}

#[test]
fn a_wrong_password_and_no_such_user_look_the_same() {
    for method in METHODS {
        let nobody = guessed(Nobody, method, "secret");
        assert_eq!(nobody.1, 0);
        for known in ALL {
            assert_eq!(guessed(known, method, "guess!"), nobody, "{method}: {known:?} with a wrong password");
        }
        assert_eq!(guessed(Nobody, method, "guess!"), nobody, "{method}: nobody has a right password");
        // No breadth is left to go to the other pool (RFC 5393), which is not the first thing that is looked at.
        let narrow = |known| guessed_with(known, method, "guess!", &["Max-Breadth: 0"]);
        for known in ALL {
            assert_eq!(narrow(known), nobody, "{method}: {known:?} with no breadth");
        }
    }
}

/// The other side of it: who has proven to be that user learns that the pool is away.
#[test]
fn the_user_itself_is_told() {
    for known in [LinkDown, Silent, Unavailable] {
        for method in ["REGISTER", "INVITE", "MESSAGE"] {
            let (shape, accepted) = guessed(known, method, "secret");
            // RFC 4320 has no 408 for anything but INVITE.
            let silence = if method == "INVITE" { 408 } else { 480 };
            let passed_on = known == Silent && method != "REGISTER";
            assert_eq!(shape.0, if passed_on { silence } else { 500 }, "{method} {known:?}");
            assert_eq!(accepted, u64::from(!passed_on), "{method} {known:?}: used up only where nobody else will");
        }
    }
    assert_eq!(guessed(Here, "REGISTER", "secret").0.0, 200);
}

/// Whoever stands in for a name cannot use it: the stand-in's own password opens nothing, whatever user name is written beside.
#[test]
fn a_stand_in_is_not_let_in_under_the_name_of_nobody() {
    for (name, from) in [("carol", "sip:brian@pairline.test"), ("alice", "sip:zelda@pairline.test")] {
        for method in ["REGISTER", "INVITE", "SUBSCRIBE"] {
            let fake = Fake::new();
            // Where the stand-in is at home, too.
            let carol = aor("sip:carol@pairline.test");
            fake.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
            let mut phone = client(name);
            phone.from = Some(from);
            let nonce = pairline_sip::auth::issue_nonce(&common::view().nonce_keys, common::WALL + 1_000, 7);
            let challenge =
                format!("Digest realm=\"pairline.test\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"");
            let uri = uri(method, &from[4..9]);
            let header = if method == "INVITE" { "Proxy-Authorization" } else { "Authorization" };
            let line = phone.authorization(challenge.as_bytes(), header, method, &uri, 1);
            let line = line.replace(&format!("username=\"{name}\""), &format!("username=\"{}\"", &from[4..9]));
            let reply = answer(Nobody, &fake, &phone, method, &uri, &[&line]);
            let challenged = if method == "INVITE" { 407 } else { 401 };
            assert_eq!(reply.status(), Some(challenged), "{method} as {from} with the password of {name}");
            assert_eq!((fake.count_of(Counter::AuthAccepted), fake.count_of(Counter::AuthStale)), (0, 0));
        }
    }
}

/// A nonce that is somebody else's, too old, or made up: the same for all names.
#[test]
fn a_bad_nonce_tells_nothing_either() {
    let with = |known: Known, nonce: &str| {
        let fake = known.world();
        let mut phone = client(known.name());
        phone.call_id = "same".into();
        let challenge = format!("Digest realm=\"pairline.test\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"");
        let uri = uri("REGISTER", known.name());
        phone.password = "guess!";
        let line = phone.authorization(challenge.as_bytes(), "Authorization", "REGISTER", &uri, 1);
        shape(&answer(known, &fake, &phone, "REGISTER", &uri, &[&line]))
    };
    let old = pairline_sip::auth::issue_nonce(&common::view().nonce_keys, common::WALL - 10_000_000, 7);
    for nonce in [old.as_str(), "0102", ""] {
        for known in ALL {
            assert_eq!(with(known, nonce), with(Nobody, nonce), "{known:?}, nonce {nonce:?}");
        }
    }
}
