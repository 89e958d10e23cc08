//! Attacks by name: the vulnerabilities of other servers that services can have, each with the lesson it taught, and the attack
//! tests on registrar and proxy. Those that bytes alone carry out are in the SIP crate (`hostile`, `framing`), those against a
//! whole node in the node's (`hostile`), telling users apart in `telling_apart`.
//!
//! No test, since the feature is not there to be attacked:
//! - CVE-2026-25554 (an unverified claim in SQL): no JWT, no SQL anywhere.
//! - CVE-2023-49786, CVE-2023-51443 (DTLS): no media, no DTLS. The lesson, that a bad packet ends no session, is tested here.
//! - STIR/SHAKEN, XML bodies: neither is read. Bodies pass as they are.
//! - Subscription bombs: no event package is served yet (489, no state).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, device, last, statuses};
use common::{EAST, Fake, Task, flow, peer_flow, udp};
use pairline_group::ServerId;
use pairline_services::binding::FlowRef;
use pairline_services::metrics::Counter;
use pairline_services::routes::flow_token;
use pairline_sip::flow::Transport;
use pairline_sip::header::Name;
use pairline_sip::message::Message;

const ALICE: &str = "sip:alice@pairline.test";
const BOB: &str = "sip:bob@pairline.test";
/// Every method that a stranger may try; the server's own OPTIONS is the only thing that is free.
const METHODS: [&str; 16] = [
    "REGISTER",
    "INVITE",
    "BYE",
    "OPTIONS",
    "MESSAGE",
    "INFO",
    "REFER",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "UPDATE",
    "PRACK",
    "CANCEL",
    "ACK",
    "FANCY",
    "message",
];

/// A request without credentials; what it got, and whether anything was sent on.
fn strange(fake: &Fake, phone: &Client, method: &str, uri: &str, to: &str, extra: &[&str]) -> (Option<u16>, usize) {
    let before = fake.0.borrow().responses.len();
    let task = Task::start(fake, phone.message(method, uri, to, extra, ""), phone.flow);
    assert!(!task.is_running(), "{method}: a stranger holds nothing here");
    let world = fake.0.borrow();
    let status = world.responses[before..].iter().map(|(status, _)| *status).find(|status| *status != 100);
    (status, world.sent.len() + world.stateless.len())
}

/// FreeSWITCH took MESSAGE and SUBSCRIBE from anybody: what is not allowed is refused, method by method, by each way in.
#[test]
fn cve_2021_37624_cve_2021_41157_nothing_passes_without_a_password() {
    for method in METHODS {
        for transport in [Transport::Udp, Transport::Tcp, Transport::Peer] {
            for uri in [
                BOB,
                "sip:carol@pairline.test",
                "sip:zelda@pairline.test",
                "sip:x@elsewhere.example",
                "tel:+19005550100",
            ] {
                let fake = Fake::new();
                device(&fake, "bob", "127.0.0.1:7101", "");
                let mut phone = client("alice");
                phone.flow = flow(transport, "127.0.0.1:7001", 3);
                let target = if method == "REGISTER" { "sip:pairline.test" } else { uri };
                let (status, sent) = strange(&fake, &phone, method, target, &format!("<{uri}>"), &[]);
                assert_eq!(sent, 0, "{method} {uri} by {transport:?} is sent on");
                let refused = status.is_none_or(|status| (400..500).contains(&status));
                assert!(refused, "{method} {uri} by {transport:?}: {status:?}");
                assert_eq!(status.is_none(), method == "ACK", "{method}: every request but ACK is answered");
                assert!(fake.0.borrow().commits.len() <= 1, "nothing is stored but bob's device");
            }
        }
    }
}

