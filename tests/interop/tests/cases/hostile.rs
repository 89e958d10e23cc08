//! What no well-behaved program sends. After each case the server still serves.

use super::{east, west};
use pairline_interop::deployment::Deployment;
use pairline_interop::phone::Phone;
use pairline_interop::raw::{self, Answer};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// An OPTIONS gets an answer, over UDP and TCP.
pub fn serves(server: SocketAddr, mark: &str) {
    let uri = "sip:pairline.test";
    let datagram = raw::request("OPTIONS", uri, "UDP 127.0.0.1:9", &format!("{mark}u"), "");
    let told = raw::ask(server, datagram.as_bytes(), raw::ANSWER).expect("an OPTIONS over UDP gets an answer");
    assert!(told.starts_with("SIP/2.0 "), "{told}");
    let mut stream = raw::connect(server);
    raw::pour(&mut stream, raw::request("OPTIONS", uri, "TCP 127.0.0.1:9", &format!("{mark}t"), "").as_bytes());
    let Answer::Text(told) = raw::answer(&mut stream) else { panic!("an OPTIONS over TCP gets an answer") };
    assert!(told.starts_with("SIP/2.0 ") && told.contains(&format!("{mark}t")), "{told}");
}

/// A fixed sequence of bytes that looks random.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Noise, cut messages, and messages with one field broken.
pub fn datagrams(pairline: &mut Deployment) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let good =
        raw::request("REGISTER", "sip:pairline.test", "UDP 127.0.0.1:9", "garbage", "Contact: <sip:a@127.0.0.1:9>\r\n");
    for server in [east(), west()] {
        let pool = if server == east() { "east" } else { "west" };
        let pid = pairline.server_pid(pool);
        let send = |bytes: &[u8]| {
            socket.send_to(bytes, server).expect("loopback takes datagrams");
        };
        for seed in 1..=300 {
            let length = 1 + usize::from(noise(seed, 1)[0]) * 5;
            send(&noise(seed, length));
        }
        for cut in (1..good.len()).step_by(3) {
            send(&good.as_bytes()[..cut]);
        }
        let breaks = [
            ("CSeq: 1 ", "CSeq: 99999999999999999999 "),
            ("CSeq: 1 ", "CSeq: -1 "),
            ("Content-Length: 0", "Content-Length: 4294967296"),
            ("Content-Length: 0", "Content-Length: -1"),
            ("Max-Forwards: 70", "Max-Forwards: 70000"),
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
            ("branch=z9hG4bK", "branch="),
            ("<sip:alice@pairline.test>", "<<<<<sip:\0\u{1}@[::::]>"),
            ("Call-ID: garbage\r\n", "Call-ID: a\r\nCall-ID: b\r\n"),
            ("Contact: <sip:a@127.0.0.1:9>", "Contact: *, <sip:a@b>;q=7;expires=99999999999"),
        ];
        for (from, to) in breaks {
            send(good.replace(from, to).as_bytes());
        }
        send(good.replace("Max-Forwards: 70\r\n", &"Via: SIP/2.0/UDP a\r\n".repeat(2000)).as_bytes());
        send(&[b"INVITE sip:x SIP/2.0\r\n".as_slice(), &vec![b'a'; 60_000]].concat());
        serves(server, "afterdatagrams");
        assert_eq!(pairline.server_pid(pool), pid, "{pool} was replaced: it must have died");
    }
}

/// The answer does not depend on how the bytes are cut, and two messages in one write get two answers.
pub fn cut_stream(_: &mut Deployment) {
    let one = |id: &str| raw::request("OPTIONS", "sip:pairline.test", "TCP 127.0.0.1:9", id, "");
    let mut stream = raw::connect(east());
    for byte in format!("\r\n\r\n{}", one("bytewise")).into_bytes() {
        raw::pour(&mut stream, &[byte]);
    }
    let mut seen = String::new();
    while !seen.contains("bytewise") {
        match raw::answer(&mut stream) {
            Answer::Text(text) => seen.push_str(&text),
            other => panic!("{other:?} after {seen}"),
        }
    }
    raw::pour(&mut stream, format!("{}{}", one("first"), one("second")).as_bytes());
    let mut seen = String::new();
    while !(seen.contains("first") && seen.contains("second")) {
        match raw::answer(&mut stream) {
            Answer::Text(text) => seen.push_str(&text),
            other => panic!("{other:?} after {seen}"),
        }
    }
}

