//! What a stranger's DNS may answer, and what is kept of it: aliases, other owners, loops, floods, lost datagrams, TTLs.
#![allow(clippy::unwrap_used)]

use super::support;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record};
use pairline_server::dns::cache::{Cache, KEPT, KEPT_BYTES, LONGEST, LONGEST_NEGATIVE};
use pairline_server::dns::client::{ALIASES, AskError, ask};
use pairline_sip::target::{Answers, Kind, MAX_RECORDS, Naptr};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A DNS server that answers as a script says, in bytes; nothing: it stays silent. Counts what it was asked over UDP.
struct Stub {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Stub {
    /// `script` is given the query and its number from 0, over UDP (`false`) or TCP.
    fn start(script: impl Fn(&Message, usize, bool) -> Option<Vec<u8>> + Send + Sync + 'static) -> Stub {
        let udp = UdpSocket::bind((support::address(), 0)).unwrap();
        let at = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(at).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        let (by_tcp, number) = (script.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                if let Some(reply) = script(&query, number.fetch_add(1, Ordering::SeqCst), false) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                let reply = by_tcp(&Message::from_vec(&query).unwrap(), 0, true).unwrap();
                stream.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&reply).unwrap();
            }
        });
        Stub { at, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn a(owner: &str, ttl: u32, ip: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A::from(std::net::Ipv4Addr::from(ip))))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn reply(query: &Message, answers: Vec<Record>) -> Message {
    let mut message = Message::new();
    message.set_id(query.id()).set_message_type(MessageType::Response);
    message.add_queries(query.queries().iter().cloned()).add_answers(answers);
    message
}

fn addresses(ips: &[[u8; 4]]) -> Answers {
    Answers::Addresses(ips.iter().map(|ip| IpAddr::from(*ip)).collect())
}

#[tokio::test]
async fn aliases_are_followed_within_an_answer_and_beyond() {
    let stub = Stub::start(|query, _, _| {
        let asked = query.queries()[0].name().to_ascii();
        let answers = match asked.as_str() {
            "one.test." => {
                vec![alias("one.test.", 50, "b.test."), alias("b.test.", 9, "C.test."), a("c.test.", 60, [10, 0, 0, 1])]
            }
            "two.test." => vec![alias("two.test.", 7, "far.test.")],
            "far.test." => vec![a("far.test.", 60, [10, 0, 0, 2])],
            "foreign.test." => vec![a("other.test.", 60, [10, 0, 0, 3])],
            other => panic!("{other}"),
        };
        Some(reply(query, answers).to_vec().unwrap())
    });
    let servers = [stub.at];
    assert_eq!(
        ask(&servers, "one.test", Kind::A).await,
        Ok((addresses(&[[10, 0, 0, 1]]), 9)),
        "the shortest TTL holds"
    );
    assert_eq!(stub.asked(), 1);
    assert_eq!(ask(&servers, "two.test", Kind::A).await, Ok((addresses(&[[10, 0, 0, 2]]), 7)));
    assert_eq!(stub.asked(), 3);
    let (answers, _) = ask(&servers, "foreign.test", Kind::A).await.unwrap();
    assert_eq!(answers, Answers::Missing, "records of another name are not the answer");
}

#[tokio::test]
async fn aliases_without_end_end() {
    let circle = Stub::start(|query, _, _| {
        let loops = vec![alias("x.test.", 5, "y.test."), alias("y.test.", 5, "x.test.")];
        Some(reply(query, loops).to_vec().unwrap())
    });
    assert_eq!(ask(&[circle.at], "x.test", Kind::A).await.unwrap().0, Answers::Missing);
    assert!(circle.asked() <= ALIASES + 1);
    let endless = Stub::start(|query, number, _| {
        let asked = query.queries()[0].name().to_ascii();
        Some(reply(query, vec![alias(&asked, 5, &format!("n{number}.test."))]).to_vec().unwrap())
    });
    assert_eq!(ask(&[endless.at], "n.test", Kind::A).await.unwrap().0, Answers::Missing);
    assert_eq!(endless.asked(), ALIASES + 1);
}

#[tokio::test]
async fn bytes_that_are_no_answer_are_passed_over() {
    // A name that points at itself, one that points ahead, half a record, another id: the second server is asked.
    let hostile = Stub::start(|query, number, _| {
        let good = reply(query, vec![a("h.test.", 5, [10, 0, 0, 9])]).to_vec().unwrap();
        let mut bytes = query.to_vec().unwrap();
        bytes[2] |= 0x80;
        Some(match number % 4 {
            0 => {
                bytes.truncate(12);
                bytes.extend([0xc0, 12, 0, 1, 0, 1]);
                bytes
            }
            1 => {
                bytes[7] = 1;
                let at = u8::try_from(bytes.len()).unwrap();
                bytes.extend([0xc0, at + 2, 0xc0, at, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 1, 2, 3, 4]);
                bytes
            }
            2 => good[..good.len() - 3].to_vec(),
            _ => [&[!good[0]], &good[1..]].concat(),
        })
    });
    let honest = Stub::start(|query, _, _| Some(reply(query, vec![a("h.test.", 5, [10, 0, 0, 1])]).to_vec().unwrap()));
    for _ in 0..4 {
        let found = ask(&[hostile.at, honest.at], "h.test", Kind::A).await;
        assert_eq!(found, Ok((addresses(&[[10, 0, 0, 1]]), 5)));
    }
    assert_eq!(hostile.asked(), 4);
}