/// Asterisk let a user who had proven to be one person write as another.
#[test]
fn cve_2025_47779_from_is_who_was_authenticated() {
    for method in ["MESSAGE", "INVITE", "OPTIONS", "REFER", "INFO"] {
        let fake = Fake::new();
        device(&fake, "bob", "127.0.0.1:7101", "");
        let mut phone = client("alice");
        phone.from = Some("sip:dave@pairline.test");
        let extra: &[&str] = &["Content-Type: text/plain"];
        let task = phone.request(&fake, method, BOB, &format!("<{BOB}>"), extra, "hi");
        assert!(!task.is_running());
        assert_eq!(statuses(&fake), [403], "{method} as dave with alice's password");
        assert!(fake.0.borrow().sent.is_empty());
    }
    // What says who calls is made here, whatever the caller says of itself.
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let forged = ["P-Asserted-Identity: <sip:dave@pairline.test>", "P-Preferred-Identity: <sip:dave@pairline.test>"];
    let _task = client("alice").request(&fake, "INVITE", BOB, &format!("<{BOB}>"), &forged, "");
    let sent = fake.0.borrow().sent[0].2.clone();
    let asserted: Vec<&[u8]> = sent.headers(Name::PAssertedIdentity).collect();
    assert_eq!(asserted, [format!("<{ALICE}>").as_bytes()]);
    assert!(!sent.has(Name::PPreferredIdentity));
}

/// Asterisk took everybody who matched nothing for one configured endpoint: who matches nothing is nobody.
#[test]
fn cve_2024_35190_who_matches_nothing_is_nobody() {
    let froms =
        ["sip:zelda@pairline.test", "sip:pairline.test", "sip:@pairline.test", "sip:x@127.0.0.1", "tel:+1", "urn:x:y"];
    for from in froms {
        for remote in ["127.0.0.1:5060", "127.0.1.1:5060", "127.0.2.1:5060"] {
            let fake = Fake::new();
            device(&fake, "bob", "127.0.0.1:7101", "");
            let mut phone = client("alice");
            phone.from = Some(from);
            phone.flow = udp(remote);
            let Ok(request) = Message::parse(phone.bytes("INVITE", BOB, &format!("<{BOB}>"), &[], "")) else {
                continue;
            };
            let task = Task::start(&fake, request, phone.flow);
            assert!(!task.is_running() && fake.0.borrow().sent.is_empty(), "{from} from {remote}");
            assert!(matches!(last(&fake).0, 400 | 403 | 407), "{from} from {remote}: {}", last(&fake).0);
        }
    }
}

/// FreeSWITCH answered the challenge of whoever asked; Asterisk answered a new nonce for ever. A challenge goes back to who can
/// answer it, once, and this server has no password of anybody's to answer with.
#[test]
fn cve_2021_41158_cve_2020_28242_challenges_are_passed_back_and_never_answered() {
    for (status, header) in [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")] {
        let fake = Fake::new();
        device(&fake, "bob", "127.0.0.1:7101", "");
        let mut task = client("alice").invite(&fake, "bob");
        let challenge = "Digest realm=\"pairline.test\", nonce=\"n1\", qop=\"auth\"";
        task.respond(0, status, &[(header, challenge)]);
        assert_eq!(fake.0.borrow().sent.len(), 1, "one request, however often it is challenged");
        assert_eq!(statuses(&fake), [status]);
        assert_eq!(last(&fake).1.header_named(header), Some(challenge.as_bytes()));
        assert!(!task.is_running());
        let sent = fake.0.borrow().sent[0].2.clone();
        assert!(!sent.has(Name::Authorization) && !sent.has(Name::ProxyAuthorization), "ours were taken out");
    }
}

/// FreeSWITCH let a MESSAGE choose an internal protocol and so run commands. Here no request leads to the administrator's side:
/// what looks like a way there is a user who does not exist, a scheme that is not spoken, or a body that nobody reads.
#[test]
fn cve_2026_116779_no_message_reaches_the_administrators_side() {
    for uri in
        ["api:status", "sip:api@pairline.test", "sip:admin@127.0.1.1", "sip:%61pi@east.pairline.test", "internal://x"]
    {
        let fake = Fake::new();
        let extra = ["Content-Type: application/json", "X-Proto: api", "Destination: api"];
        let body = "{\"command\":\"user-remove\",\"user\":\"alice\"}";
        let _task = client("alice").request(&fake, "MESSAGE", uri, &format!("<{uri}>"), &extra, body);
        assert!(matches!(last(&fake).0, 404 | 416), "{uri}: {}", last(&fake).0);
        let world = fake.0.borrow();
        assert!(world.sent.is_empty() && world.commits.is_empty(), "{uri}");
    }
}

