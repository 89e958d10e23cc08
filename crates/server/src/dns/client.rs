//! A small DNS client: one question, UDP first, TCP when truncated, each server in turn.
//!
//! Owns messages to and from resolvers, and which resolvers the system names. Keeps nothing (`cache`).

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use pairline_sip::target::{Answers, Kind, Naptr, Srv};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Time that one server has for one question.
const PER_SERVER: Duration = Duration::from_millis(700);
/// Records read from one answer.
const RECORDS: usize = 64;
/// Resolvers used at most.
const SERVERS: usize = 3;

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

/// Asks each server in turn until one answers; with the answer, the seconds for which it may be kept.
///
/// # Errors
/// [`AskError`].
pub async fn ask(servers: &[SocketAddr], name: &str, kind: Kind) -> Result<(Answers, u32), AskError> {
    let mut asked = Name::from_ascii(name).map_err(|_| AskError::Name)?;
    asked.set_fqdn(true);
    for server in servers.iter().take(SERVERS) {
        let question = Query::query(asked.clone(), record_type(kind));
        if let Ok(Ok(reply)) = tokio::time::timeout(PER_SERVER, ask_one(*server, question)).await
            && matches!(reply.response_code(), ResponseCode::NoError | ResponseCode::NXDomain)
        {
            return Ok(read(&reply, kind));
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

/// The records of one kind in an answer, whatever their owner: a resolver follows aliases for us.
pub fn read(reply: &Message, kind: Kind) -> (Answers, u32) {
    let data: Vec<&RData> = reply.answers().iter().take(RECORDS).map(hickory_proto::rr::Record::data).collect();
    let ttl = reply.answers().iter().chain(reply.name_servers()).map(|r| r.ttl()).min().unwrap_or(2);
    (from_data(&data, kind), ttl)
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
