//! Who may send what: method × credentials × transport (DESIGN §11, RFC 8760).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, last, statuses};
use common::{Fake, Task, WEST, aor, group_of, now, peer_flow};
use pairline_services::auth::{HttpVerdict, http_digest};
use pairline_services::cx::Place;
use pairline_services::metrics::Counter;
use pairline_sip::auth::{Algorithm, Challenge, NONCE_PERIOD_MS, NonceKeys, answer};
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::message::Message;

const BOB: &str = "sip:bob@pairline.test";

/// One request without credentials and the status it gets.
fn first_answer(fake: &Fake, phone: &Client, method: &str, uri: &str, extra: &[&str]) -> u16 {
    let body = if method == "MESSAGE" { "hi" } else { "" };
    let mut lines = extra.to_vec();
    if method == "MESSAGE" {
        lines.push("Content-Type: text/plain");
    }
    let task = Task::start(fake, phone.message(method, uri, "<sip:bob@pairline.test>", &lines, body), phone.flow);
    let sent = fake.0.borrow().sent.len();
    if task.is_running() && sent > 0 { 0 } else { last(fake).0 }
}

#[test]
fn what_an_unauthenticated_sender_gets_by_method() {
    let table = [
        ("REGISTER", "sip:pairline.test", 401),
        ("INVITE", BOB, 407),
        ("MESSAGE", BOB, 407),
        ("OPTIONS", BOB, 407),
        ("REFER", BOB, 407),
        ("INFO", BOB, 407),
        ("BYE", BOB, 407),
        ("UPDATE", BOB, 407),
        ("FANCY", BOB, 407),
        ("FANCY", "sip:pairline.test", 501),
        ("OPTIONS", "sip:pairline.test", 200),
        ("OPTIONS", "sip:127.0.1.1", 200),
        ("INVITE", "sip:pairline.test", 404),
        ("SUBSCRIBE", BOB, 489),
        ("NOTIFY", BOB, 489),
        ("PUBLISH", BOB, 405),
        ("INVITE", "http://pairline.test", 416),
        ("CANCEL", BOB, 481),
    ];
    for (method, uri, expected) in table {
        let fake = Fake::new();
        assert_eq!(first_answer(&fake, &client("alice"), method, uri, &[]), expected, "{method} {uri}");
    }
}

#[test]
fn callers_by_from_transport_and_assertion() {
    let peer: fn() -> Flow = peer_flow;
    let outside: fn() -> Flow = || common::udp("127.0.0.1:7001");
    let pai = "P-Asserted-Identity: <sip:carol@pairline.test>";
    // (From, flow, extra header, expected; 0 = forwarded)
    type Case = (&'static str, fn() -> Flow, &'static str, u16);
    let table: [Case; 9] = [
        ("sip:alice@pairline.test", outside, "X-A: b", 407),
        ("sip:alice@pairline.test", outside, pai, 407),
        ("sip:nobody@pairline.test", outside, "X-A: b", 407),
        ("sip:mallory@evil.example", outside, "X-A: b", 403),
        ("sip:mallory@evil.example", outside, pai, 403),
        ("sip:anonymous@anonymous.invalid", outside, "Privacy: id", 407),
        ("sip:carol@pairline.test", peer, pai, 480),
        ("sip:alice@pairline.test", peer, "X-A: b", 407),
        ("sip:mallory@evil.example", peer, "X-A: b", 403),
    ];
    for (from, flow, extra, expected) in table {
        let fake = Fake::new();
        let mut phone = client("alice");
        phone.from = Some(from);
        phone.flow = flow();
        assert_eq!(first_answer(&fake, &phone, "INVITE", BOB, &[extra]), expected, "{from} {extra}");
    }
}

#[test]
fn unknown_user_and_wrong_password_look_the_same() {
    let answer_to = |user: &'static str, password: &'static str| {
        let fake = Fake::new();
        let mut phone = client(user);
        phone.call_id = "same".into();
        phone.password = password;
        let (status, reply) = phone.register(&fake, &["Contact: <sip:x@127.0.0.1:7001>"]);
        let text = String::from_utf8(reply.as_bytes().to_vec()).unwrap();
        (status, text.replace(user, "USER").len(), fake.count_of(Counter::AuthFailed))
    };
    let unknown = answer_to("zelda", "secret");
    let wrong = answer_to("alice", "guess!");
    assert_eq!(unknown.0, 401);
    assert_eq!(unknown, wrong);
}

