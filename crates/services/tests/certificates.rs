//! Users known by a client certificate where another pool serves them: the identity that is proven here travels inside the link.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, last};
use common::{Fake, Task, WEST, aor, flow, group_of, peer_flow, udp};
use pairline_services::cx::{Place, TaskEvent};
use pairline_services::metrics::Counter;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::header::Name;
use pairline_sip::message::Message;

const CAROL: &str = "sip:carol@pairline.test";
/// A connection whose other end has shown carol's certificate.
const PROVEN: u64 = 11;

fn secure() -> Flow {
    flow(Transport::Tls, "203.0.113.5:4000", PROVEN)
}

/// East, where carol's certificate is taken and she is not served.
fn east() -> Fake {
    let fake = Fake::new();
    fake.edit_view(|view| view.trust.user_certificates = true);
    fake.0.borrow_mut().proven.insert(PROVEN, vec!["carol@pairline.test".to_owned()].into());
    fake
}

/// West, where she is served.
fn west() -> Fake {
    let fake = Fake::new();
    let carol = aor(CAROL);
    fake.edit_view(|view| view.own.pool = WEST);
    fake.set_place(&carol, Place::Here { group: group_of(WEST, &carol) });
    fake
}

fn phone(user: &'static str, flow: Flow) -> Client {
    Client { flow, ..client(user) }
}

/// A REGISTER without credentials, and a SUBSCRIBE to the same user's registrations.
fn ask(method: &str, phone: &Client, lines: &[&str]) -> Message {
    let uri = if method == "REGISTER" { "sip:pairline.test" } else { CAROL };
    let contact = format!("Contact: <sip:{}@{}>", phone.user, phone.flow.remote);
    let lines = [&["Event: reg", &*contact], lines].concat();
    phone.message(method, uri, &format!("<{CAROL}>"), &lines, "")
}

fn forwarded(fake: &Fake) -> Message {
    let (_, hop, message) = fake.0.borrow().sent.last().unwrap().clone();
    assert_eq!(hop, peer_flow());
    message
}

#[test]
fn a_certificate_is_enough_where_the_other_pool_serves() {
    for method in ["REGISTER", "SUBSCRIBE"] {
        let (east, west) = (east(), west());
        let mut task = Task::start(&east, ask(method, &phone("carol", secure()), &[]), secure());
        assert!(task.is_running(), "{method}: not challenged here");
        let sent = forwarded(&east);
        assert_eq!(sent.header(Name::PAssertedIdentity), Some(format!("<{CAROL}>").as_bytes()), "{method}");
        let _there = Task::start(&west, sent, peer_flow());
        let (status, reply) = last(&west);
        assert_eq!(status, 200, "{method}: not challenged there either");
        assert_eq!(west.count_of(Counter::AuthAccepted), 1);
        assert_eq!(west.bindings(CAROL).len(), usize::from(method == "REGISTER"));
        let branch = task.branch(0);
        task.deliver(TaskEvent::Response(branch, reply));
        assert_eq!(last(&east).0, 200);
    }
}

/// The user is told that its pool is away, as with a password.
#[test]
fn the_user_is_told_that_its_pool_does_not_answer() {
    let east = east();
    let mut task = Task::start(&east, ask("REGISTER", &phone("carol", secure()), &[]), secure());
    let branch = task.branch(0);
    task.deliver(TaskEvent::Timeout(branch));
    assert_eq!(last(&east).0, 500);
}

/// What a client says of its identity counts for nothing: not in the request, not over another flow, not for another user.
#[test]
fn nobody_asserts_an_identity_but_the_other_pool() {
    let claims = format!("P-Asserted-Identity: <{CAROL}>");
    let other = flow(Transport::Tls, "203.0.113.6:4000", PROVEN + 1);
    for from in [other, udp("203.0.113.6:4000"), flow(Transport::Tcp, "203.0.113.6:4000", PROVEN)] {
        for fake in [east(), west()] {
            for method in ["REGISTER", "SUBSCRIBE"] {
                Task::start(&fake, ask(method, &phone("carol", from), &[&claims]), from);
                assert_eq!(last(&fake).0, 401, "{method} over {from:?}");
                assert!(fake.0.borrow().sent.is_empty());
            }
        }
    }
    // Credentials that are not there to be weighed here take no claim along.
    let east = east();
    let offer = "Authorization: Digest username=\"carol\", realm=\"pairline.test\", nonce=\"n\", uri=\"sip:pairline.test\", \
                 response=\"0\", algorithm=SHA-256, cnonce=\"c\", nc=00000001, qop=auth";
    let _task = Task::start(&east, ask("REGISTER", &phone("carol", other), &[&claims, offer]), other);
    assert!(!forwarded(&east).has(Name::PAssertedIdentity));
    // Inside the link another user's identity is not this one's.
    let west = west();
    let alices = "P-Asserted-Identity: <sip:alice@pairline.test>";
    Task::start(&west, ask("REGISTER", &phone("carol", peer_flow()), &[alices]), peer_flow());
    assert_eq!(last(&west).0, 401);
}

/// Somebody else's bindings are not changed by a certificate, wherever they are.
#[test]
fn a_certificate_registers_nobody_else() {
    let east = east();
    let mut alice = phone("alice", secure());
    alice.from = Some(CAROL);
    let contact = "Contact: <sip:carol@203.0.113.5:4000>";
    let request = alice.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[contact], "");
    Task::start(&east, request, secure());
    assert_eq!(last(&east).0, 401, "alice's password is asked for");
    // From names another than To: the certificate's user is To's, and the serving pool refuses.
    let (east, west) = (self::east(), west());
    let mut mallory = phone("carol", secure());
    mallory.from = Some("sip:alice@pairline.test");
    let _task = Task::start(&east, ask("REGISTER", &mallory, &[]), secure());
    Task::start(&west, forwarded(&east), peer_flow());
    assert_eq!(last(&west).0, 403);
}
