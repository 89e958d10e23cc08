//! RFC 3263: what is asked, in which order targets come, and when there is no way.

use std::net::SocketAddr;

use pairline_sip::target::{Answers, Kind, Locator, MAX_QUESTIONS, MAX_TARGETS, Naptr, Srv, Step};
use pairline_sip::{Transport, Uri};

type Zone<'a> = &'a dyn Fn(&str, Kind) -> Answers;

fn locate(uri: &str, zone: Zone<'_>) -> (Vec<String>, Option<Vec<(Transport, SocketAddr)>>) {
    let uri = Uri::parse(uri.as_bytes()).unwrap();
    let (mut locator, mut step) = Locator::start(&uri);
    let mut asked = Vec::new();
    loop {
        match step {
            Step::Ask(question) => {
                asked.push(format!("{:?} {}", question.kind, question.name));
                step = locator.answer(zone(&question.name, question.kind), 7);
            }
            Step::Done(targets) => {
                let targets = targets.iter().map(|t| (t.transport, t.addr)).collect();
                return (asked, Some(targets));
            }
            Step::Failed => return (asked, None),
        }
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.into() }
}

fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
    Naptr { order, preference, flags: "s".into(), service: service.into(), replacement: replacement.into() }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn nothing(_: &str, _: Kind) -> Answers {
    Answers::Missing
}

#[test]
fn addresses_need_no_question() {
    for (uri, transport, at) in [
        ("sip:a@192.0.2.1", Transport::Udp, "192.0.2.1:5060"),
        ("sips:a@192.0.2.1", Transport::Tls, "192.0.2.1:5061"),
        ("sip:a@192.0.2.1:99;transport=tcp", Transport::Tcp, "192.0.2.1:99"),
        ("sips:a@[2001:db8::1];transport=tcp", Transport::Tls, "[2001:db8::1]:5061"),
        ("sip:a@example.com;maddr=192.0.2.9", Transport::Udp, "192.0.2.9:5060"),
    ] {
        let (asked, targets) = locate(uri, &nothing);
        assert!(asked.is_empty());
        assert_eq!(targets, Some(vec![(transport, addr(at))]), "{uri}");
    }
}

/// RFC 3263 §4.1's example: three NAPTR records, of which the client does TLS, TCP and UDP.
#[test]
fn naptr_then_srv_then_addresses() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::Naptr) => Answers::Naptr(vec![
            naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com."),
            naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
            naptr(100, 50, "SIP+D2U", "_sip._udp.example.com"),
            naptr(10, 50, "SIP+D2S", "_sip._sctp.example.com"),
        ]),
        ("_sips._tcp.example.com", Kind::Srv) => Answers::Srv(vec![srv(1, 1, 5061, "server1.example.com")]),
        ("_sip._tcp.example.com", Kind::Srv) => {
            Answers::Srv(vec![srv(1, 1, 5060, "server2.example.com"), srv(0, 1, 5060, "Server1.example.com.")])
        }
        ("server1.example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.1".parse().unwrap()]),
        ("server1.example.com", Kind::Aaaa) => Answers::Addresses(vec!["2001:db8::1".parse().unwrap()]),
        ("server2.example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.2".parse().unwrap()]),
        _ => Answers::Missing,
    };
    let (asked, targets) = locate("sip:user@EXAMPLE.com", &zone);
    assert_eq!(asked[0], "Naptr example.com");
    assert_eq!(asked[1], "Srv _sips._tcp.example.com");
    assert_eq!(
        targets.unwrap(),
        [
            (Transport::Tls, addr("192.0.2.1:5061")),
            (Transport::Tls, addr("[2001:db8::1]:5061")),
            (Transport::Tcp, addr("192.0.2.1:5060")),
            (Transport::Tcp, addr("[2001:db8::1]:5060")),
            (Transport::Tcp, addr("192.0.2.2:5060")),
        ]
    );
}

#[test]
fn without_records_the_domain_itself() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.5".parse().unwrap()]),
        _ => Answers::Missing,
    };
    let (asked, targets) = locate("sip:example.com", &zone);
    assert_eq!(targets, Some(vec![(Transport::Udp, addr("192.0.2.5:5060"))]));
    assert_eq!(
        asked,
        [
            "Naptr example.com",
            "Srv _sip._udp.example.com",
            "Srv _sip._tcp.example.com",
            "Srv _sips._tcp.example.com",
            "A example.com",
            "Aaaa example.com"
        ]
    );
    let (asked, targets) = locate("sips:example.com", &zone);
    assert_eq!(targets, Some(vec![(Transport::Tls, addr("192.0.2.5:5061"))]));
    assert!(!asked.iter().any(|question| question.contains("_udp")));
    assert_eq!(locate("sip:example.com", &nothing).1, None);
}