#[test]
fn a_challenge_tells_nothing_of_whether_and_where_the_user_is() {
    let fake = Fake::new();
    let carol = aor("sip:carol@pairline.test");
    fake.set_place(&carol, Place::Unavailable { group: Some(group_of(WEST, &carol)), pool: WEST });
    let before = fake.0.borrow().once;
    let tags: std::collections::BTreeSet<Vec<u8>> = ["alice", "alice", "carol", "carol", "nobody", "nobody"]
        .into_iter()
        .flat_map(|user| ["REGISTER", "MESSAGE"].map(|method| (user, method)))
        .map(|(user, method)| {
            let phone = client(user);
            let to = format!("<sip:{user}@pairline.test>");
            let uri = if method == "MESSAGE" { BOB } else { "sip:pairline.test" };
            assert!(!Task::start(&fake, phone.message(method, uri, &to, &[], ""), phone.flow).is_running());
            let (status, reply) = last(&fake);
            assert_eq!(status, if method == "MESSAGE" { 407 } else { 401 }, "{user}");
            reply.to().tag().unwrap().to_vec()
        })
        .collect();
    assert_eq!(tags.len(), 12, "each random, however alike the requests are");
    assert_eq!(fake.0.borrow().once - before, 12, "and kept nowhere");
    // A wrong password too; only carol herself learns that her pool is away.
    for (password, expected) in [("guess", 401), ("secret", 500)] {
        let mut phone = client("carol");
        phone.password = password;
        assert_eq!(phone.register(&fake, &["Contact: <sip:x@127.0.0.1:7001>"]).0, expected);
    }
}

#[test]
fn the_algorithm_depends_on_the_user_agent_alone() {
    for (agent, user, expected) in [
        ("TestPhone", "alice", Algorithm::Sha256),
        ("TestPhone", "nobody", Algorithm::Sha256),
        ("baresip v1", "alice", Algorithm::Md5),
        ("baresip v1", "nobody", Algorithm::Md5),
    ] {
        let fake = Fake::new();
        let mut phone = client("alice");
        phone.agent = agent;
        let task = Task::start(
            &fake,
            phone.message("REGISTER", "sip:pairline.test", &format!("<sip:{user}@pairline.test>"), &[], ""),
            phone.flow,
        );
        assert!(!task.is_running());
        let (status, reply) = last(&fake);
        assert_eq!((status, reply.headers(pairline_sip::header::Name::WwwAuthenticate).count()), (401, 1));
        let value = reply.header_named("WWW-Authenticate").unwrap();
        assert_eq!(Challenge::parse(value).unwrap().algorithm, expected);
        if user == "alice" {
            assert_eq!(phone.register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]).0, 200);
        }
    }
}

/// The algorithm that a REGISTER without credentials is offered.
fn offered(fake: &Fake, phone: &Client, line: &str) -> Algorithm {
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[line], "");
    assert!(!Task::start(fake, request, phone.flow).is_running());
    Challenge::parse(last(fake).1.header_named("WWW-Authenticate").unwrap()).unwrap().algorithm
}

