//! The authoritative DNS server of the deployment's own names, over UDP and TCP.
//!
//! Owns its sockets and the form of messages. Does not own what names resolve to (`zone`).

use super::zone::ZoneView;
use crate::shell::counters::{Counters, count};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::DNSClass;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Largest answer over UDP where the client says nothing (RFC 1035 §4.2.1).
const UDP_PLAIN: usize = 512;
/// Largest answer over UDP in any case: fits every path without fragments.
const UDP_LARGEST: u16 = 1232;
/// TCP connections at one time.
const CONNECTIONS: usize = 64;
/// A TCP client that is silent for so long is left.
const IDLE: Duration = Duration::from_secs(10);

/// The sockets, bound but not yet served.
pub struct DnsSockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl DnsSockets {
    /// Binds both at one address.
    ///
    /// Port 5353 is multicast DNS's: its daemons hold it on all addresses and share it. So UDP is shared here as well, which
    /// takes nothing from them: what comes for our one address comes to us, multicast goes to them. TCP is not shared, so two
    /// servers of ours cannot hold one address.
    ///
    /// # Errors
    /// The system's: address in use, not ours, not allowed; in use on UDP says that its holder does not share it.
    pub fn bind(address: SocketAddr) -> io::Result<DnsSockets> {
        let udp = bind_udp(address)?;
        let tcp = crate::net::tcp::listen(udp.local_addr()?)?;
        Ok(DnsSockets { udp, tcp })
    }

    /// Where they are bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Serves both on that runtime.
    ///
    /// # Errors
    /// The runtime's refusal of a socket.
    pub fn serve(self, zone: ZoneView, counters: Arc<Counters>, runtime: &tokio::runtime::Handle) -> io::Result<()> {
        let _entered = runtime.enter();
        let udp = UdpSocket::from_std(self.udp)?;
        let tcp = TcpListener::from_std(self.tcp)?;
        runtime.spawn(serve_udp(udp, zone.clone(), counters.clone()));
        runtime.spawn(serve_tcp(tcp, zone, counters));
        Ok(())
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into()).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => io::Error::new(error.kind(), NotShared { port: address.port() }),
        _ => error,
    })?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The UDP port is held by a program that does not share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the UDP port is in use by a program that does not share it (SO_REUSEADDR); a multicast DNS daemon holds port 5353 on \
     every address: stop it (`ss -lnup sport = :{port}` names it), or set the server's `dns` to another port in a topology"
)]
pub struct NotShared {
    /// Which.
    pub port: u16,
}

/// Answers one message; `None` if it deserves no answer (not a query at all).
pub fn answer(query: &[u8], zone: &ZoneView, largest: Option<usize>) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    if query.message_type() != MessageType::Query {
        return None;
    }
    let mut reply = Message::new();
    reply.set_id(query.id()).set_message_type(MessageType::Response).set_op_code(query.op_code());
    reply.set_recursion_desired(query.recursion_desired());
    reply.add_queries(query.queries().iter().take(1).cloned());
    if let Some(edns) = query.extensions() {
        let mut ours = Edns::new();
        ours.set_max_payload(UDP_LARGEST).set_version(0);
        if edns.version() > 0 {
            reply.set_response_code(ResponseCode::BADVERS);
        }
        reply.set_edns(ours);
    }
    match query.queries() {
        _ if query.op_code() != OpCode::Query => {
            reply.set_response_code(ResponseCode::NotImp);
        }
        [question] if question.query_class() == DNSClass::IN => {
            let found = zone.now().find(&question.name().to_ascii(), question.query_type());
            reply.set_response_code(found.code).set_authoritative(found.code != ResponseCode::Refused);
            reply.add_answers(found.answers).add_name_servers(found.authority).add_additionals(found.additional);
        }
        [_] => {
            reply.set_response_code(ResponseCode::Refused);
        }
        _ => {
            reply.set_response_code(ResponseCode::FormErr);
        }
    }
    let bytes = reply.to_vec().ok()?;
    let asked = query.extensions().as_ref().map_or(UDP_PLAIN, |e| usize::from(e.max_payload().clamp(512, UDP_LARGEST)));
    match largest {
        Some(_) if bytes.len() > asked => reply.truncate().to_vec().ok(),
        _ => Some(bytes),
    }
}

async fn serve_udp(socket: UdpSocket, zone: ZoneView, counters: Arc<Counters>) {
    let mut buffer = [0_u8; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // A late ICMP error of an earlier answer.
            tokio::task::yield_now().await;
            continue;
        };
        match answer(&buffer[..length], &zone, Some(UDP_PLAIN)) {
            Some(reply) => {
                count(&counters.dns_answered);
                // A client that cannot be reached asks again.
                let _ = socket.send_to(&reply, from).await;
            }
            None => count(&counters.dns_malformed),
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: ZoneView, counters: Arc<Counters>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (zone, counters) = (zone.clone(), counters.clone());
                tokio::spawn(async move {
                    // Its end, by whatever cause, concerns the client alone.
                    let _ = tokio::time::timeout(IDLE * 6, serve_client(stream, &zone, &counters)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve_client(mut stream: TcpStream, zone: &ZoneView, counters: &Counters) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE, stream.read_u16()).await.map_err(io::Error::other)??;
        let mut query = vec![0_u8; usize::from(length)];
        tokio::time::timeout(IDLE, stream.read_exact(&mut query)).await.map_err(io::Error::other)??;
        let Some(reply) = answer(&query, zone, None) else {
            count(&counters.dns_malformed);
            return Ok(());
        };
        count(&counters.dns_answered);
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&reply).await?;
    }
}
