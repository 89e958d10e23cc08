//! A bounded, seeded smoke test: mutated messages through everything that reads foreign bytes.
//! Nothing may panic, and what is accepted must come out as it went in.

use bytes::Bytes;
use pairline_sip::auth::{Challenge, Credentials};
use pairline_sip::{Edit, Flow, Layer, Message, Name, NameAddr, Reply, StreamFramer, Timers, Transport, Uri, Via};

use crate::torture_data::all;

/// A small seeded generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit.max(1)
    }
}

const SPICE: [&[u8]; 16] =
    [b"\r\n", b"\n", b"\0", b"\"", b"<", b">", b",", b";", b"=", b"%", b"\\", b"[", b"]", b":", b"\r\n ", b"\xff"];

/// A few random edits.
pub fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + random.below(8)).min(out.len());
        match random.below(5) {
            0 if at < out.len() => out[at] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(out.drain(at..end)),
            2 => drop(out.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied())),
            3 => {
                let copy = out[at..end].to_vec();
                drop(out.splice(at..at, copy));
            }
            _ => out.truncate(out.len() - random.below(16).min(out.len())),
        }
    }
    out
}

/// The getters, which trust the checks of `parse`, say the same as a full reading.
fn getters_agree_with_parsers(message: &Message) {
    for (name, addr) in [(Name::From, message.from()), (Name::To, message.to())] {
        assert_eq!(message.header(name).map(NameAddr::parse), Some(Ok(addr)));
    }
    let elements: Vec<_> = message.elements(Name::Via).map(Via::parse).collect();
    assert_eq!(elements, message.vias().map(Ok).collect::<Vec<_>>());
    if message.is_request() {
        for name in [Name::Contact, Name::Route, Name::RecordRoute, Name::Path] {
            let elements = message.elements(name).filter(|element| *element != b"*");
            let full: Vec<_> = elements.map(NameAddr::parse).collect();
            assert_eq!(full, message.addresses(name).map(Ok).collect::<Vec<_>>());
        }
    }
}

fn read_everything(message: &Message) {
    getters_agree_with_parsers(message);
    let _ = message.via().fix_for("192.0.2.1:5060".parse().unwrap());
    for via in message.vias() {
        let _ = (via.branch(), via.received(), via.rport(), via.ttl(), via.maddr());
    }
    for addr in [message.from(), message.to()] {
        let _ = (addr.tag(), addr.q(), addr.expires());
        if let Ok(uri) = addr.parse_uri() {
            let _ = uri.aor();
            assert!(uri.equals(&uri), "{}", String::from_utf8_lossy(uri.raw()));
        }
    }
    let _ = (message.cseq(), message.call_id(), message.max_forwards(), message.expires());
    let _ = message.contacts().chain(message.contacts()).count();
    let _ = message.routes().count() + message.record_routes().count() + message.paths().count();
    let _ = (message.supported("path"), message.body(), message.reason());
    for name in [Name::Authorization, Name::ProxyAuthorization, Name::WwwAuthenticate] {
        for value in message.headers(name) {
            let _ = (Credentials::parse(value), Challenge::parse(value));
        }
    }
    if let Ok(uri) = message.parse_request_uri() {
        let _ = uri.aor();
    }
}

fn exercise(bytes: Vec<u8>, layer: &mut Layer, now: u64) -> bool {
    let _ = (Uri::parse(&bytes), NameAddr::parse(&bytes), Via::parse(&bytes));
    let mut framer = StreamFramer::new(4096);
    framer.push(&bytes);
    while framer.next().is_some() {}
    let message = match Message::parse(Bytes::from(bytes)) {
        Ok(message) => message,
        Err(error) => {
            if let Some(reply) = error.reply() {
                assert!(reply.starts_with(b"SIP/2.0 ") && reply.ends_with(b"\r\n\r\n"));
            }
            return false;
        }
    };
    read_everything(&message);
    let forwarded = Edit::new(&message)
        .fix_top_via("192.0.2.1".parse().ok(), Some(9))
        .push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp")
        .pop_route()
        .set_max_forwards(1)
        .push_record_route(b"<sip:p;lr>")
        .finish();
    let forwarded = Message::parse(forwarded).expect("a forwarded message parses");
    assert_eq!(forwarded.body(), message.body());
    if message.is_request() {
        let reply = Message::parse(Reply::to(&message, 404).build()).expect("replies parse");
        Message::parse(Reply::ack_for(&message, &reply)).expect("ACKs parse");
        Message::parse(Reply::cancel_for(&message)).expect("CANCELs parse");
    }
    let flow = Flow {
        transport: if now.is_multiple_of(2) { Transport::Udp } else { Transport::Tcp },
        connection: now % 2,
        ..Flow::udp(0, "192.0.2.1:5060".parse().unwrap())
    };
    let _ = layer.receive(now, flow, message);
    layer.on_time(now);
    while layer.poll().is_some() {}
    true
}

#[test]
fn mutated_messages_break_nothing() {
    let mut random = Random(0x5eed);
    let mut layer = Layer::new(Timers::default(), 64);
    let seeds = all();
    let mut accepted = 0u32;
    for round in 0..30_000u64 {
        let seed = &seeds[random.below(seeds.len())];
        let bytes = mutate(&seed.bytes(), &mut random);
        accepted += u32::from(exercise(bytes, &mut layer, round * 10));
        assert!(layer.server_len() <= 64 + 1, "the limit holds");
    }
    assert!(accepted > 3000, "only {accepted} of 30000 were accepted: too weak a test");
}