#[test]
fn a_listeners_rule_holds_for_what_arrived_there_also_over_the_link() {
    let fake = Fake::new();
    fake.edit_view(|view| {
        view.auth_rules[0].user_agent = "oldphone".into();
        view.auth_rules[0].listener = Some(2);
    });
    let mut phone = client("alice");
    phone.agent = "OldPhone/3";
    assert_eq!(offered(&fake, &phone, "X-A: b"), Algorithm::Sha256, "another listener");
    phone.flow = common::flow(Transport::Tcp, "127.0.0.1:7001", 4);
    assert_eq!(offered(&fake, &phone, "X-A: b"), Algorithm::Md5, "whatever the case");
    // For a user of the other pool the arrival's algorithm goes along.
    let mut carol = client("carol");
    carol.agent = "OldPhone/3";
    for (flow, said, expected) in [
        (common::flow(Transport::Tcp, "127.0.0.1:7001", 4), &b"MD5"[..], Algorithm::Md5),
        (common::udp("127.0.0.1:7001"), &b"SHA-256"[..], Algorithm::Sha256),
    ] {
        carol.flow = flow;
        let task = carol.request(&fake, "REGISTER", "sip:pairline.test", "<sip:carol@pairline.test>", &[], "");
        assert!(task.is_running());
        let sent = fake.0.borrow().sent.last().unwrap().2.clone();
        assert_eq!(sent.via().param("alg"), Some(said));
        let west = Fake::new();
        let carol_there = aor("sip:carol@pairline.test");
        west.set_place(&carol_there, Place::Here { group: group_of(WEST, &carol_there) });
        west.edit_view(|view| view.auth_rules = fake.0.borrow().view.auth_rules.clone());
        assert!(!Task::start(&west, sent, peer_flow()).is_running());
        assert_eq!(last(&west).0, 200, "an answer by {expected:?} is what west wants of it");
    }
    // Whoever says it outside the link is not heard.
    let mut text = String::from_utf8(phone.bytes("REGISTER", "sip:pairline.test", BOB, &[], "").to_vec()).unwrap();
    text = text.replace(";rport", ";rport;alg=MD5");
    let request = Message::parse(text.into()).unwrap();
    assert!(!Task::start(&fake, request, common::udp("127.0.0.1:7001")).is_running());
    let value = last(&fake).1.header_named("WWW-Authenticate").unwrap().to_vec();
    assert_eq!(Challenge::parse(&value).unwrap().algorithm, Algorithm::Sha256);
}

#[test]
fn an_md5_answer_to_a_sha_256_challenge_is_refused() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let task = Task::start(
        &fake,
        phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[], ""),
        phone.flow,
    );
    assert!(!task.is_running());
    let (_, reply) = last(&fake);
    let mut challenge = Challenge::parse(reply.header_named("WWW-Authenticate").unwrap()).unwrap();
    challenge.algorithm = Algorithm::Md5;
    let line = format!("Authorization: {}", answer(&challenge, "alice", "secret", "REGISTER", "sip:x", "cn", 1));
    phone.cseq += 1;
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[&line], "");
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    assert_eq!(last(&fake).0, 401);
}

/// A REGISTER with an Authorization that answers `challenge` with a nonce count.
fn register_with(fake: &Fake, phone: &mut Client, challenge: &[u8], nc: u32) -> (u16, Message) {
    phone.cseq += 1;
    let line = phone.authorization(challenge, "Authorization", "REGISTER", "sip:127.0.1.1:5060", nc);
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[&line], "");
    assert!(!Task::start(fake, request, phone.flow).is_running());
    last(fake)
}

#[test]
fn a_nonce_lives_for_a_time_and_each_count_once() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[], "");
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    let challenge = last(&fake).1.header_named("WWW-Authenticate").unwrap().to_vec();
    // The digest's URI is the server's address, not the Request-URI: clients do that.
    assert_eq!(register_with(&fake, &mut phone, &challenge, 1).0, 200);
    assert_eq!(register_with(&fake, &mut phone, &challenge, 2).0, 200);
    let stale = |(status, reply): (u16, Message)| {
        status == 401 && Challenge::parse(reply.header_named("WWW-Authenticate").unwrap()).unwrap().stale
    };
    assert!(stale(register_with(&fake, &mut phone, &challenge, 2)), "replayed count");
    fake.0.borrow_mut().mono += 60_001;
    assert!(stale(register_with(&fake, &mut phone, &challenge, 3)), "expired nonce");
    fake.edit_view(|view| view.nonce_keys = NonceKeys::new([8; 32], None));
    assert!(stale(register_with(&fake, &mut phone, &challenge, 4)), "unknown nonce");
    phone.password = "wrong";
    assert!(!stale(register_with(&fake, &mut phone, &challenge, 5)), "a wrong digest is never called stale");
    assert_eq!(fake.count_of(Counter::AuthStale), 3);
}

