//! The table of who may send what, cell by cell: each is sent for real, and the whole is frozen.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, device};
use common::{Fake, Task, flow};
use pairline_services::access::{self, Cell, Class, Direction, Proof, Verdict};
use pairline_services::routes;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::method::Method;
use pairline_topology::Transport as Named;
use pairline_topology::policy_proxy::{EmergencyRoute, TrustedPeer};

const BOB: &str = "sip:bob@pairline.test";
/// A connection whose other end has proven to be alice.
const PROVEN: u64 = 11;

/// Bob with a device; a peer at 192.0.2.7, which takes another domain's requests; an emergency desk.
fn world(emergency_unauthenticated: bool) -> Fake {
    let fake = Fake::new();
    device(&fake, "bob", "127.0.0.1:7101", "");
    fake.edit_view(|view| {
        view.trust.user_certificates = true;
        view.trust.peer = vec![TrustedPeer {
            name: "gateway".into(),
            certificate: None,
            network: vec!["192.0.2.7".parse().unwrap()],
            transport: vec![Named::Tcp, Named::Tls],
            domain: vec!["elsewhere.example".into()],
            next_hop: Some("sip:192.0.2.7:5060;transport=tcp".into()),
        }];
        view.proxy.emergency.unauthenticated = emergency_unauthenticated;
        view.proxy.emergency.route = vec![EmergencyRoute { pattern: "urn:service:sos".into(), to: BOB.into() }];
    });
    fake.0.borrow_mut().proven.insert(PROVEN, vec!["alice@pairline.test".to_owned()].into());
    fake
}

fn flow_of(cell: &Cell) -> Flow {
    let transport = if cell.transport == "secure" { Transport::Tls } else { Transport::Tcp };
    match cell.proof {
        "trusted peer" => flow(transport, "192.0.2.7:4000", 5),
        // Over an open transport the names count for nothing.
        "certificate" => flow(transport, "203.0.113.5:4000", PROVEN),
        _ => flow(transport, "203.0.113.5:4000", 6),
    }
}

fn uri_of(cell: &Cell) -> &'static str {
    match cell.direction {
        "to this server" => "sip:pairline.test",
        "own user to own user" | "outside to own user" => BOB,
        "in dialog" => "sip:bob@127.0.0.1:7101",
        "emergency" => "urn:service:sos",
        _ => "sip:x@elsewhere.example",
    }
}

