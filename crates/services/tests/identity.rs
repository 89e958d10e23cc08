//! Who a request is said to come from: asserted and preferred identities, privacy, trusted peers (RFC 3323, 3325).
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device, last, statuses};
use common::{Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_group::ServerId;
use pairline_services::cx::{Peer, Place};
use pairline_services::metrics::Counter;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_topology::Transport as Named;
use pairline_topology::policy_proxy::TrustedPeer;

const BOB: &str = "sip:bob@pairline.test";
const ALICE: &[u8] = b"<sip:alice@pairline.test>";

fn peer(name: &str) -> TrustedPeer {
    TrustedPeer {
        name: name.into(),
        certificate: None,
        network: Vec::new(),
        transport: vec![Named::Tcp, Named::Tls],
        domain: Vec::new(),
        next_hop: None,
    }
}

/// Bob with a device, a gateway known by its address and a sister organisation known by its certificate.
fn world() -> Fake {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    fake.edit_view(|view| {
        let gateway = TrustedPeer { network: vec!["192.0.2.0/24".parse().unwrap()], ..peer("gateway") };
        let sister = TrustedPeer {
            certificate: Some("sister.example".into()),
            domain: vec!["sister.example".into()],
            next_hop: Some("sip:198.51.100.1:5070;transport=tcp".into()),
            ..peer("sister")
        };
        view.trust.peer = vec![gateway, sister];
    });
    fake.0.borrow_mut().proven.insert(9, vec!["sister.example".to_owned()].into());
    fake
}

/// An INVITE without credentials from that address of record over that flow.
fn from(fake: &Fake, from: &'static str, flow: Flow, uri: &str, lines: &[&str]) -> Task {
    let mut phone = client("alice");
    phone.from = Some(from);
    phone.flow = flow;
    Task::start(fake, phone.message("INVITE", uri, "<sip:bob@pairline.test>", lines, ""), flow)
}

fn sent(fake: &Fake) -> Message {
    fake.0.borrow().sent.last().unwrap().2.clone()
}

#[test]
fn a_peer_is_who_has_the_address_or_the_name_that_policy_says() {
    let outside = "sip:+4930@gw.example";
    let table = [
        (flow(Transport::Tcp, "192.0.2.7:4000", 5), true),
        (udp("192.0.2.7:5060"), false),
        (flow(Transport::Tcp, "192.0.3.7:4000", 5), false),
        (flow(Transport::Ws, "192.0.2.7:4000", 5), false),
        (flow(Transport::Tls, "203.0.113.1:4000", 9), true),
        (flow(Transport::Tcp, "203.0.113.1:4000", 9), false),
        (flow(Transport::Tls, "203.0.113.1:4000", 10), false),
    ];
    for (flow, trusted) in table {
        let fake = world();
        let task = from(&fake, outside, flow, BOB, &["Contact: <sip:x@gw.example>"]);
        assert_eq!(task.is_running(), trusted, "{flow:?}");
        if !trusted {
            assert_eq!(last(&fake).0, 403);
        }
    }
    // Named by both: both must fit.
    let fake = world();
    fake.edit_view(|view| view.trust.peer[1].network = vec!["203.0.113.9".parse().unwrap()]);
    assert!(!from(&fake, outside, flow(Transport::Tls, "203.0.113.1:4000", 9), BOB, &[]).is_running());
    assert!(from(&fake, outside, flow(Transport::Tls, "203.0.113.9:4000", 9), BOB, &[]).is_running());
}

#[test]
fn what_a_peer_asserts_stays_and_what_anybody_else_does_goes() {
    let gateway = flow(Transport::Tcp, "192.0.2.7:4000", 5);
    let lines = ["P-Asserted-Identity: \"A\" <sip:+4930@gw.example>", "P-Asserted-Identity: <tel:+4930>"];
    let fake = world();
    assert!(from(&fake, "sip:+4930@gw.example", gateway, BOB, &lines).is_running());
    let values: Vec<Vec<u8>> = sent(&fake).headers(Name::PAssertedIdentity).map(<[u8]>::to_vec).collect();
    assert_eq!(values, [&b"\"A\" <sip:+4930@gw.example>"[..], b"<tel:+4930>"]);
    // A user of ours is vouched for only in so many words.
    assert!(!from(&fake, "sip:alice@pairline.test", gateway, BOB, &[]).is_running());
    assert_eq!(last(&fake).0, 407);
    let words = ["P-Asserted-Identity: <sip:alice@pairline.test>"];
    assert!(from(&fake, "sip:alice@pairline.test", gateway, BOB, &words).is_running());
    // No transit.
    assert!(!from(&fake, "sip:+4930@gw.example", gateway, "sip:x@sister.example", &lines).is_running());
    assert_eq!(last(&fake).0, 403);
    // Hidden on request, but for those who are trusted.
    let private = ["P-Asserted-Identity: <sip:+4930@gw.example>", "Privacy: critical;id"];
    assert!(from(&fake, "sip:anonymous@anonymous.invalid", gateway, BOB, &private).is_running());
    assert!(!sent(&fake).has(Name::PAssertedIdentity));
    fake.set_place(&aor(BOB), Place::Elsewhere { group: Some(group_of(WEST, &aor(BOB))), at: Peer::Pool(WEST) });
    assert!(from(&fake, "sip:anonymous@anonymous.invalid", gateway, BOB, &private).is_running());
    assert!(sent(&fake).has(Name::PAssertedIdentity), "the other pool is inside the trust domain");
}

#[test]
fn a_peers_caller_without_a_name_crosses_the_link_as_vouched_for() {
    let fake = world();
    fake.set_place(&aor(BOB), Place::Elsewhere { group: Some(group_of(WEST, &aor(BOB))), at: Peer::Pool(WEST) });
    let gateway = flow(Transport::Tcp, "192.0.2.7:4000", 5);
    assert!(from(&fake, "sip:+4930@gw.example", gateway, BOB, &[]).is_running());
    let crossing = sent(&fake);
    assert!(crossing.via().param("vouched").is_some());
    let west = Fake::new();
    west.edit_view(|view| view.own.server = ServerId(21));
    device(&west, "bob", "127.0.0.1:7101", "");
    assert!(Task::start(&west, crossing.clone(), peer_flow()).is_running());
    assert!(!west.0.borrow().sent.last().unwrap().2.via().params.has("vouched"));
    // Anybody else may write it as often as they like.
    assert!(!Task::start(&west, crossing, udp("127.0.0.1:7009")).is_running());
    assert_eq!(last(&west).0, 403);
}

#[test]
fn requests_for_a_peers_domain_go_to_it_with_the_callers_identity() {
    let fake = world();
    let mut phone = client("alice");
    let mut task = phone.request(
        &fake,
        "INVITE",
        "sip:x@Sister.example",
        "<sip:x@sister.example>",
        &["Contact: <sip:alice@127.0.0.1:7001>", "Privacy: id"],
        "",
    );
    assert!(task.is_running());
    let (_, hop, request) = fake.0.borrow().sent.last().unwrap().clone();
    assert_eq!((hop.transport, hop.remote), (Transport::Tcp, "198.51.100.1:5070".parse().unwrap()));
    assert_eq!(request.request_uri(), b"sip:x@Sister.example");
    assert_eq!(request.header(Name::PAssertedIdentity), Some(ALICE));
    task.respond(0, 200, &[]);
    assert_eq!(statuses(&fake), [200]);
    // A domain that no peer takes.
    let mut phone = client("alice");
    assert!(!phone.request(&fake, "INVITE", "sip:x@other.example", "<sip:x@other.example>", &[], "").is_running());
    assert_eq!((last(&fake).0, last(&fake).1.reason()), (403, &b"No Route To That Domain"[..]));
}

#[test]
fn a_preferred_identity_is_weighed_and_never_sent() {
    for (wish, foreign) in [
        ("P-Preferred-Identity: \"Boss\" <sip:alice@pairline.test>", 0),
        ("P-Preferred-Identity: <sip:boss@pairline.test>", 1),
        ("P-Preferred-Identity: <tel:+1>", 1),
    ] {
        let fake = world();
        let rpid = "Remote-Party-ID: <sip:boss@pairline.test>";
        let task = client("alice").request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[wish, rpid], "");
        assert!(task.is_running());
        assert_eq!(sent(&fake).header(Name::PAssertedIdentity), Some(ALICE), "{wish}");
        assert!(!sent(&fake).has(Name::PPreferredIdentity));
        assert_eq!(sent(&fake).header_named("Remote-Party-ID"), None, "its forerunner is no way round");
        assert_eq!(fake.count_of(Counter::AuthMismatch), foreign);
    }
}

