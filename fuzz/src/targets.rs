//! The targets: what is done with an input of each, and the memory that it may take.
//!
//! Each reads foreign bytes as the product does, and checks what must hold whatever they are.

use crate::fields::Fields;
use crate::redact::redact;
use crate::watched::Watched;
use crate::{compare, node, websocket};
use bytes::Bytes;
use pairline_sip::auth::{self, Algorithm, Challenge, Credentials, NonceKeys};
use pairline_sip::{Aor, Edit, Flow, Layer, Message, Name, NameAddr, Params, Reply, Timers, Transport, Uri, Via};

/// One target.
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is done with an input.
    pub run: fn(&[u8]),
    /// Bytes of memory that any input may take.
    pub memory_base: u64,
    /// And as many more for each byte of it.
    pub memory_per_byte: u64,
}

const KIB: u64 = 1024;

/// All of them.
pub const ALL: &[Target] = &[
    Target { name: "message", run: message, memory_base: 64 * KIB, memory_per_byte: 64 },
    Target { name: "stream", run: stream, memory_base: 256 * KIB, memory_per_byte: 64 },
    Target { name: "uri", run: uri, memory_base: 8 * KIB, memory_per_byte: 16 },
    Target { name: "name_addr", run: name_addr, memory_base: 64 * KIB, memory_per_byte: 64 },
    Target { name: "via_route", run: via_route, memory_base: 64 * KIB, memory_per_byte: 64 },
    Target { name: "digest", run: digest, memory_base: 16 * KIB, memory_per_byte: 16 },
    Target { name: "transactions", run: transactions, memory_base: 256 * KIB, memory_per_byte: 64 },
    Target { name: "stun", run: stun, memory_base: 8 * KIB, memory_per_byte: 16 },
    // A read buffer, and a message of up to the limit.
    Target { name: "websocket", run: websocket::frames, memory_base: 256 * KIB, memory_per_byte: 16 },
    Target { name: "capture", run: capture, memory_base: 64 * KIB, memory_per_byte: 64 },
    // Decoded forms may be larger than what they were decoded from, by a bounded factor: an empty string of one byte is 24 in memory.
    Target { name: "peer_frame", run: peer_frame, memory_base: 64 * KIB, memory_per_byte: 256 },
    Target { name: "record", run: record, memory_base: 64 * KIB, memory_per_byte: 256 },
    Target { name: "topology", run: topology, memory_base: 256 * KIB, memory_per_byte: 1024 },
    Target { name: "node", run: node::datagrams, memory_base: 1024 * KIB, memory_per_byte: 256 },
];

/// One datagram through everything that a server does with it before a service sees it.
fn message(data: &[u8]) {
    compare::message(data);
    let message = match Message::parse(Bytes::copy_from_slice(data)) {
        Ok(message) => message,
        Err(error) => {
            let remote = "192.0.2.1:5060".parse().expect("an address");
            if let Some(reply) = error.reply_to(remote) {
                assert!(reply.starts_with(b"SIP/2.0 ") && reply.ends_with(b"\r\n\r\n"));
                assert!(reply.len() <= data.len() + 512, "a refusal is hardly longer than what it refuses");
            }
            return;
        }
    };
    assert_eq!(Edit::new(&message).finish(), message.as_bytes());
    let forwarded = Edit::new(&message)
        .fix_top_via("192.0.2.1".parse().ok(), Some(9))
        .push_via(b"SIP/2.0/UDP p;branch=z9hG4bKp")
        .pop_route()
        .set_max_forwards(1)
        .push_record_route(b"<sip:p;lr>")
        .remove(Name::PAssertedIdentity)
        .finish();
    // Two lines more than were accepted may be too many, or too long.
    if let Ok(forwarded) = Message::parse(forwarded) {
        assert_eq!(forwarded.body(), message.body());
        assert!(!forwarded.has(Name::PAssertedIdentity));
    }
    if message.is_request() {
        let reply = Reply::to(&message, 404).build();
        if let Ok(reply) = Message::parse(reply) {
            assert_eq!(reply.call_id(), message.call_id());
            Message::parse(Reply::ack_for(&message, &reply)).expect("an ACK parses");
        }
    }
}

