//! RFC 4475 and RFC 5118: what this server has to do with each message, in each of its roles, by the words of the RFC.
//!
//! Owns the table of verdicts and the running of it: parser, dispatcher, registrar, proxy, stream framer. The messages are
//! the SIP crate's samples; how its parser names each fault is tested there.
#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::sip::client;
use common::*;
use pairline_services::binding::Binding;
use pairline_services::cx::{Cx, Peer, Place};
use pairline_services::ident::{Whose, classify};
use pairline_services::settings::Domain;
use pairline_sip::header::Name;
use pairline_sip::message::Message;
use pairline_sip::method::Method;
use pairline_sip::uri::Aor;
use pairline_sip::{Frame, StreamFramer};

/// What an element does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Sends it on to where its Request-URI leads, nothing changed but what a proxy has to change.
    Forwards,
    /// Answers with this status.
    Answers(u16),
    /// Takes the registration, once its sender has proven who it is, and holds so many contacts.
    Registers(usize),
    /// Sends nothing.
    Discards,
    /// It is not for this role.
    NotAsked,
}

/// What a stream framer does with a message and nothing behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cuts {
    /// Gives out so many messages, and nothing is left.
    Into(usize),
    /// Waits for the rest.
    Waits,
    /// Cannot go on: the connection is to be closed.
    Closes,
}

use Cuts::{Closes, Into, Waits};
use Does::{Answers, Discards, Forwards, NotAsked, Registers};

struct Row {
    name: &'static str,
    section: &'static str,
    /// As registrar, or as the server that the request is for.
    server: Does,
    /// As proxy on the way to somebody else.
    proxy: Does,
    stream: Cuts,
    bytes: &'static [u8],
}

macro_rules! rows {
    ($folder:literal; $($name:literal, $section:literal, $server:expr, $proxy:expr, $stream:expr;)*) => {
        vec![$(Row {
            name: $name,
            section: $section,
            server: $server,
            proxy: $proxy,
            stream: $stream,
            bytes: include_bytes!(concat!("../../sip/tests/torture/", $folder, $name, ".dat")),
        }),*]
    };
}