/// A bad packet ends no call: neither an answer that belongs to nothing, nor a CANCEL of somebody else's.
#[test]
fn cve_2023_49786_a_bad_packet_ends_no_call() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let task = client("alice").invite(&fake, "bob");
    let sent = fake.0.borrow().sent[0].2.clone();
    let text = String::from_utf8(pairline_sip::Reply::to(&sent, 603).build().to_vec()).unwrap();
    let guessed = Message::parse(text.replacen("z9hG4bKpl", "z9hG4bKpl0", 1).into()).unwrap();
    pairline_services::dispatch::stateless(fake.clone(), guessed, udp("203.0.113.9:5060"));
    let stranger = client("dave").message("CANCEL", BOB, &format!("<{BOB}>"), &[], "");
    assert!(!Task::start(&fake, stranger, udp("203.0.113.9:5060")).is_running());
    assert_eq!(last(&fake).0, 481);
    assert!(task.is_running() && fake.0.borrow().cancelled.is_empty(), "the call goes on");
}

/// Registration hijack: somebody else's address, with and without a password of one's own.
#[test]
fn registrations_are_made_by_their_user_alone() {
    let contact = "Contact: <sip:thief@203.0.113.9>";
    for (to, from) in [(BOB, ALICE), (BOB, BOB), (ALICE, BOB)] {
        let fake = Fake::new();
        let mut thief = client("alice");
        thief.from = Some(if from == BOB { BOB } else { ALICE });
        let task = thief.request(&fake, "REGISTER", "sip:pairline.test", &format!("<{to}>"), &[contact], "");
        assert!(!task.is_running());
        let status = last(&fake).0;
        assert!(matches!(status, 401 | 403), "{from} registers {to}: {status}");
        assert!(fake.bindings(BOB).is_empty() && fake.bindings(ALICE).is_empty(), "{from} registers {to}");
    }
}

/// A REGISTER that was overheard does not put the old contact back: neither as it was, nor with its credentials in another.
#[test]
fn a_replayed_register_changes_nothing() {
    let fake = Fake::new();
    let mut phone = client("alice");
    let mut first = phone.clone();
    let (status, _) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7001>"]);
    assert_eq!(status, 200);
    // What the thief heard: the second request of that registration, made again word by word.
    first.cseq = phone.cseq;
    let challenge = {
        let probe = Fake::new();
        let mut probing = client("alice");
        probing.cseq = phone.cseq - 1;
        let request = probing.message("REGISTER", "sip:pairline.test", &format!("<{ALICE}>"), &[], "");
        assert!(!Task::start(&probe, request, probing.flow).is_running());
        last(&probe).1.header(Name::WwwAuthenticate).unwrap().to_vec()
    };
    let line = first.authorization(&challenge, "Authorization", "REGISTER", "sip:pairline.test", 1);
    let (status, _) = phone.register(&fake, &["Contact: <sip:alice@127.0.0.1:7009>;expires=60", "Expires: 60"]);
    assert_eq!(status, 200);
    let before = fake.bindings(ALICE);
    for contact in
        ["Contact: <sip:alice@127.0.0.1:7001>", "Contact: <sip:thief@203.0.113.9>", "Contact: *\r\nExpires: 0"]
    {
        let mut lines = vec![line.as_str(), contact];
        lines.push("X-Replay: yes");
        let request = first.message("REGISTER", "sip:pairline.test", &format!("<{ALICE}>"), &lines, "");
        assert!(!Task::start(&fake, request, udp("203.0.113.9:5060")).is_running());
        assert_ne!(last(&fake).0, 200, "{contact}: its nonce count is used up");
        assert_eq!(fake.bindings(ALICE), before, "{contact}");
    }
}