/// The request of a cell. With `challenge` it carries credentials that answer it.
fn request(fake: &Fake, phone: &mut Client, cell: &Cell, challenge: Option<&[u8]>) -> Task {
    let method = if cell.method == "*" { "FANCY" } else { cell.method };
    let uri = uri_of(cell);
    phone.cseq += 1;
    let mut lines = vec!["Contact: <sip:alice@203.0.113.5:4000>".to_owned()];
    if cell.proof == "trusted peer" {
        lines.push("P-Asserted-Identity: <sip:alice@pairline.test>".to_owned());
    }
    if let Some(challenge) = challenge {
        let name = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        lines.push(phone.authorization(challenge, name, method, uri, phone.cseq));
    }
    let mut to = "<sip:alice@pairline.test>";
    if cell.direction == "in dialog" {
        to = "<sip:bob@pairline.test>;tag=1";
        let view = fake.0.borrow().view.clone();
        let listener = view.listeners.iter().find(|l| l.transport == Transport::Tcp).unwrap();
        let route = routes::record_route(&view.sealing_key, listener, phone.call_id.as_bytes(), None);
        lines.push(format!("Route: {route}"));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Task::start(fake, phone.message(method, uri, to, &lines, ""), phone.flow)
}

/// What became of the last request, in the table's words.
fn outcome(fake: &Fake, sent_before: usize) -> String {
    let world = fake.0.borrow();
    if world.sent.len() > sent_before {
        return "allow".to_owned();
    }
    match world.responses.iter().rev().map(|(status, _)| *status).find(|s| *s != 100) {
        Some(200) => "allow".to_owned(),
        Some(401 | 407) => "challenge".to_owned(),
        Some(489) => "by event package, else 489".to_owned(),
        Some(status) => format!("refuse {status}"),
        None => "nothing".to_owned(),
    }
}

/// Sends a cell's request for real, with credentials where the cell says so.
fn played(cell: &Cell, emergency_unauthenticated: bool) -> String {
    let fake = world(emergency_unauthenticated);
    let mut phone = client("alice");
    phone.flow = flow_of(cell);
    if cell.direction.starts_with("outside") {
        phone.from = Some("sip:eve@evil.example");
    }
    let mut challenge = None;
    if cell.proof == "digest" {
        // Any challenge of ours will do: the nonce is nobody's in particular.
        let ask = client("alice");
        let first = Task::start(&fake, ask.message("MESSAGE", BOB, "<sip:bob@pairline.test>", &[], ""), ask.flow);
        assert!(!first.is_running());
        challenge = Some(common::sip::last(&fake).1.header_named("Proxy-Authenticate").unwrap().to_vec());
        fake.0.borrow_mut().responses.clear();
    }
    let before = fake.0.borrow().sent.len();
    let task = request(&fake, &mut phone, cell, challenge.as_deref());
    let outcome = outcome(&fake, before);
    drop(task);
    outcome
}

#[test]
fn every_cell_is_what_really_happens() {
    let (mut played_cells, mut wrong) = (0, Vec::new());
    for cell in access::cells() {
        let none = Cell { proof: "none", ..cell };
        let said = |unauthenticated: bool| match cell.verdict {
            "allow or challenge by policy" if unauthenticated => "allow".to_owned(),
            "allow or challenge by policy" => "challenge".to_owned(),
            other => other.to_owned(),
        };
        for unauthenticated in [true, false] {
            let got = played(&cell, unauthenticated);
            // A certificate over an open transport proves nothing: as if there were none.
            let expected =
                if cell.verdict == "cannot be" { played(&none, unauthenticated) } else { said(unauthenticated) };
            if got != expected {
                wrong.push(format!("{cell:?}, unauthenticated {unauthenticated}: {got}"));
            }
            played_cells += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(played_cells, 13 * 7 * 4 * 2 * 2);
}

#[test]
fn no_cell_asks_again_for_what_was_shown() {
    let methods = ["REGISTER", "INVITE", "MESSAGE", "OPTIONS", "BYE", "SUBSCRIBE", "FANCY"];
    let directions = [
        Direction::ToServer,
        Direction::OwnToOwn,
        Direction::OwnToOutside,
        Direction::OutsideToOwn,
        Direction::OutsideToOutside,
        Direction::InDialog,
        Direction::Emergency,
    ];
    for method in methods {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for direction in directions {
            for class in [Class::Open, Class::Secure] {
                let shown = access::verdict(&method, direction, Proof::Digest, class);
                assert!(!matches!(shown, Verdict::Challenge | Verdict::EmergencyPolicy), "{method} {direction:?}");
                // Whatever is allowed to nobody in particular is allowed to who has shown more.
                if access::verdict(&method, direction, Proof::None, class) == Verdict::Allow {
                    assert_eq!(shown, Verdict::Allow);
                }
            }
        }
    }
}

#[test]
fn strangers_reach_nothing_but_the_server_itself_and_emergency_services() {
    for cell in access::cells().filter(|cell| cell.proof == "none" && cell.verdict.starts_with("allow")) {
        let open = matches!(
            (cell.method, cell.direction),
            ("OPTIONS", "to this server") | ("INVITE" | "MESSAGE", "emergency") | (_, "in dialog")
        );
        assert!(open, "{cell:?}");
    }
}

#[test]
fn the_table_is_frozen() {
    let mut text = String::new();
    for cell in access::cells() {
        text +=
            &format!("{} | {} | {} | {} | {}\n", cell.method, cell.direction, cell.proof, cell.transport, cell.verdict);
    }
    let frozen = include_str!("golden/access_table.txt");
    assert_eq!(frozen, text, "whoever changes a cell changes the sample, and is reviewed");
}
