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
        if world.options.verbose {
            world.note("between", &format!("server {at}: {}", first_line(&message)));
        }
        told(world, at, &message);
    }
}

/// The first line of a message, and its Call-ID.
fn first_line(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let call = lines.find_map(|line| line.strip_prefix("Call-ID: ")).unwrap_or_default();
    format!("{first} ({call})")
}

/// A server sends a SIP message to another server or to a phone.
pub fn told(world: &mut World, at: usize, bytes: &Bytes) {
    if world.options.verbose && bytes.starts_with(b"INVITE") {
        world.note("invites", &format!("server {at}: {}", first_line(bytes)));
    }
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