/// All 49 of RFC 4475. A fault that the parser finds is answered in every role alike.
#[rustfmt::skip]
fn rfc4475() -> Vec<Row> {
    rows![""; // name, section, as server, as proxy, as stream
        // Valid messages: none may be refused for its form.
        "wsinv",      "3.1.1.1",  NotAsked,     Forwards,     Into(1);
        "intmeth",    "3.1.1.2",  NotAsked,     Forwards,     Into(1);
        "esc01",      "3.1.1.3",  NotAsked,     Forwards,     Into(1);
        "escnull",    "3.1.1.4",  Registers(2), Forwards,     Into(1);
        "esc02",      "3.1.1.5",  Answers(501), NotAsked,     Into(1); // no REGISTER: an unknown method, RFC 3261 §21.5.2
        "lwsdisp",    "3.1.1.6",  NotAsked,     Forwards,     Into(1);
        "longreq",    "3.1.1.7",  NotAsked,     Forwards,     Into(1);
        "dblreq",     "3.1.1.8",  Registers(1), Forwards,     Into(2); // as datagram the second is nothing
        "semiuri",    "3.1.1.9",  NotAsked,     Forwards,     Into(1);
        "transports", "3.1.1.10", NotAsked,     Forwards,     Into(1);
        "mpart01",    "3.1.1.11", NotAsked,     Forwards,     Into(1);
        "unreason",   "3.1.1.12", NotAsked,     Discards,     Into(1); // good, but it answers nothing that was asked
        "noreason",   "3.1.1.13", NotAsked,     Discards,     Into(1);
        // Invalid messages.
        "badinv01",   "3.1.2.1",  Answers(400), Answers(400), Into(1); // "should respond with a 400"
        "clerr",      "3.1.2.2",  Answers(400), Answers(400), Waits;   // "should" as datagram; a stream may bring the rest
        "ncl",        "3.1.2.3",  Answers(400), Answers(400), Closes;  // "should ... 400" and, on a stream, close
        "scalar02",   "3.1.2.4",  Answers(400), Answers(400), Into(1); // "should respond with a 400 due to the CSeq error"
        "scalarlg",   "3.1.2.5",  NotAsked,     Discards,     Into(1); // "the response will be discarded"
        "quotbal",    "3.1.2.6",  Answers(400), Answers(400), Into(1);
        "ltgtruri",   "3.1.2.7",  Answers(400), Answers(400), Into(1); // "reasonable to always reject"
        "lwsruri",    "3.1.2.8",  Answers(400), Answers(400), Into(1); // "reasonable to always reject"
        "lwsstart",   "3.1.2.9",  Answers(400), Answers(400), Into(1); // "reasonable to always reject"
        "trws",       "3.1.2.10", Answers(400), Answers(400), Into(1); // "reasonable to reject"
        "escruri",    "3.1.2.11", NotAsked,     Forwards,     Into(1); // may be liberal; the headers must not be obeyed
        "baddate",    "3.1.2.12", NotAsked,     Forwards,     Into(1); // "an element wishing to be liberal could ignore"
        "regbadct",   "3.1.2.13", Answers(400), Answers(400), Into(1); // never registers what is behind the question mark
        "badaspec",   "3.1.2.14", Answers(400), Answers(400), Into(1); // "reasonable to reject"
        "baddn",      "3.1.2.15", NotAsked,     Forwards,     Into(1); // may be liberal
        "badvers",    "3.1.2.16", Answers(505), Answers(505), Into(1); // "must ... 505"
        "mismatch01", "3.1.2.17", Answers(400), Answers(400), Into(1);
        "mismatch02", "3.1.2.18", Answers(400), Answers(400), Into(1); // 400, or 501 for the method
        "bigcode",    "3.1.2.19", NotAsked,     Discards,     Into(1); // "must be discarded"
        // Transaction layer.
        "badbranch",  "3.2.1",    NotAsked,     Forwards,     Into(1); // matched by the rules of RFC 2543
        // Application layer.
        "insuf",      "3.3.1",    Answers(400), Answers(400), Into(1); // "ideally ... 400"
        "unkscm",     "3.3.2",    Answers(416), Answers(416), Into(1);
        "novelsc",    "3.3.3",    Answers(416), Answers(416), Into(1);
        "unksm2",     "3.3.4",    Answers(400), NotAsked,     Into(1); // a registrar's To is a SIP or SIPS URI
        "bext01",     "3.3.5",    NotAsked,     Answers(420), Into(1); // naming what the proxy would have to know
        "invut",      "3.3.6",    NotAsked,     Forwards,     Into(1); // bodies are not a proxy's to know
        "regaut01",   "3.3.7",    Answers(401), Forwards,     Into(1); // as if there were no credentials
        "multi01",    "3.3.8",    Answers(400), Answers(400), Into(1);
        "mcl01",      "3.3.9",    Answers(400), Answers(400), Closes;
        "bcast",      "3.3.10",   NotAsked,     Discards,     Into(1); // never sent to a broadcast address
        "zeromf",     "3.3.11",   Answers(200), Answers(200), Into(1); // 483, or as if it were for this server
        "cparam01",   "3.3.12",   Registers(1), Forwards,     Into(1);
        "cparam02",   "3.3.13",   Registers(1), Forwards,     Into(1);
        "regescrt",   "3.3.14",   Registers(1), Forwards,     Into(1);
        "sdp01",      "3.3.15",   NotAsked,     Forwards,     Into(1); // 406 is the called side's to say
        // Backward compatibility.
        "inv2543",    "3.4.1",    NotAsked,     Forwards,     Closes;  // no Content-Length: good as datagram only
    ]
}