#[tokio::test]
async fn a_flood_of_records_is_cut_and_a_truncated_answer_asked_for_by_tcp() {
    let flood = Stub::start(|query, _, tcp| {
        if !tcp {
            let mut short = reply(query, vec![]);
            short.set_truncated(true);
            return Some(short.to_vec().unwrap());
        }
        let many = (0..3000_u16).map(|n| a("f.test.", 5, [10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]]));
        Some(reply(query, many.collect()).to_vec().unwrap())
    });
    let Ok((Answers::Addresses(found), 5)) = ask(&[flood.at], "f.test", Kind::A).await else { panic!("no addresses") };
    assert_eq!(found.len(), MAX_RECORDS);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_and_a_failing_server_passed_over() {
    let lossy = Stub::start(|query, number, _| {
        (number > 0).then(|| reply(query, vec![a("l.test.", 5, [10, 0, 0, 1])]).to_vec().unwrap())
    });
    assert_eq!(ask(&[lossy.at], "l.test", Kind::A).await, Ok((addresses(&[[10, 0, 0, 1]]), 5)));
    assert_eq!(lossy.asked(), 2);
    let failing = Stub::start(|query, _, _| {
        let mut message = reply(query, vec![]);
        message.set_response_code(ResponseCode::ServFail);
        Some(message.to_vec().unwrap())
    });
    assert!(ask(&[failing.at, lossy.at], "l.test", Kind::A).await.is_ok());
    assert_eq!(ask(&[failing.at], "l.test", Kind::A).await, Err(AskError::Unanswered));
    assert_eq!(ask(&[failing.at], &"x".repeat(300), Kind::A).await, Err(AskError::Name));
}

#[tokio::test]
async fn there_is_none_is_kept_as_the_zone_says() {
    let stub = Stub::start(|query, number, _| {
        let mut message = reply(query, vec![]);
        message.set_response_code(ResponseCode::NXDomain);
        if number == 0 {
            let soa = SOA::new(name("ns.test."), name("h.test."), 1, 60, 10, 600, 11);
            message.add_name_server(Record::from_rdata(name("test."), 3600, RData::SOA(soa)));
        }
        if number == 2 {
            message.add_answer(a("n.test.", u32::MAX, [10, 0, 0, 1])).set_response_code(ResponseCode::NoError);
        }
        Some(message.to_vec().unwrap())
    });
    assert_eq!(ask(&[stub.at], "n.test", Kind::A).await, Ok((Answers::Missing, 11)));
    assert_eq!(ask(&[stub.at], "n.test", Kind::A).await, Ok((Answers::Missing, 2)), "without SOA only shortly");
    assert_eq!(ask(&[stub.at], "n.test", Kind::A).await, Ok((addresses(&[[10, 0, 0, 1]]), 0)), "RFC 2181 §8");
}

#[test]
fn the_cache_keeps_for_the_ttl_and_is_bounded() {
    let (cache, start) = (Cache::default(), Instant::now());
    let found = addresses(&[[10, 0, 0, 1]]);
    cache.put(start, "a.test", Kind::A, &found, 10);
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    assert_eq!(cache.get(after(9), "a.test", Kind::A), Some(found.clone()));
    assert_eq!(cache.get(after(9), "a.test", Kind::Aaaa), None);
    assert_eq!(cache.get(after(10), "a.test", Kind::A), None);
    cache.put(start, "a.test", Kind::A, &found, 0);
    assert_eq!((cache.get(start, "a.test", Kind::A), cache.size()), (None, (0, 0)), "TTL 0 is not kept");
    cache.put(start, "long.test", Kind::A, &found, u32::MAX);
    cache.put(start, "none.test", Kind::A, &Answers::Missing, u32::MAX);
    assert_eq!(cache.get(start + LONGEST, "long.test", Kind::A), None);
    assert_eq!(cache.get(start, "none.test", Kind::A), Some(Answers::Missing));
    assert_eq!(cache.get(start + LONGEST_NEGATIVE, "none.test", Kind::A), None);
    for n in 0..2 * KEPT {
        cache.put(start, &format!("{n}.test"), Kind::A, &found, 60 + u32::try_from(n).unwrap() / 100);
        assert!(cache.size().0 <= KEPT);
    }
    assert!(cache.get(start, &format!("{}.test", 2 * KEPT - 1), Kind::A).is_some(), "what ends soonest goes first");
    let text = "x".repeat(255);
    let big = Naptr { order: 1, preference: 1, flags: text.clone(), service: text.clone(), replacement: text };
    let huge = Answers::Naptr(vec![big; MAX_RECORDS]);
    for n in 0..KEPT {
        cache.put(start, &format!("huge{n}.test"), Kind::Naptr, &huge, 200);
        assert!(cache.size().1 <= KEPT_BYTES);
    }
    assert!(cache.get(start, &format!("huge{}.test", KEPT - 1), Kind::Naptr).is_some());
}
