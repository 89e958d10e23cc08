//! The way back of responses that no transaction waits for: sealed into our branches, so that only answers to what this
//! deployment sent are passed on, and only to where it came from.
//!
//! Owns the seal and the reading of it. Does not own which responses are passed on (`dispatch`).

use crate::cx::{Cx, Peer};
use crate::forward;
use crate::records::derive;
use crate::routes::{hex, push_hex, same};
use crate::settings::DeploymentView;
use pairline_sip::flow::{Flow, Transport};
use pairline_sip::uri::Host;
use pairline_sip::via::Via;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

const SEAL: usize = 8;

/// Where answers go by a Via: `received` and `rport` where they are, else its sent-by.
fn target(via: &Via<'_>, received: Option<IpAddr>, rport: Option<u16>) -> Option<SocketAddr> {
    let ip = match (received.or(via.received()), via.sent_by()) {
        (Some(ip), _) | (None, Host::Ip(ip)) => ip,
        _ => return None,
    };
    let usual = Transport::from_token(via.transport)?.default_port();
    Some(SocketAddr::new(ip, rport.or(via.rport()).or(via.port).unwrap_or(usual)))
}

/// The seal over the next Via. A connection is one of one process, so its seal is that process's too.
fn seal(view: &DeploymentView, via: &Via<'_>, to: SocketAddr, connection: u64, random: &[u8]) -> [u8; SEAL] {
    let mut sealed = Vec::with_capacity(192);
    if connection != 0 {
        sealed.extend_from_slice(&view.own.server.0.to_be_bytes());
        sealed.extend_from_slice(&view.own.boot.to_be_bytes());
    }
    sealed.extend_from_slice(&connection.to_be_bytes());
    sealed.extend_from_slice(random);
    // Writing to a Vec cannot fail.
    let _ = std::io::Write::write_fmt(&mut sealed, format_args!("{to}"));
    let at = sealed.len();
    sealed.extend_from_slice(via.transport);
    sealed[at..].make_ascii_lowercase();
    sealed.extend_from_slice(via.branch().unwrap_or_default());
    let key = derive(&view.sealing_key, b"way back");
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&blake3::keyed_hash(&key, &sealed).as_bytes()[..SEAL]);
    seal
}

/// Writes the end of the branch of a request that came on `arrival` with that top Via: random bits, its connection, the seal.
pub(crate) fn mark(text: &mut String, view: &DeploymentView, via: &Via<'_>, arrival: &Flow, random: u64) {
    let connection = match arrival.transport {
        Transport::Udp | Transport::Peer => 0,
        _ => arrival.connection,
    };
    let at = text.len();
    push_hex(text, &random.to_be_bytes());
    let (received, rport) = via.fix_for(arrival.remote);
    let sealed = target(via, received, rport).map(|to| seal(view, via, to, connection, &text.as_bytes()[at..]));
    // Writing to a String cannot fail.
    let _ = write!(text, ".{connection:x}.");
    push_hex(text, sealed.as_ref().map_or(&[], |seal| seal));
}

/// Where a response goes whose top Via is `ours` and whose next one is `next`; `None` unless the seal is right. A stream is
/// only used while it is open: nobody makes this server connect.
pub(crate) fn way<C: Cx>(cx: &C, ours: &Via<'_>, next: &Via<'_>, arrival: Flow) -> Option<Flow> {
    let view = cx.view();
    let mut parts = ours.branch().filter(|b| forward::is_our_branch(b))?.split(|b| *b == b'.').skip(1);
    let (random, connection, sealed) = (parts.next()?, parts.next()?, parts.next()?);
    let connection = u64::from_str_radix(std::str::from_utf8(connection).ok()?, 16).ok()?;
    let to = target(next, None, None)?;
    if !same(sealed, hex(&seal(&view, next, to, connection, random)).as_bytes()) {
        return None;
    }
    if let Some(partner) = view.partner.as_ref()
        && next.branch().is_some_and(forward::is_peer_branch)
    {
        return cx.peer_flow(Peer::Pool(partner.pool));
    }
    let transport = Transport::from_token(next.transport)?;
    if transport.reliable() && connection == 0 {
        return None;
    }
    let listener = view.listener(arrival.listener, transport)?.id;
    Some(Flow { transport, listener, remote: to, connection })
}