/// All twelve of RFC 5118.
#[rustfmt::skip]
fn rfc5118() -> Vec<Row> {
    rows!["rfc5118/"; // name, section, as server, as proxy, as stream
        "ipv6-good",                     "4.1",  Registers(1), Forwards,     Into(1);
        "ipv6-bad",                      "4.2",  Answers(400), Answers(400), Into(1);
        "port-ambiguous",                "4.3",  Registers(1), Forwards,     Into(1);
        "port-unambiguous",              "4.4",  Registers(1), Forwards,     Into(1);
        "via-received-param-with-delim", "4.5",  Answers(404), NotAsked,     Into(1); // good; but no dialog of this server
        "via-received-param-no-delim",   "4.5",  Answers(200), NotAsked,     Into(1);
        "ipv6-in-sdp",                   "4.6",  NotAsked,     Forwards,     Into(1);
        "mult-ip-in-header",             "4.7",  NotAsked,     Forwards,     Into(1);
        "mult-ip-in-sdp",                "4.8",  NotAsked,     Forwards,     Into(1);
        "ipv4-mapped-ipv6",              "4.9",  NotAsked,     Forwards,     Into(1);
        "ipv6-bug-abnf-3-colons",        "4.10", NotAsked,     Forwards,     Into(1); // both must be tolerated
        "ipv6-correct-abnf-2-colons",    "4.10", NotAsked,     Forwards,     Into(1);
    ]
}

const DEVICE: &str = "192.0.2.77:5060";
const ASSERTED: &str = "P-Asserted-Identity: <sip:caller@example.com>\r\n";
/// Only what offers credentials of the user itself is sent on to the pool that weighs them.
fn offered(user: &str) -> String {
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"example.com\", nonce=\"n\", uri=\"sip:example.com\", \
         response=\"0\", algorithm=SHA-256, cnonce=\"c\", nc=00000001, qop=auth\r\n"
    )
}

/// A server whose domains and addresses are those of the messages, so that each reaches the place that judges it.
fn world() -> Fake {
    let fake = Fake::new();
    fake.edit_view(|view| {
        let names = [
            "example.com",
            "example.net",
            "example.org",
            "company.com",
            "chair-dnrc.example.com",
            "services.example.com",
        ];
        let more = ["registrar.example.com", "host.example.net"];
        view.domains = names.iter().chain(&more).map(|n| Domain { name: (*n).into(), realm: (*n).into() }).collect();
        view.default_domain = "example.com".into();
        let addresses =
            ["[2001:db8::10]:5060", "[2001:db8::10:5070]:5060", "[2001:db8::10]:5070", "[2001:db8::192.0.2.1]:5060"];
        view.own.addresses.extend(addresses.iter().map(|a| a.parse::<std::net::SocketAddr>().unwrap()));
        view.own.addresses.push("127.0.0.1:5080".parse().unwrap());
    });
    fake
}

fn refused(error: &pairline_sip::ParseError) -> Does {
    let Some(reply) = error.reply_to(DEVICE.parse().unwrap()) else {
        return Discards;
    };
    let text = String::from_utf8_lossy(&reply).into_owned();
    assert!(text.starts_with("SIP/2.0 ") && text.contains("\r\nVia: SIP") && text.contains("\r\nCSeq: "), "{text}");
    Answers(text[8..11].parse().unwrap())
}

/// What was answered, leaving out 100.
fn answered(fake: &Fake) -> Option<(u16, Message)> {
    fake.0.borrow().responses.iter().find(|(status, _)| *status != 100).cloned()
}

/// A device of a user at [`DEVICE`]: as a registration makes one, but for its contact.
fn device(user: &Aor) -> Binding {
    let fake = Fake::new();
    common::sip::device(&fake, "bob", DEVICE, "");
    let made = fake.bindings("sip:bob@pairline.test").remove(0);
    Binding { contact: format!("sip:{}@{DEVICE}", user.user()).into_bytes().into(), ..made }
}

/// Lines of a message but those that a proxy may change, and the body.
fn untouched(message: &Message) -> (Vec<Vec<u8>>, Vec<u8>) {
    // RFC 5393 §5.3.3 has a proxy add Max-Breadth.
    let changed = [Name::Via, Name::MaxForwards, Name::MaxBreadth, Name::Route, Name::RecordRoute, Name::Path];
    let lines = message.headers_raw().filter(|(id, _, _)| !changed.contains(id));
    (lines.map(|(_, name, value)| [name, b": ", value].concat()).collect(), message.body().to_vec())
}