#[test]
fn a_port_or_a_transport_shortens_the_way() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.5".parse().unwrap()]),
        ("_sip._tcp.example.com", Kind::Srv) => Answers::Srv(vec![srv(0, 0, 7, "example.com")]),
        _ => Answers::Missing,
    };
    let (asked, targets) = locate("sip:example.com:99", &zone);
    assert_eq!(asked[0], "A example.com");
    assert_eq!(targets, Some(vec![(Transport::Udp, addr("192.0.2.5:99"))]));
    let (asked, targets) = locate("sip:example.com;transport=TCP", &zone);
    assert_eq!(asked[0], "Srv _sip._tcp.example.com");
    assert_eq!(targets, Some(vec![(Transport::Tcp, addr("192.0.2.5:7"))]));
}

#[test]
fn dead_ends() {
    for uri in [
        "tel:+1",
        "sip:a@192.0.2.1;transport=sctp",
        "sips:a@192.0.2.1;transport=udp",
        "urn:service:sos",
        "sip:a@b;maddr=%%",
    ] {
        assert_eq!(locate(uri, &nothing), (vec![], None), "{uri}");
    }
    let not_there = |name: &str, kind: Kind| match (name, kind) {
        (_, Kind::Srv) => Answers::Srv(vec![srv(0, 0, 0, ".")]),
        _ => Answers::Missing,
    };
    assert_eq!(locate("sip:example.com", &not_there).1, None);
}

#[test]
fn hostile_answers_are_bounded() {
    let flood = |name: &str, kind: Kind| match kind {
        Kind::Naptr => {
            Answers::Naptr((0..1000).map(|n| naptr(n, 0, "SIP+D2U", &format!("_sip._udp.{n}.{name}"))).collect())
        }
        Kind::Srv => Answers::Srv((0..1000).map(|n| srv(n, n, 5060, &format!("h{n}.{name}"))).collect()),
        _ => Answers::Addresses((0..=255u8).map(|n| [10, 0, 0, n].into()).collect()),
    };
    let (asked, targets) = locate("sip:example.com", &flood);
    assert!(asked.len() <= MAX_QUESTIONS);
    assert!(targets.is_none_or(|targets| targets.len() <= MAX_TARGETS));
    let wrong_kind = |_: &str, _: Kind| Answers::Addresses(vec!["192.0.2.1".parse().unwrap()]);
    let (_, targets) = locate("sip:example.com", &wrong_kind);
    assert_eq!(targets.map(|t| t.len()), Some(1));
}

/// RFC 2782: over many random numbers, shares follow the weights, and weight 0 is rare.
#[test]
fn weights_share_the_load() {
    let uri = Uri::parse(b"sip:example.com;transport=udp").unwrap();
    let mut first = [0u32; 3];
    for random in 0..4000u64 {
        let (mut locator, _) = Locator::start(&uri);
        let records = vec![
            srv(1, 75, 1, "192.0.2.1"),
            srv(1, 25, 2, "192.0.2.2"),
            srv(1, 0, 3, "192.0.2.3"),
            srv(2, 100, 4, "192.0.2.4"),
        ];
        let Step::Done(targets) = locator.answer(Answers::Srv(records), random) else {
            panic!("addresses need no question");
        };
        assert_eq!(targets.len(), 4);
        assert_eq!(targets[3].addr.port(), 4, "the lower priority comes last");
        first[usize::from(targets[0].addr.port() - 1)] += 1;
    }
    assert!((2800..3200).contains(&first[0]), "{first:?}");
    assert!((850..1150).contains(&first[1]), "{first:?}");
    assert!(first[2] < 120, "{first:?}");
}

/// RFC 6761 §6.4 and RFC 7118: names that nobody has are not asked for.
#[test]
fn an_invalid_host_is_never_asked_for() {
    for uri in ["sip:x@df7jal23ls0d.invalid;transport=ws", "sip:x@INVALID.", "sips:invalid:443", "sip:a@b.invalid"] {
        assert_eq!(locate(uri, &nothing), (vec![], None), "{uri}");
    }
    assert!(!locate("sip:invalid.example", &nothing).0.is_empty());
}
