//! RFC 3263: what is asked, in which order targets come, when there is no way, and what rests.

use std::net::SocketAddr;

use pairline_sip::reply::Reply;
use pairline_sip::target::{
    Answers, Kind, Locator, MAX_QUESTIONS, MAX_REST_MS, MAX_RESTING, MAX_TARGETS, Means, Naptr, Rest, Resting, Srv,
    Step, Target, retry_after,
};
use pairline_sip::{Message, Transport, Uri};

type Zone<'a> = &'a dyn Fn(&str, Kind) -> Answers;

type Located = (Vec<String>, Option<Vec<(Transport, SocketAddr)>>);

const ALL: [Means; 3] = [
    Means { transport: Transport::Udp, v4: true, v6: true },
    Means { transport: Transport::Tcp, v4: true, v6: true },
    Means { transport: Transport::Tls, v4: true, v6: true },
];

fn locate(uri: &str, zone: Zone<'_>) -> Located {
    locate_with(uri, &ALL, zone)
}

fn locate_with(uri: &str, means: &[Means], zone: Zone<'_>) -> Located {
    let uri = Uri::parse(uri.as_bytes()).unwrap();
    let (mut locator, mut step) = Locator::start_with(&uri, means);
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

/// As RFC 3263 §4.1's example, but with two services in one order: no other order is looked at (RFC 3403 §4.1), what cannot be
/// used is passed over.
#[test]
fn naptr_then_srv_then_addresses() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::Naptr) => Answers::Naptr(vec![
            naptr(50, 60, "SIP+D2T", "_sip._tcp.example.com."),
            naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
            naptr(100, 50, "SIP+D2U", "_sip._udp.example.com"),
            naptr(10, 50, "SIP+D2S", "_sip._sctp.example.com"),
            naptr(10, 50, "SIP+D2W", "_sip._ws.example.com"),
            naptr(10, 50, "SIP+D2U", "."),
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
            (Transport::Tls, addr("[2001:db8::1]:5061")),
            (Transport::Tls, addr("192.0.2.1:5061")),
            (Transport::Tcp, addr("[2001:db8::1]:5060")),
            (Transport::Tcp, addr("192.0.2.1:5060")),
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
            "Aaaa example.com",
            "A example.com"
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
    assert_eq!(asked, ["Aaaa example.com", "A example.com"]);
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
        "sip:a@df7jal23ls0d.invalid;transport=tcp",
    ] {
        assert_eq!(locate(uri, &nothing), (vec![], None), "{uri}");
    }
    let not_there = |name: &str, kind: Kind| match (name, kind) {
        (_, Kind::Srv) => Answers::Srv(vec![srv(0, 0, 0, ".")]),
        (_, Kind::A) => Answers::Addresses(vec!["192.0.2.5".parse().unwrap()]),
        _ => Answers::Missing,
    };
    assert_eq!(locate("sip:example.com", &not_there).1, None, "the domain says that it offers no SIP");
    assert_eq!(locate("sip:example.com;transport=tcp", &not_there).1, None);
}

/// A transport that the URI names, or the best NAPTR record, also holds for the addresses of the domain itself.
#[test]
fn the_chosen_transport_holds_where_srv_is_missing() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.5".parse().unwrap()]),
        ("tcp.example.com", Kind::Naptr) => Answers::Naptr(vec![naptr(1, 1, "SIP+D2T", "_sip._tcp.example.com")]),
        ("tcp.example.com", Kind::A) => Answers::Addresses(vec!["192.0.2.6".parse().unwrap()]),
        _ => Answers::Missing,
    };
    let first = |uri: &str| locate(uri, &zone).1.unwrap()[0];
    assert_eq!(first("sip:example.com;transport=tcp"), (Transport::Tcp, addr("192.0.2.5:5060")));
    assert_eq!(first("sip:example.com;transport=tls"), (Transport::Tls, addr("192.0.2.5:5061")));
    assert_eq!(first("sip:tcp.example.com"), (Transport::Tcp, addr("192.0.2.6:5060")));
}

/// What a sips URI allows, and what the caller has, decides which services are looked at.
#[test]
fn services_by_scheme_and_means() {
    let zone = |name: &str, kind: Kind| match (name, kind) {
        ("example.com", Kind::Naptr) => Answers::Naptr(vec![
            naptr(10, 1, "SIP+D2U", "_sip._udp.example.com"),
            naptr(10, 2, "sip+d2t", "_sip._tcp.example.com"),
            naptr(10, 3, "SIPS+D2T", "_sips._tcp.example.com"),
            naptr(10, 4, "SIP+D2W", "_sip._ws.example.com"),
            naptr(10, 5, "SIPS+D2W", "_sips._ws.example.com"),
            naptr(10, 6, "SIP+D2S", "_sip._sctp.example.com"),
            Naptr { flags: "u".into(), ..naptr(10, 0, "E2U+sip", "!^.*$!sip:x@example.com!") },
        ]),
        (_, Kind::Srv) => Answers::Srv(vec![srv(0, 0, 9, "192.0.2.1")]),
        _ => Answers::Missing,
    };
    let transports = |uri: &str, means: &[Transport]| -> Vec<Transport> {
        let means: Vec<Means> = means.iter().copied().map(Means::dual).collect();
        locate_with(uri, &means, &zone).1.unwrap_or_default().iter().map(|(transport, _)| *transport).collect()
    };
    use Transport::{Tcp, Tls, Udp, Ws, Wss};
    let five = [Udp, Tcp, Tls, Ws, Wss];
    assert_eq!(transports("sip:example.com", &five), five);
    assert_eq!(transports("sips:example.com", &five), [Tls, Wss]);
    assert_eq!(transports("sip:example.com", &[Tcp, Udp]), [Udp, Tcp], "the domain's preference, not ours");
    assert_eq!(transports("sips:example.com", &[Udp, Tcp]), []);
}

