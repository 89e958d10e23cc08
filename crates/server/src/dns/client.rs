//! A small DNS client: one question, UDP first, TCP when truncated, each server in turn, aliases followed.
//!
//! Owns messages to and from resolvers, and which resolvers the system names. Keeps nothing (`cache`). An answer is a stranger's:
//! only what belongs to the name that was asked for is read, and everything about it is bounded.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use pairline_sip::target::{Answers, Kind, MAX_RECORDS, Naptr, Srv};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Time that one server has for one question.
const PER_SERVER: Duration = Duration::from_millis(700);
/// Times that the servers are asked in turn: a datagram may be lost.
const ROUNDS: usize = 2;
/// Resolvers used at most.
const SERVERS: usize = 3;
/// Aliases followed for one question, in one answer or over several.
pub const ALIASES: usize = 8;
/// Seconds that "there is none" may be kept where the answer does not say it (RFC 2308 §5 wants a SOA record).
const NEGATIVE: u32 = 2;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The name cannot stand in a DNS message.
    #[error("not a DNS name")]
    Name,
    /// No server answered, or none in a way that can be used.
    #[error("no resolver answered")]
    Unanswered,
}

/// The resolvers that a `resolv.conf` names, port 53; at most three.
pub fn system_resolvers(path: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers.take(SERVERS).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// The type of a question.
pub fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    }
}

/// Asks each server in turn until one answers; with the answer, the seconds for which it may be kept. An alias without the
/// records of its target is asked for again, under that name.
///
/// # Errors
/// [`AskError`].
pub async fn ask(servers: &[SocketAddr], name: &str, kind: Kind) -> Result<(Answers, u32), AskError> {
    let mut asked = Name::from_ascii(name).map_err(|_| AskError::Name)?;
    asked.set_fqdn(true);
    let mut ttl = u32::MAX;
    for _ in 0..=ALIASES {
        let reply = ask_any(servers, &asked, kind).await?;
        let reading = read(&reply, &asked, kind);
        ttl = ttl.min(reading.ttl);
        match reading.alias {
            Some(alias) => asked = alias,
            None => return Ok((reading.answers, ttl)),
        }
    }
    Ok((Answers::Missing, NEGATIVE))
}

async fn ask_any(servers: &[SocketAddr], name: &Name, kind: Kind) -> Result<Message, AskError> {
    for server in std::iter::repeat_n(servers.iter().take(SERVERS), ROUNDS).flatten() {
        let question = Query::query(name.clone(), record_type(kind));
        if let Ok(Ok(reply)) = tokio::time::timeout(PER_SERVER, ask_one(*server, question)).await
            && matches!(reply.response_code(), ResponseCode::NoError | ResponseCode::NXDomain)
        {
            return Ok(reply);
        }
    }
    Err(AskError::Unanswered)
}

async fn ask_one(server: SocketAddr, question: Query) -> io::Result<Message> {
    let id = u16::try_from(crate::tls::random_u64().map_err(io::Error::other)? & 0xffff).unwrap_or(0);
    let mut query = Message::new();
    query.set_id(id).set_message_type(MessageType::Query).set_op_code(OpCode::Query).set_recursion_desired(true);
    query.add_query(question.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_version(0);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let local = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = [0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything that does not answer this very question is somebody else's, or forged: wait on.
        if let Some(reply) = accept(&buffer[..length], id, &question) {
            return if reply.truncated() { ask_tcp(server, &bytes, id, &question).await } else { Ok(reply) };
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8], id: u16, question: &Query) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    accept(&reply, id, question).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn accept(bytes: &[u8], id: u16, question: &Query) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let ours =
        reply.id() == id && reply.message_type() == MessageType::Response && reply.queries() == [question.clone()];
    ours.then_some(reply)
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// What an answer says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The records.
    pub answers: Answers,
    /// The name is an alias of this one, whose records the answer lacks.
    pub alias: Option<Name>,
    /// Seconds for which that may be kept.
    pub ttl: u32,
}

/// Reads the records of one kind that belong to `asked`, or to what it is an alias of. Others are nobody's business.
pub fn read(reply: &Message, asked: &Name, kind: Kind) -> Reading {
    let mut owner = asked.clone();
    let mut ttl = u32::MAX;
    for _ in 0..=ALIASES {
        let of_owner: Vec<_> = reply.answers().iter().filter(|record| *record.name() == owner).collect();
        let wanted = of_owner.iter().filter(|record| record.record_type() == record_type(kind)).take(MAX_RECORDS);
        let (data, ttls): (Vec<&RData>, Vec<u32>) = wanted.map(|record| (record.data(), kept(record.ttl()))).unzip();
        if let Some(shortest) = ttls.into_iter().min() {
            return Reading { answers: from_data(&data, kind), alias: None, ttl: ttl.min(shortest) };
        }
        let alias = of_owner.iter().find_map(|record| match record.data() {
            RData::CNAME(target) => Some((target.0.clone(), kept(record.ttl()))),
            _ => None,
        });
        match alias {
            Some((target, for_s)) => {
                owner = target;
                ttl = ttl.min(for_s);
            }
            None if owner != *asked && reply.response_code() == ResponseCode::NoError && soa_ttl(reply).is_none() => {
                return Reading { answers: Answers::Missing, alias: Some(owner), ttl };
            }
            None => break,
        }
    }
    Reading { answers: Answers::Missing, alias: None, ttl: ttl.min(soa_ttl(reply).unwrap_or(NEGATIVE)) }
}

/// A TTL with its highest bit set counts as 0 (RFC 2181 §8).
fn kept(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

/// How long "there is none" may be kept (RFC 2308 §5).
fn soa_ttl(reply: &Message) -> Option<u32> {
    reply.name_servers().iter().find_map(|record| match record.data() {
        RData::SOA(soa) => Some(kept(record.ttl()).min(kept(soa.minimum()))),
        _ => None,
    })
}

/// The records of one kind.
pub fn from_data(data: &[&RData], kind: Kind) -> Answers {
    let answers = match kind {
        Kind::Naptr => Answers::Naptr(data.iter().filter_map(|d| naptr(d)).collect()),
        Kind::Srv => Answers::Srv(data.iter().filter_map(|d| srv(d)).collect()),
        Kind::A | Kind::Aaaa => Answers::Addresses(data.iter().filter_map(|d| address(d, kind)).collect()),
    };
    let empty = match &answers {
        Answers::Naptr(list) => list.is_empty(),
        Answers::Srv(list) => list.is_empty(),
        Answers::Addresses(list) => list.is_empty(),
        Answers::Missing => true,
    };
    if empty { Answers::Missing } else { answers }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(n) = data else { return None };
    Some(Naptr {
        order: n.order(),
        preference: n.preference(),
        flags: String::from_utf8_lossy(n.flags()).into_owned(),
        service: String::from_utf8_lossy(n.services()).into_owned(),
        replacement: plain(n.replacement()),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(s) = data else { return None };
    Some(Srv { priority: s.priority(), weight: s.weight(), port: s.port(), target: plain(s.target()) })
}

fn address(data: &RData, kind: Kind) -> Option<IpAddr> {
    match (data, kind) {
        (RData::A(a), Kind::A) => Some(IpAddr::V4(a.0)),
        (RData::AAAA(a), Kind::Aaaa) => Some(IpAddr::V6(a.0)),
        _ => None,
    }
}