#[test]
fn a_nonce_outlives_one_rotation_of_keys_and_not_two() {
    let fake = Fake::new();
    fake.edit_view(|view| view.nonce_life_ms = u64::MAX);
    let mut phone = client("alice");
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[], "");
    assert!(!Task::start(&fake, request, phone.flow).is_running());
    let challenge = last(&fake).1.header_named("WWW-Authenticate").unwrap().to_vec();
    fake.0.borrow_mut().mono += NONCE_PERIOD_MS;
    assert_eq!(register_with(&fake, &mut phone, &challenge, 1).0, 200, "signed with the key of the period before");
    fake.0.borrow_mut().mono += NONCE_PERIOD_MS;
    let (status, reply) = register_with(&fake, &mut phone, &challenge, 2);
    assert_eq!(status, 401);
    let fresh = reply.header_named("WWW-Authenticate").unwrap().to_vec();
    assert!(Challenge::parse(&fresh).unwrap().stale, "two periods ago: asked again without asking for the password");
    assert_eq!(register_with(&fake, &mut phone, &fresh, 1).0, 200);
}

#[test]
fn from_must_be_the_authenticated_identity() {
    let fake = Fake::new();
    let mut phone = client("alice");
    phone.from = Some("sip:dave@pairline.test");
    let task = phone.invite(&fake, "bob");
    assert!(!task.is_running());
    assert_eq!(statuses(&fake), [403], "alice's password does not prove dave");
    assert!(fake.0.borrow().sent.is_empty());
}

#[test]
fn anonymous_callers_are_authenticated_and_stay_anonymous() {
    let fake = Fake::new();
    common::sip::device(&fake, "bob", "127.0.0.1:7101", "");
    let mut phone = client("alice");
    phone.from = Some("sip:anonymous@anonymous.invalid");
    let contact = "Contact: <sip:x@127.0.0.1:7001>";
    let task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[contact, "Privacy: id"], "");
    assert!(task.is_running());
    let sent = &fake.0.borrow().sent[0].2;
    assert!(!sent.has(pairline_sip::header::Name::PAssertedIdentity));
    assert!(!sent.has(pairline_sip::header::Name::ProxyAuthorization));
}

#[test]
fn a_caller_served_elsewhere_is_authenticated_there() {
    let fake = Fake::new();
    let mut phone = client("carol");
    let mut task = phone.invite(&fake, "bob");
    assert!(task.is_running());
    let (_, hop, sent) = fake.0.borrow().sent[0].clone();
    assert_eq!(hop, peer_flow());
    assert!(!sent.has(pairline_sip::header::Name::PAssertedIdentity));
    task.respond(0, 407, &[("Proxy-Authenticate", "Digest realm=\"pairline.test\", nonce=\"n\"")]);
    assert_eq!(statuses(&fake), [407]);
    assert_eq!(fake.0.borrow().once, 2, "kept nowhere, like our own challenge before it");
    assert!(!task.is_running());
    // In resiliency mode the readable copy decides.
    let carol = aor("sip:carol@pairline.test");
    fake.set_place(&carol, Place::Resiliency { group: group_of(WEST, &carol) });
    let task = client("carol").invite(&fake, "bob");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 480);
    // Nobody can tell: come back later.
    fake.set_place(&carol, Place::Unavailable { group: Some(group_of(WEST, &carol)), pool: WEST });
    let task = client("carol").invite(&fake, "bob");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 500);
}

#[test]
fn the_http_api_takes_the_same_passwords() {
    let fake = Fake::new();
    let HttpVerdict::Challenge(value) = now(http_digest(&fake, None, "GET", "/contacts")) else {
        panic!("no credentials, no entry");
    };
    let challenge = Challenge::parse(value.as_bytes()).unwrap();
    let header = answer(&challenge, "alice", "secret", "GET", "/contacts", "cn", 1);
    let verdict = now(http_digest(&fake, Some(header.as_bytes()), "GET", "/contacts"));
    assert_eq!(verdict, HttpVerdict::User(aor("sip:alice@pairline.test")));
    let refused = [
        now(http_digest(&fake, Some(header.as_bytes()), "GET", "/contacts")),
        now(http_digest(&fake, Some(header.as_bytes()), "PUT", "/contacts")),
        now(http_digest(&fake, Some(header.as_bytes()), "GET", "/settings")),
        now(http_digest(
            &fake,
            Some(answer(&challenge, "alice", "no", "GET", "/contacts", "cn", 2).as_bytes()),
            "GET",
            "/contacts",
        )),
        now(http_digest(
            &fake,
            Some(answer(&challenge, "zoe", "secret", "GET", "/contacts", "cn", 3).as_bytes()),
            "GET",
            "/contacts",
        )),
    ];
    assert!(refused.iter().all(|v| matches!(v, HttpVerdict::Challenge(_))));
}
