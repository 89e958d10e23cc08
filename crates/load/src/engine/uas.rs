//! The called side: answers what a server delivers to our users.
//!
//! Owns the replies and the repetition of a 200 to INVITE until its ACK (RFC 3261 §13.3.1.4). Every user accepts everything.

use crate::wire::{build, scan};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Body of the answer to an INVITE: no sound is sent.
const SDP: &[u8] =
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n";
/// First delay of the repetition.
const T1: u64 = 500_000_000;
/// When the repetition ends.
const GIVE_UP: u64 = 32_000_000_000;
/// Calls that may wait for their ACK; beyond it a 200 is not repeated.
const PENDING: usize = 100_000;

#[derive(Debug)]
struct Pending {
    port: usize,
    to: SocketAddr,
    reply: Vec<u8>,
    since: u64,
    delay: u64,
}

/// The called side of one thread.
#[derive(Debug, Default)]
pub struct Uas {
    pending: HashMap<Vec<u8>, Pending>,
    queue: VecDeque<(u64, Vec<u8>)>,
    tags: u64,
}

impl Uas {
    /// Answers one request; `send` gets each reply.
    pub fn receive(&mut self, now: u64, port: usize, from: SocketAddr, request: &[u8], mut send: impl FnMut(&[u8])) {
        let Some((method, uri)) = scan::request_line(request) else {
            return;
        };
        let Some(call_id) = scan::header(request, "call-id", "i") else {
            return;
        };
        let mut reply = Vec::with_capacity(request.len());
        self.tags += 1;
        match method {
            b"ACK" => {
                self.pending.remove(call_id);
            }
            b"INVITE" => {
                if let Some(known) = self.pending.get(call_id) {
                    send(&known.reply);
                    return;
                }
                let contact = [b"<", uri, b">"].concat();
                build::reply(&mut reply, request, (180, "Ringing"), self.tags, Some(&contact), None);
                send(&reply);
                build::reply(
                    &mut reply,
                    request,
                    (200, "OK"),
                    self.tags,
                    Some(&contact),
                    Some(("application/sdp", SDP)),
                );
                send(&reply);
                if self.pending.len() < PENDING {
                    self.queue.push_back((now + T1, call_id.to_vec()));
                    self.pending.insert(call_id.to_vec(), Pending { port, to: from, reply, since: now, delay: T1 });
                }
            }
            _ => {
                build::reply(&mut reply, request, (200, "OK"), self.tags, None, None);
                send(&reply);
            }
        }
    }

    /// Repeats what is due; `send` gets port, address and reply.
    pub fn on_time(&mut self, now: u64, mut send: impl FnMut(usize, SocketAddr, &[u8])) {
        while self.queue.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, call_id)) = self.queue.pop_front() else {
                return;
            };
            let Some(pending) = self.pending.get_mut(&call_id) else {
                continue;
            };
            if now.saturating_sub(pending.since) >= GIVE_UP {
                self.pending.remove(&call_id);
                continue;
            }
            send(pending.port, pending.to, &pending.reply);
            pending.delay = (pending.delay * 2).min(8 * T1);
            // Not strictly in order once delays differ; a repetition that is late by one delay does no harm.
            self.queue.push_back((now + pending.delay, call_id));
        }
    }

    /// When the next repetition is due.
    pub fn due(&self) -> Option<u64> {
        self.queue.front().map(|(due, _)| *due)
    }
}