/// A stream in pieces: the first byte says how many lengths of pieces follow it.
fn stream(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let count = usize::from(count % 16).min(rest.len());
    let (lengths, stream) = rest.split_at(count);
    let lengths: Vec<usize> = lengths.iter().map(|&l| usize::from(l) + 1).collect();
    for message in compare::stream(stream, &lengths, 8192) {
        compare::message(&message);
    }
}

fn uri(data: &[u8]) {
    let ours = Uri::parse(data);
    assert_eq!(ours.is_ok(), crate::reference::uri_is_good(data), "{}", data.escape_ascii());
    let Ok(uri) = ours else {
        return;
    };
    assert!(uri.equals(&uri), "a URI equals itself: {}", data.escape_ascii());
    let _ = (uri.params().count(), uri.header_fields().count(), uri.param("transport"));
    if let Some(aor) = uri.aor() {
        let again = Aor::parse(aor.as_str()).expect("the canonical form is a URI");
        assert_eq!(again, aor, "the canonical form is canonical");
        assert!(aor.as_str().is_ascii());
    }
}

fn name_addr(data: &[u8]) {
    let ours = NameAddr::parse(data);
    let theirs = crate::reference::address(data);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{}", data.escape_ascii());
    if let (Ok(ours), Some((uri, params))) = (&ours, &theirs) {
        assert_eq!(ours.uri, uri);
        let mine: Vec<_> = ours.params.iter().map(|p| (p.name.to_vec(), p.raw_value.map(<[u8]>::to_vec))).collect();
        assert_eq!(&mine, params);
        let _ = (ours.tag(), ours.q(), ours.expires(), ours.parse_uri());
    }
    let _ = Params::parse(data);
}

fn via_route(data: &[u8]) {
    let ours = Via::parse(data);
    let theirs = crate::reference::via_parameters(data);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{}", data.escape_ascii());
    if let Ok(via) = ours {
        let _ =
            (via.branch(), via.received(), via.rport(), via.ttl(), via.maddr(), via.sent_by(), via.has_magic_cookie());
        let _ = via.fix_for("192.0.2.1:5060".parse().expect("an address"));
    }
    // The same bytes as lists of both headers.
    let text = [
        &b"OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nVia: "[..],
        data,
        b"\r\nRoute: <sip:a;lr>, ",
        data,
        b"\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n",
    ]
    .concat();
    message(&text);
}

fn digest(data: &[u8]) {
    let keys = NonceKeys::new([7; 32], Some([8; 32]));
    let _ = Challenge::parse(data);
    let _ = auth::check_nonce(&keys, data, 1_795_000_000_000, 60_000);
    let Ok(credentials) = Credentials::parse(data) else {
        return;
    };
    for ha1 in [&[b'0'; 32][..], &[b'0'; 64], b""] {
        assert!(!auth::verify(&credentials, ha1, b"REGISTER"), "nobody's HA1 fits a guess");
    }
    let _ = auth::check_nonce(&keys, &credentials.nonce, 1_795_000_000_000, 60_000);
    if let Ok(realm) = std::str::from_utf8(&credentials.realm) {
        let challenge = auth::challenge(realm, Algorithm::Sha256, "nonce", false, false);
        assert!(!challenge.contains(['\r', '\n', '\0']), "no realm begins another line");
    }
}

/// What is captured: every secret that the product would read in it is filled, and nothing changes its length.
fn capture(data: &[u8]) {
    let data = &data[data.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()..];
    let [hidden, shown] = [false, true].map(|bodies| redact(data, bodies));
    assert!(hidden.len() == data.len() && shown.len() == data.len());
    let fields = Fields::of(data);
    assert_eq!(hidden[..fields.body_at], shown[..fields.body_at]);
    let watched = Watched::parse("sip:alice@pairline.test").expect("a user");
    assert!(!watched.is_named_in(&hidden, &fields) || watched.is_named_in(data, &fields), "filling names nobody");
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    let at = |part: &[u8]| part.as_ptr() as usize - message.as_bytes().as_ptr() as usize;
    for value in [Name::Authorization, Name::ProxyAuthorization].into_iter().flat_map(|name| message.headers(name)) {
        if let Ok(Credentials { response: std::borrow::Cow::Borrowed(response), .. }) = Credentials::parse(value) {
            let place = at(response)..at(response) + response.len();
            assert!(hidden[place].iter().all(|b| *b == b'x'), "an answer to a challenge is readable");
        }
    }
    let body = at(message.body())..at(message.body()) + message.body().len();
    let described = message.header(Name::ContentType).is_some_and(|kind| {
        kind.to_ascii_lowercase().starts_with(b"application/sdp")
    });
    assert!(described || hidden[body].iter().all(|b| *b == b'x'), "a body is readable");
}