/// RFC 7984: only families that can be sent on are asked for, IPv6 first where both can.
#[test]
fn families_by_means() {
    let zone = |_: &str, kind: Kind| match kind {
        Kind::A => Answers::Addresses(vec!["192.0.2.5".parse().unwrap()]),
        Kind::Aaaa => Answers::Addresses(vec!["2001:db8::5".parse().unwrap()]),
        _ => Answers::Missing,
    };
    for (v4, v6, expected) in [
        (true, false, &["192.0.2.5:7"][..]),
        (false, true, &["[2001:db8::5]:7"]),
        (true, true, &["[2001:db8::5]:7", "192.0.2.5:7"]),
    ] {
        let means = [Means { transport: Transport::Udp, v4, v6 }];
        let (asked, targets) = locate_with("sip:example.com:7", &means, &zone);
        assert_eq!(asked.len(), expected.len());
        let found: Vec<String> = targets.unwrap().iter().map(|(_, addr)| addr.to_string()).collect();
        assert_eq!(found, expected);
        assert_eq!(locate_with("sip:[2001:db8::1]", &means, &nothing).1.is_some(), v6);
        assert_eq!(locate_with("sip:192.0.2.1", &means, &nothing).1.is_some(), v4);
    }
}

#[test]
fn addresses_that_are_no_hosts_are_never_targets() {
    let zone = |_: &str, kind: Kind| match kind {
        Kind::A => {
            Answers::Addresses(["0.0.0.0", "224.0.1.75", "255.255.255.255"].map(|ip| ip.parse().unwrap()).into())
        }
        Kind::Aaaa => Answers::Addresses(["::", "ff02::1", "::ffff:192.0.2.1"].map(|ip| ip.parse().unwrap()).into()),
        Kind::Srv => Answers::Srv(vec![srv(0, 0, 0, "zero-port.example.com"), srv(0, 0, 5060, "example.com")]),
        Kind::Naptr => Answers::Missing,
    };
    let (asked, targets) = locate("sip:example.com", &zone);
    assert_eq!(targets, None);
    assert!(!asked.iter().any(|question| question.contains("zero-port")));
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

fn target(n: u32) -> Target {
    Target { transport: Transport::Udp, addr: SocketAddr::new(n.to_be_bytes().into(), 5060) }
}

#[test]
fn a_target_rests_as_long_as_it_asked_and_no_longer() {
    let mut resting = Resting::default();
    resting.put(1_000, target(1), Rest::Asked, 5_000);
    resting.put(1_000, target(2), Rest::Silent, 3_000);
    assert_eq!((resting.of(1_000, &target(1)), resting.of(5_999, &target(1))), (Some(Rest::Asked), Some(Rest::Asked)));
    assert_eq!((resting.of(6_000, &target(1)), resting.of(4_000, &target(2))), (None, None));
    assert_eq!(resting.of(2_000, &Target { transport: Transport::Tcp, ..target(1) }), None, "another transport");
    resting.put(2_000, target(1), Rest::Silent, 500);
    assert_eq!(resting.of(5_000, &target(1)), Some(Rest::Asked), "silence does not cut a wish short");
    resting.put(2_000, target(2), Rest::Asked, 10_000);
    assert_eq!(resting.of(11_000, &target(2)), Some(Rest::Asked));
    resting.put(0, target(3), Rest::Asked, u64::MAX);
    assert_eq!(resting.of(MAX_REST_MS, &target(3)), None, "nobody is shunned for ever");
}

#[test]
fn the_list_of_resting_targets_is_bounded() {
    let mut resting = Resting::default();
    for n in 0..4 * u32::try_from(MAX_RESTING).unwrap() {
        resting.put(u64::from(n), target(n), Rest::Asked, 100_000);
        assert!(resting.len() <= MAX_RESTING);
    }
    let last = 4 * u32::try_from(MAX_RESTING).unwrap() - 1;
    assert_eq!(resting.of(u64::from(last), &target(last)), Some(Rest::Asked), "the newest are kept");
    assert_eq!(resting.of(u64::from(last), &target(0)), None);
}

#[test]
fn retry_after_is_read_with_what_may_stand_behind_it() {
    let request = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    let request = Message::parse(request.to_vec().into()).unwrap();
    for (value, expected) in [
        ("18", Some(18)),
        ("120 (I'm in a meeting)", Some(120)),
        ("18000;duration=3600", Some(18_000)),
        ("0", Some(0)),
        ("99999999999999999999", Some(u32::MAX)),
        ("-1", None),
        ("soon", None),
        ("1x", None),
    ] {
        let reply = Reply::to(&request, 503).header("Retry-After", value).build();
        assert_eq!(retry_after(&Message::parse(reply).unwrap()), expected, "{value}");
    }
    assert_eq!(retry_after(&Message::parse(Reply::to(&request, 503).build()).unwrap()), None);
}

/// RFC 6761 §6.4 and RFC 7118: names that nobody has are not asked for.
#[test]
fn an_invalid_host_is_never_asked_for() {
    for uri in ["sip:x@df7jal23ls0d.invalid;transport=ws", "sip:x@INVALID.", "sips:invalid:443", "sip:a@b.invalid"] {
        assert_eq!(locate(uri, &nothing), (vec![], None), "{uri}");
    }
    assert!(!locate("sip:invalid.example", &nothing).0.is_empty());
}
