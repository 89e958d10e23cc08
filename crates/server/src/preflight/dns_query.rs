//! One question to one DNS server over UDP, for preflight.
//!
//! Owns the exchange. Does not own the wire format (`hickory-proto`).

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Service records.
    Srv,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records, as text.
    Records(Vec<String>),
    /// An answer without records, and its code.
    Empty(String),
    /// No answer, and why.
    Silent(String),
}

impl Answer {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Answer::Records(records) => records.join(", "),
            Answer::Empty(code) => format!("no such record ({code})"),
            Answer::Silent(why) => format!("no answer ({why})"),
        }
    }
}

/// Asks one server for one name.
pub async fn query(server: SocketAddr, name: &str, kind: Kind) -> Answer {
    match tokio::time::timeout(WAIT, exchange(server, name, kind)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => Answer::Silent(why),
        Err(_) => Answer::Silent(format!("{} s", WAIT.as_secs())),
    }
}

async fn exchange(server: SocketAddr, name: &str, kind: Kind) -> Result<Answer, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let record_type = match kind {
        Kind::Srv => RecordType::SRV,
    };
    let id = u16::try_from(crate::tls::random_u64().map_err(|e| words(&e))? & 0xffff).unwrap_or(1);
    let mut question = Message::new();
    question.set_id(id).set_message_type(MessageType::Query).set_op_code(OpCode::Query).set_recursion_desired(true);
    question.add_query(Query::query(Name::from_ascii(format!("{name}.")).map_err(|e| words(&e))?, record_type));
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(|e| words(&e))?;
    socket.connect(server).await.map_err(|e| words(&e))?;
    socket.send(&question.to_bytes().map_err(|e| words(&e))?).await.map_err(|e| words(&e))?;
    let mut buffer = vec![0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|e| words(&e))?;
        let Ok(answer) = Message::from_bytes(buffer.get(..length).unwrap_or_default()) else { continue };
        if answer.id() != id {
            continue;
        }
        let records: Vec<String> =
            answer.answers().iter().filter(|r| r.record_type() == record_type).map(|r| r.data().to_string()).collect();
        if records.is_empty() {
            let code: ResponseCode = answer.response_code();
            return Ok(Answer::Empty(code.to_string()));
        }
        return Ok(Answer::Records(records));
    }
}