/// A datagram on the SIP port that may be STUN: whatever it is, the answer is hardly longer.
fn stun(data: &[u8]) {
    for remote in ["192.0.2.1:5060", "[2001:db8::1]:5060"] {
        let answer = pairline_sip::stun::answer(data, remote.parse().expect("an address"));
        if let Some(answer) = answer {
            assert!(pairline_sip::stun::is_stun(data) && pairline_sip::stun::is_stun(&answer));
            assert!(answer.len() <= data.len() + 64, "{} bytes for {}", answer.len(), data.len());
            assert_eq!(answer[8..20], data[8..20], "of that transaction");
        }
    }
}

/// Messages one after the other, each led by two bytes of length, through a transaction layer.
fn transactions(data: &[u8]) {
    let mut layer = Layer::new(Timers::default(), 8);
    let mut rest = data;
    let mut now = 0;
    while let [high, low, after @ ..] = rest {
        let length = (usize::from(*high & 7) << 8 | usize::from(*low)).min(after.len());
        let (bytes, next) = after.split_at(length);
        let udp = high & 8 == 0;
        let base = Flow::udp(0, "192.0.2.1:5060".parse().expect("an address"));
        let flow = if udp { base } else { Flow { transport: Transport::Tcp, connection: 1, ..base } };
        now += u64::from(high >> 4) * 500;
        layer.on_time(now);
        if high & 0x80 != 0 {
            layer.transport_failed(now, flow);
        }
        if let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) {
            let method = message.method().clone();
            if let pairline_sip::Received::Request { tx, message } = layer.receive(now, flow, message) {
                let status = if method == pairline_sip::Method::Invite { 180 } else { 200 };
                let _ = layer.respond(now, tx, status, Reply::to(&message, status).build());
            }
        }
        while layer.poll().is_some() {}
        assert!(layer.server_len() <= 9);
        rest = next;
    }
    layer.on_time(now + 10_000_000);
    while layer.poll().is_some() {}
}

/// What the other pool's server may send over the link.
fn peer_frame(data: &[u8]) {
    use pairline_node::peer::PeerFrame;
    if let Ok(frame) = PeerFrame::decode(data) {
        let bytes = frame.encode();
        assert_eq!(PeerFrame::decode(&bytes).expect("what was encoded decodes"), frame);
    }
    if let Ok(frame) = pairline_group::frame::decode(data) {
        let _ = pairline_group::frame::encode(&frame);
    }
    if let Ok(heartbeat) = pairline_resilience::heartbeat::Heartbeat::decode(data) {
        let _ = heartbeat.encode();
    }
}

/// What stands in the log, or comes with it from the other pool.
fn record(data: &[u8]) {
    use pairline_resilience::{journal, plan};
    use pairline_services::{binding::Binding, records, settings::Secret};
    if let Ok(entry) = pairline_group::codec::decode_entry(data) {
        let bytes = pairline_group::codec::encode_entry(&entry);
        assert_eq!(pairline_group::codec::decode_entry(&bytes).expect("what was encoded decodes"), entry);
    }
    if let Ok(binding) = Binding::decode(data) {
        assert_eq!(Binding::decode(&binding.encode()).expect("what was encoded decodes"), binding);
    }
    let _ = (records::Settings::decode(data), records::Contact::decode(data));
    let _ = records::Credential::open(&Secret([9; 32]), "sip:a@b", data);
    let _ = (journal::Procedure::decode(data), journal::decode_lock(data), plan::Plan::decode(data));
}

/// Topologies as files and as stored.
fn topology(data: &[u8]) {
    use pairline_topology::{directory, stored};
    let _ = (directory::DirectoryEntry::decode(data), directory::OwnershipHint::decode(data));
    let _ = stored::decode_topology(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = pairline_topology::parse("topology.toml", text);
    }
}