#[test]
fn privacy_hides_what_a_proxy_can_and_refuses_what_it_cannot() {
    let invite = |line: &str| {
        let fake = world();
        let mut phone = client("alice");
        phone.from = Some("sip:anonymous@anonymous.invalid");
        let task = phone.request(&fake, "INVITE", BOB, "<sip:bob@pairline.test>", &[line], "");
        (fake, task)
    };
    for (line, shown) in [("Privacy: id", false), ("Privacy: none", true), ("Privacy: user", true), ("X-A: b", true)] {
        let (fake, task) = invite(line);
        assert!(task.is_running(), "{line}");
        assert_eq!(sent(&fake).has(Name::PAssertedIdentity), shown, "{line}");
    }
    for line in ["Privacy: user;critical", "Privacy: header; critical", "Privacy: session,critical"] {
        let (fake, task) = invite(line);
        assert!(!task.is_running());
        assert_eq!((last(&fake).0, last(&fake).1.reason()), (500, &b"Privacy Not Provided"[..]), "{line}");
    }
}

#[test]
fn another_users_password_is_refused_with_a_reason_and_a_wrong_one_is_not_told_apart() {
    for (password, expected) in [("secret", 403), ("guess", 407)] {
        let fake = world();
        let mut phone = client("alice");
        phone.from = Some("sip:dave@pairline.test");
        phone.password = password;
        assert!(!phone.invite(&fake, "bob").is_running());
        assert_eq!(last(&fake).0, expected, "{password}");
        if expected == 403 {
            assert_eq!(last(&fake).1.reason(), b"Identity Does Not Match Credentials");
            assert_eq!(fake.count_of(Counter::AuthMismatch), 1);
        }
    }
    // Of a user who does not exist, and for one: the same question again.
    for (user, claimed) in [("nobody", "sip:dave@pairline.test"), ("alice", "sip:nobody@pairline.test")] {
        let fake = world();
        let mut phone = client(user);
        phone.from = Some(claimed);
        assert!(!phone.invite(&fake, "bob").is_running());
        assert_eq!(last(&fake).0, if user == "alice" { 403 } else { 407 });
    }
    // The registrar's too: nobody registers for another (RFC 3261 §10.3 step 4).
    let fake = world();
    let mut phone = client("alice");
    let contact = ["Contact: <sip:a@127.0.0.1:7001>"];
    let task = phone.request(&fake, "REGISTER", "sip:pairline.test", "<sip:dave@pairline.test>", &contact, "");
    assert!(!task.is_running());
    assert_eq!(last(&fake).0, 403);
}