/// Line ends and NUL from outside begin no header of ours: neither in what is echoed, nor in what is sent on.
#[test]
fn nothing_from_outside_begins_a_header_of_ours() {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    let folded = "Proxy-Require: a,\r\n X-Injected: yes,\r\n\tb";
    let (status, _) = strange(&fake, &client("alice"), "INVITE", BOB, &format!("<{BOB}>"), &[folded]);
    assert_eq!(status, Some(420));
    let reply = last(&fake).1;
    assert_eq!(reply.header_named("X-Injected"), None);
    assert!(reply.header(Name::Unsupported).unwrap().windows(10).any(|w| w == b"X-Injected"), "echoed as a value");
    // Escaped line ends stay escaped, in names that are looked up and in contacts that are stored.
    let user = "sip:a%0d%0aX-Injected:%20yes@pairline.test";
    let (status, _) = strange(&fake, &client("alice"), "MESSAGE", user, &format!("<{user}>"), &[]);
    assert!(matches!(status, Some(400 | 407)));
    let mut phone = client("alice");
    let (status, reply) = phone.register(&fake, &["Contact: \"x\r\n\ty\" <sip:a%0d%0aX-Injected:%20yes@127.0.0.1>"]);
    assert_eq!(status, 200);
    assert_eq!(reply.header_named("X-Injected"), None);
    let contact = reply.contacts().next().unwrap();
    assert!(!contact.raw().iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
}

/// Routes to inner servers, tokens of flows, marks of other dialogs: from outside none of them opens a way.
#[test]
fn routes_from_outside_open_no_way() {
    let view = common::view();
    let inner = FlowRef { pool: EAST, server: ServerId(11), boot: 1, flow: flow(Transport::Tcp, "127.0.0.1:7101", 5) };
    let token = flow_token(&view.sealing_key, &inner);
    let routes = [
        "Route: <sip:127.0.2.1:5060;lr>".to_owned(),
        "Route: <sip:west.pairline.test;lr>".to_owned(),
        format!("Route: <sip:{token}@127.0.1.1:5060;lr>"),
        "Route: <sip:127.0.1.1:5060;lr;pl=0011223344556677>, <sip:10.0.0.1:5060;lr>".to_owned(),
        "Route: <sip:127.0.1.1:5060;lr>, <sip:10.0.0.1:5060;lr>".to_owned(),
    ];
    for route in &routes {
        for to in [format!("<{BOB}>"), format!("<{BOB}>;tag=x")] {
            for known in [false, true] {
                let fake = Fake::new();
                let mut phone = client("alice");
                let extra = [route.as_str(), "P-Asserted-Identity: <sip:alice@pairline.test>"];
                let task = match known {
                    true => phone.request(&fake, "BYE", "sip:victim@10.0.0.1", &to, &extra, ""),
                    false => {
                        Task::start(&fake, phone.message("BYE", "sip:victim@10.0.0.1", &to, &extra, ""), phone.flow)
                    }
                };
                assert!(!task.is_running() && fake.0.borrow().sent.is_empty(), "{route} {to} known: {known}");
                assert!((400..500).contains(&last(&fake).0), "{route} {to} known: {known}");
            }
        }
    }
}

/// Toll fraud: no number and no foreign domain is called from here, by nobody, however it is written.
#[test]
fn no_call_leaves_for_numbers_or_other_domains() {
    let targets = [
        "tel:+19005550100",
        "tel:911;phone-context=+1",
        "sip:+19005550100@gateway.example",
        "sip:bob@elsewhere.example",
        "sip:bob@pairline.test.evil.example",
        "sips:bob@elsewhere.example",
        "sip:+19005550100@127.0.0.1:5070;user=phone",
        "sip:x@[::1]:5070",
    ];
    for target in targets {
        let fake = Fake::new();
        let task = client("alice").request(&fake, "INVITE", target, &format!("<{target}>"), &[], "");
        assert!(!task.is_running() && fake.0.borrow().sent.is_empty(), "{target}");
        assert_eq!(last(&fake).0, 403, "{target}");
        assert!(fake.count_of(Counter::Refused) > 0);
    }
    // Nor by a forward of one's own, which is the usual way around such a rule: whatever it is, it stays in our domains.
    let view = common::view();
    for target in targets {
        let user = pairline_services::ident::parse_user(&view, target);
        assert!(user.is_none_or(|user| user.domain() == "pairline.test"), "{target}");
    }
}

/// A caller that nobody knows makes no fork and holds no transaction, however many devices the called user has.
#[test]
fn a_stranger_makes_nobody_ring() {
    let fake = Fake::new();
    for remote in ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"] {
        device(&fake, "bob", remote, "");
    }
    let (status, sent) = strange(&fake, &client("zelda"), "INVITE", BOB, &format!("<{BOB}>"), &[]);
    assert_eq!((status, sent), (Some(407), 0));
    let mut guess = client("alice");
    guess.password = "guess!";
    let task = guess.invite(&fake, "bob");
    assert!(!task.is_running() && fake.0.borrow().sent.is_empty());
    let over_link = Task::start(&fake, guess.message("INVITE", BOB, &format!("<{BOB}>"), &[], ""), peer_flow());
    assert!(!over_link.is_running() && fake.0.borrow().sent.is_empty(), "the link vouches for nobody by itself");
}
