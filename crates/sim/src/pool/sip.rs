//! SIP between servers and towards phones, looked at from outside: a server that has told a caller that it rings does not send the call
//! again.
//!
//! Owns what was seen of INVITEs and their provisional answers at each server.

use super::world::World;
use bytes::Bytes;
use pairline_node::peer::PeerFrame;
use pairline_sip::message::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A server and the branch of an INVITE that it got.
type Asked = (usize, Vec<u8>);

/// What was seen.
#[derive(Default)]
pub struct Sip {
    /// INVITEs that a server has said to ring.
    rang: BTreeSet<Asked>,
    /// The branches on which each was sent on.
    sent: BTreeMap<Asked, BTreeSet<Vec<u8>>>,
}

/// A server sends a frame to another one.
pub fn sent(world: &mut World, at: usize, frame: &Bytes) {
    if let Ok(PeerFrame::Sip(message)) = PeerFrame::decode(frame) {
        world.note("between", &format!("server {at}: {}", first_line(&message)));
        told(world, at, &message);
    }
}

/// The first line of a message.
pub fn first_line(message: &[u8]) -> String {
    let end = message.iter().position(|byte| *byte == b'\r').unwrap_or(message.len());
    String::from_utf8_lossy(&message[..end]).into_owned()
}

/// A server sends a SIP message to another server or to a phone.
pub fn told(world: &mut World, at: usize, bytes: &Bytes) {
    let rings = bytes.starts_with(b"SIP/2.0 18");
    if !rings && !bytes.starts_with(b"INVITE ") {
        return;
    }
    let Ok(message) = Message::parse(bytes.clone()) else {
        return world.history.violate(10, "a server sent a malformed SIP message".to_owned());
    };
    let mut branches = message.vias().filter_map(|via| via.branch().map(<[u8]>::to_vec));
    let (Some(first), second) = (branches.next(), branches.next()) else { return };
    if rings {
        world.sip.rang.insert((at, first));
        return;
    }
    let Some(came) = second.filter(|_| !message.to().has_param("tag")) else { return };
    let asked = (at, came);
    // To a device that has registered anew while its call is held, it may go.
    let to_leader = message.request_uri().ends_with(b"@pairline.test");
    let new = world.sip.sent.entry(asked.clone()).or_default().insert(first);
    if new && to_leader && world.sip.rang.contains(&asked) {
        let call = String::from_utf8_lossy(message.call_id()).into_owned();
        world.history.violate(14, format!("server {at} sent {call} once more after it had rung"));
    }
}