/// As proxy: the user of the Request-URI has a device here; a REGISTER's user is served by the other pool. The caller is
/// vouched for by that pool, since the messages have no credentials of ours.
fn as_proxy(row: &Row) -> Does {
    let fake = world();
    let message = match Message::parse(Bytes::from_static(row.bytes)) {
        Ok(message) => message,
        Err(error) => return refused(&error),
    };
    if !message.is_request() {
        pairline_services::dispatch::stateless(fake.clone(), message, udp(DEVICE));
        let world = fake.0.borrow();
        return if world.stateless.is_empty() && world.sent.is_empty() { Discards } else { Forwards };
    }
    let mut flow = peer_flow();
    let mut bytes = message.as_bytes().to_vec();
    let line_end = bytes.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
    if *message.method() == Method::Register {
        flow = udp(DEVICE);
        if let Whose::User(user) = classify(&fake.view(), message.to().uri) {
            drop(bytes.splice(line_end..line_end, offered(user.user()).into_bytes()));
            fake.set_place(&user, Place::Elsewhere { group: Some(group_of(WEST, &user)), at: Peer::Pool(WEST) });
        }
    } else {
        drop(bytes.splice(line_end..line_end, ASSERTED.bytes()));
        if let Whose::User(user) = classify(&fake.view(), message.request_uri()) {
            fake.set_place(&user, Place::Here { group: group_of(EAST, &user) });
            fake.0.borrow_mut().guests.insert(user.as_str().to_owned(), vec![device(&user)]);
        }
    }
    let message = Message::parse(Bytes::from(bytes)).unwrap();
    let _task = Task::start(&fake, message.clone(), flow);
    if let Some((status, reply)) = answered(&fake) {
        assert_eq!(status == 420, reply.has(Name::Unsupported), "{}: names what is not supported", row.name);
        return Answers(status);
    }
    let world = fake.0.borrow();
    let [(_, _, forwarded)] = world.sent.as_slice() else {
        return Discards;
    };
    assert_eq!(untouched(forwarded), untouched(&message), "{}", row.name);
    let hops = message.max_forwards().map_or(69, |hops| hops - 1);
    assert_eq!(forwarded.max_forwards(), Some(hops), "{}", row.name);
    // None of these messages has a breadth, so each that may fork gets the policy's.
    assert!(!message.has(Name::MaxBreadth));
    let breadth = (*message.method() != Method::Register).then(|| fake.view().proxy.max_breadth.to_string());
    let got = forwarded.header(Name::MaxBreadth).map(|value| String::from_utf8_lossy(value).into_owned());
    assert_eq!(got, breadth, "{}", row.name);
    assert_eq!(forwarded.vias().count(), message.vias().count() + 1, "{}", row.name);
    assert_eq!(forwarded.routes().count(), 0, "{}: no Route is made up, ours is taken off", row.name);
    Forwards
}

