//! The header values of an operation's requests.
//!
//! Owns names, tags and Call-IDs: a REGISTER keeps its Call-ID for the whole run, everything else has its own.

use super::Worker;
use super::slot::{Slot, Step};
use crate::args::Transport;
use crate::wire::scan;
use std::io::Write as _;
use std::net::SocketAddr;

/// Values of one request.
#[derive(Debug)]
pub(super) struct Words {
    pub uri: Vec<u8>,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    pub call_id: Vec<u8>,
    pub contact: Option<Vec<u8>>,
    pub routes: Vec<Vec<u8>>,
    pub target: SocketAddr,
}

impl Worker {
    /// The values for the step of `slot`, sent from `local`.
    pub(super) fn words(&self, slot: &Slot, local: SocketAddr) -> Words {
        let domain = self.plan.common.domain.as_bytes();
        let own = self.address(slot.user);
        // Writing to a Vec cannot fail.
        let mut from = own.clone();
        let _ = write!(from, ";tag={:x}t{}", slot.serial, self.plan.thread);
        let mut call_id = Vec::with_capacity(48);
        let mut contact = b"<sip:".to_vec();
        self.users.write_name(slot.user, &mut contact);
        let _ = write!(contact, "@{local}{}>", self.transport.param());
        if slot.step == Step::Register {
            self.users.write_name(slot.user, &mut call_id);
            let _ = write!(call_id, ".{:x}", self.plan.run);
            let uri = [b"sip:", domain].concat();
            let contact = Some(contact);
            return Words { uri, from, to: own, call_id, contact, routes: Vec::new(), target: slot.server };
        }
        let _ = write!(call_id, "{:x}.{}.{:x}", slot.serial, self.plan.thread, self.plan.run);
        if slot.step.in_dialog() {
            let routes = route_set(&slot.answer);
            let uri = scan::header(&slot.answer, "contact", "m").map(scan::uri).unwrap_or_default().to_vec();
            let to = scan::header(&slot.answer, "to", "t").unwrap_or_default().to_vec();
            let target = self.next_hop(slot.server, &routes);
            let contact = (slot.step == Step::Reinvite).then_some(contact);
            return Words { uri, from, to, call_id, contact, routes, target };
        }
        let to = self.address(self.users.partner(slot.user));
        let uri = scan::uri(&to).to_vec();
        let contact = (slot.step == Step::Invite).then_some(contact);
        Words { uri, from, to, call_id, contact, routes: Vec::new(), target: slot.server }
    }

    /// `<sip:name@domain>` of a user.
    fn address(&self, user: u32) -> Vec<u8> {
        let mut out = b"<sip:".to_vec();
        self.users.write_name(user, &mut out);
        out.push(b'@');
        out.extend_from_slice(self.plan.common.domain.as_bytes());
        out.push(b'>');
        out
    }

    /// Where a request inside a dialog goes: the first route if it is an address, else the server that made the dialog. On
    /// connections always the latter: a route names a listener, not the connection that we have.
    pub(super) fn next_hop(&self, server: SocketAddr, routes: &[Vec<u8>]) -> SocketAddr {
        if self.transport != Transport::Udp {
            return server;
        }
        routes.first().and_then(|route| scan::address(scan::uri(route))).unwrap_or(server)
    }
}

/// The caller's route set: the Record-Routes of the answer, last first (RFC 3261 §12.1.2).
pub(super) fn route_set(answer: &[u8]) -> Vec<Vec<u8>> {
    let mut routes = Vec::new();
    for value in scan::headers(answer, "record-route", "") {
        let mut inside = false;
        let parts = value.split(|b| {
            match b {
                b'<' => inside = true,
                b'>' => inside = false,
                _ => {}
            }
            *b == b',' && !inside
        });
        routes.extend(parts.map(|part| part.trim_ascii().to_vec()));
    }
    routes.reverse();
    routes
}