/// Streams whose end of message cannot be known, or whose size is beyond the limit, are refused or closed; others go on.
pub fn bad_streams(pairline: &mut Deployment) {
    let pid = pairline.server_pid("east");
    let good = raw::request("OPTIONS", "sip:pairline.test", "TCP 127.0.0.1:9", "badstream", "");
    let cases: [(&str, Vec<u8>); 6] = [
        ("no Content-Length", good.replace("Content-Length: 0\r\n", "").into_bytes()),
        ("two lengths", good.replace("Content-Length: 0", "Content-Length: 0\r\nContent-Length: 5").into_bytes()),
        ("a length that is none", good.replace("Content-Length: 0", "Content-Length: abc").into_bytes()),
        ("an enormous length", good.replace("Content-Length: 0", "Content-Length: 4000000000").into_bytes()),
        ("a header section without end", [b"OPTIONS sip:x SIP/2.0\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat()),
        ("noise", noise(7, 1 << 18)),
    ];
    for (what, bytes) in cases {
        let mut stream = raw::connect(east());
        raw::pour(&mut stream, &bytes);
        let first = raw::answer(&mut stream);
        if let Answer::Text(text) = &first {
            assert!(text.starts_with("SIP/2.0 4") || text.starts_with("SIP/2.0 5"), "{what}: {text}");
            assert_eq!(raw::answer(&mut stream), Answer::Closed, "{what}: refused and left open");
        } else {
            assert_eq!(first, Answer::Closed, "{what}");
        }
    }
    let many: Vec<_> = (0..200).map(|_| raw::connect(east())).collect();
    serves(east(), "afterstreams");
    drop(many);
    assert_eq!(pairline.server_pid("east"), pid, "east was replaced: it must have died");
}

/// A challenge does not tell whether a user exists.
pub fn enumeration(_: &mut Deployment) {
    let shape = |user: &str| {
        let id = format!("enumerate{user}");
        let request =
            raw::request("REGISTER", "sip:pairline.test", "UDP 127.0.0.1:9", &id, "Contact: <sip:a@127.0.0.1:9>\r\n");
        let request = request.replace("To: <sip:pairline.test>", &format!("To: <sip:{user}@pairline.test>"));
        let request = request.replace("sip:alice@", &format!("sip:{user}@"));
        let told = raw::ask(east(), request.as_bytes(), Duration::from_secs(5)).expect("a REGISTER gets an answer");
        let names = told.lines().map(|line| line.split([':', '=']).next().unwrap_or_default().to_owned());
        (told.lines().next().unwrap_or_default().to_owned(), names.collect::<Vec<_>>())
    };
    let (known, unknown) = (shape("alice"), shape("nosuchuser"));
    assert!(known.0.contains(" 401 "), "{known:?}");
    assert_eq!(known, unknown);
}

/// Alice's right credentials with another name in From, while the other pool is frozen: the same answer for users of either pool and
/// for names that nobody has, and in no more time than it takes to look.
pub fn another_name(pairline: &mut Deployment) {
    let password = pairline.password("alice");
    let challenge = Phone::new("alice", east(), 9).challenge();
    let frozen = pairline.freeze("west");
    let names = ["bob", "carol", "nobody1", "nobody2", "nobody3", "nobody4", "nobody5", "nobody6"];
    for (count, name) in names.into_iter().enumerate() {
        for (n, method) in ["INVITE", "REGISTER", "OPTIONS"].into_iter().enumerate() {
            let uri =
                if method == "REGISTER" { "sip:pairline.test".to_owned() } else { format!("sip:{name}@pairline.test") };
            let count = u32::try_from(count * 3 + n + 1).expect("a small count");
            let credentials = challenge.answer("alice", &password, method, &uri, count);
            let credentials = if method == "REGISTER" { credentials } else { format!("Proxy-{credentials}") };
            let extra = format!("Contact: <sip:a@127.0.0.1:9>\r\n{credentials}");
            let request = raw::request(method, &uri, "UDP 127.0.0.1:9", &format!("another{count}"), &extra);
            let request = request.replace("From: <sip:alice@", &format!("From: <sip:{name}@"));
            let request = request.replace("To: <sip:pairline.test>", &format!("To: <sip:{name}@pairline.test>"));
            let told = raw::ask(east(), request.as_bytes(), raw::ANSWER);
            let told = told.unwrap_or_else(|| panic!("{method} of {name} is not answered at once"));
            assert!(told.starts_with("SIP/2.0 403 Identity Does Not Match Credentials"), "{method} of {name}: {told}");
        }
    }
    drop(frozen);
    pairline.must(&["pool", "status", "--wait", "steady", "--timeout", "60"]);
}