/// As the server that is meant: a registrar whose user exists and answers its challenge.
fn as_server(row: &Row) -> Does {
    let fake = world();
    let message = match Message::parse(Bytes::from_static(row.bytes)) {
        Ok(message) => message,
        Err(error) => return refused(&error),
    };
    let user = match classify(&fake.view(), message.to().uri) {
        Whose::User(user) if *message.method() == Method::Register => user,
        _ => {
            let _task = Task::start(&fake, message, udp(DEVICE));
            return answered(&fake).map_or(Discards, |(status, _)| Answers(status));
        }
    };
    let group = group_of(EAST, &user);
    fake.set_place(&user, Place::Here { group });
    fake.set_password(&user, group);
    let _task = Task::start(&fake, message.clone(), udp(DEVICE));
    let (status, challenge) = answered(&fake).unwrap();
    if status != 401 || message.has(Name::Authorization) {
        return Answers(status);
    }
    let mut phone = client("-");
    phone.user = Box::leak(user.user().to_owned().into_boxed_str());
    let header = challenge.header(Name::WwwAuthenticate).unwrap();
    let uri = String::from_utf8_lossy(message.request_uri()).into_owned();
    let line = format!("{}\r\n", phone.authorization(header, "Authorization", "REGISTER", &uri, 1));
    let mut bytes = message.as_bytes().to_vec();
    let line_end = bytes.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
    drop(bytes.splice(line_end..line_end, line.into_bytes()));
    fake.0.borrow_mut().responses.clear();
    let _task = Task::start(&fake, Message::parse(Bytes::from(bytes)).unwrap(), udp(DEVICE));
    let (status, reply) = answered(&fake).unwrap();
    if status != 200 {
        return Answers(status);
    }
    // The contact is given back as it was given, whatever is in it.
    for contact in message.contacts() {
        assert!(reply.contacts().any(|c| c.uri == contact.uri && c.params.raw().starts_with(contact.params.raw())));
    }
    assert_eq!(fake.bindings(user.as_str()).len(), reply.contacts().count(), "{}", row.name);
    Registers(reply.contacts().count())
}

fn as_stream(row: &Row) -> Cuts {
    let mut framer = StreamFramer::new(StreamFramer::DEFAULT_LIMIT);
    framer.push(row.bytes);
    let mut messages = 0;
    while let Some(frame) = framer.next() {
        match frame {
            Ok(Frame::Message(bytes)) => {
                messages += 1;
                // By a stream and by a datagram the verdict is the same.
                let alone = Message::parse(Bytes::from_static(row.bytes)).map_err(|e| e.kind).map(|_| ());
                if messages == 1 {
                    assert_eq!(Message::parse(bytes).map_err(|e| e.kind).map(|_| ()), alone, "{}", row.name);
                }
            }
            Ok(Frame::Ping | Frame::Pong) => {}
            Err(_) => return Closes,
        }
    }
    if framer.buffered() > 0 { Waits } else { Into(messages) }
}

fn run(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        let found = (as_server(row), as_proxy(row), as_stream(row));
        let expected = (row.server, row.proxy, row.stream);
        let fits = |expected: Does, found: Does| expected == NotAsked || expected == found;
        if !(fits(expected.0, found.0) && fits(expected.1, found.1) && expected.2 == found.2) {
            wrong.push(format!("{} ({}): expected {expected:?}, found {found:?}", row.name, row.section));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn rfc_4475_every_message_in_every_role() {
    let rows = rfc4475();
    assert_eq!(rows.len(), 49);
    run(&rows);
}

#[test]
fn rfc_5118_every_message_in_every_role() {
    let rows = rfc5118();
    assert_eq!(rows.len(), 12);
    run(&rows);
}

/// §3.3.10: a device that answers with somebody else's broadcast address under our own Via makes this server send nothing.
#[test]
fn rfc_4475_bcast_under_our_own_via() {
    let fake = world();
    let bob = aor("sip:bob@example.com");
    fake.set_place(&bob, Place::Here { group: group_of(EAST, &bob) });
    fake.0.borrow_mut().guests.insert(bob.as_str().to_owned(), vec![device(&bob)]);
    let invite =
        client("alice").bytes("INVITE", "sip:bob@example.com", "<sip:bob@example.com>", &[ASSERTED.trim()], "");
    let _task = Task::start(&fake, Message::parse(invite).unwrap(), peer_flow());
    let ours = fake.0.borrow().sent[0].2.via().raw().to_vec();
    let text = String::from_utf8(rfc4475().iter().find(|row| row.name == "bcast").unwrap().bytes.to_vec()).unwrap();
    let answer = text.replacen("SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923", &String::from_utf8(ours).unwrap(), 1);
    let answer = Message::parse(Bytes::from(answer)).unwrap();
    assert_eq!(answer.vias().count(), 2);
    pairline_services::dispatch::stateless(fake.clone(), answer, udp(DEVICE));
    assert!(fake.0.borrow().stateless.is_empty());
}