#[test]
fn a_users_certificate_stands_for_the_password_where_policy_says_so() {
    let over = |transport, allowed: bool, name: &str| {
        let fake = world();
        fake.edit_view(|view| view.trust.user_certificates = allowed);
        fake.0.borrow_mut().proven.insert(11, vec![name.to_owned()].into());
        let mut phone = client("alice");
        phone.flow = flow(transport, "203.0.113.5:4000", 11);
        let to = "<sip:alice@pairline.test>";
        let register = phone.message("REGISTER", "sip:pairline.test", to, &["Contact: <sip:a@203.0.113.5>"], "");
        assert!(!Task::start(&fake, register, phone.flow).is_running());
        let registered = last(&fake).0;
        let invite = phone.message("INVITE", BOB, "<sip:bob@pairline.test>", &[], "");
        let runs = Task::start(&fake, invite, phone.flow).is_running();
        let asserted = runs.then(|| sent(&fake).header(Name::PAssertedIdentity).map(<[u8]>::to_vec));
        (registered, asserted.flatten())
    };
    let alice = "alice@pairline.test";
    for transport in [Transport::Tls, Transport::Wss] {
        assert_eq!(over(transport, true, alice), (200, Some(ALICE.to_vec())));
    }
    assert_eq!(over(Transport::Tls, false, alice), (401, None), "policy must say so");
    assert_eq!(over(Transport::Tcp, true, alice), (401, None), "nothing is proven over TCP");
    assert_eq!(over(Transport::Tls, true, "dave@pairline.test"), (401, None));
    assert_eq!(over(Transport::Tls, true, "pairline.test"), (401, None), "a domain is nobody's identity");
}

/// Credentials that name a user as it is written are that user's without an address being built: which must come to the same.
#[test]
fn a_user_of_a_domain_is_who_is_written_so() {
    for text in [
        "sip:alice@pairline.test",
        "sip:%41lice@Pairline.Test",
        "sip:a%40b@pairline.test",
        "sip:a.b+c=d@[2001:db8::1]",
        "sip:1%3a2@192.0.2.1",
    ] {
        let user = aor(text);
        assert_eq!(pairline_services::ident::user_of(user.domain(), user.user()), Some(user.clone()), "{text}");
        assert!(!user.user().contains('@'), "{text}");
    }
}
